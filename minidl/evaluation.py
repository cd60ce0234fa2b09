"""Using a trained model: what it makes of a data set, and how good that is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np

from minidl import data, metrics, nn, ops
from minidl.tensor import Array, Tensor, no_grad

BATCH = 1000
T = TypeVar("T")
Loss = Callable[[Any, Any], Tensor]
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
    loss      as for `train.fit`;  metrics: names of `minidl.metrics`, or functions (outputs, targets) → number

    ValueError: no examples, an unknown name. TypeError: another kind of data set.
    """
    loader = pairs("evaluate", dataset, batch_size)
    function, measures = loss_function(loss, loader.arrays[1]), named_metrics(metrics)
    seen, total, outputs, targets = 0, 0.0, [], []
    with evaluating(model):
        for x, y in loader:
            made = model(x)
            seen += len(y)
            total += function(made, y).item() * len(y)
            if measures:
                outputs.append(made.data)
                targets.append(y)
    if not seen:
        raise ValueError("evaluate: expected at least one example, found none")
    found = {"loss": total / seen}
    if measures:
        every, true = np.concatenate(outputs), np.concatenate(targets)
        found |= {name: float(measure(every, true)) for name, measure in measures.items()}
    return found


def predict(model: nn.Module, x: Any, *, batch_size: int = BATCH, output: str = "probabilities") -> Array:
    """What a model makes of inputs x: an array as `data.Loader` takes it, or a Loader of such. In evaluation mode.

    output   "probabilities": the softmax of logits (N, C), or the sigmoid (N,) of logits (N, 1) or (N,);
             "classes": the likeliest class (N,), or whether the probability exceeds 1/2; "values": the outputs

    ValueError: no inputs, another output.
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
    """Within the block the model is in evaluation mode, and nothing is recorded."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def pairs(name: str, given: Any, batch_size: int, shuffle: bool = False) -> data.Loader:
    """A Loader of (inputs, targets). TypeError, which names the caller, if that cannot be made of what was given."""
    loader: data.Loader = given
    if not isinstance(given, data.Loader):
        if not isinstance(given, data.Dataset) and not (isinstance(given, tuple | list) and len(given) == 2):
            raise TypeError(f"{name}: expected a Loader, a Dataset or (x, y), found {type(given).__name__}")
        loader = data.Loader(given, batch_size=batch_size, shuffle=shuffle)
    if len(loader.arrays) != 2:
        raise TypeError(f"{name}: expected pairs (inputs, targets), found {len(loader.arrays)} arrays")
    return loader


def loss_function(loss: Loss | str | None, targets: Array) -> Loss:
    """The loss of that name; where there is none, the usual one for such targets."""
    if loss is None:
        loss = "cross_entropy" if targets.dtype.kind in "iub" else "mse"
    return loss if callable(loss) else chosen("a loss", loss, LOSSES)


def named_metrics(given: Sequence[Metric]) -> dict[str, Callable[[Array, Array], float]]:
    """Name → function (outputs, targets) → number."""
    if isinstance(given, str):
        raise TypeError(f"metrics: expected a list of names and functions, found {given!r}")
    found: dict[str, Callable[[Array, Array], float]] = {}
    for m in given:
        if isinstance(m, str):
            found[m] = metrics.by_name(m)
        else:
            found[getattr(m, "__name__", type(m).__name__)] = m
    return found


def chosen(what: str, name: Any, table: Mapping[str, T]) -> T:
    """table[name]. ValueError, with the nearest name, if there is no such entry."""
    if isinstance(name, str) and name in table:
        return table[name]
    near = get_close_matches(name, table, 1) if isinstance(name, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"expected {what} as one of {sorted(table)}, found {name!r}{hint}")
