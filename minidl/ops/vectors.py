"""Vector instructions for emitted loops, and the vector width of this processor. Imported when one is compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_AVX512 = ("avx512", "icelake", "cascadelake", "cooperlake", "sapphire", "emerald", "granite", "znver4", "znver5")
_AVX2 = ("haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3")


def vector_bytes() -> int:
    """The processor's vector width: 64 with AVX-512, 32 with AVX2 and FMA, 0 where nothing is emitted."""
    if name := numba.config.CPU_NAME:
        return 64 if any(n in name for n in _AVX512) else 32 if any(n in name for n in _AVX2) else 0
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 0


@intrinsic  # type: ignore[untyped-decorator]
def lane_sums(
    typing_context: Any, a: Any, b: Any, first: Any, steps: Any, a_centre: Any, b_centre: Any, lanes: Any
) -> Any:
    """`ops.sums.lane_sums`, emitted."""
    return types.void(a, b, types.intp, types.intp, a.dtype, a.dtype, lanes), _generate_sums


def _generate_sums(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, b, lanes = (context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 1, 6))
    _, _, first, steps, a_centre, b_centre, _ = arguments
    emit = Vectors(builder, a.type.pointee, first.type)
    centres = emit.splat(a_centre), emit.splat(b_centre)
    parts = [emit.number(q) for q in range(0, 16, emit.lanes)]
    sums = [[cgutils.alloca_once_value(builder, emit.zero) for _ in parts] for _ in range(2)]
    for place in (place for places in sums for place in places):
        builder.store(emit.zero, place)
    with cgutils.for_range(builder, steps) as loop:
        start = builder.add(first, builder.mul(loop.index, emit.number(16)))
        for part, plain, product in zip(parts, *sums, strict=True):
            at = builder.add(start, part)
            d, e = (
                builder.fsub(emit.load(builder.gep(x, [at]), None), centre)
                for x, centre in zip((a, b), centres, strict=True)
            )
            builder.store(builder.fadd(builder.load(plain), d), plain)
            builder.store(emit.fma(d, e, builder.load(product)), product)
    for n, places in enumerate(sums):
        for part, place in zip(parts, places, strict=True):
            at = builder.gep(lanes, [builder.add(emit.number(16 * n), part)])
            emit.store(builder.load(place), at, None)
    return context.get_dummy_value()


class Vectors:
    """Emits instructions on vectors of one dtype at the builder's position. Integers have the type of `integer`."""

    def __init__(self, builder: Any, scalar: Any, integer: Any) -> None:
        self.builder, self.scalar, self.integer = builder, scalar, integer
        self.bytes = 4 if isinstance(scalar, ir.FloatType) else 8
        self.lanes = vector_bytes() // self.bytes
        self.vector = ir.VectorType(scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def number(self, value: int) -> Any:
        return ir.Constant(self.integer, value)

    @contextlib.contextmanager
    def steps(self, end: Any, step: int) -> Iterator[Any]:
        """A loop over 0, step, 2·step … below `end`."""
        with cgutils.for_range_slice(self.builder, self.number(0), end, self.number(step)) as (index, _):
            yield index

    def either(self, condition: Any, yes: Callable[[], None], no: Callable[[], None]) -> None:
        with self.builder.if_else(condition) as (then, otherwise):
            with then:
                yes()
            with otherwise:
                no()

    def lanes_below(self, count: Any) -> Any:
        index = ir.VectorType(self.integer, self.lanes)
        return self.builder.icmp_signed("<", ir.Constant(index, list(range(self.lanes))), self.splat(count))

    def splat(self, value: Any) -> Any:
        kind = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, places)

    def prefetch(self, place: Any, write: int) -> None:
        """Prefetch the cache line into L1, for writing or reading."""
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [place, i32(write), i32(3), i32(1)])

    def load(self, place: Any, mask: Any) -> Any:
        place = self.builder.bitcast(place, self.vector.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.bytes)
        return self.call("llvm.masked.load", self.vector, [place, ir.IntType(32)(self.bytes), mask, self.zero], ".p0")

    def store(self, value: Any, place: Any, mask: Any) -> None:
        place = self.builder.bitcast(place, self.vector.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.bytes)
        else:
            arguments = [value, place, ir.IntType(32)(self.bytes), mask]
            self.call("llvm.masked.store", ir.VoidType(), arguments, ".p0")

    def call(self, name: str, result: Any, arguments: list[Any], suffix: str = "") -> Any:
        full = f"{name}.v{self.lanes}f{8 * self.bytes}{suffix}"
        kind = ir.FunctionType(result, [x.type for x in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, full), arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call("llvm.fma", self.vector, [a, b, c])
