"""RNN, LSTM, GRU and Embedding against PyTorch's: values, gradients, lengths, state dicts; threads; bad input."""

import itertools

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


def pair(name, *args, dtype=np.float64, **how):
    """Ours and PyTorch's, with the same parameters."""
    ours = getattr(nn, name)(*args, **how, dtype=dtype)
    theirs = getattr(torch.nn, name)(*args, **how, dtype=torch.float64 if dtype is np.float64 else torch.float32)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    return ours, theirs


def flat(results):
    y, state = results
    return [y, *(state if isinstance(state, tuple) else (state,))]


GRID = list(itertools.product(("RNN", "LSTM", "GRU"), (1, 2), (True, False), (True, False), (True, False)))


@oracle
@pytest.mark.parametrize(("name", "layers", "bidirectional", "batch_first", "lengths"), GRID)
def test_values_and_gradients_are_pytorchs(name, layers, bidirectional, batch_first, lengths):
    rng = np.random.default_rng(0)
    how = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": layers == 1 or lengths}
    if name == "RNN":
        how["nonlinearity"] = "relu" if batch_first else "tanh"
    ours, theirs = pair(name, 3, 4, layers, **how)
    x = rng.normal(size=(2, 5, 3) if batch_first else (5, 2, 3))
    until = np.array([5, 2]) if lengths else None
    states = [rng.normal(size=(layers * (1 + bidirectional), 2, 4)) for _ in range(1 + (name == "LSTM"))]
    mine = [Tensor(a, requires_grad=True) for a in (x, *states)]
    his = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    found = flat(ours(mine[0], tuple(mine[1:]) if name == "LSTM" else mine[1], lengths=until))
    given = his[0]
    if lengths:
        pack = torch.nn.utils.rnn.pack_padded_sequence
        given = pack(given, torch.tensor(until), batch_first=batch_first, enforce_sorted=False)
    expected = flat(theirs(given, tuple(his[1:]) if name == "LSTM" else his[1]))
    if lengths:
        unpack = torch.nn.utils.rnn.pad_packed_sequence
        expected[0] = unpack(expected[0], batch_first=batch_first)[0]
    grads = [rng.normal(size=tuple(e.shape)) for e in expected]
    sum(ops.sum(f * g) for f, g in zip(found, grads, strict=True)).backward()
    sum((e * torch.tensor(g)).sum() for e, g in zip(expected, grads, strict=True)).backward()
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f.data, e.detach().numpy(), rtol=1e-10, atol=1e-13)
    for m, h in zip([*mine, *ours.parameters()], [*his, *theirs.parameters()], strict=True):
        np.testing.assert_allclose(m.grad, h.grad.numpy(), rtol=1e-10, atol=1e-12)


@oracle
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_one_sequence_without_a_batch_axis(name):
    ours, theirs = pair(name, 3, 4, 2, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(5, 3))
    for found, expected in zip(flat(ours(x)), flat(theirs(torch.tensor(x))), strict=True):
        assert found.shape == tuple(expected.shape)
        np.testing.assert_allclose(found.data, expected.detach().numpy(), rtol=1e-10, atol=1e-13)


@oracle
@pytest.mark.skipif(interpreted(), reason="large layers take long where kernels are plain Python")
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_float32_error_is_at_most_twice_pytorchs(name):
    exact, _ = pair(name, 17, 67)
    ours, theirs = pair(name, 17, 67, dtype=np.float32)
    exact.load_state_dict(ours.state_dict())
    x = np.random.default_rng(0).normal(size=(19, 37, 17)).astype(np.float32)
    right = exact(x.astype(np.float64))[0].data
    error = np.abs(ours(x)[0].data - right).max()
    assert error <= 2 * np.abs(theirs(torch.tensor(x))[0].detach().numpy() - right).max()


def test_bits_do_not_depend_on_the_number_of_threads():
    steps, batch, size = (2, 33, 3) if interpreted() else (7, 65, 70)
    minidl.manual_seed(0)
    layer = nn.LSTM(5, size)
    x = np.random.default_rng(0).normal(size=(steps, batch, 5)).astype(np.float32)
    before, found = minidl.get_num_threads(), []
    try:
        for threads in (1, 2):
            minidl.set_num_threads(threads)
            layer.zero_grad()
            ops.sum(layer(x)[0] ** 2).backward()
            found.append([p.grad.tobytes() for p in layer.parameters()])
    finally:
        minidl.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 161])
