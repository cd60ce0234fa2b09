"""Kernels: plain loops that Numba compiles when they are first called, on one thread pool, cached on disk.

`KERNELS` lists them by name. See `minidl.jit.kernel` for how to write one, `minidl.jit.pool` for threads.
"""

from minidl.jit.environment import interpreted
from minidl.jit.kernel import KERNELS, REPLACED, Kernel, kernel, prange
from minidl.jit.pool import get_num_threads, set_num_threads

__all__ = ["KERNELS", "REPLACED", "Kernel", "get_num_threads", "interpreted", "kernel", "prange", "set_num_threads"]
