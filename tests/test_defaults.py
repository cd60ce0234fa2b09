"""`fit`, the command line, search and the estimators train alike where nobody says otherwise."""

import inspect

import numpy as np
import pytest

from minidl import cli, data, nn, search, train
from minidl.commands import search as searching
from minidl.commands import train as training
from minidl.train import arguments, defaults

PARSED, _ = cli._parser()
FLAGS = vars(PARSED.parse_args(["train", "--dataset", "digits"]))
OPTIONS = {name: p.default for name, p in inspect.signature(train.fit).parameters.items()}


class Asked(Exception):
    """What `fit` was called with."""


def asked(module, run, monkeypatch):
    def fit(model, *sets, **options):
        raise Asked(model, {**OPTIONS, **options})

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(Asked) as caught:
        run()
    return caught.value.args


def by_trial():
    made = vars(PARSED.parse_args(["search"]))["defaults"]
    trial = search.Trial(0, {"dataset": "digits", "val_split": 0.1, "seed": 0}, 0, None, "nowhere")
    return searching.Accuracy(made, None)(trial)


def settings(optimizer):
    [group] = optimizer.param_groups
    return type(optimizer), {name: value for name, value in group.items() if name != "params"}


@pytest.mark.parametrize("name", defaults.RATES)
def test_a_command_and_a_trial_train_as_fit_does(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    flags = ["train", "--dataset", "digits", "--quiet"]
    if name != defaults.OPTIMIZER:
        flags += ["--optimizer", name]
    runs = [(training, lambda: training.run_train(PARSED.parse_args(flags)))]
    if name == defaults.OPTIMIZER:
        runs.append((searching, by_trial))
    for module, run in runs:
        model, given = asked(module, run, monkeypatch)
        assert given["compile"] is False
        expected = arguments.optimizer_of(None if name == defaults.OPTIMIZER else name, model)
        assert settings(given["optimizer"]) == settings(expected)
        assert settings(expected)[1]["lr"] == defaults.RATES[name]
        for option in ("schedule", "accumulate", "clip_norm", "clip_value"):
            assert given[option] == OPTIONS[option], option


def test_the_faces_say_the_same():
    assert OPTIONS["compile"] is FLAGS["compile"] is defaults.COMPILE is False
    assert OPTIONS["batch_size"] == inspect.signature(data.Loader).parameters["batch_size"].default
    assert FLAGS["optimizer"] == defaults.OPTIMIZER
    searched = vars(PARSED.parse_args(["search"]))["defaults"]
    common = FLAGS.keys() & searched.keys() - {"dataset"}
    assert {"epochs", "batch_size", "optimizer", "lr", "compile"} <= common
    assert {name: searched[name] for name in common} == {name: FLAGS[name] for name in common}


def test_the_estimators():
    neural = pytest.importorskip("sklearn.neural_network", reason="the sklearn extra is not installed")
    from minidl.sklearn import MinidlClassifier, MinidlRegressor

    theirs = neural.MLPClassifier()
    for made in (MinidlClassifier(), MinidlRegressor()):
        assert made.compile is defaults.COMPILE
        assert (made.solver, made.learning_rate_init) == (defaults.OPTIMIZER, defaults.RATES[defaults.OPTIMIZER])
        assert made.momentum == defaults.MOMENTUM
        assert (made.batch_size, made.max_iter) == (theirs.batch_size, theirs.max_iter)


def test_nothing_is_compiled_unasked(monkeypatch):
    monkeypatch.setattr("minidl.compiler.compile", lambda *_, **__: pytest.fail("nobody asked for that"))
    x, y = np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1])
    train.fit(nn.Dense(2, 2), (x, y), verbose=False)
    pytest.importorskip("sklearn", reason="the sklearn extra is not installed")
    from minidl.sklearn import MinidlClassifier

    MinidlClassifier(max_iter=2).fit(x, y)
