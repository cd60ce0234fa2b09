"""The engine's arrays: converted from what users pass, with gradients in the shape of what they belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from minidl.core.operators import Array, ArrayLike
from minidl.core.seam import SEAM


def as_array(x: ArrayLike, dtype: Any = None) -> Array:
    """`np.asarray`, except that arrays of other types that follow NumPy's protocols (traced ones) stay as they are."""
    if type(x) is not np.ndarray:
        x = np.asarray(x, like=x) if hasattr(x, "__array_function__") else SEAM.array(np.asarray(x, dtype))
    return x if dtype is None or x.dtype == dtype else x.astype(dtype)  # type: ignore[no-any-return]


def unbroadcast(dx: Array, like: Array, dy: Array, node: Any) -> Array:
    """`dx`, which an op's gradient function computed from `dy`, in the shape and dtype of the op's input `like`.

    Broadcasting repeats an array, and its transpose is a sum: in float64. ValueError if the input cannot have been
    repeated that way: neither the result nor another input of the op's `node` has that length there.
    """
    shape, dtype = like.shape, like.dtype
    if type(dx) is np.ndarray and dx.shape == shape and dx.dtype is dtype:
        return dx
    if dx.shape != shape:
        extra = dx.ndim - len(shape)
        repeated = [i for i in range(-dx.ndim, 0) if i < -len(shape) or shape[i] == 1 != dx.shape[i]]
        known = {(i, n) for s in (dy.shape, *_shapes(node.args)) for i, n in enumerate(s, -len(s))}
        explained = all(dx.shape[i] == 1 or (i, dx.shape[i]) in known for i in repeated)
        total = dx.sum(axis=tuple(repeated), keepdims=True, dtype=np.float64)
        if extra < 0 or not explained or total.shape[extra:] != shape:
            raise ValueError(f"{node.op}: expected a gradient of its input's shape {shape}, found {dx.shape}")
        dx = total.reshape(shape)
    return as_array(dx, dtype)


def _shapes(args: Any) -> Iterator[tuple[int, ...]]:
    for a in args:
        with suppress(TypeError, ValueError):  # a list of Tensors, or of lists of other lengths
            yield a.shape if hasattr(a, "shape") else np.shape(a)


def is_view(dx: Array, dy: Array) -> bool:
    """Whether dx, which does not own its memory, is a view of dy or of something read-only."""
    return dx.base is dy or dx.base is dy.base or not dx.flags.writeable  # broadcasting gives read-only views
