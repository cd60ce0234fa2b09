"""Checks for numbers, Python's or NumPy's, but never True or False."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np


def is_integer(value: Any) -> bool:
    """Whether a value is an int of Python's or NumPy's, not a bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python's or NumPy's, NaN and infinity included, not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_sizes(where: str, **sizes: Any) -> None:
    """Raise ValueError unless each size is an int ≥ 1."""
    for name, n in sizes.items():
        if not is_integer(n) or n < 1:
            raise ValueError(f"{where}: expected {name} as an int of at least 1, found {n!r}")


def count(where: str, name: str, value: Any, least: int = 1) -> int:
    """Convert an int ≥ `least` to Python's. TypeError: not an int. ValueError: less."""
    if not is_integer(value):
        raise TypeError(f"{where}: expected {name} as an int, found {value!r:.80}")
    if value < least:
        raise ValueError(f"{where}: expected {name} of at least {least}, found {value}")
    return int(value)
