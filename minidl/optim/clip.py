"""Gradient clipping, between `loss.backward()` and `optimizer.step()`. Names and semantics are PyTorch's.

    loss.backward()
    optim.clip_grad_norm_(model.parameters(), max_norm=1.0)
    optimizer.step()

Both functions work in a step compiled by `minidl.compile`. They put new arrays into `p.grad` and never modify the
existing ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minidl.core.errstate import quietly
from minidl.core.tracing import require
from minidl.ops.inputs import floating
from minidl.optim.checks import tensors
from minidl.shared.numbers import is_number
from minidl.tensor import Array, Tensor

_ROWS, _LONG = 8, 1024


@quietly
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float | str = 2.0,
    error_if_nonfinite: bool = False,
) -> Any:
    """g ← g · min(1, max_norm / (‖g‖ + 10⁻⁶)), where g is all gradients as one vector. Returns ‖g‖ before clipping.

    parameters           one Tensor or several; those without a gradient are skipped
    max_norm             ≥ 0, may be infinite
    norm_type            p > 0 of ‖g‖ = (Σ |gᵢ|ᵖ)^(1/p);  math.inf or "inf": max |gᵢ|
    error_if_nonfinite   RuntimeError, before any gradient changes, if ‖g‖ is NaN or infinite. Without it a NaN norm
                         makes all gradients NaN, and an infinite one makes them 0 (infinite elements NaN)

    The norm is a float64 (0 without gradients), summed in float64 whatever the gradients' dtype, which they keep. In a
    compiled step it is an array, which the step may return.

    ValueError: max_norm or norm_type out of range, or an exhausted generator. TypeError: not Tensors, or gradients
    that are not float32 or float64.
    Pascanu et al. 2013, algorithm 1.

    >>> w = minidl.Tensor([0.0, 0.0], requires_grad=True)
    >>> ops.sum(w * np.array([3.0, 4.0])).backward()
    >>> float(optim.clip_grad_norm_([w], max_norm=1.0))
    5.0
    >>> w.grad.round(5)
    array([0.6, 0.8])
    """
    limit = _limit("clip_grad_norm_", "max_norm", max_norm)
    p = math.inf if norm_type == "inf" else _number("clip_grad_norm_", "norm_type", norm_type)
    if not p > 0:
        raise ValueError(f"clip_grad_norm_: expected norm_type > 0, found {norm_type}")
    gradients = _gradients("clip_grad_norm_", parameters)
    norm = _norm([_flat(t, g) for t, g in gradients], p)
    if error_if_nonfinite:
        _require_finite(norm, p)
    scale = np.minimum(limit / (norm + 1e-6), 1.0)
    for t, g in gradients:
        _put(t, g, _flat(t, g) * scale.astype(g.dtype))
    return norm


@quietly
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """g ← min(max(g, −clip_value), clip_value), element by element. NaN stays NaN.

    parameters: one Tensor or several; those without a gradient are skipped. ValueError: clip_value is not ≥ 0, or an
    exhausted generator. TypeError: not Tensors, or gradients that are not float32 or float64.
    """
    limit = _limit("clip_grad_value_", "clip_value", clip_value)
    for t, g in _gradients("clip_grad_value_", parameters):
        _put(t, g, np.clip(_flat(t, g), -limit, limit))


def _number(name: str, option: str, value: Any) -> float:
    if not is_number(value):
        raise TypeError(f"{name}: expected a number for {option}, found {value!r:.100}")
    return float(value)


def _limit(name: str, option: str, value: Any) -> float:
    limit = _number(name, option, value)
    if not limit >= 0:
        raise ValueError(f"{name}: expected {option} ≥ 0, found {value}")
    return limit


def _gradients(name: str, parameters: Tensor | Iterable[Tensor]) -> list[tuple[Tensor, Any]]:
    """(Tensor, gradient) for each that has one."""
    given = tensors(name, parameters)
    return [(t, floating(t.grad, f"{name}: gradients")) for t in given if t.grad is not None]


def _flat(t: Tensor, g: Array) -> Any:
    """The gradient g of t flattened in the memory order of t, in which loops over both run fastest."""
    return (g.T if t.data.flags.f_contiguous else g).reshape(-1)


def _put(t: Tensor, g: Array, flat: Array) -> None:
    """Make `flat` (see `_flat`) the gradient of t, in the shape of its former gradient g."""
    t.grad = flat.reshape(g.shape[::-1]).T if t.data.flags.f_contiguous else flat.reshape(g.shape)


def _norm(gradients: list[Array], p: float) -> Any:
    """The p-norm of flat arrays, taken as one vector."""
    if p == math.inf:
        return _largest(gradients)
    squares_fit = p <= 2 and all(g.dtype == np.float32 for g in gradients)  # in float64
    top = 1.0 if squares_fit else _largest(gradients)
    if not squares_fit:
        top = np.where((top > 0) & (top < math.inf), top, 1.0)
    norm: Any = np.float64(0)
    for g in gradients:
        g = g if squares_fit else g / top
        norm = norm + _sum(np.square(g, dtype=np.float64) if p == 2 else np.power(np.abs(g), p, dtype=np.float64))
    return top * (np.sqrt(norm) if p == 2 else np.power(norm, 1 / p))


def _largest(gradients: list[Array]) -> Any:
    """max |g|; 0 without gradients."""
    found: Any = np.float64(0)
    for g in gradients:
        found = np.maximum(found, np.abs(g).max()) if g.size else found
    return found


def _sum(terms: Array) -> Any:
    """Σ of a flat array; 8 interleaved sums if it is long, since within one each addition waits for the previous."""
    if terms.size < _LONG:
        return terms.sum()
    whole = terms.size // _ROWS * _ROWS
    total = terms[:whole].reshape(_ROWS, -1).sum(axis=0).sum()
    return total if whole == terms.size else total + terms[whole:].sum()


def _require_finite(norm: Any, p: float) -> None:
    """Raise RuntimeError unless the norm is finite."""
    expected = f"clip_grad_norm_: expected gradients with a finite norm of order {p:g}"
    require(norm < math.inf, expected, _found, norm, error=RuntimeError)


def _found(norm: Any) -> str:
    return f"found {norm}"
