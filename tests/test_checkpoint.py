"""Models and runs in files: the same bits come back, PyTorch reads them, and what does not fit is told before."""

import base64
import json
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save

import minidl
from minidl import models, nn, ops, optim
from minidl.checkpoint import CheckpointError, check_writable, load_checkpoint, load_model, save_checkpoint, save_model
from minidl.checkpoint.layers import describe
from minidl.random import default_generator, generator_state, set_generator_state

CONFIG = {"dataset": "digits", "hidden": [5], "rate": 0.1}


def model_of(dtype=np.float32):
    layers = nn.Flatten(), nn.Dense(6, 5, dtype=dtype), nn.ReLU(), nn.Dropout(0.25), nn.Dense(5, 3, False, dtype=dtype)
    return nn.Sequential(*layers)


def random(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def same_bits(a, b):
    """Arrays of one dtype and shape, with the same bytes: NaN is NaN, and −0 is not 0."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_state(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    for name, values in a.items():
        assert same_bits(values, b[name]), name


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model_of(), CONFIG)
    return path


# ------------------------------------------------------------------------------------------ models


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_comes_back_bit_for_bit(tmp_path, dtype):
    model, path = model_of(dtype), tmp_path / "model.safetensors"
    save_model(path, model, CONFIG)
    loaded, config = load_model(path)
    assert config == CONFIG
    assert repr(loaded) == repr(model)
    assert loaded[3].p == 0.25
    assert_same_state(loaded, model)
    assert loaded[1].weight.dtype == dtype
    assert loaded[1].weight.data.flags.f_contiguous  # dense's own order, or every step would copy
    assert loaded[1].weight.data.base is not None
    assert list(tmp_path.iterdir()) == [path]


IMAGES, ROWS, SEQUENCES = random(2, 4, 8, 8), random(5, 6), random(3, 5, 6)
LAYERS = {
    "AdaptiveAvgPool1d": [(nn.AdaptiveAvgPool1d(2), SEQUENCES)],
    "AdaptiveAvgPool2d": [(nn.AdaptiveAvgPool2d((2, None)), IMAGES), (nn.AdaptiveAvgPool2d(3), IMAGES)],
    "AvgPool1d": [(nn.AvgPool1d(3, 2, 1, True, False), SEQUENCES)],
    "AvgPool2d": [(nn.AvgPool2d((2, 3), (1, 2), 1, True, False, 5), IMAGES), (nn.AvgPool2d(2), IMAGES)],
    "BatchNorm1d": [
        (nn.BatchNorm1d(6, 1e-3, 0.3), ROWS),
        (nn.BatchNorm1d(6, momentum=None, affine=False, dtype=np.float64), ROWS.astype(np.float64)),
        (nn.BatchNorm1d(6, affine=False, track_running_stats=False), ROWS),
    ],
    "BatchNorm2d": [(nn.BatchNorm2d(4, track_running_stats=False), IMAGES), (nn.BatchNorm2d(4), IMAGES)],
    "Conv1d": [(nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False), IMAGES[:, :, 0])],
    "Conv2d": [
        (nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"), IMAGES),
        (nn.Conv2d(4, 2, (3, 2), (2, 1), (0, 1), (1, 2)), IMAGES),
        (nn.Conv2d(4, 4, 3, padding="same", groups=4, dtype=np.float64), IMAGES.astype(np.float64)),
    ],
    "ConvTranspose2d": [(nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, 2, False, 1), IMAGES)],
    "Dense": [(nn.Dense(6, 3), ROWS), (nn.Dense(6, 2, False, np.float64), ROWS.astype(np.float64))],
    "Dropout": [(nn.Dropout(0.3), ROWS)],
    "Dropout2d": [(nn.Dropout2d(0.75), IMAGES)],
    "ELU": [(nn.ELU(0.3), ROWS)],
    "Embedding": [(nn.Embedding(7, 3, padding_idx=-2), np.array([[0, 5], [6, 1]])), (nn.Embedding(3, 2), np.arange(3))],
    "Flatten": [(nn.Flatten(), IMAGES)],
    "GELU": [(nn.GELU("tanh"), ROWS), (nn.GELU(), ROWS)],
    "GRU": [(nn.GRU(6, 3, 2, False, True, 0.5, True), SEQUENCES)],
    "GroupNorm": [(nn.GroupNorm(2, 4, 1e-2), IMAGES), (nn.GroupNorm(4, 4, affine=False), IMAGES)],
    "LSTM": [(nn.LSTM(6, 3, num_layers=2, bidirectional=True), SEQUENCES), (nn.LSTM(6, 2), SEQUENCES)],
    "LayerNorm": [
        (nn.LayerNorm((5, 6), bias=False), SEQUENCES),
        (nn.LayerNorm(6, 1e-2, False), SEQUENCES),
        (nn.LayerNorm(6, dtype=np.float64), SEQUENCES.astype(np.float64)),
    ],
    "LeakyReLU": [(nn.LeakyReLU(0.3), ROWS)],
    "LogSoftmax": [(nn.LogSoftmax(0), ROWS)],
    "MaxPool1d": [(nn.MaxPool1d(3, 2, 1, 2, True), SEQUENCES)],
    "MaxPool2d": [(nn.MaxPool2d((3, 2), 2, (1, 0), (1, 2), True), IMAGES)],
    "ModuleDict": [(nn.ModuleDict({"left": nn.Dense(2, 3), "7": nn.ModuleDict()}), None)],
    "ModuleList": [(nn.ModuleList([nn.Dense(2, 3), nn.ModuleList([nn.ReLU()])]), None)],
    "MultiheadAttention": [
        (nn.MultiheadAttention(6, 3, 0.5, batch_first=True), (SEQUENCES,) * 3),
        (nn.MultiheadAttention(6, 2, bias=False, kdim=4, vdim=3), (ROWS, ROWS[:, :4], ROWS[:, :3])),
    ],
    "RNN": [(nn.RNN(6, 3, nonlinearity="relu"), SEQUENCES), (nn.RNN(6, 3, 2, dropout=0.25), SEQUENCES)],
    "ReLU": [(nn.ReLU(), ROWS)],
    "Residual": [(nn.Residual(nn.Dense(6, 3), nn.Dense(6, 3)), ROWS), (nn.Residual(nn.Tanh()), ROWS)],
    "Sequential": [(nn.Sequential({"a": nn.Dense(6, 3), "3": nn.ReLU(), "1": nn.Sequential()}), ROWS)],
    "SiLU": [(nn.SiLU(), ROWS)],
    "Sigmoid": [(nn.Sigmoid(), ROWS)],
    "Softmax": [(nn.Softmax(0), ROWS)],
    "Softplus": [(nn.Softplus(2.0, 0.5), ROWS)],
    "Tanh": [(nn.Tanh(), ROWS)],
    "TransformerEncoderLayer": [
        (nn.TransformerEncoderLayer(6, 3, 8, 0.25, "gelu", 1e-3, True, True, False), SEQUENCES),
        (nn.TransformerEncoderLayer(6, 2, 4, activation=ops.relu), SEQUENCES),
    ],
}  # fmt: skip


def outputs(model, x):
    """All arrays that the model gives."""
    flat, stack = [], [model(*x) if isinstance(x, tuple) else model(x)]
    while stack:
        value = stack.pop()
        if isinstance(value, tuple):
            stack.extend(value)
        elif value is not None:
            flat.append(np.asarray(value if isinstance(value, np.ndarray) else value.data))
    return flat


def test_every_layer_has_its_cases():
    assert set(LAYERS) == set(nn.__all__) - {"Module", "init"}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_comes_back_and_computes_the_same_bits(tmp_path, name):
    for layer, x in LAYERS[name]:
        assert type(layer).__name__ == name
        for p in layer.parameters():  # not as a new one has them
            p.data[...] += 0.01 * random(*p.shape, dtype=p.dtype)
        if x is not None:
            outputs(layer.train(), x)  # running statistics move
        before = generator_state(default_generator())
        save_model(tmp_path / "m", layer, {})
        loaded, _ = load_model(tmp_path / "m")
        assert generator_state(default_generator()) == before  # neither draws
        assert type(loaded) is type(layer)
        assert repr(loaded) == repr(layer)
        assert_same_state(loaded, layer)
        assert describe(loaded) == describe(layer)
        assert getattr(loaded, "generator", None) is None
        if x is not None:
            for mine, theirs in zip(outputs(layer.eval(), x), outputs(loaded.eval(), x), strict=True):
                assert same_bits(mine, theirs)
            shape = x[0].shape if isinstance(x, tuple) else x.shape
            if name != "Embedding" and len(shape):
                minidl.manual_seed(3)
                mine = outputs(layer.train(), x)
                minidl.manual_seed(3)
                for a, b in zip(mine, outputs(loaded.train(), x), strict=True):
                    assert same_bits(a, b)


@pytest.mark.parametrize("name", models.MODELS)
def test_every_ready_made_model_comes_back(tmp_path, name):
    options = {"mlp": {"hidden": [7]}, "lstm": {"hidden": 9}}.get(name, {})
    for shape in ((1, 8, 8), (2, 17, 16)):
        model = models.build(name, shape, 3, **options)
        x = random(2, *shape)
        model(x)
        save_model(tmp_path / "m", model, {"model": name})
        loaded, config = load_model(tmp_path / "m")
        assert config == {"model": name}
        assert_same_state(loaded, model)
        assert same_bits(loaded.eval()(x).numpy(), model.eval()(x).numpy())


@st.composite
def nests(draw, depth=3):
    """Modules of (N, 6) → (N, 6) in one another, some of them in two places."""
    leaves = [lambda: nn.Dense(6, 6), nn.ReLU, nn.Tanh, lambda: nn.LayerNorm(6), lambda: nn.BatchNorm1d(6, 1e-3)]
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(leaves))()
    if draw(st.booleans()):
        shortcut = draw(st.none() | nests(depth=depth - 1))
        return nn.Residual(draw(nests(depth=depth - 1)), shortcut)
    inside = draw(st.lists(nests(depth=depth - 1), max_size=4))
    inside += draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []
    n = len(inside)
    names = draw(st.none() | st.lists(st.text("abü _1$", min_size=1), min_size=n, max_size=n, unique=True))
    return nn.Sequential(*inside) if names is None else nn.Sequential(dict(zip(names, inside, strict=True)))


every_example = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@every_example
@given(nests())
def test_any_nest_comes_back(tmp_path, model):
    save_model(tmp_path / "m", model, {})
    loaded, _ = load_model(tmp_path / "m")
    assert repr(loaded) == repr(model)
    assert_same_state(loaded, model)
    assert [name for name, _ in loaded.named_modules()] == [name for name, _ in model.named_modules()]
    assert [name for name, _ in loaded.named_parameters()] == [name for name, _ in model.named_parameters()]
    for mine, theirs in zip(outputs(model.eval(), ROWS), outputs(loaded.eval(), ROWS), strict=True):
        assert same_bits(mine, theirs)


def test_a_shared_layer_stays_one(tmp_path):
    inner = nn.Sequential(nn.Dense(6, 6), nn.ReLU())
    model = nn.Sequential(inner, nn.Residual(inner), inner[0])
    save_model(tmp_path / "m", model, {})
    loaded, _ = load_model(tmp_path / "m")
    assert loaded[0] is loaded[1].module
    assert loaded[0][0] is loaded[2]
    assert len(list(loaded.parameters())) == 2
    assert list(load_file(tmp_path / "m")) != []
    assert same_bits(load_file(tmp_path / "m")["1.module.0.weight"], inner[0].weight.data)


def test_lists_with_names_and_gaps_come_back(tmp_path):
    model = nn.Sequential({"in": nn.Dense(6, 3), "out": nn.Dense(3, 2)})
    model.append(nn.ReLU())
    cut = model[1:]
    for made in (model, cut):
        save_model(tmp_path / "m", made, {})
        assert repr(load_model(tmp_path / "m")[0]) == repr(made)


@pytest.mark.parametrize("order", ["C", "F", "strided", "reversed", "big-endian", "read-only"])
def test_every_memory_layout_is_saved_right(tmp_path, order):
    """safetensors by itself writes memory as it lies."""
    values = random(4, 6)
    laid = {
        "C": values,
        "F": np.asfortranarray(values),
        "strided": np.repeat(np.repeat(values, 2, axis=0), 3, axis=1)[::2, ::3],
        "reversed": np.ascontiguousarray(values[::-1, ::-1])[::-1, ::-1],
        "big-endian": values.astype(">f4"),
        "read-only": values.copy(),
    }[order]
    laid.flags.writeable = order != "read-only"
    model = nn.Sequential(nn.Dense(6, 4))
    if order != "big-endian":  # no Tensor has that
        model[0].weight.data = laid
    save_checkpoint(tmp_path / "c", model, {"laid": laid, "t": laid.T, "0-d": laid[1, 2], "none": laid[:0]})
    found = load_checkpoint(tmp_path / "c")
    assert same_bits(found.model_state["0.weight"], values) or order == "big-endian"
    assert same_bits(found.state["laid"], values)
    assert same_bits(found.state["t"], np.ascontiguousarray(values.T))
    assert same_bits(np.asarray(found.state["0-d"]), values[1, 2])
    assert found.state["none"].shape == (0, 6)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in (found.state["laid"], found.state["none"]))


def test_the_file_is_plain_safetensors(saved):
    arrays = load_file(saved)
    assert {name: a.shape for name, a in arrays.items()} == {"1.weight": (5, 6), "1.bias": (5,), "4.weight": (3, 5)}
    loaded, _ = load_model(saved)
    assert all(same_bits(arrays[name], values) for name, values in loaded.state_dict().items())


def test_torch_reads_it_by_its_names_and_writes_it_back(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Dense(8, 3),
        nn.Sequential(nn.LayerNorm(3), nn.Dropout(0.1)),
    )  # fmt: skip
    model(random(5, 1, 4, 4))
    save_checkpoint(tmp_path / "ours", model, {"epoch": 1, "m": random(2, 3)}, {"a": 1})
    parts = torch.nn.Sequential(torch.nn.LayerNorm(3), torch.nn.Dropout(0.1))
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, bias=False), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8, 3), parts,
    ).eval()  # fmt: skip
    state = load_file(tmp_path / "ours")
    theirs.load_state_dict({name: values for name, values in state.items() if not name.startswith("$state:")})
    x = random(2, 1, 4, 4, seed=1)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(expected, load_model(tmp_path / "ours")[0].eval()(x).numpy(), rtol=1e-5, atol=1e-6)

    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.5)
    with safe_open(tmp_path / "ours", framework="pt") as file:
        metadata = file.metadata()
    save_file({**state, **theirs.state_dict()}, tmp_path / "theirs", metadata)
    back = load_checkpoint(tmp_path / "theirs")
    assert list(back.model_state) == list(model.state_dict())
    for name, values in theirs.state_dict().items():
        assert same_bits(back.model_state[name], values.numpy())
    assert same_bits(back.state["m"], random(2, 3))
    back.restore(model)
    np.testing.assert_allclose(theirs(torch.from_numpy(x)).detach(), model.eval()(x).numpy(), rtol=1e-5, atol=1e-6)


class Mine(nn.Module):
    """A user's own."""

    def __init__(self):
        self.hidden = nn.Dense(6, 4)
        self.scale = minidl.Tensor(np.float32(2.0), requires_grad=True)
        self.count = np.array(3, np.int64)

    def forward(self, x):
        return self.hidden(x) * self.scale


def changed(change):
    model = nn.Sequential(nn.Dense(6, 5), nn.Dropout(0.5), nn.Dense(5, 6))
    change(model)
    return model


def encoder(change):
    layer = nn.TransformerEncoderLayer(6, 2, 4)
    change(layer)
    return layer


class MyReLU(nn.ReLU):
    pass


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (Mine(), "modules of minidl.nn and minidl.models, found Mine; save_checkpoint"),
        (nn.Sequential(nn.Dense(2, 2), nn.Sequential(MyReLU())), "found MyReLU at '1.0'"),
        (nn.Sequential(nn.ReLU(), np.tanh), "expected modules, found <ufunc 'tanh'> in a Sequential"),
        (changed(lambda m: setattr(m[0], "scale", np.ones(2))), "unexpected 0.scale|missing 0.scale"),
        (changed(lambda m: setattr(m[0], "inside", nn.ReLU())), "ReLU at '0.inside' with parts"),
        (changed(lambda m: setattr(m[0], "forward", ops.relu)), "found Dense at '0'"),
        (changed(lambda m: setattr(m[2], "weight", m[0].weight)), "expected 2.weight as"),
        (changed(lambda m: setattr(m[2], "bias", m[0].weight)), "2.bias"),
        (changed(lambda m: setattr(m[1], "p", 7)), "probability p"),
        (encoder(lambda e: setattr(e.dropout1, "p", 0.75)), "Dropout at 'dropout1' with parts"),
        (encoder(lambda e: setattr(e.self_attn, "dropout", 0.75)), "MultiheadAttention at 'self_attn' with parts"),
        (changed(lambda m: setattr(m[1], "p", np.ones(2))), "Dropout's p as a number or text"),
        (changed(lambda m: delattr(m[0], "in_features")), "Dense's in_features"),
        (nn.TransformerEncoderLayer(6, 2, 4, activation=ops.tanh), "activation as a number or text"),
        (nn.Sequential(nn.Residual(np.tanh)), "Residual"),
    ],
)  # fmt: skip
def test_only_models_that_can_be_built_again_are_saved_as_models(tmp_path, model, match):
    with pytest.raises(TypeError, match=match):
        save_model(tmp_path / "m", model, {})
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tmp_path / "c", model, {})  # to be loaded into a model that is there
    found = load_checkpoint(tmp_path / "c")
    assert found.layers is None
    for name, values in model.state_dict().items():
        assert same_bits(found.model_state[name], values)
    with pytest.raises(CheckpointError, match=r"found none, as some are not minidl's own.*restore"):
        found.build()
    with pytest.raises(CheckpointError, match=r"found none, as some are not minidl's own.*restore"):
        load_model(tmp_path / "c")


