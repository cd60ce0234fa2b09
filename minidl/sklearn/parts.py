"""The parts of an estimator's training: net, optimizer, random numbers and stopping rule."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl import nn, optim
from minidl.core import locks
from minidl.nn import init
from minidl.random import default_generator
from minidl.sklearn.options import ACTIVATIONS, hidden_widths
from minidl.tensor import Array
from minidl.train.evaluation import evaluating
from minidl.train.run import Run

_turn = locks.lock()  # held by the thread that uses minidl's own generator


@contextlib.contextmanager
def drawing_default(generator: np.random.Generator) -> Iterator[np.random.Generator]:
    """Within the block minidl's own generator continues `generator`'s stream; afterwards minidl's is restored.

    One thread at a time. Yields minidl's generator.
    """
    with _turn:
        default, lent = default_generator().bit_generator, generator.bit_generator
        before, default.state = default.state, lent.state
        try:
            yield default_generator()
        finally:
            lent.state, default.state = default.state, before


def perceptron(estimator: Any, x: Array, n_outputs: int, generator: np.random.Generator) -> nn.Sequential:
    """Dense layers with activations between them, in the dtype of x (N, n_features).

    Weights are uniform on ± g·√(6 / (fan_in + fan_out)), Glorot and Bengio 2010, with MLPClassifier's g: 1, or for
    "logistic" 1/√3.
    """
    activation, layers = ACTIVATIONS[estimator.activation], list[nn.Module]()
    gain = 3**-0.5 if estimator.activation == "logistic" else 1.0
    for fan_in, fan_out in itertools.pairwise([x.shape[1], *hidden_widths(estimator), n_outputs]):
        if layers and activation is not None:
            layers.append(activation())
        layers.append(dense := nn.Dense(fan_in, fan_out, dtype=x.dtype, generator=generator))
        init.xavier_uniform_(dense.weight, gain, generator)
    return nn.Sequential(*layers)


def own_module(estimator: Any, x: Array, n_outputs: int) -> nn.Module:
    """Call `estimator.module`. TypeError: not a Module with parameters. ValueError: its outputs have another shape."""
    who, made = type(estimator).__name__, estimator.module(x.shape[1], n_outputs)
    if not isinstance(made, nn.Module) or next(made.parameters(), None) is None:
        raise TypeError(f"{who}: expected module to return an nn.Module with parameters, found {made!r:.80}")
    some = x[:2].astype(dtype_of(made))
    with evaluating(made):
        found = np.shape(made(some).data)
    if found != (len(some), n_outputs):
        raise ValueError(
            f"{who}: expected a module that makes {(len(some), n_outputs)} of inputs {some.shape}, found {found}"
        )
    return made


def dtype_of(module: nn.Module) -> np.dtype[Any]:
    """The dtype of its first parameter."""
    return next(module.parameters()).data.dtype


def new_optimizer(estimator: Any, module: nn.Module) -> optim.Optimizer:
    """Make the solver. Its first group holds the parameters that decay, those with two or more axes."""
    every = list(module.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in every if p.ndim > 1]},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
    ]
    lr = float(estimator.learning_rate_init)
    if estimator.solver == "sgd":
        nesterov = bool(estimator.nesterovs_momentum) and estimator.momentum > 0
        return optim.SGD(groups, lr, momentum=float(estimator.momentum), nesterov=nesterov)
    kind = optim.AdamW if estimator.solver == "adamw" else optim.Adam
    return kind(groups, lr, (float(estimator.beta_1), float(estimator.beta_2)), float(estimator.epsilon))


class Stopping:
    """End a run when a figure has not improved on the best by `tol` for more than `patience` epochs.

    MLPClassifier's rule: any improvement, however small, sets the best. sign: 1 if higher is better, −1 if lower.
    With `restore` the weights of the best epoch are restored at the end.
    """

    def __init__(self, monitor: str, sign: int, tol: float, patience: float, restore: bool) -> None:
        self.monitor, self.sign, self.tol, self.patience, self.restore = monitor, sign, tol, patience, restore
        self.best, self.waited = -math.inf, 0
        self.weights: dict[str, Array] = {}

    def on_train_begin(self, run: Run) -> None:
        self.best, self.waited, self.weights = -math.inf, 0, {}

    def on_epoch_end(self, run: Run) -> None:
        found = self.sign * run.logs[self.monitor]
        self.waited = self.waited + 1 if found < self.best + self.tol else 0
        if found > self.best:
            self.best = found
            if self.restore:
                self.weights = {name: np.array(values) for name, values in run.model.state_dict().items()}
        if self.waited > self.patience:
            run.stop(f"{self.monitor} has not become better by {self.tol} for {self.waited} epochs")

    def on_train_end(self, run: Run) -> None:
        if self.weights:
            run.model.load_state_dict(self.weights)
