"""The default computation of `minidl explain`: a two-layer net on three points."""

import numpy as np

from minidl import ops
from minidl.explanation.explanation import Explanation, explain
from minidl.tensor import Tensor


def example() -> Explanation:
    """A two-layer net with a residual connection, written out; three points with two features each, float32.

    z is used twice, so that gradients add up in it and the order of the backward pass matters.
    """
    x = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
    target = np.array([[1.0], [1.0], [0.0]], np.float32)
    w1 = Tensor(np.array([[0.5, 0.75], [-1.0, 0.5], [0.25, -0.5]], np.float32), requires_grad=True)
    b1 = Tensor(np.array([0.0, 0.25, 0.0], np.float32), requires_grad=True)
    w2 = Tensor(np.array([[1.0, -0.5, 0.75]], np.float32), requires_grad=True)
    b2 = Tensor(np.array([0.125], np.float32), requires_grad=True)

    z = ops.dense(x, w1, b1)
    h = z + ops.tanh(z)
    y = ops.dense(h, w2, b2)
    loss = ops.mse(y, target)
    return explain(loss, check=True)
