"""The three loops of convolution: forward, the gradient of the input, the gradient of the weight.

An image is copied once into a padded plane, one for each phase of the stride, whose rows are `wide` apart. There the
input of output pixel (i, j) under tap (u, v) stands at i·wide + j, moved by a distance that only the tap and the
channel decide. So with the output laid out in rows of `wide` too, every tap of every channel is one long row, and a
convolution is a matrix product of the weight with these rows, read where they are. (The few columns between the rows
are computed, and dropped.) A stride costs nothing, since in its phase it is a stride of 1.
"""

from __future__ import annotations

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.linalg import TERMS, WIDTH, aligned, matmul_rows, worth_threads
from minidl.tensor import Array

# geometry: int64 (stride_h, stride_w, dilation_h, dilation_w, top, left, groups): what all three kernels take


def _worth(x: Array, w: Array, y: Array) -> bool:
    return worth_threads(y.size * w.shape[1] * w.shape[2] * w.shape[3])


@kernel
def plane_shape(w: Array, y: Array, geometry: Array) -> tuple[int, int]:
    """(rows, columns) of one phase of the padded plane: as much of the input as the output looks at."""
    down = (w.shape[2] - 1) * geometry[2] // geometry[0]
    right = (w.shape[3] - 1) * geometry[3] // geometry[1]
    return y.shape[2] + down, y.shape[3] + right


@kernel
def tap_places(w: Array, channels: int, high: int, wide: int, geometry: Array) -> Array:
    """Where the row of each (channel of a group, tap) begins in the phases' planes, as (C, KH·KW).

    The phases' planes follow each other, each with all channels of the image.
    """
    found = np.empty((w.shape[1], w.shape[2] * w.shape[3]), np.int64)
    for c in range(w.shape[1]):
        for u in range(w.shape[2]):
            for v in range(w.shape[3]):
                down, right = u * geometry[2], v * geometry[3]
                phase = down % geometry[0] * geometry[1] + right % geometry[1]
                plane = (phase * channels + c) * high * wide
                found[c, u * w.shape[3] + v] = plane + down // geometry[0] * wide + right // geometry[1]
    return found


