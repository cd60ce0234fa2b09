"""Layers. A layer is a Python object whose parameters are found by looking at its attributes.

    class Net(nn.Module):
        def __init__(self):
            self.hidden = nn.Dense(784, 512)
            self.output = nn.Dense(512, 10)

        def forward(self, x):
            return self.output(ops.relu(self.hidden(x)))

Leaf Tensors among the attributes are parameters and arrays are buffers (state that no optimizer moves), in
their modules, lists, tuples and dicts too, in the order in which they were assigned. Nothing need be called
first, and there is no registry to get out of step.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from minidl import init, ops
from minidl.tensor import FLOATS, Array, ArrayLike, Tensor

__all__ = [
    "ELU", "GELU", "Dense", "Dropout", "Flatten", "LeakyReLU", "LogSoftmax", "Module", "ReLU", "Sequential", "SiLU",
    "Sigmoid", "Softmax", "Softplus", "Tanh", "init",
]  # fmt: skip


class Module:
    """Something with parameters that computes. Subclasses assign attributes and define `forward`."""

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # -------------------------------------------------------------------------------- reflection

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, with their names ("hidden", "blocks.0")."""
        for name, value in _walk(vars(self), ""):
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, depth first, shared ones once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                stack.extend(reversed([(f"{name}.{child}".lstrip("."), m) for child, m in module.children()]))

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, shared ones once."""
        return (module for _, module in self.named_modules())

    def _named_state(self) -> Iterator[tuple[str, Tensor | Array]]:
        """Every parameter and buffer under every name it has, in definition order."""
        return _state(self, "", ())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) in definition order; one that is shared comes once, under its first name."""
        seen: set[int] = set()
        for name, value in self._named_state():
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Tensor]:
        """The parameters in definition order, shared ones once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(name, buffer) in definition order; one that is shared comes once."""
        seen: set[int] = set()
        for name, value in self._named_state():
            if not isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    # ------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """Name → array of every parameter and buffer: PyTorch's names. The arrays are not copies."""
        return {name: _values(value) for name, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy values into the parameters and buffers of the same names.

        KeyError: names missing or, if `strict`, names too many. ValueError: another shape. TypeError: not
        numbers. Everything is checked before anything is changed.
        """
        mine = self.state_dict()
        missing = [name for name in mine if name not in state_dict]
        extra = [name for name in state_dict if name not in mine]
        if strict and (missing or extra):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {extra}; expected {list(mine)}")
        found = {name: np.asarray(_values(state_dict[name])) for name in mine if name in state_dict}
        for name, values in found.items():
            if values.shape != mine[name].shape:
                raise ValueError(f"load_state_dict: expected {name} of shape {mine[name].shape}, found {values.shape}")
            if values.dtype.kind not in "fiub":
                raise TypeError(f"load_state_dict: expected numbers for {name}, found {values.dtype}")
        for name, values in found.items():
            mine[name][...] = values

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops) here and in all modules inside."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let gradients be computed for the parameters, or freeze them."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Set every parameter's gradient to None."""
        for p in self.parameters():
            p.grad = None

    # -------------------------------------------------------------------------------------- repr

    def extra_repr(self) -> str:
        """What distinguishes this layer from others of its class."""
        return ""

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        own = [f"{n} {v.shape}" for n, v in _walk(vars(self), "") if not isinstance(v, Module)]
        count = sum(p.size for p in self.parameters())
        inside = "\n".join(f"  ({name}): {module!r}".replace("\n", "\n  ") for name, module in self.children())
        told = ", ".join(filter(None, [self.extra_repr(), *own]))
        head = f"{type(self).__name__}({told})" + (f"  # {count:,} parameters" if count else "")
        return f"{head}\n{inside}" if inside else head


def _walk(members: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Modules, leaf Tensors and arrays among these members and in their lists, tuples and dicts."""
    for key, value in members.items():
        name = f"{prefix}{key}"
        if isinstance(value, Module | np.ndarray) or (isinstance(value, Tensor) and value.is_leaf):
            if not isinstance(value, np.ndarray) or value.dtype.kind in "fiub":
                yield name, value
        elif isinstance(value, list | tuple):
            yield from _walk(dict(enumerate(value)), f"{name}.")
        elif isinstance(value, dict):
            yield from _walk(value, f"{name}.")


def _state(module: Module, prefix: str, path: tuple[int, ...]) -> Iterator[tuple[str, Tensor | Array]]:
    for name, value in _walk(vars(module), prefix):
        if not isinstance(value, Module):
            yield name, value
        elif id(value) not in (*path, id(module)):  # a child that knows its parent is not inside it
            yield from _state(value, f"{name}.", (*path, id(module)))


def _values(x: ArrayLike) -> Any:
    return x.data if isinstance(x, Tensor) else x


# ------------------------------------------------------------------------------------------ layers


class Dense(Module):
    """y = x·Wᵀ + b, as PyTorch's `Linear`: x (…, in_features), y (…, out_features).

    weight (out_features, in_features) and bias (out_features,) start uniform on ± 1/√in_features
    (PyTorch's default: `kaiming_uniform_` with a = √5). The weight is stored input-major (see `ops.dense`).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: Any = np.float32,
        generator: np.random.Generator | None = None,
    ) -> None:
        for name, n in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(n, int | np.integer) or n < 1:
                raise ValueError(f"Dense: expected {name} as an int of at least 1, found {n!r}")
        if np.dtype(dtype) not in FLOATS:
            raise TypeError(f"Dense: expected dtype float32 or float64, found {np.dtype(dtype)}")
        bound = in_features**-0.5
        self.weight = Tensor(np.empty((in_features, out_features), dtype).T, requires_grad=True)
        init.uniform_(self.weight, -bound, bound, generator)
        self.bias: Tensor | None = None
        if bias:
            self.bias = Tensor(np.empty(out_features, dtype), requires_grad=True)
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.dense(x, self.weight, self.bias)


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


class Flatten(Module):
    """(N, …) → (N, all the rest)."""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.reshape(x, (len(x), -1) if len(x) else (0, int(np.prod(np.shape(_values(x))[1:]))))


class Dropout(Module):
    """`ops.dropout` in training mode, nothing in evaluation. p: the probability of 0."""

    def __init__(self, p: float = 0.5, generator: np.random.Generator | None = None) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: expected a probability p from 0 to 1, found {p}")
        self.p, self.generator = p, generator

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.dropout(x, self.p, self.training, self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ReLU(Module):
    """`ops.relu`"""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """`ops.leaky_relu`"""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """`ops.elu`"""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """`ops.gelu`"""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """`ops.silu`"""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.silu(x)


class Softplus(Module):
    """`ops.softplus`"""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.softplus(x, self.beta, self.threshold)


class Sigmoid(Module):
    """`ops.sigmoid`"""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.sigmoid(x)


class Tanh(Module):
    """`ops.tanh`"""

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.tanh(x)


class Softmax(Module):
    """`ops.softmax`"""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.softmax(x, self.dim)


class LogSoftmax(Module):
    """`ops.log_softmax`"""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.log_softmax(x, self.dim)
