"""What a step works on besides its arguments: found in the function, and replaced by Traced arrays to record it.

Modules, optimizers, Tensors and generators are looked for in the function's closure, in the globals and attributes
that it names, and in what these hold.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.compiler.recorder import Recorder
from minidl.compiler.traced import CompileError, Traced
from minidl.jit import REPLACED
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.random import default_generator
from minidl.tensor import FLOATS, Array, Tensor


class State:
    """The modules, parameters, buffers and optimizers of a step, with the names that the program gives them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.modules: dict[str, Module] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.tensors: dict[Tensor, str] = {}
        self.generators: list[np.random.Generator] = []
        lone: list[tuple[str, Tensor]] = []
        for name, found in _reach(function):
            if isinstance(found, Module):
                self.modules.setdefault(name, found)
            elif isinstance(found, Optimizer):
                self.optimizers.setdefault(name, found)
            elif isinstance(found, np.random.Generator):
                self.generators.append(found)
            else:
                lone.append((name, found))
        several = len(self.modules) > 1
        for name, module in self.modules.items():
            for path, p in module.named_parameters():
                self.tensors.setdefault(p, f"{name}.{path}" if several else path)
        for name, tensor in lone:
            self.tensors.setdefault(tensor, name)
        for optimizer in self.optimizers.values():
            for n, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
                self.tensors.setdefault(p, f"parameter_{n}")
        self.all_modules = [m for module in self.modules.values() for m in module.modules()]

    def fingerprint(self) -> tuple[Any, ...]:
        """What a recorded program took for granted: modes, options, who needs a gradient."""
        groups = [g for o in self.optimizers.values() for g in o.param_groups]
        options = [v for g in groups for k, v in g.items() if k != "params" and k != "lr"]
        modes = [(m.training, getattr(m, "generator", None)) for m in self.all_modules]
        return *REPLACED.items(), *modes, *[t.requires_grad for t in self.tensors], *options

    def draws(self) -> list[Any]:
        """The state of every random generator that the step can get at."""
        named = [getattr(m, "generator", None) for m in self.all_modules]
        generators = {id(g): g for g in (default_generator(), *self.generators, *named) if g is not None}
        return [g.bit_generator.state for g in generators.values()]

    def gradients(self) -> tuple[bool, ...]:
        """Which tensors have a gradient."""
        return tuple(t.grad is not None for t in self.tensors)

    def drop_traced(self) -> list[str]:
        """Take Traced arrays out of what the optimizers keep: the names of what they were."""
        dropped = []
        for optimizer in self.optimizers.values():
            for entries in optimizer.state.values():
                for key in [k for k, v in entries.items() if isinstance(v, Traced)]:
                    del entries[key]
                    dropped.append(key)
        return list(dict.fromkeys(dropped))

    def prepare(self) -> None:
        """Let every optimizer make the state that it would make in its first step."""
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.requires_grad:
                        optimizer.prepare(p, group)


class Slot:
    """A place that holds an array or number: an attribute of a Tensor, or an entry of a dict or list."""

    def __init__(self, owner: Any, key: Any) -> None:
        self.owner, self.key = owner, key

    def get(self) -> Any:
        return self.owner[self.key]

    def set(self, value: Any) -> None:
        self.owner[self.key] = value


class Attribute(Slot):
    def get(self) -> Any:
        return getattr(self.owner, self.key)

    def set(self, value: Any) -> None:
        setattr(self.owner, self.key, value)


class Momentum(Slot):
    """An entry of what an optimizer keeps for a parameter: `load_state_dict` replaces the whole."""

    def __init__(self, optimizer: Optimizer, tensor: Tensor, key: str) -> None:
        super().__init__(optimizer, key)
        self.tensor = tensor

    def get(self) -> Any:
        return self.owner.state[self.tensor][self.key]

    def set(self, value: Any) -> None:
        self.owner.state[self.tensor][self.key] = value


class Option(Slot):
    """An option of an optimizer's group."""

    def __init__(self, optimizer: Optimizer, group: int, key: str) -> None:
        super().__init__(optimizer, key)
        self.group = group

    def get(self) -> Any:
        return self.owner.param_groups[self.group][self.key]

    def set(self, value: Any) -> None:
        self.owner.param_groups[self.group][self.key] = value


