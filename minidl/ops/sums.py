"""Long sums in kernels: several side by side, which fill a vector and do not wait for one another."""

from __future__ import annotations

from typing import Any

from minidl.jit import kernel
from minidl.tensor import Array

LANES = 16


@kernel
def add_products(a: Array, b: Array, mean_b: float, sums: Array) -> None:
    """sums[j] += Σ a[i]·(b[i] − mean_b) over i = j, j + 16, …: 16 sums side by side, which are one vector or two."""
    whole = a.size // LANES * LANES
    for first in range(0, whole, LANES):
        a_part, b_part = a[first : first + LANES], b[first : first + LANES]
        for j in range(LANES):
            sums[j] += a_part[j] * (b_part[j] - mean_b)
    for i in range(whole, a.size):
        sums[i - whole] += a[i] * (b[i] - mean_b)


@kernel
def add_deviations(a: Array, mean: float, square: bool, sums: Array) -> None:
    """sums[j] += Σ (a[i] − mean), or its square, over i = j, j + 16, …"""
    whole = a.size // LANES * LANES
    for first in range(0, whole, LANES):
        part = a[first : first + LANES]
        if square:
            for j in range(LANES):
                sums[j] += (part[j] - mean) * (part[j] - mean)
        else:
            for j in range(LANES):
                sums[j] += part[j] - mean
    for i in range(whole, a.size):
        d = a[i] - mean
        sums[i - whole] += d * d if square else d


@kernel
def lane_sum(x: Array) -> Any:
    """Σ x, in place: of the 16 numbers of 64 bytes, or 8 in float64, by halves."""
    if x.itemsize == 4:
        for j in range(8):
            x[j] += x[j + 8]
    for j in range(4):
        x[j] += x[j + 4]
    return (x[0] + x[2]) + (x[1] + x[3])
