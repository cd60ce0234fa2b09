"""NumPy's functions, as a step writes them down. What is not here cannot be compiled.

Each takes those of NumPy's arguments that it honours, under NumPy's names. `call` binds a call to NumPy's signature:
what a function here does not take must be at its default, or it is a CompileError.
"""

from __future__ import annotations

import functools
import inspect
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


def call(r: Recorder, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """np.function(*args, **kwargs), written down.

    CompileError: it is not known, or an argument would be dropped. TypeError: NumPy does not take these arguments.
    """
    name, known = function.__name__, FUNCTIONS.get(function.__name__)
    if known is None or not function.__module__.startswith("numpy"):
        raise r.error(f"calls np.{name}", "minidl.compile cannot write that down")
    takes = inspect.signature(known).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in takes.values()):
        return known(r, *args, **kwargs)
    try:
        bound = _signature(function, known).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    given = {**bound.arguments.pop("kwargs", {}), **bound.arguments}
    out = given.pop("out", None)
    for key, value in list(given.items()):
        if key not in takes:
            if not _is_default(key, value, bound.signature):
                raise r.error(f"calls np.{name} with {key}={value!r:.60}", f"leave {key} out, or compute it otherwise")
            del given[key]
        elif value is np._NoValue:
            del given[key]
    if out is None:
        return known(r, **given)
    check_out(r, f"np.{name}", out)
    if "dtype" in takes and given.get("dtype") is None and name not in ("concatenate", "stack"):
        given["dtype"] = out.dtype  # NumPy reduces in the dtype of what it writes to
    return store(r, out, known(r, **given), exact=name != "clip")


@functools.cache
def _signature(function: Callable[..., Any], known: Callable[..., Any]) -> inspect.Signature:
    """NumPy's, or where NumPy cannot tell (up to 2.3 of what is written in C), the known function's with an `out`."""
    try:
        return inspect.signature(function)
    except ValueError:
        own = inspect.signature(known)
        _, *parameters = own.parameters.values()
        kwargs = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
        return own.replace(parameters=[*parameters, kwargs])


def _is_default(key: str, value: Any, signature: inspect.Signature) -> bool:
    usual = {"subok": (True, False), "casting": ("same_kind",), "order": ("K", "C", "A", None), "where": (True,)}
    parameter = signature.parameters.get(key)
    default = None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default
    plain = value is None or isinstance(value, bool | str)
    return value is default or value is np._NoValue or (plain and value in (default, *usual.get(key, ())))


def check_out(r: Recorder, name: str, out: Any) -> None:
    """CompileError unless `out` is an array of the step."""
    if not isinstance(out, Traced):
        raise r.error(f"calls {name} with an out= that is not made in the step", "make it by np.empty_like(…, like=…)")


def store(r: Recorder, out: Traced, value: Any, exact: bool = True, casting: Any = "same_kind") -> Traced:
    """Write the value into `out`. ValueError: another shape. TypeError: the casting does not allow it."""
    value = r.operand(value)
    shape, dtype = np.shape(_plain(value)), np.asarray(_plain(value)).dtype
    if shape != out.shape and (exact or np.broadcast_shapes(shape, out.shape) != out.shape):
        raise ValueError(f"expected an out of shape {shape}, found {out.shape}")
    if not np.can_cast(dtype, out.dtype, casting):
        raise TypeError(f"expected an out that {dtype} can be cast to by {casting!r}, found {out.dtype}")
    r.write(out, value)
    return out


def _array(r: Recorder, x: Any) -> Traced:
    """`x` as a Traced array, constants too."""
    if isinstance(x, Traced):
        return x
    array = np.asarray(x)
    return r.constant(array) if array.ndim else full(r, (), array[()], array.dtype)


def _in_order(r: Recorder, order: Any) -> None:
    """CompileError for an order in memory that results of a step do not have."""
    if order not in ("C", "K", "A", None):
        raise r.error(f"asks for order={order!r}", "results of a step lie in C order")


# ------------------------------------------------------------------------- what is known of arrays


def _plain(x: Any) -> Any:
    if isinstance(x, Traced):
        return x.value
    return type(x)(map(_plain, x)) if isinstance(x, tuple | list) else x


for _name in ("shape", "ndim", "size", "result_type", "iscomplexobj", "may_share_memory", "can_cast"):
    FUNCTIONS[_name] = lambda r, *args, _name=_name, **kwargs: getattr(np, _name)(
        *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()}
    )

