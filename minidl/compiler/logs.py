"""Steps that add to a list, dict or set, as to a log: only the recording call does so, so nothing may depend on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.program import Program
from minidl.compiler.traced import CompileError


def commit(program: Program, rebound: set[Any], record_again: Callable[[], Program]) -> None:
    """Apply the function's changes to Python objects (see `Recording.commit`).

    CompileError if recording again after an addition gives another step, which then computes with what it adds to.
    The additions are undone.
    """
    owners = {id(change.owner): change.owner for change in program.made.changes if change.adds}
    before = [(owner, copy.copy(owner)) for owner in owners.values()]
    names = [change.name for change in program.made.changes if change.adds]
    program.made.commit(rebound)
    if before and not _same(program, record_again()):
        for owner, items in before:
            _take_out(owner, items)
        raise CompileError(
            f"compile: the step adds to {' and '.join(dict.fromkeys(names))} in Python, which would happen only once, "
            "and computes with what is in it; do that outside of the compiled function"
        )


def _same(a: Program, b: Program) -> bool:
    if a.loops != b.loops:
        return False
    pairs = zip(a.constants, b.constants, strict=True)
    return all(x.source is y.source or np.array_equal(x.source, y.source, equal_nan=True) for x, y in pairs)


def _take_out(owner: Any, items: Any) -> None:
    if isinstance(owner, dict):
        for key in [k for k in owner if k not in items]:
            del owner[key]
    elif isinstance(owner, set):
        owner.intersection_update(items)
    else:
        while len(owner) > len(items):
            owner.pop()
