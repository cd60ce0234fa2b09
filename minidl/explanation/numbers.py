"""Arrays for display: in full if small, else a summary and a heat map."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.tensor import Array

FEW = 12  # elements printed one by one, at most
SIDE = 48  # rows and columns of a heat map, about
TILES = 16  # matrices of an array of more axes shown side by side, at most


def digits(value: Any) -> str:
    """The fewest digits that restore the same number of the same dtype."""
    return str(value[()] if isinstance(value, np.ndarray) else value)


def short(value: Any) -> str:
    """About four digits, for drawings: −0.1234, 1.2e−7."""
    x = float(value)
    if x == int(x) if math.isfinite(x) else False:
        return str(int(x)).replace("-", "−") if abs(x) < 1e6 else f"{x:.3g}".replace("-", "−")
    return f"{x:.4g}".replace("-", "−")


def shape_text(shape: tuple[int, ...]) -> str:
    """ "scalar", or the shape as Python writes it."""
    return str(shape) if shape else "scalar"


@dataclass(frozen=True)
class Summary:
    """Mean, spread (standard deviation) and extremes of the finite values; shares of the special ones."""

    mean: float
    spread: float
    least: float
    most: float
    zeros: float
    nan: float
    infinite: float

    def __str__(self) -> str:
        parts = [f"mean {self.mean:.4g}", f"spread {self.spread:.4g}", f"from {self.least:.4g} to {self.most:.4g}"]
        shares = (("zero", self.zeros), ("NaN", self.nan), ("infinite", self.infinite))
        return ", ".join(parts + [f"{100 * share:.3g} % {what}" for what, share in shares if share])


def summary(array: Array) -> Summary | None:
    """Summarise an array; None if it is empty or not numeric."""
    if array.size == 0 or array.dtype.kind not in "fiub":
        return None
    x = array.astype(np.float64)
    finite = x[np.isfinite(x)]
    some = finite if finite.size else np.full(1, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        moments = (some.mean(), some.std(), some.min(), some.max())
    shares = ((x == 0).mean(), np.isnan(x).mean(), np.isinf(x).mean())
    return Summary(*(float(v) for v in (*moments, *shares)))


def listed(array: Array, indent: int = 0, few: int = FEW) -> str:
    """The values of a small array, the summary of a large one."""
    if array.size > few:
        return str(summary(array) or f"{array.size:,} values of {array.dtype}")
    if array.ndim == 0:
        return digits(array)
    return np.array2string(
        array, separator=", ", prefix=" " * indent, max_line_width=120, threshold=sys.maxsize, formatter={"all": str}
    )


@dataclass(frozen=True)
class Heat:
    """A heat map of an array.

    cells   (rows, columns), int8: −127 to 127 for −scale to scale, −128 for non-finite values
    note    what a cell shows, if not an element of a matrix
    """

    cells: Array
    scale: float
    note: str


def heat(array: Array, side: int = SIDE) -> Heat | None:
    """Vectors wrapped to a square, matrices as they are, more axes as tiled matrices; means over blocks if large.

    At most about `side` rows and columns. None without numbers.
    """
    if array.size == 0 or array.dtype.kind not in "fiub":
        return None
    x = array.astype(np.float64)
    notes = []
    if x.ndim < 2 or (x.size > side and x.size in x.shape):
        width = x.size if x.size <= side else math.ceil(math.sqrt(x.size))
        if x.size > side:
            notes.append(f"{width} in a row")
        grid = _filled(x.reshape(-1), math.ceil(x.size / width) * width).reshape(-1, width)
        tiles = grid[None]
    else:
        tiles = x.reshape(-1, *x.shape[-2:])
    if len(tiles) > TILES:
        notes.append(f"the first {TILES} of {len(tiles)} matrices")
        tiles = tiles[:TILES]
    across = math.ceil(math.sqrt(len(tiles)))
    down = math.ceil(len(tiles) / across)
    blocks = tuple(math.ceil(n / max(side // k, 1)) for n, k in zip(tiles.shape[1:], (down, across), strict=True))
    if blocks != (1, 1):
        notes.append(f"each cell the mean of {blocks[0]} × {blocks[1]}")
    small = np.stack([_means(tile, blocks) for tile in tiles])
    height, width = small.shape[1:]
    gap = int(len(tiles) > 1)  # between tiles, empty
    picture = np.full((down * (height + gap) - gap, across * (width + gap) - gap), np.nan)
    empty = np.ones(picture.shape, bool)
    for i, tile in enumerate(small):
        top, left = i // across * (height + gap), i % across * (width + gap)
        picture[top : top + height, left : left + width] = tile
        empty[top : top + height, left : left + width] = False
    finite = np.isfinite(picture)
    scale = float(np.abs(picture[finite]).max(initial=0.0))
    cells = np.full(picture.shape, -128, np.int8)
    cells[finite] = np.rint(picture[finite] / (scale or 1) * 127)
    cells[empty] = 0
    return Heat(cells, scale, "; ".join(notes))


def _filled(x: Array, size: int) -> Array:
    return np.concatenate([x, np.zeros(size - x.size)])


def _means(tile: Array, blocks: tuple[int, ...]) -> Array:
    """Means over blocks of rows and columns; those at the end may be smaller."""
    for axis, block in enumerate(blocks):
        starts = np.arange(0, tile.shape[axis], block)
        counts = np.diff(np.append(starts, tile.shape[axis]))
        shape = (-1, 1) if axis == 0 else (1, -1)
        tile = np.add.reduceat(tile, starts, axis=axis) / counts.reshape(shape)
    return tile
