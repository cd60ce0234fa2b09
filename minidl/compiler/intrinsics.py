"""Numba intrinsics of a compiled step: an array at an address, and a call of existing machine code."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from minidl.jit.linking import call_of


def types_of(signature: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numba's types for a `native.Signature`."""
    return tuple(map(_type, signature))


def _type(x: Any) -> Any:
    if isinstance(x, tuple):
        return types.Array(numba.from_dtype(x[0]), x[1], "C")
    return numba.from_dtype(x) if isinstance(x, np.dtype) else numba.typeof(x)


def linked(compiled: Any) -> Any:
    """A function for compiled code that calls `compiled` by its symbol."""

    @intrinsic  # type: ignore[untyped-decorator]
    def call(typing_context: Any, *args: Any) -> Any:
        expected = compiled.signature

        def generate(context: Any, builder: Any, signature: Any, packed: Any) -> Any:
            values = cgutils.unpack_tuple(builder, packed[0])
            return call_of(compiled, context, builder, signature.args[0].types, values)

        return expected.return_type(types.StarArgTuple(args)), generate

    return call


@intrinsic  # type: ignore[untyped-decorator]
def flat(typing_context: Any, address: Any, size: Any, dtype: Any) -> Any:
    """The `size` elements at an address, as an array that does not own them."""
    signature = types.Array(dtype.dtype, 1, "C")(types.intp, types.intp, dtype)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        array = context.make_array(kind)(context, builder)
        data = builder.inttoptr(args[0], context.get_data_type(kind.dtype).as_pointer())
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        populate_array(array, data=data, shape=[args[1]], strides=[itemsize], itemsize=itemsize, meminfo=None)
        return array._getvalue()

    return signature, generate
