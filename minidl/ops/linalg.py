"""The matrix product, and what is made of it.

`matmul_forward` cuts C into panels of 132 rows, which threads share out; `matmul_panel` adds up one panel, 64
columns and 256 terms at a time, with the parts of A and B that it needs copied together so that they stay in
the second-level cache; `matmul_tile` adds up 6 rows of that. Each element of C is a chain of fused multiply-adds in
the order of k, begun anew every 256 terms (so that float32 keeps its digits over long sums). The chain
depends neither on the panel nor on the thread, so neither do its bits.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, one_dtype
from minidl.tensor import Array, ArrayLike, op

ROWS, COLUMNS, TERMS = 6, 64, 256
PANEL = 22 * ROWS


@kernel(fma=True, emitted="minidl.ops.tile")
def matmul_tile(
    a: Array,
    a_at: int,
    a_row: int,
    a_column: int,
    b: Array,
    b_at: int,
    b_row: int,
    c: Array,
    c_at: int,
    c_row: int,
    terms: int,
    rows: int,
    columns: int,
    accumulate: bool,
) -> None:
    """c[i, j] = Σₖ a[i, k]·b[k, j], or += if `accumulate`, for i < rows ≤ 6, j < columns, k < terms.

    Arrays are flat: a[i, k] stands at a_at + i·a_row + k·a_column, b[k, j] at b_at + k·b_row + j, c[i, j] at
    c_at + i·c_row + j.
    """
    sums = np.empty(columns, c.dtype)
    for i in range(rows):
        sums[:] = 0
        for k in range(terms):
            a_ik = a[a_at + i * a_row + k * a_column]
            b_k = b[b_at + k * b_row : b_at + k * b_row + columns]
            for j in range(columns):
                sums[j] = sums[j] + a_ik * b_k[j]
        c_i = c[c_at + i * c_row : c_at + i * c_row + columns]
        for j in range(columns):
            c_i[j] = c_i[j] + sums[j] if accumulate else sums[j]


def worth_threads(multiply_adds: int) -> bool:
    """Is this work of more than about 20 µs, below which waking a thread costs more than it does?"""
    return multiply_adds >= 1 << 19


@kernel
def copy(source: Array, target: Array) -> None:
    """target = source, flat and of one length: a loop that becomes vector instructions, where `=` is a call."""
    for i in range(source.size):
        target[i] = source[i]


@kernel(fma=True)
def matmul_panel(
    a: Array, a_at: int, a_row: int, a_column: int, b: Array, b_at: int, b_row: int, c: Array, c_at: int, c_row: int,
    terms: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """c[i, j] = Σₖ a[i, k]·b[k, j] for i < rows ≤ 132, j < columns; arrays flat, as for `matmul_tile`."""
    packed = rows > 2 * ROWS  # or it is not worth copying
    turned = packed and a_row == 1  # A is transposed: its columns stand pages apart
    left = np.empty(min(TERMS, terms) * PANEL, a.dtype) if turned else a
    right = np.empty(min(TERMS, terms) * COLUMNS, b.dtype) if packed else b
    for first in range(0, max(terms, 1), TERMS):
        length = min(TERMS, terms - first)
        a_first, a_i, a_k = a_at + first * a_column, a_row, a_column
        if turned:
            for k in range(length):
                at = a_first + k * a_column
                copy(a[at : at + rows], left[k * PANEL : k * PANEL + rows])
            a_first, a_i, a_k = 0, 1, PANEL
        for j in range(0, columns, COLUMNS):
            width = min(COLUMNS, columns - j)
            b_first, b_k = b_at + first * b_row + j, b_row
            if packed:
                for k in range(length):
                    at = b_first + k * b_row
                    copy(b[at : at + width], right[k * COLUMNS : k * COLUMNS + width])
                b_first, b_k = 0, COLUMNS
            for i in range(0, rows, ROWS):
                height, a_here, c_here = min(ROWS, rows - i), a_first + i * a_i, c_at + i * c_row + j
                matmul_tile(
                    left, a_here, a_i, a_k, right, b_first, b_k, c, c_here, c_row, length, height, width, first > 0
                )


@kernel
def panel_shape(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the panels of C that threads share out: whole rows of it once there are several panels."""
    return PANEL, width if height > 3 * PANEL else COLUMNS


