"""The recorded step as readable Python that also runs."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.compiler.plan import Plan, live_nodes
from minidl.compiler.recorder import Reference
from minidl.compiler.traced import Memory, Node, Traced, layout
from minidl.core.formula import NO_FORMULA, formula
from minidl.jit import Kernel
from minidl.tensor import OPS

_WIDTH = 64  # where comments begin
_TITLES = {
    "forward": "forward: from the inputs to the loss",
    "backward": "backward: from the loss to the gradients, by the chain rule",
    "update": "update: the optimizer moves the parameters",
    "end": "what the step leaves behind",
}


class Text:
    """Prints a plan. `source` is the text; `scope` holds what it names besides its parameters: kernels, constants."""

    def __init__(self, plan: Plan, inputs: list[Memory], results: list[Traced]) -> None:
        self.plan = plan
        self.scope: dict[str, Any] = {"np": np, **{m.name: m.source for m in plan.used("constant")}}
        self.state = plan.used("state", "number")
        self.inlined: dict[Memory, str] = {}
        self.made: set[Memory] = set()
        self.lines: list[str] = []
        self.nodes = live_nodes(plan.nodes, results, _written)
        once = _used_once(self.nodes, results)
        group: tuple[str, str] = ("", "")
        for n, node in enumerate(self.nodes):
            if node in once and self._may_move(n, once[node]):
                assert node.result is not None
                self.inlined[node.result.memory] = self.expression(node)
                continue
            if node.phase != group[0]:
                self.lines += ["", f"# ---- {_TITLES[node.phase]}"]
            if (node.phase, node.op) != group:
                group = node.phase, node.op
                self._heading(node)
            self.statement(node)
        generators = [name for name, _ in plan.recorder.generators.values()]
        parameters = [*(m.name for m in inputs), *generators]
        named = [m.name for m in self.state]
        head = f"def step({', '.join([*parameters, *(['*', *named] if named else [])])}):"
        back = ", ".join(self.reference(o) for o in results)
        about = [f"# {m.name}: {_shape(m.array)}" for m in (*inputs, *self.state) if m.array.ndim]
        body = [*about, *self.lines, "", f"return ({back}{',' * (len(results) == 1)})"]
        self.source = "\n".join([head, *(f"    {line}".rstrip() for line in body), ""])

    def _may_move(self, n: int, user: int) -> bool:
        """Whether node n can be written inside node `user`: the same op, and all that n reads is unchanged there."""
        node, to = self.nodes[n], self.nodes[user]
        reads = {o.memory for o in node.operands if isinstance(o, Traced)}
        between = self.nodes[n + 1 : user]
        same = (node.phase, node.op) == (to.phase, to.op)
        return same and not any(m in reads for between_node in between for m in between_node.writes)

    def _heading(self, node: Node) -> None:
        """Print the op's name and formula, from its docstring."""
        text = formula(OPS[node.op]) if node.op in OPS else NO_FORMULA
        words = text.backward if node.phase == "backward" else text.title
        if node.op:
            self.lines.append(f"# {node.op}{': ' if words else ''}{words}")

    # ------------------------------------------------------------------------------------ expressions

    def reference(self, x: Any) -> str:
        if isinstance(x, Reference):
            return x.name
        if not isinstance(x, Traced):
            return _literal(x)
        around = x
        while around.parent is not None and around.template:  # a view of a view may be the array itself
            around = around.parent
            if (around.shape, around.strides, layout(around)) == (x.shape, x.strides, layout(x)):
                return self.reference(around)
        if x.parent is not None and x.template:
            return x.template.format(self.inner(x.parent))
        return self.inlined.get(x.memory) or x.memory.name

    def inner(self, x: Any) -> str:
        """A reference as part of an expression."""
        text = self.reference(x)
        return f"({text})" if _is_compound(text) else text

    def index(self, index: Any) -> str:
        parts = index if isinstance(index, tuple) else (index,)
        return ", ".join(self._index_part(p) for p in parts)

    def _index_part(self, p: Any) -> str:
        if isinstance(p, slice):
            ends = ["" if v is None else str(v) for v in (p.start, p.stop, p.step)]
            return ":".join(ends if p.step is not None else ends[:2])
        if isinstance(p, list | tuple | np.ndarray):
            array = np.asarray(p) if np.size(p) else np.empty(0, int)
            if array.ndim == 1 and array.size > 8 and np.array_equal(array, np.arange(array.size)):
                return f"np.arange({array.size})"
            return f"np.array({array.tolist()}{'' if array.size else ', int'})"
        return "..." if p is Ellipsis else self.reference(p)

    def expression(self, node: Node) -> str:
        if node.kind == "gather":
            x, index = node.options["written"]
            return f"{self.inner(x)}[{self.index(index)}]"
        if node.kind == "copies":
            return node.template.format(*(self.reference(o) for o in node.options["written"]))
        alone = node.template.startswith("np.") or node.template == "{}"
        return node.template.format(*((self.reference if alone else self.inner)(o) for o in node.operands))

    # ------------------------------------------------------------------------------------- statements

    def put(self, line: str, comment: str = "") -> None:
        self.lines.append(f"{line:<{_WIDTH}}  # {comment}" if comment else line)

    def statement(self, node: Node) -> None:
        for memory in node.writes:
            if memory.kind == "buffer" and memory not in self.made:
                self.made.add(memory)
                self.put(f"{memory.name} = np.empty({memory.array.shape}, np.{memory.array.dtype.name})")
        if node.kind == "require":
            kind = node.options["kind"]
            self.put(f"if not {self.inner(node.operands[0])}:")
            self.put(f"    raise {kind}({node.options['message']!r})")
        elif node.kind == "write":
            target = node.options["to"]
            to = self.reference(target)
            self.put(f"{to if to.endswith(']') else f'{to}[...]'} = {self.reference(node.operands[0])}")
        elif node.kind == "scatter":
            x, index, values = node.options["written"]
            if node.options["add"]:
                self.put(f"np.add.at({self.reference(x)}, np.s_[{self.index(index)}], {self.reference(values)})")
            else:
                self.put(f"{self.reference(x)}[{self.index(index)}] = {self.reference(values)}")
        elif node.kind == "call":
            self.call(node)
        else:
            assert node.result is not None
            self.made.add(node.result.memory)
            self.put(f"{node.result.memory.name} = {self.expression(node)}", _shape(node.result))

    def call(self, node: Node) -> None:
        kernel: Kernel = node.function
        self.scope[kernel.__name__] = kernel
        result = f"{node.result.memory.name} = " if node.result is not None else ""
        operands = ", ".join(self.reference(o) for o in node.operands)
        self.put(f"{result}{kernel.__name__}({operands})", formula(kernel.py_func).title)

    def function(self) -> Any:
        """The function `step` of the source, whose lines a debugger can show."""
        name = f"<minidl step {abs(hash(self.source)):x}>"
        linecache.cache[name] = len(self.source), None, self.source.splitlines(keepends=True), name
        exec(compile(self.source, name, "exec"), self.scope)
        return self.scope["step"]


