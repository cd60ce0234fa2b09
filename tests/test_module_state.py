"""What of a module is its state: what was there before its first call, and parameters made on purpose."""

import copy
import pickle
import threading

import numpy as np
import pytest

from minidl import Tensor, checkpoint, nn, no_grad, ops, optim


class Remembering(nn.Module):
    """Leaves what it computes in its attributes, lists and dicts."""

    def __init__(self):
        self.inner = nn.Dense(3, 2)
        self.scale = Tensor(np.ones(2, np.float32), requires_grad=True)
        self.count = np.zeros((), np.int64)
        self.kept, self.by_name, self.hidden = [], {}, None

    def forward(self, x):
        self.hidden = self.inner(x)
        self.kept.append(self.hidden.detach())
        self.by_name["mean"] = np.asarray(self.hidden.data.mean())
        self.cached = Tensor(x)
        self.count += 1
        return self.hidden * self.scale


OWN = ["inner.weight", "inner.bias", "scale", "count"]


@pytest.mark.parametrize("how", ["no_grad", "recorded", "frozen"])
def test_what_forward_leaves_behind_is_no_state(how, tmp_path):
    model = Remembering()
    assert list(model.state_dict()) == OWN
    before = {name: values.copy() for name, values in model.state_dict().items()}
    model.requires_grad_(how != "frozen")
    for rows in (2, 5, 1):
        if how == "no_grad":
            with no_grad():
                model(np.ones((rows, 3), np.float32))
        else:
            model(np.ones((rows, 3), np.float32))
        assert list(model.state_dict()) == OWN
        assert [name for name, _ in model.named_parameters()] == OWN[:3]
        assert [name for name, _ in model.named_buffers()] == ["count"]
    assert model.count == 3
    assert "hidden" not in repr(model)
    assert len(optim.SGD(model.parameters()).param_groups[0]["params"]) == 3
    model.load_state_dict(before)
    assert model.count == 0
    checkpoint.save_checkpoint(tmp_path / "m.safetensors", model, {})
    checkpoint.load_checkpoint(tmp_path / "m.safetensors").restore(Remembering())


def test_what_is_added_later_is_state_where_it_is_a_parameter_or_a_module():
    model = Remembering()
    model(np.ones((2, 3), np.float32))
    model.extra = Tensor(np.ones(4, np.float32), requires_grad=True)
    model.kept.append(Tensor(np.ones(1, np.float32), requires_grad=True))
    model.head = nn.BatchNorm1d(2)
    expected = [*OWN[:3], "count", "kept.1", "extra"]
    head = [f"head.{name}" for name in nn.BatchNorm1d(2).state_dict()]
    assert sorted(model.state_dict()) == sorted([*expected, *head])
    model.requires_grad_(False)  # a frozen parameter is one all the same
    assert sorted(model.state_dict()) == sorted([*expected, *head])


def test_a_parameter_made_in_the_first_call_is_one():
    class Lazy(nn.Module):
        weight = None

        def forward(self, x):
            if self.weight is None:
                self.weight = Tensor(np.ones((x.shape[1], 2), np.float32), requires_grad=True)
            return ops.matmul(x, self.weight)

    model = nn.Sequential(Lazy(), nn.ReLU())
    model(np.ones((4, 3), np.float32))
    assert list(model.state_dict()) == ["0.weight"]


