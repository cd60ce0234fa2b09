"""Normalisation as layers, under PyTorch's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module
from minidl.tensor import ArrayLike, Tensor


class LayerNorm(Module):
    """`ops.layer_norm` over the last axes, which have the `normalized_shape`; weight starts at 1, bias at 0."""

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight = Tensor(np.ones(shape, dtype), requires_grad=True) if elementwise_affine else None
        self.bias = Tensor(np.zeros(shape, dtype), requires_grad=True) if elementwise_affine and bias else None

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
