"""The estimators for scikit-learn: its own checks, MLPClassifier and MLPRegressor step by step, and bad input."""

import importlib
import importlib.util
import pickle
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the sklearn extra is not installed: pip install minidl[sklearn]")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import has_fit_parameter

import minidl
from minidl import nn, ops
from minidl.jit import interpreted
from minidl.random import default_generator
from minidl.sklearn import MinidlClassifier, MinidlRegressor, base, parts
from minidl.train import DivergenceError

compiled = pytest.mark.skipif(interpreted(), reason="thousands of steps take long where kernels are plain Python")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PAIRS = [(MinidlClassifier, MLPClassifier), (MinidlRegressor, MLPRegressor)]
BOTH = pytest.mark.parametrize("kind", [MinidlClassifier, MinidlRegressor])
RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 5))
LABELS = (X @ RNG.normal(size=(5, 3))).argmax(axis=1)
INDICATORS = (X @ RNG.normal(size=(5, 3)) > 0).astype(int)
VALUES = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
SEVERAL = np.stack([VALUES, X[:, 3], X[:, 4] ** 2], axis=1)


@pytest.fixture(autouse=True)
def one_thread():
    """Other tests run beside these, and so small a product waits longer for a second thread than it takes."""
    before = minidl.get_num_threads()
    minidl.set_num_threads(1)
    yield
    minidl.set_num_threads(before)


