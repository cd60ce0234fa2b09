"""Initial weights: bounds and spreads against the formulas, and against PyTorch's."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minidl
from minidl.nn import init
from minidl.tensor import Tensor

SHAPE = (300, 40, 3, 2)  # (out, in, …kernel)
FAN_IN, FAN_OUT = 40 * 6, 300 * 6
FILLS = [
    "uniform_",
    "normal_",
    "trunc_normal_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
]


def filled(name: str, shape: tuple[int, ...] = SHAPE, dtype: Any = np.float64, **options: Any) -> np.ndarray:
    return getattr(init, name)(np.full(shape, np.nan, dtype), **options, generator=np.random.default_rng(0))


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    width = high - low
    assert low <= values.min() < low + 0.001 * width
    assert high - 0.001 * width < values.max() <= high
    counts, _ = np.histogram(values, 10, (low, high))
    np.testing.assert_allclose(counts, values.size / 10, rtol=0.03)


def assert_normal(values: np.ndarray, mean: float, std: float) -> None:
    assert values.mean() == pytest.approx(mean, abs=4 * std / math.sqrt(values.size))
    assert values.std() == pytest.approx(std, rel=4 / math.sqrt(2 * values.size))
    within = (np.abs(values - mean) < std).mean()
    assert within == pytest.approx(math.erf(1 / math.sqrt(2)), abs=0.006)


def test_constants():
    for name, value, options in (("zeros_", 0, {}), ("ones_", 1, {}), ("constant_", 2.5, {"val": 2.5})):
        assert (getattr(init, name)(np.full((2, 3), np.nan), **options) == value).all()
    np.testing.assert_array_equal(init.eye_(np.full((2, 3), np.nan)), [[1, 0, 0], [0, 1, 0]])
    with pytest.raises(ValueError, match=r"eye_: expected two axes, found shape \(3,\)"):
        init.eye_(np.zeros(3))


def test_uniform_and_normal():
    assert_uniform(filled("uniform_"), 0, 1)
    assert_uniform(filled("uniform_", a=-3.0, b=-1.0), -3, -1)
    assert_normal(filled("normal_"), 0, 1)
    assert_normal(filled("normal_", mean=5.0, std=0.1), 5, 0.1)


@pytest.mark.parametrize(("mean", "std", "a", "b"), [(0, 1, -2, 2), (0, 1, -0.5, 3), (1, 2, 0, 5), (0, 1, 1, 1.5)])
def test_truncated_normal(mean, std, a, b):
    x = filled("trunc_normal_", mean=mean, std=std, a=a, b=b)
    assert a <= x.min()
    assert x.max() <= b
    grid = np.linspace(a, b, 20_001)
    density = np.exp(-(((grid - mean) / std) ** 2) / 2)
    density /= density.sum()
    expected = (grid * density).sum()
    spread = math.sqrt(((grid - expected) ** 2 * density).sum())
    assert x.mean() == pytest.approx(expected, abs=5 * spread / math.sqrt(x.size))
    assert x.std() == pytest.approx(spread, rel=0.01)


def test_truncated_normal_refuses_bounds_that_nothing_meets():
    for a, b in ((10.0, 11.0), (2.0, -2.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"trunc_normal_: expected bounds around the mean"):
            init.trunc_normal_(np.zeros(3), a=a, b=b)
    assert -2 <= float(init.trunc_normal_(Tensor(0.0)).data) <= 2


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_xavier(gain):
    total = FAN_IN + FAN_OUT
    bound = gain * math.sqrt(6 / total)
    assert_uniform(filled("xavier_uniform_", gain=gain), -bound, bound)
    assert_normal(filled("xavier_normal_", gain=gain), 0, gain * math.sqrt(2 / total))


KAIMING = [
    ({}, math.sqrt(2 / FAN_IN)),
    ({"a": math.sqrt(5)}, math.sqrt(2 / 6 / FAN_IN)),
    ({"mode": "fan_out"}, math.sqrt(2 / FAN_OUT)),
    ({"nonlinearity": "relu"}, math.sqrt(2 / FAN_IN)),
    ({"nonlinearity": "tanh", "mode": "fan_out"}, 5 / 3 / math.sqrt(FAN_OUT)),
    ({"nonlinearity": "linear"}, 1 / math.sqrt(FAN_IN)),
]


@pytest.mark.parametrize(("options", "std"), KAIMING, ids=str)
def test_kaiming(options, std):
    assert_uniform(filled("kaiming_uniform_", **options), -math.sqrt(3) * std, math.sqrt(3) * std)
    assert_normal(filled("kaiming_normal_", **options), 0, std)


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (5, 2, 3), (1, 7)], ids=str)
def test_orthogonal(shape):
    x = filled("orthogonal_", shape, gain=3.0).reshape(shape[0], -1) / 3
    gram = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform_over_rotations():
    """Every element has mean 0 and variance 1/n (QR alone, without its signs, has a biased diagonal)."""
    rng = np.random.default_rng(0)
    x = np.array([init.orthogonal_(np.empty((3, 3)), generator=rng) for _ in range(3000)])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.045)
    np.testing.assert_allclose(x.var(axis=0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("name", [*FILLS, "orthogonal_"])
def test_named_generators_decide_and_the_default_one_otherwise(name):
    fill: Callable[..., Any] = getattr(init, name)
    x = filled(name)
    np.testing.assert_array_equal(x, filled(name))
    assert not np.array_equal(x, fill(np.empty(SHAPE), generator=np.random.default_rng(1)))
    minidl.manual_seed(0)
    np.testing.assert_array_equal(fill(np.empty(SHAPE)), x)
    assert not np.array_equal(fill(np.empty(SHAPE)), x)


@pytest.mark.parametrize("name", [*FILLS, "orthogonal_", "zeros_"])
def test_tensors_are_filled_in_place_in_their_dtype_and_layout(name):
    fill: Callable[..., Any] = getattr(init, name)
    options = {} if name == "zeros_" else {"generator": np.random.default_rng(0)}
    data = np.full((4, 5), np.nan, np.float32).T
    t = Tensor(data, requires_grad=True)
    assert fill(t, **options) is t
    assert t.data is data
    assert data.dtype == np.float32
    assert np.isfinite(data).all()
    assert t.is_leaf
    if name != "zeros_":
        np.testing.assert_array_equal(data, filled(name, (5, 4)).astype(np.float32))


NONLINEARITIES = [
    (name, None) for name in ("linear", "conv1d", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu")
]
NONLINEARITIES += [("leaky_relu", 0.2), ("leaky_relu", 0)]


@pytest.mark.parametrize(("name", "param"), NONLINEARITIES)
def test_gains_are_pytorchs(name, param):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param), rel=1e-15)


@pytest.mark.parametrize("name", FILLS)
def test_spread_is_pytorchs(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, name)(torch.empty(SHAPE, dtype=torch.float64)).numpy()
    mine = filled(name)
    assert mine.std() == pytest.approx(theirs.std(), rel=0.01)
    assert mine.mean() == pytest.approx(theirs.mean(), abs=0.02 * theirs.std())
    if "uniform" in name or "trunc" in name:
        assert np.abs(mine).max() == pytest.approx(np.abs(theirs).max(), rel=0.001)


def test_errors():
    for name in (*FILLS[3:], "orthogonal_"):
        for shape in ((3,), ()):
            with pytest.raises(ValueError, match=r"at least 2 axes, found shape \("):
                getattr(init, name)(np.zeros(shape))
    with pytest.raises(ValueError, match='expected mode "fan_in" or "fan_out", found'):
        init.kaiming_normal_(np.zeros((2, 2)), mode="fan_avg")
    with pytest.raises(ValueError, match=r"expected a nonlinearity of .*found 'gelu'"):
        init.calculate_gain("gelu")
    assert init.fans(np.zeros((5, 4, 3))) == (12, 15)


def test_dirac_changes_nothing():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test, not a dependency")
    for shape, groups in (
        ((4, 4, 3), 1),
        ((6, 2, 3, 5), 3),
        ((4, 2, 3, 3), 2),
        ((2, 5, 1, 4, 3), 1),
        ((8, 3, 2, 2), 2),
    ):
        expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
        np.testing.assert_array_equal(init.dirac_(np.full(shape, np.nan), groups), expected)
    for shape, groups in (((3, 3), 1), ((1,) * 6, 1), ((3, 3, 3), 2)):
        with pytest.raises(ValueError, match=r"dirac_: expected 3 to 5 axes, .* found shape"):
            init.dirac_(np.zeros(shape), groups)


def test_sparse():
    x = init.sparse_(np.full((50, 400), np.nan), 0.33, std=0.1, generator=np.random.default_rng(0))
    assert ((x == 0).sum(axis=0) == 17).all()
    assert 150 < (x == 0).sum(axis=1).max() < 190  # not the same rows in each column
    assert_normal(x[x != 0], 0, 0.1)
    for shape, sparsity in (((3,), 0.5), ((3, 3), 1.5)):
        with pytest.raises(ValueError, match="sparse_: expected two axes and a part from 0 to 1"):
            init.sparse_(np.zeros(shape), sparsity)
