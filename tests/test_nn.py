"""Modules: what reflection finds and in which order, state dictionaries, and each layer against PyTorch's."""

import copy
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import nn, ops
from minidl.core.seam import Interceptor, intercepted
from minidl.instrument import observed
from minidl.tensor import Tensor

F32 = np.float32


def leaf(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, F32), requires_grad=True)


class Net(nn.Module):
    """Parameters directly, in lists, tuples, dicts and modules; buffers; and what is neither."""

    def __init__(self) -> None:
        self.scale = leaf(3)
        self.blocks = [nn.Dense(3, 2), nn.ReLU(), nn.Dense(2, 3)]
        self.running = np.zeros(2)
        self.heads = {"b": nn.Dense(3, 1), "a": (leaf(1), leaf(2))}
        self.name, self.count, self.nothing, self.words = "net", 3, None, np.array(["a"])
        self.offset = leaf()
        self.result = self.scale * 2  # computed, so not a parameter

    def forward(self, x: Any) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.heads["b"](x * self.scale) + self.offset


NAMES = [
    "scale", "blocks.0.weight", "blocks.0.bias", "blocks.2.weight", "blocks.2.bias", "heads.b.weight", "heads.b.bias",
    "heads.a.0", "heads.a.1", "offset",
]  # fmt: skip


def mlp(dtype: Any = F32) -> nn.Sequential:
    return nn.Sequential(nn.Dense(5, 7, dtype=dtype), nn.ReLU(), nn.Dense(7, 3, bias=False, dtype=dtype))


def values(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in model.state_dict().items()}


# ---------------------------------------------------------------------------------------- reflection


def test_parameters_in_definition_order():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _ in net.named_buffers()] == ["running"]
    assert list(net.state_dict()) == [*NAMES[:5], "running", *NAMES[5:]]
    assert all(p is q for p, (_, q) in zip(net.parameters(), net.named_parameters(), strict=True))
    assert [name for name, _ in net.children()] == ["blocks.0", "blocks.1", "blocks.2", "heads.b"]
    assert [name for name, _ in net.named_modules()] == ["", "blocks.0", "blocks.1", "blocks.2", "heads.b"]
    net.late = leaf(1)
    assert [name for name, _ in net.named_parameters()][-1] == "late"
    del net.scale
    assert next(net.named_parameters())[0] == "blocks.0.weight"


def test_deeper_nesting_keeps_depth_first_order():
    inner = nn.Sequential(nn.Dense(2, 2), nn.Sequential(nn.Dense(2, 2, bias=False), nn.Tanh()))
    outer = nn.Sequential(inner, nn.Dense(2, 1))
    assert list(outer.state_dict()) == ["0.0.weight", "0.0.bias", "0.1.0.weight", "1.weight", "1.bias"]
    assert [n for n, _ in outer.named_modules()] == ["", "0", "0.0", "0.1", "0.1.0", "0.1.1", "1"]
    assert [type(m).__name__ for m in outer.modules()][-1] == "Dense"


def test_shared_ones_come_once_but_have_all_their_names():
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.a = nn.Dense(3, 3)
            self.b = nn.Dense(3, 3)
            self.b.weight = self.a.weight
            self.again = self.a
            self.mean = self.also = np.zeros(1)

    net = Tied()
    assert [n for n, _ in net.named_parameters()] == ["a.weight", "a.bias", "b.bias"]
    assert [n for n, _ in net.named_modules()] == ["", "a", "b"]
    assert [n for n, _ in net.named_buffers()] == ["mean"]
    expected = ["a.weight", "a.bias", "b.weight", "b.bias", "again.weight", "again.bias", "mean", "also"]
    assert list(net.state_dict()) == expected
    torch = pytest.importorskip("torch", reason="PyTorch says which names a shared parameter has")
    theirs = torch.nn.Module()
    theirs.a, theirs.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    theirs.b.weight = theirs.a.weight
    theirs.again = theirs.a
    assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in net.named_parameters()]
    assert list(theirs.state_dict()) == expected[:6]


