"""Recurrent layers, with PyTorch's names, gate order and initial values."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl import ops
from minidl.nn import init
from minidl.nn.module import Module, check_flags, check_layer, probability
from minidl.tensor import ArrayLike, Tensor


class _Recurrent(Module):
    """What RNN, LSTM and GRU share: layers, directions, states.

    x (T, N, input_size), or (N, T, …) if batch_first, or (T, input_size) for one sequence. Parameters of layer k with G
    gates: weight_ih_lk (G·H, inputs), weight_hh_lk (G·H, H), bias_ih_lk, bias_hh_lk (G·H,), with `_reverse` for the
    backward direction; uniform on ± 1/√H. dropout applies to each layer's output but the last's, in training.
    """

    cell = "tanh"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        layer = type(self).__name__
        check_layer(layer, dtype, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_flags(layer, bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        self.dropout = probability(layer, dropout, "dropout")
        self.generator = generator
        for k in range(num_layers):
            inputs = input_size if k == 0 else hidden_size * self._directions
            for way in self._ways:
                shapes = {"weight_ih": (inputs,), "weight_hh": (hidden_size,), "bias_ih": (), "bias_hh": ()}
                for name, rest in shapes.items():
                    if bias or not name.startswith("bias"):
                        values = np.empty((self.gates * hidden_size, *rest), dtype)
                        init.uniform_(values, -(hidden_size**-0.5), hidden_size**-0.5, generator)
                        setattr(self, f"{name}_l{k}{way}", Tensor(values, requires_grad=True))

    @property
    def _ways(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    def _directions(self) -> int:
        return len(self._ways)

    def _run(self, x: ArrayLike, h0: ArrayLike, c0: ArrayLike, lengths: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(y, final h, final c), in the layout of x."""
        layer = type(self).__name__
        shape = tuple(x.shape)
        if len(shape) not in (2, 3) or shape[-1] != self.input_size:
            raise ValueError(f"{layer}: expected x (T, N, {self.input_size}) or (T, {self.input_size}), found {shape}")
        alone = len(shape) == 2
        if alone:
            x = ops.expand_dims(x, 1)
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        steps, batch = x.shape[:2]
        expected = (self.num_layers * self._directions, batch, self.hidden_size)
        dtype = self.weight_hh_l0.dtype  # type: ignore[attr-defined]
        states = [self._state(s, name, expected, alone, dtype) for s, name in ((h0, "h0"), (c0, "c0"))]
        finals: list[Any] = []
        for k in range(self.num_layers):
            if k and self.dropout:
                x = ops.dropout(x, self.dropout, self.training, self.generator)
            outputs = []
            for way in self._ways:
                w_ih, w_hh, b_ih, b_hh = (
                    getattr(self, f"{name}_l{k}{way}", None)
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                if b_ih is not None and self.cell != "gru":  # only a GRU's new state needs the two biases apart
                    b_ih, b_hh = b_ih + b_hh, None
                if b_hh is None:
                    b_hh = np.zeros(self.gates * self.hidden_size, dtype)
                at = len(finals)
                found = ops.recurrent(
                    ops.dense(x, w_ih, b_ih), w_hh, b_hh, states[0][at], states[1][at], self.cell, way != "", lengths
                )
                outputs.append(found[0, :steps])
                finals.append(found[:, steps])
            x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1)
        h, c = (ops.stack([f[i] for f in finals]) for i in (0, 1))
        if alone:
            return x[:, 0], h[:, 0], c[:, 0]
        return (ops.swapaxes(x, 0, 1) if self.batch_first else x), h, c

    def _state(self, state: ArrayLike, name: str, expected: tuple[int, ...], alone: bool, dtype: Any) -> Any:
        if state is None:
            return np.zeros(expected, dtype)
        if tuple(state.shape) != (expected[0], expected[2] if alone else expected[1], *expected[2:])[: 3 - alone]:
            shape = (expected[0], expected[2]) if alone else expected
            raise ValueError(f"{type(self).__name__}: expected {name} of shape {shape}, found {tuple(state.shape)}")
        return ops.expand_dims(state, 1) if alone else state

    def forward(self, x: ArrayLike, h0: ArrayLike = None, lengths: Any = None) -> Any:
        y, h, _ = self._run(x, h0, None, lengths)
        return y, h

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNN(_Recurrent):
    """h ← f(x·W_ihᵀ + b_ih + h·W_hhᵀ + b_hh), f tanh or relu (`nonlinearity`).   (x, h0, lengths) → (y, h)

    y (T, N, D·H), h (layers·D, N, H), D = 2 if bidirectional. lengths (N,): later steps leave the state as it is
    and give y = 0, as in PyTorch's packed sequences. ValueError: states or lengths of another shape or range.
    """

    def __init__(self, *args: Any, nonlinearity: str = "tanh", **options: Any) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNN: expected nonlinearity "tanh" or "relu", found {nonlinearity!r}')
        self.cell = nonlinearity
        super().__init__(*args, **options)


class GRU(_Recurrent):
    """r, z = σ(…), n = tanh(x·W_inᵀ + b_in + r·(h·W_hnᵀ + b_hn)), h ← (1 − z)·n + z·h.   As `RNN`; gates r, z, n"""

    cell, gates = "gru", 3


class LSTM(_Recurrent):
    """i, f, o = σ(…), g = tanh(…), c ← f·c + i·g, h ← o·tanh c.   (x, (h0, c0), lengths) → (y, (h, c))

    Gates i, f, g, o. Shapes as `RNN`'s; c as h.

    >>> layer = nn.LSTM(input_size=3, hidden_size=5, batch_first=True)
    >>> y, (h, c) = layer(np.zeros((2, 7, 3), np.float32))
    >>> y.shape, h.shape, c.shape
    ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """

    cell, gates = "lstm", 4

    def forward(self, x: ArrayLike, state: Any = None, lengths: Any = None) -> Any:
        h0, c0 = (None, None) if state is None else state
        y, h, c = self._run(x, h0, c0, lengths)
        return y, (h, c)
