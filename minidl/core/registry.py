"""What is known by its name: ops, kernels and their variants. A name means one thing until replacement is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def enter(registry: dict[str, Any], kind: str, made: Callable[..., Any], replace: bool) -> None:
    """Put `made` into the registry under its name.

    A notebook cell that runs again, or a module that is reloaded, defines the same function anew: that replaces it.
    ValueError: the name belongs to another function, and `replace` is not set.
    """
    name = made.__name__
    known = registry.get(name)
    if known is not None and not replace and _definition(known) != _definition(made):
        raise ValueError(
            f"{kind} {made.__qualname__} of {made.__module__}: the name {name!r} is taken by {known.__qualname__} of "
            f"{known.__module__}; choose another, or replace that everywhere with replace=True"
        )
    registry[name] = made


def _definition(function: Any) -> tuple[str, str]:
    """Which definition in whose text a function comes from: the same again after an edit."""
    return function.__module__, function.__qualname__
