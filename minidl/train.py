"""Training, validating and using a model. `fit` is the loop that one would write, with the bookkeeping done:

    history = fit(model, train, validation, epochs=5, metrics=["accuracy"], callbacks=[EarlyStopping(patience=3)])

It compiles the step, follows a schedule, calls back, notices when the loss is no number any more, and continues from a
checkpoint to the very bits of a run that was never interrupted.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minidl import compiler, data, nn, optim
from minidl.divergence import DivergenceError, first_culprit
from minidl.evaluation import BATCH, Loss, Metric, chosen, evaluate, loss_function, named_metrics, pairs, predict
from minidl.history import History
from minidl.random import manual_seed
from minidl.run import Run
from minidl.tensor import Tensor
from minidl.terminal import Progress

__all__ = ["DivergenceError", "History", "evaluate", "fit", "predict"]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}


def fit(
    model: nn.Module,
    train: Any,
    validation: Any = None,
    *,
    epochs: int = 1,
    batch_size: int = 32,
    optimizer: optim.Optimizer | str | None = None,
    loss: Loss | str | None = None,
    metrics: Sequence[Metric] = (),
    callbacks: Sequence[Any] = (),
    schedule: Any = None,
    compile: bool = True,
    accumulate: int = 1,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    seed: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    verbose: bool = True,
) -> History:
    """Train a model, epoch by epoch, and return the `History`: "loss", "val_loss" and each metric, "lr", "seconds".

    train        a `data.Loader` of pairs (inputs, targets); or a `data.Dataset` or (x, y) arrays, shuffled in batches
                 of batch_size
    validation   the same, or None; each epoch ends with `evaluate` on it
    optimizer    an Optimizer, "sgd", "adam" or "adamw"; None: Adam with lr 1e-3
    loss         loss(outputs, targets) → scalar mean, or its name; None: "cross_entropy" for integer targets else "mse"
    metrics      names of `minidl.metrics` or functions (outputs, targets) → number, of the validation set. "accuracy"
                 is also taken of each training batch as it is met, before its own step
    callbacks    functions (run) called after each epoch, or objects with hooks; see `minidl.callbacks`
    schedule     a schedule of `minidl.optim`, stepped after each epoch; (schedule, "step") after each step; or a name
                 of `optim.SCHEDULES`
    compile      make each step one machine-code call (`minidl.compile`); where that cannot be, it warns
    accumulate   take a step of the optimizer every so many batches, with the mean of their gradients
    clip_norm    the largest norm of all gradients together; clip_value: the largest size of one element
    seed         of minidl's default generator, set before the first epoch
    resume       a checkpoint of `callbacks.Checkpoint` to continue from
    config       what goes into checkpoints beside the state: anything JSON can hold
    verbose      show progress on stderr

    DivergenceError: a loss was NaN or infinite; it names the op that produced that, and the model is as it was at
    the start of that epoch. ValueError, TypeError: arguments out of range, sets of different shapes, unknown names.
    checkpoint.CheckpointError: no checkpoint, a damaged one, or one of another model.
    """
    for name, count in (("epochs", epochs), ("batch_size", batch_size), ("accumulate", accumulate)):
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ValueError(f"fit: expected {name} as an int of at least 1, found {count!r}")
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None and not bound > 0:
            raise ValueError(f"fit: expected {name} above 0, found {bound!r}")
    loader = pairs("fit: train", train, batch_size, shuffle=True)
    held = None if validation is None else pairs("fit: validation", validation, BATCH)
    _check_sets(loader, held)
    function = loss_function(loss, loader.arrays[1])
    if seed is not None:
        manual_seed(seed)
    optimizer = _optimizer(optimizer, model)
    plan = _schedule(schedule, optimizer, epochs, math.ceil(len(loader) / accumulate))
    run = Run(model, optimizer, loader, epochs, plan, callbacks, dict(config or {}))
    right = run.right if "accuracy" in named_metrics(metrics) else None
    parts = _parts(model, optimizer, function, right, accumulate, clip_norm, clip_value)
    step, gather = parts.step, parts.gather
    if compile:
        step, gather = compiler.compile(step, fallback=True), compiler.compile(gather, fallback=True)
    at_once = accumulate == 1 and not run.asked_each_step
    optimizer.zero_grad()
    if resume is not None:
        run.load(resume)
    with Progress(epochs, len(loader.arrays[0]), not verbose) as progress:
        run.say = progress.print
        run.call("on_train_begin")
        while (run.epoch < epochs or run.batch) and run.history.stopped is None:
            began, before = time.perf_counter(), run.begin_epoch()
            progress.begin(run.epoch)
            model.train()
            if at_once and run.batch == 0 and isinstance(step, compiler.Step):
                run.met(step.run(loader, progress.step))
                run.step += len(loader)
            else:
                for first, last, (x, y) in run.batches(accumulate):
                    if first:
                        optimizer.zero_grad()
                    value = (step if last else gather)(x, y).item()
                    run.met([value])
                    progress.step(len(y), f"loss {run.loss:.4f}")
                    if not math.isfinite(value):
                        break
                    if last:
                        run.stepped()
                        run.logs = {"loss": value}
                        run.call("on_step_end")
                    if run.history.stopped is not None:
                        break
            run.logs = {"loss": run.loss}
            if right is not None:
                run.logs["accuracy"] = right.item() / run.seen
            seconds = time.perf_counter() - began
            if held is not None and math.isfinite(run.loss):
                found = evaluate(model, held, loss=function, metrics=metrics)
                run.logs |= {f"val_{name}": value for name, value in found.items()}
            if not math.isfinite(run.loss + run.logs.get("val_loss", 0.0)):
                raise _diverged(run, before, parts, accumulate)
            run.logs |= {"lr": optimizer.param_groups[0]["lr"], "seconds": seconds}
            progress.end(", ".join(f"{k} {v:.4f}" for k, v in run.logs.items() if k not in ("lr", "seconds")))
            run.end_epoch()
        run.call("on_train_end")
    return run.history


class _Parts(NamedTuple):
    objective: Callable[..., Tensor]  # (x, y) → loss
    update: Callable[[], None]  # clip the gradients and move the parameters
    step: Callable[..., Tensor]  # objective, backward, update
    gather: Callable[..., Tensor]  # objective, backward


def _parts(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss: Loss,
    right: Tensor | None,
    accumulate: int,
    clip_norm: float | None,
    clip_value: float | None,
) -> _Parts:
    """A step, taken apart. Plain functions, as `minidl.compile` reads them."""
    parameters = list(model.parameters())

    def objective(x: Any, y: Any) -> Tensor:
        outputs = model(x)
        if right is not None:
            right.data = right.data + _right_answers(outputs.data, y)
        return loss(outputs, y)

    def gather(x: Any, y: Any) -> Tensor:
        value = objective(x, y)
        if accumulate == 1:
            optimizer.zero_grad()
            value.backward()
        else:
            value.backward(1 / accumulate)
        return value

    def update() -> None:
        if clip_norm is not None:
            optim.clip_grad_norm_(parameters, clip_norm)
        if clip_value is not None:
            optim.clip_grad_value_(parameters, clip_value)
        optimizer.step()

    def step(x: Any, y: Any) -> Tensor:
        value = gather(x, y)
        update()
        return value

    return _Parts(objective, update, step, gather)


def _right_answers(outputs: Any, y: Any) -> Any:
    """How many of the likeliest classes are the targets: labels (N,), or shares of the classes (N, C)."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        classes = np.argmax(outputs, axis=1)
        return np.sum(classes == (np.argmax(y, axis=1) if y.ndim == 2 else y))
    return np.sum((outputs.reshape(len(y)) > 0) == (y.reshape(len(y)) > 0.5))


