"""Where elements stand: their values stay, and gradients travel back to where they came from."""

from __future__ import annotations

from collections.abc import Sequence
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
    """TypeError unless this is a list or tuple: each of its elements has a gradient of its own."""
    if not isinstance(arrays, list | tuple):
        raise TypeError(f"expected a list or tuple of arrays, found one {type(arrays).__name__}")
    return arrays


def split(x: ArrayLike, sections_or_indices: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x in equal sections, or cut before the given indices, along an axis: a list of Tensors.

    ValueError where the sections cannot be equal; there is no rounding.
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


@op
def pad(x: ArrayLike, pad_width: Any, constant_values: float = 0) -> Result:
    """y = x with constants around; `pad_width` as in `np.pad`.   dL/dx = the inner part of dL/dy"""
    x = as_array(x)
    y = np.pad(x, pad_width, constant_values=constant_values)
    before = np.broadcast_to(pad_width, (x.ndim, 2))[:, 0]
    inner = tuple(slice(a, a + n) for a, n in zip(before.tolist(), x.shape, strict=True))
    return y, (lambda dy: dy[inner],)


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
