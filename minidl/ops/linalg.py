"""The matrix product, and ops built on it.

`matmul_forward` cuts C into panels, which threads divide up; `matmul_panel` computes one panel, at most 160 terms at a
time, so that the part of B that it needs stays in the L1 cache; `matmul_tile` computes 24 rows of it. Each element of C
is a chain of fused multiply-adds in the order of k, restarted for each block (so that float32 keeps its digits over
long sums). The chain depends on neither the panel nor the thread, so neither do its bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, one_dtype
from minidl.tensor import Array, ArrayLike, op

ROWS, TERMS = 24, 160
WIDTH = 256  # bytes of a row of C that a panel covers: 64 columns in float32, 32 in float64


def _emitted_tile() -> Any:
    """The intrinsic for this processor, or None."""
    from minidl.ops import tile, vectors

    return tile.matmul_tile if vectors.vector_bytes() else None


@kernel(fma=True, emitted=_emitted_tile)
def matmul_tile(
    a: Array, a_at: int, a_row: int, a_column: int, b: Array, b_at: int, b_row: int, kept: Array, keep: bool,
    c: Array, c_at: int, c_row: int, terms: int, rows: int, columns: int, accumulate: bool,
) -> None:  # fmt: skip
    """c[i, j] = Σₖ a[i, k]·b[k, j], or += if `accumulate`, for i < rows ≤ 24, j < columns ≤ 64 (32), k < terms.

    Arrays are flat: a[i, k] is at a_at + i·a_row + k·a_column, b[k, j] at b_at + k·b_row + j, c[i, j] at
    c_at + i·c_row + j. If `keep`, B is copied on the way to the start of `kept`, with rows of 256 bytes.
    """
    width = WIDTH // b.itemsize
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
    if keep:
        for k in range(terms):
            kept[k * width : k * width + columns] = b[b_at + k * b_row : b_at + k * b_row + columns]


def worth_threads(multiply_adds: int) -> bool:
    """Whether this is more than about 20 µs of work, below which waking a thread does not pay."""
    return multiply_adds >= 1 << 19


@kernel
def aligned(size: int, like: Array) -> Array:
    """An uninitialised flat array of `like`'s dtype, aligned to cache lines so that no vector straddles two."""
    line = 64 // like.itemsize
    raw = np.empty(size + line, like.dtype)
    skip = (-(raw.ctypes.data // like.itemsize)) % line
    return raw[skip : skip + size]


@kernel
def block_terms(terms: int) -> int:
    """How many terms are summed at a time: equal blocks of at most 160."""
    parts = max(1, (terms + TERMS - 1) // TERMS)
    return max(1, (terms + parts - 1) // parts)


@kernel
def matmul_plan(height: int, width: int, turned: bool, itemsize: int) -> tuple[bool, int, int]:
    """(whether A is packed first, rows and columns of the threads' panels) for a product height × width.

    A is packed if its columns are far apart.
    """
    columns = WIDTH // itemsize
    return turned and height > ROWS and width > columns, 22 * ROWS if width > 4 * columns else 6 * ROWS, columns


@kernel
def pack_columns(
    a: Array, at: int, column: int, k: int, count: int, terms: int, rows: int, height: int, left: Array
) -> None:
    """Copy columns k to k + count of a transposed A into the order in which `matmul_panel` reads them.

    Blocks of terms, each split by 24 rows, each of these by terms: (height / 24, block, 24) at a time.
    """
    block = block_terms(terms)
    for q in range(k, k + count):
        first = q // block * block
        length = min(block, terms - first)
        source = a[at + q * column : at + q * column + rows]
        to = first * height + (q - first) * ROWS
        for i in range(0, rows - ROWS + 1, ROWS):
            s, t = source[i : i + ROWS], left[to + i * length : to + i * length + ROWS]
            for r in range(ROWS):
                t[r] = s[r]
        for i in range(rows // ROWS * ROWS, rows):
            left[to + rows // ROWS * ROWS * length + i - rows // ROWS * ROWS] = source[i]


@kernel(fma=True, linked=True)
def matmul_panel(
    a: Array, a_at: int, a_row: int, a_column: int, height: int, packed: bool,
    b: Array, b_at: int, b_row: int, c: Array, c_at: int, c_row: int,
    terms: int, i: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """c[r, j] = Σₖ a[i + r, k]·b[k, j] for r < rows, j < columns ≤ 64 (32); arrays flat, as for `matmul_tile`.

    If `packed`, A is laid out by `pack_columns`, with `height` rows.
    """
    width = WIDTH // b.itemsize
    several = rows > ROWS
    block = block_terms(terms)
    kept = aligned(block * width, b) if several else b
    for first in range(0, max(terms, 1), block):
        length = min(block, terms - first)
        source, b_here, b_k = b, b_at + first * b_row, b_row
        for r in range(0, rows, ROWS):
            here, row, column = a_at + first * a_column + (i + r) * a_row, a_row, a_column
            if packed:
                here, row, column = a_at + first * height + (i + r) * length, 1, ROWS
            matmul_tile(
                a, here, row, column, source, b_here, b_k, kept, several and r == 0,
                c, c_at + r * c_row, c_row, length, min(ROWS, rows - r), columns, first > 0,
            )  # fmt: skip
            if several:
                source, b_here, b_k = kept, 0, width


@kernel(fma=True, linked=True)
def matmul_rows(
    a: Array, a_at: int, a_row: int, a_column: int, b: Array, b_at: int, b_row: int,
    c: Array, c_at: int, c_row: int, terms: int, rows: int, columns: int, accumulate: bool,
) -> None:  # fmt: skip
    """`matmul_tile` for any number of rows. B is not copied: terms · columns should fit in the L1 cache."""
    for r in range(0, rows, ROWS):
        matmul_tile(
            a, a_at + r * a_row, a_row, a_column, b, b_at, b_row, b, False,
            c, c_at + r * c_row, c_row, terms, min(ROWS, rows - r), columns, accumulate,
        )  # fmt: skip


@kernel(fma=True, parallel=lambda a, a_batch, a_row, a_column, b, b_batch, c: worth_threads(c.size * b.shape[-2]))
def matmul_forward(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """c[n, i, j] = Σₖ a[n, i, k]·b[n, k, j]   where a[n, i, k] is the element n·a_batch + i·a_row + k·a_column of a.

    a, b (…, K, N), c (…, M, N): C order, of 2 or 3 axes. A is addressed by strides, so transposing it costs
    little; b_batch is K·N, or 0 if all share one B.
    """
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    a_flat, b_flat, c_flat = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    batch, (packed, tall, wide) = c.size // (height * width), matmul_plan(height, width, a_row == 1, c.itemsize)
    tiles = (height + ROWS - 1) // ROWS
    left = aligned(batch * tiles * ROWS * terms if packed else 0, a)
    parts = (terms + 15) // 16
    for t in prange(batch * parts if packed else 0):
        n, k = np.int64(t) // parts, np.int64(t) % parts * 16
        count, target = min(16, terms - k), left[n * tiles * ROWS * terms :]
        pack_columns(a_flat, n * a_batch, a_column, k, count, terms, height, tiles * ROWS, target)
    down, across = (height + tall - 1) // tall, (width + wide - 1) // wide
    for t in prange(batch * down * across):
        n, i, j = np.int64(t) // (down * across), np.int64(t) // across % down * tall, np.int64(t) % across * wide
        b_at, c_at = n * b_batch + j, (n * height + i) * width + j
        rows, columns = min(tall, height - i), min(wide, width - j)
        source, a_at = (left, n * tiles * ROWS * terms) if packed else (a_flat, n * a_batch)
        matmul_panel(
            source, a_at, a_row, a_column, tiles * ROWS, packed, b_flat, b_at, width,
            c_flat, c_at, width, terms, i, rows, columns,
        )  # fmt: skip


@kernel(parallel=lambda x, y: x.size >= 1 << 16)
def transpose_copy(x: Array, y: Array) -> None:
    """y[n, j, i] = x[n, i, j], in 16 × 16 blocks, whose cache lines stay in cache.   C order"""
    down, across = (x.shape[1] + 15) // 16, (x.shape[2] + 15) // 16
    for t in prange(x.shape[0] * across):
        n, first = np.int64(t) // across, np.int64(t) % across * 16
        for i in range(0, down * 16, 16):
            for j in range(first, min(first + 16, x.shape[2])):
                source, target = x[n, i : i + 16, j], y[n, j, i : i + 16]
                for q in range(target.size):
                    target[q] = source[q]


def _rows(b: Array, dtype: np.dtype[Any]) -> Array:
    """`b` as from `kernel_array`, but faster if it is transposed."""
    turned = b.swapaxes(-1, -2)
    if b.flags.carray or not turned.flags.carray or b.dtype is not dtype or b.size < 1 << 14:
        return kernel_array(b, dtype)
    y = np.empty(b.shape, dtype, like=b)
    transpose_copy(turned.reshape(-1, *turned.shape[-2:]), y.reshape(-1, *b.shape[-2:]))
    return y


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
    c = np.empty((*a.shape[:-2], height, columns), dtype, like=a)
    if c.size:
        b = _rows(b, dtype)
        matmul_forward(a, height * terms, row, column, b, terms * columns if b.ndim > 2 else 0, c)
    return c if c.shape == shape else c.reshape(shape)


@op
def matmul(a: ArrayLike, b: ArrayLike) -> Result:
    """y = a @ b.   dL/da = dL/dy @ bᵀ,  dL/db = aᵀ @ dL/dy      a (…, M, K), b (…, K, N): float; y (…, M, N)

    As `np.matmul`: leading axes broadcast; a vector is a row on the left, a column on the right, and that axis is
    dropped.

    >>> ops.matmul(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])).numpy()
    array([21., 43.])
    """
    a, b = floating(a, "a"), floating(b, "b")
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"expected arrays of at least one axis, found shapes {a.shape} and {b.shape}")
    left = a if a.ndim > 1 else a[None, :]
    right = b if b.ndim > 1 else b[:, None]
    if left.shape[-1] != right.shape[-2]:
        raise ValueError(f"expected a (…, M, K) and b (…, K, N), found shapes {a.shape} and {b.shape}")
    dropped = (-2,) * (a.ndim == 1) + (-1,) * (b.ndim == 1)
    joint = left.ndim > 2 and right.ndim == 2  # one matrix for the whole batch: the batch is just more rows
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
