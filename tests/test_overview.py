"""The summary of a model: FLOPs against PyTorch's counter, memory against what was allocated; and nothing changes."""

import gc
import json
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import models, nn, ops
from minidl.nn.module import Module
from minidl.overview import flops, summary
from minidl.tensor import OPS, Tensor

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of a processor without it
LOSSES = {
    "binary_cross_entropy_with_logits", "gaussian_kl", "huber", "kl_div", "l1", "mse", "nll", "softmax_cross_entropy",
}  # fmt: skip


def rows(model, *inputs):
    """The rows by name."""
    return {row["name"]: row for row in summary(model, *inputs).rows}


class Attention(nn.Module):
    """No parameters of its own: what its inputs need is what is computed."""

    def forward(self, q, k, v, attn_mask=None):
        return ops.scaled_dot_product_attention(q, k, v, attn_mask)


# ------------------------------------------------------------------------------------- FLOPs


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")


def counted(torch, function, shapes, grad):
    """(forward, backward) FLOPs of products as PyTorch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    inputs = [torch.randn(shape, requires_grad=grad) for shape in shapes]
    with FlopCounterMode(display=False) as forward, torch.backends.mkldnn.flags(enabled=False):
        y = function(*inputs)
    y = y[0] if isinstance(y, tuple) else y
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


def found(model, shapes, grad):
    rng = np.random.default_rng(0)
    inputs = [Tensor(rng.normal(size=shape).astype(np.float32), requires_grad=grad) for shape in shapes]
    totals = summary(model, *inputs).totals
    return totals["flops_forward"], totals["flops_backward"]


@pytest.mark.parametrize("grad", [False, True], ids=["from parameters on", "from x on"])
@pytest.mark.parametrize(
    ("name", "arguments", "options", "shape"),
    [
        ("Dense", (7, 5), {}, (3, 7)),
        ("Dense", (7, 5), {"bias": False}, (2, 3, 7)),
        ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1}, (2, 4, 9, 8)),
        ("Conv2d", (3, 5, (3, 2)), {"dilation": (1, 2), "bias": False}, (2, 3, 6, 7)),
        ("Conv1d", (4, 6, 3), {"dilation": 2}, (2, 4, 9)),
        ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 5, 6)),
    ],
)
def test_flops_of_layers_as_pytorch_counts_them(torch, grad, name, arguments, options, shape):
    theirs = getattr(torch.nn, {"Dense": "Linear"}.get(name, name))(*arguments, **options)
    assert found(getattr(nn, name)(*arguments, **options), [shape], grad) == counted(torch, theirs, [shape], grad)


@pytest.mark.parametrize("grad", [False, True], ids=["from parameters on", "from x on"])
def test_flops_of_groups(torch, grad):
    options = {"stride": 2, "padding": 1, "groups": 2}
    one = 2 * (2 * 6 * 5 * 4) * (2 * 9)  # for each of the outputs a sum of 2 channels of 3 × 3
    forward, _ = counted(torch, torch.nn.Conv2d(4, 6, 3, **options), [(2, 4, 9, 8)], grad)
    assert forward == one  # (PyTorch 2.13 counts the weight's gradient without regard to the groups)
    assert found(nn.Conv2d(4, 6, 3, **options), [(2, 4, 9, 8)], grad) == (one, one * (1 + grad))


def test_flops_of_attention_as_pytorch_counts_them(torch):
    shapes = [(2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6)]
    pairs = 2 * 3 * 5 * 7
    forward, backward = counted(torch, torch.nn.functional.scaled_dot_product_attention, shapes, True)
    assert found(Attention(), shapes, True) == (forward + 6 * pairs, backward + 5 * pairs)


@pytest.mark.parametrize("grad", [False, True], ids=["from parameters on", "from x on"])
def test_flops_of_a_multihead_attention_as_pytorch_counts_them(torch, grad):
    shapes = [(2, 5, 8)] * 3
    options = {"batch_first": True}
    forward, backward = counted(torch, torch.nn.MultiheadAttention(8, 2, **options), shapes, grad)
    q, pairs = 2 * 5 * 8, 2 * 2 * 5 * 5
    expected = forward + q + 5 * pairs + pairs, backward + q + 4 * pairs + pairs // 2  # scale, softmax, mean of heads
    assert found(nn.MultiheadAttention(8, 2, **options), shapes, grad) == expected


@pytest.mark.parametrize("grad", [False, True], ids=["from parameters on", "from x on"])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_flops_of_recurrence_as_pytorch_counts_them(torch, grad, name, layers, both):
    steps, batch, inputs, hidden = 5, 2, 3, 4
    made = [getattr(lib, name)(inputs, hidden, layers, bidirectional=both) for lib in (torch.nn, nn)]
    forward, backward = counted(torch, made[0], [(steps, batch, inputs)], grad)
    runs = layers * (1 + both)
    gates, pointwise, back = {"RNN": (1, 2, 3), "GRU": (3, 17, 17), "LSTM": (4, 22, 24)}[name]
    units = runs * steps * batch * hidden
    first = 2 * runs * batch * gates * hidden * hidden  # dL/dh0, which PyTorch leaves out
    biases = 0 if name == "GRU" else runs * gates * hidden  # the two are added up once
    expected = forward + pointwise * units + biases, backward + back * units + first
    assert found(made[1], [(steps, batch, inputs)], grad) == expected


def test_flops_of_a_whole_model_as_pytorch_counts_them(torch):
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 6, 3, bias=False), torch.nn.Flatten(),
        torch.nn.Linear(96, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5),
    )  # fmt: skip
    ours = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, bias=False), nn.Flatten(),
        nn.Dense(96, 20), nn.ReLU(), nn.Dense(20, 5),
    )  # fmt: skip
    forward, backward = counted(torch, theirs, [(3, 1, 8, 8)], False)
    table = rows(ours, (3, 1, 8, 8))
    products = [row for row in table.values() if row["kind"] in ("Conv2d", "Dense")]
    assert sum(row["flops_forward"] for row in products) == forward
    assert sum(row["flops_backward"] for row in products) == backward
    rectified = 3 * 4 * 36 + 3 * 20
    assert table[""]["flops_forward"] == forward + rectified
    assert table[""]["flops_backward"] == backward + rectified


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "backward"),
    [
        (nn.ReLU(), (2, 3), 1 * 6, 1 * 6),
        (nn.Sigmoid(), (2, 3), 4 * 6, 3 * 6),
        (nn.Softmax(), (2, 3), 5 * 6, 4 * 6),
        (nn.Dropout(0.5), (2, 3), 6, 6),
        (nn.Dropout(0.0), (2, 3), 0, 0),
        (nn.Dropout(0.5).eval(), (2, 3), 0, 0),
        (nn.Flatten(), (2, 3), 0, 0),
        (nn.BatchNorm2d(3), (2, 3, 4, 5), 8 * 120, (8 + 2 + 1) * 120),
        (nn.BatchNorm2d(3, affine=False), (2, 3, 4, 5), 6 * 120, 8 * 120),
        (nn.BatchNorm2d(3).eval(), (2, 3, 4, 5), 4 * 120, (2 + 2 + 1) * 120),
        (nn.BatchNorm2d(3, track_running_stats=False).eval(), (2, 3, 4, 5), 8 * 120, 11 * 120),
        (nn.LayerNorm(5), (4, 5), 8 * 20, 11 * 20),
        (nn.LayerNorm(5, bias=False), (4, 5), 7 * 20, 10 * 20),
        (nn.GroupNorm(1, 3), (2, 3, 4), 8 * 24, 11 * 24),
        (nn.MaxPool2d(2), (1, 3, 4, 6), (4 - 1) * 18, 18),
        (nn.MaxPool2d((2, 3), stride=1), (1, 3, 4, 6), (6 - 1) * 36, 36),
        (nn.MaxPool1d(3, 1), (2, 3, 4), (3 - 1) * 12, 12),
        (nn.AvgPool1d((2,)), (2, 3, 4), 2 * 12, 3 * 12),
        (nn.AdaptiveAvgPool1d(2), (2, 3, 5), 6 * 6, 6 * 6 + 12),  # 3 + 3 elements
        (nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular"), (1, 2, 5), 2 * 15 * 6, 2 * 2 * 15 * 6),
        (nn.Conv2d(2, 3, 3), (2, 5, 5), 2 * 27 * 18, 2 * 2 * 27 * 18),
        (nn.AvgPool2d(2), (1, 3, 4, 6), 4 * 18, 5 * 18),
        (nn.AdaptiveAvgPool2d((2, 3)), (1, 2, 5, 7), 2 * 6 * 9, 2 * 6 * 9 + 2 * 6),  # 3 + 3 rows, 3 + 3 + 3 columns
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 2, 2), 2 * 16 * 27, 2 * 2 * 16 * 27),
    ],
)
def test_flops_by_hand(layer, shape, forward, backward):
    assert found(layer, [shape], True) == (forward, backward)


def test_flops_of_an_embedding():
    model = nn.Embedding(10, 4)
    totals = summary(model, np.array([[1, 2, 3]])).totals
    assert (totals["flops_forward"], totals["flops_backward"]) == (0, 12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
def test_windows_of_an_adaptive_pooling(height, width, down, across):
    x = np.zeros((height, width))
    elements = sum(
        x[i * height // down : -(-(i + 1) * height // down), j * width // across : -(-(j + 1) * width // across)].size
        for i in range(down)
        for j in range(across)
    )
    forward, _ = flops.cost("adaptive_avg_pool2d", {"x": x[None]}, np.zeros((1, down, across)))
    assert forward == elements


def test_a_gradient_that_nobody_needs_is_not_counted():
    model = nn.Sequential(nn.Dense(6, 5), nn.ReLU(), nn.Dense(5, 4))
    one, two = 2 * 3 * 6 * 5, 2 * 3 * 5 * 4
    model[0].requires_grad_(False)
    table = rows(model, (3, 6))
    assert [table[name]["flops_forward"] for name in "012"] == [one, 15, two]
    assert [table[name]["flops_backward"] for name in "012"] == [0, 0, two]
    assert [table[name]["trainable"] for name in "012"] == [0, 0, 24]
    model.requires_grad_(False)
    assert rows(model, (3, 6))[""]["flops_backward"] == 0
    assert rows(model, (3, 6))[""]["flops_forward"] == one + 15 + two
    model.requires_grad_(True)
    with minidl.no_grad():
        totals = summary(model, (3, 6)).totals
    assert (totals["flops_forward"], totals["flops_backward"], totals["memory_backward"]) == (one + 15 + two, 0, 0)
    assert totals["memory_forward"] == 3 * 4 * 4  # the result alone


def test_every_op_has_its_cost():
    for name, op in OPS.items():
        if op.__module__.startswith("minidl."):
            known = [name in table for table in (flops.MOVES, flops.PER_RESULT, flops.PER_INPUT, flops.FORMULAS)]
            assert sum(known) == (name not in LOSSES), name
    for name, (_, back) in flops.PER_RESULT.items():
        assert set(back) <= set(__import__("inspect").signature(OPS[name]).parameters), name


# ------------------------------------------------------------------------------------ memory


def residual():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())),
        nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Dense(2, 5), nn.ReLU(), nn.Dense(5, 3),
    )  # fmt: skip


class Functional(nn.Module):
    def __init__(self):
        self.hidden = nn.Dense(5, 7)
        self.w = Tensor(np.ones((7, 3), np.float32), requires_grad=True)

    def forward(self, x):
        h = ops.gelu(self.hidden(x)) @ self.w
        h = h + ops.tanh(x[:, :3])  # which no gradient needs, but the node of the sum knows
        return ops.softmax(h / ops.sqrt(ops.sum(h * h, axis=1, keepdims=True) + 1))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: models.mlp((1, 4, 4), [8, 6], 10), (9, 1, 4, 4)),
        (residual, (3, 1, 4, 4)),
        (lambda: nn.GRU(3, 4, 2, bidirectional=True), (3, 2, 3)),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 3, 8)),
        (Functional, (9, 5)),
    ],
    ids=["mlp", "residual", "gru", "transformer", "functional"],
)
@pytest.mark.parametrize("training", [True, False])
def test_memory_is_what_is_allocated_and_not_freed(make, shape, training):
    model = make().train(training)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model(x)
    gc.collect()
    tracemalloc.start()
    try:
        y = model(x)
        arrays = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        kept = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([arrays]).traces)
    finally:
        tracemalloc.stop()
    assert y is not None
    empty = 16  # arrays without elements take a byte
    told = summary(model, x)
    assert 0 <= kept - told.totals["memory_forward"] <= empty
    assert told.totals["memory_forward"] > 0
    own = [r["memory_forward"] for r in told.rows]
    assert min(own) >= 0


def test_memory_of_layers_and_of_gradients():
    model = nn.Sequential(nn.Dense(6, 5), nn.ReLU(), nn.Dense(5, 4), nn.Tanh(), nn.Flatten())
    table = rows(model, (3, 6))
    assert [table[name]["memory_forward"] for name in "01234"] == [60, 0, 48, 48, 0]  # the ReLU is in the same loop
    assert [table[name]["memory_backward"] for name in "01234"] == [60, 60, 48, 48, 0]
    x = Tensor(np.zeros((3, 2, 3), np.float32), requires_grad=True)  # a view of x is nothing new
    assert rows(nn.Flatten(), x)[""]["memory_backward"] == 0
    assert rows(nn.Flatten(), x)[""]["memory_forward"] == 0


def test_totals():
    model = nn.Sequential(nn.Dense(6, 5, dtype=np.float64), nn.BatchNorm1d(5, dtype=np.float64))
    model[1].requires_grad_(False)
    told = summary(model, (3, 6))
    assert told.inputs == [(3, 6)]
    totals = told.totals
    assert (totals["parameters"], totals["trainable"]) == (45, 35)
    assert (totals["parameter_memory"], totals["gradient_memory"], totals["buffer_memory"]) == (360, 280, 88)
    assert totals["optimizer_memory"] == {"SGD": 0, "SGD with momentum": 280, "Adam": 560}
    optimizer = minidl.optim.Adam([p for p in model.parameters() if p.requires_grad])
    ops.sum(model(np.ones((3, 6)))).backward()
    optimizer.step()
    state = [s for group in optimizer.state.values() for key, s in group.items() if key.startswith("exp_avg")]
    assert sum(s.nbytes for s in state) == totals["optimizer_memory"]["Adam"]


# ------------------------------------------------------------------------------------- layers


def test_the_table_of_a_nested_model():
    told = summary(models.resnet((1, 4, 4), 10), (2, 1, 4, 4))
    table = {row["name"]: row for row in told.rows}
    assert table[""]["kind"] == "Sequential"
    assert [row["depth"] for row in told.rows] == [row["name"].count(".") + bool(row["name"]) for row in told.rows]
    assert table["3.0.module.3"]["output_shape"] == (2, 32, 4, 4)
    assert table["3.0.module.3"]["kind"] == "Conv2d"
    for key in ("parameters", "trainable", "flops_forward", "flops_backward", "memory_forward", "memory_backward"):
        for name, row in table.items():
            if row["kind"] == "Sequential":  # which does nothing itself
                assert row[key] == sum(r[key] for n, r in table.items() if n and n.rpartition(".")[0] == name), name
    assert table["3.0"]["flops_forward"] - sum(table[f"3.0.{n}"]["flops_forward"] for n in ("module", "shortcut")) == (
        2 * 32 * 4 * 4
    )  # the addition
    again = json.loads(told.to_json())
    assert [r["name"] for r in again["rows"]] == list(table)
    assert again["rows"][0]["output_shape"] == [2, 10]
    assert again["totals"] == told.totals
    assert again["inputs"] == [[2, 1, 4, 4]]


class Shared(nn.Module):
    """A module that is used three times and known by two names, weights that are tied, one that is never called."""

    def __init__(self):
        self.block = nn.Dense(4, 4)
        self.again = self.block
        self.tied = nn.Dense(4, 4)
        self.tied.weight = self.block.weight
        self.idle = nn.Dense(4, 9)
        self.parts = [nn.Dense(4, 4), nn.ModuleDict({"act": nn.Tanh()})]
        self.scale = Tensor(np.ones(4, np.float32), requires_grad=True)

    def forward(self, x):
        x = self.tied(self.again(self.block(self.block(x))))
        return self.parts[1]["act"](self.parts[0](x)) * self.scale


def test_shared_tied_idle_and_listed_modules():
    table = rows(Shared(), (3, 4))
    assert list(table) == ["", "block", "tied", "idle", "parts.0", "parts.1", "parts.1.act"]
    assert [table[n]["depth"] for n in table] == [0, 1, 1, 1, 1, 1, 2]
    assert [table[n]["calls"] for n in table] == [1, 3, 1, 0, 1, 0, 1]
    assert [table[n]["parameters"] for n in table] == [93, 20, 4, 45, 20, 0, 0]
    one = 2 * 3 * 16
    assert [table[n]["flops_forward"] for n in table] == [5 * one + 24, 3 * one, one, 0, one, 12, 12]
    assert table["idle"]["output_shape"] is None
    text = str(summary(Shared(), (3, 4)))
    assert "block Dense ×3" in text
    assert "not called: idle" in text
    assert "parts.1 ModuleDict" in text
    assert "    act Tanh" in text


def test_a_sequential_that_runs_two_layers_as_one():
    torn = nn.Sequential(nn.Dense(6, 5), nn.Sequential(nn.ReLU()), nn.Dense(5, 4))
    joined = nn.Sequential(nn.Dense(6, 5), nn.ReLU(), nn.Dense(5, 4))
    a, b = rows(torn, (3, 6)), rows(joined, (3, 6))
    for key in ("calls", "output_shape", "parameters", "flops_forward", "flops_backward"):
        assert [a[n][key] for n in "012"] == [b[n][key] for n in "012"], key


class Own(nn.Module):
    """An op of one's own, one used by its plain name, and a module made on the way."""

    def __init__(self):
        self.inner = nn.Sequential(nn.Dense(4, 4))

    def forward(self, x):
        return plain_relu(OPS["squared_plus_one"](nn.Tanh()(self.inner(x)))) @ np.ones((4, 2), np.float32)


