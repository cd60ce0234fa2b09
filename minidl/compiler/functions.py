"""How a step records NumPy's functions. Those in FUNCTIONS, here and in `arrangements`, can be compiled.

Each takes the NumPy arguments that it honours, under NumPy's names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler import ufuncs
from minidl.compiler.binding import FUNCTIONS, check_out, in_order, known, plain, traced
from minidl.compiler.numbers import kind
from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import Traced

# ------------------------------------------------------------------------- what is known of arrays


for _name in ("shape", "ndim", "size", "result_type", "iscomplexobj", "may_share_memory", "can_cast"):
    FUNCTIONS[_name] = lambda r, *args, _name=_name, **kwargs: getattr(np, _name)(
        *map(plain, args), **{k: plain(v) for k, v in kwargs.items()}
    )

# ---------------------------------------------------------------------------------- new arrays


@known
def empty(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    in_order(r, order)
    made = r.buffer(shape, dtype)
    made.memory.readable = False
    return made


@known
def empty_like(r: Recorder, prototype: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return empty(r, prototype.shape if shape is None else shape, dtype or prototype.dtype, order)


@known
def full(r: Recorder, shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> Any:
    in_order(r, order)
    shape = tuple(shape) if np.iterable(shape) else (int(shape),)
    value: Any = fill_value if isinstance(fill_value, Traced) else np.asarray(fill_value)
    kind = value.dtype if dtype is None else np.dtype(dtype)
    size = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
    if isinstance(value, Traced) or value.ndim:
        return r.map(f"full{size}", (value,), kind, [value.dtype], f"np.full({size}, {{}}, np.{kind.name})", shape)
    value = kind.type(value[()])
    name = {0: "zeros", 1: "ones"}.get(value) if kind.kind != "f" or not np.signbit(value) else None
    template = f"np.{name}({size}, np.{kind.name})" if name else f"np.full({size}, {{}}, np.{kind.name})"
    return r.map(f"full{size}", (value,), kind, [kind], template, shape)


@known
def zeros(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return full(r, shape, 0, dtype or float, order)


@known
def ones(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return full(r, shape, 1, dtype or float, order)


@known
def full_like(r: Recorder, a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full(r, a.shape if shape is None else shape, fill_value, dtype or a.dtype, order)


@known
def zeros_like(r: Recorder, a: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full_like(r, a, 0, dtype, order, shape)


@known
def ones_like(r: Recorder, a: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full_like(r, a, 1, dtype, order, shape)


@known
def array(r: Recorder, object: Any, dtype: Any = None, copy: Any = True, order: Any = "K", ndmin: int = 0) -> Any:
    in_order(r, order)
    x = traced(r, object)
    different = (dtype is not None and np.dtype(dtype) != x.dtype) or (order == "C" and not x.flags.c_contiguous)
    if different and copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    if different or copy:
        x = x.astype(x.dtype if dtype is None else dtype)
    return x if x.ndim >= ndmin else x.reshape((1,) * (ndmin - x.ndim) + x.shape)


@known
def copy(r: Recorder, a: Any, order: Any = "K") -> Any:
    return array(r, a, order=order)


@known
def asarray(r: Recorder, a: Any, dtype: Any = None, order: Any = None, copy: Any = None) -> Any:
    return array(r, a, dtype, copy, order)


@known
def ascontiguousarray(r: Recorder, a: Any, dtype: Any = None) -> Any:
    return array(r, a, dtype, None, "C", ndmin=1)


FUNCTIONS["asanyarray"] = asarray

# ----------------------------------------------------------------------------- element by element


@known
def where(r: Recorder, condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise r.error("calls np.where with a condition alone", "its result's shape depends on values; use ops.where")
    weak = [kind(r.operand(v)) for v in (x, y)]
    both = all(d == np.dtype(bool) for d in weak)
    dtype = np.dtype(bool) if both else np.add.resolve_dtypes((weak[0], weak[1], None))[0]
    return r.map("where", (condition, x, y), dtype, [np.dtype(bool), dtype, dtype], "np.where({}, {}, {})")


@known
def clip(r: Recorder, a: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None,
         dtype: Any = None) -> Any:  # fmt: skip
    if (a_min is not None or a_max is not None) and (min is not None or max is not None):
        raise ValueError("Passing `min` or `max` keyword argument when `a_min` and `a_max` are provided is forbidden.")
    low, high = a_min if min is None else min, a_max if max is None else max
    y = a if low is None else ufuncs.ufunc(r, np.maximum, (a, low), dtype)
    y = y if high is None else ufuncs.ufunc(r, np.minimum, (y, high), dtype)
    return array(r, y, dtype) if y is a else y


@known
def copyto(r: Recorder, dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    check_out(r, "np.copyto", dst)
    src = r.operand(src)
    if isinstance(src, Traced | np.generic) and not np.can_cast(src.dtype, dst.dtype, casting):
        raise TypeError(f"expected an array that can be cast to {dst.dtype} by {casting!r}, found {src.dtype}")
    dst[...] = src if where is True else chosen(r, where, src, dst)


def chosen(r: Recorder, where: Any, value: Any, before: Traced) -> Any:
    """The value where the mask is True, `before` elsewhere, in the dtype of `before`."""
    value = value.astype(before.dtype) if isinstance(value, Traced) else before.dtype.type(value)
    return FUNCTIONS["where"](r, where, value, before)


# ------------------------------------------------------------------------------------- reductions


def _reduction(name: str) -> Callable[..., Any]:
    def function(r: Recorder, a: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False,
                 initial: Any = None, where: Any = True) -> Any:  # fmt: skip
        return reduced(r, name, a, axis, keepdims, dtype, initial, where)

    return function


def reduced(r: Recorder, name: str, a: Any, axis: Any, keepdims: Any = False, dtype: Any = None, initial: Any = None,
            where: Any = True) -> Any:  # fmt: skip
    """The reduction, starting from `initial`, of the elements where the mask is True."""
    a, keepdims = traced(r, a), bool(keepdims)
    if name in ("max", "min") and dtype is not None:
        a, dtype = a.astype(dtype, copy=False), None
    if where is not True:
        neutral = {"sum": 0, "mean": 0, "prod": 1, "any": False, "all": True}.get(name, initial)
        if neutral is None:
            raise ValueError(f"np.{name}: expected an `initial` beside a `where` mask, found none")
        mask = FUNCTIONS["broadcast_to"](r, traced(r, where), a.shape)
        a = FUNCTIONS["where"](r, mask, a, a.dtype.type(neutral))
        if name == "mean":
            total, count = (r.reduce("sum", v, axis, keepdims, d) for v, d in ((a, dtype), (mask, None)))
            return total / count
    if isinstance(initial, Traced):
        raise r.error(f"calls np.{name} with an initial that is only known when it runs", "add it afterwards")
    return r.reduce(name, a, axis, keepdims, dtype, initial)


for _name in ("sum", "prod", "mean"):
    FUNCTIONS[_name] = _reduction(_name)
for _name in ("max", "min"):
    FUNCTIONS[_name] = _reduction(_name)
FUNCTIONS["amax"], FUNCTIONS["amin"] = FUNCTIONS["max"], FUNCTIONS["min"]


def _choice(name: str) -> Callable[..., Any]:
    def function(r: Recorder, a: Any, axis: Any = None, keepdims: Any = False, where: Any = True) -> Any:
        return reduced(r, name, a, axis, keepdims, where=where)

    return function


FUNCTIONS["any"], FUNCTIONS["all"] = _choice("any"), _choice("all")


@known
def argmax(r: Recorder, a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    if axis is not None:
        return r.reduce("argmax", a, int(axis), bool(keepdims))
    found = r.reduce("argmax", traced(r, a).reshape(-1), 0)
    return found.reshape((1,) * a.ndim) if keepdims else found


def _scan(name: str) -> Callable[..., Any]:
    def function(r: Recorder, a: Any, axis: Any = None, dtype: Any = None) -> Any:
        return r.scan(name, a, axis, dtype)

    return function


FUNCTIONS["cumsum"], FUNCTIONS["cumprod"] = _scan("cumsum"), _scan("cumprod")


def _refused(name: str) -> Callable[..., Any]:
    def function(r: Recorder, *_: Any, **__: Any) -> Any:
        raise r.error(f"calls np.{name}", f"use minidl.ops.{name}, which can be compiled")

    return function


for _name in ("matmul", "einsum", "outer"):
    FUNCTIONS[_name] = _refused(_name)
