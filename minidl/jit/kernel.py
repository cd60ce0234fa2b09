"""@kernel: a plain Python loop that Numba compiles when it is first called.

    @kernel
    def relu_forward(x, y):
        for i in range(x.size):
            y[i] = 0 if x[i] < 0 else x[i]

A kernel writes its result into its last arguments. It checks nothing: the op that calls it has
converted the arrays to C order and one float dtype and has allocated the output. `KERNELS` lists all of
them; `with relu_forward.replaced_by(mine):` swaps one, `@relu_forward.variant` registers an alternative
implementation for `minidl bench` to check and time. Importing this file does not import Numba.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, overload

from minidl.core import locks
from minidl.core.errstate import quietly
from minidl.core.registry import enter
from minidl.core.seam import SEAM
from minidl.jit.environment import interpreted
from minidl.jit.pool import POOL

KERNELS: dict[str, Kernel] = {}
REPLACED: dict[str, Callable[..., Any]] = {}  # name of a replaced kernel → its current replacement

prange = range  # numba.prange in a kernel's parallel build
_COMPILE_LOCK = locks.lock()


class Kernel:
    """A loop and its compiled builds, called like the function it was made from.

    `py_func` is the plain Python function. `parallel` is None, or a predicate over a call's
    arguments: whether threads pay. `fma`: a·b + c may be rounded once, as a fused multiply-add. `emitted` returns
    the Numba intrinsic that replaces this kernel inside other kernels, or None.
    `linked`: other kernels jump to its machine code instead of compiling it in.
    """

    def __init__(
        self,
        py_func: Callable[..., Any],
        parallel: Callable[..., bool] | None = None,
        fma: bool = False,
        emitted: Callable[[], Any] | None = None,
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
        """Call this kernel itself, even while it is replaced."""
        if self.parallel is not None and self.parallel(*args):
            return POOL.run(self, args)
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
        """Register an alternative implementation of this kernel in its `variants`, under its name.

        `minidl bench` checks it against the kernel's reference and times both; `replaced_by` can put it in place.
        Options as for `kernel`; `fma` defaults to this kernel's. TypeError: it takes another number of arguments.
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

        Only calls from Python: kernels that call this one have it compiled in. TypeError: `other` takes another
        number of arguments.
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
    emitted: Callable[[], Any] | None = None,
    linked: bool = False,
    updates: Iterable[str] = (),
    replace: bool = False,
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(
    py_func: Callable[..., Any] | None = None,
    *,
    parallel: Callable[..., bool] | None = None,
    fma: bool = False,
    emitted: Callable[[], Any] | None = None,
    linked: bool = False,
    updates: Iterable[str] = (),
    replace: bool = False,
) -> Kernel | Callable[[Callable[..., Any]], Kernel]:
    """Make a loop a kernel and register it in `KERNELS` under its name.

    parallel   a predicate over the call's arguments: when threads pay (see `minidl.jit.pool`)
    fma        let a·b + c be one fused multiply-add. There is no other fast-math: sums keep the source's
               order and NaN its meaning, so that all builds agree; write a sum so that it can fuse one way only
    emitted    a function that returns the Numba intrinsic to replace this loop inside compiled kernels, or None
               where this processor has none; called when such a kernel is compiled. The loop remains its definition
    linked     compile this once and let the kernels that call it jump there: for loops that take long to compile
               and long to run
    updates    names of the arguments whose previous contents it reads and changes: for `minidl.compile`
    replace    replace another kernel of this name in `KERNELS`, which is otherwise a ValueError

    >>> @minidl.kernel
    ... def twice(x, y):
    ...     for i in range(x.size):
    ...         y[i] = 2 * x[i]
    >>> y = np.empty(3)
    >>> twice(np.array([1.0, 2.0, 3.0]), y)
    >>> y
    array([2., 4., 6.])
    """

    def register(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, parallel, fma, emitted, linked, updates)
        enter(KERNELS, "kernel", made, replace)
        return made

    return register if py_func is None else register(py_func)


# ------------------------------------------------------------------------------------ compilation


def _compile(made: Kernel, parallel: bool) -> Callable[..., Any]:
    if interpreted():
        return quietly(made.py_func)
    import numba

    from minidl.jit import cache

    fn = made.py_func
    scope = dict(fn.__globals__)
    for name in fn.__code__.co_names:
        if isinstance(scope.get(name), Kernel):
            scope[name] = _called(scope[name])
        elif scope.get(name) is prange:
            scope[name] = numba.prange if parallel else range
    # One function per build: Numba's cache distinguishes builds by name only, not by their flags.
    build = types.FunctionType(fn.__code__, scope, fn.__name__, fn.__defaults__, fn.__closure__)
    build.__qualname__ = f"{fn.__qualname__}.{'parallel' if parallel else 'serial'}{'_fma' if made.fma else ''}"
    build.__module__ = fn.__module__
    build.__doc__ = fn.__doc__
    fastmath = {"contract"} if made.fma else False
    dispatcher: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, parallel=parallel)(
        build
    )
    cache.attach(dispatcher, build)
    return dispatcher


def _called(made: Kernel) -> Any:
    """What a kernel becomes inside another: its intrinsic for this processor, a jump, or its source.

    Bounds are checked in source only, so with bounds checks it is never the intrinsic.
    """
    import numba

    from minidl.jit import linking

    if made.emitted is not None and not numba.config.BOUNDSCHECK:
        intrinsic = made.emitted()
        if intrinsic is not None:
            return intrinsic
    return linking.jump(made) if made.linked else made.serial
