"""Elementwise ops y = f(x), with NumPy's broadcasting and names."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.ops.inputs import floating, number
from minidl.tensor import FLOATS, Array, ArrayLike, Gradient, as_array, op

Result = tuple[Array, tuple[Gradient | None, ...]]

# ------------------------------------------------------------------------------------- arithmetic


@op
def add(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a + b.   dL/da = dL/dy,  dL/db = dL/dy"""
    return np.add(a, b), (lambda dy: dy, lambda dy: dy)


@op
def subtract(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a − b.   dL/da = dL/dy,  dL/db = −dL/dy"""
    return np.subtract(a, b), (lambda dy: dy, lambda dy: -dy)


@op
def multiply(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a · b.   dL/da = dL/dy · b,  dL/db = dL/dy · a"""
    return np.multiply(a, b), (lambda dy: dy * b, lambda dy: dy * a)


@op
def divide(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a / b.   dL/da = dL/dy / b,  dL/db = −dL/dy · y / b      at least one of them float"""
    kinds = as_array(a).dtype, as_array(b).dtype
    if "f" not in (kinds[0].kind, kinds[1].kind):
        raise TypeError(f"expected a float among its inputs, found {kinds[0]} and {kinds[1]}")
    y = np.divide(a, b)
    return y, (lambda dy: dy / b, lambda dy: -dy * y / b)


@op
def negative(x: ArrayLike) -> Result:
    """y = −x.   dL/dx = −dL/dy"""
    return np.negative(x), (lambda dy: -dy,)


@op
def power(a: ArrayLike, b: ArrayLike) -> Result:
    """y = aᵇ.   dL/da = dL/dy · b·aᵇ⁻¹,  dL/db = dL/dy · y · ln a      (0 where b = 0, and where a = 0 ≤ b)"""
    y = np.power(a, b)

    def gradient_a(dy: Array) -> Any:
        if isinstance(b, int | float):
            return dy * (b * np.power(a, b - 1) if b else 0)
        exponent = np.where(np.equal(b, 0), 1, b)  # else 0·a⁻¹ would be 0·∞ at a = 0
        return dy * np.multiply(b, np.power(a, exponent - 1))

    def gradient_b(dy: Array) -> Any:
        flat = np.logical_or(np.equal(y, 0), np.logical_and(np.equal(a, 0), np.equal(b, 0)))  # 0 · ln a is 0
        return dy * (y * np.log(np.where(flat, 1, a)))

    return y, (gradient_a, gradient_b)


@op
def floor_divide(a: ArrayLike, b: ArrayLike) -> Result:
    """y = ⌊a / b⌋.   dL/da = 0,  dL/db = 0      (it is piecewise constant)"""
    return np.floor_divide(a, b), (np.zeros_like, np.zeros_like)


@op
def remainder(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a − b·⌊a / b⌋.   dL/da = dL/dy,  dL/db = −dL/dy · ⌊a / b⌋"""
    return np.remainder(a, b), (lambda dy: dy, lambda dy: -dy * np.floor_divide(a, b))


# -------------------------------------------------------------------------- powers and logarithms


@op
def square(x: ArrayLike) -> Result:
    """y = x².   dL/dx = dL/dy · 2x"""
    return np.square(x), (lambda dy: dy * 2 * x,)


@op
def sqrt(x: ArrayLike) -> Result:
    """y = √x.   dL/dx = dL/dy / 2y      x: float"""
    y = np.sqrt(floating(x))
    return y, (lambda dy: dy / (2 * y),)


@op
def exp(x: ArrayLike) -> Result:
    """y = eˣ.   dL/dx = dL/dy · y      x: float"""
    y = np.exp(floating(x))
    return y, (lambda dy: dy * y,)


@op
def expm1(x: ArrayLike) -> Result:
    """y = eˣ − 1, exact near 0.   dL/dx = dL/dy · (y + 1)      x: float"""
    y = np.expm1(floating(x))
    return y, (lambda dy: dy * (y + 1),)


@op
def log(x: ArrayLike) -> Result:
    """y = ln x.   dL/dx = dL/dy / x      x: float"""
    return np.log(floating(x)), (lambda dy: dy / x,)


@op
def log2(x: ArrayLike) -> Result:
    """y = log₂ x.   dL/dx = dL/dy / (x · ln 2)      x: float"""
    return np.log2(floating(x)), (lambda dy: dy / (x * float(np.log(2))),)


@op
def log1p(x: ArrayLike) -> Result:
    """y = ln(1 + x), exact near 0.   dL/dx = dL/dy / (1 + x)      x: float"""
    return np.log1p(floating(x)), (lambda dy: dy / (1 + x),)


# --------------------------------------------------------------- trigonometric and hyperbolic ones


@op
def sin(x: ArrayLike) -> Result:
    """y = sin x (radians).   dL/dx = dL/dy · cos x      x: float"""
    return np.sin(floating(x)), (lambda dy: dy * np.cos(x),)


@op
def cos(x: ArrayLike) -> Result:
    """y = cos x (radians).   dL/dx = −dL/dy · sin x      x: float"""
    return np.cos(floating(x)), (lambda dy: -dy * np.sin(x),)


@op
def tan(x: ArrayLike) -> Result:
    """y = tan x (radians).   dL/dx = dL/dy · (1 + y²)      x: float"""
    y = np.tan(floating(x))
    return y, (lambda dy: dy * (1 + y * y),)


@op
def arctan(x: ArrayLike) -> Result:
    """y = arctan x (radians).   dL/dx = dL/dy / (1 + x²)      x: float"""
    return np.arctan(floating(x)), (lambda dy: dy / (1 + np.square(x)),)


@op
def sinh(x: ArrayLike) -> Result:
    """y = sinh x.   dL/dx = dL/dy · cosh x      x: float"""
    return np.sinh(floating(x)), (lambda dy: dy * np.cosh(x),)


@op
def cosh(x: ArrayLike) -> Result:
    """y = cosh x.   dL/dx = dL/dy · sinh x      x: float"""
    return np.cosh(floating(x)), (lambda dy: dy * np.sinh(x),)


@op
def tanh(x: ArrayLike) -> Result:
    """y = tanh x.   dL/dx = dL/dy · (1 − y²)      x: float"""
    y = np.tanh(floating(x))
    return y, (lambda dy: dy * (1 - y * y),)


# ------------------------------------------------------------------------------ pieces and choices


@op
def abs(x: ArrayLike) -> Result:
    """y = |x|.   dL/dx = dL/dy · sign x      (0 at x = 0)"""
    return np.abs(x), (lambda dy: dy * np.sign(x),)


@op
def maximum(a: ArrayLike, b: ArrayLike) -> Result:
    """y = max(a, b).   dL/da = dL/dy · [a > b],  dL/db = dL/dy · [b > a]      (½ to each where a = b)"""
    return np.maximum(a, b), (lambda dy: _taken(dy, np.less, a, b), lambda dy: _taken(dy, np.less, b, a))


@op
def minimum(a: ArrayLike, b: ArrayLike) -> Result:
    """y = min(a, b).   dL/da = dL/dy · [a < b],  dL/db = dL/dy · [b < a]      (½ to each where a = b)"""
    return np.minimum(a, b), (lambda dy: _taken(dy, np.greater, a, b), lambda dy: _taken(dy, np.greater, b, a))


@op
def clip(x: ArrayLike, min: ArrayLike = None, max: ArrayLike = None) -> Result:
    """y = min(max(x, lo), hi), no bound where None.   dL/dx = dL/dy · [lo ≤ x ≤ hi]      bounds: constants"""
    if min is None and max is None:
        raise ValueError("expected min or max, found neither")
    min, max = (b if b is None or np.ndim(b) else number(b, "a bound") for b in (min, max))

    def gradient(dy: Array) -> Array:
        inside: Any = True
        if min is not None:
            inside = ~np.less(x, min)  # not ≥: NaN passes its gradient on
        if max is not None:
            inside = inside & ~np.greater(x, max)
        return np.where(inside, dy, 0)

    return np.clip(x, min, max), (gradient,)


@op
def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Result:
    """y = a where the condition holds, else b.   dL/da = dL/dy there, 0 elsewhere,  dL/db = 0 there, dL/dy elsewhere

    >>> x = minidl.Tensor([-1.0, 2.0], requires_grad=True)
    >>> ops.sum(ops.where(x.data > 0, x, 0.1 * x)).backward()
    >>> x.grad
    array([0.1, 1. ])
    """
    y: Any = np.where(condition, a, b)
    return y, (None, lambda dy: np.where(condition, dy, 0), lambda dy: np.where(condition, 0, dy))


@op
def astype(x: ArrayLike, dtype: Any) -> Result:
    """y = x in another dtype.   dL/dx = dL/dy in x's dtype      (none through any dtype but float32 and float64)"""
    y = as_array(x).astype(dtype)
    return y, ((lambda dy: dy) if y.dtype in FLOATS else None,)


def _taken(dy: Array, worse: np.ufunc, a: ArrayLike, b: ArrayLike) -> Array:
    """0 where a is worse than b, dy / 2 where they are equal, else dy, so that NaN passes its gradient on."""
    return np.where(worse(a, b), 0, np.where(np.equal(a, b), 0.5 * dy, dy))
