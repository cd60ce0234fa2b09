"""The divisors of mean losses, so that the means of several batches can be combined into one."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from minidl.tensor import Array


class Mean(NamedTuple):
    """A mean (), the divisor of its sum, and a bool per label: whether it counted."""

    value: Array
    count: Any
    counted: Any


class _Notes(threading.local):
    kept: list[Mean] | None = None


_NOTES = _Notes()


@contextlib.contextmanager
def counting() -> Iterator[list[Mean]]:
    """Within the block, this thread's means over labels are appended to the list, each with its count.

    There an empty mean, otherwise NaN as in PyTorch, is 0 with gradients of 0, so it adds nothing to a sum.
    """
    before, kept = _NOTES.kept, list[Mean]()
    _NOTES.kept = kept
    try:
        yield kept
    finally:
        _NOTES.kept = before


def note(value: Array, count: Any, counted: Any) -> None:
    """Append a mean to the list if a `counting` block is active."""
    if _NOTES.kept is not None:
        _NOTES.kept.append(Mean(value, count, counted))


def empty_divisor() -> float:
    """The divisor of an empty sum: NaN, but 1 within a `counting` block."""
    return math.nan if _NOTES.kept is None else 1.0