def small(kind=MinidlClassifier, **options):
    return kind(**{"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0, **options})


def target(kind):
    return LABELS if kind is MinidlClassifier else VALUES


def state(model):
    return {name: values.copy() for name, values in model.module_.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def name_of(check):
    return getattr(check, "func", check).__name__


# ------------------------------------------------------------------------- scikit-learn's own checks


@compiled
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MinidlClassifier(max_iter=100), MinidlRegressor(max_iter=100)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_no_check_of_the_perceptrons_is_left_out(mine, theirs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checks = [{name_of(check) for _, check in estimator_checks_generator(e())} for e in (mine, theirs)]
    assert len(checks[1]) > 40
    assert checks[0] >= checks[1]


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_parameters_have_the_perceptrons_defaults(mine, theirs):
    own, other = mine().get_params(), theirs().get_params()
    assert set(own) - set(other) == {"module", "compile"}
    assert {k: v for k, v in own.items() if k in other} == {k: other[k] for k in own if k in other}


# ----------------------------------------------------------- the perceptrons' own numbers, as oracle


def twins(theirs, y, scale=1.0, **fit):
    """(mine, theirs) after training from the same weights in the same order.

    MLPRegressor's gradient of K outputs is K times that of the loss it reports; `scale` is that K.
    """
    # So small a learning rate moves nothing: these are the weights with which it begins.
    start = clone(theirs).set_params(max_iter=1, learning_rate_init=1e-300).fit(X, y, **fit)

    def module(n_features, n_outputs):
        layers = []
        for w, b in zip(start.coefs_, start.intercepts_, strict=True):
            layer = nn.Dense(*w.shape, dtype=np.float64)
            layer.weight.data[...], layer.bias.data[...] = w.T, b
            layers += [layer, {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid}[theirs.activation]()]
        return nn.Sequential(*layers[:-1])

    kind = MinidlRegressor if isinstance(theirs, MLPRegressor) else MinidlClassifier
    known = kind().get_params()
    given = {name: value for name, value in theirs.get_params().items() if name in known}
    given |= {"learning_rate_init": theirs.learning_rate_init * scale, "alpha": theirs.alpha / scale}
    return kind(**given, module=module).fit(X, y, **fit), theirs.fit(X, y, **fit)


def assert_same_weights(mine, theirs):
    layers = [layer for layer in mine.module_ if isinstance(layer, nn.Dense)]
    for layer, w, b in zip(layers, theirs.coefs_, theirs.intercepts_, strict=True):
        np.testing.assert_allclose(layer.weight.data.T, w, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(layer.bias.data, b, rtol=1e-7, atol=1e-10)


# Their Adam adds ε to √v before v is corrected, minidl's after that, as Kingma and Ba: with next to none they agree.
ORDERED = {
    "shuffle": False, "random_state": 1, "hidden_layer_sizes": (7, 6), "batch_size": 20, "max_iter": 12,
    "epsilon": 1e-16,
}  # fmt: skip


@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize(
    "solver",
    [
        {"solver": "adam", "learning_rate_init": 0.01, "beta_1": 0.8, "beta_2": 0.99},
        {"solver": "sgd", "learning_rate_init": 0.05},
        {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False, "momentum": 0.5},
        {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    ],
    ids=["adam", "nesterov", "momentum", "plain"],
)
@pytest.mark.parametrize(
    ("theirs", "y"),
    [(MLPClassifier, LABELS), (MLPClassifier, INDICATORS), (MLPRegressor, VALUES)],
    ids=["classes", "labels", "values"],
)
def test_each_step_is_the_perceptrons(theirs, y, solver, alpha):
    mine, other = twins(theirs(**ORDERED, **solver, alpha=alpha), y)
    assert_same_weights(mine, other)
    if alpha == 0:  # theirs has the penalty in it
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-9)
        assert mine.loss_ == pytest.approx(other.loss_)
        assert mine.best_loss_ == pytest.approx(other.best_loss_)
    np.testing.assert_allclose(mine.predict(X), other.predict(X), rtol=1e-6)
    if theirs is MLPClassifier:
        np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-6)
        np.testing.assert_allclose(mine.predict_log_proba(X), np.log(other.predict_proba(X)), rtol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_other_activations_too(activation):
    assert_same_weights(*twins(MLPClassifier(**ORDERED, activation=activation), LABELS))


def test_several_outputs_at_once():
    assert_same_weights(*twins(MLPRegressor(**ORDERED, solver="sgd", alpha=0.3), SEVERAL, scale=3.0))


@pytest.mark.parametrize(
    ("theirs", "y"),
    [(MLPClassifier, LABELS), (MLPClassifier, INDICATORS), (MLPRegressor, VALUES)],
    ids=["classes", "labels", "values"],
)
@pytest.mark.skipif(not has_fit_parameter(MLPClassifier(), "sample_weight"), reason="they take weights from 1.7 on")
def test_weights_of_examples(theirs, y):
    weights = np.random.default_rng(1).integers(1, 4, len(X)) * 0.7
    options = {**ORDERED, "batch_size": 60, "alpha": 0.4, "solver": "sgd", "learning_rate_init": 0.1}
    assert_same_weights(*twins(theirs(**options), y, sample_weight=weights))


@pytest.mark.parametrize(("tol", "patience"), [(1e-2, 1), (1e-3, 4), (0.2, 10), (0.0, np.inf)])
def test_training_ends_where_the_perceptrons_does(tol, patience):
    options = {**ORDERED, "max_iter": 150, "tol": tol, "n_iter_no_change": patience, "alpha": 0.0}
    mine, theirs = twins(MLPClassifier(**options, learning_rate_init=0.02), LABELS)
    assert mine.n_iter_ == theirs.n_iter_
    assert len(mine.loss_curve_) == mine.n_iter_


@pytest.mark.parametrize(
    ("figures", "waits", "best"),
    [
        ([1, 2, 3, 4, 5, 6], [], 6),
        ([5, 4, 4, 4, 9], [4], 5),  # waited 1, 2 and 3 epochs, more than 2
        ([5, 4, 4, 6, 5, 5, 5, 9], [7], 6),
        ([1, 1.05, 1.1, 1.15, 9], [4], 1.15),  # better each time, but never by enough
    ],
)
def test_the_rule_that_ends_training(figures, waits, best):
    for sign in (1, -1):
        net = nn.Dense(1, 1)
        stopping = parts.Stopping("figure", sign, tol=0.1, patience=2, restore=True)
        reasons = []
        run = types.SimpleNamespace(model=net, stop=reasons.append)
        ends = []  # after which epochs it would have ended
        for epoch, figure in enumerate(figures, 1):
            run.logs = {"figure": sign * figure}
            if not ends:
                net.weight.data[...] = figure
                stopping.on_epoch_end(run)
                ends += [epoch] * len(reasons)
        assert ends == waits
        stopping.on_train_end(run)
        assert net.weight.data == np.float32(best)


@compiled
def test_as_good_as_the_perceptrons():
    x, y = load_digits(return_X_y=True)
    x = x / 16
    options = {"max_iter": 25, "random_state": 0, "learning_rate_init": 3e-3}
    found = [kind(**options).fit(x[:900], y[:900]).score(x[900:], y[900:]) for kind in PAIRS[0]]
    assert found[0] > 0.9
    assert abs(found[0] - found[1]) < 0.03
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x, y = StandardScaler().fit_transform(x), (y - y.mean()) / y.std()
    options = {"max_iter": 60, "random_state": 0, "alpha": 1.0}
    found = [kind(**options).fit(x[:300], y[:300]).score(x[300:], y[300:]) for kind in PAIRS[1]]
    assert found[0] > 0.3
    assert abs(found[0] - found[1]) < 0.1


# --------------------------------------------------------------------------- inside scikit-learn


@compiled
def test_a_grid_search_of_a_pipeline_in_two_processes():
    x, y = make_classification(200, 6, n_informative=4, random_state=0)
    names = np.array(["no", "yes"])[y]
    model = make_pipeline(StandardScaler(), small(max_iter=15, learning_rate_init=0.03))
    grid = {"minidlclassifier__alpha": [1e-4, 1.0], "minidlclassifier__hidden_layer_sizes": [(4,), (8, 8)]}
    search = GridSearchCV(model, grid, cv=3, n_jobs=2, error_score="raise").fit(x, names)
    here = GridSearchCV(model, grid, cv=3, error_score="raise").fit(x, names)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])
    assert search.best_score_ > 0.75
    assert set(search.predict(x)) == {"no", "yes"}


@compiled
def test_cross_validation():
    x, y = make_regression(150, 4, noise=1.0, random_state=0)
    scores = cross_val_score(small(MinidlRegressor, max_iter=60, learning_rate_init=0.03), x, y / y.std(), cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.8


@pytest.mark.parametrize("labels", [["b", "a", "c"], [-3, 10, 7], [2.0, 1.0, 0.0]])
def test_labels_of_any_kind_come_back(labels):
    y = np.array(labels)[LABELS]
    model = small(max_iter=40, learning_rate_init=0.05).fit(X, y)
    np.testing.assert_array_equal(model.classes_, np.sort(labels))
    assert model.predict(X).dtype == y.dtype
    assert model.score(X, y) > 0.8
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X))
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probabilities)


@pytest.mark.parametrize(
    "y", [np.where(LABELS > 0, "yes", "no"), LABELS > 0, np.array(["no", "yes"], object)[LABELS % 2]]
)
def test_two_classes(y):
    model = small(max_iter=60, learning_rate_init=0.05).fit(X, y)
    assert model.predict_proba(X).shape == (60, 2)
    assert model.score(X, y) > 0.85
    assert model.n_outputs_ == 2


def test_logarithms_of_probabilities_that_round_to_zero():
    model = small().fit(X, LABELS)
    model.module_[-1].bias.data[...] = [1000, 0, 0]
    assert model.predict_proba(X)[:, 1].max() == 0
    found = model.predict_log_proba(X)
    assert found[:, 1].max() < -900
    assert np.isfinite(found).all()


def test_several_labels_and_several_values():
    model = small(max_iter=60, learning_rate_init=0.05).fit(X, INDICATORS)
    assert model.predict(X).shape == (60, 3)
    assert (model.predict(X) == INDICATORS).mean() > 0.9
    np.testing.assert_array_equal(model.predict_proba(X) > 0.5, model.predict(X) == 1)
    model = small(MinidlRegressor, max_iter=150, learning_rate_init=0.05).fit(X, SEVERAL)
    assert model.predict(X).shape == (60, 3)
    assert model.score(X, SEVERAL) > 0.8


@BOTH
def test_the_net_has_the_dtype_of_the_data(kind):
    for dtype, wanted in ((np.float32, np.float32), (np.float64, np.float64), (np.int64, np.float64)):
        model = small(kind).fit((10 * X).astype(dtype), target(kind))
        assert {p.dtype for p in model.module_.parameters()} == {np.dtype(wanted)}
    if kind is MinidlRegressor:
        assert small(kind).fit(X.astype(np.float32), VALUES).predict(X).dtype == np.float32


@BOTH
def test_sparse_data_is_as_dense_data(kind):
    sparse = pytest.importorskip("scipy.sparse", reason="scikit-learn comes with it")
    x = np.where(np.abs(X) < 1, 0, X)
    here, there = small(kind).fit(x, target(kind)), small(kind).fit(sparse.csr_matrix(x), target(kind))
    assert_same(state(here), state(there))
    np.testing.assert_array_equal(here.predict(x), there.predict(sparse.csc_array(x)))


def test_indicators_may_be_sparse():
    sparse = pytest.importorskip("scipy.sparse", reason="scikit-learn comes with it")
    assert_same(state(small().fit(X, INDICATORS)), state(small().fit(X, sparse.csr_matrix(INDICATORS))))


def test_names_of_features():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    model = small().fit(frame, pandas.Series(LABELS))
    assert model.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))


