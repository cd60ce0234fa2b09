"""Traced arrays, which record the operations on them.

A Traced stands for an array while `compile` runs a step for the first time. NumPy passes it every function and
operator through `__array_ufunc__` and `__array_function__`; it returns another Traced and adds a Node to the
program. Its `value` has the right shape, dtype and memory layout, but meaningless elements: kernels are not run.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.core.tracing import TracedArray
from minidl.tensor import Array

if TYPE_CHECKING:
    from minidl.compiler.recorder import Recorder


class CompileError(RuntimeError):
    """A step does something that cannot be recorded. The message says what, where, and what to do instead."""


@dataclass(eq=False)
class Memory:
    """One block of memory: an argument of the step, or a buffer in it.

    kind   "input", "state" (it outlives the step), "constant", "number" (a Python number), "buffer"
    """

    array: Array
    kind: str
    name: str
    version: int = 0  # how often it has been written to
    source: Any = None  # for state and constants: what it is bound to at each call
    readable: bool = True  # whether it holds anything yet
    stem: str = ""  # the name asked for, before it was made unique
    final: bool = False  # whether the name may no longer change
    twin: Memory | None = None  # another with the same contents, used in place of this one

    @property
    def number(self) -> bool:
        return self.kind == "number"


@dataclass(eq=False)
class Node:
    """One line of the program.

    kind       "map" (elementwise), "loop" (the same by one of NumPy's loops), "reduce", "scan", "gather",
               "scatter", "copies", "write", "call", "require"
    function   NumPy's name for it, or the kernel
    operands   Traced arrays and numbers
    result     the Traced array that it creates, if any
    writes     memory that it changes, apart from its result's
    """

    kind: str
    function: Any
    operands: tuple[Any, ...]
    result: Traced | None = None
    writes: tuple[Memory, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    template: str = ""  # how it reads, with {} for each operand
    key: Any = None  # of a node without side effects: nodes with one key compute the same
    phase: str = "forward"
    op: str = ""

    @property
    def target(self) -> Any:
        """The array that a map or write stores into."""
        return self.options.get("to") if self.result is None else self.result


UFUNC_METHODS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min",
                 "logical_and": "all", "logical_or": "any"}  # fmt: skip
SYMBOLS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "floor_divide": "//", "remainder": "%",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
}  # fmt: skip


class Traced(TracedArray, np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the program: `memory`, or a view of part of it."""

    __slots__ = ("made_in", "parent", "recorder", "template", "value")
    __array_priority__ = 1000
    __hash__ = object.__hash__

    def __init__(
        self, recorder: Recorder, value: Array, memory: Memory, template: str = "", parent: Traced | None = None
    ) -> None:
        self.recorder, self.value, self.made_in = recorder, value, memory
        self.template, self.parent = template, parent  # of a view: how it is written in terms of its parent

    @property
    def memory(self) -> Memory:
        """The memory that holds it, or the twin of that."""
        return self.made_in.twin or self.made_in

    # Known while recording: everything but the elements.
    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
    ndim = property(lambda self: self.value.ndim)
    size = property(lambda self: self.value.size)
    itemsize = property(lambda self: self.value.itemsize)
    nbytes = property(lambda self: self.value.nbytes)
    strides = property(lambda self: self.value.strides)
    flags = property(lambda self: self.value.flags)
    base = property(lambda self: self.parent)
    T = property(lambda self: self._view(self.value.T, "{}.T"))

    def __repr__(self) -> str:
        return f"<traced {self.memory.name} {self.dtype} {self.shape}>"

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self.value)))

    # Unknown: the elements, except those of a constant, whose values then become part of the program.
    def _known(self) -> Array:
        if (value := self.recorder.known(self)) is None:
            raise self.recorder.error(
                "needs the value of an array that is only known when the step runs",
                "choose with ops.where, return the value and look at it outside, or leave it out of the "
                "compiled function",
            )
        return value  # type: ignore[no-any-return]

    # fmt: off
    def __bool__(self) -> bool: return bool(self._known())
    def __float__(self) -> float: return float(self._known())
    def __int__(self) -> int: return int(self._known())
    def __index__(self) -> int: return operator.index(self._known())
    def __complex__(self) -> complex: return complex(self._known())
    def __contains__(self, x: Any) -> bool: return x in self._known()
    def item(self, *index: Any) -> Any: return self._known().item(*index)
    def tolist(self) -> Any: return self._known().tolist()
    def tobytes(self, *order: Any) -> bytes: return self._known().tobytes(*order)
    # fmt: on

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if (value := self.recorder.known(self)) is None:
            raise self.recorder.error(
                "turns an array of the step into a plain one, whose values are only known when it runs",
                "in an op, use minidl.tensor.as_array instead of np.asarray",
            )
        return np.array(value, dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"an array of a compiled step has no attribute {name!r}")
        if (value := self.recorder.known(self)) is not None:
            return getattr(np.array(value), name)
        raise self.recorder.error(f"uses .{name} of an array", "use a function that minidl.compile can write down")

    # ------------------------------------------------------------------------------------- views

    def _view(self, value: Array, template: str) -> Traced:
        return Traced(self.recorder, value, self.memory, template, self)

    def _same_memory(self, value: Array) -> bool:
        return value.size == 0 or np.may_share_memory(value, self.value)

    def _reshaped(self, value: Array, template: str) -> Any:
        """A view or, where NumPy would copy, a view of a copy."""
        if self._same_memory(value):
            return self._view(value, template)
        flat = self.copy()
        return flat._view(flat.value.reshape(value.shape), f"{{}}.reshape{_tuple(value.shape)}")

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        shape = shape[0] if len(shape) == 1 else shape
        if order not in ("C", "F"):  # "A" and "K" depend on an argument's memory layout
            raise self.recorder.error(f"asks for order={order!r}", 'use "C" or "F"')
        if order != "C":
            return self.T.reshape(*((shape,) if isinstance(shape, int) else shape)[::-1]).T
        value = self.value.reshape(shape)
        if value.shape == self.shape:
            return self
        return self._reshaped(value, f"{{}}.reshape{_tuple(value.shape)}")

    def transpose(self, *axes: Any) -> Traced:
        order = axes[0] if len(axes) == 1 else axes or None
        return self.T if order is None else self._view(self.value.transpose(order), f"{{}}.transpose{_tuple(order)}")

    def view(self, *args: Any) -> Any:
        return self._known().view(*args)

    # ------------------------------------------------------------------------------------ copies

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = "unsafe", subok: bool = True, copy: bool = True
    ) -> Any:
        dtype = np.dtype(dtype)
        if not np.can_cast(self.dtype, dtype, casting):
            raise TypeError(f"expected a dtype that {self.dtype} can be cast to by {casting!r}, found {dtype}")
        if dtype == self.dtype:
            return self.copy(order) if copy else self
        self._in_order(order)
        return self.recorder.map("cast", (self,), dtype, [self.dtype], f"{{}}.astype(np.{dtype.name})")

    def copy(self, order: str = "C") -> Any:
        self._in_order(order)
        return self.recorder.map("copy", (self,), self.dtype, [self.dtype], "{}.copy()")

    def _in_order(self, order: str) -> None:
        if order not in ("C", "K", "A"):
            raise self.recorder.error(f"asks for order={order!r}", "results of a step lie in C order")

    def fill(self, value: Any) -> None:
        self[...] = value

    # ---------------------------------------------------------------------------------- indexing

    def __getitem__(self, index: Any) -> Any:
        if _is_basic(index):
            parts = index if isinstance(index, tuple) else (index,)
            whole = parts if Ellipsis in parts else (*parts, Ellipsis)  # so that NumPy gives a view, not a number
            return self._view(self.value[whole], f"{{}}[{_index(index)}]")
        return self.recorder.gather(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if _is_basic(index):
            self.recorder.write(self[index], value)
        else:
            self.recorder.scatter(self, index, value, add=False)

    # -------------------------------------------------------------------------- NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from minidl.compiler import binding, functions, ufuncs

        r, name = self.recorder, f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        if method == "at" and ufunc is np.add and isinstance(inputs[0], Traced):
            return r.scatter(inputs[0], inputs[1], inputs[2], add=True)
        reduces = method == "reduce" and ufunc.__name__ in UFUNC_METHODS
        if not reduces and (method != "__call__" or ufunc.nout != 1 or ufunc.signature):
            if (known := self._of_constants(getattr(ufunc, method), inputs, kwargs)) is not None:
                return known
            raise r.error(f"calls {name}", "it cannot be written down")
        takes = {"out", "where", "dtype", *(("axis", "keepdims", "initial") if reduces else ("casting",))}
        usual = {"order": "K", "subok": True}
        for key in [k for k in kwargs if k not in takes]:
            if kwargs[key] != usual.get(key):
                raise r.error(f"calls {name} with {key}={kwargs[key]!r:.60}", f"leave {key} out")
            del kwargs[key]
        out, where = (kwargs.pop("out", None) or (None,))[0], kwargs.pop("where", True)
        if out is not None:
            binding.check_out(r, name, out)
        if reduces:
            if out is not None and kwargs.get("dtype") is None:
                kwargs["dtype"] = out.dtype
            initial = kwargs.pop("initial", None)
            initial = None if initial is np._NoValue else initial
            axis = kwargs.pop("axis", 0)
            made = functions.reduced(
                r, UFUNC_METHODS[ufunc.__name__], inputs[0], axis, initial=initial, where=where, **kwargs
            )
            return made if out is None else binding.store(r, out, made)
        made = ufuncs.ufunc(r, ufunc, inputs, **kwargs)
        if where is not True:
            if out is None:
                raise r.error(
                    f"calls {name} with where= and no out=", "elements elsewhere would be undefined; use ops.where"
                )
            made = functions.chosen(r, where, made, out)
        return (
            made
            if out is None
            else binding.store(r, out, made, exact=False, casting=kwargs.get("casting", "same_kind"))
        )

    def _of_constants(self, function: Any, args: Any, kwargs: Any) -> Any:
        """The result of a function that cannot be recorded but gets only constants; else None."""
        values = {k: self.recorder.known(v) for k, v in (*enumerate(args), *kwargs.items())}
        if any(values[k] is None and v is not None for k, v in (*enumerate(args), *kwargs.items())):
            return None
        return function(*(values[k] for k in range(len(args))), **{k: values[k] for k in kwargs})

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from minidl.compiler import arrangements, binding, functions  # noqa: F401   they register their functions

        if function.__name__ not in binding.FUNCTIONS and (
            (made := self._of_constants(function, args, kwargs)) is not None
        ):
            return made
        return binding.call(self.recorder, function, args, kwargs)


def _method(name: str) -> Any:
    """The method of this name, which calls NumPy's function of that name with the same arguments."""
    return lambda self, *args, **kwargs: getattr(np, name)(self, *args, **kwargs)


for _name in ("sum", "prod", "mean", "max", "min", "any", "all", "argmax", "cumsum", "cumprod", "clip", "take",
              "ravel", "squeeze", "swapaxes", "diagonal"):  # fmt: skip
    setattr(Traced, _name, _method(_name))


def layout(x: Traced) -> tuple[int, tuple[int, ...]]:
    """(offset, strides) of a view in its flat memory, in elements."""
    size = x.itemsize
    if x.size == 0:
        return 0, (0,) * x.ndim
    at = (x.value.ctypes.data - x.made_in.array.ctypes.data) // size
    return at, tuple(0 if n == 1 else s // size for n, s in zip(x.shape, x.value.strides, strict=True))


def _tuple(shape: Any) -> str:
    return f"({', '.join(map(str, shape)) or '()'})"


def _is_basic(index: Any) -> bool:
    """Whether an index has only integers, slices, None and …, and so gives a view."""
    parts = index if isinstance(index, tuple) else (index,)
    whole, others = (slice, int, np.integer), (bool, Traced)
    return all(p is None or p is Ellipsis or (isinstance(p, whole) and not isinstance(p, others)) for p in parts)


def _index(index: Any) -> str:
    """An index in Python notation."""
    parts = index if isinstance(index, tuple) else (index,)

    def part(p: Any) -> str:
        if isinstance(p, slice):
            text = f"{'' if p.start is None else p.start}:{'' if p.stop is None else p.stop}"
            return text if p.step is None else f"{text}:{p.step}"
        return "..." if p is Ellipsis else str(p)

    return ", ".join(map(part, parts)) if parts else "()"
