"""The recorder: each array function and kernel call of a step becomes a Node, in order."""

from __future__ import annotations

import builtins
import contextlib
import keyword
import linecache
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minidl.compiler import returned
from minidl.compiler.constants import Constants
from minidl.compiler.draws import Draws, normal_draw, uniform_draw
from minidl.compiler.traced import CompileError, Memory, Node, Traced, layout
from minidl.compiler.writes import written_by
from minidl.core.frames import users_frame
from minidl.jit import KERNELS, Kernel
from minidl.tensor import Array, Tensor


class Recorder(Constants):
    """The program as it is recorded: its nodes, and the memory that they use."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.memories: list[Memory] = []
        self.ended = False  # whether the function has returned
        self.doing: list[tuple[str, str, str]] = []  # what is under way, innermost last
        own = ("np", "flat", "step", "memory", "floats", "integers", "total", "top", "v", "n", "j")
        self.names: set[str] = {*own, *keyword.kwlist}
        self.names.update(KERNELS, dir(builtins), (f"i{k}" for k in range(20)))
        self.reserved = frozenset(self.names)
        super().__init__()
        self.checks: list[tuple[str, Callable[..., str], tuple[Any, ...]]] = []
        self.generators: dict[int, tuple[str, np.random.Generator]] = {}
        self.draws = Draws()
        self.cleared: Callable[[], frozenset[Any]] = frozenset  # the Tensors whose gradient has been cleared

    # ------------------------------------------------------------------------------------ memory

    def unique(self, name: str) -> str:
        """A name that no memory has yet."""
        made = first_free(name, self.names)
        self.names.add(made)
        return made

    def rename(self, memory: Memory, name: str) -> None:
        """Give a memory this name for good; a memory that has it gets another."""
        name = cleaned(name)
        for other in self.memories:
            if other.name == name and other is not memory:
                other.name, other.stem = self.unique(f"{name}_part"), f"{name}_part"
        self.names.add(name)
        memory.name, memory.final = name, True

    def memory(self, array: Array, kind: str, name: str, source: Any = None) -> Traced:
        """A Traced array for the whole of a new block of memory."""
        name = cleaned(name)
        made = Memory(array, kind, self.unique(name), source=source, stem=name)
        self.memories.append(made)
        return Traced(self, array, made)

    def buffer(self, shape: Sequence[int], dtype: Any, name: str = "") -> Traced:
        return self.memory(np.empty(shape, dtype), "buffer", name or self._result_name())

    def operand(self, x: Any) -> Any:
        """An operand as nodes hold it: a Traced array or a number."""
        if isinstance(x, Traced):
            if not x.memory.readable:
                raise self.error(f"reads {x.memory.name} before anything was written to it", "fill it first")
            return x
        if isinstance(x, Tensor):
            raise self.error("hands a Tensor to NumPy", "use the function of minidl.ops")
        if isinstance(x, bool | int | float | np.generic):
            return x
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise self.error(f"hands {x!r:.60} to NumPy", "a step computes with numbers and arrays of them")
        return array[()] if array.ndim == 0 else self.constant(array)

    # ------------------------------------------------------------------------------- where we are

    @contextlib.contextmanager
    def begun(self, phase: str, op: str, name: str) -> Iterator[None]:
        """Announce what is computed within the block; phase "": the current phase (see `place`)."""
        self.doing.append((phase, op, name))
        try:
            yield
        finally:
            self.doing.pop()

    def place(self) -> tuple[str, str, str]:
        """(phase, op, a name for the result), as announced; whatever follows an update belongs to it."""
        if self.ended:
            return "end", "", "result"
        phase, op, name = self.doing[-1] if self.doing else ("", "", "t")
        if not phase:
            phase = "update" if self.nodes and self.nodes[-1].phase == "update" else "forward"
        return phase, op, name

    def _result_name(self) -> str:
        return self.place()[2]

    def error(self, what: str, instead: str) -> CompileError:
        """The error for what cannot be recorded, with the line of the user's code."""
        frame = users_frame()
        path = frame.f_code.co_filename
        place = f"{os.path.basename(path)}:{frame.f_lineno}: `{linecache.getline(path, frame.f_lineno).strip()}`"
        op = self.place()[1]
        return CompileError(f"compile: {place}{f' (in {op})' if op else ''} {what}; {instead}")

    # ------------------------------------------------------------------------------------- nodes

    def add(self, node: Node) -> Any:
        node.phase, node.op, _ = self.place()
        self.nodes.append(node)
        for memory in node.writes:
            memory.version += 1
            memory.readable = True
        return node.result

    def _pure(self, node: Node) -> Any:
        """Add a node without side effects; the same function of the same operands is computed only once."""
        result = node.result
        assert result is not None
        parts = [_identity(o) for o in node.operands]
        node.key = (
            node.kind,
            node.function,
            *parts,
            repr(node.options),
            node.template,
            result.shape,
            str(result.dtype),
        )
        return self.add(node)

    def map(self, function: str, operands: Sequence[Any], dtype: Any, loop: Sequence[Any], template: str,
            shape: Any = None, numpy: bool = False) -> Any:  # fmt: skip
        """result[i] = function(operands[i]…), computed in the `loop` dtypes (one per operand), broadcast.

        numpy   by NumPy's own loop
        """
        values = tuple(self.operand(x) for x in operands)
        if shape is None:
            shape = np.broadcast_shapes(*(np.shape(x) if not isinstance(x, Traced) else x.shape for x in values))
        kind = "loop" if numpy and math.prod(shape) > 1 else "map"  # one element is just a number
        node = Node(kind, function, values, options={"loop": [np.dtype(d) for d in loop]}, template=template)
        node.options["numpy"] = numpy
        node.result = self.buffer(shape, dtype)
        return self._pure(node)

    def reduce(self, function: str, x: Any, axis: Any, keepdims: bool = False, dtype: Any = None,
               initial: Any = None) -> Any:  # fmt: skip
        """sum, mean, max, min, prod, any, all or argmax over axes, starting from `initial`."""
        x = self.operand(x)
        axes = tuple(range(x.ndim)) if axis is None else np.lib.array_utils.normalize_axis_tuple(axis, x.ndim)
        example = np.ones((1,) * x.ndim, x.dtype)  # NumPy's own rule for the dtype
        like = getattr(np, function)(example, axis=None, **({} if dtype is None else {"dtype": dtype}))
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
        count = math.prod(x.shape[i] for i in axes)
        if count == 0 and function in ("max", "min", "argmax") and initial is None:
            raise ValueError(f"expected at least one element to take the {function} of, found shape {x.shape}")
        written = [f"axis={_axis(axes)}"] if len(axes) < x.ndim else []
        written += ["keepdims=True"] if keepdims else []
        written += [f"dtype=np.{np.dtype(dtype).name}"] if dtype is not None else []
        written += [f"initial={initial!r}"] if initial is not None else []
        node = Node("reduce", function, (x,), options={"axes": axes, "count": count, "initial": initial})
        node.options["loop"] = np.dtype(dtype or (like.dtype if function in ("sum", "mean", "prod") else x.dtype))
        node.template = f"np.{function}({', '.join(['{}', *written])})"
        node.result = self.buffer(shape, like.dtype)
        return self._pure(node)

    def scan(self, function: str, x: Any, axis: Any, dtype: Any = None) -> Any:
        """cumsum or cumprod along an axis."""
        x = self.operand(x)
        x = x.reshape(-1) if axis is None else x
        axis = np.lib.array_utils.normalize_axis_index(axis or 0, x.ndim)
        like = getattr(np, function)(np.ones(1, x.dtype), dtype=dtype)
        written = f", dtype=np.{np.dtype(dtype).name}" if dtype is not None else ""
        node = Node(
            "scan", function, (x,), options={"axis": axis}, template=f"np.{function}({{}}, axis={axis}{written})"
        )
        node.result = self.buffer(x.shape, like.dtype)
        return self._pure(node)

    def copies(self, parts: list[tuple[Traced, Any]], result: Traced, template: str, operands: Sequence[Any]) -> Any:
        """`result`, filled from `parts`: (view of it, what is copied there). Elements not covered are undefined."""
        parts = [(to, self.operand(x)) for to, x in parts if to.size]
        node = Node("copies", "copies", tuple(x for _, x in parts), result, template=template)
        node.options = {"to": [to for to, _ in parts], "written": tuple(operands)}
        return self.add(node)

    def write(self, target: Traced, value: Any) -> None:
        """target[...] = value, broadcast."""
        value = self.operand(value)
        shape = value.shape if isinstance(value, Traced) else np.shape(value)
        if np.broadcast_shapes(shape, target.shape) != target.shape:
            raise ValueError(f"expected a value that broadcasts to {target.shape}, found shape {shape}")
        if not target.flags.writeable:
            raise ValueError("assignment destination is read-only")
        if target.memory.kind in ("input", "constant", "number"):
            raise self.error(f"changes {target.memory.name} in place", "compute a new array")
        self.add(Node("write", "write", (value,), writes=(target.memory,), options={"to": target}))

    def positions(self, x: Traced, index: Any) -> Any:
        """Positions of the elements of x[index] in the flat memory of x: integers, traced or constant."""
        parts = index if isinstance(index, tuple) else (index,)
        offset, strides = layout(x)
        if not any(isinstance(p, Traced) for p in parts):
            return _places(offset, x.shape, strides)[index]
        if any(isinstance(p, Traced) and p.dtype.kind not in "iu" for p in parts) or any(
            p is None or p is Ellipsis or isinstance(p, slice) for p in parts
        ):
            raise self.error(
                "indexes with a mask or a mixed index of the step", "use ops.where, or integer arrays alone"
            )
        found: Any = _places(offset, x.shape[len(parts) :], strides[len(parts) :])
        for p, size, stride in zip(parts, x.shape, strides, strict=False):
            if isinstance(p, Traced):
                p = Traced(self, p.value, p.memory)
                self.require(
                    ((p >= -size) & (p < size)).all(), f"expected indices within an axis of {size}", kind="IndexError"
                )
                p = p + np.where(p < 0, size, 0)
            else:
                p = np.arange(size)[np.asarray(p)]
            found = found + (p * stride).reshape((*p.shape, *(1,) * (x.ndim - len(parts))))
        return found

    def whole(self, memory: Memory) -> Traced:
        """All of a memory, flat."""
        array = memory.array
        return Traced(self, array.reshape(-1) if array.flags.c_contiguous else array.T.reshape(-1), memory)

    def _resolved(self, index: Any) -> Any:
        """An index with constants replaced by their values, if it consists of these alone."""
        parts = index if isinstance(index, tuple) else (index,)
        values = [self.known(p) for p in parts]
        if any(v is None and p is not None for v, p in zip(values, parts, strict=True)):
            return index
        return tuple(values) if isinstance(index, tuple) else values[0]

    def gather(self, x: Traced, index: Any) -> Any:
        """x[index], with integer arrays."""
        index = self._resolved(index)
        positions = self.positions(x, index)
        self.operand(x)
        node = Node("gather", "gather", (self.whole(x.memory), self.operand(positions)))
        node.template, node.options = "{}[{}]", {"written": (x, index)}
        node.result = self.buffer(np.shape(positions), x.dtype)
        return self.add(node)

    def scatter(self, x: Traced, index: Any, values: Any, add: bool) -> None:
        """x[index] = values, or += with repeated indices adding up."""
        index = self._resolved(index)
        positions, values = self.positions(x, index), self.operand(values)
        options = {"add": add, "written": (x, index, values), "shape": np.shape(positions)}
        operands = (self.whole(x.memory), self.operand(positions), values)
        self.add(Node("scatter", "scatter", operands, writes=(x.memory,), options=options))

    def call(self, kernel: Kernel, args: tuple[Any, ...]) -> Any:
        """Record a kernel call. Its outputs are the arrays that hold nothing yet and those that it stores into."""
        writes, operands, names = [], [], kernel.parameters
        fresh = [a.memory for a in args if isinstance(a, Traced) and not a.memory.readable]
        updated = kernel.updates
        if not kernel.__module__.startswith("minidl."):  # minidl's own declare what they update
            updated |= written_by(kernel)
        for name, a in zip(names, args, strict=True):
            if isinstance(a, np.ndarray):
                if name in updated:
                    raise self.error(*_into_plain(kernel.__name__))
                a = self.constant(a)
            if isinstance(a, np.random.Generator):
                operands.append(self.generator(a))
                continue
            if isinstance(a, Traced):
                if a.memory in fresh or name in updated:
                    if a.memory.kind in ("input", "constant"):
                        raise self.error(
                            f"changes {a.memory.name} in place, by {kernel.__name__}", "compute a new array"
                        )
                    writes.append(a.memory)
                    if a.memory in fresh and a.memory.version == 0:
                        self._name_output(a.memory, name)
                if not (a.flags.c_contiguous or a.ndim == 0):
                    raise self.error(f"hands {kernel.__name__} a strided array for {name}", "use kernel_array first")
            operands.append(a)
        node = Node("call", kernel, tuple(operands), writes=tuple(dict.fromkeys(writes)))
        node.options["threads"] = kernel.parallel is not None and bool(
            kernel.parallel(*(a.value if isinstance(a, Traced) else a for a in args))
        )
        dtype = returned.dtype_of(self, kernel)
        if not writes and dtype is None:
            raise self.error(*_into_plain(kernel.__name__))
        if dtype is not None:
            node.result = self.buffer((), dtype, kernel.__name__)
        self.add(node)
        return returned.as_python(node.result)

    def uniform(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """float32 from U[0, 1), drawn in each call of the step."""
        return self._drawn(uniform_draw, generator, shape)

    def normal(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """float32 from N(0, 1), drawn in each call of the step."""
        return self._drawn(normal_draw, generator, shape)

    def _drawn(self, draw: Kernel, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        y = self.buffer(shape, np.float32)
        y.memory.readable = False
        draw(generator, y.reshape(-1))
        return y

    def generator(self, generator: np.random.Generator) -> Any:
        generator = self.draws.real(generator)
        if id(generator) not in self.generators:
            self.generators[id(generator)] = self.unique("generator"), generator
        return Reference(*self.generators[id(generator)])

    def _name_output(self, memory: Memory, parameter: str) -> None:
        """Name a buffer after the kernel's parameter if that says more than the op's name."""
        if parameter not in ("y", "c", "out", "dx", "dlogits", "dw"):
            self.names.discard(memory.name)
            memory.name, memory.stem = self.unique(parameter), parameter

    def require(self, holds: Any, expected: str, found: Callable[..., str] | None = None, args: Any = (),
                kind: str = "ValueError") -> None:  # fmt: skip
        """Stop the step with an error unless `holds`. `found(*args)` completes the message."""
        op = self.place()[1]
        message = f"{op}: {expected}" if op else expected
        options = {"message": message, "kind": kind, "cleared": self.cleared()}
        if found is not None:
            self.checks.append((message, found, tuple(args)))
        self.add(Node("require", "require", (self.operand(holds),), options=options))


def _into_plain(kernel: str) -> tuple[str, str]:
    return f"lets {kernel} write into a plain array", "make it with np.empty(shape, dtype, like=an input)"


def cleaned(name: str) -> str:
    """A valid Python name: "0.weight" becomes layers_0_weight."""
    name = "".join(c if c.isalnum() else "_" for c in name)
    return f"layers_{name}" if name[:1].isdigit() else name


def first_free(name: str, taken: Any) -> str:
    """The name, with the first number that makes it unique if it is taken."""
    if name not in taken:
        return name
    return next(f"{name}_{n}" for n in range(2, sys.maxsize) if f"{name}_{n}" not in taken)


class Reference:
    """An object that the program only passes on, under a name: a random generator."""

    def __init__(self, name: str, generator: np.random.Generator) -> None:
        self.name, self.generator = name, generator


def _places(offset: int, shape: Any, strides: Any) -> Array:
    """offset + i₀·stride₀ + i₁·stride₁ + … for every index of the shape."""
    found = np.full(shape, offset, np.int64)
    for axis, (n, stride) in enumerate(zip(shape, strides, strict=True)):
        found += (np.arange(n) * stride).reshape(-1, *(1,) * (len(shape) - axis - 1))
    return found


def _axis(axes: tuple[int, ...]) -> Any:
    return axes[0] if len(axes) == 1 else axes


def _identity(x: Any) -> Any:
    """What distinguishes an operand from others in the same memory."""
    if not isinstance(x, Traced):
        return type(x), repr(x)
    return x.memory.version, layout(x), x.shape, str(x.dtype)
