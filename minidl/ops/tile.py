"""The inner loop of every matrix product, emitted as LLVM vector instructions. Imported when it is compiled.

From plain source LLVM never keeps a block of C in registers: it loads and stores sums for every few
multiplications. Here 6 rows × a few vectors of C stay in registers over the whole sum; each step of k loads
one row of B, and each element of A once, and multiplies all with all (Goto and van de Geijn 2008).

`ops.linalg.matmul_tile` is the same in plain Python: what this computes, and its fallback on processors for
which nothing is emitted.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidl.ops.linalg import ROWS

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


@intrinsic  # type: ignore[untyped-decorator]
def matmul_tile(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, a_column: Any, b: Any, b_at: Any, b_row: Any,
    c: Any, c_at: Any, c_row: Any, terms: Any, rows: Any, columns: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """c[i, j] (+)= Σₖ a[i, k]·b[k, j]  for i < rows ≤ 6, j < columns; arrays flat, from offsets, by strides."""
    n = types.intp
    signature = types.void(a, n, n, n, b, n, n, c, n, n, n, n, n, types.boolean)
    return signature, _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    emit = _Emitter(context, builder, signature, arguments)
    wide = emit.lanes * (4 if vector_bytes() == 64 else 2)  # 24 of 32, or 12 of 16 registers hold sums
    start = cgutils.alloca_once_value(builder, ir.Constant(emit.integer, 0))
    # Whole tiles load and store freely; at the right edge lanes beyond the last column are masked off.
    condition, body, end = (builder.append_basic_block(f"tile.{name}") for name in ("condition", "body", "end"))
    builder.branch(condition)
    with builder.goto_block(condition):
        left = builder.sub(emit.columns, builder.load(start))
        builder.cbranch(builder.icmp_signed(">", left, ir.Constant(emit.integer, 0)), body, end)
    builder.position_at_end(body)
    first = builder.load(start)
    left = builder.sub(emit.columns, first)
    with builder.if_else(builder.icmp_signed(">=", left, ir.Constant(emit.integer, wide))) as (whole, edge):
        with whole:
            emit.tile(first, left, wide // emit.lanes, masked=False)
        with (
            edge,
            builder.if_else(builder.icmp_signed(">", left, ir.Constant(emit.integer, emit.lanes))) as (
                several,
                one,
            ),
        ):
            with several:
                emit.tile(first, left, wide // emit.lanes, masked=True)
            with one:
                emit.tile(first, left, 1, masked=True)
    builder.store(builder.add(first, ir.Constant(emit.integer, wide)), start)
    builder.branch(condition)
    builder.position_at_end(end)
    return context.get_dummy_value()


class _Emitter:
    """Writes the instructions of tiles at the builder's place."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        a, b, c = (context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 4, 7))
        self.builder = builder
        self.a, self.b, self.c = a, b, c
        _, self.a_at, self.a_row, self.a_column, _, self.b_at, self.b_row, _, self.c_at, self.c_row = arguments[:10]
        self.terms, self.rows, self.columns, self.accumulate = arguments[10:]
        self.integer = self.terms.type
        self.scalar = a.type.pointee
        self.bytes = 4 if isinstance(self.scalar, ir.FloatType) else 8
        self.lanes = vector_bytes() // self.bytes
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.mask = ir.VectorType(ir.IntType(1), self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def tile(self, first: Any, left: Any, vectors: int, masked: bool) -> None:
        """6 rows × `vectors` of C from column `first` on, of which `left` columns are C's."""
        builder = self.builder

        def number(value: int) -> Any:
            return ir.Constant(self.integer, value)

        starts = [builder.add(first, number(j * self.lanes)) for j in range(vectors)]
        masks = [
            self.lanes_below(builder.sub(left, number(j * self.lanes))) if masked else None for j in range(vectors)
        ]
        inside = [builder.icmp_signed("<", number(i), self.rows) for i in range(ROWS)]
        last = builder.sub(self.rows, number(1))
        row = [builder.select(inside[i], number(i), last) for i in range(ROWS)]  # rows beyond the last repeat it
        a_rows = [builder.add(self.a_at, builder.mul(r, self.a_row)) for r in row]
        sums = [[cgutils.alloca_once_value(builder, self.zero) for _ in starts] for _ in row]
        for place in (place for places in sums for place in places):
            builder.store(self.zero, place)
        for i in range(ROWS):  # C comes nearer while the sums are made
            for s in starts:
                at = builder.add(builder.add(self.c_at, builder.mul(row[i], self.c_row)), s)
                self.prefetch(self.c, at)
        with cgutils.for_range(builder, self.terms) as loop:
            b_row = builder.add(self.b_at, builder.mul(loop.index, self.b_row))
            a_column = builder.mul(loop.index, self.a_column)
            b = [self.load(self.b, builder.add(b_row, s), m) for s, m in zip(starts, masks, strict=True)]
            for a_row, places in zip(a_rows, sums, strict=True):
                a = self.splat(builder.load(builder.gep(self.a, [builder.add(a_row, a_column)])))
                for place, b_j in zip(places, b, strict=True):
                    builder.store(self.call("llvm.fma", self.vector, [a, b_j, builder.load(place)]), place)
        for i, places in enumerate(sums):
            with builder.if_then(inside[i]):
                c_row = builder.add(self.c_at, builder.mul(number(i), self.c_row))
                for place, s, m in zip(places, starts, masks, strict=True):
                    at = builder.add(c_row, s)
                    with builder.if_then(self.accumulate):
                        builder.store(builder.fadd(self.load(self.c, at, m), builder.load(place)), place)
                    self.store(builder.load(place), self.c, at, m)

    def lanes_below(self, count: Any) -> Any:
        index = ir.VectorType(self.integer, self.lanes)
        return self.builder.icmp_signed("<", ir.Constant(index, list(range(self.lanes))), self.splat(count))

    def splat(self, value: Any) -> Any:
        kind = ir.VectorType(value.type, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.IntType(32)(0))
        places = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, undefined, places)

    def pointer(self, array: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(array, [at]), self.vector.as_pointer())

    def prefetch(self, array: Any, at: Any) -> None:
        """Bring the cache line into the first level, to be written."""
        i32 = ir.IntType(32)
        place = self.builder.gep(array, [at])
        kind = ir.FunctionType(ir.VoidType(), [place.type, i32, i32, i32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [place, i32(1), i32(3), i32(1)])

    def load(self, array: Any, at: Any, mask: Any) -> Any:
        if mask is None:
            return self.builder.load(self.pointer(array, at), align=self.bytes)
        arguments = [self.pointer(array, at), ir.IntType(32)(self.bytes), mask, self.zero]
        return self.call("llvm.masked.load", self.vector, arguments, ".p0")

    def store(self, value: Any, array: Any, at: Any, mask: Any) -> None:
        if mask is None:
            self.builder.store(value, self.pointer(array, at), align=self.bytes)
        else:
            arguments = [value, self.pointer(array, at), ir.IntType(32)(self.bytes), mask]
            self.call("llvm.masked.store", ir.VoidType(), arguments, ".p0")

    def call(self, name: str, result: Any, arguments: list[Any], suffix: str = "") -> Any:
        full = f"{name}.v{self.lanes}f{8 * self.bytes}{suffix}"
        kind = ir.FunctionType(result, [x.type for x in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, full), arguments)
