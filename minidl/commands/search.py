"""`minidl search`: find better settings than the defaults of `minidl train` in a given time.

The criterion is the accuracy on a held-out part of the training set; the test set is never used. The result is a file
for `minidl train --config`, which trains exactly the model that the search evaluated.
"""

import argparse
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidl import checkpoint, data, models, search
from minidl.commands import search_space
from minidl.commands.settings import as_toml
from minidl.commands.shared import CLASSES, data_to_train_on, use_threads
from minidl.commands.train import AUGMENTATIONS
from minidl.jit import get_num_threads
from minidl.optim import SCHEDULES
from minidl.random import manual_seed
from minidl.shared.terminal import Failure, note, reason
from minidl.train import fit
from minidl.train.arguments import named_optimizer
from minidl.train.evaluation import evaluate
from minidl.train.run import Run

MINUTES, HELD_OUT, MOST_WORKERS = 3.0, 0.1, 8
ETA, ROUNDS, LEAST_IMAGES = 3, 4, 5000  # of successive halving
METHODS = {
    "random": search.random_search,
    "halving": search.successive_halving,
    "optuna": search.optuna_search,
}


def add_parser(
    command: Callable[..., argparse.ArgumentParser],
    reads_data: Callable[[argparse.ArgumentParser, str], None],
    computes: Callable[[argparse.ArgumentParser], None],
    train: argparse.ArgumentParser,
) -> None:
    """Add `search` to the commands. `train`: the parser of `minidl train`, whose flags are searched."""
    made = command("search", run_search, "look for settings with which `minidl train` does better")
    kinds: dict[str, Any] = {action.dest: action.type for action in train._actions}  # parsed as there
    count, positive, share = kinds["epochs"], kinds["lr"], kinds["val_split"]
    reads_data(made, "mnist, or the built-in digits where that cannot be had")
    help = f"end after that (default: {MINUTES:g}, or with --trials when those are done)"
    made.add_argument("--minutes", type=positive, metavar="N", help=help)
    made.add_argument("--trials", type=count, metavar="N", help="settings to try (default: what there is time for)")
    help = "draw settings; draw many and train the best of them on; or let Optuna propose them (default: halving)"
    made.add_argument("--method", choices=METHODS, default="halving", help=help)
    help = f"processes that train at a time (default: one for each thread, at most {MOST_WORKERS})"
    made.add_argument("--workers", type=count, metavar="N", help=help)
    help = "what to search: TOML as --print-space shows it"
    made.add_argument("--space", type=functools.partial(search_space.read, train), metavar="FILE.toml", help=help)
    made.add_argument("--print-space", action="store_true", help="print the space as such a file, and do nothing")
    help = f"part of the training set to find the accuracy with (default: {HELD_OUT:g})"
    made.add_argument("--val-split", type=share, default=HELD_OUT, metavar="SHARE", help=help)
    help = "of the settings drawn, and of weights and order in each training (default: 0)"
    made.add_argument("--seed", type=kinds["seed"], default=0, metavar="N", help=help)
    computes(made)
    help = "a directory for the trials, the results and the best settings (default: search)"
    made.add_argument("--out", type=Path, default=Path("search"), metavar="DIR", help=help)
    made.add_argument("--resume", action="store_true", help="go on with the search in --out, if there is one")
    made.add_argument("--plot", type=_png, metavar="FILE.png", help="draw the trials")
    made.add_argument("--quiet", action="store_true", help="no progress on stderr")
    made.set_defaults(defaults={dest: train.get_default(dest) for dest in kinds})


