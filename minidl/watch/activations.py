"""The outputs of a model's layers for one batch, from a forward pass without side effects."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import instrument
from minidl.nn import Module
from minidl.tensor import Array
from minidl.train.evaluation import evaluating

FLAT = 0.05  # a tanh or sigmoid is saturated below this share of its maximal slope
_HEIGHT = math.sqrt(1 - FLAT)  # |y| of a tanh there, whose slope is 1 − y²
SATURATED: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda y: np.abs(y) > _HEIGHT,
    "sigmoid": lambda y: np.abs(2 * y - 1) > _HEIGHT,  # (1 + tanh(x / 2)) / 2
}
ACTIVATIONS = {"relu": "relu", "dense_relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}  # op → its function
CHANNELS_FIRST = {"conv1d": -2, "conv2d": -3, "conv_transpose2d": -3}  # and the channel axis, with or without a batch
UNITS_LAST = {"dense", "matmul", "einsum", "recurrent"}
_OPS = {*ACTIVATIONS, *CHANNELS_FIRST, *UNITS_LAST}


@dataclass
class Activations:
    """Statistics of a layer's outputs, over all its calls.

    name       the module's, "blocks.0.act"; for a function called in a container module, "blocks.0.tanh()"
    title      its name in sentences
    function   "relu", "tanh" or "sigmoid", if it produced the values
    result     whether the model returned these values
    """

    name: str
    title: str
    function: str | None = None
    result: bool = False
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # Σ (y − mean)²
    zeros: int = 0
    saturated: int = 0
    nonfinite: int = 0
    idle: Array | None = field(default=None)  # (units,) of a ReLU: whether always 0

    def add(self, y: Array, units: int) -> None:
        """Add values; `units` is the axis of units or channels."""
        if not y.size:
            return
        mean, n = float(np.mean(y, dtype=np.float64)), self.count + y.size
        # Combine two samples: Chan, Golub and LeVeque 1983, eq. 2.1.
        apart = mean - self.mean
        self.squares += y.size * float(np.var(y, dtype=np.float64)) + apart * apart * self.count * y.size / n
        self.mean += apart * y.size / n
        self.count = n
        self.zeros += y.size - int(np.count_nonzero(y))
        self.nonfinite += y.size - int(np.count_nonzero(np.isfinite(y)))
        if self.function == "relu" and y.ndim:
            rest = tuple(axis for axis in range(y.ndim) if axis != units % y.ndim)
            idle = ~np.any(y, axis=rest)
            self.idle = idle if self.idle is None or self.idle.shape != idle.shape else self.idle & idle
        elif self.function in SATURATED:
            self.saturated += int(np.count_nonzero(SATURATED[self.function](y)))

    def statistics(self) -> dict[str, float]:
        """The statistics to record. Shares are of all values, but "dead" of the units."""
        n = max(self.count, 1)
        found = {"mean": self.mean, "std": math.sqrt(self.squares / n), "zeros": self.zeros / n}
        found["nonfinite"] = self.nonfinite / n
        if self.idle is not None:
            found["dead"] = float(self.idle.mean())
        if self.function in SATURATED:
            found["saturated"] = self.saturated / n
        return found


@dataclass
class _Call:
    """A module that is running."""

    name: str
    title: str
    alone: bool  # has no submodules
    counts: Counter[str] = field(default_factory=Counter)
    waiting: tuple[str, str, Array] | None = None  # (op, function, values) that the module may be about to return


class _Observer:
    def __init__(self, model: Module) -> None:
        self.modules = {id(m): (name, title(name, m), not any(m.children())) for name, m in model.named_modules()}
        self.fused = instrument.fused(model)
        self.stack: list[_Call] = []
        self.found: dict[str, Activations] = {}
        self.latest: tuple[Activations, Array] | None = None
        self.units = -1

    def note(self, name: str, title: str, function: str | None, y: Array) -> None:
        """Add the outputs of a layer."""
        if y.dtype.kind != "f":
            return
        known = self.found.setdefault(name, Activations(name, title, function))
        known.add(y, {4: 1, 3: self.units}.get(y.ndim, -1))
        self.latest = known, y

    def note_function(self, call: _Call, op: str, function: str, y: Array) -> None:
        """Add the result of a function that is not a whole layer."""
        call.counts[op] += 1
        again = f" {call.counts[op]}" if call.counts[op] > 1 else ""
        self.note(f"{call.name}.{op}(){again}".lstrip("."), f"{op}(){again} in {call.title}", function, y)

    def call_module(self, call: Callable[..., Any], module: Module, *args: Any, **kwargs: Any) -> Any:
        if id(module) not in self.modules:
            return call(module, *args, **kwargs)
        here = _Call(*self.modules[id(module)])
        self.stack.append(here)
        try:
            result = call(module, *args, **kwargs)
        finally:
            self.stack.pop()
        y = next(instrument.arrays_in(result), None)
        function = None
        if here.waiting is not None:
            op, function, values = here.waiting
            if y is None or not np.may_share_memory(values, y):
                self.note_function(here, op, function, values)
                function = None
        came = instrument.arrays_in((args, kwargs))
        if here.alone and y is not None and not any(np.may_share_memory(x, y) for x in came):
            self.note(here.name, here.title, function, y)
        return result

    def run_op(self, op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        value, gradients = op(*args, **kwargs)
        name = op.__name__
        function, y = ACTIVATIONS.get(name), np.asarray(value)
        if name in CHANNELS_FIRST:
            self.units = CHANNELS_FIRST[name]
        elif name in UNITS_LAST or name == "dense_relu":
            self.units = -1
        if name == "recurrent":
            cell = kwargs.get("cell", args[5] if len(args) > 5 else "lstm")
            function, y = (cell, y[0, :-1]) if cell in ("relu", "tanh") else (None, y)
        if function is None or not self.stack:
            return value, gradients
        here = self.stack[-1]
        if name == "dense_relu":
            weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
            _, relu = self.fused.get(id(weight), (None, None))
            if relu is not None:
                self.note(self.modules[id(relu)][0], self.modules[id(relu)][1], function, y)
                return value, gradients
        if not here.alone:
            self.note_function(here, name, function, y)
        else:
            if here.waiting is not None:
                self.note_function(here, *here.waiting)
            here.waiting = name, function, y
        return value, gradients


def title(name: str, module: Module) -> str:
    """The name of a module in sentences."""
    kind = type(module).__name__
    return f"layer {name} ({kind})" if name else f"the model ({kind})"


def probe(model: Module, x: Array) -> tuple[dict[str, Activations], Array | None]:
    """Run model(x) in evaluation mode. Returns each layer's outputs by name, in order of the run, and the result.

    Layers are modules without submodules, and the functions relu, tanh and sigmoid wherever called. Layers that pass
    values on unchanged, such as Flatten, are omitted. A Dense that a Sequential fuses with the ReLU after it has no
    outputs of its own. Nothing changes: modes, buffers, gradients, attributes and generators are restored.
    """
    observer = _Observer(model)
    with (
        np.errstate(all="ignore"),
        instrument.restored(model, x),
        evaluating(model),
        instrument.observed(observer.call_module, observer.run_op, _OPS),
    ):
        result = next(instrument.arrays_in(model(x)), None)
    if observer.latest is not None and result is not None:
        last, values = observer.latest
        last.result = np.may_share_memory(values, result)
    return observer.found, result
