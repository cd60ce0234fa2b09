"""Options that are NumPy scalars or 0-d arrays are numbers: float32 stays float32, and values are those of a number."""

import inspect

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops, optim

X = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
T = np.random.default_rng(1).uniform(0.1, 0.9, (4, 4)).astype(np.float32)
CALLS = {  # op → (call of x with these options, the options)
    "leaky_relu": (ops.leaky_relu, {"negative_slope": 0.1}),
    "elu": (ops.elu, {"alpha": 0.7}),
    "softplus": (ops.softplus, {"beta": 1.5, "threshold": 1.0}),
    "huber": (lambda x, **how: ops.huber(x, T, **how), {"delta": 0.4}),
    "softmax_cross_entropy": (lambda x, **how: ops.softmax_cross_entropy(x, [0, 1, 2, 1], **how),
                              {"label_smoothing": 0.3}),
    "dropout": (lambda x, **how: ops.dropout(x, generator=np.random.default_rng(0), **how), {"p": 0.3}),
    "dropout2d": (lambda x, **how: ops.dropout2d(x[None], generator=np.random.default_rng(0), **how), {"p": 0.3}),
    "batch_norm": (lambda x, **how: ops.batch_norm(x, *np.eye(2, 4, dtype=np.float32), training=True, **how),
                   {"eps": 0.1, "momentum": 0.2}),
    "layer_norm": (lambda x, **how: ops.layer_norm(x, 4, **how), {"eps": 0.1}),
    "group_norm": (lambda x, **how: ops.group_norm(x, 2, **how), {"eps": 0.1}),
    "scaled_dot_product_attention": (lambda x, **how: ops.scaled_dot_product_attention(x, x, x, **how), {"scale": 0.3}),
    "clip": (ops.clip, {"min": -0.5, "max": 0.3}),
}  # fmt: skip
FORMS = [np.float64, np.float32, np.array, lambda v: np.array(v, np.float32), Tensor]


def run(fn, options):
    x = Tensor(X, requires_grad=True)
    y = fn(x, **options)
    y.backward(np.ones(y.shape, y.dtype))
    return y.data, x.grad


@pytest.mark.parametrize("name", CALLS)
def test_forms_of_a_number(name):
    fn, options = CALLS[name]
    expected = run(fn, options)
    for form in FORMS:
        for found, wanted in zip(run(fn, {k: form(v) for k, v in options.items()}), expected, strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    if name != "clip":
        for option in options:
            with pytest.raises(TypeError, match=f"{name}: expected a number for {option}, found"):
                fn(X, **{**options, option: np.array([0.1, 0.2])})


def test_every_option_that_is_a_number_is_here():
    for name in ops.__all__:
        parameters = inspect.signature(getattr(ops, name)).parameters.values()
        numbers = {p.name for p in parameters if p.annotation in ("float", "float | None")}
        assert numbers <= set(CALLS.get(name, (None, {}))[1]), name


@pytest.mark.parametrize("layer", [
    lambda f: nn.LeakyReLU(f(0.1)), lambda f: nn.ELU(f(0.5)), lambda f: nn.Softplus(f(2.0), f(3.0)),
    lambda f: nn.Dropout(f(0.5)), lambda f: nn.LayerNorm(4, eps=f(1e-3)), lambda f: nn.GroupNorm(2, 4, eps=f(1e-3)),
    lambda f: nn.BatchNorm1d(4, eps=f(1e-3), momentum=f(0.2)),
])  # fmt: skip
def test_layers(layer):
    for form in (np.float64, np.array):
        assert layer(form)(X).dtype == np.float32
        assert minidl.compile(layer(form))(X).dtype == np.float32


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_mask_takes_the_dtype_of_the_query(need_weights):
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    x, mask = X[None], np.triu(np.full((4, 4), -1e3), 1)
    y, weights = layer(x, x, x, attn_mask=mask, need_weights=need_weights)
    assert y.dtype == np.float32
    assert weights is None or weights.dtype == np.float32
    for given in (mask, mask.astype(np.float32)):
        assert ops.scaled_dot_product_attention(X, X, X, given).dtype == np.float32


@pytest.mark.parametrize("form", [np.float64, np.float32])
def test_optimizers(form):
    for make in (lambda p, f: optim.SGD([p], lr=f(0.1), momentum=f(0.9), weight_decay=f(0.01)),
                 lambda p, f: optim.AdamW([p], lr=f(0.1), betas=(f(0.8), f(0.9)), eps=f(1e-6))):  # fmt: skip
        found = []
        for f in (form, float):
            p = Tensor(X.copy(), requires_grad=True)
            optimizer = make(p, f)
            for _ in range(3):
                p.grad = T
                optimizer.step()
            found.append(p.data)
            assert all(isinstance(v, int | float | bool | tuple) for k, v in optimizer.param_groups[0].items()
                       if k != "params")  # fmt: skip
        assert found[0].dtype == np.float32
        np.testing.assert_allclose(*found, rtol=1e-5)


WEIGHTS = [3.0, np.float64(3), np.array(3.0), [3.0, 3.0], np.array([3.0, 3.0]), np.array(3, np.float32)]


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_the_weights_of_a_loss_do_not_widen_it(name, weight):
    x = Tensor(np.array([[1, -2], [0.5, 3]], np.float32))
    target = np.array([[1, 0], [0, 1]], np.float32)

    def loss(x):
        return ops.binary_cross_entropy_with_logits(x, target, **{name: weight})

    expected = ops.binary_cross_entropy_with_logits(x, target, **{name: np.full((2, 2), 3, np.float32)})
    for function in (loss, minidl.compile(loss)):
        found = function(x.data)
        assert found.dtype == np.float32
        assert found.data == expected.data
