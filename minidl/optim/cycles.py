"""Schedules along a cosine, with and without restarts, and the one cycle. See `schedules` for what they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from minidl.optim.checks import choice, count, flag, number, per_group, sequence
from minidl.optim.optimizers import Optimizer
from minidl.optim.schedules import LRScheduler


class CosineAnnealingLR(LRScheduler):
    """ηₜ = eta_min + (η₀ − eta_min) · (1 + cos(πt / T_max)) / 2: down to eta_min at T_max, then up again.

    Loshchilov and Hutter 2017, equation 5, without the restarts.

    >>> optimizer = optim.SGD([minidl.Tensor([0.0], requires_grad=True)], lr=1.0)
    >>> schedule = optim.CosineAnnealingLR(optimizer, T_max=4)
    >>> rates = []
    >>> for epoch in range(4):
    ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [1.0, 0.854, 0.5, 0.146]
    """

    options: ClassVar = {"T_max": count(1), "eta_min": number(0)}
    keeps_rates = True
    end = "T_max"
    T_max: int
    eta_min: float

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        super().__init__(optimizer, last_epoch, T_max=T_max, eta_min=eta_min)

    def rate(self, t: int, lr: float, base: float) -> float:
        if t == 0:
            return lr
        if (t - 1) % (2 * self.T_max) == self.T_max:  # at the minimum, where the ratio below would be 0 / 0
            return lr + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        share = (1 + math.cos(math.pi * t / self.T_max)) / (1 + math.cos(math.pi * (t - 1) / self.T_max))
        return share * (lr - self.eta_min) + self.eta_min


class CosineAnnealingWarmRestarts(LRScheduler):
    """ηₜ = eta_min + (η₀ − eta_min) · (1 + cos(πk / T)) / 2, where k counts the steps since the last restart.

    The first restart is at step T = T_0, and each run is T_mult times as long as the one before.
    Loshchilov and Hutter 2017, equation 5.
    """

    options: ClassVar = {"T_0": count(1), "T_mult": count(1), "eta_min": number(0)}
    T_0: int
    T_mult: int
    eta_min: float

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        super().__init__(optimizer, last_epoch, T_0=T_0, T_mult=T_mult, eta_min=eta_min)

    def rate(self, t: float, lr: float, base: float) -> float:
        k, length = t, self.T_0
        if self.T_mult == 1:
            k = t % length
        while k >= length:
            k, length = k - length, length * self.T_mult
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * k / length)) / 2

    def step(self, epoch: float | None = None) -> None:
        """Advance to the next step, or to `epoch`, which may be a fraction: `epoch + batch / batches`."""
        if epoch is None:
            super().step()
        else:
            t = number(0)("CosineAnnealingWarmRestarts", "epoch", epoch)
            rates = zip(self._groups_rates(), self.base_lrs, strict=True)
            self._set(math.floor(t), [self.rate(t, lr, base) for lr, base in rates])


class OneCycleLR(LRScheduler):
    """The rate rises from max_lr / div_factor to max_lr in the first `pct_start` of the steps, then falls far below.

    Step it after each batch, at most total_steps times.

    max_lr                        the highest rate, or a list with one per group
    total_steps                   of the run; or give epochs and steps_per_epoch
    anneal_strategy               "cos" or "linear": the interpolation between rates
    cycle_momentum                while the rate rises, momentum (SGD) or betas[0] (Adam) falls from max_momentum to
                                  base_momentum (each a number, or one per group), then rises again
    div_factor, final_div_factor  the rate starts at max_lr / div_factor and ends at that / final_div_factor
    three_phase                   fall back to the start in as many steps as the rise took, and only then to the end

    As in PyTorch, cycle_momentum is on by default. `minidl.compile` treats momentum and betas as constants: each new
    momentum recompiles the step, which takes longer than running it. With a compiled step pass cycle_momentum=False.
    Smith and Topin 2018.
    """

    options: ClassVar = {
        "total_steps": count(1),
        "max_lrs": sequence(number(0)),
        "pct_start": number(0, 1),
        "anneal_strategy": choice("cos", "linear"),
        "cycle_momentum": flag,
        "base_momentums": sequence(number(0, 1, below=True)),
        "max_momentums": sequence(number(0, 1, below=True)),
        "div_factor": number(0, above=True),
        "final_div_factor": number(0, above=True),
        "three_phase": flag,
    }
    end = "total_steps"
    total_steps: int
    max_lrs: list[float]
    pct_start: float
    anneal_strategy: str
    cycle_momentum: bool
    base_momentums: list[float]
    max_momentums: list[float]
    div_factor: float
    final_div_factor: float
    three_phase: bool

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        groups = self._check_optimizer(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch, found neither")
            parts = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
            total_steps = math.prod(count(1)("OneCycleLR", name, value) for name, value in parts.items())
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            found = f"found a {type(optimizer).__name__}, with neither"
            raise ValueError(f"OneCycleLR: expected an optimizer with momentum or betas for cycle_momentum, {found}")
        super().__init__(
            optimizer,
            last_epoch,
            total_steps=total_steps,
            max_lrs=per_group("OneCycleLR", "max_lr", max_lr, groups),
            pct_start=pct_start,
            anneal_strategy=anneal_strategy,
            cycle_momentum=cycle_momentum,
            base_momentums=per_group("OneCycleLR", "base_momentum", base_momentum, groups),
            max_momentums=per_group("OneCycleLR", "max_momentum", max_momentum, groups),
            div_factor=div_factor,
            final_div_factor=final_div_factor,
            three_phase=three_phase,
        )

    def _first_rates(self, last_epoch: int) -> list[float]:
        return super()._first_rates(last_epoch) if last_epoch >= 0 else [lr / self.div_factor for lr in self.max_lrs]

    def extend(self, more: int) -> None:
        passed, before = self.last_epoch + 1, self.total_steps - self.last_epoch - 1
        if before <= 0:
            raise ValueError(
                f"OneCycleLR: expected a cycle with steps left to plan anew, found it at its end, {passed}"
            )
        super().extend(more)
        if after := before + more:
            passed = -(-passed * after // before)
            self.last_epoch, self.total_steps = passed - 1, passed + after

    def rates(self, t: int, lrs: list[float]) -> list[float]:
        if t > self.total_steps:
            raise ValueError(f"OneCycleLR: expected at most {self.total_steps} steps, found one more")
        ends = zip(self.base_lrs, self.max_lrs, strict=True)
        return [self._at(t, low, high, low / self.final_div_factor) for low, high in ends]

    def _set(self, t: int, rates: list[float]) -> None:
        super()._set(t, rates)
        momentums = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
        for group, low, high in momentums if self.cycle_momentum else ():
            momentum = self._at(t, high, low, high)
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _at(self, t: int, first: float, peak: float, last: float) -> float:
        """The value at step t of a curve from `first` through `peak`, where the rate is highest, to `last`."""
        rise = self.pct_start * self.total_steps
        ways = [(rise - 1, first, peak), (self.total_steps - 1, peak, last)]
        if self.three_phase:
            ways[1:] = [(2 * self.pct_start * self.total_steps - 2, peak, first), (self.total_steps - 1, first, last)]
        n = next((n for n, (end, _, _) in enumerate(ways) if t <= end), len(ways) - 1)
        (end, a, b), begin = ways[n], ways[n - 1][0] if n else 0.0
        share = (t - begin) / (end - begin) if end != begin else 1.0
        if self.anneal_strategy == "linear":
            return (b - a) * share + a
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))
