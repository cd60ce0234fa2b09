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

from minidl import compiler, nn, optim
from minidl.metrics.names import by_name, mode_of
from minidl.random import manual_seed
from minidl.shared.terminal import Progress
from minidl.tensor import Tensor, as_array
from minidl.train.arguments import check_length, check_sets, config_of, optimizer_of, schedule_of
from minidl.train.divergence import DivergenceError, first_culprit
from minidl.train.evaluation import (
    BATCH,
    Loss,
    Metric,
    evaluate,
    loss_function,
    mean_and_count,
    named_metrics,
    pairs,
    predict,
)
from minidl.train.history import History
from minidl.train.run import Run
from minidl.train.sums import Sums

__all__ = ["DivergenceError", "History", "evaluate", "fit", "predict"]


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
    loss         loss(outputs, targets) → scalar mean, or (sum, what to divide it by), or its name; None:
                 "cross_entropy" for integer targets else "mse". Figures are one sum over the epoch, divided once: see
                 `evaluate`. A batch of which nothing counts has a loss and gradients of 0
    metrics      names of `minidl.metrics` or functions (outputs, targets) → number, of the validation set. "accuracy"
                 is also taken of each training batch as it is met, before its own step
    callbacks    functions (run) called after each epoch, or objects with hooks; see `minidl.train.callbacks`
    schedule     a schedule of `minidl.optim`, stepped after each epoch; (schedule, "step") after each step; or a name
                 of `optim.SCHEDULES`
    compile      make each step one machine-code call (`minidl.compile`); where that cannot be, it warns
    accumulate   take a step of the optimizer every so many batches, and after the last one, with the gradient of the
                 mean over all of their examples, as if they were one batch
    clip_norm    the largest norm of all gradients together; clip_value: the largest size of one element
    seed         of minidl's default generator, set before the first epoch
    resume       a checkpoint of `callbacks.Checkpoint` to continue from; with more or fewer epochs a named schedule is
                 planned anew (`optim.replan`), and one of your own goes on if it was made for as many
    config       what goes into checkpoints beside the state: anything JSON can hold
    verbose      show progress on stderr

    DivergenceError: a loss was NaN or infinite; it names the op that produced that, and the model is as it was at
    the start of that epoch. ValueError, TypeError: arguments out of range, sets of different shapes, unknown names.
    checkpoint.CheckpointError: no checkpoint, a damaged one, or one of another model; one that cannot be gone on from
    as asked, since it has more epochs behind it, its schedule is at its end, or its patience is used up. Then nothing
    has changed.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> model = nn.Dense(1, 1)
    >>> history = train.fit(
    ...     model, (x, 3 * x), epochs=20, batch_size=16, optimizer=optim.SGD(model.parameters(), lr=0.3), verbose=False
    ... )
    >>> history.rows[-1]["loss"] < 0.01 < history.rows[0]["loss"]
    True
    >>> model.weight.numpy().round(1).tolist()
    [[3.0]]
    """
    for name, count in (("epochs", epochs), ("batch_size", batch_size), ("accumulate", accumulate)):
        if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < 1:
            raise ValueError(f"fit: expected {name} as an int of at least 1, found {count!r}")
    for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if bound is not None and (not isinstance(bound, int | float | np.number) or isinstance(bound, bool)):
            raise TypeError(f"fit: expected {name} as a number, found {bound!r:.80}")
        if bound is not None and not bound > 0:
            raise ValueError(f"fit: expected {name} above 0, found {bound!r}")
    loader = pairs("fit: train", train, batch_size, shuffle=True)
    held = None if validation is None else pairs("fit: validation", validation, BATCH)
    check_sets(loader, held)
    function = loss_function(loss, loader.arrays[1])
    if seed is not None:
        manual_seed(seed)
    optimizer = optimizer_of(optimizer, model)
    measures = named_metrics(metrics)
    counts_right = measures.get("accuracy") is by_name("accuracy")  # and not a function of that name
    modes = {"loss": "min", "val_loss": "min", **{f"val_{name}": mode_of(m) for name, m in measures.items()}}
    steps = math.ceil(len(loader) / accumulate)
    plan = schedule_of(schedule, optimizer, epochs, steps)
    run = Run(
        model, optimizer, loader, epochs, plan, callbacks, config_of(config), accumulate=accumulate,
        modes={**modes, "accuracy": "max"} if counts_right else modes,
        named=schedule if isinstance(schedule, str) else None,
    )  # fmt: skip
    parts = _parts(model, optimizer, function, run.sums, counts_right, accumulate, clip_norm, clip_value)
    step, gather = parts.step, parts.gather
    if compile:
        step, gather = compiler.compile(step, fallback=True), compiler.compile(gather, fallback=True)
    at_once = accumulate == 1 and not run.asked_each_step
    optimizer.zero_grad()
    run.call("on_check")
    if resume is not None:
        run.load(resume)
    elif isinstance(run.schedule, optim.OneCycleLR) and plan is not None:
        check_length(run.schedule, epochs * steps if plan[1] == "step" else epochs)
    with Progress(epochs, len(loader.arrays[0]), not verbose) as progress:
        run.say = progress.print
        run.call("on_train_begin")
        while (run.epoch < epochs or run.batch) and run.history.stopped is None:
            began, before = time.perf_counter(), run.begin_epoch()
            progress.begin(run.epoch)
            model.train()
            if at_once and run.batch == 0 and isinstance(step, compiler.Step):
                step.run(loader, progress.step)
                run.seen = min(len(loader) * loader.batch_size, len(loader.arrays[0]))
                run.step += len(loader)
            else:
                for first, last, (x, y) in run.batches():
                    if first:
                        optimizer.zero_grad()
                    value = (step if last else gather)(x, y).item()
                    progress.step(len(y), f"loss {run.loss:.4f}")
                    if not math.isfinite(value):
                        break
                    if last:
                        run.stepped()
                        run.logs = {"loss": value}
                        run.call("on_step_end")
                    if run.history.stopped is not None:
                        break
            if not run.sums.count.item():
                raise ValueError(
                    f"fit: expected targets that count, found none in epoch {run.epoch} that the loss weighs"
                )
            run.logs = {"loss": run.loss}
            if counts_right:
                run.logs["accuracy"] = run.sums.right.item() / run.sums.rows.item()
            seconds = time.perf_counter() - began
            if held is not None and math.isfinite(run.loss):
                found = evaluate(model, held, loss=function, metrics=metrics)
                run.logs |= {f"val_{name}": value for name, value in found.items()}
            if not math.isfinite(run.loss + run.logs.get("val_loss", 0.0)):
                raise _diverged(run, before, parts)
            run.logs |= {"lr": float(optimizer.param_groups[0]["lr"]), "seconds": seconds}
            progress.end(", ".join(f"{k} {v:.4f}" for k, v in run.logs.items() if k not in ("lr", "seconds")))
            run.end_epoch()
        run.call("on_train_end")
    return run.history


class _Parts(NamedTuple):
    objective: Callable[..., Tensor]  # (x, y) → what gradients are taken of
    update: Callable[[], None]  # clip the gradients and move the parameters
    step: Callable[..., Tensor]  # objective, backward, update
    gather: Callable[..., Tensor]  # objective, backward


def _parts(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss: Loss,
    sums: Sums,
    counts_right: bool,
    accumulate: int,
    clip_norm: float | None,
    clip_value: float | None,
) -> _Parts:
    """A step, taken apart. Plain functions, as `minidl.compile` reads them."""
    parameters = list(model.parameters())
    total, counts, right, rows, group = sums.loss, sums.count, sums.right, sums.rows, sums.group

    def measured(x: Any, y: Any) -> tuple[Tensor, Any]:
        """(the batch's mean, its count), which are added to the sums."""
        outputs = model(x)
        mean, count, counted = mean_and_count(loss, outputs, y)
        total.data = total.data + mean.data.astype(np.float64) * count
        counts.data = counts.data + count
        group.data = group.data + count
        if counts_right:
            hits = _hits(outputs.data, y)
            right.data = right.data + np.sum(hits if counted is None else hits & counted)
            rows.data = rows.data + (hits.size if counted is None else np.sum(counted))
        return mean, count

    def objective(x: Any, y: Any) -> Tensor:
        mean, count = measured(x, y)
        return mean if accumulate == 1 else mean * as_array(count, mean.dtype)

    def gather(x: Any, y: Any) -> Tensor:
        mean, count = measured(x, y)
        if accumulate == 1:
            optimizer.zero_grad()
            mean.backward()
        else:  # the gradient of the sum, which `update` divides
            mean.backward(as_array(count, mean.dtype))
        return mean

    def update() -> None:
        if accumulate > 1:
            count = np.where(group.data == 0, 1, group.data)
            moved = (p for options in optimizer.param_groups for p in options["params"])
            for p in dict.fromkeys([*parameters, *moved]):
                if p.grad is not None:
                    p.grad = p.grad / count.astype(p.dtype)
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


def _hits(outputs: Any, y: Any) -> Any:
    """(N, …) bool: where the likeliest class is the target; y: labels (N, …), or shares of the classes (N, C, …)."""
    if outputs.ndim >= 2 and outputs.shape[1] > 1:
        return np.argmax(outputs, axis=1) == (np.argmax(y, axis=1) if y.ndim == outputs.ndim else y)
    return (outputs.reshape(len(y)) > 0) == (y.reshape(len(y)) > 0.5)


def _diverged(run: Run, before: Mapping[str, Any], parts: _Parts) -> DivergenceError:
    """Take the epoch's steps once more, eagerly, until something is NaN or infinite; then go back to its beginning."""
    value = run.logs.get("val_loss", run.loss)
    run.restore(before)
    run.model.train()
    names = list(run.model.named_parameters())
    where = f"the validation after epoch {run.epoch}"
    culprit: str | None = "in evaluation mode only, or with the validation set's inputs"
    with np.errstate(all="ignore"):
        for first, last, batch in run.batches():
            if first:
                run.optimizer.zero_grad()
            found = first_culprit(parts.objective, parts.update if last else None, names, batch)
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
