"""Reading images as a model takes them (pictures through Pillow, arrays from .npy and IDX), and writing them."""

import contextlib
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.data.idx import IDXError, read_idx
from minidl.shared.files import FilePath, open_file
from minidl.tensor import Array


class PictureError(ValueError):
    """A file cannot be turned into an image for the model; the message names it."""


def read_images(path: FilePath, shape: tuple[int, ...], note: Callable[[str], None]) -> Array:
    """Read images (N, C, H, W) of the model's `shape` (C, H, W): uint8, or float32 in [0, 1].

    The format is recognised by the first bytes. Arrays are used as they are and must fit the model. Pictures are
    made to fit, reporting each change through `note`: converted to grey, inverted if the border is bright (the data
    sets are light on dark), resized keeping the aspect ratio. PictureError: unreadable, or of another size or kind.
    """
    try:
        with open_file(path) as file:
            start = file.read(6)
            file.seek(0)
            if start == b"\x93NUMPY":
                return _checked(path, np.load(file, allow_pickle=False), shape)
        if start[:2] in (b"\0\0", b"\x1f\x8b"):
            return _checked(path, read_idx(path), shape)
        return _picture(path, shape, note)
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror or error}") from error
    except IDXError as error:
        raise PictureError(str(error)) from error
    except (ValueError, EOFError) as error:
        raise error if isinstance(error, PictureError) else PictureError(f"{path}: {error}") from error


def _checked(path: FilePath, array: Array, shape: tuple[int, ...]) -> Array:
    """Arrays (H, W), (N, H, W) or (N, C, H, W) of bytes, of integers from 0 to 255 or of floats from 0 to 1."""
    for form in (shape, shape[1:]):
        if array.shape[-len(form) :] == form and array.ndim - len(form) in (0, 1) and array.size:
            break
    else:
        raise PictureError(f"{path}: expected images of shape {shape}, one or more, found shape {array.shape}")
    most = 1 if array.dtype.kind == "f" else 255
    if array.dtype.kind not in "uif" or not (array.min() >= 0 and array.max() <= most):
        raise PictureError(
            f"{path}: expected integers from 0 to 255 or floats from 0 to 1, found {array.dtype}"
            + (f" from {array.min():g} to {array.max():g}" if array.dtype.kind in "uif" else "")
        )
    return array.reshape(-1, *shape).astype(np.float32 if most == 1 else np.uint8)


def _picture(path: FilePath, shape: tuple[int, ...], note: Callable[[str], None]) -> Array:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise PictureError(
            f'{path}: reading pictures takes Pillow: pip install "minidl[plot]" (.npy and IDX files need nothing)'
        ) from error
    channels, height, width = shape
    if channels != 1:
        raise PictureError(f"{path}: expected a model of grey images, found one of {channels} channels")
    try:
        with Image.open(path) as picture:
            grey = _grey(ImageOps.exif_transpose(picture))
    except Image.UnidentifiedImageError as error:
        raise PictureError(f"{path}: expected a picture, a .npy or an IDX file, found something else") from error
    except (Image.DecompressionBombError, SyntaxError, OverflowError) as error:  # SyntaxError: a broken PNG
        raise PictureError(f"{path}: the picture cannot be read ({error})") from error
    done = []
    values = np.asarray(grey)
    border = float(np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])))
    if border > 127:
        grey, border = ImageOps.invert(grey), 255 - border
        done.append("inverted, as its border is bright")
    if grey.size != (width, height):
        done.append(f"resized from {grey.size[0]}x{grey.size[1]} to {width}x{height}")
        grey = ImageOps.pad(grey, (width, height), Image.Resampling.BOX, color=round(border))
    if done:
        note(f"{path}: {', '.join(done)}")
    return np.array(grey, np.uint8).reshape(1, *shape)


def _grey(picture: Any) -> Any:
    """Convert to 8-bit grey, with transparency as white."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # 16 bits and more, which Pillow would clip
        values = np.asarray(picture, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("expected a picture of finite values, found NaN or infinity")
        # Files do not give the white level: 1 for floats (which may overshoot), else the most 8, 16 or 32 bits hold.
        whites, slack = ((1, 255, 65535, 2**31 - 1), 2) if picture.mode == "F" else ((255, 65535, 2**31 - 1), 1)
        white = next((white for white in whites if values.max() <= slack * white), values.max())
        return Image.fromarray(np.uint8(np.clip(values * (255 / white), 0, 255) + 0.5))
    with contextlib.suppress(KeyError):
        if picture.mode != "LAB" and ("a" in picture.mode.lower() or "transparency" in picture.info):
            clear = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    if picture.mode == "HSV":
        picture = picture.convert("RGB")
    return picture.convert("L")


def save_grid(path: FilePath, images: Array, columns: int = 16, gap: int = 2) -> None:
    """Write grey images side by side, `columns` in a row, `gap` pixels apart, as a PNG.

    images   (N, H, W) or (N, 1, H, W): uint8, or floats from 0 (black) to 1 (white), clipped to that range

    ValueError: other shapes, or no images. TypeError: other dtypes.
    """
    x = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if x.ndim != 3 or 0 in x.shape or columns < 1:
        raise ValueError(f"save_grid: expected images (N, H, W) or (N, 1, H, W) and a column, found {images.shape}")
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise TypeError(f"save_grid: expected uint8 or floats, found {x.dtype}")
    if x.dtype != np.uint8:
        x = (np.clip(np.nan_to_num(x), 0, 1) * 255 + 0.5).astype(np.uint8)
    (count, height, width), across = x.shape, min(columns, len(x))
    rows = math.ceil(count / across)
    grid = np.full((rows, height + gap, across, width + gap), 128, np.uint8)
    for i, image in enumerate(x):
        grid[i // across, :height, i % across, :width] = image
    flat = grid.reshape(rows * (height + gap), across * (width + gap))[: -gap or None, : -gap or None]
    with open(path, "wb") as file:
        file.write(png(flat))


def png(image: Array) -> bytes:
    """Encode a grey image (H, W), uint8, as PNG (ISO 15948)."""
    lines = np.pad(image, ((0, 0), (1, 0)))  # each line begins with its filter type, 0 for none
    header = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], 8, 0, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")):
        file += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return file