def test_a_step_is_its_formula(size):
    rng = np.random.default_rng(size)
    batch = 2 if interpreted() else 33
    z, w, b = rng.normal(size=(1, batch, 4 * size)), rng.normal(size=(4 * size, size)), rng.normal(size=4 * size)
    h, c = rng.normal(size=(2, batch, size))
    i, f, g, o = np.split(z[0] + h @ w.T + b, 4, axis=1)
    new = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    y = ops.recurrent(z, w, b, h, c, "lstm").data
    np.testing.assert_allclose(y[1, 0], new, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(y[0, 1], np.tanh(new) / (1 + np.exp(-o)), rtol=1e-11, atol=1e-12)


def test_saturated_gates_and_nan():
    z = np.array([[[1e4, -1e4, 1e4, 1e4], [np.nan, 0, 0, 0]]])
    y = ops.recurrent(z, np.zeros((4, 1)), np.zeros(4), np.zeros((2, 1)), np.ones((2, 1)), "lstm").data
    assert y[1, 0, 0, 0] == 1
    assert np.isnan(y[:, 0, 1]).all()


def test_training_compiled_has_the_bits_of_eager():
    def build():
        minidl.manual_seed(3)
        layer, head = nn.GRU(3, 4, bidirectional=True), nn.Dense(8, 2)
        optimizer = optim.Adam([*layer.parameters(), *head.parameters()], lr=1e-2)

        def step(x, y):
            loss = ops.softmax_cross_entropy(head(layer(x)[0][-1]), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 6, 3)).astype(np.float32), rng.integers(0, 2, 6)
    eager, compiled = build(), minidl.compile(build())
    assert [eager(x, y).item() for _ in range(5)] == [compiled(x, y).item() for _ in range(5)]


X = np.ones((5, 2, 3), np.float32)
BAD = [
    (lambda: nn.LSTM(3, 4)(X[..., :2]), r"LSTM: expected x \(T, N, 3\).*found \(5, 2, 2\)"),
    (lambda: nn.LSTM(3, 4)(X, (np.ones((1, 2, 5)), np.ones((1, 2, 4)))), r"h0 of shape \(1, 2, 4\), found \(1, 2, 5\)"),
    (lambda: nn.LSTM(3, 4)(X, (np.ones((1, 2, 4)), np.ones((2, 2, 4)))), r"c0 of shape \(1, 2, 4\), found \(2, 2, 4\)"),
    (lambda: nn.GRU(3, 4)(X[:, 0], np.ones((1, 5))), r"h0 of shape \(1, 4\), found \(1, 5\)"),
    (lambda: nn.GRU(3, 4)(X, lengths=np.array([6, 1])), r"lengths from 0 to 5, found 1 to 6"),
    (lambda: nn.GRU(3, 4)(X, lengths=np.array([1])), r"lengths \(2,\) of integers, found int64 \(1,\)"),
    (lambda: nn.GRU(3, 4)(X, lengths=np.array([1.0, 2.0])), r"found float64"),
    (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), "found 'sigmoid'"),
    (lambda: nn.RNN(3, 0), "RNN: expected hidden_size as an int of at least 1, found 0"),
    (lambda: nn.RNN(3, 4, dropout=1.5), "found 1.5"),
    (lambda: ops.recurrent(np.ones((1, 2, 4)), np.ones((4, 2)), np.ones(4), np.ones((2, 1)), np.ones((2, 1))),
     r"weight \(4·H, H\).*\(4, 2\)"),
    (lambda: ops.recurrent(np.ones((1, 2, 4)), np.ones((4, 1)), np.ones(4), np.ones((3, 1)), np.ones((2, 1))),
     r"h0 of shape \(2, 1\), found shape \(3, 1\)"),
    (lambda: nn.Embedding(3, 2)(np.array([0, 3])), "indices from 0 to 2, found 0 to 3"),
    (lambda: nn.Embedding(3, 2)(np.array([-1, 0])), "indices from 0 to 2, found -1 to 0"),
    (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx within 3 rows, found 3"),
    (lambda: ops.embedding(np.array([0]), np.ones(3)), r"weight \(V, D\), found shape \(3,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "pattern"), BAD)
def test_bad_input(call, pattern):
    with pytest.raises(ValueError, match=pattern):
        call()


def test_indices_are_integers():
    with pytest.raises(TypeError, match="indices as integers, found float64"):
        ops.embedding(np.ones(3), np.ones((3, 2)))


@oracle
def test_embedding_is_pytorchs():
    ours, theirs = pair("Embedding", 5, 3, padding_idx=-2)
    indices = np.array([[0, 3, 3], [4, 3, 0]])
    y, expected = ours(indices), theirs(torch.tensor(indices))
    grad = np.random.default_rng(0).normal(size=y.shape)
    y.backward(grad)
    expected.backward(torch.tensor(grad))
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), rtol=1e-12)
    assert not ours.weight.grad[3].any()
    assert not nn.Embedding(5, 3, padding_idx=1).weight.data[1].any()
    assert nn.Embedding(4, 2)(np.zeros((0, 3), int)).shape == (0, 3, 2)
