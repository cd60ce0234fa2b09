"""Learning-rate schedules. Names, arguments, defaults and rates are PyTorch's.

    schedule = optim.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        …                   # optimizer.step() for each batch
        schedule.step()     # sets the rates of the next epoch (or of the next batch, if called after each)

A schedule sets `optimizer.param_groups[i]["lr"]`, first on construction, at step t = 0. Below, η₀ is the group's rate
at that time, kept as its "initial_lr", and ηₜ the rate at step t. As in PyTorch, most schedules compute ηₜ from ηₜ₋₁,
so that several can act on one optimizer, and continue from a rate set by hand; the formulas in η₀ are those of a
schedule acting alone.

To resume, construct optimizer and schedule as before, then load the state dictionaries of both. The rates themselves
are the optimizer's state; a schedule constructed after the optimizer has loaded its state would change them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from minidl.optim.checks import Check, count, number, per_group, sequence
from minidl.optim.optimizers import Optimizer

_RATE = number(0)
_TOTAL, _SHARE = count(1), number(0, 1)


class LRScheduler:
    """The base class: the current step, and the state dictionary.

    optimizer    the rates of all its present groups are set
    last_epoch   t − 1 to begin at a step t other than 0: PyTorch's older way to resume. The groups must have an
                 "initial_lr" then, and for most schedules their present rates are those of step t

    TypeError, ValueError: an option of a wrong type, or out of range. KeyError: last_epoch ≥ 0 without "initial_lr".
    """

    options: ClassVar[dict[str, Check]] = {}  # the constructor's arguments
    position: ClassVar[dict[str, Check]] = {  # the progress so far
        "last_epoch": count(0),
        "base_lrs": sequence(_RATE),
        "_last_lr": sequence(number()),
    }
    keeps_rates = False  # when constructed with a last_epoch
    needs_metric = False  # whether step() takes a metric
    end: ClassVar[str | None] = None  # the option that is the plan's number of steps

    optimizer: Optimizer
    base_lrs: list[float]
    last_epoch: int
    _last_lr: list[float]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, **options: Any) -> None:
        self._make(optimizer, options)
        before = count(-1)(type(self).__name__, "last_epoch", last_epoch)
        for i, group in enumerate(optimizer.param_groups):
            if before >= 0 and "initial_lr" not in group:
                where = f"{type(self).__name__}: expected initial_lr in param_groups[{i}]"
                raise KeyError(f"{where}, where last_epoch is {before}, found {sorted(group)}")
        self.base_lrs = self._first_rates(before)
        rates = self._last_lr if before >= 0 and self.keeps_rates else self.rates(before + 1, self._last_lr)
        for group, base in zip(optimizer.param_groups, self.base_lrs, strict=True):
            group["initial_lr"] = base
        self._set(before + 1, rates)

    def _make(self, optimizer: Optimizer, options: dict[str, Any]) -> None:
        """Take these options and the current rates."""
        self._check_optimizer(optimizer)
        checked = {key: self.options[key](type(self).__name__, key, value) for key, value in options.items()}
        vars(self).update(checked, optimizer=optimizer)
        self._last_lr = [float(group["lr"]) for group in optimizer.param_groups]

    def _check_optimizer(self, optimizer: Optimizer) -> int:
        """The number of its groups. TypeError: not an Optimizer."""
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimizer, found {type(optimizer).__name__}")
        return len(optimizer.param_groups)

    def _first_rates(self, last_epoch: int) -> list[float]:
        """η₀ of every group."""
        return [float(group.get("initial_lr", group["lr"])) for group in self.optimizer.param_groups]

    def rate(self, t: int, lr: float, base: float) -> float:
        """ηₜ of a group, from ηₜ₋₁ (`lr`; at t = 0 its current rate) and η₀ (`base`)."""
        raise NotImplementedError

    def rates(self, t: int, lrs: list[float]) -> list[float]:
        """`rate` for all groups."""
        return [self.rate(t, lr, base) for lr, base in zip(lrs, self.base_lrs, strict=True)]

    def step(self) -> None:
        """Advance to the next step. ValueError: the number of the optimizer's groups has changed."""
        self._set(self.last_epoch + 1, self.rates(self.last_epoch + 1, self._groups_rates()))

    def _begin(self, lrs: list[float] | None = None) -> None:
        """Restart at step 0, from η₀ or these rates."""
        self._set(0, self.rates(0, self.base_lrs if lrs is None else lrs))

    @property
    def left(self) -> int | None:
        """Steps until the end of the plan (negative: since); None for a rule without an end."""
        return None if self.end is None else getattr(self, self.end) - self.last_epoch

    def extend(self, more: int) -> None:
        """Extend the plan by `more` steps (shorten it if negative), without a jump of the rate.

        The step is moved so that the same fraction of the plan is done. Does nothing for a schedule without an end.
        ValueError: the end is reached, or the new one would be in the past.
        """
        left, who = self.left, type(self).__name__
        if self.end is None or left is None:
            return
        if left <= 0:
            raise ValueError(
                f"{who}: expected a plan with steps left to plan anew, found the last, with {self._last_lr}"
            )
        if left + more <= 0:
            raise ValueError(f"{who}: expected a new end after step {self.last_epoch}, found {left + more} steps left")
        passed = -(-self.last_epoch * (left + more) // left)
        vars(self).update({self.end: passed + left + more, "last_epoch": passed})

    def get_last_lr(self) -> list[float]:
        """The rate of every group, as this schedule last set it."""
        return list(self._last_lr)

    def _groups_rates(self) -> list[float]:
        groups, known = self.optimizer.param_groups, len(self._last_lr)
        if len(groups) != known:
            found = f"found {len(groups)}; make it after the last add_param_group"
            raise ValueError(f"{type(self).__name__}: expected the {known} groups that it was made for, {found}")
        return [float(group["lr"]) for group in groups]

    def _set(self, t: int, rates: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self.last_epoch, self._last_lr = t, rates

    # -------------------------------------------------------------------------- dictionary form

    def state_dict(self) -> dict[str, Any]:
        """Options and position, as numbers, strings and lists, which JSON can hold."""
        state = {key: getattr(self, key) for key in (*self.options, *self.position)}
        return {key: list(value) if isinstance(value, list) else value for key, value in state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load such a dictionary, options included, checking all before anything changes. Rates do not change.

        KeyError: missing or unknown keys. TypeError, ValueError: as for the options, or another number of groups.
        """
        self._take(self._checked(state_dict))

    def _checked(self, state: Mapping[str, Any]) -> dict[str, Any]:
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping):
            raise TypeError(f"{where}: expected a dict, found {type(state).__name__}")
        checks = {**self.options, **self.position}
        if set(checks) != set(state):
            missing, unknown = sorted(set(checks) - set(state)), sorted(map(str, set(state) - set(checks)))
            raise KeyError(
                f"{where}: expected the keys of its state_dict, found {missing} missing and {unknown} unknown"
            )
        checked = {key: check(where, key, state[key]) for key, check in checks.items()}
        groups = len(self._last_lr)
        for key, value in checked.items():
            if key.endswith(("_lr", "lrs", "momentums")) and len(value) != groups:
                raise ValueError(f"{where}: expected {key} of {groups} groups, found {len(value)}")
        return checked

    def _take(self, checked: dict[str, Any]) -> None:
        vars(self).update(checked)


class LambdaLR(LRScheduler):
    """ηₜ = η₀ · λ(t).   lr_lambda: λ, a function of the step t, or a list with one per group.

    The functions are not in the state dictionary. ValueError: not one function per group, or a factor that is not
    finite and ≥ 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = per_group("LambdaLR", "lr_lambda", lr_lambda, self._check_optimizer(optimizer))
        for f in self.lr_lambdas:
            if not callable(f):
                raise TypeError(f"LambdaLR: expected a function for lr_lambda, found {f!r:.100}")
        super().__init__(optimizer, last_epoch)

    def rates(self, t: int, lrs: list[float]) -> list[float]:
        factors = [_RATE("LambdaLR", f"λ({t})", f(t)) for f in self.lr_lambdas]
        return [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]


class StepLR(LRScheduler):
    """ηₜ = η₀ · gamma^⌊t / step_size⌋: every `step_size` steps the rate is multiplied by gamma."""

    options: ClassVar = {"step_size": count(1), "gamma": _RATE}
    step_size: int
    gamma: float

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch, step_size=step_size, gamma=gamma)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.gamma if t > 0 and t % self.step_size == 0 else lr


class MultiStepLR(LRScheduler):
    """ηₜ = η₀ · gamma^(number of milestones ≤ t).   milestones: steps in any order; duplicates count"""

    options: ClassVar = {"milestones": sequence(count(0)), "gamma": _RATE}
    milestones: list[int]
    gamma: float

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, last_epoch, milestones=milestones, gamma=gamma)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.gamma ** Counter(self.milestones)[t]


class ConstantLR(LRScheduler):
    """ηₜ = η₀ · factor before step total_iters, then η₀.   0 < factor ≤ 1"""

    options: ClassVar = {"factor": number(0, 1, above=True), "total_iters": _TOTAL}
    factor: float
    total_iters: int

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch, factor=factor, total_iters=total_iters)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.factor if t == 0 else lr * (1 / self.factor) if t == self.total_iters else lr


