"""A classifier for scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from minidl import ops
from minidl.sklearn.base import MinidlEstimator
from minidl.tensor import Array, Tensor


class MinidlClassifier(ClassifierMixin, MinidlEstimator):  # type: ignore[misc]
    """A net that classifies by softmax cross-entropy; or, for multilabel targets, by one sigmoid per label.

    After `fit`:

    classes_       the sorted labels; probabilities are in their order
    module_        the net, an `nn.Module` that returns logits
    loss_curve_    the mean training loss of each epoch;  loss_: the last;  best_loss_: the lowest
    n_iter_        epochs of the last fit
    validation_scores_, best_validation_score_    with early_stopping, the accuracy after each epoch; else None
    n_features_in_, feature_names_in_, n_outputs_
    """

    classes_: Array
    _multilabel: bool

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on these examples, continuing with the existing net and optimizer; never compiles.

        classes   all labels that may ever occur; required in the first call (not for indicators). Otherwise as `fit`.
        """
        if classes is None and not hasattr(self, "module_") and not type_of_target(y).startswith("multilabel"):
            raise ValueError(f"{type(self).__name__}.partial_fit: expected classes at the first call, found None")
        return self._fit(X, y, sample_weight, True, classes)

    def predict(self, X: Any) -> Array:
        """The most likely class (N,) of each example; for multilabel an indicator (N, labels)."""
        outputs = self._outputs(X)
        return (outputs > 0).astype(np.int64) if self._multilabel else self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class or label, (N, len(classes_))."""
        outputs = self._outputs(X)
        return (ops.sigmoid(outputs) if self._multilabel else ops.softmax(outputs, dim=1)).data

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, accurate even where those round to 0."""
        outputs = self._outputs(X)
        return -ops.softplus(-outputs).data if self._multilabel else ops.log_softmax(outputs, dim=1).data

    def _targets(self, y: Array, fresh: bool, classes: Any) -> tuple[Array, int]:
        check_classification_targets(y)
        who, kind = type(self).__name__, type_of_target(y)
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            raise ValueError(f"{who}: expected one class for each example, or indicators of labels, found {kind} y")
        multilabel = kind == "multilabel-indicator"
        labels = np.arange(y.shape[1]) if multilabel else np.unique(y)
        if fresh:
            known = labels if classes is None or multilabel else np.unique(np.asarray(classes))
        else:
            known = self.classes_
            if multilabel != self._multilabel or (multilabel and len(labels) != len(known)):
                raise ValueError(f"{who}: expected y of the same kind and width as before, found {kind}, {y.shape}")
            if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), known):
                raise ValueError(f"{who}.partial_fit: expected classes as before, {known}, found {classes}")
        if len(unknown := np.setdiff1d(labels, known)):
            raise ValueError(f"{who}: expected y to have the classes {known} only, found {unknown} too")
        self.classes_, self._multilabel = known, multilabel
        return (y.astype(np.float64) if multilabel else np.searchsorted(known, y)), len(known)

    def _loss(self, outputs: Tensor, y: Any, reduction: str) -> Tensor:
        if self._multilabel:  # the sum over the labels
            return ops.binary_cross_entropy_with_logits(outputs, y, reduction=reduction) * float(outputs.shape[1])
        return ops.softmax_cross_entropy(outputs, y, reduction=reduction)

    def _score(self, outputs: Array, y: Array, weights: Array | None) -> float:
        found = outputs > 0 if self._multilabel else outputs.argmax(axis=1)
        return float(accuracy_score(y.astype(found.dtype), found, sample_weight=weights))
