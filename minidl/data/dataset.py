"""Examples with labels, and how to split them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from minidl.random import default_generator
from minidl.shared.numbers import is_integer, is_number
from minidl.tensor import Array


class Dataset:
    """Examples x (N, …) and labels y (N, …). ValueError: lengths that differ; TypeError: an array without axes."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = as_arrays("Dataset", (x, y))
        if len(self.x) != len(self.y):
            raise ValueError(f"Dataset: expected as many labels as examples, found {len(self.y)} and {len(self.x)}")

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Dataset(x: {self.x.dtype} {self.x.shape}, y: {self.y.dtype} {self.y.shape})"


def as_arrays(name: str, arrays: Sequence[Any]) -> list[Array]:
    """Convert to arrays with at least one axis each. TypeError, naming the caller, otherwise."""
    made = [np.asarray(a) for a in arrays]
    for given, a in zip(arrays, made, strict=True):
        if a.ndim == 0:
            raise TypeError(f"{name}: expected arrays with a length, found {given!r}")
    return made


@overload
def train_test_split(
    data: Dataset, /, *, test_size: float = 0.2, seed: int | None = None, stratify: Array | None = None
) -> list[Dataset]: ...
@overload
def train_test_split(
    *arrays: Array, test_size: float = 0.2, seed: int | None = None, stratify: Array | None = None
) -> list[Array]: ...
def train_test_split(
    *arrays: Any, test_size: float = 0.2, seed: int | None = None, stratify: Array | None = None
) -> list[Any]:
    """Split at random: a Dataset into [train, test], arrays into [a_train, a_test, b_train, b_test, …].

    test_size   the fraction of the examples (a float below 1; rounded up) or the number (an int) in the test set
    seed        of the shuffling (None: minidl's own generator)
    stratify    labels (N,), whose proportions both sets keep as closely as possible

    As scikit-learn's, but with other random numbers. ValueError: an empty side, lengths that differ. TypeError:
    test_size is not a number.
    """
    if len(arrays) == 1 and isinstance(arrays[0], Dataset):
        x_train, x_test, y_train, y_test = train_test_split(
            arrays[0].x, arrays[0].y, test_size=test_size, seed=seed, stratify=stratify
        )
        return [Dataset(x_train, y_train), Dataset(x_test, y_test)]
    whole = as_arrays("train_test_split", arrays)
    lengths = [len(a) for a in whole]
    if len(set(lengths)) != 1:
        raise ValueError(f"train_test_split: expected arrays of one length, found lengths {lengths}")
    n = lengths[0]
    if not is_number(test_size):
        raise TypeError(f"train_test_split: expected test_size as a number, found {test_size!r}")
    if not math.isfinite(test_size):
        raise ValueError(f"train_test_split: expected a finite test_size, found {test_size}")
    count = int(test_size) if is_integer(test_size) else math.ceil(n * test_size)
    if not 0 < count < n:
        raise ValueError(f"train_test_split: expected examples on both sides, found {count} of {n} in the test set")
    generator = default_generator() if seed is None else np.random.default_rng(seed)
    order = generator.permutation(n)
    if stratify is not None:
        if len(stratify) != n:
            raise ValueError(f"train_test_split: expected {n} labels to stratify by, found {len(stratify)}")
        drawn = _shares(np.asarray(stratify)[order], count)
        order = np.concatenate([order[drawn], order[~drawn]])
    test, train = order[:count], order[count:]
    return [part for a in whole for part in (a[train], a[test])]


def _shares(labels: Array, count: int) -> Array:
    """A mask of `count` examples: the first ones of each class, in proportion to its size, by largest remainders."""
    beyond = np.empty(len(labels), np.int64)  # how far an example lies beyond its class's quota, times N
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        beyond[members] = np.arange(1, len(members) + 1) * len(labels) - len(members) * count
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(beyond, kind="stable")[:count]] = True
    return mask


def mean_std(x: Array) -> tuple[Array, Array]:
    """(mean, standard deviation) of each channel of images (N, C, H, W), as float64 (C,).

    Bytes are scaled to [0, 1], as a `Loader` does: `Loader(train, mean=mean, std=std)` then gives
    standardised images. Compute them on the training set only. ValueError: not four axes, or empty.
    """
    if x.ndim != 4 or x.size == 0:
        raise ValueError(f"mean_std: expected images (N, C, H, W), found shape {x.shape}")
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    mean, std = np.empty(x.shape[1]), np.empty(x.shape[1])
    for c in range(x.shape[1]):
        channel = x[:, c]
        if x.dtype == np.uint8:  # from the counts of the 256 values: exact
            counts, values = np.zeros(256, np.int64), np.arange(256.0)
            rows = max(1, (1 << 18) // channel[0].size)  # `bincount` makes each value eight bytes
            for i in range(0, len(channel), rows):
                counts += np.bincount(channel[i : i + rows].reshape(-1), minlength=256)
            mean[c] = (counts * values).sum() / counts.sum() * scale
            std[c] = np.sqrt((counts * (values * scale - mean[c]) ** 2).sum() / counts.sum())
        else:
            mean[c], std[c] = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
    return mean, std


def statistics(x: Array) -> dict[str, list[float]]:
    """{"mean": […], "std": […]} of each channel, for `Loader` and for JSON.

        statistics = data.statistics(train.x)                  # of the training set only
        data.Loader(test, **statistics)
        save_model(path, model, {"statistics": statistics})    # and data.Loader(x, **config["statistics"]) later

    As `mean_std`, but a constant channel has a std of 1, so that it becomes zeros.
    """
    mean, std = mean_std(x)
    return {"mean": mean.tolist(), "std": np.where(std > 0, std, 1.0).tolist()}
