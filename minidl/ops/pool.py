"""Pooling: the maximum or mean of each window of an image, or of a sequence, treated as an image of one row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.conv import pair
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array
from minidl.tensor import Array, ArrayLike, op


def _worth(x: Array) -> bool:
    return x.size >= 1 << 16


@kernel
def inside(first: int, count: int, step: int, size: int) -> tuple[int, int]:
    """(first, count) of those among first, first + step, … that lie in [0, size)."""
    skipped = max(0, (-first + step - 1) // step)
    return first + skipped * step, min(count, (size - first + step - 1) // step) - skipped


@kernel
def largest(plane: Array, i: int, j: int, windows: Array) -> Any:
    """(the largest value of window (i, j), the position in the plane where it first occurs, or −1)"""
    height, width = plane.shape
    top, rows = inside(i * windows[2] - windows[4], windows[0], windows[6], height)
    left, columns = inside(j * windows[3] - windows[5], windows[1], windows[7], width)
    found, place = plane.dtype.type(-np.inf), np.int64(-1)
    for u in range(rows):
        row = top + u * windows[6]
        for v in range(columns):
            column = left + v * windows[7]
            value = plane[row, column]
            if value > found or place < 0 or (value != value and found == found):
                found, place = value, row * width + column
    return found, place


@kernel
def largest_of_four(x: Array, starts: Array, width: int, best: Array, places: Array) -> None:
    """As `largest`, for 2 × 2 windows that begin at these positions of a flat plane.

    The choice is computed without branches, half of which would be mispredicted.
    """
    one, down = np.uint32(1), np.uint32(width)
    for k in range(best.size):
        s = starts[k]
        a, b, c, d = x[s], x[s + one], x[s + down], x[s + down + one]
        right = np.uint32(not b <= a) * np.uint32(a == a)
        right_below = np.uint32(not d <= c) * np.uint32(c == c)
        upper, lower = b if right else a, d if right_below else c
        below = np.uint32(not lower <= upper) * np.uint32(upper == upper)
        best[k] = lower if below else upper
        places[k] = np.int32(s + (right_below + down if below else right))


@kernel(parallel=lambda x, windows, starts, y, places: _worth(x))
def max_pool2d_forward(x: Array, windows: Array, starts: Array, y: Array, places: Array) -> None:
    """y[p, i, j] = max over u, v of x[p, i·s + u·d − p, j·s + v·d − p]; places: where it first occurs.

    x (P, H, W), y, places (P, OH, OW); windows: (KH, KW, stride, stride, padding, padding, dilation, dilation).
    starts: where windows begin if they are 2 × 2 and all inside, else empty. NaN counts as the largest.
    """
    for p in prange(x.shape[0]):
        if starts.size > 0:
            largest_of_four(x[p].reshape(-1), starts, x.shape[2], y[p].reshape(-1), places[p].reshape(-1))
        else:
            for i in range(y.shape[1]):
                for j in range(y.shape[2]):
                    y[p, i, j], places[p, i, j] = largest(x[p], i, j, windows)


@kernel(parallel=lambda dy, places, dx: _worth(dx))
def max_pool2d_backward(dy: Array, places: Array, dx: Array) -> None:
    """dx[p, places[p, i, j]] += dy[p, i, j], else 0.   dy, places (P, OH, OW), dx (P, H · W)"""
    for p in prange(dx.shape[0]):
        target, source, where = dx[p], dy[p], places[p]
        target[:] = 0
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                if where[i, j] >= 0:  # not a window of padding alone
                    target[where[i, j]] += source[i, j]


@kernel(parallel=lambda x, rows, columns, divisors, y: _worth(x))
def avg_pool2d_forward(x: Array, rows: Array, columns: Array, divisors: Array, y: Array) -> None:
    """y[p, i, j] = Σ x[p, r, q] / divisors[i, j], rows[i, 0] ≤ r < rows[i, 1], columns[j, 0] ≤ q < columns[j, 1]."""
    for p in prange(x.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                total = np.float64(0)
                for r in range(rows[i, 0], rows[i, 1]):
                    for q in range(columns[j, 0], columns[j, 1]):
                        total += x[p, r, q]
                y[p, i, j] = total / divisors[i, j]


@kernel(parallel=lambda dy, rows, columns, divisors, dx: _worth(dx))
def avg_pool2d_backward(dy: Array, rows: Array, columns: Array, divisors: Array, dx: Array) -> None:
    """dx[p, r, q] = Σ dy[p, i, j] / divisors[i, j] over the windows (i, j) that contain (r, q)."""
    for p in prange(dx.shape[0]):
        dx[p] = 0
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                part = dy[p, i, j] / divisors[i, j]
                for r in range(rows[i, 0], rows[i, 1]):
                    for q in range(columns[j, 0], columns[j, 1]):
                        dx[p, r, q] += part


def _input(x: ArrayLike, axes: str) -> Array:
    x = floating(x)
    if x.ndim not in (len(axes), len(axes) - 1):
        raise ValueError(f"expected x ({', '.join(axes)}) or ({', '.join(axes[1:])}), found shape {x.shape}")
    return kernel_array(x, x.dtype)


def _planes(x: Array, dimensions: int) -> Array:
    """x as (P, H, W), with H = 1 for a sequence."""
    size = (1,) * (2 - dimensions) + x.shape[-dimensions:]
    return x.reshape(math.prod(x.shape[:-dimensions]), *size)


def check_padding(kernel: tuple[int, ...], padding: tuple[int, ...]) -> None:
    """ValueError: padding over half of a window."""
    if any(2 * p > k for k, p in zip(kernel, padding, strict=True)):
        raise ValueError(f"expected padding of at most half of the kernel {tuple(kernel)}, found {tuple(padding)}")


def _outputs(
    size: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> list[int]:
    """The number of windows in each dimension. ValueError: none, or padding over half of a window."""
    check_padding(kernel, padding)
    counts = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        over = n + 2 * p - d * (k - 1) - 1
        count = (over + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (count - 1) * s >= n + p:  # a window would begin in the trailing padding
            count -= 1
        if count < 1 or n < 1:
            raise ValueError(
                f"expected a kernel within the padded input, found one that reaches over {d * (k - 1) + 1} "
                f"of {n + 2 * p}"
            )
        counts.append(count)
    return counts


def _squares(size: tuple[int, ...], k: Any, s: Any, p: Any, d: Any, out: list[int]) -> Array:
    """Where in its plane each window begins, if all are 2 × 2 and inside it; else empty."""
    within = all((o - 1) * step + 2 <= n for n, step, o in zip(size, s, out, strict=True))
    if not within or (k, p, d) != ((2, 2), (0, 0), (1, 1)):
        return np.empty(0, np.uint32)
    rows, columns = (np.arange(o) * step for o, step in zip(out, s, strict=True))
    starts: Array = np.add.outer(rows * size[1], columns).reshape(-1)
    return starts.astype(np.uint32)


def _largest(
    x: Array, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, count: int
) -> Result:
    """Max pooling over the last `count` axes, 1 or 2."""
    k, d = pair(kernel_size, "kernel_size", 1, count), pair(dilation, "dilation", 1, count)
    s = k if stride is None else pair(stride, "stride", 1, count)
    p = pair(padding, "padding", 0, count)
    shape = (*x.shape[:-count], *_outputs(x.shape[-count:], k, s, p, d, ceil_mode))
    k, s, p, d = (v if count == 2 else (least, *v) for v, least in ((k, 1), (s, 1), (p, 0), (d, 1)))
    planes = _planes(x, count)
    out = [1, *shape[-count:]][-2:]
    y = np.empty((planes.shape[0], *out), x.dtype, like=x)
    places = np.empty(y.shape, np.int32, like=x)
    windows = np.array([*k, *s, *p, *d], np.int64)
    max_pool2d_forward(planes, windows, _squares(planes.shape[1:], k, s, p, d, out), y, places)

    def gradient(dy: Array) -> Array:
        dx = np.empty((planes.shape[0], planes.shape[1] * planes.shape[2]), x.dtype, like=x)
        max_pool2d_backward(kernel_array(dy, x.dtype).reshape(y.shape), places, dx)
        return dx.reshape(x.shape)

    return y.reshape(shape), (gradient,)


@op
def max_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Result:
    """y = the largest x in each window.   dL/dx = dL/dy at the first largest of each window (added up), else 0

    x (N, C, H, W) or (C, H, W): float; y (…, OH, OW), OH = ⌊(H + 2p − d(k − 1) − 1) / s⌋ + 1, ⌈⌉ in `ceil_mode`. Each
    argument an int or (height, width); stride None: the kernel's size. Padding is −∞. ValueError: padding over half of
    the kernel, a kernel larger than the padded input.
    """
    return _largest(_input(x, "NCHW"), kernel_size, stride, padding, dilation, ceil_mode, 2)


@op
def max_pool1d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Result:
    """y = the largest x in each window.   dL/dx = dL/dy at the first largest of each window (added up), else 0

    x (N, C, L) or (C, L): float; y (…, OL). Arguments, each an int, and errors: `max_pool2d`'s.
    """
    return _largest(_input(x, "NCL"), kernel_size, stride, padding, dilation, ceil_mode, 1)


def _averages(x: Array, bounds: list[Array], counts: list[Array], divisor: int | None = None) -> Result:
    """The means over windows from bounds[i][:, 0] to bounds[i][:, 1] of the last axes, one or two of them."""
    shape = (*x.shape[: -len(bounds)], *map(len, bounds))
    planes = _planes(x, len(bounds))
    if len(bounds) == 1:
        bounds, counts = [np.array([[0, 1]]), *bounds], [np.ones(1, np.int64), *counts]
    rows, columns = bounds
    divisors = np.multiply.outer(*counts).astype(x.dtype)
    if divisor is not None:
        divisors[:] = divisor
    y = np.empty((planes.shape[0], *divisors.shape), x.dtype, like=x)
    avg_pool2d_forward(planes, rows, columns, divisors, y)

    def gradient(dy: Array) -> Array:
        dx: Array = np.empty_like(planes)
        avg_pool2d_backward(kernel_array(dy, x.dtype).reshape(y.shape), rows, columns, divisors, dx)
        return dx.reshape(x.shape)

    return y.reshape(shape), (gradient,)


def _mean(
    x: Array, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool, divisor: Any, count: int
) -> Result:
    """Average pooling over the last `count` axes, 1 or 2."""
    k, p = pair(kernel_size, "kernel_size", 1, count), pair(padding, "padding", 0, count)
    s = k if stride is None else pair(stride, "stride", 1, count)
    if divisor is not None and divisor == 0:
        raise ValueError("expected a divisor_override other than 0, found 0")
    size = x.shape[-count:]
    bounds, counts = [], []
    for n, o, k_i, s_i, p_i in zip(size, _outputs(size, k, s, p, (1, 1)[:count], ceil_mode), k, s, p, strict=True):
        first = np.arange(o) * s_i - p_i
        last = np.minimum(first + k_i, n + p_i)
        inner = np.stack([np.maximum(first, 0), np.minimum(last, n)], axis=1)
        counts.append(last - first if include else inner[:, 1] - inner[:, 0])
        bounds.append(inner)
    return _averages(x, bounds, counts, divisor)


@op
def avg_pool2d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Result:
    """y = the mean of x in each window.   dL/dx = Σ dL/dy / (elements of the window) over the windows that x is in

    Shapes, arguments and errors as for `max_pool2d`. The padding's zeros count if `count_include_pad`;
    `divisor_override` replaces the count as the divisor.
    """
    x = _input(x, "NCHW")
    return _mean(x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2)


@op
def avg_pool1d(
    x: ArrayLike,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Result:
    """y = the mean of x in each window.   dL/dx = Σ dL/dy / (elements of the window) over the windows that x is in

    x (N, C, L) or (C, L): float; y (…, OL). Arguments, each an int, and errors: `avg_pool2d`'s.
    """
    return _mean(_input(x, "NCL"), kernel_size, stride, padding, ceil_mode, count_include_pad, None, 1)


def _adaptive(x: Array, output_size: Any, count: int) -> Result:
    """Average pooling of the last `count` axes, 1 or 2, to a given size."""
    size = x.shape[-count:]
    given = output_size if isinstance(output_size, list | tuple) else (output_size,) * count
    if len(given) == count:
        given = tuple(n if o is None else o for o, n in zip(given, size, strict=True))
    out = pair(given, "output_size", 1, count)
    if 0 in size:
        raise ValueError(f"expected an image with elements, found shape {x.shape}")
    bounds = [
        np.stack([np.arange(o) * n // o, -(-(np.arange(1, o + 1) * n) // o)], axis=1)
        for o, n in zip(out, size, strict=True)
    ]
    return _averages(x, bounds, [b[:, 1] - b[:, 0] for b in bounds])


@op
def adaptive_avg_pool2d(x: ArrayLike, output_size: Any) -> Result:
    """y[i, j] = the mean of rows ⌊iH/OH⌋ to ⌈(i+1)H/OH⌉ and such columns.   dL/dx = Σ dL/dy / (elements of the window)

    x (N, C, H, W) or (C, H, W): float; output_size (OH, OW), an int for both; None keeps that size.
    """
    return _adaptive(_input(x, "NCHW"), output_size, 2)


@op
def adaptive_avg_pool1d(x: ArrayLike, output_size: Any) -> Result:
    """y[i] = the mean of elements ⌊iL/OL⌋ to ⌈(i+1)L/OL⌉.   dL/dx = Σ dL/dy / (elements of the window)

    x (N, C, L) or (C, L): float; output_size OL.
    """
    return _adaptive(_input(x, "NCL"), output_size, 1)
