"""The results of a search: the best settings and all rows, as a table, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from minidl.search.space import Space, described, short, varies
from minidl.search.trial import Row
from minidl.shared.files import FilePath

WIDTH, SHOWN = 100, 30  # columns and rows of the table


class Results:
    """The rows of a search. `print(results)` shows the best; `results.best.settings` are the best settings.

    method, direction, seed, space   those of the search
    rows       one `Row` per finished trial, in order of number, from its largest budget
    stopped    "time" or "interrupted" if the search ended early, else None
    """

    def __init__(
        self, method: str, direction: str, seed: int, space: Space, rows: Sequence[Row], stopped: str | None = None
    ) -> None:
        self.method, self.direction, self.seed, self.space, self.stopped = method, direction, seed, space, stopped
        last: dict[int, Row] = {}
        for row in sorted(rows, key=lambda r: (r.trial, r.budget or 0)):
            seconds = last[row.trial].seconds if row.trial in last else 0.0
            last[row.trial] = replace(row, seconds=round(seconds + row.seconds, 3))
        self.rows = list(last.values())

    @property
    def best(self) -> Row:
        """The row with the best value among those with the largest budget; the first of equals.

        ValueError: no trial has succeeded.
        """
        if not (ranked := self.ranked()):
            failed = f"; the first of {len(self.rows)} errors: {self.rows[0].error}" if self.rows else ""
            raise ValueError(f"best: expected a trial that has ended without an error, found none{failed}")
        return ranked[0]

    def ranked(self) -> list[Row]:
        """The rows without errors, best first: by budget, then by value, then by number."""
        sign = 1 if self.direction == "minimize" else -1
        good = [(-(row.budget or 0), sign * row.value, row.trial, row) for row in self.rows if row.value is not None]
        return [row for *_, row in sorted(good, key=lambda item: item[:3])]

    @property
    def failed(self) -> list[Row]:
        """The rows with errors."""
        return [row for row in self.rows if row.error is not None]

    def __str__(self) -> str:
        """A table, best first, of at most 100 columns."""
        names = [name for name, distribution in self.space.items() if varies(distribution)]
        budgets = any(row.budget is not None for row in self.rows)
        head = ["trial", "value", *(["budget"] if budgets else []), *names]
        ranked, failed = self.ranked(), self.failed
        shown = ranked[:SHOWN]
        cells = []
        for row in shown:
            spent = [str(row.budget)] if budgets else []
            cells.append([str(row.trial), f"{row.value:.5g}", *spent, *(short(row.settings[name]) for name in names)])
        widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
        while sum(widths) + 2 * (len(widths) - 1) > WIDTH and len(widths) > 3:
            widest = max(range(2, len(widths)), key=lambda i: widths[i])
            if widths[widest] > 8:
                widths[widest] -= 1
            else:  # leave out what does not fit
                widths.pop()
        lines = ["  ".join(f"{_cut(c, w):>{w}}" for c, w in zip(row, widths, strict=False)) for row in (head, *cells)]
        hidden = names[len(widths) - len(head) :] if len(widths) < len(head) else []
        notes = [f"{len(ranked) - len(shown)} more trials" if len(ranked) > len(shown) else ""]
        notes.append(f"{len(failed)} failed, the first (trial {failed[0].trial}): {failed[0].error}" if failed else "")
        notes.append(f"not shown: {', '.join(hidden)}" if hidden else "")
        lines += [_cut(" ".join(note.split()), WIDTH) for note in notes if note]
        return "\n".join(lines)

    def to_json(self) -> str:
        """{"method", "direction", "seed", "space", "stopped", "best": row or null, "trials": [rows]}"""
        best = asdict(self.best) if self.ranked() else None
        about = {"method": self.method, "direction": self.direction, "seed": self.seed, "stopped": self.stopped}
        rows = [asdict(row) for row in self.rows]
        return json.dumps({**about, "space": described(self.space), "best": best, "trials": rows}, indent=2)

    def plot(self, path: FilePath) -> None:
        """Draw the values over the trials, with the best so far, and over each parameter, as a PNG.

        ImportError: the `plot` extra is not installed. ValueError: no trial has succeeded, or the path does not end in
        .png. OSError: the file cannot be written.
        """
        from minidl.search.plot import draw

        draw(path, self.space, self.direction, [self.best, *self.ranked()[1:]], max(row.trial for row in self.rows))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
