"""A whole epoch as one machine-code loop: gather a batch, take a step, store the loss, repeat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler import native
from minidl.compiler.program import OWN, Program, unforeseen
from minidl.data.loader import gather_images
from minidl.jit import kernel
from minidl.jit.pool import POOL
from minidl.tensor import Array


@kernel
def gather_rows(rows: Array, indices: Array, out: Array) -> None:
    """out[n, i] = rows[indices[n], i]"""
    for n in range(indices.size):
        for i in range(rows.shape[1]):
            out[n, i] = rows[indices[n], i]


class Epoch:
    """The compiled loop around a program's steps, which gathers batches of these arrays, scaled as a loader would.

    batch   arrays of the shapes and dtypes of a batch, which it overwrites
    """

    def __init__(self, program: Program, arrays: list[Array], affine: list[Any], batch: list[Array]) -> None:
        self.program, self.batch = program, batch
        self.args: list[Any] = []
        parameters, lines, calls = [], [], {}
        for k, (array, scaling, out) in enumerate(zip(arrays, affine, batch, strict=True)):
            parameters += [f"array{k}", f"batch{k}"]
            if scaling is None:
                self.args += [np.require(array, requirements=("C", "W")).reshape(len(array), -1), out]
                lines.append(f"gather_rows{k}(array{k}, rows, batch{k}.reshape({_two(out.shape)}))")
                made: Any = (gather_rows, False, ((array.dtype, 2), (np.dtype(np.int64), 1), (array.dtype, 2)))
                calls[f"gather_rows{k}"] = made
            else:
                channels = len(scaling[0])
                self.args += [array.reshape(len(array), channels, -1), out, *scaling]
                parameters += [f"scale{k}", f"shift{k}"]
                shape = out.shape[0], channels, out.size // (out.shape[0] * channels)
                lines.append(f"gather_images(array{k}, rows, scale{k}, shift{k}, batch{k}.reshape({shape}))")
                single = np.dtype(np.float32)
                types = ((array.dtype, 3), (np.dtype(np.int64), 1), (single, 1), (single, 1), (single, 3))
                calls["gather_images"] = gather_images, out.size >= 1 << 17, types
        self.calls: native.Calls = calls
        generators = [f"generator{k}" for k in range(len(program.generators))]
        given = ", ".join([f"batch{k}" for k in range(len(batch))] + generators)
        lines.append(f"step(memory, floats, integers, {given})")
        inside = {id(slot): (is_float, at) for is_float, at, slot in program.numbers_in}
        for slot, is_float, at in program.counts_out:
            numbers = "floats" if is_float else "integers"
            lines.append(f"{numbers}[{inside[id(slot)][1]}] = {numbers}[{at}]")
        returned = program.numbers_out.get(id(program.made.outputs[0])) if program.made.outputs else None
        if returned is not None:
            lines.append(f"losses[b] = {'floats' if returned[0] else 'integers'}[{returned[1]}]")
        lines.append("done[0] = b + 1")
        head = ["memory", "floats", "integers", "order", "losses", "done", "first", "last", *parameters, *generators]
        size = batch[0].shape[0]
        self.text = "\n".join(
            [
                f"def step_loop({', '.join(head)}):",
                "    for b in range(first, last):",
                f"        rows = order[b * {size} : b * {size} + {size}]",
                *(f"        {line}" for line in lines),
                "",
            ]
        )
        self._built: dict[bool, Callable[..., Any]] = {}

    def run(self, order: Array, losses: Array, first: int, last: int) -> None:
        """Take steps `first` to `last` through the examples in this order, and store their losses, one per step.

        After an error raised by the function itself, the state is that of the last complete step. CompileError: no step
        has begun.
        """
        program, done = self.program, np.array([first])
        program.take_state()
        args = (program.memory, program.floats, program.integers, order, losses, done, first, last)
        call = (*args, *self.args, *program.generators)
        try:
            POOL.run(self, call) if program.threads else self.serial(*call)
        except BaseException as error:
            if done[0] > first:
                program.give()
                program.clear(error)
            else:
                program.restore(error)
            if isinstance(error, OWN):
                raise program.explained(error, self.batch) from None
            if isinstance(error, Exception):
                raise unforeseen(error) from error
            raise
        program.give()

    @property
    def serial(self) -> Callable[..., Any]:
        return self._build(False)

    @property
    def threaded(self) -> Callable[..., Any]:
        return self._build(True)

    def _build(self, threads: bool) -> Callable[..., Any]:
        if threads not in self._built:
            step = self.program.threaded if threads else self.program.serial
            signature = self.program.signature
            self._built[threads] = native.build(self.text, self.calls, threads, {"step": (step, signature)})
        return self._built[threads]


def _two(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], int(np.prod(shape[1:]))
