"""The Tensor contract: what is recorded, what backward computes, who owns which memory, what is freed when."""

import asyncio
import copy
import gc
import operator
import os
import pathlib
import pickle
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from minidl import nn, ops, optim
from minidl.tensor import OPS, Tensor, no_grad, op

COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


@pytest.fixture
def own_ops():
    """Ops that a test defines disappear with it."""
    before = dict(OPS)
    yield
    OPS.clear()
    OPS.update(before)


# --------------------------------------------------------------------------------------- as an array


def test_attributes():
    data = np.arange(6, dtype=np.float32).reshape(2, 3)
    t = Tensor(data, requires_grad=True)
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 3), 2, 6, np.float32, 2)
    assert t.data is data
    assert t.numpy() is data
    assert t.grad is None
    assert t.requires_grad
    assert t.is_leaf
    assert t.T.shape == (3, 2)
    assert not t.T.is_leaf
    np.testing.assert_array_equal(t.T.data, data.T)
    assert not Tensor(data).requires_grad
    assert Tensor(t).data is data
    assert not Tensor(t).requires_grad


def test_numbers_lists_and_conversions():
    assert Tensor(2.5).item() == 2.5
    assert isinstance(Tensor(np.float32(2)).item(), float)
    assert isinstance(Tensor(3).item(), int)
    assert (float(Tensor([2.5])), int(Tensor([[2.9]])), bool(Tensor(0.0))) == (2.5, 2, False)
    assert Tensor([[1, 2], [3, 4]]).shape == (2, 2)
    with pytest.raises(ValueError, match="size 1"):
        Tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match="ambiguous"):
        bool(Tensor([1.0, 2.0]))


def test_detach_shares_values_and_cuts_the_graph():
    x = leaf([1.0, 2.0])
    d = (x * 3).detach()
    assert d.is_leaf
    assert not d.requires_grad
    (d * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 6])
    assert x.detach().data is x.data


def test_to_an_array_only_without_gradient():
    with pytest.raises(TypeError, match=r"\.numpy\(\)"):
        np.asarray(leaf([1.0]))
    with pytest.raises(TypeError, match=r"\.numpy\(\)"):
        np.asarray(leaf([1.0]) * 2)
    t = Tensor(np.arange(3.0))
    assert np.asarray(t) is t.data
    assert np.array(t) is not t.data
    assert np.asarray(t, dtype=np.float32).dtype == np.float32


def test_len_and_iteration():
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    rows = list(x)
    assert len(rows) == len(x) == 3
    assert all(isinstance(row, Tensor) for row in rows)
    (rows[0] * 10 + rows[2]).sum().backward()
    np.testing.assert_array_equal(x.grad, [[10, 10], [0, 0], [1, 1]])
    for use in (len, iter):
        with pytest.raises(TypeError, match="unsized"):
            use(Tensor(1.0))


def test_repr_names_shape_dtype_and_origin():
    x = leaf([1.0, 2.0], np.float32)
    assert "shape=(2,)" in repr(x)
    assert "dtype=float32" in repr(x)
    assert "requires_grad=True" in repr(x)
    assert "op=multiply" in repr(x * 2)
    assert "requires_grad" not in repr(Tensor([1.0]))
    assert len(repr(Tensor(np.zeros((500, 500))))) < 1000


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.float16, np.complex128])
def test_only_float32_and_float64_require_gradients(dtype):
    assert Tensor(np.ones(3, dtype)).dtype == dtype
    with pytest.raises(TypeError, match=rf"float32 or float64, found {np.dtype(dtype)}"):
        Tensor(np.ones(3, dtype), requires_grad=True)


# ----------------------------------------------------------------------------------------- operators


