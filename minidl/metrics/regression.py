"""Regression metrics.   y_true, y_pred (N,) or (N, K) both

Each of K outputs has its own value; multioutput "raw_values" gives these (K,), "uniform_average" their mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.metrics.inputs import choice, floats, higher, lower
from minidl.tensor import Array, ArrayLike


def _pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    """Both (N, K) in float64; (N,) is (N, 1)."""
    found = []
    for name, y in (("y_true", y_true), ("y_pred", y_pred)):
        values = floats(y, name).astype(np.float64)
        found.append(values[:, None] if values.ndim == 1 else values)
    if found[0].shape != found[1].shape:
        raise ValueError(
            f"expected y_true and y_pred of one shape, found {found[0].shape} and {found[1].shape} as (N, K)"
        )
    return found[0], found[1]


def _average(each: Array, multioutput: str, weights: Array | None = None) -> Any:
    return each if multioutput == "raw_values" else float(np.average(each, weights=weights))


@lower
def mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """Σ (y − ŷ)² / N"""
    choice(multioutput, "multioutput", "uniform_average", "raw_values")
    true, predicted = _pair(y_true, y_pred)
    return _average(np.square(true - predicted).mean(axis=0), multioutput)


@lower
def root_mean_squared_error(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """√(Σ (y − ŷ)² / N), per output"""
    choice(multioutput, "multioutput", "uniform_average", "raw_values")
    true, predicted = _pair(y_true, y_pred)
    return _average(np.sqrt(np.square(true - predicted).mean(axis=0)), multioutput)


@lower
def mean_absolute_error(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """Σ |y − ŷ| / N"""
    choice(multioutput, "multioutput", "uniform_average", "raw_values")
    true, predicted = _pair(y_true, y_pred)
    return _average(abs(true - predicted).mean(axis=0), multioutput)


@lower
def median_absolute_error(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """The median of |y − ŷ|"""
    choice(multioutput, "multioutput", "uniform_average", "raw_values")
    true, predicted = _pair(y_true, y_pred)
    return _average(np.median(abs(true - predicted), axis=0), multioutput)


@lower
def max_error(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """max |y − ŷ|, for a single output.   y_true, y_pred (N,)"""
    true, predicted = _pair(y_true, y_pred)
    if true.shape[1] != 1:
        raise ValueError(f"expected one output, (N,) or (N, 1), found shape {true.shape}")
    return float(abs(true - predicted).max())


@higher
def r2_score(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """R² = 1 − Σ (y − ŷ)² / Σ (y − ȳ)²: the share of variance explained; negative if ȳ does better.

    For a constant y_true 1 if all predictions are right, else 0; for a single example NaN. multioutput may also be
    "variance_weighted".
    """
    choice(multioutput, "multioutput", "uniform_average", "raw_values", "variance_weighted")
    true, predicted = _pair(y_true, y_pred)
    if len(true) < 2:
        return math.nan
    left, around = np.square(true - predicted).sum(axis=0), np.square(true - true.mean(axis=0)).sum(axis=0)
    return _explained(left, around, multioutput)


@higher
def explained_variance_score(y_true: ArrayLike, y_pred: ArrayLike, *, multioutput: str = "uniform_average") -> Any:
    """1 − var(y − ŷ) / var(y): as `r2_score`, but a constant error costs nothing. 1 for a single example."""
    choice(multioutput, "multioutput", "uniform_average", "raw_values", "variance_weighted")
    true, predicted = _pair(y_true, y_pred)
    error = true - predicted
    left, around = (np.square(y - y.mean(axis=0)).mean(axis=0) for y in (error, true))
    return _explained(left, around, multioutput)


def _explained(left: Array, around: Array, multioutput: str) -> Any:
    """1 − left / around of each output, averaged."""
    constant = around == 0
    each = np.where(constant, left == 0, 1 - left / np.where(constant, 1, around))
    weighted = multioutput == "variance_weighted" and not constant.all()
    return _average(each, multioutput, around if weighted else None)
