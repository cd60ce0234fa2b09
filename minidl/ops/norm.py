"""Normalisation: over a batch (Ioffe and Szegedy 2015), a layer (Ba et al. 2016) or groups (Wu and He 2018).

All compute x̂ = (x − μ)/√(σ² + ε), y = γ·x̂ + β, and share one gradient: with g = γ·dL/dy,
dL/dx = (g − mean g − x̂ · mean(g·x̂))/√(σ² + ε), with means over the elements normalised together.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, number, one_dtype
from minidl.ops.joint import joint
from minidl.ops.sums import LANES, centred_sums
from minidl.ops.wide import is_extreme, wide_factor, wide_moments, wide_standardised
from minidl.tensor import Array, ArrayLike, as_array, op


def _worth(x: Array) -> bool:
    return x.size >= 1 << 15


@kernel(parallel=lambda x, eps, mean, variance, inverse: _worth(x))
def channel_moments(x: Array, eps: float, mean: Array, variance: Array, inverse: Array) -> None:
    """μ, σ² (biased) and 1/√(σ² + ε) of each channel, in two passes.   x (N, C, L), the results (C) in float64"""
    count = x.shape[0] * x.shape[2]
    for c in prange(x.shape[1]):
        lanes = np.empty(2 * LANES, x.dtype)
        total, squares, zero = np.float64(0), np.float64(0), x.dtype.type(0)
        for n in range(x.shape[0]):
            total += centred_sums(x[n, c], x[n, c], zero, zero, lanes)[0]
        centre = x.dtype.type(total / count)
        total = np.float64(0)
        for n in range(x.shape[0]):
            more, more_squares = centred_sums(x[n, c], x[n, c], centre, centre, lanes)
            total += more
            squares += more_squares
        off = total / count  # the mean, rounded to x's dtype, is off by this
        mean[c] = centre + off
        variance[c] = max(squares / count - off * off, 0.0) if squares == squares else squares
        inverse[c] = 1 / np.sqrt(variance[c] + eps)
        if is_extreme(inverse[c], x):
            mean[c], variance[c], inverse[c] = wide_moments(x[:, c], eps, wide_factor(inverse[c], x))


@kernel(parallel=lambda x, mean, inverse, weight, bias, y: _worth(x))
def batch_norm_forward(x: Array, mean: Array, inverse: Array, weight: Array, bias: Array, y: Array) -> None:
    """y = γ·(x − μ)/√(σ² + ε) + β.   x, y (N, C, L), the others (C)"""
    for c in prange(x.shape[1]):
        if is_extreme(inverse[c], x):
            factor = wide_factor(inverse[c], x)
            for n in range(x.shape[0]):
                for i in range(x.shape[2]):
                    y[n, c, i] = wide_standardised(x[n, c, i], mean[c], inverse[c], factor) * weight[c] + bias[c]
            continue
        centre = x.dtype.type(mean[c])
        scale = x.dtype.type(weight[c] * inverse[c])
        shift = bias[c] + x.dtype.type((np.float64(centre) - mean[c]) * scale)
        for n in range(x.shape[0]):
            source, target = x[n, c], y[n, c]
            for i in range(source.size):
                target[i] = (source[i] - centre) * scale + shift


@kernel(parallel=lambda dy, x, mean, inverse, weight, training, dx, dw, db: _worth(x))
def batch_norm_backward(
    dy: Array, x: Array, mean: Array, inverse: Array, weight: Array, training: bool, dx: Array, dw: Array, db: Array
) -> None:
    """dw = Σ dy·x̂, db = Σ dy; dx as at the top of the file, or dy·γ/√(σ² + ε) unless `training`. Shapes as above."""
    count = max(x.shape[0] * x.shape[2], 1)
    for c in prange(x.shape[1]):
        lanes = np.empty(2 * LANES, x.dtype)
        total, mixed, centre, zero = np.float64(0), np.float64(0), x.dtype.type(mean[c]), x.dtype.type(0)
        for n in range(x.shape[0]):
            more, more_mixed = centred_sums(dy[n, c], x[n, c], zero, centre, lanes)
            total += more
            mixed += more_mixed
        off = mean[c] - centre
        mixed -= total * off
        db[c], dw[c] = total, mixed * inverse[c]
        scale = x.dtype.type(weight[c] * inverse[c])
        if not training:  # not as below with a slope of 0, which an infinite x would make NaN
            for n in range(x.shape[0]):
                for i in range(x.shape[2]):
                    dx[n, c, i] = dy[n, c, i] * scale
            continue
        if is_extreme(inverse[c], x):
            factor, mixed = wide_factor(inverse[c], x), np.float64(0)
            for n in range(x.shape[0]):
                for i in range(x.shape[2]):
                    mixed += dy[n, c, i] * wide_standardised(x[n, c, i], mean[c], inverse[c], factor)
            dw[c] = mixed
            for n in range(x.shape[0]):
                for i in range(x.shape[2]):
                    along = wide_standardised(x[n, c, i], mean[c], inverse[c], factor) * (mixed / count)
                    dx[n, c, i] = (dy[n, c, i] - total / count - along) * (weight[c] * inverse[c])
            continue
        slope = x.dtype.type(mixed * inverse[c] * inverse[c] / count)
        level = x.dtype.type(total / count - off * slope)
        for n in range(x.shape[0]):
            source, given, target = x[n, c], dy[n, c], dx[n, c]
            for i in range(source.size):
                target[i] = (given[i] - level - (source[i] - centre) * slope) * scale


@kernel(parallel=lambda x, eps, weight, bias, mean, inverse, y: _worth(x))
def layer_norm_forward(x: Array, eps: float, weight: Array, bias: Array, mean: Array, inverse: Array, y: Array) -> None:
    """Each row normalised: y = γ·(x − μ)/√(σ² + ε) + β.   x, y (R, D), γ, β (D); μ and 1/√(σ² + ε) (R) in float64"""
    count, parts, zero = x.shape[1], (x.shape[0] + 15) // 16, x.dtype.type(0)
    for part in prange(parts):
        lanes = np.empty(2 * LANES, x.dtype)
        for r in range(np.int64(part) * 16, min(np.int64(part) * 16 + 16, x.shape[0])):
            source, target = x[r], y[r]
            centre = x.dtype.type(centred_sums(source, source, zero, zero, lanes)[0] / count)
            total, squares = centred_sums(source, source, centre, centre, lanes)
            off = total / count
            mean[r] = centre + off
            inverse[r] = 1 / np.sqrt((max(squares / count - off * off, 0.0) if squares == squares else squares) + eps)
            if is_extreme(inverse[r], x):
                factor = wide_factor(inverse[r], x)
                mean[r], _, inverse[r] = wide_moments(x[r : r + 1], eps, factor)
                for i in range(count):
                    target[i] = wide_standardised(source[i], mean[r], inverse[r], factor) * weight[i] + bias[i]
                continue
            scale, shift = x.dtype.type(inverse[r]), x.dtype.type(-off * inverse[r])
            for i in range(source.size):
                target[i] = ((source[i] - centre) * scale + shift) * weight[i] + bias[i]


@kernel(parallel=lambda dy, x, mean, inverse, weight, dx, dw, db: _worth(x))
def layer_norm_backward(
    dy: Array, x: Array, mean: Array, inverse: Array, weight: Array, dx: Array, dw: Array, db: Array
) -> None:
    """dx as at the top of the file for each row; dw = Σ dy·x̂, db = Σ dy over the rows. Shapes as above.

    Rows are split into partial sums whose number depends only on theirs, so threads do not change a bit.
    """
    parts, count, zero = min(x.shape[0], 16), x.shape[1], x.dtype.type(0)
    sums = np.zeros((parts, 2, count), np.float64)
    for part in prange(parts):
        slopes, totals = sums[part, 0], sums[part, 1]
        g, lanes = np.empty(count, x.dtype), np.empty(2 * LANES, x.dtype)
        for r in range(np.int64(part) * x.shape[0] // parts, (np.int64(part) + 1) * x.shape[0] // parts):
            source, given, target = x[r], dy[r], dx[r]
            if is_extreme(inverse[r], x):
                factor, total, mixed = wide_factor(inverse[r], x), np.float64(0), np.float64(0)
                for i in range(count):
                    along = wide_standardised(source[i], mean[r], inverse[r], factor)
                    totals[i] += given[i]
                    slopes[i] += given[i] * along
                    total += given[i] * weight[i]
                    mixed += given[i] * weight[i] * along
                for i in range(count):
                    along = wide_standardised(source[i], mean[r], inverse[r], factor) * (mixed / count)
                    target[i] = (given[i] * weight[i] - total / count - along) * inverse[r]
                continue
            centre, scale = x.dtype.type(mean[r]), x.dtype.type(inverse[r])
            shift = x.dtype.type((centre - mean[r]) * inverse[r])
            for i in range(count):
                totals[i] += given[i]
                slopes[i] += given[i] * ((source[i] - centre) * scale + shift)
            for i in range(count):
                g[i] = given[i] * weight[i]
            total, mixed = centred_sums(g, source, zero, centre, lanes)
            off = mean[r] - centre
            slope = x.dtype.type((mixed - total * off) * inverse[r] * inverse[r] / count)
            level = x.dtype.type(total / count - off * slope)
            for i in range(count):
                target[i] = (g[i] - level - (source[i] - centre) * slope) * scale
    for i in range(count):
        slope, total = np.float64(0), np.float64(0)
        for part in range(parts):
            slope += sums[part, 0, i]
            total += sums[part, 1, i]
        dw[i], db[i] = slope, total


def _affine(weight: ArrayLike, bias: ArrayLike, shape: tuple[int, ...], x: Array) -> tuple[Array, Array]:
    """(weight, bias) of this shape in x's dtype; 1 and 0 if None."""
    found = []
    for name, value, default in (("weight", weight, np.ones), ("bias", bias, np.zeros)):
        array = default(shape, x.dtype) if value is None else floating(value, name)
        if array.shape != shape:
            raise ValueError(f"expected {name} of shape {shape}, found shape {array.shape}")
        found.append(kernel_array(array, one_dtype(x, array)))
    return found[0], found[1]


