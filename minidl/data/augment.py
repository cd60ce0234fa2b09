"""Augmentation: random changes to images that keep their labels valid.

    augment.Rotate(15)(images, generator)                      # a single one
    augment.Compose([augment.Affine(degrees=10, pixels=2), augment.Elastic()])
    data.Loader(train, shuffle=True, augment=[augment.Affine(degrees=10, pixels=2), augment.Mixup(10)])

Each takes images (N, C, H, W), float32 in [0, 1], and returns new ones; `fill` is on that scale (a `Loader`
standardises afterwards). Every image gets its own random numbers, from the generator given or else minidl's
(`minidl.manual_seed`). NumPy draws them in float64, so a seed gives the same bits on any number of threads.
Any function `f(images, generator)` can be used in their place.

TypeError: images that are not float32, not a generator, non-numeric options. ValueError: images without four axes,
options out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.data.augment_kernels import (
    add_noise,
    crop_images,
    cut_out,
    flip_images,
    resample_affine,
    resample_elastic,
    smooth_fields,
)
from minidl.data.mixup import Mixup
from minidl.data.options import count, float_images, generator_or_default, number, pixels
from minidl.tensor import Array

__all__ = [
    "Affine",
    "Augmentation",
    "Compose",
    "Crop",
    "Cutout",
    "Elastic",
    "Flip",
    "Mixup",
    "Noise",
    "Rotate",
    "Shear",
    "Shift",
    "Zoom",
]

Transformation = Callable[[Array, np.random.Generator], Array]


class Augmentation:
    """The base class: a call checks its arguments; options are attributes, which `repr` shows."""

    def __call__(self, images: Array, generator: np.random.Generator | None = None) -> Array:
        name = type(self).__name__
        return self._apply(float_images(name, images), generator_or_default(name, generator))

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class Compose(Augmentation):
    """Apply augmentations in order, with one generator. TypeError: one that is not callable, or `Mixup`."""

    def __init__(self, transformations: Iterable[Transformation | Augmentation]) -> None:
        self.transformations = list(transformations)
        for t in self.transformations:
            if isinstance(t, Mixup):
                raise TypeError("Compose: Mixup changes labels too; it can only be the last of a Loader's augment")
            if not callable(t):
                raise TypeError(f"Compose: expected functions of (images, generator), found {t!r:.80}")

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        made = images if self.transformations else images.copy()
        for t in self.transformations:
            made = t(made, generator)
            if not isinstance(made, np.ndarray) or made.ndim != 4 or made.dtype != np.float32:
                found = f"{made.dtype} of shape {made.shape}" if isinstance(made, np.ndarray) else type(made).__name__
                raise TypeError(f"Compose: expected float32 images (N, C, H, W) from {t!r:.80}, found {found}")
            if len(made) != len(images):
                raise ValueError(f"Compose: expected {len(images)} images from {t!r:.80}, found {len(made)}")
        return made

    def __repr__(self) -> str:
        return f"Compose({self.transformations!r})"


# -------------------------------------------------------------------------------- geometry

_BOUNDS: dict[str, dict[str, float]] = {
    "degrees": {"least": 0, "most": 180},
    "zoom": {"least": 0, "below": 1},
    "shear": {"least": 0, "below": 90},
    "fill": {},
}


class Affine(Augmentation):
    """Shear, zoom, rotate about the centre and shift, by one bilinear interpolation: p′ = z·R·S·(p − c) + c + t

    degrees   of the rotation R, from −degrees to degrees (0 to 180), counter-clockwise
    pixels    of the shift t, from −pixels to pixels; a number or (vertical, horizontal)
    zoom      z from 1 − zoom to 1 + zoom, 0 ≤ zoom < 1
    shear     degrees φ of S, from −shear to shear (0 to below 90): x ← x + y·tan φ
    fill      the value outside the image; interpolation at the border uses it too

    All uniform. Five numbers per image are drawn whatever the options: `Rotate(15)` is `Affine(degrees=15)`.
    """

    degrees: float = 0
    pixels: float | tuple[float, float] = 0
    zoom: float = 0
    shear: float = 0
    fill: float = 0

    def __init__(
        self,
        degrees: float = 0,
        pixels: float | tuple[float, float] = 0,
        zoom: float = 0,
        shear: float = 0,
        fill: float = 0,
    ) -> None:
        self._set(degrees=degrees, pixels=pixels, zoom=zoom, shear=shear, fill=fill)

    def _set(self, **options: Any) -> None:
        name = type(self).__name__
        for what, value in options.items():
            checked = pixels(name, value) if what == "pixels" else number(name, what, value, **_BOUNDS[what])
            setattr(self, what, checked)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        drawn = generator.uniform(-1, 1, (len(images), 5))
        angle, shift = np.deg2rad(self.degrees * drawn[:, 0]), np.broadcast_to(self.pixels, 2) * drawn[:, 1:3]
        zoom, slope = 1 + self.zoom * drawn[:, 3], np.tan(np.deg2rad(self.shear * drawn[:, 4]))
        out = np.empty_like(images)
        resample_affine(images, affine_maps(images.shape[2:], angle, shift, zoom, slope), float(self.fill), out)
        return out


def affine_maps(size: tuple[int, ...], angle: Array, shift: Array, zoom: Array, slope: Array) -> Array:
    """(a, b, r, d, e, s) per image, the inverse of `Affine`: pixel (i, j) is read at (ai + bj + r, di + ej + s).

    size (H, W); angle (N,) in radians, shift (N, 2) in pixels, zoom (N,), slope (N,) = tan φ: float64.
    With y downward R is ((cos, −sin), (sin, cos)) on (y, x), S is ((1, 0), (tan φ, 1)), so S⁻¹·Rᵀ/z is the inverse.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    a, b, d, e = cos / zoom, sin / zoom, (-slope * cos - sin) / zoom, (-slope * sin + cos) / zoom
    y, x = (size[0] - 1) / 2, (size[1] - 1) / 2
    from_y, from_x = y + shift[:, 0], x + shift[:, 1]
    return np.stack([a, b, y - (a * from_y + b * from_x), d, e, x - (d * from_y + e * from_x)], axis=1)


