"""A schedule that lowers the rates when a metric no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsFloat

from minidl.optim.checks import choice, count, number, per_group, sequence
from minidl.optim.optimizers import Optimizer
from minidl.optim.schedules import LRScheduler


def _best(where: str, name: str, value: Any) -> Any:
    """Check for a number, or None while there is no best."""
    return None if value is None else number()(where, name, value)


class ReduceLROnPlateau(LRScheduler):
    """lr ← max(factor · lr, min_lr) when a metric has not improved for more than `patience` steps in a row.

        schedule = optim.ReduceLROnPlateau(optimizer, patience=3)
        schedule.step(validation_loss)  # after every epoch

    mode            "min": lower is better; "max": higher is
    threshold       the margin over the best so far that counts as an improvement
    threshold_mode  "rel": relative to the size of the best; "abs": in the metric's unit
    cooldown        the number of steps after a reduction in which bad ones do not count
    min_lr          a number, or one per group
    eps             smaller changes of the rate, or equal ones, are not made

    PyTorch takes "rel" relative to the signed best, so that an equal or slightly worse negative metric counts
    as better.
    A NaN or infinite metric is never an improvement. TypeError, ValueError: an option of a wrong type, or out of range.
    TypeError: a metric that is not a number.
    """

    options: ClassVar = {
        "mode": choice("min", "max"),
        "factor": number(0, 1, below=True),
        "patience": count(0),
        "threshold": number(0),
        "threshold_mode": choice("rel", "abs"),
        "cooldown": count(0),
        "min_lrs": sequence(number(0)),
        "eps": number(0),
    }
    position: ClassVar = {
        "last_epoch": count(0),
        "best": _best,
        "cooldown_counter": count(0),
        "num_bad_epochs": count(0),
        "_last_lr": sequence(number()),
    }
    needs_metric = True
    mode: str
    factor: float
    patience: int
    threshold: float
    threshold_mode: str
    cooldown: int
    min_lrs: list[float]
    eps: float
    best: float
    cooldown_counter: int
    num_bad_epochs: int

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        options = {"mode": mode, "factor": factor, "patience": patience, "cooldown": cooldown, "eps": eps}
        options |= {"threshold": threshold, "threshold_mode": threshold_mode}
        groups = self._check_optimizer(optimizer)
        self._make(optimizer, {**options, "min_lrs": per_group("ReduceLROnPlateau", "min_lr", min_lr, groups)})
        self.last_epoch, self.best = 0, self._worst(self.mode)
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Take in a value of the metric, and reduce the rates when due."""
        try:
            value = float(metrics)
        except (TypeError, ValueError):
            expected = "ReduceLROnPlateau: expected a number as the metric"
            raise TypeError(f"{expected}, found {type(metrics).__name__}") from None
        rates = self._groups_rates()
        if self._improves(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown_counter - 1, 0
        if self.num_bad_epochs > self.patience:
            lower = [max(lr * self.factor, least) for lr, least in zip(rates, self.min_lrs, strict=True)]
            rates = [new if lr - new > self.eps else lr for lr, new in zip(rates, lower, strict=True)]
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._set(self.last_epoch + 1, rates)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": self.best if math.isfinite(self.best) else None}

    def _checked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(state)
        if checked["best"] is None:
            checked["best"] = self._worst(checked["mode"])
        return checked

    @staticmethod
    def _worst(mode: str) -> float:
        """The value that every metric improves on."""
        return math.inf if mode == "min" else -math.inf

    def _improves(self, value: float) -> bool:
        if not math.isfinite(value) or not math.isfinite(self.best):
            return math.isfinite(value)
        by = self.threshold if self.mode == "max" else -self.threshold
        rel = self.threshold_mode == "rel"
        bound = self.best * (1 + math.copysign(1.0, self.best) * by) if rel else self.best + by
        return value < bound if self.mode == "min" else value > bound
