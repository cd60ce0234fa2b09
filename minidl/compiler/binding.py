"""Calls of NumPy functions, bound to NumPy's signatures: each argument is honoured, or an error names it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.numbers import Number
from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import Traced

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def known(function: Callable[..., Any]) -> Callable[..., Any]:
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


def call(r: Recorder, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Record np.function(*args, **kwargs).

    CompileError: the function is unknown, or an argument would be dropped. TypeError: NumPy rejects the arguments.
    """
    name, does = function.__name__, FUNCTIONS.get(function.__name__)
    if does is None or not function.__module__.startswith("numpy"):
        raise r.error(f"calls np.{name}", "minidl.compile cannot write that down")
    takes = inspect.signature(does).parameters
    if any(p.kind is p.VAR_POSITIONAL for p in takes.values()):
        return does(r, *args, **kwargs)
    try:
        bound = _signature(function, does).bind(*args, **kwargs)
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
        return does(r, **given)
    check_out(r, f"np.{name}", out)
    if "dtype" in takes and given.get("dtype") is None and name not in ("concatenate", "stack"):
        given["dtype"] = out.dtype  # NumPy reduces in the dtype of the output
    return store(r, out, does(r, **given), exact=name != "clip")


@functools.cache
def _signature(function: Callable[..., Any], does: Callable[..., Any]) -> inspect.Signature:
    """NumPy's signature or, where it has none (C functions, up to 2.3), that of our function with an `out`."""
    try:
        return inspect.signature(function)
    except ValueError:
        own = inspect.signature(does)
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
    if not isinstance(out, Traced) or out.memory.kind in ("input", "constant"):
        raise r.error(f"calls {name} with an out= that is not made in the step", "make it by np.empty_like(…, like=…)")


def store(r: Recorder, out: Traced, value: Any, exact: bool = True, casting: Any = "same_kind") -> Traced:
    """Write the value into `out`. ValueError: another shape. TypeError: `casting` does not allow it."""
    value = r.operand(value)
    shape, dtype = np.shape(plain(value)), np.asarray(plain(value)).dtype
    if shape != out.shape and (exact or np.broadcast_shapes(shape, out.shape) != out.shape):
        raise ValueError(f"expected an out of shape {shape}, found {out.shape}")
    if not np.can_cast(dtype, out.dtype, casting):
        raise TypeError(f"expected an out that {dtype} can be cast to by {casting!r}, found {out.dtype}")
    r.write(out, value)
    return out


def plain(x: Any) -> Any:
    if isinstance(x, Traced):
        return x.value
    return type(x)(map(plain, x)) if isinstance(x, tuple | list) else x


def in_order(r: Recorder, order: Any) -> None:
    """CompileError for a memory order that results of a step do not have."""
    if order not in ("C", "K", "A", None):
        raise r.error(f"asks for order={order!r}", "results of a step lie in C order")


def traced(r: Recorder, x: Any) -> Traced:
    """`x` as a Traced array, also if it is a constant."""
    value = x if isinstance(x, Traced) else r.operand(x)
    if type(value) is Number:
        value = value.astype(value.dtype)
    return value if isinstance(value, Traced) else FUNCTIONS["full"](r, (), value)
