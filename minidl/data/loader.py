"""Batches: images stay bytes in memory, and each batch that is handed out is converted on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from minidl.data.dataset import Dataset, as_arrays
from minidl.jit import kernel, prange
from minidl.random import default_generator
from minidl.tensor import Array, ArrayLike


@kernel(parallel=lambda images, indices, scale, shift, out: out.size >= 1 << 17)
def gather_images(images: Array, indices: Array, scale: Array, shift: Array, out: Array) -> None:
    """out[n, c, p] = images[indices[n], c, p]·scale[c] + shift[c].   images (·, C, P) bytes, out (N, C, P) float32"""
    for n in prange(indices.size):
        for c in range(images.shape[1]):
            source, target = images[indices[n], c], out[n, c]
            for p in range(source.size):
                target[p] = np.float32(source[p]) * scale[c] + shift[c]


class Loader:
    """Iterates over batches of a Dataset, or of several arrays of one length (a lone array comes without a tuple).

    batch_size   examples in a batch; the last has what is left, or is left out if `drop_last`
    shuffle      a new order in each iteration, from a generator with this seed (None: from minidl's own)
    mean, std    numbers, or one a channel: images come as (x / 255 − mean) / std

    Arrays of bytes with at least 2 axes are images: batches of them are float32 in [0, 1] before mean and std.
    Other arrays come as they are. Every batch is a new array. TypeError, ValueError: options out of range,
    arrays of different lengths, mean or std without images.
    """

    def __init__(
        self,
        *arrays: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int | None = None,
        drop_last: bool = False,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ) -> None:
        if len(arrays) == 1 and isinstance(arrays[0], Dataset):
            arrays = (arrays[0].x, arrays[0].y)
        elif len(arrays) == 1 and isinstance(arrays[0], tuple | list):
            arrays = tuple(arrays[0])
        self.arrays = as_arrays("Loader", arrays)
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"Loader: expected arrays of one length, found lengths {lengths}")
        if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool):
            raise TypeError(f"Loader: expected batch_size as an int, found {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"Loader: expected a batch_size of at least 1, found {batch_size}")
        if not any(map(_are_images, self.arrays)) and (np.any(np.not_equal(mean, 0)) or np.any(np.not_equal(std, 1))):
            found = ", ".join(f"{a.dtype} {a.shape}" for a in self.arrays)
            raise ValueError(f"Loader: expected uint8 images to apply mean and std to, found {found}")
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), shuffle, drop_last
        self.generator = np.random.default_rng(seed) if seed is not None else None
        # Images in the one form that the kernel takes: C order, writable.
        self.arrays = [np.require(a, requirements=("C", "A", "W")) if _are_images(a) else a for a in self.arrays]
        self.affine = [_affine(a, mean, std) if _are_images(a) else None for a in self.arrays]

    def __len__(self) -> int:
        whole, rest = divmod(len(self.arrays[0]), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = self.order()
        return (self.batch(order[i * self.batch_size : (i + 1) * self.batch_size]) for i in range(len(self)))

    def order(self) -> Array:
        """The examples' numbers in the order of the next iteration: a new one each time if it shuffles."""
        n = len(self.arrays[0])
        return (self.generator or default_generator()).permutation(n) if self.shuffle else np.arange(n)

    def batch(self, indices: Array) -> Any:
        """The examples of these numbers, as a batch."""
        batch = tuple(_take(a, affine, indices) for a, affine in zip(self.arrays, self.affine, strict=True))
        return batch if len(batch) > 1 else batch[0]


def _are_images(a: Array) -> bool:
    return a.dtype == np.uint8 and a.ndim >= 2


def _affine(images: Array, mean: ArrayLike, std: ArrayLike) -> tuple[Array, Array]:
    """(scale, shift) a channel such that x·scale + shift = (x / 255 − mean) / std."""
    channels = images.shape[1] if images.ndim > 2 else 1
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    for name, values in (("mean", mean), ("std", std)):
        if values.shape not in ((), (channels,)):
            raise ValueError(
                f"Loader: expected {name} as a number or one for each of {channels} channels, found {values.shape}"
            )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f"Loader: expected a finite mean and finite std > 0, found {mean} and {std}")
    scale, shift = np.broadcast_arrays(1 / (255 * std), -mean / std)
    return tuple(np.array(np.broadcast_to(v, channels), np.float32) for v in (scale, shift))  # type: ignore[return-value]


def _take(a: Array, affine: tuple[Array, Array] | None, indices: Array) -> Array:
    if affine is None:
        return a[indices]
    channels = len(affine[0])
    out = np.empty((len(indices), *a.shape[1:]), np.float32)
    if out.size:
        images = a.reshape(len(a), channels, -1)
        gather_images(images, indices, *affine, out.reshape(len(indices), channels, -1))
    return out
