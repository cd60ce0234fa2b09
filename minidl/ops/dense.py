"""The dense (fully connected, linear) layer, alone and fused with the ReLU that usually follows.

The weight has PyTorch's shape (O, I). Stored with I running slowest ("input-major"), as `nn.Dense` does,
xW and xᵀ·dy both read their right operand row by row, without a copy.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, one_dtype
from minidl.ops.joint import joint
from minidl.ops.linalg import matmul_panel, matmul_plan, product, worth_threads
from minidl.tensor import Array, ArrayLike, op


@kernel(fma=True, parallel=lambda x, w, b, rectify, y: worth_threads(x.size * w.shape[1]))
def dense_forward(x: Array, w: Array, b: Array, rectify: bool, y: Array) -> None:
    """y = x·w + b, then 0 where that is negative if `rectify`.   x (N, I), w (I, O), b (O), y (N, O)"""
    height, width = y.shape
    terms = w.shape[0]
    x_flat, w_flat, y_flat = x.reshape(-1), w.reshape(-1), y.reshape(-1)
    zero = y.dtype.type(0)
    _, tall, wide = matmul_plan(height, width, False, y.itemsize)
    down, across = (height + tall - 1) // tall, (width + wide - 1) // wide
    for t in prange(down * across):
        i, j = np.int64(t) // across * tall, np.int64(t) % across * wide
        rows, columns = min(tall, height - i), min(wide, width - j)
        at = i * width + j
        matmul_panel(x_flat, 0, terms, 1, height, False, w_flat, j, width, y_flat, at, width, terms, i, rows, columns)
        b_j = b[j : j + columns]
        for r in range(i, i + rows):
            y_r = y[r, j : j + columns]
            if rectify:
                for q in range(columns):
                    s = y_r[q] + b_j[q]
                    y_r[q] = zero if s < 0 else s  # so that NaN stays
            else:
                for q in range(columns):
                    y_r[q] += b_j[q]


@kernel
def dense_backward(dy: Array, y: Array, rectify: bool, dz: Array, db: Array) -> None:
    """dz = 0 where y <= 0, else dy (untouched unless `rectify`);  db[j] = Σₙ dz[n, j].   dy, y, dz (N, O), db (O)

    Rows are summed 16 at a time and these sums added in float64, so that float32 keeps its digits.
    """
    zero = db.dtype.type(0)
    sums = np.zeros(db.size, db.dtype)
    total = np.zeros(db.size, np.float64)
    for first in range(0, dy.shape[0], 16):
        sums[:] = 0
        for n in range(first, min(first + 16, dy.shape[0])):
            dy_n, y_n, dz_n = dy[n], y[n], dz[n]
            if rectify:
                for j in range(db.size):
                    dz_n[j] = zero if y_n[j] <= 0 else dy_n[j]
            for j in range(db.size):
                sums[j] += dz_n[j]
        for j in range(db.size):
            total[j] += sums[j]
    for j in range(db.size):
        db[j] = total[j]


def _dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, rectify: bool) -> Result:
    x, w = floating(x), floating(weight, "weight")
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"expected x (…, I) and weight (O, I), found shapes {x.shape} and {w.shape}")
    outputs, inputs = w.shape
    b = np.zeros(outputs, w.dtype) if bias is None else floating(bias, "bias")
    if b.shape != (outputs,):
        raise ValueError(f"expected bias ({outputs},), one for each output, found shape {b.shape}")
    dtype = one_dtype(x, w, b)
    shape = x.shape
    x = kernel_array(x, dtype)
    if x.ndim != 2:
        x = x.reshape(math.prod(shape[:-1]), inputs)
    y = np.empty((x.shape[0], outputs), dtype, like=x)
    dense_forward(x, kernel_array(w.T, dtype), kernel_array(b, dtype), rectify, y)

    def backward(dy: Array) -> tuple[Array, Array]:
        given = kernel_array(dy, dtype)
        if given.ndim != 2:
            given = given.reshape(y.shape)
        dz, db = np.empty_like(y) if rectify else given, np.empty(outputs, dtype, like=given)
        dense_backward(given, y, rectify, dz, db)
        return dz, db

    back = joint(backward)

    def gradient_x(dy: Array) -> Array:
        dx = product(back(dy)[0], w)
        return dx if len(shape) == 2 else dx.reshape(shape)

    gradients = (gradient_x, lambda dy: product(x.T, back(dy)[0]).T, lambda dy: back(dy)[1])
    return y if len(shape) == 2 else y.reshape(*shape[:-1], outputs), gradients


@op
def dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Result:
    """y = x·Wᵀ + b.   dL/dx = dL/dy·W,  dL/dW = dL/dyᵀ·x,  dL/db = Σ dL/dy

    x (…, I), weight (O, I), bias (O,) or None: float32 or float64; y (…, O).
    """
    return _dense(x, weight, bias, rectify=False)


@op
def dense_relu(x: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Result:
    """y = max(0, z), z = x·Wᵀ + b.   dL/dz = dL/dy where y > 0, else 0

    dL/dx = dL/dz·W,  dL/dW = dL/dzᵀ·x,  dL/db = Σ dL/dz. Bit for bit `relu(dense(x, weight, bias))`, in one
    pass over y. Shapes as for `dense`.
    """
    return _dense(x, weight, bias, rectify=True)
