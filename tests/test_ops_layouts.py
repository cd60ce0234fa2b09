"""The same values and gradients from arrays however they lie in memory; nothing given is ever written to."""

import numpy as np
import pytest
from cases import CASES

from minidl import Tensor

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)


def strided(x):
    return np.repeat(np.expand_dims(x, -1), 2, -1)[..., 0]


def reversed_(x):
    everything = (slice(None, None, -1),) * x.ndim
    return x[everything].copy()[everything]


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    y = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


LAYOUTS = {
    "fortran": lambda x: np.asarray(x, order="F").copy(order="F"), "strided": strided, "reversed": reversed_,
    "read-only": read_only, "unaligned": unaligned, "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
}  # fmt: skip


def run(case, inputs, grad=None):
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = case.fn(*tensors)
    if grad is None:
        grad = np.random.default_rng(1).normal(size=y.shape)
    y.backward(grad)
    return [y.data, *(t.grad for t in tensors)]


def same(found, expected, what):
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.dtype.isnative
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15, err_msg=what)


@every_case
def test_layout_of_inputs(case):
    inputs = case.inputs()
    expected = run(case, inputs)
    for name, lay in LAYOUTS.items():
        laid = [lay(x) for x in inputs]
        np.testing.assert_array_equal(laid[0], inputs[0])
        kept = [x.tobytes() for x in laid]
        same(run(case, laid), expected, name)
        assert [x.tobytes() for x in laid] == kept, name


@every_case
def test_broadcast_inputs(case):
    """Stride 0: every element is one and the same place in memory."""
    inputs = case.inputs()
    for i, x in enumerate(inputs):
        if x.size:
            flat = [*inputs[:i], np.full(x.shape, x.flat[0]), *inputs[i + 1 :]]
            zero = [*inputs[:i], np.broadcast_to(x.flat[0], x.shape), *inputs[i + 1 :]]
            with np.errstate(all="ignore"):
                same(run(case, zero), run(case, flat), f"input {i}")


@every_case
def test_layout_of_the_incoming_gradient(case):
    """Each gradient function of the op, given the same numbers in other places, and forbidden to write to them."""
    tensors = [Tensor(x, requires_grad=True) for x in case.inputs()]
    y = case.fn(*tensors)
    dy = np.asarray(np.random.default_rng(2).normal(size=y.shape))
    for gradient in y._node.gradients:
        expected = np.array(gradient(dy.copy()))
        again = np.array(gradient(dy.copy()))
        np.testing.assert_array_equal(again, expected, err_msg="called twice")
        np.testing.assert_array_equal(gradient(-2 * dy), -2 * expected, err_msg="linear, and not remembered")
        for name, lay in LAYOUTS.items():
            if name == "big-endian":  # backward brings it to native order
                continue
            laid = np.asarray(lay(dy))
            laid.flags.writeable = False
            np.testing.assert_allclose(gradient(laid), expected, rtol=1e-13, atol=1e-15, err_msg=name)
            np.testing.assert_array_equal(laid, dy)
        constant = np.broadcast_to(0.5, dy.shape)
        np.testing.assert_allclose(gradient(constant), gradient(constant.copy()), rtol=1e-13, atol=1e-15)
    big = dy.astype(">f8")
    same(run(case, case.inputs(), big), run(case, case.inputs(), dy), "big-endian")


@every_case
def test_nothing_is_shared(case):
    """Leaves own their gradients: neither another's, nor the inputs, the output or the given gradient."""
    tensors = [Tensor(x, requires_grad=True) for x in case.inputs()]
    y = case.fn(*tensors)
    g = np.random.default_rng(1).normal(size=y.shape)
    value, given = y.data.copy(), g.copy()
    y.backward(g)
    np.testing.assert_array_equal(y.data, value)
    np.testing.assert_array_equal(g, given)
    for i, t in enumerate(tensors):
        np.testing.assert_array_equal(t.data, case.inputs()[i])
        assert t.grad.flags.writeable
        assert (t.grad.shape, t.grad.dtype) == (t.shape, t.dtype)
        others = [g, y.data, t.data, *(o.grad for o in tensors if o is not t), *(o.data for o in tensors)]
        assert not any(np.shares_memory(t.grad, o) for o in others)
        t.grad[...] = 7  # writing to one leaf's gradient leaves the others alone
        assert all(np.all(o.grad != 7) for o in tensors[i + 1 :])
