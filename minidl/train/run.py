"""A training run as callbacks see it: its parts, progress, figures, and how to end it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minidl import checkpoint, data, nn, optim
from minidl.train.history import History
from minidl.train.state import State

HOOKS = (
    "on_check", "on_resume", "on_train_begin", "on_epoch_begin", "on_step_end", "on_epoch_end", "on_train_end"
)  # fmt: skip


class Run:
    """The run as `train.fit` passes it to each callback.

    model, optimizer, schedule, loader, history, config
    epochs    their planned number;  epoch: the current or just finished one, from 1
    batch     batches of this epoch done;  step: optimizer steps since the run began
    loss      the mean of this epoch so far, in the loss's unit;  seen: examples in it
    logs      figures by name: of the step in `on_step_end`, of the epoch in `on_epoch_end`
    modes     figure → its better direction, "min" or "max"; None: unknown
    resumed   whether this run continues another;  planned: that run's number of epochs
    sums      the totals of this epoch so far;  state: what a checkpoint keeps of all this
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
        self.unit = schedule[1] if schedule else "epoch"  # the schedule steps after each of these
        self.named = named  # the schedule's name in `optim.SCHEDULES`, if made by name
        self.accumulate, self.modes, self.resumed, self.planned = accumulate, dict(modes or {}), False, epochs
        if not isinstance(callbacks, Iterable):
            raise TypeError(f"fit: expected a list of callbacks, found {callbacks!r:.80}")
        self.callbacks = sorted(callbacks, key=_turn)
        self.history, self.logs = History(), dict[str, float]()
        self.say: Callable[[str], None] = print  # prints a line on stdout without disturbing the progress bar
        for callback in self.callbacks:
            if not callable(callback) and not any(hasattr(callback, hook) for hook in HOOKS):
                raise TypeError(f"fit: expected callbacks as functions or with one of {HOOKS}, found {callback!r:.80}")
        self.state = State(model, optimizer, self.schedule, loader, epochs, self.callbacks, self.history)
        self.sums = self.state.sums

    @property
    def epoch(self) -> int:
        return self.state.epoch

    @property
    def batch(self) -> int:
        return self.state.batch

    @property
    def step(self) -> int:
        return self.state.step

    @property
    def seen(self) -> int:
        return self.state.seen

    @property
    def loss(self) -> float:
        count = self.sums.count.item()
        return self.sums.loss.item() / count if count else 0.0

    @property
    def asked_each_step(self) -> bool:
        """Whether the schedule or a callback acts on every step."""
        return self.unit == "step" or any(hasattr(c, "on_step_end") for c in self.callbacks)

    def stop(self, reason: str) -> None:
        """End the run after this step (in `on_step_end`) or epoch; the reason is kept in `history.stopped`."""
        self.history.stopped = reason

    def call(self, hook: str) -> None:
        """Call this hook of every callback that has it, and write due checkpoints."""
        self.state.due = []
        for callback in self.callbacks:
            if self.state.due and _turn(callback) == LAST:
                self.write_due()
            function = getattr(callback, hook, callback if hook == "on_epoch_end" and callable(callback) else None)
            if function is not None:
                function(self)
        self.write_due()

    def keep(self, saver: Any) -> None:
        """From a hook of `saver`: write the checkpoint `saver.file(run)` after all callbacks with a state."""
        self.state.due.append(saver)

    def write_due(self) -> None:
        for saver in self.state.due:
            self.save(saver.file(self))
        self.state.due = []

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which `fit(resume=path)` continues. OSError: the file cannot be written."""
        checkpoint.save_checkpoint(path, self.model, self.state.state_dict(), self.config)


LAST = 3


def _turn(callback: Any) -> int:
    """The sort key of a callback: those with a state come first, since checkpoints must hold their latest state.

    Those with `after_others` and no state come last, when checkpoints have been written.
    """
    if not getattr(callback, "after_others", False):
        return 0
    if not hasattr(callback, "state_dict"):
        return LAST
    return 2 if hasattr(callback, "file") else 1
