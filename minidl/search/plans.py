"""Plans, which choose the next trial: at random, or by successive halving."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minidl.search.journal import SearchError
from minidl.search.space import Space, draw
from minidl.search.trial import Row, Trial


class Plan:
    """Hands out trials and takes in their results. This one draws `trials` at random, or endlessly.

    baseline    the settings of trial 0; None: drawn too
    """

    def __init__(self, space: Space, seed: int, baseline: Mapping[str, Any] | None, trials: int | None) -> None:
        self.space, self.seed, self.baseline, self.trials = space, seed, baseline, trials
        self.count = 0  # trials handed out for the first time
        self.known: dict[tuple[int, int | None], Row] = {}

    def begin(self, rows: Iterable[Row]) -> None:
        """Take these rows as results of their trials, which are not repeated."""
        self.known = {(row.trial, row.budget): row for row in rows}

    def next(self) -> Trial | None:
        """A trial that may begin now; None if there is none, for good or until further results arrive."""
        while (asked := self._next()) is not None:
            number, budget = asked
            settings, seed = draw(self.space, self.seed, number)
            if number == 0 and self.baseline is not None:
                settings = dict(self.baseline)
            row = self.known.get(asked)
            if row is None:
                return Trial(number, settings, seed, budget, "")
            if row.settings != settings:
                raise SearchError(f"expected {settings} for trial {number} of this search, found {row.settings}")
            self.told(row)
        return None

    def told(self, row: Row) -> Iterable[int]:
        """Take in a result. Returns the numbers of the trials that are finished for good."""
        return [row.trial]

    def _next(self) -> tuple[int, int | None] | None:
        """(number, budget)"""
        if self.trials is not None and self.count >= self.trials:
            return None
        self.count += 1
        return self.count - 1, None


class Halving(Plan):
    """Races of `size` trials, one after the other.

    All trials of a race run with the smallest budget; the best 1/eta-th, at least one, advance to the next, and so on,
    so that all budgets cost about the same   (Jamieson and Talwalkar 2016, algorithm 1). The next race may begin while
    the last trials of a round are running; that does not affect which trials run.

    sign    1 if higher values are better, −1 if lower ones are
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        baseline: Mapping[str, Any] | None,
        trials: int | None,
        budgets: Sequence[int],
        eta: int,
        size: int,
        sign: int,
    ) -> None:
        super().__init__(space, seed, baseline, trials)
        self.budgets, self.eta, self.size, self.sign = budgets, eta, size, sign
        self.open: list[_Race] = []

    def _next(self) -> tuple[int, int | None] | None:
        for race in self.open:
            if race.queue:
                return race.queue.popleft(), self.budgets[race.round]
        first = self.count
        if self.baseline is not None and first == 0:  # for comparison: always with the largest budget
            self.count = 1
            return 0, self.budgets[-1]
        self.count += self.size
        if self.trials is not None:
            self.count = min(self.count, self.trials)
        if self.count <= first:
            return None
        self.open.append(_Race(range(first, self.count)))
        return self._next()

    def told(self, row: Row) -> Iterable[int]:
        race = next((race for race in self.open if row.trial in race.values), None)
        if race is None:
            return [row.trial]
        race.values[row.trial] = row.value
        race.waiting -= 1
        if race.waiting:
            return []
        entered = list(race.values)
        values = {number: self.sign * value for number, value in race.values.items() if value is not None}
        ranked = sorted(values, key=lambda number: (-values[number], number))
        kept = sorted(ranked[: max(1, len(entered) // self.eta)])
        if race.round + 1 == len(self.budgets) or not kept:
            self.open.remove(race)
            return entered
        race.enter(race.round + 1, kept)
        return [number for number in entered if number not in kept]


class _Race:
    """A race: the trials in the current round, their values in it, and those still to run."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.enter(0, numbers)

    def enter(self, round: int, numbers: Iterable[int]) -> None:
        self.round, self.queue = round, deque(numbers)
        self.values: dict[int, float | None] = dict.fromkeys(self.queue)
        self.waiting = len(self.queue)
