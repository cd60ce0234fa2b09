"""Reductions over axes: sums, means, extremes, products. `axis` is None (all), an int or a tuple, as in NumPy.

Sums of float32 accumulate in float64: NumPy adds the rows of a matrix one by one, and a float32
accumulator of ones stops growing at 2²⁴.
"""

from __future__ import annotations

import numpy as np

from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating
from minidl.tensor import FLOATS, Array, ArrayLike, as_array, op

Axis = int | tuple[int, ...] | None


def _axes(x: Array, axis: Axis) -> tuple[int, ...]:
    """The reduced axes, as non-negative ints."""
    if axis is None:
        return tuple(range(x.ndim))
    axes: tuple[int, ...] = np.lib.array_utils.normalize_axis_tuple(axis, x.ndim, "axis")
    return axes


def _spread(dy: Array, x: Array, axes: tuple[int, ...]) -> Array:
    """`dy`, whose axes were dropped or kept as 1, in the shape of `x`."""
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return np.broadcast_to(np.reshape(dy, kept), x.shape)


def _count(x: Array, axes: tuple[int, ...]) -> int:
    """How many elements are reduced to one. ValueError if none."""
    count = int(np.prod([x.shape[i] for i in axes], dtype=np.int64))
    if count == 0:
        raise ValueError(f"expected at least one element along axis {axes}, found shape {x.shape}")
    return count


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if x.dtype not in FLOATS:
        return as_array(np.sum(x, axis=axes, keepdims=keepdims))
    return as_array(np.sum(x, axis=axes, keepdims=keepdims, dtype=np.float64), dtype=x.dtype)


