"""A second backward pass, on copies, that records every gradient; and three ways to get it wrong.

`Tensor.backward` keeps only the gradients of the leaves. Here every contribution along every edge is kept, computed and
added in the engine's order, so that the numbers equal the engine's bit for bit. The graph is not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minidl.core.arrays import unbroadcast
from minidl.tensor import Array, Tensor, as_array, backward_order

# What goes wrong without … (each actually computed, and shown beside the right numbers)
FAULTS = {
    "order": "without topological order",
    "accumulation": "without accumulation",
    "zero_grad": "without zero_grad",
}


@dataclass(eq=False, frozen=True)
class Flow:
    """The gradient that one use of a tensor x in y = op(…, x, …) sends back to it.

    y, x       the result and the input
    slot       which of the inputs that need a gradient x is
    gradient   dL/dx through this use alone, in x's shape and dtype
    summed     the shape before summing over broadcast axes, or None
    """

    y: Tensor
    x: Tensor
    slot: int
    gradient: Array
    summed: tuple[int, ...] | None


@dataclass(eq=False)
class Walk:
    """One backward pass over a graph.

    order       the results, in the order in which they passed on their gradients
    used        the gradient that each of them had then
    gradients   the final gradient of every tensor
    arrived     the flows into every tensor, in the order of addition
    flows       all flows, in the order of computation
    """

    order: list[Tensor] = field(default_factory=list)
    used: dict[Tensor, Array] = field(default_factory=dict)
    gradients: dict[Tensor, Array] = field(default_factory=dict)
    arrived: dict[Tensor, list[Flow]] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)


def seed(root: Tensor) -> Array:
    """dL/dL = 1. ValueError: `root` has more than one element."""
    if root.size != 1:
        raise ValueError(f"explain: expected a loss of one number, found shape {root.shape}; take its sum or mean")
    return np.ones_like(root.data)


def reverse(root: Tensor, fault: str | None = None, take: int = -1) -> Walk:
    """The backward pass from `root`, correct or with one of the FAULTS.

    order          tensors pass on what they have when a search reaches them, ignoring later contributions: `take` = 0
                   searches breadth-first, −1 depth-first
    accumulation   an arriving gradient replaces the previous one
    zero_grad      the leaves still hold the gradients of an identical earlier pass
    """
    walk = Walk(gradients={root: seed(root)})
    for y in _as_reached(root, take) if fault == "order" else backward_order(root):
        node: Any = y._node
        if node is None:
            continue
        dy = walk.used[y] = walk.gradients[y]
        walk.order.append(y)
        for slot, (x, gradient) in enumerate(zip(node.inputs, node.gradients, strict=True)):
            raw = gradient(dy)
            dx = unbroadcast(raw, x.data, dy, node)
            flow = Flow(y, x, slot, dx, None if np.shape(raw) == x.shape else np.shape(raw))
            walk.flows.append(flow)
            walk.arrived.setdefault(x, []).append(flow)
            before = walk.gradients.get(x)
            walk.gradients[x] = dx if before is None or fault == "accumulation" else as_array(before + dx)
    if fault == "zero_grad":
        walk.gradients |= {t: as_array(g + g) for t, g in walk.gradients.items() if t._node is None}
    return walk


def _as_reached(root: Tensor, take: int) -> Iterator[Tensor]:
    """The tensors in the order in which a search from `root` reaches them; see `reverse`."""
    found, reached = [root], {root}
    while found:
        y = found.pop(take)
        yield y
        for x in y._node.inputs if y._node else ():
            if x not in reached:
                reached.add(x)
                found.append(x)


def derivative(y: Tensor, slot: int, limit: int) -> Array | None:
    """dy/dx of y by one of its inputs, if it is elementwise with at most `limit` elements, else None.

    That holds if y is one number, or if each element of y depends only on the same element of x (broadcast to y's
    shape): the gradient passed back is then proportional to the one arriving, element by element, which is tested.
    """
    node: Any = y._node
    x, gradient = node.inputs[slot], node.gradients[slot]
    if not 0 < max(x.size, y.size) <= limit:
        return None
    with np.errstate(all="ignore"):
        found = np.asarray(gradient(np.ones_like(y.data)))
        if y.size == 1:
            return found if found.size == x.size else None
        if found.shape != y.shape:
            return None
        trial = np.random.default_rng(0).normal(size=y.shape).astype(y.dtype)
        answer = np.asarray(gradient(trial))
        size = np.nanmax(np.abs(np.where(np.isfinite(found), found, 0)), initial=0.0)
        same = np.isclose(answer, found * trial, rtol=1e-4, atol=1e-6 * size, equal_nan=True)
    return found if same.all() else None
