"""The engine: a Tensor remembers how it was computed, and `backward` walks that record in reverse.

An op is a function of arrays that returns its value and, for each input, the function that carries a gradient back:

    @op
    def multiply(a, b):
        return a * b, (lambda dy: dy * b, lambda dy: dy * a)

`@op` unwraps Tensors, calls the function, and keeps the gradient functions of those inputs that need a
gradient. `Tensor.backward` starts with dL/dL = 1 and applies the chain rule, each tensor after all those
computed from it: dL/dx = Σ over the uses y of x of (dL/dy · dy/dx).

A gradient function returns a new array or a view of the gradient it was given, and modifies neither
that nor anything it captured. Arrays that broadcasting repeated are summed back by the engine.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np

from minidl.core.arrays import as_array as as_array
from minidl.core.arrays import is_view, unbroadcast
from minidl.core.errstate import quietly
from minidl.core.frames import users_frame
from minidl.core.grad_mode import PAUSED
from minidl.core.grad_mode import no_grad as no_grad
from minidl.core.operators import OPS as OPS
from minidl.core.operators import Array as Array
from minidl.core.operators import ArrayLike as ArrayLike
from minidl.core.operators import Operators, values_of
from minidl.core.registry import enter
from minidl.core.seam import SEAM, announced

Gradient = Callable[[Array], Array]
_LISTS = (list, tuple)  # a constant: `list | tuple` would be built anew for each argument
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class Node:
    """How a tensor was computed: the inputs that need a gradient, the call as it was made, and the user's line."""

    __slots__ = ("args", "at", "code", "function", "gradients", "inputs", "kwargs", "op")

    def __init__(self, function: Any, args: Any, kwargs: Any, inputs: list[Tensor], gradients: list[Gradient]) -> None:
        self.op, self.inputs, self.gradients = function.__name__, inputs, gradients
        self.function, self.args, self.kwargs = function, args, kwargs or None
        frame = users_frame(2)
        self.code, self.at = frame.f_code, frame.f_lasti  # a frame would keep its variables alive

    def __reduce__(self) -> Any:
        raise RuntimeError(f"a Tensor computed by {self.op} is not copied or pickled with its graph; detach() it first")


class _Freed:
    """Stands for a graph that backward has freed; copying or unpickling gives the same object."""

    op = "freed"

    def __reduce__(self) -> str:
        return "_FREED"


_FREED: Any = _Freed()


class Tensor(Operators):
    """An array that can be differentiated through.

    data            the values: anything `np.asarray` takes; another byte order becomes the native one
    requires_grad   whether `backward` leaves dL/d(this) in `.grad`; float32 and float64 only
    grad            None or an array of this tensor's shape and dtype; leaves accumulate into it
    """

    __slots__ = ("__weakref__", "_node", "_retains_grad", "data", "grad", "requires_grad")

    def __init__(self, data: ArrayLike, requires_grad: bool = False) -> None:
        array = data.data if isinstance(data, Tensor) else as_array(data)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if requires_grad and array.dtype not in FLOATS:
            raise TypeError(f"requires_grad: expected float32 or float64, found {array.dtype}")
        self.data: Array = array
        self.grad: Array | None = None
        self.requires_grad, self._retains_grad = requires_grad, False
        self._node: Node | None = None

    # ------------------------------------------------------------------------------- as an array

    def detach(self) -> Tensor:
        """The same values, cut off from the graph."""
        return Tensor(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.requires_grad:
            raise TypeError("a Tensor that requires a gradient does not turn into an array unasked: use .numpy()")
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        values = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=20)
        origin = f", op={self._node.op}" if self._node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, shape={self.shape}, dtype={self.dtype}{origin})"

    # -------------------------------------------------------------------------------- backprop

    is_leaf = property(lambda self: self._node is None, doc="Was this made by the user, not by a recorded op?")

    def retain_grad(self) -> None:
        """Keep dL/d(this) in `.grad` although this is not a leaf. RuntimeError if it needs no gradient."""
        if not self.requires_grad:
            raise RuntimeError("retain_grad: this tensor does not require a gradient")
        self._retains_grad = self._node is not None

    @quietly
    @announced
    def backward(self, grad: ArrayLike = None, retain_graph: bool = False) -> None:
        """Add dL/d(leaf) to the `.grad` of every leaf that this tensor L was computed from.

        grad           dL/d(this), of this tensor's shape; may be left out (it is 1) where size is 1
        retain_graph   keep the graph so that backward can be called again; otherwise it is freed on the way

        RuntimeError: nothing here requires a gradient, grad is missing, or the graph has been freed.
        ValueError: grad has another shape. After either, no `.grad` has changed.
        """
        if not self.requires_grad:
            raise RuntimeError("backward: this tensor does not require a gradient, or was computed under no_grad")
        if grad is None:
            if self.size != 1:
                raise RuntimeError(f"backward: expected a scalar or a `grad` of shape {self.shape}, found neither")
            grad = np.ones_like(self.data)
        dy = as_array(values_of(grad), self.dtype)[...]  # a new object: ops recognise a gradient by its identity
        if dy.shape != self.shape:
            raise ValueError(f"backward: expected a grad of shape {self.shape}, found {dy.shape}")
        on = SEAM.interceptor
        gradients = {self: dy if self._node else dy.copy()}  # dL/dt, summed over the uses of t seen so far
        finished: list[tuple[Tensor, Array]] = []
        for tensor in backward_order(self):
            dy = gradients.pop(tensor)
            node: Any = tensor._node
            if node is None or tensor._retains_grad:
                finished.append((tensor, dy))
            for x, gradient in zip(node.inputs, node.gradients, strict=True) if node else ():
                if on is not None:
                    on.gradient(node.op, x)
                dx = unbroadcast(gradient(dy), x.data, dy, node)
                if x in gradients:
                    dx = as_array(gradients[x] + dx)
                elif x._node is None and (dx is dy or (dx.base is not None and is_view(dx, dy))):
                    dx = dx.copy()  # leaves own their gradients: two of them never share memory
                gradients[x] = dx
            if node and not retain_graph:
                tensor._node = _FREED
        for tensor, dy in finished:
            if on is not None:
                on.gradient("", tensor)
            dy = dy.copy() if tensor._retains_grad else dy
            tensor.grad = dy if tensor.grad is None else as_array(tensor.grad + dy)


