"""Metrics against scikit-learn's, on random data with ties and missing classes; short names against the long ones."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import minidl
from minidl import metrics, ops

# Where scikit-learn warns, ours say so in the docstring or raise.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn", "ignore::RuntimeWarning:numpy")
REASON = "scikit-learn, the oracle, is not installed"
close = {"rtol": 1e-12, "atol": 1e-12}
seeds = st.integers(0, 2**32 - 1)
sizes = st.one_of(st.integers(1, 6), st.integers(1, 200))
averages = st.sampled_from(["macro", "micro", "weighted", None])


@pytest.fixture(scope="module")
def sk():
    return pytest.importorskip("sklearn.metrics", reason=REASON)


def labels(rng, n, classes, far=False):
    """Two arrays of labels, of which some classes may be missing; "far": negative and with gaps."""
    present = rng.integers(0, classes, max(1, rng.integers(1, classes + 1)))
    names = np.sort(rng.choice(np.arange(-20, 20), classes, replace=False)) if far else np.arange(classes)
    return names[rng.choice(present, n)], names[rng.integers(0, classes, n)]


def probabilities(rng, n, classes, decimals):
    """(n, classes) that sum to 1, with ties where decimals are few."""
    parts = np.round(rng.random((n, classes)), decimals) + 10.0**-decimals
    return parts / parts.sum(axis=1, keepdims=True)


# ----------------------------------------------------------------------------------- classes


@settings(max_examples=80, deadline=None)
@given(seeds, sizes, st.integers(1, 7), st.booleans(), averages, st.sampled_from([0.0, 1.0, math.nan]))
def test_predicted_classes(sk, seed, n, classes, far, average, zero):
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes, far)
    assert metrics.accuracy_score(y, p) == sk.accuracy_score(y, p)
    assert metrics.accuracy_score(y, p, normalize=False) == sk.accuracy_score(y, p, normalize=False)
    np.testing.assert_array_equal(metrics.confusion_matrix(y, p), sk.confusion_matrix(y, p))
    options = {"average": average, "zero_division": zero}
    for name in ("precision_score", "recall_score", "f1_score"):
        np.testing.assert_allclose(getattr(metrics, name)(y, p, **options), getattr(sk, name)(y, p, **options), **close)
    ours, theirs = (m.precision_recall_fscore_support(y, p, **options) for m in (metrics, sk))
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, **close)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(2, 5), averages, st.sampled_from([None, "true", "pred", "all"]))
def test_chosen_labels(sk, seed, n, classes, average, normalize):
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes)
    some = rng.permutation(classes + 1)[: rng.integers(1, classes + 2)]  # one of them never occurs
    if np.isin(some, y).any():
        options = {"labels": some, "normalize": normalize}
        np.testing.assert_allclose(metrics.confusion_matrix(y, p, **options), sk.confusion_matrix(y, p, **options))
    for zero in (0.0, math.nan):
        options = {"labels": some, "average": average, "zero_division": zero}
        ours, theirs = metrics.f1_score(y, p, **options), sk.f1_score(y, p, **options)
        np.testing.assert_allclose(ours, theirs, **close)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.sampled_from([0, 1, 5]), st.sampled_from([0.0, 1.0]))
def test_two_classes(sk, seed, n, other, zero):
    y, p = np.random.default_rng(seed).integers(0, 2, (2, n))
    y, p = np.where(y, 1, other), np.where(p, 1, other)
    for name in ("precision_score", "recall_score", "f1_score"):
        for label in (1, other):
            options = {"pos_label": label, "zero_division": zero}
            if label in (*y, *p):
                assert getattr(metrics, name)(y, p, **options) == pytest.approx(getattr(sk, name)(y, p, **options))


# ------------------------------------------------------------------------------------ scores


@settings(max_examples=80, deadline=None)
@given(seeds, sizes, st.integers(3, 6), st.integers(1, 7), st.integers(0, 3))
def test_top_k(sk, seed, n, classes, k, decimals):
    rng = np.random.default_rng(seed)
    y, scores = labels(rng, n, classes)[0], np.round(rng.normal(size=(n, classes)), decimals)
    options = {"k": k, "labels": np.arange(classes)}
    for normalize in (True, False):
        theirs = sk.top_k_accuracy_score(y, scores, normalize=normalize, **options)
        assert metrics.top_k_accuracy_score(y, scores, normalize=normalize, **options) == theirs
    assert metrics.top_k_accuracy_score(y, scores, k=k) == sk.top_k_accuracy_score(y, scores, **options)
    assert metrics.by_name(f"top{k}")(scores, y) == sk.top_k_accuracy_score(y, scores, **options)


@settings(max_examples=80, deadline=None)
@given(seeds, sizes, st.integers(1, 2), st.integers(0, 3), st.booleans())
def test_scores_of_two_classes(sk, seed, n, k, decimals, inside):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    scores = np.round(rng.random(n) if inside else rng.normal(size=n), decimals)
    assert metrics.top_k_accuracy_score(y, scores, k=k) == sk.top_k_accuracy_score(y, scores, k=k, labels=[0, 1])
    if y.any():
        ours, theirs = metrics.average_precision_score(y, scores), sk.average_precision_score(y, scores)
        assert ours == pytest.approx(theirs, rel=1e-12)
    if 0 < y.sum() < n:
        theirs = sk.roc_auc_score(y, scores)
        assert metrics.roc_auc_score(y, scores) == pytest.approx(theirs, rel=1e-12)
        assert metrics.roc_auc_score(y, scores.astype(np.float32)[:, None]) == pytest.approx(
            sk.roc_auc_score(y, scores.astype(np.float32)), rel=1e-12
        )
        assert metrics.roc_auc_score(3 * y - 1, scores, labels=[-1, 2]) == pytest.approx(theirs, rel=1e-12)
        ours = metrics.average_precision_score(y, -scores, pos_label=0)
        assert ours == pytest.approx(sk.average_precision_score(y, -scores, pos_label=0), rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(seeds, sizes, st.integers(3, 6), st.integers(1, 8), st.sampled_from(["ovr", "ovo"]), averages)
def test_auc_of_many_classes(sk, seed, n, classes, decimals, multi_class, average):
    assume(multi_class == "ovr" or average in ("macro", "weighted"))
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes)[0], probabilities(rng, n, classes, decimals)
    options = {"multi_class": multi_class, "average": average, "labels": np.arange(classes)}
    try:
        theirs = sk.roc_auc_score(y, p, **options)
    except ZeroDivisionError:  # "ovo" of one class
        theirs = math.nan
    if average is not None and math.isnan(theirs):
        with pytest.raises(ValueError, match="roc_auc_score: expected examples of every class"):
            metrics.roc_auc_score(y, p, **options)
    else:
        np.testing.assert_allclose(metrics.roc_auc_score(y, p, **options), theirs, **close)
        options["labels"] = None
        np.testing.assert_allclose(metrics.roc_auc_score(y, p, **options), theirs, **close)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(3, 200), st.integers(3, 6), st.integers(1, 3), averages)
def test_average_precision_of_many_classes(sk, seed, n, classes, decimals, average):
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes)[0], probabilities(rng, n, classes, decimals)
    y[: min(n, classes)] = np.arange(classes)[:n]
    assume(n >= classes)
    ours = metrics.average_precision_score(y, p, average=average)
    np.testing.assert_allclose(ours, sk.average_precision_score(y, p, average=average), **close)


# ----------------------------------------------------------------------------- probabilities


@settings(max_examples=50, deadline=None)
@given(seeds, sizes, st.integers(2, 6), st.integers(0, 8), st.sampled_from([np.float32, np.float64]))
def test_probabilities(sk, seed, n, classes, decimals, dtype):
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes)[0], probabilities(rng, n, classes, decimals).astype(dtype)
    p[:: 1 + n // 3] = np.eye(classes, dtype=dtype)[rng.integers(0, classes)]  # some quite certain
    known = {"labels": np.arange(classes)}
    tolerance = {"rel": 1e-5 if dtype == np.float32 else 1e-12, "abs": 1e-6 if dtype == np.float32 else 1e-12}
    for normalize in (True, False):
        theirs = sk.log_loss(y, p, normalize=normalize, **known)
        assert metrics.log_loss(y, p, normalize=normalize, **known) == pytest.approx(theirs, **tolerance)
    assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, p, **known), **tolerance)
    for half in (True, False, "auto"):
        theirs = sk.brier_score_loss(y, p, scale_by_half=half, **known)
        assert metrics.brier_score_loss(y, p, scale_by_half=half) == pytest.approx(theirs, **tolerance)
    if classes == 2 and len(np.unique(y)) == 2:
        for one in (p[:, 1], p[:, 1:]):
            assert metrics.log_loss(y, one) == pytest.approx(sk.log_loss(y, one), **tolerance)
            assert metrics.brier_score_loss(y, one) == pytest.approx(sk.brier_score_loss(y, one), **tolerance)
        theirs = sk.brier_score_loss(2 * y - 1, p[:, 1], pos_label=-1)
        assert metrics.brier_score_loss(2 * y - 1, p[:, 1], pos_label=-1) == pytest.approx(theirs, **tolerance)


def calibration_by_hand(y, p, bins):
    """The formula of Guo et al., one bin after another."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [i for i in range(len(y)) if (m - 1) / bins < p[i].max() <= m / bins]
        if inside:
            accuracy = sum(p[i].argmax() == y[i] for i in inside) / len(inside)
            confidence = sum(p[i].max() for i in inside) / len(inside)
            total += len(inside) / len(y) * abs(accuracy - confidence)
    return total


