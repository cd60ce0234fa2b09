"""9. A kernel of your own, faster: a plain loop, compiled.

In Python it would be. But @minidl.kernel lets Numba make machine code of a loop
when it is first called, and such a loop goes through memory once, makes nothing
in between, and may branch as it likes. One can still run it as plain Python, to
compare.
"""

import time

import numpy as np

import minidl
from minidl import Tensor


@minidl.kernel
def squareplus_forward(x, s, y):
    """y = (x + r) / 2, but for x < 0 as s² / 2(r − x): the same number, and no digits cancel.   x, y: (N,)"""
    half = x.dtype.type(0.5)  # a bare 0.5 is a float64: float32 would be computed in float64, too
    for i in range(x.size):
        r = np.sqrt(x[i] * x[i] + s * s)
        y[i] = half * s * s / (r - x[i]) if x[i] < 0 else half * (x[i] + r)


@minidl.kernel
def squareplus_backward(dy, x, s, y, dx):
    """dx = dy · y/r   all (N,), but for the number s"""
    for i in range(x.size):
        dx[i] = dy[i] * y[i] / np.sqrt(x[i] * x[i] + s * s)


@minidl.op
def fast_squareplus(x, s):
    """Lesson 8's op, for a fixed number s. A kernel checks nothing: its op brings what it expects, and the output."""
    flat, s = np.ascontiguousarray(x).reshape(-1), x.dtype.type(s)
    y = np.empty_like(flat)
    squareplus_forward(flat, s, y)

    def gradient(dy):
        dx = np.empty_like(flat)
        squareplus_backward(np.ascontiguousarray(dy).reshape(-1), flat, s, y, dx)
        return dx.reshape(x.shape)

    return y.reshape(x.shape), (gradient,)


@minidl.op
def squareplus(x, s):
    r = np.sqrt(x * x + s * s)
    y = (x + r) / 2
    return y, (lambda dy: dy * y / r,)


def both_ways(op, x, s):
    op(Tensor(x, requires_grad=True), s).backward(x)


def milliseconds(run, *arguments):
    """The median of 9 runs, after one that may have to compile."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        run(*arguments)
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[1:]))


print(__doc__)
x, s = np.random.default_rng(0).normal(size=10_000), 0.5
compiled, interpreted = np.empty_like(x), np.empty_like(x)
squareplus_forward(x, s, compiled)
squareplus_forward.py_func(x, s, interpreted)
difference = abs(compiled - interpreted).max(), abs(compiled - squareplus(x, s).numpy()).max()
report = minidl.gradcheck(fast_squareplus, x[:20].reshape(4, 5), s)
far = np.float32(-1000), np.float32(s)
true, numpys, ours = squareplus(-1000.0, s).item(), squareplus(*far).item(), fast_squareplus(*far).item()
print(f"""Is it right? The largest difference in 10,000 numbers, float64,
  from the same loop in plain Python  {difference[0]:.1e}
  from the NumPy op of lesson 8       {difference[1]:.1e}
and {report.checked} gradients agree with nudging. For x = -1000, float32, {true:.3e} is right;
NumPy gives {numpys:.3e}, and the kernel {ours:.3e}: that is what it branches for.
""")
assert max(difference) < 1e-14
assert report.checked == 20
assert abs(ours / true - 1) < 1e-6
assert abs(numpys / true - 1) > 1e-2

x, s = x.astype(np.float32), np.float32(s)
million = np.tile(x, 100)
slow = 100 * milliseconds(squareplus_forward.py_func, x, s, np.empty_like(x))
fast = milliseconds(squareplus_forward, million, s, np.empty_like(million))
numpys, ours = (milliseconds(both_ways, op, million, s) for op in (squareplus, fast_squareplus))
print(f"""Is it fast? Milliseconds for a million numbers, float32, on this machine, now:
  forward, the loop in plain Python {slow:9.2f}   (from 10,000, times 100)
  forward, the kernel               {fast:9.2f}   {slow / fast:.0f} times faster
  forward and backward, NumPy       {numpys:9.2f}
  forward and backward, kernels     {ours:9.2f}   {numpys / ours:.1f} times faster

minidl's own kernels are such loops, each beside the op that uses it; `minidl
bench` checks and times them. With `prange` for `range` a loop uses all cores.

Now we have an engine, ops, losses, kernels. What moved the parameters in lesson
8 was Adam. Is there more to it than its formula?""")
assert slow > 20 * fast