def test_tied_weights_and_endless_models_are_no_models_of_layers(tmp_path):
    tied = nn.Sequential(nn.Dense(6, 6), nn.Dense(6, 6))
    tied[1].weight = tied[0].weight
    with pytest.raises(TypeError, match=r"one array in two layers: 1\.weight is 0\.weight"):
        save_model(tmp_path / "m", tied, {})
    endless = nn.Sequential(nn.ReLU())
    endless.append(endless)
    deep = nn.ReLU()
    for _ in range(70):
        deep = nn.Sequential(deep)
    for model in (endless, deep):
        with pytest.raises(TypeError, match="at most 64 modules in one another"):
            save_model(tmp_path / "m", model, {})
    with pytest.raises(TypeError, match=r"save_model: expected an nn\.Module, found list"):
        save_model(tmp_path / "m", [nn.ReLU()], {})
    with pytest.raises(TypeError, match=r"save_checkpoint: expected an nn\.Module, found NoneType"):
        save_checkpoint(tmp_path / "m", None, {})
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_model(tmp_path / "m", model_of(), {"array": np.zeros(2)})
    endless = []
    endless.append(endless)
    for _ in range(1100):
        deep = [deep]
    for config in ({"1": 2, 1: 3}, {"endless": endless}, {"deep": deep}):
        with pytest.raises(ValueError, match=r"save_model: expected a config that JSON can hold"):
            save_model(tmp_path / "m", model_of(), config)
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------- runs