def test_the_first_call_of_several_threads_at_once():
    for _ in range(20):
        model = Remembering()
        barrier = threading.Barrier(4)

        def call(model=model, barrier=barrier):
            barrier.wait()
            with no_grad():
                model(np.ones((2, 3), np.float32))

        threads = [threading.Thread(target=call) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert list(model.state_dict()) == OWN


def test_names_that_clash_are_an_error():
    class Twice(nn.Module):
        def __init__(self):
            self.by = {0: Tensor(np.zeros(1), requires_grad=True), "0": Tensor(np.ones(1), requires_grad=True)}

    class Dotted(nn.Module):
        def __init__(self):
            self.inner = nn.Dense(2, 2)
            setattr(self, "inner.weight", np.ones(2))

    for model, name in ((Twice(), "by.0"), (nn.Sequential(Twice()), "0.by.0"), (Dotted(), "inner.weight")):
        for call in (model.state_dict, lambda m=model: list(m.parameters()), lambda m=model: m.load_state_dict({})):
            with pytest.raises(ValueError, match=f"expected one array of each name, found two called '{name}'"):
                call()
    layer = nn.Dense(2, 2)
    state = {**layer.state_dict(), 0: np.ones(1)}
    with pytest.raises(KeyError, match=r"unexpected \[0\]"):
        layer.load_state_dict(state)
    for bad in (None, [np.ones(1)], layer, 3):
        with pytest.raises(TypeError, match="load_state_dict: expected a dict of arrays, found "):
            layer.load_state_dict(bad)


LAYERS = [
    (lambda: nn.Dense(3, 2), (4, 3)),
    (lambda: nn.Conv2d(1, 2, 3), (2, 1, 5, 5)),
    (lambda: nn.Sequential(nn.Dense(3, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)), (4, 3)),
    (lambda: nn.LayerNorm(3), (4, 3)),
    (lambda: nn.LSTM(3, 2), (5, 2, 3)),
    (lambda: nn.GRU(3, 2, generator=np.random.default_rng(3)), (5, 2, 3)),
    (lambda: nn.TransformerEncoderLayer(4, 2, 8), (5, 2, 4)),
    (lambda: nn.Residual(nn.Dense(3, 3)), (4, 3)),
    (lambda: nn.ModuleDict({"a": nn.Dense(3, 2)}), None),
    (Remembering, (4, 3)),
]


@pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize(("build", "shape"), LAYERS)
def test_copies_of_modules_are_whole_and_their_own(how, build, shape):
    model = build()
    x = None if shape is None else np.random.default_rng(0).normal(size=shape).astype(np.float32)

    def run(m):
        with no_grad():
            y = m.eval()(x) if x is not None else m["a"](np.ones((1, 3), np.float32))
        return [t.data for t in (y if isinstance(y, tuple) else (y,)) if isinstance(t, Tensor)]

    run(model)  # used ones too
    made = how(model)
    assert list(made.state_dict()) == list(model.state_dict())
    for a, b in zip(run(made), run(model), strict=True):
        np.testing.assert_array_equal(a, b)
    for (name, a), b in zip(made.state_dict().items(), model.state_dict().values(), strict=True):
        assert not np.shares_memory(a, b), name
        assert a.flags.f_contiguous == b.flags.f_contiguous, name
    for p in made.parameters():
        assert p.requires_grad
        p.data += 1
    assert list(made.state_dict()) == list(model.state_dict())


def test_a_copy_keeps_shared_parameters_shared_and_goes_with_its_optimizer():
    model = nn.Sequential(nn.Dense(3, 3, bias=False), nn.Tanh(), nn.Dense(3, 3, bias=False))
    model[2].weight = model[0].weight
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer):
        optimizer.zero_grad()
        (model(np.ones((2, 3), np.float32)) * np.arange(3, dtype=np.float32)).sum().backward()
        optimizer.step()
        return model[0].weight.data.copy()

    step(model, optimizer)
    for how in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        made, own = how((model, optimizer))
        assert made[0].weight is made[2].weight
        assert own.param_groups[0]["params"][0] is made[0].weight
        kept = model[0].weight.data.copy()
        moved = step(made, own)
        np.testing.assert_array_equal(model[0].weight.data, kept)
        again, other = how((model, optimizer))
        np.testing.assert_array_equal(step(again, other), moved)


@pytest.mark.parametrize("second", [nn.Dense(4, 2), nn.Tanh(), nn.LayerNorm(4), nn.Residual(nn.Dense(4, 4))])
@pytest.mark.parametrize("first", [nn.LSTM(3, 4), nn.GRU(3, 4), nn.RNN(3, 4)])
def test_a_layer_after_a_recurrent_one_says_what_it_got(first, second):
    x = np.ones((5, 2, 3), np.float32)
    kind, other = type(first).__name__, type(second).__name__
    words = rf"Sequential: expected one Tensor for module 1 \({other}\), found the 2 results of module 0 \({kind}\)"
    for model in (nn.Sequential(first, second), nn.Sequential(first, second, nn.ReLU())):
        with pytest.raises(TypeError, match=words):
            model(x)
    with pytest.raises(TypeError, match=rf"module 0 \({other}\), found the 2 results; put"):
        nn.Sequential(first, nn.Sequential(second))(x)
    with pytest.raises(TypeError, match="dense: expected a Tensor for input 0, found a tuple of them; take one"):
        nn.Dense(4, 2)(first(x))

    class Last(nn.Module):
        def forward(self, results):
            return results[0][-1]

    assert nn.Sequential(first, Last(), nn.Dense(4, 2))(x).shape == (2, 2)
