"""Save and load models and training runs as safetensors; the metadata describes how to rebuild the model.

    save_model("model.safetensors", model, {"dataset": "mnist"})
    model, config = load_model("model.safetensors")

    save_checkpoint("run.safetensors", model, {"epoch": 3, "optimizer": optimizer.state_dict()})
    checkpoint = load_checkpoint("run.safetensors")
    checkpoint.restore(model)
    optimizer.load_state_dict(checkpoint.state["optimizer"])

A file holds a JSON header and numbers; nothing in it is ever executed. PyTorch's `safetensors` reads the same file,
under PyTorch's names for the same layers ("1.weight", "1.bias", …). A faulty file raises CheckpointError before
anything is changed. The metadata entry "minidl" is JSON:

    version   2; version 1, whose `layers` are those of a Sequential, is read too
    layers    how to build the model (see `layers.py`), or null
    arrays    the names of its parameters and buffers, in definition order
    config    the caller's settings
    state     checkpoints only: the rest of the run (see `state.py`), with arrays named "$state:0", …
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minidl import nn
from minidl.checkpoint.files import (
    CheckpointError,
    SafetensorsFile,
    Spec,
    differences,
    parse_json,
    reading,
    shortened,
    specs,
    write_safetensors,
)
from minidl.checkpoint.layers import build, describe
from minidl.checkpoint.state import PREFIX, decode, encode
from minidl.shared.files import FilePath, check_writable, write_file
from minidl.tensor import Array

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "check_writable",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "save_model",
    "write_file",
]

VERSION = 2
_KEY = "minidl"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The verified contents of a file, as `load_checkpoint` returns them.

    path          the file's path
    model_state   name → array of every parameter and buffer, in definition order
    state         the state passed to `save_checkpoint`; None for a file from `save_model`
    config        the caller's settings
    layers        the model's description; None if it has classes that are not minidl's own
    """

    path: str
    model_state: dict[str, Array]
    state: Any
    config: dict[str, Any]
    layers: Any

    def build(self) -> nn.Module:
        """Build a new model with these weights. CheckpointError: the file has no description of its layers."""
        model = build(self.path, _described(self.path, self.layers), specs(self.model_state))
        model.load_state_dict(self.model_state)
        return model

    def check(self, model: nn.Module) -> None:
        """Raise CheckpointError, listing the differences, unless the arrays have these names, shapes and dtypes."""
        if wrong := differences(specs(model.state_dict()), specs(self.model_state)):
            raise CheckpointError(f"{self.path}: expected a checkpoint of this {type(model).__name__}, found {wrong}")

    def restore(self, model: nn.Module) -> None:
        """Copy the weights and buffers into a model, after `check`."""
        self.check(model)
        model.load_state_dict(self.model_state)


