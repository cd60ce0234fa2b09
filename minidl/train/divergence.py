"""Find the origin of a non-finite loss: repeat the steps eagerly and inspect every value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minidl import graph
from minidl.tensor import Array, Tensor


class DivergenceError(ArithmeticError):
    """Training produced a NaN or infinity. `history` holds the epochs before it."""

    history: Any = None


def first_culprit(
    objective: Callable[..., Tensor],
    update: Callable[[], None] | None,
    parameters: Iterable[tuple[str, Tensor]],
    batch: Iterable[Array],
) -> str | None:
    """Take one step, loss = objective(*batch), loss.backward(), update(), and name the first non-finite value, if any.

    Inspects, in order of computation, the batch, the parameters, every op's value, every op's gradient, and the
    parameters after the update.
    """
    known = list(parameters)
    batch = list(batch)
    for name, array in zip(("inputs", "targets"), batch, strict=False):
        if wrong := _wrong(array):
            return f"the batch itself: {wrong} among its {name} {array.shape}"
    for name, p in known:
        if wrong := _wrong(p.data):
            return f"parameter {name}: {wrong} in it"
    loss = objective(*batch)
    if not loss.requires_grad:
        return f"the loss: {wrong} in it" if (wrong := _wrong(loss.data)) else None
    tensors = graph.tensors(loss)
    for t in tensors:
        if t._node is not None and (wrong := _wrong(t.data)):
            return f"op {t._node.op}, forward: {wrong} in its value of shape {t.shape}, from finite inputs"
    for t in tensors:
        t.retain_grad()
    consumers = {x: t for t in tensors for x in (t._node.inputs if t._node else ())}
    ops = {t: t._node.op for t in tensors if t._node is not None}
    before = {t: t.grad for t in tensors}
    for t in tensors:
        t.grad = None
    loss.backward()
    for t in reversed(tensors):
        if t.grad is not None and (wrong := _wrong(t.grad)):
            name = next((f" of {n}" for n, p in known if p is t), "")
            return f"op {ops[consumers[t]]}, backward: {wrong} in the gradient{name} of shape {t.shape}"
    for t in tensors:
        earlier = before[t]
        if t.grad is not None and earlier is not None:
            t.grad = t.grad + earlier
    if update is not None:
        update()
    for name, p in known:
        if wrong := _wrong(p.data):
            return f"the optimizer's step: {wrong} in parameter {name}"
    return None


def _wrong(array: Any) -> str:
    """The number of non-finite values, in words; "" if none."""
    values = np.asarray(array)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return ""
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    counts = [f"{n:,} {kind}" for n, kind in ((nans, "NaN"), (infinities, "infinite")) if n]
    return " and ".join(counts) + f" of {values.size:,} values"
