"""Metrics by short names, as `fit`, `evaluate` and the command line take them: of raw outputs over a whole data set.

A metric is a function (outputs, targets) → float. For a classifier, outputs are logits (N, C) and targets labels (N,)
from 0 to C − 1; outputs (N,) or (N, 1) are the logit of class 1 of two, with targets (N,) or (N, 1). For regression
both are values of one shape. NaN in the outputs gives NaN. Each metric has an attribute `mode`: "min" if lower values
are better, "max" if higher ones are.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.metrics.classification import f1_score, precision_score, recall_score
from minidl.metrics.inputs import array, class_labels, columns, directed, one_length
from minidl.metrics.probability import brier, expected_calibration_error
from minidl.metrics.ranking import auc, one_against_rest, precision_over_recall, top_k_hits
from minidl.metrics.regression import (
    explained_variance_score,
    mean_absolute_error,
    mean_squared_error,
    median_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from minidl.shared.names import hint
from minidl.tensor import Array, ArrayLike

Metric = Callable[[ArrayLike, ArrayLike], float]
_TOP = r"top[1-9]\d{0,8}"


def _of_logits(name: str, mode: str, function: Callable[[Array, Array], Any]) -> Metric:
    """The metric function(labels (N,), logits (N, C ≥ 2) in float64), with its inputs checked.

    In outputs (N, C, d₁, …) and targets (N, d₁, …) each position counts as one of the N.
    """

    def metric(outputs: ArrayLike, targets: ArrayLike) -> float:
        logits, labels = array(outputs, "outputs"), array(targets, "targets")
        if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
            z = logits.reshape(-1).astype(np.float64)
            logits = np.stack([np.zeros_like(z), z], axis=1)  # a softmax gives the same probabilities
        elif logits.ndim > 2 and labels.shape == (len(logits), *logits.shape[2:]):
            logits, labels = np.moveaxis(logits, 1, -1).reshape(-1, logits.shape[1]), labels.reshape(-1)
        if logits.ndim != 2:
            raise ValueError(
                "expected outputs (N, C) or (N,), or (N, C, d₁, …) with targets (N, d₁, …), "
                f"found shapes {logits.shape} and {labels.shape}"
            )
        y = class_labels(labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels, "targets")
        one_length(outputs=logits, targets=y)
        columns(y, None, logits.shape[1])
        if np.isnan(logits).any():
            return math.nan
        return float(function(y, np.clip(logits.astype(np.float64), -1e300, 1e300)))  # ∞ − ∞ is NaN

    metric.__name__ = metric.__qualname__ = name
    return directed(metric, mode)


def _of_values(name: str, mode: str, function: Callable[[ArrayLike, ArrayLike], Any]) -> Metric:
    """The metric function(targets, outputs), both (N, all other axes as one)."""

    def metric(outputs: ArrayLike, targets: ArrayLike) -> float:
        found, wanted = (
            x[:, None] if x.ndim == 1 else x for x in (array(outputs, "outputs"), array(targets, "targets"))
        )
        if found.shape != wanted.shape or not found.ndim:
            raise ValueError(f"expected outputs and targets of one shape, found {found.shape} and {wanted.shape}")
        if not np.isfinite(found).all():
            return math.nan
        return float(function(wanted.reshape(len(wanted), -1), found.reshape(len(found), -1)))

    metric.__name__ = metric.__qualname__ = name
    return directed(metric, mode)


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _softmax(logits: Array) -> Array:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _one_or_each(binary: Callable[[Array, Array], float], y: Array, logits: Array) -> float:
    """A metric of scores: of class 1 if there are two classes, else the mean over classes, each against the rest."""
    if logits.shape[1] == 2:
        found = binary(y == 1, logits[:, 1] - logits[:, 0])
    else:
        found = one_against_rest(binary, y, _softmax(logits), "macro")
    if math.isnan(found):
        raise ValueError(
            f"expected targets of every class from 0 to {logits.shape[1] - 1}, found {np.unique(y)[:10].tolist()} only"
        )
    return found


def _top(k: int) -> Metric:
    return _of_logits(f"top{k}", "max", lambda y, z: top_k_hits(y, z, k).mean())


def _predicted(name: str, function: Callable[..., Any], average: str | None) -> Metric:
    """A metric of the predicted classes. average None: of class 1 if there are two classes, else "macro"."""

    def metric(y: Array, z: Array) -> Any:
        return function(y, z.argmax(axis=1), average=average or ("binary" if z.shape[1] == 2 else "macro"))

    return _of_logits(name, "max", metric)


METRICS: dict[str, Metric] = {
    metric.__name__: metric
    for metric in (
        _of_logits("accuracy", "max", lambda y, z: (z.argmax(axis=1) == y).mean()),
        _top(3),
        _top(5),
        *(
            _predicted(f"{name}_{average}" if average else name, function, average)
            for name, function in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score))
            for average in (None, "macro", "micro", "weighted")
        ),
        _of_logits("auc", "max", lambda y, z: _one_or_each(auc, y, z)),
        _of_logits("average_precision", "max", lambda y, z: _one_or_each(precision_over_recall, y, z)),
        _of_logits("log_loss", "min", lambda y, z: -_log_softmax(z)[np.arange(len(y)), y].mean()),
        _of_logits("brier", "min", lambda y, z: brier(y, _softmax(z)) / (2 if z.shape[1] == 2 else 1)),
        _of_logits("ece", "min", lambda y, z: expected_calibration_error(y, _softmax(z))),
        _of_values("mse", "min", mean_squared_error),
        _of_values("rmse", "min", root_mean_squared_error),
        _of_values("mae", "min", mean_absolute_error),
        _of_values("median_absolute_error", "min", median_absolute_error),
        _of_values("max_error", "min", lambda y, x: abs(y - x).max()),
        _of_values("r2", "max", r2_score),
        _of_values("explained_variance", "max", explained_variance_score),
    )
}


def by_name(name: str) -> Metric:
    """The metric of this name: one of METRICS, or "top1", "top2", …. ValueError, with the nearest name, if unknown.

    precision, recall and f1 are those of class 1 if there are two classes, else the mean over the classes that occur
    (their "macro" average); auc and average_precision likewise, from softmax probabilities. log_loss is not clipped.
    """
    if name in METRICS:
        return METRICS[name]
    if isinstance(name, str) and re.fullmatch(_TOP, name):
        return _top(int(name[3:]))
    raise ValueError(f"by_name: expected a metric of {list(METRICS)}, found {name!r}{hint(str(name).lower(), METRICS)}")


def mode_of(metric: Any) -> str | None:
    """The better direction, "min" or "max", of METRICS, "top1", …, and functions of `minidl.metrics`.

    For other functions their attribute `mode`, or None if they have none.
    """
    while isinstance(metric, functools.partial) and not hasattr(metric, "mode"):
        metric = metric.func
    if isinstance(metric, str):
        metric = METRICS.get(metric) or (_top(1) if re.fullmatch(_TOP, metric) else None)
    mode = getattr(metric, "mode", None)
    return mode if mode in ("min", "max") else None