@settings(max_examples=80, deadline=None)
@given(seeds, sizes, st.integers(2, 5), st.integers(1, 4), st.integers(1, 20))
def test_calibration_error(sk, seed, n, classes, decimals, bins):
    calibration_curve = pytest.importorskip("sklearn.calibration", reason=REASON).calibration_curve
    rng = np.random.default_rng(seed)
    y, p = labels(rng, n, classes)[0], probabilities(rng, n, classes, decimals)
    found = metrics.calibration_error(y, p, n_bins=bins)
    assert found == pytest.approx(calibration_by_hand(y, p, bins), abs=1e-12)
    right, confidence = p.argmax(axis=1) == y, p.max(axis=1)
    clear = abs(confidence * bins - np.round(confidence * bins)).min() > 1e-9  # its edges are rounded otherwise
    if 0 < right.sum() < n and clear:  # scikit-learn has the curve: of how much is said, how much is so
        shares, means = calibration_curve(right, confidence, n_bins=bins)
        counts = np.bincount(np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence), minlength=bins)
        gaps = abs(shares - means) @ counts[counts > 0]
        assert found == pytest.approx(gaps / n, abs=1e-12)
    if classes == 2:
        both = np.stack([1 - p[:, 1], p[:, 1]], axis=1)  # which is not p to the last bit
        expected = calibration_by_hand(y, both, bins)
        assert metrics.calibration_error(y, p[:, 1], n_bins=bins) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_on_the_edges_of_bins():
    p = np.array([[0.5, 0.5], [0.75, 0.25], [0.0, 1.0], [1.0, 0.0]])
    # of two bins of (½, 1]: confidences ½ (bin 1: right), ¾ (wrong), 1 (right), 1 (right)
    assert metrics.calibration_error([0, 1, 1, 0], p, n_bins=2) == pytest.approx((abs(1 - 0.5) + abs(2 - 2.75)) / 4)
    assert metrics.calibration_error([0, 1, 1, 0], p, n_bins=1) == pytest.approx(abs(3 - 3.25) / 4)
    assert metrics.calibration_error([1], [[0.0, 1.0]]) == 0


