"""The loops of augmentation: images (N, C, H, W) float32, one output image for each parallel iteration.

All numbers that are drawn come as arguments. Places and sums are float64, so that loops compiled and interpreted
agree to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.jit import kernel, prange
from minidl.tensor import Array


def _worth(out: Array) -> bool:
    """Do threads pay for some 5 ns a pixel?"""
    return out.size >= 1 << 14


@kernel
def bilinear(plane: Array, y: float, x: float, fill: float) -> Any:
    """The value at row y, column x of a plane (H, W), between its four neighbours; those outside are `fill`.

    p + (x − ⌊x⌋)·(q − p) from left p to right q, in the rows above and below, then the same between these.
    """
    height, width = plane.shape
    if not (-1.0 < y < height and -1.0 < x < width):  # NaN too, before it is made an integer
        return np.float64(fill)
    top, left = math.floor(y), math.floor(x)
    down, right = y - top, x - left
    above_left = above_right = below_left = below_right = np.float64(fill)
    if top >= 0:
        if left >= 0:
            above_left = np.float64(plane[top, left])
        if left + 1 < width:
            above_right = np.float64(plane[top, left + 1])
    if top + 1 < height:
        if left >= 0:
            below_left = np.float64(plane[top + 1, left])
        if left + 1 < width:
            below_right = np.float64(plane[top + 1, left + 1])
    above = above_left + right * (above_right - above_left)
    below = below_left + right * (below_right - below_left)
    return above + down * (below - above)


@kernel(parallel=lambda images, maps, fill, out: _worth(out))
def resample_affine(images: Array, maps: Array, fill: float, out: Array) -> None:
    """out[n, c, i, j] = images[n, c] at row a·i + b·j + r and column d·i + e·j + s, (a, b, r, d, e, s) = maps[n]."""
    for n in prange(out.shape[0]):
        a, b, r, d, e, s = maps[n, 0], maps[n, 1], maps[n, 2], maps[n, 3], maps[n, 4], maps[n, 5]
        for c in range(out.shape[1]):
            plane, target = images[n, c], out[n, c]
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    target[i, j] = bilinear(plane, a * i + b * j + r, d * i + e * j + s, fill)


@kernel(parallel=lambda images, fields, alpha, fill, out: _worth(out))
def resample_elastic(images: Array, fields: Array, alpha: float, fill: float, out: Array) -> None:
    """out[n, c, i, j] = images[n, c] at row i + α·fields[n, 0, i, j] and column j + α·fields[n, 1, i, j]."""
    for n in prange(out.shape[0]):
        rows, columns = fields[n, 0], fields[n, 1]
        for c in range(out.shape[1]):
            plane, target = images[n, c], out[n, c]
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    target[i, j] = bilinear(plane, i + alpha * rows[i, j], j + alpha * columns[i, j], fill)


@kernel(parallel=lambda fields, weights, half, out: _worth(out))
def smooth_fields(fields: Array, weights: Array, half: Array, out: Array) -> None:
    """out[p, i, j] = Σₖₗ weights[k + R]·weights[l + R]·fields[p, i + k, j + l], |k|, |l| ≤ R; 0 outside.

    fields, half, out (P, H, W), weights (2R + 1): float64. half: the sums over rows, which are taken first.
    """
    radius, height, width = weights.size // 2, fields.shape[1], fields.shape[2]
    for p in prange(fields.shape[0]):
        field, between, target = fields[p], half[p], out[p]
        between[:] = 0
        target[:] = 0
        for i in range(height):
            for k in range(max(-radius, -i), min(radius, height - 1 - i) + 1):
                weight, source, sums = weights[k + radius], field[i + k], between[i]
                for j in range(width):
                    sums[j] += weight * source[j]
            for k in range(max(-radius, 1 - width), min(radius, width - 1) + 1):
                first, count = max(0, -k), width - abs(k)
                weight, source, sums = weights[k + radius], between[i, first + k :], target[i, first:]
                for j in range(count):
                    sums[j] += weight * source[j]


@kernel(parallel=lambda images, draws, sigma, low, high, out: _worth(out))
def add_noise(images: Array, draws: Array, sigma: float, low: float, high: float, out: Array) -> None:
    """out[n, i] = images[n, i] + σ·draws[n, i], brought into [low, high].   (N, C·H·W), draws float64"""
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
