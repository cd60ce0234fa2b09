"""Gradients of every op: against finite differences, complex steps, closed forms, and tables of kinks and NaN."""

import itertools
import math
import warnings

import numpy as np
import pytest
from cases import BY_OP, CASES, COMPOSED, OP_NAMES, apart

import minidl
from minidl import Tensor, ops

nan, inf = np.nan, np.inf
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)


def gradients(fn, *inputs, grad=None):
    """fn's value, and the gradients of Σ grad·fn."""
    tensors = [Tensor(np.asarray(x), requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(np.ones(y.shape, y.dtype) if grad is None else grad)
    return y.data, [t.grad for t in tensors]


def test_every_op_has_a_case():
    assert set(OP_NAMES) | set(COMPOSED) == set(BY_OP)
    assert set(ops.__all__) | {"getitem"} == set(BY_OP)


@every_case
def test_case_runs_its_op(case):
    if case.op in COMPOSED:
        return
    names, stack = set(), [case.fn(*(Tensor(x, requires_grad=True) for x in case.inputs()))]
    while stack:
        node = stack.pop()._node
        if node is not None:
            names.add(node.op)
            stack += node.inputs
    assert case.op in names


@every_case
def test_finite_differences(case):
    for seed in (0, 1):
        report = minidl.gradcheck(case.fn, *case.inputs(seed), generator=np.random.default_rng(seed + 10))
        assert report.checked == sum(x.size for x in case.inputs())


# ------------------------------------------------------------------ independent: the complex step


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


C = np.sqrt(2 / np.pi)
TRANSCRIBED = {
    "negative": lambda z: -z, "square": lambda z: z**2, "exp": np.exp, "expm1": np.expm1, "sin": np.sin, "cos": np.cos,
    "arctan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "sigmoid": sigmoid, "tan": np.tan,
    "silu": lambda z: z * sigmoid(z), "softplus": lambda z: np.log(1 + np.exp(z)), "sqrt": np.sqrt, "log": np.log,
    "log2": lambda z: np.log(z) / np.log(2), "log1p": np.log1p, "add": np.add, "subtract": np.subtract,
    "multiply": np.multiply, "divide": np.divide, "power": lambda a, b: np.exp(b * np.log(a)),
    "gelu-tanh": lambda z: z / 2 * (1 + np.tanh(C * (z + 0.044715 * z**3))),
    "softmax--1": lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True),
    "log_softmax--1": lambda z: z - np.log(np.exp(z).sum(-1, keepdims=True)),
    "logsumexp-None": lambda z: np.log(np.exp(z).sum()), "prod-None": np.prod, "sum-None": np.sum, "cumsum": np.cumsum,
    "mean-None": lambda z: z.sum() / z.size, "var-None-ddof=1": lambda z: ((z - z.mean()) ** 2).sum() / (z.size - 1),
    "std-None-ddof=0": lambda z: np.sqrt(((z - z.mean()) ** 2).mean()), "matmul": np.matmul, "outer": np.outer,
    "mse-mean": lambda x, t: ((x - t) ** 2).mean(), "dense": lambda x, w, b: x @ w.T + b,
    "binary_cross_entropy_with_logits-sum":
        lambda x, t: -(t * np.log(sigmoid(x)) + (1 - t) * np.log(1 - sigmoid(x))).sum(),
    "kl_div-sum": lambda x, t: (t * (np.log(t) - x)).sum(),
    "kl_div-sum-log": lambda x, t: (np.exp(t) * (t - x)).sum(),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSCRIBED)
def test_complex_step(name):
    """f(x + ih) = f(x) + ih·f′(x) + O(h²): a derivative to the last digits, from another text of f."""
    (case,) = (c for c in CASES if c.id == name)
    inputs = case.inputs(2)
    value = TRANSCRIBED[name](*inputs)
    g = np.random.default_rng(3).normal(size=np.shape(value))
    y, found = gradients(case.fn, *inputs, grad=g)
    np.testing.assert_allclose(y, value, rtol=1e-12, atol=1e-14)
    for i, x in enumerate(inputs):
        for index in np.ndindex(x.shape):
            moved = [np.array(a, complex) for a in inputs]
            moved[i][index] += 1e-30j
            expected = np.sum(g * np.imag(TRANSCRIBED[name](*moved))) / 1e-30
            assert found[i][index] == pytest.approx(expected, rel=1e-11, abs=1e-13), (i, index)


def test_gelu_is_the_normal_distribution():
    x = np.array([-8.0, -1.5, 0.0, 0.7, 6.0])
    y, (dx,) = gradients(ops.gelu, x)
    phi = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x[1:]]
    np.testing.assert_allclose(y[1:], x[1:] * phi, rtol=1e-14)
    np.testing.assert_allclose(y[0], -8 * 6.220960574271785e-16, rtol=1e-12)  # Φ(−8), where 1 + erf is 0
    np.testing.assert_allclose(dx[1:], phi + x[1:] * np.exp(-(x[1:] ** 2) / 2) / np.sqrt(2 * np.pi), rtol=1e-13)


