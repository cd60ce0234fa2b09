"""The result of `summary`, as a table and as numbers."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from typing import Any

from minidl.overview.profile import Layer

WIDTH = 100
_COLUMNS = {"output": 20, "parameters": 11, "FLOPs →": 7, "FLOPs ←": 7, "memory →": 8, "memory ←": 8}
_NAMES = WIDTH - sum(width + 1 for width in _COLUMNS.values())
_SUMS = ("parameters", "trainable", "flops_forward", "flops_backward", "memory_forward", "memory_backward")
_NOTE = (
    "→ forward, ← backward. A multiply-add is 2 FLOPs, any other operation on an element 1; biases are not counted, "
    "nor is the loss. memory →: what the forward pass leaves for the backward one; memory ←: the gradients of these "
    "activations, which do not all live at one time."
)


class Summary:
    """A model's layers in numbers. `print` it, or take its rows.

    rows     a dict per module, depth first, shared ones once: "name" ("" is the model's), "kind", "depth",
             "calls", "output_shape" (of the first array it returned; None where it was not called), "parameters",
             "trainable", "flops_forward", "flops_backward", "memory_forward", "memory_backward" (bytes), "not_counted"
             (ops of unknown cost, with their number of runs). Figures include the modules inside; a parameter of
             several modules counts in the first.
    totals   the sums over the whole model, and in bytes "parameter_memory", "gradient_memory", "buffer_memory" and
             "optimizer_memory", {optimizer: its state}
    inputs   the shapes of the inputs
    """

    def __init__(self, layers: list[Layer], inputs: list[tuple[int, ...]]) -> None:
        model = layers[0].module
        self.inputs = inputs
        self._unknown = [f"{op} ×{n} in {layer.title}" for layer in layers for op, n in layer.not_counted.items()]
        rows = {layer.name: _row(layer) for layer in layers}
        self.rows = list(rows.values())
        trained = 0
        for name, p in model.named_parameters():
            while (name := name.rpartition(".")[0]) not in rows:
                pass
            rows[name]["parameters"] += p.size
            rows[name]["trainable"] += p.size if p.requires_grad else 0
            trained += p.data.nbytes if p.requires_grad else 0
        for layer in reversed(layers):  # inner layers come after
            if layer.parent is not None:
                above, row = rows[layer.parent.name], rows[layer.name]
                for key in _SUMS:
                    above[key] += row[key]
                above["not_counted"] = dict(Counter(row["not_counted"]) + Counter(above["not_counted"]))
        self.totals: dict[str, Any] = {key: self.rows[0][key] for key in _SUMS}
        self.totals["parameter_memory"] = sum(p.data.nbytes for p in model.parameters())
        self.totals["gradient_memory"] = trained
        self.totals["buffer_memory"] = sum(b.nbytes for _, b in model.named_buffers())
        self.totals["optimizer_memory"] = {"SGD": 0, "SGD with momentum": trained, "Adam": 2 * trained}

    def to_json(self) -> str:
        """{"inputs": […], "rows": […], "totals": {…}}, as the attributes."""
        return json.dumps({"inputs": self.inputs, "rows": self.rows, "totals": self.totals}, indent=2)

    def __str__(self) -> str:
        rule = "─" * WIDTH
        lines = [_line("layer", list(_COLUMNS)), rule]
        for row in self.rows:
            name = row["name"].removeprefix(self._above(row))
            label = "  " * row["depth"] + f"{name} {row['kind']}".lstrip()
            label += f" ×{row['calls']}" if row["calls"] > 1 else ""
            shape = "" if row["output_shape"] is None else _shape(row["output_shape"])
            lines.append(_line(label, [shape, *_numbers(row)]))
        lines += [rule, _line("total", ["", *_numbers(self.rows[0])]), ""]
        t = self.totals
        state = ", ".join(f"{name} {_bytes(n)}" for name, n in t["optimizer_memory"].items())
        told = [
            f"input {', '.join(map(str, self.inputs))}; output {self.rows[0]['output_shape']}",
            f"parameters {_bytes(t['parameter_memory'])} ({t['trainable']:,} of {t['parameters']:,} are trained), "
            f"gradients {_bytes(t['gradient_memory'])}, buffers {_bytes(t['buffer_memory'])}",
            f"optimizer state: {state}",
        ]
        if self._unknown:
            told.append(f"FLOPs not counted, as they are not known: {', '.join(self._unknown)}")
        if idle := [row["name"] for row in self.rows if row["parameters"] and not self._ran(row)]:
            told.append(f"not called: {', '.join(idle)}")
        return "\n".join(lines + [part for text in (*told, _NOTE) for part in textwrap.wrap(text, WIDTH)])

    __repr__ = __str__

    def _above(self, row: dict[str, Any]) -> str:
        """The parent's part of a row's name, with the dot."""
        names = [r["name"] for r in self.rows if r["depth"] == row["depth"] - 1 and r["name"]]
        return max((f"{name}." for name in names if row["name"].startswith(f"{name}.")), key=len, default="")

    def _ran(self, row: dict[str, Any]) -> bool:
        """Whether the module was called, or one inside it."""
        inside = f"{row['name']}." if row["name"] else ""
        return any(r["calls"] for r in self.rows if r is row or r["name"].startswith(inside))


def _row(layer: Layer) -> dict[str, Any]:
    """The figures of the layer itself."""
    return {
        "name": layer.name,
        "kind": type(layer.module).__name__,
        "depth": layer.depth,
        "calls": layer.calls,
        "output_shape": layer.output_shape,
        "parameters": 0,
        "trainable": 0,
        "flops_forward": layer.flops_forward,
        "flops_backward": layer.flops_backward,
        "memory_forward": layer.memory_forward,
        "memory_backward": layer.memory_backward,
        "not_counted": dict(layer.not_counted),
    }


def _numbers(row: dict[str, Any]) -> list[str]:
    n = row["parameters"]
    return [
        f"{n:,}" if n < 10**9 else _count(n),
        *(_count(row[key]) for key in ("flops_forward", "flops_backward")),
        *(_bytes(row[key]) for key in ("memory_forward", "memory_backward")),
    ]


def _line(label: str, cells: list[str]) -> str:
    label = label if len(label) <= _NAMES else f"{label[: _NAMES - 1]}…"
    (first, wide), *rest = zip(cells, _COLUMNS.values(), strict=True)
    return " ".join([f"{label:<{_NAMES}}", f"{first:<{wide}}", *(f"{cell:>{width}}" for cell, width in rest)]).rstrip()


def _shape(shape: tuple[int, ...]) -> str:
    wide = _COLUMNS["output"]
    for text in (str(shape), str(shape).replace(" ", "")):
        if len(text) <= wide:
            return text
    return f"{text[: wide - 1]}…"


def _count(n: float) -> str:
    """Three digits and a unit: 25.7 M."""
    for unit in ("", " k", " M", " G", " T"):
        if n < 999.5:
            return f"{n:.3g}{unit}"
        n /= 1000
    return f"{n:.3g} P"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1023.5:
            return f"{n:.0f} {unit}" if n >= 100 else f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:.3g} TiB"
