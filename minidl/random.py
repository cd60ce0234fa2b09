"""Random numbers: the seedable default generator, used wherever no other is given."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from minidl.core import locks
from minidl.core.seam import SEAM

if TYPE_CHECKING:
    import numpy as np


def manual_seed(seed: int) -> np.random.Generator:
    """Seed the default generator, in place, and return it. ValueError for a negative seed.

    >>> generator = minidl.manual_seed(0)
    >>> first = nn.Dense(3, 2).weight.numpy()
    >>> generator = minidl.manual_seed(0)
    >>> np.array_equal(first, nn.Dense(3, 2).weight.numpy())
    True
    """
    from numpy.random import default_rng

    generator = default_generator()
    generator.bit_generator.state = default_rng(seed).bit_generator.state
    return generator


def default_generator() -> np.random.Generator:
    """The generator of weights, dropout and shuffling by default (PCG64, O'Neill 2014)."""
    made = _default_generator()
    return made if SEAM.interceptor is None else SEAM.interceptor.generator(made)


@cache
def _default_generator() -> np.random.Generator:
    from numpy.random import default_rng  # a tenth of NumPy's import time, and not every program draws numbers

    made = default_rng()
    locks.renewed(made.bit_generator.lock)
    return made


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """The state of a generator, as numbers and arrays: NumPy's own dictionary, which names the bit generator."""
    return dict(generator.bit_generator.state)


def set_generator_state(generator: np.random.Generator, state: Mapping[str, Any]) -> None:
    """Set the state of a generator, which then continues bit for bit. `state` is from `generator_state`.

    TypeError: not a dictionary, or of another kind of bit generator. ValueError: damaged. On errors nothing changes.
    """
    bits = generator.bit_generator
    mine, theirs = type(bits).__name__, state.get("bit_generator") if isinstance(state, Mapping) else state
    if mine != theirs:
        raise TypeError(f"set_generator_state: expected the state of a {mine}, found {theirs!r:.80}")
    try:
        trial = type(bits)(0)
        trial.state = dict(state)
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise ValueError(
            f"set_generator_state: expected a whole state of {mine}, found a damaged one ({error!r})"
        ) from error
    bits.state = trial.state