@kernel
def fill_planes(x: Array, planes: Array, high: int, wide: int, geometry: Array) -> None:
    """Copy an image (C, H, W) into the planes of its phases; what is padding stays as it is, 0."""
    channels, width = x.shape[0], x.shape[2]
    stride_h, stride_w, top, left = geometry[0], geometry[1], geometry[4], geometry[5]
    for c in range(channels):
        for i in range(x.shape[1]):
            row = (i + top) // stride_h
            if row >= high:
                continue
            source = x[c, i]
            for phase in range(stride_w):
                first = (phase - left) % stride_w  # the first column of this phase
                at = (first + left) // stride_w
                count = min((width - first + stride_w - 1) // stride_w, wide - at)
                plane = ((i + top) % stride_h * stride_w + phase) * channels + c
                start = (plane * high + row) * wide + at
                target = planes[start : start + max(count, 0)]
                if stride_w == 1:
                    for j in range(target.size):
                        target[j] = source[j]
                else:
                    for j in range(target.size):
                        target[j] = source[first + j * stride_w]


@kernel
def empty_planes(planes: Array, high: int, wide: int, geometry: Array, x: Array) -> None:
    """The reverse of `fill_planes`: the image (C, H, W) from the planes, 0 where they do not reach."""
    channels, width = x.shape[0], x.shape[2]
    stride_h, stride_w, top, left = geometry[0], geometry[1], geometry[4], geometry[5]
    for c in range(channels):
        for i in range(x.shape[1]):
            row = (i + top) // stride_h
            target = x[c, i]
            target[:] = 0
            if row >= high:
                continue
            for phase in range(stride_w):
                first = (phase - left) % stride_w
                at = (first + left) // stride_w
                count = min((width - first + stride_w - 1) // stride_w, wide - at)
                plane = ((i + top) % stride_h * stride_w + phase) * channels + c
                start = (plane * high + row) * wide + at
                source = planes[start : start + max(count, 0)]
                if stride_w == 1:
                    for j in range(source.size):
                        target[j] = source[j]
                else:
                    for j in range(source.size):
                        target[first + j * stride_w] = source[j]


@kernel
def copy_rows(
    planes: Array, taps: Array, first: int, count: int, at: int, columns: int, patch: Array, apart: int
) -> None:
    """Row k of the patch, for k < count: `columns` numbers of the planes from `at` on, moved by taps[first + k]."""
    for k in range(count):
        start = at + taps[first + k]
        source, target = planes[start : start + columns], patch[k * apart : k * apart + columns]
        for j in range(columns):
            target[j] = source[j]


@kernel(linked=True)
def convolve(x: Array, w: Array, b: Array, geometry: Array, first: int, last: int, y: Array) -> None:
    """`conv2d_forward` of images `first` to `last`."""
    channels, groups = x.shape[1], geometry[6]
    outputs, inside = w.shape[0] // groups, w.shape[1]
    terms = inside * w.shape[2] * w.shape[3]
    high, wide = plane_shape(w, y, geometry)
    taps = tap_places(w, channels, high, wide, geometry).reshape(-1)
    width = WIDTH // y.itemsize
    length = (y.shape[2] - 1) * wide + y.shape[3]
    w_flat = w.reshape(-1)
    planes = aligned(geometry[0] * geometry[1] * channels * high * wide, x)
    planes[:] = 0
    patch, out = aligned(TERMS * width, x), aligned(w.shape[0] * length, x)
    for n in range(first, last):
        fill_planes(x[n], planes, high, wide, geometry)
        for g in range(groups):
            group = g * inside * high * wide
            for q in range(0, length, width):
                columns = min(width, length - q)
                for k in range(0, terms, TERMS):
                    count = min(TERMS, terms - k)
                    copy_rows(planes, taps, k, count, group + q, columns, patch, width)
                    matmul_rows(
                        w_flat, g * outputs * terms + k, terms, 1, patch, 0, width,
                        out, g * outputs * length + q, length, count, outputs, columns, k > 0,
                    )  # fmt: skip
        for o in range(w.shape[0]):
            for i in range(y.shape[2]):
                source, target = out[o * length + i * wide :], y[n, o, i]
                for j in range(target.size):
                    target[j] = source[j] + b[o]


@kernel(parallel=lambda x, w, b, geometry, y: _worth(x, w, y))
def conv2d_forward(x: Array, w: Array, b: Array, geometry: Array, y: Array) -> None:
    """y[n, o, i, j] = b[o] + Σ w[o, c, u, v] · x[n, c, i·s + u·d − p, j·s + v·d − p] over c, u, v, in o's group.

    x (N, C, H, W), w (O, C / groups, KH, KW), b (O), y (N, O, OH, OW): C order.
    """
    parts = min(x.shape[0], 64)
    for t in prange(parts):
        part = np.int64(t)
        convolve(x, w, b, geometry, part * x.shape[0] // parts, (part + 1) * x.shape[0] // parts, y)


@kernel(linked=True)
def convolve_back(dy: Array, w: Array, geometry: Array, first: int, last: int, dx: Array) -> None:
    """`conv2d_dx` of images `first` to `last`."""
    channels, groups = dx.shape[1], geometry[6]
    outputs, inside, area = w.shape[0] // groups, w.shape[1], w.shape[2] * w.shape[3]
    high, wide = plane_shape(w, dy, geometry)
    taps = tap_places(w, channels, high, wide, geometry)[0]
    width = WIDTH // dy.itemsize
    length = (dy.shape[2] - 1) * wide + dy.shape[3]
    w_flat = w.reshape(-1)
    planes = aligned(geometry[0] * geometry[1] * channels * high * wide, dy)
    apart = aligned(w.shape[0] * length, dy)  # dy in rows of `wide`, 0 between them
    apart[:] = 0
    for n in range(first, last):
        for o in range(w.shape[0]):
            for i in range(dy.shape[2]):
                source, target = dy[n, o, i], apart[o * length + i * wide :]
                for j in range(source.size):
                    target[j] = source[j]
        planes[:] = 0
        for g in range(groups):
            for q in range(0, length, width):
                columns = min(width, length - q)
                for k in range(0, outputs, TERMS):
                    o = g * outputs + k
                    for tap in range(area):
                        matmul_rows(
                            w_flat, o * inside * area + tap, area, inside * area, apart, o * length + q, length,
                            planes, g * inside * high * wide + taps[tap] + q, high * wide,
                            min(TERMS, outputs - k), inside, columns, True,
                        )  # fmt: skip
        empty_planes(planes, high, wide, geometry, dx[n])


@kernel(parallel=lambda dy, w, geometry, dx: _worth(dx, w, dy))
def conv2d_dx(dy: Array, w: Array, geometry: Array, dx: Array) -> None:
    """dx[n, c, i·s + u·d − p, j·s + v·d − p] = Σ w[o, c, u, v] · dy[n, o, i, j] over o and all (i, j, u, v) there."""
    parts = min(dx.shape[0], 64)
    for t in prange(parts):
        part = np.int64(t)
        convolve_back(dy, w, geometry, part * dx.shape[0] // parts, (part + 1) * dx.shape[0] // parts, dx)


@kernel(linked=True)
def convolve_images(
    dy: Array, x: Array, geometry: Array, first: int, last: int, dw: Array, sums: Array, biases: Array
) -> None:
    """`conv2d_dw` of images `first` to `last`, dw laid out (groups, C·KH·KW, O) in `sums`; of dw only the shape."""
    channels, groups = x.shape[1], geometry[6]
    outputs, inside = dw.shape[0] // groups, dw.shape[1]
    terms = inside * dw.shape[2] * dw.shape[3]
    high, wide = plane_shape(dw, dy, geometry)
    taps = tap_places(dw, channels, high, wide, geometry).reshape(-1)
    width = WIDTH // dy.itemsize
    length = (dy.shape[2] - 1) * wide + dy.shape[3]
    planes, patch = aligned(geometry[0] * geometry[1] * channels * high * wide, dy), aligned(terms * TERMS, dy)
    planes[:] = 0
    turned = aligned(length * dw.shape[0], dy)  # dy with the channels last, 0 between the rows
    turned[:] = 0
    column_sums = np.empty((dw.shape[0], dy.shape[3]), dy.dtype)
    sums[:] = 0
    biases[:] = 0
    for n in range(first, last):
        fill_planes(x[n], planes, high, wide, geometry)
        column_sums[:] = 0
        for i in range(dy.shape[2]):  # by rows, that the lines written to stay in cache
            for o in range(dw.shape[0]):
                source, totals = dy[n, o, i], column_sums[o]
                at = (o // outputs * length + i * wide) * outputs + o % outputs
                for j in range(source.size):
                    turned[at + j * outputs] = source[j]
                for j in range(source.size):
                    totals[j] += source[j]
        for o in range(dw.shape[0]):
            for j in range(dy.shape[3]):
                biases[o] += column_sums[o, j]
        for g in range(groups):
            for q in range(0, length, TERMS):
                count = min(TERMS, length - q)
                copy_rows(planes, taps, 0, terms, g * inside * high * wide + q, count, patch, TERMS)
                for o in range(0, outputs, width):
                    matmul_rows(
                        patch, 0, TERMS, 1, turned, (g * length + q) * outputs + o, outputs,
                        sums, g * terms * outputs + o, outputs, count, terms, min(width, outputs - o), True,
                    )  # fmt: skip


@kernel(linked=True)
def add_parts(sums: Array, biases: Array, groups: int, dw: Array, db: Array) -> None:
    """dw and db from those of the parts, as `convolve_images` leaves them."""
    outputs = dw.shape[0] // groups
    terms = dw.shape[1] * dw.shape[2] * dw.shape[3]
    total, shifts = np.zeros(dw.size, np.float64), np.zeros(dw.shape[0], np.float64)
    for part in range(sums.shape[0]):
        for i in range(dw.size):
            total[i] += sums[part, i]
        for o in range(db.size):
            shifts[o] += biases[part, o]
    dw_flat = dw.reshape(-1)
    for o in range(dw.shape[0]):
        db[o] = shifts[o]
        at = o // outputs * terms * outputs + o % outputs
        for k in range(terms):
            dw_flat[o * terms + k] = total[at + k * outputs]


@kernel(parallel=lambda dy, x, geometry, dw, db: _worth(x, dw, dy))
def conv2d_dw(dy: Array, x: Array, geometry: Array, dw: Array, db: Array) -> None:
    """dw[o, c, u, v] = Σ dy[n, o, i, j] · x[n, c, i·s + u·d − p, j·s + v·d − p] over n, i, j;  db[o] = Σ dy[n, o, …].

    Images are parted into sums whose number theirs fixes, so that threads do not change a bit; float64 adds these up.
    """
    parts = min(x.shape[0], 16)
    sums, biases = np.empty((parts, dw.size), dy.dtype), np.empty((parts, dw.shape[0]), np.float64)
    for t in prange(parts):
        part = np.int64(t)
        first, last = part * x.shape[0] // parts, (part + 1) * x.shape[0] // parts
        convolve_images(dy, x, geometry, first, last, dw, sums[part], biases[part])
    add_parts(sums, biases, geometry[6], dw, db)
