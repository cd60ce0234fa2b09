"""Augmentation: each transformation against slow references, and what all of them promise; in the loader, too."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import data, jit, nn, ops, optim
from minidl.data import Loader, augment, augment_kernels
from minidl.data.augment import affine_maps
from minidl.data.options import float_images

F32 = np.float32


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).random((n, *(shape or (1, 6, 5))), F32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class Extreme(np.random.Generator):
    """Draws the largest value of every uniform distribution: the options themselves."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def uniform(self, low: float, high: float, size: Any) -> Any:
        return np.full(size, float(high))


# ------------------------------------------------------------------------------- geometry: references


def interpolated(plane: np.ndarray, y: float, x: float, fill: float) -> float:
    """Bilinear, from a plane that goes on outside as `fill`: as slow as it is plain."""

    def at(i: int, j: int) -> float:
        inside = 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]
        return float(plane[i, j]) if inside else float(F32(fill))

    i, j = int(np.floor(y)), int(np.floor(x))
    return sum(
        at(i + u, j + v) * (y - i if u else 1 - y + i) * (x - j if v else 1 - x + j) for u in (0, 1) for v in (0, 1)
    )


def resampled(x: np.ndarray, place: Callable[[int, int, int], Any], fill: float) -> np.ndarray:
    out = np.empty(x.shape)
    for n, c, i, j in np.ndindex(x.shape):
        out[n, c, i, j] = interpolated(x[n, c], *place(n, i, j), fill)
    return out


def affine_reference(x: np.ndarray, t: augment.Affine, drawn: np.ndarray) -> np.ndarray:
    """From the definition: p′ = z·R·S·(p − c) + c + t on (x, y), y downward, solved for p."""
    centre = np.array([(x.shape[3] - 1) / 2, (x.shape[2] - 1) / 2])
    vertical, horizontal = t.pixels if isinstance(t.pixels, tuple) else (t.pixels, t.pixels)

    def place(n: int, i: int, j: int) -> Any:
        angle, slope = np.radians(t.degrees * drawn[n, 0]), np.tan(np.radians(t.shear * drawn[n, 4]))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = (1 + t.zoom * drawn[n, 3]) * turn @ np.array([[1, slope], [0, 1]])
        shift = np.array([horizontal * drawn[n, 2], vertical * drawn[n, 1]])
        return np.linalg.solve(matrix, np.array([j, i]) - centre - shift)[::-1] + centre[::-1]

    return resampled(x, place, t.fill)


def gaussian_reference(field: np.ndarray, sigma: float) -> np.ndarray:
    """The field, 0 outside, times weights of both distances, cut off at 4σ."""
    radius = int(4 * sigma + 0.5)
    total = sum(np.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1))

    def weights(size: int) -> np.ndarray:
        away = np.subtract.outer(np.arange(size), np.arange(size))
        return np.where(abs(away) <= radius, np.exp(-0.5 * (away / sigma) ** 2) / total, 0)

    return weights(field.shape[0]) @ field @ weights(field.shape[1])


AFFINE = [
    augment.Rotate(40),
    augment.Rotate(180, fill=0.5),
    augment.Shift(2.5),
    augment.Shift((0, 3), fill=-1),
    augment.Zoom(0.6),
    augment.Zoom(0.5, fill=1),
    augment.Shear(35),
    augment.Affine(20, 1.5, 0.3, 25, 0.25),
    augment.Affine(degrees=5, pixels=(1, 0.5)),
]


