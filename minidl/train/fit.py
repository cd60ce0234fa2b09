"""Training and validating a model. `fit` is the loop you would write by hand, with the bookkeeping done:

    history = fit(model, train, validation, epochs=5, metrics=["accuracy"], callbacks=[EarlyStopping(patience=3)])

It compiles the step if asked, follows a schedule, calls callbacks, detects a non-finite loss, and resumes from a
checkpoint bit for bit.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minidl import compiler, nn, optim
from minidl.metrics.names import by_name, mode_of
from minidl.random import manual_seed
from minidl.shared.terminal import Progress
from minidl.train import defaults
from minidl.train.arguments import check_length, check_options, check_sets, config_of, optimizer_of, schedule_of
from minidl.train.divergence import DivergenceError, first_culprit
from minidl.train.evaluation import (
    BATCH,
    Loss,
    Metric,
    evaluate,
    loss_function,
    named_metrics,
    pairs,
)
from minidl.train.history import History, plain
from minidl.train.resume import continue_from
from minidl.train.run import Run
from minidl.train.step import Step, make_step


def fit(
    model: nn.Module,
    train: Any,
    validation: Any = None,
    *,
    epochs: int = defaults.EPOCHS,
    batch_size: int = defaults.BATCH_SIZE,
    optimizer: optim.Optimizer | str | None = None,
    loss: Loss | str | None = None,
    metrics: Sequence[Metric] = (),
    callbacks: Sequence[Any] = (),
    schedule: Any = None,
    compile: bool = defaults.COMPILE,
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
    validation   likewise, or None; each epoch ends with `evaluate` on it
    optimizer    an Optimizer, "sgd" (lr 0.05, momentum 0.9), "adam" or "adamw" (lr 1e-3); None: "adam"
    loss         loss(outputs, targets) → scalar mean, or (sum, divisor), or a name; None: "cross_entropy" for integer
                 targets, else "mse". Figures are one sum over the epoch, divided once: see `evaluate`. A batch in
                 which no label counts has a loss and gradients of 0
    metrics      names of `minidl.metrics` or functions (outputs, targets) → number, of the validation set. "accuracy"
                 is also measured on each training batch, before its own step
    callbacks    functions (run) called after each epoch, or objects with hooks; see `minidl.train.callbacks`
    schedule     a schedule of `minidl.optim`, stepped after each epoch; (schedule, "step") after each step; or a name
                 of `optim.SCHEDULES`
    compile      make each step one machine-code call (`minidl.compile`): takes seconds at first, then epochs are
                 faster. Warns if the step cannot be compiled
    accumulate   step the optimizer every so many batches, and after the last one, with the gradient of the mean over
                 all their examples, as if they were one batch
    clip_norm    the largest norm of all gradients as one vector
    clip_value   the largest absolute value of a gradient element
    seed         of minidl's default generator, set before the first epoch
    resume       a checkpoint of `callbacks.Checkpoint` to continue from; for another number of epochs a named schedule
                 is replanned (`optim.replan`), while your own must have been made for that many
    config       stored in checkpoints beside the state: anything JSON can hold
    verbose      show progress on stderr

    DivergenceError: a loss was NaN or infinite; it names the op responsible, and the model is restored to the start of
    that epoch. ValueError, TypeError: arguments out of range, sets of different shapes, unknown names.
    checkpoint.CheckpointError, before anything changes: no checkpoint, a damaged one or one of another model; or one
    that cannot be resumed as asked, as it has more epochs done, its schedule has ended, or its patience is used up.

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
    check_options(epochs, batch_size, accumulate, clip_norm, clip_value)
    loader = pairs("fit: train", train, batch_size, shuffle=True)
    held = None if validation is None else pairs("fit: validation", validation, BATCH)
    check_sets(loader, held)
    function = loss_function(loss, loader.arrays[1])
    if seed is not None:
        manual_seed(seed)
    optimizer = optimizer_of(optimizer, model)
    measures = named_metrics(metrics)
    counts_right = measures.get("accuracy") is by_name("accuracy")  # not a user's function of that name
    modes = {"loss": "min", "val_loss": "min", **{f"val_{name}": mode_of(m) for name, m in measures.items()}}
    steps = math.ceil(len(loader) / accumulate)
    plan = schedule_of(schedule, optimizer, epochs, steps)
    run = Run(
        model, optimizer, loader, epochs, plan, callbacks, config_of(config), accumulate=accumulate,
        modes={**modes, "accuracy": "max"} if counts_right else modes,
        named=schedule if isinstance(schedule, str) else None,
    )  # fmt: skip
    step = make_step(model, optimizer, function, run.sums, counts_right, accumulate, clip_norm, clip_value)
    whole, gather = step.whole, step.gather
    if compile:
        whole, gather = compiler.compile(whole, fallback=True), compiler.compile(gather, fallback=True)
    at_once = accumulate == 1 and not run.asked_each_step
    state, sums = run.state, run.sums
    optimizer.zero_grad()
    run.call("on_check")
    if resume is not None:
        continue_from(run, resume)
    elif isinstance(run.schedule, optim.OneCycleLR) and plan is not None:
        check_length(run.schedule, epochs * steps if plan[1] == "step" else epochs)
    with Progress(epochs, len(loader.arrays[0]), not verbose) as progress:
        run.say = progress.print
        run.call("on_train_begin")
        while (run.epoch < epochs or run.batch) and run.history.stopped is None:
            began, before = time.perf_counter(), _begin_epoch(run)
            progress.begin(run.epoch)
            model.train()
            if at_once and run.batch == 0 and isinstance(whole, compiler.Step):
                whole.run(loader, progress.step)
                state.seen = min(len(loader) * loader.batch_size, len(loader.arrays[0]))
                state.step += len(loader)
            else:
                for first, last, (x, y) in _batches(run):
                    if first:
                        optimizer.zero_grad()
                    value = (whole if last else gather)(x, y).item()
                    progress.step(len(y), f"loss {run.loss:.4f}")
                    if not math.isfinite(value):
                        break
                    if last:
                        _count_step(run)
                        run.logs = {"loss": value}
                        run.call("on_step_end")
                    if run.history.stopped is not None:
                        break
            if not sums.count.item():
                raise ValueError(
                    f"fit: expected targets that count, found none in epoch {run.epoch} that the loss weighs"
                )
            run.logs = {"loss": run.loss}
            if counts_right:
                run.logs["accuracy"] = sums.right.item() / sums.rows.item()
            seconds = time.perf_counter() - began
            if held is not None and math.isfinite(run.loss):
                measured = evaluate(model, held, loss=function, metrics=metrics)
                run.logs |= {f"val_{name}": value for name, value in measured.items()}
            if not math.isfinite(run.loss + run.logs.get("val_loss", 0.0)):
                raise _diverged(run, before, step)
            run.logs |= {"lr": float(optimizer.param_groups[0]["lr"]), "seconds": seconds}
            progress.end(", ".join(f"{k} {v:.4f}" for k, v in run.logs.items() if k not in ("lr", "seconds")))
            _end_epoch(run)
        run.call("on_train_end")
    return run.history


def _begin_epoch(run: Run) -> dict[str, Any]:
    """Count a new epoch, unless continuing one. Returns the state at its start."""
    if run.batch == 0:
        run.state.seen = 0
        run.sums.begin()
        run.state.epoch += 1
    run.call("on_epoch_begin")
    return run.state.snapshot()


def _batches(run: Run) -> Iterator[tuple[bool, bool, Any]]:
    """(first, last, batch) for the rest of this epoch: whether it is the first or last of those that share a step."""
    state, loader = run.state, run.loader
    now = state.generator_states()
    if state.batch == 0 or state.ordered is None:
        state.ordered = now
    else:  # repeat the interrupted epoch's order
        state.set_generators(state.ordered)
    order, size = loader.order(), loader.batch_size
    if state.batch:
        state.set_generators(now)
    while state.batch < len(loader):
        rows = order[state.batch * size : (state.batch + 1) * size]
        first = state.batch % run.accumulate == 0
        if first:
            state.sums.group.data = np.zeros(())
        state.batch += 1
        last = state.batch % run.accumulate == 0 or state.batch == len(loader)
        state.seen += len(rows)
        yield first, last, loader.batch(rows)


def _count_step(run: Run) -> None:
    """Count an optimizer step, and step a per-step schedule."""
    run.state.step += 1
    if run.unit == "step" and run.schedule is not None:
        run.schedule.step()


def _end_epoch(run: Run) -> None:
    """Add the figures to the history, step a per-epoch schedule, and call the callbacks."""
    run.state.batch, run.state.ordered = 0, None
    run.history.rows.append(plain({"epoch": run.epoch, **run.logs}))
    if run.schedule is not None and run.unit == "epoch":
        if isinstance(run.schedule, optim.ReduceLROnPlateau):
            run.schedule.step(run.logs.get("val_loss", run.logs["loss"]))
        else:
            run.schedule.step()
    run.call("on_epoch_end")


def _diverged(run: Run, before: Mapping[str, Any], step: Step) -> DivergenceError:
    """Repeat the epoch's steps eagerly until a value is non-finite, then restore the start of the epoch."""
    value = run.logs.get("val_loss", run.loss)
    run.state.restore(before)
    run.model.train()
    names = list(run.model.named_parameters())
    where = f"the validation after epoch {run.epoch}"
    culprit: str | None = "in evaluation mode only, or with the validation set's inputs"
    with np.errstate(all="ignore"):
        for first, last, batch in _batches(run):
            if first:
                run.optimizer.zero_grad()
            found = first_culprit(step.objective, step.update if last else None, names, batch)
            if found is not None:
                where, culprit = f"batch {run.batch} of epoch {run.epoch}", found
                break
            if last:
                _count_step(run)
    run.state.restore(before)
    error = DivergenceError(
        f"fit: the loss became {value}. First in {where}: {culprit}. The model is as it was before that epoch; "
        "a smaller learning rate, clip_norm, or smaller inputs may help"
    )
    error.history = run.history
    return error
