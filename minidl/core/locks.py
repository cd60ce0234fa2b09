"""Locks, and what becomes of them in a forked child. Every lock of minidl is made here.

A child has the memory of its parent, but only the thread that forked. What another thread had locked nobody would
ever unlock: such locks are free again in the child. What the lock guards must therefore be fit for use at any moment;
where it is not (a compiler at work), the fork waits until it is.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, TypeVar

_Lock = TypeVar("_Lock")
_RENEWED: weakref.WeakSet[Any] = weakref.WeakSet()
_AWAITED: list[Any] = []
_taken: list[Any] = []


def lock() -> Any:
    """A `threading.RLock` that is free in a forked child, unless the thread that forked has it."""
    return renewed(threading.RLock())


def renewed(lock: _Lock) -> _Lock:
    """The lock of somebody else's object, made free in forked children: what it guards is fit for use at any moment."""
    _RENEWED.add(lock)
    return lock


def awaited(lock: _Lock) -> _Lock:
    """A lock without which this process does not fork: what it guards is fit for use only when it is free.

    In the order of these calls they are taken before a fork, and must be where several are taken otherwise.
    """
    _AWAITED.append(lock)
    return lock


def _before_fork() -> None:
    for lock in list(_AWAITED):
        lock.acquire()
        _taken.append(lock)


def _after_fork() -> None:
    while _taken:
        _taken.pop().release()


def _after_fork_in_child() -> None:
    for lock in list(_RENEWED):
        if not getattr(lock, "_is_owned", bool)():
            lock._at_fork_reinit()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