numbers = st.none() | st.booleans() | st.integers() | st.integers(1 << 62, 1 << 65) | st.floats() | st.text(max_size=5)
dtypes = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"])
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
keys = st.integers() | st.text(max_size=4) | st.sampled_from(["$tuple", "$", "0"])
states = st.recursive(
    numbers | arrays,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def assert_same(a, b, where="state"):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert [(type(k), k) for k in a] == [(type(k), k) for k in b], where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, np.ndarray | np.generic):
        assert same_bits(np.asarray(a).astype(a.dtype.newbyteorder("=")), np.asarray(b)), where
    elif isinstance(a, float):
        assert struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b), where
    else:
        assert a == b, where


@every_example
@given(states)
def test_any_state_comes_back(tmp_path, state):
    save_checkpoint(tmp_path / "c", nn.ReLU(), state)
    assert_same(state, load_checkpoint(tmp_path / "c").state)


def test_the_state_of_a_run_comes_back(tmp_path):
    state = {
        "epoch": 3, "best": float("-inf"), "nan": float("nan"), "zero": -0.0, "tiny": 5e-324, "third": 1 / 3,
        "betas": (0.9, 0.999), "history": {"loss": [0.5, 0.25]}, 7: {0: "int keys", "0": "text", -1: None},
        "huge": 10**5000, "negative": -(2**200), "0-d": np.array(3, np.int64), "seed": np.uint64(2**64 - 1),
        "flags": np.array([True, False]), "$array": {"$tuple": [1]}, "empty": {}, "none": (), "text": "\0 ü \ud800 \"",
        "bits": np.array([np.nan, -np.nan, np.inf, -0.0], np.float32),
    }  # fmt: skip
    save_checkpoint(tmp_path / "c", model_of(), state, CONFIG)
    found = load_checkpoint(tmp_path / "c")
    assert_same(state, found.state)
    assert list(found.model_state) == ["1.weight", "1.bias", "4.weight"]  # as defined: the file has an order of its own
    assert found.config == CONFIG
    assert found.path == str(tmp_path / "c")
    assert load_model(tmp_path / "c")[1] == CONFIG
    assert load_checkpoint(tmp_path / "c").config == CONFIG
    save_checkpoint(tmp_path / "c", model_of(), None)
    assert load_checkpoint(tmp_path / "c").state is None
    assert load_checkpoint(tmp_path / "c").config == {}


