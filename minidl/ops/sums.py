"""Long sums in kernels: 16 independent partial sums side by side, which fill a vector.

Each adds up at most 64 numbers in their own dtype, and these are summed in float64, so that float32 keeps its digits
at any length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.jit import kernel
from minidl.tensor import Array

LANES, BLOCK = 16, 1024


@kernel
def lane_sum(x: Array) -> Any:
    """Σ x of 16 or 8 numbers, by halves, in place."""
    if x.size == 16:
        for j in range(8):
            x[j] += x[j + 8]
    for j in range(4):
        x[j] += x[j + 4]
    return (x[0] + x[2]) + (x[1] + x[3])


def _emitted_sums() -> Any:
    """The intrinsic for this processor, or None."""
    from minidl.ops import vectors

    return vectors.lane_sums if vectors.vector_bytes() else None


@kernel(fma=True, emitted=_emitted_sums)
def lane_sums(a: Array, b: Array, first: int, steps: int, a_centre: Any, b_centre: Any, lanes: Array) -> None:
    """lanes[j] = Σₖ (a − a_centre), lanes[16 + j] = Σₖ (a − a_centre)·(b − b_centre) of elements first + 16k + j.

    k < steps; a, b flat.
    """
    lanes[:] = 0
    for k in range(first, first + steps * LANES, LANES):
        for j in range(LANES):
            d, e = a[k + j] - a_centre, b[k + j] - b_centre
            lanes[j] = lanes[j] + d
            lanes[LANES + j] = lanes[LANES + j] + d * e


@kernel
def centred_sums(a: Array, b: Array, a_centre: Any, b_centre: Any, lanes: Array) -> tuple[float, float]:
    """(Σ (a − a_centre), Σ (a − a_centre)·(b − b_centre)) in float64.   a, b flat, centres of their dtype

    lanes (32) is scratch.
    """
    total, products = np.float64(0), np.float64(0)
    whole = a.size // LANES * LANES
    for first in range(0, whole, BLOCK):
        lane_sums(a, b, first, min(BLOCK, whole - first) // LANES, a_centre, b_centre, lanes)
        total += lane_sum(lanes[:LANES])
        products += lane_sum(lanes[LANES:])
    for i in range(whole, a.size):
        total += a[i] - a_centre
        products += (a[i] - a_centre) * (b[i] - b_centre)
    return total, products
