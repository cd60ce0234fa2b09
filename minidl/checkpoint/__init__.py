"""Models and training runs in files: safetensors, with what it takes to build the model again in the file's metadata.

    save_model("model.safetensors", model, {"dataset": "mnist"})
    model, config = load_model("model.safetensors")

    save_checkpoint("run.safetensors", model, {"epoch": 3, "optimizer": optimizer.state_dict()})
    checkpoint = load_checkpoint("run.safetensors")
    checkpoint.restore(model)
    optimizer.load_state_dict(checkpoint.state["optimizer"])

Nothing in a file is ever run: it is a JSON header and numbers. PyTorch's `safetensors` reads the same file, under
the names that PyTorch gives to the same layers ("1.weight", "1.bias", …). Whatever is wrong in a file is a
CheckpointError, before anything is changed. The metadata's text "minidl" is JSON:

    version   2; version 1, whose `layers` are those of a Sequential, is read too
    layers    how to build the model (see `layers.py`), or null
    arrays    the names of its parameters and buffers, in definition order
    config    the caller's settings
    state     in a checkpoint only: the rest of the run (see `state.py`), whose arrays are named "$state:0", …
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
    """What `load_checkpoint` found, all of it verified.

    path          the file's
    model_state   name → array of every parameter and buffer, in definition order
    state         what was given to `save_checkpoint`, None in a file of `save_model`
    config        the caller's settings
    layers        the model's description, None if its classes are not minidl's own
    """

    path: str
    model_state: dict[str, Array]
    state: Any
    config: dict[str, Any]
    layers: Any

    def build(self) -> nn.Module:
        """A new model with these weights. CheckpointError: the file has no description of its layers."""
        model = build(self.path, _described(self.path, self.layers), specs(self.model_state))
        model.load_state_dict(self.model_state)
        return model

    def check(self, model: nn.Module) -> None:
        """CheckpointError, naming all that differs, unless the model's arrays have these names, shapes and dtypes."""
        if wrong := differences(specs(model.state_dict()), specs(self.model_state)):
            raise CheckpointError(f"{self.path}: expected a checkpoint of this {type(model).__name__}, found {wrong}")

    def restore(self, model: nn.Module) -> None:
        """Copy the weights and buffers into a model, after `check`."""
        self.check(model)
        model.load_state_dict(self.model_state)


def save_model(path: FilePath, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a model, and a `config` of the caller's that JSON can hold, whole or not at all.

    The model: any nest of minidl.nn's layers and containers and minidl.models' classes. What is not saved: the mode,
    frozen parameters, and layers' own generators. TypeError: another model, or a config that JSON cannot hold.
    OSError: it cannot be written. Whatever is raised, a file that was there before is as it was.

    >>> model = nn.Sequential(nn.Dense(3, 2), nn.ReLU())
    >>> checkpoint.save_model("model.safetensors", model, {"classes": ["cat", "dog"]})
    >>> loaded, config = checkpoint.load_model("model.safetensors")
    >>> config
    {'classes': ['cat', 'dog']}
    """
    _check("save_model", model)
    _write("save_model", path, model, {"layers": describe(model), "config": dict(config)}, {})


def save_checkpoint(path: FilePath, model: nn.Module, state: Any, config: Mapping[str, Any] | None = None) -> None:
    """Write a model of any class with the `state` of its training in one file, whole or not at all.

    state    dicts (keys: text or ints), lists and tuples of numbers, text, None and arrays of any shape: each comes
             back of the same type, value and dtype. Optimizers, schedules and generators have one (`state_dict()`,
             `minidl.random.generator_state`)
    config   settings that JSON can hold

    TypeError: a state or config of other things. ValueError: a state nested deeper than 64, or a parameter whose name
    begins with "$state:". OSError: it cannot be written. Whatever is raised, a file that was there is as it was.
    """
    _check("save_checkpoint", model)
    try:
        layers: Any = describe(model)
    except TypeError:  # the user's own classes: it is loaded into a model that is there
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
        parse_json(text)  # a file must be readable again: 1 and "1" are two keys in Python, and one in JSON
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{function}: expected a config that JSON can hold, found one that it cannot ({error})") from error
    write_safetensors(path, {**mine, **arrays}, {_KEY: text})


# ------------------------------------------------------------------------------------------ loading


def load_model(path: FilePath) -> tuple[nn.Module, dict[str, Any]]:
    """(model, config) as they were saved; of a checkpoint too. The weights are copies.

    CheckpointError: there is no such file or it cannot be read, it is damaged, it is not minidl's or of another
    version, its layers are not minidl's own, or its arrays do not fit them.

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
    """A checkpoint or a model, all of it verified. CheckpointError: as `load_model`."""
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
    """What the file says of itself, its model's arrays in definition order, and the names of the state's arrays."""
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
    if version == 1:  # `layers` are those of a Sequential, and there is no state
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
