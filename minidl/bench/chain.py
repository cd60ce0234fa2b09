"""The multiply-add loop of `bench.peak`, emitted as LLVM vector instructions. Imported only to compile."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidl.ops import vectors


def vector_bytes() -> int:
    """The vector width: as for the matrix product, or 16 bytes if it has no tile here."""
    return vectors.vector_bytes() or 16


@intrinsic  # type: ignore[untyped-decorator]
def multiply_add_chain(typing_context: Any, count: Any, start: Any) -> Any:
    """24 vectors, each s ← s·x + x `count` times; returns one element."""
    return start(types.intp, start), _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    count, start = arguments
    bits = 32 if isinstance(start.type, ir.FloatType) else 64
    lanes = 8 * vector_bytes() // bits
    vector = ir.VectorType(start.type, lanes)
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    x = builder.shuffle_vector(builder.insert_element(undefined, start, ir.IntType(32)(0)), undefined, zeros)
    kind = ir.FunctionType(vector, [vector] * 3)
    fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{lanes}f{bits}")
    sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [float(i)] * lanes)) for i in range(24)]
    for i, place in enumerate(sums):
        builder.store(ir.Constant(vector, [float(i)] * lanes), place)
    with cgutils.for_range(builder, count):
        for place in sums:
            builder.store(builder.call(fma, [builder.load(place), x, x]), place)
    total = builder.load(sums[0])
    for place in sums[1:]:
        total = builder.fadd(total, builder.load(place))
    return builder.extract_element(total, ir.IntType(32)(0))
