"""Numbers in compiled steps: arguments that change from call to call, and what kernels return."""

import numpy as np
import pytest

import minidl
from minidl import CompileError, Tensor, ops
from minidl.compiler import native, program
from minidl.jit import KERNELS, interpreted, kernel

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
HALF, THIRD = np.float32(0.5), np.float32(1 / 3)

INPUTS = {  # values → the one program that takes them all
    "times": (lambda x, t: x * t, [0.1, 0.7, -0.0, 1e300, np.inf, np.nan]),
    "python's arithmetic": (lambda x, t: (1 - t) * x + 2 * t - -t / 3 + abs(t), [0.1, 0.7, 3.0]),
    "a step's count": (lambda x, n: x * (n + 1) / (2 * n - 1), [1, 5, 10**6, -7]),
    "division": (lambda x, t: x / t + t / x, [0.1, 0.0, -0.0]),
    "division of numbers": (lambda x, t: x * (1 / t), [0.1, 0.0, 3.0]),
    "division of ints": (lambda x, n: x * (1 / n), [3, 0, 7]),
    "an op": (lambda x, t: ops.multiply(x, t) + Tensor(x) * t - t, [0.1, 0.2]),
    "a tensor of it": (lambda x, t: x * Tensor(t), [0.1, 0.2]),
    "power": (lambda x, t: np.exp(x) ** t, [2.0, 0.5, -1.0]),
    "float32": (lambda x, t: x * (t * 2 + 1), [HALF, THIRD]),
    "float64": (lambda x, t: x * t, [np.float64(0.1), np.float64(0.3)]),
    "int32": (lambda x, t: x * t, [np.int32(3), np.int32(-5)]),
    "where": (lambda x, t: np.where(x > t, x, t), [0.1, 0.3]),
    "clip": (lambda x, t: np.clip(x, -t, t) + ops.clip(x, -t, t).data, [0.1, 0.3]),
    "full": (lambda x, t: np.full_like(x, t) + np.full(4, t, like=x), [0.1, 0.3]),
    "an index": (lambda x, n: x[n] + x[n, 1], [0, -1, 2]),
    "sum": (lambda x, t: x.sum() * t + t, [0.1, 0.3]),
    "nested": (lambda x, d: x * d["rates"][0] + d["rates"][1], [{"rates": (0.1, 2)}, {"rates": (0.3, -5)}]),
}
CONSTANTS = {  # Python needs these: values → as many programs as there are different ones
    "if": (lambda x, t: x * 2 if t > 0.5 else x - t, [0.1, 0.7, 0.1]),
    "zero": (lambda x, t: x * np.copysign(1, float(t)), [0.0, -0.0, 0.0]),
    "range": (lambda x, n: sum(x * i for i in range(n)), [1, 3, 1]),
    "a shape": (lambda x, n: x.reshape(n, -1), [1, 3, 1]),
    "an axis": (lambda x, n: x.sum(axis=n), [1, 0, -1]),
    "a slice": (lambda x, n: x[:n], [1, 0, 1]),
    "an option": (lambda x, t: ops.leaky_relu(x, float(t)), [0.1, 0.2]),
    "what is returned": (lambda x, t: (x, t)[1], [0.1, 0.3]),
    "power of numbers": (lambda x, t: x * t**2 + 7 // t, [0.1, 0.3]),
    "a key": (lambda x, n: x * {1: 2.0, 3: 4.0}[n], [1, 3]),
    "text": (lambda x, t: x * float(f"{t}"), [1.5, 5.5]),
    "least": (lambda x, t: x * min(t, 0.2), [0.1, 0.3]),
    "type": (lambda x, t: x * (2.0 if isinstance(t, float) else 3.0) * t, [1, 3.0]),
    "truth": (lambda x, t: x if t else -x, [True, False]),
    "large": (lambda x, t: x * t, [2**40, 2**70]),
    "a product too large for 64 bits": (lambda x, n: x * (n * n * 8), [2**30, 2**29]),
    "room": (lambda x, t: x.astype(np.uint8) + t, [1, 300]),
    "float32 in an if": (lambda x, t: x if t > HALF else -x, [HALF, np.float32(1)]),
}


def same(function, step, value):
    try:
        expected = function(X, value)
    except (ZeroDivisionError, OverflowError, IndexError) as error:
        with pytest.raises(type(error)):
            step(X, value)
        return
    for run in (step, step.python):
        found = run(X, value)
        assert type(found) is type(expected) or not isinstance(expected, float | int)
        e, f = (np.asarray(getattr(y, "data", y)) for y in (expected, found))
        assert (f.shape, f.dtype) == (e.shape, e.dtype)
        np.testing.assert_array_equal(f, e)


@pytest.fixture
def as_python(monkeypatch):
    monkeypatch.setattr(native, "interpreted", lambda: True)
    monkeypatch.setattr(program, "interpreted", lambda: True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", INPUTS)
def test_numbers_are_inputs(name, as_python):
    function, values = INPUTS[name]
    step = minidl.compile(function)
    for value in values:
        same(function, step, value)
    assert step.stats["recorded"] == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CONSTANTS)
def test_what_python_needs_is_recorded_per_value(name, as_python):
    function, values = CONSTANTS[name]
    step = minidl.compile(function)
    for value in values:
        same(function, step, value)
    different = len({(type(v), repr(v)) for v in values})
    assert step.stats["recorded"] == different - (name == "room")


def test_numbers_compiled():
    def everything(x, t, n):
        return [
            f(x, n if "int" in k or "index" in k or "count" in k else t)
            for k, (f, v) in INPUTS.items()
            if k != "nested"
        ]

    step = minidl.compile(everything)
    for t, n in ((0.25, 2), (0.7, 1)):
        for found, expected in zip(step(X, t, n), everything(X, t, n), strict=True):
            np.testing.assert_array_equal(getattr(found, "data", found), getattr(expected, "data", expected))
    assert step.stats["recorded"] == 1


def test_gradients_of_what_is_scaled_by_a_number():
    def step(x, t):
        x = Tensor(x, requires_grad=True)
        ops.mean(ops.square(x * t + (1 - t))).backward()
        return x.grad

    compiled = minidl.compile(step)
    for t in (0.5, 0.1, 0.9):
        np.testing.assert_array_equal(compiled(X, t), step(X, t))
    assert compiled.stats["recorded"] == 1


# ------------------------------------------------------------------------------- what kernels return

ANNOTATIONS = [
    "float",
    float,
    "np.float32",
    np.float32,
    "np.float64",
    np.float64,
    np.dtype("f4"),
    "int",
    np.int32,
    bool,
]


def returning(annotation):
    def first_element(x):
        return x[0]

    if annotation is not ANNOTATIONS:
        first_element.__annotations__["return"] = annotation
    KERNELS.pop("first_element", None)
    return kernel(first_element)


@pytest.fixture(autouse=True)
def forgotten():
    yield
    KERNELS.pop("first_element", None)


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=repr)
def test_a_kernel_returns_a_scalar(annotation):
    first, whole = returning(annotation), "int" in repr(annotation)
    x = np.array([3, 4], np.int64 if whole else bool if annotation is bool else np.float32)

    def step(x):
        r = first(x)
        return X * r, (r + 1) * X if annotation is not bool else X

    compiled = minidl.compile(step)
    for run in (compiled, compiled.python):
        for found, expected in zip(run(x), step(x), strict=True):
            if interpreted() and whole:  # there the kernel gives one of NumPy's scalars, which widens
                np.testing.assert_allclose(found, expected, rtol=1e-6)
            else:
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("annotation", [ANNOTATIONS, "Any", "complex", complex, tuple, "tuple[float, float]"], ids=repr)
def test_what_a_kernel_returns_must_be_known(annotation):
    first = returning(annotation)
    with pytest.raises(CompileError, match="first_element, which returns"):
        minidl.compile(lambda x: x * first(x))(np.ones(3))


