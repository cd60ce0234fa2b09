"""A recorded program: made by running the function once on Traced arrays, compiled, and called."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.compiler.lower import Lower
from minidl.compiler.plan import Plan
from minidl.compiler.recorder import Recorder
from minidl.compiler.state import Bound, State, bind, flat
from minidl.compiler.traced import CompileError, Memory, Traced
from minidl.jit import KERNELS, Kernel, _POOL, get_num_threads, interpreted
from minidl.tensor import Tensor

_RECORDING = threading.RLock()


@contextlib.contextmanager
def _kernels_recorded(recorder: Recorder) -> Iterator[None]:
    """Within the block, kernels that are handed Traced arrays write their calls down."""

    def recording(kernel: Kernel, before: Any) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if any(isinstance(a, Traced) for a in args):
                return recorder.call(kernel, args)
            if before is not None:
                return before(*args)
            return kernel.direct(*args)

        return call

    before = {kernel: kernel._replacement for kernel in KERNELS.values()}
    try:
        for kernel, other in before.items():
            kernel._replacement = recording(other if isinstance(other, Kernel) else kernel, other)
        yield
    finally:
        for kernel, other in before.items():
            kernel._replacement = other


def record(function: Callable[..., Any], state: State, form: Any, arrays: list[Any]) -> tuple[Program, bool]:
    """(the program, does it depend on which gradients are there before)."""
    with _RECORDING, np.errstate(all="ignore"):
        made = _Recording(function, state, form, arrays, phantom=True)
        if made.depends_on_missing_gradients():
            made = _Recording(function, state, form, arrays, phantom=False)
            return Program(made, state), True
        return Program(made, state), made.depends_on_gradients()


class _Recording:
    """One run of the function on Traced arrays."""

    def __init__(self, function: Any, state: State, form: Any, arrays: list[Any], phantom: bool) -> None:
        self.recorder = r = Recorder()
        self.inputs: list[Traced] = []
        self.missing = [t for t in state.tensors if t.grad is None]
        names = iter(_argument_names(function, len(arrays)))
        rest = iter(arrays)

        def rebuilt(f: Any) -> Any:
            if f in ("tensor", "array"):
                self.inputs.append(r.memory(np.empty_like(next(rest)), "input", next(names)))
                return Tensor(self.inputs[-1]) if f == "tensor" else self.inputs[-1]
            kind = f[0]
            if kind == "value":
                return f[2]
            if kind == "dict":
                return {k: rebuilt(v) for k, v in f[1:]}
            return {"tuple": tuple, "list": list}[kind](map(rebuilt, f[1:]))

        args, kwargs = rebuilt(form)
        self.bounds = bind(r, state, phantom)
        try:
            with _kernels_recorded(r):
                result = function(*args, **kwargs)
                self.outputs: list[Traced] = []
                self.result = self._results(result)
                self._changes()
        finally:
            for bound in reversed(self.bounds):
                bound.set(bound.before)

    def _results(self, x: Any) -> Any:
        if isinstance(x, Tensor | Traced | np.ndarray):
            data = x.data if isinstance(x, Tensor) else x
            data = data if isinstance(data, Traced) else self.recorder.constant(np.asarray(data))
            whole = data.memory.kind == "buffer" and data.parent is None and data.memory not in [o.memory for o in self.outputs]
            self.outputs.append(data if whole else data.copy())
            return "tensor" if isinstance(x, Tensor) else "array", len(self.outputs) - 1
        if isinstance(x, tuple | list):
            return ("sequence", type(x), [self._results(v) for v in x])
        if isinstance(x, dict):
            return ("dict", {k: self._results(v) for k, v in x.items()})
        return "value", x

    def _changes(self) -> None:
        """What the function left in the places of its state: values to store there, numbers to hand back."""
        self.numbers: list[tuple[Bound, Traced]] = []
        self.gradients: list[tuple[Tensor, Traced | None]] = []
        for bound in self.bounds:
            now = bound.get()
            if bound.owner.__class__ is Tensor and bound.key == "grad":
                continue
            if now is bound.traced:
                continue
            if not isinstance(now, Traced):
                name = bound.traced.memory.name
                raise CompileError(
                    f"compile: the step changes {name} to {now!r:.50} in Python, which would happen only once; "
                    "do that outside of the compiled function"
                )
            if bound.traced.memory.number:
                self.numbers.append((bound, now))
            else:
                self.recorder.write(bound.traced, now)
        tensors = dict.fromkeys(b.owner for b in self.bounds if isinstance(b.owner, Tensor))
        traced_gradients = {id(b.owner): b.traced for b in self.bounds if b.key == "grad"}
        for tensor in tensors:
            grad = tensor.grad
            if grad is traced_gradients.get(id(tensor)):
                continue
            if isinstance(grad, Traced):
                whole = grad.memory.kind == "buffer" and grad.size == grad.memory.array.size and 0 not in grad.strides
                grad = grad if whole else grad.copy()
            self.gradients.append((tensor, grad))
            tensor.grad = None

    def _used(self) -> set[int]:
        return {id(o.memory) for node in Plan(self.recorder, self.all_outputs).nodes for o in node.operands
                if isinstance(o, Traced)} | {id(o.memory) for o in self.all_outputs}  # fmt: skip

    @property
    def all_outputs(self) -> list[Traced]:
        return [*self.outputs, *(g for _, g in self.gradients if g is not None), *(n for _, n in self.numbers)]

    def depends_on_missing_gradients(self) -> bool:
        used, missing = self._used(), set(map(id, self.missing))
        return any(b.key == "grad" and id(b.owner) in missing and id(b.traced.memory) in used for b in self.bounds)

    def depends_on_gradients(self) -> bool:
        used = self._used()
        return any(b.key == "grad" and id(b.traced.memory) in used for b in self.bounds)


class Program:
    """What was recorded, compiled when it is first called."""

    def __init__(self, made: _Recording, state: State) -> None:
        self.recording, self.recorder = made, made.recorder
        self.plan = Plan(self.recorder, made.all_outputs)
        self.kernels: dict[str, tuple[Kernel, bool]] = {}
        self.state_memory = self.plan.used("state", "constant")
        self.number_memory = self.plan.used("number")
        inputs = [x.memory for x in made.inputs]
        kept = list(dict.fromkeys(o.memory for o in made.all_outputs if self.plan.scalar(o.memory) is None and o.ndim))
        self.kept = kept
        self.arenas = {name: _aligned(size, name) for name, size in self.plan.arenas.items()}
        lower = Lower(self.plan)
        body = lower.body()
        self.kernels = lower.kernels
        generators = [name for name, _ in self.recorder.generators.values()]
        parameters = [m.name for m in [*inputs, *self.state_memory, *self.number_memory, *kept]]
        parameters += [f"{name}s" for name in self.arenas] + generators
        places = [
            f"    {m.name} = {m.array.dtype.name}s[{at}:{at + m.array.size}]" for m, at in self.plan.offsets.items()
        ]
        scalars = [o for o in made.all_outputs if o.memory not in kept]
        self.scalars = scalars
        back = ", ".join(self.plan.scalar(o.memory) or f"{o.memory.name}[0]" for o in scalars)
        self.loops = "\n".join(
            [f"def step({', '.join(parameters)}):", *places, *body, f"    return ({back}{',' * (len(scalars) == 1)})", ""]
        )
        self.threads = any(threads for _, threads in self.kernels.values())
        self._built: dict[bool, Callable[..., Any]] = {}
        self.parallel = None
        self.source = self.loops

    def __call__(self, arrays: list[Any], stats: dict[str, Any]) -> Any:
        made = self.recording
        outputs = {m: np.empty(m.array.shape, m.array.dtype) for m in self.kept}
        args = [a.reshape(-1) for a in arrays]
        args += [self._flat(m) for m in self.state_memory]
        args += [self._number(m) for m in self.number_memory]
        args += [outputs[m].reshape(-1) for m in self.kept]
        args += self.arenas.values()
        args += [g for _, g in self.recorder.generators.values()]
        if not self._built:
            began = time.perf_counter()
            result = self._run(args)
            stats["compile_seconds"] += time.perf_counter() - began
        else:
            result = self._run(args)
        values = dict(zip((id(o) for o in self.scalars), result, strict=True))

        def value(o: Traced) -> Any:
            if o.memory not in outputs:
                return np.asarray(values[id(o)], o.dtype).reshape(o.shape)
            whole = outputs[o.memory]
            return whole if o.parent is None else np.lib.stride_tricks.as_strided(whole, o.shape, o.strides)

        for bound, number in made.numbers:
            bound.set(values[id(number)])
        for tensor, grad in made.gradients:
            tensor.grad = None if grad is None else value(grad)
        return _rebuilt(made.result, [value(o) for o in made.outputs])

    def _run(self, args: list[Any]) -> Any:
        if self.threads:
            return _POOL.run(self, tuple(args))  # type: ignore[arg-type]
        return self.serial(*args)

    def _flat(self, memory: Memory) -> Any:
        source = memory.source
        return flat(source.get() if isinstance(source, Bound) else source)

    def _number(self, memory: Memory) -> Any:
        value = memory.source.get()
        return float(value) if memory.array.dtype.kind == "f" else int(value)

    @property
    def serial(self) -> Callable[..., Any]:
        return self._build(False)

    @property
    def threaded(self) -> Callable[..., Any]:
        return self._build(True)

    def _build(self, threads: bool) -> Callable[..., Any]:
        if threads not in self._built:
            self._built[threads] = _compiled(self.loops, self.kernels, threads)
        return self._built[threads]


def _compiled(text: str, kernels: dict[str, tuple[Kernel, bool]], threads: bool) -> Callable[..., Any]:
    digest = hashlib.sha256(repr((text, threads)).encode()).hexdigest()[:16]
    scope: dict[str, Any] = {"np": np}
    for name, (kernel, parallel) in kernels.items():
        scope[name] = kernel.threaded if parallel and threads else kernel.serial
    exec(compile(text, f"<minidl step {digest}>", "exec"), scope)
    function: Callable[..., Any] = scope["step"]
    if interpreted():
        return function
    import numba

    from minidl import kernel_cache

    function.__qualname__ = f"step_{digest}"
    function.__module__ = "minidl.compiler.program"
    dispatcher: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy")(function)
    kernel_cache.attach(dispatcher, function)
    return dispatcher


def _aligned(size: int, dtype: str) -> Any:
    made = np.empty(size + 64, dtype)
    skip = (-made.ctypes.data // made.itemsize) % (64 // made.itemsize)
    return made[skip : skip + size]


def _rebuilt(form: Any, values: list[Any]) -> Any:
    kind = form[0]
    if kind == "tensor":
        return Tensor(values[form[1]])
    if kind == "array":
        return values[form[1]]
    if kind == "sequence":
        return form[1](_rebuilt(f, values) for f in form[2])
    if kind == "dict":
        return {k: _rebuilt(f, values) for k, f in form[1].items()}
    return form[1]


def _argument_names(function: Any, count: int) -> list[str]:
    code = getattr(function, "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else ["x"]
    return [*names, *(f"x{i}" for i in range(count))][:count] if count > len(names) else names[:count]


__all__ = ["Program", "get_num_threads", "record"]