def test_cycles_end():
    parent, child = nn.Sequential(nn.Dense(2, 2)), nn.Dense(2, 1)
    child.parent = parent
    parent.child = child
    assert [n for n, _ in parent.named_parameters()] == ["0.weight", "0.bias", "child.weight", "child.bias"]
    assert len(list(parent.modules())) == 3
    assert "..." in repr(parent)
    parent.eval()
    assert not child.training


def test_a_mistyped_attribute_is_an_error():
    with pytest.raises(AttributeError, match="wieght"):
        nn.Dense(2, 2).wieght  # noqa: B018
    with pytest.raises(NotImplementedError, match=r"Module has no forward\(\)"):
        nn.Module()(1)


def test_train_and_eval_reach_everything():
    net = Net()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    assert "training" not in net.state_dict()


def test_frozen_parameters_cost_nothing():
    net = mlp()
    x = np.ones((2, 5), F32)
    with minidl.tensor.no_grad():
        expected = net(x).data
    assert net.requires_grad_(False) is net
    y = net(x)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, expected)
    net[2].requires_grad_()
    net(x).sum().backward()
    assert net[0].weight.grad is None
    assert net[2].weight.grad.shape == (3, 7)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True]
    net.zero_grad()
    assert net[2].weight.grad is None


def test_repr_shows_shapes_and_counts():
    text = repr(nn.Sequential(nn.Flatten(), nn.Dense(784, 512), nn.ReLU(), nn.Dropout(0.25), nn.Dense(512, 10)))
    assert "407,050 parameters" in text.splitlines()[0]
    assert "(1): Dense(weight (512, 784), bias (512,))  # 401,920 parameters" in text
    assert "(3): Dropout(p=0.25)" in text
    assert "(2): ReLU()" in text
    assert "running (2,)" in repr(Net())
    shared = nn.Dense(2, 2)
    assert "# 6 parameters" in repr(nn.Sequential(shared, shared)).splitlines()[0]


def test_deep_copies_are_independent():
    net = mlp()
    twin = copy.deepcopy(net)
    x = np.ones((2, 5), F32)
    before = net(x).data.copy()
    np.testing.assert_array_equal(twin(x).data, before)
    for p in twin.parameters():
        assert p.requires_grad
        p.data += 1
    np.testing.assert_array_equal(net(x).data, before)
    assert not np.array_equal(twin(x).data, before)


# --------------------------------------------------------------------------------- state dictionaries


def test_state_dict_round_trip():
    one, two = Net(), Net()
    for array in one.state_dict().values():
        array += np.random.default_rng(0).normal(size=array.shape).astype(array.dtype)
    arrays = {n: two.state_dict()[n] for n in two.state_dict()}
    two.load_state_dict(one.state_dict())
    for name, array in two.state_dict().items():
        assert array is arrays[name]  # in place: optimizers and others hold these
        np.testing.assert_array_equal(array, one.state_dict()[name])
        assert not np.shares_memory(array, one.state_dict()[name])


def test_loading_takes_tensors_and_other_dtypes_and_layouts():
    net = mlp()
    state = {n: Tensor(np.asfortranarray(v.astype(np.float64) + 1)) for n, v in values(net).items()}
    before = values(net)
    net.load_state_dict(state)
    for name, array in net.state_dict().items():
        assert array.dtype == F32
        np.testing.assert_allclose(array, before[name] + 1, rtol=1e-6)


def test_not_strict_takes_what_fits():
    net = mlp()
    before = values(net)
    net.load_state_dict({"0.bias": np.full(7, 5.0), "unknown": np.zeros(3)}, strict=False)
    assert (net[0].bias.data == 5).all()
    np.testing.assert_array_equal(net[0].weight.data, before["0.weight"])


