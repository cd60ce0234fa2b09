"""Ops on traced arrays: while `minidl.compile` records a step, shapes and dtypes are known but elements are not.

An op's code is the same for both; where it cannot be (random numbers, checks of values), it calls these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class TracedArray:
    """Base class of the arrays in a step that is being recorded. `recorder` records what happens to them."""

    __slots__ = ()
    recorder: Any


def is_traced(x: Any) -> bool:
    """Whether x is an array or number whose value is known only when the compiled step runs."""
    return isinstance(x, TracedArray)


def like_traced(x: Any) -> Any:
    """NumPy's `like=` for arrays derived from x: x if traced, else None."""
    return x if isinstance(x, TracedArray) else None


def uniform(generator: np.random.Generator, shape: tuple[int, ...], x: Any) -> Array:
    """A float32 array of this shape from U[0, 1); if x is traced, drawn anew in each call of the step."""
    if isinstance(x, TracedArray):
        return x.recorder.uniform(generator, shape)  # type: ignore[no-any-return]
    return np.asarray(generator.random(shape, dtype=np.float32))


def normal(generator: np.random.Generator, shape: tuple[int, ...], x: Any) -> Array:
    """A float32 array of this shape from N(0, 1); if x is traced, drawn anew in each call of the step."""
    if isinstance(x, TracedArray):
        return x.recorder.normal(generator, shape)  # type: ignore[no-any-return]
    return np.asarray(generator.standard_normal(shape, dtype=np.float32))


def require(
    holds: Any, expected: str, found: Callable[..., str], *arguments: Any, error: type[Exception] = ValueError
) -> None:
    """Raise `error` with `expected` and `found(*arguments)` unless `holds`; if traced, check it in each call."""
    if isinstance(holds, TracedArray):
        holds.recorder.require(holds, expected, found, arguments, error.__name__)
    elif not holds:
        raise error(f"{expected}, {found(*arguments)}")
