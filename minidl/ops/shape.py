"""Ops that move elements without changing them; gradients go back to where the elements came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minidl.ops.elementwise import Result
from minidl.tensor import Array, ArrayLike, Tensor, as_array, op

Axes = int | Sequence[int]


@op
def reshape(x: ArrayLike, shape: Axes) -> Result:
    """y = the elements of x, in C order, in another shape; one −1 is worked out.   dL/dx = dL/dy in x's shape"""
    x = as_array(x)
    return np.reshape(x, shape), (lambda dy: np.reshape(dy, x.shape),)


@op
def transpose(x: ArrayLike, axes: Sequence[int] | None = None) -> Result:
    """y = x with its axes in this order (None: reversed).   dL/dx = dL/dy with the inverse order"""
    if axes is None:
        return np.transpose(x), (lambda dy: np.transpose(dy),)
    order = np.lib.array_utils.normalize_axis_tuple(axes, np.ndim(x), "axes")
    return np.transpose(x, order), (lambda dy: np.transpose(dy, np.argsort(order)),)


@op
def swapaxes(x: ArrayLike, axis1: int, axis2: int) -> Result:
    """y = x with two axes exchanged.   dL/dx = dL/dy with them exchanged"""
    return np.swapaxes(x, axis1, axis2), (lambda dy: np.swapaxes(dy, axis1, axis2),)


@op
def moveaxis(x: ArrayLike, source: Axes, destination: Axes) -> Result:
    """y = x with axes moved to new places, the others in order.   dL/dx = dL/dy with them moved back"""
    return np.moveaxis(x, source, destination), (lambda dy: np.moveaxis(dy, destination, source),)


@op
def expand_dims(x: ArrayLike, axis: Axes) -> Result:
    """y = x with axes of size 1 put in.   dL/dx = dL/dy without them"""
    x = as_array(x)
    return np.expand_dims(x, axis), (lambda dy: np.reshape(dy, x.shape),)


@op
def squeeze(x: ArrayLike, axis: Axes | None = None) -> Result:
    """y = x without these axes of size 1 (None: all such).   dL/dx = dL/dy with them      ValueError for other sizes"""
    x = as_array(x)
    return np.squeeze(x, axis), (lambda dy: np.reshape(dy, x.shape),)


@op
def broadcast_to(x: ArrayLike, shape: Axes) -> Result:
    """y = x repeated to this shape.   dL/dx = dL/dy summed over the repetitions"""
    return np.broadcast_to(x, shape), (lambda dy: dy,)  # the engine sums: any op may broadcast


@op(lists=("arrays",))
def concatenate(arrays: Sequence[ArrayLike], axis: int = 0) -> Result:
    """y = the arrays one after another along an axis they have.   dL/dxᵢ = its part of dL/dy"""
    y = np.concatenate(_several(arrays), axis)
    ends = np.cumsum([np.shape(x)[axis] for x in arrays])

    def part(start: int, end: int) -> Any:
        index = [slice(None)] * y.ndim
        index[axis] = slice(start, end)
        return lambda dy: dy[tuple(index)]

    return y, tuple(part(end - np.shape(x)[axis], end) for x, end in zip(arrays, ends, strict=True))


@op(lists=("arrays",))
def stack(arrays: Sequence[ArrayLike], axis: int = 0) -> Result:
    """y = the arrays, all of one shape, one after another along a new axis.   dL/dxᵢ = its part of dL/dy"""
    y = np.stack(_several(arrays), axis)
    return y, tuple(lambda dy, i=i: np.take(dy, i, axis) for i in range(len(arrays)))


def _several(arrays: Any) -> Any:
    """TypeError unless this is a list or tuple: each element has its own gradient."""
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"expected a list or tuple of arrays, found one {type(arrays).__name__}")
    return arrays


