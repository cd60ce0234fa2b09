"""Recorded calls as text."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.tensor import Tensor

INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "floor_divide": "//",
    "remainder": "%",
    "power": "**",
    "matmul": "@",
}


def _several(value: Any) -> bool:
    return type(value) in (list, tuple) and any(isinstance(x, Tensor) for x in value)


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        yield from (value if _several(value) else (value,))


def operands(node: Any) -> list[Any]:
    """The Tensors and arrays that a node's op was called with, in order.

    If a list in the call was changed since, only the inputs that need a gradient.
    """
    found = [x for x in _flat((*node.args, *(node.kwargs or {}).values())) if isinstance(x, Tensor | np.ndarray)]
    rest = iter(found)
    return found if all(any(x is y for y in rest) for x in node.inputs) else list(node.inputs)


def roles(node: Any) -> list[tuple[str, list[Any]]]:
    """The op's parameters with their Tensors or arrays: what the letters of the formula mean."""
    try:
        bound = inspect.signature(node.function).bind(*node.args, **(node.kwargs or {})).arguments
    except (TypeError, ValueError):
        return []
    found = []
    for name, value in bound.items():
        values = [x for x in _flat([value]) if isinstance(x, Tensor | np.ndarray)]
        if values:
            found.append((name, values))
    return found


def call(node: Any, names: dict[int, str]) -> str:
    """The call as source code, without arguments at their defaults; `names` by id."""

    def written(value: Any) -> str:
        if id(value) in names and isinstance(value, Tensor | np.ndarray):
            return names[id(value)]
        if _several(value):
            return f"[{', '.join(map(written, value))}]"
        text = _index(value) if isinstance(value, slice) else getattr(value, "__name__", None) or repr(value)
        return text if len(text) <= 40 else f"{text[:39]}…"

    args = node.args
    if node.op in INFIX and len(args) == 2 and not node.kwargs:
        return f" {INFIX[node.op]} ".join(map(written, args))
    if node.op == "getitem" and len(args) == 2:
        index = args[1] if isinstance(args[1], tuple) and args[1] else (args[1],)
        return f"{written(args[0])}[{', '.join(map(written, index))}]"
    try:
        parameters = list(inspect.signature(node.function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    parts = []
    for i, value in enumerate(args):
        known = parameters[i] if i < len(parameters) else None
        plain = isinstance(value, Tensor | np.ndarray) or _several(value) or known is None
        if plain or known is None or known.default is known.empty:
            parts.append(written(value))
        elif known.default is not value and repr(known.default) != repr(value):
            parts.append(f"{known.name}={written(value)}")
    return f"{node.op}({', '.join(parts + [f'{k}={written(v)}' for k, v in (node.kwargs or {}).items()])})"


def _index(value: slice) -> str:
    return ":".join("" if part is None else str(part) for part in (value.start, value.stop, value.step)).removesuffix(
        ":" if value.step is None else ""
    )
