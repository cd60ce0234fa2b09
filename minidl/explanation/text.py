"""An explanation as text: the backward pass in order, with every number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minidl.explanation.check import Difference
from minidl.explanation.numbers import FEW, listed, shape_text
from minidl.explanation.opened import Opened
from minidl.explanation.record import Entry
from minidl.tensor import Array

_LEFT = 17  # characters of the left column


def text(explanation: Opened) -> str:
    """From the loss back to the leaves, each result after everything computed from it."""
    entries = explanation.entries
    results = [(step, entries[i]) for step, i in enumerate(explanation.order, 1) if i in explanation.shown]
    leaves = [e for e in explanation if e.kind == "leaf"]
    loss, hidden = entries[-1], len(entries) - len(explanation)
    first = (
        f"Backward from {loss.name} = {listed(loss.value)}, through {_count(len(explanation.order), 'result')} "
        f"to {_count(sum(e.kind == 'leaf' for e in entries), 'leaf', 'leaves')}"
    )
    blocks = [first + (f"; {hidden:,} of {_count(len(entries), 'tensor')} are not shown" if hidden else "")]
    blocks += ["\n".join(_result(step, entry, entries)) for step, entry in results]
    if leaves:
        blocks.append("\n".join(["What arrives at the leaves", *(line for e in leaves for line in _leaf(e, entries))]))
    if explanation.ok is not None:
        blocks.append(f"Checked: {verdict(explanation)}.")
    return "\n\n".join(blocks)


def verdict(explanation: Opened) -> str:
    """The outcome of the finite differences, in a sentence."""
    checked = [e for e in explanation.entries if e.difference is not None and not e.difference.reason]
    wrong = [e.name for e in checked if e.difference and not e.difference.ok]
    without = sum(e.difference is not None and bool(e.difference.reason) for e in explanation.entries)
    found = (
        f"{len(wrong)} of {_count(len(checked), 'gradient')} differ from finite differences: {', '.join(wrong)}"
        if wrong
        else f"{'all ' if len(checked) > 1 else ''}{_count(len(checked), 'gradient')} agree with finite differences"
    )
    return found + (f"; {without} could not be checked" if without else "")


def slope(of: str, by: str) -> str:
    """dy/dx, with longer names in parentheses: dL/d(weight)."""
    upper, lower = (f"d{name}" if len(name) <= 2 and name.isidentifier() else f"d({name})" for name in (of, by))
    return f"{upper}/{lower}"


def _count(n: int, one: str, more: str = "") -> str:
    return f"{n:,} {one if n == 1 else more or one + 's'}"


def _block(label: str, *pieces: str | Array) -> Iterator[str]:
    """A labelled line; if an array takes several, each piece starts on its own line."""
    written = [p if isinstance(p, str) else listed(p, _LEFT) for p in pieces]
    if not any("\n" in p for p in written):
        written = ["  ".join(p for p in written if p)]
    for i, piece in enumerate(p for p in written if p):
        head = f"    {label}" if i == 0 else ""
        if len(head) >= _LEFT:
            yield head
            head = ""
        yield f"{head:<{_LEFT}}{piece}"


def _result(step: int, e: Entry, entries: list[Entry]) -> Iterator[str]:
    yield f"{step:>3} {e.name} = {e.call}    {shape_text(e.shape)} {e.dtype}"
    if e.place is not None:
        yield from _block("made at", str(e.place))
    if any(e.formula):
        yield from _block("formula", str(e.formula))
    roles = [f"{role} = {', '.join(entries[i].name for i in xs)}" for role, xs in e.roles]
    if e.formula.backward and roles:
        yield from _block("where", ",  ".join([*roles, f"y = {e.name}"]))
    yield from _block("value", e.value)
    yield from _gradient(e, entries)
    for p in e.passes:
        x = entries[p.x]
        local = () if p.derivative is None else (f"{slope(e.name, x.name)} =", p.derivative)
        summed = "" if p.summed is None else f"summed from {p.summed} to {x.shape}, as it was broadcast"
        yield from _block(f"→ {x.name}", *local, "so it passes" if local else "passes", p.gradient, summed)


def _gradient(e: Entry, entries: list[Entry]) -> Iterator[str]:
    assert e.gradient is not None
    name = slope("L", e.name)
    if len(e.arrives) <= 1:
        origin = f"from {entries[e.arrives[0].y].name}" if e.arrives else "where it begins: dL/dL = 1"
        yield from _block(name, e.gradient, origin)
    else:
        yield from _block(name, e.gradient, f"the sum of {len(e.arrives)} that meet here:")
        for p in e.arrives:
            yield from _block("", "+", p.gradient, f"from {entries[p.y].name}")
    if e.difference is not None:
        yield from _difference(e.difference, e.gradient)


def _difference(d: Difference, gradient: Array) -> Iterator[str]:
    if d.reason or len(d.where) < gradient.size or gradient.size > FEW or not gradient.size:
        yield from _block("differences", str(d))
    else:
        numbers = np.array([float(f"{x:.9g}") for x in d.expected]).reshape(gradient.shape)
        yield from _block("differences", numbers, str(d))


def _leaf(e: Entry, entries: list[Entry]) -> Iterator[str]:
    yield f"    {e.name}    {shape_text(e.shape)} {e.dtype}"
    yield from _block("value", e.value)
    yield from _gradient(e, entries)
