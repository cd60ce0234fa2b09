"""Constants: arrays that a step uses but that are neither its arguments nor its state, held by reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.compiler.traced import CompileError, Traced
from minidl.tensor import Array


class Constants:
    """A recorder's constants. `pinned`: those whose values Python has read, with the values."""

    def __init__(self) -> None:
        self._constants: dict[int, Traced] = {}
        self.pinned: dict[int, tuple[Array, Array]] = {}

    def memory(self, array: Array, kind: str, name: str, source: Any = None) -> Traced:
        raise NotImplementedError

    def error(self, what: str, instead: str) -> CompileError:
        raise NotImplementedError

    def constant(self, array: Array, name: str = "") -> Traced:
        """An array that is not among the step's inputs or state, passed by reference.

        If its elements are not contiguous, the step works on a copy, made anew in each call.
        """
        if id(array) not in self._constants:
            if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
                raise self.error(f"uses an array of {array.dtype}", "expected numbers that minidl.compile knows")
            flags = array.flags
            direct = (flags.c_contiguous or flags.f_contiguous) and flags.aligned and array.dtype.isnative
            used = array if direct else np.array(array, array.dtype.newbyteorder("="), order="C")
            first = used.flat[0] if used.size and not name else None
            if first in (0, 1) and (used == first).all():
                name = "ones" if first else "zeros"
            self._constants[id(array)] = self.memory(used, "constant", name or "constant", source=array)
        return self._constants[id(array)]

    def traced(self, x: Any) -> Any:
        """An array as a Traced one, constants too; anything else unchanged."""
        return self.constant(x) if isinstance(x, np.ndarray) and x.dtype.kind in "fiub" else x

    def known(self, x: Any) -> Any:
        """The values of a constant, or of those in a list or tuple: the program then holds for these values only.

        None for anything else in the step.
        """
        if isinstance(x, Traced):
            if x.memory.kind != "constant":
                return None
            self.pinned[id(x.memory.source)] = x.memory.source, np.array(x.memory.source)
            return x.value
        if type(x) in (list, tuple) and any(isinstance(v, Traced) for v in x):
            made = [self.known(v) if isinstance(v, Traced) else v for v in x]
            return None if any(v is None and o is not None for v, o in zip(made, x, strict=True)) else type(x)(made)
        return x
