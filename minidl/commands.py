"""The commands of `minidl`: each takes the parsed arguments and prints, or raises `Failure` with a reason."""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from minidl import checkpoint, data, machine, nn, optim
from minidl.cache import cache_root
from minidl.data.sources import named_directories
from minidl.jit import KERNELS, get_num_threads, interpreted, set_num_threads
from minidl.pictures import PictureError, read_images
from minidl.random import manual_seed
from minidl.terminal import Failure, Progress, bold, counting, note, reason
from minidl.train import evaluate, mlp, predict, train_epoch
from minidl.warmup import compile_for, warmup

DATASETS = ("mnist", "fashion_mnist", "kmnist", "digits")
RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
CLASSES = 10

_NO_DATA = (data.DataError, data.IDXError, OSError)


# ----------------------------------------------------------------------------------------- train


def run_train(arguments: argparse.Namespace) -> None:
    out, figures = arguments.out, arguments.out.with_suffix(".json")
    for path in (out, figures):
        try:
            checkpoint.check_writable(path)
        except OSError as error:
            raise Failure(f"--out: cannot write {path} ({reason(error)})") from error
    _use_threads(arguments)
    name, train, test = _data_to_train_on(arguments)
    _compile_first(arguments.optimizer, arguments.quiet)
    shape, rate = train.x.shape[1:], arguments.lr or RATES[arguments.optimizer]
    settings = {"dataset": name, "input_shape": list(shape), "hidden": arguments.hidden, "classes": CLASSES}
    settings |= {"optimizer": arguments.optimizer, "lr": rate, "batch_size": arguments.batch_size}
    settings |= {"epochs": arguments.epochs, "seed": arguments.seed}
    manual_seed(arguments.seed)
    model = mlp(shape, arguments.hidden, CLASSES)
    optimizer = _optimizer(arguments.optimizer, model, rate)
    loader = data.Loader(train, batch_size=arguments.batch_size, shuffle=True)
    parameters = sum(p.size for p in model.parameters())
    source = {"name": name, "source": _source(name, arguments.data_dir), "train": len(train), "test": len(test)}
    rows: list[dict[str, Any]] = []
    run = {"model": str(out), "parameters": parameters, "config": settings, "threads": get_num_threads()}
    run |= {"dataset": source, "versions": machine.versions(), "epochs": rows}
    if not arguments.quiet:
        widths = "-".join(str(n) for n in (math.prod(shape), *arguments.hidden, CLASSES))
        note(
            f"{name}: {len(train):,} images to train on, {len(test):,} to test; {widths} net, {parameters:,} parameters"
        )
        note(
            f"{arguments.optimizer}, lr {rate:g}, batch {arguments.batch_size}, seed {arguments.seed}, "
            f"threads {get_num_threads()}"
        )
    if not arguments.json:
        print(bold("epoch  train loss  train accuracy  test loss  test accuracy  seconds"), flush=True)
    try:
        with Progress(arguments.epochs, len(train), arguments.quiet) as progress:
            for epoch in range(1, arguments.epochs + 1):
                progress.begin(epoch)
                row = _epoch(epoch, model, loader, optimizer, test, progress)
                run |= {"test_accuracy": row["test_accuracy"], "peak_memory_mib": machine.peak_memory()}
                text = f"{json.dumps({**run, 'epochs': [*rows, row]}, indent=2)}\n"
                try:
                    checkpoint.save_model(out, model, {**settings, "epoch": epoch})
                    rows.append(row)
                    checkpoint.write_file(figures, text.encode())
                except OSError as error:
                    raise Failure(f"cannot write {out} and {figures} ({reason(error)})") from error
                if not arguments.json:
                    progress.print(_row(row))
    except KeyboardInterrupt:
        note(f"interrupted; {out} is the model of epoch {len(rows)}" if rows else "interrupted in the first epoch")
        raise
    if arguments.json:
        print(json.dumps(run, indent=2))
    if not arguments.quiet:
        note(f"saved {out} and {figures}; test it with: minidl eval {out}")


def _epoch(
    epoch: int,
    model: nn.Sequential,
    loader: data.Loader,
    optimizer: optim.Optimizer,
    test: data.Dataset,
    progress: Progress,
) -> dict[str, Any]:
    """Train for one epoch and test: its figures. `seconds` are those of training."""
    start = time.perf_counter()
    loss, accuracy = train_epoch(model, loader, optimizer, progress.step)
    seconds = time.perf_counter() - start
    test_loss, test_accuracy = evaluate(model, test)
    if not math.isfinite(loss + test_loss):
        raise Failure(f"epoch {epoch}: training diverged (the loss is {loss + test_loss}): try a smaller --lr")
    row = {"epoch": epoch, "train_loss": loss, "train_accuracy": accuracy, "test_loss": test_loss}
    return {**row, "test_accuracy": test_accuracy, "seconds": round(seconds, 3)}


