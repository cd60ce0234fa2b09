"""What means of losses were divided by, for whoever makes one mean of those of several batches."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

from minidl.tensor import Array


class Mean(NamedTuple):
    """A mean (), what its sum was divided by, and which labels, bool of their shape, were in it."""

    value: Array
    count: Any
    counted: Any


class _Notes(threading.local):
    kept: list[Mean] | None = None


_NOTES = _Notes()


@contextlib.contextmanager
def counting() -> Iterator[list[Mean]]:
    """Within the block the means over labels, each with its count, are put on this list of the thread's.

    And a mean of nothing, which is NaN as PyTorch has it, is 0 with gradients of 0: it adds nothing to a sum.
    """
    before, kept = _NOTES.kept, list[Mean]()
    _NOTES.kept = kept
    try:
        yield kept
    finally:
        _NOTES.kept = before


def note(value: Array, count: Any, counted: Any) -> None:
    """Put a mean on the list, if there is one."""
    if _NOTES.kept is not None:
        _NOTES.kept.append(Mean(value, count, counted))


def empty_divisor() -> float:
    """What to divide the sum of nothing by."""
    return math.nan if _NOTES.kept is None else 1.0
