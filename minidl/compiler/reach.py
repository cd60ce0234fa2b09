"""What a step can reach: a walk from its function through everything it holds, and a quick check for changes.

The walk goes through closures, the globals that code names, default arguments, attributes of objects, elements of
lists, tuples, dicts and sets, and methods of classes. It stops at what belongs to NumPy or Python.
"""

from __future__ import annotations

import argparse
import dis
import enum
import functools
import operator
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from minidl.jit import REPLACED, Kernel
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.tensor import Tensor

GENERATORS = np.random.Generator, np.random.RandomState, random.Random
NAMESPACES = types.SimpleNamespace, argparse.Namespace
_ATOMS = frozenset((type(None), bool, int, float, complex, str, bytes, type(...), np.dtype, np.ufunc, Kernel))
_OTHERS = frozenset(("minidl", "numpy", "numba", "llvmlite", "builtins", *sys.stdlib_module_names)) - {"__main__"}
_LEAVES = (Tensor, np.ndarray, *GENERATORS, types.ModuleType, types.CodeType, enum.Enum)
_GONE = KeyError, ValueError, AttributeError, RuntimeError  # a name or cell value is missing, or a dict is growing


class Guard:
    """Checks whether watched places are unchanged: lists, views of dicts, and what getters read.

    One pass, without a line of Python per place, which would take as long as a small step.
    """

    def __init__(self) -> None:
        self.views: list[Any] = []
        self.owners: list[Any] = []  # of the views: the list, dict or set
        self.readers: list[Callable[[], Iterable[Any]]] = []

    def watch(self, owner: Any, *views: Any) -> None:
        self.views += views or (owner,)
        self.owners += [owner] * (len(views) or 1)

    def read(self, get: Callable[[Any], Any], owner: Any) -> None:
        """Watch what an `attrgetter` or `itemgetter` gets."""
        self.readers.append(functools.partial(get, owner))

    def take(self) -> None:
        """Remember the present contents as the expected ones."""
        self._keep([list(v) for v in self.views], [list(read()) for read in self.readers])

    def take_over(self, other: Guard) -> None:
        """Expect what a later guard of the same places found."""
        self._keep(other.kept, other.found)

    def _keep(self, kept: list[list[Any]], found: list[list[Any]]) -> None:
        self.kept, self.found = kept, found  # the objects themselves, so that no id is reused
        self._lengths = list(map(len, kept))
        self._all = [x for values in (*kept, *found) for x in values]

    def holds(self) -> bool:
        try:
            now = chain(chain.from_iterable(self.views), chain.from_iterable([read() for read in self.readers]))
            return list(map(len, self.views)) == self._lengths and all(map(operator.is_, now, self._all))
        except _GONE:
            return False

    def accept(self, owner: Any) -> None:
        """Accept what the step itself has added to this list, dict or set."""
        for n, (view, other) in enumerate(zip(self.views, self.owners, strict=True)):
            if other is owner:
                now = list(view)
                if all(map(operator.is_, now, self.kept[n])) or isinstance(owner, set):
                    self.kept[n] = now
        self._keep(self.kept, self.found)

    def signature(self) -> tuple[Any, ...]:
        """The remembered contents: numbers and strings compare by value, everything else by identity."""
        return tuple(tuple(map(_sign, values)) for values in (*self.kept, *self.found))


def _sign(x: Any) -> Any:
    if isinstance(x, tuple):
        return type(x), tuple(map(_sign, x))
    return (type(x), repr(x)) if type(x) in (int, float, complex, str, bytes) or isinstance(x, np.generic) else id(x)


