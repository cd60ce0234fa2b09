"""NumPy's functions that rearrange elements: views, parts, and arrays put together from several."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.binding import FUNCTIONS, known, plain, traced
from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import Traced

# ------------------------------------------------------------------------------------------ views


@known
def reshape(r: Recorder, a: Any, shape: Any, order: Any = "C", copy: Any = None) -> Any:
    y = traced(r, a).reshape(shape, order=order)
    if copy is False and y.memory is not a.memory:
        raise ValueError("Unable to avoid creating a copy while reshaping.")
    return y.copy() if copy and y.memory is a.memory else y


@known
def transpose(r: Recorder, a: Any, axes: Any = None) -> Any:
    return traced(r, a).transpose(*(() if axes is None else (tuple(axes),)))


def _view(name: str) -> Callable[..., Any]:
    def function(r: Recorder, x: Any, *args: Any, **kwargs: Any) -> Any:
        x = traced(r, x)
        value = getattr(np, name)(x.value, *args, **kwargs)
        written = [repr(a) for a in args] + [f"{k}={v!r}" for k, v in kwargs.items()]
        return x._view(value, f"np.{name}({', '.join(['{}', *written])})")

    return function


for _name in ("swapaxes", "moveaxis", "expand_dims", "squeeze", "broadcast_to", "flip", "diagonal", "rollaxis"):
    FUNCTIONS[_name] = _view(_name)


@known
def ravel(r: Recorder, a: Any, order: Any = "C") -> Any:
    return traced(r, a).reshape(-1, order=order)


def atleast_1d(r: Recorder, *arys: Any) -> Any:
    made = tuple(x if x.ndim else x.reshape(1) for x in (traced(r, a) for a in arys))
    return made[0] if len(made) == 1 else made


FUNCTIONS["atleast_1d"] = atleast_1d


@known
def split(r: Recorder, ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    sizes = [part.shape[axis] for part in np.split(ary.value, indices_or_sections, axis)]
    cuts = list(indices_or_sections) if np.iterable(indices_or_sections) else np.cumsum(sizes)[:-1].tolist()
    ends = [0, *cuts, ary.shape[axis]]
    before = (slice(None),) * (axis % ary.ndim)
    return [ary[(*before, slice(a, b))] for a, b in itertools.pairwise(ends)]


@known
def take(r: Recorder, a: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    a = traced(r, a)
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
    """(the arrays, their common dtype or the one asked for). TypeError: `casting` does not allow that one."""
    made = [traced(r, x) for x in arrays]
    kind = np.result_type(*(x.dtype for x in made)) if dtype is None else np.dtype(dtype)
    for x in made:
        if not np.can_cast(x.dtype, kind, casting):
            raise TypeError(f"expected arrays that can be cast to {kind} by {casting!r}, found {x.dtype}")
    return made, kind


@known
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


@known
def stack(r: Recorder, arrays: Any, axis: int = 0, dtype: Any = None, casting: Any = "same_kind") -> Any:
    arrays, kind = _common(r, arrays, dtype, casting)
    shape = np.stack([x.value for x in arrays], axis).shape
    axis = axis % len(shape)
    y = r.buffer(shape, kind)
    parts = [(y[(*(slice(None),) * axis, i)], x) for i, x in enumerate(arrays)]
    written = "" if dtype is None else f", dtype=np.{kind.name}, casting={casting!r}"
    return r.copies(parts, y, f"np.stack(({', '.join(['{}'] * len(arrays))},), axis={axis}{written})", arrays)


@known
def pad(r: Recorder, array: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Any:
    if mode != "constant" or np.ndim(constant_values) or isinstance(constant_values, Traced):
        raise r.error(f"pads with {mode} {constant_values!r}", "only one constant can be written down")
    probe = np.pad(np.empty(array.shape, bool), pad_width)  # NumPy interprets the widths and raises its errors
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


@known
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


@known
def take_along_axis(r: Recorder, arr: Any, indices: Any, axis: Any = -1) -> Any:
    arr, axis = (arr.reshape(-1), 0) if axis is None else (arr, int(axis) % arr.ndim)
    shape = np.shape(plain(indices))
    grid = list(np.ogrid[tuple(slice(n) for n in shape)])
    return arr[tuple(indices if i == axis else np.broadcast_to(g, shape) for i, g in enumerate(grid))]
