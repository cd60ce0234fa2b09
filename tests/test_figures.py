"""Figures of a run: which way is better, what they are called, and whatever type of number they are."""

import functools
import json
import math
import os

import numpy as np
import pytest

import minidl
from minidl import metrics, nn, optim
from minidl.checkpoint import load_checkpoint
from minidl.tensor import Tensor
from minidl.train import callbacks, evaluate, fit
from minidl.train.history import History

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
VALUES = X[:, :1].copy()


def train(found=(), y=Y, epochs=1, **options):
    minidl.manual_seed(0)
    net = nn.Dense(3, 2 if y.ndim == 1 else 1)
    options = {"optimizer": optim.SGD(net.parameters(), lr=0.1), **options}
    return fit(net, (X, y), (X, y), epochs=epochs, callbacks=found, compile=False, verbose=False, **options)


class Figures:
    """Puts figures into the logs: name → a value for each epoch."""

    def __init__(self, **figures):
        self.figures = figures

    def on_epoch_end(self, run):
        run.logs |= {name: values[run.epoch - 1] for name, values in self.figures.items()}


# --------------------------------------------------------------------------------------- direction

LOWER = {"log_loss", "brier", "ece", "mse", "rmse", "mae", "median_absolute_error", "max_error"}
LOWER_FUNCTIONS = {
    "log_loss", "brier_score_loss", "calibration_error", "mean_squared_error", "root_mean_squared_error",
    "mean_absolute_error", "median_absolute_error", "max_error",
}  # fmt: skip


def test_every_metric_says_which_way_is_better():
    assert {name for name in metrics.METRICS if metrics.METRICS[name].mode == "min"} == LOWER
    assert {metrics.METRICS[name].mode for name in metrics.METRICS} == {"min", "max"}
    assert metrics.by_name("top7").mode == "max"
    scores = [getattr(metrics, name) for name in metrics.__all__ if name.endswith(("_score", "_error", "_loss"))]
    assert {f.__name__ for f in scores if f.mode == "min"} == LOWER_FUNCTIONS
    assert {f.mode for f in scores} == {"min", "max"}


def error_rate(outputs, targets):
    return float((outputs.argmax(axis=1) != targets).mean())


def perplexity(outputs, targets):
    return 1.0


perplexity.mode = "min"


def accuracy(outputs, targets):
    return 0.5


@pytest.mark.parametrize(
    ("monitor", "given", "mode", "y"),
    [
        ("val_loss", [], "min", Y),
        ("loss", [], "min", Y),
        ("accuracy", ["accuracy"], "max", Y),
        ("val_accuracy", ["accuracy"], "max", Y),
        ("val_top2", ["top2"], "max", Y),
        ("val_brier", ["brier"], "min", Y),
        ("val_mean_absolute_error", [metrics.mean_absolute_error], "min", VALUES),
        ("val_r2_score", [metrics.r2_score], "max", VALUES),
        ("val_rmse", ["rmse"], "min", VALUES),
        ("val_perplexity", [perplexity], "min", Y),
    ],
)
def test_what_is_known_to_be_better_need_not_be_said(monitor, given, mode, y):
    stop = callbacks.EarlyStopping(monitor=monitor)
    train([stop], y, metrics=given)
    assert stop.best.sign == {"min": -1, "max": 1}[mode]


def test_a_partial_is_as_its_function():
    assert metrics.names.mode_of(functools.partial(metrics.mean_absolute_error, multioutput="uniform_average")) == "min"
    assert metrics.names.mode_of(functools.partial(error_rate)) is None