def run_search(arguments: argparse.Namespace) -> None:
    space: dict[str, Any] = arguments.space or search_space.SPACE
    if arguments.print_space:
        print(search_space.as_toml(space), end="")
        return
    use_threads(arguments)
    name, *_ = data_to_train_on(arguments)
    asked = {"epochs": arguments.defaults["epochs"], **space}
    asked |= {"dataset": name, "val_split": arguments.val_split, "seed": arguments.seed}
    workers = arguments.workers or min(get_num_threads(), MOST_WORKERS)
    minutes = arguments.minutes or (None if arguments.trials else MINUTES)
    options: dict[str, Any] = {}
    if arguments.method == "halving":
        count = len(_split(name, arguments.data_dir, arguments.val_split, arguments.seed)[0])
        options = {"budgets": _budgets(asked["epochs"], count), "eta": ETA}
    _make(arguments.out)
    if not arguments.quiet:
        told = f"{minutes:g} minutes" if minutes else f"{arguments.trials} trials"
        note(f"{name}: searching for {told} by {arguments.method}, {workers} at a time; trial 0 is the default")
    try:
        found = METHODS[arguments.method](
            Accuracy(arguments.defaults, arguments.data_dir), asked,
            baseline=search_space.baseline(space, arguments.defaults),
            trials=arguments.trials, seconds=minutes and 60 * minutes, seed=arguments.seed, workers=workers,
            path=arguments.out / "trials.jsonl", resume=arguments.resume,
            callback=None if arguments.quiet else _Teller(options.get("budgets", [None])[-1]), **options,
        )  # fmt: skip
    except (search.SearchError, RuntimeError, ImportError) as error:
        raise Failure(str(error)) from error
    except FileExistsError as error:
        raise Failure(f"{arguments.out} holds a search already: --resume it, or name another --out") from error
    if found.stopped != "interrupted":
        _tell(arguments, found)
        return
    if found.ranked():
        _tell(arguments, found)
    note(f"interrupted; to go on: the same command with --resume (--out {arguments.out})")
    raise KeyboardInterrupt


def _tell(arguments: argparse.Namespace, found: search.Results) -> None:
    """Print the table and the files written."""
    if not found.ranked():
        first = f": {found.rows[0].error}" if found.rows else ""
        raise Failure(f"no trial has ended well{first}; {arguments.out} keeps what there is, and --resume goes on")
    best, path = found.best, arguments.out / "best.toml"
    default = next((row for row in found.rows if row.trial == 0 and row.value is not None), None)
    compared = f"best {_percent(best)} (trial {best.trial})"
    if default is not None:
        compared += f", default {_percent(default)}"
    if [row.budget for row in found.ranked()].count(best.budget) == 1 and best.budget is not None:
        compared += "; no other was trained to the end: give it more time"
    told = {**json.loads(found.to_json()), "default": default and asdict(default)}
    try:
        checkpoint.write_file(path, f"# Validation accuracy: {compared}.\n{as_toml(best.settings)}".encode())
        checkpoint.write_file(arguments.out / "results.json", f"{json.dumps(told, indent=2)}\n".encode())
        if arguments.plot:
            found.plot(arguments.plot)
    except (OSError, ImportError) as error:
        raise Failure(reason(error)) from error
    print(json.dumps(told, indent=2) if arguments.json else f"{found}\n{compared}")
    if not arguments.quiet:
        note(f"{len(found.rows)} trials; saved {path}; train and test with: minidl train --config {path}")


def _percent(row: search.Row) -> str:
    return f"{100 * (row.value or 0):.2f} %"


class _Teller:
    """Prints a line on stderr for each trial trained to the end."""

    def __init__(self, budget: int | None) -> None:
        self.budget, self.best, self.count = budget, 0.0, set[int]()

    def __call__(self, row: search.Row) -> None:
        self.count.add(row.trial)
        if row.value is None:
            note(f"trial {row.trial}: failed, {row.error!s:.100}")
        elif row.budget == self.budget:
            self.best = max(self.best, row.value)
            accuracy = f"{100 * row.value:.2f} %, best {100 * self.best:.2f} %"
            note(f"trial {row.trial}: validation accuracy {accuracy}, {len(self.count)} trials so far")


# ---------------------------------------------------------------------------------------- a trial


