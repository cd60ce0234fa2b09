"""Compiled steps give NumPy's bits: functions of numbers, sums in every order, casts, small programs of these."""

import itertools
import platform

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import ops
from minidl.compiler import native, numpy_loops, program
from minidl.jit import interpreted

RNG = np.random.default_rng(0)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.0, 1e-42, 1e-310, 3e38, -3e38, 1.7e308, 88.7, 709.8]
ONE = [
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "square", "reciprocal", "sin", "cos",
    "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "abs", "fabs",
    "sign", "negative", "positive", "floor", "ceil", "trunc", "rint", "isnan", "isinf", "isfinite", "logical_not",
]  # fmt: skip
TWO = [
    "add", "subtract", "multiply", "divide", "power", "float_power", "maximum", "minimum", "fmax", "fmin", "fmod",
    "remainder", "floor_divide", "arctan2", "hypot", "copysign", "nextafter", "logaddexp", "logaddexp2", "heaviside",
    "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and", "logical_or",
    "logical_xor",
]  # fmt: skip
WHOLE = [
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "maximum", "minimum", "bitwise_and",
    "bitwise_or", "bitwise_xor", "left_shift", "right_shift", "gcd", "less", "equal", "logical_and",
]  # fmt: skip


def values(dtype, n, seed=0):
    rng = np.random.default_rng(seed)
    scales = rng.choice([1e-3, 1.0, 10.0, 1e3, 1e30], n)
    with np.errstate(over="ignore"):
        x = (rng.normal(size=n) * scales).astype(dtype)
        x[: len(SPECIAL)] = np.array(SPECIAL)[:n]
    return rng.permutation(x)


def assert_bits(found, expected, where=""):
    """Of one shape, dtype and bits; any NaN is as good as another."""
    found, expected = (
        np.asarray(getattr(y, "data", y) if not isinstance(y, np.ndarray) else y) for y in (found, expected)
    )
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), where
    np.testing.assert_array_equal(found, expected, err_msg=where)
    if found.dtype.kind == "f":
        signs = np.signbit(found) == np.signbit(expected)
        assert (signs | np.isnan(expected)).all(), f"{where}: the sign of 0"


@pytest.fixture
def as_python(monkeypatch):
    monkeypatch.setattr(native, "interpreted", lambda: True)
    monkeypatch.setattr(program, "interpreted", lambda: True)