@pytest.mark.parametrize("make", [callbacks.EarlyStopping, functools.partial(callbacks.Checkpoint, "c.safetensors")])
@pytest.mark.parametrize(
    ("monitor", "given"),
    [
        ("val_error_rate", [error_rate]),
        ("val_<lambda>", [lambda outputs, targets: 1.0]),
        ("val_accuracy", [accuracy]),  # called as one of minidl's, and may mean anything
        ("lr", []),
        ("val_los", []),
        ("made_up", []),
    ],
)
def test_what_is_better_is_never_guessed(make, monitor, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.Dense(3, 2)
    before = net.weight.data.copy()
    options = {"metrics": given, "compile": False, "verbose": False}
    told = rf"expected mode='min' or mode='max' to watch '{monitor}'"
    with pytest.raises(ValueError, match=told) as caught:
        fit(net, (X, Y), (X, Y), callbacks=[make(monitor=monitor)], **options)
    np.testing.assert_array_equal(net.weight.data, before)
    assert ("did you mean 'val_loss'" in str(caught.value)) == (monitor == "val_los")
    if given:
        said = make(monitor=monitor, mode="min")
        fit(net, (X, Y), (X, Y), callbacks=[said], **options)
        assert said.best.sign == -1


def test_a_function_called_accuracy_is_not_that_of_training():
    history = train(metrics=[accuracy])
    assert "accuracy" not in history
    assert history["val_accuracy"].tolist() == [0.5]


def test_fit_steps_plateaus_with_the_loss():
    net = nn.Dense(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for schedule, found in (
        (optim.ReduceLROnPlateau(optimizer, mode="max"), "found mode='max'"),
        ((optim.ReduceLROnPlateau(optimizer), "step"), "after each step"),
    ):
        with pytest.raises(ValueError, match=found):
            fit(net, (X, Y), optimizer=optimizer, schedule=schedule, compile=False, verbose=False)


# ------------------------------------------------------------------------------------------- names


def loss(outputs, targets):
    return 1.0


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([lambda o, t: 1.0, lambda o, t: 2.0], "<lambda>"),
        ([loss], "loss"),
        (["accuracy", "accuracy"], "accuracy"),
        (["accuracy", accuracy], "accuracy"),
        ([accuracy, "accuracy"], "accuracy"),
        ([functools.partial(accuracy), functools.partial(error_rate)], "partial"),
    ],
)
def test_metrics_have_names_of_their_own(given, name):
    for call in (lambda: train(metrics=given), lambda: evaluate(nn.Dense(3, 2), (X, Y), metrics=given)):
        with pytest.raises(ValueError, match=f"a name of its own for each, found '{name}'"):
            call()


def test_functions_with_names_are_told_apart():
    one, two = (lambda o, t: 1.0), (lambda o, t: 2.0)
    one.__name__, two.__name__ = "one", "val_loss"
    history = train(metrics=[one, two])
    assert history["val_one"].tolist() == [1.0]
    assert history["val_val_loss"].tolist() == [2.0]
    assert history["val_loss"][0] not in (1.0, 2.0)
    with pytest.raises(TypeError, match="expected names and functions, found 3"):
        train(metrics=[3])


# ------------------------------------------------------------------------------- types of numbers

