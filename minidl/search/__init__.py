"""Hyperparameter search: which settings make an objective best, tried at random or in races, by several processes.

    from minidl import search

    def accuracy(trial):
        …                          # train with trial["lr"], trial["hidden"]
        return validation_accuracy

    space = {"lr": search.LogUniform(1e-4, 1e-1), "hidden": [64, 128, 256], "epochs": 3}
    results = search.random_search(accuracy, space, trials=40, workers=2)
    print(results)
    print(results.best.settings, results.best.value)

A space maps names to `Uniform`, `LogUniform`, `Integers` or `Choice`; a list is a choice, any other value a constant.
What is tried depends on the seed alone, never on the number of workers or on how fast they are. An objective that
raises, returns no finite number, or takes its process down costs its trial and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minidl.search.driver import Search, whole
from minidl.search.journal import SearchError
from minidl.search.plans import Halving, Plan
from minidl.search.results import Results
from minidl.search.space import Choice, Distribution, Integers, LogUniform, Uniform, as_space, described, varies
from minidl.search.trial import Objective, Row, Trial
from minidl.shared.files import FilePath

__all__ = [
    "Choice",
    "Distribution",
    "Integers",
    "LogUniform",
    "Results",
    "Row",
    "SearchError",
    "Trial",
    "Uniform",
    "as_space",
    "described",
    "optuna_search",
    "random_search",
    "successive_halving",
    "varies",
]


def random_search(
    objective: Objective,
    space: Mapping[str, Any],
    *,
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    direction: str = "maximize",
    baseline: Mapping[str, Any] | None = None,
    workers: int | None = None,
    path: FilePath | None = None,
    resume: bool = False,
    callback: Callable[[Row], None] | None = None,
) -> Results:
    """Try settings drawn at random   (Bergstra and Bengio 2012).

    objective   a function of a `Trial`, which is a mapping of settings, that returns a number; minidl's default
                generator is seeded before each call
    space       name → distribution, list or constant; or as `as_space` has it
    trials      how many;  seconds: begin none after that time, and give up those that workers have under way then
    direction   is a higher value better ("maximize") or a lower one ("minimize")?
    baseline    settings of trial 0, to compare with; they need not be in the space
    workers     None: in this process, with all threads. Else that many processes, each with its share of the threads;
                the objective must be one that they can import
    path        a file, to which each row is added as its trial ends;  resume: go on from there if it exists
    callback    called with each row as its trial ends

    Ctrl-C ends the search like the time does: what there is is returned, and `results.stopped` says so.

    TypeError, ValueError: options out of range, a space with no members (see `as_space`), an objective that workers
    cannot import. SearchError: a file of another search, or a damaged one. OSError: the file cannot be written, or is
    there (FileExistsError) without `resume`. RuntimeError: a worker process does not start.
    """
    search = Search(
        "random_search", objective, space, trials, seconds, seed, direction, baseline, workers, path, resume, callback
    )
    return search.run(Plan(search.space, seed, search.baseline, trials))


def successive_halving(
    objective: Objective,
    space: Mapping[str, Any],
    *,
    budgets: Sequence[int] = (1, 3, 9),
    eta: int = 3,
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    direction: str = "maximize",
    baseline: Mapping[str, Any] | None = None,
    workers: int | None = None,
    path: FilePath | None = None,
    resume: bool = False,
    callback: Callable[[Row], None] | None = None,
) -> Results:
    """Give many settings little, and more to the best of them   (Jamieson and Talwalkar 2016).

    budgets   what an objective may spend (epochs, say), rising: all trials, drawn at random, have the first in
              `trial.budget`, the best 1/eta-th of them the second, and so on
    eta       of how many trials one goes on
    seconds   as the time may end before all `trials` have run, it is eta^(len(budgets) − 1) at a time that race

    An objective that leaves its state in `trial.checkpoint` finds it there when the same trial comes again with more
    budget. The baseline has the largest budget in any case. The other arguments, and what is raised: `random_search`.
    """
    name = "successive_halving"
    search = Search(name, objective, space, trials, seconds, seed, direction, baseline, workers, path, resume, callback)
    whole(name, "eta", eta, 2)
    given = [*budgets]
    for budget in given:
        whole(name, "each budget", budget, 1)
    if not given or given != sorted({*given}):
        raise ValueError(f"{name}: expected budgets that rise, found {given}")
    size = trials if trials is not None and seconds is None else eta ** (len(given) - 1)
    plan = Halving(search.space, seed, search.baseline, trials, given, eta, size, search.sign)
    return search.run(plan, budgets=given, eta=eta)


def optuna_search(
    objective: Objective,
    space: Mapping[str, Any],
    *,
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    direction: str = "maximize",
    baseline: Mapping[str, Any] | None = None,
    workers: int | None = None,
    path: FilePath | None = None,
    resume: bool = False,
    callback: Callable[[Row], None] | None = None,
) -> Results:
    """Let Optuna propose settings from those that did well: a tree of Parzen estimators (Bergstra et al. 2011).

    What is proposed depends on the order in which trials end, so that with one worker, or none, the same seed gives the
    same trials, but not with more, nor where a search was resumed. The arguments, and what is raised: `random_search`.
    ImportError: the `search` extra is not installed.
    """
    from minidl.search.proposals import Proposals

    search = Search(
        "optuna_search", objective, space, trials, seconds, seed, direction, baseline, workers, path, resume, callback
    )
    return search.run(Proposals(search.space, seed, search.baseline, trials, direction))
