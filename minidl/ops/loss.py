"""Losses, from predictions and targets. All take reduction="mean", "sum" or "none", as in PyTorch.

Targets are constants, without a gradient, except in the losses of two arrays of one shape.
"""

from __future__ import annotations

import math

import numpy as np

from minidl.core.tracing import require
from minidl.jit import kernel
from minidl.ops.counting import empty_divisor, note
from minidl.ops.elementwise import Result
from minidl.ops.inputs import check_reduction, floating, kernel_array, number, own_indices, reduced, weighted
from minidl.tensor import Array, ArrayLike, Gradient, as_array, op

# -------------------------------------------------------------------------------- class labels


def _first_wrong(labels: Array, classes: int, ignore_index: int) -> str:
    place = np.unravel_index((((labels < 0) | (labels >= classes)) & (labels != ignore_index)).argmax(), labels.shape)
    row = tuple(map(int, place))
    return f"found {labels[place]}" + (f" in row {row[0] if len(row) == 1 else row}" if row else "")


def class_labels(labels: ArrayLike, shape: tuple[int, ...], classes: int, ignore_index: int) -> Array:
    """`labels` of this shape as the flat int64 array that kernels index with, each in [0, classes) or ignore_index."""
    y = as_array(labels)
    if y.dtype.kind not in "iu":
        hint = "; from one-hot rows take labels.argmax(axis=1)" if y.ndim == len(shape) + 1 > 1 else ""
        raise TypeError(f"expected integer labels of shape {shape}, found {y.dtype} of shape {y.shape}{hint}")
    if y.shape != shape:
        raise ValueError(f"expected labels of shape {shape}, one for each row of logits, found shape {y.shape}")
    if not isinstance(ignore_index, int | np.integer) or not -(1 << 63) <= ignore_index < 1 << 63:
        raise TypeError(f"expected ignore_index as an int of 64 bits, found {ignore_index!r}")
    given, y = y, own_indices(y)
    fit = (((y >= 0) & (y < classes)) | (y == ignore_index)).all()
    require(fit, f"expected labels from 0 to {classes - 1}", _first_wrong, given, classes, ignore_index)
    return np.reshape(y, -1)


def _rows(x: Array, name: str) -> tuple[Array, tuple[int, ...], Gradient]:
    """(C,), (N, C) or (N, C, d₁, …) as rows of C; the shape of their labels; a function that restores rows' shape."""
    if x.ndim == 0 or x.shape[1 if x.ndim > 1 else 0] == 0:
        raise ValueError(f"expected {name} (N, C), (C,) or (N, C, d₁, …), found shape {x.shape}")
    if x.ndim == 2:
        return x, x.shape[:1], lambda rows: rows
    if x.ndim == 1:
        return x[None], (), lambda rows: rows[0]
    last = np.moveaxis(x, 1, -1)
    rows = np.reshape(last, (math.prod(last.shape[:-1]), x.shape[1]))
    return rows, last.shape[:-1], lambda rows: np.moveaxis(np.reshape(rows, last.shape), -1, 1)


def _class_weights(weight: ArrayLike, classes: int, like: Array) -> Array:
    if weight is None:
        return np.ones_like(like, shape=(classes,))
    w = floating(weight, "weight")
    if w.shape != (classes,):
        raise ValueError(f"expected weight of shape ({classes},), one for each class, found shape {w.shape}")
    return kernel_array(w, like.dtype)


@kernel
def softmax_cross_entropy_forward(
    logits: Array, labels: Array, weight: Array, ignore_index: int, smoothing: float, losses: Array, p: Array
) -> None:
    """p = softmax(logits), losses[n] = the cross-entropy of row n (see `softmax_cross_entropy`).

    logits, p (N, C); labels, losses (N); weight (C); labels already checked.
    """
    classes = logits.shape[1]
    for n in range(logits.shape[0]):
        z, q, label = logits[n], p[n], labels[n]
        top = z[0]
        for j in range(1, classes):
            if not z[j] <= top:  # negated so that NaN becomes the top
                top = z[j]
        total = np.float64(0)
        for j in range(classes):
            q[j] = math.exp(z[j] - top)
            total += q[j]
        scale = 1.0 / total
        for j in range(classes):
            q[j] *= scale
        if label == ignore_index:
            losses[n] = 0
            continue
        log_total = math.log(total)
        hit, surprise = (1.0 - smoothing) * weight[label], log_total - (z[label] - top)
        loss = 0.0 if hit == 0 and surprise == np.inf else hit * surprise  # 0·∞ is 0
        if smoothing > 0.0:
            for j in range(classes):
                hit, surprise = smoothing / classes * weight[j], log_total - (z[j] - top)
                loss += 0.0 if hit == 0 and surprise == np.inf else hit * surprise
        losses[n] = loss


