"""A regressor for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from minidl import ops
from minidl.sklearn.base import MinidlEstimator
from minidl.tensor import Array, Tensor


class MinidlRegressor(RegressorMixin, MinidlEstimator):  # type: ignore[misc]
    """A net that predicts one or several numbers per example, by half the mean squared error.

    After `fit`: as `MinidlClassifier`, without `classes_`; the validation score is R². The targets are not
    scaled: if they are far from unit size, scale them (`sklearn.compose.TransformedTargetRegressor`).
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these examples, continuing with the existing net and optimizer; never compiles."""
        return self._fit(X, y, sample_weight, True)

    def predict(self, X: Any) -> Array:
        """Predictions (N,), or (N, n_outputs) for several outputs."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _targets(self, y: Array, fresh: bool, classes: Any) -> tuple[Array, int]:
        values = y.reshape(len(y), -1).astype(np.float64)
        if not fresh and values.shape[1] != self.n_outputs_:
            raise ValueError(
                f"{type(self).__name__}: expected {self.n_outputs_} outputs as before, found {values.shape[1]}"
            )
        return values, values.shape[1]

    def _loss(self, outputs: Tensor, y: Any, reduction: str) -> Tensor:
        return ops.mse(outputs, y, reduction=reduction) * 0.5

    def _score(self, outputs: Array, y: Array, weights: Array | None) -> float:
        return float(r2_score(y, outputs, sample_weight=weights))
