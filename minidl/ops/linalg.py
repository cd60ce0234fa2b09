"""The matrix product, and what is made of it.

`matmul_forward` cuts C into panels of 132 rows × 64 columns, which threads share out; `matmul_panel` adds up
one panel in blocks of 256 terms, whose part of B it copies together so that it stays in the second-level
cache; `matmul_tile` adds up 6 rows of such a block. Each element of C is a chain of fused multiply-adds in
the order of k, begun anew every 256 terms (so that float32 keeps its digits over long sums). The chain
depends neither on the panel nor on the thread, so neither do its bits.
"""

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


@kernel(fma=True)
def matmul_panel(
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
) -> None:
    """c[i, j] = Σₖ a[i, k]·b[k, j] for i < rows, j < columns ≤ 64; arrays flat, as for `matmul_tile`."""
    packed = rows > 2 * ROWS  # or it is not worth copying
    block = np.empty(min(TERMS, terms) * COLUMNS, b.dtype) if packed else b
    for first in range(0, max(terms, 1), TERMS):
        length = min(TERMS, terms - first)
        at, step = b_at + first * b_row, b_row
        if packed:
            for k in range(length):
                source, target = (
                    b[at + k * b_row : at + k * b_row + columns],
                    block[k * COLUMNS : k * COLUMNS + columns],
                )
                for j in range(columns):
                    target[j] = source[j]
            at, step = 0, COLUMNS
        for i in range(0, rows, ROWS):
            a_i, c_i = a_at + i * a_row + first * a_column, c_at + i * c_row
            height = min(ROWS, rows - i)
            matmul_tile(a, a_i, a_row, a_column, block, at, step, c, c_i, c_row, length, height, columns, first > 0)


@kernel(fma=True, parallel=lambda a, a_batch, a_row, a_column, b, b_batch, c: worth_threads(c.size * b.shape[-2]))
def matmul_forward(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """c[n, i, j] = Σₖ a[n, i, k]·b[n, k, j], with a[n, i, k] the element n·a_batch + i·a_row + k·a_column of a.

    a, b (…, K, N), c (…, M, N): C order, of 2 or 3 axes. A is addressed by strides, so that transposing it costs
    nothing; b_batch is K·N, or 0 where all share one B.
    """
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    a_flat, b_flat, c_flat = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    batch, down, across = c.size // (height * width), (height + PANEL - 1) // PANEL, (width + COLUMNS - 1) // COLUMNS
    for t in prange(batch * down * across):
        n, i, j = np.int64(t) // (down * across), np.int64(t) // across % down * PANEL, np.int64(t) % across * COLUMNS
        a_at, b_at, c_at = n * a_batch + i * a_row, n * b_batch + j, (n * height + i) * width + j
        rows, columns = min(PANEL, height - i), min(COLUMNS, width - j)
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
    """y[i, j] = a[i] · b[j] of the flattened arrays.   dL/da = dL/dy @ b,  dL/db = aᵀ @ dL/dy      float"""
    a, b = floating(a, "a"), floating(b, "b")
    row, column = a.reshape(-1, 1), b.reshape(1, -1)
    return row * column, (
        lambda dy: product(dy, column.T).reshape(a.shape),
        lambda dy: product(row.T, dy).reshape(b.shape),
    )
