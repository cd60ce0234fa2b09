"""Attention as a layer, under PyTorch's names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import ops
from minidl.core.operators import values_of
from minidl.nn import init
from minidl.nn.dense import Dense
from minidl.nn.module import Module, check_flags, check_layer, probability
from minidl.tensor import ArrayLike, Tensor


class MultiheadAttention(Module):
    """Attention in `num_heads` projections of queries, keys and values (Vaswani et al. 2017, section 3.2.2).

    headₕ = softmax(qₕ·kₕᵀ / √D)·vₕ with q = x·W_qᵀ + b_q split into heads of size D = embed_dim / num_heads, k and v
    likewise; the output is `out_proj` of the concatenated heads.

    dropout       the probability with which a weight is 0 during training
    kdim, vdim    features of keys and values, if not embed_dim: then the weights are q_proj_weight, k_proj_weight
                  and v_proj_weight, else one in_proj_weight (3·embed_dim, embed_dim)
    batch_first   sequences are (N, L, E); else (L, N, E), PyTorch's default

    Weights are initialised by `xavier_uniform_`, out_proj.weight as in Dense, biases to 0.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        sizes = {"embed_dim": embed_dim, "num_heads": num_heads, "kdim": self.kdim, "vdim": self.vdim}
        check_layer("MultiheadAttention", dtype, **sizes)
        check_flags("MultiheadAttention", bias=bias, batch_first=batch_first)
        if embed_dim % num_heads:
            raise ValueError(
                "MultiheadAttention: expected embed_dim to be a multiple of num_heads, both at least 1, "
                f"found {embed_dim} and {num_heads}"
            )
        self.embed_dim, self.num_heads, self.batch_first = embed_dim, num_heads, batch_first
        self.dropout = probability("MultiheadAttention", dropout, "dropout")
        self.generator = generator

        def weight(outputs: int, inputs: int) -> Tensor:
            made = Tensor(np.empty((inputs, outputs), dtype).T, requires_grad=True)
            return init.xavier_uniform_(made, generator=generator)

        self._joint = self.kdim == self.vdim == embed_dim
        if self._joint:
            self.in_proj_weight = weight(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight = weight(embed_dim, self.kdim)
            self.v_proj_weight = weight(embed_dim, self.vdim)
        self.in_proj_bias = Tensor(np.zeros(3 * embed_dim, dtype), requires_grad=True) if bias else None
        self.out_proj = Dense(embed_dim, embed_dim, bias, dtype, generator)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        key_padding_mask: ArrayLike = None,
        need_weights: bool = True,
        attn_mask: ArrayLike = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(output, weights): output like query; weights (N, L, S), (N, H, L, S) unless averaged, None unless needed.

        query (L, N, E), key (S, N, kdim), value (S, N, vdim), or (N, L, …) if batch_first, or without N
        key_padding_mask   (N, S): booleans, True where a key is hidden from all queries, or floats added to the scores
        attn_mask          (L, S) or (N·H, L, S): booleans, True where a key is hidden from a query, or floats to add
        is_causal          query i sees keys j ≤ i; no effect with an attn_mask that is causal already

        Without weights (and dropout) it is faster. A query that sees no key then gives 0 before `out_proj`, but NaN
        if weights are needed, both as in PyTorch. ValueError: shapes that do not fit. TypeError: integer masks.
        """
        inputs = [x if isinstance(x, Tensor) else Tensor(x) for x in (query, key, value)]
        batch, queries, keys = self._check(*(x.shape for x in inputs))
        heads, width = self.num_heads, self.embed_dim // self.num_heads
        batched = inputs[0].ndim == 3

        def split(x: Tensor) -> Tensor:  # to (N, H, L, D)
            x = x.reshape(*x.shape[:-1], heads, width)
            if not batched:
                return ops.expand_dims(x.transpose(1, 0, 2), 0)
            return x.transpose(0, 2, 1, 3) if self.batch_first else x.transpose(1, 2, 0, 3)

        q, k, v = (split(ops.dense(x, *self._projection(i))) for i, x in enumerate(inputs))
        mask = self._mask(key_padding_mask, attn_mask, is_causal, batch, queries, keys)
        dropping = self.training and self.dropout > 0
        weights = None
        if need_weights or dropping:
            scores = ops.matmul(q * (1 / math.sqrt(width)), ops.swapaxes(k, -1, -2))
            if mask is not None:
                hidden = _added(~mask.data, scores.dtype) if mask.dtype == bool else ops.astype(mask, scores.dtype)
                scores = scores + hidden
            weights = ops.dropout(ops.softmax(scores), self.dropout, self.training, self.generator)
            y = ops.matmul(weights, v)
        else:
            y = ops.scaled_dot_product_attention(q, k, v, mask)
        if batched:
            y = y.transpose(0, 2, 1, 3) if self.batch_first else y.transpose(2, 0, 1, 3)
        else:
            y = ops.squeeze(y, 0).transpose(1, 0, 2)
        y = self.out_proj(y.reshape(inputs[0].shape))
        if not need_weights or weights is None:
            return y, None
        weights = ops.mean(weights, axis=1) if average_attn_weights else weights
        return y, weights if batched else ops.squeeze(weights, 0)

    def _projection(self, i: int) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of queries (0), keys (1) or values (2)."""
        part = slice(i * self.embed_dim, (i + 1) * self.embed_dim)
        bias = None if self.in_proj_bias is None else self.in_proj_bias[part]
        if self._joint:
            return self.in_proj_weight[part], bias
        return (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[i], bias

    def _check(self, q: Any, k: Any, v: Any) -> tuple[int, int, int]:
        """(N, L, S), from the inputs' shapes."""
        where = 0 if self.batch_first else 1
        fits = len(q) == len(k) == len(v) in (2, 3) and (q[-1], k[-1], v[-1]) == (self.embed_dim, self.kdim, self.vdim)
        if fits and len(q) == 3:
            fits = q[where] == k[where] == v[where]
        if not fits or k[:-1] != v[:-1]:
            form = "N, {}, {}" if self.batch_first else "{}, N, {}"
            wanted = [f"({form.format(*p)})" for p in (("L", self.embed_dim), ("S", self.kdim), ("S", self.vdim))]
            raise ValueError(
                f"MultiheadAttention: expected query {wanted[0]}, key {wanted[1]} and value {wanted[2]}, all with or "
                f"without N, found shapes {q}, {k} and {v}"
            )
        length = 0 if len(q) == 2 else 1 - where
        return (q[where] if len(q) == 3 else 1), q[length], k[length]

    def _mask(
        self, padding: ArrayLike, mask: ArrayLike, is_causal: bool, batch: int, queries: int, keys: int
    ) -> Tensor | None:
        """Both masks as one, as `ops.scaled_dot_product_attention` takes it: (N or 1, H or 1, L or 1, S)."""
        hidden, added = list[Tensor](), list[Tensor]()
        if mask is None and is_causal:
            mask = np.triu(np.ones((queries, keys), bool), 1)
        for name, given, shapes in (
            ("key_padding_mask", padding, [(batch, keys), (keys,)][: 1 + (batch == 1)]),
            ("attn_mask", mask, [(queries, keys), (batch * self.num_heads, queries, keys)]),
        ):
            if given is None:
                continue
            m = given if isinstance(given, Tensor) else Tensor(given)
            if m.shape not in shapes:
                raise ValueError(f"MultiheadAttention: expected {name} of shape {shapes[0]}, found shape {m.shape}")
            if m.dtype != bool and m.dtype.kind != "f":
                raise TypeError(f"MultiheadAttention: expected {name} of booleans or floats, found {m.dtype}")
            if name == "key_padding_mask":
                m = m.reshape(batch, 1, 1, keys)
            else:
                m = m.reshape((1, 1, queries, keys) if m.ndim == 2 else (batch, self.num_heads, queries, keys))
            (hidden if m.dtype == bool else added).append(m)
        if not hidden and not added:
            return None
        if not added:
            together = hidden[0].data if len(hidden) == 1 else hidden[0].data | hidden[1].data
            return Tensor(~together)
        total = added[0] if len(added) == 1 else ops.add(*added)
        return ops.add(total, _added(hidden[0].data, total.dtype)) if hidden else total

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, num_heads={self.num_heads}" + (f", dropout={self.dropout}" if self.dropout else "")


def _added(hidden: Any, dtype: Any) -> Any:
    """−∞ where a key is hidden, else 0."""
    return np.where(values_of(hidden), dtype.type(-np.inf), dtype.type(0))
