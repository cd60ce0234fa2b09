"""Python's operators on Tensors: each calls the op of its name in `OPS`, where `@op` registers every op."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
ArrayLike = Any  # a Tensor, an array, a number or a nested list of numbers

OPS: dict[str, Callable[..., Any]] = {}


class Operators:
    """A Tensor's array interface: arithmetic and indexing are ops, comparisons give plain arrays."""

    __slots__ = ()
    __array_ufunc__ = None  # ndarray * Tensor is Tensor.__rmul__
    __hash__ = object.__hash__
    data: Array

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)
    T = property(lambda self: OPS["transpose"](self))

    def numpy(self) -> Array:
        """The values, not a copy; operations on them are not recorded."""
        return self.data

    def item(self) -> Any:
        """The only value, as a Python number. ValueError unless size is 1."""
        return self.data.item()

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self.data)))

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __getitem__(self, index: Any) -> Self:
        return OPS["getitem"](self, index)

    def __neg__(self) -> Self:
        return OPS["negative"](self)

    def __abs__(self) -> Self:
        return OPS["abs"](self)

    def __add__(self, other: ArrayLike) -> Self:
        return OPS["add"](self, other)

    def __radd__(self, other: ArrayLike) -> Self:
        return OPS["add"](other, self)

    def __sub__(self, other: ArrayLike) -> Self:
        return OPS["subtract"](self, other)

    def __rsub__(self, other: ArrayLike) -> Self:
        return OPS["subtract"](other, self)

    def __mul__(self, other: ArrayLike) -> Self:
        return OPS["multiply"](self, other)

    def __rmul__(self, other: ArrayLike) -> Self:
        return OPS["multiply"](other, self)

    def __truediv__(self, other: ArrayLike) -> Self:
        return OPS["divide"](self, other)

    def __rtruediv__(self, other: ArrayLike) -> Self:
        return OPS["divide"](other, self)

    def __floordiv__(self, other: ArrayLike) -> Self:
        return OPS["floor_divide"](self, other)

    def __rfloordiv__(self, other: ArrayLike) -> Self:
        return OPS["floor_divide"](other, self)

    def __mod__(self, other: ArrayLike) -> Self:
        return OPS["remainder"](self, other)

    def __rmod__(self, other: ArrayLike) -> Self:
        return OPS["remainder"](other, self)

    def __pow__(self, other: ArrayLike) -> Self:
        return OPS["power"](self, other)

    def __rpow__(self, other: ArrayLike) -> Self:
        return OPS["power"](other, self)

    def __matmul__(self, other: ArrayLike) -> Self:
        return OPS["matmul"](self, other)

    def __rmatmul__(self, other: ArrayLike) -> Self:
        return OPS["matmul"](other, self)

    # Comparisons have no gradient: they give plain arrays.
    @np.errstate(all="ignore")
    def __lt__(self, other: ArrayLike) -> Array:
        return np.asarray(self.data < values_of(other))

    @np.errstate(all="ignore")
    def __le__(self, other: ArrayLike) -> Array:
        return np.asarray(self.data <= values_of(other))

    @np.errstate(all="ignore")
    def __gt__(self, other: ArrayLike) -> Array:
        return np.asarray(self.data > values_of(other))

    @np.errstate(all="ignore")
    def __ge__(self, other: ArrayLike) -> Array:
        return np.asarray(self.data >= values_of(other))

    @np.errstate(all="ignore")
    def __eq__(self, other: ArrayLike) -> Array:  # type: ignore[override]
        return np.asarray(self.data == values_of(other))

    @np.errstate(all="ignore")
    def __ne__(self, other: ArrayLike) -> Array:  # type: ignore[override]
        return np.asarray(self.data != values_of(other))

    # Reductions and reshaping as methods; `minidl.ops` has them all.
    def sum(self, axis: Any = None, keepdims: bool = False) -> Self:
        return OPS["sum"](self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Self:
        return OPS["mean"](self, axis, keepdims)

    def reshape(self, *shape: Any) -> Self:
        return OPS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Self:
        return OPS["transpose"](self, axes[0] if len(axes) == 1 else axes or None)


def values_of(x: ArrayLike) -> Any:
    """The array of a Tensor; anything else unchanged."""
    return x.data if isinstance(x, Operators) else x