def backward_order(root: Tensor) -> Iterator[Tensor]:
    """`root` and every tensor below it that needs a gradient, each after all those that were computed from it.

    RuntimeError, before the first: an earlier backward has freed a part of the graph.
    """
    uses: dict[Tensor, int] = {}  # of each tensor as an input: its gradient is complete once that many have arrived
    stack = [root]
    while stack:
        node = stack.pop()._node
        if node is _FREED:
            raise RuntimeError("backward: this graph was freed by an earlier backward(); retain_graph=True keeps it")
        for x in node.inputs if node else ():
            uses[x] = uses.get(x, 0) + 1
            if uses[x] == 1:
                stack.append(x)
    ready = [root]  # tensors whose uses have all been seen
    while ready:
        tensor = ready.pop()
        inputs = tensor._node.inputs if tensor._node else ()  # before the yield: the caller may free the node
        yield tensor
        for x in inputs:
            left = uses[x] = uses[x] - 1
            if left == 0:
                ready.append(x)


Function = Callable[..., tuple[Array, tuple[Gradient | None, ...]]]


@overload
def op(function: Function) -> Callable[..., Tensor]: ...
@overload
def op(*, lists: tuple[str, ...] = (), replace: bool = False) -> Callable[[Function], Callable[..., Tensor]]: ...
def op(function: Any = None, *, lists: tuple[str, ...] = (), replace: bool = False) -> Any:
    """Make a function of arrays, which returns (value, gradient function per input), an op on Tensors.

    Inputs are the positional arguments. Those named in `lists` may be lists or tuples of Tensors, which count as
    that many inputs; elsewhere such a list is a TypeError, and so is an input that requires a gradient
    but gets no gradient function. TypeError, ValueError and IndexError raised by the function are prefixed with the
    op's name. ValueError: the name is another op's, unless `replace`. In the function and in backward
    NumPy neither warns nor raises, whatever `np.seterr` says: infinity and NaN are ordinary values.
    """
    if function is None:
        return functools.partial(op, lists=lists, replace=replace)
    name, run = function.__name__, quietly(function)
    places = {i for i, p in enumerate(inspect.signature(function).parameters) if p in lists} if lists else set()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Tensor:
        if kwargs and any(isinstance(value, Tensor | list | tuple) for value in kwargs.values()):
            bound = inspect.signature(function).bind(*args, **kwargs)  # Tensors passed by keyword are inputs too
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        inputs: list[Any] = []
        arrays, needed, known = [], [], []
        for i, a in enumerate(args):
            if isinstance(a, _LISTS) and any(isinstance(x, Tensor) for x in a):
                if i not in places:
                    found = f"found a {type(a).__name__} of them; take one, or stack() them"
                    raise TypeError(f"{name}: expected a Tensor for input {i}, {found}")
                inputs.extend(a)
                arrays.append((list if isinstance(a, list) else tuple)(map(values_of, a)))
            else:
                inputs.append(a)
                arrays.append(values_of(a))
        try:
            on = SEAM.interceptor
            value, gradients = run(*arrays, **kwargs) if on is None else on.op(run, args, arrays, kwargs)
        except (TypeError, ValueError, IndexError) as error:
            kind = next(t for t in (TypeError, ValueError, IndexError) if isinstance(error, t))
            raise kind(f"{name}: {error}") from error
        result = Tensor(value)
        if not PAUSED.get():
            for i, x in enumerate(inputs):
                if isinstance(x, Tensor) and x.requires_grad:
                    gradient = gradients[i] if i < len(gradients) else None
                    if gradient is None:
                        raise TypeError(f"{name} has no gradient for its input {i}; detach() it")
                    needed.append(x)
                    known.append(gradient)
            if needed:
                result._node, result.requires_grad = Node(function, args, kwargs, needed, known), True
        return result

    enter(OPS, "op", call, replace)
    return call
