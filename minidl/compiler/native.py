"""From text to machine code: the step's own loops are compiled, the kernels it calls are linked.

As always, a kernel is compiled once per process or read from the disk cache. The step calls that same machine code, so
compiling a step takes only as long as its own few loops. Numba never frees machine code, so a text is never compiled
twice.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np

from minidl.compiler import numpy_loops
from minidl.core import locks
from minidl.core.errstate import quietly
from minidl.jit import Kernel, interpreted
from minidl.tensor import Array

Signature = tuple[Any, ...]  # for each argument of a kernel: (dtype, ndim), a dtype for a number, or a generator
Calls = dict[str, tuple[Kernel, bool, Signature]]  # name in the text → kernel, whether it may use threads, signature

MOST_KEPT = 256  # functions kept in case their text recurs; dropped ones can be read from the disk cache
_KEPT: OrderedDict[str, Any] = OrderedDict()
_KEEPING = locks.lock()


def build(text: str, calls: Calls, threads: bool, built: dict[str, tuple[Any, Signature]] | None = None) -> Any:
    """The function that the text defines, compiled or, where Numba is disabled, as Python.

    It calls the same builds of kernels as the eager path.

    built   other functions built here, with the signatures under which the text calls them
    """
    others, scope = built or {}, dict[str, Any](np=np)
    name = text[4 : text.index("(")]
    scope.update(numpy_loops.scope_of(text, python=interpreted()))
    found = [(n, k.threaded if may and threads else k.serial, signature) for n, (k, may, signature) in calls.items()]
    found += [(n, *other) for n, other in others.items()]
    if interpreted():
        scope.update((called, function) for called, function, _ in found)
        scope["flat"] = lambda array, size, dtype: array
        exec(compile(text, f"<minidl {name}>", "exec"), scope)
        return quietly(scope[name])
    import numba

    from minidl.compiler import intrinsics
    from minidl.jit import cache
    from minidl.jit.linking import overload

    scope["flat"] = intrinsics.flat
    symbols = []
    for called, dispatcher, signature in found:
        compiled = overload(dispatcher, intrinsics.types_of(signature))
        symbols.append(compiled.fndesc.llvm_func_name)
        scope[called] = intrinsics.linked(compiled)
    digest = hashlib.sha256(repr((text, symbols)).encode()).hexdigest()[:20]
    with _KEEPING:
        made = _KEPT.get(digest)
        if made is None:
            exec(compile(text, f"<minidl {name} {digest}>", "exec"), scope)
            function: Any = scope[name]
            function.__qualname__, function.__module__ = f"{name}_{digest}", __name__
            made = _KEPT[digest] = numba.njit(nogil=True, error_model="numpy")(function)
            cache.attach(made, function)
            while len(_KEPT) > MOST_KEPT:
                _KEPT.popitem(last=False)
        _KEPT.move_to_end(digest)
        return made


def addresses(arrays: list[Array]) -> Any:
    """A step's memory argument: the arrays' addresses or, where Numba is disabled, the arrays."""
    return list(arrays) if interpreted() else np.array([a.ctypes.data for a in arrays], np.int64)


def address(array: Array) -> Any:
    return array if interpreted() else array.ctypes.data


def parameters(inputs: list[Any], generators: list[Any]) -> Signature:
    """The signature of a step."""
    fixed = [(np.dtype(np.int64), 1), (np.dtype(np.float64), 1), (np.dtype(np.int64), 1)]
    return (*fixed, *((m.array.dtype, max(m.array.ndim, 1)) for m in inputs), *generators)


def prepare(build: Any, signature: Signature) -> None:
    """Compile the built function for this signature, unless it has been."""
    from minidl.compiler import intrinsics
    from minidl.jit.linking import overload

    overload(build, intrinsics.types_of(signature))
