"""A step's state: what it uses besides its arguments, found from the function and replaced by Traced arrays.

Modules, optimizers, Tensors and generators are sought in the function's closure, in the globals and attributes that
it names, and in what these hold.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minidl.compiler.reach import GENERATORS, Reach
from minidl.compiler.recorder import Recorder
from minidl.compiler.shadow import Shadows
from minidl.compiler.traced import CompileError, Traced
from minidl.nn import Module
from minidl.optim import Optimizer
from minidl.tensor import FLOATS, Array, Tensor


class State:
    """The modules, parameters, buffers, arrays and optimizers of a step, with the names that the program gives them.

    `holds`: whether everything that the function can reach is unchanged.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.reach = Reach(function)
        self.holds, self.signature = self.reach.guard.holds, self.reach.guard.signature()
        self.modules: dict[str, Module] = {}
        self.optimizers: dict[str, Optimizer] = {}
        self.tensors: dict[Tensor, str] = {}
        self.others: list[Tensor] = []  # integer Tensors, and those computed from others
        self.arrays: list[tuple[str, Array]] = []
        self.generators: list[Any] = []
        lone: list[tuple[str, Tensor]] = []
        for name, found in (*self.reach.outer, *self.reach.inner):
            if isinstance(found, GENERATORS):
                self.generators.append(found)
            elif isinstance(found, np.ndarray):
                if found.dtype.kind in "fiub":
                    self.arrays.append((name, found))
            elif isinstance(found, Tensor):
                if found.is_leaf and found.dtype in FLOATS:
                    lone.append((name, found))
                else:
                    self.others.append(found)
        for name, found in self.reach.outer:
            if isinstance(found, Module):
                self.modules.setdefault(name, found)
        for name, found in (*self.reach.outer, *self.reach.inner):
            if isinstance(found, Optimizer):
                self.optimizers.setdefault(name, found)
        several = len(self.modules) > 1
        for name, module in self.modules.items():
            for path, p in module.named_parameters():
                self.tensors.setdefault(p, f"{name}.{path}" if several else path)
        for name, tensor in lone:
            self.tensors.setdefault(tensor, name)
        for optimizer in self.optimizers.values():
            for n, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
                self.tensors.setdefault(p, f"parameter_{n}")

    def gradients(self) -> tuple[bool, ...]:
        """For each tensor, whether it has a gradient."""
        return tuple(t.grad is not None for t in self.tensors)


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
    """An entry of an optimizer's state for a parameter, all of which `load_state_dict` replaces."""

    def __init__(self, optimizer: Optimizer, tensor: Tensor, key: str) -> None:
        super().__init__(optimizer, key)
        self.tensor = tensor

    def get(self) -> Any:
        entries = self.owner.state.get(self.tensor)
        if entries is None or self.key not in entries:  # what the optimizer would create in its first step
            for group in self.owner.param_groups:
                if any(p is self.tensor for p in group["params"]):
                    self.owner.prepare(self.tensor, group)
            entries = self.owner.state[self.tensor]
        return entries[self.key]

    def set(self, value: Any) -> None:
        self.owner.state[self.tensor][self.key] = value


class Option(Slot):
    """An option of an optimizer's parameter group."""

    def __init__(self, optimizer: Optimizer, group: int, key: str) -> None:
        super().__init__(optimizer, key)
        self.group = group

    def get(self) -> Any:
        return self.owner.param_groups[self.group][self.key]

    def set(self, value: Any) -> None:
        self.owner.param_groups[self.group][self.key] = value


