"""The base of classifier and regressor: the parameters, training on checked data, and prediction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from minidl import data, nn, ops, optim, train
from minidl.sklearn import options, parts
from minidl.tensor import Array, Tensor
from minidl.train import defaults


class MinidlEstimator(BaseEstimator):  # type: ignore[misc]
    """The base class; subclasses define the targets, the loss and the score."""

    module_: nn.Module
    n_outputs_: int
    n_iter_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _optimizer: optim.Optimizer
    _generator: np.random.Generator

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = defaults.OPTIMIZER,
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        learning_rate_init: float = defaults.RATES[defaults.OPTIMIZER],
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = defaults.MOMENTUM,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        module: Callable[[int, int], nn.Module] | None = None,
        compile: bool = defaults.COMPILE,
    ) -> None:
        """Parameters as for MLPClassifier, except:

        activation   "identity", "logistic", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu" or "softplus"
        solver       "adam", "sgd" or "adamw"
        alpha        α of the penalty α/(2n)·Σ W² on the mean loss of a batch of n examples, where W are the parameters
                     with two or more axes, not biases. Implemented as the optimizer's weight decay λ = α/n, n the
                     batch size; for "adamw", whose decay is not a penalty, λ = α. `loss_curve_` excludes it.
        batch_size   an int, or "auto": 200; at most N in any case
        epsilon      ε of Adam, added to √v̂ as in Kingma and Ba 2015 (scikit-learn adds it to √v, uncorrected)
        module       None, or a function (n_features, n_outputs) → nn.Module that maps (N, n_features) to
                     (N, n_outputs): logits of the classes, two for two classes, or values. Then hidden_layer_sizes
                     and activation are ignored, and X is converted to the module's dtype
        compile      make each step one machine-code call. Worth it only if training lasts longer than compiling, which
                     takes seconds
        verbose      show progress on stderr

        The net is float32 for X in float32, else float64. Sparse X is made dense.

        random_state seeds the estimator's own generator; minidl's (`minidl.manual_seed`) is neither used nor changed.
        Only a `module` draws from minidl's, which is given the estimator's state during the fit and then restored.
        Fits with a `module` therefore run one thread at a time, and other threads should not draw from minidl's
        generator meanwhile. Everything else is thread-safe.
        """
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.module = module
        self.compile = compile

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train a new net, or with `warm_start` continue training the existing one.

        X               (N, n_features): finite numbers, dense or sparse (CSR, CSC)
        y               for a classifier (N,) labels, or an indicator (N, labels) of 0 and 1;
                        for a regressor (N,) or (N, n_outputs)
        sample_weight   (N,) numbers ≥ 0, not all 0: a weight of 2 counts as two such examples. Or None

        ValueError, TypeError: parameters or data out of range. train.DivergenceError: the loss became NaN or infinite.
        ConvergenceWarning: training reached max_iter before the rule of tol and n_iter_no_change ended it.
        """
        return self._fit(X, y, sample_weight)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, classes: Any = None) -> Self:
        options.check(self)
        who = type(self).__name__
        if incremental and self.early_stopping:
            raise ValueError(f"{who}.partial_fit: expected early_stopping=False, found {self.early_stopping}")
        fresh = not hasattr(self, "module_") or not (incremental or self.warm_start)
        X, y = validate_data(
            self, X, y, reset=fresh, accept_sparse=("csr", "csc"), multi_output=True, dtype=(np.float64, np.float32),
            y_numeric=is_regressor(self),
        )  # fmt: skip
        X, y = dense(X), dense(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        weights = None if sample_weight is None else self._weights(sample_weight, len(X))
        targets, n_outputs = self._targets(y, fresh, classes)
        if weights is not None:
            X, targets, weights = (a[weights > 0] for a in (X, targets, weights))
        if fresh or not incremental:
            seeds = check_random_state(self.random_state).randint(1 << 31, size=4)
            self._generator = np.random.default_rng(seeds)
        with nullcontext(self._generator) if self.module is None else parts.drawing_default(self._generator) as random:
            if not fresh:
                module = self.module_
            elif self.module is None:
                module = parts.perceptron(self, X, n_outputs, random)
            else:
                module = parts.own_module(self, X, n_outputs)
            if fresh or not incremental:
                self._optimizer = parts.new_optimizer(self, module)
            history = self._train(module, X, targets, weights, random, incremental)
        module.eval()  # permanently, so that several threads may predict at once
        losses, scores = ([], []) if fresh else (self.loss_curve_, self.validation_scores_ or [])
        self.module_, self.n_outputs_, self.n_iter_ = module, n_outputs, history.epochs
        self.loss_curve_ = [*losses, *history["loss"].tolist()]
        self.loss_, self.best_loss_ = self.loss_curve_[-1], min(self.loss_curve_)
        self.validation_scores_, self.best_validation_score_ = None, None
        if self.early_stopping:
            self.validation_scores_ = [*scores, *history["val_score"].tolist()]
            self.best_validation_score_ = max(self.validation_scores_)
        if not incremental and history.stopped is None:
            told = f"{who}: max_iter={self.max_iter} epochs have passed, and the training had not ended by itself"
            warnings.warn(told, ConvergenceWarning, stacklevel=3)
        return self

    def _train(
        self, module: nn.Module, X: Array, targets: Array, weights: Array | None, random: np.random.Generator,
        incremental: bool,
    ) -> train.History:  # fmt: skip
        dtype, labels, held = parts.dtype_of(module), targets.ndim == 1, None
        X, targets = X.astype(dtype, copy=False), targets if labels else targets.astype(dtype)
        # Weights are passed as a last column of the targets.
        packed = targets if weights is None else np.column_stack([targets, weights]).astype(dtype)
        if self.early_stopping:
            fraction, seed = self.validation_fraction, int(random.integers(1 << 31))
            stratify = targets if labels else None
            X, X_held, packed, packed_held = data.train_test_split(
                X, packed, test_size=fraction, seed=seed, stratify=stratify
            )
            held = X_held, packed_held
            if len(X_held) < 2:
                raise ValueError(
                    f"{type(self).__name__}: expected at least 2 examples to validate with, found {len(X_held)}: "
                    f"{fraction} of {len(X) + len(X_held)}"
                )
        batch = min(200 if self.batch_size == "auto" else int(self.batch_size), len(X))
        loader = data.Loader(X, packed, batch_size=batch, shuffle=bool(self.shuffle))
        loader.generator = random
        whole = batch if weights is None else batch * float(weights.mean())
        self._optimizer.param_groups[0]["weight_decay"] = self.alpha / (1 if self.solver == "adamw" else whole)

        def unpacked(packed: Any) -> tuple[Any, Any]:
            return packed[:, 0].astype(np.int64) if labels else packed[:, :-1], packed[:, -1]

        def loss(outputs: Tensor, packed: Any) -> Any:
            if weights is None:
                return self._loss(outputs, packed, "mean")
            y, w = unpacked(packed)
            each = self._loss(outputs, y, "none")
            return ops.sum((ops.mean(each, axis=1) if each.ndim == 2 else each) * w), w.sum()

        def score(outputs: Array, packed: Array) -> float:
            return self._score(outputs, *((packed, None) if weights is None else unpacked(packed)))

        watched, sign = ("loss", -1) if held is None else ("val_score", 1)
        stopping = parts.Stopping(watched, sign, self.tol, self.n_iter_no_change, restore=held is not None)
        return train.fit(
            module,
            loader,
            held,
            epochs=1 if incremental else int(self.max_iter),
            optimizer=self._optimizer,
            loss=loss,
            metrics=[] if held is None else [score],
            callbacks=[] if incremental else [stopping],
            compile=bool(self.compile) and not incremental,
            verbose=bool(self.verbose),
        )

    def _outputs(self, X: Any) -> Array:
        """The outputs of the net for X, (N, n_outputs). NotFittedError; ValueError: X does not match training."""
        check_is_fitted(self, "module_")
        X = validate_data(self, X, reset=False, accept_sparse=("csr", "csc"), dtype=(np.float64, np.float32))
        X = dense(X).astype(parts.dtype_of(self.module_), copy=False)
        return train.predict(self.module_, X, output="values")

    def _weights(self, given: Any, n: int) -> Array:
        weights: Array = check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        who = f"{type(self).__name__}: expected sample_weight"
        if weights.shape != (n,):
            raise ValueError(f"{who} of shape ({n},), found {weights.shape}")
        if (weights < 0).any() or not weights.any():
            raise ValueError(f"{who} of at least 0, and not all zero, found {weights.min()} to {weights.max()}")
        return weights

    def _targets(self, y: Array, fresh: bool, classes: Any) -> tuple[Array, int]:
        """The targets, labels (N,) or values (N, n_outputs), and n_outputs. ValueError: y is invalid."""
        raise NotImplementedError

    def _loss(self, outputs: Tensor, y: Any, reduction: str) -> Tensor:
        """The mean loss, or with reduction "none" the loss of each example."""
        raise NotImplementedError

    def _score(self, outputs: Array, y: Array, weights: Array | None) -> float:
        """The score of outputs; higher is better."""
        raise NotImplementedError


def dense(x: Any) -> Any:
    """Convert a sparse array to a dense one; others are returned as they are."""
    return x.toarray() if hasattr(x, "toarray") else x
