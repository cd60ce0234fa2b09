"""Pooling as layers."""

from __future__ import annotations

from typing import Any

from minidl import ops
from minidl.nn.module import Module
from minidl.tensor import ArrayLike, Tensor


class _MaxPool(Module):
    pool: Any

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: ArrayLike) -> Tensor:
        made: Tensor = self.pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return made

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class MaxPool2d(_MaxPool):
    """`ops.max_pool2d`"""

    pool = staticmethod(ops.max_pool2d)


class MaxPool1d(_MaxPool):
    """`ops.max_pool1d`"""

    pool = staticmethod(ops.max_pool1d)


class AvgPool2d(Module):
    """`ops.avg_pool2d`"""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad, self.divisor_override = ceil_mode, count_include_pad, divisor_override

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class AvgPool1d(Module):
    """`ops.avg_pool1d`"""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class _AdaptiveAvgPool(Module):
    pool: Any

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: ArrayLike) -> Tensor:
        made: Tensor = self.pool(x, self.output_size)
        return made

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """`ops.adaptive_avg_pool2d`"""

    pool = staticmethod(ops.adaptive_avg_pool2d)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """`ops.adaptive_avg_pool1d`"""

    pool = staticmethod(ops.adaptive_avg_pool1d)