@pytest.mark.parametrize("t", AFFINE, ids=repr)
@pytest.mark.parametrize("shape", [(4, 1, 6, 5), (2, 3, 4, 7), (3, 1, 1, 1), (2, 2, 1, 5)])
def test_affine(t: augment.Affine, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    expected = affine_reference(x, t, rng(3).uniform(-1, 1, (len(x), 5)))
    np.testing.assert_allclose(t(x, rng(3)), expected, rtol=0, atol=2e-6)


@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
    options=st.tuples(st.floats(0, 180), st.floats(0, 9), st.floats(0, 0.9), st.floats(0, 80), st.floats(-2, 2)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_affine_of_any_options(shape: tuple[int, ...], options: tuple[float, ...], seed: int) -> None:
    x, t, fill = images(*shape), augment.Affine(*options), options[-1]
    expected = affine_reference(x, t, rng(seed).uniform(-1, 1, (len(x), 5)))
    found = t(x, rng(seed))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    if x.size:
        assert min(x.min(), F32(fill)) <= found.min()
        assert found.max() <= max(x.max(), F32(fill))


def test_directions() -> None:
    """Counter-clockwise, down and right, larger, and below the centre to the right."""
    x = images(1, 1, 5, 5)
    np.testing.assert_allclose(augment.Rotate(90)(x, Extreme()), np.rot90(x, axes=(2, 3)), atol=1e-6)
    np.testing.assert_allclose(augment.Rotate(180)(x, Extreme()), x[:, :, ::-1, ::-1], atol=1e-6)
    down, right = augment.Shift((2, 0), fill=9)(x, Extreme()), augment.Shift((0, 1), fill=9)(x, Extreme())
    np.testing.assert_array_equal(down[0, 0], np.vstack([np.full((2, 5), 9), x[0, 0, :3]]))
    np.testing.assert_array_equal(right[0, 0], np.hstack([np.full((5, 1), 9), x[0, 0, :, :4]]))
    spot = np.zeros((1, 1, 9, 9), F32)
    spot[0, 0, 4, 6] = 1  # 2 to the right of the centre
    assert augment.Zoom(0.5)(spot, Extreme())[0, 0, 4, 7] == 1  # now 3
    spot = np.zeros((1, 1, 9, 9), F32)
    spot[0, 0, 6, 4] = 1  # 2 below the centre
    np.testing.assert_allclose(augment.Shear(45)(spot, Extreme())[0, 0, 6, 6], 1, atol=1e-6)


def test_the_order_within_affine() -> None:
    """Shear first, then rotate about the centre, then shift, as three of them would one after the other."""
    one = np.ones(1)
    maps = [
        affine_maps((8, 8), one * angle, np.array([t], float), one * zoom, one * slope)
        for angle, t, zoom, slope in (
            (0.3, (1, 2), 1.2, 0.4),
            (0, (0, 0), 1, 0.4),
            (0.3, (0, 0), 1.2, 0),
            (0, (1, 2), 1, 0),
        )
    ]
    whole, shear, turn, shift = (np.vstack([m.reshape(2, 3), [0, 0, 1]]) for m in maps)
    np.testing.assert_allclose(whole, shear @ turn @ shift, atol=1e-12)  # inverses: the last comes first


def test_one_affine_is_the_single_ones() -> None:
    x = images(5)
    for single, whole in (
        (augment.Rotate(15, fill=0.5), augment.Affine(degrees=15, fill=0.5)),
        (augment.Shift((1, 2)), augment.Affine(pixels=(1, 2))),
        (augment.Zoom(0.2), augment.Affine(zoom=0.2)),
        (augment.Shear(10), augment.Affine(shear=10)),
    ):
        assert single(x, rng()).tobytes() == whole(x, rng()).tobytes()


@pytest.mark.parametrize("fill", [0.0, 0.75])
def test_what_is_outside_is_the_fill(fill: float) -> None:
    """Out of sight it is the fill exactly, half a pixel over the border it is halfway to it."""
    x = np.ones((1, 1, 4, 4), F32)
    far = augment.Shift(100, fill=fill)(x, Extreme())
    np.testing.assert_array_equal(far, np.full_like(x, fill))
    half = augment.Shift((0, 0.5), fill=fill)(x, Extreme())
    np.testing.assert_array_equal(half[0, 0, 0], [(1 + fill) / 2, 1, 1, 1])
    for t in (augment.Shift(1e300, fill=fill), augment.Shear(89.99999, fill=fill), augment.Zoom(0.999999, fill=fill)):
        assert np.isfinite(t(x, rng())).all()


def test_against_scipy() -> None:
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    x, t = images(6, 1, 28, 28), augment.Affine(30, 4, 0.3, 20, fill=0.5)
    drawn = rng(1).uniform(-1, 1, (6, 5))
    angle, slope = np.radians(30 * drawn[:, 0]), np.tan(np.radians(20 * drawn[:, 4]))
    maps = affine_maps((28, 28), angle, 4 * drawn[:, 1:3], 1 + 0.3 * drawn[:, 3], slope).reshape(6, 2, 3)
    found = t(x, rng(1))
    for n in range(6):
        expected = ndimage.affine_transform(
            x[n, 0].astype(float), maps[n, :, :2], maps[n, :, 2], order=1, mode="grid-constant", cval=0.5
        )
        np.testing.assert_allclose(found[n, 0], expected, atol=1e-6)
    found = augment.Elastic(20, 3, fill=0.5)(x, rng(2))
    for n, u in enumerate(rng(2).uniform(-1, 1, (6, 2, 28, 28))):
        away = [20 * ndimage.gaussian_filter(field, 3, mode="constant", truncate=4) for field in u]
        places = [np.arange(28)[:, None] + away[0], np.arange(28) + away[1]]
        expected = ndimage.map_coordinates(x[n, 0].astype(float), places, order=1, mode="grid-constant", cval=0.5)
        np.testing.assert_allclose(found[n, 0], expected, atol=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), [(8.0, 1.0), (34.0, 4.0), (2.0, 0.1), (200.0, 30.0)])
@pytest.mark.parametrize("shape", [(3, 1, 6, 5), (2, 2, 9, 3), (1, 1, 1, 1)])
def test_elastic(alpha: float, sigma: float, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    u = rng(4).uniform(-1, 1, (len(x), 2, *shape[2:]))
    fields = alpha * np.array([[gaussian_reference(f, sigma) for f in pair] for pair in u])
    expected = resampled(x, lambda n, i, j: (i + fields[n, 0, i, j], j + fields[n, 1, i, j]), 0.5)
    np.testing.assert_allclose(augment.Elastic(alpha, sigma, fill=0.5)(x, rng(4)), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("planes", [1, 2, 85, 86, 171])
def test_fields_are_smoothed_in_blocks(planes: int) -> None:
    draws, weights = rng().random((planes, 4, 3)), rng(1).random(5)
    out = draws.copy()
    augment_kernels.smooth_fields(weights, out)
    padded = np.pad(2 * draws - 1, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (1, 2))
    np.testing.assert_allclose(out, np.einsum("pijkl,k,l->pij", windows, weights, weights), rtol=0, atol=1e-12)


@pytest.mark.skipif(jit.interpreted(), reason="100,000 pixels take long where kernels are plain Python")
def test_how_far_elastic_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The docstring's α/(6.1·σ): far from the border, by displacing a ramp, whose values tell where they came from."""
    monkeypatch.setattr(jit.pool.POOL, "requested", 1)
    ramp = np.broadcast_to(np.arange(64, dtype=F32), (64, 1, 64, 64))
    away = (augment.Elastic(34, 4)(ramp, rng()) - ramp)[:, :, 16:48, 16:48]
    assert 0.95 < away.std() / (34 / (6.1 * 4)) < 1.05


@given(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5), st.integers(0, 5)),
    st.none() | st.integers(1, 7) | st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.integers(0, 3),
    st.integers(0, 99),
)
@settings(deadline=None)
def test_crop(shape: tuple[int, ...], size: Any, padding: int, seed: int) -> None:
    x, t = images(*shape), augment.Crop(size, padding, fill=0.5)
    height, width = shape[2:] if size is None else size if isinstance(size, tuple) else (size, size)
    rows, columns = shape[2] + 2 * padding - height, shape[3] + 2 * padding - width
    if rows < 0 or columns < 0:
        with pytest.raises(
            ValueError, match=rf"Crop: expected images of at least \({height}, {width}\) with {padding} "
        ):
            t(x, rng(seed))
        return
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=0.5)
    corners = rng(seed).integers(0, [rows + 1, columns + 1], (len(x), 2))
    expected = [p[:, i : i + height, j : j + width] for p, (i, j) in zip(padded, corners, strict=True)]
    found = t(x, rng(seed))
    assert found.shape == (shape[0], shape[1], height, width)
    np.testing.assert_array_equal(found, np.array(expected, F32).reshape(found.shape))


