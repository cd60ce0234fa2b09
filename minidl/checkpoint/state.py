"""The state of a run as JSON and arrays, and back: nested dicts, lists and tuples are restored exactly.

JSON has no tuples, integer keys or arrays. They become objects with a single key that begins with "$":

    {"$tuple": [0.9, 0.999]}   {"$dict": [[0, …], [1, …]]}   {"$int": "-0x1f…"}   {"$array": 7}   {"$scalar": 8}

Array number n is named "$state:n" in the file. NaN and infinity are written as Python's `json` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.checkpoint.files import DTYPES, listed, shortened
from minidl.tensor import Array

PREFIX = "$state:"
MAX_DEPTH = 64


def encode(state: Any) -> tuple[Any, dict[str, Array]]:
    """Encode a state as (JSON, arrays by their names in the file).

    TypeError: a value that is not a dict, list, tuple, number, string, None or array, or a key that is neither a string
    nor an int. ValueError: nested deeper than 64.
    """
    arrays: dict[str, Array] = {}

    def array(tag: str, values: Any, where: str) -> dict[str, int]:
        if values.dtype.newbyteorder("=") not in DTYPES.values():
            raise TypeError(
                f"save_checkpoint: expected arrays of {', '.join(DTYPES.values())}, found {values.dtype} at {where}"
            )
        arrays[f"{PREFIX}{len(arrays)}"] = np.asarray(values)
        return {tag: len(arrays) - 1}

    def told(value: Any, where: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"save_checkpoint: expected a state at most {MAX_DEPTH} deep, found more at {where[:80]}…")
        if value is None or isinstance(value, bool | str | float):
            return value
        if isinstance(value, int):  # other JSON readers do not support more than 64 bits
            return int(value) if -(1 << 63) <= value < 1 << 64 else {"$int": hex(value)}
        if isinstance(value, np.generic):
            return array("$scalar", value, where)
        if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
            return array("$array", value, where)
        if isinstance(value, list | tuple):
            items = [told(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
            return {"$tuple": items} if isinstance(value, tuple) else items
        if not isinstance(value, dict):
            raise TypeError(
                f"save_checkpoint: expected dicts, lists, tuples, numbers, text and arrays, "
                f"found a {type(value).__name__} at {where}"
            )
        if wrong := [key for key in value if not isinstance(key, str | int) or isinstance(key, bool)]:
            raise TypeError(f"save_checkpoint: expected text or ints as keys, found {wrong[0]!r} in {where}")
        items = [[told(key, where, depth), told(item, f"{where}[{key!r}]", depth + 1)] for key, item in value.items()]
        plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
        return dict(items) if plain else {"$dict": items}

    return told(state, "state", 0), arrays


def decode(told: Any, arrays: dict[str, Array]) -> Any:
    """Decode a state, with these arrays put back. ValueError: not what `encode` writes."""
    left = dict(arrays)

    def array(number: Any) -> Array:
        if type(number) is not int or f"{PREFIX}{number}" not in left:
            raise ValueError(f"an array {shortened(number)} of the state, which is not in the file, or mentioned twice")
        return left.pop(f"{PREFIX}{number}")

    def value_of(told: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError(f"a state more than {MAX_DEPTH} deep")
        if isinstance(told, list):
            return [value_of(item, depth + 1) for item in told]
        if not isinstance(told, dict):
            return told
        if not any(key.startswith("$") for key in told):
            return {key: value_of(item, depth + 1) for key, item in told.items()}
        if len(told) == 1:
            ((tag, content),) = told.items()
            if tag == "$tuple" and isinstance(content, list):
                return tuple(value_of(item, depth + 1) for item in content)
            if tag == "$int" and isinstance(content, str):
                return int(content, 16)
            if tag == "$array":
                return array(content)
            if tag == "$scalar" and (scalar := array(content)).ndim == 0:
                return scalar[()]
            if tag == "$dict" and isinstance(content, list) and all(isinstance(i, list) for i in content):
                made = {_key(value_of(key, depth)): value_of(item, depth + 1) for key, item in content}
                if len(made) == len(content):
                    return made
        raise ValueError(f"{shortened(told)} in the state")

    state = value_of(told, 0)
    if left:
        raise ValueError(f"arrays that the state does not mention: {listed(list(left))}")
    return state


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise ValueError(f"the key {shortened(key)} in the state")
    return key  # type: ignore[no-any-return]
