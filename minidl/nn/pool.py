"""Pooling as layers."""

from __future__ import annotations

from typing import Any

from minidl import ops
from minidl.nn.module import Module, check_flags
from minidl.ops.conv import pair
from minidl.ops.pool import check_padding
from minidl.tensor import ArrayLike, Tensor


def _check(
    layer: str, count: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1, **flags: Any
) -> None:
    """TypeError, ValueError: not valid for windows over `count` axes."""
    k, p = pair(kernel_size, "kernel_size", 1, count), pair(padding, "padding", 0, count)
    pair(dilation, "dilation", 1, count)
    if stride is not None:
        pair(stride, "stride", 1, count)
    check_padding(k, p)
    check_flags(layer, **flags)


class _MaxPool(Module):
    pool: Any
    dimensions = 2

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> None:
        _check(type(self).__name__, self.dimensions, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
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
    dimensions = 1


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
        flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        _check("AvgPool2d", 2, kernel_size, stride, padding, **flags)
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
        flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        _check("AvgPool1d", 1, kernel_size, stride, padding, **flags)
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


class _AdaptiveAvgPool(Module):
    pool: Any
    dimensions = 2

    def __init__(self, output_size: Any) -> None:
        several = isinstance(output_size, list | tuple)
        given = [1 if n is None else n for n in output_size] if several else 1 if output_size is None else output_size
        pair(given, "output_size", 1, self.dimensions)
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
    dimensions = 1