@pytest.mark.parametrize("apply", ARITHMETIC)
@pytest.mark.parametrize("other", [1.5, 2, np.float64(1.5), np.array([1.5, 2.5, 0.5]), np.array(2.0)], ids=repr)
def test_arithmetic_from_both_sides(apply, other):
    x = leaf([0.7, 1.3, 2.9])
    for left, right in ((x, other), (other, x)):
        y = apply(left, right)
        assert isinstance(y, Tensor)
        assert y.requires_grad
        expected = apply(getattr(left, "data", left) if left is x else left, x.data if right is x else right)
        np.testing.assert_array_equal(y.data, expected)
        x.grad = None
        y.sum().backward()
        eps = 1e-6
        up, down = (apply(v if left is x else left, v if right is x else right) for v in (x.data + eps, x.data - eps))
        np.testing.assert_allclose(x.grad, (up - down) / (2 * eps), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("apply", [*ARITHMETIC, operator.matmul])
def test_arithmetic_between_tensors(apply):
    a, b = leaf([[0.7, 1.3], [2.9, 0.4]]), leaf([[1.1, 0.6], [0.3, 1.7]])
    y = apply(a, b)
    np.testing.assert_allclose(y.data, apply(a.data, b.data), rtol=1e-15)
    y.sum().backward()
    eps = 1e-6
    for x, call in ((a, lambda v: apply(v, b.data)), (b, lambda v: apply(a.data, v))):
        for i in np.ndindex(2, 2):
            d = np.zeros((2, 2))
            d[i] = eps
            slope = (call(x.data + d).sum() - call(x.data - d).sum()) / (2 * eps)
            np.testing.assert_allclose(x.grad[i], slope, rtol=1e-7, atol=1e-8)


def test_matmul_unary_and_methods():
    x = leaf([[1.0, -2.0], [3.0, 4.0]])
    m = np.array([[1.0, 2.0], [0.5, -1.0]])
    np.testing.assert_allclose((m @ x).data, m @ x.data)
    np.testing.assert_allclose((x @ m).data, x.data @ m)
    assert isinstance(m @ x, Tensor)
    np.testing.assert_array_equal((-x).data, -x.data)
    np.testing.assert_array_equal(abs(x).data, abs(x.data))
    assert x.sum(axis=0, keepdims=True).shape == (1, 2)
    assert x.mean(1).data.tolist() == [-0.5, 3.5]
    assert x.reshape(4).shape == x.reshape((4,)).shape == x.reshape(-1).shape == (4,)
    assert x.reshape(2, 1, 2).transpose(2, 0, 1).shape == x.reshape(2, 1, 2).transpose((2, 0, 1)).shape == (2, 2, 1)
    np.testing.assert_array_equal(x.transpose().data, x.data.T)


def test_in_place_operators_rebind_and_do_not_write():
    data = np.ones(3)
    x = Tensor(data, requires_grad=True)
    y = x
    y += 1
    y *= 2
    assert data.tolist() == [1, 1, 1]
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparisons_give_plain_arrays(compare):
    x = leaf([1.0, 2.0, 3.0])
    for other in (2.0, np.array([2.0, 2.0, 2.0]), Tensor([2.0, 2.0, 2.0])):
        plain = other.data if isinstance(other, Tensor) else other
        for left, right, expected in ((x, other, compare(x.data, plain)), (other, x, compare(plain, x.data))):
            found = compare(left, right)
            assert type(found) is np.ndarray
            assert found.dtype == bool
            np.testing.assert_array_equal(found, expected)


def test_tensors_are_hashed_by_identity():
    a, b = Tensor(1.0), Tensor(1.0)
    assert len({a, b, a}) == 2
    assert {a: "a", b: "b"}[b] == "b"


FLOAT32 = np.float32


@pytest.mark.parametrize(
    ("other", "dtype"),
    [
        (2.0, FLOAT32), (2, FLOAT32), (True, FLOAT32), (FLOAT32(2), FLOAT32), (np.float64(2), np.float64),
        (np.arange(3), np.float64), (np.arange(3, dtype=np.int16), FLOAT32), (np.ones(3), np.float64),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(3,), ()])
def test_promotion_is_numpys(other, dtype, shape):
    x = leaf(np.ones(shape), np.float32)
    for y in (x * other, other * x, x + other, other - x, x / other if np.all(other) else x * other):
        assert y.dtype == dtype
        assert y.dtype == np.multiply(x.data, other).dtype
    y.sum().backward()
    assert x.grad.dtype == np.float32
    assert type(x.grad) is np.ndarray


# ------------------------------------------------------------------------------------------ indexing

INDICES = [
    0, -1, slice(None), slice(None, None, -2), slice(1, 1), None, Ellipsis, (1, 2), (0, ..., 1), (slice(1, 3), None, 2),
    (..., None), np.array([2, 0, 2, 2]), [1, 1, 0], (np.array([0, 0, 3]), np.array([1, 1, 2])),
    (np.array([[0, 1], [1, 0]]), slice(None)), (slice(None), [2, 2]), np.array([True, False, True, True]), (),
    np.arange(20).reshape(4, 5) % 3 == 0, (np.array([0, 0, 1]), np.newaxis), (slice(None), np.array(1)), np.int64(3),
    (np.array([True, False, False, True]), 2), np.array([], int),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=lambda i: str(i).replace("\n", ""))
def test_indexing_takes_and_returns_gradients(index):
    x = leaf(np.arange(20.0).reshape(4, 5))
    y = x[index]
    np.testing.assert_array_equal(y.data, x.data[index])
    dy = np.random.default_rng(0).normal(size=y.shape)
    y.backward(dy)
    expected = np.zeros((4, 5))
    np.add.at(expected, index, dy)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-15)


def test_index_may_be_a_tensor():
    x = leaf([1.0, 2.0, 3.0])
    x[Tensor([2, 2])].sum().backward()
    assert x.grad.tolist() == [0, 0, 2]
    y = leaf(np.ones((2, 3)))
    y[Tensor([0, 0]), 1].sum().backward()
    assert y.grad.tolist() == [[0, 2, 0], [0, 0, 0]]


def test_indexing_errors_name_the_op():
    with pytest.raises(IndexError, match=r"^getitem: .*out of bounds"):
        leaf([1.0])[5]
    with pytest.raises(IndexError, match=r"^getitem: "):
        leaf([1.0])["a"]


# ---------------------------------------------------------------------------------- what is recorded


def test_leaves_accumulate_and_interiors_do_not_keep():
    x = leaf([1.0, 2.0])
    y = x * 3
    for times in (1, 2, 3):
        (y.detach() * x).sum().backward()
        np.testing.assert_array_equal(x.grad, times * y.data)
    y = x * 3
    y.sum().backward()
    assert y.grad is None
    np.testing.assert_array_equal(x.grad, 3 * np.array([3, 6]) + 3)


def test_retain_grad():
    x = leaf([1.0, 2.0])
    y = x * 3
    y.retain_grad()
    z = y * y
    z.retain_grad()
    z.sum().backward(retain_graph=True)
    np.testing.assert_array_equal(y.grad, [6, 12])
    np.testing.assert_array_equal(z.grad, [1, 1])
    z.sum().backward()
    np.testing.assert_array_equal(y.grad, [12, 24])
    x.retain_grad()  # a leaf does anyhow
    assert x.grad.tolist() == [36, 72]
    with pytest.raises(RuntimeError, match=r"retain_grad.*does not require"):
        Tensor([1.0]).retain_grad()


