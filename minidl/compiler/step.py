"""The compiled step: finds the program that fits the arguments, and calls it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl.compiler.logs import commit
from minidl.compiler.numbers import LARGEST, NumberNeeded
from minidl.compiler.program import Outdated, Program, record, unforeseen
from minidl.compiler.recording import Recording, replay
from minidl.compiler.state import State
from minidl.compiler.traced import CompileError
from minidl.core import locks
from minidl.core.seam import SEAM
from minidl.data.loader import Loader
from minidl.tensor import Array, Tensor

MANY = 8  # compiled texts after which it warns that their number keeps growing
MOST_COMPILED = 64  # texts, beyond which it runs uncompiled: Numba never frees machine code, about 1 MB each
MOST_BYTES = 1 << 30  # memory of all programs, beyond which the least recently used are dropped
_SECONDS = 0.1  # between checks for Ctrl-C and reports of progress
_RESTLESS = 3  # recordings in a row that found the state changed: then the function itself changes it
_TRIES = 100  # to run what was recorded while other threads change the state


class TooMany(CompileError):
    """Too many programs have been compiled for another to be worth it."""


class Latest(NamedTuple):
    """The program that ran last and what it fits. Immutable, so that a call runs what it has checked."""

    program: Program
    state: State
    gradients: Any  # which existed, if that matters
    expected: list[Any] | None  # the shapes and dtypes of the arguments, if they are arrays

    def fits(self, args: tuple[Any, ...]) -> bool:
        """Whether the program fits this call too; a quick check, for plain arrays only."""
        if self.expected is None or len(args) != len(self.expected):
            return False
        for a, (shape, dtype) in zip(args, self.expected, strict=True):
            if type(a) is not np.ndarray or a.shape != shape or a.dtype is not dtype or not a.flags.carray:
                return False
        return self.state.holds() and self.gradients in (None, self.state.gradients())


class Step:
    """A function of arrays that runs as one machine-code call. Made by `compile`.

    source   the program last used: forward, backward and update as straight-line Python
    loops    the same as Numba compiles it
    stats    how often it recorded, called and dropped a program, and the seconds spent recording and compiling

    Threads may share it; calls run one after another. A copy is a new Step of the same function.
    """

    def __init__(self, function: Callable[..., Any], fallback: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.fallback = function, fallback
        self.stats: dict[str, Any] = {
            "recorded": 0,
            "calls": 0,
            "evicted": 0,
            "record_seconds": 0.0,
            "compile_seconds": 0.0,
        }
        self._lock = locks.lock()  # of everything below
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._states: list[State] = []  # what the function could reach when programs were recorded
        self._rebound: set[Any] = set()  # places that recordings rebound in Python
        self._needed: dict[Any, frozenset[int]] = {}  # which numeric arguments Python needs the values of
        self._texts: set[int] = set()  # hashes of compiled texts
        self._uncompiled: set[int] = set()  # hashes of the keys of programs that were not compiled
        self._shapes: Any = None  # of the program compiled last
        self._latest: Latest | None = None
        self._restless = 0  # recordings in a row that ended with the state changed
        self._eager = False

    def __reduce__(self) -> Any:
        return type(self), (self.function, self.fallback)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._eager or isinstance(SEAM.interceptor, Recording):  # a step inside a step is part of it
            return self.function(*args, **kwargs)
        try:
            with self._lock:
                latest = self._latest
                if latest is not None and not kwargs and latest.fits(args):
                    with contextlib.suppress(Outdated):
                        return self._counted(latest.program, args)
                return self._with_program(args, kwargs, self._counted)
        except TooMany:
            return self.function(*args, **kwargs)
        except CompileError as error:
            if not self.fallback:
                raise
            value = self.function(*args, **kwargs)  # if this raises, compilation is not given up
            self._give_up(error)
            return value

    def _told(self, error: Exception, state: State, args: Any, kwargs: Any) -> Exception:
        """What to raise for an error during recording: a CompileError, the function's own, or an unforeseen one."""
        if isinstance(error, CompileError):
            return error
        if not self.fallback:
            try:
                replay(self.function, state, args, kwargs)
            except Exception as own:
                return own
        made = unforeseen(error)
        made.__cause__ = error
        return made

    def _give_up(self, error: CompileError) -> None:
        """Continue without compilation if `fallback` allows."""
        if not self.fallback:
            raise error
        warnings.warn(f"{error}; running without compilation", RuntimeWarning, stacklevel=3)
        self._eager = True

    def _counted(self, program: Program, arrays: Any) -> Any:
        made = program(arrays)
        self.stats["calls"] += 1
        return made

    def _forget(self, program: Program) -> None:
        """Drop a program whose state no longer matches: parameters have other shapes or layouts."""
        self._programs = OrderedDict((k, p) for k, p in self._programs.items() if p is not program)

    def run(self, loader: Loader, progress: Callable[[int], Any] | None = None) -> Array:
        """Step through one epoch of a `data.Loader` in machine code and return each step's number, if it gives one.

        progress   called about ten times a second with the number of examples since the last call; Ctrl-C works
                   then too, between two steps. A last partial batch is a separate call, and so is every batch that
                   the loader augments.

        TypeError: not a Loader. ValueError: an empty one.
        """
        if not isinstance(loader, Loader):
            raise TypeError(f"run: expected a minidl.data.Loader, found {type(loader).__name__}")
        order, size = loader.places(loader.order()), loader.batch_size
        if not len(loader):
            raise ValueError(f"run: expected at least one batch of {size}, found {len(order)} examples")
        losses, done = np.full(len(loader), np.nan), 0
        if loader.gathers and not self._eager and len(order) >= size:
            done = self._run_whole(loader, order[: len(order) // size * size], losses, progress)
        for n in range(done, len(loader)):
            batch = loader.batch(order[n * size : (n + 1) * size])
            value = self(*(batch if isinstance(batch, tuple) else (batch,)))
            losses[n] = value.item() if getattr(value, "size", 0) == 1 else np.nan
            if progress is not None:
                progress(len(order[n * size : (n + 1) * size]))
        return losses

    def _run_whole(self, loader: Loader, order: Array, losses: Array, progress: Any) -> int:
        """Step through whole batches, some at a time, and return how many: fewer than all if it cannot compile."""
        from minidl.compiler.epoch import Epoch

        arrays, affine, size = list(loader.arrays), list(loader.affine), loader.batch_size
        batch = loader.batch(order[:size])
        epochs: dict[Program, Epoch] = {}
        first, some = 0, 1

        def run(program: Program, batch: list[Any]) -> None:
            if program.reads_gradients:
                raise CompileError("run: the step reads gradients from before it; call it batch by batch")
            if program not in epochs:
                try:
                    epochs[program] = Epoch(program, arrays, affine, batch)
                except Exception as error:
                    raise unforeseen(error) from error
            epochs[program].run(order, losses, first, last)
            self.stats["calls"] += last - first

        while first < len(order) // size:
            began, last = time.perf_counter(), min(first + some, len(order) // size)
            try:
                with self._lock:
                    self._with_program(batch if isinstance(batch, tuple) else (batch,), {}, run)
            except TooMany:
                break
            except CompileError as error:
                self._give_up(error)
                break
            if progress is not None:
                progress((last - first) * size)
            seconds = time.perf_counter() - began
            first, some = last, max(1, min(2 * some, int(some * _SECONDS / max(seconds, 1e-9))))
        return first

    @property
    def source(self) -> str:
        """The recorded step as readable Python. RuntimeError before the first call."""
        return self._recorded().text.source

    def python(self, *args: Any, **kwargs: Any) -> Any:
        """Run the step's `source` in Python: slower, with the same effects, for stepping through in a debugger."""
        with self._lock:
            return self._with_program(args, kwargs, lambda program, arrays: program.python(arrays))

    @property
    def loops(self) -> str:
        """The recorded step as it is compiled: the same lines, with elementwise ones as loops."""
        return self._recorded().loops

    def _recorded(self) -> Program:
        if self._latest is None:
            raise RuntimeError("compile: nothing is recorded before the first call")
        return self._latest.program

    def _with_program(self, args: Any, kwargs: Any, use: Callable[[Program, list[Any]], Any]) -> Any:
        """use(program, arrays) with the program that fits the arguments and state. The caller holds the lock."""
        for _ in range(_TRIES):
            program, arrays = self._program(args, kwargs)
            try:
                return use(program, arrays)
            except Outdated:
                self._forget(program)
        raise CompileError("compile: the state changes whenever it has been recorded")

    def _current_state(self) -> State:
        """What the function can reach now; an earlier State if it is unchanged."""
        for state in reversed(self._states):
            if state.holds():
                return state
        found = State(self.function)
        for state in self._states:
            if state.signature == found.signature:  # equal numbers need not be the same object
                state.reach.guard.take_over(found.reach.guard)
                return state
        self._states.append(found)
        return found

    def _program(self, args: Any, kwargs: Any) -> tuple[Program, list[Any]]:
        arrays: list[Any] = []
        call = _flatten((args, kwargs), arrays)
        if needed := self._needed.get(call):
            arrays = []
        form = _flatten((args, kwargs), arrays, needed) if needed else call
        state = self._current_state()
        key = (form, *[(a.shape, a.dtype) for a in arrays], state, state.gradients())
        if key not in self._programs:
            key = (*key[:-1], None)
        program = self._programs.get(key)
        if program is None:
            if hash(key) in self._uncompiled:
                raise TooMany(_TOO_MANY)
            if self._restless >= _RESTLESS:
                raise CompileError(
                    "compile: the step changes what it works on at each call, which would happen only once; do that "
                    "outside of the compiled function"
                )
            began = time.perf_counter()
            try:
                program, depends = record(self.function, state, form, arrays)
            except Exception as error:
                numbers = _numbers(call) - (needed or frozenset())
                if not numbers:
                    raise self._told(error, state, args, kwargs) from None
                which = error.which if isinstance(error, NumberNeeded) else numbers  # or let Python have them all
                self._needed[call] = which | (needed or frozenset())
                return self._program(args, kwargs)
            key = (*key[:-1], state.gradients() if depends else None)
            self.stats["recorded"] += 1
            recorded = time.perf_counter()
            self._note(program, key)
            try:
                program.compile()
            except Exception as error:
                raise unforeseen(error) from error
            commit(program, self._rebound, lambda: record(self.function, state, form, arrays)[0])
            self._restless = 0 if program.made.changes or state.holds() else self._restless + 1
            self.stats["record_seconds"] += recorded - began
            self.stats["compile_seconds"] += time.perf_counter() - recorded
            self._programs[key] = program
            total = sum(p.nbytes for p in self._programs.values())
            while total > MOST_BYTES and len(self._programs) > 1:
                total -= self._programs.popitem(last=False)[1].nbytes
                self.stats["evicted"] += 1
            self._states = [s for s in self._states if any(k[-2] is s for k in self._programs)]
        self._programs.move_to_end(key)
        plain = all(type(a) is np.ndarray and a.ndim > 0 for a in args) and not kwargs
        self._latest = Latest(program, key[-2], key[-1], [(a.shape, a.dtype) for a in arrays] if plain else None)
        return program, [a if a.ndim else a.reshape(1) for a in arrays]

    def _note(self, program: Program, key: tuple[Any, ...]) -> None:
        """Count a program about to be compiled. TooMany: not worth it. Warns once if they keep coming."""
        text, shapes, before = hash(program.loops), key[:-2], self._shapes
        if text not in self._texts:
            if len(self._texts) >= MOST_COMPILED:
                self._uncompiled.update((hash(key), hash((*key[:-1], None))))
                raise TooMany(_TOO_MANY)
            self._texts.add(text)
            if len(self._texts) == MANY + 1:
                changed = "the form of its arguments, or an option or mode of its state, changed"
                for memory, old, new in zip(program.inputs, before[1:], shapes[1:], strict=False):
                    if len(before) == len(shapes) and old != new:
                        changed = f"{memory.name} is {new[1]} {new[0]} and was {old[1]} {old[0]}"
                        break
                name = getattr(self.function, "__name__", "the step")
                warnings.warn(
                    f"compile: {name} was compiled {MANY + 1} times, the last time because {changed}. Every new shape "
                    "or option takes that time and memory again: pad or sort the arguments to a few sizes, or run the "
                    f"function uncompiled, as it is after {MOST_COMPILED} of them",
                    RuntimeWarning,
                    stacklevel=5,
                )
        self._shapes = shapes


_TOO_MANY = "compile: too many programs of this step were compiled already"


def _flatten(x: Any, arrays: list[Any], needed: frozenset[int] = frozenset(), count: Any = None) -> Any:
    """The hashable form of nested arguments; their arrays and numbers are moved into the list `arrays`.

    needed   the numbers whose values are part of the form
    """
    count = itertools.count() if count is None else count
    if isinstance(x, Tensor):
        if x.requires_grad:
            raise CompileError("compile: expected arrays as arguments, found a Tensor that requires a gradient")
        arrays.append(_normal(x.data))
        return "tensor"
    if isinstance(x, np.ndarray):
        arrays.append(_normal(x))
        return "array"
    if isinstance(x, tuple | list):
        return (type(x).__name__, *(_flatten(v, arrays, needed, count) for v in x))
    if isinstance(x, dict):
        return ("dict", *((k, _flatten(v, arrays, needed, count)) for k, v in x.items()))
    if (
        type(x) is float
        or (type(x) is int and abs(x) < LARGEST)
        or (isinstance(x, np.number) and x.dtype.kind in "iuf")
    ):
        n = next(count)
        if n in needed:
            return ("value", type(x), x, repr(x))  # repr distinguishes 0 from −0
        arrays.append(np.asarray(x))
        return ("number", type(x) if type(x) in (int, float) else None, n)
    if isinstance(x, bool | int | float | str | np.generic) or x is None:
        return ("value", type(x), x)
    raise CompileError(f"compile: expected arrays and numbers as arguments, found {type(x).__name__}")


def _numbers(form: Any) -> frozenset[int]:
    """The numbers in the form of a call."""
    if not isinstance(form, tuple):
        return frozenset()
    if form and form[0] == "number":
        return frozenset([form[2]])
    return frozenset().union(*map(_numbers, form))


def _normal(a: Any) -> Any:
    a = np.asarray(a)  # the plain array of a subclass such as `memmap`
    return a if a.flags.carray and a.dtype.isnative else np.array(a, order="C", dtype=a.dtype.newbyteorder("="))


def compile(function: Callable[..., Any] | None = None, *, fallback: bool = False) -> Any:
    """Make a function of arrays, such as a training step or a model, one machine-code call.

    fallback   if something cannot be compiled, run the function as it is, with one warning, instead of a CompileError

    Returns a `Step`. The first call with given shapes and dtypes records and compiles; side effects of the Python code
    itself (printing, appending to a list) happen in that call only.

    Numbers among the arguments are inputs too; if Python itself needs one (an `if`, a shape, an axis), each value of it
    is recorded separately. An `int` or `float` behaves as in Python: float32 times it stays float32.

    For arguments in C order, results agree bit for bit with the eager call: elementwise functions use NumPy's loops,
    and sums NumPy's order. Exceptions, which agree within rounding (relative 1e-13 in float64, 1e-5 in float32): sums
    with a `where` mask, sums of arguments in another order, functions of arrays reversed along all axes.

    >>> w = minidl.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.25)
    >>> @minidl.compile
    ... def step(target):
    ...     loss = ops.mse(w, target, "sum")
    ...     optimizer.zero_grad(); loss.backward(); optimizer.step()
    ...     return loss
    >>> [step(np.array([3.0, 2.0])).item() for _ in range(3)]
    [4.0, 1.0, 0.25]
    """
    if function is None:
        return lambda f: Step(f, fallback)
    return Step(function, fallback)