# ------------------------------------------------------------------------- axes, shapes, broadcasts

REDUCTIONS = {
    name: (getattr(ops, name), getattr(np, name)) for name in ("sum", "mean", "var", "std", "max", "min", "prod")
}
AXES = [None, 0, 1, 2, -1, -3, (0,), (0, 1), (1, 2), (2, 0), (-1, 0), (1, 2, 0), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", [*REDUCTIONS, "logsumexp"])
def test_reductions_over_axes(name, axis, keepdims):
    x = apart(2, 3, 5, step=0.1)(np.random.default_rng(0))
    if name == "logsumexp":
        y, expected = ops.logsumexp(x, axis, keepdims), np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))
    else:
        y = REDUCTIONS[name][0](x, axis=axis, keepdims=keepdims)
        expected = REDUCTIONS[name][1](x, axis=axis, keepdims=keepdims)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-15)
    if axis != () or name != "std":  # the standard deviation of one number has a kink
        minidl.gradcheck(lambda x: getattr(ops, name)(x, axis=axis, keepdims=keepdims), x)


BROADCASTS = [((), ()), ((), (2, 3)), ((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 1), (2, 3)), ((2, 1), (1, 3)),
              ((1,), (1,)),
              ((1, 3, 1), (2, 1, 5)), ((0, 3), (3,)), ((2, 0, 1), (1, 5)), ((1,), (0,)), ((1, 1, 7), (7,))]  # fmt: skip


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "remainder"])
def test_broadcasting(name, shapes):
    """The gradient of an array that broadcasting repeats is the sum over its repetitions."""
    rng = np.random.default_rng(5)
    for a_shape, b_shape in (shapes, shapes[::-1]):
        a, b = rng.uniform(2.1, 2.9, a_shape), rng.uniform(1.1, 1.9, b_shape)
        full = np.broadcast_shapes(a_shape, b_shape)
        g = rng.normal(size=full)
        y, found = gradients(getattr(ops, name), a, b, grad=g)
        np.testing.assert_array_equal(y, getattr(np, name)(a, b))
        _, whole = gradients(
            getattr(ops, name), np.broadcast_to(a, full).copy(), np.broadcast_to(b, full).copy(), grad=g
        )
        for x, dx, repeated in zip((a, b), found, whole, strict=True):
            extra = repeated.ndim - x.ndim
            axes = tuple(i for i in range(repeated.ndim) if i < extra or x.shape[i - extra] == 1)
            assert dx.shape == x.shape
            np.testing.assert_allclose(dx, repeated.sum(axis=axes).reshape(x.shape), rtol=1e-12, atol=1e-14)


