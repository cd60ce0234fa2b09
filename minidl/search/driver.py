"""The driver of all searches: checks, the file, workers, the deadline and a clean end."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minidl.search.journal import Journal
from minidl.search.plans import Plan
from minidl.search.results import Results
from minidl.search.space import Space, as_space, complete, described
from minidl.search.trial import Objective, Row, Trial
from minidl.shared.files import FilePath
from minidl.shared.names import chosen

SIGNS = {"maximize": 1, "minimize": -1}
MOST_WORKERS = 256


@dataclass
class Search:
    """The checked options of a search, as in `random_search`. `method` is the function's name without _search."""

    function: str
    objective: Objective
    given: Mapping[str, Any]
    trials: int | None
    seconds: float | None
    seed: int
    direction: str
    baseline: Mapping[str, Any] | None
    workers: int | None
    path: FilePath | None
    resume: bool
    callback: Callable[[Row], None] | None

    def __post_init__(self) -> None:
        if not callable(self.objective):
            raise TypeError(f"{self.function}: expected an objective to call, found {self.objective!r:.60}")
        if self.trials is None and self.seconds is None:
            raise ValueError(f"{self.function}: expected trials, seconds or both, found neither")
        if self.trials is not None:
            whole(self.function, "trials", self.trials, 1)
        whole(self.function, "seed", self.seed, 0)
        if self.workers is not None:
            whole(self.function, "workers", self.workers, 1, MOST_WORKERS)
            from minidl.search.workers import check_importable  # imports multiprocessing: only on use

            check_importable(self.function, self.objective)
        seconds = self.seconds
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < math.inf):
            raise ValueError(f"{self.function}: expected seconds above 0, found {seconds!r:.60}")
        if self.path is None and self.resume:
            raise ValueError(f"{self.function}: expected a path to resume from, found none")
        self.sign: int = chosen("a direction", self.direction, SIGNS)
        self.space: Space = as_space(self.given)
        if self.baseline is not None:
            self.baseline = complete(self.space, self.baseline)

    def run(self, plan: Plan, **options: Any) -> Results:
        """Run the trials of the plan until it or the time ends. options: further settings that identify the search."""
        from minidl.search.workers import TimeUp, in_processes, in_this_process

        deadline = math.inf if self.seconds is None else time.monotonic() + self.seconds
        header = {
            "method": self.function,
            "direction": self.direction,
            "seed": self.seed,
            "space": described(self.space),
            "baseline": self.baseline,
            **options,
        }
        stopped = "interrupted"
        with (
            contextlib.closing(Journal(self.path, header, self.resume)) as journal,
            _directory(self.path, fresh=not journal.rows) as places,
        ):
            plan.begin(journal.rows)

            def following() -> Trial | None:
                trial = plan.next()
                return None if trial is None else replace(trial, checkpoint=str(_place(places, trial.number)))

            if self.workers is None:
                rows = in_this_process(self.objective, following, deadline)
            else:
                rows = in_processes(self.objective, following, deadline, self.workers)
            with contextlib.suppress(KeyboardInterrupt), contextlib.closing(rows):
                try:
                    for row in rows:
                        journal.add(row)
                        for number in plan.told(row):
                            _place(places, number).unlink(missing_ok=True)
                        if self.callback is not None:
                            self.callback(row)
                    stopped = ""
                    shutil.rmtree(places)
                except TimeUp:
                    stopped = "time"
        return Results(self.function, self.direction, self.seed, self.space, journal.rows, stopped or None)


def whole(function: str, name: str, value: Any, least: int, most: int | None = None) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{function}: expected {name} as an int, found {value!r:.60}")
    if value < least or (most is not None and value > most):
        expected = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{function}: expected {name} {expected}, found {value}")


def _place(places: Path, number: int) -> Path:
    return places / f"{number}.safetensors"


@contextlib.contextmanager
def _directory(path: FilePath | None, fresh: bool) -> Iterator[Path]:
    """The directory for trials' checkpoints, beside the search's file if it has one, removed when all is done.

    fresh    the search is new: existing checkpoints belong to another
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix="minidl-search-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    places = Path(f"{os.fspath(path)}.checkpoints")
    if fresh:
        shutil.rmtree(places, ignore_errors=True)
    places.mkdir(exist_ok=True)
    yield places
    with contextlib.suppress(OSError):  # not empty: the search may be resumed
        places.rmdir()
