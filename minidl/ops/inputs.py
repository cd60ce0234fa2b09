"""Validation of ops' inputs and their conversion to the form kernels take, before any kernel runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.core.tracing import is_traced, like_traced
from minidl.tensor import FLOATS, Array, ArrayLike, as_array

_FLOAT32, _FLOAT64 = FLOATS


def floating(x: ArrayLike, name: str = "x") -> Array:
    """`x` as a native float32 or float64 array; a Python float or list of them is float64.

    TypeError for any other dtype: an integer silently converted to float64, or a float16 that no kernel
    takes, is more often a mistake than intended.
    """
    array = as_array(x)
    if array.dtype is _FLOAT32 or array.dtype is _FLOAT64:
        return array
    if array.dtype in FLOATS:
        return array
    native = array.dtype.newbyteorder("=")
    if native in FLOATS:
        return array.astype(native)
    raise TypeError(f"expected {name} in float32 or float64, found {array.dtype} of shape {array.shape}")


def one_dtype(*arrays: Array) -> np.dtype[Any]:
    """The float dtype in which a kernel computes with these arrays."""
    dtype = arrays[0].dtype
    for a in arrays[1:]:
        if a.dtype != dtype:
            return np.result_type(*arrays)
    return dtype


def kernel_array(x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` as kernels take it: C order, aligned, writable, of this dtype. Copied only if it is not so already.

    (Numba compiles a separate build for each combination of these: one form, one build.)
    """
    if x.dtype is dtype and x.flags.carray:
        return x
    return np.array(x, dtype=dtype, order="C", like=like_traced(x))


def own_indices(x: Array) -> Array:
    """Integers as a private int64 array, so that what was checked still holds when a kernel, or a later backward pass,
    uses it as indices. Values beyond int64 are clipped to its largest."""
    if x.dtype == np.uint64:
        x = np.minimum(x, np.iinfo(np.int64).max)
    return np.array(x, dtype=np.int64, order="C", like=like_traced(x))


def number(value: Any, name: str) -> Any:
    """An option as a Python number, which unlike a NumPy scalar or 0-d array does not widen float32.

    TypeError for anything else. A traced number stays as it is.
    """
    if type(value) in (float, int) or is_traced(value):
        return value
    array = np.asarray(value)
    if array.ndim or array.dtype.kind not in "biuf":
        raise TypeError(f"expected a number for {name}, found {value!r:.100}")
    return array.item()


def weighted(weight: Array, x: Array) -> Array:
    """weight·x, with 0·∞ = 0: the limit of 0·x. NaN stays NaN."""
    return np.where(np.equal(weight, 0) & ~np.isnan(x), 0, weight * x)


def check_reduction(reduction: str, shape: tuple[int, ...]) -> None:
    """ValueError for an unknown reduction, and for a mean of no losses."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f'expected reduction "none", "mean" or "sum", found {reduction!r}')
    if reduction == "mean" and 0 in shape:
        raise ValueError(f"expected at least one element to take the mean of, found shape {shape}")


def reduced(values: Array, reduction: str) -> Array:
    """The losses unreduced ("none"), their sum or their mean."""
    check_reduction(reduction, values.shape)
    if reduction == "none":
        return values
    total = values.sum(dtype=np.float64) if reduction == "sum" else values.mean(dtype=np.float64)
    return as_array(total, dtype=values.dtype)
