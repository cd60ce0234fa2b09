"""Shared by all plots: finding Matplotlib, and writing a PNG atomically."""

from __future__ import annotations

import io
import os
from typing import Any

from minidl.shared.files import FilePath, write_file


def check_png(where: str, path: FilePath) -> None:
    """Raise ValueError unless the path ends in .png."""
    if not os.fspath(path).lower().endswith(".png"):
        raise ValueError(f"{where}: expected a file's name ending in .png, found {os.fspath(path)!r}")


def new_figure(where: str, width: float, height: float) -> Any:
    """An empty Figure of so many inches, without a window. ImportError: the `plot` extra is not installed."""
    try:
        import matplotlib  # noqa: F401 (the package itself may be what is missing)
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f'{where}: drawing takes matplotlib: pip install "minidl[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def as_png(figure: Any, dpi: int, tight: bool = False) -> bytes:
    """The figure as a PNG; `tight` crops empty margins."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format="png", bbox_inches="tight" if tight else None)
    return picture.getvalue()


def write_png(figure: Any, path: FilePath, dpi: int, tight: bool = False) -> None:
    """Draw a figure to a file, atomically. OSError: the file cannot be written."""
    write_file(path, as_png(figure, dpi, tight))
