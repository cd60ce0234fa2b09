"""Checks of the arguments of optimizers, schedules and clipping: each returns the plain value, or raises."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from minidl.shared.names import hint
from minidl.shared.numbers import is_number
from minidl.tensor import Tensor

Check = Callable[[str, str, Any], Any]  # (the caller, the option's name, its value) → the value


def number(
    low: float = -math.inf, high: float = math.inf, above: bool = False, below: bool = False, plainly: bool = False
) -> Check:
    """Check for a finite number from low to high; `above`, `below`: low, high excluded. Returns a float.

    plainly   mention finiteness in the message only if the value is infinite
    """
    least = f" {'>' if above else '≥'} {low:g}" if low > -math.inf else ""
    most = f"{' and' * bool(least)} {'<' if below else '≤'} {high:g}" if high < math.inf else ""

    def check(where: str, name: str, value: Any) -> float:
        if not is_number(value):
            raise TypeError(f"{where}: expected a number for {name}, found {value!r:.100}")
        try:
            x = float(value)
        except OverflowError:
            x = math.inf
        if not math.isfinite(x) or x < low or x > high or (above and x == low) or (below and x == high):
            finite = "a finite " * (not plainly or x == math.inf)
            raise ValueError(f"{where}: expected {finite * (high == math.inf)}{name}{least}{most}, found {value}")
        return x

    return check


def count(least: int) -> Check:
    """Check for an integer ≥ `least`. Returns an int."""

    def check(where: str, name: str, value: Any) -> int:
        try:
            n = operator.index(value)
        except TypeError:
            n = None
        if n is None or isinstance(value, bool):
            raise TypeError(f"{where}: expected an integer for {name}, found {value!r:.100}")
        if n < least:
            raise ValueError(f"{where}: expected {name} ≥ {least}, found {value}")
        return n

    return check


def sequence(check_one: Check) -> Check:
    """Check for a list or other iterable whose elements all pass."""

    def check(where: str, name: str, value: Any) -> list[Any]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
            raise TypeError(f"{where}: expected a list for {name}, found {value!r:.100}")
        return [check_one(where, f"{name}[{i}]", x) for i, x in enumerate(value)]

    return check


def per_group(where: str, name: str, value: Any, groups: int) -> list[Any]:
    """A list with one value per group, from such a list or a single value for all."""
    made = list(value) if isinstance(value, list | tuple) else [value] * groups
    if len(made) != groups:
        raise ValueError(f"{where}: expected {name} for {groups} groups, found {len(made)}")
    return made


def choice(*names: str) -> Check:
    """Check for one of these names."""

    def check(where: str, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            found = f"found {value!r:.100}{hint(value, names)}"
            raise ValueError(f"{where}: expected {name} to be one of {list(names)}, {found}")
        return value

    return check


def pair(check_one: Check) -> Check:
    """Check for two values that pass. Returns a tuple."""
    several = sequence(check_one)

    def check(where: str, name: str, value: Any) -> tuple[Any, ...]:
        checked = tuple(several(where, name, value))
        if len(checked) != 2:
            raise ValueError(f"{where}: expected two {name}, found {value!r:.100}")
        return checked

    return check


def tensors(where: str, given: Any, kind: str = "Tensors") -> list[Tensor]:
    """The parameters given, one Tensor or several. TypeError: anything else. ValueError: an exhausted generator."""
    if isinstance(given, Tensor):
        return [given]
    if hasattr(given, "parameters"):
        raise TypeError(f"{where}: expected {kind}, found {type(given).__name__}; give its .parameters()")
    if not isinstance(given, Iterable) or isinstance(given, set | frozenset | str):  # a set has no order to keep
        raise TypeError(f"{where}: expected {kind}, found {type(given).__name__} {given!r:.100}")
    found: list[Any] = list(given)
    for t in found:
        if not isinstance(t, Tensor):
            raise TypeError(f"{where}: expected {kind}, found {type(t).__name__} {t!r:.100}")
    if not found and isinstance(given, Iterator):
        raise ValueError(f"{where}: expected parameters, found none: a generator that has none, or is used up")
    return found


def flag(where: str, name: str, value: Any) -> bool:
    """Check for True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{where}: expected True or False for {name}, found {value!r:.100}")
    return value
