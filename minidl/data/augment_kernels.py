"""Kernels for augmentation: images (N, C, H, W) float32, one output image per parallel iteration.

Random numbers are passed in as arguments. Coordinates and sums are float64, so that compiled and interpreted loops
agree bit for bit.
"""

from __future__ import annotations

import numpy as np

from minidl.jit import kernel, prange
from minidl.tensor import Array


def _worth(out: Array) -> bool:
    """Whether threads pay off, at about 5 ns a pixel."""
    return out.size >= 1 << 15


@kernel
def surround(plane: Array, fill: float, out: Array) -> None:
    """out (H + 3, W + 3) = the plane (H, W) from (1, 1) on, and `fill` around it, as `interpolate` expects."""
    height, width = plane.shape
    out[:] = fill
    for i in range(height):
        source, target = plane[i], out[i + 1, 1:]
        for j in range(width):
            target[j] = source[j]


@kernel
def interpolate(padded: Array, size: tuple[int, int], rows: Array, columns: Array, out: Array) -> None:
    """out[j] = the value at row rows[j], column columns[j] of a plane, between its four neighbours; outside: the fill.

    p + (x − ⌊x⌋)·(q − p) from left p to right q, in the row above and the row below, then the same between these.
    padded: the plane of this size (H, W) as `surround` makes it, flat. Coordinates more than a pixel outside, and NaN,
    are clamped to one pixel outside, so that the loop has no branch and vectorises.
    """
    across, bottom, last = np.uint32(size[1] + 3), size[0] + 1.0, size[1] + 1.0
    one, next_row = np.uint32(1), np.uint32(size[1] + 3)
    for j in range(out.size):
        y, x = rows[j] + 1.0, columns[j] + 1.0
        y = min(y, bottom) if y > 0.0 else 0.0
        x = min(x, last) if x > 0.0 else 0.0
        top, left = np.uint32(y), np.uint32(x)
        down, right = y - np.float64(top), x - np.float64(left)
        k = top * across + left
        a, b = np.float64(padded[k]), np.float64(padded[k + one])
        c, d = np.float64(padded[k + next_row]), np.float64(padded[k + next_row + one])
        above, below = a + right * (b - a), c + right * (d - c)
        out[j] = above + down * (below - above)


@kernel(parallel=lambda images, maps, fill, out: _worth(out))
def resample_affine(images: Array, maps: Array, fill: float, out: Array) -> None:
    """out[n, c, i, j] = images[n, c] at row a·i + b·j + r and column d·i + e·j + s, (a, b, r, d, e, s) = maps[n]."""
    height, width = images.shape[2], images.shape[3]
    for n in prange(out.shape[0]):
        a, b, r, d, e, s = maps[n, 0], maps[n, 1], maps[n, 2], maps[n, 3], maps[n, 4], maps[n, 5]
        padded = np.empty((height + 3, width + 3), np.float32)
        rows, columns = np.empty(width, np.float64), np.empty(width, np.float64)
        for c in range(out.shape[1]):
            surround(images[n, c], fill, padded)
            for i in range(height):
                for j in range(width):
                    rows[j], columns[j] = a * i + b * j + r, d * i + e * j + s
                interpolate(padded.reshape(-1), (height, width), rows, columns, out[n, c, i])


@kernel(parallel=lambda images, fields, alpha, fill, out: _worth(out))
def resample_elastic(images: Array, fields: Array, alpha: float, fill: float, out: Array) -> None:
    """out[n, c, i, j] = images[n, c] at row i + α·fields[n, 0, i, j] and column j + α·fields[n, 1, i, j]."""
    height, width = images.shape[2], images.shape[3]
    for n in prange(out.shape[0]):
        padded = np.empty((height + 3, width + 3), np.float32)
        rows, columns = np.empty(width, np.float64), np.empty(width, np.float64)
        for c in range(out.shape[1]):
            surround(images[n, c], fill, padded)
            for i in range(height):
                for j in range(width):
                    rows[j], columns[j] = i + alpha * fields[n, 0, i, j], j + alpha * fields[n, 1, i, j]
                interpolate(padded.reshape(-1), (height, width), rows, columns, out[n, c, i])


@kernel
def smooth_columns(source: Array, weights: Array, out: Array) -> None:
    """out[i, m] = Σₖ weights[k + R]·source[i + k, m], |k| ≤ R; 0 outside.   source, out (H, M), weights (2R + 1)"""
    radius, height = weights.size // 2, source.shape[0]
    for i in range(height):
        sums = out[i]
        sums[:] = 0
        for k in range(max(-radius, -i), min(radius, height - 1 - i) + 1):
            weight, row = weights[k + radius], source[i + k]
            for m in range(sums.size):
                sums[m] += weight * row[m]


