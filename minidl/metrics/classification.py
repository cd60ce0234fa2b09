"""Metrics of predicted classes: accuracy, the confusion matrix, precision, recall and F₁.

For each class, TP counts its examples predicted as it, FP others predicted as it, FN its examples predicted otherwise.
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
    """Convert both to labels (N,) of one length."""
    true, predicted = class_labels(y_true, "y_true"), class_labels(y_pred, "y_pred")
    one_length(y_true=true, y_pred=predicted)
    return true, predicted


@higher
def accuracy_score(y_true: ArrayLike, y_pred: ArrayLike, *, normalize: bool = True) -> float:
    """Σ [y_pred = y_true] / N, without / N unless `normalize`.   Labels (N,) both

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
    """c[i, j] = the number of examples of class i predicted as class j.   Labels (N,) both; c (C, C) int64

    labels      the classes, in this order; others are left out. None: all that occur, ascending
    normalize   "true", "pred", "all": divide by the sum of the row, the column, everything (float64; 0 where that is 0)

    ValueError: none of `labels` occurs in y_true, or one is given twice.
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

    Labels (N,) both. Arrays (C,) over the classes that occur, or over `labels`; with `average`, floats, and support is
    None:

    average         "binary": those of pos_label, with at most two labels; "macro": the mean over classes;
                    "weighted": the same, weighted by support; "micro": from TP, FP and FN added up over classes
    zero_division   the value of 0 / 0: 0, 1, or NaN, which averages leave out

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
    """TP / (TP + FP): the share of predicted positives that are right. See `precision_recall_fscore_support`."""
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
    """TP / (TP + FN): the share of actual positives that are found. See `precision_recall_fscore_support`."""
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
    """2TP / (2TP + FP + FN), the harmonic mean of precision and recall. See `precision_recall_fscore_support`."""
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
    """The mean without NaN; NaN if all are."""
    there = ~np.isnan(values)
    if not there.any():
        return math.nan
    if weights is not None and weights[there].any():
        return float(np.average(values[there], weights=weights[there]))
    return float(values[there].mean())
