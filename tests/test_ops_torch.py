"""Values and gradients against PyTorch: float64 to 1e-10, float32 with at most twice PyTorch's error."""

import itertools

import numpy as np
import pytest
from cases import CASES
from cases.arrays import torch_arguments

from minidl import Tensor, ops
from minidl.jit import interpreted

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of these tests, not a dependency")
F = torch.nn.functional


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ours(fn, inputs, grad=None):
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(np.ones(y.shape) if grad is None else grad)
    return [y.data, *(t.grad for t in tensors)]


def theirs(fn, inputs, grad=None):
    tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(torch.ones_like(y) if grad is None else torch.tensor(grad, dtype=y.dtype))
    return [
        y.detach().numpy(),
        *(np.zeros(x.shape) if t.grad is None else t.grad.numpy() for x, t in zip(inputs, tensors, strict=True)),
    ]


def agree(fn, torch_fn, inputs, seed=0):
    expected = theirs(torch_fn, inputs)
    grad = np.random.default_rng(seed).normal(size=expected[0].shape)
    expected = theirs(torch_fn, inputs, grad)
    for x, y in zip(ours(fn, inputs, grad), expected, strict=True):
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-13 * np.abs(y[np.isfinite(y)]).max(initial=1))


@pytest.mark.parametrize("case", [c for c in CASES if c.torch], ids=lambda c: c.id)
def test_float64_agrees(case):
    for seed in (0, 1):
        inputs = case.inputs(seed)
        agree(case.fn, lambda *x: case.torch(torch, *x), inputs, seed)
        strided = [np.asarray(x.T, order="C").T for x in inputs]  # the same values, not contiguous
        agree(case.fn, lambda *x: case.torch(torch, *x), strided, seed)


GRID = [
    dict(zip(("weight", "ignore_index", "label_smoothing", "reduction"), v, strict=True))
    for v in itertools.product(
        (None, np.array([0.5, 0.0, 2.0, 1.5])), (-100, 0, 3, -1), (0.0, 0.1, 1.0), ("mean", "sum", "none")
    )
]


@pytest.mark.parametrize("how", GRID, ids=str)
def test_cross_entropy_grid(how):
    rng = np.random.default_rng(0)
    how = {k: v for k, v in how.items() if v is not None}
    rows = {"some": rng.integers(0, 4, 7), "most": np.full(7, max(how["ignore_index"], 0))}
    rows["most"][3] = 2
    if how["ignore_index"] < 0:
        rows["some"][[1, 4]] = how["ignore_index"]
    for labels in rows.values():
        for scale in (1.0, 30.0):
            z = scale * rng.normal(size=(7, 4))
            agree(
                lambda z, y=labels: ops.softmax_cross_entropy(z, y, **how),
                lambda z, y=labels: F.cross_entropy(z, torch.tensor(y), **torch_arguments(torch, z, how)),
                [z],
            )
        if how["label_smoothing"] == 0:
            r = {k: v for k, v in how.items() if k != "label_smoothing"}
            agree(
                lambda z, y=labels, r=r: ops.nll(z, y, **r),
                lambda z, y=labels, r=r: F.nll_loss(z, torch.tensor(y), **torch_arguments(torch, z, r)),
                [z],
            )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_everything_ignored(reduction, smoothing):
    z, labels = np.random.default_rng(0).normal(size=(3, 4)), np.full(3, 2)
    how = {"ignore_index": 2, "reduction": reduction}
    agree(
        lambda z: ops.softmax_cross_entropy(z, labels, label_smoothing=smoothing, **how),
        lambda z: F.cross_entropy(z, torch.tensor(labels), label_smoothing=smoothing, **how),
        [z],
    )
    agree(lambda z: ops.nll(z, labels, **how), lambda z: F.nll_loss(z, torch.tensor(labels), **how), [z])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0, 1000.0])
