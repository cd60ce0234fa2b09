"""Lowers the program to loops: the text that Numba compiles.

All memory is flat here, and an element of a view is at offset + i0·stride0 + i1·stride1 + …, so any NumPy view will do.
Neighbouring elementwise lines of one shape become one loop nest, in which results that nothing else reads are local
variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.compiler import reductions
from minidl.compiler.native import Calls
from minidl.compiler.notation import BOOL, c_strides, cast, coalesce, literal, place
from minidl.compiler.numbers import Number
from minidl.compiler.numpy_loops import name_of
from minidl.compiler.plan import Plan, spread
from minidl.compiler.recorder import Reference
from minidl.compiler.traced import SYMBOLS, Memory, Node, Traced, layout

_EXPRESSIONS = {
    "copy": "{0}", "cast": "{0}", "negative": "(-{0})", "abs": "abs({0})", "square": "({0} * {0})",
    "logical_and": "(bool({0}) and bool({1}))", "logical_or": "(bool({0}) or bool({1}))",
    "logical_xor": "(bool({0}) != bool({1}))", "logical_not": "(not {0})", "fabs": "abs({0})",
    "where": "({1} if {0} else {2})",
    # Of equals, and so of 0 and −0, NumPy chooses the second:
    "maximum": "({0} if {0} > {1} or {0} != {0} else {1})", "minimum": "({0} if {0} < {1} or {0} != {0} else {1})",
    "isnan": "({0} != {0})", "positive": "{0}", "conjugate": "{0}",
}  # fmt: skip
_EXACT = {
    "copy", "where", "negative", "abs", "square", "maximum", "minimum", "add", "subtract", "multiply", "divide",
}  # fmt: skip


class Lower:
    """Writes the body of the step, one unit of the plan after another."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lines: list[str] = []
        self.depth = 1
        self.locals: dict[Memory, str] = {}  # results held in local variables of the current loop nest
        self.calls: Calls = {}
        self.scratches: dict[str, int] = {}

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def body(self) -> list[str]:
        for unit in self.plan.units:
            self.locals = {}
            first = unit[0]
            if first.kind in ("map", "write"):
                self.nest(unit)
            else:
                getattr(self, first.kind)(first)
        made = [f"    scratch_{kind} = np.empty({size}, np.{kind})" for kind, size in self.scratches.items()]
        return [*made, *self.lines]

    def scratch(self, dtype: Any, size: int) -> str:
        """The name of scratch memory for at least `size` elements, to be used immediately."""
        self.scratches[dtype.name] = max(self.scratches.get(dtype.name, 0), size)
        return f"scratch_{dtype.name}"

    # ------------------------------------------------------------------------------------- nests

    def nest(self, unit: list[Node]) -> None:
        """One loop nest for all maps and writes of the unit, which share one shape."""
        shape = unit[0].target.shape
        if math.prod(shape) == 0:
            return
        arrays = [o for node in unit for o in node.operands if isinstance(o, Traced)]
        arrays += [node.target for node in unit]
        steps = [spread(layout(a)[1], a.shape, shape) for a in arrays]
        sizes, merged = coalesce(shape, steps)
        places = {id(a): (layout(a)[0], s) for a, s in zip(arrays, merged, strict=True)}
        self.open(sizes)
        for node in unit:
            expression = self.expression(node, [self.load(o, places) for o in node.operands])
            if node.kind == "write":
                self.put(f"{self.element(node.options['to'], places)} = {expression}")
                self.locals.pop(node.options["to"].memory, None)
                continue
            result = node.result
            assert result is not None
            memory = result.memory
            name = self.plan.scalar(memory) or f"{memory.name}_"
            self.put(f"{name} = {expression}")
            self.locals[memory] = name
            if memory in self.plan.stored:
                self.put(f"{self.element(result, places)} = {name}")
        self.close(sizes)

    def loop(self, node: Node) -> None:
        """NumPy's own loop over the last axis, or over all axes that are contiguous."""
        result, kind = node.result, node.options["loop"][0]
        assert result is not None
        arrays = [o for o in node.operands if isinstance(o, Traced) and not self.plan.scalar(o.memory)]
        steps = [spread(layout(a)[1], a.shape, result.shape) for a in (*arrays, result)]
        sizes, merged = coalesce(result.shape, steps)
        self.open(sizes[:-1])
        places = {id(a): (layout(a)[0], s) for a, s in zip((*arrays, result), merged, strict=True)}
        parts = [str(sizes[-1])]
        for o in (*node.operands, result):
            if id(o) in places:
                offset, strides = places[id(o)]
                parts += [o.memory.name, place(offset, strides[:-1]), str(strides[-1])]
            else:
                parts += [literal(o, kind) if not isinstance(o, Traced) else cast(self.load(o, {}), kind), "0", "0"]
        self.put(f"{name_of(node.function, kind)}({', '.join(parts)})")
        self.close(sizes[:-1])

    def open(self, sizes: Sequence[int], first: int = 0) -> None:
        for k, n in enumerate(sizes, first):
            self.put(f"for i{k} in range({n}):")
            self.depth += 1

    def close(self, sizes: Sequence[int]) -> None:
        self.depth -= len(sizes)

    def element(self, x: Traced, places: dict[int, Any]) -> str:
        offset, strides = places[id(x)]
        return f"{x.memory.name}[{place(offset, strides)}]"

    def load(self, x: Any, places: dict[int, Any]) -> str:
        if not isinstance(x, Traced):
            return ""  # `expression` writes it in the dtype that is needed
        known = self.locals.get(x.memory) or self.plan.scalar(x.memory)
        return known or self.element(x, places)

    def expression(self, node: Node, loads: list[str]) -> str:
        """The node's function of one element of each operand, in NumPy's dtypes."""
        result = node.target
        loop = node.options.get("loop") or [result.dtype] * len(loads)
        texts = []
        for o, text, kind in zip(node.operands, loads, loop, strict=True):
            if not isinstance(o, Traced):
                texts.append(literal(o, kind))
            elif o.dtype != kind or o.memory.number:
                texts.append(cast(text, kind, o.dtype))
            else:
                texts.append(text)
        function = node.function
        if function == "power" and not isinstance(node.operands[1], Traced):
            whole = _whole_power(texts[0], node.operands[1])
            if whole:
                return whole
        if function == "write" or function.startswith("full"):
            return cast(texts[0], result.dtype, loop[0]) if loop[0] != result.dtype else texts[0]
        if node.options.get("numpy"):
            return f"{name_of(function, loop[0])}({', '.join(texts)})"
        if function in SYMBOLS:
            text = f"({texts[0]} {SYMBOLS[function]} {texts[1]})"
        elif function == "invert":
            text = f"(not {texts[0]})" if result.dtype == BOOL else f"(~{texts[0]})"
        elif function in _EXPRESSIONS:
            text = _EXPRESSIONS[function].format(*texts)
        else:
            text = f"np.{function}({', '.join(texts)})"
        exact = function in _EXACT
        if result.dtype == BOOL or (exact and loop[-1].kind == "f" and loop[-1] == result.dtype):
            return text
        return cast(text, result.dtype, loop[-1])

    # --------------------------------------------------------------------------- other computations

    def reduce(self, node: Node) -> None:
        reductions.reduce(self, node)

    def scan(self, node: Node) -> None:
        reductions.scan(self, node)

    def copies(self, node: Node) -> None:
        for to, x in zip(node.options["to"], node.operands, strict=True):
            self.locals = {}
            self.nest([Node("write", "write", (x,), options={"to": to})])

    def gather(self, node: Node) -> None:
        x, at = node.operands
        result = node.result
        assert result is not None
        scalar = self.plan.scalar(result.memory)
        if scalar or not isinstance(at, Traced):
            where = self.index(at)
            value = f"{x.memory.name}[{layout(x)[0]} + {where}]"
            self.put(f"{scalar} = {value}" if scalar else f"{result.memory.name}[0] = {value}")
            if scalar and result.memory in self.plan.stored:
                self.put(f"{result.memory.name}[0] = {scalar}")
            return
        offset, strides = layout(at)
        if result.size:
            self.open(list(at.shape))
            where = self.plan.scalar(at.memory) or f"{at.memory.name}[{place(offset, strides)}]"
            self.put(
                f"{result.memory.name}[{place(0, c_strides(at.shape))}] = {x.memory.name}[{layout(x)[0]} + {where}]"
            )
            self.close(list(at.shape))

    def index(self, at: Any) -> str:
        if not isinstance(at, Traced):
            return str(int(at))
        return self.plan.scalar(at.memory) or f"{at.memory.name}[{layout(at)[0]}]"

    def scatter(self, node: Node) -> None:
        x, at, values = node.operands
        shape = node.options["shape"]
        if math.prod(shape) == 0:
            return
        self.open(list(shape))
        value = literal(values, x.dtype) if not isinstance(values, Traced) else None
        if isinstance(values, Traced):
            offset, strides = layout(values)
            steps = spread(strides, values.shape, shape)
            value = self.plan.scalar(values.memory) or f"{values.memory.name}[{place(offset, steps)}]"
            value = cast(value, x.dtype, values.dtype) if values.dtype != x.dtype else value
        where = self.index(at)
        if isinstance(at, Traced) and at.ndim and not self.plan.scalar(at.memory):
            offset, strides = layout(at)
            where = f"{at.memory.name}[{place(offset, spread(strides, at.shape, shape))}]"
        self.put(f"{x.memory.name}[{layout(x)[0]} + {where}] {'+=' if node.options['add'] else '='} {value}")
        self.close(list(shape))

    def call(self, node: Node) -> None:
        entry = node.function, bool(node.options["threads"]), tuple(self.kind(o) for o in node.operands)
        name = next((n for n, known in self.calls.items() if known == entry), None)
        if name is None:
            like = sum(known[0] is node.function for known in self.calls.values())
            name = node.function.__name__ + (f"_{like + 1}" if like else "")
            self.calls[name] = entry
        args = ", ".join(self.argument(o) for o in node.operands)
        if node.result is None:
            self.put(f"{name}({args})")
        else:
            self.put(f"{self.plan.scalar(node.result.memory)} = {cast(f'{name}({args})', node.result.dtype)}")

    def kind(self, o: Any) -> Any:
        """The type under which a kernel receives `o`, as in a `native.Signature`."""
        if isinstance(o, Reference):
            return o.generator
        if not isinstance(o, Traced):
            return np.asarray(o).dtype
        if type(o) is Number or o.memory.number or (o.ndim == 0 and self.plan.scalar(o.memory)):
            return o.dtype
        return o.dtype, o.ndim

    def argument(self, o: Any) -> str:
        if isinstance(o, Reference):
            return o.name
        if not isinstance(o, Traced):
            return literal(o, np.asarray(o).dtype)
        if o.memory.number:
            return o.memory.name
        scalar = self.plan.scalar(o.memory)
        if o.ndim == 0 and scalar:
            return scalar
        offset, _ = layout(o)
        if type(o) is Number:
            return f"{o.memory.name}[{offset}]"
        flat = o.memory.name
        if offset or o.size != o.memory.array.size:
            flat = f"{flat}[{offset}:{offset + o.size}]"
        return flat if o.ndim == 1 else f"{flat}.reshape({o.shape})"

    def require(self, node: Node) -> None:
        holds = self.index(node.operands[0])
        self.put(f"if not {holds}:")
        self.put(f"    raise {node.options['kind']}({node.options['message']!r})")


def _whole_power(text: str, exponent: Any) -> str | None:
    """xⁿ for the small n for which NumPy multiplies too."""
    return {2: f"({text} * {text})", 1: text}.get(exponent)
