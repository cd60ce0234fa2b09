"""Normalisation of numbers so large or small that their squares overflow or underflow their dtype.

float32 is then computed in float64, and float64 scaled by a power of 2 first. Plain loops, since this is rare.
"""

from __future__ import annotations

import numpy as np

from minidl.jit import kernel
from minidl.tensor import Array


@kernel
def is_extreme(inverse: float, x: Array) -> bool:
    """Whether 1/σ is so far from 1 that σ² in x's dtype, or its terms, overflow or lose digits. True for NaN."""
    if x.itemsize == 4:
        return not 1e-18 < inverse < 1e15
    return not 1e-150 < inverse < 1e145


@kernel
def wide_factor(inverse: float, x: Array) -> float:
    """The factor by which to multiply x so that its squares fit float64."""
    if x.itemsize == 4:
        return 1.0
    return 2.0**600 if inverse > 1 else 2.0**-600


@kernel
def wide_moments(x: Array, eps: float, factor: float) -> tuple[float, float, float]:
    """(mean, variance, 1/√(variance + eps)) of all x (N, L)."""
    total, squares = np.float64(0), np.float64(0)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            total += x[n, i] * factor
    mean = total / x.size
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            d = x[n, i] * factor - mean
            squares += d * d
    variance = squares / x.size
    return mean / factor, variance / factor / factor, factor / np.sqrt(variance + eps * factor * factor)


@kernel
def wide_standardised(x: float, mean: float, inverse: float, factor: float) -> float:
    """x̂ = (x − mean)·inverse"""
    return (x * factor - mean * factor) * (inverse / factor)
