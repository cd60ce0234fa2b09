"""Checks of the estimators' parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from minidl import nn, optim
from minidl.shared.names import chosen
from minidl.shared.numbers import is_integer

ACTIVATIONS: dict[str, type[nn.Module] | None] = {
    "identity": None,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
SOLVERS: dict[str, type[optim.Optimizer]] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
_NUMBERS: dict[str, tuple[Any, Callable[[Any], bool], str]] = {
    "alpha": (Real, lambda v: 0 <= v < math.inf, "a number of at least 0"),
    "batch_size": (Integral, lambda v: v >= 1, 'an int of at least 1 or "auto"'),
    "learning_rate_init": (Real, lambda v: 0 < v < math.inf, "a number above 0"),
    "max_iter": (Integral, lambda v: v >= 1, "an int of at least 1"),
    "tol": (Real, lambda v: v >= 0, "a number of at least 0"),
    "n_iter_no_change": (Real, lambda v: v >= 1, "a number of at least 1"),
    "validation_fraction": (Real, lambda v: 0 < v < 1, "a number between 0 and 1"),
    "momentum": (Real, lambda v: 0 <= v <= 1, "a number from 0 to 1"),
    "beta_1": (Real, lambda v: 0 <= v < 1, "a number from 0 to below 1"),
    "beta_2": (Real, lambda v: 0 <= v < 1, "a number from 0 to below 1"),
    "epsilon": (Real, lambda v: 0 < v < math.inf, "a number above 0"),
}


def check(estimator: Any) -> None:
    """Check all parameters. ValueError: one is out of range. TypeError: one has a wrong type."""
    who = type(estimator).__name__
    for name, (kind, holds, expected) in _NUMBERS.items():
        value = getattr(estimator, name)
        if name == "batch_size" and isinstance(value, str) and value == "auto":
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{who}: expected {name} as {expected}, found {value!r:.80}")
        if not holds(value):
            raise ValueError(f"{who}: expected {name} as {expected}, found {value!r:.80}")
    for name, table in (("activation", ACTIVATIONS), ("solver", SOLVERS)):
        try:
            chosen(name, getattr(estimator, name), table)
        except ValueError as error:
            raise ValueError(f"{who}: {error}") from None
    if estimator.module is not None and not callable(estimator.module):
        raise TypeError(f"{who}: expected module as None or a function, found {estimator.module!r:.80}")
    hidden_widths(estimator)


def hidden_widths(estimator: Any) -> list[int]:
    """`hidden_layer_sizes` as a list; one number is one layer. TypeError, ValueError: not ints ≥ 1."""
    given = estimator.hidden_layer_sizes
    widths = [given] if isinstance(given, Integral) or not hasattr(given, "__iter__") else list(given)
    who = f"{type(estimator).__name__}: expected hidden_layer_sizes as"
    if not all(map(is_integer, widths)):
        raise TypeError(f"{who} an int or a list of them, found {given!r:.80}")
    if not all(n >= 1 for n in widths):
        raise ValueError(f"{who} ints of at least 1, found {given!r:.80}")
    return [int(n) for n in widths]
