"""Which arguments a kernel writes into, from Numba's intermediate representation of its code."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from minidl.jit import Kernel

_CHANGING = {"fill", "sort", "partition", "put", "itemset"}  # methods of arrays
_VIEWING = {
    "T", "flat", "real", "imag", "reshape", "ravel", "transpose", "view", "swapaxes", "asarray", "expand_dims",
    "ascontiguousarray", "atleast_1d", "atleast_2d", "atleast_3d", "flip", "broadcast_to",
}  # fmt: skip


@functools.cache
def written_by(kernel: Kernel) -> frozenset[str]:
    """The names of the parameters that it stores into, directly or through a view or a function that it calls."""
    names = list(kernel.parameters)
    return frozenset(names[n] for n in _positions(kernel.py_func, ()))


def _positions(function: Any, callers: tuple[Any, ...]) -> set[int]:
    """The positions of these parameters; none for a function that Numba cannot read or that calls itself."""
    from numba.core.compiler import run_frontend

    if function in callers:
        return set()
    try:
        code = run_frontend(function)
    except Exception:  # calling it will raise the proper error
        return set()
    return _Reading(code, (*callers, function)).changed


class _Reading:
    """Traces each local variable back to the parameters that it is, or is a view of."""

    def __init__(self, code: Any, callers: tuple[Any, ...]) -> None:
        self.callers = callers
        self.made_by: dict[str, list[Any]] = {}
        self.changed: set[int] = set()
        lines = [line for block in code.blocks.values() for line in block.body]
        for line in lines:
            if type(line).__name__ == "Assign":
                self.made_by.setdefault(line.target.name, []).append(line.value)
        for line in lines:
            if type(line).__name__ in ("SetItem", "StaticSetItem"):
                self.changed |= self.parameters(line.target)
            elif type(line).__name__ == "Assign" and getattr(line.value, "op", "") == "inplace_binop":
                self.changed |= self.parameters(line.value.lhs, views=False)
            elif type(line).__name__ == "Assign" and getattr(line.value, "op", "") == "call":
                self.call(line.value)

    def parameters(self, variable: Any, views: bool = True) -> set[int]:
        """The parameters that the variable may be or, with `views`, may be a view of."""
        found, stack, seen = set[int](), [variable.name], set[str]()
        while stack:
            if (name := stack.pop()) in seen:
                continue
            seen.add(name)
            for value in self.made_by.get(name, ()):
                kind, op = type(value).__name__, getattr(value, "op", "")
                if kind == "Arg":
                    found.add(value.index)
                elif kind == "Var":
                    stack.append(value.name)
                elif op == "cast" or (views and (
                    op in ("getitem", "static_getitem") or (op == "getattr" and value.attr in _VIEWING)
                )):  # fmt: skip
                    stack.append(value.value.name)
                elif op == "phi":
                    stack += [v.name for v in value.incoming_values if hasattr(v, "name")]
                elif op == "call" and views:
                    stack += self.viewed(value)
        return found

    def viewed(self, call: Any) -> list[str]:
        """The array that the call returns a view of, if it does."""
        for value in self.made_by.get(call.func.name, ()):
            if getattr(value, "op", "") == "getattr" and value.attr in _VIEWING:
                of = value.value.name if self.constant(value.value) is None else call.args[0].name
                return [of]
        return []

    def call(self, call: Any) -> None:
        for value in self.made_by.get(call.func.name, ()):
            if getattr(value, "op", "") == "getattr" and value.attr in _CHANGING:
                self.changed |= self.parameters(value.value)
        called = self.constant(call.func)
        if isinstance(called, np.ufunc):
            changed = set(range(called.nin, called.nargs))
        else:
            function = getattr(called, "py_func", called)
            changed = _positions(function, self.callers) if hasattr(function, "__code__") else set[int]()
        for n, given in enumerate(call.args):
            if n in changed:
                self.changed |= self.parameters(given)

    def constant(self, variable: Any) -> Any:
        """The function or module that the variable refers to, if it is a global or an attribute of one."""
        for value in self.made_by.get(variable.name, ()):
            if type(value).__name__ in ("Global", "FreeVar"):
                return value.value
            if getattr(value, "op", "") == "getattr" and (owner := self.constant(value.value)) is not None:
                return getattr(owner, value.attr, None)
        return None
