"""The form of the table of cases, and makers of inputs that keep away from kinks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.tensor import OPS

Array = np.ndarray[Any, Any]
Make = Callable[[np.random.Generator], Array]

COMPOSED = ("split", "einsum")  # public functions made of ops
OP_NAMES = {name for name, op in OPS.items() if op.__module__.startswith("minidl.")}  # and not those of tests


@dataclass(frozen=True)
class Case:
    """op: its name; fn: of Tensors; makers: one a differentiable input; torch: fn(torch, *tensors), or None."""

    op: str
    id: str
    fn: Callable[..., Any]
    makers: tuple[Make, ...]
    torch: Callable[..., Any] | None = None

    def inputs(self, seed: int = 0, dtype: type = np.float64) -> list[Array]:
        rng = np.random.default_rng(seed)
        return [np.asarray(make(rng), dtype) for make in self.makers]


def normal(*shape: int) -> Make:
    return lambda rng: rng.normal(size=shape)


def uniform(low: float, high: float, *shape: int) -> Make:
    return lambda rng: rng.uniform(low, high, shape)


def apart(*shape: int, step: float = 0.3) -> Make:
    """±0.15, ±0.45, …: each value once, in random order."""

    def make(rng: np.random.Generator) -> Array:
        n = int(np.prod(shape))
        return ((rng.permutation(n) - n // 2 + 0.5) * step).reshape(shape)

    return make


def signs(*shape: int) -> Make:
    return lambda rng: rng.choice([-1.0, 1.0], shape)


def scaled_signs(outputs: int, inputs: int) -> Make:
    """Rows of ±s: times an odd number of signs they make at least s ≥ 0.6, so a bias of ±0.3 moves no sign."""
    return lambda rng: rng.choice([-1.0, 1.0], (outputs, inputs)) * rng.uniform(0.6, 1.5, (outputs, 1))


CASES: list[Case] = []


def case(name: str, fn: Any, makers: Any, torch: Any = None, op: str = "") -> None:
    CASES.append(Case(op or name.split()[0], name.replace(" ", "-"), fn, tuple(makers), torch))