class Rotate(Affine):
    """Rotate by an angle from −degrees to degrees. See `Affine`."""

    def __init__(self, degrees: float, fill: float = 0) -> None:
        self._set(degrees=degrees, fill=fill)


class Shift(Affine):
    """Shift by −pixels to pixels, fractions included; a number or (vertical, horizontal). See `Affine`."""

    def __init__(self, pixels: float | tuple[float, float], fill: float = 0) -> None:
        self._set(pixels=pixels, fill=fill)


class Zoom(Affine):
    """Enlarge by a factor from 1 − zoom to 1 + zoom. See `Affine`."""

    def __init__(self, zoom: float, fill: float = 0) -> None:
        self._set(zoom=zoom, fill=fill)


class Shear(Affine):
    """Slant upright lines by an angle from −shear to shear degrees. See `Affine`."""

    def __init__(self, shear: float, fill: float = 0) -> None:
        self._set(shear=shear, fill=fill)


class Elastic(Augmentation):
    """Distort as if drawn on rubber: each pixel comes from α·(G ∗ u) away. Simard et al. 2003, section 2.

    alpha   α ≥ 0, in pixels: the amplitude before smoothing
    sigma   of the Gaussian G, in pixels, above 0 to 1000; G is cut off at 4σ, and u is 0 outside the image
    fill    the value outside the image

    u is uniform in [−1, 1], one for each pixel and direction. Displacements have a standard deviation of
    about α/(6.1·σ) pixels: 1.4 for the defaults, which are those of Simard et al. for MNIST.
    """

    def __init__(self, alpha: float = 34, sigma: float = 4, fill: float = 0) -> None:
        self.alpha = number("Elastic", "alpha", alpha, least=0)
        self.sigma = number("Elastic", "sigma", sigma, above=0, most=1000)
        self.fill = number("Elastic", "fill", fill)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        n, _, height, width = images.shape
        fields, out = generator.random((2 * n, height, width)), np.empty_like(images)
        smooth_fields(_gaussian(self.sigma), fields)
        resample_elastic(images, fields.reshape(n, 2, height, width), float(self.alpha), float(self.fill), out)
        return out