@kernel(fma=True, parallel=lambda a, a_batch, a_row, a_column, b, b_batch, c: worth_threads(c.size * b.shape[-2]))
def matmul_forward(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """c[n, i, j] = Σₖ a[n, i, k]·b[n, k, j], with a[n, i, k] the element n·a_batch + i·a_row + k·a_column of a.

    a, b (…, K, N), c (…, M, N): C order, of 2 or 3 axes. A is addressed by strides, so that transposing it costs
    nothing; b_batch is K·N, or 0 where all share one B.
    """
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    a_flat, b_flat, c_flat = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    batch, (tall, wide) = c.size // (height * width), panel_shape(height, width)
    down, across = (height + tall - 1) // tall, (width + wide - 1) // wide
    for t in prange(batch * down * across):
        n, i, j = np.int64(t) // (down * across), np.int64(t) // across % down * tall, np.int64(t) % across * wide
        a_at, b_at, c_at = n * a_batch + i * a_row, n * b_batch + j, (n * height + i) * width + j
        rows, columns = min(tall, height - i), min(wide, width - j)
        matmul_panel(a_flat, a_at, a_row, a_column, b_flat, b_at, width, c_flat, c_at, width, terms, rows, columns)


def product(a: Array, b: Array) -> Array:
    """a @ b for float arrays (…, M, K) and (…, K, N), whose leading axes broadcast; A may be transposed for free."""
    dtype = one_dtype(a, b)
    (height, terms), columns = a.shape[-2:], b.shape[-1]
    shape: tuple[int, ...] = (height, columns)
    if a.ndim > 2 or b.ndim > 2:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, height, columns)
        count = math.prod(batch)
        a = np.broadcast_to(a, (*batch, height, terms)).reshape(count, height, terms)
        if b.ndim > 2:
            b = np.broadcast_to(b, (*batch, terms, columns)).reshape(count, terms, columns)
    if not a.flags.carray and (transposed := a.swapaxes(-1, -2)).flags.carray and transposed.dtype is dtype:
        a, row, column = transposed, 1, height
    else:
        a, row, column = kernel_array(a, dtype), terms, 1
    c = np.empty((*a.shape[:-2], height, columns), dtype)
    if c.size:
        b = kernel_array(b, dtype)
        matmul_forward(a, height * terms, row, column, b, terms * columns if b.ndim > 2 else 0, c)
    return c if c.shape == shape else c.reshape(shape)


@op
def matmul(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a @ b.   dL/da = dL/dy @ bᵀ,  dL/db = aᵀ @ dL/dy      a (…, M, K), b (…, K, N): float; y (…, M, N)

    As `np.matmul`: leading axes broadcast; a vector is a row on the left, a column on the right, and its axis is
    dropped.
    """
    a, b = floating(a, "a"), floating(b, "b")
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"expected arrays of at least one axis, found shapes {a.shape} and {b.shape}")
    left = a if a.ndim > 1 else a[None, :]
    right = b if b.ndim > 1 else b[:, None]
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"expected a (…, M, K) and b (…, K, N), found shapes {a.shape} and {b.shape}")
    dropped = (-2,) * (a.ndim == 1) + (-1,) * (b.ndim == 1)
    joint = left.ndim > 2 and right.ndim == 2  # one matrix for the whole batch: the batch is only more rows
    rows = left.reshape(math.prod(left.shape[:-1]), left.shape[-1]) if joint else left
    y = product(rows, right)
    full = (*left.shape[:-1], right.shape[-1]) if joint else y.shape

    def back(dy: Array) -> Array:
        return np.expand_dims(dy, dropped).reshape(y.shape)

    def gradient_a(dy: Array) -> Array:
        da = product(back(dy), np.swapaxes(right, -1, -2))
        return da.reshape(a.shape) if joint else da

    def gradient_b(dy: Array) -> Array:
        db = product(np.swapaxes(rows, -1, -2), back(dy))
        return db[..., 0] if b.ndim == 1 else db

    return np.squeeze(y.reshape(full), dropped), (gradient_a, gradient_b)


@op
def outer(a: ArrayLike, b: ArrayLike) -> Result:
    """y[i, j] = a[i] · b[j] of the flattened arrays.   dL/da = Σⱼ dL/dy · b,  dL/db = Σᵢ dL/dy · a      float"""
    a, b = floating(a, "a"), floating(b, "b")
    row, column = a.reshape(-1, 1), b.reshape(1, -1)
    return row * column, (
        lambda dy: np.sum(dy * column, axis=1, dtype=np.float64).reshape(a.shape),
        lambda dy: np.sum(dy * row, axis=0, dtype=np.float64).reshape(b.shape),
    )