@dataclass(frozen=True)
class Accuracy:
    """An objective: the validation accuracy that `minidl train` reaches with a trial's settings.

    defaults    of all flags;  data_dir: the directory of the data
    """

    defaults: Mapping[str, Any]
    data_dir: str | None

    def __call__(self, trial: search.Trial) -> float:
        asked = {**self.defaults, **trial}
        total = asked["epochs"]
        train, held = _split(asked["dataset"], self.data_dir, asked["val_split"], asked["seed"])
        manual_seed(asked["seed"])  # not the trial's own, so that `minidl train` can reproduce it
        options = {"hidden": asked["hidden"]} if asked["model"] == "mlp" else {}
        model = models.build(asked["model"], train.x.shape[1:], CLASSES, **options)
        optimizer = named_optimizer(asked["optimizer"], model, asked["lr"], asked["weight_decay"])
        standard: dict[str, Any] = {}
        if asked["standardize"]:
            standard = dict(zip(("mean", "std"), data.mean_std(train.x), strict=True))
        changes = [AUGMENTATIONS[a]() for a in asked["augment"]] or None
        loader = data.Loader(train, batch_size=asked["batch_size"], shuffle=True, augment=changes, **standard)
        # The schedule of the whole training, of which a small budget is the beginning.
        schedule = asked["schedule"] and SCHEDULES[asked["schedule"]](optimizer, total, len(loader))

        validation = data.Loader(held, batch_size=1000, **standard)
        pause = None
        if trial.budget is not None and trial.budget < total * len(train):
            pause = _Pause(max(1, trial.budget // asked["batch_size"]), trial.checkpoint)
        with np.errstate(all="ignore"):  # divergence is reported in the row
            history = fit(
                model, loader, validation, epochs=total, optimizer=optimizer, schedule=schedule,
                metrics=["accuracy"], callbacks=[] if pause is None else [pause],
                clip_norm=asked["clip_norm"], verbose=False,
                resume=trial.checkpoint if Path(trial.checkpoint).exists() else None,
            )  # fmt: skip
            if pause is not None and pause.there_already:
                return evaluate(model, validation, metrics=["accuracy"])["accuracy"]
        return float(history["val_accuracy"][-1])


class _Pause:
    """End a run after so many steps, with a checkpoint from which it resumes bit for bit."""

    def __init__(self, step: int, path: str) -> None:
        self.step, self.path, self.there_already = step, path, False

    def on_train_begin(self, run: Run) -> None:
        if run.step >= self.step:  # already reached, but the search was killed before recording it
            self.there_already = True
            run.stop("it has had all that it may for now")

    def on_step_end(self, run: Run) -> None:
        if run.step == self.step:
            run.save(self.path)
            run.stop("it has had all that it may for now")


@functools.cache
def _split(name: str, data_dir: str | None, share: float, seed: int) -> tuple[data.Dataset, data.Dataset]:
    """(training set, validation set), as in `minidl train --val-split`; read once per process."""
    train, _ = data.load(name, data_dir, offline=True)
    split: Any = data.train_test_split(train, test_size=share, stratify=train.y, seed=seed)
    return tuple(split)


def _budgets(epochs: Any, count: int) -> list[int]:
    """Numbers of training images: all epochs of `count`, a third, a ninth, a 27th, if enough to be informative."""
    if not isinstance(epochs, int):
        raise Failure("--method halving trains longer what does well: name one number of `epochs` in the space")
    least, total = min(count, LEAST_IMAGES), epochs * count
    return [total // ETA**k for k in reversed(range(ROUNDS)) if k == 0 or total // ETA**k >= least]


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        checkpoint.check_writable(directory / "best.toml")
    except OSError as error:
        raise Failure(f"--out: cannot write to {directory} ({reason(error)})") from error


def _png(text: str) -> Path:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file's name ending in .png, found {text!r}")
    return Path(text)
