"""`minidl train`: run `train.fit` with settings from the command line or a file.

A run writes its model (weights, and what is needed to use them), its figures as JSON, and a checkpoint, from which
`--resume` continues bit for bit.
"""

import argparse
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidl import checkpoint, data, machine, models, nn
from minidl.commands.settings import CIRCUMSTANCES, as_toml, differences, outputs, settings
from minidl.commands.shared import CLASSES, data_to_train_on, source, use_threads
from minidl.data import augment
from minidl.jit import get_num_threads
from minidl.random import manual_seed
from minidl.shared.terminal import Failure, bold, note, reason
from minidl.train import DivergenceError, callbacks, defaults, fit
from minidl.train.arguments import named_optimizer
from minidl.train.evaluation import evaluate
from minidl.train.run import Run
from minidl.watch import Watch

AUGMENTATIONS: dict[str, Callable[[], Any]] = {
    "affine": lambda: augment.Affine(degrees=10, pixels=2, zoom=0.1, shear=10),
    "shift": lambda: augment.Shift(2),
    "rotate": lambda: augment.Rotate(10),
    "zoom": lambda: augment.Zoom(0.1),
    "shear": lambda: augment.Shear(10),
    "elastic": augment.Elastic,
    "noise": lambda: augment.Noise(0.1),
    "cutout": lambda: augment.Cutout(4),
    "flip": augment.Flip,
}
HELD_OUT = 0.1  # share of the training set held out for early stopping without --val-split


def run_train(arguments: argparse.Namespace) -> None:
    if arguments.print_config:
        print(as_toml(settings(arguments)), end="")
        return
    out, figures, kept = outputs(arguments.out, arguments.log_dir)
    _check_outputs(arguments.log_dir, out, figures, kept)
    use_threads(arguments)
    name, train, test = data_to_train_on(arguments)
    asked = {k: v for k, v in settings(arguments).items() if k not in CIRCUMSTANCES}
    asked |= {"dataset": name, "lr": arguments.lr or defaults.RATES[arguments.optimizer]}
    manual_seed(arguments.seed)
    shape = train.x.shape[1:]
    options = {"hidden": arguments.hidden} if arguments.model == "mlp" else {}
    model = models.build(arguments.model, shape, CLASSES, **options)
    optimizer = named_optimizer(arguments.optimizer, model, asked["lr"], arguments.weight_decay)
    share = arguments.val_split or (HELD_OUT if arguments.early_stop else 0)
    held_name, held = "test", test
    if share:
        split: Any = data.train_test_split(train, test_size=share, stratify=train.y, seed=arguments.seed)
        held_name, (train, held) = "val", split
    standard: dict[str, Any] = dict(data.statistics(train.x)) if arguments.standardize else {}
    changes = [AUGMENTATIONS[a]() for a in arguments.augment] or None
    loader = data.Loader(train, batch_size=arguments.batch_size, shuffle=True, augment=changes, **standard)
    sizes = {"train": len(train), held_name: len(held)}
    about = {
        "model": str(out),
        "parameters": sum(p.size for p in model.parameters()),
        "config": {**asked, "input_shape": list(shape), "classes": CLASSES, "standardize": standard or None},
        "threads": get_num_threads(),
        "dataset": {"name": name, "source": source(name, arguments.data_dir), **sizes},
        "versions": machine.versions(),
    }
    report = _Report(about, held_name, out, figures, arguments.json)
    added: list[Any] = [callbacks.EarlyStopping(arguments.early_stop)] if arguments.early_stop else []
    if arguments.log_dir is not None:
        added.append(callbacks.Log(arguments.log_dir / "log.jsonl"))
    if arguments.watch is not None:
        report.watch = Watch(arguments.watch)
        added.append(report.watch)
    resume = _to_resume(arguments, kept, asked)
    if not arguments.quiet:
        note(
            f"{name}: {len(train):,} images to train on, {len(held):,} for {held_name}; {arguments.model}, "
            f"{about['parameters']:,} parameters"
        )
        note(
            f"{arguments.optimizer}, lr {asked['lr']:g}, batch {arguments.batch_size}, seed {arguments.seed}, "
            f"threads {get_num_threads()}"
        )
    warnings.filterwarnings("ignore", "fit: the run of .* was stopped after")  # the report mentions it
    try:
        fit(
            model, loader, data.Loader(held, batch_size=1000, **standard),
            epochs=arguments.epochs, optimizer=optimizer, schedule=arguments.schedule, metrics=["accuracy"],
            callbacks=[*added, callbacks.Checkpoint(kept), report], clip_norm=arguments.clip_norm,
            compile=arguments.compile, resume=resume, config=about["config"], verbose=not arguments.quiet,
        )  # fmt: skip
        if share:
            report.test(model, data.Loader(test, batch_size=1000, **standard))
    except DivergenceError as error:
        raise Failure(f"training diverged: {error}; try a smaller --lr") from error
    except checkpoint.CheckpointError as error:
        raise Failure(f"--resume: {error}") from error
    except BrokenPipeError:  # stdout, not one of our files: its reader is gone
        raise
    except OSError as error:
        raise Failure(f"cannot write {out}, {figures} or {kept} ({reason(error)})") from error
    except KeyboardInterrupt:
        done = len(report.rows)
        told = f"{out} is the model of epoch {done}; to go on: minidl train --resume {kept}"
        note(f"interrupted; {told}" if done else "interrupted in the first epoch")
        raise
    if arguments.json:
        print(report.text(), end="")
    if not arguments.quiet:
        note(f"saved {out} and {figures}; test it with: minidl eval {out}")


