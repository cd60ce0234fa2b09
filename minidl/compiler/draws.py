"""Random numbers in a step: drawn by the program in each call, and by nobody while it is recorded."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np

from minidl.jit import kernel
from minidl.tensor import Array


@kernel
def uniform_draw(generator: np.random.Generator, y: Array) -> None:
    """y[i] ~ U[0, 1), the numbers that `generator.random(y.size, np.float32)` gives.   Flat float32"""
    y[:] = generator.random(y.size, np.float32)


@kernel
def normal_draw(generator: np.random.Generator, y: Array) -> None:
    """y[i] ~ N(0, 1), the numbers that `generator.standard_normal(y.size, np.float32)` gives.   Flat float32"""
    y[:] = generator.standard_normal(y.size, np.float32)


class Draws:
    """Copies of random generators, for Python to draw from while a step is recorded: so other threads may draw, too."""

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
        """The generator that this is a copy of; any other is itself."""
        return self._real.get(id(generator), generator)

    def happened(self) -> bool:
        """Has Python drawn?"""
        return any(_state(made) != before for made, before in self._stand_ins.values())


def _state(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator._bit_generator
    return _plain(bits.state)


def _plain(x: Any) -> Any:
    return {k: _plain(v) for k, v in x.items()} if isinstance(x, dict) else x.tobytes() if hasattr(x, "tobytes") else x
