"""From text to machine code: the step's own loops are compiled, the kernels that it calls are linked.

A kernel is compiled once in a process or read from the disk cache, as always. The step calls that very machine code,
so compiling a step takes the time that its own few loops take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.jit import Kernel, interpreted
from minidl.tensor import Array

Signature = tuple[Any, ...]  # for each argument of a kernel: (dtype, ndim), a dtype for a number, or a generator
Calls = dict[str, tuple[Kernel, bool, Signature]]  # name in the text → kernel, may it use threads, signature


def build(text: str, calls: Calls, threads: bool) -> Callable[..., Any]:
    """The function `step` of the text, compiled or, where Numba is disabled, as Python."""
    scope: dict[str, Any] = {"np": np}
    if interpreted():
        scope.update((name, kernel.py_func) for name, (kernel, _, _) in calls.items())
        scope["flat"] = lambda array, size, dtype: array
        exec(compile(text, "<minidl step>", "exec"), scope)
        return scope["step"]  # type: ignore[no-any-return]
    import numba

    from minidl import kernel_cache
    from minidl.compiler import linking

    scope["flat"] = linking.flat
    symbols = []
    for name, (kernel, parallel, signature) in calls.items():
        compiled = linking.overload(kernel.threaded if parallel and threads else kernel.serial, signature)
        symbols.append(compiled.fndesc.llvm_func_name)
        scope[name] = linking.linked(compiled)
    digest = hashlib.sha256(repr((text, symbols)).encode()).hexdigest()[:20]
    exec(compile(text, f"<minidl step {digest}>", "exec"), scope)
    function: Callable[..., Any] = scope["step"]
    function.__qualname__, function.__module__ = f"step_{digest}", __name__
    dispatcher: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy")(function)
    kernel_cache.attach(dispatcher, function)
    return dispatcher


def addresses(arrays: list[Array]) -> Any:
    """What a step takes as its memory: the arrays' addresses, or where Numba is disabled, the arrays."""
    return list(arrays) if interpreted() else np.array([a.ctypes.data for a in arrays], np.int64)


def address(array: Array) -> Any:
    return array if interpreted() else array.ctypes.data


def parameters(inputs: list[Any], generators: list[Any]) -> Any:
    """The types with which a step is called."""
    from minidl.compiler import linking

    fixed = [(np.dtype(np.int64), 1), (np.dtype(np.float64), 1), (np.dtype(np.int64), 1)]
    return linking.types_of((*fixed, *((m.array.dtype, max(m.array.ndim, 1)) for m in inputs), *generators))