# -------------------------------------------------------------------------------- regression

REGRESSION = ["mean_squared_error", "root_mean_squared_error", "mean_absolute_error", "median_absolute_error"]


@settings(max_examples=50, deadline=None)
@given(seeds, sizes, st.integers(1, 3), st.sampled_from([0, 2, 12]), st.sampled_from([np.float32, np.float64]))
def test_regression(sk, seed, n, outputs, decimals, dtype):
    rng = np.random.default_rng(seed)
    y, p = np.round(rng.normal(size=(2, n, outputs)), decimals).astype(dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    for name in [*REGRESSION, "r2_score", "explained_variance_score"]:
        ways = ["uniform_average", "raw_values"] + ["variance_weighted"] * (name not in REGRESSION)
        for way in ways if n > 1 or name != "r2_score" else ways[:1]:
            ours, theirs = (getattr(m, name)(y, p, multioutput=way) for m in (metrics, sk))
            np.testing.assert_allclose(ours, theirs, err_msg=f"{name} {way}", **tolerance)
            assert np.shape(ours) == np.shape(theirs)
        one = getattr(metrics, name)(y[:, 0], p[:, :1])  # (N,) and (N, 1) are the same
        np.testing.assert_allclose(one, getattr(sk, name)(y[:, 0], p[:, 0]), **tolerance)
    np.testing.assert_allclose(metrics.max_error(y[:, 0], p[:, 0]), sk.max_error(y[:, 0], p[:, 0]), **tolerance)


@pytest.mark.parametrize("p", [[2.0, 2, 2], [2.0, 2, 3], [3.0, 3, 3]], ids=str)
def test_a_constant_truth(sk, p):
    y = [2.0, 2, 2]
    assert metrics.r2_score(y, p) == sk.r2_score(y, p)
    assert metrics.explained_variance_score(y, p) == sk.explained_variance_score(y, p)


def test_sums_of_float32_keep_their_digits():
    y = np.full(2**20, 0.1, np.float32)
    assert metrics.mean_squared_error(y, np.zeros_like(y)) == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-12)


