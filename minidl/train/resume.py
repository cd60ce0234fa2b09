"""Resuming a run from its checkpoint: checking that the runs match, and planning the remaining epochs."""

from __future__ import annotations

import os
import warnings
from typing import Any

from minidl import checkpoint, optim
from minidl.train.run import Run


def continue_from(run: Run, path: str | os.PathLike[str]) -> None:
    """Continue from a checkpoint. CheckpointError, before anything changes, unless it is of a matching run.

    Likewise if it has more epochs than this run shall have, or the rest cannot be replanned.
    """
    loaded, mine = checkpoint.load_checkpoint(path), run.state
    state: Any = loaded.state
    if not isinstance(state, dict) or not isinstance(state.get("kinds"), dict):
        raise checkpoint.CheckpointError(f"{path}: expected the checkpoint of a run, found a model alone")
    if missing := mine.state_dict().keys() - state.keys():
        raise checkpoint.CheckpointError(
            f"{path}: expected a run of this version of minidl, found one of an earlier version, without "
            f"{sorted(missing)}: it cannot be gone on with, but its model can be loaded (load_model)"
        )
    for name, kind in mine.kinds().items():
        if (theirs := state["kinds"].get(name)) != kind:
            raise checkpoint.CheckpointError(f"{path}: expected {name} {kind!r}, found {theirs!r}")
    before, given = mine.snapshot(), getattr(run.schedule, "left", None)
    try:
        mine.restore({"model": loaded.model_state, **state})
        due, planned = [mine.kept[n] for n in state["due"]], int(state["epochs"])
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        mine.restore(before)
        raise checkpoint.CheckpointError(f"{path}: expected the state of such a run, found {error}") from error
    try:
        run.resumed, run.planned = True, planned
        _plan(run, given)
    except (ValueError, TypeError) as error:
        mine.restore(before)
        raise checkpoint.CheckpointError(f"{path}: {error}") from error
    if run.history.stopped is not None:
        warnings.warn(
            f"fit: the run of {path} was stopped after epoch {run.epoch} ({run.history.stopped}) and stays so; "
            "it goes on with more epochs, or a patience that is not used up",
            RuntimeWarning,
            stacklevel=3,
        )
    mine.due = due
    run.write_due()  # the run may have been killed before these were written


def _plan(run: Run, given: int | None) -> None:
    """Adapt the loaded schedule to the length of this run. given: `schedule.left` as constructed for this run."""
    if run.epochs < run.epoch:
        raise ValueError(f"expected epochs of at least {run.epoch}, where it has come to, found {run.epochs}")
    run.call("on_resume")
    if run.history.stopped is not None and run.epochs <= run.planned:
        return
    run.history.stopped = None
    each = _schedule_steps(run, len(run.loader))
    more = (run.epochs - run.planned) * each
    begun = _schedule_steps(run, len(run.loader) - run.batch) if run.batch else 0
    left = (run.epochs - run.epoch) * each + begun
    if run.schedule is None or not left or not more:
        return
    ends = getattr(run.schedule, "left", None)
    if run.named is not None:
        try:
            optim.replan(run.named, run.schedule, run.epochs, more)
        except ValueError as error:
            advice = f"Begin a run of its own with the model (load_model), or one of {run.epochs} epochs"
            raise ValueError(f"{error}: there is no rate to go on with. {advice} from the start") from error
    elif ends is not None and left - more <= ends < left:  # it used to cover the whole run, and no longer does
        if given is None or given < run.epochs * each:
            raise ValueError(
                f"expected a schedule for {run.epochs} epochs, as the one that it was made for "
                f"{run.planned} with ends before: make it with a later {run.schedule.end or 'end'}"
            )
        run.schedule.extend(left - ends)


def _schedule_steps(run: Run, batches: int) -> int:
    """The number of schedule steps in so many batches of an epoch."""
    return -(-batches // run.accumulate) if run.unit == "step" else 1