def damaged(how: str) -> tuple[dict[str, Any], type[Exception], str, bool]:
    state: dict[str, Any] = {n: v + 1 for n, v in values(mlp()).items()}
    last = "2.weight"
    if how == "missing":
        del state[last]
        return state, KeyError, rf"missing \['{last}'\]", True
    if how == "extra":
        state["3.weight"] = np.zeros(1)
        return state, KeyError, r"unexpected \['3.weight'\]", True
    shapes = {"transposed": (7, 3), "broadcastable": (1, 7), "scalar": (), "flat": (21,), "another axis": (3, 7, 1)}
    if how in shapes:
        state[last] = np.ones(shapes[how])
        return state, ValueError, rf"{last} of shape \(3, 7\), found \({str(shapes[how])[1:-1]}\)", False
    state[last] = {
        "strings": np.full((3, 7), "x"),
        "objects": np.full((3, 7), None),
        "complex": np.full((3, 7), 1j),
        "none": None,
    }[how]
    return state, (TypeError, ValueError), last, False


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "extra",
        "transposed",
        "broadcastable",
        "scalar",
        "flat",
        "another axis",
        "strings",
        "objects",
        "complex",
        "none",
    ],
)
def test_bad_state_dicts_change_nothing(how):
    state, error, message, only_strict = damaged(how)
    net = mlp()
    before = values(net)
    for strict in (True,) if only_strict else (True, False):
        with pytest.raises(error, match=f"load_state_dict: .*{message}"):
            net.load_state_dict(state, strict)
    np.testing.assert_equal(values(net), before)


def test_pytorchs_state_dict_loads_by_name_and_back():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    t = torch.nn
    theirs = t.Sequential(t.Flatten(), t.Linear(12, 7), t.ReLU(), t.Linear(7, 5, bias=False), t.Tanh(), t.Linear(5, 2))
    mine = nn.Sequential(
        nn.Flatten(), nn.Dense(12, 7), nn.ReLU(), nn.Dense(7, 5, bias=False), nn.Tanh(), nn.Dense(5, 2)
    )
    x = np.random.default_rng(0).normal(size=(9, 3, 4)).astype(F32)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(mine(x).data, theirs(torch.tensor(x)).detach(), rtol=1e-6, atol=1e-6)
    fresh = copy.deepcopy(mine)
    for p in fresh.parameters():
        p.data *= -0.7
    theirs.load_state_dict({n: torch.tensor(v) for n, v in fresh.state_dict().items()})
    np.testing.assert_allclose(fresh(x).data, theirs(torch.tensor(x)).detach(), rtol=1e-6, atol=1e-6)


# -------------------------------------------------------------------------------------------- layers

ACTIVATIONS = [
    ("ReLU", {}), ("LeakyReLU", {}), ("LeakyReLU", {"negative_slope": 0.3}), ("ELU", {}), ("ELU", {"alpha": 0.5}),
    ("GELU", {}), ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Softplus", {}),
    ("Softplus", {"beta": 2.0, "threshold": 1.0}), ("Sigmoid", {}), ("Tanh", {}), ("Softmax", {"dim": 1}),
    ("Softmax", {"dim": 0}), ("LogSoftmax", {"dim": 1}), ("LogSoftmax", {"dim": -2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS, ids=str)
def test_activations_are_pytorchs(name, options):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    mine, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options)
    values = np.concatenate([np.random.default_rng(0).normal(size=(4, 6)) * 3, np.zeros((1, 6))])
    x, z = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, expected = mine(x), theirs(z)
    np.testing.assert_allclose(y.data, expected.detach(), rtol=1e-12, atol=1e-15)
    dy = np.random.default_rng(1).normal(size=y.shape)
    y.backward(dy)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(x.grad, z.grad, rtol=1e-11, atol=1e-14)
    assert not list(mine.parameters())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4, 5), (5,), (2, 3, 5), (0, 5)], ids=str)
