"""Calls from newly compiled code to machine code that already exists. Imported when such code is compiled.

Numba compiles a function into each of its callers. For a long loop called from many kernels this takes seconds
each time and gains nothing; here the caller jumps to the existing machine code by its symbol.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@dataclass(frozen=True)
class Needed:
    """What this process must hold before it can load cached code that jumps to a symbol."""

    module: str
    kernel: str
    kinds: tuple[Any, ...]
    symbol: str

    def __call__(self) -> None:
        """LookupError: the symbol has changed, so code that jumps there must be compiled anew."""
        kernel = getattr(importlib.import_module(self.module), self.kernel)
        found = overload(kernel.serial, self.kinds).fndesc.llvm_func_name
        if found != self.symbol:
            raise LookupError(f"expected {self.kernel} at {self.symbol}, found it at {found}")


def overload(dispatcher: Any, kinds: tuple[Any, ...]) -> Any:
    """The dispatcher's machine code for these types: from the process, the disk cache, or the compiler."""
    dispatcher.compile(kinds)
    return dispatcher.overloads[kinds]


def call_of(compiled: Any, context: Any, builder: Any, given: Any, values: Any) -> Any:
    """Instructions that call `compiled` with these values, of the types `given`."""
    kinds = compiled.signature.args
    values = [context.cast(builder, v, g, e) for v, g, e in zip(values, given, kinds, strict=True)]
    return context.call_internal(builder, compiled.fndesc, compiled.signature, values)


def jump(kernel: Any) -> Any:
    """A function for compiled code that calls this kernel's serial build by its symbol."""

    @intrinsic  # type: ignore[untyped-decorator]
    def call(typing_context: Any, *args: Any) -> Any:
        compiled = overload(kernel.serial, tuple(map(types.unliteral, args)))
        expected = compiled.signature
        needed = Needed(kernel.__module__, kernel.__name__, expected.args, compiled.fndesc.llvm_func_name)

        def generate(context: Any, builder: Any, signature: Any, packed: Any) -> Any:
            context.active_code_library._reload_init.add(needed)
            values = cgutils.unpack_tuple(builder, packed[0])
            return call_of(compiled, context, builder, signature.args[0].types, values)

        return expected.return_type(types.StarArgTuple(args)), generate

    return call
