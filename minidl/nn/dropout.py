"""Dropout as a layer, which is active in training mode only."""

from __future__ import annotations

import numpy as np

from minidl import ops
from minidl.nn.module import Module, probability
from minidl.tensor import ArrayLike, Tensor


class Dropout(Module):
    """`ops.dropout` in training mode, the identity in evaluation mode. p: the probability of 0.

    >>> layer = nn.Dropout(0.5)
    >>> y = layer(np.ones(1000)).numpy()  # what is kept is divided by 1 − p
    >>> sorted(set(y.tolist()))
    [0.0, 2.0]
    >>> set(layer.eval()(np.ones(1000)).numpy().tolist())
    {1.0}
    """

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None) -> None:
        self.p, self.generator = probability(type(self).__name__, p), generator

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout2d(Dropout):
    """`ops.dropout2d` in training mode, else the identity: whole channels are 0, each with probability p."""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.dropout2d(x, self.p, self.training, self.generator)