def test_crop_reaches_all_places() -> None:
    x = np.arange(16, dtype=F32).reshape(1, 1, 4, 4).repeat(500, axis=0)
    corners = set(augment.Crop(2)(x, rng())[:, 0, 0, 0].astype(int))
    assert corners == {4 * i + j for i in range(3) for j in range(3)}


@pytest.mark.parametrize(("axis", "index"), [("horizontal", 3), ("vertical", 2)])
@pytest.mark.parametrize("shape", [(40, 2, 3, 4), (3, 1, 1, 5), (0, 1, 2, 2)])
def test_flip(axis: str, index: int, shape: tuple[int, ...]) -> None:
    x, t = images(*shape), augment.Flip(axis, p=0.3)
    flipped = rng(5).random(len(x)) < 0.3
    expected = np.where(flipped[:, None, None, None], np.flip(x, index), x)
    np.testing.assert_array_equal(t(x, rng(5)), expected)
    always = augment.Flip(axis, p=1)
    np.testing.assert_array_equal(always(x), np.flip(x, index))
    assert always(always(x)).tobytes() == x.tobytes()


# ------------------------------------------------------------------------------------- values: references


@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (1, 1, 1, 1), (0, 3, 2, 2), (2, 0, 2, 2)])
def test_noise(shape: tuple[int, ...]) -> None:
    x = images(*shape)
    expected = x + 0.4 * rng(6).standard_normal(shape)
    np.testing.assert_array_equal(augment.Noise(0.4, clip=False)(x, rng(6)), expected.astype(F32))
    np.testing.assert_array_equal(augment.Noise(0.4)(x, rng(6)), expected.clip(0, 1).astype(F32))


