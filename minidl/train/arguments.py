"""Checks and conversions of the arguments of `train.fit`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from minidl import data, nn, optim
from minidl.shared.names import chosen
from minidl.shared.numbers import check_sizes, is_number
from minidl.train import defaults

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def check_options(
    epochs: Any, batch_size: Any, accumulate: Any, clip_norm: float | None, clip_value: float | None
) -> None:
    check_sizes("fit", epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None and not is_number(bound):
            raise TypeError(f"fit: expected {name} as a number, found {bound!r:.80}")
        if bound is not None and not bound > 0:
            raise ValueError(f"fit: expected {name} above 0, found {bound!r}")


def check_sets(train: data.Loader, held: data.Loader | None) -> None:
    if not len(train):
        found = len(train.arrays[0])
        raise ValueError(f"fit: expected at least one batch of {train.batch_size} examples, found {found}")
    if held is None:
        return
    if not len(held):
        raise ValueError("fit: expected validation examples, found none")
    for name, mine, theirs in zip(("inputs", "targets"), train.arrays, held.arrays, strict=True):
        if mine.shape[1:] != theirs.shape[1:] or mine.dtype.kind != theirs.dtype.kind:
            raise ValueError(
                f"fit: expected validation {name} as those of training, {mine.dtype} {mine.shape}, "
                f"found {theirs.dtype} {theirs.shape}"
            )


def optimizer_of(given: optim.Optimizer | str | None, model: nn.Module) -> optim.Optimizer:
    if isinstance(given, optim.Optimizer):
        mine = set(model.parameters())
        if not any(p in mine for group in given.param_groups for p in group["params"]):
            raise ValueError(
                f"fit: expected an optimizer of this {type(model).__name__}'s parameters, found {type(given).__name__} "
                "of other Tensors; make it after the model"
            )
        return given
    if given is not None and not isinstance(given, str):
        raise TypeError(f"fit: expected an Optimizer or its name, found {type(given).__name__}")
    return named_optimizer(given or defaults.OPTIMIZER, model)


def named_optimizer(
    name: str, model: nn.Module, rate: float | None = None, weight_decay: float | None = None
) -> optim.Optimizer:
    """Make the named optimizer for a model; None: the default rate, the optimizer's own weight decay."""
    kind: Any = chosen("an optimizer", name, OPTIMIZERS)
    options = {"momentum": defaults.MOMENTUM} if name == "sgd" else {}
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    return kind(model.parameters(), lr=rate or defaults.RATES[name], **options)  # type: ignore[no-any-return]


def schedule_of(given: Any, optimizer: optim.Optimizer, epochs: int, steps: int) -> tuple[Any, str] | None:
    """(schedule, "epoch" or "step")"""
    if given is None:
        return None
    if isinstance(given, str):
        return chosen("a schedule", given, optim.SCHEDULES)(optimizer, epochs, steps)
    schedule, unit = given if isinstance(given, tuple) else (given, "epoch")
    if not hasattr(schedule, "step") or unit not in ("epoch", "step"):
        raise TypeError(f'fit: expected a schedule or (schedule, "epoch" or "step"), found {given!r:.80}')
    if getattr(schedule, "optimizer", optimizer) is not optimizer:
        raise ValueError(
            f"fit: expected a schedule of the optimizer that is given, found a {type(schedule).__name__} of another; "
            "give that optimizer, or make the schedule after it"
        )
    if isinstance(schedule, optim.ReduceLROnPlateau) and (schedule.mode != "min" or unit == "step"):
        raise ValueError(
            "fit: expected a ReduceLROnPlateau for the loss of each epoch, of which less is better, found "
            f"mode={schedule.mode!r}, after each {unit}; for another figure step it in a callback"
        )
    return schedule, unit


def check_length(schedule: optim.OneCycleLR, steps: int) -> None:
    left = schedule.left or 0
    if left < steps:
        raise ValueError(
            f"fit: expected a OneCycleLR of at least the {steps} steps of this run, found {left} left of it"
        )


def config_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The config as JSON, NumPy's numbers included. TypeError for what JSON cannot hold."""
    try:
        config: dict[str, Any] = json.loads(json.dumps(dict(given or {}), default=lambda x: x.item()))
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(f"fit: expected a config that JSON can hold, found one that it cannot ({error})") from error
    return config
