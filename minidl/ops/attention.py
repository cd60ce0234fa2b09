"""Attention: each query gets the mean of the values, weighted by how well their keys match (Vaswani et al. 2017).

The weights are stored transposed, P[n, j, i] for key j and query i, so that the softmax of a block of 64 queries
(32 in float64) runs over rows of vectors, and only two of the six matrix products need a small transposed copy.
Threads divide up blocks of queries and, for the gradients of keys and values, blocks of keys.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.elementwise import Result
from minidl.ops.exponential import exp_float32, exp_float64
from minidl.ops.inputs import floating, kernel_array, number, one_dtype
from minidl.ops.joint import joint
from minidl.ops.linalg import ROWS, WIDTH, block_terms, matmul_tile, product, worth_threads
from minidl.tensor import Array, ArrayLike, as_array, op


@kernel
def transposed_block(x: Array, first: int, count: int, factor: float, y: Array) -> None:
    """y[e, i] = factor · x[first + i, e]  for i < count.   x (L, E), y (E, ≥ count)"""
    times = y.dtype.type(factor)
    for i in range(count):
        x_i = x[first + i]
        for e in range(x.shape[1]):
            y[e, i] = times * x_i[e]


@kernel(fma=True, linked=True)
def matmul_strip(
    a: Array, a_at: int, a_row: int, a_column: int, b: Array, b_at: int, b_row: int, c: Array, c_at: int, c_row: int,
    terms: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """`matmul_panel` for a B that is small and compact: it stays in cache without being copied."""
    block = block_terms(terms)
    for first in range(0, max(terms, 1), block):
        matmul_tile(
            a, a_at + first * a_column, a_row, a_column, b, b_at + first * b_row, b_row, b, False,
            c, c_at, c_row, min(block, terms - first), rows, columns, first > 0,
        )  # fmt: skip


@kernel
def softmax_columns(p: Array, first: int, columns: int, rows: int, top: Array, total: Array, part: Array) -> None:
    """Softmax over j < rows of p[j, first : first + columns], 0 where all are −∞; then p[j] = 0 for j ≥ rows.

    Rows are summed 16 at a time and these sums added in float64, so that float32 keeps its digits.
    """
    zero, lowest = p.dtype.type(0), p.dtype.type(-np.inf)
    top[:columns] = lowest
    for j in range(rows):
        p_j = p[j, first : first + columns]
        for i in range(columns):
            top[i] = top[i] if p_j[i] <= top[i] else p_j[i]
    for i in range(columns):
        top[i] = zero if top[i] == lowest else top[i]
    total[:columns] = 0
    for start in range(0, rows, 16):
        part[:columns] = 0
        for j in range(start, min(start + 16, rows)):
            p_j = p[j, first : first + columns]
            if p.itemsize == 4:
                for i in range(columns):
                    e = exp_float32(p_j[i] - top[i])
                    p_j[i] = e
                    part[i] += e
            else:
                for i in range(columns):
                    d = exp_float64(p_j[i] - top[i])
                    p_j[i] = d
                    part[i] += d
        for i in range(columns):
            total[i] += part[i]
    for i in range(columns):
        part[i] = zero if total[i] == 0 else 1 / total[i]
    for j in range(rows):
        p_j = p[j, first : first + columns]
        for i in range(columns):
            p_j[i] *= part[i]
    for j in range(rows, p.shape[0]):
        p[j, first : first + columns] = 0


@kernel(linked=True)
def attend(
    q: Array, k: Array, v: Array, bias: Array, batch: int, row: int, causal: bool, scale: float,
    n: int, first: int, p: Array, y: Array,
) -> None:  # fmt: skip
    """`attention_forward` for a block of queries from `first` on."""
    queries, keys, width, size, values = q.shape[1], k.shape[1], WIDTH // q.itemsize, q.shape[2], v.shape[2]
    p_flat = p.reshape(-1)
    columns = min(width, queries - first)
    rows = min(keys, first + columns) if causal else keys
    turned = np.empty((size, width), q.dtype)
    transposed_block(q[n], first, columns, scale, turned)
    p_n, p_at = p[n], n * keys * queries + first
    matmul_strip(
        k.reshape(-1), n * keys * size, size, 1, turned.reshape(-1), 0, width,
        p_flat, p_at, queries, size, rows, columns,
    )  # fmt: skip
    if bias.size > 0:
        for j in range(rows):
            p_j = p_n[j, first : first + columns]
            at = n * batch + first * row + j
            for i in range(columns):
                p_j[i] += bias[at + i * row]
    if causal:
        for j in range(first, rows):
            p_n[j, first : first + min(j - first, columns)] = -np.inf
    top, part, total = np.empty(width, q.dtype), np.empty(width, q.dtype), np.empty(width, np.float64)
    softmax_columns(p_n, first, columns, rows, top, total, part)
    for j in range(0, values, width):
        matmul_strip(
            p_flat, p_at, 1, queries, v.reshape(-1), n * keys * values + j, values,
            y.reshape(-1), (n * queries + first) * values + j, values, rows, columns, min(width, values - j),
        )  # fmt: skip


@kernel(
    parallel=lambda q, k, v, bias, batch, row, causal, scale, p, y: worth_threads(p.size * (q.shape[2] + v.shape[2]))
)
def attention_forward(
    q: Array, k: Array, v: Array, bias: Array, batch: int, row: int, causal: bool, scale: float, p: Array, y: Array
) -> None:
    """p[n, j, i] = softmaxⱼ(scale·q[n, i]·k[n, j] + bias[n·batch + i·row + j]),  y[n, i] = Σⱼ p[n, j, i]·v[n, j]

    q (N, L, E), k (N, S, E), v (N, S, F), p (N, S, L), y (N, L, F); bias flat, none if its size is 0. If
    `causal`, keys j > i are left out.
    """
    width = WIDTH // q.itemsize
    blocks = (q.shape[1] + width - 1) // width
    for t in prange(q.shape[0] * blocks):
        attend(q, k, v, bias, batch, row, causal, scale, np.int64(t) // blocks, np.int64(t) % blocks * width, p, y)


@kernel(linked=True)
def attend_back(
    dy: Array, q: Array, k: Array, v: Array, causal: bool, scale: float, p: Array, n: int, first: int,
    ds: Array, dq: Array,
) -> None:  # fmt: skip
    """ds and dq of `attention_backward` for a block of queries from `first` on."""
    queries, keys, width, size, values = q.shape[1], k.shape[1], WIDTH // q.itemsize, q.shape[2], v.shape[2]
    ds_flat, factor = ds.reshape(-1), q.dtype.type(scale)
    columns = min(width, queries - first)
    rows = min(keys, first + columns) if causal else keys
    turned = np.empty((values, width), q.dtype)
    transposed_block(dy[n], first, columns, 1.0, turned)
    at = n * keys * queries + first
    matmul_strip(
        v.reshape(-1), n * keys * values, values, 1, turned.reshape(-1), 0, width,
        ds_flat, at, queries, values, rows, columns,
    )  # fmt: skip
    part, total = np.empty(width, q.dtype), np.zeros(width, np.float64)
    for start in range(0, rows, 16):
        part[:] = 0
        for j in range(start, min(start + 16, rows)):
            p_j, ds_j = p[n, j, first : first + columns], ds[n, j, first : first + columns]
            for i in range(columns):
                part[i] += p_j[i] * ds_j[i]
        for i in range(columns):
            total[i] += part[i]
    for i in range(columns):
        part[i] = total[i]
    for j in range(rows):
        p_j, ds_j = p[n, j, first : first + columns], ds[n, j, first : first + columns]
        for i in range(columns):
            ds_j[i] = factor * p_j[i] * (ds_j[i] - part[i])
    for j in range(rows, keys):
        ds[n, j, first : first + columns] = 0
    for j in range(0, size, width):
        matmul_strip(
            ds_flat, at, 1, queries, k.reshape(-1), n * keys * size + j, size,
            dq.reshape(-1), (n * queries + first) * size + j, size, rows, columns, min(width, size - j),
        )  # fmt: skip


@kernel(linked=True)
def weigh(weights: Array, x: Array, n: int, first: int, since: int, count: int, y: Array) -> None:
    """y[n, j] = Σᵢ weights[n, j, i]·x[n, i] over i ≥ since, for `count` rows j from `first` on."""
    queries, width, size = weights.shape[2], WIDTH // x.itemsize, x.shape[2]
    at = (n * weights.shape[1] + first) * queries + since
    for j in range(0, size, width):
        matmul_strip(
            weights.reshape(-1), at, queries, 1, x.reshape(-1), (n * queries + since) * size + j, size,
            y.reshape(-1), (n * y.shape[1] + first) * size + j, size, queries - since, count, min(width, size - j),
        )  # fmt: skip


@kernel(
    parallel=lambda dy, q, k, v, causal, scale, p, ds, dq, dk, dv: worth_threads(p.size * (q.shape[2] + v.shape[2]))
)
def attention_backward(
    dy: Array, q: Array, k: Array, v: Array, causal: bool, scale: float, p: Array,
    ds: Array, dq: Array, dk: Array, dv: Array,
) -> None:  # fmt: skip
    """ds[n, j, i] = scale·p·(dp − Σⱼ p·dp) with dp[n, j, i] = dy[n, i]·v[n, j];  dq = dsᵀ·k, dk = ds·q, dv = p·dy

    Shapes as for `attention_forward`; ds like p.
    """
    queries, keys, width, tall = q.shape[1], k.shape[1], WIDTH // q.itemsize, 6 * ROWS
    blocks, parts = (queries + width - 1) // width, (keys + tall - 1) // tall
    for t in prange(q.shape[0] * blocks):
        attend_back(dy, q, k, v, causal, scale, p, np.int64(t) // blocks, np.int64(t) % blocks * width, ds, dq)
    for t in prange(q.shape[0] * parts):
        n, first = np.int64(t) // parts, np.int64(t) % parts * tall
        count, since = min(tall, keys - first), min(first, queries) if causal else 0  # earlier queries see none of them
        weigh(ds, q, n, first, since, count, dk)
        weigh(p, dy, n, first, since, count, dv)


def _bias(mask: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, int, int]:
    """(flat array to add to the scores (…, L, S), its stride over the batch, its stride over queries)"""
    if mask is None:
        return np.empty(0, dtype), 0, 0
    m = as_array(mask)
    if m.dtype != bool:
        m = floating(m, "attn_mask")
    try:
        fits = np.broadcast_shapes(m.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"expected attn_mask to broadcast to the scores (…, L, S) = {shape}, found shape {m.shape}")
    m = m.reshape((1,) * (len(shape) - m.ndim) + m.shape)
    added = np.where(m, dtype.type(0), dtype.type(-np.inf)) if m.dtype == bool else m
    rows, shared = m.shape[-2], math.prod(m.shape[:-2]) == 1
    added = np.broadcast_to(added, (*(m.shape if shared else shape)[:-2], rows, shape[-1]))
    return kernel_array(added, dtype).reshape(-1), 0 if shared else rows * shape[-1], 0 if rows == 1 else shape[-1]


def _check_shapes(q: Array, k: Array, v: Array) -> tuple[int, ...]:
    """The leading axes, broadcast."""
    fits = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if fits:
        try:
            return np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        except ValueError:
            pass
    raise ValueError(
        f"expected q (…, L, E), k (…, S, E) and v (…, S, F), found shapes {q.shape}, {k.shape} and {v.shape}"
    )


@op
def scaled_dot_product_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    attn_mask: ArrayLike = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Result:
    """y = P·v, P = softmax(scale·q·kᵀ + mask) over the keys.   dL/dv = Pᵀ·dL/dy,  dL/dq = dS·k,  dL/dk = dSᵀ·q

    dL/dmask = dS / scale,  dS = scale · P·(dP − Σ P·dP),  dP = dL/dy·vᵀ. Vaswani et al. 2017, eq. 1.

    q (…, L, E), k (…, S, E), v (…, S, F): float, leading axes broadcast; y (…, L, F)
    attn_mask   broadcasts to (…, L, S): booleans, True where a key is kept, or floats to add to the scores
    is_causal   query i sees only keys j ≤ i; not together with a mask
    scale       1/√E if None

    A query that sees no key gets 0, as in PyTorch. The weights P, N·L·S numbers, are kept for the gradients.
    ValueError: shapes that do not fit. TypeError: a mask of integers.
    """
    q, k, v = floating(q, "q"), floating(k, "k"), floating(v, "v")
    batch = _check_shapes(q, k, v)
    if attn_mask is not None and is_causal:
        raise ValueError("expected attn_mask or is_causal, found both")
    dtype = one_dtype(q, k, v)
    (queries, size), (keys, values) = q.shape[-2:], v.shape[-2:]
    factor = float(number(scale, "scale")) if scale is not None else 1 / math.sqrt(size) if size else 0.0
    bias = _bias(attn_mask, (*batch, queries, keys), dtype)
    count = math.prod(batch)

    def flat(x: Array) -> Array:
        x = np.broadcast_to(x, (*batch, *x.shape[-2:])) if x.shape[:-2] != batch else x
        return kernel_array(x, dtype).reshape(count, *x.shape[-2:])

    q, k, v = flat(q), flat(k), flat(v)
    p, y = np.empty((count, keys, queries), dtype, like=q), np.empty((count, queries, values), dtype, like=q)
    attention_forward(q, k, v, *bias, bool(is_causal), factor, p, y)

    def backward(dy: Array) -> list[Array]:
        ds, *made = (np.empty_like(x) for x in (p, q, k, v))
        attention_backward(flat(dy), q, k, v, bool(is_causal), factor, p, ds, *made)
        return [x.reshape(*batch, *x.shape[-2:]) for x in made]

    back = joint(backward)

    def gradient_mask(dy: Array) -> Array:
        dp = product(v, np.swapaxes(flat(dy), -1, -2))
        ds = p * (dp - np.sum(p * dp, axis=-2, keepdims=True))
        ds = as_array(np.swapaxes(ds, -1, -2).reshape(*batch, queries, keys))
        # Neither y nor another input has the keys last, so only this op knows that the mask was repeated along them.
        return ds if mask.shape[-1:] == (keys,) else ds.sum(axis=-1, keepdims=True, dtype=np.float64)

    mask = as_array(attn_mask)
    masked = None if attn_mask is None or mask.dtype == bool else gradient_mask
    return y.reshape(*batch, queries, values), (
        lambda dy: back(dy)[0],
        lambda dy: back(dy)[1],
        lambda dy: back(dy)[2],
        masked,
    )
