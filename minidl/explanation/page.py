"""The page: a self-contained HTML file with every number of an explanation.

Numbers are written with the fewest digits that restore them, so that the page shows what the engine computed. Each
array is stored once, however often it is shown: in full if small, else as a summary and a heat map, with as much
detail as the size limits allow.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from dataclasses import astuple
from importlib import resources
from typing import Any

import numpy as np

from minidl.explanation.drawing import arranged
from minidl.explanation.numbers import heat, shape_text, summary
from minidl.explanation.opened import Fault, Opened
from minidl.explanation.record import Entry, Passed
from minidl.explanation.reverse import FAULTS
from minidl.explanation.text import verdict
from minidl.tensor import Array

NUMBERS = 16384  # numbers in full on a page, at most
FULL = (1024, 256, 64, 16, 4)  # largest array written in full: the first that keeps within NUMBERS
CELLS = 200_000  # cells of heat maps on a page, at most
SIDES = (48, 32, 16, 8)  # rows and columns of a heat map: the first that keeps within CELLS


def page(explanation: Opened) -> str:
    """Render the page as HTML."""
    data = json.dumps(_data(explanation), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":  # so that no name or line of code can end the script element
        data = data.replace(character, f"\\u{ord(character):04x}")
    folder = resources.files("minidl.explanation")
    parts = {"css": _read(folder, "page.css"), "js": _read(folder, "page.js"), "data": data}
    parts["title"] = html.escape(f"Backprop of {explanation.loss.name}")
    pieces = _read(folder, "page.html").split("{{")
    written = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        written += [parts[name], rest]
    return "".join(written)


def _read(folder: Any, name: str) -> str:
    text: str = (folder / name).read_text("utf-8")
    return text


class _Arrays:
    """The arrays of a page without duplicates, numbered on first use and written when all are known."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.numbers: dict[Any, int] = {}

    def __call__(self, array: Array | None) -> int | None:
        if array is None:
            return None
        key = (array.shape, array.dtype.str, hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest())
        if key not in self.numbers:
            self.numbers[key] = len(self.arrays)
            self.arrays.append(array)
        return self.numbers[key]

    def written(self) -> list[dict[str, Any]]:
        sizes = [a.size for a in self.arrays]
        full = next((n for n in FULL if sum(s for s in sizes if s <= n) <= NUMBERS), 1)
        large = sum(s > full for s in sizes)
        side = next((n for n in SIDES if large * n * n <= CELLS), SIDES[-1])
        return [_written(a, full, side) for a in self.arrays]


def _written(array: Array, full: int, side: int) -> dict[str, Any]:
    """s: shape; n: all numbers; or m: mean, spread, least, most, shares of 0, NaN, ∞; h: the heat map."""
    found: dict[str, Any] = {"s": list(array.shape)}
    if array.size <= full and array.dtype.kind in "fiub":
        return found | {"n": [number(v) for v in array.reshape(-1)]}
    short = summary(array)
    picture = heat(array, side)
    if short is None or picture is None:
        return found | {"n": []}
    cells = base64.b64encode(picture.cells.tobytes()).decode()
    rows, columns = picture.cells.shape
    return found | {
        "m": [number(v) for v in astuple(short)],
        "h": [rows, columns, number(picture.scale), cells, picture.note],
    }


def number(value: Any) -> Any:
    """A number for JSON, with the digits of its own dtype; as a string if JSON cannot represent it."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return float(str(value))  # "0.1" for the float32 nearest to it


def _data(explanation: Opened) -> dict[str, Any]:
    arrays = _Arrays()
    shown = list(explanation)
    index = {e.number: i for i, e in enumerate(shown)}
    drawn = arranged(explanation)
    edges: list[dict[str, Any]] = []
    places: dict[tuple[int, int], int] = {}
    for i, e in enumerate(shown):
        passes = {p.slot: p for p in e.passes}
        for slot, x in enumerate(e.inputs):
            if x in index:
                places[e.number, slot] = len(edges)
                at = (x, e.number, slot)
                edge = {"x": index[x], "y": i, "k": slot, "b": drawn.bends[at], "far": int(at in drawn.beside)}
                edges.append(edge | _flow(passes.get(slot), arrays))
    return {
        "name": explanation.loss.name,
        "sentence": "" if explanation.ok is None else verdict(explanation),
        "ok": explanation.ok,
        "hidden": len(explanation.entries) - len(shown),
        "tensors": [_tensor(e, explanation, index, arrays) for e in shown],
        "at": [[drawn.layers[e.number], drawn.places[e.number]] for e in shown],
        "edges": edges,
        "order": [index[n] for n in explanation.order if n in index],
        "faults": {key: _fault(explanation, key, index, places, arrays) for key in FAULTS},
        "arrays": arrays.written(),
    }


def _flow(passed: Passed | None, arrays: _Arrays) -> dict[str, Any]:
    if passed is None:
        return {}
    summed = None if passed.summed is None else shape_text(passed.summed)
    return {"g": arrays(passed.gradient), "d": arrays(passed.derivative), "s": summed}


def _tensor(e: Entry, explanation: Opened, index: dict[int, int], arrays: _Arrays) -> dict[str, Any]:
    outside = [p for p in e.arrives if p.y not in index]
    found: dict[str, Any] = {
        "name": e.name,
        "kind": e.kind,
        "shape": shape_text(e.shape),
        "dtype": str(e.dtype),
        "v": arrays(e.value),
        "g": arrays(e.gradient),
        "outside": [[explanation.entries[p.y].name, arrays(p.gradient)] for p in outside],
        "arrives": [[index.get(p.y, -1), p.slot] for p in e.arrives],
    }
    if e.kind == "result":
        roles = [[role, ", ".join(explanation.entries[x].name for x in xs)] for role, xs in e.roles]
        found |= {
            "op": e.op,
            "call": e.call,
            "f": [e.formula.forward, list(e.formula.gradients.values()), e.formula.note],
            "roles": roles,
        }
        found["hidden"] = sum(x not in index for x in e.inputs)
    if e.place is not None:
        p = e.place
        found["place"] = [p.file.replace("\\", "/").rpartition("/")[2], p.line, p.function, p.text, p.start, p.end]
    if e.difference is not None:
        d = e.difference
        columns = (d.where, d.gradient, d.expected, d.kink, d.wrong)
        rows = [[number(v) for v in row] for row in zip(*columns, strict=True)]
        found["check"] = {"text": str(d), "ok": d.ok, "reason": d.reason, "rows": rows[:64]}
    return found


def _fault(
    explanation: Opened, key: str, index: dict[int, int], places: dict[tuple[int, int], int], arrays: _Arrays
) -> dict[str, Any]:
    """Only the differences from the correct pass."""
    fault: Fault = explanation.faults[key]
    entries = explanation.entries

    def other(array: Array, right: Array | None) -> bool:
        return right is None or not np.array_equal(array, right, equal_nan=True)

    passed = {(p.y, p.slot): p.gradient for e in entries for p in e.passes}
    return {
        "label": FAULTS[key],
        "order": [index[n] for n in fault.order if n in index],
        "used": {index[n]: arrays(g) for n, g in fault.used.items() if n in index and other(g, entries[n].gradient)},
        "g": {index[n]: arrays(fault.gradients[n]) for n in fault.wrong if n in index},
        "flows": {places[at]: arrays(g) for at, g in fault.passed.items() if at in places and other(g, passed[at])},
        "wrong": [index[n] for n in fault.wrong if n in index],
        "count": len(fault.wrong),
        "of": sum(e.kind != "constant" for e in entries),
    }
