"""The inner loop of every matrix product, emitted as LLVM vector instructions. Imported when it is compiled.

From plain source LLVM never keeps a block of C in registers: it loads and stores sums for every few
multiplications. Here 6 rows × a few vectors of C stay in registers over the whole sum; each step of k loads
one row of B, and each element of A once, and multiplies all with all (Goto and van de Geijn 2008). Where C is
no wider than one vector or two, the registers hold more rows of it instead.

`ops.linalg.matmul_tile` is the same in plain Python: what this computes, and its fallback on processors for
which nothing is emitted.
"""

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

from minidl.ops.linalg import WIDTH

AHEAD = 24  # rows of B, that they come from memory in time
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
    typing_context: Any, a: Any, a_at: Any, a_row: Any, a_column: Any, b: Any, b_at: Any, b_row: Any, kept: Any,
    keep: Any, c: Any, c_at: Any, c_row: Any, terms: Any, rows: Any, columns: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """c[i, j] (+)= Σₖ a[i, k]·b[k, j]  for i < rows, j < columns: arrays flat, from offsets, by strides."""
    n, flag = types.intp, types.boolean
    return types.void(a, n, n, n, b, n, n, b, flag, c, n, n, n, n, n, flag), _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    emit = _Emitter(context, builder, signature, arguments)
    vectors = 4 if vector_bytes() == 64 else 2  # so that 24 of 32, or 12 of 16 registers hold sums
    with emit.steps(emit.columns, vectors * emit.lanes) as first:
        left = builder.sub(emit.columns, first)

        def narrowest(width: int) -> None:
            if width == vectors:
                emit.all_rows(first, left, 6, vectors)
                return
            fits = builder.icmp_signed("<=", left, emit.number(width * emit.lanes))
            height = 6 * vectors // width
            emit.either(fits, lambda: emit.all_rows(first, left, height, width), lambda: narrowest(2 * width))

        narrowest(1)
    return context.get_dummy_value()


class _Emitter:
    """Writes the instructions of tiles at the builder's place."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        _, self.a_at, self.a_row, self.a_column, _, self.b_at, self.b_row, _, self.keep = arguments[:9]
        _, self.c_at, self.c_row, self.terms, self.rows, self.columns, self.accumulate = arguments[9:]
        arrays = [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in (0, 4, 7, 9)]
        self.a, self.b, self.kept, self.c = arrays
        self.builder = builder
        self.integer = self.terms.type
        self.scalar = self.a.type.pointee
        self.bytes = 4 if isinstance(self.scalar, ir.FloatType) else 8
        self.lanes = vector_bytes() // self.bytes
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def all_rows(self, first: Any, left: Any, height: int, vectors: int) -> None:
        """The columns from `first` on, of which `left` are C's, in tiles of `height` rows × `vectors`."""
        builder = self.builder
        kept = builder.gep(self.kept, [first])
        b = cgutils.alloca_once_value(builder, builder.gep(self.b, [builder.add(self.b_at, first)]))
        b_row = cgutils.alloca_once_value(builder, self.b_row)
        wide = builder.icmp_signed(">=", left, self.number(vectors * self.lanes))

        with self.steps(self.rows, height) as i:

            def tile(to: Any) -> None:
                some = builder.sub(self.rows, i)
                whole = builder.icmp_signed(">=", some, self.number(height))
                if vectors > 1:
                    whole = builder.and_(whole, wide)
                place = i, first, builder.load(b), builder.load(b_row), to, height, vectors
                self.either(
                    whole,
                    lambda: self.tile(*place, None, None if vectors > 1 else left),
                    lambda: self.tile(*place, some, left),
                )

            copying = builder.and_(self.keep, builder.icmp_signed("==", i, self.number(0)))
            self.either(copying, lambda: tile(kept), lambda: tile(None))
            with builder.if_then(copying):  # from now on B is read from there
                builder.store(kept, b)
                builder.store(self.number(WIDTH // self.bytes), b_row)

    def tile(
        self, i: Any, first: Any, b: Any, b_row: Any, kept: Any, height: int, vectors: int, rows: Any, columns: Any
    ) -> None:
        """`height` rows of C from i on, or the next `rows`; `vectors` from column `first` on, or the next `columns`.

        b points to B's first element for these columns, `kept` to where it goes, or is None.
        """
        builder, number = self.builder, self.number
        starts = [number(j * self.lanes) for j in range(vectors)]
        masks = [None if columns is None else self.lanes_below(builder.sub(columns, s)) for s in starts]
        row: list[Any] = [number(r) for r in range(height)]
        if rows is not None:
            last = builder.sub(rows, number(1))
            inside = [builder.icmp_signed("<=", r, last) for r in row]
            row = [builder.select(yes, r, last) for yes, r in zip(inside, row, strict=True)]  # or the last again
        a, c = (
            builder.gep(array, [builder.add(at, builder.add(builder.mul(i, stride), offset))])
            for array, at, stride, offset in (
                (self.a, self.a_at, self.a_row, number(0)),
                (self.c, self.c_at, self.c_row, first),
            )
        )
        a_rows = [builder.mul(r, self.a_row) for r in row]
        c_rows = [builder.gep(c, [builder.mul(r, self.c_row)]) for r in row]
        sums = [[cgutils.alloca_once_value(builder, self.zero) for _ in starts] for _ in row]
        for place in (place for places in sums for place in places):
            builder.store(self.zero, place)
        for c_row in c_rows:  # C comes nearer while the sums are made
            for s in starts:
                self.prefetch(builder.gep(c_row, [s]), 1)
        with cgutils.for_range(builder, self.terms) as loop:
            b_k = builder.gep(b, [builder.mul(loop.index, b_row)])
            a_k = builder.gep(a, [builder.mul(loop.index, self.a_column)])
            vectors_b = [self.load(builder.gep(b_k, [s]), m) for s, m in zip(starts, masks, strict=True)]
            if kept is not None:
                ahead = builder.mul(builder.add(loop.index, number(AHEAD)), b_row)
                for s in starts:
                    self.prefetch(builder.gep(b, [builder.add(ahead, s)]), 0)
                kept_k = builder.gep(kept, [builder.mul(loop.index, number(WIDTH // self.bytes))])
                for s, b_j in zip(starts, vectors_b, strict=True):
                    self.store(b_j, builder.gep(kept_k, [s]), None)
            for a_row, places in zip(a_rows, sums, strict=True):
                a_ik = self.splat(builder.load(builder.gep(a_k, [a_row])))
                for place, b_j in zip(places, vectors_b, strict=True):
                    builder.store(self.call("llvm.fma", self.vector, [a_ik, b_j, builder.load(place)]), place)

        def finish(r: int, accumulate: bool) -> None:
            for place, s, m in zip(sums[r], starts, masks, strict=True):
                at, value = builder.gep(c_rows[r], [s]), builder.load(place)
                self.store(builder.fadd(self.load(at, m), value) if accumulate else value, at, m)

        def finish_all(accumulate: bool) -> None:
            for r in range(height):
                with contextlib.nullcontext() if rows is None else builder.if_then(inside[r]):
                    finish(r, accumulate)

        self.either(self.accumulate, lambda: finish_all(True), lambda: finish_all(False))

    # -------------------------------------------------------------------------- small instructions

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