def flat(array: Array) -> Array:
    """`array` as one axis in memory order, a view. CompileError where its elements do not lie side by side."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    raise CompileError(f"compile: expected state that lies contiguous in memory, found strides {array.strides}")


def bind(recorder: Recorder, state: State, phantom: bool) -> list[tuple[Slot, Traced, Any]]:
    """Put Traced arrays where the step will look for its state: (where, the Traced array, what was there).

    phantom   also for gradients that are None now: so the program shows whether it depends on them
    """
    bound: list[tuple[Slot, Traced, Any]] = []

    def put(slot: Slot, name: str, like: Any = None) -> None:
        before = slot.get()
        value = np.asarray(before if like is None else like)
        number = isinstance(before, int | float)
        traced = recorder.memory(np.empty_like(value), "number" if number else "state", name, source=slot)
        bound.append((slot, traced, before))
        slot.set(traced)

    for tensor, name in state.tensors.items():
        if tensor.grad is not None or (phantom and tensor.requires_grad):
            put(Attribute(tensor, "grad"), f"{name}.grad", like=tensor.data if tensor.grad is None else None)
        put(Attribute(tensor, "data"), name)
    for name, module in state.modules.items():
        for path, members, key in _buffers(module, set()):
            put(Slot(members, key), f"{name}.{path}" if len(state.modules) > 1 else path)
    for optimizer in state.optimizers.values():
        for tensor, entries in optimizer.state.items():
            for key, value in entries.items():
                if isinstance(value, np.ndarray | int | float):
                    put(Momentum(optimizer, tensor, key), f"{state.tensors.get(tensor, 'parameter')}.{key}")
    rates = [Option(o, n, "lr") for o in state.optimizers.values() for n in range(len(o.param_groups))]
    for n, slot in enumerate(rates):
        put(slot, f"lr_{n}" if n else "lr", like=np.float64(slot.get()))
    return bound


def _buffers(module: Module, seen: set[int]) -> Iterator[tuple[str, Any, Any]]:
    for path, inner in module.named_modules():
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        for key, members, name in _arrays(vars(inner), ""):
            if isinstance(members[key], np.ndarray):
                yield f"{path}.{name}".lstrip("."), members, key


def _arrays(members: Any, prefix: str) -> Iterator[tuple[Any, Any, str]]:
    for key, value in list(members.items() if isinstance(members, dict) else enumerate(members)):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            yield key, members, f"{prefix}{key}"
        elif isinstance(value, list | dict) and not isinstance(value, Module):
            yield from _arrays(value, f"{prefix}{key}.")


def _reach(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, thing) of every module, optimizer and leaf Tensor that the function can get at."""
    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("model", function)]
    while stack:
        name, thing = stack.pop(0)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Module | Optimizer | np.random.Generator) or (
            isinstance(thing, Tensor) and thing.is_leaf and thing.dtype in FLOATS
        ):
            yield name, thing
            continue
        stack.extend(_inside(name, thing))


def _inside(name: str, thing: Any) -> list[tuple[str, Any]]:
    if isinstance(thing, types.MethodType):
        return [(name, thing.__self__), (name, thing.__func__)]
    if isinstance(thing, functools.partial):
        named = [(k, v) for k, v in thing.keywords.items()]
        return [(name, thing.func), *((f"argument_{i}", a) for i, a in enumerate(thing.args)), *named]
    if isinstance(thing, types.FunctionType):
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        if (thing.__module__ or "").split(".")[0] in ("minidl", "numpy", "numba"):  # their globals are no state
            return [(n, cell.cell_contents) for n, cell in cells if _filled(cell)]
        found = [(n, cell.cell_contents) for n, cell in cells if _filled(cell)]
        found += [(n, thing.__globals__[n]) for n in _names(thing.__code__) if n in thing.__globals__]
        return [*found, *((f"default_{i}", d) for i, d in enumerate(thing.__defaults__ or ()))]
    if isinstance(thing, list | tuple):
        return [(f"{name}_{i}", x) for i, x in enumerate(thing)]
    if isinstance(thing, dict):
        return [(str(k), x) for k, x in thing.items()]
    if type(thing).__module__.split(".")[0] in ("builtins", "numpy", "numba", "minidl", "types"):
        return []
    members = getattr(thing, "__dict__", None)
    return list(members.items()) if isinstance(members, dict) and not isinstance(thing, type | types.ModuleType) else []


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _names(code: types.CodeType) -> list[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(n for c in inner for n in _names(c))]
