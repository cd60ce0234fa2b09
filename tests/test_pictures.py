"""Grids of images as PNG."""

import numpy as np
import pytest

from minidl.data.images import PictureError, read_images, save_grid


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
        expected = np.full((rows * (3 + gap) - gap, across * (4 + gap) - gap), 128, np.uint8)  # gaps are grey
        for i, one in enumerate(x.reshape(5, 3, 4)):
            r, c = i // across * (3 + gap), i % across * (4 + gap)
            expected[r : r + 3, c : c + 4] = one
        np.testing.assert_array_equal(grid, expected)


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


GREY = np.zeros((8, 8), np.uint8)
GREY[2:6, 3:5] = [[255, 128], [64, 200], [1, 255], [90, 17]]


def pictures(image):
    """name → a picture of what GREY shows, in every form that a file may have it."""
    whole, on_paper = GREY.astype(float), 255 - GREY
    palette = image.fromarray(GREY).convert("P")
    palette.putpalette([v for i in range(256) for v in (255 - i,) * 3])
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[..., 3] = GREY  # black ink on nothing
    ink = image.fromarray(np.zeros((8, 8), np.uint8))
    ink.putalpha(image.fromarray(GREY))
    hidden = image.fromarray(GREY)
    return {
        "grey.png": hidden,
        "floats to 1.tif": image.fromarray(np.float32(whole / 255)),
        "floats to 255.tif": image.fromarray(np.float32(whole)),
        "floats to 65535.tif": image.fromarray(np.float32(whole * 257)),
        "floats beyond.tif": image.fromarray(np.float32(np.where(GREY == 255, 1.05, whole / 255))),
        "floats below.tif": image.fromarray(np.float32(np.where(GREY == 0, -0.05, whole / 255))),
        "16 bits.png": image.fromarray(np.uint16(whole * 257)),
        "16 bits.tif": image.fromarray(np.uint16(whole * 257)),
        "big-endian.tif": image.frombytes("I;16B", GREY.shape, (whole * 257).astype(">u2").tobytes()),
        "8 of 16 bits.png": image.fromarray(np.uint16(whole)),
        "32 bits.tif": image.fromarray(np.int32(whole * ((2**31 - 1) / 255))),
        "16 of 32 bits.tif": image.fromarray(np.int32(whole * 257)),
        "colours.png": image.fromarray(np.stack([GREY] * 3, axis=-1)),
        "paper.png": image.fromarray(on_paper),
        "palette.png": palette,
        "clear.png": image.fromarray(clear),
        "grey and alpha.png": ink,
        "opaque.png": image.fromarray(np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])),
        "inks.tif": image.fromarray(np.dstack([GREY * 0, GREY * 0, GREY * 0, on_paper]), "CMYK"),
    }


def read(path, notes=None):
    return read_images(path, (1, *GREY.shape), (notes if notes is not None else []).append)


@pytest.mark.filterwarnings("ignore:.*mode.*:DeprecationWarning")
def test_pictures_of_every_mode_show_the_same(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    for name, picture in pictures(image).items():
        picture.save(tmp_path / name)
        found = read(tmp_path / name)
        assert (found.dtype, found.shape) == (np.uint8, (1, 1, 8, 8)), name
        np.testing.assert_array_equal(found[0, 0], GREY, err_msg=name)


def test_pictures_of_one_bit(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    bits = GREY > 100
    for name in ("bits.png", "bits.tif"):
        image.fromarray(bits).save(tmp_path / name)
        np.testing.assert_array_equal(read(tmp_path / name)[0, 0], np.where(bits, 255, 0))
    for white in (1.0, 255.0):  # all that a mask of floats has
        image.fromarray(np.float32(bits * white)).save(tmp_path / "mask.tif")
        np.testing.assert_array_equal(read(tmp_path / "mask.tif")[0, 0], np.where(bits, 255, 0))


def test_a_transparent_colour_is_white(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    image.fromarray(255 - np.maximum(GREY, 1)).save(tmp_path / "hole.png", transparency=0)
    image.fromarray(np.where(GREY == 0, 9, 255 - GREY).astype(np.uint8)).save(tmp_path / "ground.png", transparency=9)
    np.testing.assert_array_equal(read(tmp_path / "ground.png")[0, 0], GREY)


def test_a_black_picture_and_one_of_nan(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    for dtype in (np.float32, np.uint16, np.int32):
        image.fromarray(np.zeros((8, 8), dtype)).save(tmp_path / "black.tif")
        assert not read(tmp_path / "black.tif").any()
    for value in (np.nan, np.inf):
        image.fromarray(np.full((8, 8), value, np.float32)).save(tmp_path / "nan.tif")
        with pytest.raises(PictureError, match=r"nan.tif: expected a picture of finite values"):
            read(tmp_path / "nan.tif")
