"""A watched run as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable

from minidl.watch.findings import together
from minidl.watch.series import Series

WIDTH = 100
_NAMES = 40
_OF_LAYERS = ("mean", "std", "zeros", "dead", "saturated")
_OF_PARAMETERS = {"gradient_rms": "gradient rms", "update_ratio": "‖Δθ‖/‖θ‖"}


def told(watch: Series) -> str:
    """The statistics of the last watched step, and all findings, grouped by cause and advice."""
    steps = watch.steps.tolist()
    if not steps:
        return f"{watch!r}: nothing watched yet"
    records = watch.records
    lines = [
        f"{len(steps)} steps watched, {steps[0]} to {steps[-1]}; loss {watch.losses[-1]:.4g}; at step {steps[-1]}:",
        "",
        _line("layer", _OF_LAYERS),
    ]
    for name, words in watch.layers.items():
        last = {k: values[-1] for k, values in records[name].items()}
        lines.append(_line(_short(words.removeprefix("layer ")), [_number(k, last.get(k)) for k in _OF_LAYERS]))
    lines += ["", _line("parameter", _OF_PARAMETERS.values())]
    for name in watch.parameters:
        lines.append(_line(_short(name), [_number(k, records[name][k][-1]) for k in _OF_PARAMETERS]))
    lines.append("")
    if not watch.findings:
        return "\n".join([*lines, "Nothing wrong was noticed."])
    for same in together(watch.findings):
        for f in same:
            lines += textwrap.wrap(f"{f.when}: {f.fact}.", WIDTH, initial_indent="! ", subsequent_indent="  ")
        for words in (f"Usual cause: {same[0].cause}.", f"Try: {same[0].advice}."):
            lines += textwrap.wrap(words, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _line(label: str, cells: Iterable[str]) -> str:
    return " ".join([f"{label:<{_NAMES}}", *(f"{cell:>12}" for cell in cells)][:6]).rstrip()


def _short(name: str) -> str:
    return name if len(name) <= _NAMES else f"…{name[1 - _NAMES :]}"


def _number(statistic: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    if statistic in ("zeros", "dead", "saturated"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}"
