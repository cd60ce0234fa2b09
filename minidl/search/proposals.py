"""Settings proposed by Optuna, instead of drawn at random."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from minidl.search.plans import Plan
from minidl.search.space import Choice, Distribution, Integers, LogUniform, Space, Uniform, draw
from minidl.search.trial import Row, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


class Proposals(Plan):
    """A plan whose trials are those of an Optuna study. ImportError without the `search` extra."""

    def __init__(
        self, space: Space, seed: int, baseline: Mapping[str, Any] | None, trials: int | None, direction: str
    ) -> None:
        super().__init__(space, seed, baseline, trials)
        try:
            import optuna
        except ImportError as error:
            raise ImportError('optuna_search: takes Optuna: pip install "minidl[search]"') from error
        self.optuna, self.direction = optuna, direction
        self.distributions = {name: self._distribution(distribution) for name, distribution in space.items()}
        self.asked: dict[int, Any] = {}  # Optuna's own trials, while they are under way

    def begin(self, rows: Iterable[Row]) -> None:
        found = list(rows)
        self.done = {row.trial for row in found}
        optuna = self.optuna
        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an option is experimental
                # A seed that depends on the rows: the first proposals are random, and must not repeat.
                sampler = optuna.samplers.TPESampler(seed=(self.seed + len(found)) % (1 << 32), constant_liar=True)
            self.study = optuna.create_study(direction=self.direction, sampler=sampler)
        finally:
            optuna.logging.set_verbosity(level)
        for row in found:
            self._add(row)

    def next(self) -> Trial | None:
        while self.count in self.done:
            self.count += 1
        if (asked := self._next()) is None:
            return None
        number, _ = asked
        _, seed = draw(self.space, self.seed, number)
        if number == 0 and self.baseline is not None:
            return Trial(0, dict(self.baseline), seed, None, "")
        self.asked[number] = self.study.ask(self.distributions)
        found = self.asked[number].params
        settings = {
            name: json.loads(found[name]) if isinstance(distribution, Choice) else found[name]
            for name, distribution in self.space.items()
        }
        return Trial(number, settings, seed, None, "")

    def told(self, row: Row) -> Iterable[int]:
        state = self.optuna.trial.TrialState
        if (asked := self.asked.pop(row.trial, None)) is None:
            self._add(row)
        else:
            self.study.tell(asked, row.value, state=state.FAIL if row.value is None else state.COMPLETE)
        return [row.trial]

    def _add(self, row: Row) -> None:
        """Add a row that the study did not propose, as far as it can hold its settings."""
        if row.value is not None and all(row.settings[name] in self.space[name] for name in self.space):
            params = {
                name: json.dumps(row.settings[name]) if isinstance(distribution, Choice) else row.settings[name]
                for name, distribution in self.space.items()
            }
            make = self.optuna.trial.create_trial
            self.study.add_trial(make(params=params, distributions=self.distributions, value=row.value))

    def _distribution(self, distribution: Distribution) -> BaseDistribution:
        kinds = self.optuna.distributions
        match distribution:
            case Choice(members):  # as strings, since a study cannot hold lists
                return kinds.CategoricalDistribution([json.dumps(member) for member in members])
            case Integers(low, high, log):
                return kinds.IntDistribution(low, high, log)
            case LogUniform(low, high):
                return kinds.FloatDistribution(low, high, log=True)
            case Uniform(low, high):
                return kinds.FloatDistribution(low, high)
        raise TypeError(f"optuna_search: expected one of minidl's distributions, found {distribution!r}")
