"""Layered graph layout: every edge forward, few crossings, short edges.

After Sugiyama, Tagawa and Toda 1981: layers by the longest path from an input, an invisible node wherever an edge
crosses a layer, the order in a layer by the mean of the neighbours, and positions as near to the neighbours' as that
allows. Edges across many layers (a weight used in every step) run in a lane beside the layers.

Layers and positions are in abstract units: the drawing decides their size, and whether layers go right or down.
"""

from __future__ import annotations

from dataclasses import dataclass

Edge = tuple[int, int, int]  # from, to, which of its inputs
Point = tuple[float, float]  # layer, position

FAR = 6  # edges across more layers run in a lane
SWEEPS = 8
BEND = 0.5  # the space an invisible node takes, relative to a node's
LANE = 0.3  # between two lanes


@dataclass(frozen=True)
class Layout:
    """layers, places: the layer and position of each node; bends: the points an edge passes between its ends.

    beside   edges that run in a lane: their first bend is where the lane of their node begins, their second where
             they leave it
    """

    layers: dict[int, int]
    places: dict[int, float]
    bends: dict[Edge, list[Point]]
    beside: frozenset[Edge]


def layout(nodes: list[int], edges: list[Edge]) -> Layout:
    """Lay out an acyclic graph. nodes: inputs before results; edges: between them."""
    layers = _layers(nodes, edges)
    rows: list[list[int]] = [[] for _ in range(max(layers.values(), default=0) + 1)]
    where = dict(layers)  # invisible nodes included
    before: dict[int, list[int]] = {n: [] for n in nodes}
    after: dict[int, list[int]] = {n: [] for n in nodes}
    chains: dict[tuple[int, int], list[int]] = {}  # invisible nodes, shared by edges with the same ends
    span = {(x, y): layers[y] - layers[x] for x, y, _ in edges}
    far = {x for (x, _), n in span.items() if n > FAR}
    beside = {ends for ends, n in span.items() if n > 1 and ends[0] in far}
    for x, y, _ in edges:
        if (x, y) in chains or (x, y) in beside:
            continue
        chain = chains[x, y] = []
        last = x
        for layer in range(layers[x] + 1, layers[y]):
            n = -1 - len(where)
            where[n], before[n], after[n] = layer, [last], []
            after[last].append(n)
            chain.append(n)
            last = n
        before[y].append(last)
        after[last].append(y)
    for n in _depth_first(nodes, before):
        rows[where[n]].append(n)
    for sweep in range(SWEEPS):
        _order(rows, before if sweep % 2 == 0 else after, sweep % 2 == 1)
    places = _places(rows, before, after)
    bends = {e: [(float(where[n]), places[n]) for n in chains.get(e[:2], ())] for e in edges}
    lanes = [e for e in edges if e[:2] in beside]
    bends |= _lanes(rows, lanes, layers, places)
    return Layout(layers, {n: places[n] for n in nodes}, bends, frozenset(lanes))


def _layers(nodes: list[int], edges: list[Edge]) -> dict[int, int]:
    """Layers by the longest path from an input; inputs go just before their first use."""
    inputs: dict[int, list[int]] = {n: [] for n in nodes}
    uses: dict[int, list[int]] = {n: [] for n in nodes}
    for x, y, _ in edges:
        inputs[y].append(x)
        uses[x].append(y)
    layers: dict[int, int] = {}
    for n in nodes:
        layers[n] = 1 + max((layers[x] for x in inputs[n]), default=-1)
    for n in nodes:
        if not inputs[n] and uses[n]:
            layers[n] = min(layers[y] for y in uses[n]) - 1
    return layers


def _depth_first(nodes: list[int], before: dict[int, list[int]]) -> list[int]:
    """All nodes, invisible ones included, each branch together."""
    found: dict[int, None] = {}
    for root in reversed(nodes):
        stack = [root]
        while stack:
            n = stack.pop()
            if n not in found:
                found[n] = None
                stack.extend(reversed(before[n]))
    return list(found)


def _order(rows: list[list[int]], neighbours: dict[int, list[int]], backward: bool) -> None:
    """Sort each layer by the mean position of the neighbours in the layer just done."""
    position: dict[int, float] = {}
    for row in reversed(rows) if backward else rows:
        means = {n: [position[m] for m in neighbours[n] if m in position] for n in row}
        wanted = {n: sum(means[n]) / len(means[n]) if means[n] else float(i) for i, n in enumerate(row)}
        row.sort(key=wanted.__getitem__)
        position.update({n: float(i) for i, n in enumerate(row)})


def _places(rows: list[list[int]], before: dict[int, list[int]], after: dict[int, list[int]]) -> dict[int, float]:
    """Positions as near to the mean of the neighbours as the order and spacing in a layer allow."""
    places: dict[int, float] = {}
    for row in rows:
        offset = _offsets(row)
        places.update({n: o - offset[-1] / 2 for n, o in zip(row, offset, strict=True)})
    for sweep in range(SWEEPS):
        back = sweep % 2 == 1
        for row in reversed(rows) if back else rows:
            offset = _offsets(row)
            wanted, weights = [], []
            for n, o in zip(row, offset, strict=True):
                near = (after if back else before)[n] or (before if back else after)[n]
                straight = n < 0 or any(m < 0 for m in near)
                wanted.append((sum(places[m] for m in near) / len(near) if near else places[n]) - o)
                weights.append(4.0 if straight else 1.0)
            for n, o, place in zip(row, offset, _monotone(wanted, weights), strict=True):
                places[n] = place + o
    return places


def _offsets(row: list[int]) -> list[float]:
    """The tightest positions of the nodes of a layer, the first at 0."""
    offset, places = 0.0, []
    for i, n in enumerate(row):
        if i:
            offset += (_size(row[i - 1]) + _size(n)) / 2
        places.append(offset)
    return places


def _size(n: int) -> float:
    return BEND if n < 0 else 1.0


def _monotone(values: list[float], weights: list[float]) -> list[float]:
    """The weighted least-squares non-decreasing fit: falling runs take their mean (Ayer et al. 1955)."""
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, its_total, its_count = blocks.pop()
            mean = (mean * total + other * its_total) / (total + its_total)
            total, count = total + its_total, count + its_count
        blocks.append((mean, total, count))
    return [mean for mean, _, count in blocks for _ in range(count)]


def _lanes(
    rows: list[list[int]], edges: list[Edge], layers: dict[int, int], places: dict[int, float]
) -> dict[Edge, list[Point]]:
    """The paths of these edges: one lane for each source node, beside everything in between."""
    lowest = [min((places[n] for n in row), default=0.0) for row in rows]
    bends: dict[Edge, list[Point]] = {}
    ends: dict[int, int] = {}
    for x, y, _ in edges:
        ends[x] = max(ends.get(x, 0), layers[y])
    taken: list[tuple[int, int, float]] = []  # from, to, position
    for x, end in sorted(ends.items(), key=lambda item: item[1] - layers[item[0]]):
        lane = min(lowest[layers[x] + 1 : end]) - 0.8
        while any(a < end and layers[x] < b and abs(p - lane) < LANE for a, b, p in taken):
            lane -= LANE
        taken.append((layers[x], end, lane))
        for e in (e for e in edges if e[0] == x):
            bends[e] = [(layers[x] + 0.6, lane), (layers[e[1]] - 0.6, lane)]
    return bends
