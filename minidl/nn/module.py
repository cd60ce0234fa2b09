"""`Module`, the base class of layers and models. See `minidl.nn` for how to write one."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from minidl.core.operators import values_of
from minidl.core.seam import SEAM
from minidl.ops.inputs import number
from minidl.shared.numbers import check_sizes, is_integer
from minidl.tensor import FLOATS, Array, ArrayLike, Tensor


class Module:
    """A computation with parameters. Subclasses assign attributes and define `forward`.

    Its state is the leaf Tensors (parameters) and arrays (buffers) among its attributes, and in lists and dicts there,
    before its first call, and Tensors added later that require a gradient. Anything else that `forward` leaves in an
    attribute is not state.

    >>> class Affine(nn.Module):
    ...     def __init__(self):
    ...         self.scale, self.shift = minidl.Tensor(2.0, requires_grad=True), minidl.Tensor(1.0, requires_grad=True)
    ...
    ...     def forward(self, x):
    ...         return self.scale * x + self.shift
    >>> affine = Affine()
    >>> affine(np.array([1.0, 2.0])).numpy()
    array([3., 5.])
    >>> [name for name, _ in affine.named_parameters()]
    ['scale', 'shift']
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if SEAM.interceptor is not None:
            return SEAM.interceptor.module(self, args, kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The call itself, without an interceptor (see `minidl.core.seam`)."""
        if "_first" not in self.__dict__:
            self._begin()
        return self.forward(*args, **kwargs)

    def _begin(self) -> None:
        """Note the attributes that exist before the first call."""
        vars(self).setdefault("_first", {name for name, _ in _walk(vars(self), "")})

    # -------------------------------------------------------------------------------- reflection

    def children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside this one, with their names ("hidden", "blocks.0")."""
        for name, value in _walk(vars(self), ""):
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all inside it, depth first; shared ones once."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                stack.extend(reversed([(f"{name}.{child}".lstrip("."), m) for child, m in module.children()]))

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, shared ones once."""
        return (module for _, module in self.named_modules())

    def _named_state(self) -> Iterator[tuple[str, Tensor | Array]]:
        """Every parameter and buffer under every name it has, in definition order. ValueError: one name for two."""
        names: set[str] = set()
        for name, value in _state(self, "", ()):
            if name in names:
                raise ValueError(f"{type(self).__name__}: expected one array of each name, found two called {name!r}")
            names.add(name)
            yield name, value

    def _members(self) -> Iterator[tuple[str, Any]]:
        """The modules, parameters and buffers directly inside this one, under their names."""
        first: set[str] | None = vars(self).get("_first")  # names that existed before the first call
        for name, value in _walk(vars(self), ""):
            if first is None or name in first or isinstance(value, Module):
                yield name, value
            elif isinstance(value, Tensor) and value.requires_grad:
                first.add(name)  # a parameter added on purpose: it remains one when frozen
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(name, parameter) in definition order; a shared one comes once, under its first name."""
        seen: set[int] = set()
        for name, value in self._named_state():
            if isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def parameters(self) -> Iterator[Tensor]:
        """The parameters in definition order, shared ones once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(name, buffer) in definition order; a shared one comes once."""
        seen: set[int] = set()
        for name, value in self._named_state():
            if not isinstance(value, Tensor) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    # ------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Array]:
        """Name → array of every parameter and buffer, under PyTorch's names. The arrays are not copies."""
        return {name: values_of(value) for name, value in self._named_state()}

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], strict: bool = True) -> None:
        """Copy values into the parameters and buffers of the same names.

        KeyError: missing or, if `strict`, unexpected names. ValueError: another shape. TypeError: not
        numbers. Everything is checked before anything is changed.
        """
        mine = self.state_dict()
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: expected a dict of arrays, found {type(state_dict).__name__}")
        missing = [name for name in mine if name not in state_dict]
        extra = [name for name in state_dict if name not in mine]
        if strict and (missing or extra):
            raise KeyError(f"load_state_dict: missing {missing}, unexpected {extra}; expected {list(mine)}")
        found = {name: np.asarray(values_of(state_dict[name])) for name in mine if name in state_dict}
        for name, values in found.items():
            if values.shape != mine[name].shape:
                raise ValueError(f"load_state_dict: expected {name} of shape {mine[name].shape}, found {values.shape}")
            if values.dtype.kind not in "fiub":
                raise TypeError(f"load_state_dict: expected numbers for {name}, found {values.dtype}")
        for name, values in found.items():
            mine[name][...] = values

    def train(self, mode: bool = True) -> Self:
        """Set training mode (dropout drops) here and in all modules inside."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Unfreeze the parameters, or freeze them (False)."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Set every parameter's gradient to None."""
        for p in self.parameters():
            p.grad = None

    # -------------------------------------------------------------------------------------- repr

    def extra_repr(self) -> str:
        """The layer's settings, as `repr` shows them."""
        return ""

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        own = [f"{n} {v.shape}" for n, v in self._members() if not isinstance(v, Module)]
        count = sum(p.size for p in self.parameters())
        inside = "\n".join(f"  ({name}): {module!r}".replace("\n", "\n  ") for name, module in self.children())
        told = ", ".join(filter(None, [self.extra_repr(), *own]))
        head = f"{type(self).__name__}({told})" + (f"  # {count:,} parameters" if count else "")
        return f"{head}\n{inside}" if inside else head


def _walk(members: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Modules, leaf Tensors and arrays among these members and in their lists, tuples and dicts."""
    for key, value in members.items():
        name = f"{prefix}{key}"
        if isinstance(value, Module | np.ndarray) or (isinstance(value, Tensor) and value.is_leaf):
            if not isinstance(value, np.ndarray) or value.dtype.kind in "fiub":
                yield name, value
        elif isinstance(value, list | tuple):
            yield from _walk(dict(enumerate(value)), f"{name}.")
        elif isinstance(value, dict):
            yield from _walk(value, f"{name}.")


def _state(module: Module, prefix: str, path: tuple[int, ...]) -> Iterator[tuple[str, Tensor | Array]]:
    for name, value in module._members():
        if not isinstance(value, Module):
            yield f"{prefix}{name}", value
        elif id(value) not in (*path, id(module)):  # a reference to a parent is not a child
            yield from _state(value, f"{prefix}{name}.", (*path, id(module)))


def check_layer(layer: str, dtype: Any, **sizes: Any) -> None:
    """TypeError unless the dtype is float32 or float64; ValueError unless each size is an int of at least 1."""
    check_sizes(layer, **sizes)
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{layer}: expected dtype float32 or float64, found {dtype!r}") from None
    if found not in FLOATS:
        raise TypeError(f"{layer}: expected dtype float32 or float64, found {found}")


def check_flags(layer: str, **flags: Any) -> None:
    """TypeError unless each is True or False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{layer}: expected {name} as True or False, found {flag!r}")


def check_dim(layer: str, dim: Any) -> int:
    """`dim`. TypeError unless it is an int."""
    if not is_integer(dim):
        raise TypeError(f"{layer}: expected dim as an int, found {dim!r}")
    return int(dim)


def probability(layer: str, p: Any, name: str = "p") -> float:
    """A number from 0 to 1. TypeError: not a number. ValueError: out of range."""
    p = number(p, name)
    if not 0 <= p <= 1:
        raise ValueError(f"{layer}: expected a probability {name} from 0 to 1, found {p}")
    return p  # type: ignore[no-any-return]
