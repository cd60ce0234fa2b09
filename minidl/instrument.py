"""Looking on while a model runs, and leaving no trace: for those who study models from outside."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from minidl.core import locks
from minidl.nn import Dense, Module, ReLU
from minidl.random import default_generator
from minidl.tensor import OPS, Array, Tensor

_ONE_AT_A_TIME = locks.lock()


@contextlib.contextmanager
def observed(
    call_module: Callable[..., Any], run_op: Callable[..., Any], names: Collection[str] | None = None
) -> Iterator[None]:
    """Within the block, what this thread calls goes through these functions, which call it themselves.

    call_module   (call, module, *args, **kwargs) → call(module, *args, **kwargs), for every Module that is called
    run_op        (function, *args, **kwargs) → function(*args, **kwargs), the value and gradients of an op on arrays
    names         of the ops; None: all

    Other threads go on as always. One block at a time: another thread that wants one waits.
    """
    thread = threading.get_ident()
    call = Module.__call__

    def call_observed(module: Module, *args: Any, **kwargs: Any) -> Any:
        mine = threading.get_ident() == thread
        return call_module(call, module, *args, **kwargs) if mine else call(module, *args, **kwargs)

    def replaced(function: Any) -> Any:
        @functools.wraps(function)
        def run_observed(*args: Any, **kwargs: Any) -> Any:
            mine = threading.get_ident() == thread
            return run_op(function, *args, **kwargs) if mine else function(*args, **kwargs)

        return run_observed

    with _ONE_AT_A_TIME:
        cells: list[Any] = []
        for name, op in OPS.items():  # where an op, made by `@op`, finds its function, wherever it is called from
            made: Any = op
            if names is None or name in names:
                cells.append(made.__closure__[made.__code__.co_freevars.index("function")])
        functions = [cell.cell_contents for cell in cells]
        try:
            Module.__call__ = call_observed  # type: ignore[assignment, method-assign]
            for cell, function in zip(cells, functions, strict=True):
                cell.cell_contents = replaced(function)
            yield
        finally:
            Module.__call__ = call  # type: ignore[method-assign]
            for cell, function in zip(cells, functions, strict=True):
                cell.cell_contents = function


@contextlib.contextmanager
def restored(*things: Any) -> Iterator[None]:
    """After the block, these are as before: attributes, lists, dicts, values of arrays, states of generators.

    One block at a time, so that none takes for before what another is changing.
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
    """id(weight array) → the Dense and, where one comes after it, the ReLU: a Sequential runs both as one op."""
    found: dict[int, tuple[Module, Module | None]] = {}
    for module in model.modules():
        siblings = [m for _, m in module.children()]
        for here, after in zip(siblings, [*siblings[1:], None], strict=False):
            if isinstance(here, Dense):
                found.setdefault(id(here.weight.data), (here, after if type(after) is ReLU else None))
    return found


def arrays_in(x: Any) -> Iterator[Array]:
    """Arrays, Tensors' too, in this value and in its lists, tuples and dicts, in order."""
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
