"""The graph with its values and gradients as SVG for papers and slides, and as Graphviz source."""

from __future__ import annotations

import html

from minidl.explanation.drawing import arranged
from minidl.explanation.numbers import heat, shape_text, short
from minidl.explanation.opened import Opened
from minidl.explanation.record import Entry, Passed
from minidl.tensor import Array

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 164, 72, 244, 96, 12
INK, SOFT, VALUE, GRADIENT, WIRE = "#1d2129", "#646a73", "#0a62a9", "#b8480a", "#b9b6ac"
LOW, MIDDLE, HIGH = (140, 81, 10), (245, 243, 238), (1, 102, 94)  # negative, 0, positive (Brewer's BrBG)
SANS = "Helvetica, Arial, DejaVu Sans, sans-serif"
MONO = "DejaVu Sans Mono, Menlo, Consolas, monospace"


def svg(explanation: Opened) -> str:
    """Draw the graph left to right: tensors with value (=) and gradient (∂), edges with the gradients passed."""
    where = arranged(explanation)
    shown = list(explanation)
    points = [(float(where.layers[e.number]), where.places[e.number]) for e in shown]
    points += [p for bends in where.bends.values() for p in bends]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    width = (max(x for x, _ in points) - left) * ACROSS + WIDTH + 2 * MARGIN
    height = (max(y for _, y in points) - top) * DOWN + HEIGHT + 2 * MARGIN

    def spot(layer: float, place: float) -> tuple[float, float]:
        return (layer - left) * ACROSS + WIDTH / 2 + MARGIN, (place - top) * DOWN + HEIGHT / 2 + MARGIN

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{SANS}" font-size="13">',
        f"<title>Backprop of {html.escape(explanation.loss.name)}</title>",
    ]
    labels = []
    for e in shown:
        passes = {p.slot: p for p in e.passes}
        edges = [(x, e.number, slot) for slot, x in enumerate(e.inputs) if x in explanation.shown]
        edges.sort(key=lambda edge: where.bends[edge][-1][1] if where.bends[edge] else where.places[edge[0]])
        for port, (x, y, slot) in enumerate(edges):
            start, end = spot(where.layers[x], where.places[x]), spot(where.layers[y], where.places[y])
            spread = (port - (len(edges) - 1) / 2) * min(15, 46 / len(edges))
            bends = [spot(*p) for p in where.bends[x, y, slot]]
            way = [(start[0] + WIDTH / 2, start[1]), *bends, (end[0] - WIDTH / 2, end[1] + spread)]
            flows = slot in passes
            stroke = f'stroke="{GRADIENT}" stroke-opacity=".45"' if flows else f'stroke="{WIRE}"'
            parts.append(f'<path d="{_curve(way)}" fill="none" {stroke} stroke-width="{2.5 if flows else 1.4}"/>')
            if flows:
                labels.append(_label(passes[slot], way))
    parts += [_card(e, *spot(where.layers[e.number], where.places[e.number])) for e in shown]
    return "\n".join([*parts, *labels, "</svg>", ""])


def _curve(way: list[tuple[float, float]]) -> str:
    """An SVG path through the points, each segment leaving and arriving horizontally."""
    (x, y), *rest = way
    text = f"M{x:.1f},{y:.1f}"
    for to_x, to_y in rest:
        middle = (x + to_x) / 2
        text += f"C{middle:.1f},{y:.1f} {middle:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
    return text


def _label(passed: Passed, way: list[tuple[float, float]]) -> str:
    """The gradient an edge passes, if it is one number, near the middle of its last segment."""
    if passed.gradient.size != 1:
        return ""
    (x, y), (to_x, to_y) = way[-2:]
    text = short(passed.gradient.item())
    at = (0.5 * x + 0.5 * to_x, 0.5 * y + 0.5 * to_y)
    wide = 6.4 * len(text) + 8
    return (
        f'<g transform="translate({at[0]:.1f} {at[1]:.1f})"><rect x="{-wide / 2:.1f}" y="-8" width="{wide:.1f}" '
        f'height="16" rx="8" fill="{GRADIENT}"/><text y="3.6" text-anchor="middle" fill="#fff" font-size="10.5" '
        f'font-family="{MONO}">{text}</text></g>'
    )


