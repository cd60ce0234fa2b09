"""Search spaces: named parameters and the distributions of their values."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidl.shared.names import hint

LARGEST = 1 << 62  # the range integers are drawn from must fit in 64 bits


class Distribution(ABC):
    """A parameter's distribution. Immutable; equal to others of the same kind and bounds."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Any:
        """Draw one value."""

    @abstractmethod
    def __contains__(self, value: object) -> bool:
        """Whether this value can be drawn."""

    @abstractmethod
    def described(self) -> Any:
        """The form in a space file, from which `as_space` restores this distribution."""


@dataclass(frozen=True)
class Uniform(Distribution):
    """A float from [low, high), density 1 / (high − low).

    TypeError: non-numeric bounds. ValueError: low ≥ high, or bounds that are non-finite or of size 2^62 and more.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self, self.low, self.high)

    def draw(self, generator: np.random.Generator) -> float:
        return float(generator.uniform(self.low, self.high))

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def described(self) -> dict[str, list[float]]:
        return {"uniform": [self.low, self.high]}


@dataclass(frozen=True)
class LogUniform(Distribution):
    """A float from [low, high) whose logarithm is uniform: density 1 / (x·ln(high / low)). For rates and scales.

    TypeError, ValueError: as for `Uniform`; low ≤ 0.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self, self.low, self.high, above_zero=True)

    def draw(self, generator: np.random.Generator) -> float:
        x = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return min(max(x, self.low), self.high)  # exp and log round

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high  # type: ignore[operator]

    def described(self) -> dict[str, list[float]]:
        return {"log_uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Integers(Distribution):
    """An integer from low to high inclusive, all equally likely.

    log    smaller ones are likelier: P(n) = ln((n + 1) / n) / ln((high + 1) / low)

    TypeError: bounds that are not integers. ValueError: low ≥ high; low < 1 with log.
    """

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if not isinstance(bound, int) or isinstance(bound, bool):
                raise TypeError(f"Integers: expected bounds as ints, found {bound!r:.60}")
        _check_bounds(self, self.low, self.high, above_zero=self.log)

    def draw(self, generator: np.random.Generator) -> int:
        if not self.log:
            return int(generator.integers(self.low, self.high, endpoint=True))
        n = math.floor(math.exp(generator.uniform(math.log(self.low), math.log(self.high + 1))))
        return min(max(n, self.low), self.high)  # exp and log round

    def __contains__(self, value: object) -> bool:
        return _is_number(value) and float(value).is_integer() and self.low <= value <= self.high  # type: ignore

    def described(self) -> dict[str, list[int]]:
        return {"log_integers" if self.log else "integers": [self.low, self.high]}


@dataclass(frozen=True)
class Choice(Distribution):
    """One of `members`, all equally likely: numbers, strings, booleans, None, or lists of such.

    TypeError: members is not a list or tuple, or JSON cannot hold one. ValueError: no members, or a duplicate.
    """

    members: Sequence[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.members, list | tuple):
            raise TypeError(f"Choice: expected a list of members, found {self.members!r:.60}")
        if not self.members:
            raise ValueError("Choice: expected at least one member, found none")
        texts = [_text("Choice", member) for member in self.members]
        if len({*texts}) < len(texts):
            again = next(text for i, text in enumerate(texts) if text in texts[:i])
            raise ValueError(f"Choice: expected members that differ, found {again} twice")
        # Lists, as files restore them, so that a resumed search sees the same.
        object.__setattr__(self, "members", tuple(json.loads(text) for text in texts))

    def draw(self, generator: np.random.Generator) -> Any:
        return self.members[int(generator.integers(len(self.members)))]

    def __contains__(self, value: object) -> bool:
        return _text("Choice", value) in [_text("Choice", member) for member in self.members]

    def described(self) -> Any:
        lone = self.members[0] if len(self.members) == 1 else None
        return list(self.members) if lone is None or isinstance(lone, list | dict) else lone


Space = dict[str, Distribution]
FORMS: dict[str, Callable[..., Distribution]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "integers": Integers,
    "log_integers": partial(Integers, log=True),
    "choice": lambda *members: Choice(members),
}


def as_space(given: Mapping[str, Any]) -> Space:
    """Make a space from names and distributions, or from their forms in a file:

        lr = {log_uniform = [1e-4, 1e-1]}     # also uniform, integers, log_integers, choice
        batch_size = [32, 64, 128]            # a choice
        epochs = 3                            # always the same

    TypeError: not a mapping, a name that is not a string, a value of another kind. ValueError: no names, nothing that
    varies, an unknown form (the nearest one is named), wrong bounds.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"space: expected a mapping of names to distributions, found {type(given).__name__}")
    if not given:
        raise ValueError("space: expected at least one parameter, found none")
    space: Space = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"space: expected names as text, found {name!r:.60}")
        try:
            space[name] = _distribution(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"space: {name}: {error}") from error
    if not any(varies(distribution) for distribution in space.values()):
        raise ValueError(f"space: expected a parameter that varies, found constants alone: {list(space)}")
    return space


def varies(distribution: Distribution) -> bool:
    """Whether it has more than one value."""
    return not isinstance(distribution, Choice) or len(distribution.members) > 1


def described(space: Space) -> dict[str, Any]:
    """A form for JSON and TOML, from which `as_space` restores the space."""
    return {name: distribution.described() for name, distribution in space.items()}


def draw(space: Space, seed: int, number: int) -> tuple[dict[str, Any], int]:
    """(settings, seed) of a trial, which depend only on the search's seed and the trial's number."""
    of_settings, of_trial = np.random.SeedSequence(seed, spawn_key=(number,)).spawn(2)
    generator = np.random.default_rng(of_settings)
    settings = {name: distribution.draw(generator) for name, distribution in space.items()}
    return settings, int(of_trial.generate_state(1)[0])


def complete(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of all parameters in the space's order; only those that do not vary may be left out.

    They need not be in the space. TypeError, ValueError: not a mapping, unknown names (the nearest one is named),
    values that JSON cannot hold.
    """
    if not isinstance(settings, Mapping):
        raise TypeError(f"baseline: expected a mapping of names to values, found {type(settings).__name__}")
    for name in settings:
        if name not in space:
            raise ValueError(f"baseline: expected a parameter of {list(space)}, found {name!r}{hint(name, space)}")
    if missing := [name for name, d in space.items() if varies(d) and name not in settings]:
        raise ValueError(f"baseline: expected a value of every parameter, found none of {missing}")
    made = {name: settings[name] if name in settings else d.members[0] for name, d in space.items()}  # type: ignore[attr-defined]
    found: dict[str, Any] = json.loads(_text("baseline", made))
    return found


def _distribution(value: Any) -> Distribution:
    if isinstance(value, Distribution):
        return value
    if isinstance(value, list | tuple):
        return Choice(value)
    if not isinstance(value, Mapping):
        return Choice([value])
    if len(value) != 1:
        raise ValueError(f"expected one of {list(FORMS)} and its bounds, found {dict(value)!r:.80}")
    [(form, bounds)] = value.items()
    if form not in FORMS:
        raise ValueError(f"expected one of {list(FORMS)}, found {form!r}{hint(form, FORMS)}")
    if not isinstance(bounds, list | tuple) or (form != "choice" and len(bounds) != 2):
        raise ValueError(f"expected {form} = [low, high], found {bounds!r:.60}")
    return FORMS[form](*bounds)


def short(value: Any) -> str:
    """A setting's value as shown in a table."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return "-".join(map(short, value)) or "none"
    return "none" if value is None else str(value)


def _check_bounds(distribution: Distribution, low: float, high: float, above_zero: bool = False) -> None:
    name = type(distribution).__name__
    for bound in (low, high):
        if not _is_number(bound):
            raise TypeError(f"{name}: expected bounds as numbers, found {bound!r:.60}")
    if not all(abs(value) < LARGEST for value in (low, high)):
        raise ValueError(f"{name}: expected bounds of a size below 2^62, found {low!r:.40} and {high!r:.40}")
    if not low < high:
        raise ValueError(f"{name}: expected low < high, found {low} and {high}")
    if above_zero and not low > 0:
        raise ValueError(f"{name}: expected bounds above 0 to take logarithms of, found {low} and {high}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(where: str, value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{where}: expected what JSON can hold, found {value!r:.80}") from error
