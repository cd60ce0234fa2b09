"""Looking up names given by users, with suggestions for unknown ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def nearest(name: Any, names: Iterable[Any], most: int = 1) -> list[str]:
    """At most so many of the names, the most similarly spelled first; none that is very different."""
    import difflib

    return difflib.get_close_matches(str(name), [str(n) for n in names], most)


def hint(name: Any, names: Iterable[Any]) -> str:
    """ "; did you mean 'adam'?", to end an error message; empty if no name is similar."""
    near = nearest(name, names)
    return f"; did you mean {near[0]!r}?" if near else ""


def chosen(what: str, name: Any, table: Mapping[str, T]) -> T:
    """table[name]. ValueError, with the nearest name: no such entry."""
    if isinstance(name, str) and name in table:
        return table[name]
    near = hint(name, table) if isinstance(name, str) else ""
    raise ValueError(f"expected {what} as one of {sorted(table)}, found {name!r}{near}")