def _card(e: Entry, x: float, y: float) -> str:
    corner = {"leaf": HEIGHT / 3, "constant": 3}.get(e.kind, 8)
    edge = f'stroke="{SOFT}" stroke-dasharray="4 3"' if e.kind == "constant" else f'stroke="{INK}"'
    own = e.kind == "result" and not e.name.startswith(e.op)
    op = f'<tspan dx="6" fill="{SOFT}">{_clip(e.op, 9)}</tspan>' if own else ""
    lines = [
        f'<g transform="translate({x:.1f} {y:.1f})">'
        f"<title>{html.escape(f'{e.name} = {e.call}' if e.call else e.name)}</title>"
        f'<rect x="{-WIDTH / 2}" y="{-HEIGHT / 2}" width="{WIDTH}" height="{HEIGHT}" rx="{corner:g}" '
        f'fill="#fff" {edge}/>'
        f'<text x="{13 - WIDTH / 2}" y="-15" fill="{INK}" font-weight="bold">{_clip(e.name, 17)}'
        f'<tspan font-weight="normal" font-style="italic">{op}</tspan></text>'
    ]
    shape = shape_text(e.shape) if e.shape else ""
    lines += [_numbers("=", e.value, 4, VALUE, shape)]
    if e.gradient is not None:
        lines.append(_numbers("∂", e.gradient, 24, GRADIENT, ""))
    return "".join([*lines, "</g>"])


def _clip(text: str, length: int) -> str:
    return html.escape(text if len(text) <= length else text[: length - 1] + "…")


def _numbers(sign: str, array: Array, y: float, colour: str, note: str) -> str:
    """A line of a card: one or two numbers, or coloured cells."""
    left = 32 - WIDTH / 2
    text = f'<text x="{13 - WIDTH / 2}" y="{y}" fill="{SOFT}" font-style="italic">{sign}</text>'
    if note:
        text += (
            f'<text x="{WIDTH / 2 - 10}" y="{y}" fill="{SOFT}" font-size="10" font-family="{MONO}" '
            f'text-anchor="end">{note}</text>'
        )
    numbers = ", ".join(short(v) for v in array.reshape(-1)[:3])
    if array.size and len(numbers) < (13 if note else 17) and array.size < 3:
        return text + f'<text x="{left}" y="{y}" fill="{colour}" font-family="{MONO}" font-size="12">{numbers}</text>'
    picture = heat(array, 8)
    if picture is None:
        return text
    rows, columns = picture.cells.shape
    room = WIDTH - 52 - (6.2 * len(note) if note else 0)
    wide = min(room, max(28.0, columns * 13.0)) / columns
    tall = 12 / rows
    for i, row in enumerate(picture.cells.tolist()):
        for j, cell in enumerate(row):
            text += (
                f'<rect x="{left + j * wide:.1f}" y="{y - 10 + i * tall:.1f}" width="{wide:.2f}" height="{tall:.2f}" '
                f'fill="{_colour(cell)}"/>'
            )
    return text


def _colour(cell: int) -> str:
    if cell == -128:
        return "#963c96"
    end, share = (LOW if cell < 0 else HIGH), (abs(cell) / 127) ** 0.8
    return "#" + "".join(f"{round(m + (to - m) * share):02x}" for m, to in zip(MIDDLE, end, strict=True))


def dot(explanation: Opened) -> str:
    """The graph as Graphviz source (`dot -Tpdf`), which has its own layout."""
    arranged(explanation)  # raises if there are too many to draw
    lines = [
        "digraph backprop {",
        '  rankdir=LR; node [shape=box, fontname="Helvetica", fontsize=11]; edge [color="#b8480a", fontsize=9];',
    ]
    for e in explanation:
        style = {"leaf": "rounded", "constant": "dashed"}.get(e.kind, "solid")
        rows = [e.name if e.kind != "result" else f"{e.name} = {e.call}", shape_text(e.shape), f"= {_gist(e.value)}"]
        if e.gradient is not None:
            rows.append(f"∂ {_gist(e.gradient)}")
        lines.append(f'  n{e.number} [style={style}, label="{_quoted(rows)}"];')
        passes = {p.slot: p for p in e.passes}
        for slot, x in enumerate(e.inputs):
            if x in explanation.shown:
                label = f'label="{_quoted([_gist(passes[slot].gradient)])}"' if slot in passes else 'color="#b9b6ac"'
                lines.append(f"  n{x} -> n{e.number} [{label}];")
    return "\n".join([*lines, "}", ""])


def _gist(array: Array) -> str:
    if array.size in (1, 2):
        return ", ".join(short(v) for v in array.reshape(-1))
    return f"rms {short((array.astype(float) ** 2).mean() ** 0.5)}" if array.size and array.dtype.kind in "fiub" else ""


def _quoted(rows: list[str]) -> str:
    return "\\n".join(row.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for row in rows)
