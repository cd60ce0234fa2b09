"""minidl: a deep-learning engine from scratch, on NumPy and Numba. Start with `minidl.tensor`."""

from typing import Any

from minidl import data, nn, ops, optim
from minidl.gradcheck import gradcheck
from minidl.jit import get_num_threads, kernel, set_num_threads
from minidl.random import manual_seed
from minidl.tensor import Tensor, no_grad, op

__version__ = "0.1.0"

__all__ = [
    "CompileError",
    "Tensor",
    "compile",
    "data",
    "get_num_threads",
    "gradcheck",
    "kernel",
    "manual_seed",
    "nn",
    "no_grad",
    "op",
    "ops",
    "optim",
    "set_num_threads",
]


def __getattr__(name: str) -> Any:
    if name in ("CompileError", "compile"):  # imported when it is first asked for: few programs do
        from minidl import compiler

        return getattr(compiler, name)
    raise AttributeError(f"module 'minidl' has no attribute {name!r}")
