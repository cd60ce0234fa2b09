"""Differentiable functions of arrays and Tensors.

Array functions have NumPy's names and arguments, network functions PyTorch's; `dense`, `dense_relu` and the
losses' short names are minidl's own. Each takes Tensors, arrays or numbers and gives a Tensor.
"""

from minidl.ops.activation import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from minidl.ops.dense import dense, dense_relu
from minidl.ops.dropout import dropout
from minidl.ops.einsum import einsum
from minidl.ops.elementwise import (
    abs,
    add,
    arctan,
    astype,
    clip,
    cos,
    cosh,
    divide,
    exp,
    expm1,
    floor_divide,
    log,
    log1p,
    log2,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    remainder,
    sin,
    sinh,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    where,
)
from minidl.ops.linalg import matmul, outer
from minidl.ops.loss import (
    binary_cross_entropy_with_logits,
    huber,
    kl_div,
    l1,
    mse,
    nll,
    softmax_cross_entropy,
)
from minidl.ops.reduce import cumsum, logsumexp, max, mean, min, prod, std, sum, var
from minidl.ops.shape import (
    broadcast_to,
    concatenate,
    diagonal,
    expand_dims,
    flip,
    getitem,
    moveaxis,
    pad,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
)

__all__ = [name for name in dir() if not name.startswith("_")]
