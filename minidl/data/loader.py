"""Batches: images stay bytes in memory and are converted batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minidl.core import locks
from minidl.data.dataset import Dataset, as_arrays
from minidl.jit import kernel, prange
from minidl.random import default_generator
from minidl.shared.numbers import is_integer
from minidl.tensor import Array, ArrayLike

if TYPE_CHECKING:
    from minidl.data.augment import Compose, Transformation
    from minidl.data.mixup import Mixup


@kernel(parallel=lambda images, indices, scale, shift, out: out.size >= 1 << 17)
def gather_images(images: Array, indices: Array, scale: Array, shift: Array, out: Array) -> None:
    """out[n, c, p] = images[indices[n], c, p]·scale[c] + shift[c].   images (·, C, P) bytes, out (N, C, P) float32"""
    for n in prange(indices.size):
        for c in range(images.shape[1]):
            source, target = images[indices[n], c], out[n, c]
            for p in range(source.size):
                target[p] = np.float32(source[p]) * scale[c] + shift[c]


class Loader:
    """Iterates over batches of a Dataset or of arrays of one length (a single array is yielded without a tuple).

    batch_size   examples in a batch; the last may be smaller, or is dropped if `drop_last`
    shuffle      a new order for each iteration
    seed         of the generator for shuffling and augmentation (None: minidl's own)
    mean, std    numbers, or one per channel: images become (x − mean) / std, bytes (x / 255 − mean) / std
    augment      a function of (images, generator) such as those of `data.augment`, or a list of them, applied to the
                 first array's images, in [0, 1], before mean and std. The last of a list may be a `Mixup`

    Byte arrays with at least 2 axes are images: their batches are float32 in [0, 1] before mean and std. Other arrays
    are left unchanged; but if there are no byte arrays, the first may be float32 images (N, C, H, W) in [0, 1], to
    which mean, std and augment apply. Every batch is a new array.

    Each iteration draws its order first, then the random numbers of each batch as it is made: the same order and
    generator state give the same batches.

    TypeError, ValueError: options out of range, arrays of different lengths, mean, std or augment without images.

    >>> loader = data.Loader(np.arange(10.0).reshape(5, 2), np.arange(5), batch_size=2)
    >>> [x.shape for x, y in loader]
    [(2, 2), (2, 2), (1, 2)]
    >>> x, y = next(iter(data.Loader(data.load("digits")[0], batch_size=32, shuffle=True, seed=0)))
    >>> x.shape, x.dtype
    ((32, 1, 8, 8), dtype('float32'))
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
        augment: Transformation | Sequence[Transformation | Mixup] | Mixup | None = None,
    ) -> None:
        if len(arrays) == 1 and isinstance(arrays[0], Dataset):
            arrays = (arrays[0].x, arrays[0].y)
        elif len(arrays) == 1 and isinstance(arrays[0], tuple | list):
            arrays = tuple(arrays[0])
        self.arrays = as_arrays("Loader", arrays)
        lengths = [len(a) for a in self.arrays]
        if len(set(lengths)) != 1:
            raise ValueError(f"Loader: expected arrays of one length, found lengths {lengths}")
        if not is_integer(batch_size):
            raise TypeError(f"Loader: expected batch_size as an int, found {batch_size!r}")
        if batch_size < 1:
            raise ValueError(f"Loader: expected a batch_size of at least 1, found {batch_size}")
        self.batch_size, self.shuffle, self.drop_last = int(batch_size), shuffle, drop_last
        self.generator = np.random.default_rng(seed) if seed is not None else None
        if self.generator is not None:
            locks.renewed(self.generator.bit_generator.lock)
        # The kernel takes images only in C order and writable.
        self.arrays = [np.require(a, requirements=("C", "A", "W")) if _are_images(a) else a for a in self.arrays]
        first, given = self.arrays[0], bool(np.any(np.not_equal(mean, 0)) or np.any(np.not_equal(std, 1)))
        as_bytes = any(map(_are_images, self.arrays))
        floats = not as_bytes and first.dtype == np.float32 and first.ndim == 4
        if given and not floats and not as_bytes:
            found = ", ".join(f"{a.dtype} {a.shape}" for a in self.arrays)
            raise ValueError(
                f"Loader: expected uint8 images or float32 ones (N, C, H, W) to apply mean and std to, found {found}"
            )
        self.augment, self.mixup = (None, None) if augment is None else _transformations(augment, self.arrays)
        self.affine = [_affine(a, mean, std, 255) if _are_images(a) else None for a in self.arrays]
        self.afterwards: tuple[Array, Array] | None = None  # mean and std, unless gathering applies them
        if given and (floats or self.augment is not None):
            self.afterwards = _affine(first, mean, std, 1)
        if self.affine[0] is not None and self.augment is not None:
            self.affine[0] = _affine(first, 0.0, 1.0, 255)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.arrays[0]), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        order = self.order()
        return (self.batch(order[i * self.batch_size : (i + 1) * self.batch_size]) for i in range(len(self)))

    def order(self) -> Array:
        """The examples' indices in the order of the next iteration, a new one each time when shuffling."""
        n = len(self.arrays[0])
        return (self.generator or default_generator()).permutation(n) if self.shuffle else np.arange(n)

    def batch(self, indices: ArrayLike) -> Any:
        """The examples at these indices, as a batch. IndexError: indices that are not integers or out of range."""
        indices = self.places(indices)
        batch = [_take(a, affine, indices) for a, affine in zip(self.arrays, self.affine, strict=True)]
        if self.augment is not None:
            batch[0] = self.augment(batch[0], self.generator)
        if self.afterwards is not None:
            scale, shift = (v[:, None, None] for v in self.afterwards)
            batch[0] = batch[0] * scale + shift
        if self.mixup is not None:
            batch = [*self.mixup(batch[0], batch[1], self.generator)]
        return tuple(batch) if len(batch) > 1 else batch[0]

    def places(self, indices: ArrayLike) -> Array:
        """Convert indices as NumPy takes them (negative, or a mask) to int64 from 0 on.

        Always a copy: kernels index with it unchecked, and another thread might change the caller's array meanwhile.
        IndexError: invalid indices.
        """
        n, found = min(map(len, self.arrays)), np.array(indices)
        if found.dtype == bool and found.shape == (n,):
            return np.flatnonzero(found)
        if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
            raise IndexError(
                f"Loader: expected a list of examples' numbers, found {found.dtype} of shape {found.shape}"
            )
        if found.size and not (-n <= int(found.min()) and int(found.max()) < n):
            raise IndexError(
                f"Loader: expected examples' numbers from {-n} to {n - 1}, found {found.min()} to {found.max()}"
            )
        places: Array = found.astype(np.int64)
        places[places < 0] += n
        return places

    @property
    def gathers(self) -> bool:
        """Whether a batch is only gathered and scaled, which `minidl.compile` can do by itself."""
        return self.augment is None and self.mixup is None and self.afterwards is None


