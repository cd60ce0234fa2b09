"""The checker checked: it accepts what is right, and names what is wrong."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, gradcheck, nn, ops
from minidl.gradcheck import GradcheckError
from minidl.tensor import OPS, op

X = np.random.default_rng(0).normal(size=(2, 3))


def wrong(gradient):
    """x³ with another gradient than 3x²."""

    def cube_for_test(x):
        return x**3, (lambda dy: gradient(dy, x),)

    try:
        return op(cube_for_test)
    finally:
        OPS.pop("cube_for_test")


def one_element(dy, x):
    dx = dy * 3 * x * x
    dx[1, 2] *= 1.001
    return dx


def test_accepts_what_is_right():
    report = gradcheck(wrong(lambda dy, x: dy * 3 * x * x), X)
    assert report
    assert (report.ok, report.checked) == (True, 6)
    assert report.error < 0.1
    assert "gradients agree with finite differences at 6 elements" in str(report)


@pytest.mark.parametrize("gradient", [
    lambda dy, x: -dy * 3 * x * x, lambda dy, x: dy * 2 * x * x, lambda dy, x: dy * 3 * x * x * 1.001, one_element,
    lambda dy, x: np.zeros_like(x), lambda dy, x: dy * 3 * x * x + 1e-4, lambda dy, x: dy[::-1] * 3 * x * x,
    lambda dy, x: np.where(x > 0.1, np.nan, dy * 3 * x * x), lambda dy, x: np.full_like(x, np.inf),
    lambda dy, x: dy * 3 * x * x * (1 + 1e-5),
], ids=["sign", "factor", "0.1%", "one", "zero", "offset", "order", "nan", "inf", "1e-5"])  # fmt: skip
def test_catches_what_is_wrong(gradient):
    with pytest.raises(
        GradcheckError, match="gradients differ from finite differences at 6 elements; the worst is input 0"
    ):
        gradcheck(wrong(gradient), X)
    report = gradcheck(wrong(gradient), X, raise_exception=False)
    assert not report
    assert report.error > 1


def test_names_the_worst_element():
    report = gradcheck(wrong(one_element), X, raise_exception=False)
    assert report.worst == "input 0[1, 2]"
    assert report.gradient == pytest.approx(1.001 * report.expected, rel=1e-8)
    assert report.error == pytest.approx(abs(report.gradient - report.expected) / (1e-7 + 1e-6 * abs(report.expected)))
    assert "input 0[1, 2]" in str(report)
    assert f"{report.expected:.10g}" in str(report)
    second = gradcheck(lambda a, n, b: a * n + wrong(one_element)(b), X, 3, X, raise_exception=False)
    assert second.worst == "input 2[1, 2]"
    scalar = gradcheck(wrong(lambda dy, x: -dy), np.array(2.0), raise_exception=False)
    assert scalar.worst == "input 0"


def test_the_sum_alone_would_be_blind():
    @op
    def bad_softmax_for_test(x):
        y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        return y, (lambda dy: np.zeros_like(x),)

    OPS.pop("bad_softmax_for_test")
    assert not gradcheck(bad_softmax_for_test, X, raise_exception=False)


def test_tolerances_and_generator():
    off = wrong(lambda dy, x: dy * 3 * x * x * 1.001)
    assert gradcheck(off, X, rtol=1e-2)
    assert gradcheck(off, X, atol=1.0)
    assert gradcheck(ops.exp, X, eps=1e-3)
    a, b = (gradcheck(ops.exp, X, generator=np.random.default_rng(s)).gradient for s in (1, 2))
    assert a != b
    assert gradcheck(ops.exp, X).gradient == gradcheck(ops.exp, X).gradient


def test_sixth_order():
    """At a step of 0.01 a fifth-degree polynomial still has its derivative; second order would be 1e-4 off."""
    assert gradcheck(lambda x: x * x * x * x * x, X, eps=1e-2)
    assert gradcheck(ops.sin, X, eps=1e-2, rtol=1e-9, atol=1e-11)


def model():
    net = nn.Sequential(nn.Dense(3, 4), nn.Tanh(), nn.Dense(4, 2))
    for p in net.parameters():
        p.grad = np.full(p.shape, 5, p.dtype)
    next(iter(net.parameters())).requires_grad = False
    return net


def test_models_are_checked_in_float64_and_left_as_they_were():
    minidl.manual_seed(0)
    net = model()
    kept = [(p.data, p.data.copy(), p.grad, p.requires_grad) for p in net.parameters()]
    report = gradcheck(net, X.astype(np.float32))
    assert report.checked == 6 + 12 + 4 + 8 + 2
    for p, (data, values, grad, requires_grad) in zip(net.parameters(), kept, strict=True):
        assert p.data is data
        np.testing.assert_array_equal(p.data, values)
        assert p.dtype == np.float32
        assert p.grad is grad
        assert p.requires_grad is requires_grad


def test_a_fault_in_a_parameter_only():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = Tensor(np.array([1.0, 2.0, 3.0], np.float32), requires_grad=True)

        def forward(self, x):
            return x * half_for_test(self.scale)

    @op
    def half_for_test(w):
        return w * 1.0, (lambda dy: dy * 0.5,)

    OPS.pop("half_for_test")
    net = Net()
    data = net.scale.data
    report = gradcheck(net, X, raise_exception=False)
    assert not report
    assert report.worst.startswith("scale[")
    with pytest.raises(GradcheckError, match=r"scale\["):
        gradcheck(net, X)
    assert net.scale.data is data  # restored after the error too
    assert (net.scale.grad, net.scale.requires_grad) == (None, True)


def test_inputs_are_left_alone():
    x, t = X.copy(), Tensor(X.astype(np.float32), requires_grad=True)
    gradcheck(ops.multiply, x, t)
    np.testing.assert_array_equal(x, X)
    assert t.grad is None
    assert t.dtype == np.float32
    gradcheck(lambda x, i: x[i], X, np.array([0, 1, 0]))  # integers are passed on
    gradcheck(ops.exp, X.astype(">f8"))
    gradcheck(ops.exp, np.broadcast_to(1.5, (2, 2)))


def test_refuses_what_it_cannot_check():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="different values for the same input"):
        gradcheck(lambda x: ops.dropout(x, 0.5, generator=rng), X)
    for nothing in ((), (3,), (np.arange(3),), ([1.0, 2.0],)):
        with pytest.raises(ValueError, match="at least one float input or parameter, found none"):
            gradcheck(lambda *x: ops.exp(1.0), *nothing)
    with pytest.raises(RuntimeError, match="does not require a gradient"):
        gradcheck(lambda x: Tensor(x.data), X)


def test_nan_is_right_where_both_are():
    with np.errstate(invalid="ignore"):
        x = np.array([np.nan, 1.0])
        assert gradcheck(lambda x: ops.exp(x)[0], x, raise_exception=False).checked == 2
        assert not gradcheck(lambda x: wrong(lambda dy, x: np.array([0.0, 1]))(x)[0], x, raise_exception=False)