def _row(row: dict[str, Any]) -> str:
    train = f"{row['train_loss']:12.4f}{100 * row['train_accuracy']:14.2f} %"
    test = f"{row['test_loss']:11.4f}{100 * row['test_accuracy']:13.2f} %"
    return f"{row['epoch']:5}{train}{test}{row['seconds']:9.2f}"


def _optimizer(name: str, model: nn.Module, rate: float) -> optim.Optimizer:
    if name == "sgd":
        return optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return (optim.Adam if name == "adam" else optim.AdamW)(model.parameters(), lr=rate)


def _compile_first(optimizer: str, quiet: bool) -> None:
    """Compile in a process of its own, once a version: a compiler leaves some 60 MiB behind where it has run."""
    if interpreted():
        return
    from minidl.kernel_cache import cache_directory

    directory = cache_directory()
    if directory is None or os.path.exists(ready := os.path.join(directory, f"ready-to-train-{optimizer}")):
        return
    if not quiet:
        note("compiling kernels, this first time only")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # Ctrl-C is ours: we end it
        f"from minidl import commands; commands.compile_training({optimizer!r})"
    )
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(  # should it fail, training compiles for itself
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stderr=subprocess.DEVNULL if quiet else None,
        check=False,
    )
    if done.returncode == 0:
        with contextlib.suppress(OSError), open(ready, "w", encoding="ascii"):
            pass


def compile_training(optimizer: str) -> None:
    """Compile what `minidl train` needs with this optimizer."""

    def rehearse() -> None:
        few = data.Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64))
        model = mlp((1, 2, 2), [2], 2)
        train_epoch(model, data.Loader(few), _optimizer(optimizer, model, 1e-3))
        evaluate(model, few)

    with counting("compiling") as step:
        compile_for(rehearse, step)


# ------------------------------------------------------------------------------------------ data


def _data_to_train_on(arguments: argparse.Namespace) -> tuple[str, data.Dataset, data.Dataset]:
    """(name, train, test) of what was asked for; if nothing was, of MNIST or else of the digits."""
    try:
        return arguments.dataset or "mnist", *_load(arguments.dataset or "mnist", arguments)
    except _NO_DATA as error:
        if arguments.dataset is not None:
            raise Failure(f"{reason(error)}; or train on the built-in data with --dataset digits") from error
        note(f"MNIST cannot be had, so this trains on the built-in digits (8x8) instead: {reason(error)}")
        return "digits", *data.load("digits")


def _load(name: str, arguments: argparse.Namespace) -> tuple[data.Dataset, data.Dataset]:
    if not arguments.offline and _source(name, arguments.data_dir) is None:
        note(f"{name} is not on this machine: downloading it")
    return data.load(name, arguments.data_dir, arguments.offline)


def _source(name: str, data_dir: str | None) -> str | None:
    """Where on this machine a data set is, if it is."""
    if name == "digits":
        return "built in"
    places = [Path(place) for place in named_directories(name, data_dir)]
    with contextlib.suppress(OSError):  # there is no home directory
        places.append(Path(cache_root(), "data", name))
    return next((str(place) for place in places if any(place.glob("train-images-idx3-ubyte*"))), None)


# -------------------------------------------------------------------------------- eval, predict


def run_eval(arguments: argparse.Namespace) -> None:
    model, config = _load_model(arguments)
    name = arguments.dataset or config.get("dataset")
    if name not in DATASETS:
        raise Failure(f"{arguments.model} does not say what it was trained on: name a --dataset")
    try:
        _, test = _load(name, arguments)
    except _NO_DATA as error:
        raise Failure(reason(error)) from error
    shape, count = tuple(config["input_shape"]), config["classes"]
    if test.x.shape[1:] != shape or test.y.max() >= count:
        raise Failure(
            f"{arguments.model} takes images {shape} of {count} classes, "
            f"found in {name} images {test.x.shape[1:]} of {test.y.max() + 1}"
        )
    loss, accuracy = evaluate(model, test)
    right = predict(model, test.x).argmax(axis=1) == test.y
    rows: list[dict[str, Any]] = []
    for k in range(count):
        own = right[test.y == k]
        rows.append({"class": k, "images": own.size, "right": int(own.sum())})
        rows[-1]["accuracy"] = float(own.mean()) if own.size else None
    if arguments.json:
        result = {"model": arguments.model, "dataset": name, "images": len(test), "loss": loss, "accuracy": accuracy}
        print(json.dumps({**result, "classes": rows}, indent=2))
        return
    print(bold(f"{'class':>5}{'images':>9}{'right':>9}{'accuracy':>11}"))
    for row in [*rows, {"class": "all", "images": len(test), "right": int(right.sum()), "accuracy": accuracy}]:
        share = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} %"
        print(f"{row['class']:>5}{row['images']:9,}{row['right']:9,}{share:>11}")
    print(f"loss {loss:.4f}")


