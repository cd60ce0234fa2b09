"""Write an op, check its gradient, give it a kernel, and swap one kernel for another.

The op is softsign: y = x / (1 + |x|), dy/dx = 1 / (1 + |x|)².
"""

import time

import numpy as np

import minidl
from minidl import Tensor, jit, ops

# 1. An op: a function of arrays that returns its value and, per input, the function that carries a gradient back.


@minidl.op
def softsign(x):
    """y = x / (1 + |x|).   dL/dx = dL/dy / (1 + |x|)²"""
    denominator = 1 + np.abs(x)
    return x / denominator, (lambda dy: dy / denominator**2,)


x = np.random.default_rng(0).normal(size=(2, 3))
print("softsign:", minidl.gradcheck(softsign, x))

# 2. A wrong one is found out, and the worst element named.


@minidl.op
def forgetful_softsign(x):
    """The square is missing from its gradient."""
    denominator = 1 + np.abs(x)
    return x / denominator, (lambda dy: dy / denominator,)


print("forgetful:", minidl.gradcheck(forgetful_softsign, x, raise_exception=False))

# 3. A kernel: the same as a plain loop over flat arrays, compiled when it is first called. One pass over
#    memory, where NumPy makes three, each with an array in between. The op checks and allocates; the kernel only runs.


@minidl.kernel
def softsign_forward(x, y):
    for i in range(x.size):
        y[i] = x[i] / (x.dtype.type(1) + abs(x[i]))


@minidl.op
def fast_softsign(x):
    """y = x / (1 + |x|).   dL/dx = dL/dy · (1 − |y|)²"""
    x = np.ascontiguousarray(x)
    y = np.empty_like(x)
    softsign_forward(x.reshape(-1), y.reshape(-1))
    return y, (lambda dy: dy * (1 - np.abs(y)) ** 2,)


print("fast:", minidl.gradcheck(fast_softsign, x))
large = np.random.default_rng(1).normal(size=1_000_000).astype(np.float32)
assert np.allclose(softsign(large).numpy(), fast_softsign(large).numpy(), atol=1e-6)
for op in (softsign, fast_softsign):
    times = []
    for _ in range(20):
        start = time.perf_counter()
        op(large)
        times.append(time.perf_counter() - start)
    print(f"{op.__name__:14s} {1e3 * np.median(times):6.2f} ms for a million numbers")

# 4. Swap a kernel of minidl's own for yours, within a block. All of them are in minidl.jit.KERNELS.


def leaky(x, y):
    np.multiply(x, np.where(x < 0, 0.1, 1), out=y)


values = Tensor([-2.0, 3.0])
with jit.KERNELS["relu_forward"].replaced_by(leaky):
    print("relu with another kernel:", ops.relu(values).numpy())
print("relu again:", ops.relu(values).numpy())
