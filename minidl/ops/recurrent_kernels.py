"""The loops of recurrent layers through time, forward and backward, with part of the batch in each thread."""

from __future__ import annotations

import numpy as np

from minidl.jit import kernel, prange
from minidl.ops.exponential import exp_float32, exp_float64
from minidl.ops.linalg import TERMS, WIDTH, aligned, matmul_rows, worth_threads
from minidl.tensor import Array

TANH, RELU, LSTM, GRU = range(4)


@kernel
def sigmoid_row(x: Array) -> None:
    """x ← 1 / (1 + e⁻ˣ), in place."""
    if x.itemsize == 4:
        one = np.float32(1)
        for j in range(x.size):
            e = exp_float32(np.float32(-abs(x[j])))
            x[j] = (e if x[j] < 0 else one) / (one + e)
    else:
        for j in range(x.size):
            e = exp_float64(np.float64(-abs(x[j])))
            x[j] = (e if x[j] < 0 else 1.0) / (1.0 + e)


@kernel
def tanh_row(x: Array) -> None:
    """x ← tanh x = ±(1 − e) / (1 + e), e = e^(−2|x|), in place."""
    if x.itemsize == 4:
        one = np.float32(1)
        for j in range(x.size):
            e = exp_float32(np.float32(-2) * np.float32(abs(x[j])))
            t = (one - e) / (one + e)
            x[j] = -t if x[j] < 0 else t
    else:
        for j in range(x.size):
            e = exp_float64(-2.0 * np.float64(abs(x[j])))
            t = (1.0 - e) / (1.0 + e)
            x[j] = -t if x[j] < 0 else t


@kernel
def copy_row(x: Array, y: Array) -> None:
    """y = x, for rows of one length."""
    for j in range(x.size):
        y[j] = x[j]


