"""The data of a watched run, for printing and drawing."""

from __future__ import annotations

import math

import numpy as np

from minidl.tensor import Array
from minidl.watch.diagnosis import Diagnosis
from minidl.watch.findings import Finding


class Series:
    """The records of a `Watch`, which describes the attributes."""

    def _begin(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._records: dict[str, dict[str, list[float]]] = {}
        self.layers: dict[str, str] = {}  # those with outputs, in the order of the run: name → title
        self.parameters: dict[str, bool] = {}  # name → whether it is a weight by which steps are judged

    @property
    def steps(self) -> Array:
        return np.array(self._steps, np.int64)

    @property
    def losses(self) -> Array:
        return np.array(self._losses)

    @property
    def records(self) -> dict[str, dict[str, Array]]:
        return {name: {k: np.array(v) for k, v in kept.items()} for name, kept in self._records.items()}

    @property
    def findings(self) -> list[Finding]:
        return self._diagnosis.findings

    @property
    def guesses(self) -> dict[str, float]:
        """The loss of guessing, if the targets are classes: description → number."""
        return self._diagnosis.guesses

    def _keep(self, name: str, statistics: dict[str, float]) -> None:
        kept = self._records.setdefault(name, {})
        for key, value in statistics.items():
            values = kept.setdefault(key, [math.nan] * (len(self._steps) - 1))
            values.append(value)
