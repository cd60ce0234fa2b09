"""Evaluating a model on a data set, and predicting with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl import data, metrics, nn, ops
from minidl.ops.counting import counting
from minidl.shared.names import chosen
from minidl.tensor import Array, Tensor, no_grad
from minidl.train.history import plain

BATCH = 1000
Loss = Callable[[Any, Any], Any]  # → the mean, or (the sum, the divisor)
Metric = str | Callable[[Array, Array], float]
LOSSES: dict[str, Loss] = {
    "cross_entropy": ops.softmax_cross_entropy,
    "binary_cross_entropy": ops.binary_cross_entropy_with_logits,
    "mse": ops.mse,
    "l1": ops.l1,
    "huber": ops.huber,
}
OUTPUTS = ("probabilities", "classes", "values")


def evaluate(
    model: nn.Module,
    dataset: Any,
    *,
    batch_size: int = BATCH,
    loss: Loss | str | None = None,
    metrics: Sequence[Metric] = (),
) -> dict[str, float]:
    """{"loss": its mean over the examples, and each metric by its name}, in evaluation mode.

    dataset   a `data.Loader` of pairs (inputs, targets), a `data.Dataset`, or (x, y) arrays
    loss      as for `train.fit`
    metrics   names of `minidl.metrics`, or functions (outputs, targets) → number, of all outputs together, without
              rows whose label the loss ignores

    The loss is one sum divided once, by the number of examples, or by the weights or count of labels if the loss has
    those, so it does not depend on the batch size. A custom loss that returns a mean is weighted by examples per batch.

    ValueError: no examples, or none that count; an unknown name, or two metrics of one name. TypeError: another kind
    of data set.

    >>> logits = np.array([[2.0, -2.0], [2.0, -2.0], [-2.0, 2.0], [-2.0, 2.0]])
    >>> figures = train.evaluate(nn.Sequential(), (logits, np.array([0, 0, 1, 0])), metrics=["accuracy"])
    >>> figures["accuracy"], round(figures["loss"], 3)
    (0.75, 1.018)
    """
    loader = pairs("evaluate", dataset, batch_size)
    function, measures = loss_function(loss, loader.arrays[1]), named_metrics(metrics)
    seen, counts, total, outputs, targets, kept = 0, 0.0, 0.0, [], [], []
    with evaluating(model):
        for x, y in loader:
            made = model(x)
            mean, count, counted = mean_and_count(function, made, y)
            seen += len(y)
            counts += float(count)
            total += mean.item() * float(count)
            if measures:
                outputs.append(made.data)
                targets.append(y)
                kept.append(np.full(y.shape, True) if counted is None else counted)
    if not counts:
        found_none = f"{seen} that the loss gives no weight" if seen else "none"
        raise ValueError(f"evaluate: expected at least one example, found {found_none}")
    found = {"loss": total / counts}
    if measures:
        every, true, which = np.concatenate(outputs), np.concatenate(targets), np.concatenate(kept)
        if not which.all():  # ignored rows count in no figure
            every, true = np.moveaxis(every, 1, -1)[which], true[which]
        measured = plain({name: measure(every, true) for name, measure in measures.items()})
        found |= {name: float(value) for name, value in measured.items()}
    return found


def predict(model: nn.Module, x: Any, *, batch_size: int = BATCH, output: str = "probabilities") -> Array:
    """Run a model, in evaluation mode, on inputs x: an array as `data.Loader` takes it, or a Loader of such.

    output   "probabilities": the softmax of logits (N, C), or the sigmoid (N,) of logits (N, 1) or (N,);
             "classes": the most likely class (N,), or whether the probability exceeds 1/2; "values": the outputs

    ValueError: no inputs, an unknown output.
    """
    if output not in OUTPUTS:
        raise ValueError(f"predict: expected output as one of {OUTPUTS}, found {output!r}")
    loader = x if isinstance(x, data.Loader) else data.Loader(x, batch_size=batch_size)
    with evaluating(model):
        made = [model(batch[0] if isinstance(batch, tuple) else batch).data for batch in loader]
        if not made:
            raise ValueError(f"predict: expected at least one input, found shape {loader.arrays[0].shape}")
        values = np.concatenate(made)
        if output == "values":
            return values
        if values.ndim == 1 or values.shape[1:] == (1,):
            values = values.reshape(len(values))
            return (values > 0).astype(np.int64) if output == "classes" else np.asarray(ops.sigmoid(values).data)
        if values.ndim != 2:
            raise ValueError(f"predict: expected outputs (N, C) to find {output} in, found shape {values.shape}")
        return np.asarray(values.argmax(axis=1) if output == "classes" else ops.softmax(values, dim=1).data)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in evaluation mode and no graph is recorded."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def pairs(name: str, given: Any, batch_size: int, shuffle: bool = False) -> data.Loader:
    """Make a Loader of (inputs, targets). TypeError, naming the caller, for other kinds of data."""
    loader: data.Loader = given
    if not isinstance(given, data.Loader):
        if not isinstance(given, data.Dataset) and not (isinstance(given, tuple | list) and len(given) == 2):
            raise TypeError(f"{name}: expected a Loader, a Dataset or (x, y), found {type(given).__name__}")
        loader = data.Loader(given, batch_size=batch_size, shuffle=shuffle)
    if len(loader.arrays) != 2:
        raise TypeError(f"{name}: expected pairs (inputs, targets), found {len(loader.arrays)} arrays")
    return loader


def loss_function(loss: Loss | str | None, targets: Array) -> Loss:
    """The loss of that name; None: the usual one for such targets."""
    if loss is None and targets.dtype.kind not in "iuf":
        found, numbers = str(targets.dtype), "np.unique(y, return_inverse=True)[1] are class numbers"
        if targets.dtype.kind == "b":
            found, numbers = "booleans", "y.astype(int) has two classes"
        raise TypeError(
            f"expected targets as class numbers (integers) or floats where no loss is given, found {found} of shape "
            f"{targets.shape}; {numbers}, and other targets take a loss="
        )
    if loss is None:
        loss = "cross_entropy" if targets.dtype.kind in "iu" else "mse"
    return loss if callable(loss) else chosen("a loss", loss, LOSSES)


def mean_and_count(loss: Loss, outputs: Any, y: Any) -> tuple[Tensor, Any, Any]:
    """(the mean of a batch, the divisor of its sum, the rows that count or None for all).

    A mean over nothing is 0. Runs eagerly and in a compiled step.
    """
    with counting() as means:
        found: Any = loss(outputs, y)
    if isinstance(found, tuple):
        total, count = found
        count = count.data if isinstance(count, Tensor) else np.asarray(count) if np.isscalar(count) else count
        return total / np.where(count == 0, 1, count).astype(total.dtype), count, None
    for mean in means:
        if mean.value is found.data:  # not a sum with other terms
            return found, mean.count, mean.counted if mean.counted.shape == y.shape else None
    return found, len(y), None


def named_metrics(given: Sequence[Metric]) -> dict[str, Callable[[Array, Array], float]]:
    """Name → function (outputs, targets) → number. ValueError: a duplicate name, or one called "loss"."""
    if isinstance(given, str):
        raise TypeError(f"metrics: expected a list of names and functions, found {given!r}")
    found: dict[str, Callable[[Array, Array], float]] = {}
    for m in given:
        if not isinstance(m, str) and not callable(m):
            raise TypeError(f"metrics: expected names and functions, found {m!r:.80}")
        name = m if isinstance(m, str) else getattr(m, "__name__", type(m).__name__)
        if name in found or name == "loss":
            taken = "the loss's" if name == "loss" else "one twice"
            raise ValueError(
                f"metrics: expected a name of its own for each, found {name!r}, {taken}; a function is called by its "
                "__name__: use def, or set it"
            )
        found[name] = metrics.by_name(m) if isinstance(m, str) else m
    return found