def test_the_value_that_a_kernel_returns_is_not_known_before():
    first = returning(float)
    with pytest.raises(CompileError, match="needs the value"):
        minidl.compile(lambda x: x if first(x) > 0 else -x)(np.ones(3))


@kernel
def doubled_and_added(x, y, z):
    for i in range(x.size):
        y[i] = 2 * x[i]
        z[i] += x[i]


@kernel
def through_a_view(x, y):
    part = y[1:].reshape(-1)
    part[0] = x[0]


@kernel
def through_another(x, y):
    through_a_view(x, y)


def _by(kernel, out):
    def step(x):
        y = np.empty_like(x)
        if kernel is doubled_and_added:
            kernel(x, y, out(x))
        else:
            kernel(x, out(x))
        return y

    return step


@pytest.mark.parametrize("kernel", [doubled_and_added, through_a_view, through_another], ids=lambda k: k.__name__)
def test_what_a_kernel_stores_into_is_seen(kernel):
    held = np.zeros(3)
    for out, says in (
        (lambda x: held, "in place|plain array"),
        (lambda x: np.zeros(3), "plain array"),
        (lambda x: x, "changes x in place"),
        (lambda x: x[:], "changes x in place"),
    ):
        x = np.ones(3)
        with pytest.raises(CompileError, match=says):
            minidl.compile(_by(kernel, out))(x)
        assert held.tolist() == [0, 0, 0]
        assert x.tolist() == [1, 1, 1]


def test_a_kernel_may_add_to_what_the_step_made():
    def step(x):
        y, z, other = np.empty_like(x), np.zeros_like(x), np.zeros_like(x)
        doubled_and_added(x, y, z)
        through_another(y, z)
        return y, z, other, z + np.zeros_like(x)

    x = np.arange(3.0) + 1
    for found, expected in zip(minidl.compile(step)(x), step(x), strict=True):
        np.testing.assert_array_equal(found, expected)