UNARY = ["negative", "square", "exp", "sin", "tanh", "abs", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid",
         "softplus", "flip", "transpose", "cumsum", "sum", "prod", "arctan"]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (0, 2), (1, 1, 1), (7,), (2, 3, 5), (13, 11)], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_shapes(name, shape):
    x = apart(*shape, step=0.02)(np.random.default_rng(1))
    y, (dx,) = gradients(getattr(ops, name), x)
    assert dx.shape == shape
    assert dx.dtype == np.float64
    if name == "sum":
        assert (y == x.sum(), dx.tolist()) == (True, np.ones(shape).tolist())
    elif name not in ("prod", "cumsum"):
        assert sorted(y.shape) == sorted(shape)
        flat, (flat_dx,) = gradients(
            getattr(ops, name), x.reshape(-1)
        )  # element by element: the shape is nothing to it
        if name not in ("flip", "transpose"):
            np.testing.assert_array_equal(y.reshape(-1), flat)
        np.testing.assert_array_equal(dx.reshape(-1), flat_dx)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty_matrices(shape):
    rows, columns = shape
    for fn in (ops.matmul, lambda a, b: ops.einsum("ij,jk->ik", a, b)):
        y, (da, db) = gradients(fn, np.ones(shape), np.ones((columns, 2)))
        np.testing.assert_array_equal(y, np.zeros((rows, 2)))
        assert (da.shape, db.shape) == (shape, (columns, 2))
        np.testing.assert_array_equal(db, np.zeros((columns, 2)) if not rows else np.full((columns, 2), float(rows)))
    for fn in (ops.dense, ops.dense_relu):
        y, (dx, dw, db) = gradients(fn, np.ones(shape), np.ones((2, columns)), np.ones(2))
        np.testing.assert_array_equal(y, np.ones((rows, 2)))
        np.testing.assert_array_equal(db, [rows, rows])
        assert (dx.shape, dw.shape) == (shape, (2, columns))
    y, (dz,) = gradients(lambda z: ops.softmax_cross_entropy(z, np.zeros(0, int), reduction="sum"), np.zeros((0, 3)))
    assert (y, dz.shape) == (0, (0, 3))


# ------------------------------------------------------------------------------------------- kinks

