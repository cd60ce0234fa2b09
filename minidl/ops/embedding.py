"""Embedding: rows of a table by index, which turn words and characters into vectors (Bengio et al. 2003)."""

from __future__ import annotations

import numpy as np

from minidl.core.tracing import require
from minidl.jit import kernel
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, own_indices
from minidl.shared.numbers import is_integer
from minidl.tensor import Array, ArrayLike, as_array, op


@kernel
def embedding_forward(indices: Array, weight: Array, y: Array) -> None:
    """y[n] = weight[indices[n]].   indices (N), weight (V, D), y (N, D)"""
    for n in range(indices.size):
        source, target = weight[indices[n]], y[n]
        for j in range(target.size):
            target[j] = source[j]


@kernel
def embedding_backward(dy: Array, indices: Array, padding: int, dw: Array) -> None:
    """dw[v] = Σ dy[n] over the n with indices[n] = v, 0 for `padding`.   dy (N, D), indices (N), dw (V, D)"""
    dw[:] = 0
    for n in range(indices.size):
        if indices[n] != padding:
            source, target = dy[n], dw[indices[n]]
            for j in range(source.size):
                target[j] += source[j]


def _outside(indices: Array) -> str:
    return f"found {indices.min()} to {indices.max()}"


@op
def embedding(indices: ArrayLike, weight: ArrayLike, padding_idx: int | None = None) -> Result:
    """y[…, :] = weight[indices[…], :].   dL/dweight[v] = Σ dL/dy over the places where v stands, 0 for padding_idx

    indices (…): integers from 0 to V − 1, weight (V, D): float; y (…, D). ValueError: an index out of range.
    """
    w, chosen = floating(weight, "weight"), as_array(indices)
    if chosen.dtype.kind not in "iu":
        raise TypeError(f"expected indices as integers, found {chosen.dtype} of shape {chosen.shape}")
    if w.ndim != 2:
        raise ValueError(f"expected weight (V, D), found shape {w.shape}")
    if padding_idx is not None and not is_integer(padding_idx):
        raise TypeError(f"expected padding_idx as an int, found {padding_idx!r}")
    if padding_idx is not None and not -w.shape[0] <= padding_idx < w.shape[0]:
        raise ValueError(f"expected padding_idx within {w.shape[0]} rows, found {padding_idx}")
    chosen = own_indices(chosen)
    inside = ((chosen >= 0) & (chosen < w.shape[0])).all()
    require(inside, f"expected indices from 0 to {w.shape[0] - 1}", _outside, chosen)
    flat = np.reshape(chosen, -1)
    w = kernel_array(w, w.dtype)
    y = np.empty((flat.size, w.shape[1]), w.dtype, like=w)
    embedding_forward(flat, w, y)
    padding = -1 if padding_idx is None else padding_idx % w.shape[0]

    def gradient(dy: Array) -> Array:
        dw: Array = np.empty_like(w)
        embedding_backward(kernel_array(dy, w.dtype).reshape(y.shape), flat, padding, dw)
        return dw

    return y.reshape(*chosen.shape, w.shape[1]), (None, gradient)
