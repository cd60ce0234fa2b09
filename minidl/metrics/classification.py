"""How good are predicted classes? Shares, and what is confused with what.

Of each class: TP, examples of it that were said to be of it; FP, said to be but not; FN, of it but not said to be.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.metrics.inputs import choice, class_labels, few, higher, named, one_length
from minidl.tensor import Array, ArrayLike

AVERAGES = ("binary", "micro", "macro", "weighted", None)
Scores = tuple[Any, Any, Any, Array | None]


def pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    """Both as labels (N,) of one length."""
    true, predicted = class_labels(y_true, "y_true"), class_labels(y_pred, "y_pred")
    one_length(y_true=true, y_pred=predicted)
    return true, predicted


@higher
def accuracy_score(y_true: ArrayLike, y_pred: ArrayLike, *, normalize: bool = True) -> float:
    """Σ [y_pred = y_true] / N, or without / N unless `normalize`.   Labels (N,) both

    >>> metrics.accuracy_score([0, 1, 2, 2], [0, 1, 1, 2])
    0.75
    """
    true, predicted = pair(y_true, y_pred)
    right = int((true == predicted).sum())
    return right / len(true) if normalize else float(right)


@named
def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, *, labels: ArrayLike = None, normalize: str | None = None
) -> Array:
    """c[i, j] = how many examples of class i were said to be of class j.   Labels (N,) both; c (C, C) int64

    labels      the classes in the order wanted, else all that occur, ascending; others are left out
    normalize   "true", "pred", "all": divided by the sum of the row, the column, all (float64; 0 where that is 0)

    ValueError: none of `labels` in y_true, or one of them twice.
    """
    choice(normalize, "normalize", None, "true", "pred", "all")
    true, predicted = pair(y_true, y_pred)
    if labels is None:
        wanted = np.unique(np.concatenate([true, predicted]))
    else:
        wanted = class_labels(labels, "labels")
        if len(np.unique(wanted)) < len(wanted):
            raise ValueError(f"expected each label once, found {few(wanted)}")
        if not np.isin(wanted, true).any():
            raise ValueError(f"expected labels of which at least one is in y_true, found {few(wanted)}")
    order = np.argsort(wanted)
    known = np.isin(true, wanted) & np.isin(predicted, wanted)
    i, j = (order[np.searchsorted(wanted, y[known], sorter=order)] for y in (true, predicted))
    counts = np.bincount(i * len(wanted) + j, minlength=len(wanted) ** 2).reshape(len(wanted), len(wanted))
    if normalize is None:
        return counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = counts.sum(axis=axis, keepdims=True)
    return counts / np.where(total == 0, 1, total)


@named
def precision_recall_fscore_support(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike = None,
    pos_label: int = 1,
    average: str | None = None,
    zero_division: float = 0.0,
) -> Scores:
    """(precision TP / (TP + FP), recall TP / (TP + FN), F₁ = 2TP / (2TP + FP + FN), support TP + FN).

    Labels (N,) both. Arrays (C,) over all classes that occur or over `labels`; averaged they are floats, and support
    is None:

    average         "binary": those of pos_label, where there are only two labels; "macro": the mean over classes;
                    "weighted": the same, weighted by support; "micro": from TP, FP and FN added up over classes
    zero_division   what 0 / 0 is: 0, 1, or NaN, which averages leave out

    ValueError: "binary" with more than two labels, or without pos_label among them; an unknown `average`.
    """
    return _scores(y_true, y_pred, labels, pos_label, average, zero_division)


@higher
def precision_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike = None,
    pos_label: int = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """TP / (TP + FP): how many of those said to be of a class are. As `precision_recall_fscore_support` has it."""
    return _scores(y_true, y_pred, labels, pos_label, average, zero_division)[0]


@higher
def recall_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike = None,
    pos_label: int = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """TP / (TP + FN): how many of a class are said to be of it. As `precision_recall_fscore_support` has it."""
    return _scores(y_true, y_pred, labels, pos_label, average, zero_division)[1]


@higher
def f1_score(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    labels: ArrayLike = None,
    pos_label: int = 1,
    average: str | None = "binary",
    zero_division: float = 0.0,
) -> Any:
    """2TP / (2TP + FP + FN), the harmonic mean of precision and recall. As `precision_recall_fscore_support` has it."""
    return _scores(y_true, y_pred, labels, pos_label, average, zero_division)[2]


def _scores(
    y_true: ArrayLike, y_pred: ArrayLike, labels: ArrayLike, pos_label: int, average: str | None, zero_division: float
) -> Scores:
    choice(average, "average", *AVERAGES)
    if not (zero_division in (0, 1) or math.isnan(zero_division)):
        raise ValueError(f"expected zero_division as 0, 1 or NaN, found {zero_division!r}")
    true, predicted = pair(y_true, y_pred)
    present = np.unique(np.concatenate([true, predicted]))
    if average == "binary":
        if len(present) > 2 or (len(present) == 2 and pos_label not in present):
            raise ValueError(
                f'expected two labels, pos_label={pos_label} among them, for average="binary", found {few(present)}'
            )
        wanted = np.array([pos_label])
    else:
        wanted = present if labels is None else class_labels(labels, "labels")
    classes = np.union1d(present, wanted)

    def count(y: Array) -> Array:
        found = np.bincount(np.searchsorted(classes, y), minlength=len(classes))
        return found[np.searchsorted(classes, wanted)]

    hits, said, support = count(true[true == predicted]), count(predicted), count(true)
    if average == "micro":
        hits, said, support = (n.sum(keepdims=True) for n in (hits, said, support))

    def ratio(part: Array, whole: Array) -> Array:
        return np.where(whole == 0, float(zero_division), part / np.where(whole == 0, 1, whole))

    found = ratio(hits, said), ratio(hits, support), ratio(2 * hits, said + support)
    if average is None:
        return *found, support
    p, r, f = (_mean(values, support if average == "weighted" else None) for values in found)
    return p, r, f, None


def _mean(values: Array, weights: Array | None) -> float:
    """The mean of those that are not NaN; NaN if all are."""
    there = ~np.isnan(values)
    if not there.any():
        return math.nan
    if weights is not None and weights[there].any():
        return float(np.average(values[there], weights=weights[there]))
    return float(values[there].mean())
