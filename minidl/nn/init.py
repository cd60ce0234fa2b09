"""Weight initialisers, under PyTorch's names. Each fills a Tensor or array in place and returns it.

A weight is (out, in, …kernel). Random numbers come from `generator`, by default minidl's own.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from minidl.random import default_generator
from minidl.tensor import Array, Tensor

T = TypeVar("T", Tensor, Array)
_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The gain that makes up for a nonlinearity: √2 for relu, √(2 / (1 + slope²)) for leaky_relu, ….

    ValueError for an unknown name.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"expected a nonlinearity of {sorted([*_GAINS, 'leaky_relu'])}, found {nonlinearity!r}")
    return _GAINS[nonlinearity]


def fans(tensor: Tensor | Array) -> tuple[int, int]:
    """(fan_in, fan_out): inputs per output, and outputs per input. ValueError for fewer than 2 axes."""
    if tensor.ndim < 2:
        raise ValueError(f"expected a weight of at least 2 axes, found shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fill(tensor: T, values: Array | float) -> T:
    (tensor.data if isinstance(tensor, Tensor) else tensor)[...] = values
    return tensor


def constant_(tensor: T, val: float) -> T:
    """Every element is `val`."""
    return _fill(tensor, val)


def zeros_(tensor: T) -> T:
    """Every element is 0."""
    return _fill(tensor, 0.0)


def ones_(tensor: T) -> T:
    """Every element is 1."""
    return _fill(tensor, 1.0)


def eye_(tensor: T) -> T:
    """The identity matrix. ValueError unless it has two axes."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: expected two axes, found shape {tensor.shape}")
    return _fill(tensor, np.eye(*tensor.shape))


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: np.random.Generator | None = None) -> T:
    """Uniform on [a, b)."""
    return _fill(tensor, (generator or default_generator()).uniform(a, b, tensor.shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: np.random.Generator | None = None) -> T:
    """Normal with this mean and standard deviation."""
    return _fill(tensor, (generator or default_generator()).normal(mean, std, tensor.shape))


def trunc_normal_(
    tensor: T,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: np.random.Generator | None = None,
) -> T:
    """Normal, redrawn while outside [a, b]. ValueError if fewer than one draw in 10⁴ would fit."""
    lo, hi = (a - mean) / std, (b - mean) / std
    if not math.erf(hi / math.sqrt(2)) - math.erf(lo / math.sqrt(2)) > 2e-4:
        raise ValueError(f"trunc_normal_: expected bounds around the mean {mean} (std {std}), found [{a}, {b}]")
    random = generator or default_generator()
    values = np.asarray(random.normal(mean, std, tensor.shape))
    while (outside := (values < a) | (values > b)).any():
        values[outside] = random.normal(mean, std, int(outside.sum()))
    return _fill(tensor, values)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: np.random.Generator | None = None) -> T:
    """Uniform on ± gain·√(6 / (fan_in + fan_out))   (Glorot and Bengio 2010, eq. 16)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: np.random.Generator | None = None) -> T:
    """Normal with std gain·√(2 / (fan_in + fan_out))   (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor | Array, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'expected mode "fan_in" or "fan_out", found {mode!r}')
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> T:
    """Uniform on ± gain·√(3 / fan), a the negative slope of leaky_relu   (He et al. 2015, section 2.2)."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: np.random.Generator | None = None,
) -> T:
    """Normal with std gain / √fan, a the negative slope of leaky_relu   (He et al. 2015, eq. 10)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: T, gain: float = 1.0, generator: np.random.Generator | None = None) -> T:
    """gain times a matrix (out, rest) whose rows, or columns if fewer, are orthonormal   (Saxe et al. 2014)."""
    if tensor.ndim < 2:
        raise ValueError(f"expected a weight of at least 2 axes, found shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    normal = (generator or default_generator()).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q = q * np.sign(np.diagonal(r))  # so that the distribution is uniform
    return _fill(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def dirac_(tensor: T, groups: int = 1) -> T:
    """The identity convolution: in each group, output i is input i. ValueError for fewer than 3 axes."""
    if not 3 <= tensor.ndim <= 5 or groups < 1 or tensor.shape[0] % groups:
        raise ValueError(
            f"dirac_: expected 3 to 5 axes, the first a multiple of groups={groups}, found shape {tensor.shape}"
        )
    values, each = np.zeros(tensor.shape), tensor.shape[0] // groups
    middle: tuple[int, ...] = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for i in range(min(each, tensor.shape[1])):
            values[(group * each + i, i, *middle)] = 1
    return _fill(tensor, values)


def sparse_(tensor: T, sparsity: float, std: float = 0.01, generator: np.random.Generator | None = None) -> T:
    """Normal with this std, but in each column a fraction `sparsity` of the rows is 0   (Martens 2010)."""
    if tensor.ndim != 2 or not 0 <= sparsity <= 1:
        raise ValueError(f"sparse_: expected two axes and a part from 0 to 1, found {tensor.shape} and {sparsity}")
    random = generator or default_generator()
    values = np.asarray(random.normal(0.0, std, tensor.shape))
    for column in values.T:
        column[random.permutation(len(column))[: math.ceil(sparsity * len(column))]] = 0
    return _fill(tensor, values)
