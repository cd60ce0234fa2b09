"""fit, evaluate, predict: they do what the loop by hand does, stop when they should, and go on to the same bits."""

import json
import math

import numpy as np
import pytest

import minidl
from minidl import checkpoint, data, models, nn, ops, optim
from minidl.tensor import Tensor
from minidl.train import DivergenceError, History, callbacks, evaluate, fit, predict
from minidl.train.run import Run


def digits(count=200):
    train, test = data.load("digits")
    return data.Dataset(train.x[:count], train.y[:count]), data.Dataset(test.x[:60], test.y[:60])


def small(seed=0, dropout=False):
    minidl.manual_seed(seed)
    layers = [nn.Flatten(), nn.Dense(64, 12), nn.ReLU(), *([nn.Dropout(0.3)] if dropout else []), nn.Dense(12, 10)]
    return nn.Sequential(*layers)


def weights(model):
    return {name: values.copy() for name, values in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def by_hand(model, train, epochs, optimizer, batch_size=32):
    """The plain loop."""
    losses, right = [], []
    loader = data.Loader(train, batch_size=batch_size, shuffle=True)
    for _ in range(epochs):
        total, hits = 0.0, 0
        model.train()
        for x, y in loader:
            outputs = model(x)
            loss = ops.softmax_cross_entropy(outputs, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            hits += (outputs.data.argmax(axis=1) == y).sum()
        losses.append(total / len(train))
        right.append(hits / len(train))
    return losses, right


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("how", ["whole epochs", "step by step", "eager"])
def test_fit_is_the_loop_by_hand_to_the_bit(how, dropout):
    train, test = digits()
    mine = small(dropout=dropout)
    losses, right = by_hand(mine, train, 3, optim.Adam(mine.parameters(), lr=1e-2))
    model = small(dropout=dropout)
    seen = []

    class Steps:
        def on_step_end(self, run):
            seen.append(run.logs["loss"])

    history = fit(
        model, train, test, epochs=3, optimizer=optim.Adam(model.parameters(), lr=1e-2), metrics=["accuracy"],
        callbacks=[Steps()] if how == "step by step" else [], compile=how != "eager", verbose=False,
    )  # fmt: skip
    assert_same(weights(mine), weights(model))
    assert history["loss"].tolist() == losses
    assert history["accuracy"].tolist() == right
    found = evaluate(model, test, metrics=["accuracy"])
    assert history["val_loss"][-1] == found["loss"]
    assert history["val_accuracy"][-1] == found["accuracy"]
    if how == "step by step":
        assert len(seen) == 3 * 7


def test_accumulated_gradients_are_those_of_the_larger_batch():
    train, _ = digits(192)
    one, four = small(), small()
    minidl.manual_seed(1)
    fit(one, train, epochs=2, batch_size=64, optimizer=optim.SGD(one.parameters(), lr=0.1), compile=True,
        verbose=False)  # fmt: skip
    for compiled in (False, True):
        four = small()
        minidl.manual_seed(1)
        optimizer = optim.SGD(four.parameters(), lr=0.1)
        fit(four, train, epochs=2, batch_size=16, accumulate=4, optimizer=optimizer, compile=compiled, verbose=False)
        for name, values in weights(one).items():
            np.testing.assert_allclose(weights(four)[name], values, rtol=2e-4, atol=2e-6)


def test_gradients_are_clipped_before_the_step():
    train, _ = digits(64)
    for compiled in (False, True):
        model = small()
        before = weights(model)
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        fit(model, train, batch_size=64, optimizer=optimizer, clip_norm=1e-3, compile=compiled, verbose=False)
        moved = math.sqrt(sum(((v - before[n]).astype(np.float64) ** 2).sum() for n, v in weights(model).items()))
        assert moved == pytest.approx(1e-3, rel=1e-3)
        model = small()
        optimizer = optim.SGD(model.parameters(), lr=1.0)
        fit(model, train, batch_size=64, optimizer=optimizer, clip_value=1e-4, compile=compiled, verbose=False)
        assert max(abs(v - before[n]).max() for n, v in weights(model).items()) == pytest.approx(1e-4, rel=1e-2)


def test_losses_and_optimizers_by_name_and_by_default():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = (x @ np.array([1.0, -2.0, 0.5], np.float32))[:, None]
    model = nn.Dense(3, 1)
    history = fit(model, (x, y), (x, y), epochs=60, batch_size=16, optimizer=optim.SGD(model.parameters(), lr=0.1),
                  metrics=["r2", "mae"], compile=True, verbose=False)  # fmt: skip
    assert history["val_r2"][-1] > 0.999
    assert history["loss"][-1] < 1e-3
    assert "accuracy" not in history
    model = nn.Dense(3, 1)
    fit(model, (x, (y > 0).astype(np.float32)), epochs=2, loss="binary_cross_entropy", optimizer="adamw", verbose=False)
    assert set(predict(model, x, output="classes")) == {0, 1}


def test_binary_accuracy_is_counted_while_training():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    y = (x[:, :1] > 0).astype(np.float32)
    model = nn.Dense(3, 1)
    model.weight.data[...] = [[9.0, 0, 0]]
    model.bias.data[...] = 0
    history = fit(model, (x, y), loss="binary_cross_entropy", optimizer=optim.SGD(model.parameters(), lr=0.0),
                  metrics=["accuracy"], compile=False, verbose=False)  # fmt: skip
    assert history["accuracy"].tolist() == [1.0]


# ------------------------------------------------------------------------------------ stopping


def test_early_stopping_goes_back_to_the_best_weights():
    train, test = digits()
    figures = [3.0, 2.0, 2.5, 1.9, 2.0, 1.95, 2.2, 0.1]
    kept = {}

    class Scripted:
        def on_epoch_end(self, run):
            run.logs["val_loss"] = figures[run.epoch - 1]
            kept[run.epoch] = weights(run.model)

    stop = callbacks.EarlyStopping(patience=3)
    model = small()
    history = fit(model, train, test, epochs=8, callbacks=[Scripted(), stop], compile=False, verbose=False)
    assert history.epochs == 7
    assert history.stopped == "val_loss was best in epoch 4"
    assert_same(weights(model), kept[4])
    model = small()
    strict = callbacks.EarlyStopping(patience=2, min_delta=0.2, restore_best=False)
    history = fit(model, train, test, epochs=8, callbacks=[Scripted(), strict], compile=False, verbose=False)
    assert history.stopped == "val_loss was best in epoch 2"
    assert history.epochs == 4
    assert_same(weights(model), kept[4])


@pytest.mark.parametrize(
    ("monitor", "mode", "best"), [("val_accuracy", None, 2), ("val_f", "min", 1), ("val_mse", None, 1)]
)
def test_what_is_better_depends_on_the_figure(monitor, mode, best):
    stop = callbacks.EarlyStopping(patience=1, monitor=monitor, mode=mode)

    class Scripted:
        def on_epoch_end(self, run):
            run.logs[monitor] = [0.5, 0.6, 0.4][run.epoch - 1]

    model = small()
    fit(model, digits(40)[0], epochs=3, callbacks=[Scripted(), stop], compile=False, verbose=False)
    assert stop.best_epoch == best


def test_a_callback_may_stop_in_the_middle_of_an_epoch():
    class Third:
        def on_step_end(self, run):
            if run.step == 3:
                run.stop("enough")

    train, test = digits()
    history = fit(small(), train, test, epochs=5, callbacks=[Third()], compile=False, verbose=False)
    assert history.stopped == "enough"
    assert history.epochs == 1


def test_hooks_are_called_in_order_and_functions_after_each_epoch():
    called = []

    class All:
        def on_train_begin(self, run):
            called.append(("begin", run.epoch))

        def on_epoch_begin(self, run):
            called.append(("epoch", run.epoch))

        def on_step_end(self, run):
            called.append(("step", run.step))

        def on_epoch_end(self, run):
            called.append(("ended", run.epoch))

        def on_train_end(self, run):
            called.append(("end", run.epoch))

    train, _ = digits(40)
    fit(small(), train, epochs=2, callbacks=[All(), lambda run: called.append(("function", run.epoch))], compile=False,
        verbose=False)  # fmt: skip
    assert called == [
        ("begin", 0), ("epoch", 1), ("step", 1), ("step", 2), ("ended", 1), ("function", 1),
        ("epoch", 2), ("step", 3), ("step", 4), ("ended", 2), ("function", 2), ("end", 2),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ divergence


class Log(nn.Module):
    def __init__(self):
        self.dense = nn.Dense(64, 10)

    def forward(self, x):
        return ops.log(self.dense(ops.reshape(x, (-1, 64))))


class Root(nn.Module):
    """√x is 0 at 0, and its derivative infinite: the forward pass is finite, the backward is not."""

    def __init__(self):
        self.dense = nn.Dense(64, 10)
        self.dense.weight.data[...], self.dense.bias.data[...] = 0, 0

    def forward(self, x):
        return ops.sqrt(self.dense(ops.reshape(x, (-1, 64))))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_that_is_no_number_names_the_op(compiled):
    train, test = digits()
    for model, told in (
        (Log(), "op log, forward"),
        (Root(), "op sqrt, backward: "),
    ):
        before = weights(model)
        with pytest.raises(DivergenceError, match=told) as caught, np.errstate(all="ignore"):
            fit(model, train, test, compile=compiled, verbose=False)
        assert "batch 1 of epoch 1" in str(caught.value)
        assert_same(weights(model), before)
    model = small()
    with pytest.raises(DivergenceError, match=r"nan|inf") as caught, np.errstate(all="ignore"):
        fit(model, train, epochs=2, optimizer=optim.SGD(model.parameters(), lr=1e38), compile=compiled, verbose=False)
    assert "op dense" in str(caught.value) or "optimizer's step" in str(caught.value)


def test_what_diverges_later_keeps_the_epochs_before():
    train, test = digits()

    class Wild:
        def on_epoch_end(self, run):
            run.optimizer.param_groups[0]["lr"] = 1e38 if run.epoch == 2 else 1e-2
            kept.append(weights(run.model))

    kept = []
    model = small()
    optimizer = optim.SGD(model.parameters(), lr=1e-2)
    with pytest.raises(DivergenceError, match="epoch 3") as caught, np.errstate(all="ignore"):
        fit(model, train, test, epochs=5, optimizer=optimizer, callbacks=[Wild()], compile=True, verbose=False)
    assert caught.value.history.epochs == 2
    assert_same(weights(model), kept[-1])


def test_a_batch_with_nan_in_it_is_named():
    train, _ = digits(40)
    x = (train.x / 255).astype(np.float32)
    x[7, 0, 3, 3] = np.nan
    with pytest.raises(DivergenceError, match=r"the batch itself: 1 NaN of 2,?\d* values among its inputs"):
        fit(small(), (x, train.y), compile=False, verbose=False)


def test_a_validation_set_with_nan_in_it_is_told():
    train, test = digits(40)
    held = (test.x / 255).astype(np.float32)
    held[0, 0, 0, 0] = np.nan
    with pytest.raises(DivergenceError, match="validation after epoch 1"):
        fit(small(), ((train.x / 255).astype(np.float32), train.y), (held, test.y), compile=False, verbose=False)


# ---------------------------------------------------------------------------------------- resume


class Killed(Exception):
    pass


def assert_resumes(tmp_path, kill_at, every, unit, **options):
    """A run that is cut off and resumed ends with the bits, and the history, of one that is not."""
    train, test = digits()

    def run(resume=None, kill=None):
        model = small(dropout=True)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)
        path = tmp_path / "run.safetensors"

        class Kill:
            after_others = True

            def on_epoch_end(self, run):
                if unit == "epoch" and run.epoch == kill:
                    raise Killed

        class KillStep(Kill):
            def on_step_end(self, run):
                if run.step == kill:
                    raise Killed

        schedule = optim.StepLR(optimizer, 2, gamma=0.5)
        found = [callbacks.EarlyStopping(50), callbacks.Checkpoint(path, every, unit)]
        found += [KillStep() if unit == "step" else Kill()]
        loader = data.Loader(train, batch_size=32, shuffle=True, seed=options.get("loader_seed"))
        history = fit(model, loader, test, epochs=4, optimizer=optimizer, schedule=schedule, metrics=["accuracy"],
                      callbacks=found, accumulate=options.get("accumulate", 1), compile=options.get("compile", False),
                      resume=path if resume else None, verbose=False)  # fmt: skip
        return model, optimizer, history

    whole, whole_optimizer, expected = run()
    with pytest.raises(Killed):
        run(kill=kill_at)
    minidl.manual_seed(999)  # a new process begins elsewhere
    model, optimizer, history = run(resume=True)
    assert_same(weights(whole), weights(model))
    for a, b in zip(
        whole_optimizer.state_dict()["state"].values(), optimizer.state_dict()["state"].values(), strict=True
    ):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    assert optimizer.param_groups[0]["lr"] == whole_optimizer.param_groups[0]["lr"]
    for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_array_equal(expected[name], history[name])


@pytest.mark.parametrize("kill_at", [1, 3])
@pytest.mark.parametrize("options", [{}, {"loader_seed": 5}, {"compile": True}])
def test_resume_after_an_epoch(tmp_path, kill_at, options):
    assert_resumes(tmp_path, kill_at, 1, "epoch", **options)


@pytest.mark.parametrize("kill_at", [2, 7, 9, 27])
@pytest.mark.parametrize("options", [{}, {"loader_seed": 5}])
def test_resume_in_the_middle_of_an_epoch(tmp_path, kill_at, options):
    assert_resumes(tmp_path, kill_at, 2, "step", **options)


def test_resume_between_accumulated_steps(tmp_path):
    assert_resumes(tmp_path, 3, 1, "step", accumulate=3)


def test_a_finished_run_resumes_to_its_end_and_a_longer_one_goes_on(tmp_path):
    train, test = digits()
    path = tmp_path / "c.safetensors"

    def run(epochs, resume=None):
        model = small()
        made = fit(model, train, test, epochs=epochs, callbacks=[callbacks.Checkpoint(path)], resume=resume,
                   compile=False, verbose=False)  # fmt: skip
        return weights(model), made

    longer, _ = run(3)
    two, before = run(2)
    again, history = run(2, path)
    assert_same(two, again)
    np.testing.assert_array_equal(before["loss"], history["loss"])
    three, history = run(3, path)
    assert history.epochs == 3
    assert_same(longer, three)


def test_checkpoints_of_other_runs_are_refused_and_nothing_changes(tmp_path):
    train, test = digits()
    path, plain = tmp_path / "c.safetensors", tmp_path / "m.safetensors"
    model = small()
    fit(model, train, test, callbacks=[callbacks.Checkpoint(path)], compile=False, verbose=False)
    checkpoint.save_model(plain, model, {})
    wide = models.mlp((1, 8, 8), [13], 10)
    cases = [
        ({"model": wide}, path, "13"),
        ({"optimizer": "sgd"}, path, "expected optimizer 'SGD', found 'Adam'"),
        ({"batch_size": 16}, path, "batches in an epoch"),
        ({"callbacks": [callbacks.EarlyStopping()]}, path, "callbacks"),
        ({}, plain, "checkpoint of a run"),
        ({}, tmp_path / "none", "none"),
    ]
    for changed, file, told in cases:
        options = {"model": small(seed=1), "callbacks": [callbacks.Checkpoint(path)], **changed}
        mine = options.pop("model")
        before = weights(mine)
        with pytest.raises(checkpoint.CheckpointError, match=told):
            fit(mine, train, test, epochs=2, resume=file, compile=False, verbose=False, **options)
        assert_same(before, weights(mine))


# ------------------------------------------------------------------------------ other callbacks


def test_checkpoints_of_the_best_of_each_and_of_the_last(tmp_path):
    train, test = digits(64)

    class Scripted:
        def on_epoch_end(self, run):
            run.logs["val_loss"] = [3.0, 2.0, 2.5, 1.0, 4.0][run.epoch - 1]

    found = [
        Scripted(),
        callbacks.Checkpoint(tmp_path / "best.safetensors", monitor="val_loss"),
        callbacks.Checkpoint(tmp_path / "{epoch}.safetensors", every=2),
        callbacks.Checkpoint(tmp_path / "step{step}.safetensors", every=3, unit="step"),
    ]
    fit(small(), train, test, epochs=5, callbacks=found, compile=False, verbose=False)
    names = sorted(p.name for p in tmp_path.iterdir())
    steps = [f"step{n}.safetensors" for n in (3, 6, 9)]
    assert names == sorted(["best.safetensors", "2.safetensors", "4.safetensors", "5.safetensors", *steps])
    best = checkpoint.load_checkpoint(tmp_path / "best.safetensors")
    assert best.state["counters"]["epoch"] == 4
    four = checkpoint.load_checkpoint(tmp_path / "4.safetensors")
    assert_same(best.model_state, four.model_state)
    assert predict(checkpoint.load_model(tmp_path / "best.safetensors")[0], test.x).shape == (60, 10)


def test_the_log_has_a_line_an_epoch_also_of_a_resumed_run(tmp_path):
    train, test = digits(64)
    log, path = tmp_path / "log.jsonl", tmp_path / "c.safetensors"

    def run(epochs, resume=None):
        fit(small(), train, test, epochs=epochs, callbacks=[callbacks.Log(log), callbacks.Checkpoint(path)],
            resume=resume, compile=False, verbose=False)  # fmt: skip
        return [json.loads(line) for line in log.read_text("utf-8").splitlines()]

    rows = run(2)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[1].keys() == {"epoch", "step", "loss", "val_loss", "lr", "seconds"}
    log.write_text(log.read_text("utf-8") + '{"epoch": 3, "of": "a life that was cut off"}\n', "utf-8")
    again = run(4, path)
    assert [row["epoch"] for row in again] == [1, 2, 3, 4]
    assert again[:2] == rows
    assert [row["epoch"] for row in run(1)] == [1]


def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the tensorboard extra, is not installed")
    train, test = digits(64)
    fit(
        small(), train, test, epochs=2, callbacks=[callbacks.TensorBoard(tmp_path / "tb")], compile=False, verbose=False
    )
    (written,) = (tmp_path / "tb").iterdir()
    assert b"val_loss" in written.read_bytes()


def test_tensorboard_without_its_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"minidl\[tensorboard\]"):
        callbacks.TensorBoard(tmp_path)


# ------------------------------------------------------------------------------ history, predict


def test_a_history_is_arrays_json_and_a_picture(tmp_path):
    history = History([{"epoch": 1, "loss": 2.0, "val_loss": 1.5}, {"epoch": 2, "loss": 1.0, "accuracy": 0.5}])
    assert history["loss"].tolist() == [2.0, 1.0]
    np.testing.assert_array_equal(history["val_loss"], [1.5, math.nan])
    assert list(history) == ["epoch", "loss", "val_loss", "accuracy"]
    assert json.loads(history.to_json())["epochs"][1] == {"epoch": 2, "loss": 1.0, "accuracy": 0.5}
    with pytest.raises(KeyError, match="expected one of"):
        history["los"]
    with pytest.raises(ValueError, match="at least one epoch"):
        History().plot(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"\.png"):
        history.plot(tmp_path / "a.jpg")
    pytest.importorskip("matplotlib", reason="matplotlib, of the plot extra, is not installed")
    history.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_predict_gives_probabilities_classes_or_values():
    _, test = digits()
    model = small()
    values = predict(model, test.x, output="values", batch_size=7)
    with minidl.no_grad():
        expected = np.concatenate([model(x).data for x in data.Loader(test.x, batch_size=7)])
    np.testing.assert_array_equal(values, expected)
    p = predict(model, data.Loader(test.x, batch_size=7))
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.log(p[:, 0] / p[:, 1]), values[:, 0] - values[:, 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(predict(model, test.x, output="classes"), values.argmax(axis=1))
    one = nn.Dense(2, 1)
    x = np.array([[1, 2], [-3, 1]], np.float32)
    z = one(x).data[:, 0]
    np.testing.assert_allclose(predict(one, x), 1 / (1 + np.exp(-z)), rtol=1e-6)
    np.testing.assert_array_equal(predict(one, x, output="classes"), z > 0)


def test_modes_are_as_they_were_after_evaluating():
    _, test = digits()
    model = small(dropout=True)
    model[3].training = False
    evaluate(model, test)
    predict(model, test.x)
    assert [m.training for m in model.modules()] == [True, True, True, True, False, True]


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"epochs": 0}, ValueError, "epochs as an int of at least 1, found 0"),
        ({"epochs": 1.5}, ValueError, "epochs"),
        ({"batch_size": True}, ValueError, "batch_size"),
        ({"accumulate": 0}, ValueError, "accumulate"),
        ({"clip_norm": -1.0}, ValueError, "clip_norm"),
        ({"clip_value": math.nan}, ValueError, "clip_value"),
        ({"optimizer": "adm"}, ValueError, "did you mean 'adam'"),
        ({"optimizer": 3}, TypeError, "an Optimizer or its name"),
        ({"loss": "cross_entrpy"}, ValueError, "did you mean 'cross_entropy'"),
        ({"metrics": ["acuracy"]}, ValueError, "accuracy"),
        ({"metrics": "accuracy"}, TypeError, "a list"),
        ({"schedule": "cosin"}, ValueError, "cosine"),
        ({"schedule": 3}, TypeError, "a schedule"),
        ({"callbacks": [3]}, TypeError, "callbacks"),
        ({"validation": (np.zeros((3, 1, 7, 7), np.uint8), np.zeros(3, int))}, ValueError, r"\(3, 1, 7, 7\)"),
        ({"validation": (np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, int))}, ValueError, "found none"),
        ({"validation": (np.zeros((3, 1, 8, 8), np.uint8), np.zeros(3))}, ValueError, "validation targets"),
        ({"validation": 3}, TypeError, "a Loader, a Dataset"),
        ({"train": np.zeros((3, 2))}, TypeError, "a Loader, a Dataset"),
        ({"train": (np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, int))}, ValueError, "at least one batch"),
        ({"train": data.Loader(np.zeros((3, 2)))}, TypeError, "pairs"),
        ({"callbacks": [callbacks.EarlyStopping(monitor="val_los")], "epochs": 2}, ValueError, "val_loss"),
    ],
)
def test_bad_input_is_told(options, error, told):
    train, test = digits(40)
    options = {"train": train, "validation": test, "compile": False, "verbose": False, **options}
    with pytest.raises(error, match=told):
        fit(small(), options.pop("train"), options.pop("validation"), **options)