# -------------------------------------------------------------------------------- short names


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(2, 6), st.integers(0, 6), st.sampled_from([np.float32, np.float64]))
def test_short_names_of_a_classifier(sk, seed, n, classes, decimals, dtype):
    rng = np.random.default_rng(seed)
    z = np.round(3 * rng.normal(size=(n, classes)), decimals).astype(dtype)
    y = labels(rng, n, classes)[0]
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    p, guess = e / e.sum(axis=1, keepdims=True), z.argmax(axis=1)
    average = "binary" if classes == 2 else "macro"
    expected = {
        "accuracy": sk.accuracy_score(y, guess),
        "precision": sk.precision_score(y, guess, average=average, zero_division=0),
        "recall": sk.recall_score(y, guess, average=average, zero_division=0),
        "f1": sk.f1_score(y, guess, average=average, zero_division=0),
        "f1_macro": sk.f1_score(y, guess, average="macro", zero_division=0),
        "recall_weighted": sk.recall_score(y, guess, average="weighted", zero_division=0),
        "precision_micro": sk.precision_score(y, guess, average="micro"),
        "top3": 1.0 if classes == 2 else sk.top_k_accuracy_score(y, z, k=3, labels=range(classes)),
        "log_loss": -np.log(p[range(n), y]).mean(),
        "brier": sk.brier_score_loss(y, p, labels=range(classes)),
        "ece": calibration_by_hand(y, p, 15),
    }
    if len(np.unique(y)) == classes:
        gap = z[:, 1].astype(np.float64) - z[:, 0]
        ranked = gap if classes == 2 else p
        expected["auc"] = sk.roc_auc_score(y, ranked, multi_class="ovr")
        expected["average_precision"] = sk.average_precision_score(y, ranked)
    for name, value in expected.items():
        found = metrics.by_name(name)(z, y)
        assert type(found) is float
        assert found == pytest.approx(value, rel=1e-9, abs=1e-9), name
    if classes == 2:  # one logit is the difference of two
        logit = z[:, 1].astype(np.float64) - z[:, 0]
        for name in expected:
            for outputs, targets in ((logit, y), (logit[:, None], y[:, None].astype(np.float32))):
                assert metrics.by_name(name)(outputs, targets) == pytest.approx(metrics.by_name(name)(z, y), abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 100), st.sampled_from([(), (1,), (3,), (2, 3, 4)]))
