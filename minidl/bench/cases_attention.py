"""Benchmark cases of softmax and attention, in the form of `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.bench.case import Arguments, blank, case, normal
from minidl.ops.activation import softmax_backward, softmax_forward
from minidl.ops.attention import attention_backward, attention_forward

SHAPES = [(256, 64, 64, 32), (8, 512, 512, 64)]
FACTOR = 0.25


def _weights(q: Any, k: Any) -> Any:
    """softmax(FACTOR·k·qᵀ) over the keys, in the layout of the kernels: (N, S, L)."""
    scores = FACTOR * (k @ q.swapaxes(1, 2))
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _forward(q: Any, k: Any, v: Any, *rest: Any) -> tuple[Any, ...]:
    p = _weights(q, k)
    return p, p.swapaxes(1, 2) @ v


def _torch_forward(torch: Any, q: Any, k: Any, v: Any, *rest: Any) -> tuple[Any, ...]:
    p = torch.softmax(FACTOR * (k @ q.transpose(1, 2)), 1)
    return p, p.transpose(1, 2) @ v


def _backward(dy: Any, q: Any, k: Any, v: Any, causal: bool, scale: float, p: Any, *out: Any) -> tuple[Any, ...]:
    dp = v @ dy.swapaxes(1, 2)
    ds = scale * p * (dp - (p * dp).sum(1)[:, None])
    return ds, ds.swapaxes(1, 2) @ k, ds @ q, p @ dy


def _arguments(rng: Any, dtype: Any, n: int, queries: int, keys: int, size: int) -> Arguments:
    lengths = queries, keys, keys
    return [normal(rng, dtype, n, length, size) for length in lengths]


def _forward_arguments(rng: Any, dtype: Any, n: int, queries: int, keys: int, size: int) -> Arguments:
    inputs = _arguments(rng, dtype, n, queries, keys, size)
    out = blank(dtype, n, keys, queries), blank(dtype, n, queries, size)
    return [*inputs, np.empty(0, dtype), 0, 0, False, FACTOR, *out]


def _backward_arguments(rng: Any, dtype: Any, n: int, queries: int, keys: int, size: int) -> Arguments:
    q, k, v = _arguments(rng, dtype, n, queries, keys, size)
    out = (blank(dtype, *s) for s in ((n, keys, queries), q.shape, k.shape, v.shape))
    return [normal(rng, dtype, *q.shape), q, k, v, False, FACTOR, _weights(q, k).astype(dtype), *out]


case(
    attention_forward, "NLSE", SHAPES, _forward_arguments, (8, 9),
    flops=lambda n, i, j, e: 4 * n * i * j * e, moved=lambda n, i, j, e: n * (2 * (i + j) * e + i * j),
    numpy=_forward, torch=_torch_forward,
)  # fmt: skip
case(
    attention_backward, "NLSE", SHAPES, _backward_arguments, (7, 8, 9, 10),
    flops=lambda n, i, j, e: 8 * n * i * j * e, moved=lambda n, i, j, e: n * ((3 * i + 4 * j) * e + 2 * i * j),
    numpy=_backward,
)  # fmt: skip


def _softmax(x: Any, *out: Any) -> tuple[Any]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True),)


case(
    softmax_forward, "NC", [(16384, 64)],
    lambda rng, dtype, n, c: [normal(rng, dtype, n, c), blank(dtype, n, c)], (1,),
    flops=lambda n, c: 5 * n * c, moved=lambda n, c: 2 * n * c, numpy=_softmax,
    torch=lambda torch, x, y: (torch.softmax(x, 1),),
)  # fmt: skip
case(
    softmax_backward, "NC", [(16384, 64)],
    lambda rng, dtype, n, c: [
        normal(rng, dtype, n, c), _softmax(normal(rng, dtype, n, c))[0].astype(dtype), blank(dtype, n, c)
    ], (2,),
    flops=lambda n, c: 4 * n * c, moved=lambda n, c: 3 * n * c,
    numpy=lambda dy, y, dx: (y * (dy - (dy * y).sum(axis=1, keepdims=True)),),
    torch=lambda torch, dy, y, dx: (torch._softmax_backward_data(dy, y, 1, dy.dtype),),
)  # fmt: skip
