"""What a checkpoint keeps of a training run: with it, a run that was interrupted continues bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minidl import data, nn, optim
from minidl.random import default_generator
from minidl.train.history import History
from minidl.train.sums import Sums

_COUNTERS = ("epoch", "batch", "step", "seen")


class State:
    """All that decides how a run goes on, but for the model's arrays, which a checkpoint holds under their own names.

    model, optimizer, schedule (None: none), loader, history
    epochs      how many the run is planned for
    epoch, batch, step, seen   counters, as of a `Run`;  sums: what this epoch has added up
    kept        the callbacks that have a state, in an order that does not depend on how they were given
    due         callbacks whose checkpoint is to be written as soon as all of those have been called
    ordered     the generators' states before this epoch's order was drawn
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        schedule: Any,
        loader: data.Loader,
        epochs: int,
        callbacks: Iterable[Any],
        history: History,
    ) -> None:
        self.model, self.optimizer, self.schedule, self.loader, self.epochs = model, optimizer, schedule, loader, epochs
        self.history, self.sums = history, Sums()
        self.epoch, self.batch, self.step, self.seen = 0, 0, 0, 0
        kept = [c for c in callbacks if hasattr(c, "state_dict")]
        self.kept = sorted(kept, key=lambda c: (_label(c), str(getattr(c, "path", ""))))
        self.due: list[Any] = []
        self.ordered: dict[str, Any] | None = None

    def _generators(self) -> dict[str, np.random.Generator]:
        known = {"default": default_generator(), "loader": self.loader.generator}
        known |= {f"model.{name}": getattr(m, "generator", None) for name, m in self.model.named_modules()}
        return {name: g for name, g in known.items() if g is not None}

    def generator_states(self) -> dict[str, Any]:
        return {name: g.bit_generator.state for name, g in self._generators().items()}

    def set_generators(self, states: Mapping[str, Any]) -> None:
        for name, generator in self._generators().items():
            generator.bit_generator.state = states[name]

    def kinds(self) -> dict[str, Any]:
        """What must be alike in the run that continues this one."""
        return {
            "optimizer": type(self.optimizer).__name__,
            "schedule": None if self.schedule is None else type(self.schedule).__name__,
            "callbacks": [_label(c) for c in self.kept],
            "generators": sorted(self._generators()),
            "batches in an epoch": len(self.loader),
        }

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, counters, generators, history, and the callbacks' own."""
        return {
            "kinds": self.kinds(),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "sums": self.sums.state_dict(),
            "epochs": self.epochs,
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "generators": self.generator_states(),
            "ordered": self.ordered,
            "history": {"rows": self.history.rows, "stopped": self.history.stopped},
            "callbacks": [c.state_dict() for c in self.kept],
            "due": [n for n, c in enumerate(self.kept) if any(c is saver for saver in self.due)],
        }

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything, the model's arrays too, for `restore`."""
        state = {"model": self.model.state_dict(), **self.state_dict()}
        history = state.pop("history")  # rows are not changed once written: to copy them all each epoch is quadratic
        return {**copy.deepcopy(state), "history": {**history, "rows": list(history["rows"])}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as the run was when `state` was taken. Raises as the parts' own `load_state_dict`."""
        state = copy.deepcopy(dict(state))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.optimizer.zero_grad()
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        for callback, own in zip(self.kept, state["callbacks"], strict=True):
            callback.load_state_dict(own)
        self.set_generators(state["generators"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.sums.load_state_dict(state["sums"])
        self.ordered = state["ordered"]
        self.history.rows, self.history.stopped = state["history"]["rows"], state["history"]["stopped"]


def _label(callback: Any) -> str:
    """What a callback is recognised by when a run is resumed; those alike are told apart by their order."""
    return str(getattr(callback, "label", type(callback).__name__))