def test_dense_is_x_wt_plus_b(shape, bias, dtype):
    layer = nn.Dense(5, 3, bias=bias, dtype=dtype)
    x = Tensor(np.random.default_rng(0).normal(size=shape).astype(dtype), requires_grad=True)
    y = layer(x)
    w, b = layer.weight.data.astype(float), layer.bias.data.astype(float) if bias else 0.0
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    assert y.dtype == dtype
    np.testing.assert_allclose(y.data, x.data @ w.T + b, rtol=tolerance, atol=tolerance)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    y.backward(dy)
    rows, drows = x.data.reshape(-1, 5), dy.reshape(-1, 3)
    np.testing.assert_allclose(x.grad, dy @ w, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(layer.weight.grad, drows.T @ rows, rtol=tolerance, atol=tolerance)
    if bias:
        np.testing.assert_allclose(layer.bias.grad, drows.sum(0), rtol=tolerance, atol=tolerance)
    else:
        assert layer.bias is None
        assert list(layer.state_dict()) == ["weight"]


def test_dense_starts_as_pytorchs_linear():
    layer = nn.Dense(400, 300, generator=np.random.default_rng(0))
    for p, shape in ((layer.weight, (300, 400)), (layer.bias, (300,))):
        assert p.shape == shape
        assert p.requires_grad
        assert p.dtype == np.float32
        assert 0.99 / 20 < np.abs(p.data).max() <= 1 / 20
        assert abs(p.data.mean()) < 4 / 20 / (3 * p.size) ** 0.5
        assert p.data.std() == pytest.approx(1 / 20 / 3**0.5, rel=0.06)
    again = nn.Dense(400, 300, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(layer.weight.data, again.weight.data)
    minidl.manual_seed(5)
    one = nn.Dense(3, 2)
    minidl.manual_seed(5)
    np.testing.assert_array_equal(one.weight.data, nn.Dense(3, 2).weight.data)
    assert not np.array_equal(one.weight.data, nn.Dense(3, 2).weight.data)
    with pytest.raises(ValueError, match="negative"):
        minidl.manual_seed(-1)


@pytest.mark.parametrize("bad", [0, -1, 2.0, "3", None])
def test_dense_with_bad_sizes(bad):
    with pytest.raises(ValueError, match=r"Dense: expected in_features as an int of at least 1, found"):
        nn.Dense(bad, 2)
    with pytest.raises(ValueError, match=r"Dense: expected out_features as an int of at least 1, found"):
        nn.Dense(2, bad)


def test_dense_with_bad_dtypes_and_inputs():
    for dtype in (np.float16, np.int64, complex):
        with pytest.raises(TypeError, match="Dense: expected dtype float32 or float64"):
            nn.Dense(2, 2, dtype=dtype)
    with pytest.raises(ValueError, match=r"dense.*\(4, 3\).*\(5, 2\)"):
        nn.Dense(2, 5)(np.ones((4, 3), F32))
    with pytest.raises(TypeError, match=r"dense.*int64"):
        nn.Dense(2, 5)(np.ones((4, 2), int))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(5, 7, 3), (3, 1, 65), (150, 300, 70)], ids=str)
