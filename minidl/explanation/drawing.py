"""Shared by all drawings of an explanation: the size limit and the layout."""

from __future__ import annotations

from minidl.explanation.layout import Layout, layout
from minidl.explanation.opened import Opened

LIMIT = 2000  # tensors in one drawing


def arranged(explanation: Opened) -> Layout:
    """Lay out the tensors shown. ValueError: too many to draw."""
    if len(explanation) > LIMIT:
        parts = sorted({e.name.rpartition(".")[0] for e in explanation if e.kind == "leaf" and "." in e.name})
        module = f' or .cut(module="{parts[0]}")' if parts else ""
        raise ValueError(
            f"explanation: {len(explanation):,} tensors are too many to be drawn, at most {LIMIT:,} are; "
            f".cut(depth=20){module} shows a part"
        )
    shown = list(explanation)
    edges = [(x, e.number, slot) for e in shown for slot, x in enumerate(e.inputs) if x in explanation.shown]
    return layout([e.number for e in shown], edges)