def flat(array: Array) -> Array:
    """`array` as a 1-d view in memory order. CompileError if its elements are not contiguous."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    raise CompileError(f"compile: expected state that lies contiguous in memory, found strides {array.strides}")


class Binding:
    """Replaces the state while a step is recorded: Traced arrays, inside copies of whatever holds them.

    places   (the slot, its counterpart in the copies, the Traced array put there)
    phantom  replace gradients that are None too, so that the program shows whether it depends on them
    """

    def __init__(self, recorder: Recorder, state: State, phantom: bool) -> None:
        self.recorder = recorder
        self.places: list[tuple[Slot, Slot, Traced]] = []
        self._stand_ins: dict[int, Any] = {}
        self._owners: list[tuple[Slot, Any, Traced]] = []
        self._where: set[tuple[int, Any]] = set()
        self._held: list[Any] = []  # so that no id is reused
        for tensor, name in state.tensors.items():
            self._tensor(tensor, name, phantom)
        for name, module in state.modules.items():
            for path, members, key in _buffers(module, set()):
                slot = Slot(members, key)
                self._owners.append(
                    (slot, members, self._state(slot, f"{name}.{path}" if len(state.modules) > 1 else path))
                )
        kept = [self._kept(optimizer, state) for optimizer in state.optimizers.values()]
        for name, array in state.arrays:
            if id(array) not in self._stand_ins:
                self._stand_ins[id(array)] = recorder.constant(array, name)
        for t in state.others:
            data: Any = t.data
            if t not in state.tensors and not t.requires_grad and data.dtype.kind in "fiub":
                self._stand_ins[id(t)] = Tensor(self._stand_ins.get(id(data), recorder.constant(data, "constant")))
        for generator in state.generators:
            self._stand_ins[id(generator)] = recorder.draws.stand_in(generator)
        self.shadows = Shadows(state.reach, self._stand_ins)
        for module in state.modules.values():
            for inner in module.modules():
                self.shadows.of(inner)
        for slot, owner, traced in self._owners:
            self.places.append((slot, Slot(self.shadows.of(owner), slot.key), traced))
        for optimizer, entries in zip(state.optimizers.values(), kept, strict=True):
            self._optimizer(optimizer, entries, state)
            self._where.add((id(vars(optimizer)), "state"))
        self._where |= {(id(real.owner), real.key) for real, _, _ in self.places}

    def _state(self, slot: Slot, name: str, value: Any = None) -> Traced:
        """A Traced array for what this slot holds or would hold; two slots with one array share it."""
        value = slot.get() if value is None else value
        if id(value) in self._stand_ins:
            return self._stand_ins[id(value)]  # type: ignore[no-any-return]
        array, number = np.asarray(value), isinstance(value, int | float)
        if not number and slot.key != "grad":
            flat(array)
        traced = self.recorder.memory(np.empty_like(array), "number" if number else "state", name, source=slot)
        if isinstance(value, np.ndarray):
            self._stand_ins[id(value)] = traced
            self._held.append(value)
        return traced

    def _tensor(self, tensor: Tensor, name: str, phantom: bool) -> None:
        made = self._stand_ins[id(tensor)] = Tensor(0.0)
        made.requires_grad = tensor.requires_grad
        grad: Traced | None = None
        if tensor.grad is not None or (phantom and tensor.requires_grad):
            slot = Attribute(tensor, "grad")
            grad = self._state(slot, f"{name}.grad", np.empty_like(tensor.data) if tensor.grad is None else None)
            self.places.append((slot, Attribute(made, "grad"), grad))
        slot = Attribute(tensor, "data")
        data = self._state(slot, name)
        self.places.append((slot, Attribute(made, "data"), data))
        made.data, made.grad = data, grad  # type: ignore[assignment]

    def _kept(self, optimizer: Optimizer, state: State) -> dict[Tensor, dict[str, Any]]:
        """Stand-ins for the optimizer's state of its parameters, existing or yet to be created."""
        begun = copy.copy(optimizer)
        begun.state = {p: dict(entries) for p, entries in optimizer.state.items()}
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.requires_grad:
                    begun.prepare(p, group)
        for tensor, entries in begun.state.items():
            for key, value in entries.items():
                if isinstance(value, np.ndarray | int | float):
                    slot = Momentum(optimizer, tensor, key)
                    name = f"{state.tensors.get(tensor, 'parameter')}.{key}"
                    entries[key] = self._state(slot, name, value)
        return begun.state

    def _optimizer(self, optimizer: Optimizer, kept: dict[Tensor, dict[str, Any]], state: State) -> None:
        made = self.shadows.of(optimizer)
        made.state = {self.shadows.of(p): dict(entries) for p, entries in kept.items()}
        for tensor, entries in kept.items():
            for key, value in entries.items():
                if isinstance(value, Traced):
                    place = Momentum(made, self.shadows.of(tensor), key)
                    self.places.append((value.memory.source, place, value))
        for n, group in enumerate(optimizer.param_groups):
            slot, several = Option(optimizer, n, "lr"), sum(len(o.param_groups) for o in state.optimizers.values()) > 1
            rate = self.recorder.memory(
                np.empty((), np.float64), "number", f"lr_{n}" if several and n else "lr", source=slot
            )
            self.places.append((slot, Option(made, n, "lr"), rate))
            made.param_groups[n]["lr"] = rate
            self._where.add((id(group), "lr"))

    def made_in_python(self) -> list[str]:
        """The names of optimizer state that this run created."""
        known = {
            (id(place.owner), id(place.tensor), place.key) for _, place, _ in self.places if isinstance(place, Momentum)
        }
        owners = {id(place.owner): place.owner for _, place, _ in self.places if isinstance(place, Option)}
        return list(dict.fromkeys(
            key for o in owners.values() for p, entries in o.state.items() for key, value in entries.items()
            if isinstance(value, Traced) and (id(o), id(p), key) not in known))  # fmt: skip

    def cleared(self) -> frozenset[Tensor]:
        """The Tensors whose gradient the function has set to None."""
        return frozenset(
            slot.owner for slot, place, _ in self.places
            if isinstance(place, Attribute) and place.key == "grad" and place.get() is None)  # fmt: skip

    def is_state(self, owner: Any, key: Any) -> bool:
        """Whether this place belongs to the state, so that changing it is part of the program."""
        return (id(owner), key) in self._where


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
