"""Check every gradient of a recorded graph by repeating its calls in float64 with one element moved at a time.

A node keeps the call that made it, so every tensor of the graph, not only the leaves, can be moved and everything
downstream recomputed. If a call cannot be reproduced (dropout draws a new mask; an array was changed since), tensors
upstream of it have no finite difference, and the reason is reported.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl import graph
from minidl.gradcheck import POINTS, central_difference, step_at
from minidl.random import default_generator
from minidl.tensor import Array, Tensor

ALL = 64  # tensors of at most so many elements are checked completely
SAMPLE = 12  # elements checked of a larger one
STEP = 1e-5
RELATIVE = {4: 1e-4, 8: 1e-6}  # to the largest difference, by the itemsize of the gradient
ABSOLUTE = {4: 1e-5, 8: 1e-9}  # to the largest gradient arriving at a result from which this one was computed


@dataclass(eq=False)
class Difference:
    """The finite differences of the loss and the gradient of one tensor.

    where       which elements were moved, as positions in the flattened tensor
    gradient    backward's value there
    expected    Σ wᵢ (L(x + ih) − L(x − ih)) / h for i = 1, 2, 3, computed in float64
    kink        where the left and right slopes differ and the gradient lies between: both are right
    wrong       where they differ by more than rounding
    size        the number of elements of the tensor
    reason      why there are no differences, else ""
    """

    where: Array
    gradient: Array
    expected: Array
    kink: Array
    wrong: Array
    size: int
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was checked and every element is right."""
        return not self.reason and not self.wrong.any()

    def __str__(self) -> str:
        if self.reason:
            return f"none: {self.reason}"
        if not len(self.where):
            return "nothing to check"
        kinks = f", at a kink in {int(self.kink.sum())}" if self.kink.any() else ""
        distance = np.where(self.kink, 0.0, _distance(self.gradient, self.expected))
        worst = int(np.argmax(distance))
        if not self.wrong.any():
            part = f", at {len(self.where)} of {self.size:,} elements" if len(self.where) < self.size else ""
            return f"agree{kinks}, within {distance[worst]:.1g}{part}"
        return (
            f"DIFFER at {int(self.wrong.sum())} of {len(self.where)} elements; the worst, number {self.where[worst]}: "
            f"gradient {self.gradient[worst]}, finite difference {self.expected[worst]:.10g}{kinks}"
        )


def _distance(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        return np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))


def differences(root: Tensor, gradients: dict[Tensor, Array]) -> dict[Tensor, Difference]:
    """Compare the gradient of every tensor below `root` with finite differences.

    Recomputes everything downstream of a tensor 6 times per element checked: all elements, or 12 if there are more than
    64. The state of the default generator is restored.
    """
    generator = default_generator()
    state = generator.bit_generator.state
    try:
        with np.errstate(all="ignore"):
            return _Replay(root).differences(gradients)
    finally:
        generator.bit_generator.state = state


