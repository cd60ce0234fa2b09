"""A table of vectors as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn import init
from minidl.nn.module import Module, check_layer
from minidl.shared.numbers import is_integer
from minidl.tensor import ArrayLike, Tensor


class Embedding(Module):
    """`ops.embedding`: weight (num_embeddings, embedding_dim) from N(0, 1); the row of padding_idx is and stays 0.

    >>> layer = nn.Embedding(10, 4, padding_idx=0)
    >>> y = layer(np.array([[1, 2, 0]]))
    >>> y.shape
    (1, 3, 4)
    >>> y.numpy()[0, 2]
    array([0., 0., 0., 0.], dtype=float32)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        check_layer("Embedding", dtype, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not is_integer(padding_idx):
            raise TypeError(f"Embedding: expected padding_idx as an int or None, found {padding_idx!r}")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: expected padding_idx within {num_embeddings} rows, found {padding_idx}")
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = Tensor(np.empty((num_embeddings, embedding_dim), dtype), requires_grad=True)
        init.normal_(self.weight, 0, 1, generator)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.embedding(x, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        return "" if self.padding_idx is None else f"padding_idx={self.padding_idx}"
