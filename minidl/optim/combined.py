"""Combined schedules of one optimizer: one after another, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from minidl.optim.checks import count, number, sequence
from minidl.optim.optimizers import Optimizer
from minidl.optim.schedules import LRScheduler


def _any(where: str, name: str, value: Any) -> Any:
    """Accept anything: the schedule that gets the value checks it."""
    return value


class _Several(LRScheduler):
    """The base class: schedules of one optimizer, none of which needs a metric."""

    options: ClassVar = {"_schedulers": sequence(_any)}
    position: ClassVar = {"_last_lr": sequence(number())}
    _schedulers: list[LRScheduler]

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> None:
        name = type(self).__name__
        self._schedulers = list(schedulers)
        if not self._schedulers:
            raise ValueError(f"{name}: expected at least one schedule, found none")
        for i, schedule in enumerate(self._schedulers):
            if not isinstance(schedule, LRScheduler):
                raise TypeError(f"{name}: expected schedules, found {type(schedule).__name__} at {i}")
            if schedule.needs_metric:
                raise ValueError(
                    f"{name}: {type(schedule).__name__} at {i} needs a metric in each step; step it yourself"
                )
            if schedule.optimizer is not (optimizer or self._schedulers[0].optimizer):
                raise ValueError(f"{name}: expected schedules of one optimizer, found another one's at {i}")
        self._make(self._schedulers[0].optimizer, {})

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [schedule.state_dict() for schedule in self._schedulers]}

    def _checked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(state)
        states, mine = checked["_schedulers"], self._schedulers
        if len(states) != len(mine):
            where = f"{type(self).__name__}.load_state_dict"
            raise ValueError(f"{where}: expected the states of {len(mine)} schedules, found {len(states)}")
        checked["_schedulers"] = [schedule._checked(state) for schedule, state in zip(mine, states, strict=True)]
        return checked

    def _take(self, checked: dict[str, Any]) -> None:
        for schedule, inner in zip(self._schedulers, checked.pop("_schedulers"), strict=True):
            schedule._take(inner)
        super()._take(checked)


class SequentialLR(_Several):
    """One schedule after another: at step milestones[i], schedulers[i + 1] begins with its own step 0, from its η₀.

        warm_up = optim.LinearLR(optimizer, start_factor=0.1, total_iters=5)
        optim.SequentialLR(optimizer, [warm_up, optim.CosineAnnealingLR(optimizer, T_max=95)], milestones=[5])

    ValueError: no schedules, different optimizers, a schedule that needs a metric, or not one milestone fewer.
    """

    options: ClassVar = {**_Several.options, "_milestones": sequence(count(0))}
    position: ClassVar = {**_Several.position, "last_epoch": count(0)}
    _milestones: list[int]

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]) -> None:
        self._check_optimizer(optimizer)
        super().__init__(schedulers, optimizer)
        self._milestones = sequence(count(0))("SequentialLR", "milestones", milestones)
        self._check_milestones("SequentialLR", self._milestones)
        self._begin([float(group["initial_lr"]) for group in optimizer.param_groups])

    def _check_milestones(self, where: str, milestones: list[int]) -> None:
        n = len(self._schedulers)
        if len(milestones) != n - 1 or sorted(milestones) != milestones:
            raise ValueError(f"{where}: expected {n - 1} milestones in order for {n} schedules, found {milestones}")

    def _checked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(state)
        self._check_milestones("SequentialLR.load_state_dict", checked["_milestones"])
        return checked

    def _begin(self, lrs: list[float] | None = None) -> None:
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._begin(lrs)
        self.last_epoch, self._last_lr = 0, first.get_last_lr()

    @property
    def left(self) -> int | None:
        last = self._schedulers[-1].left
        return None if last is None else last + max(0, max(self._milestones, default=0) - self.last_epoch)

    def extend(self, more: int) -> None:
        """Extend the last schedule; the others do not change."""
        self._schedulers[-1].extend(more)

    def step(self) -> None:
        t = self.last_epoch + 1
        n = bisect_right(self._milestones, t)
        if n > 0 and self._milestones[n - 1] == t:
            self._schedulers[n]._begin()
        else:
            self._schedulers[n].step()
        self.last_epoch, self._last_lr = t, self._schedulers[n].get_last_lr()


class ChainedScheduler(_Several):
    """All schedules at once: each step steps each of them in order, so that their factors multiply.

    This holds for schedules that continue from the last rate (see `schedules`); others undo those before them.
    ValueError: as for SequentialLR.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        super().__init__(schedulers, optimizer)

    def _begin(self, lrs: list[float] | None = None) -> None:
        for schedule in self._schedulers:
            schedule._begin(lrs)
            lrs = schedule.get_last_lr()
        self._last_lr = self._schedulers[-1].get_last_lr()

    @property
    def left(self) -> int | None:
        return min((s.left for s in self._schedulers if s.left is not None), default=None)

    def extend(self, more: int) -> None:
        for schedule in self._schedulers:
            schedule.extend(more)

    def step(self) -> None:
        for schedule in self._schedulers:
            schedule.step()
        self._last_lr = self._schedulers[-1].get_last_lr()
