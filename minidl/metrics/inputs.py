"""Checks of the inputs of metrics, made before anything is computed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from minidl.core.errstate import quietly
from minidl.core.operators import values_of
from minidl.tensor import Array, ArrayLike

P = ParamSpec("P")
R = TypeVar("R")


def named(function: Callable[P, R]) -> Callable[P, R]:
    """Prefix a TypeError or ValueError raised inside with the function's name. Overflow is not an error."""
    run = quietly(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return run(*args, **kwargs)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{function.__name__}: {error}") from error

    return call


def higher(function: Callable[P, R]) -> Callable[P, R]:
    """`named`, for a metric where higher is better."""
    return directed(function, "max")


def lower(function: Callable[P, R]) -> Callable[P, R]:
    """`named`, for a metric where lower is better."""
    return directed(function, "min")


def directed(function: Callable[P, R], mode: str) -> Callable[P, R]:
    """`named`, with `mode`, the better direction: "min" or "max"."""
    call: Any = named(function)
    call.mode = mode
    return call  # type: ignore[no-any-return]


def array(x: ArrayLike, name: str) -> Array:
    """`x` as a non-empty array of numbers or booleans."""
    found = np.asarray(values_of(x))
    if found.dtype.kind not in "biuf":
        raise TypeError(f"expected {name} as numbers, found {found.dtype} of shape {found.shape}")
    if not found.size:
        raise ValueError(f"expected {name} with at least one element, found shape {found.shape}")
    return found


def class_labels(x: ArrayLike, name: str) -> Array:
    """(N,) int64, from integers, booleans or whole floats."""
    found = array(x, name)
    if found.ndim != 1:
        raise ValueError(f"expected {name} (N,), found shape {found.shape}")
    if found.dtype.kind in "uf":
        whole = (found == np.floor(found)) & (abs(found) < 2**63)
        if not whole.all():
            raise ValueError(f"expected {name} to be labels, whole numbers, found {found[~whole][0]}")
    return found.astype(np.int64)


def one_length(**arrays: Array) -> None:
    """Raise ValueError unless the first axes of these have one length."""
    if len({len(a) for a in arrays.values()}) > 1:
        told = " and ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"expected as many elements in each, found {told}")


def floats(x: ArrayLike, name: str) -> Array:
    """Finite float32 or float64 (N,) or (N, C)."""
    found = array(x, name)
    if found.ndim not in (1, 2):
        raise ValueError(f"expected {name} (N,) or (N, C), found shape {found.shape}")
    found = found.astype(np.float32 if found.dtype == np.float32 else np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"expected {name} to be finite, found {found[~np.isfinite(found)][0]}")
    return found


def scores(x: ArrayLike, name: str) -> Array:
    """Scores: (N,) of the higher of two labels, or (N, C)."""
    found = floats(x, name)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def probabilities(p: Array) -> Array:
    """Probabilities (N, C), C ≥ 2, whose rows sum to 1; (N,) becomes the columns 1 − p and p."""
    outside = (p < 0) | (p > 1)
    if outside.any():
        raise ValueError(f"expected probabilities from 0 to 1, found {p[outside][0]}")
    if p.ndim == 1:
        return np.stack([1 - p, p], axis=1)
    total = p.sum(axis=1, dtype=np.float64)
    wrong = abs(total - 1) > np.finfo(p.dtype).eps ** 0.5
    if wrong.any():
        raise ValueError(f"expected the probabilities of each row to sum to 1, found {total[wrong][0]:.6g}")
    return p


def columns(y_true: Array, labels: ArrayLike, count: int) -> Array:
    """The column of each label in scores (N, count)."""
    if labels is None:
        outside = (y_true < 0) | (y_true >= count)
        if outside.any():
            raise ValueError(
                f"expected labels from 0 to {count - 1}, one for each column of the scores, found {y_true[outside][0]}"
            )
        return y_true
    known = class_labels(labels, "labels")
    if len(known) != count or (np.diff(known) <= 0).any():
        raise ValueError(f"expected {count} labels, one for each column of the scores, ascending, found {few(known)}")
    place = np.minimum(np.searchsorted(known, y_true), count - 1)
    unknown = known[place] != y_true
    if unknown.any():
        raise ValueError(f"expected labels among {few(known)}, found {y_true[unknown][0]}")
    return place


def positives(y_true: Array, pos_label: int | None = None) -> Array:
    """A mask of the labels equal to pos_label; None: 1 if the labels are 0 and 1, else the larger one."""
    found = np.unique(y_true)
    if pos_label is None:
        if len(found) > 2 or (len(found) == 1 and found[0] not in (0, 1)):
            raise ValueError(f"expected y_true of two labels for scores (N,), found {few(found)}")
        pos_label = 1 if set(found) <= {0, 1} else found[-1]
    elif len(found) > 2 or (len(found) == 2 and pos_label not in found):
        raise ValueError(f"expected y_true of two labels, pos_label={pos_label} among them, found {few(found)}")
    return np.asarray(y_true == pos_label)


def few(values: Array) -> str:
    """The values, or the first of many, for a message."""
    return str(values.tolist()) if len(values) <= 10 else f"{values[:9].tolist()}… ({len(values)} of them)"


def choice(value: Any, name: str, *known: Any) -> None:
    """Raise ValueError unless the value is one of these."""
    if not any(value is k or (isinstance(k, str) and value == k) for k in known):
        raise ValueError(f"expected {name} as one of {list(known)}, found {value!r}")
