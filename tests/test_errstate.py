"""What the user's `np.seterr` and warning filters say is no business of minidl's: infinity and NaN are values."""

import operator
import warnings

import numpy as np
import pytest
from cases import CASES

import minidl
from minidl import Tensor, metrics, nn, ops, optim

SPECIAL = np.array([0.0, -0.0, 1e-310, -1e-40, 1e-20, 1.5, -3.0, 90.0, -800.0, 1e30, -1e200, np.inf, -np.inf, np.nan])


@pytest.fixture(autouse=True)
def strict():
    """Every floating-point error raises, and so does every warning."""
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def special(shape, dtype, rng):
    with np.errstate(all="ignore"):
        return rng.choice(SPECIAL, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_no_op_raises_or_warns(case, dtype):
    rng = np.random.default_rng(7)
    for _ in range(2):
        tensors = [Tensor(special(x.shape, dtype, rng), requires_grad=True) for x in case.inputs()]
        y = case.fn(*tensors)
        y.backward(special(y.shape, y.dtype, rng))
        assert all(t.grad.shape == t.shape for t in tensors)


COMPILED = ["sigmoid", "softplus", "gelu-tanh", "silu", "huber-mean-1.0", "binary_cross_entropy_with_logits-mean",
            "log_softmax--1", "kl_div-sum", "layer_norm", "power"]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_no_compiled_step_raises_or_warns(name, monkeypatch):
    monkeypatch.setattr("minidl.compiler.native.interpreted", lambda: True)
    monkeypatch.setattr("minidl.compiler.program.interpreted", lambda: True)
    (case,) = (c for c in CASES if c.id == name)
    rng = np.random.default_rng(7)
    inputs = [special(x.shape, np.float32, rng) for x in case.inputs()]

    def step(*arrays):
        tensors = [Tensor(x, requires_grad=True) for x in arrays]
        y = case.fn(*tensors)
        y.backward(np.ones(y.shape, y.dtype))
        return y, [t.grad for t in tensors]

    compiled = minidl.compile(step)
    expected = step(*inputs)
    for run in (compiled, compiled, compiled.python):
        y, gradients = run(*inputs)
        for made, wanted in zip([y.data, *gradients], [expected[0].data, *expected[1]], strict=True):
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(made, wanted, rtol=1e-5)


LAYERS = {
    "activations": lambda: nn.Sequential(nn.Dense(6, 6), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.Softplus(), nn.GELU(),
                                         nn.ELU(), nn.LeakyReLU(), nn.Softmax(), nn.LogSoftmax()),
    "norms": lambda: nn.Sequential(nn.BatchNorm1d(6), nn.LayerNorm(6), nn.Dropout(0.5)),
    "images": lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2, 1), nn.GroupNorm(1, 2)),
    "recurrent": lambda: nn.LSTM(6, 3),
    "attention": lambda: nn.TransformerEncoderLayer(6, 2, 8),
}  # fmt: skip
SHAPES = {"images": (2, 1, 4, 5), "recurrent": (3, 2, 6), "attention": (2, 3, 6)}


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_or_optimizer_raises_or_warns(name, scale):
    model, rng = LAYERS[name](), np.random.default_rng(3)
    with np.errstate(all="ignore"):
        x = (rng.normal(size=SHAPES.get(name, (4, 6))) * scale).astype(np.float32)
    for made in (optim.SGD(model.parameters(), lr=1e30, momentum=0.9), optim.Adam(model.parameters(), lr=1e-30)):
        for _ in range(2):
            y = model(x)
            y = y[0] if isinstance(y, tuple) else y
            made.zero_grad()
            ops.sum(y * np.float32(1e30)).backward()
            optim.clip_grad_norm_(model.parameters(), 1e-30)
            optim.clip_grad_value_(model.parameters(), 1e-40)
            made.step()


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_no_metric_raises_or_warns(name):
    metric, labels = metrics.METRICS[name], np.array([0, 1, 2, 1])
    for scale in (1e-200, 1.0, 1e200, 1e308):
        z = np.random.default_rng(0).uniform(-1, 1, (4, 3)) * scale
        try:
            assert isinstance(metric(z, labels), float)
        except (TypeError, ValueError):  # of values, not of classes
            assert isinstance(metric(z, z[::-1]), float)


def test_the_setting_is_the_users_again():
    x = Tensor(np.array([-1.0, 1000.0]), requires_grad=True)
    ops.log(ops.exp(x)).backward(np.ones(2))
    with pytest.raises(ValueError, match="reshape"):
        ops.reshape(x, (3,))
    assert set(np.geterr().values()) == {"raise"}
    with pytest.raises(FloatingPointError):
        np.exp(1000.0)


def test_ops_of_users_are_quiet_too():
    @minidl.op(replace=True)
    def quotient(a, b):
        return a / b, (lambda dy: dy / b, lambda dy: -dy * a / b / b)

    a, b = (Tensor(np.array(v), requires_grad=True) for v in ([1.0, 0.0], [0.0, 0.0]))
    y = quotient(a, b)
    y.backward(np.ones(2))
    np.testing.assert_array_equal(y.data, [np.inf, np.nan])
    np.testing.assert_array_equal(b.grad, [-np.inf, np.nan])


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne])
def test_comparing_with_what_float32_cannot_hold_is_no_error(compare):
    x = minidl.Tensor(np.array([1, -np.inf, np.inf], np.float32))
    with np.errstate(all="raise"):
        found = compare(x, 1e300)
    np.testing.assert_array_equal(found, compare(np.array([1, -np.inf, np.inf], np.float32), np.float32(np.inf)))
