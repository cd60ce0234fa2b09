"""A mean over a set is one sum divided once, in whatever batches it comes: losses, accuracy, accumulated gradients."""

import functools
import math

import numpy as np
import pytest

import minidl
from minidl import data, nn, ops, optim
from minidl.train import evaluate, fit

WEIGHT = np.array([1, 5, 0.25], np.float32)


def examples(kind="ignored", seed=0):
    """45 rows; "ignored": a third of them without a label, among them all of rows 14 to 20."""
    draw = np.random.default_rng(seed)
    x, y = draw.normal(size=(45, 4)).astype(np.float32), draw.integers(0, 3, 45)
    if kind == "ignored":
        y[draw.random(45) < 0.3] = -100
        y[14:21] = -100
    return x, y


def model():
    minidl.manual_seed(3)
    return nn.Dense(4, 3)


def as_pair(outputs, y):
    each = ops.softmax_cross_entropy(outputs, y, reduction="none")
    shown = (y != -100).astype(np.float32)
    return ops.sum(each * shown), shown.sum()


LOSSES = {
    "by name": ("cross_entropy", {}),
    "weighted": (functools.partial(ops.softmax_cross_entropy, weight=WEIGHT), {"weight": WEIGHT}),
    "in a lambda": (lambda o, y: ops.softmax_cross_entropy(o, y, weight=WEIGHT), {"weight": WEIGHT}),
    "smoothed": (
        functools.partial(ops.softmax_cross_entropy, weight=WEIGHT, label_smoothing=0.2),
        {"weight": WEIGHT, "label_smoothing": 0.2},
    ),
    "nll": (lambda o, y: ops.nll(ops.log_softmax(o, dim=1), y), {}),
    "a sum and its count": (as_pair, {}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_set_does_not_depend_on_batches(name):
    x, y = examples()
    loss, options = LOSSES[name]
    net = model()
    expected = ops.softmax_cross_entropy(net(x), y, **options).item()
    hits = net(x).data.argmax(axis=1) == y
    for size in (1, 7, 20, 45):
        found = evaluate(net, (x, y), batch_size=size, loss=loss, metrics=["accuracy"] if name == "by name" else [])
        assert found["loss"] == pytest.approx(expected, rel=1e-6)
        if name == "by name":
            assert found["accuracy"] == hits.sum() / (y != -100).sum()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["by name", "weighted", "a sum and its count"])
def test_the_loss_of_training_is_one_sum_divided_once(name, compiled):
    x, y = examples()
    loss, options = LOSSES[name]
    net = model()
    loader = data.Loader((x, y), batch_size=7)
    rates = optim.SGD(net.parameters(), lr=0.0)
    history = fit(net, loader, (x, y), optimizer=rates, loss=loss, metrics=["accuracy"] if name == "by name" else [],
                  compile=compiled, verbose=False)  # fmt: skip
    assert history["loss"][0] == pytest.approx(ops.softmax_cross_entropy(net(x), y, **options).item(), rel=1e-6)
    assert history["val_loss"][0] == pytest.approx(history["loss"][0], rel=1e-6)
    if name == "by name":
        assert history["accuracy"].tolist() == history["val_accuracy"].tolist()


def test_an_ignored_class_is_no_answer():
    """Neither right nor wrong, and no metric sees it, whichever label it is."""
    x, y = examples("all counted")
    net, loss = model(), functools.partial(ops.softmax_cross_entropy, ignore_index=0)
    seen = []

    def shown(outputs, targets):
        seen.append((outputs.shape, targets.tolist()))
        return 0.0

    history = fit(net, (x, y), (x, y), optimizer=optim.SGD(net.parameters(), lr=0.0), loss=loss,
                  metrics=["accuracy", shown], compile=False, verbose=False)  # fmt: skip
    rest = y[y != 0]
    expected = (net(x).data.argmax(axis=1)[y != 0] == rest).mean()
    assert history["accuracy"][0] == history["val_accuracy"][0] == expected
    assert seen == [((len(rest), 3), rest.tolist())]


def test_a_loss_of_images_counts_pixels():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(9, 2, 3, 3)).astype(np.float32), draw.integers(0, 2, (9, 3, 3))
    y[:5, 1:] = -100
    net = nn.Conv2d(2, 2, 1)
    expected = ops.softmax_cross_entropy(net(x), y).item()
    for size in (2, 9):
        assert evaluate(net, (x, y), batch_size=size)["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_mean_of_the_users_own_is_weighed_by_examples():
    x, y = examples("all counted")
    net = model()

    def doubled(outputs, labels):
        return 2 * ops.softmax_cross_entropy(outputs, labels)

    found = evaluate(net, (x, y), batch_size=20, loss=doubled)["loss"]
    assert found == pytest.approx(2 * ops.softmax_cross_entropy(net(x), y).item(), rel=1e-6)


def test_a_set_of_which_nothing_counts_is_told():
    x, y = examples()
    y[:] = -100
    with pytest.raises(ValueError, match="at least one example, found 45 that the loss gives no weight"):
        evaluate(model(), (x, y))
    with pytest.raises(ValueError, match="expected targets that count, found none in epoch 1"):
        fit(model(), (x, y), compile=False, verbose=False)
    assert math.isnan(ops.softmax_cross_entropy(model()(x), y).item())  # as PyTorch's


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_without_labels_changes_nothing(compiled):
    x, y = examples()
    net = model()
    before = net.weight.data.copy()
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    with_labels = []

    class Steps:
        def on_step_end(self, run):
            with_labels.append(net.weight.data.copy())

    fit(
        net,
        data.Loader((x, y), batch_size=7),
        optimizer=optimizer,
        callbacks=[Steps()],
        compile=compiled,
        verbose=False,
    )
    assert np.isfinite(net.weight.data).all()
    np.testing.assert_array_equal(with_labels[2], with_labels[1])  # rows 14 to 20
    assert abs(with_labels[1] - before).max() > 0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("size", "accumulate"), [(8, 3), (20, 2), (7, 100)])
@pytest.mark.parametrize("kind", ["ignored", "all counted"])
def test_accumulated_batches_are_one_large_batch(kind, size, accumulate, compiled):
    """Also the last ones, which are fewer and smaller."""
    x, y = examples(kind)
    loss = LOSSES["weighted"][0] if kind == "ignored" else "cross_entropy"
    nets = []
    for each, many in ((size, accumulate), (size * accumulate, 1)):
        net = model()
        optimizer = optim.SGD(net.parameters(), lr=0.5)
        fit(net, data.Loader((x, y), batch_size=each), epochs=2, optimizer=optimizer, loss=loss, accumulate=many,
            compile=compiled and many > 1, verbose=False)  # fmt: skip
        nets.append(net)
    np.testing.assert_allclose(nets[0].weight.data, nets[1].weight.data, rtol=2e-6, atol=2e-7)


def test_accumulated_batches_diverge_where_one_does():
    x, y = examples("all counted")
    x[40] = np.nan
    with pytest.raises(
        minidl.train.DivergenceError, match="batch 6 of epoch 1: the batch itself: 4 NaN of 20 values among its inputs"
    ):
        fit(model(), data.Loader((x, y), batch_size=8), accumulate=4, compile=False, verbose=False)