# ------------------------------------------------------------------------------------ randomness


def with_dropout(n_features, n_outputs):
    return nn.Sequential(nn.Dense(n_features, 8), nn.ReLU(), nn.Dropout(0.3), nn.Dense(8, n_outputs))


@pytest.mark.parametrize("module", [None, with_dropout])
@BOTH
def test_a_random_state_is_all_that_counts(kind, module):
    options = {"module": module, "early_stopping": True, "validation_fraction": 0.2}
    minidl.manual_seed(1)
    before = default_generator().bit_generator.state
    first = small(kind, **options).fit(X, target(kind))
    assert default_generator().bit_generator.state == before
    minidl.manual_seed(2)
    second = small(kind, **options).fit(X, target(kind))
    assert_same(state(first), state(second))
    assert first.validation_scores_ == second.validation_scores_
    other = small(kind, **options, random_state=1).fit(X, target(kind))
    assert any((state(first)[name] != state(other)[name]).any() for name in state(first))


def test_states_of_numpy():
    random = np.random.RandomState(3)
    found = [state(small(random_state=random).fit(X, LABELS)) for _ in range(2)]
    assert (found[0]["0.weight"] != found[1]["0.weight"]).any()  # it goes on
    assert_same(found[0], state(small(random_state=np.random.RandomState(3)).fit(X, LABELS)))
    for seed in (4, 4):
        np.random.seed(seed)  # noqa: NPY002  (None is this one, as everywhere in scikit-learn)
        found.append(state(small(random_state=None).fit(X, LABELS)))
    assert_same(found[2], found[3])