@kernel
def softmax_cross_entropy_backward(
    dlosses: Array, p: Array, labels: Array, weight: Array, ignore_index: int, smoothing: float, dlogits: Array
) -> None:
    """dlogits[n] = dlosses[n] · (p[n]·Σt − t), t the target row: (1−ε)·weight at the label plus ε/C·weight."""
    classes = p.shape[1]
    weights = np.float64(0)
    for j in range(classes):
        weights += weight[j]
    for n in range(p.shape[0]):
        q, dz, label = p[n], dlogits[n], labels[n]
        if label == ignore_index:
            dz[:] = 0
            continue
        hit = (1.0 - smoothing) * weight[label]
        spread = smoothing / classes
        up = dlosses[n] * (hit + spread * weights)
        for j in range(classes):
            dz[j] = up * q[j]
        if smoothing > 0.0:
            for j in range(classes):
                dz[j] -= dlosses[n] * spread * weight[j]
        dz[label] -= dlosses[n] * hit


@op
def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Result:
    """Lₙ = −Σⱼ tₙⱼ · ln softmax(logitsₙ)ⱼ, in nats.   dL/dlogits = dL/dLₙ · (softmax(logitsₙ)·Σⱼ tₙⱼ − tₙ)

    dL/dp = −dL/dLₙ · (1 − ε)·w·ln softmax(logitsₙ), where labels are probabilities p.

    tₙⱼ = wⱼ · ((1−ε)·[j = labelₙ] + ε/C), so without weights w and smoothing ε it is −ln softmax(logitsₙ)[labelₙ].

    logits           (N, C) float32 or float64, unnormalised; stable for any magnitude. Or (C,), a single row; or
                     (N, C, d₁, …), as for the pixels of images: then n runs over all axes but the classes'
    labels           (N,), (), or (N, d₁, …) integers from 0 to C − 1; rows labelled `ignore_index` do not count.
                     Or floats of the logits' shape, the probabilities p of the classes: p stands for [j = labelₙ]
    weight           (C,) w, or None for ones
    reduction        "mean": Σ Lₙ / Σ w[labelₙ] over the rows that count (for probabilities Σ Lₙ / N); "sum"; "none"
    label_smoothing  ε from 0 to 1 (Szegedy et al. 2016, section 7)

    As PyTorch's `cross_entropy`. TypeError: labels that are not integers. ValueError: labels out of range,
    shapes that do not fit, a mean of no rows.

    >>> logits = minidl.Tensor([[0.0, 0.0], [0.0, 0.0]], requires_grad=True)
    >>> loss = ops.softmax_cross_entropy(logits, [0, 1])
    >>> round(loss.item(), 6)  # ln 2
    0.693147
    >>> loss.backward()
    >>> logits.grad.round(6).tolist()
    [[-0.25, 0.25], [0.25, -0.25]]
    """
    logits = floating(logits, "logits")
    z, shape, again = _rows(logits, "logits")
    label_smoothing = number(label_smoothing, "label_smoothing")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"expected label_smoothing from 0 to 1, found {label_smoothing}")
    check_reduction(reduction, logits.shape)
    w = _class_weights(weight, z.shape[1], z)
    if as_array(labels).ndim == logits.ndim and as_array(labels).dtype.kind == "f":
        return _of_probabilities(logits, as_array(labels, z.dtype), w, reduction, label_smoothing)
    y = class_labels(labels, shape, z.shape[1], ignore_index)
    p, losses = np.empty_like(z, order="C"), np.empty(y.size, z.dtype, like=z)
    softmax_cross_entropy_forward(kernel_array(z, z.dtype), y, w, ignore_index, float(label_smoothing), losses, p)
    value, spread = _weighted(losses, y, w, ignore_index, reduction, shape)

    def gradient(dy: Array) -> Array:
        dz = np.empty_like(p)
        dlosses = kernel_array(spread(dy), p.dtype)
        softmax_cross_entropy_backward(dlosses, p, y, w, ignore_index, float(label_smoothing), dz)
        return again(dz)

    return value, (gradient,)


