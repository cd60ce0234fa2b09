"""A trial, the argument of an objective, and the row of its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minidl.random import default_generator, generator_state, manual_seed, set_generator_state
from minidl.shared.numbers import is_number


@dataclass(frozen=True, eq=False)
class Trial(Mapping[str, Any]):
    """One set of settings to try: a mapping, `trial["lr"]`, with these attributes:

    number       0 for the first
    settings     name → value, as a dict
    seed         depends only on the search's seed and the number; minidl's default generator is seeded with it
    budget       how much may be spent (epochs, examples, …), if the method sets it; else None
    checkpoint   a path of this trial's own, kept while the trial may run again: with a larger budget, or with the same
                 if the search was killed before recording the value. An objective may save its state there and
                 continue from it
    """

    number: int
    settings: dict[str, Any]
    seed: int
    budget: int | None
    checkpoint: str

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)


@dataclass(frozen=True)
class Row:
    """The result of a trial.

    trial      its number;  settings: its parameters by name;  budget: as the trial's
    value      what the objective returned, or None if it failed;  error: why it failed, or None
    seconds    the time taken, for all its budgets together
    """

    trial: int
    settings: dict[str, Any]
    budget: int | None
    value: float | None
    seconds: float
    error: str | None


Objective = Callable[[Trial], float]


def attempt(objective: Objective, trial: Trial) -> Row:
    """Call an objective. An exception or a non-finite value gives a row with an error."""
    generator = default_generator()
    before, start = generator_state(generator), time.perf_counter()
    manual_seed(trial.seed)
    value, error = None, None
    try:
        value = _number(objective(trial))
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}" if str(raised) else type(raised).__name__
    finally:
        set_generator_state(generator, before)
    return row_of(trial, value, time.perf_counter() - start, error)


def row_of(trial: Trial, value: float | None, seconds: float, error: str | None) -> Row:
    return Row(trial.number, trial.settings, trial.budget, value, round(seconds, 3), error)


def _number(value: Any) -> float:
    if not is_number(value):
        raise TypeError(f"expected the objective to return a number, found {value!r:.60}")
    if not math.isfinite(value):
        raise ValueError(f"expected the objective to return a finite number, found {value}")
    return float(value)