def test_binary_cross_entropy_grid(scale, reduction):
    rng = np.random.default_rng(1)
    x, t = (
        scale * rng.normal(size=(5, 3)),
        np.where(rng.random((5, 3)) < 0.5, rng.integers(0, 2, (5, 3)), rng.random((5, 3))),
    )
    weights = [None, np.array(2.0), rng.uniform(0.1, 2, 3), rng.uniform(0.1, 2, (5, 1)), rng.uniform(0.1, 2, (5, 3))]
    for weight, pos_weight in itertools.product(weights, weights):
        how = {k: v for k, v in {"weight": weight, "pos_weight": pos_weight}.items() if v is not None}
        agree(
            lambda x, t, how=how: ops.binary_cross_entropy_with_logits(x, t, reduction=reduction, **how),
            lambda x, t, how=how: F.binary_cross_entropy_with_logits(
                x, t, reduction=reduction, **torch_arguments(torch, x, how)
            ),
            [x, t],
        )


ACTIVATIONS = {
    "leaky_relu": (ops.leaky_relu, F.leaky_relu, [{"negative_slope": s} for s in (0.0, 0.01, 0.5, 1.0)]),
    "elu": (ops.elu, F.elu, [{"alpha": a} for a in (0.1, 1.0, 2.5)]),
    "softplus": (ops.softplus, F.softplus, [{"beta": b, "threshold": t} for b in (0.5, 1, 3.0) for t in (0.5, 5, 20)]),
    "gelu": (ops.gelu, F.gelu, [{"approximate": a} for a in ("none", "tanh")]),
    "softmax": (ops.softmax, torch.softmax, [{"dim": d} for d in (0, 1, -1, -2)]),
    "log_softmax": (ops.log_softmax, torch.log_softmax, [{"dim": d} for d in (0, 1, -1, -2)]),
    "sigmoid": (ops.sigmoid, torch.sigmoid, [{}]),
    "silu": (ops.silu, F.silu, [{}]),
    "relu": (ops.relu, F.relu, [{}]),
    "tanh": (ops.tanh, torch.tanh, [{}]),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_grid(name):
    fn, torch_fn, grid = ACTIVATIONS[name]
    for how, scale, dim in itertools.product(grid, (0.1, 3.0, 30.0), (2, 3)):
        x = scale * np.random.default_rng(2).normal(size=(4, 5, 3)[:dim])
        agree(lambda x, how=how: fn(x, **how), lambda x, how=how: torch_fn(x, **how), [x])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_regression_grid(reduction):
    rng = np.random.default_rng(3)
    for shape, scale in itertools.product([(), (5,), (3, 4), (2, 3, 2)], (0.1, 10.0)):
        x, t = scale * rng.normal(size=shape), scale * rng.normal(size=shape)
        agree(lambda x, t: ops.mse(x, t, reduction), lambda x, t: F.mse_loss(x, t, reduction=reduction), [x, t])
        agree(lambda x, t: ops.l1(x, t, reduction), lambda x, t: F.l1_loss(x, t, reduction=reduction), [x, t])
        for delta in (0.1, 1.0, 7.0):
            agree(
                lambda x, t, d=delta: ops.huber(x, t, reduction, d),
                lambda x, t, d=delta: F.huber_loss(x, t, reduction=reduction, delta=d),
                [x, t],
            )


@pytest.mark.parametrize("zero", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)], ids=str)
def test_powers_and_extremes_at_their_edges(zero):
    a, b = (np.full((2,), z) for z in zero)
    agree(ops.power, torch.pow, [a, b])
    agree(ops.maximum, torch.maximum, [a, b])
    agree(ops.minimum, torch.minimum, [a, b])
    agree(lambda x: ops.max(x, 0), lambda x: torch.amax(x, 0), [a])
    agree(lambda x: ops.std(x, 0), lambda x: torch.std(x, 0, correction=0), [a])
    agree(lambda x: ops.prod(x, 0), lambda x: torch.prod(x, 0), [np.concatenate([a, b])])


# ----------------------------------------------------------------------------------------- float32

LARGE = 1 << 20
LABELS = np.random.default_rng(9).integers(0, 10, 4096)
EPSILON = float(np.finfo(np.float32).eps)


def normals(*shapes, scale=1.0):
    return lambda rng: [scale * rng.normal(size=s) for s in shapes]


def linear_relu(x, w, b):
    return torch.relu(F.linear(x, w, b))


def entropy(**how):
    return (
        lambda z: ops.softmax_cross_entropy(z, LABELS[: len(z)], **how),
        lambda z: F.cross_entropy(z, torch.tensor(LABELS[: len(z)]), **how),
    )


