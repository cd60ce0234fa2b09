"""Random numbers in a step: drawn by the program in each call, never while it is recorded."""

from __future__ import annotations

import contextlib
import copy
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.jit import kernel
from minidl.tensor import Array

_PYTHONS: Any = random.random.__self__  # type: ignore[attr-defined]
_NUMPYS: Any = np.random.mtrand._rand


@kernel
def uniform_draw(generator: np.random.Generator, y: Array) -> None:
    """y[i] ~ U[0, 1), the numbers that `generator.random(y.size, np.float32)` gives.   Flat float32"""
    y[:] = generator.random(y.size, np.float32)


@kernel
def normal_draw(generator: np.random.Generator, y: Array) -> None:
    """y[i] ~ N(0, 1), the numbers that `generator.standard_normal(y.size, np.float32)` gives.   Flat float32"""
    y[:] = generator.standard_normal(y.size, np.float32)


class Draws:
    """Copies of random generators for Python to draw from during recording, so that other threads may draw too."""

    def __init__(self) -> None:
        self._stand_ins: dict[int, tuple[Any, Any]] = {}
        self._real: dict[int, Any] = {}

    def stand_in(self, generator: Any) -> Any:
        """The copy of a generator."""
        if id(generator) in self._real:
            return generator
        if id(generator) not in self._stand_ins:
            made = copy.deepcopy(generator)
            self._stand_ins[id(generator)] = made, _state(made)
            self._real[id(made)] = generator
        return self._stand_ins[id(generator)][0]

    def real(self, generator: Any) -> Any:
        """The original of a copied generator; any other generator unchanged."""
        return self._real.get(id(generator), generator)

    def happened(self) -> bool:
        """Whether Python has drawn from a copy."""
        return any(_state(made) != before for made, before in self._stand_ins.values())


class Shared:
    """The global generators of `random` and `np.random`, and whether this thread has drawn from them."""

    def __init__(self) -> None:
        self.before = self._now()

    def drawn(self, run: Callable[[], object]) -> bool:
        """Whether `run` drew when it last ran. If the generators have changed since, it runs again under watch.

        If it did, their state is restored. NumPy's lock keeps other threads out meanwhile, and a profile function of
        this thread sees calls of Python's generator.
        """
        if _plain(self._now()) == _plain(self.before):
            return False
        seen, profile = [False], sys.getprofile()

        def watch(frame: Any, event: str, called: Any) -> None:
            owner = getattr(called, "__self__", None) if event == "c_call" else frame.f_locals.get("self")
            seen[0] = seen[0] or owner is _PYTHONS

        with _NUMPYS._bit_generator.lock:
            again = self._now()[1]
            sys.setprofile(watch)
            try:
                with contextlib.suppress(Exception):
                    run()
            finally:
                sys.setprofile(profile)
            seen[0] = seen[0] or _plain(self._now()[1]) != _plain(again)
        if seen[0]:
            _PYTHONS.setstate(self.before[0])
            _NUMPYS.set_state(self.before[1])
        return seen[0]

    def _now(self) -> Any:
        return _PYTHONS.getstate(), _NUMPYS.get_state(legacy=False)


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    return _plain(bits.state)


def _plain(x: Any) -> Any:
    if isinstance(x, list | tuple):
        return [_plain(v) for v in x]
    return {k: _plain(v) for k, v in x.items()} if isinstance(x, dict) else x.tobytes() if hasattr(x, "tobytes") else x
