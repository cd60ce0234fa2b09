"""Safetensors files: every number is checked on reading, and writing is atomic.

A safetensors file is the length of the header in 8 bytes, the header as JSON, and the arrays one after another:

    {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, …}
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from minidl.shared.files import FilePath, open_file, write_file
from minidl.tensor import Array

MAX_HEADER = 1 << 24  # bytes; a layer takes about 200
MAX_AXES = 32
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
SIZES = {name: np.dtype(dtype).itemsize for name, dtype in DTYPES.items()}

Spec = tuple[tuple[int, ...], str]  # shape and dtype


class CheckpointError(RuntimeError):
    """A file is not the expected checkpoint; the message names the file, what was found and what was expected."""


# ------------------------------------------------------------------------------------------ reading


class SafetensorsFile:
    """An open file with a valid header: `metadata`, and the `arrays`' names, shapes and dtypes. `read` loads the rest.

    The arrays fill the file to its end without gaps, each with exactly the bytes its shape takes.
    """

    def __init__(self, path: FilePath, file: IO[bytes], size: int) -> None:
        self.path, self._file, self._size = path, file, size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise self._damaged(f"{size:,} bytes that announce a header of {length:,}")
        self._head = start + file.read(length)
        header = self._parsed(self._head[8:])
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._damaged("metadata that is not text")
        self.metadata: dict[str, str] = metadata
        self.arrays: dict[str, Spec] = {}
        end = 0
        for name, begin, until, spec in sorted((self._entry(*item) for item in header.items()), key=lambda e: e[1:3]):
            if begin != end:
                raise self._damaged(f"{name!r:.80} at byte {begin:,} of the data where byte {end:,} is the next")
            self.arrays[name], end = spec, until
        if len(self._head) + end != size:
            raise self._damaged(f"{size:,} bytes for a header of {length:,} and {end:,} bytes of arrays")

    def _parsed(self, text: bytes) -> dict[str, Any]:
        try:
            header = parse_json(text.decode(), strict=True) if text[:1] == b"{" else None
        except ValueError as error:
            raise self._damaged(f"a header that is not JSON ({error!s:.80})") from error
        if not isinstance(header, dict):
            raise self._damaged("a header that is not a JSON object")
        return header

    def _entry(self, name: str, entry: Any) -> tuple[str, int, int, Spec]:
        """(name, begin, end, (shape, dtype)) of one array."""
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise self._damaged(f"{name!r:.80}: {shortened(entry)}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            found = f"{name!r:.80} of {shortened(dtype)}"
            raise CheckpointError(f"{self.path}: expected arrays of {', '.join(DTYPES)}, found {found}")
        if _are_sizes(shape, MAX_AXES) and _are_sizes(offsets, 2) and len(offsets) == 2:
            vast = math.prod(n or 1 for n in shape) * SIZES[dtype] >= 1 << 63  # even if one axis is empty
            if not vast and offsets[1] - offsets[0] == math.prod(shape) * SIZES[dtype]:
                return name, offsets[0], offsets[1], (tuple(shape), DTYPES[dtype])
        raise self._damaged(f"{name!r:.80}: {shortened(entry)}")

    def read(self) -> dict[str, Array]:
        """Read the arrays, writable, each in its own memory. CheckpointError: the file changed since it was opened."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        self._file.seek(0)
        data = self._file.read(self._size)
        if len(data) != self._size or not data.startswith(self._head):
            raise CheckpointError(f"{self.path}: changed while it was read")
        try:
            arrays: dict[str, Array] = load(data)
        except SafetensorError as error:
            raise self._damaged(f"a damaged one ({error})") from error
        for name, values in arrays.items():
            if values.dtype == bool and values.size and values.view(np.uint8).max() > 1:  # NumPy would not check
                raise self._damaged(f"{name!r:.80} of booleans that are neither 0 nor 1")
        return arrays

    def _damaged(self, found: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: expected a whole safetensors file, found {found}")


@contextlib.contextmanager
def reading(path: FilePath) -> Iterator[SafetensorsFile]:
    """Open a file and verify its header. CheckpointError: not a safetensors file, damaged, or unreadable."""
    try:
        with open_file(path) as file:
            yield SafetensorsFile(path, file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise CheckpointError(f"{path}: cannot be read (it takes more memory than there is)") from error


def _are_sizes(numbers: Any, most: int) -> bool:
    """True for a list of at most `most` ints from 0 to 2⁶³ − 1."""
    return (
        isinstance(numbers, list) and len(numbers) <= most and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
    )


def shortened(value: Any) -> str:
    """The `repr` of a value for a message, limited in length, and in depth so as not to overflow the stack."""
    return f"{reprlib.repr(value):.120}"


def parse_json(text: str, strict: bool = False) -> Any:
    """Parse JSON. ValueError: invalid, a duplicate key, nested too deeply, or, if `strict`, NaN or infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(made := dict(pairs)) != len(pairs):
            raise ValueError("a key that comes twice")
        return made

    def constant(name: str) -> float:
        if strict:
            raise ValueError(name)
        return float(name)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def differences(expected: Mapping[str, Spec], found: Mapping[str, Spec]) -> str:
    """Describe what is missing, unexpected, or of another shape or dtype; "" if nothing."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    other = [
        f"{name} as {dtype} {shape}, found {found[name][1]} {found[name][0]}"
        for name, (shape, dtype) in expected.items()
        if name in found and found[name] != (shape, dtype)
    ]
    told = ("missing ", missing), ("unexpected ", extra), ("expected ", other)
    return "; ".join(head + listed(names) for head, names in told if names)


def listed(names: list[str], most: int = 8) -> str:
    """The first of these names, and the number of the others."""
    told = ", ".join(f"{name:.120}" for name in names[:most])
    return told if len(names) <= most else f"{told} and {len(names) - most} more"


def specs(arrays: Mapping[str, Array]) -> dict[str, Spec]:
    """Name → (shape, dtype)."""
    return {name: (values.shape, str(values.dtype)) for name, values in arrays.items()}


# ------------------------------------------------------------------------------------------ writing


def write_safetensors(path: FilePath, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write arrays and metadata atomically (see `write_file`). ValueError: a header over MAX_HEADER bytes.

    TypeError: a dtype that safetensors does not support.
    """
    from safetensors.numpy import save

    native = {}
    for name, values in arrays.items():
        if values.dtype.newbyteorder("=") not in DTYPES.values():
            raise TypeError(
                f"write_safetensors: expected {name} in one of {', '.join(DTYPES.values())}, found {values.dtype}"
            )
        # The format is C-ordered: raw memory of an array in Fortran order would come back scrambled.
        native[name] = np.asarray(values, order="C")
    data = save(native, dict(metadata))
    if (length := int.from_bytes(data[:8], "little")) > MAX_HEADER:
        raise ValueError(
            f"write_safetensors: expected at most {MAX_HEADER:,} bytes of names and metadata, found {length:,}: "
            "use arrays for long lists"
        )
    write_file(path, data)