def _are_images(a: Array) -> bool:
    return a.dtype == np.uint8 and a.ndim >= 2


def _transformations(augment: Any, arrays: list[Array]) -> tuple[Compose | None, Mixup | None]:
    """The transformation of the images, and the one of images and labels after it."""
    from minidl.data.augment import Compose, Mixup  # has kernels that few programs use

    steps = list(augment) if isinstance(augment, tuple | list) else [augment]
    mixup = steps.pop() if steps and isinstance(steps[-1], Mixup) else None
    found = ", ".join(f"{a.dtype} {a.shape}" for a in arrays)
    if arrays[0].ndim != 4 or arrays[0].dtype not in (np.uint8, np.float32):
        raise ValueError(f"Loader: expected images (N, C, H, W), uint8 or float32, to augment, found {found}")
    if mixup is not None and len(arrays) != 2:
        raise ValueError(f"Loader: expected images and labels for {mixup!r}, found {found}")
    return Compose(steps) if steps else None, mixup


def _affine(images: Array, mean: ArrayLike, std: ArrayLike, top: float) -> tuple[Array, Array]:
    """(scale, shift) per channel such that x·scale + shift = (x / top − mean) / std."""
    channels = images.shape[1] if images.ndim > 2 else 1
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    for name, values in (("mean", mean), ("std", std)):
        if values.shape not in ((), (channels,)):
            raise ValueError(
                f"Loader: expected {name} as a number or one for each of {channels} channels, found {values.shape}"
            )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError(f"Loader: expected a finite mean and finite std > 0, found {mean} and {std}")
    scale, shift = np.broadcast_arrays(1 / (top * std), -mean / std)
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
