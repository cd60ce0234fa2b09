"""A plot of a watched run."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.shared.files import FilePath
from minidl.shared.plot import check_png, new_figure, write_png
from minidl.tensor import Array
from minidl.watch.series import Series

MOST = 12  # names in a legend


def draw(watch: Series, path: FilePath) -> None:
    """See `Watch.plot`. Lines go from dark, near the inputs, to light."""
    if not len(watch.steps):
        raise ValueError("plot: expected a run that was watched, found none")
    check_png("plot", path)
    figure = new_figure("plot", 15, 8.4)
    from matplotlib import colormaps

    records = watch.records
    weights = [name for name, judged in watch.parameters.items() if judged] or list(watch.parameters)
    silent = {
        f"{words.removeprefix('layer ')}, {kind}": records[name][kind]
        for name, words in watch.layers.items()
        for kind in ("dead", "saturated")
        if kind in records[name]
    }
    spread = {words.removeprefix("layer "): records[name]["std"] for name, words in watch.layers.items()}
    axes = figure.subplots(2, 3).ravel()
    steps = watch.steps
    colours = colormaps["viridis"]

    def lines(axes: Any, title: str, found: dict[str, Array], log: bool) -> None:
        shown = set(np.linspace(0, len(found) - 1, MOST).astype(int)) if len(found) > MOST else range(len(found))
        positive = any((values[np.isfinite(values)] > 0).any() for values in found.values())
        for i, (name, values) in enumerate(found.items()):
            kept = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
            colour = colours(0.9 * i / max(len(found) - 1, 1))
            style = "--" if name.endswith("saturated") else "-"
            axes.plot(steps, kept, style, color=colour, marker=".", label=name if i in shown else None)
        if log and positive:
            axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if found:
            axes.legend(fontsize=8, framealpha=0.6, edgecolor="none")

    for (words, value), style in zip(watch.guesses.items(), (":", "--"), strict=False):
        axes[0].axhline(value, color="grey", linestyle=style, linewidth=1, label=words)
    lines(axes[0], "loss", {"mean since the last watched step": watch.losses}, False)
    lines(axes[1], "outputs of layers: standard deviation", spread, True)
    lines(axes[2], "share of units dead, of values saturated", silent, False)
    axes[2].set_ylim(-0.03, 1.03)
    lines(axes[3], "gradients of weights: rms", {name: records[name]["gradient_rms"] for name in weights}, True)
    lines(axes[4], "steps: ‖Δθ‖ / ‖θ‖", {name: records[name]["update_ratio"] for name in weights}, True)
    axes[4].axhspan(1e-4, 1e-2, color="green", alpha=0.08)
    axes[4].axhline(1e-3, color="green", linestyle=":", linewidth=1)
    _findings(axes[5], watch)
    write_png(figure, path, dpi=110)


def _findings(axes: Any, watch: Series) -> None:
    """Write the findings in place of a sixth diagram."""
    import textwrap

    axes.axis("off")
    axes.set_title("noticed")
    facts = [f"step {f.step}: {f.fact}." for f in watch.findings] or ["Nothing wrong."]
    wrapped = [line for fact in facts for line in textwrap.wrap(fact, 62, subsequent_indent="   ")]
    if len(wrapped) > 26:
        wrapped = [*wrapped[:25], "…"]
    axes.text(0, 0.98, "\n".join(wrapped), va="top", fontsize=8.5, transform=axes.transAxes)
