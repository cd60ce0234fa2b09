"""Observing a model while it runs, without leaving a trace."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from minidl.core import locks
from minidl.core.seam import SEAM, Interceptor, intercepted
from minidl.nn import Dense, Module
from minidl.nn.container import runs_as_one
from minidl.random import default_generator
from minidl.tensor import Array, Tensor

_ONE_AT_A_TIME = locks.lock()


@contextlib.contextmanager
def observed(
    call_module: Callable[..., Any], run_op: Callable[..., Any], names: Collection[str] | None = None
) -> Iterator[None]:
    """Within the block, calls of modules and ops in this thread go through these functions, which must make the call.

    call_module   (call, module, *args, **kwargs) → call(module, *args, **kwargs), for every Module call
    run_op        (function, *args, **kwargs) → function(*args, **kwargs), the value and gradients of an op on arrays
    names         of the ops; None: all

    Other threads are not affected, and may observe at the same time.
    """
    with intercepted(_Observer(call_module, run_op, names)):
        yield


class _Observer(Interceptor):
    """Passes modules and ops to an observer, and the rest to the previous interceptor."""

    def __init__(
        self, call_module: Callable[..., Any], run_op: Callable[..., Any], names: Collection[str] | None
    ) -> None:
        self.call_module, self.run_op, self.names = call_module, run_op, names
        self.outer = SEAM.interceptor or Interceptor()
        # observers find the layers of a `dense_relu` by `fused`
        self.knows_fused = type(self.outer).module is Interceptor.module or self.outer.knows_fused

    def module(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def call(module: Module, *args: Any, **kwargs: Any) -> Any:
            return self.outer.module(module, args, kwargs)

        return self.call_module(call, module, *args, **kwargs)

    def op(self, function: Callable[..., Any], args: Any, arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        def run(*arrays: Any, **kwargs: Any) -> Any:
            return self.outer.op(function, args, list(arrays), kwargs)

        if self.names is not None and function.__name__ not in self.names:
            return run(*arrays, **kwargs)
        return self.run_op(functools.wraps(function)(run), *arrays, **kwargs)

    def kernel(self, kernel: Any, args: tuple[Any, ...]) -> Any:
        return self.outer.kernel(kernel, args)

    def backward(self, tensor: Any, run: Callable[[], None]) -> None:
        self.outer.backward(tensor, run)

    def gradient(self, op: str, tensor: Any) -> None:
        self.outer.gradient(op, tensor)

    def update(self, optimizer: Any, parameter: Any, run: Callable[[], None]) -> None:
        self.outer.update(optimizer, parameter, run)

    def array(self, array: Any) -> Any:
        return self.outer.array(array)

    def generator(self, default: Any) -> Any:
        return self.outer.generator(default)


@contextlib.contextmanager
def restored(*things: Any) -> Iterator[None]:
    """Restore these after the block: attributes, lists, dicts, values of arrays, states of generators.

    One block at a time, so that none saves a state that another is changing.
    """
    undo: list[Callable[[], object]] = []
    seen: set[int] = set()

    def visit(x: Any) -> None:
        if id(x) in seen:
            return
        seen.add(id(x))
        if isinstance(x, Module):
            visit(vars(x))
        elif isinstance(x, dict):
            before = dict(x)

            def put_back_items() -> None:
                x.clear()
                x.update(before)

            undo.append(put_back_items)
            for value in before.values():
                visit(value)
        elif isinstance(x, list):
            items = list(x)
            undo.append(lambda: x.__setitem__(slice(None), items))
            for value in items:
                visit(value)
        elif isinstance(x, tuple):
            for value in x:
                visit(value)
        elif isinstance(x, Tensor):
            data, grad, requires_grad = x.data, x.grad, x.requires_grad

            def put_back() -> None:
                x.data, x.grad, x.requires_grad = data, grad, requires_grad

            undo.append(put_back)
            visit(data)
        elif isinstance(x, np.ndarray) and x.flags.writeable:
            values = x.copy(order="K")
            undo.append(lambda: x.__setitem__(..., values))
        elif isinstance(x, np.random.Generator):
            state = x.bit_generator.state
            undo.append(lambda: setattr(x.bit_generator, "state", state))

    with _ONE_AT_A_TIME:
        for thing in (*things, default_generator()):
            visit(thing)
        try:
            yield
        finally:
            for action in undo:
                action()


def fused(model: Module) -> dict[int, tuple[Module, Module | None]]:
    """id(weight array) → the Dense and the ReLU after it, if any, which a Sequential runs as one op."""
    found: dict[int, tuple[Module, Module | None]] = {}
    for module in model.modules():
        siblings = [m for _, m in module.children()]
        for here, after in zip(siblings, [*siblings[1:], None], strict=False):
            if isinstance(here, Dense):
                found.setdefault(id(here.weight.data), (here, after if runs_as_one(here, after) else None))
    return found


def arrays_in(x: Any) -> Iterator[Array]:
    """Arrays, including those of Tensors, in this value and its nested lists, tuples and dicts, in order."""
    stack, seen = [x], set[int]()
    while stack:
        x = stack.pop()
        if isinstance(x, Tensor):
            yield x.data
        elif isinstance(x, np.ndarray):
            yield x
        elif isinstance(x, list | tuple | dict) and id(x) not in seen:
            seen.add(id(x))
            stack.extend(reversed(list(x.values() if isinstance(x, dict) else x)))
