"""Modules made of modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minidl import ops
from minidl.nn.activation import ReLU
from minidl.nn.dense import Dense
from minidl.nn.module import Module
from minidl.tensor import ArrayLike


class Sequential(Module):
    """One module after another, named "0", "1", …. A Dense and the ReLU after it run as one op (`ops.dense_relu`)."""

    def __init__(self, *modules: Module) -> None:
        for i, module in enumerate(modules):
            if not callable(module):
                raise TypeError(f"Sequential: expected modules, found {module!r} in place {i}")
            setattr(self, str(i), module)

    def _layers(self) -> list[Module]:
        return [m for name, m in vars(self).items() if name.isdecimal()]

    def forward(self, x: ArrayLike) -> Any:
        layers = self._layers()
        i = 0
        while i < len(layers):
            layer = layers[i]
            if type(layer) is Dense and i + 1 < len(layers) and type(layers[i + 1]) is ReLU:
                x = ops.dense_relu(x, layer.weight, layer.bias)
                i += 2
            else:
                x = layer(x)
                i += 1
        return x

    def __len__(self) -> int:
        return len(self._layers())

    def __getitem__(self, index: int | slice) -> Any:
        layers = self._layers()[index]
        return Sequential(*layers) if isinstance(layers, list) else layers

    def __iter__(self) -> Iterator[Module]:
        return iter(self._layers())
