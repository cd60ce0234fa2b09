"""Schedules by name, configured from the length of a run: for command lines and configurations.

    schedule, unit = optim.SCHEDULES["cosine"](optimizer, epochs, steps_per_epoch)

`unit` says when to call `schedule.step()`: after every "epoch" or "step" (one batch). The highest rate is the
optimizer's own. Each is made for `epochs` passes of `steps_per_epoch` steps; ValueError if either is below 1.

    name         the rate                                                                                     unit
    step         a tenth of it after each third of the epochs                                                 epoch
    multi-step   a tenth of it after half and after three quarters of the epochs (He et al. 2016)             epoch
    exponential  in equal ratios to a hundredth at the end                                                    epoch
    cosine       along half a cosine to 0 at the end                                                          step
    warm-up      up in a straight line for the first 5 % of the steps, then as cosine                         step
    one-cycle    up from a 25th for the first 30 % of the steps, then down to a 250,000th (Smith and Topin
                 2018); momentum does not change, as that would recompile a compiled step                      step
    plateau      a tenth of it when the metric has not improved for more than a tenth of the epochs, and 1    epoch

`replan` adapts a schedule to a run that turns out longer or shorter than planned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minidl.optim.checks import count
from minidl.optim.combined import SequentialLR
from minidl.optim.cycles import CosineAnnealingLR, OneCycleLR
from minidl.optim.optimizers import Optimizer
from minidl.optim.plateau import ReduceLROnPlateau
from minidl.optim.schedules import ExponentialLR, LinearLR, LRScheduler, MultiStepLR, StepLR
from minidl.shared.names import hint

Scheduled = tuple[LRScheduler, str]
Factory = Callable[[Optimizer, int, int], Scheduled]


def _step(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    return StepLR(optimizer, step_size=-(-epochs // 3)), "epoch"


def _multi_step(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    return MultiStepLR(optimizer, milestones=[-(-epochs // 2), -(-3 * epochs // 4)]), "epoch"


def _exponential(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    return ExponentialLR(optimizer, gamma=0.01 ** (1 / epochs)), "epoch"


def _cosine(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    return CosineAnnealingLR(optimizer, T_max=epochs * steps_per_epoch), "step"


def _warm_up(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    steps = epochs * steps_per_epoch
    rise = max(1, steps // 20)
    up = LinearLR(optimizer, start_factor=1 / (rise + 1), total_iters=rise)
    down = CosineAnnealingLR(optimizer, T_max=max(1, steps - rise))
    return SequentialLR(optimizer, [up, down], milestones=[rise]), "step"


def _one_cycle(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    highest = [float(group["lr"]) for group in optimizer.param_groups]
    steps = epochs * steps_per_epoch
    return OneCycleLR(optimizer, max_lr=highest, total_steps=steps, cycle_momentum=False), "step"


def _plateau(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
    return ReduceLROnPlateau(optimizer, patience=max(1, epochs // 10)), "epoch"


def _checked(name: str, make: Factory) -> Factory:
    def factory(optimizer: Optimizer, epochs: int, steps_per_epoch: int) -> Scheduled:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"schedule {name}: expected an optimizer, found {type(optimizer).__name__}")
        counts = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
        return make(optimizer, *(count(1)(f"schedule {name}", key, value) for key, value in counts.items()))

    return factory


class Schedules(dict[str, Factory]):
    """Name → function (optimizer, epochs, steps_per_epoch) → (schedule, "epoch" or "step").

    KeyError, with the nearest name, for an unknown name.
    """

    def __missing__(self, name: str) -> Factory:
        raise KeyError(f"expected a schedule of {list(self)}, found {name!r:.100}{hint(name, self)}")


def replan(name: str, schedule: Any, epochs: int, more: int) -> None:
    """Replan the rest of a run, now of `epochs`, from its current rate, for `more` steps than before.

    cosine, warm-up, one-cycle   the rest of the curve is stretched over the remaining steps
    exponential                  in equal ratios to a hundredth of the first rate at the end, if it is not below already
    step, multi-step, plateau    the fractions apply to the new length; a reduction that was made is neither undone
                                 nor repeated

    ValueError: cosine, warm-up or one-cycle has ended, at a rate of about 0.
    """
    t = getattr(schedule, "last_epoch", 0)
    if name == "step":
        schedule.step_size = -(-epochs // 3)
    elif name == "multi-step":
        passed = [m for m in schedule.milestones if m <= t]
        later = [-(-epochs // 2), -(-3 * epochs // 4)][len(passed) :]
        schedule.milestones = passed + [max(m, t + 1) for m in later]
    elif name == "exponential":
        first, now = schedule.base_lrs[0], schedule.get_last_lr()[0]
        schedule.gamma = min(1.0, 0.01 * first / now) ** (1 / max(1, epochs - t)) if now else 1.0
    elif name == "plateau":
        schedule.patience = max(1, epochs // 10)
    else:
        schedule.extend(more)


SCHEDULES = Schedules(
    {
        name: _checked(name, make)
        for name, make in {
            "step": _step,
            "multi-step": _multi_step,
            "exponential": _exponential,
            "cosine": _cosine,
            "warm-up": _warm_up,
            "one-cycle": _one_cycle,
            "plateau": _plateau,
        }.items()
    }
)
