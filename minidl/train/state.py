"""The state of a training run in a checkpoint, from which an interrupted run resumes bit for bit."""

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
    """All that determines how a run continues, except the model's arrays, which a checkpoint holds by name.

    model, optimizer, schedule (None: none), loader, history
    epochs      the planned number
    epoch, batch, step, seen   counters, as in `Run`;  sums: the totals of this epoch so far
    kept        the callbacks that have a state, in an order independent of how they were passed
    due         callbacks whose checkpoint is written once all of `kept` have been called
    ordered     the generators' states from before this epoch's order was drawn
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
        """What must match in a run that continues this one."""
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
        history = state.pop("history")  # rows never change: copying them all each epoch would be quadratic
        return {**copy.deepcopy(state), "history": {**history, "rows": list(history["rows"])}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the run to `state`. Raises as the parts' own `load_state_dict`."""
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
    """The label that identifies a callback when a run is resumed; equal labels are distinguished by order."""
    return str(getattr(callback, "label", type(callback).__name__))