def test_nan_stays() -> None:
    x = np.full((1, 1, 3, 3), np.nan, F32)
    for t in (augment.Noise(0.1), augment.Crop(2), augment.Flip(), augment.Rotate(0)):
        assert np.isnan(t(x)).all()


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 100])
@pytest.mark.parametrize("shape", [(20, 2, 7, 5), (3, 1, 1, 1), (0, 1, 3, 3), (2, 1, 0, 3)])
def test_cutout(size: int, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    centres = rng(7).integers(0, [max(1, shape[2]), max(1, shape[3])], (len(x), 2))
    expected = x.copy()
    for image, (i, j) in zip(expected, centres, strict=True):
        rows, columns = (np.arange(n) - (k - size // 2) for n, k in zip(shape[2:], (i, j), strict=True))
        hit = np.outer((rows >= 0) & (rows < size), (columns >= 0) & (columns < size))
        image[:, hit] = 0.5
    np.testing.assert_array_equal(augment.Cutout(size, fill=0.5)(x, rng(7)), expected)


@pytest.mark.parametrize("shape", [(30, 2, 3, 4), (1, 1, 2, 2), (0, 1, 2, 2)])
@pytest.mark.parametrize("dtype", ["u1", "i8", "i4"])
def test_mixup(shape: tuple[int, ...], dtype: str) -> None:
    x, y = images(*shape), rng().integers(0, 4, shape[0]).astype(dtype)
    before = x.copy(), y.copy()
    mixed, probabilities = augment.Mixup(4, alpha=0.7)(x, y, rng(8))
    drawing = rng(8)
    share, partner = drawing.beta(0.7, 0.7, len(x)), drawing.permutation(len(x))
    by_image = share[:, None, None, None]
    np.testing.assert_allclose(mixed, by_image * x + (1 - by_image) * x[partner], rtol=1e-6)
    one_hot = np.eye(4)[y]
    expected = share[:, None] * one_hot + (1 - share[:, None]) * one_hot[partner]
    np.testing.assert_allclose(probabilities, expected, atol=1e-7)
    np.testing.assert_allclose(probabilities.sum(1, dtype=float), 1, rtol=0, atol=1.2e-7)
    assert mixed.dtype == probabilities.dtype == F32
    assert probabilities.shape == (len(x), 4)
    assert (x == before[0]).all()
    assert (y == before[1]).all()


def test_the_loss_of_mixup() -> None:
    """What its docstring names is the cross-entropy with those probabilities, but for a constant."""
    _, target = augment.Mixup(5, alpha=1)(images(8), np.arange(8) % 5, rng())
    logits = minidl.Tensor(rng(1).normal(size=(8, 5)).astype(F32), requires_grad=True)
    ops.softmax_cross_entropy(logits, target).backward()
    softmax = np.exp(logits.data) / np.exp(logits.data).sum(1, keepdims=True)
    np.testing.assert_allclose(logits.grad, (softmax - target) / 8, atol=1e-7)


# --------------------------------------------------------------------------------- what all of them promise

ALL: list[Any] = [
    *AFFINE,
    augment.Elastic(),
    augment.Elastic(10, 1, fill=0.5),
    augment.Noise(0.2),
    augment.Noise(0.2, clip=False),
    augment.Crop(padding=2),
    augment.Crop(3, padding=1, fill=0.5),
    augment.Crop((2, 5)),
    augment.Flip(),
    augment.Flip("vertical"),
    augment.Cutout(3),
    augment.Compose([augment.Affine(10, 1, 0.1, 10), augment.Elastic(), augment.Noise(0.1), augment.Flip()]),
]
every = pytest.mark.parametrize("t", ALL, ids=repr)

IDENTITIES = [
    augment.Affine(),
    augment.Rotate(0),
    augment.Shift(0),
    augment.Zoom(0),
    augment.Shear(0),
    augment.Elastic(alpha=0),
    augment.Noise(0),
    augment.Noise(0, clip=False),
    augment.Crop(),
    augment.Flip(p=0),
    augment.Cutout(0),
    augment.Compose([]),
]


@pytest.mark.parametrize("t", IDENTITIES, ids=repr)
@pytest.mark.parametrize("shape", [(3, 2, 7, 6), (2, 1, 1, 1)])
def test_options_that_change_nothing(t: augment.Augmentation, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    found = t(x, rng())
    assert found.tobytes() == x.tobytes()
    assert not np.shares_memory(found, x)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 2, -1)[::2, ..., ::2],
    "negative": lambda a: np.ascontiguousarray(a[::-1, ..., ::-1])[::-1, ..., ::-1],
    "offset": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8, offset=1).view(a.dtype).reshape(a.shape),
    "readonly": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@every
def test_any_layout_in_a_new_array_out(t: augment.Augmentation) -> None:
    x = images(6, 2, 5, 5)
    kept, expected = x.copy(), t(x, rng())
    assert expected.dtype == F32
    assert expected.flags.carray
    assert not np.shares_memory(expected, x)
    assert (x == kept).all()
    for layout in LAYOUTS.values():
        given = layout(x)
        assert float_images("t", given).flags.carray  # one form, so that kernels are compiled once
        assert t(given, rng()).tobytes() == expected.tobytes()
        assert (given == kept).all()


@every
def test_seeds(t: augment.Augmentation) -> None:
    x = images(9)
    first, again, other = t(x, rng(1)), t(x, rng(1)), t(x, rng(2))
    assert first.tobytes() == again.tobytes() != other.tobytes()
    generator = rng(1)
    assert t(x, generator).tobytes() != t(x, generator).tobytes()  # it moves on
    minidl.manual_seed(1)
    assert t(x).tobytes() == first.tobytes()
    assert len({image.tobytes() for image in t(np.repeat(x[:1], 9, 0), rng(1))}) > 1  # each image its own


@every
@pytest.mark.parametrize("shape", [(0, 1, 6, 6), (2, 0, 6, 6), (1, 1, 6, 6)])
def test_none_and_one(t: augment.Augmentation, shape: tuple[int, ...]) -> None:
    assert t(images(*shape), rng()).shape[:2] == shape[:2]


@pytest.mark.parametrize("t", [t for t in ALL if not isinstance(t, augment.Crop)], ids=repr)
@pytest.mark.parametrize("shape", [(2, 1, 0, 6), (2, 1, 6, 0), (1, 1, 0, 0)])
def test_images_without_pixels(t: augment.Augmentation, shape: tuple[int, ...]) -> None:
    assert t(images(*shape), rng()).shape == shape


PROGRAM = """
import hashlib, json, sys
import numpy as np, minidl
from minidl.data import augment
minidl.set_num_threads(int(sys.argv[1]))
hashes = {}
for n in map(int, sys.argv[2:]):
    x = np.random.default_rng(0).random((n, 2, 9, 8), np.float32)
    for t in (augment.Affine(20, 2, 0.3, 20, 0.5), augment.Elastic(), augment.Elastic(9, 0.7, 0.3), augment.Noise(0.2),
              augment.Crop(7, 1, 0.5), augment.Flip(), augment.Flip("vertical"), augment.Cutout(4, 0.5)):
        hashes[f"{n} {t}"] = hashlib.sha256(t(x, np.random.default_rng(1)).tobytes()).hexdigest()
    mixed, labels = augment.Mixup(3)(x, np.arange(n) % 3, np.random.default_rng(1))
    hashes[f"{n} mixup"] = hashlib.sha256(mixed.tobytes() + labels.tobytes()).hexdigest()
print(json.dumps([hashes, [k for k, v in minidl.jit.KERNELS.items() if v._threaded and "augment" in v.__module__]]))
"""


def program(threads: int, *counts: int, **environment: str) -> Any:
    env = {**os.environ, "PYTHONPATH": str(Path(jit.__file__).parents[2]), "NUMBA_NUM_THREADS": "2", **environment}
    command = [sys.executable, "-c", PROGRAM, str(threads), *map(str, counts)]
    return json.loads(subprocess.check_output(command, env=env, timeout=300))


@pytest.mark.skipif(jit.interpreted(), reason="NUMBA_DISABLE_JIT=1: there are no threads, and loops take minutes")
def test_threads_and_plain_python_give_the_same_bits() -> None:
    (one, none), (two, several) = program(1, 1000, 3), program(2, 1000)
    assert none == []
    assert {"resample_affine", "resample_elastic", "smooth_fields", "add_noise", "mix_images"} <= set(several)
    plain, _ = program(1, 3, NUMBA_DISABLE_JIT="1")
    assert two | plain == one


@pytest.mark.parametrize(
    ("t", "text"),
    [
        (augment.Rotate(15), "Rotate(degrees=15, fill=0)"),
        (augment.Shift(np.float32(2)), "Shift(pixels=2.0, fill=0)"),
        (augment.Shift([1, 2.5]), "Shift(pixels=(1, 2.5), fill=0)"),  # type: ignore[arg-type]
        (augment.Zoom(0.1, fill=0.5), "Zoom(zoom=0.1, fill=0.5)"),
        (augment.Shear(np.int64(7)), "Shear(shear=7, fill=0)"),
        (augment.Affine(10, 2), "Affine(degrees=10, pixels=2, zoom=0, shear=0, fill=0)"),
        (augment.Elastic(), "Elastic(alpha=34, sigma=4, fill=0)"),
        (augment.Noise(0.1), "Noise(sigma=0.1, clip=True)"),
        (augment.Crop(padding=2), "Crop(size=None, padding=2, fill=0)"),
        (augment.Crop((3, 4)), "Crop(size=(3, 4), padding=0, fill=0)"),
        (augment.Flip(), "Flip(axis='horizontal', p=0.5)"),
        (augment.Cutout(8), "Cutout(size=8, fill=0)"),
        (augment.Mixup(10), "Mixup(classes=10, alpha=0.2)"),
        (augment.Compose([augment.Flip(p=1)]), "Compose([Flip(axis='horizontal', p=1)])"),
    ],
)
def test_repr(t: Any, text: str) -> None:
    assert repr(t) == text
    assert repr(eval(text, vars(augment))) == text


def test_compose() -> None:
    x, generator = images(4), rng(3)
    first, second = augment.Rotate(20), augment.Noise(0.1)
    expected = second(first(x, generator), generator)
    assert augment.Compose([first, second])(x, rng(3)).tobytes() == expected.tobytes()
    assert augment.Compose([second, first])(x, rng(3)).tobytes() != expected.tobytes()
    assert augment.Compose([augment.Compose([first]), second])(x, rng(3)).tobytes() == expected.tobytes()
    own = augment.Compose([lambda images, generator: images * generator.random(dtype=F32)])
    np.testing.assert_array_equal(own(x, rng(4)), x * rng(4).random(dtype=F32))


# ------------------------------------------------------------------------------------------------ errors

X = images(4)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: augment.Rotate(200), ValueError, "Rotate: expected degrees at least 0 and at most 180, found 200"),
        (lambda: augment.Rotate(-1), ValueError, "Rotate: expected degrees at least 0 and at most 180, found -1"),
        (lambda: augment.Rotate("15"), TypeError, "Rotate: expected degrees as a number, found '15'"),
        (lambda: augment.Rotate(True), TypeError, "Rotate: expected degrees as a number, found True"),
        (lambda: augment.Rotate(None), TypeError, "degrees as a number, found None"),
        (lambda: augment.Rotate(float("nan")), ValueError, "degrees at least 0 and at most 180, found nan"),
        (lambda: augment.Rotate(5, fill=float("inf")), ValueError, "Rotate: expected fill as a finite number, found"),
        (lambda: augment.Rotate(5, fill=10**400), ValueError, "fill as a finite number, found 1000"),
        (lambda: augment.Shift(-1), ValueError, "Shift: expected pixels at least 0, found -1"),
        (lambda: augment.Shift((1, 2, 3)), ValueError, r"a number or \(vertical, horizontal\), found \(1, 2, 3\)"),
        (lambda: augment.Shift((1, "2")), TypeError, "Shift: expected pixels as a number, found '2'"),
        (lambda: augment.Shift(float("inf")), ValueError, "Shift: expected pixels at least 0, found inf"),
        (lambda: augment.Zoom(1), ValueError, "Zoom: expected zoom at least 0 and below 1, found 1"),
        (lambda: augment.Zoom(-0.1), ValueError, "zoom at least 0 and below 1, found -0.1"),
        (lambda: augment.Shear(90), ValueError, "Shear: expected shear at least 0 and below 90, found 90"),
        (lambda: augment.Affine(degrees=181), ValueError, "Affine: expected degrees"),
        (lambda: augment.Affine(shear=-3), ValueError, "Affine: expected shear"),
        (lambda: augment.Elastic(alpha=-1), ValueError, "Elastic: expected alpha at least 0, found -1"),
        (lambda: augment.Elastic(sigma=0), ValueError, "sigma above 0 and at most 1000, found 0"),
        (lambda: augment.Elastic(sigma=1001), ValueError, "sigma above 0 and at most 1000, found 1001"),
        (lambda: augment.Noise(-0.1), ValueError, "Noise: expected sigma at least 0, found -0.1"),
        (lambda: augment.Crop(0), ValueError, "Crop: expected size of at least 1, found 0"),
        (lambda: augment.Crop((3, 0)), ValueError, "Crop: expected size of at least 1, found 0"),
        (lambda: augment.Crop((3,)), ValueError, r"Crop: expected size as a number or \(height, width\), found \(3,\)"),
        (lambda: augment.Crop(2.0), TypeError, "Crop: expected size as an int, found 2.0"),
        (lambda: augment.Crop(padding=-1), ValueError, "Crop: expected padding of at least 0, found -1"),
        (lambda: augment.Flip("diagonal"), ValueError, 'axis "horizontal" or "vertical", found \'diagonal\''),
        (lambda: augment.Flip(p=1.1), ValueError, "Flip: expected p at least 0 and at most 1, found 1.1"),
        (lambda: augment.Cutout(-1), ValueError, "Cutout: expected size of at least 0, found -1"),
        (lambda: augment.Cutout(True), TypeError, "Cutout: expected size as an int, found True"),
        (lambda: augment.Mixup(0), ValueError, "Mixup: expected classes of at least 1, found 0"),
        (lambda: augment.Mixup(10, alpha=0), ValueError, "Mixup: expected alpha above 0, found 0"),
        (lambda: augment.Compose([5]), TypeError, r"Compose: expected functions of \(images, generator\), found 5"),
        (lambda: augment.Compose([augment.Mixup(3)]), TypeError, "Mixup changes labels too"),
        (lambda: augment.Compose([lambda x, g: None])(X), TypeError, "found NoneType"),
        (lambda: augment.Compose([lambda x, g: x.astype(float)])(X), TypeError, r"found float64 of shape \(4, 1,"),
        (lambda: augment.Compose([lambda x, g: x[:2]])(X), ValueError, "expected 4 images from .*, found 2"),
        (lambda: augment.Mixup(3)(X, np.zeros(4)), TypeError, r"integer labels of shape \(4,\), found float64"),
        (lambda: augment.Mixup(3)(X, np.zeros(3, int)), ValueError, r"of shape \(4,\), one .* found shape \(3,\)"),
        (lambda: augment.Mixup(3)(X, np.arange(4)), ValueError, "labels from 0 to 2, found 0 to 3"),
        (lambda: augment.Mixup(3)(X, -np.arange(4)), ValueError, "labels from 0 to 2, found -3 to 0"),
        (lambda: augment.Mixup(3)(X, np.array([0, 1, 2, -1])), ValueError, "labels from 0 to 2, found -1 to 2"),
    ],
)  # fmt: skip
def test_errors(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("t", [*ALL, lambda *a: augment.Mixup(3)(a[0], np.zeros(2, int), *a[1:])])
def test_other_images_are_refused(t: Any) -> None:
    name = type(t).__name__ if isinstance(t, augment.Augmentation) else "Mixup"
    for wrong, error, says in (
        (
            np.zeros((2, 1, 6, 6)),
            TypeError,
            "expected float32 images (N, C, H, W), found float64 of shape (2, 1, 6, 6)",
        ),
        (np.zeros((2, 1, 6, 6), np.uint8), TypeError, "found uint8 of shape (2, 1, 6, 6)"),
        (np.zeros((2, 1, 6, 6), ">f4"), TypeError, "found >f4 of shape (2, 1, 6, 6)"),
        (np.zeros((2, 6, 6), F32), ValueError, "expected images (N, C, H, W), found shape (2, 6, 6)"),
        ([[[[0.0]]]], TypeError, "found list"),
        (minidl.Tensor(np.zeros((2, 1, 6, 6), F32)), TypeError, "found Tensor"),
    ):
        with pytest.raises(error, match=f"{name}: .*{re.escape(says)}"):
            t(wrong)
    with pytest.raises(TypeError, match=r"expected a numpy\.random\.Generator, found int"):
        t(np.zeros((2, 1, 6, 6), F32), 5)


# -------------------------------------------------------------------------------------------- in the loader

BYTES, LABELS = rng(9).integers(0, 256, (20, 2, 6, 6), np.uint8), np.arange(20) % 4
STEPS = [augment.Affine(10, 1, fill=0.5), augment.Noise(0.1)]


def digest(batches: Any) -> list[bytes]:
    return [b"".join(a.tobytes() for a in batch) for batch in batches]


def test_a_loader_augments() -> None:
    """One order, then batch after batch, from one generator; on [0, 1], and mean and std after that."""
    kept = BYTES.copy()
    options: dict[str, Any] = {"batch_size": 8, "shuffle": True, "seed": 5, "mean": [0.2, 0.4], "std": [0.5, 2]}
    loader = Loader(BYTES, LABELS, augment=STEPS, **options)
    generator = rng(5)
    for _ in range(2):
        order, batches = generator.permutation(20), list(loader)
        assert [len(y) for _, y in batches] == [8, 8, 4]
        for i, (x, y) in enumerate(batches):
            indices = order[8 * i : 8 * i + 8]
            expected = (BYTES[indices] * F32(1 / 255)).astype(F32)
            for t in STEPS:
                expected = t(expected, generator)
            expected = (expected - np.reshape([0.2, 0.4], (2, 1, 1))) / np.reshape([0.5, 2], (2, 1, 1))
            np.testing.assert_allclose(x, expected, atol=1e-6)
            assert x.dtype == F32
            np.testing.assert_array_equal(y, LABELS[indices])
    assert (kept == BYTES).all()
    for same in (augment.Compose(STEPS), tuple(STEPS), lambda x, g: STEPS[1](STEPS[0](x, g), g)):
        first = digest(Loader(BYTES, LABELS, augment=STEPS, **options))
        assert digest(Loader(BYTES, LABELS, augment=same, **options)) == first  # type: ignore[arg-type]


def test_augmenting_without_a_change_is_loading() -> None:
    for augmenting in ([], [augment.Rotate(0)], augment.Compose([])):
        assert digest(Loader(BYTES, LABELS, augment=augmenting)) == digest(Loader(BYTES, LABELS))


def test_a_loader_without_a_seed_draws_from_minidl() -> None:
    found = []
    for seed in (1, 1, 2):
        minidl.manual_seed(seed)
        found.append(digest(Loader(BYTES, LABELS, augment=STEPS)))
    assert found[0] == found[1] != found[2]
    assert digest(Loader(BYTES, LABELS, augment=STEPS, seed=3)) == digest(Loader(BYTES, LABELS, augment=STEPS, seed=3))


def test_float_images_are_augmented_and_standardised() -> None:
    x = images(6, 2, 5, 5)
    kept = x.copy()
    [(found, _)] = Loader(x, np.arange(6), augment=augment.Rotate(20), seed=1, mean=0.5, std=2)
    np.testing.assert_allclose(found, (augment.Rotate(20)(x, rng(1)) - 0.5) / 2, atol=1e-6)
    [found] = Loader(x, mean=[0.5, 0.1], std=[2, 3])
    np.testing.assert_allclose(
        found, (x - np.reshape([0.5, 0.1], (2, 1, 1))) / np.reshape([2, 3], (2, 1, 1)), atol=1e-6
    )
    assert (x == kept).all()
    [found] = Loader(x)
    assert found.tobytes() == x.tobytes()


def test_mixup_in_a_loader() -> None:
    loader = Loader(BYTES, LABELS, batch_size=8, seed=5, augment=[*STEPS, augment.Mixup(4)], mean=0.5, std=0.5)
    generator = rng(5)
    plain = Loader(BYTES, LABELS, batch_size=8, mean=0.5, std=0.5, augment=augment.Compose(STEPS))
    plain.generator = generator
    for (x, p), (plain_x, y) in zip(loader, plain, strict=True):
        expected = augment.Mixup(4)(plain_x, y, generator)
        assert x.tobytes() == expected[0].tobytes()
        assert p.tobytes() == expected[1].tobytes()
    alone = next(iter(Loader(BYTES, LABELS, augment=augment.Mixup(4), seed=1)))
    np.testing.assert_allclose(alone[1].sum(1), 1, atol=1e-6)


def test_a_loader_resumes_to_the_same_bits() -> None:
    """From the order and the state of the generator between two batches, in a new loader."""

    def make(seed: int) -> Loader:
        steps = [augment.Affine(10, 1), augment.Elastic(), augment.Crop(padding=1), augment.Cutout(2), augment.Mixup(4)]
        return Loader(BYTES, LABELS, batch_size=4, shuffle=True, seed=seed, augment=steps)

    def epoch(loader: Loader, order: np.ndarray, first: int) -> list[bytes]:
        return digest(loader.batch(order[i : i + 4]) for i in range(first, 20, 4))

    loader = make(7)
    expected = digest(loader) + digest(loader)
    loader = make(7)
    order = loader.order()
    found = digest(loader.batch(order[i : i + 4]) for i in (0, 4))
    assert loader.generator is not None
    state = json.loads(json.dumps(loader.generator.bit_generator.state))
    resumed = make(0)
    assert resumed.generator is not None
    resumed.generator.bit_generator.state = state
    assert found + epoch(resumed, order, 8) + digest(resumed) == expected


def test_a_compiled_epoch_augments() -> None:
    """`run` gives the bits of the steps one by one: both draw one order, then for each batch, then in the step."""

    def train(run: bool) -> tuple[list[float], bytes]:
        minidl.manual_seed(3)
        w = minidl.Tensor(np.ones((1, 2, 6, 6), F32), requires_grad=True)
        optimizer = optim.SGD([w], lr=0.1)

        def step(x: Any, y: Any) -> Any:
            loss = ops.mean(ops.dropout(x) * w)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        loader = Loader(BYTES, LABELS, batch_size=10, shuffle=True, augment=STEPS)
        compiled, losses, seen = minidl.compile(step), [], []
        for _ in range(2):
            if run:
                losses += compiled.run(loader, progress=seen.append).tolist()
            else:
                losses += [step(*batch).item() for batch in loader]
        assert sum(seen) == (40 if run else 0)
        return losses, w.data.tobytes()

    assert train(True) == train(False)


def test_a_compiled_epoch_standardises_floats() -> None:
    x = images(12, 1, 2, 2)
    loader = Loader(x, batch_size=4, mean=0.5, std=2)
    found = minidl.compile(lambda x: ops.sum(x)).run(loader)
    np.testing.assert_allclose(found, [b.sum() for b in loader], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Loader(LABELS, augment=STEPS), ValueError, r"images \(N, C, H, W\), .* found int64 \(20,\)"),
        (lambda: Loader(BYTES[:, 0], augment=STEPS), ValueError, r"to augment, found uint8 \(20, 6, 6\)"),
        (lambda: Loader(BYTES.astype(float), augment=STEPS), ValueError, "uint8 or float32, to augment, found float64"),
        (lambda: Loader(BYTES, augment=[5]), TypeError, r"expected functions of \(images, generator\), found 5"),
        (lambda: Loader(BYTES, augment="rotate"), TypeError, "found 'rotate'"),
        (lambda: Loader(BYTES, LABELS, augment=[augment.Mixup(4), *STEPS]), TypeError, "can only be the last"),
        (lambda: Loader(BYTES, augment=augment.Mixup(4)), ValueError, r"images and labels for Mixup\(classes=4"),
        (lambda: Loader(BYTES, LABELS, LABELS, augment=augment.Mixup(4)), ValueError, "images and labels for Mixup"),
        (lambda: list(Loader(BYTES, LABELS, augment=augment.Mixup(3))), ValueError, "labels from 0 to 2, found 0 to 3"),
        (lambda: Loader(BYTES, augment=STEPS, mean=[1, 2, 3]), ValueError, r"each of 2 channels, found \(3,\)"),
        (lambda: Loader(BYTES.astype(F32), std=0), ValueError, "std > 0"),
        (lambda: Loader(BYTES.astype(float), std=2), ValueError, "ones .* to apply mean and std to, found float64"),
        (lambda: list(Loader(BYTES, augment=lambda x, g: x[:3])), ValueError, "expected 20 images .* found 3"),
    ],
)  # fmt: skip
def test_errors_of_the_loader(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


# ------------------------------------------------------------------------------------ statistics with the model


def test_statistics_are_those_of_the_channels(tmp_path: Path) -> None:
    found = data.statistics(BYTES)
    mean, std = data.mean_std(BYTES)
    assert found == {"mean": mean.tolist(), "std": std.tolist()}
    assert json.loads(json.dumps(found)) == found  # to the last bit
    [batch] = Loader(BYTES, batch_size=20, **found)  # type: ignore[arg-type]
    np.testing.assert_allclose(batch.mean((0, 2, 3), dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(batch.std((0, 2, 3), dtype=float), 1, atol=1e-6)
    constant = data.statistics(np.full((2, 1, 3, 3), 51, np.uint8))
    assert constant["std"] == [1.0]
    [batch] = Loader(np.full((2, 1, 3, 3), 51, np.uint8), **constant)  # type: ignore[arg-type]
    np.testing.assert_allclose(batch, 0, atol=1e-7)
    with pytest.raises(ValueError, match=r"expected images \(N, C, H, W\), found shape \(20,\)"):
        data.statistics(LABELS)


def test_statistics_come_back_with_the_model(tmp_path: Path) -> None:
    from minidl.checkpoint import load_model, save_model

    statistics = data.statistics(BYTES)
    save_model(tmp_path / "model.safetensors", nn.Sequential(nn.Flatten(), nn.Dense(72, 4)), {"statistics": statistics})
    _, config = load_model(tmp_path / "model.safetensors")
    assert config["statistics"] == statistics
    assert digest(Loader(BYTES, LABELS, **config["statistics"])) == digest(Loader(BYTES, LABELS, **statistics))  # type: ignore[arg-type]
    as_floats = Loader((BYTES / 255).astype(F32), batch_size=20, **config["statistics"])
    [bytes_too] = Loader(BYTES, batch_size=20, **config["statistics"])
    np.testing.assert_allclose(next(iter(as_floats)), bytes_too, atol=1e-5)


def test_augmentation_is_imported_when_it_is_used() -> None:
    code = "import sys, minidl; print('minidl.data.augment' in sys.modules); minidl.data.augment.Flip"
    env = {**os.environ, "PYTHONPATH": str(Path(jit.__file__).parents[2])}
    assert subprocess.check_output([sys.executable, "-c", code], env=env, text=True) == "False\n"
    with pytest.raises(AttributeError, match=r"'minidl\.data' has no attribute 'augmentation'"):
        data.augmentation  # noqa: B018


@pytest.mark.parametrize(
    "make", [lambda n: augment.Cutout(n), lambda n: augment.Crop(n), lambda n: augment.Crop(padding=n)]
)
@pytest.mark.parametrize("n", [2**31, 2**63, 2**64])
def test_sizes_that_places_cannot_be_computed_with(make, n):
    with pytest.raises(ValueError, match=rf"expected \w+ of less than 2\*\*31, found {n}"):
        make(n)
