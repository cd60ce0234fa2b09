"""Model summaries: structure and cost, layer by layer. `print(minidl.summary(model, x))`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.instrument import arrays_in
from minidl.nn import Module
from minidl.overview.profile import watch
from minidl.overview.table import Summary
from minidl.tensor import ArrayLike, Tensor

__all__ = ["Summary", "summary"]


def summary(model: Module, x: ArrayLike, *more: ArrayLike) -> Summary:
    """Run model(x, *more) once and list the output, parameters, FLOPs and memory of each layer.

    x   what the model takes: an array or Tensor with its batch axis, or a shape (a tuple of ints), standing for
        zeros of the parameters' dtype

    FLOPs follow from the formulas of the ops that ran, 2 per multiply-add (see the table in `minidl.overview.flops`);
    backward FLOPs are those of the gradients of parameters and of inputs that require one. Memory is what the recorded
    graph keeps alive, each array once, at the layer that made it, and the gradients of such arrays. The model runs in
    its current mode (dropout drops in training mode); under `no_grad` there is no backward pass.

    Nothing changes, even on errors: attributes, parameters, buffers, gradients and generators are restored. Only one
    summary runs at a time; other threads may keep using the same ops.

    TypeError: not a Module. Errors of ops whose inputs do not fit name the layer.

    >>> model = nn.Sequential(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 1))
    >>> summary = minidl.summary(model, (1, 2))  # print(summary) shows a table
    >>> [(row["name"], row["output_shape"], row["parameters"]) for row in summary.rows]
    [('', (1, 1), 13), ('0', (1, 3), 9), ('1', (1, 3), 0), ('2', (1, 1), 4)]
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: expected a Module, found {type(model).__name__}")
    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    inputs = tuple(_input(given, dtype) for given in (x, *more))
    shapes = [a.shape for a in arrays_in(inputs)]
    return Summary(watch(model, inputs), shapes)


def _input(given: Any, dtype: np.dtype[Any]) -> Any:
    if not isinstance(given, tuple) or not all(isinstance(n, int | np.integer) for n in given):
        return given if isinstance(given, Tensor) else np.asarray(given)
    if any(n < 0 for n in given):
        raise ValueError(f"summary: expected a shape of sizes from 0, found {given}")
    return np.zeros(given, dtype)
