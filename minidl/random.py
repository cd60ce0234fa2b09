"""Where randomness comes from: one generator that can be seeded, for all who are not given their own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the default generator, in place, and return it. ValueError for a negative seed."""
    from numpy.random import default_rng

    generator = default_generator()
    generator.bit_generator.state = default_rng(seed).bit_generator.state
    return generator


@cache
def default_generator() -> np.random.Generator:
    """The generator of weights, dropout and shuffling where no other is given (PCG64, O'Neill 2014)."""
    from numpy.random import default_rng  # a tenth of NumPy's import time, and not everybody draws numbers

    return default_rng()
