"""A recorded step with its memory: what it is called with, and where its results go."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler import native
from minidl.compiler.draws import Shared
from minidl.compiler.lower import Lower
from minidl.compiler.plan import Plan
from minidl.compiler.recording import DRAWS, Recording
from minidl.compiler.state import Slot, State, flat
from minidl.compiler.text import Text
from minidl.compiler.traced import CompileError, Memory, Traced, layout
from minidl.core.errstate import quietly
from minidl.jit import get_num_threads, interpreted
from minidl.jit.pool import POOL
from minidl.tensor import Array, Tensor


def record(function: Callable[..., Any], state: State, form: Any, arrays: list[Any]) -> tuple[Program, bool]:
    """(the program, whether it depends on which gradients exist beforehand)."""
    shared = Shared()

    def recorded() -> tuple[Recording, bool]:
        made = Recording(function, state, form, arrays, phantom=True)
        read = made.gradients_read()
        if any(tensor.grad is None for tensor in read):
            made = Recording(function, state, form, arrays, phantom=False)
        return made, bool(read)

    with np.errstate(all="ignore"):
        try:
            made, depends = recorded()
        finally:
            if shared.drawn(recorded):
                raise CompileError(DRAWS)
        return Program(made), depends


class Kept:
    """Memory that leaves the step: allocated anew while the caller still holds earlier results.

    placed   the id of the array whose address the step has; that array is in `ring`
    """

    def __init__(self, memory: Memory) -> None:
        self.memory, self.ring = memory, [_made(memory)]
        self.placed = id(self.ring[-1])

    def take(self) -> Array:
        """An array that nothing else references, from now on `ring[-1]`."""
        ring = self.ring
        for n in range(len(ring) - 1, -1, -1):
            if _holders(ring, n) == _UNHELD:
                if n < len(ring) - 1:
                    ring.append(ring.pop(n))
                return ring[-1]
        ring[:-1] = []
        ring.append(_made(self.memory))
        return ring[-1]


def _made(memory: Memory) -> Array:
    return np.empty(memory.array.shape, memory.array.dtype)


def _holders(arrays: list[Any], n: int) -> int:
    return sys.getrefcount(arrays[n])


_NUMBERS = {True: "floats", False: "integers"}
_UNHELD = _holders([np.empty(1)], 0)


OWN = ValueError, IndexError, ZeroDivisionError  # errors that the function's own checks raise


class Outdated(Exception):
    """The state has other shapes or layouts than when the step was recorded."""


class Program:
    """A recorded step, compiled on its first call, once for one thread and once for several.

    loops    the text that is compiled: `step(memory, floats, integers, *inputs)`
    nbytes   bytes of memory that it keeps

    All calls share one memory: the caller holds the lock of its Step.
    """

    def __init__(self, made: Recording) -> None:
        self.made, self.recorder = made, made.recorder
        self.plan = Plan(made.recorder, made.all_outputs)
        self.inputs = [x.memory for x in made.inputs]
        self.generators: list[Any] = [g for _, g in self.recorder.generators.values()]
        self.signature = native.parameters(self.inputs, self.generators)
        self.reads_gradients = bool(made.gradients_read())
        lower = Lower(self.plan)
        body = lower.body()
        self.calls = lower.calls
        self.threads = any(parallel for _, parallel, _ in self.calls.values())
        places = self._place_memory()
        numbers, ending = self._place_numbers()
        generators = [name for name, _ in self.recorder.generators.values()]
        parameters = ["memory", "floats", "integers", *(m.name for m in self.inputs), *generators]
        flat_inputs = [f"    {m.name} = {m.name}.reshape(-1)" for m in self.inputs if m.array.ndim > 1]
        lines = [f"def step({', '.join(parameters)}):", *numbers, *flat_inputs, *places, *body, *ending]
        self.loops = "\n".join([*lines, ""])
        self.text = Text(self.plan, self.inputs, made.all_outputs)
        self.counts_out = [(slot, *self.numbers_out[id(number)]) for slot, number in made.numbers]
        self.gradients = [(tensor, self._giver(grad)) for tensor, grad in made.gradients]
        rings = {id(k.memory): k.ring for k in self.kept}
        self._rings: list[list[Array]] = [
            rings.get(id(g.memory), []) if g is not None else [] for _, g in made.gradients
        ]
        self._before: list[Any] = []
        self.outputs = [self._giver(o) for o in made.outputs]
        self._built: dict[bool, Callable[..., Any]] = {}

    def _place_memory(self) -> list[str]:
        """The arrays whose addresses a step receives, and the lines of text that unpack them."""
        plan = self.plan
        self.state, self.constants = plan.used("state"), plan.used("constant")
        self.shapes = [m.array.shape for m in self.state]
        outputs = dict.fromkeys(o.memory for o in self.made.all_outputs if not plan.scalar(o.memory))
        self.kept = [Kept(m) for m in outputs]
        self.arenas = {name: _aligned(size, name) for name, size in plan.arenas.items()}
        self.arrays: list[Any] = [None] * len(self.state)  # the state's, once `take_state` has run
        self.copied = [(m.source, m.array) for m in self.constants if m.source is not m.array]
        self.pinned = list(self.recorder.pinned.values())
        named = [*(m.array for m in self.state), *(k.ring[-1] for k in self.kept), *(m.array for m in self.constants)]
        self.memory = native.addresses([flat(a) for a in (*named, *self.arenas.values())])
        changed = {id(m) for node in plan.nodes for m in node.writes}
        self.changed = [n for n, m in enumerate(self.state) if id(m) in changed]
        places = [(m.name, m.array.size, m.array.dtype.name) for m in (*self.state, *outputs, *self.constants)]
        places += [(f"{name}s", a.size, name) for name, a in self.arenas.items()]
        lines = [f"    {name} = flat(memory[{n}], {size}, np.{dtype})" for n, (name, size, dtype) in enumerate(places)]
        for m, at in plan.offsets.items():
            lines.append(f"    {m.name} = {m.array.dtype.name}s[{at}:{at + m.array.size}]")
        return lines

    def _place_numbers(self) -> tuple[list[str], list[str]]:
        """Where a step's input and output numbers are, and the lines of text that read and write them."""
        self.numbers_in: list[tuple[bool, int, Slot]] = []
        self.numbers_out: dict[int, tuple[bool, int]] = {}
        counts = {True: 0, False: 0}
        reads, writes = [], []
        for m in self.plan.used("number"):
            kind = m.array.dtype.kind == "f"
            reads.append(f"    {m.name} = {_NUMBERS[kind]}[{counts[kind]}]")
            self.numbers_in.append((kind, counts[kind], m.source))
            counts[kind] += 1
        for o in self.made.all_outputs:
            if name := self.plan.scalar(o.memory):
                kind = o.dtype.kind == "f"
                writes.append(f"    {_NUMBERS[kind]}[{counts[kind]}] = {name}")
                self.numbers_out[id(o)] = kind, counts[kind]
                counts[kind] += 1
        self.floats, self.integers = np.zeros(counts[True] or 1), np.zeros(counts[False] or 1, np.int64)
        return reads, writes

    # ------------------------------------------------------------------------------------- a call

    def __call__(self, arrays: list[Any]) -> Any:
        """The function's result. The function's own errors leave gradients as they were. CompileError: not begun."""
        self.take_state()
        try:
            self.run(arrays)
        except OWN as error:
            self.restore(error)
            raise self.explained(error, arrays) from None
        except BaseException as error:
            self.restore(error)
            if isinstance(error, Exception):  # machine code raises only OWN
                raise unforeseen(error) from error
            raise
        return self.give()

    def take_state(self) -> None:
        """Point the step at the state's current arrays and numbers, and at memory for its results.

        An address is written before its array is noted, so that a process forked in between writes it again.
        ValueError, before anything changes: the step would change a read-only array.
        """
        if not all(np.array_equal(array, was, equal_nan=was.dtype.kind == "f") for array, was in self.pinned):
            raise Outdated
        for array, copy in self.copied:
            np.copyto(copy, array)
        arrays, shapes = self.arrays, self.shapes
        for n, memory in enumerate(self.state):
            try:
                array = memory.source.get()
            except (AttributeError, LookupError):
                raise Outdated from None
            if array is not arrays[n] or array.shape != shapes[n]:
                there = self._laid_out(array, memory)
                self.memory[n] = native.address(flat(there))
                arrays[n] = array if there is array else None
        for n in self.changed:
            if not arrays[n].flags.writeable:
                raise ValueError(f"compile: expected {self.state[n].name} as a writable array, found a read-only one")
        numbers = [float(slot.get()) if is_float else int(slot.get()) for is_float, _, slot in self.numbers_in]
        self._before = []
        for (tensor, _), ring in zip(self.gradients, self._rings, strict=True):
            self._before.append(_remembered(tensor.grad, ring))
            tensor.grad = None
        for n, kept in enumerate(self.kept, len(self.state)):
            array = kept.take()
            if id(array) != kept.placed:
                self.memory[n] = native.address(flat(array))
                kept.placed = id(array)
        for (is_float, at, _), value in zip(self.numbers_in, numbers, strict=True):
            (self.floats if is_float else self.integers)[at] = value

    def restore(self, error: BaseException) -> None:
        """After an error before any result was computed: leave gradients as the function had them at that point."""
        for (tensor, _), before in zip(self.gradients, self._before, strict=True):
            if isinstance(before, tuple):
                ring, whole, (shape, dtype, place, strides) = before
                array = next(a for a in ring if id(a) == whole)
                tensor.grad = np.ndarray(shape, dtype, array, place, strides)
            else:
                tensor.grad = before
        self.clear(error)

    def clear(self, error: BaseException) -> None:
        """After an error: clear the gradients that the function had cleared by then, as by `zero_grad`."""
        checks = [node.options for node in self.plan.nodes if node.kind == "require"]
        for tensor in next((c["cleared"] for c in checks if c["message"] == str(error)), ()):
            tensor.grad = None

    def _laid_out(self, array: Array, memory: Memory) -> Array:
        """The array, or a copy of it, in the memory layout that was recorded."""
        like = memory.array
        if array.dtype == like.dtype and array.shape == like.shape and _steps(array) == _steps(like):
            return array
        if memory.source.key != "grad" or memory.version or array.shape != like.shape:
            raise Outdated
        like[...] = array  # a gradient, which is only read
        return like

    def run(self, arrays: list[Any]) -> None:
        """Call the machine code."""
        args = (self.memory, self.floats, self.integers, *arrays, *self.generators)
        if self.threads:
            POOL.run(self, args)
        else:
            (self._built.get(False) or self.serial)(*args)

    def give(self) -> Any:
        """Hand out the step's results: gradients, counts, and the function's return value."""
        for slot, is_float, at in self.counts_out:
            slot.set((self.floats if is_float else self.integers).item(at))
        for tensor, value in self.gradients:
            tensor.grad = value()
        return self._rebuilt(self.made.result, self.outputs)

    def _giver(self, o: Traced | None) -> Callable[[], Any]:
        """A function that returns the array for `o` after a call."""
        if o is None:
            return lambda: None
        out = self.numbers_out.get(id(o))
        if out is not None:
            numbers, at = self.floats if out[0] else self.integers, out[1]
            return lambda: np.array(numbers[at], o.dtype, ndmin=o.ndim)
        ring = next(k.ring for k in self.kept if k.memory is o.memory)
        whole, view = o.memory.array, (o.shape, o.strides)
        if (whole.shape, whole.strides) == view:
            return lambda: ring[-1]
        if (whole.T.shape, whole.T.strides) == view:  # as the gradients of weights are
            return lambda: ring[-1].T
        offset = layout(o)[0] * o.itemsize
        return lambda: np.ndarray(o.shape, o.dtype, ring[-1], offset, o.strides)

    def _rebuilt(self, form: Any, outputs: list[Callable[[], Any]]) -> Any:
        kind = form[0]
        if kind == "tensor":
            return Tensor(outputs[form[1]]())
        if kind == "array":
            return outputs[form[1]]()
        if kind == "sequence":
            return form[1](self._rebuilt(f, outputs) for f in form[2])
        if kind == "dict":
            return {k: self._rebuilt(f, outputs) for k, f in form[1].items()}
        return form[1]

    def explained(self, error: Exception, arrays: list[Any]) -> Exception:
        """The step's error, with the value found if it can still be seen in the step's inputs."""
        given = {id(m): a for m, a in zip(self.inputs, arrays, strict=True)}
        for message, found, args in self.recorder.checks:
            if str(error) == message and all(not isinstance(a, Traced) or id(a.memory) in given for a in args):
                values = [given[id(a.memory)].reshape(a.shape) if isinstance(a, Traced) else a for a in args]
                return type(error)(f"{message}, {found(*values)}")
        return error

    @quietly
    def python(self, arrays: list[Any]) -> Any:
        """The same call through the readable source."""
        made = self.made
        state = {m.name: m.source.get() for m in self.text.state}
        given: list[Any] = [a.reshape(x.shape) for a, x in zip(arrays, made.inputs, strict=True)]
        given = [a.item() if getattr(x, "python", None) else a for a, x in zip(given, made.inputs, strict=True)]
        values = dict(
            zip(map(id, made.all_outputs), self.text.function()(*given, *self.generators, **state), strict=True)
        )
        for slot, number in made.numbers:
            slot.set(np.asarray(values[id(number)]).item())
        for tensor, grad in made.gradients:
            tensor.grad = None if grad is None else values[id(grad)]
        outputs = [np.asarray(values[id(o)], o.dtype) for o in made.outputs]
        return self._rebuilt(made.result, [functools.partial(np.asarray, o) for o in outputs])

    # -------------------------------------------------------------------------------- compilation

    def compile(self) -> None:
        """Compile now, for the current number of threads."""
        build = self._build(self.threads and get_num_threads() > 1)
        if not interpreted():
            native.prepare(build, self.signature)

    @property
    def nbytes(self) -> int:
        kept = sum(k.memory.array.nbytes for k in self.kept)
        arenas = sum(a.nbytes for a in self.arenas.values())
        return kept + arenas + sum(m.array.nbytes for m in self.recorder.memories)

    @property
    def serial(self) -> Callable[..., Any]:
        return self._build(False)

    @property
    def threaded(self) -> Callable[..., Any]:
        return self._build(True)

    def _build(self, threads: bool) -> Callable[..., Any]:
        if threads not in self._built:
            self._built[threads] = native.build(self.loops, self.calls, threads)
        return self._built[threads]


def _remembered(gradient: Array | None, ring: list[Array]) -> Any:
    """A gradient to be restored. If it lies in the ring, its place there: a reference would prevent reuse."""
    if gradient is None:
        return None
    base = gradient.base
    whole = gradient if base is None else base
    if not (ring and whole is ring[-1]) and not any(whole is array for array in ring):
        return gradient
    shape, strides = gradient.shape, gradient.strides
    if base is None or (shape == whole.shape[::-1] and strides == whole.strides[::-1]):  # nearly always
        place = 0
    else:
        place = gradient.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return ring, id(whole), (shape, gradient.dtype, place, strides)


def unforeseen(error: Exception) -> CompileError:
    found = f"{type(error).__name__}: {error}".split("\n")[0]
    return CompileError(f"compile: this step cannot be compiled, for a reason that was not foreseen ({found:.200})")


def _steps(array: Array) -> list[int]:
    """The strides that matter: those of axes longer than 1."""
    return [s for s, n in zip(array.strides, array.shape, strict=True) if n > 1] if array.size else []


def _aligned(size: int, dtype: str) -> Array:
    made = np.empty(size + 64, dtype)
    skip = (-made.ctypes.data // made.itemsize) % (64 // made.itemsize)
    return made[skip : skip + size]