def test_options_of_callbacks_are_checked():
    for call, told in (
        (lambda: callbacks.EarlyStopping(0), "patience"),
        (lambda: callbacks.EarlyStopping(mode="up"), "a mode"),
        (lambda: callbacks.Checkpoint("c", every=0), "every"),
        (lambda: callbacks.Checkpoint("c", unit="steps"), "unit"),
        (lambda: callbacks.Checkpoint("c", unit="step", monitor="val_loss"), "monitor"),
        (lambda: predict(small(), np.zeros((0, 1, 8, 8), np.float32)), "at least one input"),
        (lambda: predict(small(), np.zeros((1, 1, 8, 8), np.float32), output="logits"), "output"),
        (lambda: evaluate(small(), (np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, int))), "at least one example"),
    ):
        with pytest.raises(ValueError, match=told):
            call()


def test_a_run_tells_when_steps_matter():
    model = small()
    loader = data.Loader(*[np.zeros((4, 64), np.float32), np.zeros(4, int)], batch_size=2)
    plain = Run(model, optim.SGD(model.parameters()), loader, 1, None, [callbacks.Checkpoint("x")], {})
    stepping = Run(model, optim.SGD(model.parameters()), loader, 1, None, [callbacks.Checkpoint("x", 1, "step")], {})
    assert not plain.asked_each_step
    assert stepping.asked_each_step
    assert isinstance(plain.sums.right, Tensor)