def test_the_examples_held_back_are_drawn_by_the_random_state(monkeypatch):
    held = []
    real = base.train.fit
    monkeypatch.setattr(base.train, "fit", lambda m, t, v, **o: held.append(v[0]) or real(m, t, v, **o))
    for seed in (0, 0, 1):
        small(early_stopping=True, random_state=seed).fit(X, LABELS)
    np.testing.assert_array_equal(held[0], held[1])
    assert (held[0] != held[2]).any()


@pytest.mark.parametrize(("given", "steps"), [("auto", 2), (100, 3), (250, 1), (10_000, 1)])
def test_the_size_of_batches(given, steps):
    x = np.random.default_rng(3).normal(size=(250, 2))
    model = small(MinidlRegressor, batch_size=given, max_iter=1).fit(x, x[:, 0])
    assert {s["step"] for s in model._optimizer.state.values()} == {steps}


@pytest.mark.parametrize(("activation", "six"), [("relu", 6), ("tanh", 6), ("gelu", 6), ("logistic", 2)])
def test_initial_weights_are_within_the_perceptrons_bounds(activation, six):
    options = {"hidden_layer_sizes": (300, 200), "activation": activation, "max_iter": 1, "learning_rate_init": 1e-300}
    layers = list(small(**options).fit(X, LABELS).module_)
    assert [isinstance(layer, nn.Dense) for layer in layers] == [True, False, True, False, True]
    weights = [layer.weight.data for layer in layers[::2]]
    assert [w.shape for w in weights] == [(300, 5), (200, 300), (3, 200)]
    for w in weights:
        assert 0.98 < np.abs(w).max() / np.sqrt(six / sum(w.shape)) <= 1