@example(0, 2, ())
def test_short_names_of_a_regression(sk, seed, n, shape):
    x, y = np.random.default_rng(seed).normal(size=(2, n, *shape))
    flat = {"y_true": y.reshape(n, -1), "y_pred": x.reshape(n, -1)}
    expected = {
        "mse": np.square(x - y).mean(),
        "rmse": sk.root_mean_squared_error(**flat),
        "mae": abs(x - y).mean(),
        "median_absolute_error": sk.median_absolute_error(**flat),
        "max_error": abs(x - y).max(),
        "r2": sk.r2_score(**flat),
        "explained_variance": sk.explained_variance_score(**flat),
    }
    for name, value in expected.items():
        assert metrics.by_name(name)(x, y) == pytest.approx(value, rel=1e-9)
    assert metrics.by_name("mse")(x.reshape(n, *shape or (1,)), y) == pytest.approx(expected["mse"])


def test_short_names_agree_with_the_losses():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(40, 7)) * 1e4, rng.integers(0, 7, 40)
    assert metrics.by_name("log_loss")(z, y) == pytest.approx(ops.softmax_cross_entropy(z, y).item(), rel=1e-12)
    z, y = rng.normal(size=40) * 1e4, rng.integers(0, 2, 40)
    loss = ops.binary_cross_entropy_with_logits(z, y.astype(float)).item()
    assert metrics.by_name("log_loss")(z, y) == pytest.approx(loss, rel=1e-12)


def test_every_short_name_takes_tensors_of_a_model_and_returns_a_float():
    rng = np.random.default_rng(0)
    y = np.arange(20) % 4
    for name, metric in metrics.METRICS.items():
        assert metric.__name__ == name
        assert metrics.by_name(name) is metric
        of_values = name in ("mse", "rmse", "mae", "median_absolute_error", "max_error", "r2", "explained_variance")
        outputs = rng.normal(size=20 if of_values else (20, 4)).astype(np.float32)
        found = metric(minidl.Tensor(outputs, requires_grad=True), minidl.Tensor(y))
        assert type(found) is float
        assert found == metric(outputs, y)
        assert math.isfinite(found)


def test_nan_in_nan_out_and_infinite_logits():
    y = np.array([0, 1, 2, 1])
    z = np.eye(3)[[0, 1, 2, 0]]
    bad = z.copy()
    bad[1, 1] = np.nan
    for name in ("accuracy", "top3", "f1", "auc", "average_precision", "log_loss", "brier", "ece"):
        assert math.isnan(metrics.by_name(name)(bad, y)), name
    for name in ("mse", "rmse", "mae", "r2", "max_error"):
        for value in (np.nan, np.inf):
            assert math.isnan(metrics.by_name(name)(np.array([1.0, value]), np.array([1.0, 2.0]))), name
    certain = np.where(z > 0, np.inf, -np.inf)
    assert metrics.by_name("accuracy")(certain, y) == 0.75
    assert metrics.by_name("brier")(certain, y) == 0.5
    assert metrics.by_name("auc")(np.array([-np.inf, np.inf, 0.0]), np.array([0, 1, 1])) == 1


@pytest.mark.parametrize(
    ("name", "near"),
    [("acuracy", "accuracy"), ("F1", "f1"), ("logloss", "log_loss"), ("msee", "mse"), ("top", "top[35]"), ("roc", "")],
)
def test_unknown_names(name, near):
    with pytest.raises(ValueError, match=f"by_name: expected a metric of .*found '{name}'.*{near}"):
        metrics.by_name(name)


