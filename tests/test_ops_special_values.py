"""Activations, losses and reductions at ±∞, ±0, denormal and largest numbers: PyTorch's values, and where these are NaN
although there is a limit, the limit."""

import math

import numpy as np
import pytest

from minidl import Tensor, ops

inf, nan = np.inf, np.nan
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
LOG2 = math.log(2)


def numbers(dtype):
    """Special values of this dtype, of both signs."""
    f = np.finfo(dtype)
    positive = [inf, 0.0, f.smallest_subnormal, f.tiny, f.max, np.sqrt(f.max), f.eps, 1.0, 20.5, 104.0, 745.0, 1e15]
    return np.array([s * v for v in positive for s in (1, -1)] + [nan], dtype)


def run(fn, inputs, dtype, g=1.0):
    """The value and the gradients, of `g` coming in."""
    tensors = [Tensor(np.asarray(x, dtype), requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(np.broadcast_to(np.asarray(g, y.dtype), y.shape))
    return [y.data, *(t.grad for t in tensors)]


ACTIVATIONS = {
    "abs": "abs", "arctan": "arctan", "cosh": "cosh", "elu": "nn.functional.elu", "exp": "exp", "expm1": "expm1",
    "gelu": "nn.functional.gelu", "leaky_relu": "nn.functional.leaky_relu", "log": "log", "log1p": "log1p",
    "log2": "log2", "relu": "relu", "sigmoid": "sigmoid", "silu": "nn.functional.silu", "sinh": "sinh",
    "softplus": "nn.functional.softplus", "sqrt": "sqrt", "square": "square", "tanh": "tanh",
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_as_pytorch_where_that_is_a_number(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch gives the values to compare with")
    theirs = torch
    for part in ACTIVATIONS[name].split("."):
        theirs = getattr(theirs, part)
    x = numbers(dtype)
    g = np.random.default_rng(1).normal(size=x.shape).astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    expected = theirs(t)
    expected.backward(torch.tensor(g))
    expected, slope = expected.detach().numpy(), t.grad.numpy()
    y, dx = run(getattr(ops, name), [x], dtype, g)
    known = (np.isnan(x) | ~np.isnan(expected)) & (np.isfinite(expected) | ~np.isfinite(y))  # its gelu overflows early
    f = np.finfo(dtype)
    tail = f.eps if name == "gelu" else f.eps**2  # fitted in float32
    near = {"rtol": 100 * f.eps, "atol": 8 * tail + 8 * f.tiny}
    np.testing.assert_allclose(y[known], expected[known], **near)
    known = ~np.isnan(x) & ~np.isnan(slope) & (np.isfinite(slope) | np.isinf(dx))  # and its x²
    # PyTorch's σ′ is y(1 − y), which cancels
    np.testing.assert_allclose(dx[known], slope[known], rtol=100 * f.eps, atol=f.eps * np.abs(g).max())


LIMITS = {  # x → (y, dy/dx)
    "silu": (ops.silu, {-inf: (0, 0), inf: (inf, 1), -1e30: (0, 0)}),
    "gelu": (ops.gelu, {-inf: (0, 0), inf: (inf, 1), -1e30: (0, 0), 1e30: (1e30, 1)}),
    "gelu tanh": (lambda x: ops.gelu(x, "tanh"), {-inf: (0, 0), inf: (inf, 1), -1e30: (0, 0), 1e30: (1e30, 1)}),
    "leaky_relu 0": (lambda x: ops.leaky_relu(x, 0.0), {-inf: (0, 0), inf: (inf, 1), -1e30: (0, 0)}),
    "elu": (ops.elu, {-inf: (-1, 0), inf: (inf, 1), -30.0: (math.expm1(-30), math.exp(-30))}),
    "softplus": (ops.softplus, {-inf: (0, 0), inf: (inf, 1), -40.0: (math.exp(-40), math.exp(-40))}),
    "sigmoid": (ops.sigmoid, {-inf: (0, 0), inf: (1, 0), 30.0: (1, math.exp(-30)), -30.0: (math.exp(-30),) * 2}),
    "power base": (lambda x: ops.power(inf, x), {-2.0: (0, 0), -inf: (0, 0)}),
    "power base 0": (lambda x: ops.power(0.0, x), {2.0: (0, 0), inf: (0, 0)}),
    "power 0": (lambda x: ops.power(x, np.zeros(())), {inf: (1, 0), 0.0: (1, 0)}),
}


@DTYPES
@pytest.mark.parametrize("name", LIMITS)
def test_limits(name, dtype):
    fn, table = LIMITS[name]
    for x, (y, slope) in table.items():
        found = run(fn, [x], dtype)
        np.testing.assert_allclose([float(v) for v in found], [y, slope], rtol=1e-5, atol=1e-300, err_msg=f"x = {x}")
        assert math.isnan(run(fn, [x], dtype, nan)[1]) or "relu" in name


def bce(x, t, **how):
    return ops.binary_cross_entropy_with_logits(x, t, reduction="none", **how)


def kl(x, t, log=False):
    return ops.kl_div(x, t, reduction="none", log_target=log)


LOSSES = {  # (loss, x, t, value, dL/dx, dL/dt); None: not looked at
    "bce": (bce, [inf, -inf, -inf, inf, inf, -inf, 3e38, -3e38, 1e-45], [1, 0, 1, 0, 0.5, 0.5, 1, 0, 1],
            [0, 0, inf, inf, inf, inf, 0, 0, LOG2], [0, 0, -1, 1, 0.5, -0.5, 0, 0, -0.5],
            [-inf, inf, inf, -inf, -inf, inf, -3e38, 3e38, 0]),
    "bce weight 0": (lambda x, t: bce(x, t, weight=np.zeros(1)), [inf, -inf], [0, 1], [0, 0], [0, 0], [0, 0]),
    "bce pos_weight 0": (lambda x, t: bce(x, t, pos_weight=np.zeros(1)), [-inf, inf], [1, 1], [0, 0], [0, 0],
                         [0, -inf]),
    "kl": (kl, [-inf, -inf, -1, inf], [0, 1, 1, 0], [0, inf, 1, 0], [0, -1, -1, 0], None),
    "kl log": (lambda x, t: kl(x, t, True), [-inf, -1, -inf, 0.0, -1e38], [-inf, -inf, 0, -1e38, -inf],
               [0, 0, inf, 0, 0], [0, 0, -1, 0, 0], [0, 0, inf, 0, 0]),
    "gaussian_kl": (lambda m, s: ops.gaussian_kl(m, s, "none"), [0, 0, inf, 0, 1e-45], [inf, -inf, 0, 90, 0],
                    [inf, inf, inf, None, 0], [0, 0, inf, 0, 1e-45], [inf, -0.5, 0, None, 0]),
    "huber": (lambda x, t: ops.huber(x, t, "none", 2.0), [inf, -inf, 3e38, 1e-45, -1e20], [0, inf, 0, 0, 1e20],
              [inf, inf, None, 0, 4e20], [2, -2, 2, 1e-45, -2], [-2, 2, -2, -1e-45, 2]),
    "l1": (lambda x, t: ops.l1(x, t, "none"), [inf, -inf, 1e-45, 0], [0, inf, 0, -0.0], [inf, inf, 1e-45, 0],
           [1, -1, 1, 0], [-1, 1, -1, 0]),
    "mse": (lambda x, t: ops.mse(x, t, "none"), [inf, -inf, 1e-45, 0], [0, inf, 0, -0.0], [inf, inf, 0, 0],
            [inf, -inf, 2e-45, 0], [-inf, inf, -2e-45, 0]),
}  # fmt: skip


@DTYPES
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype):
    fn, x, t, *expected = LOSSES[name]
    for found, wanted in zip(run(fn, [x, t], dtype), expected, strict=True):
        if wanted is not None:
            looked = [w is not None for w in wanted]
            wanted = np.array([w for w in wanted if w is not None], np.float64)
            np.testing.assert_allclose(found[looked], wanted, rtol=1e-6, atol=2e-45)


ROWS = [[0, -inf, 1], [-inf, 2, -inf], [1, -inf, -inf]]
SOFT = [[0.25, 0, 0.75], [0, 1, 0], [1, 0, 0]]


@DTYPES
def test_soft_labels_of_nothing_at_minus_infinity(dtype):
    """The class takes no part: value and gradients are those of the other classes alone."""
    y, dx, dt = run(lambda x, t: ops.softmax_cross_entropy(x, t, reduction="none"), [ROWS, SOFT], dtype)
    log_total = np.log1p(np.exp(1))
    np.testing.assert_allclose(y, [log_total - 0.75, 0, 0], rtol=1e-6, atol=1e-7)
    p = np.exp([0, 1] - log_total)
    np.testing.assert_allclose(dx, [[p[0] - 0.25, 0, p[1] - 0.75], [0] * 3, [0] * 3], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(np.isinf(dt), np.isinf(ROWS))
    weight = np.array([1.0, 0.0, 1.0])
    _, _, dt = run(lambda x, t: ops.softmax_cross_entropy(x, t, weight), [ROWS[:1], SOFT[:1]], dtype)
    assert dt[0, 1] == 0


@DTYPES
def test_classes_of_weight_0_at_minus_infinity(dtype):
    weight, labels = np.array([1.0, 0.0, 1.0]), np.array([1, 1, 0])
    for smoothing, expected in ((0.0, [0, 0, 0]), (0.3, [None, inf, inf]), (1.0, [None, inf, inf])):
        y, dx = run(lambda x, e=smoothing: ops.softmax_cross_entropy(x, labels, weight, reduction="none",
                                                                    label_smoothing=e), [ROWS], dtype)  # fmt: skip
        log_total = np.log1p(np.exp(1))
        wanted = [smoothing / 3 * (2 * log_total - 1) if e is None else e for e in expected]
        np.testing.assert_allclose(y, wanted, rtol=1e-5)
        assert np.isfinite(dx).all()
    y, dx = run(lambda x: ops.nll(x, labels, weight, reduction="none"), [ROWS], dtype)
    np.testing.assert_array_equal(y, [0, 0, -1])
    y, _ = run(lambda x: ops.softmax_cross_entropy(x, labels, weight, reduction="none"), [[[0, nan, 1]] * 3], dtype)
    assert np.isnan(y).all()


@DTYPES
def test_softmax_and_logsumexp(dtype):
    rows = [[inf, 1, 2], [inf, inf, 1], [inf, -inf, 1], [-inf, 0, 0], [-inf, -inf, -inf], [nan, inf, 0]]
    y, dx = run(lambda x: ops.logsumexp(x, 1), [rows], dtype, [2, 2, 2, 2, 2, 2])
    np.testing.assert_allclose(y, [inf, inf, inf, LOG2, -inf, nan], rtol=1e-6)
    np.testing.assert_array_equal(dx, [[2, 0, 0], [1, 1, 0], [2, 0, 0], [0, 1, 1], [0, 0, 0], [nan] * 3])
    largest = np.finfo(dtype).max
    y, dx = run(ops.softmax, [[[-inf, 0, 0], [largest, -largest, -inf]]], dtype, [[1, 0, 0]])
    np.testing.assert_array_equal(y, [[0, 0.5, 0.5], [1, 0, 0]])
    np.testing.assert_array_equal(dx, np.zeros((2, 3)))
    y, dx = run(ops.log_softmax, [[[-inf, 0, 0], [largest, -largest, -inf]]], dtype, [[1, 0, 0]])
    np.testing.assert_allclose(y, [[-inf, -LOG2, -LOG2], [0, -inf, -inf]], rtol=1e-6)
    np.testing.assert_allclose(dx, [[1, -0.5, -0.5], [0, 0, 0]], rtol=1e-6)


@DTYPES
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_an_infinite_gradient_reaches_only_what_was_taken(name, dtype):
    _, da, db = run(getattr(ops, name), [[1, 2, 3], [2, 1, 3]], dtype, [inf, inf, inf])
    np.testing.assert_array_equal(da, [[0, inf, inf], [inf, 0, inf]][name == "minimum"])
    np.testing.assert_array_equal(db, [[inf, 0, inf], [0, inf, inf]][name == "minimum"])


@DTYPES
def test_a_window_of_padding_alone_is_minus_infinity(dtype):
    y, dx = run(lambda x: ops.max_pool2d(x, 2, padding=1, dilation=2), [np.ones((2, 1, 1, 8))], dtype)
    assert y.shape == (2, 1, 1, 4)
    np.testing.assert_array_equal(y, np.full_like(y, -inf))
    np.testing.assert_array_equal(dx, 0)
