"""Activations as layers: each is the op of `minidl.ops` that its docstring names."""

from __future__ import annotations

from minidl import ops
from minidl.nn.module import Module, check_dim
from minidl.ops.inputs import number
from minidl.tensor import ArrayLike, Tensor


class ReLU(Module):
    """`ops.relu`

    >>> nn.ReLU()(np.array([-1.0, 0.0, 2.0])).numpy()
    array([0., 0., 2.])
    """

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.relu(x)


class LeakyReLU(Module):
    """`ops.leaky_relu`"""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number(negative_slope, "negative_slope")

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """`ops.elu`"""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number(alpha, "alpha")

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(Module):
    """`ops.gelu`"""

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: expected approximate "none" or "tanh", found {approximate!r}')
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
        self.beta, self.threshold = number(beta, "beta"), number(threshold, "threshold")

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
        self.dim = check_dim(type(self).__name__, dim)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.softmax(x, self.dim)


class LogSoftmax(Module):
    """`ops.log_softmax`"""

    def __init__(self, dim: int = -1) -> None:
        self.dim = check_dim(type(self).__name__, dim)

    def forward(self, x: ArrayLike) -> Tensor:
        return ops.log_softmax(x, self.dim)
