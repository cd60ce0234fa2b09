"""Registries of ops, kernels and their variants by name. A name is replaced only on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def enter(registry: dict[str, Any], kind: str, made: Callable[..., Any], replace: bool) -> None:
    """Register `made` under its name.

    Running a notebook cell again or reloading a module redefines the same function, which replaces it.
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
    """(where a function is defined, its qualified name): the same again after an edit."""
    return function.__module__, function.__qualname__