KINKS = [
    ("relu", ops.relu, [[-1, -0.0, 0, 2]], [[0, 0, 0, 1]]),
    ("dense_relu", lambda x: ops.dense_relu(x, np.ones((1, 1))), [[[-1], [0], [2]]], [[[0], [0], [1]]]),
    ("abs", ops.abs, [[-2, -0.0, 0, 3]], [[-1, 0, 0, 1]]),
    ("l1", lambda a, b: ops.l1(a, b, reduction="sum"), [[1, 2, 3], [1, 3, 2]], [[0, -1, 1], [0, 1, -1]]),
    ("maximum", ops.maximum, [[1, 2, 3], [1, 3, 2]], [[0.5, 0, 1], [0.5, 1, 0]]),
    ("minimum", ops.minimum, [[1, 2, 3], [1, 3, 2]], [[0.5, 1, 0], [0.5, 0, 1]]),
    ("maximum-constant", lambda x: ops.maximum(x, 0), [[-1, 0, 2]], [[0, 0.5, 1]]),
    ("minimum-constant", lambda x: ops.minimum(0.0, x), [[-1, 0, 2]], [[1, 0.5, 0]]),
    ("maximum-infinite", ops.maximum, [[inf, -inf, inf], [inf, -inf, 1]], [[0.5, 0.5, 1], [0.5, 0.5, 0]]),
    ("max", ops.max, [[1, 3, 3, 2]], [[0, 0.5, 0.5, 0]]),
    ("max-axis", lambda x: ops.max(x, axis=1), [[[5, 5, 5], [1, 2, 2]]], [[[1 / 3] * 3, [0, 0.5, 0.5]]]),
    ("max-axes", lambda x: ops.max(x, axis=(0, 2)), [[[[1, 4]], [[4, 4]]]], [[[[0, 1 / 3]], [[1 / 3, 1 / 3]]]]),
    ("min", ops.min, [[1, 3, 1, 1]], [[1 / 3, 0, 1 / 3, 1 / 3]]),
    ("min-axis", lambda x: ops.min(x, 0, True), [[[5, 1], [5, 2]]], [[[0.5, 1], [0.5, 0]]]),
    ("max-infinite", ops.max, [[inf, 1, inf]], [[0.5, 0, 0.5]]),
    ("clip", lambda x: ops.clip(x, -1, 2), [[-2, -1, 0, 2, 3]], [[0, 1, 1, 1, 0]]),
    ("clip-low", lambda x: ops.clip(x, 1, None), [[0, 1, 2]], [[0, 1, 1]]),
    ("clip-high", lambda x: ops.clip(x, max=1), [[0, 1, 2]], [[1, 1, 0]]),
    ("clip-crossed", lambda x: ops.clip(x, 2, 1), [[0, 1, 1.5, 2, 3]], [[0, 0, 0, 0, 0]]),
    ("huber", lambda x: ops.huber(x, np.zeros(6), "sum", 0.5), [[-2, -0.5, -0.25, 0, 0.5, 2]],
     [[-0.5, -0.5, -0.25, 0, 0.5, 0.5]]),
    ("leaky_relu", lambda x: ops.leaky_relu(x, 0.1), [[-1, 0, 1]], [[0.1, 0.1, 1]]),
    ("elu", lambda x: ops.elu(x, 0.5), [[-inf, 0, 1]], [[0, 0.5, 1]]),
    ("softplus", lambda x: ops.softplus(x, 2.0, 3.0), [[0, 1.5, 1.5000001, inf, -inf]],
     [[0.5, 1 / (1 + math.exp(-3)), 1, 1, 0]]),
    ("where", lambda a, b: ops.where([True, False], a, b), [[1, 2], [3, 4]], [[1, 0], [0, 1]]),
    ("sqrt", ops.sqrt, [[0.0, 4]], [[inf, 0.25]]),
    ("log", ops.log, [[0.0, 4]], [[inf, 0.25]]),
    ("power-base-0", lambda a: ops.power(a, 2), [[0.0, 3]], [[0, 6]]),
    ("power-base-0-exponents", ops.power, [[0.0, 0, 0, 2], [0.0, 1, 2, 0]], [[0, 1, 0, 0], [0, 0, 0, math.log(2)]]),
    ("power-exponent-0", lambda a: ops.power(a, 0.0), [[0.0, -3]], [[0, 0]]),
    ("power-base-0-negative", lambda a: ops.power(a, -1), [[0.0]], [[-inf]]),
    ("std", ops.std, [[2.0, 2, 2]], [[0, 0, 0]]),
    ("var", ops.var, [[2.0, 2, 2]], [[0, 0, 0]]),
    ("prod", ops.prod, [[0.0, 2, 3]], [[6, 0, 0]]),
    ("prod-two-zeros", ops.prod, [[0.0, 2, 0]], [[0, 0, 0]]),
    ("floor_divide", ops.floor_divide, [[7.0, -7], [2.0, 2]], [[0, 0], [0, 0]]),
    ("remainder", ops.remainder, [[7.0, -7], [2.0, 2]], [[1, 1], [-3, 4]]),
    ("logsumexp", ops.logsumexp, [[-inf, 0, 0]], [[0, 0.5, 0.5]]),
    ("logsumexp-nothing", ops.logsumexp, [[-inf, -inf]], [[0, 0]]),
    ("logsumexp-large", ops.logsumexp, [[1e4, 1e4, -1e4]], [[0.5, 0.5, 0]]),
    ("softmax", lambda x: ops.softmax(x)[1], [[-inf, 0, 0]], [[0, 0.25, -0.25]]),
    ("log_softmax", lambda x: ops.log_softmax(x)[1], [[-inf, 0, 0]], [[0, 0.5, -0.5]]),
    ("sigmoid", ops.sigmoid, [[-1e4, -inf, 0, inf, 1e4]], [[0, 0, 0.25, 0, 0]]),
    ("sigmoid-tails", ops.sigmoid, [[-40.0, 40]], [[math.exp(-40)] * 2]),
    ("tanh", ops.tanh, [[-1e4, inf]], [[0, 0]]),
    ("gelu", ops.gelu, [[-1e4, 0, 1e4]], [[0, 0.5, 1]]),
    ("gelu-infinite", ops.gelu, [[-inf, inf]], [[0, 1]]),
    ("kl_div-zero-target", lambda x: ops.kl_div(x, np.array([0.0, 1.0]), reduction="sum"), [[-3, -1]], [[0, -1]]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize(("fn", "inputs", "expected"), [k[1:] for k in KINKS], ids=[k[0] for k in KINKS])
def test_kinks(fn, inputs, expected, dtype):
    with np.errstate(all="ignore"):
        _, found = gradients(fn, *(np.asarray(x, dtype) for x in inputs))
    for dx, wanted in zip(found, expected, strict=True):
        assert dx.dtype == dtype
        np.testing.assert_allclose(dx, wanted, rtol=4 * np.finfo(dtype).eps, atol=0)


# ------------------------------------------------------------------------------- NaN and infinity

TOUCHES = (50.0, -50.0, 3.0, 0.3, -0.3)
NAN_SPREADS = ("dropout", "dropout2d", "prod", "recurrent", "scaled_dot_product_attention")  # NaN · 0 is NaN


@every_case
def test_nan_reaches_what_depends_on_it(case):
    """Every output that an element can change is NaN when the element is; the others are as they were."""
    inputs = case.inputs()

    def run():
        return case.fn(*map(Tensor, inputs))

    with np.errstate(all="ignore"):
        before = run().data
        for x in inputs:
            for index in {(0,) * x.ndim, tuple(n - 1 for n in x.shape)} if x.size else ():
                kept, depends = x[index], np.zeros(before.shape, bool)
                for touch in TOUCHES:
                    x[index] = touch
                    depends |= ~np.equal(run().data, before)
                x[index] = nan
                after = run().data
                x[index] = kept
                assert np.isnan(after)[depends].all(), index
                padded = case.op.startswith("conv") and x is inputs[1]  # a weight meets the zeros of the padding
                if case.op not in NAN_SPREADS and not padded:
                    np.testing.assert_array_equal(after[~depends], before[~depends])


LOSS_LABELS = np.array([0, 2])
VALUES = [  # fn(input) = expected, exactly or to a few digits
    ("relu", ops.relu, [nan, -inf, inf, -0.0], [nan, 0, inf, 0]),
    ("leaky_relu", ops.leaky_relu, [nan, -inf, inf], [nan, -inf, inf]),
    ("elu", ops.elu, [nan, -inf, inf], [nan, -1, inf]),
    ("sigmoid", ops.sigmoid, [nan, -inf, inf, -1e4, 1e4], [nan, 0, 1, 0, 1]),
    ("silu", ops.silu, [nan, inf, -1e4, 1e4], [nan, inf, 0, 1e4]),
    ("softplus", ops.softplus, [nan, -inf, inf, 1e4, -1e4, 0], [nan, 0, inf, 1e4, 0, math.log(2)]),
    ("gelu", ops.gelu, [nan, inf, -1e4, 1e4], [nan, inf, 0, 1e4]),
    ("gelu-tanh", lambda x: ops.gelu(x, "tanh"), [nan, inf, -1e4, 1e4], [nan, inf, 0, 1e4]),
    ("tanh", ops.tanh, [nan, -inf, inf], [nan, -1, 1]),
    ("log", ops.log, [nan, 0, inf, -1], [nan, -inf, inf, nan]),
    ("log1p", ops.log1p, [nan, -1, 1e-20], [nan, -inf, 1e-20]),
    ("expm1", ops.expm1, [nan, -inf, 1e-20], [nan, -1, 1e-20]),
    ("exp", ops.exp, [nan, -inf, inf, 1e4], [nan, 0, inf, inf]),
    ("sqrt", ops.sqrt, [nan, 0, inf, -1], [nan, 0, inf, nan]),
    ("abs", ops.abs, [nan, -inf, -0.0], [nan, inf, 0]),
    ("divide", lambda x: ops.divide(1.0, x), [nan, 0, -0.0, inf], [nan, inf, -inf, 0]),
    ("power", lambda x: ops.power(x, 2), [nan, -inf], [nan, inf]),
    ("maximum", lambda x: ops.maximum(x, 0.0), [nan, -inf, inf], [nan, 0, inf]),
    ("minimum", lambda x: ops.minimum(0.0, x), [nan, -inf, inf], [nan, -inf, 0]),
    ("clip", lambda x: ops.clip(x, -1, 1), [nan, -inf, inf], [nan, -1, 1]),
    ("softmax-nan", ops.softmax, [nan, 1, 2], [nan, nan, nan]),
    ("softmax-inf", ops.softmax, [inf, 1, 2], [nan, nan, nan]),
    ("softmax-minus", ops.softmax, [-inf, 1, 1], [0, 0.5, 0.5]),
    ("softmax-nothing", ops.softmax, [-inf, -inf], [nan, nan]),
    ("softmax-large", ops.softmax, [1e4, -1e4, 1e4], [0.5, 0, 0.5]),
    ("log_softmax-large", ops.log_softmax, [1e4, -1e4], [0, -2e4]),
    ("log_softmax-minus", ops.log_softmax, [-inf, 0], [-inf, 0]),
    ("logsumexp", ops.logsumexp, [nan, 1], nan),
    ("logsumexp-nan-inf", ops.logsumexp, [nan, inf], nan),
    ("logsumexp-inf", ops.logsumexp, [inf, 1], inf),
    ("logsumexp-both", ops.logsumexp, [inf, -inf], inf),
    ("logsumexp-minus", ops.logsumexp, [-inf, 1], 1),
    ("logsumexp-nothing", ops.logsumexp, [-inf, -inf], -inf),
    ("logsumexp-large", ops.logsumexp, [1e4, 1e4], 1e4 + math.log(2)),
    ("logsumexp-rows", lambda x: ops.logsumexp(x, 1), [[-inf, -inf], [0, 0], [inf, 0]], [-inf, math.log(2), inf]),
    ("max", ops.max, [1, nan, 3], nan),
    ("min", ops.min, [1, nan, 3], nan),
    ("sum", ops.sum, [inf, -inf], nan),
    ("prod", ops.prod, [inf, 0], nan),
    ("mean", ops.mean, [inf, 1], inf),
    ("dense_relu", lambda x: ops.dense_relu(x, np.ones((1, 1)), np.ones(1)),
     [[nan], [-inf], [inf]], [[nan], [0], [inf]]),
    ("cross_entropy-large", lambda x: ops.softmax_cross_entropy(x, LOSS_LABELS, reduction="none"),
     [[1e4, -1e4, 0], [1e4, -1e4, 0]], [0, 1e4]),
    ("cross_entropy-nan", lambda x: ops.softmax_cross_entropy(x, LOSS_LABELS, reduction="none"),
     [[0, nan, 0], [0, 0, 0]], [nan, math.log(3)]),
    ("cross_entropy-nan-first", lambda x: ops.softmax_cross_entropy(x, LOSS_LABELS, reduction="none"),
     [[nan, 1, 2], [inf, 0, 0]], [nan, nan]),
    ("cross_entropy-minus", lambda x: ops.softmax_cross_entropy(x, LOSS_LABELS, reduction="none"),
     [[0, -inf, 0], [0, 0, -inf]], [math.log(2), inf]),
    ("bce-large", lambda x: ops.binary_cross_entropy_with_logits(x, np.array([0.0, 1, 0, 1, 0.5]), reduction="none"),
     [1e4, 1e4, -1e4, -1e4, 0], [1e4, 0, 0, 1e4, math.log(2)]),
    ("bce-infinite", lambda x: ops.binary_cross_entropy_with_logits(x, np.array([0.0, 1, nan]), reduction="none"),
     [inf, -inf, 0], [inf, inf, nan]),
    ("mse-large", lambda x: ops.mse(x, np.zeros(2)), [1e4, -1e4], 1e8),
    ("huber-inf", lambda x: ops.huber(x, np.zeros(3), "none"), [inf, -inf, nan], [inf, inf, nan]),
    ("kl_div-zero", lambda x: ops.kl_div(x, np.array([0.0, 0.0, 1.0]), reduction="none"), [-inf, nan, -1], [0, nan, 1]),
    ("kl_div-log-zero", lambda x: ops.kl_div(x, np.array([-inf, 0]), reduction="none", log_target=True),
     [-1, -1], [0, 1]),
    ("nll-inf", lambda x: ops.nll(x, LOSS_LABELS, reduction="none"), [[-inf, nan, 0], [0, 0, nan]], [inf, nan]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize(("fn", "x", "expected"), [v[1:] for v in VALUES], ids=[v[0] for v in VALUES])
def test_values_at_nan_and_infinity(fn, x, expected, dtype):
    with np.errstate(all="ignore"):
        y = fn(np.asarray(x, dtype)).data
    np.testing.assert_allclose(
        y, np.asarray(expected), rtol=2 * np.finfo(np.float32 if y.dtype == np.float32 else dtype).eps, atol=0
    )


NAN_GRADIENTS = [  # what the incoming gradient 1 becomes at a NaN: itself where f picks, NaN where f computes
    ("relu", ops.relu, 1), ("leaky_relu", ops.leaky_relu, 1), ("elu", ops.elu, 1),
    ("clip", lambda x: ops.clip(x, 0, 1), 1),
    ("maximum", lambda x: ops.maximum(x, 0.0), 1), ("minimum", lambda x: ops.minimum(x, 0.0), 1), ("max", ops.max, 1),
    ("min", ops.min, 1), ("abs", ops.abs, nan), ("exp", ops.exp, nan), ("sigmoid", ops.sigmoid, nan),
    ("tanh", ops.tanh, nan), ("gelu", ops.gelu, nan), ("silu", ops.silu, nan), ("softplus", ops.softplus, nan),
    ("softmax", ops.softmax, nan), ("log_softmax", ops.log_softmax, nan), ("logsumexp", ops.logsumexp, nan),
    ("var", ops.var, nan), ("std", ops.std, nan), ("square", ops.square, nan), ("log", ops.log, nan),
    ("dense_relu", lambda x: ops.dense_relu(x.reshape(3, 1), np.ones((1, 1))), 1), ("prod", ops.prod, None),
    ("cross", lambda x: ops.softmax_cross_entropy(x.reshape(1, 3), [0]), nan),
    ("bce", lambda x: ops.binary_cross_entropy_with_logits(x, np.ones(3), reduction="sum"), nan),
    ("huber", lambda x: ops.huber(x, np.ones(3), reduction="sum"), nan), ("l1", lambda x: ops.l1(x, np.ones(3)), nan),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "expected"), [v[1:] for v in NAN_GRADIENTS], ids=[v[0] for v in NAN_GRADIENTS])
def test_gradients_at_nan(fn, expected):
    _, (dx,) = gradients(fn, np.array([0.5, nan, 0.25]))
    if expected is None:  # Π: each gradient is the product of the others
        np.testing.assert_array_equal(dx, [nan, 0.125, nan])
    else:
        np.testing.assert_array_equal(dx[1], expected)


def test_an_incoming_nan_comes_out():
    """A kink hides no NaN gradient but where it is closed: dL/dy = NaN, y′ = 0 gives 0, by definition of the kink."""
    for fn in (ops.relu, lambda x: ops.dense_relu(x, np.ones((1, 1))), lambda x: ops.where(x.data > 0, x, 0.0)):
        _, (dx,) = gradients(fn, np.array([[-1.0], [2.0]]), grad=np.full((2, 1), nan))
        np.testing.assert_array_equal(dx, [[0], [nan]])


def test_ignored_rows_may_hold_anything():
    z = np.array([[nan, inf, 0], [1.0, 2, 3]])
    value, (dz,) = gradients(lambda z: ops.softmax_cross_entropy(z, np.array([-100, 0])), z)
    assert value == pytest.approx(np.log(np.exp([0, 1, 2]).sum()), rel=1e-14)
    np.testing.assert_array_equal(dz[0], 0)
    value, (dz,) = gradients(lambda z: ops.softmax_cross_entropy(z, np.array([-100, -100])), z)
    assert np.isnan(value)
    np.testing.assert_array_equal(dz, 0)


# ----------------------------------------------------------------------------------------- float32


@every_case
def test_float32_is_float64_to_its_digits(case):
    singles = case.inputs(dtype=np.float32)
    doubles = [x.astype(np.float64) for x in singles]
    shape = case.fn(*doubles).shape
    g = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    y, found = gradients(case.fn, *singles, grad=g)
    exact, expected = gradients(case.fn, *doubles, grad=g.astype(np.float64))
    single_op = case.op != "astype" and not any(k in case.id for k in ("where-mask", "array", "integers", "constant"))
    if single_op:
        assert y.dtype == np.float32 or "weight" in case.id
    for a, b in zip([y, *found], [exact, *expected], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6 * max(1, np.abs(b).max(initial=0)))
    assert all(dx.dtype == np.float32 for dx in found)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "remainder"])
def test_python_numbers_keep_float32(name):
    x = np.array([1.5, 2.5], np.float32)
    for left, right in itertools.permutations(("x", 2.0)):
        y, (dx,) = gradients(lambda t, a=left, b=right: getattr(ops, name)(*(t if v == "x" else v for v in (a, b))), x)
        assert (y.dtype, dx.dtype) == (np.float32, np.float32)
    assert getattr(ops, name)(x, np.float64(2)).dtype == np.float64  # NEP 50: a NumPy scalar has its dtype


def test_mixed_dtypes_give_each_its_own():
    a, b = np.ones((2, 3), np.float32), np.ones((3, 4))
    for fn, pair in ((ops.matmul, (a, b)), (ops.dense, (a, b.T)), (ops.multiply, (a, b[:, :1].T)),
                     (ops.mse, (a, b[:, :2].T)),
                     (ops.outer, (a, b))):  # fmt: skip
        y, (da, db) = gradients(fn, *pair)
        assert (y.dtype, da.dtype, db.dtype) == (np.float64, np.float32, np.float64)
    single, (da,) = gradients(lambda x: ops.astype(x, np.float32), b)
    assert (single.dtype, da.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("fn", [ops.sum, ops.mean, lambda x: ops.sum(x, 0), lambda x: ops.mean(x.reshape(-1, 1), 0),
                                lambda x: ops.cumsum(x)[-1], lambda x: ops.sum(x.reshape(-1, 2), 0),
                                lambda x: ops.mse(x, np.zeros_like(x.data)), ops.var,
                                lambda x: ops.softmax_cross_entropy(x[: 1 << 17].reshape(1, -1), [0])])  # fmt: skip
def test_long_float32_sums_keep_their_digits(fn):
    x = np.random.default_rng(0).uniform(0.5, 1.5, 1 << 20).astype(np.float32)
    np.testing.assert_allclose(fn(Tensor(x)).data, fn(Tensor(x.astype(np.float64))).data, rtol=1.2e-7)


def test_broadcast_gradients_keep_their_digits():
    for fn in (lambda x: ops.add(np.zeros(1 << 20, np.float32), x), lambda x: ops.broadcast_to(x, (1 << 20,))):
        _, (dx,) = gradients(fn, np.zeros((), np.float32), grad=np.full(1 << 20, 0.1, np.float32))
        np.testing.assert_allclose(dx, np.float32(0.1) * 2.0**20, rtol=1e-7)
    n = 1 << 14 if not minidl.jit.interpreted() else 1 << 10
    rows = np.full((n, 1), 0.1, np.float32)
    _, (db,) = gradients(
        lambda b: ops.dense(np.zeros_like(rows), np.zeros((1, 1), np.float32), b), np.zeros(1, np.float32), grad=rows
    )
    np.testing.assert_allclose(db, np.float32(0.1) * float(n), rtol=1e-6)


def test_variance_is_two_pass():
    x = 1e4 + np.random.default_rng(0).normal(size=4096)
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-12)):
        given = x.astype(dtype)
        np.testing.assert_allclose(
            ops.var(given).data, np.var(given.astype(np.longdouble)).astype(float), rtol=tolerance
        )
    assert ops.var(np.full(1000, 1e8 + 0.1)).data < 1e-14


