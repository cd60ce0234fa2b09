"""Models that answer for every place of an image: outputs (N, C, H, W), targets (N, H, W)."""

import numpy as np
import pytest

import minidl
from minidl import nn, ops, train
from minidl.metrics import by_name

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 1, 4, 5)).astype(np.float32)
Y = RNG.integers(0, 3, (6, 4, 5))


@pytest.mark.parametrize("name", ["accuracy", "top1", "f1", "log_loss", "recall_micro"])
def test_each_place_is_one_of_the_answers(name):
    z = RNG.normal(size=(6, 3, 4, 5))
    flat = np.stack([z[n, :, i, j] for n in range(6) for i in range(4) for j in range(5)])
    labels = np.array([Y[n, i, j] for n in range(6) for i in range(4) for j in range(5)])
    assert by_name(name)(z, Y) == by_name(name)(flat, labels)
    with pytest.raises(ValueError, match=r"\(N, C, d₁, …\) .* found shapes \(6, 3, 4, 5\) and \(6, 5, 4\)"):
        by_name(name)(z, Y.swapaxes(1, 2))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("ignore", [-100, 1])
def test_fit_counts_the_right_answers_of_every_place(compiled, ignore):
    minidl.manual_seed(0)
    model = nn.Conv2d(1, 3, 1)
    right = [
        model(X[k : k + 4]).data.argmax(axis=1)[Y[k : k + 4] != ignore] == Y[k : k + 4][Y[k : k + 4] != ignore]
        for k in (0, 4)
    ]

    def loss(outputs, y):
        return ops.softmax_cross_entropy(outputs, y, ignore_index=ignore)

    history = train.fit(
        model, minidl.data.Loader((X, Y), batch_size=4), (X, Y), loss=loss, metrics=["accuracy"], compile=compiled,
        optimizer=minidl.optim.SGD(model.parameters(), lr=0.0), verbose=False,
    )  # fmt: skip
    assert history["accuracy"][-1] == np.concatenate(right).mean()
    assert history["val_accuracy"][-1] == (model(X).data.argmax(axis=1) == Y)[ignore != Y].mean()


@pytest.mark.parametrize("compiled", [False, True])
def test_shares_of_the_classes_may_be_the_targets(compiled):
    minidl.manual_seed(0)
    model = nn.Conv2d(1, 3, 1)
    shares = np.eye(3, dtype=np.float32)[Y].transpose(0, 3, 1, 2).copy()
    expected = (model(X).data.argmax(axis=1) == Y).mean()
    history = train.fit(
        model, (X, shares), loss="cross_entropy", metrics=["accuracy"], compile=compiled, batch_size=6,
        optimizer=minidl.optim.SGD(model.parameters(), lr=0.0), verbose=False,
    )  # fmt: skip
    assert history["accuracy"][-1] == expected


@pytest.mark.parametrize("y", [["a", "b"], [1j, 2j], [None, None]])
def test_targets_that_no_loss_takes_are_told_before_one_is_chosen(y):
    with pytest.raises(
        TypeError, match=r"expected targets as class numbers .* found (<U1|complex128|object) of shape \(2"
    ):
        train.fit(nn.Dense(1, 2), (np.ones((2, 1), np.float32), np.array(y)), verbose=False)
