"""The matrix product, rung by rung: five versions from the obvious loop to the one that minidl uses.

Each is a variant of `matmul_forward` with its arguments: c[n, i, j] = Σₖ a[n, i, k]·b[n, k, j], where a[n, i, k] is
the element n·a_batch + i·a_row + k·a_column of a. `minidl bench matmul_forward` checks and times them. The last
rung is `ops.linalg` itself, with its innermost part in `ops.tile`.
"""

from __future__ import annotations

from minidl.ops.linalg import matmul_forward
from minidl.tensor import Array


@matmul_forward.variant
def naive(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """Row by column, as in the formula. B is read down its columns: every step touches another cache line."""
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    x, y, z = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    for n in range(c.size // (height * width)):
        for i in range(height):
            for j in range(width):
                total = z.dtype.type(0)
                for k in range(terms):
                    total += x[n * a_batch + i * a_row + k * a_column] * y[n * b_batch + k * width + j]
                z[(n * height + i) * width + j] = total


@matmul_forward.variant
def reordered(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """j innermost: rows of B and C are read in order, and the loop becomes vector instructions."""
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    x, y, z = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    for n in range(c.size // (height * width)):
        for i in range(height):
            row = z[(n * height + i) * width : (n * height + i + 1) * width]
            row[:] = 0
            for k in range(terms):
                factor = x[n * a_batch + i * a_row + k * a_column]
                other = y[n * b_batch + k * width : n * b_batch + (k + 1) * width]
                for j in range(width):
                    row[j] += factor * other[j]


@matmul_forward.variant
def blocked(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """In blocks of 64 terms × 256 columns, so that a part of B stays in cache while all rows of A pass."""
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    x, y, z = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    z[:] = 0
    for n in range(c.size // (height * width)):
        for first in range(0, terms, 64):
            for left in range(0, width, 256):
                columns = min(256, width - left)
                for i in range(height):
                    start = (n * height + i) * width + left
                    row = z[start : start + columns]
                    for k in range(first, min(first + 64, terms)):
                        factor = x[n * a_batch + i * a_row + k * a_column]
                        start = n * b_batch + k * width + left
                        other = y[start : start + columns]
                        for j in range(columns):
                            row[j] += factor * other[j]


@matmul_forward.variant
def tiled(a: Array, a_batch: int, a_row: int, a_column: int, b: Array, b_batch: int, c: Array) -> None:
    """Four terms at a time: each sum is loaded and stored once per four products. The limit of plain source."""
    height, width, terms = c.shape[-2], c.shape[-1], b.shape[-2]
    x, y, z = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    whole = terms // 4 * 4
    for n in range(c.size // (height * width)):
        for i in range(height):
            row = z[(n * height + i) * width : (n * height + i + 1) * width]
            row[:] = 0
            at = n * a_batch + i * a_row
            for k in range(0, whole, 4):
                a0, a1 = x[at + k * a_column], x[at + (k + 1) * a_column]
                a2, a3 = x[at + (k + 2) * a_column], x[at + (k + 3) * a_column]
                start = n * b_batch + k * width
                b0, b1 = y[start : start + width], y[start + width : start + 2 * width]
                b2, b3 = y[start + 2 * width : start + 3 * width], y[start + 3 * width : start + 4 * width]
                for j in range(width):
                    row[j] = row[j] + a0 * b0[j] + a1 * b1[j] + a2 * b2[j] + a3 * b3[j]
            for k in range(whole, terms):
                factor, start = x[at + k * a_column], n * b_batch + k * width
                other = y[start : start + width]
                for j in range(width):
                    row[j] += factor * other[j]
