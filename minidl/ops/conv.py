"""Convolution in one and two dimensions, and its transpose.

LeCun et al. 1989; Dumoulin and Visin 2016 for the arithmetic. All share three kernels: the transpose's
forward pass is the convolution's input gradient, and the 1-d case is the 2-d one with a height of 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from minidl.ops.conv_kernels import conv2d_dw, conv2d_dx, conv2d_dx_turned, conv2d_forward
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, one_dtype
from minidl.ops.joint import joint
from minidl.shared.numbers import is_integer
from minidl.tensor import Array, ArrayLike, Gradient, as_array, op

Pair = tuple[int, int]


def pair(value: Any, name: str, least: int, count: int = 2) -> tuple[int, ...]:
    """`count` ints from one int or one per dimension. TypeError: not ints. ValueError: below `least`, wrong count."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * count
    if not all(map(is_integer, values)):
        raise TypeError(f"expected {name} as an int or {count} of them, found {value!r}")
    if len(values) != count or min(values) < least:
        raise ValueError(f"expected {name} as an int or {count} of them, of at least {least}, found {value!r}")
    return tuple(map(int, values))


def paddings(padding: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The padding before and after: (all dimensions' before, all dimensions' after)."""
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ValueError(f'expected padding as ints, "same" or "valid", found {padding!r}')
        if padding == "same" and max(stride) > 1:
            raise ValueError(f'expected a stride of 1 with padding "same", found {stride}')
        total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        return tuple(n // 2 for n in total), tuple(n - n // 2 for n in total)
    both = pair(padding, "padding", 0, len(kernel))
    return both, both


def _check_groups(groups: int, inputs: int, outputs: int) -> None:
    pair(groups, "groups", 1, 1)
    if inputs % groups or outputs % groups:
        raise ValueError(f"expected channels that {groups} groups divide, found {inputs} in and {outputs} out")


def _operands(x: ArrayLike, weight: ArrayLike, bias: ArrayLike, axes: str) -> Any:
    """(x, weight, bias or None, dtype): floats with as many axes as `axes` names; x may lack the batch axis."""
    x, w = floating(x), floating(weight, "weight")
    if x.ndim not in (len(axes), len(axes) - 1) or w.ndim != len(axes):
        shapes = f"({', '.join(axes)}) or ({', '.join(axes[1:])}) and a weight of {len(axes)} axes"
        raise ValueError(f"expected x {shapes}, found shapes {x.shape} and {w.shape}")
    if 0 in w.shape:
        raise ValueError(f"expected a weight with elements, found shape {w.shape}")
    return x, w, None if bias is None else floating(bias, "bias"), one_dtype(x, w)


def _as_images(run: Callable[..., Result], x: Array, w: Array, *rest: Any) -> Result:
    """`run` on x as (N, C, H, W) and w with four axes, for x (C, H, W), (N, C, L) or (C, L).

    Missing axes are added with size 1 and removed from the result.
    """
    alone, flat = x.ndim < w.ndim, w.ndim == 3
    if not alone and not flat:
        return run(x, w, *rest)
    images, weight = x[None] if alone else x, w
    if flat:
        images, weight = images[:, :, None], weight[:, :, None]
    y, gradients = run(images, weight, *rest)
    gradient_x, gradient_w, gradient_b = cast("tuple[Gradient, ...]", gradients)
    kept = tuple(n for i, n in enumerate(y.shape) if not (alone and i == 0) and not (flat and i == 2))
    back = joint(lambda dy: np.reshape(dy, y.shape))  # one array for all gradients: they may share work
    return np.reshape(y, kept), (
        lambda dy: np.reshape(gradient_x(back(dy)), x.shape),
        lambda dy: np.reshape(gradient_w(back(dy)), w.shape),
        lambda dy: gradient_b(back(dy)),
    )


def _bias(b: Array | None, outputs: int, dtype: Any) -> Array:
    if b is None:
        return np.zeros(outputs, dtype)
    if b.shape != (outputs,):
        raise ValueError(f"expected bias ({outputs},), one for each output channel, found shape {b.shape}")
    return kernel_array(b, dtype)


def _geometry(stride: Any, dilation: Any, before: Any, groups: int) -> Array:
    return np.array([*stride, *dilation, *before, groups], np.int64)


def _convolution(
    x: Array, w: Array, bias: Array | None, dtype: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Result:
    (images, channels, *size), (outputs, inside, *kernel) = x.shape, w.shape
    _check_groups(groups, channels, outputs)
    if inside * groups != channels:
        raise ValueError(
            f"expected a weight (O, {channels} / {groups}, KH, KW) for {channels} channels of x, found shape {w.shape}"
        )
    before, after = paddings(padding, kernel, stride, dilation)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = [n + a + b for n, a, b in zip(size, before, after, strict=True)]
    if reach[0] > padded[0] or reach[1] > padded[1]:
        raise ValueError(
            f"expected a kernel within the padded input {tuple(padded)}, found one that reaches over {tuple(reach)}"
        )
    out = [(n - r) // s + 1 for n, r, s in zip(padded, reach, stride, strict=True)]
    x, w, b = kernel_array(x, dtype), kernel_array(w, dtype), _bias(bias, outputs, dtype)
    geometry = _geometry(stride, dilation, before, groups)
    y = np.empty((images, outputs, *out), dtype, like=x)
    conv2d_forward(x, w, b, geometry, y)
    weight_gradients = joint(lambda dy: _weight_gradients(kernel_array(dy, dtype), x, w, geometry))

    def gradient_x(dy: Array) -> Array:
        dx: Array = np.empty_like(x)
        around = [d * (k - 1) - p for k, d, p in zip(kernel, dilation, before, strict=True)]
        if stride == (1, 1) and min(around) >= 0:  # then it is itself a convolution, with the kernel rotated
            turned = w.reshape(groups, outputs // groups, *w.shape[1:]).swapaxes(1, 2)[..., ::-1, ::-1]
            turned = kernel_array(turned.reshape(channels, outputs // groups, *kernel), dtype)
            geometry_back = _geometry(stride, dilation, (around[0], around[1]), groups)
            zeros = np.zeros(channels, dtype)
            conv2d_dx_turned(kernel_array(dy, dtype), turned, zeros, geometry_back, w, geometry, dx)
        else:
            conv2d_dx(kernel_array(dy, dtype), w, geometry, dx)
        return dx

    return y, (gradient_x, lambda dy: weight_gradients(dy)[0], lambda dy: weight_gradients(dy)[1])


def _weight_gradients(dy: Array, x: Array, w: Array, geometry: Array) -> tuple[Array, Array]:
    """(dw, db)"""
    dw, db = np.empty_like(w), np.empty(dy.shape[1], w.dtype, like=dy)
    conv2d_dw(dy, x, geometry, dw, db)
    return dw, db


@op
def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Result:
    """y[n, o, i, j] = b[o] + Σ w[o, c, u, v]·x[n, c, is + ud − p, js + vd − p].   dL/dw = Σ dL/dy·x,  dL/dx = Σ dL/dy·w

    dL/db = Σ dL/dy. The same filters at every position of the image; dilation spaces their rows d apart.

    x (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW), bias (O,) or None: float; y (N, O, OH, OW) or without
    N, OH = ⌊(H + 2p − d(KH − 1) − 1) / s⌋ + 1. stride s, padding p, dilation d: an int or (height, width); padding also
    "valid" (0) or "same" (y as large as x). ValueError: a kernel larger than the padded input, groups that do not
    divide the channels.
    """
    s, d = pair(stride, "stride", 1), pair(dilation, "dilation", 1)
    return _as_images(_convolution, *_operands(x, weight, bias, "NCHW"), s, padding, d, groups)


@op
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Result:
    """y[n, o, i] = b[o] + Σ w[o, c, u]·x[n, c, is + ud − p].   dL/dw = Σ dL/dy·x,  dL/dx = Σ dL/dy·w,  dL/db = Σ dL/dy

    x (N, C, L) or (C, L), weight (O, C / groups, K), bias (O,) or None: float; y (N, O, OL) or (O, OL). Arguments and
    errors: `conv2d`'s.
    """
    s, d = pair(stride, "stride", 1, 1), pair(dilation, "dilation", 1, 1)
    p = padding if isinstance(padding, str) else (0, *pair(padding, "padding", 0, 1))
    return _as_images(_convolution, *_operands(x, weight, bias, "NCL"), (1, *s), p, (1, *d), groups)


@op
def conv_transpose2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Result:
    """y[n, o, i·s + u·d − p, j·s + v·d − p] += x[n, c, i, j]·w[c, o, u, v].   dL/dx = Σ w·dL/dy,  dL/dw = Σ x·dL/dy

    dL/db = Σ dL/dy, as b[o] is added to each y[n, o]. The transpose of `conv2d` as a matrix.

    x (N, C, H, W) or (C, H, W), weight (C, O / groups, KH, KW), bias (O,) or None: float; y (N, O, OH, OW) or
    without N, OH = (H − 1)s − 2p + d(KH − 1) + 1 + output_padding.
    ValueError: an output_padding as large as both stride and dilation, an empty output, groups that do not
    divide the channels.
    """
    s, d, p = pair(stride, "stride", 1), pair(dilation, "dilation", 1), pair(padding, "padding", 0)
    more = pair(output_padding, "output_padding", 0)
    return _as_images(_transposed, *_operands(x, weight, bias, "NCHW"), s, d, p, more, groups)


def _transposed(
    x: Array, w: Array, bias: Array | None, dtype: Any, s: Pair, d: Pair, p: Pair, more: Pair, groups: int
) -> Result:
    (images, channels, *size), (inputs, inside, *kernel) = x.shape, w.shape
    outputs = inside * groups
    _check_groups(groups, channels, outputs)
    if inputs != channels:
        raise ValueError(f"expected a weight ({channels}, O / groups, KH, KW) for x {x.shape}, found shape {w.shape}")
    if any(m >= max(a, b) for m, a, b in zip(more, s, d, strict=True)):
        raise ValueError(f"expected output_padding below stride {s} or dilation {d}, found {more}")
    out = [(size[i] - 1) * s[i] - 2 * p[i] + d[i] * (kernel[i] - 1) + 1 + more[i] for i in (0, 1)]
    if min(size) < 1 or min(out) < 1:
        raise ValueError(f"expected an output of at least 1 × 1, found {tuple(out)} from an input of {tuple(size)}")
    x, w, b = kernel_array(x, dtype), kernel_array(w, dtype), _bias(bias, outputs, dtype)
    geometry = _geometry(s, d, p, groups)
    y = np.empty((images, outputs, *out), dtype, like=x)
    conv2d_dx(x, w, geometry, y)
    nothing = np.zeros(channels, dtype)

    def gradient_x(dy: Array) -> Array:
        dx: Array = np.empty_like(x)
        conv2d_forward(kernel_array(dy, dtype), w, nothing, geometry, dx)
        return dx

    return y + b[:, None, None], (
        gradient_x,
        lambda dy: _weight_gradients(x, kernel_array(dy, dtype), w, geometry)[0],
        lambda dy: as_array(np.sum(dy, axis=(0, 2, 3), dtype=np.float64)),
    )
