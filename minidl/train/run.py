"""A training run under way: what callbacks see, and the whole of what must be kept to continue it to the same bits."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minidl import checkpoint, data, nn, optim
from minidl.random import default_generator
from minidl.train.history import History, plain
from minidl.train.sums import Sums

HOOKS = (
    "on_check", "on_resume", "on_train_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_train_end"
)  # fmt: skip
_COUNTERS = ("epoch", "batch", "step", "seen")


class Run:
    """What `train.fit` works on.

    model, optimizer, schedule, loader, history, config
    epochs    how many there will be;  epoch: the one under way or just finished, from 1
    batch     batches of this epoch that have been taken;  step: steps of the optimizer since the run began
    loss      the mean of this epoch so far, in the loss's unit;  seen: examples in it
    logs      figures by name: of the step in `on_step_end`, of the epoch in `on_epoch_end`
    modes     figure → are its lower ("min") or higher ("max") values better, None: unknown
    resumed   does this run continue another?  planned: how many epochs that was made for
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
        *,
        modes: Mapping[str, str | None] | None = None,
        accumulate: int = 1,
        named: str | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader, self.epochs, self.config = model, optimizer, loader, epochs, config
        self.schedule: Any = schedule[0] if schedule else None
        self._unit = schedule[1] if schedule else "epoch"
        self._named = named  # the schedule's name in `optim.SCHEDULES`, if it was made by that
        self.accumulate, self.modes, self.resumed, self.planned = accumulate, dict(modes or {}), False, epochs
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"fit: expected a list of callbacks, found {callbacks!r:.80}")
        self.callbacks = sorted(callbacks, key=_turn)
        self._due: list[Any] = []  # who will write a checkpoint as soon as all that are in it have been called
        self.epoch, self.batch, self.step, self.seen = 0, 0, 0, 0
        self.sums = Sums()
        self.history, self.logs = History(), dict[str, float]()
        self.say: Callable[[str], None] = print  # a line on stdout, beside whatever shows the progress
        self._ordered: dict[str, Any] | None = None  # what the generators were before this epoch's order was drawn
        for callback in self.callbacks:
            if not callable(callback) and not any(hasattr(callback, hook) for hook in HOOKS):
                raise TypeError(f"fit: expected callbacks as functions or with one of {HOOKS}, found {callback!r:.80}")

    @property
    def loss(self) -> float:
        count = self.sums.count.item()
        return self.sums.loss.item() / count if count else 0.0

    @property
    def asked_each_step(self) -> bool:
        """Does anybody want to know of each single step?"""
        return self._unit == "step" or any(hasattr(c, "on_step_end") for c in self.callbacks)

    def stop(self, reason: str) -> None:
        """End the run after this step (in `on_step_end`) or epoch; the reason stands in `history.stopped`."""
        self.history.stopped = reason

    def call(self, hook: str) -> None:
        """Call the hook of every callback that has it, and write the checkpoints that are due."""
        self._due = []
        for callback in self.callbacks:
            if self._due and _turn(callback) == LAST:
                self._write()
            found = getattr(callback, hook, callback if hook == "on_epoch_end" and callable(callback) else None)
            if found is not None:
                found(self)
        self._write()

    def keep(self, saver: Any) -> None:
        """In a hook of `saver`: write the checkpoint `saver.file(run)` once all with a state have been called."""
        self._due.append(saver)

    def _write(self) -> None:
        for saver in self._due:
            self.save(saver.file(self))
        self._due = []

    # ------------------------------------------------------------------------------------ the loop

    def begin_epoch(self) -> dict[str, Any]:
        """Count a new epoch, unless one is to be continued. The state with which it begins."""
        if self.batch == 0:
            self.seen = 0
            self.sums.begin()
            self.epoch += 1
        self.call("on_epoch_begin")
        return self.snapshot()

    def batches(self) -> Iterator[tuple[bool, bool, Any]]:
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
            first = self.batch % self.accumulate == 0
            if first:
                self.sums.group.data = np.zeros(())
            self.batch += 1
            last = self.batch % self.accumulate == 0 or self.batch == len(self.loader)
            self.seen += len(rows)
            yield first, last, self.loader.batch(rows)

    def stepped(self) -> None:
        """Count a step of the optimizer, and let a schedule of steps go on."""
        self.step += 1
        if self._unit == "step" and self.schedule is not None:
            self.schedule.step()

    def end_epoch(self) -> None:
        """Put the figures into the history, let a schedule of epochs go on, and call back."""
        self.batch, self._ordered = 0, None
        self.history.rows.append(plain({"epoch": self.epoch, **self.logs}))
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
            "callbacks": [_label(c) for c in self._kept()],
            "generators": sorted(self._generators()),
            "batches in an epoch": len(self.loader),
        }

    def _kept(self) -> list[Any]:
        """The callbacks that have a state, in an order that does not depend on how they were given."""
        kept = [c for c in self.callbacks if hasattr(c, "state_dict")]
        return sorted(kept, key=lambda c: (_label(c), str(getattr(c, "path", ""))))

    def state_dict(self) -> dict[str, Any]:
        """All but the model's arrays: optimizer, schedule, counters, generators, history, and the callbacks' own."""
        return {
            "kinds": self._kinds(),
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "sums": self.sums.state_dict(),
            "epochs": self.epochs,
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "generators": self._generator_states(),
            "ordered": self._ordered,
            "history": {"rows": self.history.rows, "stopped": self.history.stopped},
            "callbacks": [c.state_dict() for c in self._kept()],
            "due": [n for n, c in enumerate(self._kept()) if any(c is saver for saver in self._due)],
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
        for callback, own in zip(self._kept(), state["callbacks"], strict=True):
            callback.load_state_dict(own)
        self._set_generators(state["generators"])
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])
        self.sums.load_state_dict(state["sums"])
        self._ordered = state["ordered"]
        self.history.rows, self.history.stopped = state["history"]["rows"], state["history"]["stopped"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which `fit(resume=path)` continues. OSError: it cannot be written."""
        checkpoint.save_checkpoint(path, self.model, self.state_dict(), self.config)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint. CheckpointError, and nothing changed, unless it is one of a run like this.

        So too where its epochs are more than this run is to have, or where the rest cannot be planned for as many.
        """
        found = checkpoint.load_checkpoint(path)
        state: Any = found.state
        if not isinstance(state, dict) or not isinstance(state.get("kinds"), dict):
            raise checkpoint.CheckpointError(f"{path}: expected the checkpoint of a run, found a model alone")
        if missing := self.state_dict().keys() - state.keys():
            raise checkpoint.CheckpointError(
                f"{path}: expected a run of this version of minidl, found one of an earlier version, without "
                f"{sorted(missing)}: it cannot be gone on with, but its model can be loaded (load_model)"
            )
        for name, mine in self._kinds().items():
            if (theirs := state["kinds"].get(name)) != mine:
                raise checkpoint.CheckpointError(f"{path}: expected {name} {mine!r}, found {theirs!r}")
        before, given = self.snapshot(), getattr(self.schedule, "left", None)
        try:
            self.restore({"model": found.model_state, **state})
            due, planned = [self._kept()[n] for n in state["due"]], int(state["epochs"])
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            self.restore(before)
            raise checkpoint.CheckpointError(f"{path}: expected the state of such a run, found {error}") from error
        try:
            self.resumed, self.planned = True, planned
            self._go_on(given)
        except (ValueError, TypeError) as error:
            self.restore(before)
            raise checkpoint.CheckpointError(f"{path}: {error}") from error
        if self.history.stopped is not None:
            warnings.warn(
                f"fit: the run of {path} was stopped after epoch {self.epoch} ({self.history.stopped}) and stays so; "
                "it goes on with more epochs, or a patience that is not used up",
                RuntimeWarning,
                stacklevel=3,
            )
        self._due = due
        self._write()  # it may have been killed before these were

    def _go_on(self, given: int | None) -> None:
        """Fit what was loaded to the length of this run. given: `schedule.left` as it was made for this one."""
        if self.epochs < self.epoch:
            raise ValueError(f"expected epochs of at least {self.epoch}, where it has come to, found {self.epochs}")
        self.call("on_resume")
        if self.history.stopped is not None and self.epochs <= self.planned:
            return
        self.history.stopped = None
        more = (self.epochs - self.planned) * self._units(len(self.loader))
        begun = self._units(len(self.loader) - self.batch) if self.batch else 0
        left = (self.epochs - self.epoch) * self._units(len(self.loader)) + begun
        if self.schedule is None or not left or not more:
            return
        ends = getattr(self.schedule, "left", None)
        if self._named is not None:
            try:
                optim.replan(self._named, self.schedule, self.epochs, more)
            except ValueError as error:
                advice = f"Begin a run of its own with the model (load_model), or one of {self.epochs} epochs"
                raise ValueError(f"{error}: there is no rate to go on with. {advice} from the start") from error
        elif ends is not None and left - more <= ends < left:  # it did reach to the end, and does no more
            if given is None or given < self.epochs * self._units(len(self.loader)):
                raise ValueError(
                    f"expected a schedule for {self.epochs} epochs, as the one that it was made for "
                    f"{self.planned} with ends before: make it with a later {self.schedule.end or 'end'}"
                )
            self.schedule.extend(left - ends)

    def _units(self, batches: int) -> int:
        """How often the schedule steps in so many batches of an epoch."""
        return -(-batches // self.accumulate) if self._unit == "step" else 1


LAST = 3


def _turn(callback: Any) -> int:
    """When a callback is called: a checkpoint holds what all with a state have made of the epoch, so those go before.

    Those which come after others and have no state are the last: by then checkpoints are written.
    """
    if not getattr(callback, "after_others", False):
        return 0
    if not hasattr(callback, "state_dict"):
        return LAST
    return 2 if hasattr(callback, "file") else 1


def _label(callback: Any) -> str:
    """What a callback is recognised by when a run is resumed; those alike are told apart by their order."""
    return str(getattr(callback, "label", type(callback).__name__))
