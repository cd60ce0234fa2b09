"""`explain`: open a recorded graph."""

from __future__ import annotations

import html
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidl import graph
from minidl.core.frames import users_frame
from minidl.explanation.check import differences
from minidl.explanation.opened import Fault, Opened
from minidl.explanation.origin import names_given
from minidl.explanation.page import page
from minidl.explanation.record import Entry, record
from minidl.explanation.reverse import FAULTS, Walk, reverse
from minidl.explanation.svg import dot, svg
from minidl.explanation.text import text, verdict
from minidl.shared.files import FilePath, write_file
from minidl.shared.names import nearest
from minidl.tensor import Tensor


class Explanation(Opened):
    """A computation and its backward pass, with every number: `print` it, or draw it.

    entries   one for each tensor, inputs before results, the loss last (see `Entry`)
    order     the numbers of the results, in the order of the backward pass
    faults    backward passes with a mistake, by kind: "order", "accumulation", "zero_grad" (see `Fault`)
    shown     the numbers of the entries printed and drawn: all, unless `cut`

    Iterate for the entries shown; explanation["name"] and explanation[tensor] give a single one.
    """

    def __init__(
        self,
        entries: list[Entry],
        order: list[int],
        faults: dict[str, Fault],
        tensors: list[tuple[weakref.ref[Tensor], int]],
        shown: frozenset[int] | None = None,
    ) -> None:
        super().__init__(entries, order, faults, frozenset(range(len(entries))) if shown is None else shown)
        self._tensors = tensors

    def __getitem__(self, key: str | Tensor) -> Entry:
        """The entry of that name or Tensor. KeyError: there is none."""
        if isinstance(key, Tensor):
            for reference, number in self._tensors:
                if reference() is key:
                    return self.entries[number]
            raise KeyError("this Tensor is not in the graph that was explained")
        names = {e.name: e for e in self.entries}
        if key not in names:
            near = nearest(key, names, 3) or list(names)[:9]
            raise KeyError(f"no tensor is called {key!r}; there are {', '.join(near)}")
        return names[key]

    def __str__(self) -> str:
        return text(self)

    def __repr__(self) -> str:
        checked = "" if self.ok is None else f", {verdict(self)}"
        return f"<Explanation of {self.loss.name}: {len(self.entries)} tensors{checked}>"

    # ---------------------------------------------------------------------------------- drawings

    def html(self, path: FilePath, depth: int | None = None, module: str | None = None) -> None:
        """Write a self-contained HTML page that draws the graph and steps through it.

        depth, module   draw a part, as in `cut`

        ValueError: too many tensors to draw. OSError: the path cannot be written; no partial file is left.
        """
        write_file(path, page(self._part(depth, module)).encode())

    def svg(self, path: FilePath | None = None, depth: int | None = None, module: str | None = None) -> str:
        """Draw the graph with its values and gradients. Returns the SVG, also written to `path` if given.

        depth, module and errors as in `html`.
        """
        return self._written(path, svg(self._part(depth, module)))

    def dot(self, path: FilePath | None = None, depth: int | None = None, module: str | None = None) -> str:
        """As `svg`, in the language of Graphviz: `dot -Tpdf graph.dot`."""
        return self._written(path, dot(self._part(depth, module)))

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame, or text if it cannot be drawn."""
        try:
            text_of_page = html.escape(page(self))
        except ValueError as error:
            return f"<pre>{html.escape(f'{self!r}: {error}')}</pre>"
        style = "width: 100%; height: 680px; border: 1px solid #8884; border-radius: 10px"
        return f'<iframe srcdoc="{text_of_page}" sandbox="allow-scripts" style="{style}" title="Backprop"></iframe>'

    def _written(self, path: FilePath | None, content: str) -> str:
        if path is not None:
            write_file(path, content.encode())
        return content

    # ------------------------------------------------------------------------------------- parts

    def _part(self, depth: int | None, module: str | None) -> Explanation:
        return self if depth is None and module is None else self.cut(depth, module)

    def cut(self, depth: int | None = None, module: str | None = None) -> Explanation:
        """The same explanation, showing only a part.

        depth    only tensors at most so many ops away from the loss
        module   only ops that use parameters with this prefix ("0", "encoder.layers.1"), and those between them

        ValueError: neither or both given, depth below 0, or no such parameter.
        """
        if (depth is None) == (module is None):
            raise ValueError("cut: expected depth or module, one of them")
        shown = self._within(depth) if depth is not None else self._around(str(module))
        return Explanation(self.entries, self.order, self.faults, self._tensors, frozenset(shown))

    def _within(self, depth: int) -> set[int]:
        if depth < 0:
            raise ValueError(f"cut: expected a depth of at least 0, found {depth}")
        distance = {self.loss.number: 0}
        for e in reversed(self.entries):
            for x in e.inputs:  # the longest path, so that every gradient into a tensor shown is shown
                distance[x] = max(distance.get(x, 0), distance[e.number] + 1)
        return {number for number, d in distance.items() if d <= depth}

    def _around(self, module: str) -> set[int]:
        leaves = [e for e in self.entries if e.kind == "leaf"]
        own = {e.number for e in leaves if f"{e.name}.".startswith(module.rstrip(".") + ".")}
        if not own:
            parts = sorted({e.name.rpartition(".")[0] for e in leaves if "." in e.name})
            near = nearest(module, parts, 3) or parts[:9] or ["none: give explain() the model"]
            raise ValueError(f"cut: no parameter is called {module!r}…; there are {', '.join(near)}")
        users = {e.number for e in self.entries if own.intersection(e.inputs)}
        below, above = set(users), set(users)
        for e in self.entries:
            if below.intersection(e.inputs):
                below.add(e.number)
        for e in reversed(self.entries):
            if e.number in above:
                above.update(e.inputs)
        between = below & above
        return between | {x for number in between for x in self.entries[number].inputs}


def explain(
    loss: Tensor, check: bool = False, names: Mapping[str, Any] | None = None, model: Any = None
) -> Explanation:
    """Open the recorded graph of `loss`: every value, every gradient, and how each is passed on.

    loss    a Tensor of one element whose graph was not freed by backward() (or kept by retain_graph=True)
    check   compare each gradient with finite differences: every tensor is moved element by element (a sample of 12 if
            there are more than 64), and everything downstream recomputed in float64. Tensors for which that is
            impossible (dropout draws a new mask) have none, with the reason.
    names   name → Tensor or array; others are named after the caller's variables
    model   a module, whose parameters are called by their names in it ("0.weight")

    Nothing is changed: no `.grad`, no graph, no generator. The values are copies.

    RuntimeError: no graph, or a freed one. ValueError: more than one element. TypeError: loss is not a Tensor, or names
    or model of other types.

    >>> w = minidl.Tensor(3.0, requires_grad=True)
    >>> explanation = minidl.explain((2 * w - 1) ** 2)
    >>> print(str(explanation).splitlines()[0])
    Backward from loss = 25.0, through 3 results to 1 leaf
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"explain: expected a Tensor, the loss, found {type(loss).__name__}")
    try:
        tensors = graph.tensors(loss)
    except RuntimeError as error:
        raise RuntimeError(f"explain: {error}") from None
    known = names_given(names, model, users_frame(0))
    with np.errstate(all="ignore"):
        walk = reverse(loss)
        entries, numbers = record(loss, walk, known)
        faults = {kind: _fault(loss, kind, walk, numbers, entries) for kind in FAULTS}
    if check:
        for t, difference in differences(loss, walk.gradients).items():
            entries[numbers[t]].difference = difference
    references = [(weakref.ref(t), numbers[t]) for t in tensors]
    return Explanation(entries, [numbers[t] for t in walk.order], faults, references)


def _fault(loss: Tensor, kind: str, right: Walk, numbers: dict[Tensor, int], entries: list[Entry]) -> Fault:
    walk = reverse(loss, kind, take=0 if kind == "order" else -1)
    wrong = _wrong(walk, right)
    if kind == "order" and not wrong:  # right by luck; the other search order may not be
        walk = reverse(loss, kind)
        wrong = _wrong(walk, right)
    passed = {}
    for flow in walk.flows:
        y = numbers[flow.y]
        passed[y, entries[y].passes[flow.slot].slot] = flow.gradient
    return Fault(
        [numbers[t] for t in walk.order],
        {numbers[t]: g for t, g in walk.used.items()},
        {numbers[t]: g for t, g in walk.gradients.items()},
        passed,
        [numbers[t] for t in wrong],
    )


def _wrong(walk: Walk, right: Walk) -> list[Tensor]:
    return [t for t, g in right.gradients.items() if not np.array_equal(walk.gradients[t], g, equal_nan=True)]
