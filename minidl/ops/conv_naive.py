"""Convolution straight from its formula, in seven plain loops: `ops.conv_kernels` to read and to compare with.

A variant of `conv2d_forward` with its arguments; `minidl bench conv2d_forward` checks and times both.
"""

from __future__ import annotations

from minidl.ops.conv_kernels import DILATION_H, DILATION_W, GROUPS, LEFT, STRIDE_H, STRIDE_W, TOP, conv2d_forward
from minidl.tensor import Array


@conv2d_forward.variant
def seven_loops(x: Array, w: Array, b: Array, geometry: Array, y: Array) -> None:
    """y[n, o, i, j] = b[o] + Σ w[o, c, u, v] · x[n, g·C / groups + c, row, column], g the group of o.

    row = i·stride + u·dilation − top and column = j·stride + v·dilation − left; x is 0 outside.
    """
    inputs, outputs = w.shape[1], w.shape[0] // geometry[GROUPS]
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            first = o // outputs * inputs  # channel of the group
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    total = y.dtype.type(0)
                    for c in range(inputs):
                        for u in range(w.shape[2]):
                            row = i * geometry[STRIDE_H] + u * geometry[DILATION_H] - geometry[TOP]
                            for v in range(w.shape[3]):
                                column = j * geometry[STRIDE_W] + v * geometry[DILATION_W] - geometry[LEFT]
                                if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                                    total += w[o, c, u, v] * x[n, first + c, row, column]
                    y[n, o, i, j] = total + b[o]
