"""Runs one after the other, cut off, and resumed: nothing of another run is in them, and no file is worse for it."""

import importlib
import itertools
import math
import types
import warnings

import numpy as np
import pytest

import minidl
from minidl import nn, optim
from minidl.checkpoint import CheckpointError, load_checkpoint
from minidl.optim import SCHEDULES, replan
from minidl.tensor import Tensor
from minidl.train import callbacks, fit

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


@pytest.fixture(autouse=True)
def without_clock(monkeypatch):
    """The seconds of epochs are in checkpoints: here they are 0."""
    monkeypatch.setattr(
        importlib.import_module("minidl.train.fit"), "time", types.SimpleNamespace(perf_counter=lambda: 0.0)
    )


def net(seed=0):
    minidl.manual_seed(seed)
    return nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dropout(0.2), nn.Dense(4, 2))


def weights(model):
    return {name: values.copy() for name, values in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


class Script:
    """Sets the loss of validation, and what else it is told, to these values."""

    def __init__(self, *values, **more):
        self.figures = {"val_loss": values, **more}

    def on_epoch_end(self, run):
        run.logs |= {name: values[run.epoch - 1] for name, values in self.figures.items()}


class Killed(BaseException):
    pass


def run(found, epochs=5, model=None, **options):
    model = net() if model is None else model
    options = {"optimizer": optim.Adam(model.parameters(), lr=1e-2), **options}
    history = fit(model, (X, Y), epochs=epochs, batch_size=8, callbacks=found, compile=False, verbose=False, **options)
    return model, history


# ------------------------------------------------------------------------------- used a second time


def test_callbacks_begin_anew_in_a_second_run(tmp_path):
    stop = callbacks.EarlyStopping(patience=2)
    best = callbacks.Checkpoint(tmp_path / "best.safetensors", monitor="val_loss")
    run([Script(0.1, 0.2, 0.3), stop, best])
    assert stop.best_epoch == 1
    script = Script(9.0, 8.0, 8.5, 7.0, 9.5)
    second, history = run([script, stop, best], model=net(seed=5))
    fresh_stop = callbacks.EarlyStopping(patience=2)
    fresh_best = callbacks.Checkpoint(tmp_path / "fresh.safetensors", monitor="val_loss")
    fresh, expected = run([script, fresh_stop, fresh_best], model=net(seed=5))
    assert_same(weights(second), weights(fresh))
    assert history.epochs == expected.epochs == 5
    assert (stop.best_epoch, stop.waited) == (fresh_stop.best_epoch, fresh_stop.waited) == (4, 1)
    assert (tmp_path / "best.safetensors").read_bytes() == (tmp_path / "fresh.safetensors").read_bytes()


def test_a_second_run_of_other_shapes_does_not_get_the_weights_of_the_first():
    stop = callbacks.EarlyStopping(patience=1)
    run([Script(0.1, 0.2), stop])
    wide = nn.Sequential(nn.Dense(3, 7), nn.Dense(7, 2))
    _, history = run([Script(*[math.nan] * 2), stop], model=wide, epochs=2)  # with no best at all
    assert history.epochs == 1
    assert stop.weights == {}


def test_what_a_cut_off_run_left_in_a_callback_is_gone():
    stop = callbacks.EarlyStopping(patience=1)

    def kill(run):
        raise Killed

    with pytest.raises(Killed):
        run([Script(0.1), stop, kill])
    _, history = run([Script(5.0, 4.0), stop], epochs=2)
    assert (history.epochs, stop.best.value) == (2, -4.0)


# ------------------------------------------------------------------------------------ several savers


class Memory:
    """A callback of the user's with a state of its own, called after others."""

    after_others = True

    def __init__(self):
        self.seen = 0

    def on_train_begin(self, run):
        self.seen = self.seen if run.resumed else 0

    def on_epoch_end(self, run):
        self.seen += run.epoch

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


LOSSES = (3.0, 1.0, 2.0, 1.5, 0.5)


def savers(directory):
    directory.mkdir(exist_ok=True)
    return [
        callbacks.Checkpoint(directory / "last.safetensors"),
        callbacks.Checkpoint(directory / "best.safetensors", monitor="val_loss"),
        callbacks.Checkpoint(directory / "{epoch}.safetensors", every=2),
        Memory(),
        callbacks.EarlyStopping(9),
    ]


def files(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def kill_after(epoch, first):
    class Kill:
        after_others = not first

        def on_epoch_end(self, run):
            if run.epoch == epoch:
                raise Killed

    return Kill()


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 3, 0, 4, 2), (3, 0, 4, 2, 1)])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_any_order_of_callbacks_resumes_to_the_same_files(tmp_path, order, cut):
    """Also resumed in another order, and cut off before, or after, anything is saved."""
    run([Script(*LOSSES), *savers(tmp_path / "whole")])
    expected = files(tmp_path / "whole")
    assert expected.keys() == {"last.safetensors", "best.safetensors", *(f"{n}.safetensors" for n in (2, 4, 5))}
    for first, turned in itertools.product((False, True), repeat=2):
        directory = tmp_path / f"cut {first} {turned}"
        found = savers(directory)
        with pytest.raises(Killed):
            run([Script(*LOSSES), *(found[n] for n in order), kill_after(cut, first)])
        minidl.manual_seed(99)
        found = savers(directory)
        again = [found[n] for n in (order[::-1] if turned else order)]
        last = directory / "last.safetensors"
        run([Script(*LOSSES), *again], resume=last if last.exists() else None)
        assert files(directory) == expected


