"""Ready-made image classifiers. Each takes float images (N, C, H, W) and gives logits (N, classes).

    model = models.build("lenet", (1, 28, 28), 10)

`MODELS` maps names to them. Weights are drawn from minidl's generator (`minidl.manual_seed`), in layer order.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidl import nn, ops
from minidl.shared.names import hint
from minidl.tensor import ArrayLike, Tensor

_SMALL = 16  # smaller images have no rows to spare


def mlp(input_shape: Sequence[int], hidden: Sequence[int], classes: int) -> nn.Sequential:
    """Flatten, then for each of `hidden` a Dense of that width and a ReLU, then a Dense to `classes` logits.

    input_shape: of one example, as (1, 28, 28). Weights are drawn from minidl's generator (`minidl.manual_seed`).
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = math.prod(input_shape)
    for units in hidden:
        layers += [nn.Dense(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*layers, nn.Dense(width, classes))


def lenet(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Two convolutions of 5×5, each with a pooling that halves the image, then three dense layers.

    LeCun et al. 1998, figure 2, with modern parts. The second convolution keeps the size of images below 16×16, and
    trims 4 rows and columns of larger ones. ValueError: fewer than 4 rows or columns.
    """
    channels, *size = _image_shape("lenet", input_shape, 4)
    margin = 2 if min(size) < _SMALL else 0
    height, width = ((n // 2 - 4 + 2 * margin) // 2 for n in size)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, padding=margin), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dense(16 * height * width, 120), nn.ReLU(), nn.Dense(120, 84), nn.ReLU(),
        nn.Dense(84, classes),
    )  # fmt: skip


def resnet(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """A convolution, two residual blocks of 32 and 64 channels, then global average pooling and a Dense.

    He et al. 2016, "Deep residual learning", figure 3, much reduced. Images of 16×16 and more are halved after the
    first convolution.
    """
    channels, *size = _image_shape("resnet", input_shape, 1)
    halved = [nn.MaxPool2d(2)] if min(size) >= _SMALL else []
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *halved,
        _block(16, 32, 1), _block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dense(64, classes),
    )  # fmt: skip


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """y = ReLU(s(x) + f(x)), f two 3×3 convolutions, each normalised; s a 1×1 convolution to the shape of f(x)."""
    f = nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(nn.Residual(f, shortcut), nn.ReLU())


class RowReader(nn.Module):
    """An LSTM that reads an image row by row, H steps of C·W numbers, with a Dense on its last state.

    input_shape (C, H, W); hidden: the width of the state. ValueError: images of another shape.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        classes: int,
        hidden: int = 128,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.input_shape = _image_shape("lstm", input_shape, 1)
        self.classes, self.hidden = classes, hidden
        channels, _, width = self.input_shape
        self.lstm = nn.LSTM(channels * width, hidden, batch_first=True, generator=generator)
        self.output = nn.Dense(hidden, classes, generator=generator)

    def forward(self, x: ArrayLike) -> Tensor:
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"RowReader: expected images (N, *{self.input_shape}), found shape {tuple(x.shape)}")
        channels, height, width = self.input_shape
        rows = ops.swapaxes(x, 1, 2) if channels > 1 else x
        _, (h, _) = self.lstm(ops.reshape(rows, (len(x), height, channels * width)))
        return self.output(h[0])  # type: ignore[no-any-return]


def lstm(input_shape: Sequence[int], classes: int, hidden: int = 128) -> RowReader:
    """`RowReader`: an LSTM over the rows of an image   (Hochreiter and Schmidhuber 1997)."""
    return RowReader(input_shape, classes, hidden)


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "lenet": lenet, "resnet": resnet, "lstm": lstm}


def build(name: str, input_shape: Sequence[int], classes: int, **options: Any) -> nn.Module:
    """`MODELS[name]` for images of input_shape (C, H, W), with its own options: `hidden` for mlp and lstm.

    ValueError: an unknown name. TypeError: an unknown or missing option.
    """
    if name not in MODELS:
        raise ValueError(f"models.build: expected a model of {list(MODELS)}, found {name!r}{hint(name, MODELS)}")
    arguments = {"input_shape": input_shape, "classes": classes, **options}
    signature = inspect.signature(MODELS[name])
    try:
        signature.bind(**arguments)
    except TypeError as error:
        own = [n for n in signature.parameters if n not in ("input_shape", "classes")]
        raise TypeError(f"models.build: expected the options {own} for {name}, found {list(options)}") from error
    return MODELS[name](**arguments)


def _image_shape(name: str, shape: Sequence[int], least: int) -> tuple[int, ...]:
    """(C, H, W) as a tuple of ints, H and W of at least `least`."""
    found = tuple(shape)
    if len(found) != 3 or not all(isinstance(n, int | np.integer) and n >= 1 for n in found) or min(found[1:]) < least:
        raise ValueError(f"{name}: expected images (C, H, W) of at least {least} rows and columns, found {shape}")
    return tuple(map(int, found))
