"""Normalisation: values brought to mean 0 and variance 1."""

from __future__ import annotations

import math

import numpy as np

from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating
from minidl.tensor import Array, ArrayLike, as_array, op


@op
def layer_norm(
    x: ArrayLike, shape: int | tuple[int, ...], weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Result:
    """y = x̂·w + b, x̂ = (x − x̄) / √(var x + ε) over the last axes.   dL/dx = (g − mean g − x̂·mean(g·x̂)) / √(var x + ε)

    with g = dL/dy·w;  dL/dw = Σ dL/dy·x̂,  dL/db = Σ dL/dy. Ba et al. 2016.

    x (…, *shape), weight w and bias b of that shape, or None for 1 and 0: float. ValueError: other shapes.
    """
    x = floating(x)
    inner = (shape,) if isinstance(shape, int) else tuple(shape)
    if not inner or x.shape[-len(inner) :] != inner:
        raise ValueError(f"expected x (…, *{inner}), found shape {x.shape}")
    w = np.ones(inner, x.dtype) if weight is None else floating(weight, "weight")
    b = np.zeros(inner, x.dtype) if bias is None else floating(bias, "bias")
    if w.shape != inner or b.shape != inner:
        raise ValueError(f"expected weight and bias of shape {inner}, found {w.shape} and {b.shape}")
    axes = tuple(range(x.ndim - len(inner), x.ndim))
    n = max(1, math.prod(inner))

    def mean(values: Array) -> Array:
        return as_array(np.sum(values, axis=axes, keepdims=True, dtype=np.float64) / n, dtype=x.dtype)

    centred = x - mean(x)
    spread = 1 / np.sqrt(mean(centred * centred) + x.dtype.type(eps))
    normal = centred * spread

    def gradient(dy: Array) -> Array:
        g = dy * w
        return as_array((g - mean(g) - normal * mean(g * normal)) * spread)

    return normal * w + b, (gradient, None, lambda dy: dy * normal, lambda dy: dy)
