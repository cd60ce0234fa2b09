"""Modules made of modules, under PyTorch's names: Sequential, ModuleList, ModuleDict, and Residual."""

from __future__ import annotations

import operator
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self

import numpy as np

from minidl import ops
from minidl.core.operators import values_of
from minidl.core.seam import SEAM, Interceptor
from minidl.nn.activation import ReLU
from minidl.nn.dense import Dense
from minidl.nn.module import Module
from minidl.tensor import ArrayLike


class ModuleList(Module):
    """A list of modules, whose parameters are named "0.weight", "1.weight", …. It computes nothing itself."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def _named(self) -> dict[str, Module]:
        return {name: m for name, m in vars(self).items() if name.isdecimal() or isinstance(m, Module)}

    def _replace(self, modules: list[Module]) -> None:
        """Hold these modules, under their present names or numbered by position."""
        before = self._named()
        names = {id(m): name for name, m in before.items() if not name.isdecimal()}
        for name in before:
            delattr(self, name)
        for i, module in enumerate(modules):
            setattr(self, names.pop(id(module), str(i)), self._checked(module, i))

    def _checked(self, module: Any, place: int) -> Module:
        if not callable(module) or isinstance(module, type):
            raise TypeError(f"{type(self).__name__}: expected modules, found {module!r} in place {place}")
        return module  # type: ignore[no-any-return]

    def _place(self, index: Any) -> int:
        """The non-negative form of an index. IndexError if out of range."""
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"{type(self).__name__}: expected an index into {len(self)} modules, found {i}")
        return i % len(self)

    def append(self, module: Module) -> Self:
        """Append a module."""
        setattr(self, str(len(self)), self._checked(module, len(self)))
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Append these modules."""
        for i, module in enumerate(found := list(modules)):
            self._checked(module, len(self) + i)
        for module in found:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Insert a module before the one at `index`; those after it are renumbered."""
        modules = list(self)
        modules.insert(index, self._checked(module, index))
        self._replace(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove the module at this index and return it."""
        module: Module = self[self._place(index)]
        del self[index]
        return module

    def __len__(self) -> int:
        return len(self._named())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._named().values())

    def __getitem__(self, index: int | slice) -> Any:
        named = list(self._named().items())
        if not isinstance(index, slice):
            return named[self._place(index)][1]
        made = Sequential() if isinstance(self, Sequential) else ModuleList()
        for name, module in named[index]:
            setattr(made, str(len(made)) if name.isdecimal() else name, module)
        return made

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self._named())[self._place(index)], self._checked(module, index))

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index if isinstance(index, slice) else self._place(index)]
        self._replace(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return self[:].extend(other)  # type: ignore[no-any-return]

    def __iadd__(self, other: Iterable[Module]) -> Self:
        return self.extend(other)


class Sequential(ModuleList):
    """Modules applied in order. A Dense followed by a ReLU runs as one op (`ops.dense_relu`): see `runs_as_one`.

    Modules are named "0", "1", …, or by the keys of a single dict, in its order.

    >>> model = nn.Sequential(nn.Dense(4, 8), nn.ReLU(), nn.Dense(8, 3))
    >>> model(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    >>> [name for name, _ in model.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for i, (name, module) in enumerate(modules[0].items()):
                setattr(self, free_name(self, name), self._checked(module, i))
        else:
            super().__init__(modules)

    def forward(self, x: ArrayLike) -> Any:
        layers: list[Any] = list(self)
        i = 0
        while i < len(layers):
            layer = layers[i]
            if isinstance(x, tuple):
                self._check_parts(x, i, layer)
            if i + 1 < len(layers) and runs_as_one(layer, layers[i + 1]):
                x = ops.dense_relu(x, layer.weight, layer.bias)
                i += 2
            else:
                x = layer(x)
                i += 1
        return x

    def _check_parts(self, x: tuple[Any, ...], place: int, layer: Any) -> None:
        """TypeError if one of minidl's own layers is about to receive a tuple, such as an LSTM returns."""
        if type(layer).__module__.startswith("minidl.nn.") and not isinstance(layer, Sequential):
            giver = f" of module {place - 1} ({type(self[place - 1]).__name__})" if place else ""
            raise TypeError(
                f"Sequential: expected one Tensor for module {place} ({type(layer).__name__}), found the {len(x)} "
                f"results{giver}; put a module between them whose forward returns the one to go on with"
            )


def _calls() -> tuple[Any, ...]:
    return Dense.__call__, Dense.run, Dense.forward, ReLU.__call__, ReLU.run, ReLU.forward


_OWN_CALLS = _calls()  # before anything patches them


def runs_as_one(layer: Any, after: Any) -> bool:
    """Whether a Sequential runs these two, a Dense and the ReLU after it, as `ops.dense_relu` and calls neither.

    Not if either is of a subclass or has a patched `forward` or `run`, on the object or its class; and not under an
    interceptor that sees modules, unless it declares that it knows of this (`Interceptor.knows_fused`).
    """
    if type(layer) is not Dense or type(after) is not ReLU:
        return False
    on = SEAM.interceptor
    if on is not None and type(on).module is not Interceptor.module and not on.knows_fused:
        return False
    one, other = layer.__dict__, after.__dict__
    own = "forward" in one or "run" in one or "forward" in other or "run" in other
    return not own and _calls() == _OWN_CALLS


class ModuleDict(Module):
    """A dict of modules, whose parameters are named by its keys: "left.weight". It computes nothing itself."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def _modules(self) -> dict[str, Module]:
        return {name: m for name, m in vars(self).items() if isinstance(m, Module)}

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add these modules in order. TypeError: not modules. KeyError: invalid names."""
        for key, module in dict(modules).items():
            self[key] = module

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules().keys()

    def values(self) -> ValuesView[Module]:
        """The modules."""
        return self._modules().values()

    def items(self) -> ItemsView[str, Module]:
        """The names with their modules."""
        return self._modules().items()

    def pop(self, key: str) -> Module:
        """Remove the module of this name and return it."""
        module = self[key]
        delattr(self, key)
        return module

    def clear(self) -> None:
        """Remove all modules."""
        for key in self.keys():
            del self[key]

    def __len__(self) -> int:
        return len(self._modules())

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules())

    def __contains__(self, key: object) -> bool:
        return key in self._modules()

    def __getitem__(self, key: str) -> Module:
        if key not in self:
            raise KeyError(f"ModuleDict: expected one of {list(self)}, found {key!r}")
        return self._modules()[key]

    def __setitem__(self, key: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"ModuleDict: expected modules, found {module!r} under {key!r}")
        setattr(self, key if key in self else free_name(self, key), module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)


