"""Scheduling and memory: dead nodes are removed, neighbours are fused, and buffers share memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minidl.compiler.recorder import Recorder, first_free
from minidl.compiler.traced import Memory, Node, Traced, layout

_LINE = 64  # buffers begin at cache lines


class Plan:
    """The live nodes of a recorded program, grouped into units that run as one loop, and the place of every buffer.

    units     lists of nodes: neighbouring maps and writes of one shape, or one node of another kind
    stored    memory that must be stored; other results are local variables of a loop nest
    arenas    dtype name → number of elements; `offsets`: buffer → where it begins in the arena of its dtype
    """

    def __init__(self, recorder: Recorder, outputs: list[Traced]) -> None:
        self.recorder, self.outputs = recorder, outputs
        self.nodes = live_nodes(_merged(recorder.nodes, outputs), outputs)
        self._name()
        self.units = _units(self.nodes)
        self._scalars: dict[Memory, str] = {}
        self.stored = self._stored()
        self.arenas: dict[str, int] = {}
        self.offsets: dict[Memory, int] = {}
        self._place()

    def scalar(self, memory: Memory) -> str | None:
        """The local variable that holds this memory's only element, if there is one."""
        return memory.name if memory.number else self._scalars.get(memory)

    def _name(self) -> None:
        """Number the names of the remaining results, in order."""
        memories = self.recorder.memories
        taken = {*self.recorder.reserved, *(m.name for m in memories if m.kind != "buffer" or m.final)}
        named: set[Memory] = set()
        for node in self.nodes:
            for memory in (*([node.result.memory] if node.result is not None else ()), *node.writes):
                if memory.kind == "buffer" and not memory.final and memory not in named:
                    memory.name = first_free(memory.stem, taken)
                    taken.add(memory.name)
                    named.add(memory)

    # ----------------------------------------------------------------------------------- storage

    def _stored(self) -> set[Memory]:
        """The buffers that must exist: read by another unit, accessed through a view, or returned by the step."""
        made_in: dict[Memory, int] = {}
        for n, unit in enumerate(self.units):
            for node in unit:
                if node.result is not None:
                    made_in[node.result.memory] = n
        stored: set[Memory] = set()
        elsewhere: set[Memory] = set()
        written: set[Memory] = set()
        for n, unit in enumerate(self.units):
            for node in unit:
                written.update(node.writes)
                for x in node.operands:
                    if not isinstance(x, Traced):
                        continue
                    if (node.kind == "call" and x.ndim > 0) or (node.kind == "scatter" and x is node.operands[0]):
                        stored.add(x.memory)
                    if node.kind == "gather" and x is node.operands[0]:
                        stored.add(x.memory)
                    if made_in.get(x.memory) != n:
                        elsewhere.add(x.memory)
        for out in self.outputs:
            elsewhere.add(out.memory)
            if out.ndim:
                stored.add(out.memory)
        for unit in self.units:
            for node in unit:
                if node.result is None:
                    continue
                memory = node.result.memory
                one = (
                    memory.array.size == 1
                    and node.kind in ("map", "reduce", "gather", "call")
                    and memory not in written
                )
                alone = node.kind != "map" or node.result.size == 1
                if one and alone and memory not in stored:
                    self._scalars[memory] = memory.name
                if node.kind in ("scan", "copies", "scatter") or (memory in elsewhere and memory not in self._scalars):
                    stored.add(memory)
                if node.kind in ("reduce", "gather") and memory not in self._scalars:
                    stored.add(memory)
        return stored | written

    def _place(self) -> None:
        """Place each stored buffer first-fit, where no buffer alive at the same time lies."""
        lives: dict[Memory, list[int]] = {}
        for n, unit in enumerate(self.units):
            for node in unit:
                here = [x.memory for x in (*node.operands, node.result) if isinstance(x, Traced)]
                here += [*node.writes, *(t.memory for t in _targets(node))]
                for memory in here:
                    lives.setdefault(memory, [n, n])[1] = n
        kept = {out.memory for out in self.outputs}
        placed: dict[str, list[tuple[int, int, list[int]]]] = {}
        for memory, life in sorted(lives.items(), key=lambda item: item[1][0]):
            if memory.kind != "buffer" or memory not in self.stored or memory in kept:
                continue
            dtype = memory.array.dtype
            line = _LINE // dtype.itemsize
            size = -(-memory.array.size // line) * line
            others = sorted((at, end) for at, end, (_, last) in placed.setdefault(dtype.name, []) if last >= life[0])
            at = 0
            for start, end in others:
                if at + size <= start:
                    break
                at = max(at, end)
            placed[dtype.name].append((at, at + size, life))
            self.offsets[memory] = at
            self.arenas[dtype.name] = max(self.arenas.get(dtype.name, 0), at + size)

    def used(self, *kinds: str) -> list[Memory]:
        """Memory of these kinds that the live program touches, in order of first use."""
        touched: set[int] = set()
        for node in self.nodes:
            for x in (*node.operands, node.result, *_targets(node)):
                if isinstance(x, Traced):
                    touched.add(id(x.memory))
            touched.update(map(id, node.writes))
        touched.update(id(out.memory) for out in self.outputs)
        return [m for m in self.recorder.memories if m.kind in kinds and id(m) in touched]


def _targets(node: Node) -> list[Traced]:
    to = node.options.get("to")
    return to if isinstance(to, list) else [to] if isinstance(to, Traced) else []


def _merged(nodes: list[Node], outputs: list[Traced]) -> list[Node]:
    """Drop nodes that repeat an earlier one, if neither result is changed later or leaves the step.

    Repeated checks are dropped too.
    """
    leaving = {id(out.memory) for out in outputs}
    first: dict[Any, Node] = {}
    checked: set[int] = set()
    kept: list[Node] = []
    for node in nodes:
        result = node.result
        if node.kind == "require" and isinstance(node.operands[0], Traced):
            condition = node.operands[0].memory
            if condition.version == 0 and id(condition) in checked:
                continue
            checked.add(id(condition))
        if (
            node.key is not None
            and result is not None
            and result.memory.version == 0
            and id(result.memory) not in leaving
        ):
            key = (node.key, *(id(o.memory) for o in node.operands if isinstance(o, Traced)))
            earlier = first.setdefault(key, node)
            if earlier is not node and earlier.result is not None:
                result.made_in.twin = earlier.result.memory
                continue
        kept.append(node)
    return kept


def live_nodes(
    nodes: list[Node], outputs: list[Traced], reads: Callable[[Node], Iterable[Any]] = lambda node: node.operands
) -> list[Node]:
    """The nodes that an output, a change of state, a check or a random generator depends on."""
    needed = {id(out.memory) for out in outputs}
    live: list[Node] = []
    for node in reversed(nodes):
        changes = [m for m in node.writes if m.kind != "buffer" or id(m) in needed]
        draws = node.kind == "call" and any(type(o).__name__ == "Reference" for o in node.operands)
        made = node.result is not None and id(node.result.memory) in needed
        if changes or made or draws or node.kind == "require":
            live.append(node)
            needed.update(id(o.memory) for o in reads(node) if isinstance(o, Traced))
            if node.kind == "write":
                needed.add(id(node.writes[0]))
    return live[::-1]


def _units(nodes: list[Node]) -> list[list[Node]]:
    """Neighbouring maps and writes, fused where one loop over their common shape computes them all."""
    units: list[list[Node]] = []
    accesses: dict[Memory, set[Any]] = {}
    changed: set[Memory] = set()
    for node in nodes:
        target = node.result if node.kind == "map" else node.options.get("to") if node.kind == "write" else None
        if target is None:
            units.append([node])
            accesses, changed = {}, set()
            continue
        reads = [_access(o, target.shape) for o in node.operands if isinstance(o, Traced)]
        to = _access(target, target.shape)
        before = units[-1][0] if units and units[-1][0].kind in ("map", "write") else None
        shape = before.target.shape if before is not None else None
        same_formula = before is not None and before.phase == node.phase
        joins = shape == target.shape and target.size > 0 and same_formula
        for memory, where in reads:  # what this loop writes must be read at the same element
            joins = joins and not (memory in changed and accesses[memory] != {where})
        joins = joins and not (to[0] in accesses and accesses[to[0]] != {to[1]})
        if joins:
            units[-1].append(node)
        else:
            units.append([node])
            accesses, changed = {}, set()
        for memory, where in [*reads, to]:
            accesses.setdefault(memory, set()).add(where)
        changed.add(to[0])
    return units


def _access(x: Traced, shape: tuple[int, ...]) -> tuple[Memory, Any]:
    """The memory of x, and which of its elements each point of the shape reads."""
    offset, strides = layout(x)
    steps = spread(strides, x.shape, shape)
    return x.memory, (offset, tuple(s for s, n in zip(steps, shape, strict=True) if n != 1))


def spread(strides: Any, shape: Any, to: Any) -> list[int]:
    """Strides for the axes of shape `to`, 0 where the array is broadcast."""
    lead = [0] * (len(to) - len(shape))
    return lead + [0 if n == 1 else s for s, n in zip(strides, shape, strict=True)]
