"""The peaks of this machine: multiply-adds per second, and bytes per second from each level of memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from minidl.jit import get_num_threads, kernel, prange, set_num_threads
from minidl.tensor import Array

LEVELS = (24 << 10, 512 << 10, 8 << 20, 192 << 20)  # bytes: in the first, second and third cache level, and beyond
CHAIN = 24  # independent sums, enough to hide the latency of a multiply-add


def _emitted_chain() -> Any:
    """The intrinsic, available on every processor."""
    from minidl.bench import chain

    return chain.multiply_add_chain


@kernel(emitted=_emitted_chain)
def multiply_add_chain(count: int, start: Any) -> Any:
    """24 vectors, each s ← s·x + x `count` times, x just below 1; returns one element."""
    s = start
    for _ in range(count):
        s = s * start + start
    return s


@kernel(parallel=lambda count, start, out: out.size > 1)
def multiply_adds(count: int, start: Any, out: Array) -> None:
    """One chain for each element of `out`."""
    for i in prange(out.size):
        out[i] = multiply_add_chain(count, start)


@kernel(parallel=lambda b, c, s, a, repeats: b.ndim > 1 and b.shape[0] > 1)
def triad(b: Array, c: Array, s: Any, a: Array, repeats: int) -> None:
    """a = b + s·c, `repeats` times over.   (parts, length): each part is one thread's (McCalpin 1995)"""
    for part in prange(b.shape[0]):
        x, y, z = b[part], c[part], a[part]
        for _ in range(repeats):
            for i in range(x.size):
                z[i] = x[i] + s * y[i]


class Peak:
    """The measured roofs for a number of threads: `flops` by dtype and `bytes` by level, per second."""

    def __init__(self, threads: int, flops: dict[str, float], bandwidth: dict[int, float]) -> None:
        self.threads, self.flops, self.bandwidth = threads, flops, bandwidth

    def roof(self, dtype: str, flops: int, moved: int) -> tuple[float, str]:
        """(least seconds, what sets them: "compute" or "memory") for this work, in the memory level that holds it."""
        level = next((size for size in LEVELS if moved <= 2 * size), LEVELS[-1])
        compute, memory = flops / self.flops[dtype], moved / self.bandwidth[level]
        return (compute, "compute") if compute >= memory else (memory, "memory")

    def again(self, dtype: str) -> None:
        """Measure the multiply-adds again and keep the best, as clock rates vary."""
        self.flops[dtype] = max(self.flops[dtype], _flops(np.dtype(dtype), self.threads, 1))


def measure(threads: int, rounds: int = 5) -> Peak:
    """Measure with that many threads: the best of `rounds` short runs."""
    before = get_num_threads()
    set_num_threads(threads)
    try:
        flops = {name: _flops(np.dtype(name), threads, rounds) for name in ("float32", "float64")}
        return Peak(threads, flops, {size: _bandwidth(size, threads, rounds) for size in LEVELS})
    finally:
        set_num_threads(before)


def _flops(dtype: Any, threads: int, rounds: int) -> float:
    from minidl.ops.vectors import vector_bytes

    lanes = max(vector_bytes(), 16) // dtype.itemsize
    out, count, start = np.empty(threads, dtype), 100_000, dtype.type(0.999)
    multiply_adds(count, start, out)
    seconds = min(_seconds(lambda: multiply_adds(count, start, out)) for _ in range(rounds))
    return float(2 * CHAIN * lanes * count * threads / seconds)


def _bandwidth(size: int, threads: int, rounds: int) -> float:
    length = size // 12 // threads
    a, b, c = (np.ones((threads, length), np.float32) for _ in range(3))
    repeats = max(1, (64 << 20) // size)
    s = np.float32(0.5)
    triad(b, c, s, a, repeats)
    return 12 * length * threads * repeats / min(_seconds(lambda: triad(b, c, s, a, repeats)) for _ in range(rounds))


def _seconds(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