def test_sequentials_fused_pair_equals_the_two_layers_to_the_bit(sizes, bias, dtype):
    batch, width, hidden = sizes
    if minidl.jit.interpreted() and batch * width * hidden > 10_000:
        pytest.skip("a product of this size takes minutes uncompiled, and the small ones run the same lines")
    rng = np.random.default_rng(0)
    fused = nn.Sequential(nn.Dense(width, hidden, bias=bias, dtype=dtype), nn.ReLU())
    apart = copy.deepcopy(fused)
    x, z = (Tensor(rng.normal(size=(batch, width)).astype(dtype), requires_grad=True) for _ in range(2))
    z.data[:] = x.data
    x.data[0, 0] = z.data[0, 0] = np.nan if width == 1 else 0  # NaN passes both ways
    y, expected = fused(x), apart[1](apart[0](z))
    assert y._node.op == "dense_relu"
    assert (y.data == 0).any()
    dy = rng.normal(size=y.shape).astype(dtype)
    y.backward(dy)
    expected.backward(dy)
    np.testing.assert_array_equal(y.data, expected.data)
    np.testing.assert_array_equal(x.grad, z.grad)
    for p, q in zip(fused.parameters(), apart.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", ["forward", "run", "class forward", "class run", "class __call__"])
def test_a_pair_that_somebody_has_changed_is_called(place, name, monkeypatch):
    model = nn.Sequential(nn.Dense(4, 3), nn.ReLU(), nn.Dense(3, 2))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(F32)
    before, calls = model(x).data, []
    layer = model[place]
    what = name.split()[-1]
    if name.startswith("class"):
        own = getattr(type(layer), what)
        monkeypatch.setattr(type(layer), what, lambda self, z: calls.append(self) or own(self, z))
    else:
        own_here = getattr(layer, what)
        setattr(layer, what, lambda z: calls.append(layer) or own_here(z))
    np.testing.assert_array_equal(model(x).data, before)
    assert calls[0] is layer
    monkeypatch.undo()
    vars(layer).pop(what, None)
    again = model(x)
    assert again._node.inputs[0]._node.op == "dense_relu"


def test_an_interceptor_sees_every_module_of_a_sequential():
    model = nn.Sequential(nn.Dense(4, 3), nn.ReLU(), nn.Sequential(nn.Dense(3, 2), nn.ReLU()))
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(F32)
    expected = model(x).data

    class Seeing(Interceptor):
        def module(self, module: Any, args: Any, kwargs: Any) -> Any:
            seen.append(module)
            return super().module(module, args, kwargs)

    class Content(Seeing):
        knows_fused = True

    apart = [model, model[0], model[1], model[2], model[2][0], model[2][1]]
    for interceptor, modules in ((Seeing(), apart), (Content(), [model, model[2]]), (Interceptor(), [])):
        seen: list[Any] = []
        with intercepted(interceptor):
            np.testing.assert_array_equal(model(x).data, expected)
        assert len(seen) == len(modules)
        assert all(a is b for a, b in zip(seen, modules, strict=True))
    seen = []
    with intercepted(Seeing()), observed(lambda call, *args: call(*args), lambda run, *args: run(*args)):
        np.testing.assert_array_equal(model(x).data, expected)
    assert len(seen) == len(apart)


def test_only_plain_pairs_are_fused():
    class Doubled(nn.Dense):
        def forward(self, x: Any) -> Tensor:
            return super().forward(x) * 2

    class Leaking(nn.ReLU):
        def forward(self, x: Any) -> Tensor:
            return ops.leaky_relu(x, 0.5)

    x = np.random.default_rng(0).normal(size=(6, 4)).astype(F32)
    for layers in (
        (Doubled(4, 3), nn.ReLU()),
        (nn.Dense(4, 3), Leaking()),
        (nn.Dense(4, 3), nn.Dense(3, 3), nn.ReLU()),
    ):
        expected: Any = x
        for layer in layers:
            expected = layer(expected)
        np.testing.assert_array_equal(nn.Sequential(*layers)(x).data, expected.data)


def test_sequential_is_indexed_sliced_and_walked():
    layers = [nn.Dense(4, 3), nn.ReLU(), nn.Dense(3, 2), nn.Tanh()]
    net = nn.Sequential(*layers)
    assert len(net) == 4
    assert list(net) == layers
    assert net[0] is layers[0]
    assert net[-1] is layers[3]
    assert isinstance(net[1:3], nn.Sequential)
    assert list(net[1:3]) == layers[1:3]
    assert list(net[1:3].state_dict()) == ["1.weight", "1.bias"]
    assert len(net[4:]) == 0
    with pytest.raises(IndexError):
        net[4]
    x = np.ones((2, 4), F32)
    assert nn.Sequential()(x) is x
    with pytest.raises(TypeError, match="Sequential: expected modules, found 3 in place 1"):
        nn.Sequential(nn.ReLU(), 3)


@pytest.mark.parametrize(
    ("shape", "flat"),
    [((4, 2, 3), (4, 6)), ((4, 5), (4, 5)), ((0, 2, 3), (0, 6)), ((1, 1, 8, 8), (1, 64)), ((3, 0, 2), (3, 0))],
)
def test_flatten(shape, flat):
    x = Tensor(np.arange(float(np.prod(shape))).reshape(shape), requires_grad=True)
    y = nn.Flatten()(x)
    assert y.shape == flat
    np.testing.assert_array_equal(y.data.ravel(), x.data.ravel())
    y.backward(y.data + 1)
    np.testing.assert_array_equal(x.grad, x.data + 1)
    assert nn.Flatten()(x.data).shape == flat


# ------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_statistics(p):
    x = Tensor(np.ones((400, 500), F32), requires_grad=True)
    y = nn.Dropout(p, generator=np.random.default_rng(0))(x)
    dropped = (y.data == 0).mean()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / x.size) ** 0.5)
    np.testing.assert_allclose(y.data[y.data != 0], 1 / (1 - p), rtol=1e-6)
    assert (y.data == 0).mean(axis=0).std() == pytest.approx((p * (1 - p) / 400) ** 0.5, rel=0.2)  # no stripes
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)
    assert y.dtype == x.grad.dtype == np.float32