@pytest.mark.parametrize("name", ["top0", "top-1", "top1.5", "", None, 3], ids=str)
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="by_name: expected a metric of"):
        metrics.by_name(name)


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "error"),
    [
        ("accuracy", np.zeros((4, 3)), [0, 1, 2, 3], "accuracy: expected labels from 0 to 2, .* found 3"),
        ("accuracy", np.zeros((4, 3)), [0, 1, -1, 2], "accuracy: expected labels from 0 to 2, .* found -1"),
        ("accuracy", np.zeros((4, 3)), [0, 1, 2], "accuracy: expected as many elements in each"),
        ("accuracy", np.zeros((4, 3)), np.eye(3)[[0, 1, 2, 0]], r"accuracy: expected targets \(N,\), found shape"),
        ("accuracy", np.zeros((4, 3, 2)), [0, 1, 2, 0], r"accuracy: expected outputs \(N, C\) or \(N,\)"),
        ("accuracy", np.zeros((0, 3)), [], "accuracy: expected outputs with at least one element"),
        ("accuracy", np.zeros(3), [0, 1, 2], "accuracy: expected labels from 0 to 1, .* found 2"),
        ("f1", np.zeros(3), [0, 0.5, 1], "f1: expected targets to be labels, whole numbers, found 0.5"),
        ("auc", np.zeros((4, 3)), [0, 1, 1, 0], "auc: expected targets of every class from 0 to 2, found .0, 1."),
        ("auc", np.zeros(4), [0, 0, 0, 0], "auc: expected targets of every class from 0 to 1, found .0. only"),
        ("average_precision", np.zeros(4), [0, 0, 0, 0], "average_precision: expected targets of every class"),
        ("mse", np.zeros(3), np.zeros((3, 2)), "mse: expected outputs and targets of one shape"),
        ("mse", np.zeros(3), [1, 2, np.nan], "mse: .*expected y_true to be finite, found nan"),
        ("mse", np.zeros(()), np.zeros(()), "mse: expected outputs and targets of one shape"),
        ("r2", np.zeros((0, 2)), np.zeros((0, 2)), "r2: expected outputs with at least one element"),
    ],
)
def test_short_names_and_bad_input(name, outputs, targets, error):
    with pytest.raises(ValueError, match=error):
        metrics.by_name(name)(outputs, targets)


# ---------------------------------------------------------------------------------- bad input