# ---------------------------------------------------------------------------------- new arrays


@_known
def empty(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    _in_order(r, order)
    made = r.buffer(shape, dtype)
    made.memory.readable = False
    return made


@_known
def empty_like(r: Recorder, prototype: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return empty(r, prototype.shape if shape is None else shape, dtype or prototype.dtype, order)


@_known
def full(r: Recorder, shape: Any, fill_value: Any, dtype: Any = None, order: Any = "C") -> Any:
    _in_order(r, order)
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


@_known
def zeros(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return full(r, shape, 0, dtype or float, order)


@_known
def ones(r: Recorder, shape: Any, dtype: Any = float, order: Any = "C") -> Any:
    return full(r, shape, 1, dtype or float, order)


@_known
def full_like(r: Recorder, a: Any, fill_value: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full(r, a.shape if shape is None else shape, fill_value, dtype or a.dtype, order)


@_known
def zeros_like(r: Recorder, a: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full_like(r, a, 0, dtype, order, shape)


@_known
def ones_like(r: Recorder, a: Any, dtype: Any = None, order: Any = "K", shape: Any = None) -> Any:
    return full_like(r, a, 1, dtype, order, shape)


@_known
def array(r: Recorder, object: Any, dtype: Any = None, copy: Any = True, order: Any = "K", ndmin: int = 0) -> Any:
    _in_order(r, order)
    x = _array(r, object)
    different = (dtype is not None and np.dtype(dtype) != x.dtype) or (order == "C" and not x.flags.c_contiguous)
    if different and copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    if different or copy:
        x = x.astype(x.dtype if dtype is None else dtype)
    return x if x.ndim >= ndmin else x.reshape((1,) * (ndmin - x.ndim) + x.shape)


@_known
def copy(r: Recorder, a: Any, order: Any = "K") -> Any:
    return array(r, a, order=order)


@_known
def asarray(r: Recorder, a: Any, dtype: Any = None, order: Any = None, copy: Any = None) -> Any:
    return array(r, a, dtype, copy, order)


@_known
def ascontiguousarray(r: Recorder, a: Any, dtype: Any = None) -> Any:
    return array(r, a, dtype, None, "C", ndmin=1)


FUNCTIONS["asanyarray"] = asarray

# ----------------------------------------------------------------------------- element by element


@_known
def where(r: Recorder, condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise r.error("calls np.where with a condition alone", "its result's shape depends on values; use ops.where")
    kinds = [v if type(v) in (int, float, bool) else _array(r, v) for v in (x, y)]
    weak = [type(v) if not isinstance(v, Traced) else v.dtype for v in kinds]
    dtype = np.dtype(bool) if weak == [bool, bool] else np.add.resolve_dtypes((weak[0], weak[1], None))[0]
    if all(d == np.dtype(bool) or d is bool for d in weak):
        dtype = np.dtype(bool)
    return r.map("where", (condition, x, y), dtype, [np.dtype(bool), dtype, dtype], "np.where({}, {}, {})")


@_known
def clip(r: Recorder, a: Any, a_min: Any = None, a_max: Any = None, min: Any = None, max: Any = None,
         dtype: Any = None) -> Any:  # fmt: skip
    if (a_min is not None or a_max is not None) and (min is not None or max is not None):
        raise ValueError("Passing `min` or `max` keyword argument when `a_min` and `a_max` are provided is forbidden.")
    low, high = a_min if min is None else min, a_max if max is None else max
    y = a if low is None else r.ufunc(np.maximum, (a, low), dtype)
    y = y if high is None else r.ufunc(np.minimum, (y, high), dtype)
    return array(r, y, dtype) if y is a else y


@_known
def copyto(r: Recorder, dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    check_out(r, "np.copyto", dst)
    src = r.operand(src)
    if isinstance(src, Traced | np.generic) and not np.can_cast(src.dtype, dst.dtype, casting):
        raise TypeError(f"expected an array that can be cast to {dst.dtype} by {casting!r}, found {src.dtype}")
    dst[...] = src if where is True else chosen(r, where, src, dst)


def chosen(r: Recorder, where: Any, value: Any, before: Traced) -> Any:
    """The value where the mask is True, what was before elsewhere, in its dtype."""
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
    """The reduction from `initial` on, of the elements where the mask is True."""
    a, keepdims = _array(r, a), bool(keepdims)
    if name in ("max", "min") and dtype is not None:
        a, dtype = a.astype(dtype, copy=False), None
    if where is not True:
        neutral = {"sum": 0, "mean": 0, "prod": 1, "any": False, "all": True}.get(name, initial)
        if neutral is None:
            raise ValueError(f"np.{name}: expected an `initial` beside a `where` mask, found none")
        mask = FUNCTIONS["broadcast_to"](r, _array(r, where), a.shape)
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


@_known
def argmax(r: Recorder, a: Any, axis: Any = None, keepdims: Any = False) -> Any:
    if axis is not None:
        return r.reduce("argmax", a, int(axis), bool(keepdims))
    found = r.reduce("argmax", _array(r, a).reshape(-1), 0)
    return found.reshape((1,) * a.ndim) if keepdims else found


def _scan(name: str) -> Callable[..., Any]:
    def function(r: Recorder, a: Any, axis: Any = None, dtype: Any = None) -> Any:
        return r.scan(name, a, axis, dtype)

    return function


FUNCTIONS["cumsum"], FUNCTIONS["cumprod"] = _scan("cumsum"), _scan("cumprod")

# ------------------------------------------------------------------------------------------ views


@_known
def reshape(r: Recorder, a: Any, shape: Any, order: Any = "C", copy: Any = None) -> Any:
    y = _array(r, a).reshape(shape, order=order)
    if copy is False and y.memory is not a.memory:
        raise ValueError("Unable to avoid creating a copy while reshaping.")
    return y.copy() if copy and y.memory is a.memory else y


@_known
def transpose(r: Recorder, a: Any, axes: Any = None) -> Any:
    return _array(r, a).transpose(*(() if axes is None else (tuple(axes),)))


def _view(name: str) -> Callable[..., Any]:
    def function(r: Recorder, x: Any, *args: Any, **kwargs: Any) -> Any:
        x = _array(r, x)
        value = getattr(np, name)(x.value, *args, **kwargs)
        written = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        return x._view(value, f"np.{name}({', '.join(['{}', *written])})")

    return function


for _name in ("swapaxes", "moveaxis", "expand_dims", "squeeze", "broadcast_to", "flip", "diagonal", "rollaxis"):
    FUNCTIONS[_name] = _view(_name)


@_known
def ravel(r: Recorder, a: Any, order: Any = "C") -> Any:
    return _array(r, a).reshape(-1, order=order)


def atleast_1d(r: Recorder, *arys: Any) -> Any:
    made = tuple(x if x.ndim else x.reshape(1) for x in (_array(r, a) for a in arys))
    return made[0] if len(made) == 1 else made


FUNCTIONS["atleast_1d"] = atleast_1d


@_known
def split(r: Recorder, ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    sizes = [part.shape[axis] for part in np.split(ary.value, indices_or_sections, axis)]
    cuts = list(indices_or_sections) if np.iterable(indices_or_sections) else np.cumsum(sizes)[:-1].tolist()
    ends = [0, *cuts, ary.shape[axis]]
    before = (slice(None),) * (axis % ary.ndim)
    return [ary[(*before, slice(a, b))] for a, b in itertools.pairwise(ends)]


@_known
def take(r: Recorder, a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    a = _array(r, a)
    a, axis = (a.reshape(-1), 0) if axis is None else (a, int(axis) % a.ndim)
    n = a.shape[axis]
    if mode in ("wrap", "clip"):
        indices = np.remainder(indices, n) if mode == "wrap" else np.minimum(np.maximum(indices, 0), n - 1)
    elif mode != "raise":
        raise ValueError(f"np.take: expected the mode 'raise', 'wrap' or 'clip', found {mode!r}")
    if isinstance(indices, int | np.integer):
        return a[(*(slice(None),) * axis, int(indices))]
    indices = indices if isinstance(indices, Traced) else np.asarray(indices, int)
    moved = FUNCTIONS["moveaxis"](r, a, axis, 0)[indices]
    rank = indices.ndim
    return FUNCTIONS["moveaxis"](r, moved, tuple(range(rank)), tuple(range(axis, axis + rank)))


# ------------------------------------------------------------------------- made of several arrays


def _common(r: Recorder, arrays: Any, dtype: Any, casting: Any) -> tuple[list[Traced], Any]:
    """(the arrays, their common dtype or the one asked for). TypeError: the casting does not allow that one."""
    made = [_array(r, x) for x in arrays]
    kind = np.result_type(*(x.dtype for x in made)) if dtype is None else np.dtype(dtype)
    for x in made:
        if not np.can_cast(x.dtype, kind, casting):
            raise TypeError(f"expected arrays that can be cast to {kind} by {casting!r}, found {x.dtype}")
    return made, kind


@_known
def concatenate(r: Recorder, arrays: Any, axis: Any = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
    arrays, kind = _common(r, arrays, dtype, casting)
    if axis is None:
        arrays, axis = [x.reshape(-1) for x in arrays], 0
    shape = np.concatenate([x.value for x in arrays], axis).shape
    axis = axis % len(shape)
    y = r.buffer(shape, kind)
    parts, at = [], 0
    for x in arrays:
        parts.append((y[(*(slice(None),) * axis, slice(at, at + x.shape[axis]))], x))
        at += x.shape[axis]
    arrays = [x for x in arrays if x.size] or arrays
    written = "" if dtype is None else f", dtype=np.{kind.name}, casting={casting!r}"
    template = f"np.concatenate(({', '.join(['{}'] * len(arrays))},), axis={axis}{written})"
    return r.copies(parts, y, template, arrays)


@_known
def stack(r: Recorder, arrays: Any, axis: int = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
    arrays, kind = _common(r, arrays, dtype, casting)
    shape = np.stack([x.value for x in arrays], axis).shape
    axis = axis % len(shape)
    y = r.buffer(shape, kind)
    parts = [(y[(*(slice(None),) * axis, i)], x) for i, x in enumerate(arrays)]
    written = "" if dtype is None else f", dtype=np.{kind.name}, casting={casting!r}"
    return r.copies(parts, y, f"np.stack(({', '.join(['{}'] * len(arrays))},), axis={axis}{written})", arrays)


@_known
def pad(r: Recorder, array: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Any:
    if mode != "constant" or np.ndim(constant_values) or isinstance(constant_values, Traced):
        raise r.error(f"pads with {mode} {constant_values!r}", "only one constant can be written down")
    probe = np.pad(np.empty(array.shape, bool), pad_width)  # for NumPy's reading of the widths, and its errors
    widths = _widths(pad_width, array.ndim)
    y = r.buffer(probe.shape, array.dtype)
    inner = tuple(slice(a, a + n) for n, (a, _) in zip(array.shape, widths, strict=True))
    template = f"np.pad({{}}, {widths}, constant_values={constant_values!r})"
    return r.copies([(y, array.dtype.type(constant_values)), (y[inner], array)], y, template, [array])


def _widths(pad_width: Any, ndim: int) -> list[list[int]]:
    """(before, after) for each axis."""
    if isinstance(pad_width, dict):
        named = {axis % ndim: width for axis, width in pad_width.items()}
        return [np.broadcast_to(named.get(axis, 0), 2).tolist() for axis in range(ndim)]
    return [list(map(int, w)) for w in np.broadcast_to(pad_width, (ndim, 2)).tolist()]


@_known
def roll(r: Recorder, a: Any, shift: Any, axis: Any = None) -> Any:
    x = a
    if axis is None:
        return roll(r, x.reshape(-1), shift, 0).reshape(x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for s, axis in zip(shifts.reshape(-1).tolist(), axes.reshape(-1).tolist(), strict=True):
        n = x.shape[axis]
        s = s % n if n else 0
        y, before = r.buffer(x.shape, x.dtype), (slice(None),) * (axis % x.ndim)
        parts = [(y[(*before, slice(s, n))], x[(*before, slice(0, n - s))])]
        parts += [(y[(*before, slice(0, s))], x[(*before, slice(n - s, n))])] if s else []
        x = r.copies(parts, y, f"np.roll({{}}, {s}, axis={axis})", [x])
    return x


@_known
def take_along_axis(r: Recorder, arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, int(axis) % arr.ndim)
    shape = np.shape(_plain(indices))
    grid = list(np.ogrid[tuple(slice(n) for n in shape)])
    return arr[tuple(indices if i == axis else np.broadcast_to(g, shape) for i, g in enumerate(grid))]


def _refused(name: str) -> Callable[..., Any]:
    def function(r: Recorder, *_: Any, **__: Any) -> Any:
        raise r.error(f"calls np.{name}", f"use minidl.ops.{name}, which can be compiled")

    return function


for _name in ("matmul", "einsum", "outer"):
    FUNCTIONS[_name] = _refused(_name)
