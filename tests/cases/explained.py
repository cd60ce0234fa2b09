"""Small computations to be explained, one of each kind: name → a function that makes the loss anew, and its model."""

from collections.abc import Callable
from typing import Any

import numpy as np

import minidl
from minidl import Tensor, nn, ops

Made = tuple[Tensor, nn.Module | None]


def scalar() -> Made:
    """A tanh neuron."""
    x, w, b = (Tensor(v, requires_grad=True) for v in (2.0, -0.75, 0.5))
    return ops.tanh(x * w + b), None


def meeting() -> Made:
    """Numbers, one of which goes two ways and meets itself again: nothing may be left out."""
    x, w = Tensor(1.5, requires_grad=True), Tensor(-0.5, requires_grad=True)
    a = x * w
    return a + ops.tanh(a), None


def two_layers() -> Made:
    """A two-layer net on three points."""
    x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    y = np.array([[1.0], [1.0], [0.0]], np.float32)
    model = nn.Sequential(nn.Dense(2, 4), nn.Tanh(), nn.Dense(4, 1))
    return ops.mse(model(x), y), model


def shared() -> Made:
    """One tensor used three times, at different distances from the loss: order and accumulation both matter."""
    x = Tensor(np.array([0.5, -1.0]), requires_grad=True)
    a = x * 3.0
    return ops.sum(a + ops.tanh(a) * x), None


def broadcasting() -> Made:
    """A row and a column against a matrix, and a number against everything."""
    rng = np.random.default_rng(0)
    m, row, column, k = (Tensor(rng.normal(size=s), requires_grad=True) for s in ((2, 3), (3,), (2, 1), ()))
    return ops.mean((m * row + column) * k), None


def convolution() -> Made:
    """Convolution, batch normalisation, ReLU, pooling, dense, cross-entropy; float32."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 1, 8, 8)).astype(np.float32)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dense(27, 3)
    )
    return ops.softmax_cross_entropy(model(x), np.array([2, 0])), model


def classifier() -> Made:
    """A multi-layer perceptron whose arrays are too large to be shown number by number."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(16, 30)).astype(np.float32)
    model = nn.Sequential(nn.Dense(30, 20), nn.ReLU(), nn.Dense(20, 5))
    return ops.softmax_cross_entropy(model(x), np.arange(16) % 5), model


def lstm_step() -> Made:
    """One step of an LSTM cell, written out: four gates, and a state that goes two ways."""
    rng = np.random.default_rng(0)
    x, h, c = (Tensor(rng.normal(size=s), requires_grad=True) for s in ((1, 2), (1, 3), (1, 3)))
    w, u, b = (Tensor(rng.normal(size=s), requires_grad=True) for s in ((12, 2), (12, 3), (12,)))
    z = ops.dense(x, w, b) + ops.dense(h, u)
    i, f, o = (ops.sigmoid(z[:, k : k + 3]) for k in (0, 3, 9))
    g = ops.tanh(z[:, 6:9])
    c_next = f * c + i * g
    h_next = o * ops.tanh(c_next)
    return ops.sum(h_next * h_next) + ops.sum(c_next), None


def lstm_layer() -> Made:
    """The layer: its recurrence is one op."""
    model = nn.LSTM(2, 3)
    y, _ = model(np.random.default_rng(0).normal(size=(4, 2, 2)).astype(np.float32))
    return ops.mean(y * y), model


def attention() -> Made:
    """Self-attention: one sequence is query, key and value."""
    x = Tensor(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), requires_grad=True)
    model = nn.MultiheadAttention(4, 2)
    y, _ = model(x, x, x)
    return ops.mean(y * y), model


GRAPHS: dict[str, Callable[[], Made]] = {
    f.__name__: f
    for f in (
        scalar,
        meeting,
        two_layers,
        shared,
        broadcasting,
        convolution,
        classifier,
        lstm_step,
        lstm_layer,
        attention,
    )
}


def make(name: str) -> Made:
    """The same graph in every process."""
    minidl.manual_seed(0)
    return GRAPHS[name]()


def residual(length: int) -> tuple[Tensor, Any]:
    """A chain of `length` ops and more, each result used twice."""
    x = Tensor(0.1, requires_grad=True)
    t: Any = x
    while length > 0:
        t = ops.tanh(t) + t * 0.5
        length -= 3
    return t, x
