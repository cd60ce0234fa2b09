"""Training and testing a classifier: the loop that one would write, with the bookkeeping done."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl import data, nn, ops, optim
from minidl.tensor import Array, no_grad

Progress = Callable[[int, float, float], None]


def mlp(input_shape: Sequence[int], hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Flatten, then for each of `hidden` a Dense of that width and a ReLU, then a Dense to `classes` logits.

    input_shape: that of one example, as (1, 28, 28). Weights come from minidl's generator (`minidl.manual_seed`).
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(input_shape)
    for units in hidden:
        layers += [nn.Dense(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Dense(width, classes))


def train_epoch(
    model: nn.Module, loader: data.Loader, optimizer: optim.Optimizer, progress: Progress | None = None
) -> tuple[float, float]:
    """(mean loss in nats, share of right answers) over one pass, each batch as it was met: before its own step.

    loader     yields (x, labels); the loss is `ops.softmax_cross_entropy` of model(x)
    progress   called after each step with the number of examples in it, and the two results so far

    ValueError: the loader yields nothing.
    """
    model.train()
    seen, total, right = 0, 0.0, 0
    for x, y in loader:
        logits = model(x)
        loss = ops.softmax_cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(y)
        total += loss.item() * len(y)
        right += int((logits.data.argmax(axis=1) == y).sum())
        if progress is not None:
            progress(len(y), total / seen, right / seen)
    return _means("train_epoch", seen, total, right)


def evaluate(model: nn.Module, dataset: data.Dataset, batch_size: int = 1000) -> tuple[float, float]:
    """(mean loss in nats, share of right answers) on a data set, in evaluation mode. ValueError if it is empty."""
    seen, total, right = 0, 0.0, 0
    with _evaluation(model):
        for x, y in data.Loader(dataset, batch_size=batch_size):
            logits = model(x)
            seen += len(y)
            total += ops.softmax_cross_entropy(logits, y, reduction="sum").item()
            right += int((logits.data.argmax(axis=1) == y).sum())
    return _means("evaluate", seen, total, right)


def predict(model: nn.Module, x: Array, batch_size: int = 1000) -> Array:
    """The probabilities (N, classes) of images x: bytes, or floats in [0, 1]. In evaluation mode."""
    with _evaluation(model):
        batches: list[Any] = [ops.softmax(model(batch)).data for batch in data.Loader(x, batch_size=batch_size)]
    if not batches:
        raise ValueError(f"predict: expected at least one image, found shape {x.shape}")
    return np.concatenate(batches)


@contextlib.contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in evaluation mode, and nothing is recorded."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        model.train(was_training)


def _means(name: str, seen: int, total: float, right: int) -> tuple[float, float]:
    if not seen:
        raise ValueError(f"{name}: expected at least one example, found none")
    return total / seen, right / seen
