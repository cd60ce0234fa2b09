"""The figures of a training run, epoch by epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidl.core.operators import values_of
from minidl.shared.files import FilePath
from minidl.shared.plot import check_png, new_figure, write_png
from minidl.tensor import Array


def plain(figures: Mapping[str, Any]) -> dict[str, float]:
    """Convert figures (NumPy numbers, Tensors, arrays of one element) to Python numbers. TypeError: not a number."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        array = np.asarray(values_of(value))
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise TypeError(f"expected a number for the figure {name!r}, found {value!r:.80}")
        found[name] = float(array.item()) if array.dtype.kind == "f" else int(array.item())
    return found


def json_ready(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """As `plain`, with None for NaN and infinity, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in plain(figures).items()}


class History(Mapping[str, Array]):
    """Figures of a run, by name: `history["val_loss"]` is an array (epochs,), NaN where an epoch had none.

    epochs    the number of epochs
    stopped   the reason for ending before the last epoch, or None
    """

    def __init__(self, rows: list[dict[str, float]] | None = None, stopped: str | None = None) -> None:
        self.rows: list[dict[str, float]] = [plain(row) for row in rows or []]
        self.stopped = stopped

    @property
    def epochs(self) -> int:
        return len(self.rows)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, name: str) -> Array:
        if name not in (names := self._names()):
            raise KeyError(f"expected one of {names}, found {name!r}")
        return np.array([row.get(name, math.nan) for row in self.rows])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v:.4g}" for k, v in self.rows[-1].items()) if self.rows else "nothing yet"
        return f"History({self.epochs} epochs; {last})"

    def to_json(self) -> str:
        """{"epochs": [{name: number or null}], "stopped": …}"""
        return json.dumps({"epochs": [json_ready(row) for row in self.rows], "stopped": self.stopped}, indent=2)

    def plot(self, path: FilePath) -> None:
        """Draw losses and other figures over the epochs as a PNG.

        ImportError: the `plot` extra is not installed. ValueError: nothing to draw, or the path does not end in .png.
        OSError: the file cannot be written.
        """
        if not self.rows:
            raise ValueError("plot: expected at least one epoch, found none")
        check_png("plot", path)
        drawn = [name for name in self._names() if name not in ("epoch", "seconds", "lr")]
        kinds = list(dict.fromkeys(name.removeprefix("val_") for name in drawn))
        figure = new_figure("plot", 4.5 * len(kinds), 3.4)
        for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            for name, label, style in ((kind, "training", "o-"), (f"val_{kind}", "validation", "s--")):
                if name in drawn:
                    values = self[name]
                    axes.plot(range(1, len(values) + 1), values, style, markersize=4, label=label)
            axes.set_xlabel("epoch")
            axes.set_title(kind.replace("_", " "))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
            axes.legend(frameon=False)
        write_png(figure, path, dpi=120)