def test_retained_gradients_are_their_own():
    x = leaf([1.0, 2.0])
    y = x.reshape(2, 1)
    z = y.T
    y.retain_grad()
    z.retain_grad()
    g = np.ones((1, 2))
    z.backward(g)
    arrays = [x.grad, y.grad, z.grad, g]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_diamonds_and_shared_subgraphs():
    x = leaf(3.0)
    a = x * x  # 9, a' = 6
    b = a * x + a  # x³ + x²
    c = b * a - x / b
    c.backward()
    v, eps = 3.0, 1e-6

    def f(v: float) -> float:
        b = v**3 + v**2
        return b * v**2 - v / b

    np.testing.assert_allclose(x.grad, (f(v + eps) - f(v - eps)) / (2 * eps), rtol=1e-8)
    y = leaf(1.0)
    z = y
    for _ in range(60):  # 2⁶⁰ paths: only a walk over nodes, each once, comes back
        z = z + z
    z.backward()
    assert y.grad == 2.0**60


def test_deep_and_shallow_paths_meet_in_order():
    """A tensor's gradient is passed on only when all of it has arrived, however long the other way is."""
    calls = []

    def counted(x: Any) -> Any:
        return x * 1, (lambda dy: calls.append(dy.copy()) or dy,)

    before = dict(OPS)
    counting = op(counted)
    OPS.clear()
    OPS.update(before)
    x = leaf(1.0)
    h = counting(x)
    long = h
    for _ in range(5):
        long = long * 2
    (h * 10 + long + h).backward()
    assert [float(c) for c in calls] == [43.0]
    assert x.grad == 43


@pytest.mark.parametrize("apply", [operator.add, operator.mul, operator.truediv, operator.sub, operator.matmul])
def test_same_tensor_as_both_inputs(apply):
    x = leaf([[1.0, 2.0], [3.0, 5.0]])
    y, z = leaf(x.data), leaf(x.data)
    apply(x, x).sum().backward()
    apply(y, z).sum().backward()
    np.testing.assert_allclose(x.grad, y.grad + z.grad, atol=1e-15)


def test_gradients_only_for_those_who_need_them(own_ops):
    computed = []

    @op
    def three(a: Any, b: Any, c: Any) -> Any:
        return a + b + c, tuple(lambda dy, name=name: computed.append(name) or dy for name in "abc")

    needing, constant = leaf([1.0]), Tensor([1.0])
    three(needing, constant, np.ones(1)).backward()
    three(constant, needing, 2.0).backward()
    assert computed == ["a", "b"]
    hidden = three(constant, constant, constant)
    assert hidden.is_leaf
    assert not hidden.requires_grad
    three(needing, hidden, hidden).backward()
    assert computed == ["a", "b", "a"]
    with no_grad():
        assert three(needing, needing, needing).is_leaf
    needing.requires_grad = False
    assert not three(needing, needing, needing).requires_grad
    assert computed == ["a", "b", "a"]


def test_a_mixed_precision_graph_keeps_each_dtype():
    a, b = leaf([1.0, 2.0], np.float32), leaf([3.0, 4.0], np.float64)
    h = a * 2
    h.retain_grad()
    (h * b).sum().backward()
    assert (h.dtype, h.grad.dtype, a.grad.dtype, b.grad.dtype) == (np.float32, np.float32, np.float32, np.float64)
    np.testing.assert_array_equal(a.grad, [6, 8])
    np.testing.assert_array_equal(b.grad, [2, 4])