plain_relu = ops.relu


@pytest.fixture
def squared():
    @minidl.op
    def squared_plus_one(x):
        """y = x² + 1.   dL/dx = dL/dy · 2x"""
        return x * x + 1, (lambda dy: dy * 2 * x,)

    yield
    del OPS["squared_plus_one"]


@pytest.mark.usefixtures("squared")
def test_what_stands_between_the_layers():
    told = summary(Own(), (3, 4))
    own = told.rows[0]
    dense = 2 * 3 * 16
    assert own["flops_forward"] == dense + 12 + 12 + 2 * 3 * 4 * 2
    assert own["flops_backward"] == dense + 12 * 3 + 12 + 2 * 3 * 4 * 2
    assert own["not_counted"] == {"squared_plus_one": 1}
    assert told.rows[1]["not_counted"] == {}
    assert "FLOPs not counted, as they are not known: squared_plus_one ×1 in Own" in str(told)
    assert own["memory_forward"] > told.rows[1]["memory_forward"]


def test_inputs_of_every_kind():
    model = nn.Dense(4, 2, dtype=np.float64)
    x = np.ones((3, 4))
    expected = summary(model, x).rows
    for given_x in ((3, 4), (np.int64(3), 4), Tensor(x), x.tolist()):
        assert summary(model, given_x).rows == expected
    wide = summary(model, Tensor(x, requires_grad=True))
    assert wide.totals["flops_backward"] == 2 * expected[0]["flops_backward"]
    told = summary(Attention(), (2, 3, 4), (2, 5, 4), (2, 5, 6), np.ones((3, 5), bool))
    assert told.inputs == [(2, 3, 4), (2, 5, 4), (2, 5, 6), (3, 5)]
    assert told.rows[0]["output_shape"] == (2, 3, 6)
    lstm = summary(nn.LSTM(3, 4), (5, 2, 3))
    assert lstm.rows[0]["output_shape"] == (5, 2, 4)  # of the first of y, (h, c)
    assert summary(nn.Dense(4, 2), (0, 4)).totals["flops_forward"] == 0