class Residual(Module):
    """y = s(x) + f(x): a module f with a shortcut s around it, x itself if None   (He et al. 2016, eq. 1 and 2).

    Parameters are named "module.…" and "shortcut.…". ValueError if the two differ in shape.
    """

    def __init__(self, module: Module, shortcut: Module | None = None) -> None:
        for name, value in (("module", module), ("shortcut", shortcut)):
            if isinstance(value, type) or not (callable(value) or (value is None and name == "shortcut")):
                raise TypeError(f"Residual: expected {name} as a module, found {value!r}")
        self.module, self.shortcut = module, shortcut

    def forward(self, x: ArrayLike) -> Any:
        change, kept = self.module(x), x if self.shortcut is None else self.shortcut(x)
        if change.shape != np.shape(values_of(kept)):
            raise ValueError(
                f"Residual: expected the module's result and the shortcut's in one shape, found {change.shape} and "
                f"{np.shape(values_of(kept))}"
            )
        return ops.add(kept, change)


def free_name(module: Module, name: Any) -> str:
    """`name`, if it may name an attribute of `module`. TypeError: not a string. KeyError: empty, dotted or taken."""
    if not isinstance(name, str):
        raise TypeError(f"{type(module).__name__}: expected names, found {name!r}")
    if not name or "." in name or hasattr(module, name):
        raise KeyError(f"{type(module).__name__}: expected a name without dots that is not taken, found {name!r}")
    return name
