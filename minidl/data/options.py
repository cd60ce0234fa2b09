"""Checks of the options and images of augmentation: each returns its value in normal form, or raises an error that
names the caller."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from minidl.random import default_generator
from minidl.shared import numbers
from minidl.shared.numbers import is_integer, is_number
from minidl.tensor import Array

_LARGEST = sys.float_info.max


def number(
    name: str,
    what: str,
    value: Any,
    least: float = -_LARGEST,
    most: float = _LARGEST,
    above: float = -_LARGEST,
    below: float = _LARGEST,
) -> Any:
    """Check for a finite int or float within these bounds."""
    if not is_number(value):
        raise TypeError(f"{name}: expected {what} as a number, found {value!r:.80}")
    plain = int(value) if is_integer(value) else float(value)
    inside = least <= plain <= most and (plain > above or above == -_LARGEST) and (plain < below or below == _LARGEST)
    if not inside:
        bounds = {f"at least {least}": least, f"above {above}": above, f"at most {most}": most, f"below {below}": below}
        told = " and ".join(text for text, bound in bounds.items() if abs(bound) != _LARGEST)
        raise ValueError(f"{name}: expected {what} {told or 'as a finite number'}, found {value!s:.80}")
    return plain


def count(name: str, what: str, value: Any, least: int) -> int:
    n = numbers.count(name, what, value, least)
    if n >= 1 << 31:  # coordinates in images are computed in 64 bits
        raise ValueError(f"{name}: expected {what} of less than 2**31, found {value}")
    return n


def pixels(name: str, value: Any) -> Any:
    """Check for a number of pixels ≥ 0, or a (vertical, horizontal) pair of them."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name}: expected pixels as a number or (vertical, horizontal), found {value!r:.80}")
        return number(name, "pixels", value[0], least=0), number(name, "pixels", value[1], least=0)
    return number(name, "pixels", value, least=0)


def float_images(name: str, images: Any) -> Array:
    """Convert float32 images (N, C, H, W) to the form that kernels take: C order, aligned, writable."""
    if not isinstance(images, np.ndarray) or images.dtype != np.float32:
        found = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise TypeError(f"{name}: expected float32 images (N, C, H, W), found {found}")
    if images.ndim != 4:
        raise ValueError(f"{name}: expected images (N, C, H, W), found shape {images.shape}")
    return np.require(images, np.float32, ("C", "A", "W"))


def generator_or_default(name: str, generator: Any) -> np.random.Generator:
    if generator is None:
        return default_generator()
    if not isinstance(generator, np.random.Generator):
        raise TypeError(f"{name}: expected a numpy.random.Generator, found {type(generator).__name__}")
    return generator