def _check_outputs(directory: Path | None, *paths: Path) -> None:
    if directory is not None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Failure(f"--log-dir: cannot make {directory} ({reason(error)})") from error
    for path in paths:
        try:
            checkpoint.check_writable(path)
        except OSError as error:
            raise Failure(f"--out: cannot write {path} ({reason(error)})") from error


def _to_resume(arguments: argparse.Namespace, kept: Path, asked: dict[str, Any]) -> Path | None:
    """The checkpoint to resume from, if requested; without a path it need not exist yet."""
    if arguments.resume is None:
        return None
    path = kept if not arguments.resume or os.path.isdir(arguments.resume) else Path(arguments.resume)
    if not arguments.resume and not path.exists():
        note(f"there is no {path} to resume from: this run starts anew")
        return None
    try:
        was = checkpoint.load_checkpoint(path).config
    except checkpoint.CheckpointError as error:
        raise Failure(f"--resume: {error}") from error
    if other := differences(asked, {**was, "standardize": bool(was.get("standardize"))}):
        raise Failure(f"--resume: {path} is of another run: {'; '.join(other)}")
    return path


class _Report:
    """Writes a row to stdout, the model, and the figures as JSON after each epoch."""

    after_others = True

    def __init__(self, about: dict[str, Any], held: str, out: Path, figures: Path, quiet: bool) -> None:
        self.about, self.held, self.out, self.figures, self.quiet = about, held, out, figures, quiet
        self.rows: list[dict[str, Any]] = []
        self.watch: Watch | None = None

    def on_train_begin(self, run: Run) -> None:
        self.rows = [self._row(row) for row in run.history.rows]
        if not self.quiet:
            name = "test" if self.held == "test" else "val."
            run.say(bold(f"epoch  train loss  train accuracy  {name} loss  {name} accuracy  seconds"))

    def on_epoch_end(self, run: Run) -> None:
        self.rows.append(self._row(run.history.rows[-1]))
        self._save(run)
        if not self.quiet:
            row = self.rows[-1]
            train = f"{row['train_loss']:12.4f}{100 * row['train_accuracy']:14.2f} %"
            held = f"{row[f'{self.held}_loss']:11.4f}{100 * row[f'{self.held}_accuracy']:13.2f} %"
            run.say(f"{row['epoch']:5}{train}{held}{row['seconds']:9.2f}")

    def on_train_end(self, run: Run) -> None:
        self.about["stopped"] = run.history.stopped
        for sentence in self.watch.sentences if self.watch is not None else ():
            note(sentence)
        if run.history.stopped is not None and not self.quiet:
            run.say(f"stopped early: {run.history.stopped}")
        self._save(run)

    def test(self, model: nn.Module, loader: data.Loader) -> None:
        """Evaluate on the test set, which is not used in training."""
        found = evaluate(model, loader, metrics=["accuracy"])
        self.about |= {"test_loss": found["loss"], "test_accuracy": found["accuracy"]}
        checkpoint.write_file(self.figures, self.text().encode())
        if not self.quiet:
            print(f"test loss {found['loss']:.4f}, test accuracy {100 * found['accuracy']:.2f} %")

    def text(self) -> str:
        return f"{json.dumps({**self.about, 'epochs': self.rows}, indent=2)}\n"

    def _row(self, figures: dict[str, float]) -> dict[str, Any]:
        row: dict[str, Any] = {"epoch": int(figures["epoch"])}
        for ours, theirs in (("train", ""), (self.held, "val_")):
            row |= {f"{ours}_{name}": figures[f"{theirs}{name}"] for name in ("loss", "accuracy")}
        return {**row, "lr": figures["lr"], "seconds": round(figures["seconds"], 3)}

    def _save(self, run: Run) -> None:
        last = self.rows[-1]
        if self.held == "test":
            self.about["test_accuracy"] = last["test_accuracy"]
        self.about["peak_memory_mib"] = machine.peak_memory()
        if self.watch is not None:
            self.about["watch"] = self.watch.sentences
        checkpoint.save_model(self.out, run.model, {**self.about["config"], "epoch": last["epoch"]})
        checkpoint.write_file(self.figures, self.text().encode())
