"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minidl.metrics.inputs import array
from minidl.shared.files import FilePath
from minidl.shared.plot import check_png, new_figure, write_png
from minidl.tensor import ArrayLike


def plot_confusion(matrix: ArrayLike, path: FilePath, classes: Sequence[str] | None = None) -> None:
    """Draw a confusion matrix as a PNG: true classes down, predicted across, coloured by the share of the true class.

    matrix    (C, C) counts or shares, as `confusion_matrix` gives it; numbers are shown for C ≤ 30
    classes   C names for the axes, else 0 to C − 1

    ImportError: the `plot` extra is not installed. ValueError: another shape, values that are negative or not finite,
    not C names, a path that does not end in .png. OSError: the file cannot be written.
    """
    values = array(matrix, "plot_confusion: matrix")
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"plot_confusion: expected matrix (C, C), found shape {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("plot_confusion: expected finite numbers of at least 0, found others in the matrix")
    count = len(values)
    names = [str(name) for name in (range(count) if classes is None else classes)]
    if len(names) != count:
        raise ValueError(f"plot_confusion: expected {count} classes, one for each row, found {len(names)}")
    check_png("plot_confusion", path)
    total = values.sum(axis=1, keepdims=True)
    share = values / np.where(total == 0, 1, total)
    side = min(max(0.62 * count, 2.4), 12)
    figure = new_figure("plot_confusion", side + 2.2, side + 1.2)
    from matplotlib.colors import PowerNorm

    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1))  # a square root, so that 1 % is visible
    long = max(map(len, names)) > 3
    step = -(-count // 60)  # names that would overlap are left out
    shown = list(range(0, count, step))
    axes.set_xticks(shown, [names[i] for i in shown], rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(shown, [names[i] for i in shown])
    axes.set(xlabel="predicted", ylabel="true")
    if count <= 30:
        form = "{:,}" if values.dtype.kind in "biu" else "{:.2f}"
        longest = max(len(form.format(v)) for v in values.reshape(-1).tolist())
        size = min(10.0, 85 * side / count / longest)  # points; a digit is 0.6 of its size wide
        for i, j in np.ndindex(values.shape):
            if values[i, j]:
                colour = "white" if share[i, j] > 0.3 else "black"
                text = form.format(values[i, j].item())
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=size)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    write_png(figure, path, dpi=130, tight=True)
