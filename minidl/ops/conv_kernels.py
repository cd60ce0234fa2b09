"""The three loops of convolution: forward, the gradient of the input, the gradient of the weight.

An image is copied once into padded planes, one for each phase of the stride, whose rows are `wide` apart. There the
input of output pixel (i, j) under tap (u, v) is at i·wide + j plus an offset that depends only on the tap and the
channel. So with the output laid out in rows of `wide` too, every tap of every channel is one long row, and a
convolution is a matrix product of the weight with these rows, read in place. (The few columns between the rows are
computed and dropped. In the weight's gradient they count as 0 times what is there, and any NaN from that is computed
again, see `settle_nan`; the input's gradient does the same for non-finite weights.)
A stride costs nothing, since within a phase it is a stride of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.linalg import TERMS, WIDTH, aligned, matmul_rows, worth_threads
from minidl.ops.sums import LANES, centred_sums, lane_sum
from minidl.tensor import Array

# geometry: int64 (7), which all three kernels take; the indices of its entries
STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, TOP, LEFT, GROUPS = range(7)


def _worth(w: Array, y: Array) -> bool:
    return worth_threads(y.size * w.shape[1] * w.shape[2] * w.shape[3])


@kernel
def plane_shape(w: Array, y: Array, geometry: Array) -> tuple[int, int]:
    """(rows, columns) of one phase of the padded plane: as much of the input as y reads."""
    down = (w.shape[2] - 1) * geometry[DILATION_H] // geometry[STRIDE_H]
    right = (w.shape[3] - 1) * geometry[DILATION_W] // geometry[STRIDE_W]
    return y.shape[2] + down, y.shape[3] + right


@kernel
def tap_places(w: Array, channels: int, high: int, wide: int, geometry: Array) -> Array:
    """The offset in the phases' planes of the row of each (channel of a group, tap), as (C, KH·KW).

    The phases' planes follow each other, each with all channels of the image.
    """
    found = np.empty((w.shape[1], w.shape[2] * w.shape[3]), np.int64)
    for c in range(w.shape[1]):
        for u in range(w.shape[2]):
            for v in range(w.shape[3]):
                down, right = u * geometry[DILATION_H], v * geometry[DILATION_W]
                phase = down % geometry[STRIDE_H] * geometry[STRIDE_W] + right % geometry[STRIDE_W]
                plane = (phase * channels + c) * high * wide
                found[c, u * w.shape[3] + v] = plane + down // geometry[STRIDE_H] * wide + right // geometry[STRIDE_W]
    return found


@kernel
def phase_part(phase: int, stride: int, padding: int, size: int, length: int) -> tuple[int, int, int]:
    """(first, end, i): elements `first` to `end` of this phase's plane lie inside the image, the first at its index i.

    For one dimension: `size` elements in the image, `length` in the plane.
    """
    first = max(0, (padding - phase + stride - 1) // stride)
    end = min(length, (size + padding - phase + stride - 1) // stride)
    return first, max(first, end), first * stride + phase - padding


@kernel
def fill_planes(x: Array, planes: Array, high: int, wide: int, geometry: Array) -> None:
    """Copy an image (C, H, W) into the planes of its phases; padding stays 0."""
    for down in range(geometry[STRIDE_H]):
        row, last_row, i = phase_part(down, geometry[STRIDE_H], geometry[TOP], x.shape[1], high)
        for across in range(geometry[STRIDE_W]):
            first, end, j = phase_part(across, geometry[STRIDE_W], geometry[LEFT], x.shape[2], wide)
            for c in range(x.shape[0]):
                plane = ((down * geometry[STRIDE_W] + across) * x.shape[0] + c) * high
                for r in range(row, last_row):
                    target = planes[(plane + r) * wide + first : (plane + r) * wide + end]
                    source = x[c, i + (r - row) * geometry[STRIDE_H], j:]
                    if geometry[STRIDE_W] == 1:
                        for q in range(target.size):
                            target[q] = source[q]
                    else:
                        for q in range(target.size):
                            target[q] = source[q * geometry[STRIDE_W]]


@kernel
def empty_planes(planes: Array, high: int, wide: int, geometry: Array, x: Array) -> None:
    """The reverse of `fill_planes`: the image (C, H, W) from the planes, 0 where they do not reach."""
    x[:] = 0
    for down in range(geometry[STRIDE_H]):
        row, last_row, i = phase_part(down, geometry[STRIDE_H], geometry[TOP], x.shape[1], high)
        for across in range(geometry[STRIDE_W]):
            first, end, j = phase_part(across, geometry[STRIDE_W], geometry[LEFT], x.shape[2], wide)
            for c in range(x.shape[0]):
                plane = ((down * geometry[STRIDE_W] + across) * x.shape[0] + c) * high
                for r in range(row, last_row):
                    source = planes[(plane + r) * wide + first : (plane + r) * wide + end]
                    target = x[c, i + (r - row) * geometry[STRIDE_H], j:]
                    for q in range(source.size):
                        target[q * geometry[STRIDE_W]] = source[q]


def _emitted_taps() -> Any:
    """The intrinsic for this processor, or None."""
    from minidl.ops import tile, vectors

    return tile.matmul_taps if vectors.vector_bytes() else None


@kernel(fma=True, emitted=_emitted_taps)
def matmul_taps(
    a: Array, a_at: int, a_row: int, b: Array, b_at: int, places: Array,
    c: Array, c_at: int, c_row: int, terms: int, rows: int, columns: int, accumulate: bool,
) -> None:  # fmt: skip
    """c[i, j] = Σₖ a[i, k]·b[b_at + places[k] + j], or += if `accumulate`, for i < rows, j < columns, k < terms.

    Arrays are flat: a[i, k] is at a_at + i·a_row + k, c[i, j] at c_at + i·c_row + j.
    """
    sums = np.empty(columns, c.dtype)
    for i in range(rows):
        sums[:] = 0
        for k in range(terms):
            a_ik = a[a_at + i * a_row + k]
            b_k = b[b_at + places[k] : b_at + places[k] + columns]
            for j in range(columns):
                sums[j] = sums[j] + a_ik * b_k[j]
        c_i = c[c_at + i * c_row : c_at + i * c_row + columns]
        for j in range(columns):
            c_i[j] = c_i[j] + sums[j] if accumulate else sums[j]


def _emitted_products() -> Any:
    """The intrinsic for this processor, or None."""
    from minidl.ops import tile, vectors

    return tile.lane_products if vectors.vector_bytes() else None


@kernel(fma=True, emitted=_emitted_products)
def lane_products(
    a: Array, a_at: int, a_row: int, a_next: int, b: Array, b_at: int, places: Array, b_next: int,
    sums: Array, row: int, images: int, steps: int, rows: int, columns: int,
) -> None:  # fmt: skip
    """sums[i, j, l] += Σₙₖ a[n, i, k·lanes + l]·b[n, places[j] + k·lanes + l]  for i < rows, j < columns, k < steps.

    Lanes are the numbers in 64 bytes: partial sums, added up in the end. Arrays are flat: a[n, i] begins at
    a_at + n·a_next + i·a_row, b[n] at b_at + n·b_next, sums[i, j] at (i·row + j)·lanes.
    """
    lanes = 64 // a.itemsize
    for i in range(rows):
        for j in range(columns):
            found = sums[(i * row + j) * lanes : (i * row + j + 1) * lanes]
            for n in range(images):
                a_n, b_n = a[a_at + n * a_next + i * a_row :], b[b_at + n * b_next + places[j] :]
                for k in range(0, steps * lanes, lanes):
                    for q in range(k, k + lanes):
                        found[q - k] = found[q - k] + a_n[q] * b_n[q]


@kernel(linked=True)
def convolve(x: Array, w: Array, b: Array, geometry: Array, first: int, last: int, y: Array) -> None:
    """`conv2d_forward` for images `first` to `last`."""
    channels, groups = x.shape[1], geometry[GROUPS]
    outputs, inside = w.shape[0] // groups, w.shape[1]
    terms = inside * w.shape[2] * w.shape[3]
    high, wide = plane_shape(w, y, geometry)
    taps = tap_places(w, channels, high, wide, geometry).reshape(-1)
    width = 192 // y.itemsize  # of one tile
    length = (y.shape[2] - 1) * wide + y.shape[3]
    w_flat = w.reshape(-1)
    planes, out = (
        aligned(geometry[STRIDE_H] * geometry[STRIDE_W] * channels * high * wide, x),
        aligned(w.shape[0] * length, x),
    )
    planes[:] = 0
    for n in range(first, last):
        fill_planes(x[n], planes, high, wide, geometry)
        for g in range(groups):
            for q in range(0, length, width):
                for k in range(0, terms, TERMS):
                    matmul_taps(
                        w_flat, g * outputs * terms + k, terms, planes, g * inside * high * wide + q, taps[k:],
                        out, g * outputs * length + q, length,
                        min(TERMS, terms - k), outputs, min(width, length - q), k > 0,
                    )  # fmt: skip
        for o in range(w.shape[0]):
            for i in range(y.shape[2]):
                source, target = out[o * length + i * wide :], y[n, o, i]
                for j in range(target.size):
                    target[j] = source[j] + b[o]


@kernel(parallel=lambda x, w, b, geometry, y: _worth(w, y))
def conv2d_forward(x: Array, w: Array, b: Array, geometry: Array, y: Array) -> None:
    """y[n, o, i, j] = b[o] + Σ w[o, c, u, v] · x[n, c, i·s + u·d − p, j·s + v·d − p] over c, u, v, in o's group.

    x (N, C, H, W), w (O, C / groups, KH, KW), b (O), y (N, O, OH, OW): C order.
    """
    parts = min(x.shape[0], 64)
    for t in prange(parts):
        part = np.int64(t)
        convolve(x, w, b, geometry, part * x.shape[0] // parts, (part + 1) * x.shape[0] // parts, y)


@kernel
def spread_rows(dy: Array, first: int, count: int, apart: Array, row: int, wide: int) -> None:
    """Channels `first` to `first + count` of dy (O, OH, OW): channel o from o·row on, in rows of `wide` numbers."""
    for o in range(first, first + count):
        for i in range(dy.shape[1]):
            source, target = dy[o, i], apart[o * row + i * wide : o * row + i * wide + dy.shape[2]]
            for j in range(target.size):
                target[j] = source[j]


@kernel(linked=True)
def convolve_back(dy: Array, w: Array, geometry: Array, first: int, last: int, dx: Array) -> None:
    """`conv2d_dx` for images `first` to `last`."""
    channels, groups = dx.shape[1], geometry[GROUPS]
    outputs, inside, area = w.shape[0] // groups, w.shape[1], w.shape[2] * w.shape[3]
    high, wide = plane_shape(w, dy, geometry)
    taps = tap_places(w, channels, high, wide, geometry)[0]
    width = WIDTH // dy.itemsize
    length = (dy.shape[2] - 1) * wide + dy.shape[3]
    w_flat = w.reshape(-1)
    planes = aligned(geometry[STRIDE_H] * geometry[STRIDE_W] * channels * high * wide, dy)
    apart = aligned(w.shape[0] * length, dy)  # dy in rows of `wide`, 0 between them
    apart[:] = 0
    for n in range(first, last):
        spread_rows(dy[n], 0, w.shape[0], apart, length, wide)
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


@kernel(linked=True)
def settle_dx(dy: Array, w: Array, geometry: Array, dx: Array) -> None:
    """If weights are not finite, recompute the NaNs of dx by the plain sum, without the 0s between rows of dy."""
    total = np.float64(0)
    for value in w.reshape(-1):
        total += value - value
    if total == 0:
        return
    outputs, inside = w.shape[0] // geometry[GROUPS], w.shape[1]
    for n in range(dx.shape[0]):
        for c in range(dx.shape[1]):
            for row in range(dx.shape[2]):
                for column in range(dx.shape[3]):
                    if dx[n, c, row, column] == dx[n, c, row, column]:
                        continue
                    total = np.float64(0)
                    for u in range(w.shape[2]):
                        i = row + geometry[TOP] - u * geometry[DILATION_H]
                        if i < 0 or i % geometry[STRIDE_H] or i // geometry[STRIDE_H] >= dy.shape[2]:
                            continue
                        for v in range(w.shape[3]):
                            j = column + geometry[LEFT] - v * geometry[DILATION_W]
                            if j < 0 or j % geometry[STRIDE_W] or j // geometry[STRIDE_W] >= dy.shape[3]:
                                continue
                            for o in range(c // inside * outputs, (c // inside + 1) * outputs):
                                total += (
                                    w[o, c % inside, u, v] * dy[n, o, i // geometry[STRIDE_H], j // geometry[STRIDE_W]]
                                )
                    dx[n, c, row, column] = total


@kernel(parallel=lambda dy, w, geometry, dx: _worth(w, dy))
def conv2d_dx(dy: Array, w: Array, geometry: Array, dx: Array) -> None:
    """dx[n, c, i·s + u·d − p, j·s + v·d − p] = Σ w[o, c, u, v] · dy[n, o, i, j] over o and all (i, j, u, v) there."""
    parts = min(dx.shape[0], 64)
    for t in prange(parts):
        part = np.int64(t)
        convolve_back(dy, w, geometry, part * dx.shape[0] // parts, (part + 1) * dx.shape[0] // parts, dx)
    settle_dx(dy, w, geometry, dx)


@kernel(parallel=lambda dy, turned, zeros, back, w, geometry, dx: _worth(w, dy))
def conv2d_dx_turned(
    dy: Array, turned: Array, zeros: Array, back: Array, w: Array, geometry: Array, dx: Array
) -> None:  # fmt: skip
    """`conv2d_dx` for a stride of 1, as a convolution of dy with the rotated weight, `back` its geometry."""
    parts = min(dx.shape[0], 64)
    for t in prange(parts):
        part = np.int64(t)
        convolve(dy, turned, zeros, back, part * dx.shape[0] // parts, (part + 1) * dx.shape[0] // parts, dx)
    settle_dx(dy, w, geometry, dx)


@kernel(linked=True)
def convolve_images(dy: Array, x: Array, geometry: Array, first: int, last: int, dw: Array, sums: Array) -> None:
    """dw for images `first` to `last`, flat and in float64, into `sums`; of dw only the shape is used."""
    channels, groups, lanes = x.shape[1], geometry[GROUPS], 64 // dy.itemsize
    outputs, inside = dw.shape[0] // groups, dw.shape[1]
    terms = inside * dw.shape[2] * dw.shape[3]
    high, wide = plane_shape(dw, dy, geometry)
    taps = tap_places(dw, channels, high, wide, geometry).reshape(-1)
    steps = ((dy.shape[2] - 1) * wide + dy.shape[3] + lanes - 1) // lanes
    row, plane = steps * lanes, geometry[STRIDE_H] * geometry[STRIDE_W] * channels * high * wide
    together = max(1, 64 // steps)  # small images that one run of `lane_products` sums over
    batch = max(1, 512 // (together * steps)) * together  # images after which sums move to float64
    most = max(4, (1 << 20) // (terms * lanes))  # output channels at a time, so that their sums stay in cache
    planes = aligned(together * plane + lanes, dy)
    apart = aligned(together * dw.shape[0] * row, dy)  # dy in rows of `wide`, 0 between them and behind
    products = aligned(min(most, outputs) * terms * lanes, dy)
    planes[:] = 0
    apart[:] = 0
    sums[:] = 0
    for q in range(0, dw.shape[0], outputs):
        group = q // outputs * inside * high * wide
        for o in range(q, q + outputs, most):
            count = min(most, q + outputs - o)
            for start in range(first, last, batch):
                products[:] = 0
                for n in range(start, min(start + batch, last), together):
                    images = min(together, last - n)
                    for i in range(images):
                        fill_planes(x[n + i], planes[i * plane :], high, wide, geometry)
                        spread_rows(dy[n + i], o, count, apart[i * dw.shape[0] * row :], row, wide)
                    lane_products(
                        apart, o * row, row, dw.shape[0] * row, planes, group, taps, plane,
                        products, terms, images, steps, count, terms,
                    )  # fmt: skip
                for k in range(count * terms):
                    sums[o * terms + k] += lane_sum(products[k * lanes : (k + 1) * lanes])


@kernel
def sum_channels(dy: Array, first: int, last: int, sums: Array) -> None:
    """sums[o] = Σ dy[n, o, i, j] over n from `first` to `last`, i, j.   dy (N, O, OH, OW)"""
    lanes, zero = np.empty(2 * LANES, dy.dtype), dy.dtype.type(0)
    sums[:] = 0
    for n in range(first, last):
        for o in range(dy.shape[1]):
            channel = dy[n, o].reshape(-1)
            sums[o] += centred_sums(channel, channel, zero, zero, lanes)[0]


@kernel
def add_parts(sums: Array, total: Array) -> None:
    """total[i] = Σ sums[part, i]"""
    for i in range(total.size):
        found = np.float64(0)
        for part in range(sums.shape[0]):
            found += sums[part, i]
        total[i] = found


@kernel(linked=True)
def settle_nan(dy: Array, x: Array, geometry: Array, dw: Array) -> None:
    """Recompute the NaNs of dw by the plain sum: the long rows also add 0 times unrelated numbers."""
    outputs = dw.shape[0] // geometry[GROUPS]
    for o in range(dw.shape[0]):
        for c in range(dw.shape[1]):
            channel = o // outputs * dw.shape[1] + c
            for u in range(dw.shape[2]):
                for v in range(dw.shape[3]):
                    if dw[o, c, u, v] == dw[o, c, u, v]:
                        continue
                    total = np.float64(0)
                    for n in range(x.shape[0]):
                        for i in range(dy.shape[2]):
                            row = i * geometry[STRIDE_H] + u * geometry[DILATION_H] - geometry[TOP]
                            if row < 0 or row >= x.shape[2]:
                                continue
                            for j in range(dy.shape[3]):
                                column = j * geometry[STRIDE_W] + v * geometry[DILATION_W] - geometry[LEFT]
                                if column >= 0 and column < x.shape[3]:
                                    total += dy[n, o, i, j] * x[n, channel, row, column]
                        if total != total:  # it stays NaN
                            break
                    dw[o, c, u, v] = total


@kernel(parallel=lambda dy, x, geometry, dw, db: _worth(dw, dy))
def conv2d_dw(dy: Array, x: Array, geometry: Array, dw: Array, db: Array) -> None:
    """dw[o, c, u, v] = Σ dy[n, o, i, j] · x[n, c, i·s + u·d − p, j·s + v·d − p] over n, i, j;  db[o] = Σ dy[n, o, …].

    Images are split into partial sums whose number depends only on theirs, so threads do not change a bit.
    """
    parts = min(x.shape[0], 16)
    sums, biases = np.empty((parts, dw.size), np.float64), np.empty((parts, dw.shape[0]), np.float64)
    for t in prange(parts):
        part = np.int64(t)
        first, last = part * x.shape[0] // parts, (part + 1) * x.shape[0] // parts
        convolve_images(dy, x, geometry, first, last, dw, sums[part])
        sum_channels(dy, first, last, biases[part])
    add_parts(sums, dw.reshape(-1))
    add_parts(biases, db)
    settle_nan(dy, x, geometry, dw)