def test_shuffling_can_be_left_out():
    plain = [state(small(shuffle=False, batch_size=20, max_iter=n).fit(X, LABELS)) for n in (1, 2)]
    mixed = [state(small(shuffle=True, batch_size=20, max_iter=n).fit(X, LABELS)) for n in (1, 2)]
    assert (plain[0]["0.weight"] != mixed[0]["0.weight"]).any()
    assert (plain[1]["0.weight"] != mixed[1]["0.weight"]).any()


@pytest.mark.parametrize("module", [None, with_dropout])
def test_fits_in_several_threads(module):
    models = [small(module=module, random_state=i, batch_size=10) for i in range(4)]
    alone = [state(clone(m).fit(X, LABELS)) for m in models]
    before = default_generator().bit_generator.state
    threads = [threading.Thread(target=m.fit, args=(X, LABELS)) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, wanted in zip(models, alone, strict=True):
        assert_same(state(model), wanted)
    assert default_generator().bit_generator.state == before


def test_an_error_in_a_fit_gives_minidls_generator_back():
    before = default_generator().bit_generator.state

    def module(n_features, n_outputs):
        default_generator().random(3)
        raise RuntimeError("no net")

    with pytest.raises(RuntimeError, match="no net"):
        small(module=module).fit(X, LABELS)
    assert default_generator().bit_generator.state == before


# ------------------------------------------------------------------------------- going on, stopping


@pytest.mark.parametrize("module", [None, with_dropout])
@BOTH
def test_partial_fit_is_an_epoch_of_fit(kind, module):
    y, classes = target(kind), {} if kind is MinidlRegressor else {"classes": [0, 1, 2]}
    model = small(kind, batch_size=20, max_iter=4, module=module).fit(X, y)
    steps = small(kind, batch_size=20, module=module)
    for _ in range(4):
        steps.partial_fit(X, y, **classes)
    assert_same(state(model), state(steps))
    assert steps.loss_curve_ == model.loss_curve_
    assert (steps.n_iter_, model.n_iter_) == (1, 4)
    assert model.partial_fit(X, y).n_iter_ == 1  # a fit can be gone on with


@BOTH
def test_a_pickled_model_goes_on_to_the_same_bits(kind):
    model = small(kind).fit(X, target(kind))
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    assert_same(state(copy.partial_fit(X, target(kind))), state(model.partial_fit(X, target(kind))))
    assert (state(model)["0.weight"] != state(clone(model).fit(X, target(kind)))["0.weight"]).any()


def test_classes_of_partial_fits():
    some = LABELS != 2
    model = small().partial_fit(X[some], LABELS[some], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (60, 3)
    model.partial_fit(X, LABELS)
    with pytest.raises(ValueError, match=r"expected y to have the classes \[0 1 2\] only, found \[5\]"):
        model.partial_fit(X, np.where(LABELS == 0, 5, LABELS))
    with pytest.raises(ValueError, match="expected classes as before"):
        model.partial_fit(X, LABELS, classes=[0, 1])
    with pytest.raises(ValueError, match="of the same kind and width as before"):
        model.partial_fit(X, INDICATORS)
    labels = small().partial_fit(X, INDICATORS)
    with pytest.raises(ValueError, match="of the same kind and width as before"):
        labels.partial_fit(X, INDICATORS[:, :2])


@BOTH
def test_warm_start(kind):
    y = target(kind)
    model = small(kind, warm_start=True).fit(X, y)
    before, net = state(model), model.module_
    model.fit(X, y)
    assert model.module_ is net
    assert (len(model.loss_curve_), model.n_iter_) == (6, 3)
    assert model.loss_curve_[3] < model.loss_curve_[0]
    cold = model.set_params(warm_start=False).fit(X, y)
    assert_same(state(cold), before)
    assert len(cold.loss_curve_) == 3


def test_early_stopping_goes_back_to_the_best_epoch(monkeypatch):
    held = []

    def spy(module, loader, validation, **options):
        held.append(validation)
        return real(module, loader, validation, **options)

    real = base.train.fit
    monkeypatch.setattr(base.train, "fit", spy)
    options = {"max_iter": 40, "learning_rate_init": 0.2, "early_stopping": True, "validation_fraction": 0.25}
    for kind in (MinidlClassifier, MinidlRegressor):
        model = small(kind, **options, n_iter_no_change=5).fit(X, target(kind))
        x, y = held.pop()
        assert len(x) == 15
        found = model.predict(x)
        score = accuracy_score(y, found) if kind is MinidlClassifier else r2_score(y, found)
        assert score == pytest.approx(model.best_validation_score_)
        assert model.best_validation_score_ == max(model.validation_scores_) > model.validation_scores_[-1]
        assert len(model.validation_scores_) == model.n_iter_ < 40


def test_early_stopping_keeps_the_shares_of_the_classes(monkeypatch):
    held = []
    real = base.train.fit
    monkeypatch.setattr(base.train, "fit", lambda m, t, v, **o: held.append(v) or real(m, t, v, **o))
    y = np.repeat([0, 1], [48, 12])
    small(early_stopping=True, validation_fraction=0.25).fit(X, y)
    assert np.bincount(held[0][1]).tolist() == [12, 3]


@BOTH
def test_early_stopping_weighs_its_examples(kind, monkeypatch):
    held = []
    real = base.train.fit
    monkeypatch.setattr(base.train, "fit", lambda m, t, v, **o: held.append(v) or real(m, t, v, **o))
    random = np.random.default_rng(2)  # nothing to be learnt
    y = random.integers(0, 2, 60) if kind is MinidlClassifier else random.normal(size=60)
    weights = np.geomspace(0.01, 10, 60)
    model = small(kind, early_stopping=True, validation_fraction=0.4).fit(X, y, sample_weight=weights)
    x, packed = held[0]
    found, true, w = model.predict(x), packed[:, 0], packed[:, 1]
    assert set(w) <= set(weights)
    score = accuracy_score if kind is MinidlClassifier else r2_score
    assert model.best_validation_score_ == pytest.approx(score(true, found, sample_weight=w))
    assert model.best_validation_score_ != pytest.approx(score(true, found), rel=1e-3)


def test_a_training_without_end_warns_where_fit_was_called():
    with pytest.warns(ConvergenceWarning, match="max_iter=3") as found:
        small().fit(X, LABELS)
    assert found[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small().partial_fit(X, LABELS, classes=[0, 1, 2])
        small(max_iter=500, tol=10.0, n_iter_no_change=2).fit(X, LABELS)


def test_weights_of_zero_leave_examples_out():
    keep = np.arange(60) % 3 > 0
    weighted = small(batch_size=8).fit(X, LABELS, sample_weight=keep.astype(float))
    without = small(batch_size=8).fit(X[keep], LABELS[keep], sample_weight=np.ones(keep.sum()))
    assert_same(state(weighted), state(without))


# ------------------------------------------------------------------------- other nets, compilation


class Image(nn.Module):
    """A convolution over rows of 64 numbers, as images of 8×8."""

    def __init__(self, n_outputs):
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.output = nn.Dense(36, n_outputs)

    def forward(self, x):
        return self.output(self.features(ops.reshape(x, (len(x), 1, 8, 8))))


@compiled
def test_a_net_of_ones_own():
    x, y = load_digits(return_X_y=True)
    model = MinidlClassifier(
        module=lambda n_features, n_outputs: Image(n_outputs), max_iter=12, learning_rate_init=0.01, batch_size=50,
        random_state=0,
    )  # fmt: skip
    model.fit(x[:600] / 16, y[:600])
    assert model.module_.output.weight.dtype == np.float32
    assert not model.module_.training
    assert model.score(x[600:] / 16, y[600:]) > 0.85


@compiled
@pytest.mark.parametrize(
    ("kind", "weights"), [(MinidlClassifier, np.linspace(0.5, 2, 60)), (MinidlRegressor, None)], ids=["weights", "none"]
)
def test_compiled_training_is_the_same(kind, weights):
    found = [
        state(small(kind, batch_size=20, compile=compile).fit(X, target(kind), sample_weight=weights))
        for compile in (False, True)
    ]
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-9, atol=1e-12)


def test_the_decay_of_adamw_is_alpha_itself():
    for solver, wanted in (("adamw", 0.3), ("adam", 0.3 / 20), ("sgd", 0.3 / 20)):
        model = small(solver=solver, alpha=0.3, batch_size=20, learning_rate_init=0.01).fit(X, LABELS)
        assert [g["weight_decay"] for g in model._optimizer.param_groups] == [pytest.approx(wanted), 0.0]
        assert [p.ndim for g in model._optimizer.param_groups for p in g["params"]] == [2, 2, 1, 1]
        assert type(model._optimizer).__name__.lower() == solver


# -------------------------------------------------------------------------------------- bad input

BAD = [
    ({"activation": "rellu"}, ValueError, "MinidlClassifier: expected activation .*did you mean 'relu'"),
    ({"solver": "lbfgs"}, ValueError, "MinidlClassifier: expected solver as one of .*found 'lbfgs'"),
    ({"hidden_layer_sizes": (8, 0)}, ValueError, "hidden_layer_sizes as ints of at least 1"),
    ({"hidden_layer_sizes": 0}, ValueError, "hidden_layer_sizes as ints of at least 1"),
    ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes as an int or a list of them, found 2.5"),
    ({"hidden_layer_sizes": ("8",)}, TypeError, "hidden_layer_sizes as an int or a list"),
    ({"alpha": -1e-9}, ValueError, "alpha as a number of at least 0"),
    ({"alpha": np.nan}, ValueError, "alpha"),
    ({"alpha": "1"}, TypeError, "alpha"),
    ({"batch_size": 0}, ValueError, "batch_size as an int of at least 1"),
    ({"batch_size": "all"}, TypeError, "batch_size as an int of at least 1 or \"auto\", found 'all'"),
    ({"learning_rate_init": 0.0}, ValueError, "learning_rate_init as a number above 0"),
    ({"learning_rate_init": np.inf}, ValueError, "learning_rate_init"),
    ({"max_iter": 0}, ValueError, "max_iter as an int of at least 1"),
    ({"max_iter": 2.0}, TypeError, "max_iter"),
    ({"max_iter": True}, TypeError, "max_iter"),
    ({"tol": -1.0}, ValueError, "tol"),
    ({"n_iter_no_change": 0}, ValueError, "n_iter_no_change"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction as a number between 0 and 1"),
    ({"momentum": 1.5}, ValueError, "momentum as a number from 0 to 1"),
    ({"beta_1": 1.0}, ValueError, "beta_1"),
    ({"beta_2": -0.1}, ValueError, "beta_2"),
    ({"epsilon": 0.0}, ValueError, "epsilon"),
    ({"module": 3}, TypeError, "module as None or a function"),
    ({"module": lambda i, o: i}, TypeError, "expected module to return an nn.Module with parameters, found 5"),
    ({"module": lambda i, o: nn.ReLU()}, TypeError, "with parameters, found ReLU"),
    ({"module": lambda i, o: nn.Dense(i, o + 1)}, ValueError, r"makes \(2, 3\) of inputs \(2, 5\), found \(2, 4\)"),
    (
        {"early_stopping": True, "validation_fraction": 0.01},
        ValueError,
        "at least 2 examples to validate with, found 1",
    ),
]


@pytest.mark.parametrize(("options", "error", "match"), BAD)
def test_bad_parameters(options, error, match):
    model = small(**options)
    with pytest.raises(error, match=match):
        model.fit(X, LABELS)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("x", "y", "weights", "match"),
    [
        (X[:, 0], LABELS, None, "Expected 2D array"),
        (np.where(X > 1, np.nan, X), LABELS, None, "contains NaN"),
        (X[:0], LABELS[:0], None, "0 sample"),
        (X, LABELS[:-1], None, "inconsistent numbers of samples"),
        (X, VALUES, None, "continuous"),
        (X, np.stack([LABELS, LABELS], axis=1), None, "expected one class for each example, .* multiclass-multioutput"),
        (X, LABELS, np.ones(59), r"expected sample_weight of shape \(60,\), found \(59,\)"),
        (X, LABELS, -np.ones(60), "sample_weight of at least 0, .* found -1.0 to -1.0"),
        (X, LABELS, np.zeros(60), "not all zero"),
        (X, LABELS, np.full(60, np.nan), "sample_weight contains NaN"),
    ],
)
def test_bad_data(x, y, weights, match):
    with pytest.raises(ValueError, match=match):
        small().fit(x, y, sample_weight=weights)


def test_what_was_fitted_cannot_be_asked_other_things():
    model = small(MinidlRegressor, warm_start=True).fit(X, SEVERAL)
    with pytest.raises(ValueError, match="5 features"):
        model.predict(X[:, :4])
    with pytest.raises(ValueError, match="expected 3 outputs as before, found 1"):
        model.fit(X, VALUES)
    with pytest.raises(ValueError, match="partial_fit: expected early_stopping=False"):
        model.set_params(early_stopping=True).partial_fit(X, SEVERAL)
    with pytest.raises(ValueError, match="expected classes at the first call"):
        small().partial_fit(X, LABELS)
    with pytest.raises(NotFittedError):
        small().predict_proba(X)


def test_a_column_of_targets_is_told_of():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        model = small(MinidlRegressor).fit(X, VALUES[:, None])
    assert model.predict(X).shape == (60,)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number():
    with pytest.raises(DivergenceError, match="the loss became"):
        small(MinidlRegressor, solver="sgd", learning_rate_init=1e6, max_iter=50).fit(X, VALUES)


@pytest.mark.parametrize(
    ("installed", "match"),
    [
        (None, r"minidl.sklearn: takes scikit-learn: pip install .minidl\[sklearn\]"),
        (types.SimpleNamespace(__version__="1.5.2"), "expected scikit-learn 1.6 or later, found 1.5.2"),
    ],
)
def test_without_scikit_learn(monkeypatch, installed, match):
    for name in [name for name in sys.modules if name.startswith("minidl.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", installed)
    with pytest.raises(ImportError, match=match):
        importlib.import_module("minidl.sklearn")


def test_the_rival_of_the_benchmark_takes_its_arguments(monkeypatch):
    """`benchmarks/train.py` leaves a rival out that fails, so its row would be missed by nobody."""
    path = Path(__file__).parents[1] / "benchmarks" / "train.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_training", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"N": 64, "BATCH": 16, "SLICE": 2}.items():
        monkeypatch.setattr(module, name, value)
    for task in module.sklearn():
        task()
