"""A record of each tensor of a graph: its origin, its gradient, and what it passes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl import graph
from minidl.core.formula import NO_FORMULA, Formula, formula
from minidl.explanation import calls
from minidl.explanation.check import Difference
from minidl.explanation.origin import Place, place
from minidl.explanation.reverse import Walk, derivative
from minidl.tensor import Array, Tensor

SMALL = 64  # local derivatives of at most so many elements are computed


@dataclass(eq=False)
class Passed:
    """What a result y = op(…, x, …) passes to one of its inputs in the backward pass.

    y, x         the numbers of their entries
    slot         which of the op's operands x is
    gradient     dL/dx through this use alone
    derivative   dy/dx if it is elementwise and small, else None
    summed       the shape before summing over broadcast axes, or None
    """

    y: int
    x: int
    slot: int
    gradient: Array
    derivative: Array | None
    summed: tuple[int, ...] | None


@dataclass(eq=False)
class Entry:
    """One tensor of the graph.

    number       its index in the order of computation, from 0; the loss is last
    name         the model's or the program's name for it, else one made of its op
    kind         "leaf" (a parameter, or an input that requires its gradient), "constant" or "result"
    value        a copy of its values
    gradient     dL/d(this); None for a constant
    arrives      the terms of its gradient, in the order of addition
    difference   the finite difference; None unless checked

    For results:
    op, call     the op's name, and the call as source code
    formula      y = …, dL/dx = … (see `minidl.core.formula`); `roles` maps its letters to tensors
    inputs       the numbers of its operands, constants included, in the order of the call
    passes       what it passes on
    place        the line of the program that made it
    """

    number: int
    name: str
    kind: str
    value: Array
    gradient: Array | None = None
    arrives: list[Passed] = field(default_factory=list)
    difference: Difference | None = None
    op: str = ""
    call: str = ""
    formula: Formula = NO_FORMULA
    roles: list[tuple[str, list[int]]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    passes: list[Passed] = field(default_factory=list)
    place: Place | None = None

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)


class _Names:
    """Unique names for the tensors."""

    def __init__(self, known: dict[int, str]) -> None:
        self.known, self.taken, self.counts = known, set[str](), Counter[tuple[str, bool]]()

    def give(self, thing: Any, value: Array, kind: str, op: str) -> str:
        wanted = self.known.get(id(thing)) or self.known.get(id(value))
        base = wanted or {"leaf": "x", "constant": "c"}.get(kind, op)
        numbered = not wanted and kind != "result"  # x1, x2; but multiply, multiply_2
        while True:
            self.counts[base, numbered] += 1
            i = self.counts[base, numbered]
            name = f"{base}{i}" if numbered else base if i == 1 else f"{base}_{i}"
            if name not in self.taken:
                self.taken.add(name)
                return name


def record(root: Tensor, walk: Walk, known: dict[int, str]) -> tuple[list[Entry], dict[Tensor, int]]:
    """Entries for every tensor below `root` and the constants, inputs before results; and the number of each Tensor.

    known   id → name of the Tensors and arrays that have one
    """
    entries: list[Entry] = []
    numbers: dict[int, int] = {}  # by id
    names = _Names({id(root): "loss", **known})

    def enter(thing: Any, kind: str, op: str = "") -> Entry:
        value = thing.data if isinstance(thing, Tensor) else thing
        numbers[id(thing)] = len(entries)
        entries.append(Entry(len(entries), names.give(thing, value, kind, op), kind, np.array(value)))
        return entries[-1]

    tensors = graph.tensors(root)
    own = set(map(id, tensors))
    for t in tensors:
        node: Any = t._node
        operands = [] if node is None else calls.operands(node)
        for x in operands:
            if id(x) not in own and id(x) not in numbers:
                enter(x, "constant")
        entry = enter(t, "leaf" if node is None else "result", node.op if node else "")
        entry.gradient = np.array(walk.gradients[t])
        if node is not None:
            names_by_id = {id(x): entries[numbers[id(x)]].name for x in operands}
            entry.op, entry.call, entry.formula = node.op, calls.call(node, names_by_id), formula(node.function)
            entry.inputs = [numbers[id(x)] for x in operands]
            roles = ((role, [numbers[id(x)] for x in xs if id(x) in numbers]) for role, xs in calls.roles(node))
            entry.roles, entry.place = [(role, xs) for role, xs in roles if xs], place(node.code, node.at)
    _passes(entries, {t: numbers[id(t)] for t in tensors}, walk)
    return entries, {t: numbers[id(t)] for t in tensors}


def _passes(entries: list[Entry], numbers: dict[Tensor, int], walk: Walk) -> None:
    """Fill in what each result passes on, and the order in which it arrives."""
    made: dict[int, Passed] = {}
    slots: dict[tuple[int, int], int] = {}  # (y, slot among the inputs that need a gradient) → slot among all operands
    for flow in walk.flows:
        y, x = numbers[flow.y], numbers[flow.x]
        after = slots.get((y, flow.slot - 1), -1)
        slot = slots[y, flow.slot] = entries[y].inputs.index(x, after + 1)
        local = derivative(flow.y, flow.slot, SMALL)
        made[id(flow)] = Passed(y, x, slot, np.array(flow.gradient), local, flow.summed)
        entries[y].passes.append(made[id(flow)])
    for x_tensor, flows in walk.arrived.items():
        entries[numbers[x_tensor]].arrives = [made[id(flow)] for flow in flows]