def test_numbers_of_numpy_and_kinds_of_the_standard_library(tmp_path):
    """As their plain kinds, where JSON has them."""
    from collections import OrderedDict, defaultdict, namedtuple
    from enum import IntEnum

    state = [np.float64(0.1), OrderedDict(a=1), defaultdict(list, b=2), namedtuple("P", "x")(3), IntEnum("E", "A").A]
    save_checkpoint(tmp_path / "c", nn.ReLU(), state)
    assert_same([0.1, {"a": 1}, {"b": 2}, (3,), 1], load_checkpoint(tmp_path / "c").state)


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ({"a": [1, {2}]}, TypeError, r"found a set at state\['a'\]\[1\]"),
        ({"t": minidl.Tensor(np.ones(2))}, TypeError, r"found a Tensor at state\['t'\]"),
        ({"f": print}, TypeError, "found a builtin_function_or_method"),
        ({"c": 1j}, TypeError, "found a complex"),
        ({"b": b"x"}, TypeError, "found a bytes"),
        ({"o": np.array([None])}, TypeError, r"found object at state\['o'\]"),
        ({"c": np.zeros(2, np.complex64)}, TypeError, "found complex64"),
        ({"s": np.array(["a"])}, TypeError, "found <U1"),
        ({"d": np.datetime64("2020")}, TypeError, "found datetime64"),
        ({"l": np.zeros(2, np.longdouble)}, TypeError, f"found {np.dtype(np.longdouble)}"),
        ({"r": np.zeros(2, [("a", "f4")])}, TypeError, "found .*'a'"),
        ({"m": np.ma.array([1.0], mask=[True])}, TypeError, "found a MaskedArray"),
        ({(1, 2): 3}, TypeError, r"text or ints as keys, found \(1, 2\) in state"),
        ({"a": {True: 3}}, TypeError, r"as keys, found True in state\['a'\]"),
        ({None: 3}, TypeError, "as keys, found None"),
        ({1.0: 3}, TypeError, r"as keys, found 1\.0"),
    ],
)
def test_states_that_could_not_come_back_are_refused(tmp_path, state, error, match):
    with pytest.raises(error, match=f"save_checkpoint: expected .*{match}"):
        save_checkpoint(tmp_path / "c", nn.ReLU(), state)
    assert list(tmp_path.iterdir()) == []


