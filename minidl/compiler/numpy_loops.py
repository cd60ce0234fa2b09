"""NumPy's own inner loops, called from a compiled step, so that exp, tanh or power give NumPy's very bits.

NumPy computes a ufunc by a C loop per dtype, `loop(args, dimensions, steps, data)`, chosen for the processor when it is
imported. LLVM's exp differs in the last digit, so a step jumps to NumPy's, whose address is in the ufunc object
(`PyUFuncObject` of numpy/ufuncobject.h). Those in FUSED need none of this: their result is exact or rounded once, so
any code gives the same bits.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.tensor import Array

FUSED = {
    "add", "subtract", "multiply", "divide", "negative", "positive", "abs", "fabs", "square", "sqrt", "conjugate",
    "maximum", "minimum", "floor", "ceil", "trunc", "less", "less_equal", "greater", "greater_equal", "equal",
    "not_equal", "invert", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor",
    "logical_not", "isnan", "isinf", "isfinite",
}  # fmt: skip
_CALLED = re.compile(r"\bnumpy_(\w+)_([a-z]+\d+)\(")


def has_loop(ufunc: np.ufunc, dtypes: Any) -> bool:
    """Whether these are all one dtype and NumPy has a C loop that takes and returns it."""
    return len(set(dtypes)) == 1 and _signature(ufunc, dtypes[0]) in ufunc.types


def name_of(function: str, dtype: Any) -> str:
    """The name under which a step's text calls the loop, in one of three forms.

    On numbers, it returns their result. It also takes a count with (array, first, step) for each operand and for the
    result; or (total, count, array, first, step), and returns the total including these elements.
    """
    return f"numpy_{function}_{np.dtype(dtype).name}"


def scope_of(text: str, python: bool) -> dict[str, Any]:
    """The loops that the text calls, by name: intrinsics, or Python functions."""
    made = _python if python else _compiled
    return {f"numpy_{f}_{dtype}": made(f, dtype) for f, dtype in set(_CALLED.findall(text))}


def _signature(ufunc: np.ufunc, dtype: np.dtype[Any]) -> str:
    return f"{dtype.char * ufunc.nin}->{dtype.char}"


# ------------------------------------------------------------------------------------- as Python


def _python(function: str, dtype: str) -> Callable[..., Any]:
    ufunc = getattr(np, function)

    def loop(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            if len(args) == ufunc.nin:
                return ufunc(*(np.dtype(dtype).type(a) for a in args))
            if len(args) == 5:
                total, count, *rest = args
                return ufunc.reduce(_picked(rest, count, dtype), initial=total)
            count, *rest = args
            *inputs, out = (_picked(rest[k : k + 3], count, dtype) for k in range(0, len(rest), 3))
            ufunc(*inputs, out=out)

    return loop


def _picked(place: list[Any], count: int, dtype: str) -> Array:
    x, first, step = place
    x = np.atleast_1d(np.asarray(x, dtype))
    return np.lib.stride_tricks.as_strided(x[first:], (count,), (step * x.itemsize,))


# ------------------------------------------------------------------------------------ as machine code


class _UFunc(ctypes.Structure):
    """The head of PyUFuncObject, after PyObject_HEAD."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("nin", "nout", "nargs", "identity")),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
    )


@functools.cache
def _table(function: str, dtype: str) -> Any:
    """(address of the loop, address of its data), both fixed."""
    ufunc = getattr(np, function)
    head = _UFunc.from_address(id(ufunc) + object.__basicsize__)
    found = head.nin, head.nout, head.nargs, head.ntypes
    expected = ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes
    if found != expected:
        raise RuntimeError(f"expected np.{function} to begin with {expected} in memory, found {found}")
    n = ufunc.types.index(_signature(ufunc, np.dtype(dtype)))
    return (ctypes.c_void_p * 2)(head.functions[n], head.data[n] if head.data else None)


@dataclass(frozen=True)
class Needed:
    """What this process must know before it can load machine code that jumps to a loop."""

    function: str
    dtype: str

    @property
    def symbol(self) -> str:
        return f"minidl_{name_of(self.function, self.dtype)}"

    def __call__(self) -> None:
        from llvmlite import binding

        binding.add_symbol(self.symbol, ctypes.addressof(_table(self.function, self.dtype)))


@functools.cache
def _compiled(function: str, dtype: str) -> Any:
    from llvmlite import ir
    from numba import from_dtype, types
    from numba.core import cgutils
    from numba.extending import intrinsic

    needed, element = Needed(function, dtype), from_dtype(np.dtype(dtype))
    needed()
    inputs = getattr(np, function).nin

    @intrinsic  # type: ignore[untyped-decorator]
    def call(typing_context: Any, *args: Any) -> Any:
        single, reduces = len(args) == inputs, len(args) == 5

        def generate(context: Any, builder: Any, signature: Any, packed: Any) -> Any:
            context.active_code_library._reload_init.add(needed)
            kinds, values = signature.args[0].types, cgutils.unpack_tuple(builder, packed[0])
            word, byte = context.get_value_type(types.intp), ir.IntType(8).as_pointer()
            size = context.get_constant(types.intp, np.dtype(dtype).itemsize)

            def words(numbers: Any) -> Any:
                place = cgutils.alloca_once(builder, word, size=len(numbers))
                for n, number in enumerate(numbers):
                    builder.store(number, builder.gep(place, [ir.Constant(ir.IntType(32), n)]))
                return place

            def whole(n: int) -> Any:
                return context.cast(builder, values[n], kinds[n], types.intp)

            pointers, steps, result = [], [], None
            if reduces:
                result = cgutils.alloca_once(builder, context.get_value_type(element))
                builder.store(context.cast(builder, values[0], kinds[0], element), result)
                pointers.append(builder.ptrtoint(result, word))
                steps.append(context.get_constant(types.intp, 0))
            for n in range(inputs) if single else range(2 if reduces else 1, len(values), 3):
                if isinstance(kinds[n], types.Array):
                    data = builder.ptrtoint(context.make_array(kinds[n])(context, builder, values[n]).data, word)
                    pointers.append(builder.add(data, builder.mul(whole(n + 1), size)))
                    steps.append(builder.mul(whole(n + 2), size))
                else:
                    place = cgutils.alloca_once_value(builder, context.cast(builder, values[n], kinds[n], element))
                    pointers.append(builder.ptrtoint(place, word))
                    steps.append(context.get_constant(types.intp, 0))
            if reduces:
                pointers.append(pointers[0])
                steps.append(steps[0])
            if single:
                result = cgutils.alloca_once(builder, context.get_value_type(element))
                pointers.append(builder.ptrtoint(result, word))
                steps.append(context.get_constant(types.intp, 0))
            count = context.get_constant(types.intp, 1) if single else whole(int(reduces))
            module = builder.module
            known = module.globals.get(needed.symbol)
            if known is None:
                known = ir.GlobalVariable(module, ir.ArrayType(byte, 2), needed.symbol)
            function_type = ir.FunctionType(ir.VoidType(), [word.as_pointer()] * 3 + [byte])
            zero, one = ir.Constant(ir.IntType(32), 0), ir.Constant(ir.IntType(32), 1)
            loop = builder.bitcast(builder.load(builder.gep(known, [zero, zero])), function_type.as_pointer())
            data = builder.load(builder.gep(known, [zero, one]))
            builder.call(loop, [words(pointers), words([count]), words(steps), data])
            return context.get_dummy_value() if result is None else builder.load(result)

        return (element if single or reduces else types.void)(types.StarArgTuple(args)), generate

    return call
