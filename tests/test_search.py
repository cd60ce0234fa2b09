"""Search: draws against their distributions, races against their definition, and ends of every kind."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import objectives
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import cli, search
from minidl.checkpoint import CheckpointError, load_checkpoint
from minidl.commands import search as the_command
from minidl.commands import search_space
from minidl.commands.search import Accuracy
from minidl.jit import interpreted
from minidl.random import default_generator
from minidl.search import Choice, Integers, LogUniform, Results, Row, SearchError, Uniform, driver, workers
from minidl.search.space import draw

ROOT = Path(minidl.__file__).parents[1]
SPACE = {"lr": LogUniform(1e-4, 1e-1), "n": Integers(1, 9), "hidden": [[64], [128, 64]], "epochs": 3}
posix = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")


def told(results):
    """All but the seconds."""
    return [(row.trial, row.settings, row.budget, row.value, row.error) for row in results.rows]


# ------------------------------------------------------------------------------------- distributions


def sample(distribution, count=4000):
    generator = np.random.default_rng(1)
    return [distribution.draw(generator) for _ in range(count)]


@pytest.mark.parametrize(
    ("distribution", "name", "arguments"),
    [
        (Uniform(-2, 3), "uniform", (-2, 5)),
        (Uniform(1e-3, 2e-3), "uniform", (1e-3, 1e-3)),
        (LogUniform(1e-5, 10), "loguniform", (1e-5, 10)),
        (LogUniform(2, 3), "loguniform", (2, 3)),
    ],
)
def test_floats_are_distributed_as_scipys(distribution, name, arguments):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    values = sample(distribution)
    assert {type(v) for v in values} == {float}
    assert stats.kstest(values, getattr(stats, name)(*arguments).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("distribution", "chances"),
    [
        (Integers(3, 7), dict.fromkeys(range(3, 8), 1 / 5)),
        (Integers(-1, 1), dict.fromkeys((-1, 0, 1), 1 / 3)),
        (Integers(1, 6, log=True), {n: math.log((n + 1) / n) / math.log(7) for n in range(1, 7)}),
        (Integers(5, 9, log=True), {n: math.log((n + 1) / n) / math.log(2) for n in range(5, 10)}),
        (Choice(["a", None, 3, True]), dict.fromkeys(("a", None, 3, True), 1 / 4)),
    ],
)
def test_others_come_as_often_as_they_should(distribution, chances):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    counts = Counter(sample(distribution))
    assert counts.keys() == chances.keys()
    assert sum(chances.values()) == pytest.approx(1)
    expected = [4000 * chance for chance in chances.values()]
    assert stats.chisquare([counts[value] for value in chances], expected).pvalue > 0.01


numbers = st.one_of(st.integers(-1000, 1000), st.floats(-1e300, 1e300, allow_nan=False, width=64))
numbers = numbers.filter(lambda x: abs(x) < 1 << 62)
bounds = st.tuples(numbers, numbers).map(sorted).filter(lambda b: b[0] < b[1])
above = bounds.filter(lambda b: b[0] > 0)
whole = st.tuples(st.integers(-(2**61), 2**61), st.integers(-(2**61), 2**61)).map(sorted).filter(lambda b: b[0] < b[1])
members = st.one_of(st.none(), st.booleans(), st.text(max_size=3), numbers, st.lists(st.integers(), max_size=3))
distributions = st.one_of(
    bounds.map(lambda b: Uniform(*b)),
    above.map(lambda b: LogUniform(*b)),
    whole.map(lambda b: Integers(*b)),
    whole.filter(lambda b: b[0] > 0).map(lambda b: Integers(*b, log=True)),
    st.lists(members, min_size=1, max_size=4, unique_by=json.dumps).map(Choice),
)


@given(distributions, st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_draws_are_members_and_descriptions_make_the_same_distribution_again(distribution, seed):
    value = distribution.draw(np.random.default_rng(seed))
    assert value in distribution
    space = {"x": distribution, "y": Uniform(0, 1)}
    text = json.dumps(search.described(search.as_space(space)))
    assert search.as_space(json.loads(text)) == space
    assert json.loads(json.dumps(value)) == value


def test_what_is_outside_is_no_member():
    assert 3.5 not in Integers(3, 7)
    assert 8 not in Integers(3, 7)
    assert "3" not in Integers(3, 7)
    assert True not in Uniform(0, 2)
    assert 0.99 not in LogUniform(1, 2)
    assert 1.0 not in Choice([1, 2])
    assert (64, 32) in Choice([[64, 32], [1]])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Uniform(1, 1), ValueError, "Uniform: expected low < high, found 1 and 1"),
        (lambda: Uniform(2, 1), ValueError, "low < high"),
        (lambda: Uniform(0, math.inf), ValueError, "below 2.62, found 0 and inf"),
        (lambda: Uniform(math.nan, 1), ValueError, "found nan"),
        (lambda: Uniform("0", 1), TypeError, "Uniform: expected bounds as numbers, found '0'"),
        (lambda: Uniform(False, 1), TypeError, "found False"),
        (lambda: LogUniform(0, 1), ValueError, "LogUniform: expected bounds above 0"),
        (lambda: LogUniform(-1, 1), ValueError, "above 0"),
        (lambda: Integers(1.0, 3), TypeError, "Integers: expected bounds as ints, found 1.0"),
        (lambda: Integers(3, 3), ValueError, "low < high"),
        (lambda: Integers(0, 3, log=True), ValueError, "above 0"),
        (lambda: Integers(0, 10**400), ValueError, "below 2.62"),
        (lambda: Choice([]), ValueError, "Choice: expected at least one member, found none"),
        (lambda: Choice("ab"), TypeError, "expected a list of members, found 'ab'"),
        (lambda: Choice([1, [2], [2]]), ValueError, r"found \[2\] twice"),
        (lambda: Choice([math.nan]), TypeError, "JSON can hold, found nan"),
        (lambda: Choice([np.float32(1)]), TypeError, "JSON can hold"),
        (lambda: search.as_space({}), ValueError, "at least one parameter, found none"),
        (lambda: search.as_space([1]), TypeError, "expected a mapping .* found list"),
        (lambda: search.as_space({1: [1, 2]}), TypeError, "names as text, found 1"),
        (lambda: search.as_space({"a": 1, "b": [2]}), ValueError, r"found constants alone: \['a', 'b'\]"),
        (lambda: search.as_space({"a": {"log_unform": [1, 2]}}), ValueError, "a: .*did you mean 'log_uniform'"),
        (lambda: search.as_space({"a": {"uniform": 3}}), ValueError, r"expected uniform = \[low, high\], found 3"),
        (lambda: search.as_space({"a": {"uniform": [1, 2, 3]}}), ValueError, r"expected uniform = \[low, high\]"),
        (lambda: search.as_space({"a": {"uniform": [2, 1]}}), ValueError, "space: a: Uniform: expected low < high"),
        (lambda: search.as_space({"a": {}}), ValueError, "a: expected one of"),
        (lambda: search.as_space({"a": {"choice": []}}), ValueError, "at least one member"),
        (lambda: search.as_space({"a": object()}), TypeError, "a: Choice: expected what JSON can hold"),
    ],
)
def test_spaces_that_are_none(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_settings_and_seed_depend_on_the_seed_and_the_number_alone():
    space = search.as_space(SPACE)
    every = [draw(space, seed, number) for seed in range(3) for number in range(20)]
    assert every == [draw(space, seed, number) for seed in range(3) for number in range(20)]
    assert len({json.dumps(s) for s, _ in every}) == len({seed for _, seed in every}) == 60
    assert list(every[0][0]) == list(SPACE)


# --------------------------------------------------------------------------------------- random search


def test_results_do_not_depend_on_the_number_of_workers():
    alone = search.random_search(objectives.peak, SPACE, trials=12, seed=3)
    assert told(alone) == told(search.random_search(objectives.peak, SPACE, trials=12, seed=3, workers=1))
    assert told(alone) == told(search.random_search(objectives.peak, SPACE, trials=12, seed=3, workers=2))
    assert [row.trial for row in alone.rows] == list(range(12))
    assert told(alone) != told(search.random_search(objectives.peak, SPACE, trials=12, seed=4))
    best = max(alone.rows, key=lambda row: row.value)
    assert alone.best == best
    assert alone.stopped is None


def test_a_search_leaves_minidls_generator_as_it_was():
    before = default_generator().bit_generator.state
    search.random_search(objectives.peak, SPACE, trials=2)
    assert default_generator().bit_generator.state == before


def test_a_trial_is_a_mapping_of_settings():
    seen = []

    def objective(trial):
        seen.append(trial)
        return trial["lr"] + len(trial) + sum(name in trial for name in trial)

    results = search.random_search(objective, SPACE, trials=1, direction="minimize")
    assert dict(seen[0]) == seen[0].settings == results.rows[0].settings
    assert seen[0].number == 0
    assert seen[0].budget is None
    assert results.best.value == seen[0]["lr"] + 8


def test_the_lowest_is_best_where_that_is_asked_for():
    results = search.random_search(lambda t: t["x"], {"x": Uniform(0, 1)}, trials=9, direction="minimize")
    assert results.best.value == min(row.value for row in results.rows)
    assert [row.value for row in results.ranked()] == sorted(row.value for row in results.rows)


def test_the_baseline_is_trial_0_and_need_not_be_in_the_space():
    baseline = {"lr": 5.0, "n": 100, "hidden": [1]}
    results = search.random_search(objectives.peak, SPACE, trials=3, baseline=baseline)
    assert results.rows[0].settings == {**baseline, "epochs": 3}
    assert told(results)[1:] == told(search.random_search(objectives.peak, SPACE, trials=3))[1:]


def test_a_trial_that_fails_costs_nothing_but_itself():
    results = search.random_search(objectives.troubled, SPACE, trials=12, workers=2)
    good = search.random_search(objectives.peak, SPACE, trials=12)
    errors = {
        1: "ArithmeticError: no luck",
        2: "ValueError: expected the objective to return a finite number, found nan",
        3: "TypeError: expected the objective to return a number, found 'a text'",
        4: "TypeError: expected the objective to return a number, found None",
        5: "the worker process ended with exit code 7",
        6: "the worker process was ended by SIGKILL",
        7: "TypeError: expected the objective to return a number, found True",
    }
    for row, well in zip(results.rows, good.rows, strict=True):
        if row.trial in errors:
            assert (row.value, row.error) == (None, errors[row.trial])
        else:
            assert (row.value, row.error) == (well.value, None)
    assert [row.trial for row in results.failed] == list(errors)
    assert "7 failed, the first (trial 1): ArithmeticError: no luck" in str(results)
    assert results.best.error is None


def test_where_all_fail_there_is_no_best():
    results = search.random_search(lambda trial: 1 / 0, SPACE, trials=2)
    with pytest.raises(ValueError, match="found none; the first of 2 errors: ZeroDivisionError: division by zero"):
        _ = results.best
    assert json.loads(results.to_json())["best"] is None


@pytest.mark.parametrize(("workers", "share"), [(None, 2), (1, 2), (2, 1)])
def test_workers_share_the_threads(workers, share):
    before = minidl.get_num_threads()
    minidl.set_num_threads(2)
    try:
        results = search.random_search(objectives.threads, SPACE, trials=3, workers=workers)
    finally:
        minidl.set_num_threads(before)
    assert {row.value for row in results.rows} == {share}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "random_search: expected trials, seconds or both, found neither"),
        ({"trials": 0}, ValueError, "expected trials at least 1, found 0"),
        ({"trials": 2.0}, TypeError, "expected trials as an int, found 2.0"),
        ({"trials": True}, TypeError, "expected trials as an int, found True"),
        ({"seconds": 0}, ValueError, "expected seconds above 0, found 0"),
        ({"seconds": math.nan}, ValueError, "expected seconds above 0"),
        ({"seconds": "3"}, ValueError, "expected seconds above 0"),
        ({"trials": 1, "seed": -1}, ValueError, "expected seed at least 0, found -1"),
        ({"trials": 1, "workers": 0}, ValueError, "expected workers from 1 to 256, found 0"),
        ({"trials": 1, "workers": 1000}, ValueError, "expected workers from 1 to 256"),
        ({"trials": 1, "workers": 1.5}, TypeError, "expected workers as an int"),
        ({"trials": 1, "direction": "maximise"}, ValueError, "did you mean 'maximize'"),
        ({"trials": 1, "resume": True}, ValueError, "expected a path to resume from"),
        ({"trials": 1, "baseline": {"lr": 1}}, ValueError, r"every parameter, found none of \['n', 'hidden'\]"),
        ({"trials": 1, "baseline": {"lrr": 1}}, ValueError, "baseline: .*found 'lrr'; did you mean 'lr'"),
        ({"trials": 1, "baseline": 3}, TypeError, "baseline: expected a mapping"),
        ({"trials": 1, "baseline": {"lr": math.nan, "n": 1, "hidden": 1}}, TypeError, "baseline: .*JSON"),
        ({"trials": 1, "objective": 3}, TypeError, "expected an objective to call, found 3"),
        ({"trials": 1, "objective": lambda t: 0, "workers": 2}, TypeError, "a worker process can import, found <func"),
        ({"trials": 1, "space": {}}, ValueError, "space: expected at least one parameter"),
        ({"trials": 1, "path": "no/such/directory/x"}, OSError, "No such file or directory"),
        ({"trials": 1, "path": "."}, OSError, "Is a directory"),
    ],
)
def test_options_that_are_none(options, error, match):
    options = {"objective": objectives.peak, "space": SPACE, **options}
    with pytest.raises(error, match=match):
        search.random_search(options.pop("objective"), options.pop("space"), **options)


def test_an_objective_that_workers_do_not_find_is_an_error_that_says_so(tmp_path):
    """In a program without the usual guard, and in one that has no file."""
    text = (
        "from minidl import search\n"
        "def f(trial): return 1.0\n"
        "search.random_search(f, {'x': [1, 2]}, trials=2, workers=1)\n"
    )
    (tmp_path / "program.py").write_text(text, "utf-8")
    for arguments in (["program.py"], ["-c", text]):
        run = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert run.returncode == 1
        last = run.stderr.splitlines()[-1]
        assert last.startswith("RuntimeError: search: expected a worker to start, found that it ended with exit code 1")
        assert 'if __name__ == "__main__":' in last


# ------------------------------------------------------------------------------------------- ends


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "COLUMNS": "120"}


def test_the_time_ends_a_search():
    results = search.random_search(objectives.slow, SPACE, seconds=0.2)
    assert results.stopped == "time"
    assert told(results) == told(search.random_search(objectives.peak, SPACE, trials=len(results.rows)))


def test_the_time_ends_trials_of_workers(tmp_path, monkeypatch):
    """By a clock that jumps when the second trial has begun."""
    clock = SimpleNamespace(monotonic=lambda: 1e9 if os.listdir(tmp_path) else 0.0, perf_counter=time.perf_counter)
    monkeypatch.setattr(driver, "time", clock)
    monkeypatch.setattr(workers, "time", clock)
    space = {"x": Uniform(0, 1), "place": str(tmp_path)}
    results = search.random_search(objectives.endless, space, seconds=0.1, workers=1)
    assert results.stopped == "time"
    assert [row.trial for row in results.rows] == [0]
    [number] = map(int, os.listdir(tmp_path))
    assert not alive(number)


def alive(number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 0)
        return True
    return False


def test_ctrl_c_in_this_process_keeps_what_there_is(tmp_path):
    def objective(trial):
        if trial.number == 2:
            raise KeyboardInterrupt
        return objectives.peak(trial)

    path = tmp_path / "rows"
    results = search.random_search(objective, SPACE, trials=5, path=path)
    assert results.stopped == "interrupted"
    assert len(results.rows) == 2
    again = search.random_search(objectives.peak, SPACE, trials=5, path=path, resume=True)
    assert told(again) == told(search.random_search(objectives.peak, SPACE, trials=5))


@posix
@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_no_worker_outlives_a_search(tmp_path, how):
    """Ctrl-C goes to all processes of a terminal. After SIGKILL a worker would end with its trial, here killed too."""
    (tmp_path / "pids").mkdir()
    text = (
        "import objectives\nfrom minidl import search\n"
        f"space = {{'x': [1, 2], 'place': {str(tmp_path / 'pids')!r}}}\n"
        f"path = {str(tmp_path / 'rows')!r}\n"
        "found = search.random_search(objectives.endless, space, trials=5, workers=2, path=path)\n"
        "print(found.stopped, [row.trial for row in found.rows])\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", text],
        env=environment(), start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        for _ in range(6000):  # 5 minutes
            if len(os.listdir(tmp_path / "pids")) == 2:
                break
            time.sleep(0.05)
        workers = [int(name) for name in os.listdir(tmp_path / "pids")]
        assert len(workers) == 2
        if how == "interrupt":
            os.killpg(run.pid, signal.SIGINT)
            out, error = run.communicate(timeout=300)
            assert (out, error, run.returncode) == ("interrupted [0]\n", "", 0)
            assert not any(map(alive, workers))
        else:
            run.kill()
            run.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    first, second = (json.loads(line) for line in (tmp_path / "rows").read_text("utf-8").splitlines())
    assert first["method"] == "random_search"
    assert (second["trial"], second["value"]) == (0, 0.5)


# ------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("method", ["random_search", "successive_halving"])
def test_a_search_cut_short_anywhere_goes_on_to_the_same_rows(tmp_path, method):
    run, path = getattr(search, method), tmp_path / "rows"
    baseline = {"lr": 1e-3, "n": 1, "hidden": [5]}
    options = {"trials": 7, "path": path, "baseline": baseline, "direction": "minimize"}
    if method == "successive_halving":
        options |= {"budgets": [1, 2], "eta": 2}
    whole = run(objectives.peak, SPACE, **options)
    content = path.read_bytes()
    for length in [*range(40), *range(40, len(content), 23), len(content)]:
        path.write_bytes(content[:length])
        again = run(objectives.peak, SPACE, resume=True, **options)
        assert told(again) == told(whole)
        assert [line.split(b'"seconds"')[0] for line in sorted(path.read_bytes().splitlines())] == [
            line.split(b'"seconds"')[0] for line in sorted(content.splitlines())
        ]
    path.write_bytes(content)
    calls = []
    run(calls.append, SPACE, resume=True, **options)
    assert calls == []


def test_a_longer_search_goes_on_from_a_shorter_one(tmp_path):
    path = tmp_path / "rows"
    search.random_search(objectives.peak, SPACE, trials=3, path=path)
    rows = []
    longer = search.random_search(objectives.peak, SPACE, trials=6, path=path, resume=True, callback=rows.append)
    assert told(longer) == told(search.random_search(objectives.peak, SPACE, trials=6))
    assert [row.trial for row in rows] == [3, 4, 5]


def test_files_that_this_search_cannot_go_on_from(tmp_path):
    path = tmp_path / "rows"
    options = {"trials": 2, "seed": 1, "path": path}
    search.random_search(objectives.peak, SPACE, **options)
    content = path.read_bytes()

    def refused(match, function=search.random_search, space=SPACE, error=SearchError, **changes):
        before = path.read_bytes()
        with pytest.raises(error, match=match):
            function(objectives.peak, space, **{**options, "resume": True, **changes})
        assert path.read_bytes() == before

    refused("there is a search already; resume it", error=FileExistsError, resume=False)
    refused(r"rows: expected a search with seed 2, found one with 1", seed=2)
    refused('direction "minimize", found one with "maximize"', direction="minimize")
    refused("with method", function=search.successive_halving)
    refused("with baseline", baseline={"lr": 1, "n": 1, "hidden": 1})
    refused("with space", space={**SPACE, "epochs": 4})
    refused("with space", space=dict(reversed(SPACE.items())))
    for line, match in [
        (b"[]", "line 4: expected a trial's row"),
        (b"{", "line 4"),
        (b"\xff\xfe", "line 4"),
        (b'{"trial": 0}', "line 4"),
        (content.splitlines()[1].replace(b'"trial": 0', b'"trial": -1'), "line 4"),
        (content.splitlines()[1].replace(b'"value": ', b'"value": "x", "v": '), "line 4"),
        (content.splitlines()[1].replace(b'"error": null', b'"error": 3'), None),
        (b"[" * 100_000, "line 4"),
        (content.splitlines()[1].replace(b'"epochs": 3', b'"epochs": 4'), "for trial 0 of this search, found"),
    ]:
        path.write_bytes(content + line + b"\n")
        if match is not None:
            refused(match)
    for foreign in (b"lr = 3\n", b"{}\n", b"[1]\n", b"\0\1\2", b'{"minidl search": 2}\n'):
        path.write_bytes(foreign)
        refused("expected a search")


# ------------------------------------------------------------------------------------------- halving


def quality(trial):
    """What a trial is worth with any budget: known beforehand."""
    return draw(search.as_space({"x": Uniform(0, 1)}), 5, trial.number)[0]["x"]


def test_of_equals_halving_keeps_the_first():
    results = search.successive_halving(lambda trial: 1.0, {"x": [1, 2]}, budgets=(1, 2), eta=3, trials=7)
    assert [row.budget for row in results.rows] == [2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("seconds", [None, 1e6])
def test_halving_gives_more_to_the_best(direction, seconds):
    """All race at once, or where the time could end before that, nine at a time."""
    seen = []

    def objective(trial):
        seen.append((trial.number, trial.budget))
        return quality(trial)

    space = {"x": Uniform(0, 1)}
    options = {"budgets": (1, 3, 9), "trials": 21, "seed": 5, "direction": direction, "seconds": seconds}
    results = search.successive_halving(objective, space, **options)
    values = np.array([row.settings["x"] for row in results.rows])
    sign = 1 if direction == "maximize" else -1
    expected = {(n, 1) for n in range(21)}
    for numbers in np.split(np.arange(21), [9, 18] if seconds else []):
        best = numbers[np.argsort(-sign * values[numbers])].tolist()
        second = best[: max(1, len(best) // 3)]
        expected |= {(n, 3) for n in second} | {(n, 9) for n in second[: max(1, len(second) // 3)]}
    assert set(seen) == expected
    assert len(seen) == len(expected)
    assert results.best.budget == 9
    assert results.best.trial == np.argmax(sign * values)  # none is lost on the way
    assert Counter(row.budget for row in results.rows) == ({1: 14, 3: 4, 9: 3} if seconds else {1: 14, 3: 5, 9: 2})
    budgets = [row.budget for row in results.ranked()]
    assert budgets == sorted(budgets, reverse=True)


def test_halving_does_not_depend_on_the_number_of_workers():
    options = {"budgets": (1, 2, 4), "eta": 2, "trials": 10, "baseline": {"lr": 1e-3, "n": 1, "hidden": [5]}}
    alone = search.successive_halving(objectives.peak, SPACE, **options)
    assert told(alone) == told(search.successive_halving(objectives.peak, SPACE, workers=2, **options))
    assert (alone.rows[0].trial, alone.rows[0].budget) == (0, 4)  # the baseline, whatever it is worth


def test_halving_passes_over_what_failed_and_ends_a_race_of_failures():
    def objective(trial):
        if trial.number in (1, 3, 4, 5, 6, 7) or (trial.number == 2 and trial.budget == 2):
            raise RuntimeError("no luck")
        return 1.0

    results = search.successive_halving(objective, {"x": [1, 2]}, budgets=(1, 2, 4), eta=2, trials=8)
    found = [(row.budget, row.value) for row in results.rows]
    assert found[:4] == [(4, 1.0), (1, None), (2, None), (1, None)]
    assert found[4:] == [(1, None)] * 4


def test_a_trial_finds_its_checkpoint_again(tmp_path):
    left, kept = {}, []

    def objective(trial):
        path = Path(trial.checkpoint)
        before = path.read_text("utf-8").split() if path.exists() else []
        left[trial.number] = [*before, str(trial.budget)]
        path.write_text(" ".join(left[trial.number]), "utf-8")
        kept.append(len(list(path.parent.iterdir())))
        return quality(trial)

    options = {"budgets": (1, 2, 4), "eta": 2, "trials": 12, "seed": 5, "seconds": 1e6}
    search.successive_halving(objective, {"x": Uniform(0, 1)}, path=tmp_path / "rows", **options)
    assert Counter(map(tuple, left.values())) == {("1",): 6, ("1", "2"): 3, ("1", "2", "4"): 3}
    assert os.listdir(tmp_path) == ["rows"]
    assert max(kept) == 4  # what is out of the race is not kept

    def killed(trial):
        if trial.number == 5:
            raise KeyboardInterrupt
        return objective(trial)

    left.clear()
    (tmp_path / "cut.checkpoints").mkdir()
    (tmp_path / "cut.checkpoints" / "0.safetensors").write_text("another search's")
    search.successive_halving(killed, {"x": Uniform(0, 1)}, path=tmp_path / "cut", **options)
    assert sorted(os.listdir(tmp_path / "cut.checkpoints")) == ["4.safetensors"]
    search.successive_halving(objective, {"x": Uniform(0, 1)}, path=tmp_path / "cut", resume=True, **options)
    assert Counter(map(tuple, left.values())) == {("1",): 6, ("1", "2"): 3, ("1", "2", "4"): 3}


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"budgets": []}, ValueError, r"expected budgets that rise, found \[\]"),
        ({"budgets": [3, 1]}, ValueError, "that rise"),
        ({"budgets": [1, 1]}, ValueError, "that rise"),
        ({"budgets": [0, 1]}, ValueError, "each budget at least 1"),
        ({"budgets": [0.5, 1]}, TypeError, "each budget as an int"),
        ({"eta": 1}, ValueError, "eta at least 2"),
        ({"trials": None}, ValueError, "successive_halving: expected trials, seconds or both"),
    ],
)
def test_halvings_options_that_are_none(options, error, match):
    with pytest.raises(error, match=match):
        search.successive_halving(objectives.peak, SPACE, **{"trials": 3, **options})


# ------------------------------------------------------------------------------------------- Optuna


def test_optuna_searches_the_same_space(tmp_path):
    pytest.importorskip("optuna", reason="Optuna is not installed")
    space = {**SPACE, "u": Uniform(0, 1), "m": Integers(1, 64, log=True)}
    baseline = {"lr": 1e-3, "n": 1, "hidden": None, "u": 3, "m": 1}
    options = {"trials": 25, "baseline": baseline, "seed": 1}
    path = tmp_path / "rows"
    results = search.optuna_search(objectives.peak, space, path=path, **options)
    checked = search.as_space(space)
    assert results.rows[0].settings == {**baseline, "epochs": 3}
    assert all(row.settings[name] in checked[name] for row in results.rows[1:] for name in space)
    assert list(results.rows[5].settings) == list(space)
    assert told(results) == told(search.optuna_search(objectives.peak, space, **options))
    assert results.best.value > -0.1  # it learns: in one dimension the peak is found
    longer = search.optuna_search(objectives.peak, space, path=path, resume=True, **{**options, "trials": 30})
    assert told(longer)[:25] == told(results)
    assert [row.trial for row in longer.rows] == list(range(30))
    path = tmp_path / "short"
    search.optuna_search(objectives.peak, SPACE, path=path, trials=4)
    longer = search.optuna_search(objectives.peak, SPACE, path=path, trials=8, resume=True)
    assert len({row.settings["lr"] for row in longer.rows}) == 8  # the first are drawn, and not the same ones again


def test_optuna_is_told_of_failures():
    pytest.importorskip("optuna", reason="Optuna is not installed")
    results = search.optuna_search(lambda t: math.nan if t["x"] < 0.5 else t["x"], {"x": Uniform(0, 1)}, trials=8)
    assert 0 < len(results.failed) < 8
    assert results.best.value >= 0.5


@pytest.mark.parametrize(("module", "extra"), [("optuna", "search"), ("matplotlib.figure", "plot")])
def test_what_is_missing_is_named(monkeypatch, tmp_path, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    results = made([Row(0, {"lr": 0.1, "n": 1, "hidden": [64], "epochs": 3}, None, 0.5, 1.0, None)])
    run = {
        "search": lambda: search.optuna_search(objectives.peak, SPACE, trials=1),
        "plot": lambda: results.plot(tmp_path / "x.png"),
    }
    with pytest.raises(ImportError, match=rf'pip install "minidl\[{extra}\]"'):
        run[extra]()


# ------------------------------------------------------------------------------------------- results


def made(rows, space=None, direction="maximize"):
    return Results("random_search", direction, 0, search.as_space(space or SPACE), rows)


def test_the_table_is_sorted_and_fits():
    rows = [Row(i, {"lr": 10.0**-i, "n": i, "hidden": [i], "epochs": 3}, None, i % 5 / 7, 1.0, None) for i in range(40)]
    head, *lines = str(made(rows)).splitlines()
    assert head.split() == ["trial", "value", "lr", "n", "hidden"]
    assert len(lines) == 31
    assert lines[0].split() == ["4", "0.57143", "0.0001", "4", "4"]
    assert lines[-1] == "10 more trials"
    values = [float(line.split()[1]) for line in lines[:-1]]
    assert values == sorted(values, reverse=True)
    assert len({len(line) for line in (head, *lines[:-1])}) == 1
    lowest = str(made(rows, direction="minimize")).splitlines()[1]
    assert lowest.split()[:2] == ["0", "0"]


@given(st.integers(1, 30), st.integers(1, 60), st.integers(0, 3), st.booleans())
@settings(deadline=None, max_examples=30)
def test_any_table_fits_in_100_columns(parameters, length, failures, budgets):
    names = [f"{'parameter' * 8}"[: length - 2] + f"{i:02}" for i in range(parameters)]
    space = {name: ["x" * length, 3] for name in names}
    given = {name: "x" * length if i % 2 else 3 for i, name in enumerate(names)}
    rows = [Row(i, given, 7 if budgets else None, -1.23456789e-300, 1.0, None) for i in range(3)]
    rows += [Row(3 + i, given, 7 if budgets else None, None, 1.0, "an error\n" * 50) for i in range(failures)]
    lines = str(made(rows, space)).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 4 + (failures > 0) + any("not shown" in line for line in lines)


def test_budgets_of_one_trial_are_one_row():
    settings = {"lr": 0.1, "n": 1, "hidden": [64], "epochs": 3}
    rows = [
        Row(1, settings, 1, 0.9, 1.5, None),
        Row(0, settings, 1, 0.5, 1.0, None),
        Row(0, settings, 3, 0.6, 2.0, None),
        Row(2, settings, 3, None, 2.0, "no luck"),
    ]
    results = made(rows)
    assert [(row.trial, row.budget, row.value, row.seconds) for row in results.rows] == [
        (0, 3, 0.6, 3.0), (1, 1, 0.9, 1.5), (2, 3, None, 2.0),
    ]  # fmt: skip
    assert results.best.trial == 0  # values of different budgets are not compared
    assert str(results).splitlines()[0].split()[:3] == ["trial", "value", "budget"]
    found = json.loads(results.to_json())
    assert found["best"]["settings"] == settings
    assert [row["trial"] for row in found["trials"]] == [0, 1, 2]
    assert search.as_space(found["space"]) == search.as_space(SPACE)


def test_results_without_rows():
    results = made([])
    with pytest.raises(ValueError, match="found none"):
        _ = results.best
    assert str(results).split() == ["trial", "value", "lr", "n", "hidden"]
    assert json.loads(results.to_json())["trials"] == []


def test_a_search_draws_itself(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    space = {**SPACE, "u": Uniform(0, 1), "m": Integers(1, 64, log=True), "s": ["a", "b"]}
    baseline = {"lr": 0.5, "n": 0, "hidden": None, "u": None, "m": None, "s": "c"}
    results = search.successive_halving(objectives.peak, space, trials=20, baseline=baseline)
    for i, found in enumerate((results, search.random_search(objectives.peak, {**SPACE, "hidden": [1]}, trials=1))):
        path = tmp_path / f"{i}.png"
        found.plot(path)
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ValueError, match=r"ending in .png, found .*x.svg"):
        results.plot(tmp_path / "x.svg")
    with pytest.raises(ValueError, match="found none"):
        made([]).plot(tmp_path / "x.png")
    with pytest.raises(OSError, match="No such file"):
        results.plot(tmp_path / "nowhere" / "x.png")


# --------------------------------------------------------------------------------------- command line


def minidl_(*arguments, code=0, cwd=None):
    command = [sys.executable, "-m", "minidl", *map(str, arguments)]
    run = subprocess.run(command, env=environment(), cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == code, (run.stdout, run.stderr)
    return run


SMALL = f"""
lr = {{log_uniform = [1e-2, 1e-1]}}
hidden = {{choice = [{[2] if interpreted() else [32]}]}}
batch-size = [100, 200]
schedule = ["cosine", "step"]
epochs = 3
"""


def test_search_finds_settings_that_train_takes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(SMALL, "utf-8")
    base = ["search", "--dataset", "digits", "--space", "space.toml", "--trials", "7", "--workers", "1"]
    run = minidl_(*base, "--out", "found", "--plot", "found.png", cwd=tmp_path)
    head, *rows, last = run.stdout.splitlines()
    assert head.split() == ["trial", "value", "budget", "lr", "batch_size", "schedule"]
    assert len(rows) == 7
    results = json.loads(Path("found", "results.json").read_text("utf-8"))
    best, default = results["best"], results["default"]
    assert default["trial"] == 0
    assert (
        default["settings"] | {"lr": 1e-3, "hidden": default["settings"]["hidden"], "batch_size": 128}
        == default["settings"]
    )
    assert best["budget"] == default["budget"] == 3 * 1293  # images
    assert last == f"best {100 * best['value']:.2f} % (trial {best['trial']}), default {100 * default['value']:.2f} %"
    assert "trial 0: validation accuracy" in run.stderr
    assert sorted(os.listdir("found")) == ["best.toml", "results.json", "trials.jsonl"]
    assert Path("found.png").read_bytes()[:4] == b"\x89PNG"
    found = tomllib.loads(Path("found", "best.toml").read_text("utf-8"))
    assert {**found, "schedule": found.get("schedule")} == best["settings"]
    assert found["val_split"] == 0.1
    assert cli.main(["train", "--config", "found/best.toml", "--quiet", "--out", "m.safetensors"]) == 0
    trained = json.loads(Path("m.json").read_text("utf-8"))
    assert trained["epochs"][-1]["val_accuracy"] == best["value"]  # the very same model
    # Once more: what there is is not searched again.
    capsys.readouterr()
    assert cli.main([*base, "--out", "found", "--resume", "--json", "--quiet"]) == 0
    out, error = capsys.readouterr()
    assert (json.loads(out), error) == (results, "")
    for arguments, told in (
        ([], "found holds a search already: --resume it"),
        (["--resume", "--seed", "1"], "expected a search with seed 1, found one with 0"),
        (["--resume", "--method", "random"], "expected a search with method"),
    ):
        assert cli.main([*base, "--out", "found", "--quiet", *arguments]) == 1
        assert told in capsys.readouterr().err


def test_a_trial_of_the_command_goes_on_from_its_checkpoint(tmp_path):
    defaults = {"model": "mlp", "hidden": [8], "epochs": 2, "batch_size": 400, "optimizer": "sgd", "lr": 0.1}
    defaults |= {"weight_decay": None, "schedule": "cosine", "clip_norm": None, "augment": [], "standardize": True}
    objective = Accuracy(defaults, None)
    settings = {"dataset": "digits", "val_split": 0.1, "seed": 2}

    def trial(name, budget):
        return search.Trial(0, settings, 7, budget, str(tmp_path / name))

    whole = objective(trial("whole", None))
    assert os.listdir(tmp_path) == []  # nobody will ask for more
    for budget, steps in ((1, 1), (801, 2), (2000, 5)):
        value = objective(trial("parts", budget))
        before = (tmp_path / "parts").read_bytes()
        assert objective(trial("parts", budget)) == value  # as after a kill between the checkpoint and the row
        assert (tmp_path / "parts").read_bytes() == before
        assert load_checkpoint(tmp_path / "parts").state["counters"]["step"] == steps
    assert objective(trial("parts", 2586)) == whole
    (tmp_path / "parts").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="parts"):
        objective(trial("parts", 2586))


def test_the_printed_space_is_the_default_one(tmp_path, capsys):
    assert cli.main(["search", "--print-space"]) == 0
    path = tmp_path / "space.toml"
    path.write_text(capsys.readouterr().out, "utf-8")
    assert tomllib.loads(path.read_text("utf-8")) == search_space.SPACE
    assert cli.main(["search", "--print-space", "--space", str(path)]) == 0
    assert capsys.readouterr().out == path.read_text("utf-8")


def test_each_search_has_trial_0_at_the_default(tmp_path, capsys):
    """One trial with all of them: the whole default configuration, on digits of which few are left to train on."""
    path = tmp_path / "space.toml"
    text = 'lr = [1.0, 2.0]\nhidden = {choice = [[2]]}\nbatch_size = 700\noptimizer = "sgd"\nepochs = 1'
    path.write_text(text, "utf-8")
    for method in ("random", "optuna"):
        if method == "optuna":
            pytest.importorskip("optuna", reason="Optuna is not installed")
        base = ["search", "--dataset", "digits", "--space", str(path), "--trials", "1", "--workers", "1", "--json"]
        assert cli.main([*base, "--method", method, "--out", str(tmp_path / method), "--quiet"]) == 0
        found = json.loads(capsys.readouterr().out)["best"]["settings"]
        assert found | {"lr": 0.05, "hidden": [2], "optimizer": "sgd", "seed": 0, "dataset": "digits"} == found


@pytest.mark.parametrize("ended", [0, 3])
def test_an_interrupted_search_tells_what_it_has_and_how_to_go_on(tmp_path, capsys, monkeypatch, ended):
    def objective(self, trial):
        if trial.number == ended:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setattr(Accuracy, "__call__", objective)
    monkeypatch.setitem(the_command.METHODS, "random", lambda *a, workers, **k: search.random_search(*a, **k))
    out = tmp_path / "out"
    assert cli.main(["search", "--dataset", "digits", "--method", "random", "--trials", "5", "--out", str(out)]) == 130
    told, error = capsys.readouterr()
    assert len(told.splitlines()) == (5 if ended else 0)
    assert (out / "best.toml").exists() == (ended > 0)
    assert error.splitlines()[-1].endswith(f"interrupted; to go on: the same command with --resume (--out {out})")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "expected at least one parameter, found none"),
        ("epochs = 3", "found constants alone"),
        ("lrr = [1, 2]", "found 'lrr'; did you mean 'lr'"),
        ("seed = [1, 2]", "expected settings of"),
        ("lr = {log_unifrom = [1, 2]}", "did you mean 'log_uniform'"),
        ("lr = {log_uniform = [0, 2]}", "above 0"),
        ("lr = {uniform = [0, 2]}", "lr: expected a finite number above 0, found '0.0'"),
        ("lr = [0.1, -1]", "lr: expected a finite number above 0, found '-1'"),
        ("lr = [0.1, [1]]", r"lr: expected one value for --lr, found \[1\]"),
        ("hidden = [256, 128]", "hidden: expected a list for --hidden, found 256"),
        ("hidden = [[256], []]", "hidden: expected a list"),
        ("hidden = [[256], [0]]", "hidden: expected an integer"),
        ("batch_size = {uniform = [16, 64]}", "batch_size: expected an integer at least 1, found '16.0'"),
        ("batch_size = [16, true]", "batch_size: expected one value for --batch-size, found True"),
        ('optimizer = ["sgd", "adem"]', "did you mean 'adam'"),
        ('augment = [[], ["shft"]]', "did you mean 'shift'"),
        ("standardize = [true, 1]", "expected true or false for --standardize, found 1"),
        ("lr = [", "space.toml: "),
        (None, "cannot read .*space.toml"),
    ],
)
def test_space_files_that_are_none(tmp_path, capsys, text, match):
    path = tmp_path / "space.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    assert cli.main(["search", "--space", str(path), "--out", str(tmp_path / "out")]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("minidl search: error: argument --space: ")
    assert re.search(match, last), last
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_searched(tmp_path, capsys):
    (tmp_path / "file").write_text("x", "utf-8")
    path = tmp_path / "space.toml"
    path.write_text("epochs = {integers = [1, 3]}", "utf-8")
    small = ["search", "--dataset", "digits", "--trials", "1", "--quiet"]
    for arguments, match in (
        (["--out", str(tmp_path / "file")], "--out: cannot write to"),
        (["--out", str(tmp_path / "out"), "--space", str(path)], "name one number of `epochs` in the space"),
    ):
        assert cli.main([*small, *arguments]) == 1
        assert match in capsys.readouterr().err
    for flag, value in (("workers", "0"), ("minutes", "0"), ("trials", "0"), ("plot", "x.svg"), ("method", "grid")):
        assert cli.main([*small, f"--{flag}", value]) == 2
        assert f"argument --{flag}: " in capsys.readouterr().err