def save_model(path: FilePath, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a model and a JSON-serializable `config` atomically.

    The model may be any nesting of minidl.nn's layers and containers and minidl.models' classes. Not saved: the mode,
    which parameters are frozen, and layers' own generators. TypeError: another model, or a config that JSON cannot
    hold. OSError: the file cannot be written. On any error an existing file is left unchanged.

    >>> model = nn.Sequential(nn.Dense(3, 2), nn.ReLU())
    >>> checkpoint.save_model("model.safetensors", model, {"classes": ["cat", "dog"]})
    >>> loaded, config = checkpoint.load_model("model.safetensors")
    >>> config
    {'classes': ['cat', 'dog']}
    """
    _check("save_model", model)
    _write("save_model", path, model, {"layers": describe(model), "config": dict(config)}, {})


def save_checkpoint(path: FilePath, model: nn.Module, state: Any, config: Mapping[str, Any] | None = None) -> None:
    """Write a model of any class and the `state` of its training to one file, atomically.

    state    dicts (keys: str or int), lists and tuples of numbers, strings, None and arrays of any shape; types, values
             and dtypes are preserved. Get it from `state_dict()` of optimizers and schedules, and from
             `minidl.random.generator_state`
    config   settings that JSON can hold

    TypeError: other types in state or config. ValueError: a state nested deeper than 64, or a parameter whose name
    begins with "$state:". OSError: the file cannot be written. On any error an existing file is left unchanged.
    """
    _check("save_checkpoint", model)
    try:
        layers: Any = describe(model)
    except TypeError:  # the user's own classes: restored only into an existing model
        layers = None
    told, arrays = encode(state)
    about = {"layers": layers, "config": dict(config or {}), "state": told}
    _write("save_checkpoint", path, model, about, arrays)


def _check(function: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{function}: expected an nn.Module, found {type(model).__name__}")


def _write(function: str, path: FilePath, model: nn.Module, about: dict[str, Any], arrays: dict[str, Array]) -> None:
    mine = model.state_dict()
    if taken := [name for name in mine if name.startswith(PREFIX) or name == "__metadata__"]:
        raise ValueError(
            f"{function}: expected parameters not to be named as the file names its parts, found {taken[0]!r}"
        )
    try:
        text = json.dumps({"version": VERSION, **about, "arrays": list(mine)})
        parse_json(text)  # the file must be readable again: 1 and "1" are two keys in Python, but one in JSON
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{function}: expected a config that JSON can hold, found one that it cannot ({error})") from error
    write_safetensors(path, {**mine, **arrays}, {_KEY: text})


# ------------------------------------------------------------------------------------------ loading


def load_model(path: FilePath) -> tuple[nn.Module, dict[str, Any]]:
    """Load (model, config) from a saved model or a checkpoint. The weights are copies.

    CheckpointError: the file is missing, unreadable, damaged, not minidl's or of another version, its layers are not
    minidl's own, or its arrays do not fit them.

    >>> model = nn.Sequential(nn.Dense(3, 2), nn.ReLU())
    >>> checkpoint.save_model("model.safetensors", model, {})
    >>> loaded, config = checkpoint.load_model("model.safetensors")
    >>> np.array_equal(loaded[0].weight.data, model[0].weight.data)
    True
    """
    with reading(path) as file:
        about, specs_of_model, _ = _about(file)
        model = build(path, _described(path, about["layers"]), specs_of_model)
        arrays = file.read()
        model.load_state_dict({name: arrays[name] for name in specs_of_model})
    return model, about["config"]


def load_checkpoint(path: FilePath) -> Checkpoint:
    """Load and verify a checkpoint or a model. CheckpointError: as for `load_model`."""
    with reading(path) as file:
        about, specs_of_model, of_state = _about(file)
        if about["layers"] is not None:
            build(path, about["layers"], specs_of_model)
        arrays = file.read()
        try:
            state = decode(about.get("state"), {name: arrays[name] for name in of_state})
        except ValueError as error:
            raise CheckpointError(f"{path}: expected the state of a run, found {error}") from error
        model_state = {name: arrays[name] for name in specs_of_model}
    return Checkpoint(os.fspath(path), model_state, state, about["config"], about["layers"])


def _described(path: FilePath, layers: Any) -> Any:
    if layers is None:
        raise CheckpointError(
            f"{path}: expected a description of the model's layers, found none, as some are not minidl's own: build "
            "the model and load it with load_checkpoint(path).restore(model)"
        )
    return layers


def _about(file: SafetensorsFile) -> tuple[dict[str, Any], dict[str, Spec], list[str]]:
    """The file's own metadata, its model's arrays in definition order, and the names of the state's arrays."""
    path = file.path
    if _KEY not in file.metadata:
        raise CheckpointError(
            f"{path}: expected a model that minidl saved, found safetensors without its description; build the "
            "model and load it with model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    try:
        about = parse_json(file.metadata[_KEY])
        version, layers, config = about["version"], about["layers"], about["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: expected minidl's description of the model, found a damaged one") from error
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CheckpointError(f"{path}: expected version 1 or {VERSION} of the format, found {version!r:.40}")
    if not isinstance(config, dict) or not (isinstance(layers, list) or (layers is None and version > 1)):
        raise CheckpointError(f"{path}: expected a list of layers and a config, found something else")
    if version == 1:  # `layers` is that of a Sequential, and there is no state
        children = {str(i): layer for i, layer in enumerate(layers or ())}
        return {"config": config, "layers": ["Sequential", {}, children]}, file.arrays, []
    of_state = [name for name in file.arrays if name.startswith(PREFIX)]
    names = about.get("arrays")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names) or len({*names}) != len(names):
        raise CheckpointError(f"{path}: expected a list of the model's arrays, found {shortened(names)}")
    of_model = {name: spec for name, spec in file.arrays.items() if not name.startswith(PREFIX)}
    if of_model.keys() != {*names}:
        wrong = differences(dict.fromkeys(names, ((), "")), dict.fromkeys(of_model, ((), "")))
        raise CheckpointError(f"{path}: expected the arrays that its description lists, found {wrong}")
    return about, {name: of_model[name] for name in names}, of_state