def split(x: ArrayLike, sections_or_indices: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x split into equal sections, or before the given indices, along an axis: a list of Tensors.

    ValueError if the sections cannot be equal.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    axis = np.lib.array_utils.normalize_axis_index(axis, x.ndim, "split")
    size = x.shape[axis]
    if isinstance(sections_or_indices, int | np.integer):
        sections = int(sections_or_indices)
        if sections < 1 or size % sections:
            raise ValueError(f"split: expected sections that divide axis {axis} of {x.shape}, found {sections}")
        cuts = list(range(size // sections, size, size // sections)) if size else [0] * (sections - 1)
    else:
        cuts = [int(i) for i in sections_or_indices]
    before = (slice(None),) * axis
    return [x[(*before, slice(start, end))] for start, end in zip([0, *cuts], [*cuts, size], strict=True)]


@op(lists=("index",))
def getitem(x: ArrayLike, index: Any) -> Result:
    """y = x[index], an index of any kind NumPy has.   dL/dx = dL/dy at the index (added where repeated), else 0"""
    x = as_array(x)
    parts = index if isinstance(index, tuple) else (index,)
    once = (slice, int, np.integer, type(None), type(...))
    repeats = any(not isinstance(i, once) and as_array(i).dtype != bool for i in parts)
    y = x[index]

    def gradient(dy: Array) -> Array:
        dx = np.zeros_like(x, dtype=dy.dtype)
        if repeats:
            np.add.at(dx, index, dy)
        else:
            dx[index] = dy
        return dx

    return y, (gradient,)


PADDING_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@op
def pad(x: ArrayLike, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Result:
    """y = x, padded.   dL/dx = dL/dy, added up over the places where an element of x went

    pad_width   elements (before, after) each axis, in any form that `np.pad` takes: ((b, a), …), (b, a) or ((b, a),)
                for all axes, a number for both sides of all, {axis: (b, a) or number} for some
    mode        as for `np.pad`: "constant", "edge" (repeat the outermost element), "reflect" (mirror about it),
                "symmetric" (mirror beyond it) or "wrap" (elements from the other end). A number: pad with that value

    TypeError, ValueError: widths that are not integers, negative, or for another number of axes; unknown modes; an
    empty axis to take elements from.
    """
    x = as_array(x)
    if not isinstance(mode, str):
        mode, constant_values = "constant", mode
    if mode not in PADDING_MODES:
        raise ValueError(f"expected mode as one of {', '.join(PADDING_MODES)}, found {mode!r}")
    widths = _widths(pad_width, x.ndim)
    if mode == "constant" and widths:
        inner = tuple(slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True))
        return np.pad(x, widths, constant_values=constant_values), (lambda dy: dy[inner],)
    y, steps = x, []
    for axis, ((before, after), n) in enumerate(zip(widths, x.shape, strict=True)):
        if before or after:
            if n == 0:
                raise ValueError(f"expected elements along axis {axis} to pad it with, found shape {x.shape}")
            taken = np.pad(np.arange(n), (before, after), mode)
            y = np.take(y, taken, axis)
            steps.append((axis, before, n, taken))

    def gradient(dy: Array) -> Array:
        for axis, before, n, taken in reversed(steps):
            ahead, outside = (slice(None),) * axis, np.delete(np.arange(taken.size), slice(before, before + n))
            dx = dy[(*ahead, slice(before, before + n))].copy()
            np.add.at(dx, (*ahead, taken[outside]), np.take(dy, outside, axis))
            dy = dx
        return dy

    return y, (gradient,)


def _widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    """(before, after) of every axis."""
    pairs = pad_width
    try:
        if isinstance(pad_width, Mapping):
            pairs = np.zeros((ndim, 2), np.int64).astype(object)
            for axis, width in pad_width.items():
                pairs[np.lib.array_utils.normalize_axis_index(axis, ndim)] = width
            pairs = np.array(pairs.tolist())
        widths = np.broadcast_to(pairs, (ndim, 2))
    except ValueError as error:
        raise ValueError(f"expected pad_width as in np.pad, of {ndim} axes, found {pad_width!r} ({error})") from error
    if widths.dtype.kind not in "iu" and widths.size:
        raise TypeError(f"expected pad_width in integers, found {pad_width!r}")
    if widths.size and widths.min() < 0:
        raise ValueError(f"expected pad_width of at least 0, found {pad_width!r}")
    return [(int(before), int(after)) for before, after in widths]


@op
def flip(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Result:
    """y = x in reverse along these axes (None: all).   dL/dx = dL/dy in reverse"""
    return np.flip(x, axis), (lambda dy: np.flip(dy, axis),)


@op
def roll(x: ArrayLike, shift: Axes, axis: Axes | None = None) -> Result:
    """y = x moved on by `shift` places, the last coming in first.   dL/dx = dL/dy moved back"""
    return np.roll(x, shift, axis), (lambda dy: np.roll(dy, np.negative(shift), axis),)


@op
def diagonal(x: ArrayLike, axis1: int = 0, axis2: int = 1) -> Result:
    """y[…, i] = x[…, i, i] over two axes of x, the diagonal last.   dL/dx = dL/dy on the diagonal, else 0"""
    x = as_array(x)

    def gradient(dy: Array) -> Array:
        dx = np.zeros_like(x, dtype=dy.dtype)
        moved = np.moveaxis(dx, (axis1, axis2), (-2, -1))
        i = np.arange(dy.shape[-1])
        moved[..., i, i] = dy
        return dx

    return np.diagonal(x, 0, axis1, axis2), (gradient,)
