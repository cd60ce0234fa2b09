"""Dropout: random elements are set to 0 during training (Srivastava et al. 2014)."""

from __future__ import annotations

import numpy as np

from minidl.core.tracing import uniform
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, number
from minidl.random import default_generator
from minidl.tensor import Array, ArrayLike, op


def _dropped(
    x: Array, shape: tuple[int, ...], p: float, training: bool, generator: np.random.Generator | None
) -> Result:
    """x times a mask of this shape, which broadcasts."""
    p = number(p, "p")
    if not 0 <= p <= 1:
        raise ValueError(f"expected a probability p from 0 to 1, found {p}")
    if not training or p == 0:
        return x, (lambda dy: dy,)
    if p == 1:
        return x * 0, (lambda dy: dy * 0,)
    kept = uniform(generator or default_generator(), shape, x) >= p
    scale = np.multiply(kept, 1 / (1 - p), dtype=x.dtype)
    return x * scale, (lambda dy: dy * scale,)


@op
def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None
) -> Result:
    """y = x·m / (1 − p), each mₙ 0 with probability p, else 1.   dL/dx = dL/dy · m / (1 − p)      x: float

    Unless `training`, y = x. `generator` draws m (default: minidl's own, see `minidl.manual_seed`).
    ValueError unless 0 ≤ p ≤ 1.
    """
    x = floating(x)
    return _dropped(x, x.shape, p, training, generator)


@op
def dropout2d(
    x: ArrayLike, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None
) -> Result:
    """y = x·m / (1 − p), one m for each channel of each image.   dL/dx = dL/dy · m / (1 − p)      Tompson et al. 2015

    x (N, C, H, W) or (C, H, W): float. As `dropout` otherwise.
    """
    x = floating(x)
    if x.ndim not in (3, 4):
        raise ValueError(f"expected x (N, C, H, W) or (C, H, W), found shape {x.shape}")
    return _dropped(x, (*x.shape[:-2], 1, 1), p, training, generator)
