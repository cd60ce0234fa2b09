"""Models as JSON and back: each layer is its class name and its constructor arguments, read from its attributes.

    ["Sequential", {}, {"0": ["Dense", {"in_features": 4, "out_features": 2, …}], "1": ["ReLU", {}], "2": "1"}]

A module that occurs twice is described once; later occurrences refer to it by path.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minidl import models, nn, ops
from minidl.checkpoint.files import CheckpointError, Spec, differences, listed, shortened, specs
from minidl.shared.files import FilePath
from minidl.tensor import FLOATS

MAX_DEPTH = 64  # of nested modules

_CONTAINERS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Residual)
}
_LAYERS: dict[str, type[nn.Module]] = {
    name: kind
    for module in (nn, models)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, nn.Module) and name not in ("Module", *_CONTAINERS)
}

# ------------------------------------------------------------------------------------- describing


def describe(model: nn.Module) -> list[Any]:
    """Describe the model as JSON. TypeError: `build` could not restore it, as a class or an array is the user's own."""
    node = _node(model, "", {}, 0)
    try:
        wrong = _lost(model, _assembled(node, _Allowance(math.inf)))
    except _Refused as error:
        wrong = str(error)
    if wrong:
        raise TypeError(f"save_model: expected a model that its layers' arguments describe, found {wrong}")
    return node  # type: ignore[return-value]


def _lost(model: nn.Module, rebuilt: nn.Module) -> str:
    """What differs between the model and one rebuilt from its description; "" if nothing."""
    if wrong := differences(specs(model.state_dict()), specs(rebuilt.state_dict())):
        return wrong
    for (name, mine), theirs in itertools.zip_longest(model.named_modules(), rebuilt.modules(), fillvalue=("", None)):
        if type(mine) is not type(theirs) or (type(mine) in _LAYERS.values() and _read(mine) != _read(theirs)):
            return f"{type(mine).__name__} at {name!r} with parts that its arguments do not tell"
    return _ties(model, rebuilt)


def _ties(model: nn.Module, rebuilt: nn.Module) -> str:
    """What shares memory in the model but not in its copy."""

    def first_names(module: nn.Module) -> dict[str, str]:
        first: dict[int, str] = {}
        return {name: first.setdefault(id(value), name) for name, value in module._named_state()}

    other = first_names(rebuilt)
    tied = [(name, first) for name, first in first_names(model).items() if other[name] != first]
    return f"one array in two layers: {tied[0][0]} is {tied[0][1]}" if tied else ""


def _node(module: nn.Module, path: str, known: dict[int, str], depth: int) -> list[Any] | str:
    if id(module) in known:
        return known[id(module)]
    kind = type(module)
    where = f" at {path!r}" if path else ""
    if depth > MAX_DEPTH:
        raise TypeError(f"save_model: expected at most {MAX_DEPTH} modules in one another, found more{where:.80}")
    if _CONTAINERS.get(kind.__name__) is kind and "forward" not in vars(module):
        inside = {
            name: _node(child, f"{path}.{name}" if path else name, known, depth + 1) for name, child in _held(module)
        }
        node: list[Any] = [kind.__name__, {}, inside]
    elif _LAYERS.get(kind.__name__) is kind and "forward" not in vars(module):
        node = [kind.__name__, _read(module)]
    else:
        raise TypeError(
            f"save_model: expected modules of minidl.nn and minidl.models, found {kind.__name__}{where}; "
            "save_checkpoint takes any model"
        )
    known[id(module)] = path
    return node


