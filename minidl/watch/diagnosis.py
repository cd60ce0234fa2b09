"""Diagnose a run: short rules over the measurements of one step.

A rule makes a remark; a remark repeated at enough consecutive watched steps becomes a finding. The thresholds are rules
of thumb, on the safe side of healthy nets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.tensor import Array
from minidl.watch.activations import Activations
from minidl.watch.findings import TOLD, Finding
from minidl.watch.parameters import Moved

DEAD = 0.5  # of a layer's ReLU units
SATURATED = 0.5  # of a layer's values
VANISHING = 1e-4  # the gradient of a weight (rms), relative to the largest of all parameters
EXPLODING = 100.0  # the norm of a weight's gradient, relative to the norm of all weights
LARGE, HUGE, SMALL = 0.1, 0.5, 1e-5  # ‖Δθ‖/‖θ‖ of a weight; 1e-3 is usual (Karpathy 2015, CS231n)
STUCK = 0.03  # relative to the loss of guessing: no better if this near
FEWEST, MOST = 100, 1000  # steps after which, at an epoch's end between them, the loss should have moved

_STILL = {
    "frozen": "requires_grad is False",
    "unreached": "no way leads there from the loss, so that no gradient arrives",
    "forgotten": "gradients arrive, but are not among those of the optimizer's param_groups",
    "rate": "the learning rate is 0",
    "idle": "no step was large enough to move anything",
}


@dataclass
class _Remark:
    kind: str
    layer: str | None
    fact: str
    needed: float = 2  # consecutive watched steps
    told: str | None = None  # the entry with cause and advice, if not the kind's
    key: str = ""  # identifies the remark across steps, beside its kind


class Diagnosis:
    """The state of the rules. findings: all so far, in order of detection.

    guesses    the loss of guessing: description → number
    patience   the number of steps in which the loss should get below them
    """

    def __init__(self, guesses: Mapping[str, float], patience: int) -> None:
        self.guesses, self.patience = dict(guesses), patience
        self.findings: list[Finding] = []
        self._streaks: Counter[tuple[str, str]] = Counter()
        self._known: dict[tuple[str, str], Finding] = {}
        self._idle: dict[str, Array] = {}  # the number of watched steps each unit has been 0
        self._most: dict[str, float] = {}  # the largest ‖Δθ‖/‖θ‖ so far

    def look(
        self, step: int, layers: Mapping[str, Activations], parameters: Sequence[Moved], loss: float, probes: int
    ) -> None:
        """Apply the rules to one watched step. loss: its mean since the previous one."""
        made = {(r.kind, r.key): r for r in self._remarks(step, layers, parameters, loss, probes)}
        self._streaks = Counter({key: self._streaks[key] + 1 for key in made})
        for key, remark in made.items():
            if key in self._known:
                self._known[key].last = step
            elif self._streaks[key] >= remark.needed:
                cause, advice = TOLD[remark.told or remark.kind]
                self._known[key] = Finding(remark.kind, remark.layer, remark.fact, cause, advice, step, step)
                self.findings.append(self._known[key])

    def _remarks(
        self, step: int, layers: Mapping[str, Activations], parameters: Sequence[Moved], loss: float, probes: int
    ) -> Iterator[_Remark]:
        weights = [p for p in parameters if p.judged]
        yield from _nonfinite(layers, parameters)
        yield from self._dead(layers, probes)
        yield from _saturated(layers)
        blocked = any(layer.idle is not None and layer.idle.all() for layer in layers.values())
        small = [] if blocked else list(_vanishing(weights, parameters))
        yield from small
        yield from _exploding(weights)
        yield from _large(weights, first=step == 1)
        yield from self._too_little(parameters, quiet=blocked or bool(small))
        yield from self._stuck(step, loss)

    def _dead(self, layers: Mapping[str, Activations], probes: int) -> Iterator[_Remark]:
        for name, layer in layers.items():
            if layer.idle is None:
                continue
            before = self._idle.get(name)
            zeros = np.zeros(layer.idle.shape, int) if before is None or before.shape != layer.idle.shape else before
            self._idle[name] = count = np.where(layer.idle, zeros + 1, 0)
            dead = int((count >= 2).sum())
            if dead >= DEAD * count.size:
                fact = (
                    f"{dead:,} of {count.size:,} units of {layer.title} are dead ReLUs, which were 0 for each of "
                    f"{probes:,} examples at two watched steps or more, and learn nothing"
                )
                yield _Remark("dead", name, fact, needed=1, key=name)

    def _too_little(self, parameters: Sequence[Moved], quiet: bool) -> Iterator[_Remark]:
        """Parameters that change little or not at all. quiet: small gradients are already explained."""
        still: dict[str, list[Moved]] = {}
        for p in parameters:
            if not math.isnan(p.update):
                self._most[p.name] = max(self._most.get(p.name, 0.0), p.ratio)
            if self._most.get(p.name) == 0:
                still.setdefault(_reason(p), []).append(p)
        for reason, found in still.items():
            if reason != "idle" or not quiet:
                fact = f"{_several([p.title for p in found])} never changed: {_STILL[reason]}"
                yield _Remark("unchanged", found[0].layer, fact, told=reason, key=reason)
        if not quiet:
            small = [p for p in parameters if p.judged and 0 < self._most.get(p.name, 0) < SMALL]
            if small:
                least = min(small, key=lambda p: self._most[p.name])
                fact = (
                    f"no step has changed {least.title}{_others(small)} by more than {self._most[least.name]:.1g} "
                    "of its size; a thousandth is usual"
                )
                yield _Remark("small_updates", least.layer, fact, needed=3)

    def _stuck(self, step: int, loss: float) -> Iterator[_Remark]:
        for guess, value in self.guesses.items():
            if abs(loss - value) <= STUCK * value:
                fact = f"the loss stands at {loss:.3f}, what {guess} costs: nothing is learned from the inputs"
                yield _Remark("stuck", None, fact, needed=3 if step >= self.patience else math.inf)
                return


def _reason(p: Moved) -> str:
    """The reason why a parameter does not change."""
    if not p.tensor.requires_grad:
        return "frozen"
    if p.gradient is None:
        return "unreached"
    if p.lr is None:
        return "forgotten"
    return "idle" if p.lr else "rate"


def _nonfinite(layers: Mapping[str, Activations], parameters: Sequence[Moved]) -> Iterator[_Remark]:
    for name, layer in layers.items():
        if layer.nonfinite:
            fact = f"{layer.nonfinite:,} of {layer.count:,} values of {layer.title} are NaN or infinite"
            yield _Remark("nonfinite", name, fact, needed=1, key="values")
            break  # non-finite values spread from there
    for p in reversed(parameters):  # the backward pass reaches the last first
        if p.nonfinite:
            fact = f"{p.nonfinite:,} of {p.tensor.size:,} values in the gradient of {p.title} are NaN or infinite"
            yield _Remark("nonfinite", p.layer, fact, needed=1, key="gradients")
            break


def _saturated(layers: Mapping[str, Activations]) -> Iterator[_Remark]:
    for name, layer in layers.items():
        share = layer.saturated / max(layer.count, 1)
        if share > SATURATED and not layer.result:  # an output sigmoid should saturate
            values = f"{100 * share:.0f} % of the values of {layer.title}"
            fact = f"{values} are saturated, where {layer.function} is all but flat"
            yield _Remark("saturated", name, fact, key=name)


def _vanishing(weights: Sequence[Moved], parameters: Sequence[Moved]) -> Iterator[_Remark]:
    known = [p for p in parameters if p.gradient is not None and not p.nonfinite]
    most = max(known, key=lambda p: p.rms, default=None)
    small = [p for p in weights if most and most.rms and p.rms <= VANISHING * most.rms and not p.nonfinite]
    if most is not None and small:
        first = small[0]
        fact = (
            f"the gradient vanishes: that of {first.title}{_others(small)} has an rms of {first.rms:.1g}, "
            f"{first.rms / most.rms:.1g} of that of {most.title}"
        )
        yield _Remark("vanishing", first.layer, fact)


def _exploding(weights: Sequence[Moved]) -> Iterator[_Remark]:
    size = math.sqrt(sum(p.norm**2 for p in weights))
    known = [(p.gradient, p) for p in weights if p.gradient is not None and math.isfinite(p.gradient)]
    large = [(gradient, p) for gradient, p in known if gradient > EXPLODING * size]
    if large and size:
        gradient, most = max(large, key=lambda pair: pair[0])
        fact = (
            f"the gradient explodes: that of {most.title}{_others(large)} has a norm of {gradient:.2g}, "
            f"while all weights together have {size:.2g}"
        )
        yield _Remark("exploding", most.layer, fact, needed=1)


def _large(weights: Sequence[Moved], first: bool) -> Iterator[_Remark]:
    """Steps too large for a weight; reported at once from half its norm. Adam's first step is always large."""
    known = [p for p in weights if math.isfinite(p.ratio)]
    most = max(known, key=lambda p: p.ratio, default=None)
    if most is not None and most.ratio > (HUGE if first else LARGE):
        fact = (
            f"the steps are large: one changed {most.title}{_others([p for p in known if p.ratio > LARGE])} "
            f"by {100 * most.ratio:.0f} % of its size; a thousandth is usual"
        )
        yield _Remark("large_updates", most.layer, fact, needed=1 if most.ratio > HUGE else 3)


def _others(found: Sequence[Any]) -> str:
    return f" (and of {len(found) - 1} more)" if len(found) > 1 else ""


def _several(titles: list[str], most: int = 4) -> str:
    shown = titles[:most] + ([f"{len(titles) - most} more"] if len(titles) > most else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
