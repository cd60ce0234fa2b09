"""Copies to record on: everything between a step's function and its state, so that nothing shared is touched.

Parameters, buffers, arrays and generators have stand-ins. Whatever holds them, directly or not, is copied, with the
stand-ins in their place. What the function then changes in the copies, apart from its state, is `changes`.
"""

from __future__ import annotations

import copy
import functools
import itertools
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.compiler.reach import NAMESPACES, Reach, filled, foreign, is_iterator, is_step, method, slots_of
from minidl.compiler.traced import CompileError, Traced
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.tensor import Tensor

PLAIN = (type(None), bool, int, float, complex, str, bytes, type)


class Change:
    """A change that the function made to something other than its state; `make` applies it to the original.

    place   identifies what was changed; `name`: what an error calls it; `owner`: the list, dict or set
    adds    it only added to a list, dict or set, as to a log
    """

    def __init__(self, place: Any, name: str, adds: bool, owner: Any, make: Callable[[], object]) -> None:
        self.place, self.name, self.adds, self.owner, self.make = place, name, adds, owner, make


class Shadows:
    """The copies. `stand_ins`: id → stand-in of a Tensor, array or generator."""

    def __init__(self, reach: Reach, stand_ins: dict[int, Any]) -> None:
        self.reach, self.memo = reach, dict(stand_ins)
        things = reach.things
        kinds = (Module, Optimizer, list, dict, set, deque)
        copied = [i for i, x in things.items() if i in stand_ins or isinstance(x, kinds)]
        self.marked = reach.above(copied) | {i for i, x in things.items() if _is_users(x) or is_iterator(x)}
        self.originals: dict[int, Any] = {id(s): things[i] for i, s in stand_ins.items() if i in things}
        self._filled: list[tuple[str, Any, Any, Any]] = []  # (kind, original, copy, its initial contents)
        self._kept: list[Any] = []  # so that no id is reused

    def of(self, x: Any) -> Any:
        """The substitute for x: its stand-in, its copy, or x itself if it holds nothing of the state."""
        if id(x) in self.memo:
            return self.memo[id(x)]
        return self._made(x) if id(x) in self.marked else x

    def original(self, x: Any) -> Any:
        """The original of a copy; anything else unchanged."""
        return self.originals.get(id(x), x)

    def _enter(self, x: Any, made: Any) -> Any:
        self.memo[id(x)], self.originals[id(made)] = made, x
        self._kept.append((x, made))
        return made

    def _made(self, x: Any) -> Any:
        if is_step(x):
            return self._enter(x, self.of(x.function))
        if is_iterator(x):
            return self._enter(x, _Iterated(self.reach.names.get(id(x), "an iterator")))
        if isinstance(x, types.FunctionType):
            return self._function(x)
        if isinstance(x, types.MethodType):
            return types.MethodType(self.of(x.__func__), self.of(x.__self__))
        if isinstance(x, types.BuiltinMethodType):
            return getattr(self.of(x.__self__), x.__name__)
        if isinstance(x, functools.partial):
            return functools.partial(
                self.of(x.func), *map(self.of, x.args), **{k: self.of(v) for k, v in x.keywords.items()}
            )
        if isinstance(x, tuple):
            return self._enter(x, tuple.__new__(type(x), [self.of(v) for v in x]))
        if isinstance(x, frozenset):
            return self._enter(x, frozenset(map(self.of, x)))
        return self._container(x)

    def _container(self, x: Any) -> Any:
        if type(x) in (list, dict, set, deque):
            made = self._enter(x, type(x)() if type(x) is not deque else deque(maxlen=x.maxlen))
        elif isinstance(x, list | dict | set | deque):
            made = self._enter(x, copy.copy(x))
        else:
            made = self._enter(x, type(x)() if type(x) in NAMESPACES else object.__new__(type(x)))
        if isinstance(x, list | deque):
            made.clear()
            made.extend(map(self.of, list(x)))
            self._filled.append(("items", x, made, list(made)))
        elif isinstance(x, dict):
            self._fill(x, x, made)
        elif isinstance(x, set):
            made.clear()
            made.update(map(self.of, x))
            self._filled.append(("set", x, made, set(made)))
        if isinstance(getattr(x, "__dict__", None), dict):
            self._enter(vars(x), vars(made))
            self._fill(x, vars(x), vars(made))
            for name, f in self._methods(type(x)).items():
                vars(made).setdefault(name, types.MethodType(f, made))
        slots = {name: getattr(x, name) for name in slots_of(type(x)) if hasattr(x, name)}
        for name, value in slots.items():
            object.__setattr__(made, name, self.of(value))
        if slots:
            self._filled.append(("slots", x, made, {name: getattr(made, name) for name in slots}))
        return made

    def _fill(self, owner: Any, members: dict[Any, Any], made: dict[Any, Any]) -> None:
        values = {self.of(k): self.of(v) for k, v in dict(members).items()}
        made.clear()
        made.update(values)
        self._filled.append(("entries" if owner is members else "attributes", members, made, values))
        self.originals.setdefault(id(made), members)
        self.reach.names.setdefault(id(members), self.reach.names.get(id(owner), ""))

    def _methods(self, kind: type) -> dict[str, Any]:
        """The methods of a user's class that reach Tensors, modules, optimizers or generators."""
        found: dict[str, Any] = {}
        for cls in kind.__mro__:
            for name, x in vars(cls).items() if not foreign(cls.__module__) else ():
                if isinstance(x, types.FunctionType) and not name.startswith("__"):
                    found.setdefault(name, x)
        return {n: self.of(method(f)) for n, f in found.items() if self._leads(f)}

    def _leads(self, f: Any) -> bool:
        return id(f) in self._strong

    @functools.cached_property
    def _strong(self) -> set[int]:
        leaves = (i for i, x in self.reach.things.items() if not isinstance(x, np.ndarray) and (
            i in self.memo or isinstance(x, Module | Optimizer)))  # fmt: skip
        return self.reach.above(list(leaves))

    # ---------------------------------------------------------------------------------- functions

    def _function(self, f: types.FunctionType) -> Any:
        cells = tuple(map(self._cell, f.__closure__ or ()))
        made = types.FunctionType(f.__code__, self._scope(f.__globals__), f.__name__, None, cells or None)
        self._enter(f, made)
        made.__defaults__ = tuple(map(self.of, f.__defaults__)) if f.__defaults__ else None
        made.__kwdefaults__ = {k: self.of(v) for k, v in f.__kwdefaults__.items()} if f.__kwdefaults__ else None
        made.__qualname__, made.__module__, made.__doc__ = f.__qualname__, f.__module__, f.__doc__
        self._fill(f, f.__dict__, made.__dict__)
        return made

    def _cell(self, cell: Any) -> Any:
        if id(cell) not in self.memo:
            made = self._enter(cell, types.CellType())
            if filled(cell):
                made.cell_contents = self.of(cell.cell_contents)
                self._filled.append(("cell", cell, made, made.cell_contents))
        return self.memo[id(cell)]

    def _scope(self, scope: dict[str, Any]) -> Any:
        """A copy of a module's globals, in which the names that code uses refer to copies."""
        if foreign(scope.get("__name__")):
            return scope
        if id(scope) not in self.memo:
            made = self._enter(scope, dict(scope))
            for name in self.reach.scopes.get(id(scope), (scope, set[str]()))[1]:
                if name in scope:
                    made[name] = self._module(scope[name])
            self._filled.append(("globals", scope, made, dict(made)))
        return self.memo[id(scope)]

    def _module(self, x: Any) -> Any:
        """A copy of a module whose contents code uses."""
        if not isinstance(x, types.ModuleType) or id(vars(x)) not in self.reach.scopes:
            return self.of(x)
        if id(x) not in self.memo:
            made = self._enter(x, types.ModuleType(x.__name__))
            vars(made).update(self._scope(vars(x)))
        return self.memo[id(x)]

    # ------------------------------------------------------------------------------------ changes

    def changes(self, is_state: Callable[[Any, Any], bool]) -> list[Change]:
        """What the function changed, apart from the places (owner, key) for which `is_state` is true."""
        found: list[Change] = []
        for kind, x, made, before in self._filled:
            if kind == "cell":
                now = made.cell_contents if filled(made) else None
                if now is not before:
                    name = self._name_of(x)
                    value = self.kept(now, name)
                    found.append(
                        Change(id(x), name, False, None, functools.partial(setattr, x, "cell_contents", value))
                    )
            elif kind == "items":
                changed = [
                    i for i, (a, b) in enumerate(itertools.zip_longest(made, before, fillvalue=self)) if a is not b
                ]
                if not all(is_state(x, i) for i in changed):
                    found.append(self._items(x, list(made), before))
            elif kind == "set":
                if made != before:
                    name = self.reach.names.get(id(x), "a set")
                    found.append(Change(id(x), name, before <= made, x, functools.partial(
                        x.update, [self.kept(v, name) for v in made])))  # fmt: skip
            elif kind == "slots":
                for name in slots_of(type(x)):
                    now = getattr(made, name, None)
                    if now is not before.get(name):
                        make = functools.partial(object.__setattr__, x, name, self.kept(now, name))
                        found.append(Change((id(x), name), name, False, None, make))
            else:
                found += self._names(x, made, before, is_state, logs=kind == "entries")
        return found

    def _items(self, x: Any, now: list[Any], before: list[Any]) -> Change:
        name = self.reach.names.get(id(x), "a list")
        values = [self.kept(v, name) for v in now]
        adds = list(map(id, now[: len(before)])) == list(map(id, before))
        if adds:
            return Change(id(x), name, True, x, functools.partial(x.extend, values[len(before) :]))

        def make() -> None:
            x.clear()
            x.extend(values)

        return Change(id(x), name, False, x, make)

    def _names(self, x: Any, made: Any, before: Any, is_state: Any, logs: bool) -> list[Change]:
        found = []
        for key in [k for k in before if k not in made]:
            found.append(
                Change((id(x), key), str(key), False, None, functools.partial(x.pop, self.original(key), None))
            )
        for key, now in made.items():
            if (key in before and _same(now, before[key])) or is_state(x, key) or _is_own(now, made):
                continue
            key, value = self.original(key), self.kept(now, str(key))
            place = (id(x), key)
            adds = logs and key not in x
            found.append(Change(place, str(key), adds, x, functools.partial(x.__setitem__, key, value)))
        return found

    def kept(self, x: Any, name: str) -> Any:
        """The original of what the function left under a name. CompileError: it holds part of the recording."""
        if id(x) in self.originals:
            return self.originals[id(x)]
        if type(x) in (list, tuple, dict):
            inside = x.items() if isinstance(x, dict) else x
            made = [self.kept(v, name) for v in inside]
            return type(x)(made)
        for thing in () if type(x) in PLAIN else Reach(x).things.values():
            if isinstance(thing, Traced) or id(thing) in self.originals or (
                isinstance(thing, Tensor) and isinstance(thing.data, Traced)
            ):  # fmt: skip
                raise CompileError(
                    f"compile: the step keeps what it computes in {name}, in Python, which would happen only once; "
                    "return it, and keep it outside of the compiled function"
                )
        return x

    def _name_of(self, cell: Any) -> str:
        for f in self.reach.things.values():
            if isinstance(f, types.FunctionType):
                for name, c in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
                    if c is cell:
                        return name
        return "a variable"


def _is_users(x: Any) -> bool:
    """Whether x is a user's function or object, in which a step may keep something."""
    if isinstance(x, types.FunctionType):
        return not foreign(x.__globals__.get("__name__"))
    kind: Any = type(x)
    plain = kind.__new__ is object.__new__ and not isinstance(x, type) and not foreign(kind.__module__)
    return kind in NAMESPACES or (plain and (hasattr(x, "__dict__") or bool(slots_of(kind))))


class _Iterated:
    """Stands for an iterator, from which a step would take something only once, during recording."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        raise CompileError(
            f"compile: the step takes the next of the iterator {self.name}, which would happen only once; "
            "take it outside and pass it as an argument"
        )


def _same(x: Any, before: Any) -> bool:
    """Whether x is unchanged: the same object, or an equal string, number or tuple of these."""
    if type(x) is tuple and type(before) is tuple and len(x) == len(before):
        return all(map(_same, x, before))
    return x is before or (type(x) is type(before) and type(x) in PLAIN[:-1] and repr(x) == repr(before))


def _is_own(x: Any, made: dict[str, Any]) -> bool:
    """Whether x is a method that was put into the copy's attributes."""
    return isinstance(x, types.MethodType) and getattr(x.__self__, "__dict__", None) is made