def elementwise(x, z):
    """Every function, of contiguous, strided, repeated and single numbers."""
    made = {}
    for name in ONE:
        f = getattr(np, name)
        made[name] = f(x), f(x[::3]), f(x[:1]), f(x.sum()), f(x.reshape(2, -1)[:, 1:].T)
    for name in TWO:
        f = getattr(np, name)
        made[name] = (
            f(x, z),
            f(x[1::2], z[::2]),
            f(x, 2.5),
            f(0.5, x),
            f(x, x[3]),
            f(x[:4, None], z[:5]),
            f(x[:1], z[:1]),
        )
    for exponent in (-2, -1, -0.5, 0, 0.5, 1, 2, 3):
        made[f"power {exponent}"] = (x**exponent,)
    return made


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_numbers_have_numpys_bits(dtype, as_python):
    x, z = values(dtype, 70), values(dtype, 70, 1)
    found = minidl.compile(elementwise)(x, z)
    for name, expected in elementwise(x, z).items():
        for n, (f, e) in enumerate(zip(found[name], expected, strict=True)):
            assert_bits(f, e, f"{name}, case {n}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_compiled(dtype):
    def step(x, z):
        return [np.exp(x), np.tanh(x[::3]), np.power(x, z), x % z, np.log(x[:1]), np.power(x, 2.5), np.maximum(x, z)]

    x, z = values(dtype, 70), values(dtype, 70, 1)
    for f, e in zip(minidl.compile(step)(x, z), step(x, z), strict=True):
        assert_bits(f, e)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_do_not_depend_on_the_length(dtype, as_python):
    """The last numbers of an array, which fill no vector, are computed as the others are."""
    x = values(dtype, 80)

    def step(x):
        return [f(x[k : k + n]) for n in range(1, 71) for k, f in ((n % 7, np.exp), (n % 5, np.tanh), (1, ops.sigmoid))]

    whole = [np.exp(x), np.tanh(x), ops.sigmoid(x).data]
    made = iter(minidl.compile(step)(x))
    for n in range(1, 71):
        for k, y in zip((n % 7, n % 5, 1), whole, strict=True):
            assert_bits(next(made), y[k : k + n], f"length {n}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
def test_functions_of_whole_numbers(dtype, as_python):
    info = np.iinfo(dtype)
    a = np.concatenate([[info.min, info.max, 0, 1, 2, 7], RNG.integers(info.min, info.max, 30)]).astype(dtype)
    b = np.concatenate([[0, 3, 0, 5, 1, 2], RNG.integers(0, 7, 30)]).astype(dtype)

    def step(a, b):
        return [getattr(np, f)(a, b) for f in WHOLE] + [
            a // -1 if dtype != np.uint8 else a // 3,
            a % 5,
            ~a,
            -b,
            abs(b),
            b**3,
        ]

    for name, f, e in zip(
        [*WHOLE, "//", "%", "~", "-", "abs", "**"], minidl.compile(step)(a, b), step(a, b), strict=True
    ):
        assert_bits(f, e, name)


CASTS = [np.float32, np.float64, np.int64, np.int32, np.uint8, bool]


@pytest.mark.parametrize("dtype", CASTS)
def test_casts(dtype):
    x = np.array([0.0, -0.0, 0.5, -1.9, 100.7, 255.0, -128.0, 1e-320]).astype(dtype)

    def step(x):
        return [x.astype(other) for other in CASTS if not (other is np.uint8 and dtype not in (np.uint8, bool))]

    for f, e in zip(minidl.compile(step)(x), step(x), strict=True):
        assert_bits(f, e)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere NumPy casts these otherwise")
@pytest.mark.skipif(interpreted(), reason="Python's own casts refuse NaN")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_casts_of_what_has_no_room(dtype):
    whole = [np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8]
    numbers = [np.nan, np.inf, -np.inf, 1e10, -1e10, 1e20, -1e20, 300.0, -1.0, -2.7, 2.0**31, 2.0**63, -(2.0**63)]
    compiled = minidl.compile(lambda x: [x.astype(other) for other in whole])
    for x in numbers:  # one by one, for NumPy casts several at once otherwise, and these as it happens
        one = np.array([x], dtype)
        for f, other in zip(compiled(one), whole, strict=True):
            assert_bits(f, one.astype(other), f"{x} as {other.__name__}")
    assert compiled.stats["recorded"] == 1


VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.T,
    "every other": lambda x: x[..., ::2],
    "without the first": lambda x: x[..., 1:],
    "reversed": lambda x: x[::-1],
    "repeated": lambda x: np.broadcast_to(x[..., None], (*x.shape, 3)),
}


def sums(x, dtype):
    made = {}
    for name, view in VIEWS.items():
        y = view(x)
        for r in range(1, y.ndim + 1):
            for axes in itertools.combinations(range(y.ndim), r):
                for f in ("sum", "mean", "prod", "max", "min"):
                    options = {"dtype": dtype} if dtype and f not in ("max", "min") else {}
                    made[name, axes, f] = getattr(np, f)(y, axis=axes, **options)
        made[name, "cumsum"] = np.cumsum(y, axis=-1)
    return made


@pytest.mark.parametrize("shape", [(7,), (9000,), (3, 4), (50, 40), (5, 6, 7)])
@pytest.mark.parametrize(("kind", "dtype"), [("f8", None), ("f4", None), ("f4", "f8"), ("i4", None)])
def test_sums_in_numpys_order(shape, kind, dtype, as_python):
    x = (RNG.normal(size=shape) * (10 if kind == "i4" else 1)).astype(kind)
    found = minidl.compile(lambda x: sums(x, dtype))(x)
    for key, expected in sums(x, dtype).items():
        assert_bits(found[key], expected, str(key))


def test_sums_compiled():
    def step(x):
        return x.sum(), x.mean(axis=0), x[:, 1:].sum(), x.sum(axis=1, dtype=np.float64), x.max(axis=0), x.T.prod(axis=0)

    x = RNG.normal(size=(3, 300)).astype(np.float32)
    for f, e in zip(minidl.compile(step)(x), step(x), strict=True):
        assert_bits(f, e)


def test_extremes_and_nan():
    x = np.array([[0.0, -0.0, 1, np.nan], [-0.0, 0.0, -np.inf, 5], [3, 3, np.inf, -5]])

    def step(x):
        y = x[:, :3]
        return x.max(axis=1), x.min(axis=0), y.max(), y.min(axis=1), x.argmax(axis=1), x.cumsum(axis=1), x.prod(axis=0)

    for f, e in zip(minidl.compile(step)(x), step(x), strict=True):
        assert_bits(f, e)


def test_the_sums_of_negative_zeros_and_of_nothing():
    def step(x):
        return x.sum(), x.cumsum(), x.cumprod(), x[:0].sum(), x[:0].prod(), x[:, None].sum(axis=1), np.add.reduce(x)

    x = np.array([-0.0, -0.0])
    for f, e in zip(minidl.compile(step)(x), step(x), strict=True):
        assert_bits(f, e)


ACTIVATIONS = {
    "sigmoid": ops.sigmoid, "tanh": ops.tanh, "exp": ops.exp, "log": ops.log, "power": lambda x: ops.power(x, 2.5),
    "softplus": ops.softplus, "silu": ops.silu, "elu": ops.elu,
    "log_softmax": ops.log_softmax, "logsumexp": ops.logsumexp, "tanh gelu": lambda x: ops.gelu(x, "tanh"),
    "std": ops.std, "log1p": ops.log1p, "expm1": ops.expm1, "sin": ops.sin, "tan": ops.tan, "cosh": ops.cosh,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_have_eagers_bits(dtype, as_python):
    x = values(dtype, 67)

    def step(x):
        made = {}
        for name, f in ACTIVATIONS.items():
            t = minidl.Tensor(x, requires_grad=True)
            y = f(t)
            y.backward(np.ones_like(y.data))
            made[name] = y.data, t.grad
        return made

    found = minidl.compile(step)(x)
    for name, pair in step(x).items():
        for f, e in zip(found[name], pair, strict=True):
            assert_bits(f, e, name)


STEPS = {
    "exp": lambda x, y: np.exp(x), "tanh": lambda x, y: np.tanh(y), "add": lambda x, y: x + y,
    "scale": lambda x, y: x * 0.5 - y, "power": lambda x, y: np.abs(x) ** 1.5,
    "maximum": lambda x, y: np.maximum(x, -y), "log": lambda x, y: np.log1p(y * y),
    "mean": lambda x, y: x - y.mean(axis=0), "sum": lambda x, y: x + y.sum(axis=-1, keepdims=True),
    "reversed": lambda x, y: x[::-1] + y, "rolled": lambda x, y: np.roll(x, 1, axis=1) * y,
    "where": lambda x, y: np.where(x > y, x, 1), "constant": lambda x, y: x + np.arange(x.shape[1], dtype=x.dtype),
    "slice": lambda x, y: np.concatenate([x[:, 1:], y[:, :1]], axis=1), "cumsum": lambda x, y: x.cumsum(axis=1),
    "in place": lambda x, y: _changed(x, y), "turned": lambda x, y: (x.T.reshape(x.shape) - y),
}  # fmt: skip


def _changed(x, y):
    z = x.copy()
    z[1:] += y[:-1]
    z *= y[::-1]
    return z


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 9),
       st.sampled_from(["f4", "f8"]))  # fmt: skip
def test_small_programs_have_eagers_bits(names, rows, columns, dtype):
    x = np.random.default_rng(rows * 10 + columns).normal(size=(rows, columns)).astype(dtype)

    def step(x):
        y, z = x, x * 2
        for name in names:
            y, z = STEPS[name](y, z), y
        return y, z, y.sum()

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(native, "interpreted", lambda: True)
        patch.setattr(program, "interpreted", lambda: True)
        for f, e in zip(minidl.compile(step)(x), step(x), strict=True):
            assert_bits(f, e, str(names))


def test_the_head_of_numpys_functions_is_as_expected():
    if interpreted():
        pytest.skip("no machine code is looked for")
    address, _ = numpy_loops._table("exp", "float32")
    assert address
    assert not numpy_loops.has_loop(np.matmul, [np.dtype("f4"), np.dtype("i4"), np.dtype("f4")])
