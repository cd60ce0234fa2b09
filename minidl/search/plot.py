"""A plot of a search: values over the trials, and over each parameter that varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.search.space import Choice, Distribution, Integers, LogUniform, Space, short, varies
from minidl.search.trial import Row
from minidl.shared.files import FilePath
from minidl.shared.plot import check_png, new_figure, write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
_SHADES = ["#b9cfe4", "#6f9fca", "#1f5f9e"]  # from small budgets to large; interpolated for more
_BEST = "#c8451b"


def draw(path: FilePath, space: Space, direction: str, ranked: Sequence[Row], last: int) -> None:
    """See `Results.plot`.

    ranked   the rows without errors, best first, at least one;  last: the number of the last trial, failed or not
    """
    check_png("plot", path)
    best = ranked[0]
    names = [name for name, distribution in space.items() if varies(distribution)]
    rows = sorted(ranked, key=lambda row: (row.budget or 0, row.trial))
    columns = 2 if len(names) == 3 else min(_COLUMNS, 1 + len(names))
    lines = math.ceil((1 + len(names)) / columns)
    figure = new_figure("plot", 4 * columns, 3.1 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    low, high = _limits([_value(row) for row in rows], direction)
    for i, axes in enumerate(panels):
        if i > len(names):
            axes.set_visible(False)
            continue
        where = [float(row.trial) for row in rows]
        if i > 0:
            where = _positions(axes, names[i - 1], space[names[i - 1]], rows)
        _points(axes, where, rows, low, high, legend=i == 0)
        at = rows.index(best)
        axes.plot(where[at], _value(best), "o", markersize=11, fillstyle="none", color=_BEST, label="best")
        axes.set(ylim=(low, high), ylabel=f"value ({direction})" if i % columns == 0 else "")
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    _best_so_far(panels[0], direction, rows, last)
    panels[0].set_xlabel("trial")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    write_png(figure, path, dpi=120)


def _value(row: Row) -> float:
    assert row.value is not None
    return row.value


def _limits(values: list[float], direction: str) -> tuple[float, float]:
    """The range shown: the better 60 % of the values; others are drawn at the edge."""
    low, high = min(values), max(values)
    if direction == "minimize":
        high = float(np.quantile(values, 0.6))
    else:
        low = float(np.quantile(values, 0.4))
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _points(axes: Axes, where: list[float], rows: list[Row], low: float, high: float, legend: bool) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("", _SHADES)
    budgets = sorted({row.budget or 0 for row in rows})
    edge, told = 0.02 * (high - low), set[str]()
    for rank, budget in enumerate(budgets):
        colour = shades(rank / (len(budgets) - 1) if len(budgets) > 1 else 1.0)
        for beyond, marker in ((False, "o"), (True, "v")):
            drawn = [
                (x, min(max(_value(row), low + edge), high - edge))
                for x, row in zip(where, rows, strict=True)
                if (row.budget or 0) == budget and (not low <= _value(row) <= high) == beyond
            ]
            name = "beyond the edge" if beyond else f"budget {budget:,}" if budget else "trials"
            if drawn:
                label = name if legend and name not in told else None
                axes.plot(*zip(*drawn, strict=True), marker, color=colour, markersize=5, label=label)
                told.add(name)


def _best_so_far(axes: Axes, direction: str, rows: list[Row], last: int) -> None:
    """A step line of the best value so far, of trials with the largest budget."""
    sign = 1 if direction == "minimize" else -1
    rows = [row for row in rows if row.budget == rows[-1].budget]
    best = sign * np.minimum.accumulate([sign * _value(row) for row in rows])
    where = [row.trial for row in rows]
    axes.step([*where, last], [*best, best[-1]], where="post", color=_BEST, linewidth=1.2, label="best so far")


def _positions(axes: Axes, name: str, distribution: Distribution, rows: list[Row]) -> list[float]:
    """The position of each row on the axis of this parameter; NaN if it has none."""
    values: list[Any] = [row.settings[name] for row in rows]
    axes.set_xlabel(name)
    if isinstance(distribution, Choice):
        members = list(distribution.members)
        members += [value for i, value in enumerate(values) if value not in members and value not in values[:i]]
        axes.set_xticks(range(len(members)), [short(member) for member in members])
        axes.set_xlim(-0.6, len(members) - 0.4)
        if sum(len(short(member)) for member in members) > 24:
            axes.tick_params(axis="x", rotation=30)
        # Spread equal ones over a width of 0.6: by the golden ratio, not at random.
        beside = [0.6 * (row.trial * 0.618034 % 1 - 0.5) for row in rows]
        return [members.index(value) + shift for value, shift in zip(values, beside, strict=True)]
    if isinstance(distribution, LogUniform) or (isinstance(distribution, Integers) and distribution.log):
        axes.set_xscale("log")
        return [float(v) if isinstance(v, int | float) and v > 0 else math.nan for v in values]
    axes.locator_params(axis="x", integer=isinstance(distribution, Integers))
    return [float(v) if isinstance(v, int | float) else math.nan for v in values]