class LinearLR(LRScheduler):
    """ηₜ = η₀ · (start_factor + (end_factor − start_factor) · min(t, total_iters) / total_iters): the usual warm-up.

    0 < start_factor ≤ 1,  0 ≤ end_factor ≤ 1
    """

    options: ClassVar = {"start_factor": number(0, 1, above=True), "end_factor": _SHARE, "total_iters": _TOTAL}
    keeps_rates = True
    end = "total_iters"
    start_factor: float
    end_factor: float
    total_iters: int

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        factors = {"start_factor": start_factor, "end_factor": end_factor}
        super().__init__(optimizer, last_epoch, **factors, total_iters=total_iters)

    @property
    def left(self) -> int | None:
        return None if self.end_factor else super().left  # a final rate above 0 stays

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0:
            return lr * self.start_factor
        if t > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        return lr * (1 + rise / (self.total_iters * self.start_factor + (t - 1) * rise))


class ExponentialLR(LRScheduler):
    """ηₜ = η₀ · gammaᵗ"""

    options: ClassVar = {"gamma": _RATE}
    keeps_rates = True
    gamma: float

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch, gamma=gamma)

    def rate(self, t: int, lr: float, base: float) -> float:
        return lr * self.gamma if t > 0 else lr


class PolynomialLR(LRScheduler):
    """ηₜ = η₀ · (1 − min(t, total_iters) / total_iters)^power"""

    options: ClassVar = {"total_iters": _TOTAL, "power": _RATE}
    keeps_rates = True
    end = "total_iters"
    total_iters: int
    power: float

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch, total_iters=total_iters, power=power)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0 or t > self.total_iters:
            return lr
        return float(lr * ((1 - t / self.total_iters) / (1 - (t - 1) / self.total_iters)) ** self.power)
