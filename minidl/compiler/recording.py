"""One run of the function on Traced arrays, and what it left where its state was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.compiler.plan import live_nodes
from minidl.compiler.recorder import Recorder
from minidl.compiler.state import Slot, State, bind
from minidl.compiler.traced import CompileError, Traced
from minidl.jit import KERNELS, Kernel
from minidl.tensor import Tensor


@contextlib.contextmanager
def kernels_recorded(recorder: Recorder) -> Iterator[None]:
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


class Recording:
    """One run of the function on Traced arrays."""

    def __init__(self, function: Any, state: State, form: Any, arrays: list[Any], phantom: bool) -> None:
        self.recorder = r = Recorder()
        self.inputs: list[Traced] = []
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
        self.bound = bind(r, state, phantom)
        try:
            with kernels_recorded(r):
                draws = state.draws()
                result = function(*args, **kwargs)
                if state.draws() != draws:
                    raise CompileError(
                        "compile: the step draws random numbers in Python, which would happen only once; draw them "
                        "outside and pass them as an argument, or use ops.dropout"
                    )
                r.ended = True
                self.outputs: list[Traced] = []
                self.result = self._results(result)
                self._changes()
                if len(self.outputs) == 1 and self.outputs[0].ndim == 0 and self.outputs[0].memory.kind == "buffer":
                    r.rename(self.outputs[0].memory, "loss" if self.gradients else "result")
        finally:
            for slot, _, before in reversed(self.bound):
                slot.set(before)
            made = state.drop_traced()
        if made:
            raise CompileError(
                f"compile: the step makes {' and '.join(made)} in its first call; call it once before compiling it"
            )

    def _results(self, x: Any) -> Any:
        if isinstance(x, Tensor | Traced | np.ndarray):
            data = x.data if isinstance(x, Tensor) else x
            data = data if isinstance(data, Traced) else self.recorder.constant(np.asarray(data))
            whole = (
                data.memory.kind == "buffer"
                and data.parent is None
                and data.memory not in [o.memory for o in self.outputs]
            )
            self.outputs.append(data if whole else data.copy())
            return "tensor" if isinstance(x, Tensor) else "array", len(self.outputs) - 1
        if isinstance(x, tuple | list):
            return ("sequence", type(x), [self._results(v) for v in x])
        if isinstance(x, dict):
            return ("dict", {k: self._results(v) for k, v in x.items()})
        return "value", x

    def _changes(self) -> None:
        """What the function left in the places of its state: values to store there, numbers to hand back."""
        self.numbers: list[tuple[Slot, Traced]] = []
        self.gradients: list[tuple[Tensor, Traced | None]] = []
        names = {slot.owner: traced.memory.name for slot, traced, _ in self.bound if slot.key == "data"}
        before = {slot.owner: traced for slot, traced, _ in self.bound if slot.key == "grad"}
        for slot, traced, _ in self.bound:
            now = slot.get()
            if now is traced or slot.key == "grad":
                continue
            if not isinstance(now, Traced):
                raise CompileError(
                    f"compile: the step changes {traced.memory.name} to {now!r:.50} in Python, which would happen "
                    "only once; do that outside of the compiled function"
                )
            if traced.memory.number:
                self.numbers.append((slot, now))
            else:
                self.recorder.write(traced, now)
        for tensor in dict.fromkeys(slot.owner for slot, _, _ in self.bound if isinstance(slot.owner, Tensor)):
            grad: Any = tensor.grad
            if grad is not before.get(tensor):
                if isinstance(grad, Traced):
                    whole = (
                        grad.memory.kind == "buffer" and grad.size == grad.memory.array.size and 0 not in grad.strides
                    )
                    taken = any(grad.memory is g.memory for _, g in self.gradients if g is not None)
                    grad = grad if whole and not taken else grad.copy()
                    self.recorder.rename(grad.memory, f"d_{names[tensor]}")
                self.gradients.append((tensor, grad))
                tensor.grad = None

    @property
    def all_outputs(self) -> list[Traced]:
        return [*self.outputs, *(g for _, g in self.gradients if g is not None), *(n for _, n in self.numbers)]

    def gradients_read(self) -> list[Tensor]:
        """The tensors whose gradient from before the step matters to it."""
        nodes = live_nodes(self.recorder.nodes, self.all_outputs)
        used = {id(o.memory) for node in nodes for o in node.operands if isinstance(o, Traced)}
        used |= {id(o.memory) for o in self.all_outputs}
        return [slot.owner for slot, traced, _ in self.bound if slot.key == "grad" and id(traced.memory) in used]


def _argument_names(function: Any, count: int) -> list[str]:
    code = getattr(function, "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else ["x"]
    return [*names, *(f"x{i}" for i in range(count))][:count] if count > len(names) else names[:count]
