"""Grids of images as PNG."""

import numpy as np
import pytest

from minidl.pictures import save_grid


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 1, 3, 4)], ids=str)
@pytest.mark.parametrize(("columns", "gap"), [(2, 2), (5, 0), (9, 1), (1, 3)])
def test_a_grid(tmp_path, shape, columns, gap):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    x = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    for values in (x, x / 255, (x / 255).astype(np.float32)):
        save_grid(tmp_path / "grid.png", values, columns, gap)
        with image.open(tmp_path / "grid.png") as picture:
            assert picture.mode == "L"
            grid = np.asarray(picture)
        across = min(columns, 5)
        rows = -(-5 // across)
        assert grid.shape == (rows * (3 + gap) - gap, across * (4 + gap) - gap)
        for i, one in enumerate(x.reshape(5, 3, 4)):
            r, c = i // across * (3 + gap), i % across * (4 + gap)
            np.testing.assert_array_equal(grid[r : r + 3, c : c + 4], one)


def test_values_beyond_and_nan_are_clipped(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    save_grid(tmp_path / "grid.png", np.array([[[-1.0, 0.5, 2.0, np.nan]]]))
    with image.open(tmp_path / "grid.png") as picture:
        assert np.asarray(picture).tolist() == [[0, 128, 255, 0]]


def test_bad_input(tmp_path):
    for x in (np.zeros((3, 4)), np.zeros((0, 3, 4)), np.zeros((2, 3, 4, 4))):
        with pytest.raises(ValueError, match="save_grid: expected images"):
            save_grid(tmp_path / "x.png", x)
    with pytest.raises(TypeError, match="save_grid: expected uint8 or floats, found int64"):
        save_grid(tmp_path / "x.png", np.zeros((1, 2, 2), int))
