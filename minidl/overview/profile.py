"""Profile a model's forward pass: which layer ran which ops, their cost, and the memory they keep.

Changes the model makes to itself are undone afterwards.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.instrument import arrays_in, fused, observed, restored
from minidl.nn import Module
from minidl.overview.flops import JOINT, Cost, cost
from minidl.tensor import Array, Tensor


@dataclass
class Layer:
    """A module of the model and its measurements, without those of the modules inside."""

    name: str  # "blocks.0", "" for the model itself
    module: Module
    depth: int
    parent: Layer | None
    calls: int = 0
    output_shape: tuple[int, ...] | None = None  # of the first array that its last call returned
    flops_forward: int = 0
    flops_backward: int = 0
    memory_forward: int = 0  # bytes
    memory_backward: int = 0
    not_counted: Counter[str] = field(default_factory=Counter)  # ops of unknown cost

    @property
    def title(self) -> str:
        """The name used in messages."""
        kind = type(self.module).__name__
        return f"layer {self.name} ({kind})" if self.name else kind


@dataclass
class _Call:
    """One op that was run. Holding the value keeps its memory, and so its id, from being reused."""

    layer: Layer
    inputs: list[str]  # their names
    cost: Cost | None
    value: Array
    gradients: tuple[Any, ...]
    rectifier: Layer | None  # the ReLU fused with its Dense


def layers_of(model: Module) -> list[Layer]:
    """The model and all modules inside, depth first, shared ones once."""
    found: dict[str, Layer] = {}
    for name, module in model.named_modules():
        above = name
        while above and ((above := above.rpartition(".")[0]) not in found):
            pass
        parent = found[above] if name else None
        found[name] = Layer(name, module, parent.depth + 1 if parent else 0, parent)
    return list(found.values())


class _Watcher:
    def __init__(self, layers: list[Layer]) -> None:
        self.layers = {id(layer.module): layer for layer in layers}
        self.stack = [layers[0]]
        self.failed: Layer | None = None
        self.calls: list[_Call] = []
        self.fused = fused(layers[0].module)

    def call_module(self, call: Callable[..., Any], module: Module, *args: Any, **kwargs: Any) -> Any:
        layer = self.layers.get(id(module))
        if layer is None:
            return call(module, *args, **kwargs)
        self.stack.append(layer)
        try:
            result = call(module, *args, **kwargs)
        except Exception:
            self.failed = self.failed or layer
            raise
        finally:
            self.stack.pop()
        layer.calls += 1
        layer.output_shape = next((a.shape for a in arrays_in(result)), None)
        return result

    def run_op(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        layer, relu = self.stack[-1], None
        bound = inspect.signature(function).bind(*args, **kwargs)  # a wrong call fails here as the op would
        bound.apply_defaults()
        if function.__name__ == "dense_relu":
            dense, after = self.fused.get(id(bound.arguments["weight"]), (None, None))
            layer, relu = self.layers.get(id(dense), layer), self.layers.get(id(after))
        try:
            value, gradients = function(*args, **kwargs)
        except Exception:
            self.failed = self.failed or layer
            raise
        result = np.asarray(value)
        if function.__name__ == "dense_relu":
            for part in filter(None, (layer if layer is not self.stack[-1] else None, relu)):
                part.calls += 1
                part.output_shape = result.shape
        price = cost(function.__name__, bound.arguments, result)
        if price is None:
            layer.not_counted[function.__name__] += 1
        elif relu is not None:
            layer.flops_forward += price[0] - result.size
            relu.flops_forward += result.size
        else:
            layer.flops_forward += price[0]
        self.calls.append(_Call(layer, list(bound.arguments), price, result, gradients, relu))
        return value, gradients


def watch(model: Module, inputs: tuple[Any, ...]) -> list[Layer]:
    """Run model(*inputs) once and return the measurements of its layers. Errors are prefixed with the layer's name."""
    layers = layers_of(model)
    given = {id(_owner(a)) for a in arrays_in((inputs, [vars(layer.module) for layer in layers]))}
    with restored(model, inputs):
        watcher = _Watcher(layers)
        try:
            with observed(watcher.call_module, watcher.run_op):
                result = model(*inputs)
        except (TypeError, ValueError, IndexError) as error:
            kind = next(k for k in (TypeError, ValueError, IndexError) if isinstance(error, k))
            raise kind(f"summary: {(watcher.failed or layers[0]).title}: {error}") from error
        except Exception as error:
            error.add_note(f"in {(watcher.failed or layers[0]).title}, while summary() ran the model")
            raise
        _count_backward(watcher, result, given)
    return layers


def _count_backward(watcher: _Watcher, result: Any, given: set[int]) -> None:
    """Walk everything the result keeps alive: the recorded graph, and the arrays its gradient functions hold."""
    by_gradient = {id(g): call for call in watcher.calls for g in call.gradients if g is not None}
    made: dict[int, _Call] = {}  # owner of memory → the op that made it
    for call in watcher.calls:
        if (owner := id(_owner(call.value))) not in given:
            made.setdefault(owner, call)
    counted, seen = set(given), set[int]()
    stack: list[tuple[Any, Layer]] = [(result, watcher.stack[0])]
    while stack:
        x, layer = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, np.ndarray):
            owner = _owner(x)
            if id(owner) not in counted:
                counted.add(id(owner))
                (made[id(owner)].layer if id(owner) in made else layer).memory_forward += owner.nbytes
        elif isinstance(x, Tensor):
            stack.append((x.data, layer))
            node: Any = x._node
            if not hasattr(node, "gradients"):  # a leaf, or freed by a backward() in the model
                continue
            for known in (by_gradient[id(g)] for g in node.gradients if id(g) in by_gradient):
                layer = known.layer
                _add_backward(known, node, x, made)
                break
            stack.extend((part, layer) for part in (node.args, node.kwargs, node.inputs, node.gradients))
        elif isinstance(x, list | tuple):
            stack.extend((part, layer) for part in x)
        elif isinstance(x, dict):
            stack.extend((part, layer) for part in x.values())
        elif inspect.isfunction(x):
            stack.extend((part, layer) for part in (x.__defaults__, *_held(x)))


def _add_backward(call: _Call, node: Any, x: Tensor, made: dict[int, _Call]) -> None:
    """Count the needed gradients of this op's inputs, and the gradient of its result."""
    if made.get(id(_owner(x.data))) is call:  # a view's gradient is a view
        call.layer.memory_backward += x.data.nbytes
        if call.rectifier is not None:
            call.rectifier.memory_backward += x.data.nbytes
    if call.cost is None:
        return
    needed = {id(g) for g in node.gradients}
    back = call.cost[1]
    total = sum(back.get(name, 0) for name, g in zip(call.inputs, call.gradients, strict=False) if id(g) in needed)
    joint = back.get(JOINT, 0)
    call.layer.flops_backward += total
    (call.rectifier or call.layer).flops_backward += joint


def _held(function: Any) -> Iterator[Any]:
    """The values in the closure of a function."""
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # a variable not yet set
            yield cell.cell_contents


def _owner(x: Array) -> Any:
    """The array that owns the memory of this one."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x
