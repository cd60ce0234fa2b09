"""The encoder layer of a Transformer, under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from minidl import ops
from minidl.nn.attention import MultiheadAttention
from minidl.nn.dense import Dense
from minidl.nn.dropout import Dropout
from minidl.nn.module import Module, check_flags, check_layer
from minidl.nn.norm import LayerNorm
from minidl.tensor import ArrayLike, Tensor

_ACTIVATIONS: dict[str, Callable[..., Tensor]] = {"relu": ops.relu, "gelu": ops.gelu}


class TransformerEncoderLayer(Module):
    """y = norm2(h + f(h)), h = norm1(x + attention(x)), f(h) = linear2(activation(linear1(h)))

    (Vaswani et al. 2017, section 3.1); with `norm_first` y = h + f(norm2(h)), h = x + attention(norm1(x))
    (Xiong et al. 2020). Dropout acts on the attention's weights, on its output, and twice in f.

    activation    "relu", "gelu", or a function of Tensors
    batch_first   sequences are (N, L, d_model); else (L, N, d_model), PyTorch's default
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[..., Tensor] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        if not callable(activation) and activation not in _ACTIVATIONS:
            raise ValueError(
                f'TransformerEncoderLayer: expected activation "relu", "gelu" or a function, found {activation!r}'
            )
        self.activation = activation if callable(activation) else _ACTIVATIONS[activation]
        check_flags("TransformerEncoderLayer", norm_first=norm_first)
        check_layer("TransformerEncoderLayer", dtype, d_model=d_model, nhead=nhead, dim_feedforward=dim_feedforward)
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype, generator=generator
        )
        self.linear1 = Dense(d_model, dim_feedforward, bias, dtype, generator)
        self.dropout = Dropout(dropout, generator)
        self.linear2 = Dense(dim_feedforward, d_model, bias, dtype, generator)
        self.norm1 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, eps=layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1 = Dropout(dropout, generator)
        self.dropout2 = Dropout(dropout, generator)

    def forward(
        self,
        src: ArrayLike,
        src_mask: ArrayLike = None,
        src_key_padding_mask: ArrayLike = None,
        is_causal: bool = False,
    ) -> Tensor:
        """src (N, L, d_model), (L, N, d_model) unless batch_first, or without N; y likewise. Masks as for
        `MultiheadAttention`: booleans, True where a key is hidden, or floats to add.
        """
        x = src if isinstance(src, Tensor) else Tensor(src)

        def attention(x: Tensor) -> Tensor:
            y, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return cast(Tensor, self.dropout1(y))

        def feedforward(x: Tensor) -> Tensor:
            return cast(Tensor, self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x))))))

        if self.norm_first:
            x = x + attention(self.norm1(x))
            return x + feedforward(self.norm2(x))
        x = self.norm1(x + attention(x))
        return cast(Tensor, self.norm2(x + feedforward(x)))