def test_nothing_is_warned_about():
    """Stable forms compute no infinity on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        big = np.array([[-1e4, 0.0, 1e4]])
        for fn in (ops.sigmoid, ops.silu, ops.softplus, ops.elu, ops.softmax, ops.log_softmax, ops.logsumexp, ops.tanh,
                   lambda x: ops.binary_cross_entropy_with_logits(x, np.array([[0.0, 1, 1]])),
                   lambda x: ops.softmax_cross_entropy(x, [1]), ops.gelu, ops.relu):  # fmt: skip
            gradients(fn, big)
        ops.kl_div(np.zeros(2), np.array([0.0, 1.0]))
        ops.logsumexp(np.array([-inf, -inf]))


def test_dropout_scales_what_it_keeps():
    x = np.ones(20000)
    y, (dx,) = gradients(lambda t: ops.dropout(t, 0.3, generator=np.random.default_rng(0)), x)
    np.testing.assert_array_equal(y, dx)
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-15)
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.015)
    again = ops.dropout(x, 0.3, generator=np.random.default_rng(0)).data
    np.testing.assert_array_equal(again, y)
    assert not np.array_equal(ops.dropout(x, 0.3).data, ops.dropout(x, 0.3).data)
    np.testing.assert_array_equal(ops.dropout(x, 1.0).data, 0)
    np.testing.assert_array_equal(ops.dropout(x, 0.0).data, x)


def test_constants_have_no_gradient():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    for call, name in (
        (lambda: ops.where(x, x, x), "where"),
        (lambda: ops.clip(np.ones((2, 3)), x, None), "clip"),
        (
            lambda: ops.softmax_cross_entropy(np.ones((2, 3)), [0, 1], weight=Tensor(np.ones(3), True)),
            "softmax_cross_entropy",
        ),
        (lambda: ops.binary_cross_entropy_with_logits(np.ones((2, 3)), np.ones((2, 3)), x), "binary_cross_entropy"),
        (lambda: ops.astype(x, np.int64), "astype"),
    ):
        with pytest.raises(TypeError, match=rf"{name}.* has no gradient for its input \d; detach\(\) it"):
            call()
    assert ops.astype(x.detach(), np.int64).dtype == np.int64
