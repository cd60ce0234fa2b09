"""A benchmark case of a kernel, and the registry of all cases by kernel name, filled by `cases`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidl.jit import Kernel
from minidl.tensor import Array

Arguments = list[Any]


@dataclass(frozen=True)
class Case:
    """One kind of work for a kernel.

    kernel      what is timed
    dims        the names of the sizes in a shape, such as "MKN"
    shapes      the shapes timed by default
    arguments   (rng, dtype, *shape) → the kernel's arguments, outputs filled with NaN unless they are also inputs
    outputs     the arguments it writes
    flops       (*shape) → floating-point operations, a multiply-add being two
    moved       (*shape) → numbers of the dtype that must be read or written at least once
    numpy       the same computation on copies: (*arguments) → the outputs. With float64 arguments it is the reference
    torch       (torch, *arguments as torch tensors) → the outputs; None if PyTorch has no equivalent
    label       distinguishes several cases of one kernel
    """

    kernel: Kernel
    dims: str
    shapes: Sequence[tuple[int, ...]]
    arguments: Callable[..., Arguments]
    outputs: tuple[int, ...]
    flops: Callable[..., int]
    moved: Callable[..., int]
    numpy: Callable[..., tuple[Array, ...]]
    torch: Callable[..., tuple[Any, ...]] | None = None
    label: str = ""
    dtypes: tuple[str, ...] = ("float32", "float64")


CASES: dict[str, list[Case]] = {}


def case(
    kernel: Kernel, dims: str, shapes: Sequence[tuple[int, ...]], arguments: Any, outputs: Any, **rest: Any
) -> None:
    """Register a case in `CASES`, under its kernel's name."""
    CASES.setdefault(kernel.__name__, []).append(Case(kernel, dims, shapes, arguments, outputs, **rest))


def normal(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    return rng.normal(size=shape).astype(dtype)


def blank(dtype: Any, *shape: int) -> Array:
    return np.full(shape, np.nan, dtype)