def test_states_too_deep_or_too_long_are_refused(tmp_path):
    state = endless = []
    for _ in range(70):
        state = [state]
    endless.append(endless)
    for wrong in (state, endless):
        with pytest.raises(ValueError, match="at most 64 deep"):
            save_checkpoint(tmp_path / "c", nn.ReLU(), wrong)
    with pytest.raises(ValueError, match=r"at most 16,777,216 bytes of .*use arrays"):
        save_checkpoint(tmp_path / "c", nn.ReLU(), "x" * (1 << 24))
    assert list(tmp_path.iterdir()) == []
    state = 1
    for _ in range(64):
        state = (state,)
    save_checkpoint(tmp_path / "c", nn.ReLU(), state)
    assert load_checkpoint(tmp_path / "c").state == state


def test_parameters_cannot_take_the_names_of_the_state(tmp_path):
    for name, match in (("$state:0", r"found '\$state:0'"), ("__metadata__", "found '__metadata__'")):
        model = Mine()
        setattr(model, name, np.ones(2, np.float32))
        with pytest.raises(ValueError, match=f"save_checkpoint: expected parameters not to be named .*{match}"):
            save_checkpoint(tmp_path / "c", model, {"a": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_to_the_same_bits(tmp_path):
    """Model, buffers, optimizer and generators: three steps, saved, and three more in what was made anew."""

    def run(model, optimizer, generator, steps):
        losses = []
        for _ in range(steps):
            x = generator.normal(size=(4, 6)).astype(np.float32)
            loss = ops.mse(model(x), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def made(seed):
        minidl.manual_seed(seed)
        layers = nn.Dense(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Dense(5, 6)
        model = nn.Sequential(*layers)
        return model, optim.Adam(model.parameters(), lr=0.01), np.random.Generator(np.random.Philox(seed))

    model, optimizer, generator = made(1)
    run(model, optimizer, generator, 3)
    state = {
        "optimizer": optimizer.state_dict(),
        "generators": [generator_state(default_generator()), generator_state(generator)],
    }
    save_checkpoint(tmp_path / "c", model, state)
    expected = run(model, optimizer, generator, 3)

    again, other, another = made(2)
    found = load_checkpoint(tmp_path / "c")
    assert run(again, other, another, 1) != expected[:1]
    found.restore(again)
    other.load_state_dict(found.state["optimizer"])
    for g, s in zip((default_generator(), another), found.state["generators"], strict=True):
        set_generator_state(g, s)
    assert run(again, other, another, 3) == expected
    assert_same_state(again, model)


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_generator_goes_on_where_it_was(tmp_path, name):
    kind = getattr(np.random, name)
    generator = np.random.Generator(kind(5))
    generator.integers(0, 10, dtype=np.uint32)  # half of a draw of 64 bits is kept for the next
    generator.normal(size=7)
    save_checkpoint(tmp_path / "c", nn.ReLU(), generator_state(generator))
    expected = generator.integers(0, 1 << 30, 50, dtype=np.uint32), generator.normal(size=50)
    other = np.random.Generator(kind(6))
    set_generator_state(other, load_checkpoint(tmp_path / "c").state)
    assert np.array_equal(other.integers(0, 1 << 30, 50, dtype=np.uint32), expected[0])
    assert np.array_equal(other.normal(size=50), expected[1])


def test_states_of_other_generators_are_refused():
    generator = np.random.default_rng(1)
    good, before = generator_state(generator), generator_state(generator)
    wrong = [generator_state(np.random.Generator(np.random.MT19937(1))), {}, None, {"bit_generator": 7}]
    for state in wrong:
        with pytest.raises(TypeError, match="set_generator_state: expected the state of a PCG64, found"):
            set_generator_state(generator, state)
    inner = [None, {}, {"state": "x", "inc": 1}, {"state": 1 << 200, "inc": 1}]
    damaged = [{**good, "state": wrong} for wrong in inner]
    for state in (*damaged, {"bit_generator": "PCG64"}, {**good, "uinteger": -1}):
        with pytest.raises(ValueError, match="set_generator_state: expected a whole state of PCG64"):
            set_generator_state(generator, state)
    assert generator_state(generator) == before


def test_another_model_is_told_all_that_differs_and_stays_as_it_is(tmp_path):
    save_checkpoint(tmp_path / "c", nn.Sequential(nn.Dense(6, 5), nn.BatchNorm1d(5), nn.Dense(5, 2)), {})
    found = load_checkpoint(tmp_path / "c")
    model = nn.Sequential(nn.Dense(6, 5, False), nn.BatchNorm1d(5, dtype=np.float64), nn.Dense(5, 3), nn.LayerNorm(3))
    before = {name: values.copy() for name, values in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        found.restore(model)
    told = str(caught.value)
    assert str(tmp_path / "c") in told
    for part in ("missing 3.weight, 3.bias;", "unexpected 0.bias;", "2.weight as float32 (3, 5), found float32 (2, 5)",
                 "1.running_var as float64 (5,), found float32 (5,)", "checkpoint of this Sequential"):  # fmt: skip
        assert part in told, told
    for name, values in model.state_dict().items():
        assert same_bits(values, before[name])
    with pytest.raises(CheckpointError, match="and 6 more"):
        found.check(nn.Sequential(*(nn.Dense(1, 1) for _ in range(10))))


def test_the_arrays_of_a_checkpoint_are_copies(tmp_path):
    model = model_of()
    save_checkpoint(tmp_path / "c", model, {"m": np.ones(2)})
    found = load_checkpoint(tmp_path / "c")
    first, second = found.build(), found.build()
    first[1].weight.data[...] = 0
    found.state["m"][...] = 5
    assert_same_state(second, model)
    assert_same_state(found.build(), model)
    assert load_checkpoint(tmp_path / "c").state["m"][0] == 1


# ------------------------------------------------------------------------------- version 1

V1 = zlib.decompress(base64.b85decode(
    "c-n<g%}T>S5H1!f9)#kpx3C9KOKFl?q+$vp1)-t{dTB!3wwrb_O-i!;Bjy1F1uuf&NvI%54?XFn@d5e{J^2ov1b34Pilv>~d^6t<Gsi2jusopaO-"
    "xY@QKai2?|~+<NX-O!;HjX49hcaa3i5&o1r?a6&k)|0%PJ_Eh*Hd^Q1E;W3JluEmWx9`1;o+~jA+}zAtTEL>^A)a${ef^6gJdpW8T+jzlAxV0>iW"
    "sl_eF-^h+3B^iOc<bmn2<I-;b5b=R~bP9`n?WO3{k^P6q9qM@|4JgGb{sq{OkflPNnRE>|Swq=kypD_o1UKi77vqtKKy4;&x)QNJ5z7Ko|#5A|yZ"
    "wQsy7mBh3AaEOqcV$_Fp_XnN2Ge7k<qQ-hEu?lasW<2XGR*#`ixSLbI6u3TFTpwXxeVOSYQ8T-)r)(<%jfy{cI|FwH5F4H^ocUuyiuM;*Fo;F6c~"
    "H&%JlFnSnmy#%hbIxIE#;`qk{l{R01L4@4ogn3dzJ!sdkgf<SJQsJ9-Yj0o;$>)B"
))  # fmt: skip


def test_files_of_the_first_version_are_read(tmp_path):
    """One that its own writer wrote."""
    path = tmp_path / "v1.safetensors"
    path.write_bytes(V1)
    model, config = load_model(path)
    assert config == {"dataset": "digits", "lr": 0.1}
    assert [type(layer).__name__ for layer in model] == ["Flatten", "Dense", "LeakyReLU", "Dropout", "Dense"]
    assert (model[2].negative_slope, model[3].p, model[4].bias) == (0.3, 0.25, None)
    y = model.eval()(np.arange(4, dtype=np.float32).reshape(1, 4)).numpy()
    np.testing.assert_allclose(y, [[0.05519438, 0.26734192]], rtol=1e-5)
    found = load_checkpoint(path)
    assert (found.state, found.config) == (None, config)
    assert_same_state(found.build(), model)
    save_model(path, model, config)
    assert b'"version\\\\": 2' in path.read_bytes() or b'\\"version\\": 2' in path.read_bytes()
    assert_same_state(load_model(path)[0], model)


# ------------------------------------------------------------------------------------------ reading


def refused(path, match):
    """Both ways of reading."""
    for load in (load_model, load_checkpoint):
        with pytest.raises(CheckpointError, match=match) as caught:
            load(path)
        assert path.name in str(caught.value)


def test_what_cannot_be_written_is_told_before(tmp_path):
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="not a file"):
        check_writable(tmp_path)
    with pytest.raises(OSError, match="there is no directory"):
        check_writable(tmp_path / "none" / "file")
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "file").touch(0o400)
        with pytest.raises(OSError, match="read-only"):
            check_writable(tmp_path / "file")


def test_safetensors_of_others_are_refused(tmp_path):
    path = tmp_path / "file"
    for metadata in (None, {"format": "pt"}):
        path.write_bytes(save({"0.weight": np.zeros((2, 2), np.float32)}, metadata))
        refused(path, "load_state_dict")


ARRAYS = {"0.weight": np.zeros((3, 2), np.float32), "0.bias": np.zeros(3, np.float32)}
FIRST = {"version": 1, "layers": [["Dense", {"in_features": 2, "out_features": 3}], ["ReLU", {}]], "config": {}}
GOOD = {
    "version": 2, "layers": ["Sequential", {}, {"0": FIRST["layers"][0], "1": ["ReLU", {}], "2": "1"}], "config": {},
    "arrays": ["0.weight", "0.bias"],
}  # fmt: skip


def of(*layers):
    """A description of these layers in a Sequential."""
    return {**GOOD, "layers": ["Sequential", {}, {str(i): layer for i, layer in enumerate(layers)}]}


def nested(depth):
    layer = ["ReLU", {}]
    for _ in range(depth):
        layer = ["Sequential", {}, {"0": layer}]
    return layer


DENSE = FIRST["layers"][0]
NO_LAYER = "expected layers that minidl can build, found "
WRONG = [
    ("{", ARRAYS, "damaged"),
    ("[" * 100_000, ARRAYS, "damaged"),
    ('{"version": 2, "version": 2}', ARRAYS, "damaged"),
    ([], ARRAYS, "damaged"),
    ({}, ARRAYS, "damaged"),
    ({**GOOD, "version": 3}, ARRAYS, "expected version 1 or 2 of the format, found 3"),
    ({**GOOD, "version": None}, ARRAYS, "expected version 1 or 2"),
    ({**GOOD, "version": True}, ARRAYS, "expected version 1 or 2"),
    ({**GOOD, "version": 2.0}, ARRAYS, "expected version 1 or 2"),
    ({**GOOD, "config": 3}, ARRAYS, "config"),
    ({**GOOD, "layers": {}}, ARRAYS, "list of layers"),
    ({**FIRST, "layers": None}, ARRAYS, "list of layers"),
    ({**GOOD, "arrays": None}, ARRAYS, "list of the model's arrays, found None"),
    ({**GOOD, "arrays": ["0.weight"]}, ARRAYS, "its description lists, found unexpected 0.bias"),
    ({**GOOD, "arrays": ["0.weight", "0.bias", "x"]}, ARRAYS, "its description lists, found missing x"),
    ({**GOOD, "arrays": ["0.weight", "0.bias", "0.bias"]}, ARRAYS, "list of the model's arrays"),
    ({**GOOD, "arrays": ["0.weight", 7]}, ARRAYS, "list of the model's arrays"),
    ({**GOOD, "layers": []}, ARRAYS, NO_LAYER),
    (of(["Module", {}]), ARRAYS, NO_LAYER + r".*'Module'.*none of minidl\.nn"),
    (of(["os.system", {"command": "true"}]), ARRAYS, NO_LAYER),
    (of(["ReLU"]), ARRAYS, NO_LAYER),
    (of(7), ARRAYS, NO_LAYER),
    (of([["ReLU"], {}]), ARRAYS, NO_LAYER),
    (of("0"), ARRAYS, NO_LAYER),
    (of("1", ["ReLU", {}]), ARRAYS, NO_LAYER),
    (of(["ReLU", {"x": 1}]), ARRAYS, NO_LAYER + ".*it has no argument x"),
    (of(["ReLU", {}, {}]), ARRAYS, NO_LAYER),
    (of(["ReLU", []]), ARRAYS, NO_LAYER),
    (of(["Dropout", {"p": 7}]), ARRAYS, NO_LAYER),
    (of(["Dropout", {"p": "0.5"}]), ARRAYS, NO_LAYER + ".*p is '0.5'"),
    (of(["Dropout", {"generator": 3}]), ARRAYS, NO_LAYER),
    (of(["LSTM", {"input_size": 1, "hidden_size": 1, "bias": 1}]), ARRAYS, NO_LAYER + ".*bias is 1"),
    (of(["GELU", {"approximate": 3}]), ARRAYS, NO_LAYER),
    (of(["LayerNorm", {"normalized_shape": 2, "eps": None}]), ARRAYS, NO_LAYER + ".*eps is None"),
    (of(["BatchNorm1d", {"num_features": None}]), ARRAYS, NO_LAYER + ".*num_features is None"),
    (of(["Dropout", {"p": 1 << 64}]), ARRAYS, NO_LAYER + ".*an argument is 1844"),
    (of(["MaxPool2d", {"kernel_size": [2, -(1 << 31)]}]), ARRAYS, NO_LAYER + ".*an argument is -2147483648"),
    (of(["Softmax", {"dim": {}}]), ARRAYS, NO_LAYER),
    (of(["Sequential", {}]), ARRAYS, NO_LAYER),
    (of(["Sequential", {"modules": 3}, {}]), ARRAYS, NO_LAYER),
    (of(["Sequential", {}, {"forward": ["ReLU", {}]}]), ARRAYS, NO_LAYER),
    (of(["Sequential", {}, {"__class__": ["ReLU", {}]}]), ARRAYS, NO_LAYER),
    (of(["Sequential", {}, [["ReLU", {}]]]), ARRAYS, NO_LAYER),
    (of(["Residual", {}, {"shortcut": ["ReLU", {}]}]), ARRAYS, NO_LAYER),
    (of(["Residual", {}, {"module": ["ReLU", {}], "other": ["ReLU", {}]}]), ARRAYS, NO_LAYER),
    (of(nested(70)), ARRAYS, NO_LAYER + ".*more than 64"),
    (of(nested(300)), ARRAYS, NO_LAYER + ".*more than 64"),
    (of(["Dense", {"in_features": 10**12, "out_features": 10**12}]), ARRAYS, NO_LAYER),
    (of(["Dense", {"in_features": 10**3, "out_features": 10**3}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["Dense", {"in_features": 2, "out_features": 3, "dtype": "object"}]), ARRAYS, NO_LAYER + ".*dtype is .object"),
    (of(["BatchNorm1d", {"num_features": 10**9}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["LayerNorm", {"normalized_shape": [10**5, 10**5]}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["GroupNorm", {"num_groups": 1, "num_channels": 10**9}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["LSTM", {"input_size": 1, "hidden_size": 1, "num_layers": 10**9}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["Embedding", {"num_embeddings": 10**3, "embedding_dim": 10**3}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["MultiheadAttention", {"embed_dim": 10**3, "num_heads": 1}]), ARRAYS, NO_LAYER + ".*more weights than"),
    (of(["Dense", {}]), ARRAYS, NO_LAYER),
    ({**GOOD, "arrays": []}, {}, "arrays of its layers, found others: missing 0.weight, 0.bias"),
    ({**GOOD, "arrays": ["0.weight"]}, {"0.weight": ARRAYS["0.weight"]}, "missing 0.bias"),
    ({**GOOD, "arrays": [*ARRAYS, "9.weight"]}, {**ARRAYS, "9.weight": np.zeros(1)}, "unexpected 9.weight"),
    (GOOD, {**ARRAYS, "0.weight": np.zeros((2, 3), np.float32)}, r"as float32 \(3, 2\), found float32 \(2, 3\)"),
    (GOOD, {**ARRAYS, "0.bias": np.zeros(4, np.float32)}, r"0.bias as float32 \(3,\), found float32 \(4,\)"),
    (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.float64)}, "0.bias as float32 .* found float64"),
    (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.int32)}, "0.bias as float32 .* found int32"),
    (GOOD, {**ARRAYS, "0.bias": np.zeros(3, np.float16)}, "0.bias as float32 .* found float16"),
    (FIRST, {**ARRAYS, "0.bias": np.zeros(3, np.float16)}, "0.bias as float32 .* found float16"),
    (FIRST, {"0.weight": ARRAYS["0.weight"]}, "missing 0.bias"),
    ({**FIRST, "layers": [["Dense", {"in_features": 10**12, "out_features": 10**12}]]}, ARRAYS, NO_LAYER),
]  # fmt: skip


def put(path, about, arrays):
    path.write_bytes(save(arrays, {"minidl": about if isinstance(about, str) else json.dumps(about)}))


@pytest.mark.parametrize(("about", "arrays", "match"), WRONG)
def test_what_does_not_fit_is_refused(tmp_path, about, arrays, match):
    put(tmp_path / "file", about, arrays)
    refused(tmp_path / "file", match)


NO_STATE = "expected the state of a run, found "


@pytest.mark.parametrize(
    ("state", "arrays", "match"),
    [
        ({"a": {"$array": 0}}, {}, "an array 0 of the state"),
        ({"a": {"$array": True}}, {"$state:1": np.zeros(2)}, "an array True"),
        ({"a": {"$array": "0"}}, {"$state:0": np.zeros(2)}, "an array '0'"),
        ([{"$array": 0}, {"$array": 0}], {"$state:0": np.zeros(2)}, "mentioned twice"),
        ({"a": 1}, {"$state:0": np.zeros(2)}, "does not mention: \\$state:0"),
        ({"$scalar": 0}, {"$state:0": np.zeros(2)}, "'\\$scalar'"),
        ({"$tuple": 3}, {}, "'\\$tuple'"),
        ({"$tuple": [], "$dict": []}, {}, "'\\$"),
        ({"$other": 3}, {}, "'\\$other'"),
        ({"$int": "ten"}, {}, "ten"),
        ({"$int": 3}, {}, "'\\$int'"),
        ({"$dict": [[1, 2], [1, 3]]}, {}, "'\\$dict'"),
        ({"$dict": [[1]]}, {}, "unpack"),
        ({"$dict": [3]}, {}, "'\\$dict'"),
        ({"$dict": [[[], 2]]}, {}, "key"),
        ({"$dict": [[1.5, 2]]}, {}, "key"),
        (json.loads("[" * 70 + "]" * 70), {}, "more than 64 deep"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path, state, arrays, match):
    put(tmp_path / "file", {**GOOD, "state": state}, {**ARRAYS, **arrays})
    with pytest.raises(CheckpointError, match=NO_STATE + ".*" + match):
        load_checkpoint(tmp_path / "file")
    assert len(load_model(tmp_path / "file")[0]) == 3  # which does not look at it


def test_the_cases_above_are_wrong_in_one_thing_each(tmp_path):
    for about, layers in ((GOOD, 3), (FIRST, 2), (of(DENSE, nested(60)), 2)):
        put(tmp_path / "file", about, ARRAYS)
        assert len(load_model(tmp_path / "file")[0]) == layers
        assert load_checkpoint(tmp_path / "file").state is None
    put(tmp_path / "file", {**GOOD, "state": {"$dict": [[1, {"$array": 0}]]}}, {**ARRAYS, "$state:0": np.ones(2)})
    assert load_checkpoint(tmp_path / "file").state[1].sum() == 2