def test_dropout_is_seeded_and_new_each_time():
    x = np.ones((8, 50), F32)
    minidl.manual_seed(3)
    layer = nn.Dropout(0.5)
    first, second = layer(x).data, layer(x).data
    assert not np.array_equal(first, second)
    minidl.manual_seed(3)
    np.testing.assert_array_equal(layer(x).data, first)
    own = [nn.Dropout(0.5, generator=np.random.default_rng(9))(x).data for _ in range(2)]
    np.testing.assert_array_equal(*own)


def test_dropout_at_its_ends():
    x = Tensor(np.array([1.0, -2.0, np.nan]), requires_grad=True)
    for layer in (nn.Dropout(0.0), nn.Dropout(0.7).eval(), nn.Sequential(nn.Dropout(1.0)).eval()):
        np.testing.assert_array_equal(layer(x).data, x.data)
    y = nn.Dropout(1.0)(Tensor(np.ones(5), requires_grad=True))
    assert y.data.tolist() == [0] * 5
    z = Tensor(np.ones(4), requires_grad=True)
    nn.Dropout(1.0)(z).sum().backward()
    assert z.grad.tolist() == [0] * 4
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="Dropout: expected a probability p from 0 to 1"):
            nn.Dropout(p)


def test_a_net_learns_and_evaluates():
    minidl.manual_seed(0)
    net = Net()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(F32)
    net(x).sum().backward()
    got = {n for n, p in net.named_parameters() if p.grad is not None}
    assert got == set(NAMES) - {"heads.a.0", "heads.a.1"}
    assert net.offset.grad.shape == ()
    assert net.offset.grad == 5


@pytest.mark.parametrize(
    ("layer", "same"),
    [
        (nn.LeakyReLU(0.2), lambda x: np.where(x <= 0, 0.2 * x, x)),
        (nn.ELU(0.7), lambda x: np.where(x <= 0, 0.7 * np.expm1(np.minimum(x, 0)), x)),
        (nn.GELU("tanh"), lambda x: x / (1 + np.exp(-np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)))),
        (nn.SiLU(), lambda x: x / (1 + np.exp(-x))),
        (nn.Softplus(2.0, 3.0), lambda x: np.where(2 * x > 3, x, np.log1p(np.exp(2 * x)) / 2)),
        (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh),
        (nn.Softmax(0), lambda x: np.exp(x) / np.exp(x).sum(axis=0)),
        (nn.LogSoftmax(1), lambda x: x - np.log(np.exp(x).sum(axis=1, keepdims=True))),
    ],
    ids=lambda part: type(part).__name__ if isinstance(part, nn.Module) else "",
)
def test_activations_are_their_formulas(layer, same):
    x = np.random.default_rng(0).normal(size=(5, 7)) * 3
    np.testing.assert_allclose(layer(x).numpy(), same(x), rtol=1e-13)