def test_the_text_fits_whatever_the_names_and_numbers():
    deep = nn.Sequential({"a_rather_long_name_for_a_layer": nn.Sequential({"and_another_one": nn.Dense(4, 3)})})
    for _ in range(8):
        deep = nn.Sequential({"inner": deep})
    big = nn.Sequential(nn.Embedding(10, 1024), nn.Dense(1024, 1024))
    five = nn.Sequential(nn.Sigmoid())
    for told in (
        summary(deep, (2, 4)),
        summary(big, np.zeros((1, 1), int)),
        summary(five, (1, 1, 10, 1000, 1, 1000, 1)),
        summary(Shared(), (1, 4)),
    ):
        lines = str(told).splitlines()
        assert max(map(len, lines)) <= 100
        assert len({len(line) for line in lines[: len(told.rows) + 4] if line}) == 1  # columns stand under one another
        assert repr(told) == str(told)
    assert "1,059,840" in str(summary(big, np.zeros((1, 1), int)))
    assert "a_rather_long_… (2, 3)" in str(summary(deep, (2, 4)))


@pytest.mark.parametrize(
    ("n", "count", "size"),
    [
        (0, "0", "0 B"), (1, "1", "1 B"), (999, "999", "999 B"), (1000, "1 k", "1000 B"), (1023, "1.02 k", "1023 B"),
        (1024, "1.02 k", "1 KiB"), (999_499, "999 k", "976 KiB"), (999_500, "1 M", "976 KiB"),
        (10**7, "10 M", "9.54 MiB"),
        (25_690_112, "25.7 M", "24.5 MiB"), (10**18, "1e+03 P", "9.09e+05 TiB"),
    ],
)  # fmt: skip
def test_numbers_with_units(n, count, size):
    from minidl.overview.table import _bytes, _count

    assert (_count(n), _bytes(n)) == (count, size)


