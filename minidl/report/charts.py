"""Drawings for a page, as SVG: curves over epochs, and a matrix of counts as a table."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

from minidl.tensor import Array

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 250, 52, 14, 14, 34


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most `most` + 1 round numbers from low to high: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def curves(title: str, series: Mapping[str, Sequence[float]], percent: bool = False) -> str:
    """Lines over the epochs 1, 2, …, one per name. Non-finite values leave a gap."""
    finite = [v for values in series.values() for v in values if math.isfinite(v)]
    epochs = max((len(values) for values in series.values()), default=0)
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    margin = (high - low or abs(high) or 1) * 0.06
    low, high = low - margin, high + margin

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((epoch - 1) / (epochs - 1) if epochs > 1 else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = []
    for tick in ticks(low, high):
        label = f"{100 * tick:.4g} %" if percent else f"{tick:.4g}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in sorted({round(t) for t in ticks(1, max(epochs, 2), 8) if 1 <= t <= epochs} | {1}):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">epoch</text>')
    legend = []
    for n, (name, values) in enumerate(series.items()):
        points = [(x(i + 1), y(v)) if math.isfinite(v) else None for i, v in enumerate(values)]
        path = "".join(
            "" if p is None else f"{'M' if i == 0 or points[i - 1] is None else 'L'}{p[0]:.1f} {p[1]:.1f}"
            for i, p in enumerate(points)
        )
        parts.append(f'<path class="series s{n}" d="{path}"/>')
        for i, p in enumerate(points):
            if p is not None and epochs <= 60:
                told = f"{100 * values[i]:.2f} %" if percent else f"{values[i]:.4f}"
                about = f"<title>{html.escape(name)}, epoch {i + 1}: {told}</title>"
                mark = f'<circle class="mark s{n}" cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="3.5">{about}</circle>'
                if n % 2:
                    corner = f'x="{p[0] - 3:.1f}" y="{p[1] - 3:.1f}" width="6" height="6"'
                    mark = f'<rect class="mark s{n}" {corner}>{about}</rect>'
                parts.append(mark)
        legend.append(f'<span class="key s{n}">{html.escape(name)}</span>')
    name = html.escape(title)
    head = f'<h3>{name}</h3><span class="legend">{"".join(legend)}</span>'
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name} over the epochs"'
    return f'<figure class="chart"><figcaption>{head}</figcaption><svg {box}>{"".join(parts)}</svg></figure>'


def matrix(counts: Array) -> str:
    """A confusion matrix (C, C), rows the true classes: each cell shaded by its share of its row."""
    head = "".join(f'<th scope="col">{k}</th>' for k in range(len(counts)))
    rows = []
    for k, row in enumerate(counts):
        cells = []
        for j, n in enumerate(row):
            share = n / max(row.sum(), 1)
            kind = "right" if j == k else "wrong"
            about = f"{n} of {row.sum()} images of class {k} were taken for class {j}"
            text = str(n) if n else "·"
            cells.append(f'<td class="{kind}" style="--share:{math.sqrt(share):.3f}" title="{about}">{text}</td>')
        rows.append(f'<tr><th scope="row">{k}</th>{"".join(cells)}</tr>')
    return (
        '<div class="scroll"><table class="confusion"><caption>Rows are the true classes, columns the predicted ones.'
        f"</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
