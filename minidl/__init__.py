"""minidl: a deep-learning engine from scratch, on NumPy and Numba. Start with `minidl.tensor`.

The docstring examples assume these imports:

    import numpy as np
    import minidl
    from minidl import checkpoint, data, metrics, nn, ops, optim, train
    from minidl.train import callbacks
"""

from importlib import import_module
from typing import Any

from minidl import data, jit, nn, ops, optim, random
from minidl.gradcheck import gradcheck
from minidl.jit import get_num_threads, kernel, set_num_threads
from minidl.random import manual_seed
from minidl.tensor import Tensor, no_grad, op

__version__ = "0.1.0"

# Imported on first use: few programs use all of them.
_NAMES = {"CompileError": "compiler", "compile": "compiler", "explain": "explanation", "summary": "overview"}
_MODULES = ("checkpoint", "metrics", "models", "report", "search", "sklearn", "train", "warmup", "watch")

__all__ = [
    "CompileError",
    "Tensor",
    "checkpoint",
    "compile",
    "data",
    "explain",
    "get_num_threads",
    "gradcheck",
    "jit",
    "kernel",
    "manual_seed",
    "metrics",
    "models",
    "nn",
    "no_grad",
    "op",
    "ops",
    "optim",
    "random",
    "report",
    "search",
    "set_num_threads",
    "summary",
    "train",
    "warmup",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"minidl.{_NAMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"minidl.{name}")
    raise AttributeError(f"module 'minidl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
