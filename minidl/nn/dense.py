"""The dense layer, and Flatten, which gives its input the right shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.core.operators import values_of
from minidl.nn import init
from minidl.nn.module import Module, check_flags, check_layer
from minidl.tensor import ArrayLike, Tensor


class Dense(Module):
    """y = x·Wᵀ + b, as PyTorch's `Linear`: x (…, in_features), y (…, out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform on ± 1/√in_features
    (PyTorch's default: `kaiming_uniform_` with a = √5). The weight is stored input-major (see `ops.dense`).

    >>> layer = nn.Dense(3, 2)
    >>> layer(np.ones((5, 3), np.float32)).shape
    (5, 2)
    >>> {name: array.shape for name, array in layer.state_dict().items()}
    {'weight': (2, 3), 'bias': (2,)}
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        check_layer("Dense", dtype, in_features=in_features, out_features=out_features)
        check_flags("Dense", bias=bias)
        self.in_features, self.out_features = in_features, out_features
        bound = in_features**-0.5
        self.weight = Tensor(np.empty((in_features, out_features), dtype).T, requires_grad=True)
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias: Tensor | None = None
        if bias:
            self.bias = Tensor(np.empty(out_features, dtype), requires_grad=True)
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.dense(x, self.weight, self.bias)


class Flatten(Module):
    """(N, …) → (N, all the rest)."""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.reshape(x, (len(x), -1) if len(x) else (0, int(np.prod(np.shape(values_of(x))[1:]))))
