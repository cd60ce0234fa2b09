"""Verify variants against their kernel's reference, before they are timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl.bench.case import Case
from minidl.tensor import Array


class BenchError(ValueError):
    """Nothing to time: an unknown name, or an invalid shape."""


class WrongResult(BenchError):
    """A variant differs from its reference; the message names the worst element."""


def arguments_of(case: Case, shape: tuple[int, ...], dtype: str) -> list[Any]:
    """The arguments of a case, always from a generator with seed 0."""
    return case.arguments(np.random.default_rng(0), np.dtype(dtype), *shape)


def copied(arguments: list[Any]) -> list[Any]:
    return [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]


def check(
    case: Case, name: str, run: Callable[..., Any], shape: tuple[int, ...], dtype: str, nan: bool = False
) -> None:
    """Raise WrongResult unless `run(*arguments)` writes the outputs that the reference computes in float64.

    nan: put a NaN into the first float input. Exactly the elements that are NaN in the reference must be NaN.
    """
    arguments = arguments_of(case, shape, dtype)
    if nan:
        first = next(x for x in arguments if isinstance(x, np.ndarray) and x.dtype.kind == "f")
        first.reshape(-1)[first.size // 2] = np.nan
    found = copied(arguments)
    run(*found)
    for i, x in enumerate(arguments):
        if i not in case.outputs and isinstance(x, np.ndarray) and not np.array_equal(x, found[i], equal_nan=nan):
            raise WrongResult(f"{case.kernel.__name__}: {name} changes its input {_argument(case, i)}")
    compare(case, name, [found[i] for i in case.outputs], arguments, shape, dtype)


def compare(case: Case, name: str, found: Iterable[Array], arguments: list[Any], shape: Any, dtype: str) -> None:
    """Raise WrongResult unless these outputs equal the reference's for the arguments."""
    wide = [np.float64(x) if isinstance(x, np.floating) else _wide(x) for x in arguments]
    with np.errstate(all="ignore"):
        expected = case.numpy(*wide)
    for i, y, right in zip(case.outputs, found, expected, strict=True):
        finite = np.abs(right[np.isfinite(right)])
        allowed = 64 * np.finfo(dtype).eps * (np.abs(right) + finite.max(initial=0))
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(y - right) <= allowed) & ~(np.isnan(y) & np.isnan(right)) & (y != right)
        if wrong.any():
            error = np.where(wrong, np.nan_to_num(np.abs(y - right), nan=np.inf), -1)
            worst = np.unravel_index(int(error.argmax()), error.shape)
            place = ", ".join(str(int(n)) for n in worst)
            raise WrongResult(
                f"{case.kernel.__name__}: {name} computes something else, at {'x'.join(map(str, shape))} in {dtype}: "
                f"{int(wrong.sum())} of {wrong.size} elements of {_argument(case, i)} are wrong, the worst is "
                f"[{place}]: expected {right[worst]:.9g}, found {y[worst]:.9g}"
            )


def _wide(x: Any) -> Any:
    return x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def _argument(case: Case, i: int) -> str:
    code = case.kernel.py_func.__code__
    return repr(code.co_varnames[i])


def small(case: Case) -> list[tuple[int, ...]]:
    """Awkward shapes to check: ones, primes, and sizes around the widths of vectors and tiles."""
    sizes = (1, 7, 17, 33, 65)
    return [tuple(sizes[(i + k) % len(sizes)] for k in range(len(case.dims))) for i in range(len(sizes))]


def verify(case: Case, name: str, kernel: Callable[..., Any], shape: tuple[int, ...], dtype: str) -> None:
    """All checks of one variant: awkward shapes, NaN, and the shape to be timed."""
    for awkward in small(case):
        check(case, name, kernel, awkward, dtype)
    check(case, name, kernel, small(case)[2], dtype, nan=True)
    check(case, name, kernel, shape, dtype)


def aligned(x: Array) -> Array:
    """A copy of x aligned to a cache line, so that alignment favours nobody."""
    buffer = np.empty(x.nbytes + 64, np.uint8)
    skip = -buffer.ctypes.data % 64
    y = buffer[skip : skip + x.nbytes].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y
