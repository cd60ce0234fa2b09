"""Locks that survive a fork. Every lock of minidl is made here.

A forked child has its parent's memory but only the thread that forked, so a lock held by another thread would never be
released: such locks are released in the child. What they guard must therefore be consistent at every moment; where it
is not (a compiler at work), the fork waits until it is.
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
    """A `threading.RLock` that is free in a forked child unless the forking thread holds it."""
    return renewed(threading.RLock())


def renewed(lock: _Lock) -> _Lock:
    """Make a lock of another object free in forked children. What it guards must be consistent at every moment."""
    _RENEWED.add(lock)
    return lock


def awaited(lock: _Lock) -> _Lock:
    """A lock that is acquired before this process forks: what it guards is consistent only while it is free.

    A fork acquires them in the order of these calls; code that holds several must acquire them in that order too.
    """
    if not _AWAITED and hasattr(os, "register_at_fork"):
        # Only now, since hooks run last registered first: a compiling thread logs, so this comes before logging's own.
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
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


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
