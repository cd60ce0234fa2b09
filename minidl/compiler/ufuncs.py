"""NumPy's elementwise functions, in NumPy's dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minidl.compiler.numbers import Number, kind
from minidl.compiler.numpy_loops import FUSED, has_loop
from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import SYMBOLS, Traced


def ufunc(r: Recorder, ufunc: np.ufunc, inputs: Sequence[Any], dtype: Any = None, casting: Any = "same_kind") -> Any:
    """Record NumPy's ufunc of these, in NumPy's dtypes, by NumPy's own loop where rounding may differ."""
    values = [r.operand(x) for x in inputs]
    kinds = [kind(x) for x in values]
    if all(isinstance(k, type) for k in kinds):  # from Python ints alone NumPy could make objects
        kinds = list(map(np.dtype, kinds))
    if ufunc.signature is not None:
        raise r.error(f"calls np.{ufunc.__name__}", f"use minidl.ops.{ufunc.__name__}, which can be compiled")
    asked: Any = {} if dtype is None else {"signature": (None,) * ufunc.nin + (np.dtype(dtype),)}
    types = ufunc.resolve_dtypes((*kinds, None), casting=casting, **asked)
    types = _wide_enough(ufunc, values, types)
    name = {"absolute": "abs", "true_divide": "divide"}.get(ufunc.__name__, ufunc.__name__)
    if dtype is not None:
        template = f"np.{name}({', '.join(['{}'] * ufunc.nin)}, dtype=np.{types[-1].name}, casting={casting!r})"
    elif name == "abs" and kind(values[0]) in (int, float):
        template = "abs({})"
    elif name in SYMBOLS:
        template = f"{{}} {SYMBOLS[name]} {{}}"
    elif name == "negative":
        template = "-{}"
    else:
        template = f"np.{name}({', '.join(['{}'] * ufunc.nin)})"
    product = name == "power" and not isinstance(values[1], Traced) and values[1] in (1, 2)
    if name in FUSED or product:
        return r.map(name, values, types[-1], types[:-1], template)
    if getattr(np, name, None) is not ufunc or not has_loop(ufunc, types):
        found = " and ".join(k.__name__ if isinstance(k, type) else k.name for k in kinds)
        raise r.error(f"calls np.{name} of {found}", "minidl.compile cannot write that down")
    if name == "power" and types[-1].kind in "iu":
        r.require(_all(values[1] >= 0), "Integers to negative integer powers are not allowed.")
    values = [
        v.astype(t) if isinstance(v, Traced) and v.dtype != t else v for v, t in zip(values, types[:-1], strict=True)
    ]
    return r.map(name, values, types[-1], types[:-1], template, numpy=True)


def _wide_enough(ufunc: np.ufunc, values: list[Any], types: Any) -> Any:
    """The dtypes, if Python's ints fit them. OverflowError otherwise, as in NumPy, except for comparisons."""
    for v, t in zip(values, types, strict=False):
        if type(v) is Number and v.python is int and t.kind in "iu" and t != np.int64:
            v.item()  # whether it fits depends on its value
        if type(v) is int and t.kind in "iu":
            try:
                t.type(v)
            except OverflowError:
                if types[-1].kind != "b":
                    raise
                return (np.dtype(np.int64),) * ufunc.nin + types[-1:]
    return types


def _all(holds: Any) -> Any:
    return holds.all() if isinstance(holds, Traced) else bool(np.all(holds))
