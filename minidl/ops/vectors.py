"""Vector instructions for the loops that are emitted, and how wide they are here. Imported when one is compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba.core import cgutils

_AVX512 = ("avx512", "icelake", "cascadelake", "cooperlake", "sapphire", "emerald", "granite", "znver4", "znver5")
_AVX2 = ("haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3")


def vector_bytes() -> int:
    """How wide the processor's vectors are: 64 with AVX-512, 32 with AVX2 and FMA, 0 where nothing is emitted."""
    if name := numba.config.CPU_NAME:
        return 64 if any(n in name for n in _AVX512) else 32 if any(n in name for n in _AVX2) else 0
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return 64
    return 32 if features.get("avx2") and features.get("fma") else 0


class Vectors:
    """Writes instructions on vectors of one dtype at the builder's place. Integers are of the type of `integer`."""

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
        """Bring the cache line into the first level, to be written or read."""
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
