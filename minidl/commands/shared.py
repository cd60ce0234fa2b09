"""Shared by several commands: loading data, loading a trained model, setting threads."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from minidl import checkpoint, data, nn
from minidl.data.sources import named_directories
from minidl.jit import set_num_threads
from minidl.jit.environment import cache_root
from minidl.shared.terminal import Failure, note, reason
from minidl.tensor import Array
from minidl.train.evaluation import predict

DATASETS = ("mnist", "fashion_mnist", "kmnist", "digits")
CLASSES = 10
NO_DATA = (data.DataError, data.IDXError, OSError)


def use_threads(arguments: argparse.Namespace) -> None:
    if arguments.threads is not None:
        try:
            set_num_threads(arguments.threads)
        except ValueError as error:  # the pool was started with fewer
            raise Failure(str(error)) from error


# ------------------------------------------------------------------------------------------ data


def data_to_train_on(arguments: argparse.Namespace) -> tuple[str, data.Dataset, data.Dataset]:
    """(name, train, test) of the requested data; by default MNIST, or else the digits."""
    try:
        return arguments.dataset or "mnist", *load(arguments.dataset or "mnist", arguments)
    except NO_DATA as error:
        if arguments.dataset is not None:
            raise Failure(f"{reason(error)}; or train on the built-in data with --dataset digits") from error
        note(f"MNIST cannot be had, so this trains on the built-in digits (8x8) instead: {reason(error)}")
        return "digits", *data.load("digits")


def load(name: str, arguments: argparse.Namespace) -> tuple[data.Dataset, data.Dataset]:
    if not arguments.offline and source(name, arguments.data_dir) is None:
        note(f"{name} is not on this machine: downloading it")
    return data.load(name, arguments.data_dir, arguments.offline)


def source(name: str, data_dir: str | None) -> str | None:
    """The location of a data set on this machine, or None."""
    if name == "digits":
        return "built in"
    places = [Path(place) for place in named_directories(name, data_dir)]
    with contextlib.suppress(OSError):  # there is no home directory
        places.append(Path(cache_root(), "data", name))
    return next((str(place) for place in places if any(place.glob("train-images-idx3-ubyte*"))), None)


def test_set(arguments: argparse.Namespace, config: dict[str, Any]) -> tuple[str, data.Dataset]:
    """(name, test set) of the requested data, or of those the model was trained on; they fit the model."""
    name = arguments.dataset or config.get("dataset")
    if name not in DATASETS:
        raise Failure(f"{arguments.model} does not say what it was trained on: name a --dataset")
    try:
        _, test = load(name, arguments)
    except NO_DATA as error:
        raise Failure(reason(error)) from error
    shape, count = tuple(config["input_shape"]), config["classes"]
    if test.x.shape[1:] != shape or test.y.max() >= count:
        raise Failure(
            f"{arguments.model} takes images {shape} of {count} classes, "
            f"found in {name} images {test.x.shape[1:]} of {test.y.max() + 1}"
        )
    return name, test


# ------------------------------------------------------------------------------------------ models


def load_model(arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Load a model of `minidl train`, and try it on one blank image."""
    use_threads(arguments)
    try:
        model, config = checkpoint.load_model(arguments.model)
    except checkpoint.CheckpointError as error:
        raise Failure(str(error)) from error
    shape: Any = config.get("input_shape")
    classes = config.get("classes")
    try:
        if not all(isinstance(n, int) and 0 < n < 1 << 12 for n in (*shape, classes)) or len(shape) != 3:
            raise ValueError("no images")
        blank = loader(np.zeros((1, *shape), np.uint8), config)
        if (found := predict(model, blank).shape) != (1, classes):
            raise ValueError(f"an output of shape {found}")
    except (ValueError, TypeError) as error:
        raise Failure(
            f"{arguments.model}: expected a classifier of images, found input_shape {shape!r:.60}, "
            f"classes {classes!r:.20} and layers that do not fit them ({error})"
        ) from error
    if not all(np.isfinite(p.data).all() for p in model.parameters()):
        raise Failure(f"{arguments.model}: expected finite weights, found some that are not")
    return model, config


def loader(images: Array | data.Dataset, config: dict[str, Any], **options: Any) -> data.Loader:
    """Batches of images, standardised as in the model's training."""
    standard = config.get("standardize")
    if standard is None:
        return data.Loader(images, **{"batch_size": 1000, **options})
    if not isinstance(standard, dict) or standard.keys() != {"mean", "std"}:
        raise ValueError(f"statistics of its training images as mean and std, found {standard!r:.60}")
    return data.Loader(images, **{"batch_size": 1000, **standard, **options})
