"""What the options of schedules and of clipping may be: each check returns the value as a plain number, or raises."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Check = Callable[[str, str, Any], Any]  # (who asks, the option's name, its value) → the value


def number(low: float = -math.inf, high: float = math.inf, above: bool = False, below: bool = False) -> Check:
    """A finite number from low to high as a float; `above`, `below`: without low, without high themselves."""
    least = f" {'>' if above else '≥'} {low:g}" if low > -math.inf else ""
    most = f"{' and' * bool(least)} {'<' if below else '≤'} {high:g}" if high < math.inf else ""

    def check(where: str, name: str, value: Any) -> float:
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(f"{where}: expected a number for {name}, found {value!r:.100}")
        try:
            x = float(value)
        except OverflowError:
            x = math.inf
        if not math.isfinite(x) or x < low or x > high or (above and x == low) or (below and x == high):
            raise ValueError(f"{where}: expected {'a finite ' * (high == math.inf)}{name}{least}{most}, found {value}")
        return x

    return check


def count(least: int) -> Check:
    """An integer ≥ `least`, as an int."""

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
    """A list, or another iterable, each of whose elements passes."""

    def check(where: str, name: str, value: Any) -> list[Any]:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise TypeError(f"{where}: expected a list for {name}, found {value!r:.100}")
        return [check_one(where, f"{name}[{i}]", x) for i, x in enumerate(value)]

    return check


def per_group(where: str, name: str, value: Any, groups: int) -> list[Any]:
    """A list of one value for each group, or the one value for all of them."""
    made = list(value) if isinstance(value, list | tuple) else [value] * groups
    if len(made) != groups:
        raise ValueError(f"{where}: expected {name} for {groups} groups, found {len(made)}")
    return made


def choice(*names: str) -> Check:
    """One of these names."""

    def check(where: str, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            found = f"found {value!r:.100}{near(value, names)}"
            raise ValueError(f"{where}: expected {name} to be one of {list(names)}, {found}")
        return value

    return check


def flag(where: str, name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{where}: expected True or False for {name}, found {value!r:.100}")
    return value


def near(name: Any, names: Any) -> str:
    """ "; did you mean …?", where one of the names is like this one."""
    import difflib

    found = difflib.get_close_matches(str(name), list(names), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
