"""`no_grad`: blocks in which nothing is recorded for backward, counted per thread and asyncio task."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Generator
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any

PAUSED = ContextVar("minidl.no_grad", default=0)  # in how many no_grad blocks we are


class no_grad(ContextDecorator):
    """Within this block (or function) and this thread, nothing is recorded for backward.

    In a decorated generator or coroutine, each step runs within the block; what runs between steps does not.

    >>> w = minidl.Tensor([1.0, 2.0], requires_grad=True)
    >>> with minidl.no_grad():
    ...     y = 2 * w
    >>> y.requires_grad
    False
    """

    def __enter__(self) -> None:
        PAUSED.set(PAUSED.get() + 1)

    def __exit__(self, *exception: object) -> None:
        PAUSED.set(max(PAUSED.get() - 1, 0))  # max: a generator may be closed in another context than it was entered in

    def __call__(self, function: Any) -> Any:
        if inspect.iscoroutinefunction(function):

            async def awaited(*args: Any, **kwargs: Any) -> Any:
                with no_grad():
                    return await function(*args, **kwargs)

            return functools.wraps(function)(awaited)
        if inspect.isgeneratorfunction(function):
            return functools.wraps(function)(lambda *args, **kwargs: _Steps(function(*args, **kwargs)))
        if inspect.isasyncgenfunction(function):
            return functools.wraps(function)(lambda *args, **kwargs: _AsyncSteps(function(*args, **kwargs)))
        return super().__call__(function)


class _Steps(Generator[Any, Any, Any]):
    """A generator whose every step runs under no_grad."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def send(self, value: Any) -> Any:
        with no_grad():
            return self._generator.send(value)

    def throw(self, *error: Any) -> Any:
        with no_grad():
            return self._generator.throw(*error)


class _AsyncSteps(AsyncGenerator[Any, Any]):
    """An asynchronous generator whose every step runs under no_grad."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    async def asend(self, value: Any) -> Any:
        with no_grad():
            return await self._generator.asend(value)

    async def athrow(self, *error: Any) -> Any:
        with no_grad():
            return await self._generator.athrow(*error)

    async def aclose(self) -> None:
        with no_grad():
            await self._generator.aclose()