# -------------------------------------------------------------------------- nothing is changed


class Stateful(nn.Module):
    """It changes everything that a module can, and then it may fail."""

    def __init__(self, fails=None):
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5, np.random.default_rng(1))
        self.seen, self.cache, self.fails = [], {"n": 0}, fails
        self.count = np.zeros((), np.int64)
        self.inner = nn.Dense(4, 4)

    def forward(self, x):
        x *= 1 if isinstance(x, Tensor) else 2
        y = ops.dropout(self.drop(self.norm(x)))
        self.seen.append(y)
        self.cache["n"] += 1
        self.cache["more"] = y
        self.last = y
        self.count += 1
        self.training = False
        self.inner.weight.data[0] = 7
        self.inner.weight.grad = np.ones((4, 4), np.float32)
        self.inner.bias = None
        self.inner.weight.requires_grad = False
        if self.fails is not None:
            raise self.fails
        return self.inner(y)


def state_of(model):
    return {
        "state": {name: value.copy() for name, value in model.state_dict().items()},
        "names": [list(vars(m)) for m in model.modules()],
        "flags": [m.training for m in model.modules()],
        "generators": [model.drop.generator.bit_generator.state, minidl.random.default_generator().bit_generator.state],
        "grads": [p.grad for p in model.parameters()],
        "needs": [p.requires_grad for p in model.parameters()],
        "objects": [list(model.seen), dict(model.cache)],
        "ids": [id(p) for p in model.parameters()] + [id(b) for _, b in model.named_buffers()],
    }