def _check_sets(train: data.Loader, held: data.Loader | None) -> None:
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


def _optimizer(given: optim.Optimizer | str | None, model: nn.Module) -> optim.Optimizer:
    if isinstance(given, optim.Optimizer):
        return given
    if given is not None and not isinstance(given, str):
        raise TypeError(f"fit: expected an Optimizer or its name, found {type(given).__name__}")
    kind: Any = chosen("an optimizer", given or "adam", OPTIMIZERS)
    return kind(model.parameters())  # type: ignore[no-any-return]


def _schedule(given: Any, optimizer: optim.Optimizer, epochs: int, steps: int) -> tuple[Any, str] | None:
    """(schedule, "epoch" or "step")"""
    if given is None:
        return None
    if isinstance(given, str):
        return chosen("a schedule", given, optim.SCHEDULES)(optimizer, epochs, steps)
    schedule, unit = given if isinstance(given, tuple) else (given, "epoch")
    if not hasattr(schedule, "step") or unit not in ("epoch", "step"):
        raise TypeError(f'fit: expected a schedule or (schedule, "epoch" or "step"), found {given!r:.80}')
    return schedule, unit


def _diverged(run: Run, before: Mapping[str, Any], parts: _Parts, accumulate: int) -> DivergenceError:
    """Take the epoch's steps once more, eagerly, until something is NaN or infinite; then go back to its beginning."""
    value = run.logs.get("val_loss", run.loss)
    run.restore(before)
    run.model.train()
    names = list(run.model.named_parameters())
    where = f"the validation after epoch {run.epoch}"
    culprit: str | None = "in evaluation mode only, or with the validation set's inputs"
    with np.errstate(all="ignore"):
        for first, last, batch in run.batches(accumulate):
            if first:
                run.optimizer.zero_grad()
            found = first_culprit(parts.objective, parts.update if last else None, names, batch, 1 / accumulate)
            if found is not None:
                where, culprit = f"batch {run.batch} of epoch {run.epoch}", found
                break
            if last:
                run.stepped()
    run.restore(before)
    error = DivergenceError(
        f"fit: the loss became {value}. First in {where}: {culprit}. The model is as it was before that epoch; "
        "a smaller learning rate, clip_norm, or smaller inputs may help"
    )
    error.history = run.history
    return error