Y, P = [0, 1, 2, 1], np.full((4, 3), 1 / 3)
HALF = [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error"),
    [
        ("accuracy_score", ([], []), {}, "expected y_true with at least one element"),
        ("accuracy_score", (Y, Y[:3]), {}, r"expected as many elements in each, found y_true \(4,\) and y_pred \(3,\)"),
        ("accuracy_score", (Y, [Y]), {}, r"expected y_pred \(N,\), found shape \(1, 4\)"),
        ("accuracy_score", (2, 2), {}, r"expected y_true \(N,\), found shape \(\)"),
        ("accuracy_score", (Y, [0, 1, 2, 1.5]), {}, "expected y_pred to be labels, whole numbers, found 1.5"),
        ("accuracy_score", (Y, [0, 1, 2, math.nan]), {}, "expected y_pred to be labels, whole numbers, found nan"),
        ("accuracy_score", (Y, np.array([0, 1, 2, 2**64 - 1], np.uint64)), {}, "expected y_pred to be labels"),
        ("accuracy_score", (Y, [0, 1, 2, math.inf]), {}, "expected y_pred to be labels, whole numbers, found inf"),
        ("confusion_matrix", (Y, Y), {"labels": [3]}, r"expected labels of which at least one is in y_true, found \[3"),
        ("confusion_matrix", (Y, Y), {"labels": [0, 0]}, r"expected each label once, found \[0, 0\]"),
        ("confusion_matrix", (Y, Y), {"normalize": "rows"}, "expected normalize as one of .*, found 'rows'"),
        ("precision_score", (Y, Y), {}, r"expected two labels, pos_label=1 among them, .* found \[0, 1, 2\]"),
        ("recall_score", ([0, 2], [0, 2]), {}, r"expected two labels, pos_label=1 among them, .* found \[0, 2\]"),
        ("f1_score", (Y, Y), {"average": "mean"}, "expected average as one of .*, found 'mean'"),
        ("f1_score", (Y, Y), {"average": "macro", "zero_division": 2}, "expected zero_division as 0, 1 or NaN"),
        ("top_k_accuracy_score", (Y, P), {"k": 0}, "expected k as an int of at least 1, found 0"),
        ("top_k_accuracy_score", (Y, P), {"k": 1.0}, "expected k as an int of at least 1, found 1.0"),
        ("top_k_accuracy_score", ([0, 1, 3, 1], P), {}, "expected labels from 0 to 2, .* found 3"),
        ("top_k_accuracy_score", (Y, P), {"labels": [0, 2, 1]}, "expected 3 labels, .*, ascending"),
        ("top_k_accuracy_score", (Y, P), {"labels": [0, 1]}, "expected 3 labels, one for each column"),
        ("top_k_accuracy_score", (Y, P), {"labels": [0, 1, 3]}, r"expected labels among \[0, 1, 3\], found 2"),
        ("top_k_accuracy_score", (Y, P * math.nan), {}, "expected y_score to be finite, found nan"),
        ("top_k_accuracy_score", (Y, P[None]), {}, r"expected y_score \(N,\) or \(N, C\)"),
        ("roc_auc_score", ([1, 1], [0.1, 0.2]), {}, r"expected examples of every class and of others, found .* \[1\]"),
        ("roc_auc_score", ([3, 3], [0.1, 0.2]), {}, r"expected y_true of two labels for scores \(N,\), found \[3\]"),
        ("roc_auc_score", (Y, HALF), {}, r"expected y_true of two labels for scores \(N,\), found \[0, 1, 2\]"),
        ("roc_auc_score", ([0, 1], [0.1, math.inf]), {}, "expected y_score to be finite, found inf"),
        ("roc_auc_score", (Y, P), {}, 'expected multi_class="ovr" or "ovo"'),
        ("roc_auc_score", (Y, P), {"multi_class": "all"}, "expected multi_class as one of"),
        (
            "roc_auc_score",
            (Y, 2 * P),
            {"multi_class": "ovr"},
            "expected the probabilities of each row to sum to 1, found 2",
        ),
        ("roc_auc_score", (Y, P), {"multi_class": "ovo", "average": None}, "expected average with multi_class"),
        (
            "roc_auc_score",
            ([0, 1, 1, 0], P),
            {"multi_class": "ovr"},
            r"expected examples of every class .* labels \[0, 1\] only",
        ),
        (
            "roc_auc_score",
            ([2, 2, 2, 2], P),
            {"multi_class": "ovo"},
            r"expected examples of every class .* labels \[2\] only",
        ),
        ("roc_auc_score", ([0, 1, 1, 0], P[:, :2]), {}, r"expected scores \(N,\) for two classes"),
        ("average_precision_score", ([0, 0], [0.1, 0.2]), {}, "expected examples of every class"),
        ("average_precision_score", ([0, 2], [0.1, 0.2]), {}, r"expected y_true of two labels, pos_label=1 among them"),
        ("average_precision_score", (Y, P), {"pos_label": 2}, "expected no pos_label for scores"),
        ("log_loss", (Y, P / 2), {}, "expected the probabilities of each row to sum to 1, found 0.5"),
        ("log_loss", (Y, -P), {}, "expected probabilities from 0 to 1, found -0.3"),
        ("log_loss", ([0, 1], [0.5, 1.5]), {}, "expected probabilities from 0 to 1, found 1.5"),
        ("log_loss", (Y, P[:3]), {}, "expected as many elements in each"),
        ("log_loss", ([0, 1, 2, 5], P), {}, "expected labels from 0 to 2, .* found 5"),
        ("brier_score_loss", (Y, P), {"pos_label": 1}, "expected pos_label for probabilities"),
        ("brier_score_loss", (Y, P), {"scale_by_half": "no"}, "expected scale_by_half as True, False"),
        ("calibration_error", (Y, P), {"n_bins": 0}, "expected n_bins as an int of at least 1, found 0"),
        ("calibration_error", (Y, 3 * P), {}, "expected the probabilities of each row to sum to 1"),
        ("mean_squared_error", ([1, 2], [[1, 2]]), {}, r"expected y_true and y_pred of one shape, found \(2, 1\) and"),
        ("mean_squared_error", ([1, 2], [1, math.nan]), {}, "expected y_pred to be finite, found nan"),
        ("mean_absolute_error", ([1, 2], [1, 2]), {"multioutput": "sum"}, "expected multioutput as one of"),
        ("r2_score", ([], []), {}, "expected y_true with at least one element"),
        ("max_error", (P, P), {}, r"expected one output, \(N,\) or \(N, 1\), found shape \(4, 3\)"),
    ],
)
def test_bad_input(name, arguments, options, error):
    with pytest.raises(ValueError, match=f"^{name}: {error}"):
        getattr(metrics, name)(*arguments, **options)


