"""To run a model and leave no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.nn import Module
from minidl.random import default_generator
from minidl.tensor import Tensor


@contextlib.contextmanager
def restored(*things: Any) -> Iterator[None]:
    """After the block, these are as before: attributes, lists, dicts, values of arrays, states of generators."""
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
            values = x.copy()
            undo.append(lambda: x.__setitem__(..., values))
        elif isinstance(x, np.random.Generator):
            state = x.bit_generator.state
            undo.append(lambda: setattr(x.bit_generator, "state", state))

    for thing in (*things, default_generator()):
        visit(thing)
    try:
        yield
    finally:
        for action in undo:
            action()