@pytest.mark.parametrize(
    ("shape", "other"),
    [
        ((), (2, 3)), ((1,), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (2, 3)), ((1, 1), (2, 3)),
        ((1, 3), (4, 2, 3)), ((2, 1), (4, 2, 3)), ((1,), ()), ((1, 1), (3,)), ((0, 1), (0, 3)), ((1,), (0,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_broadcasting_is_summed_back(shape, other, dtype):
    rng = np.random.default_rng(1)
    x, y = leaf(rng.normal(size=shape), dtype), rng.normal(size=other).astype(dtype)
    z = x * y
    dz = rng.normal(size=z.shape).astype(dtype)
    z.backward(dz)
    assert x.grad.shape == shape
    assert x.grad.dtype == dtype
    expected = np.broadcast_to(dz.astype(np.float64) * y, z.shape)
    extra = expected.ndim - len(shape)
    expected = expected.sum(axis=tuple(range(extra)))
    expected = expected.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
    np.testing.assert_allclose(x.grad, expected, rtol=1e-6 if dtype == np.float32 else 1e-14, atol=1e-7)


def test_broadcast_sums_of_float32_keep_their_digits():
    x = leaf(np.zeros(3), np.float32)
    (x + np.zeros((1 << 18, 3), np.float32)).backward(np.full((1 << 18, 3), 0.1, np.float32))
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad, 2.0**18 * float(np.float32(0.1)), rtol=1e-7)  # row by row it is 0.2 % off


# ----------------------------------------------------------------------------- backward's own errors


def test_second_backward_says_that_the_graph_was_freed():
    x = leaf([1.0, 2.0])
    h = x * x
    y = h.sum()
    y.backward()
    for again in (y, h.sum(), (h * 2).sum()):
        with pytest.raises(RuntimeError, match=r"freed by an earlier backward\(\).*retain_graph=True"):
            again.backward()
    np.testing.assert_array_equal(x.grad, [2, 4])


def test_retain_graph_allows_it():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(x.grad, [6, 12])
    with pytest.raises(RuntimeError, match="freed"):
        y.backward()


def test_backward_from_what_cannot():
    x = leaf([[1.0, 2.0, 3.0]])
    with pytest.raises(RuntimeError, match=r"backward: expected a scalar or a `grad` of shape \(1, 3\)"):
        (x * 2).backward()
    for t in (Tensor([1.0]), Tensor([1.0]) * 2, x.detach().sum()):
        with pytest.raises(RuntimeError, match=r"backward: .*does not require a gradient"):
            t.backward()
    with no_grad():
        y = x.sum()
    with pytest.raises(RuntimeError, match="no_grad"):
        y.backward()
    for grad in (np.ones(3), np.ones((3, 1)), 1.0, np.ones((1, 3, 1))):
        with pytest.raises(ValueError, match=r"backward: expected a grad of shape \(1, 3\), found"):
            (x * 2).backward(grad)
    assert x.grad is None


def test_backward_under_no_grad_of_a_recorded_graph_works():
    x = leaf([1.0, 2.0])
    y = (x * x).sum()
    with no_grad():
        y.backward()
    assert x.grad.tolist() == [2, 4]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_size_one_needs_no_grad_argument(shape):
    x = leaf(np.full(shape, 3.0))
    (x * x).backward()
    assert x.grad.shape == shape
    assert x.grad.item() == 6
    x.backward()
    assert x.grad.item() == 7


@pytest.mark.parametrize(
    "grad", [[1, 2], np.array([1, 2]), np.array([1.0, 2.0], np.float32), Tensor([1.0, 2.0])], ids=str
)
def test_incoming_gradients_of_other_kinds(grad):
    x = leaf([3.0, 4.0])
    (x * 2).backward(grad)
    assert x.grad.dtype == np.float64
    assert x.grad.tolist() == [2, 4]


# -------------------------------------------------------------------------------- who owns the memory

VIEWS: dict[str, Callable[..., Tensor]] = {
    "a + b": lambda a, b: a + b,
    "a + a": lambda a, b: a + a,
    "(a + a) + (b + b)": lambda a, b: (a + a) + (b + b),
    "a - b": lambda a, b: a - b,
    "a itself": lambda a, b: a,
    "reshape": lambda a, b: a.reshape(9) + b.reshape(-1),
    "reshape only": lambda a, b: a.reshape(9),
    "transpose": lambda a, b: a.T + b,
    "slices": lambda a, b: ops.concatenate((a, b), axis=1),
    "stack": lambda a, b: ops.stack([a, a, b]),
    "flip": lambda a, b: ops.flip(a) + ops.flip(b, 0),
    "pad": lambda a, b: ops.pad(a, 1) + ops.pad(b, 1),
    "broadcast_to": lambda a, b: ops.broadcast_to(a, (2, 3, 3)) + b,
    "expand and squeeze": lambda a, b: ops.squeeze(ops.expand_dims(a, 0)) + ops.moveaxis(b, 0, 1),
    "sum": lambda a, b: a.sum() + b.sum(axis=0),
    "mean": lambda a, b: a.mean(axis=1) + b.mean(),
    "dropout, eval": lambda a, b: ops.dropout(a, 0.5, training=False) + b,
    "dense": lambda a, b: ops.dense(a, b, b[0]),
    "astype": lambda a, b: ops.astype(a, np.float64) + b,
    "index": lambda a, b: a[:] + b[None][0],
    "where": lambda a, b: ops.where(np.eye(3, dtype=bool), a, b),
}


@pytest.mark.parametrize("source", ["fresh", "frombuffer", "readonly", "broadcast"])
@pytest.mark.parametrize("name", VIEWS)
def test_gradients_share_memory_with_nobody_and_nothing_is_modified(name, source):
    a, b = leaf(np.arange(9.0).reshape(3, 3)), leaf(np.ones((3, 3)))
    y = VIEWS[name](a, b)
    count = y.size
    if source == "frombuffer":
        incoming = np.frombuffer(bytearray(np.arange(1.0, count + 1).tobytes())).reshape(y.shape)
    elif source == "broadcast":
        incoming = np.broadcast_to(2.0, y.shape)
    else:
        incoming = np.arange(1.0, count + 1).reshape(y.shape)
        incoming.flags.writeable = source == "fresh"
    before = incoming.copy()
    y.backward(incoming)
    grads = [t.grad for t in (a, b) if t.grad is not None]
    for grad in grads:
        others = [g for g in grads if g is not grad] + [incoming, a.data, b.data, y.data]
        assert not any(np.shares_memory(grad, other) for other in others)
    for t in (a, b):
        if t.grad is not None:
            assert t.grad.flags.writeable
            expected = t.grad.copy()
            for other in (a, b):
                if other is not t and other.grad is not None:
                    other.grad += 100
            np.testing.assert_array_equal(t.grad, expected)
    np.testing.assert_array_equal(incoming, before)


def test_accumulating_does_not_write_into_a_grad_that_somebody_holds():
    x = leaf([1.0, 2.0])
    x.sum().backward()
    held = x.grad
    x.sum().backward()
    assert held.tolist() == [1, 1]
    assert x.grad.tolist() == [2, 2]


def test_the_incoming_gradient_may_be_reused_after_it_was_changed():
    x, w = leaf(np.ones((4, 2))), leaf(np.ones((3, 2)))
    for layer in (ops.dense, ops.dense_relu):
        y = layer(x, w)
        g = np.ones((4, 3))
        for factor in (1, 5):
            x.grad = None
            g[:] = factor
            y.backward(g, retain_graph=True)
            np.testing.assert_array_equal(x.grad, np.full((4, 2), 3.0 * factor))


def test_grad_may_be_assigned():
    x = leaf([1.0, 2.0])
    x.grad = np.array([10.0, 20.0])
    (x * 3).sum().backward()
    assert x.grad.tolist() == [13, 23]


@pytest.mark.parametrize("where", ["first", "last"])
def test_an_exception_in_a_gradient_function_changes_no_grad(own_ops, where):
    @op
    def breaks(x: Any) -> Any:
        def gradient(dy: Any) -> Any:
            raise FloatingPointError("broken")

        return x * 1, (gradient,)

    a, b = leaf([1.0]), leaf([2.0])
    b.grad = np.array([7.0])
    y = a * 2 + breaks(b) if where == "last" else breaks(b) + a * 2
    with pytest.raises(FloatingPointError, match="broken"):
        (y * a).backward()
    assert a.grad is None
    assert b.grad.tolist() == [7]


# ------------------------------------------------------------------------------------------- no_grad


def test_no_grad_nests_and_is_restored_after_exceptions():
    x = leaf([1.0])
    block = no_grad()
    with block:
        with no_grad():
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
        with block:  # the same object again
            assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert (x * 2).requires_grad
    with no_grad():
        assert Tensor([1.0], requires_grad=True).requires_grad  # leaves are made as asked


def test_no_grad_decorates():
    @no_grad()
    def predict(x: Tensor, depth: int) -> list[bool]:
        """Its docstring."""
        inner = predict(x, depth - 1) if depth else []
        return [*inner, (x * 2).requires_grad]

    x = leaf([1.0])
    assert predict(x, 3) == [False] * 4
    assert (x * 2).requires_grad
    assert predict.__doc__ == "Its docstring."

    @no_grad()
    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert (x * 2).requires_grad


def test_no_grad_is_per_thread():
    x = leaf([1.0])
    block, seen = no_grad(), {}
    barrier = threading.Barrier(2, timeout=20)

    def inside() -> None:
        with block:
            barrier.wait()
            seen["inside"] = (x * 2).requires_grad
            barrier.wait()
        seen["after"] = (x * 2).requires_grad

    thread = threading.Thread(target=inside)
    thread.start()
    barrier.wait()
    seen["outside"] = (x * 2).requires_grad
    with block:  # entered and left here while the other thread is inside
        pass
    seen["outside after"] = (x * 2).requires_grad
    barrier.wait()
    thread.join()
    assert seen == {"inside": False, "after": True, "outside": True, "outside after": True}
    with no_grad():
        thread = threading.Thread(target=lambda: seen.update(new=(x * 2).requires_grad))
        thread.start()
        thread.join()
    assert seen["new"]


def test_threads_build_and_walk_graphs_at_once():
    results: list[Any] = [None] * 8

    def work(i: int) -> None:
        x = leaf(np.full(50, float(i)))
        for _ in range(30):
            with no_grad():
                x * x
            y = x
            for _ in range(10):
                y = y * x
            y.sum().backward()
        results[i] = x.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i, grad in enumerate(results):
        np.testing.assert_allclose(grad, np.full(50, 30 * 11 * float(i) ** 10), rtol=1e-12)


# --------------------------------------------------------------------------------- memory and length


@pytest.fixture
def without_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Watched(np.ndarray):
    """An array whose end can be seen."""


@pytest.mark.parametrize("how", ["backward", "deletion", "error", "retained"])
def test_graphs_are_freed_without_the_garbage_collector(without_gc, how):
    x, w = leaf(np.ones((4, 3)), np.float32), leaf(np.ones((2, 3)), np.float32)
    h = ops.dense_relu(x, w)
    y = ops.softmax_cross_entropy(ops.tanh(h) * h[0], np.array([0, 1, 0, 1])) + ops.max(h, axis=0).sum()
    seen = [weakref.ref(t) for t in (h, y)]
    held = np.zeros(4).view(Watched)  # captured by a gradient function
    z = y + (Tensor(np.ones(4), requires_grad=True) * held).sum()
    seen.append(weakref.ref(held))
    if how == "backward":
        z.backward()
        del held
        assert seen[2]() is None  # what gradients captured goes with the walk, before the tensors
    elif how == "retained":
        z.backward(retain_graph=True)
    elif how == "error":
        with pytest.raises(ValueError, match="expected a grad"):
            z.backward(np.ones(7))
    held = None
    del h, y, z
    assert [ref() for ref in seen] == [None] * 3


def test_intermediate_gradients_are_freed_on_the_way(own_ops):
    gradients: list[Any] = []
    alive: list[int] = []

    @op
    def watched(x: Any) -> Any:
        def gradient(dy: Any) -> Any:
            dx = dy * 1
            alive.append(sum(ref() is not None for ref in gradients))
            gradients.append(weakref.ref(dx))
            return dx

        return x * 1, (gradient,)

    y = x = leaf(np.ones(3))
    for _ in range(20):
        y = watched(y)
    y.sum().backward()
    assert max(alive) <= 2
    assert x.grad.tolist() == [1, 1, 1]


@pytest.mark.parametrize("how", ["backward", "deletion", "retained"])
def test_a_chain_of_a_hundred_thousand_ops(how):
    x = leaf(1.0)
    start = time.thread_time()
    y = x
    for _ in range(100_000):
        y = y + x
    if how != "deletion":
        y.backward(retain_graph=how == "retained")
        assert x.grad == 100_001
    del y
    # Of this thread's own processor time it takes half a second; quadratic ones take minutes.
    assert time.thread_time() - start < 20


def test_ten_thousand_training_steps_do_not_grow(without_gc):
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 16), nn.Tanh(), nn.Dense(16, 1))
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, y = rng.normal(size=(32, 2)).astype(np.float32), rng.normal(size=(32, 1)).astype(np.float32)

    def steps(count: int) -> None:
        for _ in range(count):
            loss = ops.mse(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    steps(200 if COMPILED else 5)
    before, resident = sys.getallocatedblocks(), _resident()
    steps(10_000 if COMPILED else 20)
    assert sys.getallocatedblocks() - before < 200  # not by one object in 50 steps
    assert _resident() - resident <= 1 << 20


def _resident() -> int:
    """This process's memory in bytes, where the system tells it."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


# ---------------------------------------------------------------------------------- unusual arrays


@pytest.mark.parametrize(
    "kind", ["big-endian", "read-only", "strided", "reversed", "fortran", "unaligned", "matrix view"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_every_layout(kind, dtype):
    plain = np.random.default_rng(2).normal(size=(6, 4)).astype(dtype)
    data: Any = plain.copy()
    if kind == "big-endian":
        data = data.astype(data.dtype.newbyteorder(">"))
    elif kind == "read-only":
        data.flags.writeable = False
    elif kind == "strided":
        data = np.repeat(np.repeat(data, 2, 0), 3, 1)[::2, ::3]
    elif kind == "reversed":
        data = data[::-1, ::-1].copy()[::-1, ::-1]
    elif kind == "fortran":
        data = np.asfortranarray(data)
    elif kind == "unaligned":
        data = np.frombuffer(b"\0" + data.tobytes(), dtype, offset=1).reshape(6, 4)
        assert not data.flags.aligned
    else:
        data = data.view(Watched)
    x = Tensor(data, requires_grad=True)
    assert x.dtype == dtype
    assert x.dtype.isnative
    same = leaf(plain, dtype)
    weight = np.random.default_rng(3).normal(size=(4, 4)).astype(dtype)
    outputs = []
    for t in (x, same):
        y = ops.relu(t @ weight + t.sum(axis=0)) * t[::2].mean()
        y.sum().backward()
        outputs.append(y.data)
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(x.grad, same.grad)
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(np.asarray(data), plain)


# -------------------------------------------------------------------------------------- ops and @op


def test_a_users_own_op(own_ops):
    @op
    def cube(x: Any, scale: float = 1.0) -> Any:
        """y = s·x³"""
        return scale * x**3, (lambda dy: dy * 3 * scale * x**2,)

    assert OPS["cube"] is cube
    assert cube.__name__ == "cube"
    assert cube.__doc__ == "y = s·x³"
    x = leaf([1.0, 2.0])
    (cube(x) + cube(x, scale=2.0) + cube(x=x)).sum().backward()
    assert x.grad.tolist() == [12, 48]
    assert not cube(np.ones(2)).requires_grad
    assert isinstance(cube(2.0), Tensor)
    assert "op=cube" in repr(cube(x))


def test_inputs_by_name_in_lists_and_among_constants():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    ops.multiply(a=a, b=b).sum().backward()
    ops.multiply(2.0, b=a).sum().backward()
    assert a.grad.tolist() == [5, 6]
    b.grad = None
    ops.concatenate([np.ones(3), b, a], axis=0).backward(np.arange(7.0))
    assert b.grad.tolist() == [3, 4]
    ops.stack(arrays=(a, b)).backward(np.full((2, 2), 10.0))
    assert a.grad.tolist() == [5 + 5 + 10, 6 + 6 + 10]
    assert b.grad.tolist() == [13, 14]


def test_an_op_without_a_gradient_says_so(own_ops):
    @op
    def half(x: Any, index: Any) -> Any:
        return x * index, (lambda dy: dy * index, None)

    x, i = leaf([2.0]), leaf([3.0])
    half(x, i.detach()).backward()
    assert x.grad == 3
    with pytest.raises(TypeError, match=r"half has no gradient for its input 1; detach\(\) it"):
        half(x, i)
    assert half(x.detach(), i.detach()).item() == 6

    @op
    def short(x: Any, y: Any) -> Any:
        return x + y, (lambda dy: dy,)

    with pytest.raises(TypeError, match="short has no gradient for its input 1"):
        short(x, i)


@pytest.mark.parametrize("wrong", [(3, 2), (6,), (), (2,), (4, 3), (1, 3)])
def test_a_gradient_of_a_wrong_shape_is_an_error(own_ops, wrong):
    @op
    def twisted(x: Any) -> Any:
        return x * 1, (lambda dy: np.ones(wrong),)

    x = leaf(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"twisted: .*\(2, 3\)"):
        twisted(x).sum().backward()
    assert x.grad is None


def test_gradient_functions_may_give_numpy_scalars_and_other_dtypes(own_ops):
    @op
    def total(x: Any) -> Any:
        return np.sum(x), (lambda dy: np.float64(dy) * np.ones(x.shape),)

    @op
    def number(x: Any) -> Any:
        return x * 2, (lambda dy: np.float64(dy * 2),)

    x, s = leaf([1.0, 2.0], np.float32), leaf(1.0, np.float32)
    total(x).backward()
    number(s).backward()
    for t in (x, s):
        assert type(t.grad) is np.ndarray
        assert t.grad.dtype == np.float32
        assert t.grad.shape == t.shape


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: leaf(np.ones(3)) + np.ones(4), ValueError, ["add", r"\(3,\)", r"\(4,\)"]),
        (lambda: leaf(np.ones((2, 3))) @ np.ones((4, 5)), ValueError, ["matmul", r"\(2, 3\)", r"\(4, 5\)"]),
        (lambda: ops.tanh(np.arange(3)), TypeError, ["tanh", "float32 or float64", "int64"]),
        (lambda: ops.relu(np.ones(3, np.float16)), TypeError, ["relu", "float32 or float64", "float16"]),
        (lambda: ops.dense(np.ones((2, 3)), np.ones((4, 5))), ValueError, ["dense", r"\(2, 3\)", r"\(4, 5\)"]),
        (lambda: leaf(np.ones(6)).reshape(4, 2), ValueError, ["reshape", "6", r"\(4, ?2\)"]),
        (lambda: leaf(np.ones(6)).sum(axis=3), ValueError, ["sum", "axis 3"]),
    ],
)
def test_errors_name_the_op_and_what_was_found(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value).startswith(words[0] + ": ")
    assert all(re.search(word, str(caught.value)) for word in words)


# ------------------------------------------------------------------------- lists, and what is summed back


def of_two() -> list[Tensor]:
    return [leaf(1.0), leaf(2.0)]


@pytest.mark.parametrize(
    "call",
    [
        lambda ab: ops.mse(ab, np.zeros(2)),
        lambda ab: ops.mse(np.zeros(2), ab),
        lambda ab: ops.mse(tuple(ab), np.zeros(2)),
        lambda ab: ops.mse(input=np.zeros(2), target=ab),
        lambda ab: ab[0] + ab,
        lambda ab: ab * ab[0],
        lambda ab: ops.sum(ab),
        lambda ab: ops.where([True, False], ab, 0.0),
        lambda ab: ops.dense([ab], np.ones((3, 2))),
        lambda ab: ops.stack([ab, ab]),
        lambda ab: ops.clip(np.ones(2), min=ab),
        lambda ab: Tensor(ab),
    ],
)
def test_a_list_of_tensors_is_not_one_operand(call):
    """Else its gradients were those of a list of inputs, and what did not fit was summed away."""
    with pytest.raises(
        TypeError, match=r"found a (list|tuple) of them; take one, or stack\(\)|does not turn into an array unasked"
    ):
        call(of_two())


def test_no_op_takes_a_list_of_tensors_unless_it_declares_one():
    lists = {"concatenate", "stack", "getitem"}
    for name, call in OPS.items():
        if name not in lists and call.__module__.startswith("minidl."):
            with pytest.raises(
                TypeError, match=f"^{name}: expected a Tensor for input 0, found a list of them; take one"
            ):
                call([Tensor(1.0), Tensor(2.0)], np.ones(2))
    index = [Tensor(np.array([0, 2])), Tensor(np.array([1, 0]))]
    x = leaf(np.arange(6.0).reshape(3, 2))
    x[tuple(index)].backward(np.array([1.0, 2.0]))
    np.testing.assert_array_equal(x.grad, [[0, 1], [0, 0], [2, 0]])


@pytest.mark.parametrize("join", [ops.stack, ops.concatenate])
def test_what_is_joined_is_a_list_and_not_one_array(join):
    x = leaf(np.ones((2, 3)))
    for given in (x, x.data, iter([x, x])):
        with pytest.raises(TypeError, match=f"^{join.__name__}: expected a list or tuple of arrays, found one "):
            join(given)


def test_a_users_op_may_declare_a_list(own_ops):
    @op(lists=("terms",))
    def total(scale: Any, terms: Any) -> Any:
        y = scale * sum(terms)
        return y, (lambda dy: dy * sum(terms), *(lambda dy: dy * scale for _ in terms))

    s, a, b = leaf(3.0), leaf([1.0, 2.0]), leaf([5.0, 7.0])
    for call in (total(s, [a, b]), total(s, terms=(a, b)), total(s, [a, np.array([5.0, 7.0])])):
        call.backward(np.array([1.0, 10.0]))
    assert s.grad == 3 * (6 + 90)
    assert a.grad.tolist() == [9, 90]
    assert b.grad.tolist() == [6, 60]
    with pytest.raises(TypeError, match="total: expected a Tensor for input 0"):
        total([s, s], [a, b])


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [((3,), (2, 3)), ((3,), (3, 3)), ((1, 3), (3, 3)), ((), (3,)), ((1,), (4,)), ((2, 1), (2, 2)), ((1, 1), (5, 1, 1))],
)
def test_what_broadcasting_cannot_have_repeated_is_an_error(own_ops, shape, wrong):
    @op
    def twice(x: Any) -> Any:
        return x * 2, (lambda dy: np.ones(wrong),)

    x = leaf(np.ones(shape))
    with pytest.raises(ValueError, match=r"twice: expected a gradient of its input's shape \(.*, found \("):
        twice(x).sum().backward()
    assert x.grad is None


def test_what_another_input_repeated_is_summed_back(own_ops):
    """The result may be smaller than what was broadcast: a constant, and a list of numbers, count as inputs."""

    @op
    def dot(a: Any, b: Any) -> Any:
        b = np.asarray(b)
        return np.sum(a * b), (lambda dy: dy * b * np.ones_like(a), lambda dy: dy * a * np.ones_like(b))

    for other in (np.array([[2.0, 3.0], [4.0, 5.0]]), [[2.0, 3.0], [4.0, 5.0]], leaf([[2.0, 3.0], [4.0, 5.0]])):
        for shape in ((), (1,), (2,), (1, 2)):
            x = leaf(np.ones(shape))
            dot(x, other).backward()
            np.testing.assert_array_equal(x.grad, np.reshape([6, 8] if x.size == 2 else 14, shape))


# ------------------------------------------------------------------------------------------- registries


def test_a_name_of_an_op_is_taken_once(own_ops):
    def add(a: Any, b: Any) -> Any:
        return a * b, (lambda dy: dy * b, lambda dy: dy * a)

    with pytest.raises(ValueError, match=r"op .*add of .*: the name 'add' is taken by add of minidl\.ops\.elementwise"):
        op(add)
    assert (leaf(3.0) + 1).item() == 4
    replaced = op(replace=True)(add)
    assert OPS["add"] is replaced
    assert (leaf(3.0) + 2).item() == 6


def test_an_op_may_be_defined_anew_by_the_same_text(own_ops):
    def cell(k: float) -> Any:  # as a notebook's, run twice
        @op
        def scaled_for_test(x: Any) -> Any:
            return x * k, (lambda dy: dy * k,)

        return scaled_for_test

    first, second = cell(2.0), cell(3.0)
    assert OPS["scaled_for_test"] is second
    x = leaf(1.0)
    (first(x) + second(x)).backward()  # what was made before goes on
    assert x.grad == 5

    def scaled_for_test(x: Any) -> Any:
        return x, (lambda dy: dy,)

    with pytest.raises(ValueError, match="'scaled_for_test' is taken by"):
        op(scaled_for_test)
    assert OPS["scaled_for_test"] is second


# ------------------------------------------------------------------------- generators, coroutines, copies


def test_no_grad_on_a_generator_pauses_its_steps_alone():
    x = leaf(1.0)

    @no_grad()
    def steps(n: int) -> Any:
        """Its docstring."""
        seen = []
        try:
            for _ in range(n):
                seen.append((yield (x * 2).requires_grad))
                assert not (x * 2).requires_grad
        except KeyError:
            assert not (x * 2).requires_grad
            yield "caught"
        finally:
            closed.append((x * 2).requires_grad)
        return seen

    closed: list[bool] = []
    between = []
    for recorded in steps(3):
        between.append((recorded, (x * 2).requires_grad))
    assert between == [(False, True)] * 3
    assert closed == [False]
    assert steps.__doc__ == "Its docstring."

    def outer() -> Any:
        return (yield from steps(2))

    generator = outer()
    assert next(generator) is False
    generator.send("a")
    with pytest.raises(StopIteration) as end:
        generator.send("b")
    assert end.value.value == ["a", "b"]
    generator = steps(2)
    next(generator)
    assert generator.throw(KeyError("k")) == "caught"
    generator.close()
    assert closed == [False] * 3
    assert (x * 2).requires_grad

    generator = steps(2)
    next(generator)
    with pytest.raises(ZeroDivisionError):
        generator.throw(ZeroDivisionError)
    assert (x * 2).requires_grad
    with no_grad():
        assert next(steps(1)) is False
        assert not (x * 2).requires_grad


def test_no_grad_on_coroutines_pauses_no_other_task():
    x = leaf(1.0)

    @no_grad()
    async def predict() -> list[bool]:
        seen = [(x * 2).requires_grad]
        await asyncio.sleep(0)
        return [*seen, (x * 2).requires_grad]

    @no_grad()
    async def stream() -> Any:
        try:
            for _ in range(2):
                await asyncio.sleep(0)
                got = yield (x * 2).requires_grad
                seen.append((got, (x * 2).requires_grad))
        finally:
            closed.append((x * 2).requires_grad)

    async def block() -> list[bool]:
        with no_grad():
            await asyncio.sleep(0)
            return [(x * 2).requires_grad]

    async def train() -> list[bool]:
        seen = []
        for _ in range(4):
            await asyncio.sleep(0)
            seen.append((x * 2).requires_grad)
        return seen

    async def main() -> None:
        assert await predict() == [False, False]
        assert (x * 2).requires_grad
        found = [(recorded, (x * 2).requires_grad) async for recorded in stream()]
        assert found == [(False, True)] * 2
        sent = stream()
        assert await anext(sent) is False
        await sent.asend("a")
        with pytest.raises(ZeroDivisionError):
            await sent.athrow(ZeroDivisionError)
        await sent.aclose()
        left = stream()
        await anext(left)
        await left.aclose()
        assert closed == [False] * 3  # each ran to its end, within the block
        paused, other, blocked = await asyncio.gather(predict(), train(), block())
        assert (paused, other, blocked) == ([False, False], [True] * 4, [False])

    seen: list[Any] = []
    closed: list[bool] = []
    asyncio.run(main())
    assert seen == [(None, False), (None, False), ("a", False)]
    assert asyncio.iscoroutinefunction(predict)
    assert (x * 2).requires_grad


def test_no_grad_left_in_another_thread_pauses_nothing_there():
    def inside() -> Any:
        with no_grad():
            yield

    generator, x = inside(), leaf(1.0)
    thread = threading.Thread(target=lambda: next(generator))
    thread.start()
    thread.join()
    generator.close()
    assert (x * 2).requires_grad


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_tensors(how):
    x = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3).T, requires_grad=True)
    x.grad = np.ones((3, 2), np.float32)
    made = how(x)
    np.testing.assert_array_equal(made.data, x.data)
    np.testing.assert_array_equal(made.grad, x.grad)
    assert (made.requires_grad, made.dtype, made.is_leaf) == (True, np.float32, True)
    assert made.data.flags.f_contiguous
    assert np.shares_memory(made.data, x.data) == (how is copy.copy)
    (made * 2).sum().backward()
    assert (made.grad == 3).all()
    y = (x * 2).sum()
    y.backward()
    freed = how(y)  # the values and that the graph was used up
    assert freed.item() == y.item()
    with pytest.raises(RuntimeError, match="this graph was freed by an earlier backward"):
        freed.backward()
    with pytest.raises(RuntimeError, match="this graph was freed by an earlier backward"):
        (freed * 2).backward()


@pytest.mark.parametrize("how", [copy.deepcopy, pickle.dumps])
def test_a_graph_is_not_copied(how):
    y = (leaf([1.0]) * 2).sum()
    for thing in (y, [y], {"loss": y}):
        with pytest.raises(RuntimeError, match=r"computed by sum .*not copied or pickled with its graph; detach\(\)"):
            how(thing)
    y.backward()  # and it still works
    assert how(y.detach())