@pytest.mark.parametrize("at", range(7))
def test_killed_between_the_files_of_an_epoch_all_are_written_in_the_end(tmp_path, monkeypatch, at):
    run([Script(*LOSSES), *savers(tmp_path / "whole")])
    directory = tmp_path / "cut"
    count, save = itertools.count(), minidl.train.run.Run.save

    def saved(self, path):
        if next(count) == at:
            raise Killed
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(minidl.train.run.Run, "save", saved)
        with pytest.raises(Killed):
            run([Script(*LOSSES), *savers(directory)])
    last = directory / "last.safetensors"
    run([Script(*LOSSES), *savers(directory)], resume=last if last.exists() else None)
    assert files(directory) == files(tmp_path / "whole")


def test_a_worse_epoch_never_replaces_the_best(tmp_path):
    for order in (1, -1):
        found = [
            callbacks.Checkpoint(tmp_path / "last.safetensors"),
            callbacks.Checkpoint(tmp_path / "best.safetensors", monitor="val_loss"),
        ][::order]
        with pytest.raises(Killed):
            run([Script(3.0, 1.0), *found, kill_after(2, first=False)])
        run([Script(3.0, 1.0, 2.0, 2.5, 1.1), *found], resume=tmp_path / "last.safetensors")
        assert load_checkpoint(tmp_path / "best.safetensors").state["counters"]["epoch"] == 2


def test_steps_and_epochs_that_are_saved_do_not_mix(tmp_path):
    """A checkpoint in the middle of an epoch does not have the files of the epoch before written again."""

    def found():
        return [
            callbacks.Checkpoint(tmp_path / "step.safetensors", 2, "step"),
            callbacks.Checkpoint(tmp_path / "{epoch}.safetensors"),
        ]

    class Kill:
        after_others = True

        def on_step_end(self, run):
            if run.step == 5:
                raise Killed

    with pytest.raises(Killed):
        run([*found(), Kill()], epochs=3)
    one = (tmp_path / "1.safetensors").read_bytes()
    run(found(), epochs=3, resume=tmp_path / "step.safetensors")
    assert (tmp_path / "1.safetensors").read_bytes() == one
    assert sorted(files(tmp_path)) == ["1.safetensors", "2.safetensors", "3.safetensors", "step.safetensors"]


# --------------------------------------------------------------------------------- longer and shorter

STRETCHED = ("cosine", "warm-up", "one-cycle")


def rates_of(name, epochs, done, longer, per=5):
    """Each step's rate of a run that is planned for `epochs`, and after `done` of them for `longer`."""
    optimizer = optim.SGD([Tensor(np.ones(1), requires_grad=True)], lr=1.0)
    schedule, unit = SCHEDULES[name](optimizer, epochs, per)
    many, rates = (per if unit == "step" else 1), []
    for n in range(longer * many):
        if n == done * many and longer != epochs:
            replan(name, schedule, longer, (longer - epochs) * many)
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step(1.0) if name == "plateau" else schedule.step()
    return np.array(rates), done * many


@pytest.mark.parametrize("name", STRETCHED)
@pytest.mark.parametrize(
    ("epochs", "done", "longer"), [(4, 1, 9), (4, 2, 6), (4, 3, 5), (6, 2, 4), (6, 2, 3), (9, 8, 30)]
)
def test_the_rest_of_a_curve_is_stretched_over_what_is_left(name, epochs, done, longer):
    before, cut = rates_of(name, epochs, done, epochs)
    after, _ = rates_of(name, epochs, done, longer)
    assert after[: cut + 1].tolist() == before[: cut + 1].tolist()  # no leap
    rest, peak = after[cut:], before[:cut].max()
    if peak == before.max():
        assert (np.diff(rest) < 0).all()
    assert rest.max() <= before.max() * (1 + 1e-12)
    assert rest[-1] <= 0.1 * before.max()
    assert abs(np.diff(rest)).max() <= 1.3 * abs(np.diff(before)).max() * max(1, (epochs - done) / (longer - done))