@pytest.mark.parametrize("bad", [["a", "b"], [None, 1], [1j, 2]], ids=str)
def test_what_is_no_number(bad):
    for name in ("accuracy_score", "roc_auc_score", "log_loss", "r2_score"):
        with pytest.raises(TypeError, match=f"^{name}: expected y_true as numbers"):
            getattr(metrics, name)(bad, [0, 1])


@pytest.mark.parametrize(("dtype", "off"), [(np.float64, 1e-8), (np.float32, 3e-4)])
def test_how_far_from_1_the_sum_of_probabilities_may_be(dtype, off):
    y, p = [0, 1], np.full((2, 2), 0.5)
    metrics.log_loss(y, (p + off * 0.45).astype(dtype))
    with pytest.raises(ValueError, match="expected the probabilities of each row to sum to 1"):
        metrics.log_loss(y, (p + off).astype(dtype))


def test_forms_of_labels_and_arrays():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (2, 30))
    value = metrics.f1_score(y, p)
    read_only, reverse = y.astype(">i4"), p.astype(np.int8)[::-1][::-1]
    read_only.flags.writeable = False
    for true, predicted in (
        (y.astype(bool), p.astype(np.uint8)),
        (y.astype(np.float32), p.tolist()),
        (read_only, reverse),
        (minidl.Tensor(y), minidl.Tensor(p.astype(float), requires_grad=True)),
    ):
        before = [np.array(getattr(a, "data", a)) if not isinstance(a, list) else list(a) for a in (true, predicted)]
        assert metrics.f1_score(true, predicted) == value
        for a, b in zip((true, predicted), before, strict=True):
            np.testing.assert_array_equal(a if isinstance(a, list) else getattr(a, "numpy", lambda a=a: a)(), b)


# ------------------------------------------------------------------------------------ picture


@pytest.mark.parametrize(
    ("count", "classes"), [(2, ["cat", "dog"]), (10, None), (1, None), (35, [f"class {i}" for i in range(35)])]
)
def test_a_picture_of_the_confusion_matrix(tmp_path, count, classes):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    image = pytest.importorskip("PIL.Image", reason="the plot extra is not installed")
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 40, (count, count)) + np.diag(np.full(count, 950))
    metrics.plot_confusion(minidl.Tensor(matrix), tmp_path / "matrix.png", classes)
    with image.open(tmp_path / "matrix.png") as picture:
        assert picture.format == "PNG"
        wide = np.asarray(picture.convert("RGB")).astype(int)
    assert min(wide.shape[:2]) > 300
    dark = (wide[..., 2] - wide[..., 0] > 30) & (wide[..., 0] < 60)  # the diagonal's deep blue, and the colour bar's
    assert dark.mean() > 0.25 / count


def test_a_picture_of_shares_and_of_an_empty_row(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.plot_confusion([[0.25, 0.75], [0, 0]], tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("matrix", "classes", "error"),
    [
        ([[1, 2]], None, r"expected matrix \(C, C\), found shape \(1, 2\)"),
        ([1, 2], None, r"expected matrix \(C, C\), found shape \(2,\)"),
        ([[1, -2], [0, 1]], None, "expected finite numbers of at least 0"),
        ([[1, math.nan], [0, 1]], None, "expected finite numbers of at least 0"),
        ([[1, 2], [0, 1]], ["a"], "expected 2 classes, one for each row, found 1"),
        (np.zeros((0, 0)), None, "matrix with at least one element"),
    ],
)
def test_no_picture(tmp_path, matrix, classes, error):
    with pytest.raises(ValueError, match=f"plot_confusion: .*{error}"):
        metrics.plot_confusion(matrix, tmp_path / "matrix.png", classes)
    with pytest.raises(ValueError, match=r"plot_confusion: expected a file's name ending in .png, found '.*.pdf'"):
        metrics.plot_confusion([[1, 2], [0, 1]], tmp_path / "matrix.pdf")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_or_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    with pytest.raises(OSError, match="missing"):
        metrics.plot_confusion([[1, 2], [0, 1]], tmp_path / "missing" / "matrix.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'plot_confusion: .*pip install "minidl\[plot\]"'):
        metrics.plot_confusion([[1, 2], [0, 1]], tmp_path / "matrix.png")
