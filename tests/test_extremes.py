"""Normalisation, spread and norms of numbers whose squares overflow or vanish in their dtype."""

import numpy as np
import pytest

from minidl import Tensor, ops, optim

NORMS = {
    "layer_norm": lambda x, w, b, eps: ops.layer_norm(x, 6, w, b, eps),
    "group_norm": lambda x, w, b, eps: ops.group_norm(x, 2, w, b, eps),
    "batch_norm": lambda x, w, b, eps: ops.batch_norm(x, None, None, w, b, True, eps=eps),
}
F32 = [(np.float32, s, 1e-5) for s in (1e37, 1e30, 1e19, 1e17)] + [(np.float32, s, 0.0) for s in (1e-15, 1e-17, 1e-35)]
F64 = [(np.float64, s, 1e-5) for s in (1e307, 1e200, 1e150)] + [(np.float64, s, 0.0) for s in (1e-145, 1e-200, 1e-290)]
SIZES = pytest.mark.parametrize(("dtype", "scale", "eps"), F32 + F64)


@SIZES
@pytest.mark.parametrize("name", NORMS)
def test_norms_do_not_depend_on_the_unit(name, dtype, scale, eps):
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(5, 6)), rng.normal(size=(5, 6))
    w, b = rng.uniform(0.5, 2, 6), rng.normal(size=6)

    def run(x, eps, dtype):
        tensors = [Tensor(np.asarray(v, dtype), requires_grad=True) for v in (x, w, b)]
        y = NORMS[name](*tensors, eps)
        y.backward(g.astype(dtype))
        return [y.data, *(t.grad for t in tensors)]

    y, dx, dw, db = run(x * scale, eps, dtype)
    expected, slope, *others = run(x, eps / scale / scale, np.float64)
    tolerance = 2e-5 if dtype is np.float32 else 1e-12
    for found, wanted in zip((y, dx, dw, db), (expected, slope / scale, *others), strict=True):
        least = tolerance * np.abs(wanted).max() + 2 * np.finfo(dtype).smallest_subnormal
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=least)


def test_a_float32_row_with_one_huge_number():
    np.testing.assert_allclose(ops.layer_norm(np.array([1e30, -1, 2], np.float32), 3).data, [2**0.5, -(0.5**0.5),
                               -(0.5**0.5)], rtol=1e-6)  # fmt: skip
    largest = np.finfo(np.float32).max
    np.testing.assert_allclose(ops.layer_norm(np.array([largest, -largest]), 2).data, [1, -1], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_numbers_stay_in_their_row(bad):
    x = np.array([[1, bad, 2], [1, 2, 4]], np.float32)
    y = ops.layer_norm(x, 3).data
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_batch_norm_in_evaluation_has_the_slope_of_a_line(bad, dtype):
    x = Tensor(np.array([[1, bad], [2, 3]], dtype), requires_grad=True)
    w = Tensor(np.array([2.0, 3.0], dtype), requires_grad=True)
    y = ops.batch_norm(x, np.zeros(2), np.array([1.0, 4.0]), w, eps=0.0)
    y.backward(np.array([[1, 5], [1, 1]], dtype))
    np.testing.assert_allclose(x.grad, [[2, 7.5], [2, 1.5]], rtol=1e-6)
    np.testing.assert_allclose(w.grad, [3, 2.5 * bad + 1.5], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e38, 1e25, 1e-25])
def test_std_of_float32(scale):
    """σ is a number of the dtype although σ² is not."""
    x = np.array([[1, -2, 3], [0, 1, -1]])
    t = Tensor((x * scale).astype(np.float32), requires_grad=True)
    y = ops.std(t, 1)
    np.testing.assert_allclose(y.data / np.float32(scale), x.std(1), rtol=1e-6)
    y.backward(np.array([1, -2], np.float32))
    expected = (x - x.mean(1, keepdims=True)) / (3 * x.std(1, keepdims=True)) * [[1], [-2]]
    np.testing.assert_allclose(t.grad, expected, rtol=1e-5, atol=1e-7)
    v = ops.var((x * 1e-15).astype(np.float32), 1)  # squares of 1e-30: all their digits
    np.testing.assert_allclose(v.data / np.float32(1e-30), x.var(1), rtol=1e-5)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 12, "inf"])
@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e30), (np.float32, 1e-30), (np.float64, 1e200),
                                              (np.float64, 1e-200)])  # fmt: skip
def test_norms_of_gradients(p, dtype, scale):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=s) for s in (3, (2, 4), 0)]
    tensors = [Tensor(np.zeros(g.shape, dtype), requires_grad=True) for g in gradients]
    for t, g in zip(tensors, gradients, strict=True):
        t.grad = (g * scale).astype(dtype)
    flat = np.concatenate([g.reshape(-1) for g in gradients])
    expected = np.abs(flat).max() if p == "inf" else (np.abs(flat) ** p).sum() ** (1 / p)
    norm = optim.clip_grad_norm_(tensors, 2.0, norm_type=p)
    np.testing.assert_allclose(norm / scale, expected, rtol=1e-5 if dtype is np.float32 else 1e-12)
    if scale > 1:
        for t, g in zip(tensors, gradients, strict=True):
            np.testing.assert_allclose(t.grad, g * (2 / expected), rtol=1e-5)