@pytest.mark.parametrize("fails", [None, ValueError("no"), KeyError("no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(fails, training):
    model = Stateful(fails).train(training)
    model.inner.weight.grad = np.full((4, 4), 3, np.float32)
    before, grad = state_of(model), model.inner.weight.grad
    functions = {name: op.__closure__ for name, op in OPS.items()}
    contents = {name: [cell.cell_contents for cell in cells] for name, cells in functions.items()}
    call = Module.__call__
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    kept = x.copy()
    if fails is None:
        summary(model, x)
    else:
        with pytest.raises(type(fails)):
            summary(model, x)
    after = state_of(model)
    for key in before:
        if key == "state":
            assert list(before[key]) == list(after[key])
            for name in before[key]:
                np.testing.assert_array_equal(before[key][name], after[key][name], err_msg=name)
        elif key != "grads":
            assert before[key] == after[key], key
    assert model.inner.weight.grad is grad
    np.testing.assert_array_equal(grad, np.full((4, 4), 3))
    np.testing.assert_array_equal(x, kept)
    assert not hasattr(model, "last")
    assert Module.__call__ is call
    assert contents == {name: [cell.cell_contents for cell in op.__closure__] for name, op in OPS.items()}


def test_the_next_results_are_what_they_would_have_been():
    outputs = []
    for look in (False, True):
        minidl.manual_seed(3)
        model = nn.Sequential(residual(), nn.Dropout(0.3))
        x = np.random.default_rng(0).normal(size=(4, 1, 4, 4)).astype(np.float32)
        for _ in range(2):
            if look:
                summary(model, x)
                summary(model, x)
            y = model(x)
            ops.sum(y).backward()
        outputs.append([y.numpy(), *model.state_dict().values(), *(p.grad for p in model.parameters())])
    for a, b in zip(*outputs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_thread_is_not_watched():
    inside, done = threading.Event(), threading.Event()
    other = nn.Dense(4, 4)

    class Waiting(nn.Module):
        def forward(self, x):
            inside.set()
            assert done.wait(30)
            return ops.relu(x)

    def work():
        assert inside.wait(30)
        for _ in range(3):
            results.append(other(np.ones((2, 4), np.float32)))
        done.set()

    results = []
    thread = threading.Thread(target=work)
    thread.start()
    model = nn.Sequential(Waiting(), nn.Sequential(other))
    told = summary(model, (5, 4))
    thread.join()
    assert len(results) == 3
    assert told.rows[0]["flops_forward"] == 20 + 2 * 5 * 16
    assert told.rows[-1]["calls"] == 1


# ----------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("model", "x", "kind", "error"),
    [
        (None, (2, 3), TypeError, "summary: expected a Module, found NoneType"),
        (ops.relu, (2, 3), TypeError, "summary: expected a Module, found function"),
        (nn.Dense(4, 2), (2, -4), ValueError, r"summary: expected a shape of sizes from 0, found \(2, -4\)"),
        (nn.Dense(4, 2), (2, 3), ValueError, r"summary: Dense: dense: expected x .* found shapes \(2, 3\)"),
        (
            nn.Sequential(nn.Dense(4, 5), nn.ReLU(), nn.Dense(4, 2)), (2, 4), ValueError,
            r"summary: layer 2 \(Dense\): dense: expected x .*found shapes \(2, 5\) and \(2, 4\)",
        ),
        (  # the two that run as one
            nn.Sequential(nn.Flatten(), nn.Sequential(nn.Dense(4, 5), nn.ReLU())), (2, 3), ValueError,
            r"summary: layer 1.0 \(Dense\): dense_relu: expected x",
        ),
        (
            nn.Sequential({"conv": nn.Conv2d(1, 2, 5)}), (2, 1, 3, 3), ValueError,
            r"summary: layer conv \(Conv2d\): conv2d: expected a kernel within",
        ),
        (nn.Sequential(nn.Embedding(9, 4)), (2, 3), TypeError, r"layer 0 \(Embedding\): embedding: .* as integers"),
        (nn.Sequential(nn.Embedding(9, 4)), np.array([9]), ValueError, r"layer 0 \(Embedding\): .* found 9 to 9"),
        (nn.Sequential(nn.BatchNorm1d(3)), (1, 3), ValueError, r"layer 0 \(BatchNorm1d\): batch_norm: expected more"),
        (nn.Residual(nn.Dense(4, 5)), (2, 4), ValueError, r"summary: Residual: Residual: expected the module's result"),
        (nn.ModuleList([nn.ReLU()]), (2, 4), NotImplementedError, "ModuleList has no forward"),
    ],
)  # fmt: skip
def test_bad_input(model, x, kind, error):
    with pytest.raises(kind, match=error):
        summary(model, x)


def test_other_errors_pass_with_a_note():
    with pytest.raises(KeyError) as caught:
        summary(nn.Sequential(nn.Dense(4, 4), Stateful(KeyError("key"))), (2, 4))
    assert caught.value.__notes__ == ["in layer 1 (Stateful), while summary() ran the model"]
