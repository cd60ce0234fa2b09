"""Metrics of predicted probabilities."""

from __future__ import annotations

import numpy as np

from minidl.metrics.inputs import class_labels, columns, lower, one_length, positives, probabilities, scores
from minidl.tensor import Array, ArrayLike


def _forecast(y_true: ArrayLike, y_proba: ArrayLike, labels: ArrayLike, pos_label: int | None) -> tuple[Array, Array]:
    """(column of each label (N,), probabilities (N, C))"""
    true, given = class_labels(y_true, "y_true"), scores(y_proba, "y_proba")
    one_length(y_true=true, y_proba=given)
    p = probabilities(given)
    if given.ndim == 1 and labels is None:
        return positives(true, pos_label).astype(np.int64), p
    if pos_label is not None:
        raise ValueError(f"expected pos_label for probabilities (N,) without labels only, found {pos_label!r}")
    return columns(true, labels, p.shape[1]), p


@lower
def log_loss(y_true: ArrayLike, y_proba: ArrayLike, *, normalize: bool = True, labels: ArrayLike = None) -> float:
    """−Σₙ ln p[n, yₙ] / N, without / N unless `normalize`: the cross-entropy, in nats.

    Labels (N,), probabilities (N, C), or (N,) of the larger of two labels. p is clipped to [ε, 1 − ε], ε = 2⁻²³ for
    float32, else 2⁻⁵². ValueError: labels without a column, probabilities outside [0, 1] or not summing to 1.
    """
    y, p = _forecast(y_true, y_proba, labels, None)
    eps = np.finfo(p.dtype).eps
    mine = np.clip(p[np.arange(len(y)), y], eps, 1 - eps).astype(np.float64)
    return float(-np.log(mine).mean() if normalize else -np.log(mine).sum())


@lower
def brier_score_loss(
    y_true: ArrayLike,
    y_proba: ArrayLike,
    *,
    pos_label: int | None = None,
    labels: ArrayLike = None,
    scale_by_half: bool | str = "auto",
) -> float:
    """Σₙ Σ_c (p[n, c] − [yₙ = c])² / N, halved if `scale_by_half`; "auto": for two classes (Brier 1950).

    Labels (N,), probabilities (N, C), or (N,) of pos_label (None: the larger of two labels). For two classes "auto"
    gives the familiar mean of (p₁ − y)². Errors as in `log_loss`.
    """
    if scale_by_half not in (True, False, "auto"):
        raise ValueError(f'expected scale_by_half as True, False or "auto", found {scale_by_half!r}')
    y, p = _forecast(y_true, y_proba, labels, pos_label)
    half = p.shape[1] == 2 if scale_by_half == "auto" else scale_by_half
    return brier(y, p) * (0.5 if half else 1.0)


def brier(y: Array, p: Array) -> float:
    """Σₙ Σ_c (p[n, c] − [yₙ = c])² / N"""
    error = p.astype(np.float64)
    error[np.arange(len(y)), y] -= 1
    return float(np.square(error).sum(axis=1).mean())


@lower
def calibration_error(y_true: ArrayLike, y_proba: ArrayLike, *, n_bins: int = 15, labels: ArrayLike = None) -> float:
    """ECE = Σₘ |Bₘ| / N · |acc(Bₘ) − conf(Bₘ)|, the expected calibration error.

    Guo et al. 2017, eq. 3 (after Naeini et al. 2015). Confidence is the largest
    probability of an example, and bin Bₘ holds those whose confidence is in ((m − 1) / M, m / M], M = `n_bins`; acc is
    their accuracy, conf their mean confidence.

    Labels (N,), probabilities (N, C), or (N,) of the larger of two labels, meaning (1 − p, p). Errors as in
    `log_loss`; ValueError: fewer than one bin.
    """
    if not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ValueError(f"expected n_bins as an int of at least 1, found {n_bins!r}")
    y, p = _forecast(y_true, y_proba, labels, None)
    return expected_calibration_error(y, p, n_bins)


def expected_calibration_error(y: Array, p: Array, n_bins: int = 15) -> float:
    """`calibration_error` of columns (N,) and probabilities (N, C)."""
    confidence = p.max(axis=1).astype(np.float64)
    right = p.argmax(axis=1) == y
    where = np.searchsorted(np.arange(1, n_bins) / n_bins, confidence, side="left")  # m / M is still in bin m
    gap = np.bincount(where, right - confidence, n_bins)  # |Bₘ|·(acc − conf)
    return float(abs(gap).sum() / len(y))