@kernel(parallel=lambda weights, fields: _worth(fields), updates=["fields"])
def smooth_fields(weights: Array, fields: Array) -> None:
    """fields[p, i, j] = Σₖₗ weights[k + R]·weights[l + R]·u[p, i + k, j + l], |k|, |l| ≤ R; 0 outside.

    u = 2·fields − 1 on entry, from draws in [0, 1). fields (P, H, W), weights (2R + 1): float64. Several planes lie
    side by side, then transposed, so that all sums run over rows, in vectors as long as all their columns.
    """
    planes, height, width = fields.shape
    several = max(1, 256 // max(1, width))
    for block in prange((planes + several - 1) // several):
        first, count = block * several, min(several, planes - block * several)
        upright, upright_sums = np.empty((height, count, width)), np.empty((height, count, width))
        for i in range(height):
            for p in range(count):
                for j in range(width):
                    upright[i, p, j] = 2.0 * fields[first + p, i, j] - 1.0
        sides = height, count * width
        smooth_columns(upright.reshape(sides), weights, upright_sums.reshape(sides))
        lying, lying_sums = np.empty((width, count, height)), np.empty((width, count, height))
        for i in range(height):
            for p in range(count):
                for j in range(width):
                    lying[j, p, i] = upright_sums[i, p, j]
        sides = width, count * height
        smooth_columns(lying.reshape(sides), weights, lying_sums.reshape(sides))
        for p in range(count):
            for i in range(height):
                for j in range(width):
                    fields[first + p, i, j] = lying_sums[j, p, i]


@kernel(parallel=lambda images, draws, sigma, low, high, out: _worth(out))
def add_noise(images: Array, draws: Array, sigma: float, low: float, high: float, out: Array) -> None:
    """out[n, i] = images[n, i] + σ·draws[n, i], clipped to [low, high].   (N, C·H·W), draws float64"""
    for n in prange(out.shape[0]):
        source, drawn, target = images[n], draws[n], out[n]
        for i in range(target.size):
            value = source[i] + sigma * drawn[i]
            target[i] = low if value < low else high if value > high else value


@kernel(parallel=lambda images, corners, fill, out: out.size >= 1 << 17)
def crop_images(images: Array, corners: Array, fill: float, out: Array) -> None:
    """out[n, c, i, j] = images[n, c, i + corners[n, 0], j + corners[n, 1]], or `fill` where that is outside."""
    height, width = images.shape[2], images.shape[3]
    for n in prange(out.shape[0]):
        top, left = corners[n, 0], corners[n, 1]
        first, last = max(0, -left), min(out.shape[3], width - left)
        for c in range(out.shape[1]):
            for i in range(out.shape[2]):
                target = out[n, c, i]
                target[:] = fill
                if 0 <= i + top < height:
                    source = images[n, c, i + top]
                    for j in range(first, last):
                        target[j] = source[j + left]


@kernel(parallel=lambda images, flipped, vertical, out: out.size >= 1 << 17)
def flip_images(images: Array, flipped: Array, vertical: bool, out: Array) -> None:
    """out[n, c, i, j] = images[n, c, H − 1 − i, j] if vertical, else images[n, c, i, W − 1 − j], where flipped[n]."""
    height, width = images.shape[2], images.shape[3]
    for n in prange(out.shape[0]):
        for c in range(out.shape[1]):
            for i in range(height):
                source = images[n, c, height - 1 - i if flipped[n] and vertical else i]
                target = out[n, c, i]
                if flipped[n] and not vertical:
                    for j in range(width):
                        target[j] = source[width - 1 - j]
                else:
                    for j in range(width):
                        target[j] = source[j]


@kernel(updates=["out"])
def cut_out(corners: Array, size: int, fill: float, out: Array) -> None:
    """out[n, c, i, j] = fill where 0 ≤ i − corners[n, 0] < size and 0 ≤ j − corners[n, 1] < size; else as it was."""
    for n in range(out.shape[0]):
        top, left = corners[n, 0], corners[n, 1]
        for c in range(out.shape[1]):
            for i in range(max(0, top), min(out.shape[2], top + size)):
                for j in range(max(0, left), min(out.shape[3], left + size)):
                    out[n, c, i, j] = fill


@kernel(parallel=lambda images, partners, shares, out: out.size >= 1 << 17)
def mix_images(images: Array, partners: Array, shares: Array, out: Array) -> None:
    """out[n, i] = λ·images[n, i] + (1 − λ)·images[partners[n], i], λ = shares[n].   (N, C·H·W), shares float64"""
    for n in prange(out.shape[0]):
        own, other, target, share = images[n], images[partners[n]], out[n], shares[n]
        rest = 1.0 - share
        for i in range(target.size):
            target[i] = share * own[i] + rest * other[i]
