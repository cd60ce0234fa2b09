"""Convolutions as layers, with PyTorch's names, defaults and initial values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl import ops
from minidl.core.operators import values_of
from minidl.nn import init
from minidl.nn.module import Module, check_flags, check_layer
from minidl.ops.conv import paddings, pair
from minidl.tensor import ArrayLike, Tensor

PADDING = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # PyTorch's, NumPy's


class _Convolution(Module):
    """What the three layers share: weight and bias, uniform on ± 1/√fan_in (PyTorch's default), and padding.

    padding_mode is what surrounds x: "zeros"; its mirror image ("reflect"); its outermost elements ("replicate"); or
    elements from its other end ("circular").
    """

    dimensions = 2
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
        padding_mode: str = "zeros",
    ) -> None:
        layer = type(self).__name__
        if padding_mode not in PADDING:
            raise ValueError(f"{layer}: expected padding_mode as one of {', '.join(PADDING)}, found {padding_mode!r}")
        check_layer(layer, dtype, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{layer}: expected channels that {groups} groups divide, found {in_channels} in and {out_channels} out"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", 1, self.dimensions)
        check_flags(layer, bias=bias)
        around = (pair(stride, "stride", 1, self.dimensions), pair(dilation, "dilation", 1, self.dimensions))
        paddings(padding, self.kernel_size, *around)
        self.stride, self.dilation, self.padding_mode = stride, dilation, padding_mode
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding", 0, self.dimensions)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (first, second // groups, *self.kernel_size)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = Tensor(np.empty(shape, dtype), requires_grad=True)
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias: Tensor | None = None
        if bias:
            self.bias = Tensor(np.empty(out_channels, dtype), requires_grad=True)
            init.uniform_(self.bias, -bound, bound, generator)

    def _padded(self, x: ArrayLike) -> tuple[ArrayLike, Any]:
        """(x with any padding other than zeros applied, the zero padding left for the op)"""
        if self.padding_mode == "zeros":
            return x, self.padding
        stride, dilation = (pair(getattr(self, n), n, 1, self.dimensions) for n in ("stride", "dilation"))
        before, after = paddings(self.padding, self.kernel_size, stride, dilation)
        shape = np.shape(values_of(x))
        most = {"reflect": -1, "circular": 0}.get(self.padding_mode)
        for n, *widths in zip(shape[-self.dimensions :], before, after, strict=False):
            if most is not None and max(widths) > n + most:
                raise ValueError(
                    f"{type(self).__name__}: expected {self.padding_mode} padding of at most {n + most} beside an x of "
                    f"shape {shape}, found {max(widths)}"
                )
        around = [(0, 0)] * (len(shape) - self.dimensions) + list(zip(before, after, strict=True))
        return ops.pad(x, around[-len(shape) :], PADDING[self.padding_mode]), 0

    def extra_repr(self) -> str:
        told = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        defaults = {"stride": 1, "padding": (0,) * self.dimensions, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
        return told + "".join(f", {n}={getattr(self, n)}" for n, value in defaults.items() if getattr(self, n) != value)


class Conv2d(_Convolution):
    """`ops.conv2d` of x (N, in_channels, H, W) or (in_channels, H, W).

    weight (out_channels, in_channels / groups, KH, KW), bias (out_channels,)

    >>> layer = nn.Conv2d(1, 8, kernel_size=3, padding=1)
    >>> layer(np.zeros((2, 1, 28, 28), np.float32)).shape
    (2, 8, 28, 28)
    """

    def forward(self, x: ArrayLike) -> Tensor:
        x, padding = self._padded(x)
        return ops.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Convolution):
    """`ops.conv1d` of x (N, in_channels, L) or (in_channels, L).

    weight (out_channels, in_channels / groups, K), bias (out_channels,)
    """

    dimensions = 1

    def forward(self, x: ArrayLike) -> Tensor:
        x, padding = self._padded(x)
        return ops.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose2d(_Convolution):
    """`ops.conv_transpose2d` of x (N, in_channels, H, W) or (in_channels, H, W).

    weight (in_channels, out_channels / groups, KH, KW), bias (out_channels,)
    """

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, dtype, generator
        )
        pair(output_padding, "output_padding", 0)
        self.output_padding = output_padding

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )
