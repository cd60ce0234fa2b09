"""One run of the function on Traced arrays, and what it left in place of its state."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.draws import Draws
from minidl.compiler.numbers import Number
from minidl.compiler.plan import live_nodes
from minidl.compiler.reach import GENERATORS
from minidl.compiler.recorder import Recorder
from minidl.compiler.shadow import Shadows
from minidl.compiler.state import Attribute, Binding, Slot, State
from minidl.compiler.traced import CompileError, Traced
from minidl.core.grad_mode import PAUSED
from minidl.core.seam import Interceptor, intercepted
from minidl.jit import Kernel
from minidl.tensor import Tensor

DRAWS = (
    "compile: the step draws random numbers in Python, which would happen only once; draw them outside and pass them "
    "as an argument, or use ops.dropout"
)


class Recording(Interceptor):
    """One run of the function on Traced arrays and copies of its state: nothing that other code sees is touched.

    `commit` repeats the function's changes to Python objects. CompileError: it cannot be recorded. Any other error is
    the function's own, or unforeseen.
    """

    def __init__(self, function: Any, state: State, form: Any, arrays: list[Any], phantom: bool) -> None:
        self.recorder = r = Recorder()
        self.state = state
        self.inputs: list[Traced] = []
        self.outputs: list[Traced] = []
        self._leaves: list[tuple[weakref.ref[Tensor], Any]] = []
        names = iter(_argument_names(function, len(arrays)))
        args, kwargs = rebuilt(form, [r.memory(np.empty_like(a), "input", next(names)) for a in arrays], self.inputs)
        self.binding = Binding(r, state, phantom)
        r.cleared = self.binding.cleared
        try:
            with intercepted(self):
                self._run(self.binding.shadows.of(function), args, kwargs)
                del args, kwargs
        finally:
            strangers = self._put_back()
        if strangers:
            found = " and ".join(f"{t.dtype} {t.shape}" for t in strangers)
            raise CompileError(
                f"compile: the step differentiates through a Tensor that minidl.compile does not find, {found}: make "
                "it an attribute of a model or of an object that the function names, or a variable beside the function"
            )

    def _run(self, function: Any, args: Any, kwargs: Any) -> None:
        r = self.recorder
        result = function(*args, **kwargs)
        if r.draws.happened():
            raise CompileError(DRAWS)
        r.ended = True
        self.result = self._results(result)
        if made := self.binding.made_in_python():
            raise CompileError(
                f"compile: the step makes {' and '.join(made)} in its first call; call it once before compiling it"
            )
        self._changes()
        self.changes = self.binding.shadows.changes(self.binding.is_state)
        if len(self.outputs) == 1 and self.outputs[0].ndim == 0 and self.outputs[0].memory.kind == "buffer":
            r.rename(self.outputs[0].memory, "loss" if self.gradients else "result")

    def commit(self, rebound: set[Any]) -> None:
        """Apply the function's changes to Python objects to the originals of the copies.

        rebound   places that earlier recordings rebound. CompileError: one of them is rebound again.
        """
        anew = {change.place: change.name for change in self.changes if not change.adds}
        if again := [name for place, name in anew.items() if place in rebound]:
            raise CompileError(
                f"compile: the step changes {' and '.join(again)} in Python at each call, which would happen only "
                "once; do that outside of the compiled function"
            )
        rebound.update(anew)
        for change in self.changes:
            change.make()
            if change.adds:
                self.state.reach.guard.accept(change.owner)

    # ------------------------------------------------------------------------------ as interceptor

    def op(self, function: Callable[..., Any], args: Any, arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        """Make every array that goes into an op or comes out of it Traced, so that derived arrays are too."""
        name = function.__name__
        with self.recorder.begun("", name, name):
            return self._op(function, args, arrays, kwargs)

    def _op(self, function: Callable[..., Any], args: Any, arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        r = self.recorder
        for a in args:
            for x in a if type(a) in (list, tuple) else (a,):
                if isinstance(x, Tensor) and x.requires_grad and not isinstance(x.data, Traced) and not PAUSED.get():
                    self._meet(x)
        given = [type(a)(map(r.traced, a)) if type(a) in (list, tuple) else r.traced(a) for a in arrays]
        value, gradients = function(*given, **{k: r.traced(v) for k, v in kwargs.items()})
        made = value if isinstance(value, Traced) else r.constant(np.asarray(value))
        return made, tuple(g and self._carrying(g) for g in gradients)

    def _carrying(self, gradient: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda dy: self.recorder.traced(gradient(self.recorder.traced(dy)))

    def kernel(self, kernel: Kernel, args: tuple[Any, ...]) -> Any:
        other = kernel._replacement
        if not any(isinstance(a, Traced) for a in args):
            return super().kernel(kernel, args)
        if other is not None and not isinstance(other, Kernel):
            raise self.recorder.error(
                f"calls {kernel.__name__}, for which a plain function stands now", "replace it by another kernel"
            )
        return self.recorder.call(other or kernel, args)

    def backward(self, tensor: Tensor, run: Callable[[], None]) -> None:
        with self.recorder.begun("backward", "", "d_loss"):
            run()

    def gradient(self, op: str, tensor: Tensor) -> None:
        name = tensor.data.memory.name if isinstance(tensor.data, Traced) else "loss"
        self.recorder.doing[-1] = "backward", op, f"d_{name}"

    def update(self, optimizer: Any, parameter: Tensor, run: Callable[[], None]) -> None:
        with self.recorder.begun("update", type(optimizer).__name__, "update"):
            run()

    def array(self, array: Any) -> Any:
        return self.recorder.traced(array)

    def generator(self, default: Any) -> Any:
        return self.recorder.draws.stand_in(default)

    def _meet(self, tensor: Tensor) -> None:
        """Check a Tensor that is not a copy: the function made it, or the walk did not find it."""
        if not tensor.is_leaf:
            raise self.recorder.error(
                "goes on from a Tensor that was computed before, with its graph",
                "detach() it, or compute it in the step",
            )
        if all(ref() is not tensor for ref, _ in self._leaves):
            self._leaves.append((weakref.ref(tensor), tensor.grad))

    def _put_back(self) -> list[Tensor]:
        """Restore the Tensors that existed before, which other code may hold, and return them."""
        alive = [(t, grad) for ref, grad in self._leaves if (t := ref()) is not None]
        for tensor, grad in alive:
            tensor.grad = grad
        return [t for t, _ in alive]

    # ------------------------------------------------------------------------------- what it left

    def _results(self, x: Any) -> Any:
        if type(x) is Number and x.python:
            float(x)  # raises NumberNeeded: Python receives it as a plain number
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
        return "value", self.binding.shadows.kept(x, "its result")

    def _changes(self) -> None:
        """Collect what the function left in place of its state: values to store, numbers to hand back."""
        self.numbers: list[tuple[Slot, Traced]] = []
        self.gradients: list[tuple[Tensor, Traced | None]] = []
        places = self.binding.places
        data = [(slot, place, traced) for slot, place, traced in places if isinstance(place, Attribute)]
        names = {place.owner: traced.memory.name for _, place, traced in data if place.key == "data"}
        before = {place.owner: traced for _, place, traced in data if place.key == "grad"}
        for slot, place, traced in places:
            now = place.get()
            if now is traced or (isinstance(place, Attribute) and place.key == "grad"):
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
        real = {place.owner: slot.owner for slot, place, _ in data}
        for tensor in real:
            grad: Any = tensor.grad
            if grad is not before.get(tensor):
                grad = self.recorder.traced(grad)
                if isinstance(grad, Traced):
                    whole = (
                        grad.memory.kind == "buffer" and grad.size == grad.memory.array.size and 0 not in grad.strides
                    )
                    taken = any(grad.memory is g.memory for _, g in self.gradients if g is not None)
                    grad = grad if whole and not taken else grad.copy()
                    self.recorder.rename(grad.memory, f"d_{names[tensor]}")
                self.gradients.append((real[tensor], grad))

    @property
    def all_outputs(self) -> list[Traced]:
        return [*self.outputs, *(g for _, g in self.gradients if g is not None), *(n for _, n in self.numbers)]

    def gradients_read(self) -> list[Tensor]:
        """The tensors whose gradient from before the step is read by it."""
        nodes = live_nodes(self.recorder.nodes, self.all_outputs)
        used = {id(o.memory) for node in nodes for o in node.operands if isinstance(o, Traced)}
        used |= {id(o.memory) for o in self.all_outputs}
        places = [(slot, traced) for slot, _, traced in self.binding.places if isinstance(slot, Attribute)]
        return [slot.owner for slot, traced in places if slot.key == "grad" and id(traced.memory) in used]


def rebuilt(form: Any, values: list[Any], used: list[Any]) -> Any:
    """Arguments of this form (see `step`) from these arrays; `used` collects them in order."""
    if form in ("tensor", "array"):
        used.append(value := values[len(used)])
        return Tensor(value) if form == "tensor" else value
    if form[0] == "number":
        array = values[len(used)]
        used.append(number := Number(array.recorder, array.value, array.memory, form[1], frozenset([form[2]])))
        return number
    if form[0] == "value":
        return form[2]
    if form[0] == "dict":
        return {k: rebuilt(v, values, used) for k, v in form[1:]}
    return {"tuple": tuple, "list": list}[form[0]](rebuilt(v, values, used) for v in form[1:])


def _argument_names(function: Any, count: int) -> list[str]:
    code = getattr(function, "__code__", None)
    names = list(code.co_varnames[: code.co_argcount]) if code is not None else ["x"]
    return [*names, *(f"x{i}" for i in range(count))][:count] if count > len(names) else names[:count]


def replay(function: Any, state: State, args: Any, kwargs: Any) -> None:
    """Run the function itself on copies of its state, so that it raises what a call would raise."""
    draws, stand_ins = Draws(), dict[int, Any]()
    for thing in state.reach.things.values():
        if isinstance(thing, Tensor) and thing.is_leaf:
            made = stand_ins[id(thing)] = Tensor(thing.data.copy(), thing.requires_grad)
            made.grad = None if thing.grad is None else thing.grad.copy()
        elif isinstance(thing, np.ndarray):
            stand_ins[id(thing)] = thing.copy()
        elif isinstance(thing, GENERATORS):
            stand_ins[id(thing)] = draws.stand_in(thing)
    shadows = Shadows(state.reach, stand_ins)
    for optimizer in state.optimizers.values():
        kept = {shadows.of(p): copy.deepcopy(entries) for p, entries in optimizer.state.items()}
        shadows.of(optimizer).state = kept
    with intercepted(_Drawing(draws)):
        shadows.of(function)(*copy.deepcopy(args), **copy.deepcopy(kwargs))


class _Drawing(Interceptor):
    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def generator(self, default: Any) -> Any:
        return self.draws.stand_in(default)
