"""@kernel: a plain Python loop that Numba compiles when it is first called.

    @kernel
    def relu_forward(x, y):
        for i in range(x.size):
            y[i] = 0 if x[i] < 0 else x[i]

A kernel writes its result into its last arguments. It does not check anything: the op that calls it has
brought the arrays to C order and one float dtype and has allocated the output. `KERNELS` lists all of
them; `with relu_forward.replaced_by(mine):` swaps one, `@relu_forward.variant` enters another way to do the same
for `minidl bench` to check and time. Importing this file does not import Numba.

Threads. A kernel declared with `parallel=` has a second build in which `prange` is parallel. It is used
when the predicate given there says that the arguments are worth it. A parallel iteration owns its
output, so both builds give the same bits, and whenever the thread pool cannot be entered (one thread
asked for, a forked child, `workqueue` busy in another Python thread) the serial build runs instead.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

from minidl import locks
from minidl.quiet import quietly
from minidl.registry import enter
from minidl.seam import SEAM

KERNELS: dict[str, Kernel] = {}
REPLACED: dict[str, Callable[..., Any]] = {}  # kernels that something stands in for now: what that is

prange = range  # in a kernel's parallel build this name is numba.prange


class Kernel:
    """A loop and its compiled builds. Call it as the function it was made from.

    `py_func` is the plain Python function. `parallel` is None, or tells from the arguments of a call
    whether threads would pay. `fma`: may a·b + c be rounded once, as a fused multiply-add? `emitted`: the
    module with the Numba intrinsic of this name that stands for this kernel where other kernels call it.
    `linked`: other kernels call its one machine code, and do not compile it in.
    """

    def __init__(
        self,
        py_func: Callable[..., Any],
        parallel: Callable[..., bool] | None = None,
        fma: bool = False,
        emitted: str | None = None,
        linked: bool = False,
        updates: Iterable[str] = (),
    ) -> None:
        functools.update_wrapper(self, py_func)
        self.__name__: str = py_func.__name__
        self.py_func = py_func
        self.parallel = parallel
        self.fma = fma
        self.emitted, self.linked = emitted, linked
        self.parameters = tuple(inspect.signature(py_func).parameters)
        self.updates = frozenset(updates)
        self.variants: dict[str, Kernel] = {}
        self._serial: Callable[..., Any] | None = None
        self._threaded: Callable[..., Any] | None = None
        self._replacement: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if SEAM.interceptor is not None:
            return SEAM.interceptor.kernel(self, args)
        if self._replacement is not None:
            return self._replacement(*args)
        return self.direct(*args)

    def direct(self, *args: Any) -> Any:
        """The call itself, whatever stands in this kernel's place."""
        if self.parallel is not None and self.parallel(*args):
            return _POOL.run(self, args)
        return (self._serial or self.serial)(*args)

    def __repr__(self) -> str:
        return f"<kernel {self.__name__}{inspect.signature(self.py_func)}>"

    @property
    def serial(self) -> Callable[..., Any]:
        """The build that runs on the calling thread alone."""
        if self._serial is None:
            with _COMPILE_LOCK:
                self._serial = self._serial or _compile(self, parallel=False)
        return self._serial

    @property
    def threaded(self) -> Callable[..., Any]:
        """The build whose `prange` loops run on Numba's thread pool."""
        if self._threaded is None:
            with _COMPILE_LOCK:
                self._threaded = self._threaded or _compile(self, parallel=True)
        return self._threaded

    def variant(
        self,
        py_func: Callable[..., Any] | None = None,
        *,
        parallel: Callable[..., bool] | None = None,
        fma: bool | None = None,
        replace: bool = False,
    ) -> Any:
        """Make a loop another way to do what this kernel does, and enter it into `variants` under its name.

        For `minidl bench`, which checks it against the kernel's reference and times both, and for `replaced_by`.
        Options as for `kernel`; `fma` is this kernel's unless given. TypeError: it takes another number of arguments.
        ValueError: the name is another variant's, unless `replace`.
        """

        def register(function: Callable[..., Any]) -> Kernel:
            made = Kernel(function, parallel, self.fma if fma is None else fma)
            self._check_arguments(function)
            enter(self.variants, "variant", made, replace)
            return made

        return register if py_func is None else register(py_func)

    def _check_arguments(self, other: Callable[..., Any]) -> None:
        mine = len(inspect.signature(self.py_func).parameters)
        theirs = len(inspect.signature(getattr(other, "py_func", other)).parameters)
        if mine != theirs:
            name = getattr(other, "__name__", repr(other))
            raise TypeError(f"{self.__name__} takes {mine} arguments, but {name} takes {theirs}")

    @contextlib.contextmanager
    def replaced_by(self, other: Callable[..., Any]) -> Iterator[None]:
        """Within the block, in every thread, calls of this kernel go to `other` (a kernel or function).

        Calls from Python, that is: kernels that call this one were compiled with it. TypeError: `other` takes
        another number of arguments.
        """
        self._check_arguments(other)
        before, self._replacement = self._replacement, other
        REPLACED[self.__name__] = other
        try:
            yield
        finally:
            self._replacement = before
            REPLACED.pop(self.__name__) if before is None else REPLACED.update({self.__name__: before})