PRECISION = {
    "sum-1e6": (ops.sum, torch.sum, lambda rng: [rng.uniform(0, 1, LARGE)]),
    "sum-rows": (lambda x: ops.sum(x, 0), lambda x: torch.sum(x, 0), lambda rng: [rng.uniform(0, 1, (65536, 8))]),
    "mean-1e6": (ops.mean, torch.mean, lambda rng: [rng.uniform(0, 1, LARGE)]),
    "var-1e6": (ops.var, lambda x: torch.var(x, correction=0), lambda rng: [rng.normal(3, 1, LARGE)]),
    "std-rows": (
        lambda x: ops.std(x, 0),
        lambda x: torch.std(x, 0, correction=0),
        lambda rng: [rng.normal(9, 1, (4096, 8))],
    ),
    "logsumexp-1e6": (ops.logsumexp, lambda x: torch.logsumexp(x, 0), normals((LARGE,))),
    "logsumexp": (lambda x: ops.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), normals((512, 33), scale=5.0)),
    "cumsum": (ops.cumsum, lambda x: torch.cumsum(x, 0), lambda rng: [rng.uniform(0, 1, 65536)]),
    "prod": (lambda x: ops.prod(x, 1), lambda x: torch.prod(x, 1), lambda rng: [rng.uniform(0.5, 1.5, (256, 9))]),
    "matmul": (ops.matmul, torch.matmul, normals((64, 300), (300, 70))),
    "matmul-k4096": (ops.matmul, torch.matmul, normals((16, 4096), (4096, 16))),
    "matmul-positive": (ops.matmul, torch.matmul, lambda rng: [rng.random((8, 4096)), rng.random((4096, 32))]),
    "matmul-vector": (ops.matmul, torch.matmul, normals((64, 4096), (4096,))),
    "matmul-batch": (ops.matmul, torch.matmul, normals((4, 16, 300), (4, 300, 17))),
    "einsum": (
        lambda a, b: ops.einsum("bij,bkj->bik", a, b),
        lambda a, b: torch.einsum("bij,bkj->bik", a, b),
        normals((3, 12, 200), (3, 9, 200)),
    ),
    "dense": (ops.dense, F.linear, normals((128, 300), (33, 300), (33,))),
    "dense-long": (ops.dense, F.linear, normals((4096, 16), (10, 16), (10,))),
    "dense_relu": (
        ops.dense_relu,
        linear_relu,
        lambda rng: [x + 0.05 for x in normals((128, 64), (33, 64), (33,))(rng)],
    ),
    "outer": (ops.outer, torch.outer, normals((100,), (90,))),
    "outer-long": (ops.outer, torch.outer, normals((65536,), (4,))),
    "softmax": (ops.softmax, lambda x: torch.softmax(x, -1), normals((512, 33), scale=4.0)),
    "softmax-wide": (ops.softmax, lambda x: torch.softmax(x, -1), normals((8, 10000), scale=4.0)),
    "log_softmax": (ops.log_softmax, lambda x: torch.log_softmax(x, -1), normals((512, 33), scale=4.0)),
    "cross_entropy": (*entropy(), normals((4096, 10), scale=4.0)),
    "cross_entropy-wide": (*entropy(), normals((8, 50000))),
    "cross_entropy-none": (*entropy(reduction="none"), normals((512, 10), scale=4.0)),
    "cross_entropy-smooth": (*entropy(label_smoothing=0.1), normals((512, 10), scale=4.0)),
    "bce": (
        ops.binary_cross_entropy_with_logits,
        F.binary_cross_entropy_with_logits,
        lambda rng: [4 * rng.normal(size=4096), rng.random(4096)],
    ),
    "bce-none": (
        lambda x, t: ops.binary_cross_entropy_with_logits(x, t, reduction="none"),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
        lambda rng: [9 * rng.normal(size=4096), rng.integers(0, 2, 4096).astype(float)],
    ),
    "mse-1e6": (ops.mse, F.mse_loss, normals((LARGE,), (LARGE,))),
    "l1": (ops.l1, F.l1_loss, normals((65536,), (65536,))),
    "huber": (ops.huber, F.huber_loss, normals((65536,), (65536,))),
    "kl_div": (
        lambda x, t: ops.kl_div(x, t, "sum"),
        lambda x, t: F.kl_div(x, t, reduction="sum"),
        lambda rng: [rng.uniform(-5, -1, 4096), rng.uniform(0.01, 1, 4096)],
    ),
    "nll": (lambda x: ops.nll(x, LABELS), lambda x: F.nll_loss(x, torch.tensor(LABELS)), normals((4096, 10))),
    "gelu": (ops.gelu, F.gelu, normals((4096,), scale=2.0)),
    "gelu-tanh": (lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), normals((4096,), scale=2.0)),
    "silu": (ops.silu, F.silu, normals((4096,), scale=4.0)),
    "sigmoid": (ops.sigmoid, torch.sigmoid, normals((4096,), scale=4.0)),
    "softplus": (ops.softplus, F.softplus, normals((4096,), scale=4.0)),
    "elu": (ops.elu, F.elu, normals((4096,), scale=2.0)),
    "tanh": (ops.tanh, torch.tanh, normals((4096,), scale=2.0)),
    "exp": (ops.exp, torch.exp, normals((4096,), scale=3.0)),
    "expm1": (ops.expm1, torch.expm1, normals((4096,), scale=0.5)),
    "log": (ops.log, torch.log, lambda rng: [rng.uniform(0.01, 9, 4096)]),
    "log2": (ops.log2, torch.log2, lambda rng: [rng.uniform(0.01, 9, 4096)]),
    "log1p": (ops.log1p, torch.log1p, lambda rng: [rng.uniform(-0.5, 3, 4096)]),
    "sqrt": (ops.sqrt, torch.sqrt, lambda rng: [rng.uniform(0.01, 9, 4096)]),
    "sin": (ops.sin, torch.sin, normals((4096,), scale=3.0)),
    "cos": (ops.cos, torch.cos, normals((4096,), scale=3.0)),
    "tan": (ops.tan, torch.tan, lambda rng: [rng.uniform(-1.4, 1.4, 4096)]),
    "arctan": (ops.arctan, torch.arctan, normals((4096,), scale=3.0)),
    "sinh": (ops.sinh, torch.sinh, normals((4096,), scale=2.0)),
    "cosh": (ops.cosh, torch.cosh, normals((4096,), scale=2.0)),
    "divide": (ops.divide, torch.divide, lambda rng: [rng.normal(size=4096), rng.uniform(0.1, 3, 4096)]),
    "power": (ops.power, torch.pow, lambda rng: [rng.uniform(0.1, 3, 4096), rng.normal(size=4096)]),
    "broadcast": (ops.multiply, torch.multiply, normals((4096, 3), (3,))),
}