@kernel
def batch_parts(batch: int) -> int:
    """The number of parts the batch is split into, each of about 24 sequences, the rows of a tile."""
    return max(1, batch // 24)


def _worth(inputs: Array, weight: Array) -> bool:
    return worth_threads(inputs.size * weight.shape[1])


# In the cells, each loop writes one array and reads few, so that LLVM can rule out aliasing and vectorise.


@kernel
def lstm_cell(z: Array, c: Array, bent: Array, h: Array) -> None:
    """The four gates from z, in place; c ← σ(z_f)·c + σ(z_i)·tanh(z_g),  bent = tanh c,  h ← σ(z_o)·bent."""
    size = h.size
    sigmoid_row(z[: 2 * size])
    tanh_row(z[2 * size : 3 * size])
    sigmoid_row(z[3 * size :])
    for j in range(size):
        c[j] = z[size + j] * c[j] + z[j] * z[2 * size + j]
    copy_row(c, bent)
    tanh_row(bent)
    for j in range(size):
        h[j] = z[3 * size + j] * bent[j]


@kernel
def lstm_cell_backward(z: Array, c: Array, bent: Array, dh: Array, dc: Array, g: Array) -> None:
    """g = dL/dz from the gates, c before the step and bent = tanh c after it; dc ← dL/dc before it, dh ← 0."""
    size, one = dh.size, z.dtype.type(1)
    i, f, new, o = z[:size], z[size : 2 * size], z[2 * size : 3 * size], z[3 * size :]
    di, df, dnew, do = g[:size], g[size : 2 * size], g[2 * size : 3 * size], g[3 * size :]
    for j in range(size):
        dc[j] += dh[j] * o[j] * (one - bent[j] * bent[j])
    for j in range(size):
        di[j] = dc[j] * new[j] * i[j] * (one - i[j])
    for j in range(size):
        df[j] = dc[j] * c[j] * f[j] * (one - f[j])
    for j in range(size):
        dnew[j] = dc[j] * i[j] * (one - new[j] * new[j])
    for j in range(size):
        do[j] = dh[j] * bent[j] * o[j] * (one - o[j])
    for j in range(size):
        dc[j] *= f[j]
    dh[:] = 0


@kernel
def gru_cell(given: Array, own: Array, bias: Array, z: Array, new: Array, h: Array) -> None:
    """Gates z and new = h·W_nᵀ + b_n;  n = tanh(inputs_n + r·new),  h ← (1 − z)·n + z·h."""
    size, one = h.size, z.dtype.type(1)
    for j in range(2 * size):
        z[j] = given[j] + own[j] + bias[j]
    sigmoid_row(z[: 2 * size])
    for j in range(size):
        new[j] = own[2 * size + j] + bias[2 * size + j]
    for j in range(size):
        z[2 * size + j] = given[2 * size + j] + z[j] * new[j]
    tanh_row(z[2 * size :])
    for j in range(size):
        h[j] = (one - z[size + j]) * z[2 * size + j] + z[size + j] * h[j]


@kernel
def gru_cell_backward(z: Array, h: Array, from_state: Array, dh: Array, g: Array, own: Array) -> None:
    """g = dL/dz, own = dL/d(h·Wᵀ + b) from the gates and the state before the step; dh ← z·dh."""
    size, one = h.size, z.dtype.type(1)
    reset, keep, new = z[:size], z[size : 2 * size], z[2 * size :]
    dreset, dkeep, dnew = g[:size], g[size : 2 * size], g[2 * size :]
    for j in range(size):
        dnew[j] = dh[j] * (one - keep[j]) * (one - new[j] * new[j])
    for j in range(size):
        dreset[j] = dnew[j] * from_state[j] * reset[j] * (one - reset[j])
    for j in range(size):
        dkeep[j] = dh[j] * (h[j] - new[j]) * keep[j] * (one - keep[j])
    copy_row(g, own)
    for j in range(size):
        own[2 * size + j] *= reset[j]
    for j in range(size):
        dh[j] *= keep[j]


@kernel(linked=True)
def recur(
    inputs: Array, packed: Array, bias: Array, h0: Array, c0: Array, kind: int, reverse: bool, lengths: Array,
    first: int, last: int, gates: Array, hidden: Array, before: Array, y: Array,
) -> None:  # fmt: skip
    """`recurrent_forward` for sequences `first` to `last`. packed: Wᵀ by the columns of a panel."""
    steps, size, total, rows = before.shape[0], before.shape[2], bias.size, last - first
    width = WIDTH // inputs.itemsize
    zero = inputs.dtype.type(0)
    state, cell = aligned(rows * size, inputs), aligned(rows * size, inputs)
    product_, bent = aligned(rows * total, inputs), np.empty(size, inputs.dtype)
    for r in range(rows):
        copy_row(h0[first + r], state[r * size : (r + 1) * size])
        copy_row(c0[first + r], cell[r * size : (r + 1) * size])
    for step in range(steps):
        t = steps - 1 - step if reverse else step
        for j in range(0, total, width):
            for k in range(0, size, TERMS):
                matmul_rows(
                    state, k, size, 1, packed, j * size + k * width, width,
                    product_, j, total, min(TERMS, size - k), rows, min(width, total - j), k > 0,
                )  # fmt: skip
        for r in range(rows):
            n = first + r
            h, c, z = state[r * size : (r + 1) * size], cell[r * size : (r + 1) * size], gates[t, n]
            own, given = product_[r * total : (r + 1) * total], inputs[t, n]
            copy_row(h, before[t, n])
            if t >= lengths[n]:
                y[0, t, n] = 0
                copy_row(c, y[1, t, n])
                continue
            if kind == GRU:
                gru_cell(given, own, bias, z, hidden[t, n], h)
            else:
                for j in range(total):
                    z[j] = given[j] + own[j] + bias[j]
                if kind == LSTM:
                    lstm_cell(z, c, bent, h)
                elif kind == RELU:
                    for j in range(size):
                        z[j] = zero if z[j] < 0 else z[j]
                    copy_row(z, h)
                else:
                    tanh_row(z)
                    copy_row(z, h)
            copy_row(h, y[0, t, n])
            copy_row(c, y[1, t, n])
    for r in range(rows):
        copy_row(state[r * size : (r + 1) * size], y[0, steps, first + r])
        copy_row(cell[r * size : (r + 1) * size], y[1, steps, first + r])


@kernel(parallel=lambda inputs, weight, *rest: _worth(inputs, weight))
def recurrent_forward(
    inputs: Array, weight: Array, bias: Array, h0: Array, c0: Array, kind: int, reverse: bool, lengths: Array,
    gates: Array, hidden: Array, before: Array, y: Array,
) -> None:  # fmt: skip
    """z = inputs[t] + h·Wᵀ + b, and from it the state after each step; steps from lengths[n] on change nothing.

    tanh, relu: h ← f(z). LSTM: c ← σ(z_f)·c + σ(z_i)·tanh(z_g), h ← σ(z_o)·tanh(c). GRU: n = tanh(inputs_n
    + r·(h·W_nᵀ + b_n)), h ← (1 − z)·n + z·h. inputs, gates (T, N, G·H): the gates' values; weight (G·H, H), bias (G·H),
    h0, c0 (N, H); before (T, N, H): the state before each step; hidden: the part of GRU's n that depends on the state;
    y (2, T + 1, N, H): h and c after each step (h is 0 where it has not changed), then the final ones.
    """
    batch, size = before.shape[1], before.shape[2]
    width, total = WIDTH // inputs.itemsize, weight.shape[0]
    packed = aligned((total + width - 1) // width * size * width, inputs)
    for row in range(total):
        at = row // width * size * width + row % width
        for k in range(size):
            packed[at + k * width] = weight[row, k]
    parts = batch_parts(batch)
    for t in prange(parts):
        part = np.int64(t)
        first, last = part * batch // parts, (part + 1) * batch // parts
        recur(inputs, packed, bias, h0, c0, kind, reverse, lengths, first, last, gates, hidden, before, y)


@kernel(linked=True)
def recur_back(
    dy: Array, gates: Array, hidden: Array, before: Array, weight: Array, c0: Array, y: Array, kind: int, reverse: bool,
    lengths: Array, first: int, last: int, dz: Array, dhidden: Array, dh0: Array, dc0: Array,
) -> None:  # fmt: skip
    """`recurrent_backward` for sequences `first` to `last`."""
    steps, size, total, rows = before.shape[0], before.shape[2], weight.shape[0], last - first
    width = WIDTH // dy.itemsize
    flat = weight.reshape(-1)
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    dstate, dcell, back = aligned(rows * size, dy), aligned(rows * size, dy), aligned(rows * total, dy)
    bent = np.empty(size, dy.dtype)
    for r in range(rows):
        copy_row(dy[0, steps, first + r], dstate[r * size : (r + 1) * size])
        copy_row(dy[1, steps, first + r], dcell[r * size : (r + 1) * size])
    for step in range(steps):
        t = step if reverse else steps - 1 - step
        for r in range(rows):
            n = first + r
            dh, dc, z = dstate[r * size : (r + 1) * size], dcell[r * size : (r + 1) * size], gates[t, n]
            g, own, upstream, upstream_c = dz[t, n], back[r * total : (r + 1) * total], dy[0, t, n], dy[1, t, n]
            for j in range(size):
                dc[j] += upstream_c[j]
            if t >= lengths[n]:
                g[:] = 0
                own[:] = 0
                if kind == GRU:
                    dhidden[t, n] = 0
                continue
            for j in range(size):
                dh[j] += upstream[j]
            if kind == GRU:
                gru_cell_backward(z, before[t, n], hidden[t, n], dh, g, own)
                copy_row(own, dhidden[t, n])
            else:
                if kind == LSTM:
                    copy_row(y[1, t, n], bent)
                    tanh_row(bent)
                    earlier = t + 1 if reverse else t - 1
                    lstm_cell_backward(z, c0[n] if step == steps - 1 else y[1, earlier, n], bent, dh, dc, g)
                else:
                    for j in range(size):
                        if kind == RELU:
                            g[j] = zero if z[j] <= 0 else dh[j]
                        else:
                            g[j] = dh[j] * (one - z[j] * z[j])
                        dh[j] = zero
                copy_row(g, own)
        for j in range(0, size, width):
            for k in range(0, total, TERMS):
                matmul_rows(
                    back, k, total, 1, flat, k * size + j, size, dstate, j, size,
                    min(TERMS, total - k), rows, min(width, size - j), True,
                )  # fmt: skip
    for r in range(rows):
        copy_row(dstate[r * size : (r + 1) * size], dh0[first + r])
        copy_row(dcell[r * size : (r + 1) * size], dc0[first + r])


@kernel(parallel=lambda dy, gates, hidden, before, weight, *rest: _worth(gates, weight))
def recurrent_backward(
    dy: Array, gates: Array, hidden: Array, before: Array, weight: Array, c0: Array, y: Array, kind: int, reverse: bool,
    lengths: Array, dz: Array, dhidden: Array, dh0: Array, dc0: Array,
) -> None:  # fmt: skip
    """Backwards through the steps: dz = dL/d(inputs[t]) and dhidden = dL/d(h·Wᵀ + b), both (T, N, G·H); dL/dh0, dL/dc0.

    They differ only in GRU's n, and may be one array otherwise. dL/dh = dy + dhidden·W of the next step.
    """
    batch = before.shape[1]
    parts = batch_parts(batch)
    for t in prange(parts):
        part = np.int64(t)
        recur_back(
            dy, gates, hidden, before, weight, c0, y, kind, reverse, lengths,
            part * batch // parts, (part + 1) * batch // parts, dz, dhidden, dh0, dc0,
        )  # fmt: skip
