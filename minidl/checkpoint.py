"""A model in a file: safetensors, with what it takes to build the model again in the file's metadata.

    save_model("model.safetensors", model, {"dataset": "mnist"})
    model, config = load_model("model.safetensors")

Nothing in the file is ever run: it is a JSON header and numbers. PyTorch's `safetensors` reads the same file, under
the names that PyTorch gives to the same layers ("1.weight", "1.bias", …).
"""

import inspect
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minidl import nn
from minidl.data.idx import write_atomically

VERSION = 1
MAX_HEADER = 1 << 24  # bytes; a layer takes some 200
_KEY = "minidl"
_LAYERS = {name: getattr(nn, name) for name in nn.__all__ if name not in ("Module", "Sequential", "init")}
_DTYPES = {"F32": "float32", "F64": "float64"}

FilePath = str | os.PathLike[str]


class CheckpointError(RuntimeError):
    """A file that is not the model it should be: the message names it, what was found and what was expected."""


def save_model(path: FilePath, model: nn.Sequential, config: Mapping[str, Any]) -> None:
    """Write a model, and a `config` of the caller's that JSON can hold, whole or not at all.

    TypeError: not a Sequential of minidl's own layers, or a config that JSON cannot hold. OSError: it cannot be
    written. Whatever is raised, a file that was there before is as it was.
    """
    from safetensors.numpy import save

    about = json.dumps({"version": VERSION, "layers": _describe(model), "config": dict(config)})
    # safetensors writes memory as it lies: an array in Fortran order would come back transposed and scrambled.
    arrays = {name: np.asarray(values, order="C") for name, values in model.state_dict().items()}
    write_file(path, save(arrays, {_KEY: about}))


def write_file(path: FilePath, data: bytes) -> None:
    """Write a file beside its place, flush it, rename it, and flush the directory too: whole or not at all."""
    target = os.path.realpath(path)  # so that a link stays a link
    write_atomically(target, data)
    if os.name == "nt":  # Windows cannot open directories
        return
    directory = os.open(os.path.dirname(target), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def check_writable(path: FilePath) -> None:
    """OSError if `write_file` could not write there, as far as can be told without doing it."""
    target = Path(os.path.realpath(path))
    if target.exists():
        if not target.is_file():
            raise IsADirectoryError(f"{path} is there and is not a file")
        if not os.access(target, os.W_OK):
            raise PermissionError(f"{path} is read-only")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no directory {target.parent}")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}."):
        pass


def load_model(path: FilePath) -> tuple[nn.Sequential, dict[str, Any]]:
    """(model, config) as they were saved. The weights are copies, in the memory order of `nn.Dense`.

    CheckpointError: there is no such file or it cannot be read, it is damaged, it is not minidl's or of another
    version, or its arrays do not fit its layers.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            layers, config = _parse(path, file.metadata())
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            arrays = {
                name: (tuple(a.get_shape()), _DTYPES.get(a.get_dtype(), a.get_dtype())) for name, a in found.items()
            }
            model = _build(path, layers, arrays)
            model.load_state_dict({name: file.get_tensor(name) for name in found})
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: expected a whole safetensors file, found a damaged one ({error})") from error
    return model, config


def _check_header(path: FilePath) -> None:
    """The length of the header, before anything believes it."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path}: expected a file, found something else")
        start = file.read(8)
    length, most = int.from_bytes(start, "little"), min(MAX_HEADER, status.st_size - 8)
    if len(start) < 8 or not 2 <= length <= most:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, found {status.st_size:,} bytes "
            f"that announce a header of {length:,}"
        )


def _parse(path: FilePath, metadata: Mapping[str, str] | None) -> tuple[list[Any], dict[str, Any]]:
    """(layers, config) from the file's metadata."""
    if not metadata or _KEY not in metadata:
        raise CheckpointError(
            f"{path}: expected a model that minidl saved, found safetensors without its description; build the "
            "model and load it with model.load_state_dict(safetensors.numpy.load_file(path))"
        )
    try:
        about = json.loads(metadata[_KEY])
        version, layers, config = about["version"], about["layers"], about["config"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected minidl's description of the model, found a damaged one") from error
    if version != VERSION:
        raise CheckpointError(f"{path}: expected version {VERSION} of the format, found {version!r:.40}")
    if not isinstance(layers, list) or not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected a list of layers and a config, found something else")
    return layers, config


# -------------------------------------------------------------------------------- layers as JSON


def _describe(model: nn.Sequential) -> list[list[Any]]:
    """[[class, {argument: value}], …]"""
    if type(model) is not nn.Sequential:
        raise TypeError(f"save_model: expected an nn.Sequential, found {type(model).__name__}")
    described: list[list[Any]] = []
    for layer in model:
        kind = type(layer)
        if _LAYERS.get(kind.__name__) is not kind:
            raise TypeError(f"save_model: expected layers of minidl.nn ({', '.join(_LAYERS)}), found {kind.__name__}")
        if isinstance(layer, nn.Dense):
            outputs, inputs = layer.weight.shape
            dtype = str(layer.weight.dtype)
            arguments = {"in_features": inputs, "out_features": outputs, "bias": layer.bias is not None, "dtype": dtype}
        else:
            names = inspect.signature(kind).parameters
            arguments = {k: v for k, v in vars(layer).items() if k in names and isinstance(v, int | float | str)}
        described.append([kind.__name__, arguments])
    return described


def _build(path: FilePath, layers: list[Any], arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> nn.Sequential:
    """The model of these layers, whose arrays have exactly these names, shapes and dtypes."""
    made = []
    for i, layer in enumerate(layers):
        try:
            name, arguments = layer
            if name == "Dense":  # before so many weights are allocated
                _compare(path, f"{i}.weight", (arguments["out_features"], arguments["in_features"]), arrays)
            made.append(_LAYERS[name](**arguments))
        except (TypeError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{path}: expected a layer of minidl.nn, found {layer!r:.80} ({type(error).__name__}: {error})"
            ) from error
    model = nn.Sequential(*made)
    mine = model.state_dict()
    if missing_or_extra := sorted(mine.keys() ^ arrays.keys()):
        raise CheckpointError(f"{path}: expected the arrays {list(mine)}, found {list(arrays)}: {missing_or_extra}")
    for name, values in mine.items():
        _compare(path, name, values.shape, arrays)
        if arrays[name][1] != str(values.dtype):
            raise CheckpointError(f"{path}: expected {name} in {values.dtype}, found {arrays[name][1]}")
    return model


def _compare(
    path: FilePath, name: str, shape: tuple[int, ...], arrays: Mapping[str, tuple[tuple[int, ...], str]]
) -> None:
    if name not in arrays or arrays[name][0] != shape:
        found = arrays[name][0] if name in arrays else "none"
        raise CheckpointError(f"{path}: expected {name} of shape {shape}, found {found}")