@pytest.mark.parametrize("compiled", [False, True])
def test_mixed_labels_are_probabilities(compiled):
    train, test = digits(96)
    model = small()
    loader = data.Loader(train, batch_size=32, shuffle=True, augment=data.augment.Mixup(10))
    history = fit(model, loader, test, epochs=30, optimizer=optim.Adam(model.parameters(), lr=1e-2),
                  metrics=["accuracy"], compile=compiled, verbose=False)  # fmt: skip
    assert history["loss"][-1] < history["loss"][0] - 0.5
    assert history["accuracy"][-1] > 0.6
    assert history["val_accuracy"][-1] > 0.6


@pytest.mark.parametrize("compile", [False, True])
def test_an_optimizer_or_schedule_of_another_model_is_told_before_work(compile):
    x, y = np.zeros((8, 2), np.float32), np.zeros(8, np.int64)
    model, other = nn.Sequential(nn.Dense(2, 2)), nn.Sequential(nn.Dense(2, 2))
    mine, theirs = optim.SGD(model.parameters(), 0.1), optim.SGD(other.parameters(), 0.1)
    before = {name: values.copy() for name, values in model.state_dict().items()}

    def run(**options):
        return fit(model, (x, y), compile=compile, verbose=False, **options)

    with pytest.raises(ValueError, match="fit: expected an optimizer of this Sequential's parameters, found SGD of"):
        run(optimizer=theirs)
    for schedule in (optim.StepLR(theirs, 1), (optim.StepLR(theirs, 1), "step"), optim.ReduceLROnPlateau(theirs)):
        with pytest.raises(ValueError, match="fit: expected a schedule of the optimizer that is given, found a "):
            run(optimizer=mine, schedule=schedule)
        with pytest.raises(ValueError, match="fit: expected a schedule of the optimizer that is given, found a "):
            run(schedule=schedule)  # fit makes an optimizer of its own then
    assert all((before[name] == values).all() for name, values in model.state_dict().items())
    last = optim.SGD([*model[0].parameters(), *other.parameters()], 0.1)  # of more than the model, or of a part
    for optimizer in (mine, last, optim.SGD([model[0].bias], 0.1)):
        for schedule in (optim.StepLR(optimizer, 1), optim.SequentialLR(optimizer, [optim.StepLR(optimizer, 1)], [])):
            assert len(run(optimizer=optimizer, schedule=schedule).rows) == 1


def test_boolean_targets_are_told_what_to_be():
    x, y = np.zeros((8, 2), np.float32), np.arange(8) % 2 == 0
    for model in (nn.Dense(2, 2), nn.Dense(2, 1)):
        with pytest.raises(
            TypeError, match=r"class numbers \(integers\) or floats .*found booleans .*y\.astype\(int\)"
        ):
            fit(model, (x, y), verbose=False)
    assert len(fit(nn.Dense(2, 2), (x, y.astype(int)), compile=False, verbose=False).rows) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"clip_norm": "x"}, "fit: expected clip_norm as a number, found 'x'"),
        ({"clip_value": [1]}, r"fit: expected clip_value as a number, found \[1\]"),
        ({"clip_norm": True}, "fit: expected clip_norm as a number, found True"),
        ({"callbacks": 3}, "fit: expected a list of callbacks, found 3"),
        ({"callbacks": callbacks.EarlyStopping()}, "fit: expected a list of callbacks, found .*EarlyStopping"),
    ],
)
def test_options_of_another_type_are_named(options, told):
    with pytest.raises(TypeError, match=told):
        fit(nn.Dense(2, 2), (np.ones((4, 2), np.float32), np.zeros(4, int)), compile=False, verbose=False, **options)