def _of_probabilities(logits: Array, p: Array, weights: Array, reduction: str, smoothing: float) -> Result:
    """`softmax_cross_entropy` of probabilities p instead of labels.   dL/dp = −dL/dLₙ · (1 − ε)·w·ln softmax(logits)"""
    z, shape, again = _rows(logits, "logits")
    if p.shape != logits.shape:
        raise ValueError(f"expected labels {shape} or probabilities {logits.shape}, found shape {p.shape}")
    z = z - np.max(z, axis=1, keepdims=True)
    log_q = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    t = weights * ((1 - smoothing) * _rows(p, "labels")[0] + smoothing / z.shape[1])
    slope = np.exp(log_q) * np.sum(t, axis=1, keepdims=True) - t
    losses = -np.sum(weighted(t, log_q), axis=1)

    def spread(dy: Array) -> Array:
        dlosses = np.broadcast_to(_spread(dy, losses.shape, reduction), shape)
        return np.reshape(dlosses, losses.shape)[:, None]

    value = reduced(losses, reduction)
    return np.reshape(value, shape) if reduction == "none" else value, (
        lambda dy: again(slope * spread(dy)),
        lambda dy: again(-weighted((1 - smoothing) * weights, log_q) * spread(dy)),
    )


def _weighted(
    losses: Array, labels: Array, weights: Array, ignore_index: int, reduction: str, shape: tuple[int, ...]
) -> tuple[Array, Gradient]:
    """The reduced losses for class labels, and how dL/dy is spread over the rows. The mean is weighted."""
    if reduction == "none":
        return np.reshape(losses, shape), lambda dy: np.reshape(dy, losses.shape)
    sums = np.empty(2, np.float64, like=losses)
    sum_of_losses(losses, labels, weights, ignore_index, sums)
    if reduction == "sum":
        return sums[0].astype(losses.dtype), lambda dy: np.broadcast_to(dy, losses.shape)
    divisor = np.where(sums[1] == 0, empty_divisor(), sums[1])  # every row ignored: NaN, as in PyTorch
    mean = as_array(sums[0] / divisor, losses.dtype)
    note(mean, sums[1], np.reshape(labels != ignore_index, shape))
    return mean, lambda dy: np.broadcast_to(dy / divisor.astype(losses.dtype), losses.shape)


@kernel
def sum_of_losses(losses: Array, labels: Array, weight: Array, ignore_index: int, sums: Array) -> None:
    """sums = (Σ losses, Σ weight[label] over the labels that count), in float64."""
    total, weights = np.float64(0), np.float64(0)
    for n in range(losses.size):
        total += losses[n]
        if labels[n] != ignore_index:
            weights += weight[labels[n]]
    sums[0] = total
    sums[1] = weights


