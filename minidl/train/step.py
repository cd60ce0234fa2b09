"""The parts of a training step: the objective, the accumulation of gradients, and the update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minidl import nn, optim
from minidl.tensor import Tensor, as_array
from minidl.train.evaluation import Loss, mean_and_count
from minidl.train.sums import Sums


class Step(NamedTuple):
    objective: Callable[..., Tensor]  # (x, y) → the scalar to differentiate
    update: Callable[[], None]  # clip the gradients and update the parameters
    whole: Callable[..., Tensor]  # objective, backward, update
    gather: Callable[..., Tensor]  # objective, backward


def make_step(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss: Loss,
    sums: Sums,
    counts_right: bool,
    accumulate: int,
    clip_norm: float | None,
    clip_value: float | None,
) -> Step:
    """Make a Step of plain functions, which `minidl.compile` can trace."""
    parameters = list(model.parameters())
    total, counts, right, rows, group = sums.loss, sums.count, sums.right, sums.rows, sums.group

    def measured(x: Any, y: Any) -> tuple[Tensor, Any]:
        """(the batch's mean, its count), both also added to the sums."""
        outputs = model(x)
        mean, count, counted = mean_and_count(loss, outputs, y)
        total.data = total.data + mean.data.astype(np.float64) * count
        counts.data = counts.data + count
        group.data = group.data + count
        if counts_right:
            hits = _hits(outputs.data, y)
            right.data = right.data + np.sum(hits if counted is None else hits & counted)
            rows.data = rows.data + (hits.size if counted is None else np.sum(counted))
        return mean, count

    def objective(x: Any, y: Any) -> Tensor:
        mean, count = measured(x, y)
        return mean if accumulate == 1 else mean * as_array(count, mean.dtype)

    def gather(x: Any, y: Any) -> Tensor:
        mean, count = measured(x, y)
        if accumulate == 1:
            optimizer.zero_grad()
            mean.backward()
        else:  # the gradient of the sum; `update` divides it
            mean.backward(as_array(count, mean.dtype))
        return mean

    def update() -> None:
        if accumulate > 1:
            count = np.where(group.data == 0, 1, group.data)
            moved = (p for options in optimizer.param_groups for p in options["params"])
            for p in dict.fromkeys([*parameters, *moved]):
                if p.grad is not None:
                    p.grad = p.grad / count.astype(p.dtype)
        if clip_norm is not None:
            optim.clip_grad_norm_(parameters, clip_norm)
        if clip_value is not None:
            optim.clip_grad_value_(parameters, clip_value)
        optimizer.step()

    def step(x: Any, y: Any) -> Tensor:
        value = gather(x, y)
        update()
        return value

    return Step(objective, update, step, gather)


def _hits(outputs: Any, y: Any) -> Any:
    """(N, …) bool: whether the likeliest class is the target; y: labels (N, …), or shares of the classes (N, C, …)."""
    if outputs.ndim >= 2 and outputs.shape[1] > 1:
        return np.argmax(outputs, axis=1) == (np.argmax(y, axis=1) if y.ndim == outputs.ndim else y)
    return (outputs.reshape(len(y)) > 0) == (y.reshape(len(y)) > 0.5)
