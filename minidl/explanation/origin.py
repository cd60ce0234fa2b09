"""The origin of a tensor: the line of the user's program that made it, and its name there."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from minidl.nn import Module
from minidl.tensor import Tensor


@dataclass(frozen=True)
class Place:
    """A line of a program.

    file, line   its location; `function` is the name of the enclosing function ("<module>" at top level)
    text         the line, stripped; empty if the source is unavailable
    start, end   the characters of `text` that made the tensor; all of it if unknown
    """

    file: str
    line: int
    function: str
    text: str
    start: int
    end: int

    def __str__(self) -> str:
        part = self.text[self.start : self.end]
        whole = self.text.endswith(part) and self.text[: self.start].rstrip().endswith(("=", "return"))
        here = "" if whole or part == self.text else f"    there {part}"
        return f"{os.path.basename(self.file)}:{self.line}" + (f"  {self.text}{here}" if self.text else "")


def place(code: Any, at: int) -> Place:
    """The place of the instruction at this offset of a code object."""
    first, last, start, end = next(islice(code.co_positions(), at // 2, None), (None, None, None, None))
    line = first or code.co_firstlineno
    linecache.checkcache(code.co_filename)
    raw = linecache.getline(code.co_filename, line).rstrip()
    text = raw.strip()
    if start is None or end is None:  # python -X no_debug_ranges
        start, end = 0, len(text)
    else:  # offsets in bytes of UTF-8 in the raw line
        encoded, indent = raw.encode(), len(raw) - len(raw.lstrip())
        start = len(encoded[:start].decode(errors="replace")) - indent
        end = len(encoded[:end].decode(errors="replace")) - indent if last == first else len(text)
    return Place(code.co_filename, line, code.co_qualname, text, max(start, 0), min(end, len(text)))


def names_given(names: Mapping[str, Any] | None, model: Any, frame: Any) -> dict[int, str]:
    """id → name of Tensors and their arrays: as given, as the model's parameters, as the caller's variables.

    TypeError: a name that is not a string, a named value that is not a Tensor or array, or model is not a Module.
    """
    found: dict[int, str] = {}

    def enter(name: str, value: Any) -> None:
        found.setdefault(id(value), name)
        if isinstance(value, Tensor):
            found.setdefault(id(value.data), name)

    for name, value in (names or {}).items():
        if not isinstance(name, str) or not isinstance(value, Tensor | np.ndarray):
            raise TypeError(
                f"explain: expected names={{name: Tensor or array}}, found {name!r:.40}: {type(value).__name__}"
            )
        enter(name, value)
    if model is not None:
        if not isinstance(model, Module):
            raise TypeError(f"explain: expected a model, a minidl.nn.Module, found {type(model).__name__}")
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            enter(name, value)
    for name, value in _variables(frame):
        if isinstance(value, Tensor | np.ndarray):
            enter(name, value)
    for name, value in _variables(frame):
        if isinstance(value, Module):
            for part, tensor in (*value.named_parameters(), *value.named_buffers()):
                enter(f"{name}.{part}", tensor)
    return found


def _variables(frame: Any) -> Iterator[tuple[str, Any]]:
    """The public variables visible in a frame, local ones before the module's."""
    if frame is not None:
        for variables in (frame.f_locals, frame.f_globals):
            yield from ((name, value) for name, value in list(variables.items()) if not name.startswith("_"))