class _Replay:
    """The recorded computation, repeatable in float64 from any tensor on."""

    def __init__(self, root: Tensor) -> None:
        self.root, self.tensors = root, graph.tensors(root)
        self.values: dict[Tensor, Array] = {}
        self.calls: dict[Tensor, Callable[[dict[Tensor, Array]], Array]] = {}
        self.reasons: dict[Tensor, str] = {}  # of results that cannot be recomputed
        for t in self.tensors:
            if t._node is None:
                self.values[t] = t.data.astype(np.float64)
                continue
            again = _call(t._node, narrow=True)
            self.calls[t] = _call(t._node, narrow=False)
            try:
                if not np.array_equal(again({}), t.data, equal_nan=True):
                    raise ValueError("it gives other values when it is repeated: it is random, or was changed since")
                self.values[t] = np.asarray(self.calls[t](self.values), np.float64)
            except Exception as error:  # ops may raise anything: this one cannot be repeated
                self.reasons[t] = f"{t._node.op} cannot be run again ({error})"
                self.values[t] = t.data.astype(np.float64)

    def differences(self, gradients: dict[Tensor, Array]) -> dict[Tensor, Difference]:
        found = {}
        arriving = {t: _largest(g) for t, g in gradients.items()}
        for i, t in enumerate(self.tensors):
            after = self._after(i)
            reason = next((self.reasons[y] for y in after if y in self.reasons), "")
            scale = max((arriving[y] for y in after if any(x is t for x in self._inputs(y))), default=1.0)
            found[t] = self._difference(t, gradients[t], after, scale, reason)
        return found

    def _inputs(self, t: Tensor) -> list[Tensor]:
        return t._node.inputs if t._node else []

    def _after(self, i: int) -> list[Tensor]:
        """The tensors computed from the i-th, in order."""
        reached = {self.tensors[i]}
        for y in self.tensors[i + 1 :]:
            if not reached.isdisjoint(self._inputs(y)):
                reached.add(y)
        return [y for y in self.tensors[i + 1 :] if y in reached]

    def _difference(self, t: Tensor, gradient: Array, after: list[Tensor], scale: float, reason: str) -> Difference:
        where = _chosen(gradient)
        if reason:
            where = where[:0]
        base = self.values[t]
        flat = gradient.reshape(-1)[where]
        expected, left, right, sharp = (np.zeros(len(where)) for _ in range(4))
        for k, position in enumerate(where):
            expected[k], left[k], right[k], sharp[k] = self._slopes(t, base, int(position), after)
        size = gradient.dtype.itemsize
        tolerance = RELATIVE[size] * _largest(expected) + ABSOLUTE[size] * scale
        off = _distance(flat.astype(np.float64), expected) > tolerance
        low, high = np.minimum(left, right) - tolerance, np.maximum(left, right) + tolerance
        kink = off & (sharp > 0) & (flat >= low) & (flat <= high)
        return Difference(where, flat, expected, kink, off & ~kink, gradient.size, reason)

    def _slopes(self, t: Tensor, base: Array, position: int, after: list[Tensor]) -> tuple[float, float, float, bool]:
        """The central difference of sixth order, the left and right slopes, and whether there is a kink.

        Where the function is smooth, the one-sided slopes differ in proportion to the step.
        """
        value = float(base.reshape(-1)[position])
        step = step_at(value, STEP)

        def loss(i: int) -> float:
            moved = base.copy()
            moved.reshape(-1)[position] = value + i * step
            changed = {**self.values, t: moved}
            for y in after:
                changed[y] = self.calls[y](changed)
            return float(np.asarray(changed[self.root]).reshape(()))

        above, below = ([loss(sign * i) for i in POINTS] for sign in (1, -1))
        centre = float(self.values[self.root].reshape(()))
        slope = central_difference(above, below, step)
        bends = [(a + b - 2 * centre) / i for i, (a, b) in enumerate(zip(above, below, strict=True), 1)]
        sharp = any(abs(bends[i] - (i + 1) * bends[0]) > 0.1 * abs(bends[i]) for i in (1, 2))
        return slope, (centre - below[2]) / (3 * step), (above[2] - centre) / (3 * step), sharp


def _largest(x: Array) -> float:
    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def _chosen(gradient: Array) -> Array:
    """Positions of all elements if few, else of the largest gradient and of an evenly spaced sample."""
    if gradient.size <= ALL:
        return np.arange(gradient.size)
    largest = int(np.argmax(np.nan_to_num(np.abs(gradient.reshape(-1)), nan=np.inf)))
    return np.unique(np.append(np.linspace(0, gradient.size - 1, SAMPLE - 1).astype(np.intp), largest))


def _call(node: Any, narrow: bool) -> Callable[[dict[Tensor, Array]], Array]:
    """values → the node's value for these values of its inputs; in the recorded dtypes if `narrow`, else in float64."""
    kwargs = {name: _constant(value, narrow) for name, value in (node.kwargs or {}).items()}
    constants = [_constant(value, narrow) for value in node.args]

    def run(values: dict[Tensor, Array]) -> Array:
        def given(original: Any, constant: Any) -> Any:
            if isinstance(original, Tensor):
                return values[original] if original in values else _own(constant)
            if isinstance(original, list | tuple) and any(isinstance(x, Tensor) for x in original):
                return type(original)(map(given, original, constant))
            return _own(constant)

        args = map(given, node.args, constants)
        own = {name: _own(value) for name, value in kwargs.items()}
        return np.asarray(node.function(*args, **own)[0])

    return run


def _constant(value: Any, narrow: bool) -> Any:
    if isinstance(value, Tensor):
        return _constant(value.data, narrow)
    if isinstance(value, list | tuple):
        return type(value)(_constant(x, narrow) for x in value) if type(value) in (list, tuple) else value
    if narrow:
        return value
    if isinstance(value, np.ndarray | np.float32) and value.dtype == np.float32:
        return value.astype(np.float64)
    with contextlib.suppress(TypeError):
        if isinstance(value, type | np.dtype) and np.dtype(value) == np.float32:
            return np.float64
    return value


def _own(value: Any) -> Any:
    """A copy of arguments an op may modify: running statistics, a generator."""
    return copy.deepcopy(value) if isinstance(value, np.ndarray | np.random.Generator) else value
