"""NumPy's functions, as a step writes them down. What is not here cannot be compiled."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import Traced

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def _known(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


def _array(r: Recorder, x: Any) -> Traced:
    """`x` as a Traced array, constants too."""
    if isinstance(x, Traced):
        return x
    array = np.asarray(x)
    return r.constant(array) if array.ndim else full(r, (), array[()], array.dtype)


# ------------------------------------------------------------------------- what is known of arrays


def _plain(x: Any) -> Any:
    if isinstance(x, Traced):
        return x.value
    return type(x)(map(_plain, x)) if isinstance(x, tuple | list) else x


for _name in (
    "shape",
    "ndim",
    "size",
    "result_type",
    "iscomplexobj",
    "may_share_memory",
    "can_cast",
    "min_scalar_type",
):
    FUNCTIONS[_name] = lambda r, *args, _name=_name, **kwargs: getattr(np, _name)(
        *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()}
    )

# ---------------------------------------------------------------------------------- new arrays


@_known
def empty(r: Recorder, shape: Any, dtype: Any = float, order: str = "C", like: Any = None) -> Any:
    made = r.buffer(shape, dtype)
    made.memory.readable = False
    return made


@_known
def empty_like(r: Recorder, x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None) -> Any:
    return empty(r, x.shape if shape is None else shape, dtype or x.dtype)


@_known
def full(r: Recorder, shape: Any, value: Any, dtype: Any = None, order: str = "C", like: Any = None) -> Any:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    kind = (
        np.dtype(dtype) if dtype is not None else value.dtype if isinstance(value, Traced) else np.asarray(value).dtype
    )
    if not isinstance(value, Traced):
        value = kind.type(value)
    name = {0: "zeros", 1: "ones"}.get(value) if not isinstance(value, Traced) else None
    size = f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"
    if name:
        return r.map(f"full{size}", (value,), kind, [kind], f"np.{name}({size}, np.{kind.name})", shape)
    return r.map(f"full{size}", (value,), kind, [value.dtype], f"np.full({size}, {{}}, np.{kind.name})", shape)


@_known
def zeros(r: Recorder, shape: Any, dtype: Any = float, order: str = "C", like: Any = None) -> Any:
    return full(r, shape, 0, dtype)


@_known
def ones(r: Recorder, shape: Any, dtype: Any = float, order: str = "C", like: Any = None) -> Any:
    return full(r, shape, 1, dtype)


def _like(value: Any) -> Callable[..., Traced]:
    def function(
        r: Recorder, x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None
    ) -> Any:
        return full(r, x.shape if shape is None else shape, value, dtype or x.dtype)

    return function


FUNCTIONS["zeros_like"], FUNCTIONS["ones_like"] = _like(0), _like(1)


@_known
def full_like(r: Recorder, x: Any, value: Any, dtype: Any = None, shape: Any = None, **_: Any) -> Any:
    return full(r, x.shape if shape is None else shape, value, dtype or x.dtype)


def array(
    r: Recorder, x: Any, dtype: Any = None, copy: Any = True, order: str = "K", like: Any = None, **_: Any
) -> Any:
    x = _array(r, x)
    if dtype is not None and np.dtype(dtype) != x.dtype:
        return x.astype(dtype)
    return x.copy() if copy else x


FUNCTIONS["array"], FUNCTIONS["copy"] = array, array
FUNCTIONS["asarray"] = lambda r, x, dtype=None, **kwargs: array(r, x, dtype, copy=False)
FUNCTIONS["asanyarray"] = FUNCTIONS["ascontiguousarray"] = FUNCTIONS["asarray"]

# ----------------------------------------------------------------------------- element by element


@_known
def where(r: Recorder, condition: Any, a: Any = None, b: Any = None) -> Any:
    if a is None or b is None:
        raise r.error("calls np.where with a condition alone", "its result's shape depends on values; use ops.where")
    kinds = [x if type(x) in (int, float, bool) else _array(r, x) for x in (a, b)]
    weak = [type(x) if not isinstance(x, Traced) else x.dtype for x in kinds]
    dtype = np.dtype(bool) if weak == [bool, bool] else np.add.resolve_dtypes((weak[0], weak[1], None))[0]
    if all(d == np.dtype(bool) or d is bool for d in weak):
        dtype = np.dtype(bool)
    return r.map("where", (condition, a, b), dtype, [np.dtype(bool), dtype, dtype], "np.where({}, {}, {})")


@_known
def clip(r: Recorder, x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = a_min if min is None else min, a_max if max is None else max
    y = x if low is None else r.ufunc(np.maximum, (x, low))
    return y if high is None else r.ufunc(np.minimum, (y, high))


@_known
def copyto(r: Recorder, dst: Traced, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    dst[...] = src if where is True else FUNCTIONS["where"](r, where, src, dst)


# ------------------------------------------------------------------------------------- reductions


def _reduction(name: str) -> Callable[..., Any]:
    def function(
        r: Recorder, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
    ) -> Any:
        return r.reduce(name, x, axis, keepdims, dtype)

    return function


def _plain_reduction(name: str) -> Callable[..., Any]:
    def function(r: Recorder, x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
        return r.reduce(name, x, axis, keepdims)

    return function


for _name in ("sum", "mean", "prod"):
    FUNCTIONS[_name] = _reduction(_name)
for _name in ("max", "min", "any", "all", "argmax"):
    FUNCTIONS[_name] = _plain_reduction(_name)
FUNCTIONS["amax"], FUNCTIONS["amin"] = FUNCTIONS["max"], FUNCTIONS["min"]
FUNCTIONS["cumsum"] = lambda r, x, axis=None, dtype=None, out=None: r.scan("cumsum", x, axis, dtype)
FUNCTIONS["cumprod"] = lambda r, x, axis=None, dtype=None, out=None: r.scan("cumprod", x, axis, dtype)

# ------------------------------------------------------------------------------------------ views


@_known
def reshape(r: Recorder, x: Any, shape: Any, order: str = "C", **_: Any) -> Any:
    return _array(r, x).reshape(shape, order=order)


@_known
def transpose(r: Recorder, x: Any, axes: Any = None) -> Any:
    return _array(r, x).transpose(*(() if axes is None else (tuple(axes),)))


def _view(name: str) -> Callable[..., Any]:
    def function(r: Recorder, x: Any, *args: Any, **kwargs: Any) -> Any:
        value = getattr(np, name)(x.value, *args, **kwargs)
        written = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        return x._view(value, f"np.{name}({', '.join(['{}', *written])})")

    return function


for _name in ("swapaxes", "moveaxis", "expand_dims", "squeeze", "broadcast_to", "flip", "diagonal", "rollaxis"):
    FUNCTIONS[_name] = _view(_name)
FUNCTIONS["ravel"] = lambda r, x, order="C": x.reshape(-1, order=order)
FUNCTIONS["atleast_1d"] = lambda r, x: x.reshape(1) if x.ndim == 0 else x


@_known
def split(r: Recorder, x: Traced, sections: Any, axis: int = 0) -> list[Any]:
    n = x.shape[axis]
    cuts = np.arange(1, sections) * (n // sections) if isinstance(sections, int) else np.asarray(sections)
    before = (slice(None),) * (axis % x.ndim)
    ends = [0, *cuts.tolist(), n]
    return [x[(*before, slice(a, b))] for a, b in itertools.pairwise(ends)]


@_known
def take(r: Recorder, x: Traced, index: Any, axis: Any = None, **_: Any) -> Any:
    if axis is None:
        return x.reshape(-1)[index]
    if isinstance(index, int | np.integer):
        return x[(*(slice(None),) * (axis % x.ndim), int(index))]
    moved = FUNCTIONS["moveaxis"](r, x, axis, 0)[index]
    rank = np.ndim(_plain(index))
    return FUNCTIONS["moveaxis"](r, moved, tuple(range(rank)), tuple(range(axis % x.ndim, axis % x.ndim + rank)))


# ------------------------------------------------------------------------- made of several arrays


@_known
def concatenate(r: Recorder, arrays: Any, axis: Any = 0, **_: Any) -> Any:
    arrays = [_array(r, x) for x in arrays]
    if axis is None:
        arrays, axis = [x.reshape(-1) for x in arrays], 0
    shape = np.concatenate([x.value for x in arrays], axis).shape
    axis = axis % len(shape)
    y = r.buffer(shape, np.result_type(*(x.dtype for x in arrays)))
    parts, at = [], 0
    for x in arrays:
        parts.append((y[(*(slice(None),) * axis, slice(at, at + x.shape[axis]))], x))
        at += x.shape[axis]
    arrays = [x for x in arrays if x.size] or arrays
    return r.copies(parts, y, f"np.concatenate(({', '.join(['{}'] * len(arrays))},), axis={axis})", arrays)


@_known
def stack(r: Recorder, arrays: Any, axis: int = 0, **_: Any) -> Any:
    arrays = [_array(r, x) for x in arrays]
    shape = np.stack([x.value for x in arrays], axis).shape
    axis = axis % len(shape)
    y = r.buffer(shape, np.result_type(*(x.dtype for x in arrays)))
    parts = [(y[(*(slice(None),) * axis, i)], x) for i, x in enumerate(arrays)]
    return r.copies(parts, y, f"np.stack(({', '.join(['{}'] * len(arrays))},), axis={axis})", arrays)


@_known
def pad(r: Recorder, x: Traced, pad_width: Any, mode: str = "constant", constant_values: Any = 0) -> Any:
    if mode != "constant" or np.ndim(constant_values):
        raise r.error(f"pads with {mode} {constant_values!r}", "only one constant can be written down")
    widths = np.broadcast_to(pad_width, (x.ndim, 2)).tolist()
    y = r.buffer(tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)), x.dtype)
    inner = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))
    template = f"np.pad({{}}, {widths}, constant_values={constant_values!r})"
    return r.copies([(y, x.dtype.type(constant_values)), (y[inner], x)], y, template, [x])


@_known
def roll(r: Recorder, x: Traced, shift: Any, axis: Any = None) -> Any:
    if axis is None:
        return roll(r, x.reshape(-1), shift, 0).reshape(x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for s, a in zip(shifts.reshape(-1).tolist(), axes.reshape(-1).tolist(), strict=True):
        n = x.shape[a]
        s = s % n if n else 0
        y, before = r.buffer(x.shape, x.dtype), (slice(None),) * (a % x.ndim)
        parts = [(y[(*before, slice(s, n))], x[(*before, slice(0, n - s))])]
        parts += [(y[(*before, slice(0, s))], x[(*before, slice(n - s, n))])] if s else []
        x = r.copies(parts, y, f"np.roll({{}}, {s}, axis={a})", [x])
    return x


@_known
def take_along_axis(r: Recorder, x: Traced, index: Any, axis: int = -1) -> Any:
    axis = axis % x.ndim
    grid = list(np.ogrid[tuple(slice(n) for n in np.shape(_plain(index)))])
    return x[tuple(index if i == axis else np.broadcast_to(g, np.shape(_plain(index))) for i, g in enumerate(grid))]


def _refused(name: str) -> Callable[..., Any]:
    def function(r: Recorder, *_: Any, **__: Any) -> Any:
        raise r.error(f"calls np.{name}", f"use minidl.ops.{name}, which can be compiled")

    return function


for _name in ("matmul", "einsum", "outer"):
    FUNCTIONS[_name] = _refused(_name)