def errors(results, exact):
    """The largest error of the value and of each gradient, as a part of the largest element."""
    return [
        np.abs(np.asarray(r, float) - e).max() / max(np.abs(e).max(), 1e-30)
        for r, e in zip(results, exact, strict=True)
    ]


@pytest.mark.parametrize("name", PRECISION)
def test_float32_error_is_at_most_twice_pytorchs(name, record_property):
    fn, torch_fn, make = PRECISION[name]
    if interpreted() and (name.startswith(("matmul", "dense", "einsum")) or "entropy" in name):
        pytest.skip("interpreted kernels take seconds at this size")
    mine, other = [], []
    for seed in (0, 1, 2):
        rng = np.random.default_rng(seed)
        inputs = [np.asarray(x, np.float32) for x in make(rng)]
        doubles = [x.astype(np.float64) for x in inputs]
        grad = rng.normal(size=theirs(torch_fn, doubles[:])[0].shape).astype(np.float32)
        exact = theirs(torch_fn, doubles, grad.astype(np.float64))
        mine.append(errors(ours(fn, inputs, grad), exact))
        other.append(errors(theirs(torch_fn, inputs, grad), exact))
    a, b = np.max(mine, axis=0), np.max(other, axis=0)
    ratios = a / np.maximum(b, EPSILON / 2)  # the largest element, rounded, may be off by so much
    record_property("ratios", ratios.tolist())
    print(f"RATIO {name:22}", " ".join(f"{r:.2f}" for r in ratios), "  ours", " ".join(f"{v:.1e}" for v in a))
    assert (ratios <= 2).all(), (ratios, a, b)
