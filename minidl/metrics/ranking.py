"""Ranking metrics, which depend only on the order of scores."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np

from minidl.metrics.inputs import choice, class_labels, columns, higher, one_length, positives, scores
from minidl.tensor import Array, ArrayLike


def _scored(y_true: ArrayLike, y_score: ArrayLike) -> tuple[Array, Array]:
    true, score = class_labels(y_true, "y_true"), scores(y_score, "y_score")
    one_length(y_true=true, y_score=score)
    return true, score


@higher
def top_k_accuracy_score(
    y_true: ArrayLike, y_score: ArrayLike, *, k: int = 2, normalize: bool = True, labels: ArrayLike = None
) -> float:
    """The share (the number unless `normalize`) of examples whose class is among the k largest scores.

    Labels (N,), scores (N, C); or scores (N,) of two classes, with the threshold ½ if all are in [0, 1], else 0.
    Among equal scores the later column comes first. With k ≥ C the share is 1.
    """
    true, score = _scored(y_true, y_score)
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"expected k as an int of at least 1, found {k!r}")
    if score.ndim == 1:
        threshold = 0.5 if score.min() >= 0 and score.max() <= 1 else 0
        place = positives(true) if labels is None else columns(true, labels, 2)
        hits = (score > threshold) == place if k == 1 else np.ones(len(true), bool)
    else:
        hits = top_k_hits(columns(true, labels, score.shape[1]), score, k)
    return float(hits.mean() if normalize else hits.sum())


def top_k_hits(column: Array, score: Array, k: int) -> Array:
    """(N,) booleans: whether the class is among the k largest scores (N, C)."""
    first = np.argsort(score, axis=1, kind="stable")[:, ::-1][:, :k]
    return np.asarray((first == column[:, None]).any(axis=1))


@higher
def roc_auc_score(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    average: str | None = "macro",
    multi_class: str = "raise",
    labels: ArrayLike = None,
) -> Any:
    """The area under the ROC curve: P(s₊ > s₋) + ½·P(s₊ = s₋), scores of a positive and a negative drawn at random.

    (Hanley and McNeil 1982.) Labels (N,). Scores (N,) of two classes, or probabilities (N, C) of C ≥ 3:

    multi_class   "ovr": each class against the rest; "ovo": each pair of classes, both ways (Hand and Till 2001)
    average       "macro": the mean; "weighted": weighted by the number of examples of the class or pair; with "ovr"
                  also None: each class's, NaN where undefined, and "micro": all columns as one

    ValueError: undefined, as there is only one class (with "ovr" and "macro": a class that does not occur, or is the
    only one); probabilities that do not sum to 1; multi_class "raise" with more than two classes.
    """
    choice(average, "average", "macro", "weighted", "micro", None)
    choice(multi_class, "multi_class", "raise", "ovr", "ovo")
    true, score = _scored(y_true, y_score)
    if score.ndim == 1:
        found: Any = auc(positives(true) if labels is None else columns(true, labels, 2) == 1, score)
    elif score.shape[1] == 2:
        raise ValueError(f"expected scores (N,) for two classes, as y_score[:, 1], found shape {score.shape}")
    else:
        if multi_class == "raise":
            raise ValueError('expected multi_class="ovr" or "ovo" for scores (N, C), found "raise"')
        total = score.sum(axis=1, dtype=np.float64)
        if not np.allclose(total, 1):
            raise ValueError(
                f"expected the probabilities of each row to sum to 1, found {total.min()} to {total.max()}"
            )
        place = columns(true, labels, score.shape[1])
        found = one_against_rest(auc, place, score, average) if multi_class == "ovr" else _pairs(place, score, average)
    if average is not None and math.isnan(found):
        raise ValueError(
            f"expected examples of every class and of others, found labels {np.unique(true)[:10].tolist()} only"
        )
    return found


def auc(positive: Array, score: Array) -> float:
    """The binary ROC AUC by counting pairs; NaN if one class is missing.   positive (N,) booleans, score (N,)"""
    mine, others = score[positive], np.sort(score[~positive])
    if not len(mine) or not len(others):
        return math.nan
    below, not_above = (np.searchsorted(others, mine, side) for side in ("left", "right"))
    return int(below.sum() + not_above.sum()) / (2 * len(mine) * len(others))


def one_against_rest(binary: Any, place: Array, score: Array, average: str | None) -> Any:
    """A binary metric of each class against the rest, and their average.   place (N,) columns, score (N, C)"""
    truth = place[:, None] == np.arange(score.shape[1])
    if average == "micro":
        return binary(truth.reshape(-1), score.reshape(-1))
    each = np.array([binary(truth[:, j], score[:, j]) for j in range(score.shape[1])])
    if average == "weighted":
        counts = truth.sum(axis=0)
        return float(np.average(np.where(counts == 0, 0, each), weights=counts))
    return each if average is None else float(each.mean())


def _pairs(place: Array, score: Array, average: str | None) -> float:
    choice(average, 'average with multi_class="ovo"', "macro", "weighted")
    pairs = list(combinations(np.unique(place).tolist(), 2))
    if not pairs:
        return math.nan
    found, sizes = [], []
    for a, b in pairs:
        both = (place == a) | (place == b)
        is_a = place[both] == a
        found.append((auc(is_a, score[both, a]) + auc(~is_a, score[both, b])) / 2)
        sizes.append(int(both.sum()))
    return float(np.average(found, weights=sizes if average == "weighted" else None))


@higher
def average_precision_score(
    y_true: ArrayLike, y_score: ArrayLike, *, average: str | None = "macro", pos_label: int = 1
) -> Any:
    """Σₙ (Rₙ − Rₙ₋₁)·Pₙ over the distinct scores as thresholds, descending; P precision, R recall at each.

    Labels (N,); scores (N,) of the class pos_label, or (N, C), each class against the rest, averaged as in
    `roc_auc_score`. ValueError: no example of the class (with "macro": of a class).
    """
    choice(average, "average", "macro", "weighted", "micro", None)
    true, score = _scored(y_true, y_score)
    if score.ndim == 1:
        found: Any = precision_over_recall(positives(true, pos_label), score)
    else:
        if pos_label != 1:
            raise ValueError(f"expected no pos_label for scores (N, C), found {pos_label!r}")
        place = columns(true, None, score.shape[1])
        found = one_against_rest(precision_over_recall, place, score, average)
    if average is not None and math.isnan(found):
        raise ValueError(f"expected examples of every class, found labels {np.unique(true)[:10].tolist()} only")
    return found


def precision_over_recall(positive: Array, score: Array) -> float:
    """The binary average precision; NaN if nothing is positive."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    if not hits[-1]:
        return math.nan
    return float(np.sum(np.diff(hits, prepend=0) * (hits / (last + 1))) / hits[-1])
