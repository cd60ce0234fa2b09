"""Watching a run: the numbers are NumPy's, each illness is named with its layer, and not a bit of the run changes."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

import minidl
from minidl import data, instrument, nn, ops, optim
from minidl.data import augment
from minidl.jit import interpreted
from minidl.nn import init
from minidl.random import default_generator
from minidl.tensor import Tensor
from minidl.train import DivergenceError, fit
from minidl.watch import Watch
from minidl.watch.activations import Activations, probe
from minidl.watch.diagnosis import Diagnosis
from minidl.watch.parameters import Moved

HEIGHT = math.sqrt(0.95)
slow = pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT is set: a whole run takes a minute")


@pytest.fixture(scope="module")
def digits():
    train, _ = data.load("digits")
    return data.Dataset(train.x[:200], train.y[:200])


def mlp(activation=nn.ReLU, hidden=16):
    return nn.Sequential(
        nn.Flatten(), nn.Dense(64, hidden), activation(), nn.Dense(hidden, hidden), activation(), nn.Dense(hidden, 10)
    )


def sgd(model, lr, **options):
    return optim.SGD(model.parameters(), lr=lr, **options)


def watched(model, train, optimizer=None, every=10, epochs=1, **options):
    """A run of 10 steps an epoch."""
    watch = Watch(every=every)
    options = {"batch_size": 20, "compile": False, "verbose": False, **options}
    fit(model, train, epochs=epochs, optimizer=optimizer, callbacks=[*options.pop("callbacks", ()), watch], **options)
    return watch


def kinds(watch):
    return [(f.kind, f.layer) for f in watch.findings]


class Each:
    """Calls a function after each step."""

    def __init__(self, function):
        self.on_step_end = function


# ---------------------------------------------------------------------------- the run is not changed


class Everything(nn.Module):
    """Dropout, batch norm, a draw of its own, an attribute that counts, a list and a generator."""

    def __init__(self):
        self.norm = nn.BatchNorm2d(1)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Dense(64, 12), nn.ReLU(), nn.Dropout(0.3))
        self.drop = nn.Dropout(0.2, generator=np.random.default_rng(3))
        self.out = nn.Dense(12, 10)
        self.calls, self.seen = 0, []

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        noise = default_generator().normal(size=(len(x), 12)).astype(np.float32)
        return self.out(ops.tanh(self.drop(self.hidden(self.norm(x)))) + 0.1 * noise)


class Compiled(nn.Sequential):
    """What a step can be compiled of."""

    def __init__(self):
        super().__init__(
            nn.BatchNorm2d(1), nn.Flatten(), nn.Dense(64, 12), nn.ReLU(), nn.Dropout(0.3), nn.Dense(12, 10)
        )


def trained(make, train, watch, compile):
    """Everything that a run leaves behind."""
    minidl.manual_seed(5)
    model = make()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    loader = data.Loader(train, batch_size=32, shuffle=True, seed=4, augment=None if compile else augment.Shift(1))
    modes = []
    each = Each(lambda run: modes.append([m.training for m in run.model.modules()]))
    added = [Watch(every=3, examples=50), each] if watch else [] if compile else [each]
    history = fit(
        model, loader, epochs=2, optimizer=optimizer, callbacks=added, metrics=["accuracy"], seed=1, compile=compile,
        clip_norm=1.0, verbose=False,
    )  # fmt: skip
    state = {name: values.copy() for name, values in model.state_dict().items()}
    state |= {f"{name}.grad": p.grad.copy() for name, p in model.named_parameters()}
    for number, kept in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{k}": np.array(v) for k, v in kept.items()}
    state |= {f"history.{name}": history[name] for name in history if name != "seconds"}
    generators = [default_generator(), loader.generator, *(getattr(m, "generator", None) for m in model.modules())]
    kept = [g.bit_generator.state for g in generators if g is not None]
    rest = [{k: v for k, v in vars(m).items() if isinstance(v, int | str | list)} for m in model.modules()]
    if watch:
        assert all(map(all, modes))
        assert added[0].steps.tolist() == [1, 3, 6, 9, 12]
        assert np.isfinite(added[0].losses).all()
    return state, kept, rest


@pytest.mark.parametrize(("make", "compile"), [(Everything, False), (Compiled, True)], ids=["eager", "compiled"])
def test_not_a_bit_of_the_run_changes(digits, make, compile):
    plain, generators, rest = trained(make, digits, False, compile)
    seen, same_generators, same_rest = trained(make, digits, True, compile)
    assert plain.keys() == seen.keys()
    for name in plain:
        np.testing.assert_array_equal(plain[name], seen[name], err_msg=name)
    assert generators == same_generators
    assert rest == same_rest


def test_a_probe_that_fails_leaves_the_model_as_it_was(digits):
    class Sick(nn.Module):
        def __init__(self):
            self.norm = nn.BatchNorm2d(1)
            self.count = 0

        def forward(self, x):
            self.count += 1
            self.norm.running_mean[...] = 7
            self.norm.train()
            raise RuntimeError("no")

    model = Sick()
    call, tanh = nn.Module.__call__, ops.tanh.__closure__
    held = [cell.cell_contents for cell in tanh]
    before = default_generator().bit_generator.state
    with pytest.raises(RuntimeError, match="no"):
        probe(model, np.zeros((2, 1, 3, 3), np.float32))
    assert (model.count, model.norm.running_mean.tolist(), model.training) == (0, [0.0], True)
    assert nn.Module.__call__ is call
    assert [cell.cell_contents for cell in tanh] == held
    assert default_generator().bit_generator.state == before


def test_other_threads_are_not_observed():
    seen, made = [], []
    model = nn.Sequential(nn.Tanh())

    def call_module(call, module, *args):
        seen.append(type(module).__name__)
        return call(module, *args)

    def run_op(function, *args, **kwargs):
        seen.append(function.__name__)
        return function(*args, **kwargs)

    with instrument.observed(call_module, run_op, {"tanh"}):
        other = threading.Thread(target=lambda: made.append(model(np.ones(3))))
        other.start()
        other.join()
        assert seen == []
        model(np.ones(3))
        ops.exp(np.ones(3))
    assert seen == ["Sequential", "Tanh", "tanh"]
    model(np.ones(3))
    assert len(seen) == 3
    np.testing.assert_array_equal(made[0].data, np.tanh(np.ones(3)))


# ------------------------------------------------------------------------------ the numbers, by hand


def test_gradients_and_updates_by_hand(digits):
    model, steps = mlp(), []
    before = [p.data.copy() for p in model.parameters()]

    def keep(run):
        nonlocal before
        after = [p.data.astype(np.float64) for p in model.parameters()]
        grads = [p.grad.astype(np.float64) for p in model.parameters()]
        steps.append(list(zip(before, after, grads, strict=True)))
        before = [p.data.copy() for p in model.parameters()]

    losses = []
    watch = watched(
        model, digits, sgd(model, 0.1, momentum=0.9), every=4, epochs=2,
        callbacks=[Each(keep), Each(lambda run: losses.append(run.logs["loss"]))],
    )  # fmt: skip
    assert watch.steps.tolist() == [1, 4, 8, 12, 16, 20]
    expected = [losses[0], *(np.mean(losses[a:b]) for a, b in ((1, 4), (4, 8), (8, 12), (12, 16), (16, 20)))]
    np.testing.assert_allclose(watch.losses, expected, rtol=1e-12)
    assert [n for n in watch.parameters if watch.parameters[n]] == ["1.weight", "3.weight", "5.weight"]
    for i, name in enumerate(watch.parameters):
        found = watch.records[name]
        assert set(found) == {"norm", "gradient_norm", "gradient_rms", "gradient_nonfinite", "update_ratio"}
        for k, step in enumerate(watch.steps):
            old, new, grad = steps[step - 1][i]
            norm = np.sqrt((old.astype(np.float64) ** 2).sum())
            np.testing.assert_allclose(found["norm"][k], norm, rtol=1e-12)
            np.testing.assert_allclose(found["gradient_norm"][k], np.sqrt((grad**2).sum()), rtol=1e-12)
            np.testing.assert_allclose(found["gradient_rms"][k], np.sqrt((grad**2).mean()), rtol=1e-12)
            np.testing.assert_allclose(found["update_ratio"][k], np.sqrt(((new - old) ** 2).sum()) / norm, rtol=1e-12)
            assert found["gradient_nonfinite"][k] == 0


def test_gradients_are_those_that_the_step_used(digits):
    model = mlp()
    watch = watched(model, digits, sgd(model, 0.1), every=5, clip_norm=1e-3, accumulate=2)
    assert watch.steps.tolist() == [1, 5]
    total = np.sqrt(sum(watch.records[name]["gradient_norm"] ** 2 for name in watch.parameters))
    np.testing.assert_allclose(total, 1e-3, rtol=1e-5)
    for name in watch.parameters:
        moved = watch.records[name]["update_ratio"] * watch.records[name]["norm"]
        np.testing.assert_allclose(moved, 0.1 * watch.records[name]["gradient_norm"], rtol=2e-3)


def test_outputs_of_layers_by_hand(digits):
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.Flatten(), nn.Dense(64, 9), nn.ReLU(), nn.Dropout(0.5), nn.Dense(9, 8), nn.Tanh(),
        nn.Dense(8, 7), nn.Sigmoid(), nn.Dense(7, 10),
    )  # fmt: skip
    model[2].bias.data[:4] = -100
    model[5].weight.data *= 20
    model[7].weight.data *= 30
    watch = watched(model, digits, every=10)
    x = digits.x[np.linspace(0, 199, 200).astype(int)].astype(np.float32) / 255
    w = {name: values.astype(np.float64) for name, values in model.state_dict().items()}

    def dense(x, i):
        return x @ w[f"{i}.weight"].T + w[f"{i}.bias"]

    y = {"0": (x - w["0.running_mean"]) / np.sqrt(w["0.running_var"] + 1e-5) * w["0.weight"] + w["0.bias"]}
    y["3"] = np.maximum(dense(y["0"].reshape(200, 64), 2), 0)
    y["5"] = dense(y["3"], 5)
    y["6"] = np.tanh(y["5"])
    y["7"] = dense(y["6"], 7)
    y["8"] = 1 / (1 + np.exp(-y["7"]))
    y["9"] = dense(y["8"], 9)
    assert list(watch.layers) == list(y)  # not what Flatten and Dropout hand on
    assert watch.layers["6"] == "layer 6 (Tanh)"
    for name, values in y.items():
        found = {k: v[-1] for k, v in watch.records[name].items()}
        expected = {"mean": values.mean(), "std": values.std(), "zeros": (values == 0).mean(), "nonfinite": 0}
        if name == "3":
            expected["dead"] = (values == 0).all(axis=0).mean()
            assert expected["dead"] >= 4 / 9
        if name == "6":
            expected["saturated"] = (1 - values**2 < 0.05).mean()
        if name == "8":
            expected["saturated"] = (4 * values * (1 - values) < 0.05).mean()
        if "saturated" in expected:
            assert 0.1 < expected["saturated"] < 0.99
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}")


@pytest.mark.parametrize("shapes", [[(5, 4)], [(3, 4), (7, 4)], [(2, 6, 4), (5, 6, 4), (1, 6, 4)]])
def test_several_calls_of_a_layer_are_counted_together(shapes):
    rng = np.random.default_rng(0)
    lots = [np.maximum(rng.normal(1e3, 1, shape), 1e3).astype(np.float32) - np.float32(1e3) for shape in shapes]
    for y in lots:
        y[..., 2] = 0
    lots[0][..., 3] = 0
    if len(lots) > 1:
        lots[-1][..., 1] = 0  # idle in the last call alone
    known = Activations("a", "a", "relu")
    for y in lots:
        known.add(y, -1)
    known.add(np.zeros((0, 4), np.float32), -1)
    every = np.concatenate([y.reshape(-1, 4) for y in lots]).astype(np.float64)
    found = known.statistics()
    np.testing.assert_allclose(found["mean"], every.mean(), rtol=1e-9)
    np.testing.assert_allclose(found["std"], every.std(), rtol=1e-9)
    assert found["zeros"] == (every == 0).mean()
    assert found["dead"] == (every == 0).all(axis=0).mean()


def test_values_that_are_no_numbers():
    known = Activations("a", "a", "relu")
    y = np.array([[1, np.nan, 0], [2, 3, np.inf]], np.float32)
    with np.errstate(invalid="ignore"):
        known.add(y, -1)
    found = known.statistics()
    assert (known.nonfinite, found["nonfinite"], found["zeros"], found["dead"]) == (2, 2 / 6, 1 / 6, 0)
    assert math.isnan(found["mean"])


@pytest.mark.parametrize(
    ("function", "y"), [("tanh", [HEIGHT, -HEIGHT]), ("sigmoid", [(1 + HEIGHT) / 2, (1 - HEIGHT) / 2])]
)
def test_saturation_begins_at_a_twentieth_of_the_steepest_slope(function, y):
    y = np.array(y)
    for factor, expected in ((1 - 1e-6, 0), (1 + 1e-6, 1)):
        known = Activations("a", "a", function)
        middle = 0.5 if function == "sigmoid" else 0
        known.add(middle + (y - middle) * factor, -1)
        assert known.statistics()["saturated"] == expected


class Functions(nn.Module):
    """Functions in place of layers, a module that is used twice, and one known by two names."""

    def __init__(self):
        self.conv, self.along = nn.Conv2d(1, 6, 3), nn.Conv1d(6, 5, 3)
        self.block = Block()
        self.act = nn.Tanh()
        self.again = self.act
        self.out = nn.Dense(5, 10)

    def forward(self, x):
        y = ops.relu(self.conv(x))
        y = ops.relu(self.along(ops.reshape(y, (len(y), 6, -1))))
        y = self.block(ops.mean(y, axis=2))
        return self.out(self.again(self.act(y)) + ops.sigmoid(y))


class Block(nn.Module):
    """Weights of its own and nothing inside."""

    def __init__(self):
        self.w = Tensor(np.eye(5, dtype=np.float32), requires_grad=True)

    def forward(self, x):
        return ops.tanh(ops.relu(x @ self.w) * 2)


def test_functions_are_layers_too():
    model = Functions()
    model.conv.bias.data[:2] = -100
    model.along.bias.data[1] = -100
    found, result = probe(model, np.random.default_rng(0).random((7, 1, 8, 8), np.float32))
    assert result.shape == (7, 10)
    assert list(found) == ["conv", "relu()", "along", "relu() 2", "block.relu()", "block", "act", "sigmoid()", "out"]
    assert [a.function for a in found.values()] == [None, "relu", None, "relu", "relu", "tanh", "tanh", "sigmoid", None]
    assert found["relu()"].title == "relu() in the model (Functions)"
    assert found["block.relu()"].title == "relu() in layer block (Block)"
    assert found["relu()"].idle.tolist() == [True, True, False, False, False, False]  # channels
    assert found["relu() 2"].idle.shape == (5,)
    assert found["relu() 2"].idle[1]
    assert found["act"].count == 2 * 35  # called twice
    assert [a.result for a in found.values()] == [False] * 8 + [True]


@pytest.mark.parametrize(("layer", "names"), [
    (nn.RNN(8, 6), ["rnn"]),
    (nn.RNN(8, 6, nonlinearity="relu", bidirectional=True), ["rnn.recurrent()", "rnn.recurrent() 2", "rnn"]),
    (nn.LSTM(8, 6), ["rnn"]),
])  # fmt: skip
def test_recurrent_layers(layer, names):
    class Net(nn.Module):
        def __init__(self):
            self.rnn, self.out = layer, nn.Dense(6 * (1 + layer.bidirectional), 2)

        def forward(self, x):
            return self.out(ops.relu(self.rnn(x)[0]))

    x = np.random.default_rng(0).normal(size=(5, 3, 8)).astype(np.float32)
    found, _ = probe(Net(), x)
    assert list(found) == [*names, "relu()", "out"]
    function = None if isinstance(layer, nn.LSTM) else "relu" if layer.bidirectional else "tanh"
    assert found[names[0]].function == function
    y = np.asarray(layer(x)[0].data)[..., :6]
    np.testing.assert_allclose(found[names[0]].mean, y.mean(), rtol=1e-4)
    assert found["relu()"].idle.shape == (6 * (1 + layer.bidirectional),)  # units, not steps


def test_the_examples_are_spread_over_the_set_and_not_augmented(digits):
    loader = data.Loader(digits, batch_size=20, augment=augment.Noise(0.5), mean=0.5, std=2.0)
    seen = []

    class Net(nn.Module):
        def __init__(self):
            self.out = nn.Dense(64, 10)

        def forward(self, x):
            if len(x) == 7:
                seen.append(x.copy())
            return self.out(x.reshape(len(x), 64))

    fit(Net(), loader, epochs=1, callbacks=[Watch(every=10, examples=7)], compile=False, verbose=False)
    rows = [0, 33, 66, 99, 132, 165, 199]
    assert len(seen) == 1 + 2
    for x in seen:
        np.testing.assert_allclose(x, (digits.x[rows] / 255 - 0.5) / 2, atol=1e-6)


# ---------------------------------------------------------------------------------------- illnesses


def spread(model, std):
    for p in model.parameters():
        if p.ndim == 2:
            init.normal_(p, 0, std)
    return model


def deep(activation, std, depth=7):
    layers = [nn.Flatten(), nn.Dense(64, 16), activation()]
    for _ in range(depth):
        layers += [nn.Dense(16, 16), activation()]
    return spread(nn.Sequential(*layers, nn.Dense(16, 10)), std)


@slow
def test_a_healthy_run_has_no_findings(digits):
    model = mlp(hidden=32)
    watch = watched(model, digits, every=10, epochs=12, optimizer=optim.Adam(model.parameters(), lr=5e-3))
    assert watch.losses[-1] < 1
    assert (watch.findings, watch.sentences) == ([], [])
    assert "Nothing wrong was noticed." in str(watch)


@slow
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c)], ids=["batch norm", "group norm"])
def test_a_healthy_convolutional_run_has_no_findings(digits, norm):
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), norm(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Dense(72, 10)
    )
    watch = watched(model, digits, sgd(model, 0.05, momentum=0.9), every=10, epochs=11)
    assert watch.losses[-1] < 1
    assert watch.findings == []


def test_vanishing_gradients(digits):
    model = deep(nn.Tanh, 0.01)
    watch = watched(model, digits, sgd(model, 0.1), epochs=3)
    assert kinds(watch) == [("vanishing", "1")]
    finding = watch.findings[0]
    assert (finding.step, finding.last) == (10, 30)
    assert "the weight of layer 1 (Dense) (and of" in finding.fact
    assert "of that of the bias of layer 17 (Dense)" in finding.fact
    rms = {name: watch.records[name]["gradient_rms"][1] for name in watch.parameters}
    assert max(rms, key=rms.get) == "17.bias"
    assert f"rms of {rms['1.weight']:.1g}, {rms['1.weight'] / rms['17.bias']:.1g} of" in finding.fact
    assert "init.xavier_uniform_" in finding.sentence


def test_exploding_gradients(digits):
    model = deep(nn.ReLU, 2.0)
    watch = watched(model, digits, sgd(model, 1e-12))
    norms = {n: watch.records[n]["gradient_norm"][0] for n in watch.parameters if watch.parameters[n]}
    layer = max(norms, key=norms.get).partition(".")[0]
    assert kinds(watch)[0] == ("exploding", layer)
    assert watch.findings[0].step == 1
    assert f"the weight of layer {layer} (Dense)" in watch.findings[0].fact
    assert "clip_norm" in watch.findings[0].advice


def test_steps_too_large(digits):
    model = mlp()
    watch = watched(model, digits, optim.Adam(model.parameters(), lr=1.0))
    finding = watch.findings[0]
    ratios = {n: watch.records[n]["update_ratio"][0] for n in watch.parameters if watch.parameters[n]}
    worst = max(ratios, key=ratios.get)
    assert (finding.kind, finding.layer, finding.step) == ("large_updates", worst.partition(".")[0], 1)
    assert f"by {100 * ratios[worst]:.0f} % of its size" in finding.sentence
    assert "learning rate too large" in finding.cause


def test_what_was_found_survives_a_divergence(digits):
    model = mlp(nn.Softplus)
    watch = Watch(every=1)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        fit(
            model, digits, epochs=3, optimizer=sgd(model, 1e36), callbacks=[watch], compile=False, verbose=False,
            batch_size=20,
        )  # fmt: skip
    assert {f.kind for f in watch.findings} >= {"large_updates", "nonfinite"}
    assert {f.step for f in watch.findings} == {1}


@pytest.mark.parametrize("fused", [True, False])
def test_dead_units(digits, fused):
    model = mlp()
    model[1].bias.data[...] = -100
    if not fused:
        model = nn.Sequential(model[0], nn.Sequential(model[1]), *model[2:])
    watch = watched(model, digits, epochs=3)
    assert ("dead", "2") in kinds(watch)
    finding = next(f for f in watch.findings if f.layer == "2")
    assert "16 of 16 units of layer 2 (ReLU) are dead ReLUs, which were 0 for each of 200 examples" in finding.fact
    assert finding.step == 10
    assert {f.kind for f in watch.findings} == {"dead"}  # that no gradient gets through is its consequence
    assert watch.records["2"]["dead"].tolist() == [1] * 4


def test_dead_channels(digits):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dense(144, 10))
    model[0].bias.data[:3] = -100
    watch = watched(model, digits)
    assert kinds(watch) == [("dead", "1")]
    assert "3 of 4 units of layer 1 (ReLU)" in watch.findings[0].fact


def test_saturated_layers(digits):
    model = mlp(nn.Tanh)
    model[3].weight.data *= 100
    watch = watched(model, digits)
    assert kinds(watch) == [("saturated", "4")]
    share = watch.records["4"]["saturated"][-1]
    assert share > 0.5 > watch.records["2"]["saturated"][-1]
    assert f"{100 * share:.0f} % of the values of layer 4 (Tanh) are saturated" in watch.findings[0].sentence


def test_answers_may_be_sure_of_themselves(digits):
    """A sigmoid that the model returns is not called saturated; the same one inside is."""
    inside = spread(nn.Sequential(nn.Flatten(), nn.Dense(64, 1), nn.Sigmoid()), 50)
    targets = (digits.y > 4).astype(np.float32)[:, None]
    train = data.Dataset(digits.x, targets)
    assert kinds(watched(inside, train, sgd(inside, 0.01), loss="mse")) == []
    last = nn.Sequential(*inside, nn.Dense(1, 1))
    assert ("saturated", "2") in kinds(watched(last, train, sgd(last, 1e-3), loss="mse"))


def test_a_loss_that_stands_at_ln_c(digits):
    model = mlp()
    rng = np.random.default_rng(0)

    def of_other_labels(outputs, y):
        return ops.softmax_cross_entropy(outputs, rng.integers(0, 10, len(y)))

    watch = watched(model, digits, loss=of_other_labels, every=20, epochs=12)
    assert kinds(watch) == [("stuck", None)]
    finding = watch.findings[0]
    assert (finding.step, finding.last) == (100, 120)  # not before the hundredth
    assert "guessing evenly among 10 classes (ln 10) costs" in finding.fact
    assert watch.guesses["guessing evenly among 10 classes (ln 10)"] == math.log(10)


def test_a_loss_that_only_knows_how_frequent_classes_are(digits):
    rare = np.arange(200) % 10 == 0  # nothing to do with the images
    model = nn.Sequential(nn.Flatten(), nn.Dense(64, 1))
    optimizer = optim.SGD([model[1].bias], lr=1.0)
    train = data.Dataset(digits.x * 0, rare.astype(np.float32)[:, None])
    watch = watched(model, train, optimizer, loss="binary_cross_entropy", every=20, epochs=12)
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert watch.guesses == pytest.approx(
        {"guessing evenly among 2 classes (ln 2)": math.log(2), "guessing by the classes' frequencies": entropy}
    )
    assert next(f for f in watch.findings if f.kind == "stuck").fact.endswith(
        "what guessing by the classes' frequencies costs: nothing is learned from the inputs"
    )


def test_regression_has_no_guesses(digits):
    model = nn.Sequential(nn.Flatten(), nn.Dense(64, 1))
    train = data.Dataset(digits.x, digits.y.astype(np.float32)[:, None])
    assert watched(model, train).guesses == {}


class Odd(nn.Module):
    """What is used, and what is not."""

    def __init__(self):
        self.used, self.idle = nn.Dense(64, 10), nn.Dense(3, 2)
        self.cut, self.scale = nn.Dense(10, 10), Tensor(np.ones(10, np.float32), requires_grad=True)

    def forward(self, x):
        y = self.used(ops.reshape(x, (len(x), 64)))
        return y * self.scale + self.cut(y).detach()


def test_parameters_that_never_change(digits):
    model = Odd()
    watch = watched(model, digits)
    assert kinds(watch) == [("unchanged", "idle")]
    told = watch.findings[0].sentence
    assert told.startswith("The weight of layer idle (Dense), the bias of layer idle (Dense), the weight of layer cut")
    assert "no gradient arrives" in told
    assert watch.records["idle.weight"]["update_ratio"].tolist() == [0, 0]
    assert np.isnan(watch.records["idle.weight"]["gradient_norm"]).all()


@pytest.mark.parametrize(
    ("change", "given", "layer", "told"),
    [
        (lambda m: m.used.requires_grad_(False), None, "used", "requires_grad is False"),
        (lambda m: None, lambda m: sgd(m.used, 0.1), "", "not among those of the optimizer's param_groups"),
        (lambda m: None, lambda m: sgd(m, 0.0), "used", "the learning rate is 0"),
        (lambda m: None, lambda m: sgd(m, 1e-30), "used", "no step was large enough"),
    ],
    ids=["frozen", "forgotten", "rate", "idle"],
)
def test_why_parameters_never_change(digits, change, given, layer, told):
    model = Odd()
    change(model)
    watch = watched(model, digits, given(model) if given else None)
    found = [f for f in watch.findings if told in f.fact or told.replace("not among", "but are not among") in f.fact]
    assert [(f.kind, f.layer) for f in found] == [("unchanged", layer)]
    assert ("scale of the model (Odd)" in found[0].fact) == (layer == "" or "requires" not in told)


def test_steps_too_small(digits):
    model = mlp()
    watch = watched(model, digits, sgd(model, 1e-5), epochs=3)
    assert [k for k, _ in kinds(watch)] == ["small_updates"]
    most = {n: watch.records[n]["update_ratio"][:3].max() for n in watch.parameters if watch.parameters[n]}
    least = min(most, key=most.get)
    assert watch.findings[0].layer == least.partition(".")[0]
    assert f"by more than {most[least]:.1g} of its size" in watch.findings[0].fact
    assert watch.findings[0].step == 20


def test_an_embedding_whose_rows_mostly_rest_is_no_illness():
    model = nn.Sequential(nn.Embedding(5000, 4), nn.Flatten(), nn.Dense(8, 10))
    init.constant_(model[0].weight, 1.0)
    rng = np.random.default_rng(0)
    train = data.Dataset(rng.integers(0, 9, (200, 2)), rng.integers(0, 10, 200))
    watch = watched(model, train, sgd(model, 0.1), epochs=3)
    assert watch.records["0.weight"]["update_ratio"].max() < 1e-3
    assert watch.parameters == {"0.weight": False, "2.weight": True, "2.bias": False}
    assert watch.findings == []


def test_gradients_that_are_no_numbers(digits):
    class Root(nn.Module):
        def __init__(self):
            self.out = nn.Dense(64, 10)
            self.s = Tensor(np.array([0, 1, 4], np.float32), requires_grad=True)

        def forward(self, x):
            return self.out(ops.reshape(x, (len(x), 64))) + ops.sum(ops.sqrt(self.s))

    model, watch = Root(), Watch(every=1)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        fit(model, digits, callbacks=[watch], optimizer=sgd(model, 0.1), compile=False, verbose=False)
    found = [f for f in watch.findings if "gradient" in f.fact]
    assert [(f.kind, f.layer, f.step) for f in found] == [("nonfinite", "", 1)]
    assert "1 of 3 values in the gradient of the s of the model (Root) are NaN or infinite" in found[0].fact
    assert [f.layer for f in watch.findings if "gradient" not in f.fact] == ["out"] or len(watch.findings) == 1


# ----------------------------------------------------------------------- findings over several steps


def unit(idle, saturated=0.0, name="a"):
    known = Activations(name, f"layer {name}", "relu" if idle is not None else "tanh")
    known.count, known.saturated = 100, int(100 * saturated)
    known.idle = None if idle is None else np.array(idle, bool)
    return {name: known}


def weight(name="w", gradient=0.1, ratio=1e-3, norm=1.0):
    tensor = Tensor(np.ones((2, 2), np.float32), requires_grad=True)
    return Moved(name, tensor, name, f"the {name}", True, norm, gradient, 0, ratio * norm, 0.1)


def noticed(looks, guesses=None, patience=100):
    """(kind, step, last) after looking at these (step, layers, parameters, loss)."""
    diagnosis = Diagnosis(guesses or {}, patience)
    for step, layers, parameters, loss in looks:
        diagnosis.look(step, layers, parameters, loss, 7)
    return [(f.kind, f.step, f.last) for f in diagnosis.findings]


def test_units_are_dead_that_stay_so():
    def looks(*idle):
        return noticed([(k + 1, unit(i), [weight()], 1.0) for k, i in enumerate(idle)])

    assert looks([1, 1, 0, 0]) == []
    assert looks([1, 1, 0, 0], [1, 1, 0, 0]) == [("dead", 2, 2)]
    assert looks([1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]) == [("dead", 3, 3)]
    assert looks([1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]) == []  # another half each time
    assert looks([1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]) == []  # less than half
    assert looks([1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]) == [("dead", 2, 5)]


def test_the_last_of_several_gradients_that_are_no_numbers_is_named():
    """Backward comes to it first."""
    diagnosis = Diagnosis({}, 100)
    diagnosis.look(1, {}, [replace(weight("a"), nonfinite=2), replace(weight("b"), nonfinite=1), weight("c")], 1.0, 7)
    assert [(f.kind, f.layer) for f in diagnosis.findings] == [("nonfinite", "b")]


def test_saturation_is_said_of_two_watched_steps_in_a_row():
    def looks(*shares):
        return noticed([(k + 1, unit(None, s), [weight()], 1.0) for k, s in enumerate(shares)])

    assert looks(0.51, 0.51) == [("saturated", 2, 2)]
    assert looks(0.5, 0.5, 0.5) == []
    assert looks(0.9, 0.1, 0.9) == []


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (lambda k: [weight("a", 0.99e-5), weight("b", 0.1)], [("vanishing", 2, 4)]),
        (lambda k: [weight("a", 1.01e-5), weight("b", 0.1)], []),
        (lambda k: [weight("a", 142), weight("b", 0.1)], [("exploding", 1, 4)]),  # two weights of norm 1
        (lambda k: [weight("a", 141), weight("b", 0.1)], []),
        (lambda k: [replace(weight("a", 1e9), norm=0.0)], []),
        (lambda k: [weight(ratio=0.51)], [("large_updates", 1, 4)]),
        (lambda k: [weight(ratio=0.49 if k == 0 else 0.001)], []),  # Adam's first
        (lambda k: [weight(ratio=0.11)], [("large_updates", 4, 4)]),
        (lambda k: [weight(ratio=0.09)], []),
        (lambda k: [weight(ratio=0.99e-5)], [("small_updates", 3, 4)]),
        (lambda k: [weight(ratio=1e-3 if k == 0 else 1e-7)], []),  # a schedule that ends at 0
        (lambda k: [weight(ratio=1.01e-5)], []),
        (lambda k: [weight(ratio=0.0)], [("unchanged", 2, 4)]),
        (lambda k: [weight(ratio=1.0 if k == 3 else 0.0)], [("unchanged", 2, 3), ("large_updates", 4, 4)]),
        (lambda k: [weight(ratio=math.nan)], []),
    ],
)
def test_bounds_of_what_is_said_of_weights(parameters, expected):
    assert noticed([(k + 1, {}, parameters(k), 1.0) for k in range(4)]) == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.3, 2.3, 2.3, 2.3], [("stuck", 300, 400)]),
        ([2.3 * 1.031, 2.3 * 1.031, 2.3 * 0.969, 2.3], []),
        ([5.0, 2.3 * 1.029, 2.3 * 0.971, 2.3], [("stuck", 400, 400)]),
        ([1.0, 1.01, 0.99, 1.0], [("stuck", 300, 400)]),
        ([2.3, 2.3, 1.5, 2.3], []),
        ([math.nan] * 4, []),
    ],
)
def test_a_loss_is_stuck_near_a_guess(losses, expected):
    looks = [(100 * (k + 1), {}, [weight()], loss) for k, loss in enumerate(losses)]
    assert noticed(looks, {"evenly": 2.3, "by frequency": 1.0}) == expected


# ------------------------------------------------------------------------------------ what is told


def test_text_and_json(digits):
    model = deep(nn.Tanh, 2.0, depth=3)
    watch = watched(model, digits, sgd(model, 0.0), epochs=2)
    told = str(watch)
    assert max(map(len, told.splitlines())) <= 110
    assert told.count("Usual cause: weights that begin too large") == 1  # of all saturated layers together
    assert "steps 10 to 20: " in told.replace("! ", "")
    row = next(line for line in told.splitlines() if line.startswith("2 (Tanh)"))
    assert f"{100 * watch.records['2']['saturated'][-1]:.1f} %" in row
    assert len(watch.sentences) == len({f.kind for f in watch.findings}) < len(watch.findings)
    assert all(s.startswith("Steps 10 to 20: ") and "Try: " in s for s in watch.sentences)
    known = json.loads(watch.to_json())
    assert (known["every"], known["examples"], known["steps"]) == (10, 256, [1, 10, 20])
    np.testing.assert_array_equal(known["losses"], watch.losses)
    assert known["records"].keys() == watch.records.keys()
    for name, kept in watch.records.items():
        for key, values in kept.items():
            assert values.shape == (3,)
            np.testing.assert_array_equal(np.array(known["records"][name][key], float), values)
    assert [f["sentence"] for f in known["findings"]] == [f.sentence for f in watch.findings]
    assert str(watch.findings[0]) == f"steps 10 to 20: {watch.findings[0].sentence}"


def test_json_holds_no_infinities(digits):
    model = mlp()
    init.zeros_(model[5].bias)
    watch = watched(model, digits)
    assert watch.records["5.bias"]["update_ratio"][0] == math.inf  # it was 0
    known = json.loads(watch.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert known["records"]["5.bias"]["update_ratio"][0] is None


def test_layers_that_do_not_always_run(digits):
    class Sometimes(nn.Module):
        def __init__(self):
            self.out, self.act, self.on = nn.Dense(64, 10), nn.Tanh(), False

        def forward(self, x):
            y = self.out(ops.reshape(x, (len(x), 64)))
            return self.act(y) if self.on else y

    model = Sometimes()
    toggle = Each(lambda run: setattr(model, "on", run.step in (10, 20)))
    watch = watched(model, digits, callbacks=[toggle], every=5, epochs=3)
    assert watch.steps.tolist() == [1, 5, 10, 15, 20, 25, 30]
    ran = [False, False, True, False, True, False, False]
    assert np.isfinite(watch.records["act"]["mean"]).tolist() == ran
    assert np.isfinite(watch.records["out"]["mean"]).all()
    assert "act (Tanh)" in str(watch)


def test_each_run_is_watched_anew(digits):
    model, watch = mlp(), Watch(every=4)
    assert str(watch) == "Watch(every=4, examples=256): nothing watched yet"
    assert (watch.steps.size, watch.records, watch.findings) == (0, {}, [])
    for _ in range(2):
        fit(model, digits, callbacks=[watch], batch_size=20, compile=False, verbose=False)
        assert watch.steps.tolist() == [1, 4, 8]
        assert all(v.shape == (3,) for kept in watch.records.values() for v in kept.values())


def test_a_resumed_run_is_watched_from_there(digits, tmp_path):
    from minidl.train.callbacks import Checkpoint

    options = {"batch_size": 20, "compile": False, "verbose": False}
    fit(mlp(), digits, epochs=1, callbacks=[Checkpoint(tmp_path / "a"), Watch(every=5)], **options)
    watch = Watch(every=5)
    fit(mlp(), digits, epochs=2, callbacks=[Checkpoint(tmp_path / "b"), watch], resume=tmp_path / "a", **options)
    assert watch.steps.tolist() == [15, 20]
    assert np.isfinite(watch.records["1.weight"]["update_ratio"]).all()


@pytest.mark.parametrize("sick", [True, False])
def test_picture(digits, tmp_path, sick):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    watch = watched(deep(nn.Tanh, 2.0, depth=12) if sick else mlp(), digits)
    watch.plot(tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_pictures_that_cannot_be(digits, tmp_path, monkeypatch):
    watch = Watch()
    with pytest.raises(ValueError, match="plot: expected a run that was watched, found none"):
        watch.plot(tmp_path / "run.png")
    watch = watched(mlp(), digits)
    with pytest.raises(ValueError, match=r"plot: expected a file's name ending in .png, found .*run.pdf"):
        watch.plot(tmp_path / "run.pdf")
    if pytest.importorskip("matplotlib", reason="the plot extra is not installed"):
        with pytest.raises(OSError):
            watch.plot(tmp_path / "none" / "run.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "minidl\[plot\]"'):
        watch.plot(tmp_path / "run.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every": 0}, ValueError, "Watch: expected every of at least 1, found 0"),
        ({"every": 2.5}, TypeError, "Watch: expected every as an int, found 2.5"),
        ({"every": True}, TypeError, "Watch: expected every as an int, found True"),
        ({"examples": -3}, ValueError, "Watch: expected examples of at least 1, found -3"),
        ({"examples": "all"}, TypeError, "Watch: expected examples as an int, found 'all'"),
    ],
)
def test_bad_options(options, error, match):
    with pytest.raises(error, match=match):
        Watch(**options)
