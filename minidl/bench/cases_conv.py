"""Benchmark cases of convolution, on colour images with few filters, in the form of `cases`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.bench.case import Arguments, blank, case, normal
from minidl.ops import conv_naive  # noqa: F401 (its variant of conv2d_forward)
from minidl.ops.conv_kernels import conv2d_forward

IMAGES, CHANNELS, OUTPUTS = 1, 3, 2  # small, as plain Python is checked too; 3 × 3 filters, padding 1


def _arguments(rng: Any, dtype: Any, height: int, width: int) -> Arguments:
    x = normal(rng, dtype, IMAGES, CHANNELS, height, width)
    w, b = normal(rng, dtype, OUTPUTS, CHANNELS, 3, 3), normal(rng, dtype, OUTPUTS)
    return [x, w, b, np.array([1, 1, 1, 1, 1, 1, 1]), blank(dtype, IMAGES, OUTPUTS, height, width)]


def _by_numpy(x: Any, w: Any, b: Any, *rest: Any) -> tuple[Any, ...]:
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3))
    return (np.einsum("nchwuv,ocuv->nohw", windows, w, optimize=True) + b[:, None, None],)


case(
    conv2d_forward, "HW", [(64, 64), (224, 224)], _arguments, (4,),
    flops=lambda h, w: 2 * IMAGES * OUTPUTS * CHANNELS * 9 * h * w,
    moved=lambda h, w: IMAGES * (CHANNELS + OUTPUTS) * h * w + OUTPUTS * (CHANNELS * 9 + 1) + 7,
    numpy=_by_numpy, torch=lambda torch, x, w, b, *rest: (torch.nn.functional.conv2d(x, w, b, padding=1),),
)  # fmt: skip
