"""Examples and their labels, and how to divide them."""

from typing import Any, overload

import numpy as np

from minidl.random import default_generator
from minidl.tensor import Array


class Dataset:
    """Examples x (N, …) and labels y (N, …). ValueError unless there are as many of both."""

    def __init__(self, x: Array, y: Array) -> None:
        if len(x) != len(y):
            raise ValueError(f"Dataset: expected as many labels as examples, found {len(y)} and {len(x)}")
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Dataset(x: {self.x.dtype} {self.x.shape}, y: {self.y.dtype} {self.y.shape})"


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
    """Divide at random: a Dataset into [train, test], arrays into [a_train, a_test, b_train, b_test, …].

    test_size   the part (a float below 1) or the number (an int) of examples in the test set
    seed        of the shuffling (None: minidl's own generator)
    stratify    labels (N,), whose shares both sets shall have as nearly as can be

    ValueError: no examples on one side, lengths that differ. As scikit-learn's, with a seed of our own.
    """
    if len(arrays) == 1 and isinstance(arrays[0], Dataset):
        x_train, x_test, y_train, y_test = train_test_split(
            arrays[0].x, arrays[0].y, test_size=test_size, seed=seed, stratify=stratify
        )
        return [Dataset(x_train, y_train), Dataset(x_test, y_test)]
    lengths = [len(a) for a in arrays]
    if len(set(lengths)) != 1:
        raise ValueError(f"train_test_split: expected arrays of one length, found lengths {lengths}")
    n = lengths[0]
    count = int(test_size) if isinstance(test_size, int | np.integer) else round(n * test_size)
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
    return [part for a in arrays for part in (np.asarray(a)[train], np.asarray(a)[test])]


def _shares(labels: Array, count: int) -> Array:
    """A mask of `count` examples: of each class the first ones, as many as its share, by largest remainders."""
    beyond = np.empty(len(labels), np.int64)  # how far an example lies beyond its class's share, times N
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        beyond[members] = np.arange(1, len(members) + 1) * len(labels) - len(members) * count
    mask = np.zeros(len(labels), bool)
    mask[np.argsort(beyond, kind="stable")[:count]] = True
    return mask


def mean_std(x: Array) -> tuple[Array, Array]:
    """(mean, standard deviation) of each channel of images (N, C, H, W), as float64 (C,).

    Bytes count as 0 to 1, as a `Loader` hands them out: `Loader(train, mean=mean, std=std)` then gives
    standardised images. Take them from the training set alone. ValueError: not four axes, or empty.
    """
    if x.ndim != 4 or x.size == 0:
        raise ValueError(f"mean_std: expected images (N, C, H, W), found shape {x.shape}")
    scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    mean, std = np.empty(x.shape[1]), np.empty(x.shape[1])
    for c in range(x.shape[1]):
        channel = x[:, c]
        if x.dtype == np.uint8:  # from the counts of the 256 values: exact, and no copy in float64
            counts, values = np.bincount(channel.reshape(-1), minlength=256), np.arange(256.0)
            mean[c] = (counts * values).sum() / counts.sum() * scale
            std[c] = np.sqrt((counts * (values * scale - mean[c]) ** 2).sum() / counts.sum())
        else:
            mean[c], std[c] = channel.mean(dtype=np.float64), channel.std(dtype=np.float64)
    return mean, std
