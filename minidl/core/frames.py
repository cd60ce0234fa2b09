"""The current line of the user's program: the innermost frame outside minidl and NumPy."""

from __future__ import annotations

import os
import sys
from types import FrameType

import numpy as np

_LIBRARIES = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), np.__file__))


_INSIDE: set[str] = set()  # files known to be inside: every recorded op asks
_OUTSIDE: set[str] = set()


def users_frame(depth: int = 1) -> FrameType:
    """The frame of the user's program that called, or the outermost one if all are inside.

    depth   how many frames to skip first: 1 starts at the caller's caller
    """
    frame = sys._getframe(depth + 1)
    while (file := frame.f_code.co_filename) not in _OUTSIDE and (caller := frame.f_back):
        if file in _INSIDE or _is_inside(file):
            frame = caller
    return frame


def _is_inside(file: str) -> bool:
    """Whether this is one of minidl's or NumPy's files. minidl's `example.py` counts as a user's program."""
    inside = file.startswith(_LIBRARIES) and os.path.basename(file) != "example.py"
    (_INSIDE if inside else _OUTSIDE).add(file)
    return inside
