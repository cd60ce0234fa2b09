"""Mixup: convex combinations of examples and of their labels."""

from __future__ import annotations

import numpy as np

from minidl.data.augment_kernels import mix_images
from minidl.data.options import count, float_images, generator_or_default, number
from minidl.tensor import Array


class Mixup:
    """Mix each example with another of its batch: λ·(x, y) + (1 − λ)·(x′, y′), λ ~ Beta(α, α).

    Zhang et al. 2018, section 1; one λ per example. Partners are a permutation of the batch.

    classes   C: labels are integers from 0 to C − 1 and become probabilities
    alpha     α > 0; 0.1 to 0.4 mixes little; at 1, λ is uniform

    Called with (images, labels (N,), generator), it returns (images, probabilities (N, C) float32), which
    `ops.softmax_cross_entropy` takes. TypeError, ValueError: labels that are not one such integer for each image.
    """

    def __init__(self, classes: int, alpha: float = 0.2) -> None:
        self.classes, self.alpha = count("Mixup", "classes", classes, 1), number("Mixup", "alpha", alpha, above=0)

    def __call__(
        self, images: Array, labels: Array, generator: np.random.Generator | None = None
    ) -> tuple[Array, Array]:
        x, y = float_images("Mixup", images), np.asarray(labels)
        generator = generator_or_default("Mixup", generator)
        if y.dtype.kind not in "iu":
            raise TypeError(f"Mixup: expected integer labels of shape ({len(x)},), found {y.dtype} of shape {y.shape}")
        if y.shape != (len(x),):
            raise ValueError(f"Mixup: expected labels of shape ({len(x)},), one for each image, found shape {y.shape}")
        if y.size and not (y.min() >= 0 and y.max() < self.classes):
            raise ValueError(f"Mixup: expected labels from 0 to {self.classes - 1}, found {y.min()} to {y.max()}")
        shares, partners = generator.beta(self.alpha, self.alpha, len(x)), generator.permutation(len(x))
        out, flat = np.empty_like(x), (len(x), x[:1].size)
        mix_images(x.reshape(flat), partners, shares, out.reshape(flat))
        probabilities, rows = np.zeros((len(x), self.classes), np.float32), np.arange(len(x))
        probabilities[rows, y] = shares
        probabilities[rows, y[partners]] += 1 - shares
        return out, probabilities

    def __repr__(self) -> str:
        return f"Mixup(classes={self.classes}, alpha={self.alpha})"