def run_predict(arguments: argparse.Namespace) -> None:
    model, config = _load_model(arguments)
    labels, images = [], []
    for path in arguments.images:
        try:
            found = read_images(path, tuple(config["input_shape"]), note)
        except PictureError as error:
            raise Failure(str(error)) from error
        labels += [path] if len(found) == 1 else [f"{path}[{i}]" for i in range(len(found))]
        images.append(predict(model, found))
    probabilities = np.concatenate(images)
    rows = [(label, int(p.argmax()), p.tolist()) for label, p in zip(labels, probabilities, strict=True)]
    if arguments.json:
        keys = "image", "class", "probability", "probabilities"
        print(json.dumps([dict(zip(keys, (label, k, p[k], p), strict=True)) for label, k, p in rows], indent=2))
        return
    width = max(len(label) for label in ("image", *labels))
    print(bold(f"{'image':{width}}{'class':>8}{'probability':>14}"))
    for label, k, p in rows:
        print(f"{label:{width}}{k:8}{100 * p[k]:12.2f} %")


def _load_model(arguments: argparse.Namespace) -> tuple[nn.Sequential, dict[str, Any]]:
    """A model of `minidl train`, tried on one blank image."""
    _use_threads(arguments)
    try:
        model, config = checkpoint.load_model(arguments.model)
    except checkpoint.CheckpointError as error:
        raise Failure(str(error)) from error
    shape: Any = config.get("input_shape")
    classes = config.get("classes")
    try:
        if not all(isinstance(n, int) and 0 < n < 1 << 12 for n in (*shape, classes)) or len(shape) != 3:
            raise ValueError("no images")
        if (found := predict(model, np.zeros((1, *shape), np.uint8)).shape) != (1, classes):
            raise ValueError(f"an output of shape {found}")
    except (ValueError, TypeError) as error:
        raise Failure(
            f"{arguments.model}: expected a classifier of images, found input_shape {shape!r:.60}, "
            f"classes {classes!r:.20} and layers that do not fit them ({error})"
        ) from error
    if not all(np.isfinite(p.data).all() for p in model.parameters()):
        raise Failure(f"{arguments.model}: expected finite weights, found some that are not")
    return model, config


# --------------------------------------------------------------------------------- info, warmup


def run_info(arguments: argparse.Namespace) -> None:
    from minidl.kernel_cache import cache_directory

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernels = cache_directory()
    problem = str(caught[0].message) if caught else None
    try:
        kept: str | None = os.path.join(cache_root(), "data")
    except OSError:  # there is no home directory
        kept = None
    bits, layers = machine.vector_bits(), machine.threading_layers()
    files = len(os.listdir(kernels)) if kernels else 0
    sources = {name: _source(name, None) for name in DATASETS}
    given = os.environ.get("MINIDL_DATA")
    if arguments.json:
        result = {
            "versions": machine.versions(),
            "cpu": {"name": machine.cpu_name(), "cores": os.cpu_count(), "vector_bits": bits},
            "threads": {"count": get_num_threads(), "layers": layers},
            "kernels": {"compiled": not interpreted(), "count": len(KERNELS)},
            "cache": {"directory": kernels, "usable": kernels is not None, "problem": problem, "files": files},
            "data": {"MINIDL_DATA": given, "cache": kept, "found": sources},
        }
        print(json.dumps(result, indent=2))
        return
    lines = dict(machine.versions())
    vectors = f"{bits}-bit vectors" if bits else "vectors as LLVM finds them"
    lines["processor"] = f"{machine.cpu_name()}; {os.cpu_count()} cores, {vectors}"
    lines["threads"] = f"{get_num_threads()}, layer {layers[0] if layers else 'none'}"
    lines["kernels"] = f"{len(KERNELS)}, {'as plain Python (NUMBA_DISABLE_JIT)' if interpreted() else 'compiled'}"
    lines["cache"] = f"{kernels} ({files} files)" if kernels else f"none: {problem}"
    lines["MINIDL_DATA"] = given or "not set"
    lines["downloads"] = kept or "not kept: there is no home directory"
    lines |= {name: place or "not on this machine" for name, place in sources.items()}
    for name, value in lines.items():
        print(f"{name:15}{value}")


def run_warmup(arguments: argparse.Namespace) -> None:
    if interpreted():
        raise Failure("NUMBA_DISABLE_JIT is set: there is nothing to compile")
    from minidl.kernel_cache import cache_directory

    start = time.perf_counter()
    with counting("compiling") as step:
        names = warmup(step)
    seconds, where = time.perf_counter() - start, cache_directory()
    if arguments.json:
        print(json.dumps({"kernels": names, "seconds": round(seconds, 3), "cache": where}, indent=2))
    else:
        print(
            f"{len(names)} kernels ready in {seconds:.1f} s, kept in {where or 'this process alone: there is no cache'}"
        )


# ----------------------------------------------------------------------------------------- bench


def run_bench(arguments: argparse.Namespace) -> None:
    from minidl.bench import command

    _use_threads(arguments)
    command.run(arguments)


def _use_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        try:
            set_num_threads(arguments.threads)
        except ValueError as error:  # the pool was started with fewer
            raise Failure(str(error)) from error
