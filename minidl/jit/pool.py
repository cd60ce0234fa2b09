"""The thread pool that parallel kernels share, and how many threads it has.

A kernel declared with `parallel=` has a second build in which `prange` is parallel, used when that predicate
says that the arguments are worth it. Each parallel iteration owns its output, so both builds give the same
bits, and whenever the thread pool cannot be entered (one thread asked for, a forked child, `workqueue` busy
in another Python thread) the serial build runs instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from minidl.core import locks
from minidl.jit.environment import interpreted


class Parallel(Protocol):
    """A kernel as the pool sees it: its two builds, compiled on first use."""

    @property
    def serial(self) -> Callable[..., Any]: ...

    @property
    def threaded(self) -> Callable[..., Any]: ...


class _Pool:
    """Numba's thread pool: how many threads to use, and whether it may be entered now."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.lost = False  # in a forked child of a process whose pool was running
        self.reentrant = False  # whether several Python threads may be inside: `workqueue` would abort the process
        self.lock = locks.lock()
        self.mask = threading.local()  # numba.set_num_threads affects the calling thread only

    def run(self, kernel: Parallel, args: tuple[Any, ...]) -> Any:
        count = get_num_threads()
        if count == 1 or self.lost or interpreted():
            return kernel.serial(*args)
        build = kernel.threaded
        if not self.reentrant and not self.lock.acquire(blocking=False):
            return kernel.serial(*args)
        try:
            if getattr(self.mask, "count", None) != count:
                self._use(count)
            return build(*args)
        finally:
            if not self.reentrant:
                self._leave()

    def _use(self, count: int) -> None:
        import numba
        from numba.np.ufunc import parallel

        if count > numba.config.NUMBA_NUM_THREADS and not pool_is_running():
            numba.config.NUMBA_NUM_THREADS = parallel.NUM_THREADS = count  # `workqueue` launches the latter
        parallel._launch_threads()
        # `numba.set_num_threads` refuses more than the cores. The pool is smaller if other code started it so.
        parallel._set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        self.mask.count = count

    def _leave(self) -> None:
        import numba

        with contextlib.suppress(ValueError):  # raised while no parallel kernel has run
            self.reentrant = numba.threading_layer() != "workqueue"
        self.lock.release()


POOL = _Pool()


def pool_is_running() -> bool:
    numba_pool = sys.modules.get("numba.np.ufunc.parallel")
    return bool(getattr(numba_pool, "_is_initialized", False))


def _after_fork_in_child() -> None:
    """Mark the pool as lost: its threads did not survive the fork, and OpenMP ends a child that enters it."""
    POOL.lost = POOL.lost or pool_is_running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get_num_threads() -> int:
    """The number of threads a parallel kernel uses: as set, else `NUMBA_NUM_THREADS`, else the cores."""
    if POOL.requested is None:
        named = os.environ.get("NUMBA_NUM_THREADS", "")
        POOL.requested = int(named) if named.isdecimal() and int(named) > 0 else _cores()
    return POOL.requested


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on, in every Python thread. Results do not depend on it.

    Raises TypeError for anything but an int, ValueError for less than 1, or for more than the pool
    was started with (ask before the first parallel kernel runs, or set `NUMBA_NUM_THREADS`).
    """
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"set_num_threads: expected an int, found {count!r}")
    if count < 1:
        raise ValueError(f"set_num_threads: expected at least 1 thread, found {count}")
    if pool_is_running():
        most = sys.modules["numba"].config.NUMBA_NUM_THREADS
        if count > most:
            raise ValueError(
                f"set_num_threads: found {count}, expected at most {most}, with which the pool was started; "
                f"call it before any parallel kernel runs, or set NUMBA_NUM_THREADS={count}"
            )
    POOL.requested = count
