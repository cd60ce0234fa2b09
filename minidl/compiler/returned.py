"""What a kernel returns: a number, whose type its annotation gives, or nothing."""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.jit import Kernel

if TYPE_CHECKING:
    from minidl.compiler.recorder import Recorder
    from minidl.compiler.traced import Traced

_PYTHON = {"bool": bool, "int": int, "float": float, "None": None}


def dtype_of(r: Recorder, kernel: Kernel) -> np.dtype[Any] | None:
    """The dtype of the number that the kernel returns, or None if it returns nothing.

    The annotation is a type (`float`, `np.float32`, …) or its name. CompileError: it is neither, or it is missing
    although something is returned.
    """
    hint = kernel.py_func.__annotations__.get("return", dtype_of)
    if hint is dtype_of:
        if not _returns(kernel.py_func):
            return None
        raise r.error(f"calls {kernel.__name__}, which returns what it does not declare", "annotate it, as -> float")
    found = _named(kernel, hint) if isinstance(hint, str) else hint
    if found in (None, type(None)):
        return None
    if isinstance(found, np.dtype):
        found = found.type
    if isinstance(found, type) and (found in (bool, int, float) or issubclass(found, np.generic)):
        dtype = np.dtype(found)
        if dtype.kind in "biuf":
            return dtype
    raise r.error(f"calls {kernel.__name__}, which returns {hint!r}", "a kernel may return one number, as -> float")


def as_python(result: Traced | None) -> Any:
    """The number as Numba returns it to Python: a Python number."""
    from minidl.compiler.numbers import Number

    if result is None or result.dtype.kind == "b":
        return result
    return Number(result.recorder, result.value, result.memory, float if result.dtype.kind == "f" else int, None, 2**53)


def _named(kernel: Kernel, name: str) -> Any:
    """What a name in the kernel's file refers to; its text if it is not a plain name."""
    first, *rest = name.strip("\"' ").split(".")
    scope = kernel.py_func.__globals__
    found = scope.get(first, _PYTHON.get(first, name))
    for part in rest:
        found = getattr(found, part, name)
    return found


def _returns(function: Any) -> bool:
    """Whether it returns anything but None."""
    before = None
    for step in dis.get_instructions(function):
        if step.opname == "RETURN_CONST" and step.argval is not None:
            return True
        if step.opname == "RETURN_VALUE" and not (before and before.opname == "LOAD_CONST" and before.argval is None):
            return True
        before = step
    return False
