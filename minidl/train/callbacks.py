"""Callbacks of a training run. `train.fit` calls these methods of each callback:

    on_train_begin(run), on_epoch_begin(run), on_step_end(run), on_epoch_end(run), on_train_end(run)

All are optional; a plain function is called after each epoch. `run` is a `minidl.train.run.Run`. Before them come
`on_check(run)`, which raises early what would fail later, and in a resumed run `on_resume(run)`.

A callback with `state_dict` and `load_state_dict` is saved in checkpoints, which are written after all such callbacks
have been called; their order does not matter. One with `after_others = True` is called after the rest. The callbacks
here may be reused: their state is reset by each run that is not resumed.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from minidl.metrics.names import mode_of
from minidl.shared.files import FilePath, check_writable
from minidl.shared.names import chosen, hint
from minidl.tensor import Array
from minidl.train.history import json_ready, plain
from minidl.train.run import Run

MODES = {"min": -1.0, "max": 1.0}


class _Best:
    """The best value so far of a figure: the lowest, or the highest if more is better."""

    def __init__(self, monitor: str, mode: str | None, min_delta: float = 0.0) -> None:
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.sign = 0.0 if mode is None else chosen("a mode", mode, MODES)
        self.value = -math.inf

    def check(self, run: Run) -> None:
        """Determine which direction is better. ValueError: unknown."""
        mode = self.mode
        if mode is None:
            known = self.monitor in run.modes
            mode = run.modes[self.monitor] if known else mode_of(self.monitor.removeprefix("val_"))
        if mode is None:
            others = [name for name in run.modes if name != self.monitor]
            raise ValueError(
                f"expected mode='min' or mode='max' to watch {self.monitor!r}, of which nobody says whether less or "
                f"more is better{hint(self.monitor, others)}"
            )
        self.sign = MODES[mode]

    def improved(self, run: Run) -> bool:
        """Whether the figure of this epoch is better by more than min_delta. ValueError: no such figure."""
        found = (
            self.sign
            * plain({self.monitor: chosen(f"{self.monitor!r} to watch", self.monitor, run.logs)})[self.monitor]
        )
        if not found > self.value + self.min_delta:
            return False
        self.value = found
        return True


class EarlyStopping:
    """Stop when a figure has not improved for `patience` epochs, and restore the best weights.

    monitor     "val_loss", or another name in `run.logs`
    min_delta   only improvements by more than this count
    mode        "min" if lower is better, "max" if higher; None: as known for losses and `minidl.metrics`. For your own
                functions give it here, or as their attribute `mode`

    A stopped run continues when resumed with more patience than has been used up.

    Prechelt 1998, "Early stopping, but when?". ValueError: options out of range; before training, a figure whose
    better direction is unknown; in training, no such figure.

    >>> x, y = np.ones((8, 1), np.float32), np.zeros((8, 1), np.float32)
    >>> stop = callbacks.EarlyStopping(patience=2)
    >>> optimizer = optim.SGD((model := nn.Dense(1, 1)).parameters(), lr=0.0)  # learns nothing
    >>> history = train.fit(
    ...     model, (x, y), (x, y), epochs=50, optimizer=optimizer, callbacks=[stop], verbose=False
    ... )
    >>> len(history.rows)  # the first was the best; patience ran out two epochs later
    3
    """

    def __init__(
        self,
        patience: int = 5,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = True,
    ) -> None:
        if patience < 1 or min_delta < 0:
            raise ValueError(f"EarlyStopping: expected patience ≥ 1, min_delta ≥ 0, found {patience} and {min_delta}")
        self.patience, self.restore_best = patience, restore_best
        self.best = _Best(monitor, mode, min_delta)
        self.label = f"EarlyStopping({monitor})"
        self._begin()

    def _begin(self) -> None:
        self.best.value, self.best_epoch, self.waited = -math.inf, 0, 0
        self.weights: dict[str, Array] = {}

    def _reason(self) -> str:
        return f"{self.best.monitor} was best in epoch {self.best_epoch}"

    def on_check(self, run: Run) -> None:
        self.best.check(run)

    def on_resume(self, run: Run) -> None:
        if run.history.stopped != self._reason():
            return
        if self.waited < self.patience:
            run.history.stopped = None
        elif run.epochs > run.planned:
            raise ValueError(
                f"expected more patience than the {self.waited} epochs used up since {self._reason()}, to go on "
                f"to epoch {run.epochs}, found {self.patience}"
            )

    def on_train_begin(self, run: Run) -> None:
        if not run.resumed:
            self._begin()

    def on_epoch_end(self, run: Run) -> None:
        if self.best.improved(run):
            self.best_epoch, self.waited = run.epoch, 0
            if self.restore_best:
                self.weights = {name: np.array(values) for name, values in run.model.state_dict().items()}
        else:
            self.waited += 1
            if self.waited >= self.patience:
                run.stop(self._reason())

    def on_train_end(self, run: Run) -> None:
        if self.weights:
            run.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best.value,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "weights": self.weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best.value, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self.weights = state["weights"]


class Checkpoint:
    """Write a checkpoint from which `fit(resume=path)` continues.

    path          with "{epoch}" or "{step}" in it, each is a separate file; else the file is replaced
    every         epochs (unit="step": optimizer steps) between checkpoints; one follows the last epoch in any case
    monitor       write only when this figure ("val_loss", …) is the best so far; mode: as for EarlyStopping

    OSError: the file cannot be written (raised before training where possible); an existing file is left unchanged.
    ValueError: as for EarlyStopping.
    """

    after_others = True

    def __init__(
        self,
        path: FilePath,
        every: int = 1,
        unit: str = "epoch",
        monitor: str | None = None,
        mode: str | None = None,
    ) -> None:
        if every < 1 or unit not in ("epoch", "step") or (monitor is not None and unit == "step"):
            raise ValueError(
                'Checkpoint: expected every ≥ 1 and unit "epoch" or, without a monitor, "step", '
                f"found every={every!r}, unit={unit!r}, monitor={monitor!r}"
            )
        self.path, self.every = os.fspath(path), every
        self.best = None if monitor is None else _Best(monitor, mode)
        self.label = "Checkpoint" if monitor is None else f"Checkpoint({monitor})"
        if unit == "step":
            self.on_step_end = self._each_step

    def file(self, run: Run) -> str:
        """The path of the checkpoint at this point of the run."""
        return self.path.replace("{epoch}", str(run.epoch)).replace("{step}", str(run.step))

    def on_check(self, run: Run) -> None:
        if self.best is not None:
            self.best.check(run)
        if "{" not in os.path.dirname(self.path):
            check_writable(self.file(run))

    def on_train_begin(self, run: Run) -> None:
        if self.best is not None and not run.resumed:
            self.best.value = -math.inf

    def _each_step(self, run: Run) -> None:
        if run.step % self.every == 0:
            run.keep(self)

    def on_epoch_end(self, run: Run) -> None:
        if self.best is not None:
            due = self.best.improved(run)
        else:
            due = not hasattr(self, "on_step_end") and (run.epoch % self.every == 0 or run.epoch == run.epochs)
            due = due or run.history.stopped is not None
        if due:
            run.keep(self)

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.best is None else self.best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.best is not None:
            self.best.value = state["best"]


class Log:
    """Append the figures of each epoch to a file, one JSON object per line; a resumed run adds only new epochs.

    OSError, raised before training: the file cannot be written.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)

    def on_check(self, run: Run) -> None:
        with self.path.open("a", encoding="utf-8"):
            pass

    def on_train_begin(self, run: Run) -> None:
        """Keep only the lines of epochs that the run has completed."""
        behind = run.history.epochs
        kept = self.path.read_text("utf-8").splitlines()[:behind] if behind and self.path.exists() else []
        self.path.write_text("".join(f"{line}\n" for line in kept), "utf-8")

    def on_epoch_end(self, run: Run) -> None:
        row = json.dumps(json_ready({"epoch": run.epoch, "step": run.step, **run.logs}))
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{row}\n")


class TensorBoard:
    """Write the figures of each epoch for TensorBoard; those of a resumed run replace any of later epochs.

    ImportError: the `tensorboard` extra is not installed. OSError: the directory cannot be written.
    """

    def __init__(self, directory: FilePath) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError('TensorBoard: takes tensorboardX: pip install "minidl[tensorboard]"') from error
        self._open, self.directory = SummaryWriter, os.fspath(directory)

    def on_check(self, run: Run) -> None:
        os.makedirs(self.directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.directory):
            pass

    def on_train_begin(self, run: Run) -> None:
        again = {"purge_step": run.history.epochs + 1} if run.resumed else {}
        # A unique name: tensorboardX gives all writers of one second the same file, which each empties.
        self.writer = self._open(self.directory, filename_suffix=f".{time.time_ns()}", **again)

    def on_epoch_end(self, run: Run) -> None:
        for name, value in plain(run.logs).items():
            self.writer.add_scalar(name, value, run.epoch)
        self.writer.flush()

    def on_train_end(self, run: Run) -> None:
        self.writer.close()