@op
def nll(
    log_probabilities: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Result:
    """Lₙ = −w[labelₙ] · x[n, labelₙ].   dL/dx[n, labelₙ] = −dL/dLₙ · w[labelₙ], and 0 for the other classes

    log_probabilities x (N, C), (C,) or (N, C, d₁, …): float, from `log_softmax`. Others as for `softmax_cross_entropy`.
    """
    log_probabilities = floating(log_probabilities, "log_probabilities")
    x, shape, again = _rows(log_probabilities, "log_probabilities")
    check_reduction(reduction, log_probabilities.shape)
    y = class_labels(labels, shape, x.shape[1], ignore_index)
    w = _class_weights(weight, x.shape[1], x)
    counted, rows = y != ignore_index, np.arange(x.shape[0])
    columns = np.where(counted, y, 0)
    losses = np.where(counted, -weighted(w[columns], x[rows, columns]), 0)
    value, spread = _weighted(losses, y, w, ignore_index, reduction, shape)

    def gradient(dy: Array) -> Array:
        dx = np.zeros_like(x)
        dx[rows, columns] = np.where(counted, -w[columns] * spread(dy), 0)
        return again(dx)

    return value, (gradient,)


# ---------------------------------------------------------------------- predictions and targets


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Both as float arrays of one shape: (N,) against (N, 1) would silently broadcast to (N, N)."""
    x, t = floating(prediction, "input"), floating(target, "target")
    if x.shape != t.shape:
        raise ValueError(f"expected input and target of one shape, found {x.shape} and {t.shape}")
    return x, t


def _spread(dy: Array, shape: tuple[int, ...], reduction: str) -> Array:
    """dL/dy of the reduced loss, spread over its elements."""
    return dy / math.prod(shape) if reduction == "mean" else dy


def _of_difference(losses: Array, slope: Array, reduction: str) -> Result:
    """A loss of x − t whose derivative with respect to x is `slope`, and with respect to t is −slope."""
    return reduced(losses, reduction), (
        lambda dy: slope * _spread(dy, slope.shape, reduction),
        lambda dy: slope * -_spread(dy, slope.shape, reduction),
    )


@op
def mse(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Result:
    """L = (x − t)², the mean or sum over all elements.   dL/dx = dL/dy · 2(x − t),  dL/dt = −dL/dx

    input x and target t: float, of one shape. ValueError: shapes that differ or, for "mean", are empty.

    >>> ops.mse(np.array([1.0, 2.0]), np.array([1.0, 4.0])).item()
    2.0
    """
    x, t = _pair(input, target)
    difference = x - t
    return _of_difference(difference * difference, 2 * difference, reduction)


@op
def l1(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Result:
    """L = |x − t|.   dL/dx = dL/dy · sign(x − t),  dL/dt = −dL/dx      (0 where x = t); shapes as for `mse`"""
    x, t = _pair(input, target)
    difference = x - t
    return _of_difference(np.abs(difference), np.sign(difference), reduction)


@op
def huber(input: ArrayLike, target: ArrayLike, reduction: str = "mean", delta: float = 1.0) -> Result:
    """L = d²/2 where |d| ≤ δ, else δ(|d| − δ/2), d = x − t.   dL/dx = dL/dy · clip(d, −δ, δ),  dL/dt = −dL/dx

    Shapes as for `mse`; δ > 0. Huber 1964.
    """
    delta = number(delta, "delta")
    if not delta > 0:
        raise ValueError(f"expected delta > 0, found {delta}")
    x, t = _pair(input, target)
    d = x - t
    size = np.abs(d)
    losses = np.where(size <= delta, 0.5 * d * d, delta * (size - 0.5 * delta))
    return _of_difference(losses, np.clip(d, -delta, delta), reduction)


@op
def kl_div(input: ArrayLike, target: ArrayLike, reduction: str = "mean", log_target: bool = False) -> Result:
    """L = t·(ln t − x), 0 where t = 0.   dL/dx = −dL/dy · t,  dL/dt = dL/dy · (ln t − x + 1)

    input x: log-probabilities; target t: probabilities, or with `log_target` their logarithms
    (L = eᵗ(t − x), dL/dt = dL/dy · eᵗ(t − x + 1)). reduction="batchmean" divides the sum by the first
    axis: that is the divergence, whereas "mean" divides by all elements, as in PyTorch.
    """
    x, t = _pair(input, target)
    p = np.exp(t) if log_target else t
    log_p = t if log_target else np.log(t)
    nothing = (p == 0) & ~np.isnan(x)
    losses = np.where(nothing, 0, p * (log_p - x))
    if reduction == "batchmean":
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"expected a batch to take the mean over, found shape {x.shape}")
        value, scale = reduced(losses, "sum") / x.shape[0], 1.0 / x.shape[0]
    else:
        value, scale = reduced(losses, reduction), 1.0 / x.size if reduction == "mean" else 1.0
    slope = np.where(nothing, 0, p * (log_p - x + 1)) if log_target else log_p - x + 1
    return as_array(value), (lambda dy: -p * (dy * scale), lambda dy: slope * (dy * scale))


@op
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike = None,
    reduction: str = "mean",
    pos_weight: ArrayLike = None,
) -> Result:
    """L = w·((1 − t)·ln(1 + eˣ) + q·t·ln(1 + e⁻ˣ)), in nats.   dL/dx = dL/dy · w·((1 − t)·σ(x) − q·t·σ(−x))

    dL/dt = dL/dy · w·(q·ln(1 + e⁻ˣ) − ln(1 + eˣ)).

    input x: logits, any shape, float; target t: of x's shape, from 0 to 1; weight w and pos_weight q broadcast
    to that shape, in x's dtype, 1 if None. Stable for any x: ln(1 + eˣ) is max(x, 0) + ln(1 + e^−|x|). As PyTorch's.
    """
    x, t = _pair(input, target)
    w = np.ones((), x.dtype) if weight is None else floating(weight, "weight").astype(x.dtype)
    q = np.ones((), x.dtype) if pos_weight is None else floating(pos_weight, "pos_weight").astype(x.dtype)
    if np.broadcast_shapes(x.shape, w.shape, q.shape) != x.shape:
        raise ValueError(f"expected weights that broadcast to {x.shape}, found shapes {w.shape} and {q.shape}")
    e = np.exp(-np.abs(x))
    above, below = np.maximum(x, 0) + np.log1p(e), np.maximum(-x, 0) + np.log1p(e)  # ln(1 + eˣ), ln(1 + e⁻ˣ)
    slope_x = w * ((1 - t) * np.where(x < 0, e, 1) - q * t * np.where(x < 0, 1, e)) / (1 + e)
    slope_t = weighted(w, weighted(q, below) - above)
    return reduced(weighted(w, weighted(1 - t, above) + weighted(q * t, below)), reduction), (
        lambda dy: slope_x * _spread(dy, x.shape, reduction),
        lambda dy: slope_t * _spread(dy, x.shape, reduction),
    )
