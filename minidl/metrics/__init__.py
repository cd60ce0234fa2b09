"""Metrics: scikit-learn's under their own names, and short names for metrics of a net's raw outputs.

    metrics.accuracy_score(y_true, y_pred)
    metrics.roc_auc_score(y_true, probabilities, multi_class="ovr")
    metrics.by_name("f1")(model(x), y)

The first argument is the true values, the second the predictions: arrays or Tensors; no graph is recorded. Results
equal scikit-learn's, without sample weights. Where it warns and returns NaN or an arbitrary value, these raise
ValueError unless stated otherwise. Labels are integers, booleans or whole floats; the columns of scores (N, C) belong
to the labels 0 to C − 1, or to `labels` in the order given.
"""

from minidl.metrics.classification import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)
from minidl.metrics.names import METRICS, Metric, by_name
from minidl.metrics.plot import plot_confusion
from minidl.metrics.probability import brier_score_loss, calibration_error, log_loss
from minidl.metrics.ranking import average_precision_score, roc_auc_score, top_k_accuracy_score
from minidl.metrics.regression import (
    explained_variance_score,
    max_error,
    mean_absolute_error,
    mean_squared_error,
    median_absolute_error,
    r2_score,
    root_mean_squared_error,
)

__all__ = [
    "METRICS", "Metric", "accuracy_score", "average_precision_score", "brier_score_loss", "by_name",
    "calibration_error", "confusion_matrix", "explained_variance_score", "f1_score", "log_loss", "max_error",
    "mean_absolute_error", "mean_squared_error", "median_absolute_error", "plot_confusion",
    "precision_recall_fscore_support", "precision_score", "r2_score", "recall_score", "roc_auc_score",
    "root_mean_squared_error", "top_k_accuracy_score",
]  # fmt: skip
