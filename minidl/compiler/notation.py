"""Notation for a step's loops: numbers, casts, positions of elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BOOL = np.dtype(bool)


def literal(x: Any, dtype: Any) -> str:
    """A number of this dtype, as Numba reads it."""
    dtype = np.dtype(dtype)
    value = np.asarray(x).astype(dtype)[()]
    if dtype.kind == "f":
        text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(str(value), repr(value.item()))
        return text if dtype == np.float64 else f"np.{dtype.name}({text})"
    if dtype == BOOL or dtype == np.int64:
        return repr(value.item())
    return f"np.{dtype.name}({value.item()!r})"


def cast(text: str, dtype: Any, source: Any = BOOL) -> str:
    """The text cast to another dtype, as NumPy does, also for a float (`source`) that an unsigned int cannot hold."""
    dtype = np.dtype(dtype)
    if dtype == np.uint64 and source.kind == "f":
        low = f"np.uint64(np.int64({text}))"
        high = f"(np.uint64(np.int64({text} - {2.0**63})) ^ np.uint64({2**63}))"
        return f"({high} if {text} >= {2.0**63} else {low})"
    if dtype == np.uint32 and source.kind == "f":
        text = f"np.int64({text})"
    return f"bool({text})" if dtype == BOOL else f"np.{dtype.name}({text})"


def place(offset: int, strides: Any) -> str:
    """offset + i0·stride0 + i1·stride1 + …"""
    terms = [f"i{k}" if s == 1 else f"i{k} * {s}" for k, s in enumerate(strides) if s]
    if offset or not terms:
        terms.insert(0, str(offset))
    return " + ".join(terms)


def c_strides(shape: Any) -> list[int]:
    return [math.prod(shape[k + 1 :]) if n != 1 else 0 for k, n in enumerate(shape)]


def coalesce(shape: Any, steps: list[Any]) -> tuple[list[int], list[list[int]]]:
    """Fewer, longer axes: merge two where every array steps through them as through one, and drop axes of 1."""
    keep = [k for k, n in enumerate(shape) if n != 1]
    sizes = [shape[k] for k in keep]
    columns = [[s[k] for k in keep] for s in steps]
    k = len(sizes) - 2
    while k >= 0:
        if all(c[k] == c[k + 1] * sizes[k + 1] for c in columns):
            sizes[k : k + 2] = [sizes[k] * sizes[k + 1]]
            for c in columns:
                c[k : k + 2] = [c[k + 1]]
        k -= 1
    return sizes, columns
