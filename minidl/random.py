"""Where randomness comes from: one generator that can be seeded, for all who are not given their own."""

import numpy as np

_GENERATOR = np.random.default_rng()


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the default generator, in place, and return it. ValueError for a negative seed."""
    _GENERATOR.bit_generator.state = np.random.default_rng(seed).bit_generator.state
    return _GENERATOR


def default_generator() -> np.random.Generator:
    """The generator of weights, dropout and shuffling where no other is given (PCG64, O'Neill 2014)."""
    return _GENERATOR
