"""`minidl eval` and `minidl predict`: evaluate and apply a saved model."""

import argparse
import json
from typing import Any

import numpy as np

from minidl import metrics
from minidl.commands.shared import load_model, loader, test_set
from minidl.data.images import PictureError, read_images
from minidl.shared.terminal import Failure, bold, note
from minidl.train.evaluation import evaluate, predict


def run_eval(arguments: argparse.Namespace) -> None:
    model, config = load_model(arguments)
    name, test = test_set(arguments, config)
    loss = evaluate(model, loader(test, config))["loss"]
    found = predict(model, loader(test.x, config), output="classes")
    count = config["classes"]
    matrix = metrics.confusion_matrix(test.y, found, labels=range(count))
    right, images = matrix.diagonal(), matrix.sum(axis=1)
    accuracy = int(right.sum()) / len(test)
    rows: list[dict[str, Any]] = []
    for k in range(count):
        share = int(right[k]) / int(images[k]) if images[k] else None
        rows.append({"class": k, "images": int(images[k]), "right": int(right[k]), "accuracy": share})
    if arguments.confusion:
        metrics.plot_confusion(matrix, arguments.confusion)
    if arguments.json:
        result = {"model": arguments.model, "dataset": name, "images": len(test), "loss": loss, "accuracy": accuracy}
        print(json.dumps({**result, "classes": rows, "confusion": matrix.tolist()}, indent=2))
        return
    print(bold(f"{'class':>5}{'images':>9}{'right':>9}{'accuracy':>11}"))
    for row in [*rows, {"class": "all", "images": len(test), "right": int(right.sum()), "accuracy": accuracy}]:
        told = "-" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} %"
        print(f"{row['class']:>5}{row['images']:9,}{row['right']:9,}{told:>11}")
    print(f"loss {loss:.4f}\n")
    width = max(5, len(str(matrix.max())) + 2)
    print(bold(f"{'true':>5}" + "".join(f"{k:{width}}" for k in range(count)) + "   predicted"))
    for k in range(count):
        print(f"{k:5}" + "".join(f"{n:{width}}" if n else f"{'·':>{width}}" for n in matrix[k]))


def run_predict(arguments: argparse.Namespace) -> None:
    model, config = load_model(arguments)
    labels, images = [], []
    for path in arguments.images:
        try:
            found = read_images(path, tuple(config["input_shape"]), note)
        except PictureError as error:
            raise Failure(str(error)) from error
        labels += [path] if len(found) == 1 else [f"{path}[{i}]" for i in range(len(found))]
        images.append(predict(model, loader(found, config)))
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
