"""The dense (fully connected, linear) layer, alone and fused with the ReLU that mostly follows it.

The weight has PyTorch's shape (O, I). Stored with I running slowest ("input-major"), as `nn.Dense` does,
xW and xᵀ·dy both read their right operand row by row and nothing need be copied.
"""

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, one_dtype
from minidl.ops.linalg import COLUMNS, PANEL, matmul_panel, product, worth_threads
from minidl.tensor import Array, ArrayLike, op


@kernel(fma=True, parallel=lambda x, w, b, rectify, y: worth_threads(x.size * w.shape[1]))
def dense_forward(x, w, b, rectify, y):
    """y = x·w + b, then 0 where that is negative if `rectify`.   x (N·I) flat, w (I, O), b (O), y (N, O)"""
    height, width = y.shape
    terms = w.shape[0]
    down, across = (height + PANEL - 1) // PANEL, (width + COLUMNS - 1) // COLUMNS
    w_flat, y_flat = w.reshape(-1), y.reshape(-1)
    zero = y.dtype.type(0)
    for t in prange(down * across):
        i, j = np.int64(t) // across * PANEL, np.int64(t) % across * COLUMNS
        rows, columns = min(PANEL, height - i), min(COLUMNS, width - j)
        at = i * width + j
        matmul_panel(x, i * terms, terms, 1, w_flat, j, width, y_flat, at, width, terms, rows, columns)
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
def dense_relu_dz(dy, y, dz):
    """dz = 0 where y <= 0, else dy: back through the ReLU, to before it.   All (N, O)"""
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        dy_i, y_i, dz_i = dy[i], y[i], dz[i]
        for j in range(y.shape[1]):
            dz_i[j] = zero if y_i[j] <= 0 else dy_i[j]


@kernel
def dense_db(dy, db):
    """db[j] = Σₙ dy[n, j], every 64 rows added up apart, so that float32 keeps its digits.   dy (N, O), db (O)"""
    sums = np.zeros(db.size, db.dtype)
    total = np.zeros(db.size, np.float64)
    for first in range(0, dy.shape[0], 64):
        sums[:] = 0
        for n in range(first, min(first + 64, dy.shape[0])):
            row = dy[n]
            for j in range(row.size):
                sums[j] += row[j]
        for j in range(db.size):
            total[j] += sums[j]
    for j in range(db.size):
        db[j] = total[j]


def _dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, rectify: bool) -> Result:
    x, w = floating(x), floating(weight, "weight")
    b = None if bias is None else floating(bias, "bias")
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ValueError(f"expected x (…, I) and weight (O, I), found shapes {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"expected bias ({w.shape[0]},), one for each output, found shape {b.shape}")
    dtype = one_dtype(x, w) if b is None else one_dtype(x, w, b)
    x2 = kernel_array(x, dtype).reshape(-1, w.shape[1])
    y = np.empty((x2.shape[0], w.shape[0]), dtype)
    offset = np.zeros(w.shape[0], dtype) if b is None else kernel_array(b, dtype)
    dense_forward(x2.reshape(-1), kernel_array(w.T, dtype), offset, rectify, y)
    latest: list[Array] = []  # [dy, dz] of the backward under way: three gradients share one dz

    def before_relu(dy: Array) -> Array:
        if not latest or latest[0] is not dy:
            dz = kernel_array(dy, dtype).reshape(y.shape)
            if rectify:
                dy2, dz = dz, np.empty_like(y)
                dense_relu_dz(dy2, y, dz)
            latest[:] = dy, dz
        return latest[1]

    def gradient_bias(dy: Array) -> Array:
        db = np.empty(w.shape[0], dtype)
        dense_db(before_relu(dy), db)
        return db

    return y.reshape(*x.shape[:-1], w.shape[0]), (
        lambda dy: product(before_relu(dy), w).reshape(x.shape),
        lambda dy: product(x2.T, before_relu(dy)).T,
        gradient_bias,
    )


@op
def dense(x: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Result:
    """y = x·Wᵀ + b.   dL/dx = dL/dy·W,  dL/dW = dL/dyᵀ·x,  dL/db = Σ dL/dy

    x (…, I), weight (O, I), bias (O,) or None: float32 or float64; y (…, O).
    """
    return _dense(x, weight, bias, rectify=False)


@op
def dense_relu(x: ArrayLike, weight: ArrayLike, bias: ArrayLike = None) -> Result:
    """y = max(0, z), z = x·Wᵀ + b.   dL/dz = dL/dy where y > 0, else 0;  dL/dx = dL/dz·W,  dL/dW = dL/dzᵀ·x,  dL/db = Σ dL/dz

    As `relu(dense(x, weight, bias))`, to the bit, in one pass over y. Shapes as for `dense`.
    """
    return _dense(x, weight, bias, rectify=True)