def _written(node: Node) -> Iterator[Any]:
    """What the node's line names; for a gather, the index itself and not the positions computed from it."""
    for x in node.options.get("written", node.operands):
        yield from x if isinstance(x, tuple) else (x,)


def _used_once(nodes: list[Node], results: list[Traced]) -> dict[Node, int]:
    """Maps, reductions and gathers whose value is used exactly once → the number of the node that uses it."""
    users: dict[Memory, list[int]] = {}
    kept = {o.memory for o in results}
    for n, node in enumerate(nodes):
        written = node.options.get("written", ())
        for o in (
            *node.operands,
            *written,
            *(written[1] if len(written) > 1 and isinstance(written[1], tuple) else ()),
        ):
            if isinstance(o, Traced):
                users.setdefault(o.memory, []).append(n)
        targets = node.options.get("to")
        for to in targets if isinstance(targets, list) else [targets]:
            if isinstance(to, Traced):
                kept.add(to.memory)
        kept.update(node.writes)
    once: dict[Node, int] = {}
    for node in nodes:
        if (
            node.kind in ("map", "loop", "reduce", "gather")
            and node.result is not None
            and node.result.memory not in kept
        ):
            where = users.get(node.result.memory, [])
            if len(where) == 1 and nodes[where[0]].kind in ("map", "loop", "reduce", "require", "write"):
                once[node] = where[0]
    return once


def _is_compound(text: str) -> bool:
    """Whether an operator stands outside all brackets."""
    depth = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if depth == 0 and c == " ":
            return True
    return text.startswith("-")


def _shape(x: Any) -> str:
    return f"({', '.join(map(str, x.shape))}{',' * (x.ndim == 1)})" if x.ndim else ""


def _literal(x: Any) -> str:
    value = x.item() if isinstance(x, np.generic) else x
    text = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}.get(str(value), repr(value))
    keeps = not isinstance(x, np.generic) or isinstance(x, np.bool_) or type(x) in (np.float64,)
    return text if keeps else f"np.{x.dtype.name}({text})"
