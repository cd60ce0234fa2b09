"""Training, validating and using a model: `fit`, `evaluate`, `predict`, and `callbacks` for what happens meanwhile."""

from minidl.train import callbacks
from minidl.train.divergence import DivergenceError
from minidl.train.evaluation import evaluate, predict
from minidl.train.fit import fit
from minidl.train.history import History

__all__ = ["DivergenceError", "History", "callbacks", "evaluate", "fit", "predict"]
