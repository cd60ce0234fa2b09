"""`minidl explain`: a backward pass as a page to step through."""

import argparse
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np

from minidl import checkpoint, explanation, ops
from minidl.commands.shared import load_model, loader
from minidl.data.images import PictureError, read_images
from minidl.shared.terminal import Failure, note, reason
from minidl.tensor import Tensor
from minidl.train.evaluation import predict


def run_explain(arguments: argparse.Namespace) -> None:
    if (arguments.model is None) != (arguments.image is None):
        raise Failure("expected a MODEL and an --image for it, or neither, for the built-in net")
    try:
        checkpoint.check_writable(arguments.out)
    except OSError as error:
        raise Failure(f"--out: cannot write {arguments.out} ({reason(error)})") from error
    found = explanation.example() if arguments.model is None else _of_model(arguments)
    try:
        found.html(arguments.out)
    except ValueError as error:
        raise Failure(str(error)) from error
    if arguments.text:
        print(found)
    note(f"wrote {arguments.out}: step through it with the arrow keys")
    if arguments.open:
        webbrowser.open(Path(arguments.out).absolute().as_uri())


def _of_model(arguments: argparse.Namespace) -> explanation.Explanation:
    """The loss of a saved model on one image, back to its pixels."""
    model, config = load_model(arguments)
    classes: Any = config["classes"]
    try:
        images = read_images(arguments.image, tuple(config["input_shape"]), note)
    except PictureError as error:
        raise Failure(str(error)) from error
    if len(images) > 1:
        note(f"{arguments.image}: the first of {len(images)} images")
    batches = loader(images[:1], config)
    label = arguments.label
    if label is None:
        label = int(predict(model, batches, output="classes")[0])
        note(f"the model takes it for class {label}; --label tells the true one")
    elif label >= classes:
        raise Failure(f"--label: expected a class from 0 to {classes - 1}, found {label}")
    image = Tensor(np.asarray(next(iter(batches)), np.float32), requires_grad=True)
    model.eval()
    loss = ops.softmax_cross_entropy(model(image), np.array([label]))
    return explanation.explain(loss, model=model, names={"image": image})