def _gaussian(sigma: float) -> Array:
    radius = int(4 * sigma + 0.5)
    weights: Array = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    return weights


class Crop(Augmentation):
    """Crop at a random position, after padding the image with `padding` pixels of `fill` on every side.

    Krizhevsky et al. 2012, section 4.1.

    size   of the crop: (height, width), or one number for both; None: the size of the images

    ValueError, when called, if the padded image is smaller than the crop.
    """

    def __init__(self, size: int | tuple[int, int] | None = None, padding: int = 0, fill: float = 0) -> None:
        if isinstance(size, tuple | list):
            if len(size) != 2:
                raise ValueError(f"Crop: expected size as a number or (height, width), found {size!r}")
            self.size: Any = (count("Crop", "size", size[0], 1), count("Crop", "size", size[1], 1))
        else:
            self.size = None if size is None else count("Crop", "size", size, 1)
        self.padding, self.fill = count("Crop", "padding", padding, 0), number("Crop", "fill", fill)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        n, channels, height, width = images.shape
        size = (height, width) if self.size is None else np.broadcast_to(self.size, 2).tolist()
        rows, columns = height + 2 * self.padding - size[0], width + 2 * self.padding - size[1]
        if rows < 0 or columns < 0:
            raise ValueError(
                f"Crop: expected images of at least {tuple(size)} with {self.padding} pixels around them, "
                f"found {(height, width)}"
            )
        corners = generator.integers(0, [rows + 1, columns + 1], (n, 2)) - self.padding
        out = np.empty((n, channels, *size), np.float32)
        crop_images(images, corners, float(self.fill), out)
        return out


class Flip(Augmentation):
    """Mirror with probability p, "horizontal" (left to right) or "vertical" (top to bottom). Not for text."""

    def __init__(self, axis: str = "horizontal", p: float = 0.5) -> None:
        if axis not in ("horizontal", "vertical"):
            raise ValueError(f'Flip: expected axis "horizontal" or "vertical", found {axis!r}')
        self.axis, self.p = axis, number("Flip", "p", p, least=0, most=1)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        flipped, out = generator.random(len(images)) < self.p, np.empty_like(images)
        flip_images(images, flipped, self.axis == "vertical", out)
        return out


# -------------------------------------------------------------------------------- values


class Noise(Augmentation):
    """x + σ·n, n standard normal, independent for each value. `clip` keeps the result in [0, 1]."""

    def __init__(self, sigma: float, clip: bool = True) -> None:
        self.sigma, self.clip = number("Noise", "sigma", sigma, least=0), bool(clip)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        out, flat = np.empty_like(images), (len(images), images[:1].size)
        low, high = (0.0, 1.0) if self.clip else (-math.inf, math.inf)
        drawn = generator.standard_normal(flat)
        add_noise(images.reshape(flat), drawn, float(self.sigma), low, high, out.reshape(flat))
        return out


class Cutout(Augmentation):
    """Fill a square of size × size pixels, centred anywhere in the image. DeVries and Taylor 2017.

    Squares that extend past the border are clipped, so that some images stay mostly intact. All channels alike.
    """

    def __init__(self, size: int, fill: float = 0) -> None:
        self.size, self.fill = count("Cutout", "size", size, 0), number("Cutout", "fill", fill)

    def _apply(self, images: Array, generator: np.random.Generator) -> Array:
        n, _, height, width = images.shape
        corners = generator.integers(0, [max(1, height), max(1, width)], (n, 2)) - self.size // 2
        out = images.copy()
        cut_out(corners, self.size, float(self.fill), out)
        return out
