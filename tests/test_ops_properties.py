"""Random shapes, indices and arguments against NumPy: values, and gradients as the transpose of the linear map."""

import numpy as np
import pytest

from minidl import Tensor, ops

pytest.importorskip("hypothesis", reason="hypothesis draws the examples of these tests")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

few = settings(max_examples=60, deadline=None, derandomize=True)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
seeds = st.integers(0, 1000)


def values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def linear(fn, numpy_fn, *arrays):
    """fn is numpy_fn, linear in its arrays: then ⟨g, f(v)⟩ = ⟨gradient of g, v⟩ for every v."""
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y = fn(*tensors)
    expected = numpy_fn(*arrays)
    np.testing.assert_array_equal(y.data, expected, strict=True)
    g = values(y.shape, 1)
    y.backward(g)
    others = [values(x.shape, 2 + i) for i, x in enumerate(arrays)]
    found = sum(float(np.sum(t.grad * v)) for t, v in zip(tensors, others, strict=True))
    assert found == pytest.approx(float(np.sum(g * numpy_fn(*others))), rel=1e-9, abs=1e-9)


@few
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), seeds)
def test_broadcasting(drawn, seed):
    a, b, c = (values(s, seed + i) for i, s in enumerate(drawn.input_shapes))
    ta, tb, tc = (Tensor(x, requires_grad=True) for x in (a, b, c))
    y = ops.where(a > 0, ta * tb, tb + tc)
    assert y.shape == drawn.result_shape
    g = values(y.shape, 9)
    y.backward(g)
    picked = np.broadcast_to(a > 0, y.shape)
    for t, full in ((ta, np.where(picked, g * b, 0)), (tb, np.where(picked, g * a, g)), (tc, np.where(picked, 0, g))):
        extra = full.ndim - t.ndim
        axes = tuple(i for i in range(full.ndim) if i < extra or t.shape[i - extra] == 1)
        np.testing.assert_allclose(t.grad, full.sum(axes).reshape(t.shape), rtol=1e-12, atol=1e-14)


@few
@given(st.data())
def test_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    kind = data.draw(st.sampled_from(["basic", "integers", "mask", "mixed"]))
    if kind == "basic":
        index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    elif kind == "integers":
        index = data.draw(hnp.integer_array_indices(shape))
    elif kind == "mask":
        index = values(shape, data.draw(seeds)) > 0
    else:
        picks = data.draw(st.lists(st.integers(-shape[0], shape[0] - 1), max_size=5))
        index = (
            data.draw(st.sampled_from([picks, tuple(picks), np.array(picks, int)])),
            *[slice(None)] * (len(shape) - 1),
        )
        if not picks:
            index = (np.array([], int), *index[1:])
    linear(lambda x: x[index], lambda x: np.asarray(x[index]), values(shape))


@few
@given(shapes, st.data())
def test_moving_axes(shape, data):
    x = values(shape)
    order = data.draw(st.permutations(range(len(shape))))
    linear(lambda x: ops.transpose(x, order), lambda x: np.transpose(x, order), x)
    a, b = data.draw(st.tuples(*[st.integers(-len(shape), len(shape) - 1)] * 2))
    linear(lambda x: ops.swapaxes(x, a, b), lambda x: np.swapaxes(x, a, b), x)
    linear(lambda x: ops.moveaxis(x, a, b), lambda x: np.moveaxis(x, a, b), x)
    linear(lambda x: ops.flip(x, a), lambda x: np.flip(x, a), x)
    shift = data.draw(st.integers(-5, 5))
    linear(lambda x: ops.roll(x, shift, b), lambda x: np.roll(x, shift, b), x)
    linear(lambda x: ops.expand_dims(x, a), lambda x: np.expand_dims(x, a), x)
    linear(lambda x: ops.reshape(x, shape[::-1]), lambda x: np.reshape(x, shape[::-1]), x)
    widths = data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=len(shape), max_size=len(shape))
    )
    linear(lambda x: ops.pad(x, widths), lambda x: np.pad(x, widths), x)
    if len(shape) > 1 and a % len(shape) != b % len(shape):
        linear(lambda x: ops.diagonal(x, a, b), lambda x: np.diagonal(x, 0, a, b), x)


@few
@given(shapes, st.data())
def test_joining_and_cutting(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    count = data.draw(st.integers(1, 3))
    parts = []
    for i in range(count):
        part = list(shape)
        part[axis] = data.draw(st.integers(0, 3))
        parts.append(values(part, i))
    linear(lambda *x: ops.concatenate(x, axis), lambda *x: np.concatenate(x, axis), *parts)
    linear(lambda *x: ops.stack(list(x), axis), lambda *x: np.stack(x, axis), *(values(shape, i) for i in range(count)))
    cuts = data.draw(st.lists(st.integers(-2, 6), max_size=3))
    x = values(shape)
    for mine, theirs in zip(ops.split(x, cuts, axis), np.split(x, cuts, axis), strict=True):
        np.testing.assert_array_equal(mine.data, theirs, strict=True)
    if shape[axis] % count == 0:
        linear(lambda x: ops.split(x, count, axis)[-1], lambda x: np.split(x, count, axis)[-1], x)


@few
@given(st.data())
def test_einsum(data):
    sizes = {c: data.draw(st.integers(1, 3)) for c in "abcd"}
    count = data.draw(st.integers(1, 3))
    terms = [data.draw(st.text("abcd", max_size=3)) for _ in range(count)]
    used = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(used))[: data.draw(st.integers(0, len(used)))])
    text = ",".join(terms) + data.draw(st.sampled_from(["->" + output, ""]))
    arrays = [values([sizes[c] for c in t], i) for i, t in enumerate(terms)]
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y = ops.einsum(text, *tensors)
    expected = np.einsum(text, *arrays)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-12)
    g = values(y.shape, 7)
    y.backward(g)
    for i, t in enumerate(tensors):  # linear in each of its operands
        v = values(t.shape, 8 + i)
        moved = np.einsum(text, *(v if j == i else x for j, x in enumerate(arrays)))
        assert float(np.sum(t.grad * v)) == pytest.approx(float(np.sum(g * moved)), rel=1e-9, abs=1e-9)


@few
@given(st.data())
def test_cross_entropy(data):
    n, c = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6))
    z = values((n, c), data.draw(seeds)) * data.draw(st.sampled_from([1.0, 100.0, 1e4]))
    ignore = data.draw(st.sampled_from([-100, 0, c - 1]))
    labels = np.array(data.draw(st.lists(st.integers(0, c - 1) | st.just(ignore), min_size=n, max_size=n)))
    weight = data.draw(st.none() | st.just(np.arange(1.0, c + 1)))
    smoothing = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    t = Tensor(z, requires_grad=True)
    y = ops.softmax_cross_entropy(t, labels, weight, ignore, reduction, smoothing)

    w, counted = np.ones(c) if weight is None else weight, labels != ignore
    shifted = z - z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    target = w * ((1 - smoothing) * (np.arange(c) == labels[:, None]) + smoothing / c) * counted[:, None]
    losses = -(target * log_p).sum(1)
    slopes = np.exp(log_p) * target.sum(1, keepdims=True) - target
    if reduction == "mean":
        total = w[labels[counted]].sum()
        with np.errstate(invalid="ignore"):
            losses, slopes = losses.sum() / total, slopes / total if total else 0 * slopes
    elif reduction == "sum":
        losses = losses.sum()
    np.testing.assert_allclose(y.data, losses, rtol=1e-11, atol=1e-13)
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(t.grad, slopes, rtol=1e-9, atol=1e-13)
