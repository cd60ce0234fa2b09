"""Python's numbers in a step: arguments and kernels' return values, which differ from call to call.

They compute as in Python (`1 - t` is again a number, and float32 · t stays float32). If Python itself needs the value,
for an `if`, a shape or an axis, `NumberNeeded` is raised and the step is recorded anew for this value alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.traced import CompileError, Memory, Traced

LARGEST = 2**31  # for int arguments: sums and products of a few are exact in 64 bits


class NumberNeeded(CompileError):
    """Python needs the values of these arguments. `which`: their positions among the numbers of the call."""

    def __init__(self, which: frozenset[int]) -> None:
        super().__init__("compile: Python needs the value of a number")
        self.which = which


class Number(Traced):
    """A number of the program, in a 0-d array.

    python   float or int; None for a NumPy number, whose dtype counts
    which    the arguments that it was computed from; None: a kernel returned it
    limit    an upper bound of an int
    """

    __slots__ = ("limit", "python", "which")

    def __init__(
        self, recorder: Any, value: Any, memory: Memory, python: Any, which: frozenset[int] | None, limit: int = LARGEST
    ) -> None:
        Traced.__init__(self, recorder, value, memory)
        self.python, self.which, self.limit = python, which, limit

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # `isinstance(t, float)` is True, as for the number it stands for
        return self.python or self.dtype.type

    def _unknown(self, *_: Any, **__: Any) -> Any:
        if self.which is None:
            return Traced._known(self)
        raise NumberNeeded(self.which)

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
    ) -> Any:
        dtype = np.dtype(dtype)
        return self.recorder.map("cast", (self,), dtype, [self.dtype], f"np.{dtype.name}({{}})")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _unknown
    __str__ = __format__ = item = tolist = __array__ = __hash__ = _unknown


def _operator(name: str, ufunc: np.ufunc | None, reflected: bool) -> Callable[..., Any]:
    """Python's operator: Python's arithmetic for two Python numbers, else NumPy's."""
    by_numpy = getattr(Traced, name)

    def operator(self: Number, other: Any) -> Any:
        if self.python is None or _python(other) is None:
            return by_numpy(self, other)
        if ufunc is None:
            return self._unknown()
        return arithmetic(ufunc, *((other, self) if reflected else (self, other)))

    return operator


_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide}
for _name in ("add", "sub", "mul", "truediv", "pow", "floordiv", "mod", "divmod"):
    for _r in ("", "r"):
        setattr(Number, f"__{_r}{_name}__", _operator(f"__{_r}{_name}__", _ARITHMETIC.get(_name), bool(_r)))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__", None, False))
for _name, _ufunc in (("neg", np.negative), ("pos", np.positive), ("abs", np.absolute)):
    setattr(Number, f"__{_name}__", lambda self, _ufunc=_ufunc, _name=_name: (
        arithmetic(_ufunc, self) if self.python else getattr(Traced, f"__{_name}__")(self)))  # fmt: skip


def _python(x: Any) -> Any:
    """float or int if x is a Python number, known or traced."""
    if type(x) is Number:
        return x.python
    return type(x) if type(x) in (float, int) else int if type(x) is bool else None


def kind(x: Any) -> Any:
    """What NumPy's promotion looks at: a Python type or a dtype."""
    if type(x) is bool:
        return np.dtype(bool)
    return _python(x) or x.dtype


def arithmetic(ufunc: np.ufunc, *operands: Any) -> Any:
    """Python's arithmetic on its own numbers, exactly: ints never overflow, and division by 0 is an error."""
    from minidl.compiler import ufuncs

    numbers = [x for x in operands if type(x) is Number]
    r = numbers[0].recorder
    known = all(x.which is not None for x in numbers)
    which = frozenset().union(*(x.which or () for x in numbers)) if known else None
    limits = [x.limit if type(x) is Number else abs(x) for x in operands]
    whole = all(_python(x) is int for x in operands) and ufunc is not np.divide
    limit = int(np.prod(limits, dtype=object) if ufunc is np.multiply else sum(limits)) if whole else 0
    inexact = any(_python(x) is int and n > 2**53 for x, n in zip(operands, limits, strict=True))
    if limit >= 2**62 or (inexact and not whole):
        return Number(r, numbers[0].value, numbers[0].memory, int, which)._unknown()
    if ufunc is np.divide:
        divisor = operands[1]
        if type(divisor) is not Number and divisor == 0:
            raise ZeroDivisionError("division by zero")
        if type(divisor) is Number:
            r.require(ufuncs.ufunc(r, np.not_equal, (divisor, 0)), "division by zero", kind="ZeroDivisionError")
    made = ufuncs.ufunc(r, ufunc, operands)
    return Number(r, made.value, made.memory, int if whole else float, which, limit)
