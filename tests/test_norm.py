"""Normalisation against PyTorch's: running statistics, modes, state dicts, accuracy, threads; bad input."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops, optim
from minidl.jit import interpreted

try:
    import torch
except ImportError:
    torch = None
oracle = pytest.mark.skipif(torch is None, reason="PyTorch is the oracle of this test, not a dependency")
LAYERS = {
    "1d": ("BatchNorm1d", (3,), {}, (4, 3)),
    "1d with length": ("BatchNorm1d", (3,), {"momentum": None}, (4, 3, 5)),
    "2d": ("BatchNorm2d", (3,), {"momentum": 0.3, "eps": 0.1}, (4, 3, 2, 5)),
    "plain": ("BatchNorm2d", (3,), {"affine": False}, (4, 3, 2, 5)),
    "not tracked": ("BatchNorm2d", (3,), {"track_running_stats": False}, (4, 3, 2, 5)),
    "layer": ("LayerNorm", (5,), {}, (4, 3, 2, 5)),
    "layer axes": ("LayerNorm", ((2, 5),), {"bias": False, "eps": 0.1}, (4, 3, 2, 5)),
    "layer plain": ("LayerNorm", (5,), {"elementwise_affine": False}, (4, 5)),
    "group": ("GroupNorm", (2, 4), {}, (3, 4, 2, 5)),
    "group of one": ("GroupNorm", (4, 4), {"affine": False}, (3, 4, 5)),
}


@oracle
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(name):
    kind, args, how, shape = LAYERS[name]
    ours = getattr(nn, kind)(*args, **how, dtype=np.float64)
    theirs = getattr(torch.nn, kind)(*args, **how, dtype=torch.float64)
    assert {k: (v.shape, str(v.dtype)) for k, v in ours.state_dict().items()} == {
        k: (tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.state_dict().items()
    }
    rng = np.random.default_rng(0)
    for p in ours.parameters():
        p.data[...] = rng.uniform(0.5, 2, p.shape)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = rng.normal(size=shape) * 3 + 2
        mine, his = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, expected = ours(mine), theirs(his)
        grad = rng.normal(size=shape)
        y.backward(grad)
        expected.backward(torch.tensor(grad))
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(mine.grad, his.grad.numpy(), rtol=1e-10, atol=1e-12)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-10, atol=1e-12)
        for key, value in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key], value.numpy(), rtol=1e-12, err_msg=key)


@oracle
@pytest.mark.skipif(interpreted(), reason="a hundred thousand values take long where kernels are plain Python")
@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_float32_error_is_at_most_twice_pytorchs_far_from_zero(name):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 33, 50)) + 100).astype(np.float32)
    how = (None, None, None, None, True) if name == "batch_norm" else ((50,),)
    right = getattr(ops, name)(x.astype(np.float64), *how).data
    theirs = getattr(torch.nn.functional, name)(torch.tensor(x), *how).numpy()
    found = getattr(ops, name)(x, *how).data
    assert found.dtype == np.float32
    assert np.abs(found - right).max() <= 2 * np.abs(theirs - right).max()


@pytest.mark.parametrize("shape", [(3, 2, 1), (2, 3, 15), (2, 2, 16), (2, 1, 17), (1, 2, 33), (5, 2, 64)])
def test_outputs_have_mean_0_and_variance_1(shape):
    x = np.random.default_rng(0).normal(3, 7, shape)
    y = ops.batch_norm(x, None, None, training=True, eps=0).data
    np.testing.assert_allclose(y.mean((0, 2)), 0, atol=1e-13)
    np.testing.assert_allclose(y.var((0, 2)), 1, rtol=1e-12)
    if shape[-1] > 1:
        y = ops.layer_norm(x, shape[-1], eps=0).data
        np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
        np.testing.assert_allclose(y.var(-1), 1, rtol=1e-12)


def test_bits_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 17) if interpreted() else (37, 41, 53)).astype(np.float32)
    before, found = minidl.get_num_threads(), []
    try:
        for threads in (1, 2):
            minidl.set_num_threads(threads)
            inputs = [Tensor(a, requires_grad=True) for a in (x, np.ones(x.shape[1], "f"), np.ones(x.shape[2], "f"))]
            y = ops.layer_norm(ops.batch_norm(inputs[0], None, None, inputs[1], training=True), x.shape[2], inputs[2])
            y.backward(np.random.default_rng(1).normal(size=x.shape).astype(np.float32))
            found.append([y.data.tobytes(), *(t.grad.tobytes() for t in inputs)])
    finally:
        minidl.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_training_compiled_is_eager(momentum):
    def build():
        minidl.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, momentum=momentum), nn.ReLU(), nn.Flatten())
        model.append(nn.Dense(12, 2))
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            loss = ops.softmax_cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 1, 4, 4)).astype(np.float32), rng.integers(0, 2, 8)
    (model, eager), (other, step) = build(), build()
    compiled = minidl.compile(step)
    for _ in range(4):
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-5)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(other.state_dict()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert other.state_dict()["1.num_batches_tracked"] == 4
    model.eval()
    other.eval()
    np.testing.assert_allclose(minidl.compile(other)(x).data, model(x).data, rtol=1e-4, atol=1e-6)


X = np.ones((4, 6, 2, 2))
BAD = [
    (lambda: ops.batch_norm(X[:1, :, 0, 0], None, None, training=True), r"more than 1 value per channel.*\(1, 6\)"),
    (lambda: ops.batch_norm(X[:0], None, None, training=True), "at least one value per channel"),
    (lambda: ops.batch_norm(X, np.ones(5), np.ones(6)), r"running_mean of shape \(6,\), found shape \(5,\)"),
    (lambda: ops.batch_norm(X, None, None, np.ones(5), training=True), r"weight of shape \(6,\), found shape \(5,\)"),
    (lambda: ops.batch_norm(X[0, 0, 0], None, None), r"x \(N, C, …\), found shape \(2,\)"),
    (lambda: nn.BatchNorm2d(6)(X[..., 0]), r"BatchNorm2d: expected 4 axes, 6 channels, found shape \(4, 6, 2\)"),
    (lambda: nn.BatchNorm1d(5)(X[..., 0]), r"BatchNorm1d: expected 2 or 3 axes, 5 channels"),
    (lambda: nn.BatchNorm1d(0), "num_features as an int of at least 1, found 0"),
    (lambda: ops.layer_norm(X, 3), r"x \(…, \*\(3,\)\) with elements, found shape \(4, 6, 2, 2\)"),
    (lambda: ops.layer_norm(X[..., :0], 0), "with elements"),
    (lambda: ops.layer_norm(X, (2, 2), np.ones(2)), r"weight of shape \(2, 2\), found shape \(2,\)"),
    (lambda: ops.group_norm(X, 4), r"a multiple of 4 groups, found shape \(4, 6, 2, 2\)"),
    (lambda: ops.group_norm(X[..., :0], 2), "groups with elements"),
    (lambda: nn.GroupNorm(4, 6), "num_groups to divide 6 channels, found 4"),
]


@pytest.mark.parametrize(("call", "pattern"), BAD)
def test_bad_input(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call()


@pytest.mark.parametrize("axis", ["batch", "layer"])
def test_float32_keeps_its_digits_far_from_zero(axis):
    """The mean is no number of float32; without what is left of it, y would be wrong by 5e-4 here."""
    x = (1e4 + np.random.default_rng(0).normal(size=(6, 3, 35))).astype(np.float32)
    dy = np.random.default_rng(1).normal(size=x.shape)

    def run(x):
        t = Tensor(x, requires_grad=True)
        y = ops.batch_norm(t, None, None, training=True) if axis == "batch" else ops.layer_norm(t, 35)
        y.backward(dy.astype(x.dtype))
        return y.data, t.grad

    for found, expected in zip(run(x), run(x.astype(np.float64)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)
