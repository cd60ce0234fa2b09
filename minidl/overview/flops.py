"""The cost of an op: floating-point operations of its value and each gradient, from the formulas in its docstring.

A multiply-add counts 2; an addition, multiplication, comparison, square root or function (exp, tanh, Φ) of one element
counts 1. Not counted: biases (a sum starts at them), sums over broadcast axes, savings by masks and zeros, random
numbers, and data movement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from minidl.tensor import Array

Arguments = Mapping[str, Any]  # an op's, by name: arrays, numbers, None
Cost = tuple[int, dict[str, int]]  # of the value; of the gradient of each input
JOINT = ""  # in place of an input: the shared cost of several gradients

MOVES = {
    "astype", "broadcast_to", "concatenate", "diagonal", "expand_dims", "flip", "getitem", "moveaxis", "pad", "reshape",
    "roll", "squeeze", "stack", "swapaxes", "transpose", "where",
}  # fmt: skip
PER_RESULT: dict[str, tuple[int, dict[str, int]]] = {  # for each element of y
    "abs": (1, {"x": 2}),
    "add": (1, {}),
    "arctan": (1, {"x": 3}),
    "clip": (2, {"x": 2}),
    "cos": (1, {"x": 3}),
    "cosh": (1, {"x": 2}),
    "divide": (1, {"a": 1, "b": 3}),
    "elu": (4, {"x": 3}),
    "embedding": (0, {"weight": 1}),
    "exp": (1, {"x": 1}),
    "expm1": (2, {"x": 2}),
    "floor_divide": (2, {}),
    "gelu": (2, {"x": 5}),
    "leaky_relu": (2, {"x": 2}),
    "log": (1, {"x": 1}),
    "log1p": (2, {"x": 2}),
    "log2": (1, {"x": 2}),
    "log_softmax": (5, {"x": 4}),
    "maximum": (1, {"a": 2, "b": 2}),
    "minimum": (1, {"a": 2, "b": 2}),
    "multiply": (1, {"a": 1, "b": 1}),
    "negative": (1, {"x": 1}),
    "outer": (1, {"a": 2, "b": 2}),
    "power": (1, {"a": 4, "b": 3}),
    "relu": (1, {"x": 1}),
    "remainder": (4, {"b": 4}),
    "reparameterise": (4, {"log_var": 2}),
    "sigmoid": (4, {"x": 3}),
    "silu": (5, {"x": 5}),
    "sin": (1, {"x": 2}),
    "sinh": (1, {"x": 2}),
    "softmax": (5, {"x": 4}),
    "softplus": (6, {"x": 6}),
    "sqrt": (1, {"x": 2}),
    "square": (1, {"x": 2}),
    "subtract": (1, {"b": 1}),
    "tan": (1, {"x": 3}),
    "tanh": (1, {"x": 3}),
}
PER_INPUT: dict[str, tuple[int, int]] = {  # for each element of x, and again for its gradient
    "cumsum": (1, 1),
    "logsumexp": (5, 1),
    "max": (1, 2),
    "mean": (1, 0),
    "min": (1, 2),
    "prod": (1, 4),
    "std": (4, 2),
    "sum": (1, 0),
    "var": (4, 2),
}
GATES = {"tanh": (1, 2, 3), "relu": (1, 2, 1), "lstm": (4, 22, 24), "gru": (3, 17, 17)}  # number, FLOPs per unit


def _matmul(a: Arguments, y: Array) -> Cost:
    n = 2 * y.size * np.shape(a["a"])[-1]
    return n, {"a": n, "b": n}


def _weighted(a: Arguments, y: Array) -> Cost:
    """Dense and convolution: weight (O, …) has one element per output and term of its sum."""
    n = 2 * y.size * math.prod(np.shape(a["weight"])[1:])
    return n, {"x": n, "weight": n}


def _transposed_convolution(a: Arguments, y: Array) -> Cost:
    n = 2 * int(np.size(a["x"])) * math.prod(np.shape(a["weight"])[1:])
    return n, {"x": n, "weight": n}


def _rectified(a: Arguments, y: Array) -> Cost:
    n, gradients = _weighted(a, y)
    return n + y.size, gradients | {JOINT: y.size}


def _max_pool(a: Arguments, y: Array, dimensions: int = 2) -> Cost:
    return y.size * (_window(a["kernel_size"], dimensions) - 1), {"x": y.size}


def _average_pool(a: Arguments, y: Array, dimensions: int = 2) -> Cost:
    elements = _window(a["kernel_size"], dimensions)
    return y.size * elements, {"x": y.size * (elements + 1)}


def _adaptive_pool(a: Arguments, y: Array, dimensions: int = 2) -> Cost:
    elements = math.prod(y.shape[:-dimensions])  # planes; then the elements of all windows, which may overlap
    for n, o in zip(np.shape(a["x"])[-dimensions:], y.shape[-dimensions:], strict=True):
        elements *= sum(-(-(i + 1) * n // o) - i * n // o for i in range(o))
    return elements, {"x": elements + y.size}


def _window(size: Any, dimensions: int) -> int:
    return math.prod(size) if isinstance(size, list | tuple) else int(size) ** dimensions


def _norm(a: Arguments, y: Array) -> Cost:
    """μ 1, σ² 3, x̂ 2, γ and β 2; dx 8, of which the means take 4, not needed with fixed statistics."""
    fixed = "running_mean" in a and a["running_mean"] is not None and not a["training"]
    affine = (a["weight"] is not None) + (a["bias"] is not None)
    return y.size * ((2 if fixed else 6) + affine), {
        "x": y.size * (2 if fixed else 8),
        "weight": 2 * y.size,
        "bias": y.size,
    }


def _dropout(a: Arguments, y: Array) -> Cost:
    n = y.size if a["training"] and a["p"] > 0 else 0
    return n, {"x": n}


def _attention(a: Arguments, y: Array) -> Cost:
    """q·kᵀ, scale, mask, softmax 5, P·v; backward: dP = dy·vᵀ, dS 5, then dq, dk and dv."""
    keys, size, values = np.shape(a["k"])[-2], np.shape(a["q"])[-1], y.shape[-1]
    pairs = y.size // max(values, 1) * keys
    scores, mixed = 2 * pairs * size, 2 * pairs * values
    return scores + pairs * (6 + (a["attn_mask"] is not None)) + mixed, {
        JOINT: mixed + 5 * pairs,
        "q": scores,
        "k": scores,
        "v": mixed,
    }


def _recurrent(a: Arguments, y: Array) -> Cost:
    """h·Wᵀ in each step, and the gates; backward the same through W, and through all states for its gradient."""
    gates, forward, back = GATES[a["cell"]]
    steps, batch, _ = np.shape(a["inputs"])
    units = steps * batch * y.shape[-1]
    n = 2 * units * gates * y.shape[-1]
    return n + forward * units, {JOINT: n + back * units, "weight": n}


FORMULAS: dict[str, Callable[[Arguments, Array], Cost]] = {
    "adaptive_avg_pool1d": partial(_adaptive_pool, dimensions=1),
    "adaptive_avg_pool2d": _adaptive_pool,
    "avg_pool1d": partial(_average_pool, dimensions=1),
    "avg_pool2d": _average_pool,
    "batch_norm": _norm,
    "conv1d": _weighted,
    "conv2d": _weighted,
    "conv_transpose2d": _transposed_convolution,
    "dense": _weighted,
    "dense_relu": _rectified,
    "dropout": _dropout,
    "dropout2d": _dropout,
    "group_norm": _norm,
    "layer_norm": _norm,
    "matmul": _matmul,
    "max_pool1d": partial(_max_pool, dimensions=1),
    "max_pool2d": _max_pool,
    "recurrent": _recurrent,
    "scaled_dot_product_attention": _attention,
}


def cost(op: str, arguments: Arguments, y: Array) -> Cost | None:
    """The cost of the op whose value is y; None if unknown here: a user's op, a loss."""
    if op in MOVES:
        return 0, {}
    if op in PER_RESULT:
        forward, back = PER_RESULT[op]
        return forward * y.size, {name: n * y.size for name, n in back.items()}
    if op in PER_INPUT:
        size = int(np.size(arguments["x"]))
        return PER_INPUT[op][0] * size, {"x": PER_INPUT[op][1] * size + (y.size if op == "mean" else 0)}
    formula = FORMULAS.get(op)
    return None if formula is None else formula(arguments, y)
