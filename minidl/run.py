"""A training run under way: what callbacks see, and the whole of what must be kept to continue it to the same bits."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minidl import checkpoint, data, nn, optim
from minidl.history import History
from minidl.random import default_generator
from minidl.tensor import Array, Tensor

HOOKS = ("on_train_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_train_end")
_COUNTERS = ("epoch", "batch", "step", "total", "seen")


class Run:
    """What `train.fit` works on.

    model, optimizer, schedule, loader, history, config
    epochs    how many there will be;  epoch: the one under way or just finished, from 1
    batch     batches of this epoch that have been taken;  step: steps of the optimizer since the run began
    loss      the mean of this epoch so far, in the loss's unit;  seen: examples in it
    logs      figures by name: of the step in `on_step_end`, of the epoch in `on_epoch_end`
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        loader: data.Loader,
        epochs: int,
        schedule: tuple[Any, str] | None,
        callbacks: Sequence[Any],
        config: Mapping[str, Any],
    ) -> None:
        self.model, self.optimizer, self.loader, self.epochs, self.config = model, optimizer, loader, epochs, config
        self.schedule: Any = schedule[0] if schedule else None
        self._unit = schedule[1] if schedule else "epoch"
        # A checkpoint holds what the others made of the epoch.
        self.callbacks = sorted(callbacks, key=lambda c: getattr(c, "after_others", False))
        self.epoch, self.batch, self.step, self.total, self.seen = 0, 0, 0, 0.0, 0
        self.right = Tensor(np.zeros(()))  # right answers in this epoch, where they are counted
        self.history, self.logs = History(), dict[str, float]()
        self.say: Callable[[str], None] = print  # a line on stdout, beside whatever shows the progress
        self._ordered: dict[str, Any] | None = None  # what the generators were before this epoch's order was drawn
        for callback in self.callbacks:
            if not callable(callback) and not any(hasattr(callback, hook) for hook in HOOKS):
                raise TypeError(f"fit: expected callbacks as functions or with one of {HOOKS}, found {callback!r:.80}")

    @property
    def loss(self) -> float:
        return self.total / max(self.seen, 1)

    @property
    def asked_each_step(self) -> bool:
        """Does anybody want to know of each single step?"""
        return self._unit == "step" or any(hasattr(c, "on_step_end") for c in self.callbacks)

    def stop(self, reason: str) -> None:
        """End the run after this step (in `on_step_end`) or epoch; the reason stands in `history.stopped`."""
        self.history.stopped = reason

    def call(self, hook: str) -> None:
        """Call the hook of every callback that has it."""
        for callback in self.callbacks:
            found = getattr(callback, hook, callback if hook == "on_epoch_end" and callable(callback) else None)
            if found is not None:
                found(self)

    # ------------------------------------------------------------------------------------ the loop

    def begin_epoch(self) -> dict[str, Any]:
        """Count a new epoch, unless one is to be continued. The state with which it begins."""
        if self.batch == 0:
            self.total, self.seen, self.right.data = 0.0, 0, np.zeros(())
            self.epoch += 1
        self.call("on_epoch_begin")
        return self.snapshot()

    def batches(self, accumulate: int = 1) -> Iterator[tuple[bool, bool, Any]]:
        """(first, last, batch) of what is left of this epoch: is it the first or last of those that share a step?"""
        now = self._generator_states()
        if self.batch == 0 or self._ordered is None:
            self._ordered = now
        else:  # the same order again
            self._set_generators(self._ordered)
        order, size = self.loader.order(), self.loader.batch_size
        if self.batch:
            self._set_generators(now)
        while self.batch < len(self.loader):
            rows = order[self.batch * size : (self.batch + 1) * size]
            first = self.batch % accumulate == 0
            self.batch += 1
            yield first, self.batch % accumulate == 0 or self.batch == len(self.loader), self.loader.batch(rows)

    def met(self, losses: Sequence[float] | Array) -> None:
        """Note the losses of the next batches."""
        size, examples = self.loader.batch_size, len(self.loader.arrays[0])
        for loss in losses:
            count = min(size, examples - self.seen)
            self.total += float(loss) * count
            self.seen += count

    def stepped(self) -> None:
        """Count a step of the optimizer, and let a schedule of steps go on."""
        self.step += 1
        if self._unit == "step" and self.schedule is not None:
            self.schedule.step()

    def end_epoch(self) -> None:
        """Put the figures into the history, let a schedule of epochs go on, and call back."""
        self.batch, self._ordered = 0, None
        self.history.rows.append({"epoch": self.epoch, **self.logs})
        if self.schedule is not None and self._unit == "epoch":
            if isinstance(self.schedule, optim.ReduceLROnPlateau):
                self.schedule.step(self.logs.get("val_loss", self.logs["loss"]))
            else:
                self.schedule.step()
        self.call("on_epoch_end")

    # ------------------------------------------------------------------------------------ its state

    def _generators(self) -> dict[str, np.random.Generator]:
        found = {"default": default_generator(), "loader": self.loader.generator}
        found |= {f"model.{name}": getattr(m, "generator", None) for name, m in self.model.named_modules()}
        return {name: g for name, g in found.items() if g is not None}

    def _generator_states(self) -> dict[str, Any]:
        return {name: g.bit_generator.state for name, g in self._generators().items()}

    def _set_generators(self, states: Mapping[str, Any]) -> None:
        for name, generator in self._generators().items():
            generator.bit_generator.state = states[name]

    def _kinds(self) -> dict[str, Any]:
        """What a state can only be continued with."""
        return {
            "optimizer": type(self.optimizer).__name__,
            "schedule": None if self.schedule is None else type(self.schedule).__name__,
            "callbacks": [type(c).__name__ for c in self.callbacks if hasattr(c, "state_dict")],
            "generators": sorted(self._generators()),
            "batches in an epoch": len(self.loader),
        }

    def state_dict(self) -> dict[str, Any]:
        """All but the model's arrays: optimizer, schedule, counters, generators, history, and the callbacks' own."""
        return {
            "kinds": self._kinds(),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "right": self.right.data,
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "generators": self._generator_states(),
            "ordered": self._ordered,
            "history": {"rows": self.history.rows, "stopped": self.history.stopped},
            "callbacks": [c.state_dict() for c in self.callbacks if hasattr(c, "state_dict")],
        }

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything, for `restore`."""
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
        kept = [c for c in self.callbacks if hasattr(c, "state_dict")]
        for callback, own in zip(kept, state["callbacks"], strict=True):
            callback.load_state_dict(own)
        self._set_generators(state["generators"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.right.data, self._ordered = np.asarray(state["right"]), state["ordered"]
        self.history.rows, self.history.stopped = state["history"]["rows"], state["history"]["stopped"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which `fit(resume=path)` continues. OSError: it cannot be written."""
        checkpoint.save_checkpoint(path, self.model, self.state_dict(), self.config)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint. CheckpointError, and nothing changed, unless it is one of a run like this."""
        found = checkpoint.load_checkpoint(path)
        state: Any = found.state
        if not isinstance(state, dict) or not isinstance(state.get("kinds"), dict):
            raise checkpoint.CheckpointError(f"{path}: expected the checkpoint of a run, found a model alone")
        for name, mine in self._kinds().items():
            if (theirs := state["kinds"].get(name)) != mine:
                raise checkpoint.CheckpointError(f"{path}: expected {name} {mine!r}, found {theirs!r}")
        before = self.snapshot()
        try:
            self.restore({"model": found.model_state, **state})
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            self.restore(before)
            raise checkpoint.CheckpointError(f"{path}: expected the state of such a run, found {error}") from error
