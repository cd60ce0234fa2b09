"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minidl.tensor import Array, Tensor


def plain(figures: Mapping[str, Any]) -> dict[str, float]:
    """Figures as Python's numbers, from NumPy's, Tensors and arrays of one element. TypeError for what is no number."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        array = np.asarray(value.data if isinstance(value, Tensor) else value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise TypeError(f"expected a number for the figure {name!r}, found {value!r:.80}")
        found[name] = float(array.item()) if array.dtype.kind == "f" else int(array.item())
    return found


def json_ready(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The same, with null for NaN and infinity, which JSON does not have."""
    return {name: value if math.isfinite(value) else None for name, value in plain(figures).items()}


class History(Mapping[str, Array]):
    """Figures of a run, by name: `history["val_loss"]` is an array (epochs,), NaN where an epoch had none.

    epochs    how many there are
    stopped   why the run ended before its last epoch, or None
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

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw losses, and what else was measured, over the epochs as a PNG.

        ImportError: the `plot` extra is not installed. ValueError: there is nothing to draw, or path has another
        ending than .png. OSError: it cannot be written.
        """
        if not self.rows:
            raise ValueError("plot: expected at least one epoch, found none")
        if not os.fspath(path).lower().endswith(".png"):
            raise ValueError(f"plot: expected a file's name ending in .png, found {os.fspath(path)!r}")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('plot: drawing takes matplotlib: pip install "minidl[plot]"') from error
        drawn = [name for name in self._names() if name not in ("epoch", "seconds", "lr")]
        kinds = list(dict.fromkeys(name.removeprefix("val_") for name in drawn))
        figure = Figure(figsize=(4.5 * len(kinds), 3.4), layout="constrained")
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
        figure.savefig(path, dpi=120)
