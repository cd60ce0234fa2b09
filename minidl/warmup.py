"""Compile the kernels of dense nets ahead of time, so that no later process has to. Not imported by `minidl` itself.

The real ops, optimizers and loader run on tiny arrays, with every kernel replaced by one that records its
argument types and runs in plain Python. Then both builds of each kernel are compiled for the recorded types,
whatever the kernel's threshold for threads and the number of cores here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import data, nn, ops, optim
from minidl.core.seam import Interceptor, intercepted
from minidl.jit import Kernel, interpreted
from minidl.ops.linalg import transpose_copy
from minidl.tensor import FLOATS, Array, Tensor

Progress = Callable[[str, int], None]


def warmup(progress: Progress | None = None) -> list[str]:
    """Compile, or load from the cache, the kernels of dense nets for float32 and float64: serial and threaded.

    Those of convolution, pooling, normalisation, recurrence, embedding and attention are compiled on first use, since
    all of them would take minutes. `compile_for` compiles those that a given net needs.

    progress   called before each kernel with its name and the total number

    Returns the names of the kernels that ops call, sorted (kernels called only by kernels are compiled into those);
    none under `NUMBA_DISABLE_JIT=1`, where nothing is compiled. Call it while no other thread computes: the kernels
    are temporarily replaced.
    """

    def everything() -> None:
        _load_batch()
        for dtype in FLOATS:
            _use_kernels(dtype)

    return compile_for(everything, progress)


def compile_for(run: Callable[[], object], progress: Progress | None = None) -> list[str]:
    """Compile every kernel that ops call while `run()` runs, for the types used there. Otherwise as `warmup`."""
    if interpreted():
        return []
    noting = _Noting()
    with intercepted(noting):
        run()
    calls = noting.calls
    for kernel, noted in calls.items():
        if progress is not None:
            progress(kernel.__name__, len(calls))
        for build in (kernel.serial, kernel.threaded) if kernel.parallel else (kernel.serial,):
            for signature in dict.fromkeys(tuple(build.typeof_pyval(a) for a in call) for call in noted):  # type: ignore[attr-defined]
                build.compile(signature)  # type: ignore[attr-defined]
    return sorted(kernel.__name__ for kernel in calls)


class _Noting(Interceptor):
    """Records kernel calls and runs them in plain Python."""

    def __init__(self) -> None:
        self.calls: dict[Kernel, list[tuple[Any, ...]]] = {}
        self._inside = False

    def kernel(self, kernel: Kernel, args: tuple[Any, ...]) -> Any:
        if self._inside:  # a kernel called by another is compiled into it
            return kernel.py_func(*args)
        self.calls.setdefault(kernel, []).append(args)
        self._inside = True
        try:
            return kernel.py_func(*args)
        finally:
            self._inside = False


def _use_kernels(dtype: np.dtype[Any]) -> None:
    """Call every op of dense nets that has kernels, and every optimizer, with all types of arguments."""

    def array(*shape: int) -> Array:
        return np.full(shape, 0.5, dtype)

    def step(loss: Tensor, optimizers: list[optim.Optimizer]) -> None:
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()

    layers = nn.Dense(3, 4, dtype=dtype), nn.ReLU(), nn.Dense(4, 2, dtype=dtype), nn.ReLU(), nn.GELU()
    model = nn.Sequential(*layers)
    parameters = list(model.parameters())
    optimizers: list[optim.Optimizer] = [
        optim.SGD(parameters, lr=0.0),
        optim.SGD(parameters, lr=0.0, momentum=0.9),
        optim.Adam(parameters, lr=0.0),
    ]
    hidden = ops.relu(model(Tensor(array(2, 3), requires_grad=True)))
    step(ops.softmax_cross_entropy(hidden, np.array([0, 1])), optimizers)
    for a, b in (((2, 3), (3, 2)), ((2, 2, 3), (2, 3, 2)), ((2, 2, 3), (3, 2))):
        for left in (array(*a), array(*a).swapaxes(-1, -2).copy().swapaxes(-1, -2)):
            ops.matmul(Tensor(left, requires_grad=True), Tensor(array(*b), requires_grad=True)).sum().backward()
    ops.softmax(Tensor(array(2, 3), requires_grad=True)).sum().backward()
    transpose_copy(array(1, 2, 3), array(1, 3, 2))  # used only by large products


def _load_batch() -> None:
    for _ in data.Loader(np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64), batch_size=2):
        pass
