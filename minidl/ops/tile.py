"""The inner loop of every matrix product, emitted as LLVM vector instructions. Imported when first compiled.

From plain source LLVM never keeps a block of C in registers: it loads and stores sums every few multiplications.
Here 6 rows × a few vectors of C stay in registers over the whole sum; each step of k loads one row of B and each
element of A once, and multiplies all by all (Goto and van de Geijn 2008). If C is only one or two vectors wide, the
registers hold more rows of it instead.

`ops.linalg.matmul_tile` is the definition in plain Python, and the fallback on processors for which nothing is
emitted. For `matmul_taps` and `lane_products`, the two products of convolution, it is in `ops.conv_kernels`.
"""

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidl.ops.linalg import WIDTH
from minidl.ops.vectors import Vectors, vector_bytes

AHEAD = 24  # rows of B to prefetch ahead, so that they arrive in time
LINE = 64  # bytes of a cache line, which `lane_products` sums side by side on any processor


@intrinsic  # type: ignore[untyped-decorator]
def matmul_tile(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, a_column: Any, b: Any, b_at: Any, b_row: Any, kept: Any,
    keep: Any, c: Any, c_at: Any, c_row: Any, terms: Any, rows: Any, columns: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """c[i, j] (+)= Σₖ a[i, k]·b[k, j]  for i < rows, j < columns: arrays flat, from offsets, by strides."""
    n, flag = types.intp, types.boolean
    return types.void(a, n, n, n, b, n, n, b, flag, c, n, n, n, n, n, flag), _generate


def _generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    emit = _Tiles(context, builder, signature.args, arguments)
    vectors = 4 if vector_bytes() == 64 else 2  # so that 24 of 32 or 12 of 16 registers hold sums
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


class _Tiles(Vectors):
    """Emits tiles. With `places`, row k of B is at b_at + places[k], else at k·b_row."""

    def __init__(self, context: Any, builder: Any, kinds: Any, arguments: Any, places: Any = None) -> None:
        _, self.a_at, self.a_row, self.a_column, _, self.b_at, self.b_row, _, self.keep = arguments[:9]
        _, self.c_at, self.c_row, self.terms, self.rows, self.columns, self.accumulate = arguments[9:]
        self.a, self.b, self.kept, self.c = (_data(context, builder, kinds[i], arguments[i]) for i in (0, 4, 7, 9))
        super().__init__(builder, self.a.type.pointee, self.terms.type)
        self.places = places

    def all_rows(self, first: Any, left: Any, height: int, vectors: int) -> None:
        """The columns of C from `first` on, `left` of them, in tiles of `height` rows × `vectors`."""
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
        """`height` rows of C from row i, or only `rows`; `vectors` from column `first`, or only `columns`.

        b points to B's first element for these columns, `kept` to where it goes, or is None.
        """
        builder, number = self.builder, self.number
        starts = [number(j * self.lanes) for j in range(vectors)]
        masks = [None if columns is None else self.lanes_below(builder.sub(columns, s)) for s in starts]
        row: list[Any] = [number(r) for r in range(height)]
        if rows is not None:
            last = builder.sub(rows, number(1))
            inside = [builder.icmp_signed("<=", r, last) for r in row]
            row = [builder.select(yes, r, last) for yes, r in zip(inside, row, strict=True)]  # else the last row again
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
        for c_row in c_rows:  # prefetch C while the sums are computed
            for s in starts:
                self.prefetch(builder.gep(c_row, [s]), 1)
        with cgutils.for_range(builder, self.terms) as loop:
            b_k = builder.gep(b, [self.row_of_b(loop.index, b_row)])
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
                    builder.store(self.fma(a_ik, b_j, builder.load(place)), place)

        def finish(r: int, accumulate: bool) -> None:
            for place, s, m in zip(sums[r], starts, masks, strict=True):
                at, value = builder.gep(c_rows[r], [s]), builder.load(place)
                self.store(builder.fadd(self.load(at, m), value) if accumulate else value, at, m)

        def finish_all(accumulate: bool) -> None:
            for r in range(height):
                with contextlib.nullcontext() if rows is None else builder.if_then(inside[r]):
                    finish(r, accumulate)

        self.either(self.accumulate, lambda: finish_all(True), lambda: finish_all(False))

    def row_of_b(self, k: Any, b_row: Any) -> Any:
        if self.places is None:
            return self.builder.mul(k, b_row)
        return self.builder.load(self.builder.gep(self.places, [k]))


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


@intrinsic  # type: ignore[untyped-decorator]
def matmul_taps(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, b: Any, b_at: Any, places: Any,
    c: Any, c_at: Any, c_row: Any, terms: Any, rows: Any, columns: Any, accumulate: Any,
) -> Any:  # fmt: skip
    """c[i, j] (+)= Σₖ a[i, k]·b[b_at + places[k] + j]  for i < rows, j < columns: arrays flat."""
    n, flag = types.intp, types.boolean
    return types.void(a, n, n, b, n, places, c, n, n, n, n, n, flag), _generate_taps


def _generate_taps(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    a, a_at, a_row, b, b_at, places, c, c_at, c_row, *sizes = arguments
    kinds, one = signature.args, ir.Constant(a_at.type, 1)
    never = cgutils.false_bit
    emit = _Tiles(
        context, builder, [kinds[0], *kinds[:3], kinds[3], *kinds[:2], kinds[3], kinds[0], kinds[6]],
        [a, a_at, a_row, one, b, b_at, one, b, never, c, c_at, c_row, *sizes],
        _data(context, builder, kinds[5], places),
    )  # fmt: skip
    height = 8 if vector_bytes() == 64 else 4  # channels come in eights: 8 rows × 3 vectors
    with emit.steps(emit.columns, 3 * emit.lanes) as first:
        left = builder.sub(emit.columns, first)
        emit.either(
            builder.icmp_signed("<=", left, emit.number(emit.lanes)),
            lambda: emit.all_rows(first, left, 8, 1),
            lambda: emit.all_rows(first, left, height, 3),
        )
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def lane_products(
    typing_context: Any, a: Any, a_at: Any, a_row: Any, a_next: Any, b: Any, b_at: Any, places: Any, b_next: Any,
    sums: Any, row: Any, images: Any, steps: Any, rows: Any, columns: Any,
) -> Any:  # fmt: skip
    """sums[i, j, l] += Σₙₖ a[n, i, k, l]·b[n, places[j] + (k, l)]  for n < images, i < rows, j < columns, …"""
    n = types.intp
    return types.void(a, n, n, n, b, n, places, n, sums, n, n, n, n, n), _generate_products


def _generate_products(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kinds = signature.args
    a, b, places, sums = (_data(context, builder, kinds[i], arguments[i]) for i in (0, 4, 6, 8))
    _, a_at, a_row, a_next, _, b_at, _, b_next, _, row, images, steps, rows, columns = arguments
    emit = Vectors(builder, a.type.pointee, steps.type)
    lanes = LINE // emit.bytes
    height, width = (8, 3) if vector_bytes() == LINE else (2, 3)  # A is aligned; loads of B straddle cache lines
    parts = range(LINE // vector_bytes())

    def some(first: Any, count: int, end: Any) -> list[Any]:
        """The next indices, repeating the last: it is then computed and stored twice, with the same result."""
        last = builder.sub(end, emit.number(1))
        following = [builder.add(first, emit.number(q)) for q in range(count)]
        return [builder.select(builder.icmp_signed("<", q, last), q, last) for q in following]

    def load(start: Any, offset: Any, part: int) -> Any:
        return emit.load(builder.gep(start, [builder.add(offset, emit.number(part * emit.lanes))]), None)

    with emit.steps(rows, height) as i, emit.steps(columns, width) as j:
        js, rs = some(j, width, columns), some(i, height, rows)
        b_rows = [builder.gep(b, [builder.add(b_at, builder.load(builder.gep(places, [q])))]) for q in js]
        a_rows = [builder.gep(a, [builder.add(a_at, builder.mul(r, a_row))]) for r in rs]
        found = {}
        for y, r in enumerate(rs):
            for x, q in enumerate(js):
                place = builder.mul(builder.add(builder.mul(r, row), q), emit.number(lanes))
                start = builder.gep(sums, [place])
                for part in parts:
                    found[y, x, part] = start, cgutils.alloca_once(builder, emit.vector)
                    builder.store(load(start, emit.number(0), part), found[y, x, part][1])
        with cgutils.for_range(builder, images) as image, cgutils.for_range(builder, steps) as loop:
            offset = builder.mul(loop.index, emit.number(lanes))
            a_offset, b_offset = (builder.add(builder.mul(image.index, n), offset) for n in (a_next, b_next))
            for part in parts:
                a_k = [load(start, a_offset, part) for start in a_rows]
                b_k = [load(start, b_offset, part) for start in b_rows]
                for (y, x, p), (_, kept) in found.items():
                    if p == part:
                        builder.store(emit.fma(a_k[y], b_k[x], builder.load(kept)), kept)
        for (_, _, part), (start, kept) in found.items():
            emit.store(builder.load(kept), builder.gep(start, [emit.number(part * emit.lanes)]), None)
    return context.get_dummy_value()