@pytest.mark.parametrize("name", ["cosine", "warm-up"])
def test_a_plan_that_is_the_same_stays_so(name):
    whole, _ = rates_of(name, 4, 0, 4)
    for at in range(19):
        optimizer = optim.SGD([Tensor(np.ones(1), requires_grad=True)], lr=1.0)
        schedule, _ = SCHEDULES[name](optimizer, 4, 5)
        found = []
        for n in range(20):
            if n == at:
                left = schedule.left
                schedule.extend(2 * left)
                schedule.extend(0)
                schedule.extend(-2 * left)
                assert schedule.left == left
            found.append(optimizer.param_groups[0]["lr"])
            schedule.step()
        np.testing.assert_allclose(found, whole, rtol=1e-12, atol=1e-15)


def test_the_rest_of_a_cosine_is_that_of_a_longer_one():
    rates, cut = rates_of("cosine", 4, 2, 6)  # 10 of 20 steps behind, and then 20 to go: as 20 of 40
    np.testing.assert_allclose(rates[cut:], (1 + np.cos(np.pi * (0.5 + np.arange(20) / 40))) / 2, rtol=1e-9)


def test_extend_keeps_the_share_that_is_behind_and_needs_steps_before_it():
    def at(step, total, make):
        schedule = make(optim.SGD([Tensor(np.ones(1), requires_grad=True)], lr=1.0), total)
        for _ in range(step):
            schedule.step()
        return schedule

    def cycle(optimizer, total):
        return optim.OneCycleLR(optimizer, 1.0, total, cycle_momentum=False)

    for step, total, more in itertools.product((0, 1, 3, 6, 8), (10, 13), (1, 3, 7, 20)):
        schedule = at(step, total, cycle)
        schedule.extend(more)
        assert schedule.left == total + more - step
        assert (step + 1) / total <= (schedule.last_epoch + 1) / schedule.total_steps
    for make in (cycle, optim.CosineAnnealingLR):
        for more in (-4, -5):
            with pytest.raises(ValueError, match="expected a new end after step 6"):
                at(6, 10, make).extend(more)
        with pytest.raises(ValueError, match="expected a"):
            at(10, 10, make).extend(5)