@overload
def kernel(py_func: Callable[..., Any]) -> Kernel: ...
@overload
def kernel(
    *,
    parallel: Callable[..., bool] | None = None,
    fma: bool = False,
    emitted: str | None = None,
    linked: bool = False,
    updates: Iterable[str] = (),
    replace: bool = False,
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(
    py_func: Callable[..., Any] | None = None,
    *,
    parallel: Callable[..., bool] | None = None,
    fma: bool = False,
    emitted: str | None = None,
    linked: bool = False,
    updates: Iterable[str] = (),
    replace: bool = False,
) -> Kernel | Callable[[Callable[..., Any]], Kernel]:
    """Make a loop a kernel and enter it into `KERNELS` under its name.

    parallel   a predicate over the call's arguments that says when threads pay (see the top of the file)
    fma        let a·b + c be one fused multiply-add. There is no other fast-math: sums keep the source's
               order and NaN its meaning, so that all builds agree; write a sum so that it fuses one way only
    emitted    a module whose intrinsic of the same name replaces this loop inside compiled kernels, if its
               `vector_bytes()` says that it can on this processor; the loop stays its definition
    linked     compile this once, and let the kernels that call it jump there: for loops that are long to compile
               and long to run
    updates    names of those arguments that it changes and that hold something before: for `minidl.compile`
    replace    take the place in `KERNELS` of another kernel of this name, which is a ValueError else
    """

    def register(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, parallel, fma, emitted, linked, updates)
        enter(KERNELS, "kernel", made, replace)
        return made

    return register if py_func is None else register(py_func)


# ---------------------------------------------------------------------------------------- threads


class _Pool:
    """Numba's one thread pool: how many threads to use, and whether it may be entered now."""

    def __init__(self) -> None:
        self.requested: int | None = None
        self.lost = False  # in a forked child of a process whose pool was running
        self.reentrant = False  # may several Python threads be inside? `workqueue` aborts the process
        self.lock = locks.lock()
        self.mask = threading.local()  # numba.set_num_threads counts for the calling thread only

    def run(self, kernel: Kernel, args: tuple[Any, ...]) -> Any:
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

        if count > numba.config.NUMBA_NUM_THREADS and not _pool_is_running():
            numba.config.NUMBA_NUM_THREADS = parallel.NUM_THREADS = count  # `workqueue` launches the latter
        parallel._launch_threads()
        # `numba.set_num_threads` refuses more than the cores. The pool may be smaller if somebody else started it.
        parallel._set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
        self.mask.count = count

    def _leave(self) -> None:
        import numba

        with contextlib.suppress(ValueError):  # raised while no parallel kernel has run
            self.reentrant = numba.threading_layer() != "workqueue"
        self.lock.release()


_POOL = _Pool()
_COMPILE_LOCK = locks.lock()


def _pool_is_running() -> bool:
    numba_pool = sys.modules.get("numba.np.ufunc.parallel")
    return bool(getattr(numba_pool, "_is_initialized", False))


def _after_fork_in_child() -> None:
    """The pool's threads did not survive the fork, and OpenMP ends a child that enters it again."""
    _POOL.lost = _POOL.lost or _pool_is_running()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def get_num_threads() -> int:
    """How many threads a parallel kernel uses: as set, else `NUMBA_NUM_THREADS`, else the cores."""
    if _POOL.requested is None:
        named = os.environ.get("NUMBA_NUM_THREADS", "")
        _POOL.requested = int(named) if named.isdecimal() and int(named) > 0 else _cores()
    return _POOL.requested


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
    if _pool_is_running():
        most = sys.modules["numba"].config.NUMBA_NUM_THREADS
        if count > most:
            raise ValueError(
                f"set_num_threads: found {count}, expected at most {most}, with which the pool was started; "
                f"call it before any parallel kernel runs, or set NUMBA_NUM_THREADS={count}"
            )
    _POOL.requested = count


# ------------------------------------------------------------------------------------ compilation


def interpreted() -> bool:
    """Do kernels run as plain Python (`NUMBA_DISABLE_JIT=1`: for debuggers and coverage)?"""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def _compile(made: Kernel, parallel: bool) -> Callable[..., Any]:
    if interpreted():
        return quietly(made.py_func)
    import numba

    from minidl import kernel_cache

    fn = made.py_func
    scope = dict(fn.__globals__)
    for name in fn.__code__.co_names:
        if isinstance(scope.get(name), Kernel):
            scope[name] = _called(scope[name])
        elif scope.get(name) is prange:
            scope[name] = numba.prange if parallel else range
    # A function of its own per build: Numba's cache tells builds apart by name only, not by their flags.
    build = types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, fn.__closure__)
    build.__qualname__ = f"{fn.__qualname__}.{'parallel' if parallel else 'serial'}{'_fma' if made.fma else ''}"
    build.__module__ = fn.__module__
    build.__doc__ = fn.__doc__
    fastmath = {"contract"} if made.fma else False
    dispatcher: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, parallel=parallel)(
        build
    )
    kernel_cache.attach(dispatcher, build)
    return dispatcher


def _called(made: Kernel) -> Any:
    """What stands for a kernel in the source of another: its intrinsic for this processor, a jump, or its source.

    Bounds are checked in source only, so then it is never the intrinsic.
    """
    import numba

    from minidl import linking

    if made.emitted is not None and not numba.config.BOUNDSCHECK:
        module = importlib.import_module(made.emitted)
        if module.vector_bytes():
            return getattr(module, made.__name__)
    return linking.jump(made) if made.linked else made.serial
