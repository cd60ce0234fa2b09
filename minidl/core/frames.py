"""The line of the user's program that runs: the innermost frame outside of minidl and NumPy."""

from __future__ import annotations

import os
import sys
from types import FrameType

import numpy as np

_LIBRARIES = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), np.__file__))


class _IsInside(dict[str, bool]):
    """File → is it one of minidl's or NumPy's? Looked at once: recording asks for each op.

    minidl's `example.py` is none of them: it is shown as a user's program would be.
    """

    def __missing__(self, file: str) -> bool:
        inside = self[file] = file.startswith(_LIBRARIES) and os.path.basename(file) != "example.py"
        return inside


_IS_INSIDE = _IsInside()


def users_frame(depth: int = 1) -> FrameType:
    """The frame of the user's program that called, or the outermost one if all are inside.

    depth   how many frames to leave out at first: 1 is the caller's caller
    """
    frame = sys._getframe(depth + 1)
    while _IS_INSIDE[frame.f_code.co_filename] and (caller := frame.f_back):
        frame = caller
    return frame
