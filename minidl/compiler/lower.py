"""From the program to loops: the text that Numba compiles.

All memory is flat here, and an element of a view stands at offset + i0·stride0 + i1·stride1 + …, so that every view
NumPy has is as good as any other. Neighbouring element-by-element lines of one shape become one loop nest, in which
what nobody else reads is a local variable.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.compiler.native import Calls
from minidl.compiler.plan import Plan, spread
from minidl.compiler.recorder import Reference
from minidl.compiler.traced import SYMBOLS, Memory, Node, Traced, layout

_EXPRESSIONS = {
    "copy": "{0}", "cast": "{0}", "negative": "(-{0})", "abs": "abs({0})", "square": "({0} * {0})",
    "logical_and": "({0} and {1})", "logical_or": "({0} or {1})", "logical_not": "(not {0})",
    "where": "({1} if {0} else {2})",
    "isnan": "({0} != {0})", "positive": "{0}", "conjugate": "{0}",
}  # fmt: skip
_BOOL = np.dtype(bool)


class Lower:
    """Writes the body of the step, one unit of the plan after another."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lines: list[str] = []
        self.depth = 1
        self.locals: dict[Memory, str] = {}  # within the loop nest under way: results that are local variables
        self.calls: Calls = {}

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
        return self.lines

    # ------------------------------------------------------------------------------------- nests

    def nest(self, unit: list[Node]) -> None:
        """One loop nest for all maps and writes of the unit, which have one shape."""
        shape = unit[0].target.shape
        if math.prod(shape) == 0:
            return
        arrays = [o for node in unit for o in node.operands if isinstance(o, Traced)]
        arrays += [node.target for node in unit]
        steps = [spread(layout(a)[1], a.shape, shape) for a in arrays]
        sizes, merged = _coalesce(shape, steps)
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

    def open(self, sizes: list[int]) -> None:
        for k, n in enumerate(sizes):
            self.put(f"for i{k} in range({n}):")
            self.depth += 1

    def close(self, sizes: list[int]) -> None:
        self.depth -= len(sizes)

    def element(self, x: Traced, places: dict[int, Any]) -> str:
        offset, strides = places[id(x)]
        return f"{x.memory.name}[{_at(offset, strides)}]"

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
                texts.append(cast(text, kind))
            else:
                texts.append(text)
        function = node.function
        if function == "power" and not isinstance(node.operands[1], Traced):
            whole = _whole_power(texts[0], node.operands[1])
            if whole:
                return whole
        if function == "write" or function.startswith("full"):
            return cast(texts[0], result.dtype) if loop[0] != result.dtype else texts[0]
        if function in SYMBOLS and function not in ("power", "remainder", "floor_divide"):
            text = f"({texts[0]} {SYMBOLS[function]} {texts[1]})"
        elif function in _EXPRESSIONS:
            text = _EXPRESSIONS[function].format(*texts)
        else:
            text = f"np.{function}({', '.join(texts)})"
        exact = function in ("copy", "where", "negative", "abs", "square", "add", "subtract", "multiply", "divide")
        if result.dtype == _BOOL or (exact and loop[-1].kind == "f" and loop[-1] == result.dtype):
            return text
        return cast(text, result.dtype)

    # --------------------------------------------------------------------------- other computations

    def reduce(self, node: Node) -> None:
        x, result = node.operands[0], node.result
        assert result is not None
        axes, loop, function = node.options["axes"], node.options["loop"], node.function
        offset, strides = layout(x)
        kept = [i for i in range(x.ndim) if i not in axes]
        inner, (inner_x,) = _coalesce([x.shape[i] for i in axes], [[strides[i] for i in axes]])
        outer, outer_x = [x.shape[i] for i in kept], [strides[i] for i in kept]
        steps = _c_strides(outer)
        scalar = self.plan.scalar(result.memory)
        if math.prod(outer) == 0:
            return
        self.open(outer)
        acc = scalar or "total"
        here = self.plan.scalar(x.memory) or (f"{x.memory.name}[{_at(offset, [*outer_x, *inner_x])}]")
        zero = {"sum": "0", "mean": "0", "prod": "1", "any": "False", "all": "True"}.get(function)
        if function == "argmax":
            self.argmax(x, inner, inner_x, outer_x, offset, acc, len(outer))
        else:
            first = f"{x.memory.name}[{_at(offset, outer_x)}]" if not self.plan.scalar(x.memory) else here
            start = cast(zero, loop) if zero and loop != _BOOL else zero or first
            self.put(f"{acc} = {start}")
            for k, n in enumerate(inner):
                self.put(f"for i{len(outer) + k} in range({n}):")
                self.depth += 1
            if function in ("sum", "mean"):
                self.put(f"{acc} += {cast(here, loop) if x.dtype != loop else here}")
            elif function == "prod":
                self.put(f"{acc} *= {cast(here, loop) if x.dtype != loop else here}")
            elif function in ("any", "all"):
                self.put(f"{acc} = {acc} {'or' if function == 'any' else 'and'} bool({here})")
            else:
                self.put(f"v = {here}")
                self.put(f"if v {'>' if function == 'max' else '<'} {acc} or v != v:")
                self.put(f"    {acc} = v")
            self.depth -= len(inner)
        value = f"{acc} / {node.options['count']}" if function == "mean" else acc
        value = cast(value, result.dtype) if result.dtype != loop or function == "mean" else value
        if scalar:
            if value != acc:
                self.put(f"{scalar} = {value}")
            value = scalar
        if result.memory in self.plan.stored:
            self.put(f"{result.memory.name}[{_at(0, steps)}] = {value}")
        self.close(outer)

    def argmax(
        self, x: Traced, inner: list[int], inner_x: list[int], outer_x: list[int], offset: int, acc: str, depth: int
    ) -> None:
        if len(inner) > 1:
            raise ValueError("argmax over several axes of a strided array")
        n, step = (inner[0], inner_x[0]) if inner else (1, 0)
        name = x.memory.name
        self.put(f"{acc}, top = 0, {name}[{_at(offset, outer_x)}]")
        self.put(f"for i{depth} in range({n}):")
        self.put(f"    v = {name}[{_at(offset, [*outer_x, step])}]")
        self.put("    if top == top and (v > top or v != v):")
        self.put(f"        {acc}, top = i{depth}, v")

    def scan(self, node: Node) -> None:
        x, result = node.operands[0], node.result
        assert result is not None
        axis = node.options["axis"]
        offset, strides = layout(x)
        steps = _c_strides(x.shape)
        others = [i for i in range(x.ndim) if i != axis]
        sizes = [x.shape[i] for i in others]
        if x.size == 0:
            return
        self.open(sizes)
        k, symbol = len(sizes), "+" if node.function == "cumsum" else "*"
        self.put(f"total = {cast('0' if symbol == '+' else '1', result.dtype)}")
        self.put(f"for i{k} in range({x.shape[axis]}):")
        order = [*others, axis]
        here = self.plan.scalar(x.memory) or f"{x.memory.name}[{_at(offset, [strides[i] for i in order])}]"
        self.put(f"    total {symbol}= {cast(here, result.dtype)}")
        self.put(f"    {result.memory.name}[{_at(0, [steps[i] for i in order])}] = total")
        self.close(sizes)

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
            where = f"{at.memory.name}[{_at(offset, strides)}]"
            self.put(
                f"{result.memory.name}[{_at(0, _c_strides(at.shape))}] = {x.memory.name}[{layout(x)[0]} + {where}]"
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
            value = self.plan.scalar(values.memory) or f"{values.memory.name}[{_at(offset, steps)}]"
            value = cast(value, x.dtype) if values.dtype != x.dtype else value
        where = self.index(at)
        if isinstance(at, Traced) and at.ndim:
            offset, strides = layout(at)
            where = f"{at.memory.name}[{_at(offset, spread(strides, at.shape, shape))}]"
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
        result = f"{self.plan.scalar(node.result.memory)} = " if node.result is not None else ""
        self.put(f"{result}{name}({args})")

    def kind(self, o: Any) -> Any:
        """What a kernel is handed here, as in a `native.Signature`."""
        if isinstance(o, Reference):
            return o.generator
        if not isinstance(o, Traced):
            return np.asarray(o).dtype
        if o.memory.number or (o.ndim == 0 and self.plan.scalar(o.memory)):
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
        flat = o.memory.name
        if offset or o.size != o.memory.array.size:
            flat = f"{flat}[{offset}:{offset + o.size}]"
        return flat if o.ndim == 1 else f"{flat}.reshape({o.shape})"

    def require(self, node: Node) -> None:
        holds = self.index(node.operands[0])
        self.put(f"if not {holds}:")
        self.put(f"    raise {node.options['kind']}({node.options['message']!r})")


def literal(x: Any, dtype: Any) -> str:
    """A number, in this dtype, as Numba reads it."""
    dtype = np.dtype(dtype)
    value = np.asarray(x).astype(dtype)[()]
    if dtype.kind == "f":
        text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(str(value), repr(value.item()))
        return text if dtype == np.float64 else f"np.{dtype.name}({text})"
    if dtype == _BOOL or dtype == np.int64:
        return repr(value.item())
    return f"np.{dtype.name}({value.item()!r})"


def cast(text: str, dtype: Any) -> str:
    dtype = np.dtype(dtype)
    return f"bool({text})" if dtype == _BOOL else f"np.{dtype.name}({text})"


def _whole_power(text: str, exponent: Any) -> str | None:
    """xⁿ for the small n that NumPy, too, computes by multiplication."""
    return {2: f"({text} * {text})", 1: text}.get(exponent)


def _at(offset: int, strides: Any) -> str:
    terms = [f"i{k}" if s == 1 else f"i{k} * {s}" for k, s in enumerate(strides) if s]
    if offset or not terms:
        terms.insert(0, str(offset))
    return " + ".join(terms)


def _c_strides(shape: Any) -> list[int]:
    return [math.prod(shape[k + 1 :]) if n != 1 else 0 for k, n in enumerate(shape)]


def _coalesce(shape: Any, steps: list[Any]) -> tuple[list[int], list[list[int]]]:
    """Fewer, longer axes: two become one where every array steps through them as through one. Axes of 1 go."""
    keep = [k for k, n in enumerate(shape) if n != 1]
    sizes = [shape[k] for k in keep]
    columns = [[s[k] for k in keep] for s in steps]
    k = len(sizes) - 2
    while k >= 0:
        if all(c[k] == c[k + 1] * sizes[k + 1] for c in columns):
            sizes[k : k + 2] = [sizes[k] * sizes[k + 1]]
            for c in columns:
                c[k : k + 2] = [c[k + 1]]
        k -= 1
    return sizes, columns