def _held(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules in a container, by name. TypeError: another callable in it."""
    held = module._named() if isinstance(module, nn.ModuleList) else vars(module)
    for name, child in held.items():
        if isinstance(child, nn.Module):
            yield name, child
        elif isinstance(module, nn.ModuleList):
            raise TypeError(f"save_model: expected modules, found {child!r:.80} in a {type(module).__name__}")


# ------------------------------------------------------------------------------ constructor arguments

_PRESENT = {"affine": "weight", "elementwise_affine": "weight", "track_running_stats": "running_mean"}
_ACTIVATIONS = {ops.relu: "relu", ops.gelu: "gelu"}


def _read(module: Any) -> dict[str, Any]:
    """The constructor's arguments, read from the attributes. TypeError: one is not JSON-serializable."""
    kind = type(module)
    special = _SPECIAL.get(kind, lambda module: {})(module)
    arguments: dict[str, Any] = {}
    for name in _parameters(kind.__name__):
        if name in special:
            value = special[name]
        elif name == "dtype":
            value = next((d for _, d in specs(module.state_dict()).values() if d in FLOATS), "float32")
        elif name in _PRESENT:
            value = getattr(module, _PRESENT[name]) is not None
        else:
            value = getattr(module, name, module)
            if name == "bias" and not isinstance(value, bool):
                value = value is not None
        arguments[name] = _json(value, kind.__name__, name)
    return arguments


@functools.cache
def _parameters(layer: str) -> dict[str, inspect.Parameter]:
    """The constructor's parameters by name, without the generator. Annotations are strings."""
    found = dict(inspect.signature(_LAYERS[layer]).parameters)
    if layer == "RNN":  # (*args, nonlinearity, **options)
        found = {**inspect.signature(nn.GRU).parameters, "nonlinearity": found["nonlinearity"]}
    return {name: parameter for name, parameter in found.items() if name != "generator"}


def _json(value: Any, layer: str, name: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [_json(v, layer, name) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"save_model: expected {layer}'s {name} as a number or text, found {value!r:.80}")


def _encoder_layer(layer: nn.TransformerEncoderLayer) -> dict[str, Any]:
    return {
        "d_model": layer.linear1.in_features,
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": _ACTIVATIONS.get(layer.activation, layer.activation),
        "layer_norm_eps": layer.norm1.eps,
        "batch_first": layer.self_attn.batch_first,
        "bias": layer.linear1.bias is not None,
    }


_SPECIAL: dict[type, Callable[[Any], dict[str, Any]]] = {
    nn.RNN: lambda layer: {"nonlinearity": layer.cell},
    nn.MultiheadAttention: lambda layer: {"bias": layer.in_proj_bias is not None},
    nn.TransformerEncoderLayer: _encoder_layer,
}

# --------------------------------------------------------------------------------------- building


_FREE = 1 << 16  # numbers that may be allocated whatever the file's size, so that small mistakes get precise messages


class _Allowance:
    """A stand-in for a generator: draws zeros, in total no more than the file has bytes for."""

    def __init__(self, elements: float) -> None:
        self.left = elements

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> float:
        self.left -= math.prod(size)
        if self.left < 0:
            raise ValueError("more weights than the file holds")
        return 0.0

    normal = uniform


def build(path: FilePath, layers: Any, arrays: Mapping[str, Spec]) -> nn.Module:
    """Build the model described, with zero weights and exactly these array names, shapes and dtypes.

    CheckpointError: the arrays differ, or the description is invalid. Allocates no more than the arrays fill.
    """
    size = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in arrays.values())
    try:
        model = _assembled(layers, _Allowance(size // 4 + _FREE))
    except _Refused as error:
        raise CheckpointError(f"{path}: expected layers that minidl can build, found {error}") from error
    if wrong := differences(specs(model.state_dict()), arrays):
        raise CheckpointError(f"{path}: expected the arrays of its layers, found others: {wrong}")
    return model


class _Refused(ValueError):
    """An invalid description of a model."""


def _assembled(layers: Any, allowance: Any) -> nn.Module:
    model = _made(layers, "", {}, allowance, 0)
    for module in model.modules():
        if getattr(module, "generator", None) is allowance:
            module.generator = None  # type: ignore[attr-defined]
    return model


def _made(node: Any, path: str, known: dict[str, nn.Module], allowance: Any, depth: int) -> nn.Module:
    if isinstance(node, str) and node in known:
        return known[node]
    try:
        name, arguments, *inside = node
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} modules in one another")
        if name in _CONTAINERS:
            (children,) = inside
            made = {
                n: _made(child, f"{path}.{n}" if path else n, known, allowance, depth + 1)
                for n, child in children.items()
            }
            module = _contained(_CONTAINERS[name], made, **arguments)
        elif name not in _LAYERS or inside:
            raise ValueError("it is none of minidl.nn and minidl.models")
        else:
            module = _layer(_LAYERS[name], arguments, allowance)
    except _Refused:
        raise
    except Exception as error:  # constructors may raise anything for such arguments
        raise _Refused(f"{shortened(node)} ({type(error).__name__}: {error!s:.120})") from error
    known[path] = module
    return module


def _contained(kind: type[nn.Module], children: Mapping[str, nn.Module]) -> nn.Module:
    if kind is nn.Residual:
        return nn.Residual(**children)
    made = kind()
    for name, child in children.items():
        setattr(made, name if name.isdecimal() else nn.container.free_name(made, name), child)
    return made


def _layer(kind: type[nn.Module], arguments: dict[str, Any], allowance: Any) -> nn.Module:
    known = _parameters(kind.__name__)
    if unknown := [name for name in arguments if name not in known]:
        raise TypeError(f"it has no argument {listed(unknown)}")
    for name, value in arguments.items():
        parameter = known[name]
        wanted = {bool: bool, str: str, float: int | float}.get(type(parameter.default), object)
        if name == "dtype":
            fits = value in ("float32", "float64")
        elif value is None:
            fits = "None" in parameter.annotation or parameter.annotation == "Any"
        else:
            fits = isinstance(value, wanted)
        if not fits:
            raise TypeError(f"{name} is {shortened(value)}")
    options = {name: _tuple(value) for name, value in arguments.items()}
    names = inspect.signature(kind).parameters
    if "generator" in names or kind is nn.RNN:
        options["generator"] = allowance
    elif any(options.get(flag, flag in names) for flag in _PRESENT):  # ones and zeros are not drawn
        widths = options.get("normalized_shape", options.get("num_features", options.get("num_channels")))
        allowance.uniform(0, 1, widths if isinstance(widths, tuple) else (widths,))
    return kind(**options)


def _tuple(value: Any) -> Any:
    """Turn lists into tuples. TypeError: anything but numbers and strings, or numbers beyond 32 bits."""
    if isinstance(value, dict) or (isinstance(value, int) and abs(value) >= 1 << 31):
        raise TypeError(f"an argument is {shortened(value)}")
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
