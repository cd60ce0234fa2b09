"""Augmentation: images a second, against SciPy or NumPy, which take the images one by one where SciPy has no other way.

    python benchmarks/augment.py [ROUNDS] [THREADS]

256 images of 28 x 28, the same random numbers for both; results are compared first, then both are timed in turn. The
drawing of random numbers counts, too. `pip install scipy` for that rival.
"""

import statistics
import sys
import time

import numpy as np

import minidl
from minidl.data import augment
from minidl.data.augment import affine_maps

try:
    from scipy import ndimage
except ImportError:
    sys.exit("this compares with SciPy: pip install scipy")
N, SIZE = 256, 28
IMAGES = np.random.default_rng(0).random((N, 1, SIZE, SIZE), np.float32)


def affine(x, generator):
    """As `Affine(15, 2, 0.1, 10)`."""
    drawn = generator.uniform(-1, 1, (N, 5))
    angle, slope = np.deg2rad(15 * drawn[:, 0]), np.tan(np.deg2rad(10 * drawn[:, 4]))
    maps = affine_maps((SIZE, SIZE), angle, 2 * drawn[:, 1:3], 1 + 0.1 * drawn[:, 3], slope).reshape(N, 2, 3)
    out = np.empty_like(x)
    for n in range(N):
        ndimage.affine_transform(
            x[n, 0], maps[n, :, :2], maps[n, :, 2], output=out[n, 0], order=1, mode="grid-constant"
        )
    return out


def elastic(x, generator):
    """As `Elastic(34, 4)`."""
    fields = generator.uniform(-1, 1, (N, 2, SIZE, SIZE))
    smooth = 34 * ndimage.gaussian_filter(fields, 4, mode="constant", truncate=4, axes=(2, 3))
    places, out = smooth + np.indices((SIZE, SIZE)), np.empty_like(x)
    for n in range(N):
        ndimage.map_coordinates(x[n, 0], places[n], output=out[n, 0], order=1, mode="grid-constant")
    return out


def noise(x, generator):
    return np.clip(x + 0.1 * generator.standard_normal(x.shape), 0, 1).astype(np.float32)


def crop(x, generator):
    padded, corners = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2))), generator.integers(0, [5, 5], (N, 2))
    return np.stack([p[:, i : i + SIZE, j : j + SIZE] for p, (i, j) in zip(padded, corners, strict=True)])


def flip(x, generator):
    return np.where((generator.random(N) < 0.5)[:, None, None, None], x[..., ::-1], x)


def cutout(x, generator):
    out = x.copy()
    for image, (i, j) in zip(out, generator.integers(0, [SIZE, SIZE], (N, 2)), strict=True):
        image[:, max(0, i - 4) : i + 4, max(0, j - 4) : j + 4] = 0
    return out


def mixup(x, generator):
    share, partner = generator.beta(0.2, 0.2, N)[:, None, None, None], generator.permutation(N)
    return (share * x + (1 - share) * x[partner]).astype(np.float32)


LABELS = np.arange(N) % 10
CASES = {
    "Affine, SciPy": (augment.Affine(15, 2, 0.1, 10), affine),
    "Elastic, SciPy": (augment.Elastic(34, 4), elastic),
    "Noise, NumPy": (augment.Noise(0.1), noise),
    "Crop, NumPy": (augment.Crop(padding=2), crop),
    "Flip, NumPy": (augment.Flip(), flip),
    "Cutout, NumPy": (augment.Cutout(8), cutout),
    "Mixup, NumPy": (lambda x, generator: augment.Mixup(10)(x, LABELS, generator)[0], mixup),
}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    minidl.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else minidl.get_num_threads())
    print(f"{N} images of {SIZE} x {SIZE}, {minidl.get_num_threads()} threads, medians of {rounds} alternated rounds")
    print(f"{'':16}{'minidl, images/s':>18}{'rival, images/s':>18}{'ratio (lowest, highest)':>27}")
    for name, functions in CASES.items():
        found, expected = (f(IMAGES, np.random.default_rng(1)) for f in functions)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        times = ([], [])
        for _ in range(rounds):
            for f, taken in zip(functions, times, strict=True):
                generator = np.random.default_rng(1)
                start = time.perf_counter()
                f(IMAGES, generator)
                taken.append(time.perf_counter() - start)
        rates = [N / statistics.median(taken) for taken in times]
        ratios = [b / a for a, b in zip(*times, strict=True)]
        told = f"{statistics.median(ratios):.1f} ({min(ratios):.1f}, {max(ratios):.1f})"
        print(f"{name:16}{rates[0]:18,.0f}{rates[1]:18,.0f}{told:>27}")


if __name__ == "__main__":
    main()
