"""The nonlinearities between layers, under PyTorch's names, and the softmax."""

from __future__ import annotations

import math

import numpy as np

from minidl.core.tracing import is_traced
from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.exponential import exp_float32, exp_float64
from minidl.ops.inputs import floating, kernel_array, number
from minidl.tensor import Array, ArrayLike, as_array, op


@kernel(parallel=lambda x, y: x.size >= 1 << 16)
def relu_forward(x: Array, y: Array) -> None:
    """y = 0 where x < 0, else x.  Flat arrays of one length (so NaN passes through)."""
    zero = x.dtype.type(0)  # a bare 0 would make Numba compute in float64
    for t in prange((x.size + 16383) // 16384):
        first = np.int64(t) * 16384
        x_t, y_t = x[first : first + 16384], y[first : first + 16384]
        for i in range(x_t.size):
            y_t[i] = zero if x_t[i] < 0 else x_t[i]


@kernel(parallel=lambda dy, y, dx: y.size >= 1 << 16)
def relu_backward(dy: Array, y: Array, dx: Array) -> None:
    """dx = 0 where y <= 0, else dy.  Flat arrays of one length (so NaN passes through)."""
    zero = y.dtype.type(0)
    for t in prange((y.size + 16383) // 16384):
        first = np.int64(t) * 16384
        dy_t, y_t, dx_t = dy[first : first + 16384], y[first : first + 16384], dx[first : first + 16384]
        for i in range(y_t.size):
            dx_t[i] = zero if y_t[i] <= 0 else dy_t[i]


@op
def relu(x: ArrayLike) -> Result:
    """y = max(0, x).   dL/dx = dL/dy where y > 0, else 0 (so 0 at x = 0)      x: any shape, float"""
    x = floating(x)
    y = np.empty_like(x, order="C")
    relu_forward(kernel_array(x, x.dtype).reshape(-1), y.reshape(-1))

    def gradient(dy: Array) -> Array:
        dx: Array = np.empty_like(y)
        relu_backward(kernel_array(dy, y.dtype).reshape(-1), y.reshape(-1), dx.reshape(-1))
        return dx

    return y, (gradient,)


@op
def leaky_relu(x: ArrayLike, negative_slope: float = 0.01) -> Result:
    """y = x where x > 0, else s·x, s the negative slope.   dL/dx = dL/dy, or s·dL/dy where x ≤ 0      x: float"""
    x, negative_slope = floating(x), number(negative_slope, "negative_slope")
    below = negative_slope * x if is_traced(negative_slope) or negative_slope else 0  # of −∞ too
    return np.where(x <= 0, below, x), (lambda dy: np.where(x <= 0, negative_slope * dy, dy),)


@op
def elu(x: ArrayLike, alpha: float = 1.0) -> Result:
    """y = x where x > 0, else α(eˣ − 1).   dL/dx = dL/dy, or dL/dy · αeˣ where x ≤ 0      x: float

    Clevert et al. 2016, eq. 15.
    """
    x, alpha = floating(x), number(alpha, "alpha")
    below = np.minimum(x, 0)
    y = np.where(x <= 0, alpha * np.expm1(below), x)
    return y, (lambda dy: np.where(x <= 0, dy * (alpha * np.exp(below)), dy),)  # y + α would cancel


@op
def sigmoid(x: ArrayLike) -> Result:
    """y = 1 / (1 + e⁻ˣ).   dL/dx = dL/dy · y(1 − y)      x: float; exact in both tails"""
    x = floating(x)
    e = np.exp(-np.abs(x))  # never overflows
    y = np.where(x < 0, e, 1) / (1 + e)
    return y, (lambda dy: dy * (e / np.square(1 + e)),)


@op
def silu(x: ArrayLike) -> Result:
    """y = x·σ(x), σ the sigmoid.   dL/dx = dL/dy · σ(1 + x(1 − σ))      x: float      Elfwing et al. 2018"""
    x = floating(x)
    e = np.exp(-np.abs(x))
    s = np.where(x < 0, e, 1) / (1 + e)
    slope = s + np.where(e == 0, 0, x * (e / np.square(1 + e)))
    return np.where(s == 0, 0, x * s), (lambda dy: dy * slope,)


@op
def softplus(x: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Result:
    """y = ln(1 + e^βx) / β, and x itself where βx > threshold.   dL/dx = dL/dy · σ(βx), there dL/dy      x: float"""
    x, beta, threshold = floating(x), number(beta, "beta"), number(threshold, "threshold")
    z = beta * x
    e = np.exp(-np.abs(z))
    linear = z > threshold
    y = np.where(linear, x, (np.maximum(z, 0) + np.log1p(e)) / beta)
    return y, (lambda dy: np.where(linear, dy, dy * (np.where(z < 0, e, 1) / (1 + e))),)


@kernel(fma=True, parallel=lambda x, y: x.size >= 1 << 14)
def gelu_forward(x: Array, y: Array) -> None:
    """y = x·Φ(x), Φ the normal distribution.  Flat arrays of one length.

    In float32 Φ(x) is 1/2 + x·P(x²)/Q(x²) within 2e-7, a minimax fit on |x| ≤ 5.5, and beyond that 0 or 1.
    """
    zero, half, one, end = np.float32(0), np.float32(0.5), np.float32(1), np.float32(5.5)
    for t in prange((x.size + 4095) // 4096):
        first = np.int64(t) * 4096
        x_t, y_t = x[first : first + 4096], y[first : first + 4096]
        if x.itemsize == 4:
            for i in range(x_t.size):
                v = x_t[i]
                z = v * v
                p = np.float32(2.27493616e-08) * z + np.float32(6.35212771e-06)
                p = p * z + np.float32(0.000168826584)
                p = p * z + np.float32(0.00467726617)
                p = p * z + np.float32(0.0338527322)
                p = p * z + np.float32(0.398942235)
                q = np.float32(1.19750455e-06) * z + np.float32(7.36478136e-05)
                q = q * z + np.float32(0.00188444994)
                q = q * z + np.float32(0.0286459214)
                q = q * z + np.float32(0.251522134)
                q = q * z + one
                part = v * p / q + half
                part = one if v > end else part
                y_t[i] = zero if v < -end else v * part
        else:
            for i in range(x_t.size):
                part = math.erfc(-x_t[i] * 0.7071067811865476)
                y_t[i] = 0.0 if part == 0 else x_t[i] * 0.5 * part


@kernel(fma=True, parallel=lambda dy, x, dx: x.size >= 1 << 14)
def gelu_backward(dy: Array, x: Array, dx: Array) -> None:
    """dx = dy·(Φ(x) + x·φ(x)), φ the normal density.  Flat arrays of one length; float32: fitted, to |x| ≤ 5.8."""
    zero, half, one, end = np.float32(0), np.float32(0.5), np.float32(1), np.float32(5.8)
    for t in prange((x.size + 4095) // 4096):
        first = np.int64(t) * 4096
        x_t, dy_t, dx_t = x[first : first + 4096], dy[first : first + 4096], dx[first : first + 4096]
        if x.itemsize == 4:
            for i in range(x_t.size):
                v = x_t[i]
                z = v * v
                p = np.float32(1.00623623e-10) * z + np.float32(1.66532584e-07)
                p = p * z + np.float32(3.50168808e-05)
                p = p * z + np.float32(1.04235935e-05)
                p = p * z + np.float32(0.0142075855)
                p = p * z - np.float32(0.0317013607)
                p = p * z + np.float32(0.797885204)
                q = np.float32(8.43310972e-06) * z + np.float32(0.000188090138)
                q = q * z + np.float32(0.00346812463)
                q = q * z + np.float32(0.0406599557)
                q = q * z + np.float32(0.293608274)
                q = q * z + one
                slope = v * p / q + half
                slope = one if v > end else slope
                dx_t[i] = dy_t[i] * (zero if v < -end else slope)
        else:
            for i in range(x_t.size):
                w = np.float64(x_t[i])
                density = 0.3989422804014327 * math.exp(-0.5 * w * w)
                part = 0.5 * math.erfc(w * -0.7071067811865476)
                dx_t[i] = dy_t[i] * (part + (density if density == 0 else w * density))


@op
def gelu(x: ArrayLike, approximate: str = "none") -> Result:
    """y = x·Φ(x), Φ the standard normal distribution.   dL/dx = dL/dy · (Φ(x) + x·φ(x))      x: float

    approximate="tanh": y = x/2 · (1 + tanh(√(2/π)(x + 0.044715x³))).      Hendrycks and Gimpel 2016
    """
    x = floating(x)
    if approximate == "tanh":
        c = math.sqrt(2 / math.pi)
        u = 2 * c * (x + 0.044715 * x * x * x)
        e = np.exp(-np.abs(u))
        s = np.where(u < 0, e, 1) / (1 + e)  # σ(u) = (1 + tanh(u/2)) / 2, without its cancellation
        slope = 2 * c * (1 + 3 * 0.044715 * x * x)
        slope = s + np.where(e == 0, 0, x * slope * (e / np.square(1 + e)))
        return np.where(s == 0, 0, x * s), (lambda dy: dy * slope,)
    if approximate != "none":
        raise ValueError(f'expected approximate "none" or "tanh", found {approximate!r}')
    flat = kernel_array(x, x.dtype).reshape(-1)
    y = np.empty_like(x, order="C")
    gelu_forward(flat, y.reshape(-1))

    def gradient(dy: Array) -> Array:
        dx: Array = np.empty_like(x, order="C")
        gelu_backward(kernel_array(dy, x.dtype).reshape(-1), flat, dx.reshape(-1))
        return dx

    return y, (gradient,)


def _along(x: Array, dim: int) -> int:
    """The non-negative form of `dim`. ValueError if x is empty along it."""
    dim = int(np.lib.array_utils.normalize_axis_index(dim, x.ndim, "dim"))
    if x.shape[dim] == 0:
        raise ValueError(f"expected at least one element along dim {dim}, found shape {x.shape}")
    return dim


@kernel(fma=True, parallel=lambda x, y: x.size >= 1 << 14)
def softmax_forward(x: Array, y: Array) -> None:
    """y[n, j] = e^(x[n, j] − max x[n]) / Σⱼ the same.   (N, C), C > 0; NaN in a row makes it NaN

    The maximum and the sum (in float64) each run in four independent chains.
    """
    count, columns = x.shape
    whole = columns // 4 * 4
    for t in prange((count + 15) // 16):
        for n in range(np.int64(t) * 16, min(np.int64(t) * 16 + 16, count)):
            x_n, y_n = x[n], y[n]
            top = x_n[0]
            top1, top2, top3 = top, top, top
            for j in range(0, whole, 4):
                top = top if x_n[j] <= top else x_n[j]
                top1 = top1 if x_n[j + 1] <= top1 else x_n[j + 1]
                top2 = top2 if x_n[j + 2] <= top2 else x_n[j + 2]
                top3 = top3 if x_n[j + 3] <= top3 else x_n[j + 3]
            for j in range(whole, columns):
                top = top if x_n[j] <= top else x_n[j]
            top = max(max(top, top1), max(top2, top3))
            if x.itemsize == 4:
                for j in range(columns):
                    y_n[j] = exp_float32(x_n[j] - top)
            else:
                for j in range(columns):
                    y_n[j] = exp_float64(x_n[j] - top)
            total = np.float64(0)
            total1, total2, total3 = total, total, total
            for j in range(0, whole, 4):
                total += y_n[j]
                total1 += y_n[j + 1]
                total2 += y_n[j + 2]
                total3 += y_n[j + 3]
            for j in range(whole, columns):
                total += y_n[j]
            scale = x.dtype.type(1.0 / ((total + total1) + (total2 + total3)))
            for j in range(columns):
                y_n[j] *= scale


@kernel(fma=True, parallel=lambda dy, y, dx: y.size >= 1 << 14)
def softmax_backward(dy: Array, y: Array, dx: Array) -> None:
    """dx[n, j] = y[n, j]·(dy[n, j] − Σⱼ dy·y).   (N, C); the sum in float64, in four chains"""
    count, columns = y.shape
    whole = columns // 4 * 4
    for t in prange((count + 15) // 16):
        for n in range(np.int64(t) * 16, min(np.int64(t) * 16 + 16, count)):
            dy_n, y_n, dx_n = dy[n], y[n], dx[n]
            total = np.float64(0)
            total1, total2, total3 = total, total, total
            for j in range(0, whole, 4):
                total += dy_n[j] * y_n[j]
                total1 += dy_n[j + 1] * y_n[j + 1]
                total2 += dy_n[j + 2] * y_n[j + 2]
                total3 += dy_n[j + 3] * y_n[j + 3]
            for j in range(whole, columns):
                total += dy_n[j] * y_n[j]
            mean = y.dtype.type((total + total1) + (total2 + total3))
            for j in range(columns):
                dx_n[j] = y_n[j] * (dy_n[j] - mean)


@op
def softmax(x: ArrayLike, dim: int = -1) -> Result:
    """yᵢ = e^xᵢ / Σⱼ e^xⱼ along dim.   dL/dx = y · (dL/dy − Σⱼ dL/dyⱼ·yⱼ)      x: float"""
    x = floating(x)
    dim = _along(x, dim)
    moved = np.moveaxis(x, dim, -1)

    def rows(values: Array) -> Array:
        return kernel_array(np.moveaxis(values, dim, -1), x.dtype).reshape(x.size // x.shape[dim], x.shape[dim])

    y = np.empty((x.size // x.shape[dim], x.shape[dim]), x.dtype, like=x)
    softmax_forward(rows(x), y)

    def gradient(dy: Array) -> Array:
        dx: Array = np.empty_like(y)
        softmax_backward(rows(dy), y, dx)
        return np.moveaxis(dx.reshape(moved.shape), -1, dim)

    return np.moveaxis(y.reshape(moved.shape), -1, dim), (gradient,)


@op
def log_softmax(x: ArrayLike, dim: int = -1) -> Result:
    """yᵢ = xᵢ − ln Σⱼ e^xⱼ along dim.   dL/dx = dL/dy − eʸ · Σⱼ dL/dyⱼ      x: float"""
    x = floating(x)
    dim = _along(x, dim)
    z = as_array(x - np.max(x, axis=dim, keepdims=True))
    y = as_array(z - np.log(np.sum(np.exp(z), axis=dim, keepdims=True, dtype=np.float64)), dtype=z.dtype)
    return y, (lambda dy: dy - np.exp(y) * np.sum(dy, axis=dim, keepdims=True),)