NUMBERS = [np.float32(0.5), np.float64(0.5), np.array(0.5, np.float32), np.array([0.5]), Tensor(0.5), np.int64(1), True]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda v: f"{type(v).__name__} {getattr(v, 'dtype', '')}")
def test_any_number_may_be_a_rate_a_metric_a_figure(value, tmp_path):
    expected = float(value.data if isinstance(value, Tensor) else np.asarray(value).item())
    rate = value if isinstance(value, np.generic) else np.float32(0.1)
    net = nn.Dense(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = rate
    stop = callbacks.EarlyStopping(monitor="extra", mode="max")
    log, saved = tmp_path / "log.jsonl", tmp_path / "c.safetensors"
    best = callbacks.Checkpoint(tmp_path / "best.safetensors", monitor="extra", mode="min")
    found = [Figures(extra=[value] * 2), stop, callbacks.Log(log), best, callbacks.Checkpoint(saved)]

    def measured(outputs, targets):
        return value

    history = fit(net, (X, Y), (X, Y), epochs=2, optimizer=optimizer, metrics=[measured], callbacks=found,
                  config={"lr": rate}, schedule=optim.StepLR(optimizer, 9), compile=False, verbose=False)  # fmt: skip
    assert history["lr"].tolist() == [float(rate)] * 2
    row = json.loads(log.read_text("utf-8").splitlines()[1])
    assert row["extra"] == row["val_measured"] == expected
    assert json.loads(history.to_json())["epochs"][1]["lr"] == float(rate)
    assert stop.best.value == expected
    state = load_checkpoint(saved)
    assert type(state.state["history"]["rows"][1]["lr"]) is float
    assert state.config == {"lr": float(rate)}
    again = fit(net, (X, Y), (X, Y), epochs=3, optimizer=optimizer, metrics=[measured], resume=saved,
                callbacks=[Figures(extra=[value] * 3), *found[1:]], schedule=optim.StepLR(optimizer, 9),
                compile=False, verbose=False)  # fmt: skip
    assert again.epochs == 3


def test_what_is_no_number_is_named(tmp_path):
    with pytest.raises(TypeError, match="a number for the figure 'note', found 'text'"):
        train([Figures(note=["text"]), callbacks.Log(tmp_path / "log")])
    with pytest.raises(TypeError, match="expected a config that JSON can hold"):
        train(config={"function": print})
    assert json.loads(History([{"loss": np.float32("nan"), "n": np.int8(3)}]).to_json())["epochs"] == [
        {"loss": None, "n": 3}
    ]


def test_tensorboard_takes_them_and_begins_a_resumed_run_where_it_stopped(tmp_path):
    """The figures of epochs that are taken again are purged; a callback is used for several runs."""
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the tensorboard extra, is not installed")
    from tensorboardX.proto.event_pb2 import Event

    saved = tmp_path / "c.safetensors"
    board = callbacks.TensorBoard(tmp_path / "tb")

    class Killed(Exception):
        pass

    def kill(run):
        if run.epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        train([board, Figures(extra=[np.float32(1)] * 4), kill, callbacks.Checkpoint(saved)], epochs=4)
    train([board, Figures(extra=[np.float32(1)] * 4), callbacks.Checkpoint(saved)], epochs=4, resume=saved)
    train([board], epochs=1)
    files = sorted((tmp_path / "tb").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    events = []
    for file in files:
        text, at = file.read_bytes(), 0
        while at < len(text):  # length (8 bytes), its checksum (4), the event, its checksum (4)
            length = int.from_bytes(text[at : at + 8], "little")
            events.append(Event.FromString(text[at + 12 : at + 12 + length]))
            at += 16 + length
    assert [e.step for e in events if e.HasField("session_log")] == [3]
    steps = [e.step for e in events if e.summary.value and e.summary.value[0].tag == "val_loss"]
    assert (steps[:2], steps[-3:]) == ([1, 2], [3, 4, 1])  # the cut-off run's third may be lost


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("first", [-10.0, 10.0, 0.0])
@pytest.mark.parametrize("threshold", ["rel", "abs"])
def test_a_plateau_is_one_whatever_the_sign(mode, first, threshold):
    """As good as the best is no improvement, and neither is what is better by less than the threshold."""
    better = -1 if mode == "min" else 1
    for change, reduced in ((0.0, True), (0.5, True), (1.5, False), (-1.5, True)):
        optimizer = optim.SGD([Tensor(np.ones(1), requires_grad=True)], lr=1.0)
        schedule = optim.ReduceLROnPlateau(optimizer, mode=mode, patience=0, threshold=0.1, threshold_mode=threshold)
        schedule.step(first)
        by = 1e-3 if first == 0 and threshold == "rel" else 0.1 if threshold == "abs" else 1.0
        schedule.step(np.float32(first + better * change * by))
        expected = reduced and not (first == 0 and threshold == "rel" and change > 0)  # no part of 0 is large
        assert (optimizer.param_groups[0]["lr"] == 0.1) == expected, (change, schedule.best)


def test_a_plateau_of_negative_figures_is_acted_on_in_fit():
    def negative(outputs, y):
        return -10.0 + 0.0 * outputs.mean()

    net = nn.Dense(3, 2)
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    history = fit(net, (X, Y), epochs=6, loss=negative, optimizer=optimizer, compile=False, verbose=False,
                  schedule=optim.ReduceLROnPlateau(optimizer, patience=1))  # fmt: skip
    assert history["lr"].tolist() == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01])


# ----------------------------------------------------------------------------------- said at once


@pytest.mark.parametrize("make", [callbacks.Checkpoint, callbacks.Log])
@pytest.mark.parametrize("place", ["missing", "a file as a directory", "a directory", "read-only"])
def test_where_nothing_can_be_written_is_told_before_training(make, place, tmp_path):
    kept = tmp_path / "kept.jsonl"
    kept.write_text('{"epoch": 1}\n', "utf-8")
    path = {
        "missing": tmp_path / "no" / "such" / "file",
        "a file as a directory": kept / "file",
        "a directory": tmp_path,
        "read-only": tmp_path / "closed" / "file",
    }[place]
    if place == "read-only":
        (tmp_path / "closed").mkdir()
        (tmp_path / "closed").chmod(0o500)
        if os.access(tmp_path / "closed", os.W_OK):
            pytest.skip("this user may write everywhere")
    net = nn.Dense(3, 2)
    before = net.weight.data.copy()
    with pytest.raises(OSError, match=r"file|directory|denied|read-only"):
        fit(net, (X, Y), callbacks=[callbacks.Log(kept), make(path)], compile=False, verbose=False)
    np.testing.assert_array_equal(net.weight.data, before)
    assert kept.read_text("utf-8") == '{"epoch": 1}\n'  # the log of another run is not lost to this error
    assert math.isfinite(before.sum())
