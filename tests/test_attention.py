"""Attention against PyTorch: masks, shapes, layouts, digits; the layer and its state; bad input."""

import itertools

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.jit import interpreted

sdpa = ops.scaled_dot_product_attention
nan, inf = np.nan, np.inf
try:
    import torch
except ImportError:
    torch = None
oracle = pytest.mark.skipif(torch is None, reason="PyTorch is the oracle of these tests, not a dependency")
slow = pytest.mark.skipif(interpreted(), reason="whole tiles take long where kernels are plain Python")


def inputs(*shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(dtype) for s in shapes]


def run(arrays, g=None, **how):
    """[y, dq, dk, dv] of minidl."""
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y = sdpa(*tensors, **how)
    y.backward(np.ones(y.shape, y.dtype) if g is None else g)
    return [y.data, *(t.grad for t in tensors)]


def by_torch(arrays, g, **how):
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    how = {k: torch.tensor(x) if isinstance(x, np.ndarray) else x for k, x in how.items()}
    y = torch.nn.functional.scaled_dot_product_attention(*tensors, **how)
    y.backward(torch.tensor(g))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def by_formula(q, k, v, mask=None, scale=None):
    """Row by row, as one reads it in the paper; a query that sees nothing gets 0."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for n in np.ndindex(q.shape[:-2]):
        scores = q[n] @ k[n].T * (q.shape[-1] ** -0.5 if scale is None else scale)
        scores = (
            scores if mask is None else np.where(np.broadcast_to(mask, (*q.shape[:-2], *scores.shape))[n], scores, -inf)
        )
        for i, row in enumerate(scores):
            if (row > -inf).any():
                e = np.exp(row - row.max())
                y[(*n, i)] = e / e.sum() @ v[n]
    return y


SIZES = [
    (1, 1, 1, 1),
    (2, 3, 4, 5),
    (17, 16, 7, 3),
    (33, 65, 16, 17),
    (65, 31, 33, 64),
    (64, 128, 32, 32),
    (129, 64, 9, 65),
    (5, 170, 3, 2),
    (3, 4, 170, 2),
]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES[:4] if interpreted() else SIZES, ids=str)
def test_the_formula(sizes, causal):
    queries, keys, size, values = sizes
    q, k, v = inputs((2, queries, size), (2, keys, size), (2, keys, values))
    mask = np.tri(queries, keys, dtype=bool) if causal else None
    np.testing.assert_allclose(sdpa(q, k, v, None, causal).data, by_formula(q, k, v, mask), rtol=1e-11, atol=1e-13)
    kept = np.random.default_rng(1).random((2, queries, keys)) < 0.5
    np.testing.assert_allclose(sdpa(q, k, v, kept, scale=0.7).data, by_formula(q, k, v, kept, 0.7), 1e-11, 1e-13)


@oracle
@slow
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_float64_agrees_with_pytorch(sizes):
    queries, keys, size, values = sizes
    arrays = inputs((2, 1, queries, size), (2, 3, keys, size), (1, 3, keys, values))
    rng = np.random.default_rng(2)
    g = rng.normal(size=(2, 3, queries, values))
    kept = rng.random((queries, keys)) < 0.6
    for how in (
        {}, {"is_causal": True}, {"scale": -0.3}, {"attn_mask": kept}, {"attn_mask": rng.random((2, 1, 1, keys)) < 0.7},
        {"attn_mask": rng.random((3, queries, 1)) < 0.7}, {"attn_mask": rng.normal(size=(2, 3, queries, keys))},
        {"attn_mask": np.where(kept, 0.0, -inf)},
    ):  # fmt: skip
        expected = by_torch(arrays, g, **how)
        strided = [np.asarray(np.swapaxes(x, -1, -3), order="C").swapaxes(-1, -3) for x in arrays]
        for given in (arrays, strided):
            for a, b in zip(run(given, g, **how), expected, strict=True):
                assert a.shape == b.shape
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@oracle
@slow
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_float32_errs_at_most_twice_as_much_as_pytorch(scale, causal):
    shape = (4, 3, 64, 32)
    singles = [scale * x for x in inputs(shape, shape, shape, dtype=np.float32)]
    (g,) = inputs(shape, dtype=np.float32, seed=1)
    exact = run([x.astype(np.float64) for x in singles], g.astype(np.float64), is_causal=causal)
    mine, theirs = run(singles, g, is_causal=causal), by_torch(singles, g, is_causal=causal)
    for a, b, right in zip(mine, theirs, exact, strict=True):
        assert a.dtype == np.float32
        for worst in (lambda e: np.abs(e).max(), lambda e: np.sqrt(np.mean(e * e))):
            assert worst(a - right) <= 2 * worst(b - right)


@pytest.mark.parametrize("shapes", [((0, 3, 4), (0, 2, 4), (0, 2, 5)), ((2, 0, 4), (2, 3, 4), (2, 3, 5)),
                                    ((2, 3, 4), (2, 0, 4), (2, 0, 5)), ((2, 3, 0), (2, 4, 0), (2, 4, 5)),
                                    ((2, 3, 4), (2, 5, 4), (2, 5, 0))], ids=str)  # fmt: skip
@pytest.mark.parametrize("causal", [False, True])
def test_empty(shapes, causal):
    arrays = inputs(*shapes)
    y, *found = run(arrays, is_causal=causal)
    assert y.shape == (*shapes[0][:-1], shapes[2][-1])
    assert [x.shape for x in found] == [*shapes]
    assert np.isfinite(y).all()
    if shapes[0][-1] == 0:  # without features all keys fit alike
        seen = np.tri(3, 4) if causal else np.ones((3, 4))
        np.testing.assert_allclose(y, seen / seen.sum(1, keepdims=True) @ arrays[2], rtol=1e-12)
    elif shapes[1][-2] == 0:
        assert not y.any()


def test_queries_that_see_nothing_are_zero():
    arrays = inputs((2, 3, 4), (2, 5, 4), (2, 5, 2))
    kept = np.ones((3, 5), bool)
    kept[1] = False
    for mask in (kept, np.where(kept, 0.0, -inf)):
        y, dq, dk, dv = run(arrays, attn_mask=mask)
        assert not y[:, 1].any()
        assert not dq[:, 1].any()
        for x in (y, dq, dk, dv):
            assert np.isfinite(x).all()
        others = run([arrays[0][:, ::2], *arrays[1:]])
        for a, b in zip((y[:, ::2], dq[:, ::2], dk, dv), others, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_large_scores_and_nan():
    q, k, v = inputs((1, 2, 3), (1, 4, 3), (1, 4, 2), dtype=np.float32)
    with np.errstate(all="ignore"):
        y = sdpa(q * 1e4, k * 1e4, v).data
        np.testing.assert_array_equal(y[0], v[0][(q[0] @ k[0].T).argmax(1)])
        for x in (q, k, v):
            kept, x[0, 0, 0] = x[0, 0, 0], nan
            y = sdpa(q, k, v).data
            x[0, 0, 0] = kept
            assert np.isnan(y[0, 0, 0])
            assert np.isnan(y).all() == (x is k)
        y = sdpa(q, k, v, np.array([0, 0, nan, 0], np.float32)).data
    assert np.isnan(y).all()


def test_causal_is_its_mask():
    for queries, keys in ((5, 5), (5, 3), (3, 5)) if interpreted() else ((5, 5), (70, 130), (130, 70), (150, 150)):
        arrays = inputs((2, queries, 3), (2, keys, 3), (2, keys, 4))
        (g,) = inputs((2, queries, 4), seed=1)
        for a, b in zip(run(arrays, g, is_causal=True), run(arrays, g, attn_mask=np.tri(queries, keys, dtype=bool)),
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT is set: no threads")
def test_bits_do_not_depend_on_threads():
    arrays = inputs((3, 2, 140, 32), (3, 2, 150, 32), (3, 2, 150, 33), dtype=np.float32)
    x = inputs((40_001,), dtype=np.float32)[0]
    count, found = minidl.get_num_threads(), []
    try:
        for threads in (1, 2):
            minidl.set_num_threads(threads)
            t = Tensor(x, requires_grad=True)
            ops.gelu(t).sum().backward()
            found.append([*run(arrays), *run(arrays, is_causal=True), ops.gelu(x).data, t.grad])
    finally:
        minidl.set_num_threads(count)
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_share_one_pass_and_see_each_new_gradient():
    arrays = inputs((1, 2, 3), (1, 4, 3), (1, 4, 2))
    tensors = [Tensor(x, requires_grad=True) for x in arrays]
    y, g = sdpa(*tensors), np.ones((1, 2, 2))
    y.backward(g, retain_graph=True)
    once = [t.grad.copy() for t in tensors]
    g *= 2
    y.backward(g)
    for t, a in zip(tensors, once, strict=True):
        np.testing.assert_allclose(t.grad, 3 * a, rtol=1e-12)


BAD = [
    (
        ValueError,
        r"expected q \(…, L, E\).* found shapes \(2, 3\), \(4, 5\) and \(4, 2\)",
        [(2, 3), (4, 5), (4, 2)],
        {},
    ),
    (ValueError, r"found shapes \(2, 3\), \(4, 3\) and \(5, 2\)", [(2, 3), (4, 3), (5, 2)], {}),
    (ValueError, r"found shapes \(3,\), \(4, 3\) and \(4, 2\)", [(3,), (4, 3), (4, 2)], {}),
    (ValueError, r"found shapes \(2, 2, 3\), \(3, 4, 3\)", [(2, 2, 3), (3, 4, 3), (3, 4, 2)], {}),
    (
        ValueError,
        r"attn_mask to broadcast to the scores .* = \(1, 2, 4\), found shape \(4, 2\)",
        None,
        {"attn_mask": np.ones((4, 2), bool)},
    ),
    (ValueError, r"found shape \(2, 2, 4\)", None, {"attn_mask": np.zeros((2, 2, 4))}),
    (ValueError, r"found shape \(1, 1, 2, 4\)", None, {"attn_mask": np.zeros((1, 1, 2, 4))}),
    (
        ValueError,
        r"expected attn_mask or is_causal, found both",
        None,
        {"attn_mask": np.ones((2, 4), bool), "is_causal": True},
    ),
    (TypeError, r"expected attn_mask in float32 or float64, found int64", None, {"attn_mask": np.ones((2, 4), int)}),
]


@pytest.mark.parametrize(("kind", "message", "shapes", "how"), BAD, ids=range(len(BAD)))
def test_bad_input(kind, message, shapes, how):
    with pytest.raises(kind, match="^scaled_dot_product_attention: .*" + message):
        sdpa(*inputs(*(shapes or [(1, 2, 3), (1, 4, 3), (1, 4, 5)])), **how)


def test_integers_are_refused():
    for i, name in enumerate("qkv"):
        arrays = inputs((2, 3), (4, 3), (4, 3))
        arrays[i] = np.ones(arrays[i].shape, int)
        with pytest.raises(TypeError, match=f"expected {name} in float32 or float64, found int64"):
            sdpa(*arrays)


# ------------------------------------------------------------------------------------ the layer

MASKS = {
    "none": {},
    "padding": {"key_padding_mask": "bool"},
    "mask": {"attn_mask": "bool"},
    "both": {"key_padding_mask": "bool", "attn_mask": "bool"},
    "heads": {"attn_mask": "heads"},
    "added": {"key_padding_mask": "float", "attn_mask": "float"},
    "mixed": {"attn_mask": "float", "key_padding_mask": "bool"},
}


def masks(kinds, batch, queries, keys, heads):
    rng = np.random.default_rng(5)
    hidden, padded = rng.random((queries, keys)) < 0.4, np.zeros((*batch, keys), bool)
    hidden[:, 0], padded[..., -1] = False, True
    made = {}
    for name, kind in kinds.items():
        m = padded if name == "key_padding_mask" else hidden
        if kind == "heads":
            m = np.stack([np.roll(hidden, i, 0) for i in range(heads * (batch or (1,))[0])])
        made[name] = np.where(m, -inf, rng.normal(size=m.shape)) if kind == "float" else m
    return made


LAYERS = [
    dict(zip(("bias", "kdim", "batch_first"), v, strict=True))
    for v in itertools.product((True, False), (None, 5), (True, False))
]


@oracle
@pytest.mark.parametrize("kinds", MASKS)
@pytest.mark.parametrize("how", LAYERS[:1] if interpreted() else LAYERS, ids=str)
def test_multihead_agrees_with_pytorch(how, kinds):
    how = {**how, "vdim": how["kdim"] and 7}
    theirs = torch.nn.MultiheadAttention(8, 2, **how).double()
    for p in theirs.parameters():
        torch.nn.init.normal_(p)
    mine = nn.MultiheadAttention(8, 2, **how, dtype=np.float64)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    queries, keys = 4, 6
    for batch in ((3,), ()):
        shapes = [(queries, 8), (keys, how["kdim"] or 8), (keys, how["vdim"] or 8)]
        if batch:
            shapes = [(*batch, *s) if how["batch_first"] else (s[0], *batch, s[1]) for s in shapes]
        arrays = inputs(*shapes)
        given = masks(MASKS[kinds], batch, queries, keys, 2)
        for need, average in ((True, True), (True, False), (False, True)):
            a = [Tensor(x, requires_grad=True) for x in arrays]
            b = [torch.tensor(x, requires_grad=True) for x in arrays]
            y, w = mine(*a, need_weights=need, average_attn_weights=average, **given)
            z, u = theirs(*b, need_weights=need, average_attn_weights=average,
                          **{k: torch.tensor(m) for k, m in given.items()})  # fmt: skip
            g = np.random.default_rng(1).normal(size=y.shape)
            mine.zero_grad()
            theirs.zero_grad()
            y.backward(g)
            z.backward(torch.tensor(g))
            pairs = [(y.data, z), *((p.grad, q.grad) for p, q in zip(a, b, strict=True))]
            pairs += [(p.grad, q.grad) for p, q in zip(mine.parameters(), theirs.parameters(), strict=True)]
            assert (w is None) == (u is None) == (not need)
            pairs += [(w.data, u)] if need else []
            for x, wanted in pairs:
                assert x.shape == tuple(wanted.shape)
                np.testing.assert_allclose(x, wanted.detach().numpy(), rtol=1e-10, atol=1e-12)


@oracle
def test_multihead_state_goes_both_ways():
    x = inputs((2, 5, 8), dtype=np.float32)[0]
    for how in ({}, {"kdim": 8, "vdim": 8}, {"bias": False}):
        mine = nn.MultiheadAttention(8, 4, batch_first=True, **how, generator=np.random.default_rng(0))
        theirs = torch.nn.MultiheadAttention(8, 4, batch_first=True, **how)
        theirs.load_state_dict({k: torch.tensor(v) for k, v in mine.state_dict().items()})
        with torch.no_grad():
            expected = theirs(*[torch.tensor(x)] * 3)
        for a, b in zip(mine(x, x, x), expected, strict=True):
            np.testing.assert_allclose(a.data, b.numpy(), atol=1e-6)


def test_a_hidden_batch_is_nan_with_weights_and_zero_without():
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = inputs((2, 3, 4), dtype=np.float32)[0]
    hidden = np.array([[True] * 3, [False, True, False]])
    with np.errstate(all="ignore"):
        y, w = layer(x, x, x, key_padding_mask=hidden)
    assert np.isnan(y.data[0]).all()
    assert np.isnan(w.data[0]).all()
    z, none = layer(x, x, x, key_padding_mask=hidden, need_weights=False)
    assert none is None
    np.testing.assert_array_equal(z.data[0], np.zeros((3, 4)))  # out_proj.bias starts at 0
    np.testing.assert_allclose(y.data[1], z.data[1], atol=1e-6)
    np.testing.assert_array_equal(w.data[1][:, 1], 0)


def test_causal_layer():
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x = inputs((2, 5, 4), dtype=np.float32)[0]
    hidden = ~np.tri(5, dtype=bool)
    for need in (True, False):
        y = layer(x, x, x, need_weights=need, attn_mask=hidden)[0].data
        for how in ({}, {"attn_mask": hidden}):
            np.testing.assert_allclose(layer(x, x, x, need_weights=need, is_causal=True, **how)[0].data, y, atol=1e-6)
        changed = x.copy()
        changed[:, 3:] = 9
        again, _ = layer(changed, changed, changed, need_weights=need, attn_mask=hidden)
        np.testing.assert_array_equal(again.data[:, :3], y[:, :3])


def test_dropout_of_weights():
    layer = nn.MultiheadAttention(4, 1, dropout=0.5, batch_first=True, generator=np.random.default_rng(0))
    x = inputs((1, 200, 4), dtype=np.float32)[0]
    y, w = layer(x, x, x)
    assert 0.45 < (w.data == 0).mean() < 0.55
    kept = w.data[w.data > 0]
    layer.eval()
    z, u = layer(x, x, x)
    assert (u.data > 0).all()
    np.testing.assert_allclose(kept, 2 * u.data[w.data > 0], rtol=1e-5)
    layer.train()
    assert not np.array_equal(layer(x, x, x, need_weights=False)[0].data, z.data)
    assert not np.array_equal(y.data, z.data)


def test_initial_weights():
    rng = np.random.default_rng(0)
    joint = nn.MultiheadAttention(96, 4, generator=rng)
    parts = nn.MultiheadAttention(96, 4, kdim=48, vdim=32, generator=rng)
    for weight, fans in ((joint.in_proj_weight, 4 * 96), (parts.q_proj_weight, 192), (parts.k_proj_weight, 144),
                         (parts.v_proj_weight, 128), (joint.out_proj.weight, 6 * 96)):  # fmt: skip
        bound = np.sqrt(6 / fans)
        assert 0.99 * bound < np.abs(weight.data).max() <= bound
    for bias in (joint.in_proj_bias, joint.out_proj.bias):
        assert not bias.data.any()


def test_a_float_mask_learns():
    layer = nn.MultiheadAttention(4, 2, batch_first=True, dtype=np.float64)
    x, mask = inputs((2, 3, 4), (3, 3))
    for need in (True, False):
        minidl.gradcheck(lambda m, need=need: layer(x, x, x, need_weights=need, attn_mask=m)[0], mask)


LAYER_BAD = [
    (
        ValueError,
        r"expected embed_dim to be a multiple of num_heads, .* found 8 and 3",
        lambda: nn.MultiheadAttention(8, 3),
    ),
    (ValueError, r"expected num_heads as an int of at least 1, found 0", lambda: nn.MultiheadAttention(8, 0)),
    (ValueError, r"probability dropout from 0 to 1, found 1.5", lambda: nn.MultiheadAttention(8, 2, 1.5)),
]
X = np.ones((2, 3, 4), np.float32)
CALL_BAD = [
    (
        ValueError,
        r"expected query \(N, L, 4\), key \(N, S, 4\).*found shapes \(2, 3, 5\)",
        (np.ones((2, 3, 5)), X, X),
        {},
    ),
    (ValueError, r"found shapes \(2, 3, 4\), \(1, 3, 4\)", (X, X[:1], X[:1]), {}),
    (ValueError, r"and \(2, 2, 4\)", (X, X, X[:, :2]), {}),
    (ValueError, r"found shapes \(3, 4\), \(2, 3, 4\)", (X[0], X, X), {}),
    (ValueError, r"found shapes \(4,\)", (X[0, 0],) * 3, {}),
    (
        ValueError,
        r"key_padding_mask of shape \(2, 3\), found shape \(3, 2\)",
        (X, X, X),
        {"key_padding_mask": np.zeros((3, 2), bool)},
    ),
    (
        ValueError,
        r"attn_mask of shape \(3, 3\), found shape \(2, 3, 3\)",
        (X, X, X),
        {"attn_mask": np.zeros((2, 3, 3))},
    ),
    (TypeError, r"attn_mask of booleans or floats, found int64", (X, X, X), {"attn_mask": np.zeros((3, 3), int)}),
]


@pytest.mark.parametrize(("kind", "message", "act"), LAYER_BAD, ids=range(len(LAYER_BAD)))
def test_bad_layer(kind, message, act):
    with pytest.raises(kind, match="^MultiheadAttention: .*" + message):
        act()


@pytest.mark.parametrize(("kind", "message", "args", "how"), CALL_BAD, ids=range(len(CALL_BAD)))
def test_bad_call(kind, message, args, how):
    with pytest.raises(kind, match="^MultiheadAttention: .*" + message):
        nn.MultiheadAttention(4, 2, batch_first=True)(*args, **how)


@pytest.mark.parametrize("need", [True, False])
def test_compiled_layer(need):
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    hidden = np.array([[False, False, True], [False, True, True]])

    def step(x):
        layer.zero_grad()
        loss = ops.square(layer(x, x, x, hidden, need_weights=need)[0]).sum()
        loss.backward()
        return loss

    compiled = minidl.compile(step)
    for seed in range(3):
        (x,) = inputs((2, 3, 4), dtype=np.float32, seed=seed)
        expected = step(x).data
        wanted = [p.grad.copy() for p in layer.parameters()]
        np.testing.assert_allclose(compiled(x).data, expected, rtol=1e-5)
        for p, g in zip(layer.parameters(), wanted, strict=True):
            np.testing.assert_allclose(p.grad, g, rtol=1e-4, atol=1e-6)
    assert compiled.stats["recorded"] == 1
