"""Recurrence over a whole sequence: plain (Elman 1990), LSTM (Hochreiter, Schmidhuber 1997) or GRU (Cho 2014).

The part that does not depend on the state, x·W_ihᵀ + b_ih, is one matrix product for all steps, passed as `inputs`. The
kernels then step through time.
"""

from __future__ import annotations

import numpy as np

from minidl.core.tracing import require
from minidl.ops.dense import dense_backward
from minidl.ops.elementwise import Result
from minidl.ops.inputs import floating, kernel_array, own_indices
from minidl.ops.joint import joint
from minidl.ops.linalg import product
from minidl.ops.recurrent_kernels import GRU, LSTM, RELU, TANH, recurrent_backward, recurrent_forward
from minidl.tensor import Array, ArrayLike, as_array, op

GATES = {"tanh": (TANH, 1), "relu": (RELU, 1), "lstm": (LSTM, 4), "gru": (GRU, 3)}


def _checked(lengths: Array, steps: int, batch: int) -> Array:
    if lengths.shape != (batch,) or lengths.dtype.kind not in "iu":
        raise ValueError(f"expected lengths ({batch},) of integers, found {lengths.dtype} {lengths.shape}")
    until = own_indices(lengths)
    require(((until >= 0) & (until <= steps)).all(), f"expected lengths from 0 to {steps}", _range, until)
    return until


def _range(found: Array) -> str:
    return f"found {found.min()} to {found.max()}"


@op
def recurrent(
    inputs: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike,
    h0: ArrayLike,
    c0: ArrayLike,
    cell: str = "lstm",
    reverse: bool = False,
    lengths: ArrayLike = None,
) -> Result:
    """y[0, t] = h after step t, y[1, t] = c, y[:, T] the final ones.   dL/dW = Σₜ dL/dzₜᵀ·hₜ₋₁,  dL/db = Σₜ dL/dzₜ

    dL/dinputs[t] = dL/dzₜ,  dL/dh0 = dL/dh before the first step,  dL/dc0 = dL/dc there, all back through time.

    z = inputs[t] + h·Wᵀ + b, and h from it as in `recurrent_forward`. inputs (T, N, G·H) is x·W_ihᵀ + b_ih, weight
    (G·H, H), bias (G·H,), h0, c0 (N, H): float; G = 1, 4 (LSTM: i, f, g, o) or 3 (GRU: r, z, n); y (2, T + 1, N, H).
    cell "tanh", "relu", "lstm" or "gru". `reverse` goes from the last step to the first. lengths (N,): integers from
    0 to T; later steps leave the state as it is, and y[0] is 0 there. ValueError: other shapes, cells, lengths.
    """
    x, w, b = floating(inputs, "inputs"), floating(weight, "weight"), floating(bias, "bias")
    h, c = floating(h0, "h0"), floating(c0, "c0")
    if cell not in GATES:
        raise ValueError(f"expected cell as one of {', '.join(GATES)}, found {cell!r}")
    kind, count = GATES[cell]
    size = w.shape[-1]
    if x.ndim != 3 or w.shape != (count * size, size) or x.shape[2] != count * size or b.shape != (count * size,):
        raise ValueError(
            f"expected inputs (T, N, {count}·H), weight ({count}·H, H) and bias ({count}·H,), "
            f"found shapes {x.shape}, {w.shape} and {b.shape}"
        )
    steps, batch, _ = x.shape
    for name, state in (("h0", h), ("c0", c)):
        if state.shape != (batch, size):
            raise ValueError(f"expected {name} of shape {(batch, size)}, found shape {state.shape}")
    dtype = np.result_type(x, w, b, h, c)
    x, w, b, h, c = (kernel_array(a, dtype) for a in (x, w, b, h, c))
    until = np.full(batch, steps, np.int64) if lengths is None else _checked(as_array(lengths), steps, batch)
    gates, before = np.empty_like(x), np.empty((steps, batch, size), dtype, like=x)
    hidden = np.empty(before.shape if cell == "gru" else (0, 0, 0), dtype, like=x)
    y = np.empty((2, steps + 1, batch, size), dtype, like=x)
    recurrent_forward(x, w, b, h, c, kind, reverse, until, gates, hidden, before, y)

    def backward(dy: Array) -> tuple[Array, Array, Array, Array]:
        dz = np.empty_like(x)
        dhidden = np.empty_like(x) if kind == GRU else dz
        dh, dc = np.empty_like(h), np.empty_like(c)
        given = kernel_array(dy, dtype)
        recurrent_backward(given, gates, hidden, before, w, c, y, kind, reverse, until, dz, dhidden, dh, dc)
        return dz, dhidden.reshape(steps * batch, count * size), dh, dc

    back = joint(backward)

    def bias_gradient(dy: Array) -> Array:
        dhidden, db = back(dy)[1], np.empty_like(b)
        dense_backward(dhidden, dhidden, False, dhidden, db)
        return db

    return y, (
        lambda dy: back(dy)[0],
        lambda dy: product(back(dy)[1].T, before.reshape(steps * batch, size)),
        bias_gradient,
        lambda dy: back(dy)[2],
        lambda dy: back(dy)[3],
    )
