"""The roofline drawing: how fast each kernel could be, and how fast it is (Williams et al. 2009)."""

from __future__ import annotations

from typing import Any

from minidl.bench.measure import Result
from minidl.bench.verify import BenchError
from minidl.shared.plot import as_png, new_figure

COLOURS = {"minidl": "#0072b2", "numpy": "#e69f00", "torch": "#d55e00"}  # Okabe and Ito: safe for colour-blind readers
OTHERS = "#999999"
MARKERS = {"minidl": "o", "numpy": "s", "torch": "^"}


def check_plot() -> None:
    """Raise BenchError if Matplotlib is missing."""
    try:
        new_figure("--plot", 1, 1)
    except ImportError as error:
        raise BenchError(str(error)) from error


def draw(told: dict[str, Any], results: list[Result]) -> bytes:
    """The drawing as a PNG. BenchError: nothing to draw, or Matplotlib is missing."""
    check_plot()
    drawn = [line for line in results if line.flops]
    if not drawn:
        raise BenchError("--plot: none of these kernels computes anything, they only move numbers")
    figure = new_figure("--plot", 11, 7)
    axes = figure.subplots()
    roof = told["peak"][str(told["threads"])]
    flops = max(roof["flops"][line.dtype] for line in drawn) / 1e9
    intensities = [line.flops / line.moved for line in drawn]
    left, right = min(*intensities, 0.1) / 2, max(*intensities, 100) * 2
    for i, (size, rate) in enumerate(roof["bytes"].items()):
        near = left * 1.1 * 4 ** (i % 2)
        bend = flops / (rate / 1e9)
        axes.plot([left, bend, right], [left * rate / 1e9, flops, flops], color="#444444", lw=1.2, zorder=1)
        axes.annotate(
            f"{rate / 1e9:.0f} GB/s on {_size(int(size))}", (near, near * rate / 1e9), rotation=38,
            rotation_mode="anchor", va="bottom", fontsize=8, color="#444444",
        )  # fmt: skip
    axes.annotate(f"{flops:.0f} GFLOP/s", (right, flops), ha="right", va="bottom", fontsize=9, color="#444444")
    seen: set[str] = set()
    for line, x in zip(drawn, intensities, strict=True):
        y = line.flops / line.seconds / 1e9
        name = line.variant if line.variant in COLOURS else "variants"
        axes.plot(
            x, y, MARKERS.get(line.variant, "d"), color=COLOURS.get(line.variant, OTHERS),
            ms=9 if name == "minidl" else 6, mec="white", mew=0.7, zorder=3, label=None if name in seen else name,
        )  # fmt: skip
        seen.add(name)
    for x, y, text in _labels(drawn):
        axes.annotate(text, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=8, color=COLOURS["minidl"])
    axes.set(
        xscale="log", yscale="log", xlim=(left, right), xlabel="FLOP per byte that must be moved", ylabel="GFLOP/s",
        title=f"{told['cpu']}, {told['threads']} threads: what could be reached (lines), and what is",
    )  # fmt: skip
    axes.grid(True, which="major", color="#dddddd", lw=0.6)
    axes.legend(loc="lower right", frameon=False)
    return as_png(figure, dpi=130)


def _labels(drawn: list[Result]) -> list[tuple[float, float, str]]:
    """The position of each label: beside minidl's own point, once per kernel and case."""
    labels: dict[tuple[str, str], tuple[float, float, str]] = {}
    for line in drawn:
        if line.variant == "minidl":
            text = f"{line.kernel} {line.case}".strip()
            place = line.flops / line.moved, line.flops / line.seconds / 1e9
            labels.setdefault((line.kernel, line.case), (*place, text))
    return list(labels.values())


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"
