"""Hyperparameter search: random, successive halving or Optuna, in one or several processes.

    from minidl import search

    def accuracy(trial):
        …                          # train with trial["lr"], trial["hidden"]
        return validation_accuracy

    space = {"lr": search.LogUniform(1e-4, 1e-1), "hidden": [64, 128, 256], "epochs": 3}
    results = search.random_search(accuracy, space, trials=40, workers=2)
    print(results)
    print(results.best.settings, results.best.value)

A space maps names to `Uniform`, `LogUniform`, `Integers` or `Choice`; a list is a choice, any other value a constant.
The trials depend on the seed alone, never on the number or speed of the workers. An objective that raises, returns a
non-finite value or crashes its process fails only its own trial.
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
    space       name → distribution, list or constant; or any form that `as_space` takes
    trials      their number;  seconds: start none after that time, and abandon those that workers are running then
    direction   "maximize" if higher values are better, "minimize" if lower
    baseline    settings of trial 0, for comparison; they need not be in the space
    workers     None: run in this process, with all threads. Else that many processes, each with its share of the
                threads; the objective must be importable
    path        a file to which each row is appended as its trial ends;  resume: continue from it if it exists
    callback    called with each row as its trial ends

    Ctrl-C ends the search as `seconds` does: results so far are returned, with the reason in `results.stopped`.

    TypeError, ValueError: options out of range, an empty space (see `as_space`), an objective that workers cannot
    import. SearchError: a file of another search, or a damaged one. OSError: the file cannot be written, or exists
    (FileExistsError) without `resume`. RuntimeError: a worker process does not start.
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
    """Run many settings on a small budget, and the best on larger ones   (Jamieson and Talwalkar 2016).

    budgets   what an objective may spend (epochs, say), ascending: all trials, drawn at random, get the first in
              `trial.budget`, the best 1/eta-th of them the second, and so on
    eta       one in eta trials advances
    seconds   since time may run out before all `trials` have run, they race in groups of eta^(len(budgets) − 1)

    An objective that saves its state in `trial.checkpoint` finds it there when the trial returns with a larger budget.
    The baseline always has the largest budget. Other arguments and errors: see `random_search`.
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
    """Let Optuna propose settings, by its tree-structured Parzen estimator (Bergstra et al. 2011).

    Proposals depend on the order in which trials end: the same seed gives the same trials with at most one worker, but
    not with more, nor in a resumed search. Other arguments and errors: see `random_search`.
    ImportError: the `search` extra is not installed.
    """
    from minidl.search.proposals import Proposals

    search = Search(
        "optuna_search", objective, space, trials, seconds, seed, direction, baseline, workers, path, resume, callback
    )
    return search.run(Proposals(search.space, seed, search.baseline, trials, direction))
