"""What can be done on the side of a training run. `train.fit` calls each callback back:

    on_train_begin(run), on_epoch_begin(run), on_step_end(run), on_epoch_end(run), on_train_end(run)

whichever it has; a plain function is called after each epoch. `run` is a `minidl.run.Run`. A callback with
`state_dict` and `load_state_dict` is kept in checkpoints. One with `after_others = True` is called after the rest.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from minidl.evaluation import chosen
from minidl.run import Run
from minidl.tensor import Array

FilePath = str | os.PathLike[str]
MODES = {"min": -1.0, "max": 1.0}
LOWER = ("mse", "rmse", "mae", "median_absolute_error", "max_error", "ece", "brier", "log_loss")  # is better


class _Best:
    """The best value so far of a figure: the lowest, or the highest of those where more is better."""

    def __init__(self, monitor: str, mode: str | None, min_delta: float = 0.0) -> None:
        if mode is None:
            mode = "min" if monitor.removeprefix("val_") in LOWER or "loss" in monitor else "max"
        self.monitor, self.sign, self.min_delta = monitor, chosen("a mode", mode, MODES), min_delta
        self.value = -math.inf

    def improved(self, run: Run) -> bool:
        """Is the figure of this epoch better by more than min_delta? ValueError if there is no such figure."""
        found = self.sign * chosen(f"{self.monitor!r} to watch", self.monitor, run.logs)
        if not found > self.value + self.min_delta:
            return False
        self.value = found
        return True


class EarlyStopping:
    """Stop when a figure has not become better for `patience` epochs; then go back to the best weights.

    monitor     "val_loss", or another name in `run.logs`
    min_delta   what counts as better: by more than this
    mode        is lower ("min") or higher ("max") better? None: lower for losses and errors, else higher

    Prechelt 1998, "Early stopping, but when?". ValueError: options out of range; in training, no such figure.
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
        self.best_epoch, self.waited = 0, 0
        self.weights: dict[str, Array] = {}

    def on_epoch_end(self, run: Run) -> None:
        if self.best.improved(run):
            self.best_epoch, self.waited = run.epoch, 0
            if self.restore_best:
                self.weights = {name: np.array(values) for name, values in run.model.state_dict().items()}
        else:
            self.waited += 1
            if self.waited >= self.patience:
                run.stop(f"{self.best.monitor} was best in epoch {self.best_epoch}")

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

    path          with "{epoch}" or "{step}" in it, each is a file of its own; else the file is replaced
    every         epochs between two, or with unit="step" steps of the optimizer
    monitor       write only when this figure ("val_loss", …) is better than ever before; mode: as for EarlyStopping

    OSError: it cannot be written; the file that was there is as it was.
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
        if unit == "step":
            self.on_step_end = self._each_step

    def _each_step(self, run: Run) -> None:
        if run.step % self.every == 0:
            self._save(run)

    def on_epoch_end(self, run: Run) -> None:
        if self.best is not None:
            if self.best.improved(run):
                self._save(run)
        elif not hasattr(self, "on_step_end") and (run.epoch % self.every == 0 or run.epoch == run.epochs):
            self._save(run)

    def on_train_end(self, run: Run) -> None:
        if self.best is None and run.history.stopped is not None:
            self._save(run)

    def _save(self, run: Run) -> None:
        run.save(self.path.replace("{epoch}", str(run.epoch)).replace("{step}", str(run.step)))

    def state_dict(self) -> dict[str, Any]:
        return {"best": None if self.best is None else self.best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.best is not None:
            self.best.value = state["best"]


class Log:
    """Append the figures of each epoch to a file, one JSON object a line; of a resumed run, those not there yet.

    OSError: it cannot be written.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)

    def on_train_begin(self, run: Run) -> None:
        """Keep the lines of the epochs that the run has behind it, and no others."""
        behind = run.history.epochs
        kept = self.path.read_text("utf-8").splitlines()[:behind] if behind and self.path.exists() else []
        self.path.write_text("".join(f"{line}\n" for line in kept), "utf-8")

    def on_epoch_end(self, run: Run) -> None:
        figures = {"epoch": run.epoch, "step": run.step, **run.logs}
        row = {k: v if math.isfinite(v) else None for k, v in figures.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")


class TensorBoard:
    """Write the figures of each epoch where TensorBoard reads them. ImportError without the `tensorboard` extra."""

    def __init__(self, directory: FilePath) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError('TensorBoard: takes tensorboardX: pip install "minidl[tensorboard]"') from error
        self.writer = SummaryWriter(os.fspath(directory))

    def on_epoch_end(self, run: Run) -> None:
        for name, value in run.logs.items():
            self.writer.add_scalar(name, value, run.epoch)
        self.writer.flush()

    def on_train_end(self, run: Run) -> None:
        self.writer.close()