class Reach:
    """The walk. `things` and `names`: id → object reached, and its name; `parents`: id → ids of what holds it.

    outer   (name, thing) of the modules, optimizers, Tensors, arrays and generators reached outside modules and
            optimizers, in the order of the walk; `inner`: of those inside
    scopes  id → (a namespace, the names in it that code uses)
    """

    def __init__(self, root: Any) -> None:
        self.things: dict[int, Any] = {}
        self.names: dict[int, str] = {}
        self.parents: dict[int, list[int]] = {}
        self.scopes: dict[int, tuple[dict[str, Any], set[str]]] = {}
        self.outer: list[tuple[str, Any]] = []
        self.inner: list[tuple[str, Any]] = []
        self.guard = Guard()
        self._cells: list[Any] = []
        self._groups: set[int] = set()  # dicts of optimizers' groups
        outside, inside = deque([("model", root)]), deque[tuple[str, Any]]()
        while outside or inside:
            within = not outside
            name, thing = (outside or inside).popleft()
            if id(thing) in self.things:
                continue
            self.things[id(thing)], self.names[id(thing)] = thing, name
            if isinstance(thing, (Module, Optimizer, Tensor, np.ndarray, *GENERATORS)):
                (self.inner if within else self.outer).append((name, thing))
            to = inside if within or isinstance(thing, Module | Optimizer) else outside
            for child_name, child in self._parts(name, thing):
                if type(child) not in _ATOMS:
                    self.parents.setdefault(id(child), []).append(id(thing))
                    to.append((child_name, child))
        cells, tensors = self._cells, [t for t in self.things.values() if isinstance(t, Tensor)]
        self.guard.watch(REPLACED, REPLACED.values())
        self.guard.readers.append(functools.partial(map, operator.attrgetter("cell_contents"), cells))
        self.guard.readers.append(functools.partial(map, operator.attrgetter("requires_grad"), tensors))
        for scope, names in self.scopes.values():
            self.guard.read(_items(names), scope)
        self.guard.take()

    def above(self, leaves: Iterable[int]) -> set[int]:
        """The ids of these things and of everything that holds them, directly or not."""
        found, stack = set[int](), list(leaves)
        while stack:
            if (one := stack.pop()) not in found:
                found.add(one)
                stack.extend(self.parents.get(one, ()))
        return found

    def _parts(self, name: str, x: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(x, types.FunctionType):
            yield from self._function(x)
        elif isinstance(x, types.MethodType):
            yield from ((name, x.__self__), (name, x.__func__))
        elif isinstance(x, types.BuiltinMethodType) and isinstance(x.__self__, GENERATORS):
            yield name, x.__self__
        elif isinstance(x, functools.partial):
            yield name, x.func
            yield from ((f"argument_{i}", a) for i, a in enumerate(x.args))
            yield from x.keywords.items()
        elif isinstance(x, list | tuple | set | frozenset | deque):
            if not isinstance(x, tuple | frozenset):
                self.guard.watch(x)
            yield from ((f"{name}_{i}", v) for i, v in enumerate(x))
            yield from self._attributes(x)
        elif isinstance(x, dict):
            if id(x) in self._groups:
                self.guard.read(_items(k for k in x if k != "lr"), x)
            else:
                self.guard.watch(x, x.keys(), x.values())
            yield from ((str(k), v) for k, v in x.items())
            yield from (("key", k) for k in x)
            yield from self._attributes(x)
        elif isinstance(x, type):  # never copied, so its contents are not walked
            for cls in x.__mro__ if not foreign(x.__module__) else ():
                if not foreign(cls.__module__):
                    self.guard.watch(cls, vars(cls).values())
        elif isinstance(x, Optimizer):
            yield from self._optimizer(x)
        elif is_step(x):
            yield name, x.function
        elif not isinstance(x, _LEAVES):
            yield from self._attributes(x)

    def _function(self, f: types.FunctionType) -> Iterator[tuple[str, Any]]:
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            if filled(cell):
                self._cells.append(cell)
                yield name, cell.cell_contents
        if foreign(f.__globals__.get("__name__")) or _theirs(f.__globals__):  # such globals are not state
            return
        named, used = names_in(f.__code__)
        yield from self._named(f.__globals__, named, used)
        yield from ((f"default_{i}", d) for i, d in enumerate(f.__defaults__ or ()))
        yield from (f.__kwdefaults__ or {}).items()
        yield from vars(f).items()
        self.guard.watch(vars(f), vars(f).values())
        self.guard.read(operator.attrgetter("__code__", "__defaults__", "__kwdefaults__"), f)

    def _named(self, scope: dict[str, Any], names: Iterable[str], used: frozenset[str]) -> Iterator[tuple[str, Any]]:
        """A namespace's values under these names, and those of modules in it under the attributes in `used`."""
        found = [n for n in names if n in scope]
        _, known = self.scopes.setdefault(id(scope), (scope, set()))
        known.update(found)
        for name in found:
            value = scope[name]
            if not isinstance(value, types.ModuleType):
                yield name, value
            elif not foreign(value.__name__) and not _theirs(vars(value)):
                inner = vars(value)
                if not used <= self.scopes.get(id(inner), (inner, frozenset[str]()))[1]:
                    yield from self._named(inner, [n for n in used if n in inner], used)

    def _optimizer(self, x: Optimizer) -> Iterator[tuple[str, Any]]:
        """Its groups without learning rates; what it keeps for parameters is looked up at each call."""
        self.guard.read(_items(k for k in vars(x) if k not in ("state", "defaults")), vars(x))
        self._groups.update(map(id, x.param_groups))
        yield from ((k, v) for k, v in vars(x).items() if k not in ("state", "defaults"))
        for entries in x.state.values():
            yield from entries.items()

    def _attributes(self, x: Any) -> Iterator[tuple[str, Any]]:
        kind = type(x)
        if foreign(kind.__module__) and not kind.__module__.startswith("minidl.") and kind not in NAMESPACES:
            return
        if isinstance(x, Module):
            x._begin()
        if isinstance(members := getattr(x, "__dict__", None), dict):
            self.guard.watch(members, members.values())
            yield from members.items()
        slots = [s for s in slots_of(kind) if hasattr(x, s)]
        if slots:
            self.guard.read(operator.attrgetter(*slots, slots[0]), x)
            yield from ((s, getattr(x, s)) for s in slots)
        for cls in kind.__mro__:
            if not foreign(cls.__module__):
                self.guard.watch(cls, vars(cls).values())
                yield from ((n, method(v)) for n, v in vars(cls).items() if not n.startswith("__") or callable(v))


def is_step(x: Any) -> bool:
    """Whether x is a compiled step."""
    return type(x).__module__ == "minidl.compiler.step"


def is_iterator(x: Any) -> bool:
    """Whether x is a Python iterator: a generator, a count, an open file."""
    return isinstance(x, Iterator) and foreign(type(x).__module__)


def method(x: Any) -> Any:
    """The function behind a class attribute."""
    return x.__func__ if isinstance(x, staticmethod | classmethod) else x.fget if isinstance(x, property) else x


def filled(cell: Any) -> bool:
    """Whether a closure's cell holds anything yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def slots_of(kind: type) -> list[str]:
    """The attributes that objects of this class keep in slots."""
    found: list[str] = []
    for cls in kind.__mro__:
        if not foreign(cls.__module__):
            slots = cls.__dict__.get("__slots__", ())
            found += [s for s in ((slots,) if isinstance(slots, str) else slots) if not s.startswith("__")]
    return found


def foreign(module: str | None) -> bool:
    """Whether this names a module of minidl, NumPy or Python."""
    return (module or "").split(".")[0] in _OTHERS


def _theirs(scope: dict[str, Any]) -> bool:
    """Whether these are the globals of an installed module that holds nothing of minidl's."""
    installed = "site-packages" in str(scope.get("__file__", ""))
    made_in = (getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in scope.values())
    return installed and not any(str(m).split(".")[0] == "minidl" for m in made_in)


@functools.lru_cache(maxsize=1024)
def names_in(code: types.CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """The globals that code reads, nested functions included, in order; and all its names, attributes included."""
    names, used = dict[str, None](), set(code.co_names)
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
            names[instruction.argval] = None
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more, also = names_in(inner)
            names.update(dict.fromkeys(more))
            used |= also
    return tuple(names), frozenset(used)


def _items(names: Iterable[str]) -> Callable[[Any], Any]:
    """A getter of the values under these names, as a tuple."""
    found = sorted(names)
    return operator.itemgetter(*found, *found[:1] * (len(found) == 1)) if found else lambda _: ()
