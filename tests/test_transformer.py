"""The Transformer's encoder layer against PyTorch's."""

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.jit import interpreted

HOW = [
    {},
    {"activation": "gelu", "batch_first": True},
    {"norm_first": True, "layer_norm_eps": 1e-3},
    {"bias": False, "batch_first": True, "norm_first": True, "activation": "gelu"},
]
MASKS = {
    "none": {},
    "causal": {"src_mask": ~np.tri(5, dtype=bool)},
    "padding": {"src_key_padding_mask": np.array([[False] * 5, [False, False, True, True, True]])},
    "added": {"src_mask": np.random.default_rng(0).normal(size=(5, 5))},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("how", HOW[:2] if interpreted() else HOW, ids=str)
def test_agrees_with_pytorch(how, mask):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test, not a dependency")
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **how).double()
    for p in theirs.parameters():
        torch.nn.init.normal_(p)
    mine = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **how, dtype=np.float64)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    values = np.random.default_rng(1).normal(size=(2, 5, 8) if how.get("batch_first") else (5, 2, 8))
    x, z = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, expected = mine(x, **MASKS[mask]), theirs(z, **{k: torch.tensor(m) for k, m in MASKS[mask].items()})
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    g = np.random.default_rng(2).normal(size=y.shape)
    y.backward(g)
    expected.backward(torch.tensor(g))
    pairs = [(x.grad, z.grad), *((p.grad, q.grad) for p, q in zip(mine.parameters(), theirs.parameters(), strict=True))]
    for a, b in pairs:
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-9, atol=1e-11)


def test_state_goes_both_ways():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test, not a dependency")
    mine = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True, activation="gelu").eval()
    theirs = torch.nn.TransformerEncoderLayer(8, 4, 12, batch_first=True, activation="gelu").eval()
    theirs.load_state_dict({k: torch.tensor(v) for k, v in mine.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(mine(x).data, theirs(torch.tensor(x)).numpy(), atol=2e-6)


def test_dropout_is_of_training_only():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
    x = np.ones((1, 4, 8), np.float32)
    assert not np.array_equal(layer(x).data, layer(x).data)
    layer.eval()
    np.testing.assert_array_equal(layer(x).data, layer(x).data)
    assert [type(m).__name__ for m in layer.modules()].count("Dropout") == 3


def test_a_function_as_activation():
    layer = nn.TransformerEncoderLayer(4, 1, 8, 0.0, ops.silu, generator=np.random.default_rng(0))
    other = nn.TransformerEncoderLayer(4, 1, 8, 0.0, "relu", generator=np.random.default_rng(0))
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    assert not np.array_equal(layer(x).data, other(x).data)
    with pytest.raises(ValueError, match='expected activation "relu", "gelu" or a function, found \'tanh\''):
        nn.TransformerEncoderLayer(4, 1, activation="tanh")


def test_compiled():
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, "gelu", batch_first=True, generator=np.random.default_rng(0))

    def step(x):
        layer.zero_grad()
        loss = ops.square(layer(x, is_causal=True)).mean()
        loss.backward()
        return loss

    compiled = minidl.compile(step)
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    layer.eval()
    expected = step(x).data
    wanted = [p.grad.copy() for p in layer.parameters()]
    np.testing.assert_allclose(compiled(x).data, expected, rtol=1e-5)
    for p, g in zip(layer.parameters(), wanted, strict=True):
        np.testing.assert_allclose(p.grad, g, rtol=1e-4, atol=1e-6)