def test_the_other_names_planned_anew():
    step, _ = rates_of("step", 6, 3, 12)
    np.testing.assert_allclose(step, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 1e-3, 1e-3, 1e-3, 1e-3][:12])
    multi, _ = rates_of("multi-step", 8, 5, 20)  # half of 8 is behind, three quarters of 20 not
    np.testing.assert_allclose(multi, [1] * 4 + [0.1] * 11 + [0.01] * 5)
    multi, _ = rates_of("multi-step", 8, 6, 20)
    np.testing.assert_allclose(multi, [1] * 4 + [0.1] * 2 + [0.01] * 14)
    multi, _ = rates_of("multi-step", 20, 6, 8)  # what is late is done at once
    np.testing.assert_allclose(multi, [1] * 7 + [0.01])
    decay, _ = rates_of("exponential", 4, 2, 10)
    np.testing.assert_allclose(decay, [1, 0.1**0.5, *(0.1 * 0.1 ** (np.arange(8) / 8))])
    decay, _ = rates_of("exponential", 4, 4, 6)  # it is at a hundredth, and stays
    np.testing.assert_allclose(decay[4:], 0.01)
    plateau, _ = rates_of("plateau", 10, 3, 40)  # patience 1 so far, then 4
    np.testing.assert_allclose(plateau[:9], [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("name", [*SCHEDULES, None])
def test_a_cut_off_run_goes_on_for_longer(tmp_path, name):
    saved = tmp_path / "c.safetensors"

    def resumed(epochs, *more):
        return run([callbacks.Checkpoint(saved), *more], epochs, schedule=name, resume=saved)

    with pytest.raises(Killed):
        run([callbacks.Checkpoint(saved), kill_after(3, first=True)], 4, schedule=name)
    rates = load_checkpoint(saved).state["optimizer"]["param_groups"][0]["lr"]
    longer = saved.read_bytes()
    model, history = resumed(8)
    assert history.epochs == 8
    if name in STRETCHED:
        assert (np.diff(history["lr"][1:-1]) <= 0).all()
        assert history["lr"][2] <= rates
    # cut off once more, it ends as it would have
    saved.write_bytes(longer)
    with pytest.raises(Killed):
        resumed(8, kill_after(6, first=True))
    again, twice = resumed(8)
    assert_same(weights(model), weights(again))
    assert twice["lr"].tolist() == history["lr"].tolist()


@pytest.mark.parametrize("name", STRETCHED)
def test_a_schedule_at_its_end_is_told_before_training(tmp_path, name):
    saved = tmp_path / "c.safetensors"
    found = [callbacks.Checkpoint(saved)]
    whole, expected = run(found, 2, schedule=name)
    again, history = run(found, 2, schedule=name, resume=saved)  # nothing to do, and nothing to tell
    assert_same(weights(whole), weights(again))
    assert history["loss"].tolist() == expected["loss"].tolist()
    model, before, kept = net(seed=3), weights(net(seed=3)), saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"no rate to go on with\. Begin a run of its own") as caught:
        run(found, 3, model, schedule=name, resume=saved)
    assert "or one of 3 epochs from the start" in str(caught.value)
    assert_same(before, weights(model))
    assert saved.read_bytes() == kept


def made(kind, steps):
    def make(optimizer):
        return {
            "cosine": lambda: optim.CosineAnnealingLR(optimizer, steps),
            "one-cycle": lambda: optim.OneCycleLR(optimizer, 0.1, steps),
            "polynomial": lambda: optim.PolynomialLR(optimizer, steps),
            "linear": lambda: optim.LinearLR(optimizer, 1.0, 0.0, steps),
            "sequence": lambda: optim.SequentialLR(
                optimizer,
                [optim.LinearLR(optimizer, 0.5, total_iters=2), optim.CosineAnnealingLR(optimizer, steps - 2)],
                [2],
            ),
            "chain": lambda: optim.ChainedScheduler([optim.CosineAnnealingLR(optimizer, steps)]),
        }[kind](), "step"  # fmt: skip

    return make


@pytest.mark.parametrize("kind", ["cosine", "one-cycle", "polynomial", "linear", "sequence", "chain"])
def test_a_schedule_of_ones_own_goes_on_if_it_is_made_for_longer(tmp_path, kind):
    saved = tmp_path / "c.safetensors"

    def resumed(epochs, planned, *more, resume=saved):
        model = net()
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        schedule = made(kind, planned * 3)(optimizer)
        found = [callbacks.Checkpoint(saved), *more]
        return run(found, epochs, model, optimizer=optimizer, schedule=schedule, resume=resume)

    with pytest.raises(Killed):
        resumed(4, 4, kill_after(3, first=True), resume=None)
    cut = saved.read_bytes()
    with pytest.raises(CheckpointError, match="expected a schedule for 8 epochs"):
        resumed(8, 4)
    assert saved.read_bytes() == cut
    model, history = resumed(8, 8)
    assert history.epochs == 8
    assert (np.diff(history["lr"][1:-1]) < 0).all()
    assert history["lr"][-1] < 1e-3
    saved.write_bytes(cut)
    with pytest.raises(Killed):
        resumed(8, 8, kill_after(6, first=True))
    again, twice = resumed(8, 8)
    assert_same(weights(model), weights(again))
    assert history["lr"].tolist() == twice["lr"].tolist()


def test_schedules_that_end_later_or_never_are_as_they_were(tmp_path):
    saved = tmp_path / "c.safetensors"
    for make in (
        lambda o: optim.CosineAnnealingLR(o, 30),
        lambda o: optim.CosineAnnealingLR(o, 2),  # up and down, as before
        lambda o: optim.CosineAnnealingWarmRestarts(o, 2),
        lambda o: optim.StepLR(o, 2),
        lambda o: optim.LinearLR(o, 0.1, 0.7, 2),
    ):
        histories = []
        for first in (6, 3):
            for epochs in sorted({first, 6}):
                model = net()
                optimizer = optim.Adam(model.parameters(), lr=1e-2)
                resume = saved if epochs > first else None
                found = [callbacks.Checkpoint(saved)]
                made_anew = make(optimizer)
                _, history = run(found, epochs, model, optimizer=optimizer, schedule=made_anew, resume=resume)
            histories.append(history)
        assert histories[0]["lr"].tolist() == histories[1]["lr"].tolist()
        assert histories[0]["loss"].tolist() == histories[1]["loss"].tolist()


def test_one_cycle_that_is_too_short_is_told_before_training():
    model = net()
    before = weights(model)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    schedule = optim.OneCycleLR(optimizer, 0.1, 8)
    with pytest.raises(ValueError, match="at least the 9 steps of this run, found 8"):
        run([], 3, model, optimizer=optimizer, schedule=(schedule, "step"))
    assert_same(before, weights(model))


def test_fewer_epochs_than_there_are(tmp_path):
    saved = tmp_path / "c.safetensors"
    run([callbacks.Checkpoint(saved)], 3)
    with pytest.raises(CheckpointError, match="epochs of at least 3, where it has come to, found 2"):
        run([callbacks.Checkpoint(saved)], 2, resume=saved)
    with pytest.raises(Killed):
        run([callbacks.Checkpoint(saved), kill_after(3, first=True)], 9, schedule="cosine")
    _, history = run([callbacks.Checkpoint(saved)], 4, schedule="cosine", resume=saved)
    assert history.epochs == 4
    assert history["lr"][-1] == pytest.approx(0, abs=1e-12)


def stopped_run(saved, patience=2, **more):
    losses = (3.0, 1.0, 2.0, 1.5, 0.5, 0.4, 0.6, 0.7, 0.8)
    stop = callbacks.EarlyStopping(patience)
    epochs = more.pop("epochs", 6)
    model, history = run([Script(*losses), stop, callbacks.Checkpoint(saved)], epochs, **more)
    return model, history, stop


def test_a_run_that_was_stopped_says_so_and_goes_on_with_more_patience(tmp_path):
    saved, other = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    first, history, _ = stopped_run(saved)
    assert (history.epochs, history.stopped) == (4, "val_loss was best in epoch 2")
    kept = saved.read_bytes()
    with pytest.warns(RuntimeWarning, match=r"was stopped after epoch 4 \(val_loss was best in epoch 2\) and stays so"):
        again, same, _ = stopped_run(saved, resume=saved)
    assert_same(weights(first), weights(again))  # the best
    assert (same.epochs, same.stopped) == (4, history.stopped)
    assert saved.read_bytes() == kept
    with pytest.raises(CheckpointError, match=r"expected more patience than the 2 epochs used up .* epoch 9, found 2"):
        stopped_run(saved, epochs=9, resume=saved)
    assert saved.read_bytes() == kept
    whole, expected, _ = stopped_run(other, patience=3, epochs=9)
    assert expected.epochs == 9
    for epochs in (9, 6):
        saved.write_bytes(kept)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            longer, history, stop = stopped_run(saved, patience=3, epochs=epochs, resume=saved)
        assert history["loss"].tolist() == expected["loss"].tolist()[:epochs]
        assert (history.stopped, stop.best_epoch) == (expected.stopped if epochs == 9 else None, 6)
        if epochs == 9:
            assert_same(weights(whole), weights(longer))


def test_a_run_that_a_callback_stopped_goes_on_with_more_epochs(tmp_path):
    saved = tmp_path / "c.safetensors"

    class Stop:
        def on_step_end(self, run):
            if run.step == 4:
                run.stop("enough")

    run([Stop(), callbacks.Checkpoint(saved, every=3)], 4)
    with pytest.warns(RuntimeWarning, match="enough"):
        assert run([Stop(), callbacks.Checkpoint(saved, every=3)], 4, resume=saved)[1].epochs == 2
    _, history = run([Stop(), callbacks.Checkpoint(saved, every=3)], 5, resume=saved)
    assert (history.epochs, history.stopped) == (5, None)


def test_a_run_of_an_earlier_version_is_told_and_its_model_loaded(tmp_path):
    """Before, there were neither `sums` nor `due`, and callbacks had other names."""
    saved, model = tmp_path / "c.safetensors", net()
    run([callbacks.Checkpoint(saved)], 2, model)
    found = load_checkpoint(saved)
    old = {k: v for k, v in found.state.items() if k not in ("sums", "due")}
    old["kinds"] = {**old["kinds"], "callbacks": ["Checkpoint", "EarlyStopping"]}
    minidl.checkpoint.save_checkpoint(saved, model, old, {})
    assert_same(minidl.checkpoint.load_model(saved)[0].state_dict(), model.state_dict())
    before = weights(other := net(seed=1))
    with pytest.raises(
        CheckpointError, match=r"found one of an earlier version, without \['due', 'sums'\]: .*load_model"
    ):
        run([callbacks.Checkpoint(saved)], 3, other, resume=saved)
    assert_same(before, weights(other))