@op
def batch_norm(
    x: ArrayLike,
    running_mean: Array | None,
    running_var: Array | None,
    weight: ArrayLike = None,
    bias: ArrayLike = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    """y = γ·x̂ + β, x̂ = (x − μ)/√(σ² + ε).   dL/dx = γ·(dL/dy − mean dL/dy − x̂·mean(dL/dy·x̂))/√(σ² + ε)

    dL/dγ = Σ dL/dy·x̂,  dL/dβ = Σ dL/dy.

    x (N, C, …): float; weight γ, bias β and running statistics (C,) or None.
    If `training`, or without running statistics, μ and σ² (biased) are those of the batch, per channel over all other
    axes, and the running ones move towards them in place: r ← (1 − momentum)·r + momentum·(batch's), with the
    unbiased variance. Otherwise μ and σ² are the running ones, and dL/dx = γ·dL/dy/√(σ² + ε).
    ValueError: only one value per channel to take a variance of; arrays whose shape is not (C,).
    """
    x, momentum, eps = floating(x), number(momentum, "momentum"), number(eps, "eps")
    if x.ndim < 2:
        raise ValueError(f"expected x (N, C, …), found shape {x.shape}")
    channels = x.shape[1]
    w, b = _affine(weight, bias, (channels,), x)
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and running.shape != (channels,):
            raise ValueError(f"expected {name} of shape {(channels,)}, found shape {running.shape}")
    count = x.shape[0] * math.prod(x.shape[2:])
    own = training or running_mean is None or running_var is None
    if own and count == 1:
        raise ValueError(f"expected more than 1 value per channel when training, found shape {x.shape}")
    if own and not count:
        raise ValueError(f"expected at least one value per channel to take the mean of, found shape {x.shape}")
    flat = kernel_array(x, x.dtype).reshape(x.shape[0], channels, math.prod(x.shape[2:]))
    if own:
        mean, variance, inverse = (np.empty(channels, np.float64, like=flat) for _ in range(3))
        channel_moments(flat, eps, mean, variance, inverse)
        if training and running_mean is not None and running_var is not None:
            running_mean[...] = (1 - momentum) * running_mean + momentum * mean
            running_var[...] = (1 - momentum) * running_var + momentum * (variance * (count / (count - 1)))
    else:
        mean, variance = (as_array(r).astype(np.float64) for r in (running_mean, running_var))
        inverse = 1 / np.sqrt(variance + eps)
    y: Array = np.empty_like(flat)
    batch_norm_forward(flat, mean, inverse, w, b, y)

    def backward(dy: Array) -> list[Array]:
        given = kernel_array(dy, x.dtype).reshape(flat.shape)
        dx, dw, db = np.empty_like(flat), np.empty(channels, x.dtype, like=flat), np.empty(channels, x.dtype, like=flat)
        batch_norm_backward(given, flat, mean, inverse, w, own, dx, dw, db)
        return [dx.reshape(x.shape), dw, db]

    back = joint(backward)
    return y.reshape(x.shape), (lambda dy: back(dy)[0], None, None, lambda dy: back(dy)[1], lambda dy: back(dy)[2])


def _normalised_rows(x: Array, w: Array, b: Array, eps: float) -> tuple[Array, Any]:
    """(y, dy → [dx, dw, db]) for rows (R, D), w, b (D)."""
    rows, width = x.shape
    mean, inverse = np.empty(rows, np.float64, like=x), np.empty(rows, np.float64, like=x)
    y: Array = np.empty_like(x)
    layer_norm_forward(x, eps, w, b, mean, inverse, y)

    def backward(dy: Array) -> list[Array]:
        dx, dw, db = np.empty_like(x), np.empty(width, x.dtype, like=x), np.empty(width, x.dtype, like=x)
        layer_norm_backward(kernel_array(dy, x.dtype).reshape(x.shape), x, mean, inverse, w, dx, dw, db)
        return [dx, dw, db]

    return y, joint(backward)


@op
def layer_norm(
    x: ArrayLike, normalized_shape: Any, weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Result:
    """y = γ·x̂ + β, x̂ = (x − μ)/√(σ² + ε) by rows.   dL/dx = (g − mean g − x̂·mean(g·x̂))/√(σ² + ε)

    dL/dγ = Σ dL/dy·x̂ over the rows,  dL/dβ = Σ dL/dy over the rows,  g = γ·dL/dy.

    x (…, *normalized_shape): float; weight γ, bias β of
    normalized_shape, or None; σ² is biased. ValueError: x does not end in normalized_shape, or that is empty.
    """
    x, eps = floating(x), number(eps, "eps")
    shape = (normalized_shape,) if isinstance(normalized_shape, int | np.integer) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape or 0 in shape:
        raise ValueError(f"expected x (…, *{shape}) with elements, found shape {x.shape}")
    w, b = _affine(weight, bias, shape, x)
    flat = kernel_array(x, x.dtype).reshape(math.prod(x.shape[: -len(shape)]), math.prod(shape))
    y, back = _normalised_rows(flat, w.reshape(-1), b.reshape(-1), eps)
    return y.reshape(x.shape), (
        lambda dy: back(dy)[0].reshape(x.shape),
        None,
        lambda dy: back(dy)[1].reshape(shape),
        lambda dy: back(dy)[2].reshape(shape),
    )


@op
def group_norm(
    x: ArrayLike, num_groups: int, weight: ArrayLike = None, bias: ArrayLike = None, eps: float = 1e-5
) -> Result:
    """y = γ·x̂ + β, x̂ = (x − μ)/√(σ² + ε) over each group of channels.   dL/dx = (g − mean g − x̂·mean(g·x̂))/√(σ² + ε)

    dL/dγ = Σ dL/dy·x̂,  dL/dβ = Σ dL/dy,  g = γ·dL/dy.

    x (N, C, …): float; weight γ and bias β (C,) or None.
    ValueError: num_groups does not divide C; empty groups.
    """
    x, eps = floating(x), number(eps, "eps")
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ValueError(f"expected x (N, C, …) with C a multiple of {num_groups} groups, found shape {x.shape}")
    width = math.prod(x.shape[1:]) // num_groups
    if not width:
        raise ValueError(f"expected groups with elements, found shape {x.shape}")
    w, b = (a.reshape(-1, *(1,) * (x.ndim - 2)) for a in _affine(weight, bias, (x.shape[1],), x))
    flat = kernel_array(x, x.dtype).reshape(x.shape[0] * num_groups, width)
    xhat, back = _normalised_rows(flat, np.ones(width, x.dtype), np.zeros(width, x.dtype), eps)
    xhat = xhat.reshape(x.shape)
    axes = (0, *range(2, x.ndim))
    return xhat * w + b, (
        lambda dy: back(dy * w)[0].reshape(x.shape),
        None,
        lambda dy: as_array(np.sum(dy * xhat, axis=axes, dtype=np.float64)),
        lambda dy: as_array(np.sum(dy, axis=axes, dtype=np.float64)),
    )
