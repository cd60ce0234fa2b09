"""Dropout: a random part of the values is 0 during training (Srivastava et al. 2014)."""

from __future__ import annotations

import numpy as np

from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating
from minidl.random import default_generator
from minidl.tensor import Array, ArrayLike, op


def _uniform(generator: np.random.Generator, x: Array) -> Array:
    """A float32 array like x from U[0, 1); in a compiled step, a new one each time."""
    if hasattr(x, "recorder"):
        return x.recorder.uniform(generator, x.shape)  # type: ignore[no-any-return]
    return np.asarray(generator.random(x.shape, dtype=np.float32))


@op
def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None
) -> Result:
    """y = x·m / (1 − p), each mₙ 0 with probability p, else 1.   dL/dx = dL/dy · m / (1 − p)      x: float

    y = x where not `training`. `generator` draws m (default: minidl's own, see `minidl.manual_seed`).
    ValueError unless 0 ≤ p ≤ 1.
    """
    x = floating(x)
    if not 0 <= p <= 1:
        raise ValueError(f"expected a probability p from 0 to 1, found {p}")
    if not training or p == 0:
        return x, (lambda dy: dy,)
    if p == 1:
        return x * 0, (lambda dy: dy * 0,)
    kept = _uniform(generator or default_generator(), x) >= p
    scale = np.multiply(kept, 1 / (1 - p), dtype=x.dtype)
    return x * scale, (lambda dy: dy * scale,)