@op
def sum(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = Σ x.   dL/dx = dL/dy, repeated along the axes

    >>> ops.sum(np.array([[1.0, 2.0], [3.0, 4.0]]), axis=0).numpy()
    array([4., 6.])
    """
    x = as_array(x)
    axes = _axes(x, axis)
    return _sum(x, axes, keepdims), (lambda dy: _spread(dy, x, axes),)


@op
def mean(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = Σ x / n.   dL/dx = dL/dy / n      x: float; ValueError if n = 0"""
    x = floating(x)
    axes = _axes(x, axis)
    n = _count(x, axes)
    y = np.mean(x, axis=axes, keepdims=keepdims, dtype=np.float64)
    return as_array(y, dtype=x.dtype), (lambda dy: _spread(dy / n, x, axes),)


def _centred(x: Array, axes: tuple[int, ...], ddof: int, keepdims: bool) -> tuple[Array, Array, int]:
    """(x − mean, variance in float64, its divisor), in two passes: E[x²] − E[x]² would cancel."""
    divisor = _count(x, axes) - ddof
    if divisor <= 0:
        raise ValueError(f"expected more than ddof={ddof} elements along axis {axes}, found shape {x.shape}")
    centred = as_array(x - np.mean(x, axis=axes, keepdims=True, dtype=np.float64))
    total = np.sum(np.square(centred), axis=axes, keepdims=keepdims, dtype=np.float64)
    return as_array(centred, dtype=x.dtype), as_array(total / divisor), divisor


@op
def var(x: ArrayLike, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Result:
    """y = Σ (x − x̄)² / (n − ddof).   dL/dx = dL/dy · 2(x − x̄) / (n − ddof)      x: float; ValueError if n ≤ ddof"""
    x = floating(x)
    axes = _axes(x, axis)
    centred, y, divisor = _centred(x, axes, ddof, keepdims)
    return as_array(y, dtype=x.dtype), (lambda dy: _spread(dy, x, axes) * centred * (2 / divisor),)


@op
def std(x: ArrayLike, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Result:
    """y = √var(x).   dL/dx = dL/dy · (x − x̄) / ((n − ddof) · y), 0 where y = 0      x: float; ValueError if n ≤ ddof"""
    x = floating(x)
    axes = _axes(x, axis)
    centred, variance, divisor = _centred(x, axes, ddof, keepdims)
    y = as_array(np.sqrt(variance), dtype=x.dtype)
    scale = np.where(y == 0, 1, y)  # if all are equal, x − x̄ is 0, and so is the gradient
    return y, (lambda dy: _spread(dy / divisor, x, axes) * (centred / _spread(scale, x, axes)),)


def _extreme(x: Array, y: Array, axes: tuple[int, ...], keepdims: bool) -> Result:
    def gradient(dy: Array) -> Array:
        ties = ~np.not_equal(x, _spread(y, x, axes)) | np.isnan(x)
        count = np.sum(ties, axis=axes, keepdims=keepdims)
        return np.where(ties, _spread(dy / count, x, axes), 0)

    return y, (gradient,)


@op
def max(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = max x.   dL/dx = dL/dy where x = y, shared equally among ties, else 0      ValueError if empty"""
    x = as_array(x)
    axes = _axes(x, axis)
    _count(x, axes)
    return _extreme(x, as_array(np.max(x, axis=axes, keepdims=keepdims)), axes, keepdims)


@op
def min(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = min x.   dL/dx = dL/dy where x = y, shared equally among ties, else 0      ValueError if empty"""
    x = as_array(x)
    axes = _axes(x, axis)
    _count(x, axes)
    return _extreme(x, as_array(np.min(x, axis=axes, keepdims=keepdims)), axes, keepdims)


@op
def prod(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = Π x.   dL/dxᵢ = dL/dy · Π(j≠i) xⱼ, from products before and after i: right at zeros too      x: float"""
    x = floating(x)
    axes = _axes(x, axis)

    def gradient(dy: Array) -> Array:
        last = range(-len(axes), 0)
        moved = np.moveaxis(x, axes, last)
        rows = moved.reshape(*moved.shape[: x.ndim - len(axes)], -1)
        one = np.ones_like(rows[..., :1])
        before = np.cumprod(np.concatenate((one, rows[..., :-1]), axis=-1), axis=-1)
        after = np.cumprod(np.concatenate((one, rows[..., :0:-1]), axis=-1), axis=-1)[..., ::-1]
        others = np.moveaxis((before * after).reshape(moved.shape), last, axes)
        return _spread(dy, x, axes) * others

    return np.prod(x, axis=axes, keepdims=keepdims), (gradient if x.size else lambda dy: np.zeros_like(x),)


@op
def cumsum(x: ArrayLike, axis: int | None = None) -> Result:
    """yᵢ = Σ(j≤i) xⱼ along the axis (of the flattened x if None).   dL/dxⱼ = Σ(i≥j) dL/dyᵢ      x: float"""
    x = floating(x)

    def running(values: Array, along: int) -> Array:
        return as_array(np.cumsum(values, axis=along, dtype=np.float64), dtype=x.dtype)

    if axis is None:
        return running(x.reshape(-1), 0), (lambda dy: running(dy[::-1], 0)[::-1].reshape(x.shape),)
    return running(x, axis), (lambda dy: np.flip(running(np.flip(dy, axis), axis), axis),)


@op
def logsumexp(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Result:
    """y = ln Σ eˣ, from x − max x.   dL/dx = dL/dy · eˣ / Σ eˣ      x: float; −∞ where all are; ValueError if empty"""
    x = floating(x)
    axes = _axes(x, axis)
    _count(x, axes)
    top = as_array(np.max(x, axis=axes, keepdims=True))
    e = np.exp(np.where(x == top, 0, x - top))  # ∞ − ∞ would be NaN
    total = np.sum(e, axis=axes, keepdims=True, dtype=np.float64)
    y = as_array(np.log(total) + top, dtype=x.dtype)
    share = as_array(np.where(top == -np.inf, 0, e / total), dtype=x.dtype)  # not eˣ⁻ʸ: y is rounded
    shape = y.shape if keepdims else tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return y.reshape(shape), (lambda dy: _spread(dy, x, axes) * share,)
