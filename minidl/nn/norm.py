"""Normalisation as layers, with PyTorch's names, defaults and buffers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import ops
from minidl.nn.module import Module, check_flags, check_layer
from minidl.ops.inputs import number
from minidl.tensor import ArrayLike, Tensor


class _Normalisation(Module):
    weight: Tensor | None = None
    bias: Tensor | None = None

    def _affine(self, shape: Any, dtype: Any, weight: bool, bias: bool) -> None:
        """weight 1 and bias 0, or None."""
        self.weight = Tensor(np.ones(shape, dtype), requires_grad=True) if weight else None
        self.bias = Tensor(np.zeros(shape, dtype), requires_grad=True) if bias else None


class _BatchNorm(_Normalisation):
    """weight and bias (C,); buffers running_mean, running_var (C,) and num_batches_tracked, a 0-d int64."""

    ranks: tuple[int, ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        check_layer(type(self).__name__, dtype, num_features=num_features)
        check_flags(type(self).__name__, affine=affine, track_running_stats=track_running_stats)
        self.num_features, self.eps = num_features, number(eps, "eps")
        self.momentum = None if momentum is None else number(momentum, "momentum")
        self._affine(num_features, dtype, affine, affine)
        self.running_mean = np.zeros(num_features, dtype) if track_running_stats else None
        self.running_var = np.ones(num_features, dtype) if track_running_stats else None
        self.num_batches_tracked = np.array(0, np.int64) if track_running_stats else None

    def forward(self, x: ArrayLike) -> Tensor:
        if len(x.shape) not in self.ranks or x.shape[1] != self.num_features:
            layer, ranks = type(self).__name__, " or ".join(map(str, self.ranks))
            raise ValueError(f"{layer}: expected {ranks} axes, {self.num_features} channels, found shape {x.shape}")
        momentum: Any = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] = self.num_batches_tracked + 1
            if momentum is None:  # the mean over all batches so far
                momentum = 1 / self.num_batches_tracked
        return ops.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            0.0 if momentum is None else momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """`ops.batch_norm` of x (N, C) or (N, C, L). momentum None: running statistics are the mean over all batches.

    >>> layer = nn.BatchNorm1d(1, dtype=np.float64)
    >>> y = layer(np.array([[1.0], [3.0]]))  # mean 2, variance 1
    >>> y.numpy().round(3).tolist()
    [[-1.0], [1.0]]
    >>> layer.running_mean.round(3)  # 0.9 · 0 + 0.1 · 2
    array([0.2])
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`ops.batch_norm` of x (N, C, H, W). momentum None: running statistics are the mean over all batches."""

    ranks = (4,)


class LayerNorm(_Normalisation):
    """`ops.layer_norm` over the last axes, of shape normalized_shape, as are weight and bias."""

    def __init__(
        self,
        normalized_shape: Any,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        several = isinstance(normalized_shape, list | tuple)
        self.normalized_shape = tuple(normalized_shape) if several else (normalized_shape,)
        check_layer("LayerNorm", dtype, **{f"normalized_shape[{i}]": n for i, n in enumerate(self.normalized_shape)})
        if not self.normalized_shape:
            raise ValueError("LayerNorm: expected normalized_shape of at least one axis, found none")
        check_flags("LayerNorm", elementwise_affine=elementwise_affine, bias=bias)
        self.eps = number(eps, "eps")
        self._affine(self.normalized_shape, dtype, elementwise_affine, elementwise_affine and bias)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(_Normalisation):
    """`ops.group_norm` of x (N, C, …); weight and bias (C,)."""

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = np.float32
    ) -> None:
        check_layer("GroupNorm", dtype, num_groups=num_groups, num_channels=num_channels)
        check_flags("GroupNorm", affine=affine)
        if math.gcd(num_groups, num_channels) != num_groups:
            raise ValueError(f"GroupNorm: expected num_groups to divide {num_channels} channels, found {num_groups}")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, number(eps, "eps")
        self._affine(num_channels, dtype, affine, affine)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, eps={self.eps}"
