"""`explain`: its numbers are the engine's to the last bit, and finite differences find what is wrong in them."""

import gc
import re
import sys
import weakref

import numpy as np
import pytest
from cases.explained import GRAPHS, make, residual
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minidl
from minidl import Tensor, graph, nn, op, ops
from minidl.core.formula import formula
from minidl.explanation import calls, explain
from minidl.explanation.numbers import SIDE, TILES, heat, listed, short, summary
from minidl.random import default_generator
from minidl.tensor import OPS

every_graph = pytest.mark.parametrize("name", GRAPHS)


# ------------------------------------------------------------------------- the engine's numbers


@every_graph
def test_every_gradient_is_the_engines(name):
    loss, model = make(name)
    explanation = explain(loss, model=model)
    tensors = graph.tensors(loss)
    assert [t.grad for t in tensors] == [None] * len(tensors)  # nothing was touched
    for t in tensors:
        t.retain_grad()
    loss.backward()
    for t in tensors:
        entry = explanation[t]
        assert entry.gradient.dtype == t.grad.dtype
        np.testing.assert_array_equal(entry.gradient, t.grad, strict=True)
        np.testing.assert_array_equal(entry.value, t.data, strict=True)


@every_graph
def test_what_arrives_adds_up_to_the_gradient(name):
    explanation = explain(make(name)[0])
    for entry in explanation:
        if entry.arrives:
            total = entry.arrives[0].gradient
            for passed in entry.arrives[1:]:
                total = np.asarray(total + passed.gradient)
            np.testing.assert_array_equal(total, entry.gradient, strict=True)
        for passed in entry.passes:
            assert passed.y == entry.number
            assert entry.inputs[passed.slot] == passed.x
            assert passed in explanation.entries[passed.x].arrives
            assert sum(other.slot == passed.slot for other in entry.passes) == 1
            if passed.derivative is not None and passed.summed is None and entry.shape == passed.gradient.shape:
                np.testing.assert_allclose(passed.derivative * entry.gradient, passed.gradient, rtol=1e-5, atol=1e-7)


@every_graph
def test_the_results_pass_on_after_all_their_uses(name):
    explanation = explain(make(name)[0])
    assert explanation.order[0] == explanation.loss.number
    assert sorted(explanation.order) == [e.number for e in explanation if e.kind == "result"]
    step = {number: i for i, number in enumerate(explanation.order)}
    for entry in explanation:
        assert all(step[p.y] < step.get(entry.number, len(step)) for p in entry.arrives)
        assert all(x < entry.number for x in entry.inputs)


def test_nothing_is_changed():
    loss, model = make("convolution")
    state = {name: values.copy() for name, values in model.state_dict().items()}
    model[0].weight.grad = kept = np.ones_like(model[0].weight.data)
    drawn = default_generator().bit_generator.state
    explain(loss, check=True)
    assert default_generator().bit_generator.state == drawn
    assert model[0].weight.grad is kept
    for name, before in state.items():
        np.testing.assert_array_equal(model.state_dict()[name], before)
    loss.backward()  # not freed
    np.testing.assert_array_equal(kept, 1)


def test_values_are_copies():
    w = Tensor([1.0, 2.0], requires_grad=True)
    explanation = explain(ops.sum(w * w))
    w.data += 1
    np.testing.assert_array_equal(explanation[w].value, [1, 2])


def test_the_graph_is_not_kept_alive():
    def made():
        loss, _ = make("shared")
        return explain(loss), weakref.ref(loss)

    gc.disable()
    try:
        explanation, reference = made()
        assert reference() is None
    finally:
        gc.enable()
    assert explanation.loss.gradient == 1


def test_local_derivatives():
    x, w = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[3.0], [5.0]], requires_grad=True)
    product = x * w  # broadcasts
    explanation = explain(ops.sum(ops.softmax(product)[0]))
    to_x, to_w = explanation[product].passes
    np.testing.assert_array_equal(to_x.derivative, [[3, 3], [5, 5]])
    np.testing.assert_array_equal(to_w.derivative, [[1, 2], [1, 2]])
    assert (to_x.summed, to_w.summed) == ((2, 2), (2, 2))
    assert to_x.gradient.shape == (1, 2)
    softmax = next(e for e in explanation if e.op == "softmax")
    assert softmax.passes[0].derivative is None  # each depends on all
    total = explanation.loss.passes[0]
    np.testing.assert_array_equal(total.derivative, [1, 1])
    large = explain(ops.sum(ops.exp(Tensor(np.zeros(65), requires_grad=True))))
    assert all(p.derivative is None for e in large for p in e.passes)


# ------------------------------------------------------------------------------ what goes wrong


def test_faults_are_computed_as_by_hand():
    x = Tensor(2.0, requires_grad=True)
    a = x * 3.0
    b = a * a
    loss = a + b  # dL/da = 1 + 2a = 13, dL/dx = 39
    faults = explain(loss).faults
    explanation = explain(loss)
    number = {name: explanation[t].number for name, t in {"x": x, "a": a, "b": b}.items()}
    assert explanation[x].gradient == 39

    order = faults["order"]  # a passes on its 1 before what comes through b: x gets 3·1
    assert order.order == [explanation.loss.number, number["a"], number["b"]]
    assert order.used[number["a"]] == 1
    assert order.gradients[number["x"]] == 3
    assert order.gradients[number["a"]] == 13  # too late
    assert order.wrong == [number["x"]]

    accumulation = faults["accumulation"]  # a keeps what came last, 6 through the second factor of b
    assert accumulation.gradients[number["a"]] == 6
    assert accumulation.gradients[number["x"]] == 18
    assert accumulation.passed[explanation.loss.number, 1] == 1
    assert sorted(accumulation.wrong) == sorted([number["a"], number["x"]])

    assert faults["zero_grad"].gradients[number["x"]] == 78
    assert faults["zero_grad"].wrong == [number["x"]]


@every_graph
def test_without_zero_grad_is_two_backward_passes(name):
    loss, _ = make(name)
    explanation, leaves = explain(loss), [t for t in graph.tensors(loss) if t.is_leaf]
    loss.backward(retain_graph=True)
    loss.backward()
    for t in leaves:
        twice = explanation.faults["zero_grad"].gradients[explanation[t].number]
        np.testing.assert_array_equal(twice, t.grad, strict=True)


def test_where_order_does_not_matter_nothing_is_wrong():
    faults = explain(make("scalar")[0]).faults
    assert faults["order"].wrong == faults["accumulation"].wrong == []
    assert len(faults["zero_grad"].wrong) == 3


# --------------------------------------------------------------------------- finite differences


@every_graph
def test_all_gradients_agree_with_finite_differences(name):
    loss, model = make(name)
    explanation = explain(loss, check=True, model=model)
    assert explanation.ok
    for entry in explanation:
        if entry.kind != "constant":
            assert entry.difference.ok
            assert len(entry.difference.where) == (entry.gradient.size if entry.gradient.size <= 64 else 12)
            rtol, atol = (1e-7, 1e-9) if entry.dtype == np.float64 else (1e-4, 1e-6)
            smooth = ~entry.difference.kink  # max-pooling of zeros has kinks
            found, expected = entry.difference.gradient[smooth], entry.difference.expected[smooth]
            np.testing.assert_allclose(found, expected, rtol, atol)


@op
def backwards_sine(x):
    """y = sin x.   dL/dx = −dL/dy · cos x, which is wrong"""
    return np.sin(x), (lambda dy: -dy * np.cos(x),)


@op
def a_little_off(x):
    """y = x².   dL/dx = dL/dy · 2.002x, which is wrong"""
    return x * x, (lambda dy: dy * np.asarray(2.002, x.dtype) * x,)


@op
def forgets_a_row(x):
    """y = x.   dL/dx = dL/dy, which is wrong in the last row"""

    def gradient(dy):
        dx = dy.copy()
        dx[-1] = 0
        return dx

    return x * 1, (gradient,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [backwards_sine, a_little_off, forgets_a_row])
def test_a_wrong_gradient_is_found_where_it_is(wrong, dtype):
    x = Tensor(np.array([[0.5, 1.5], [0.75, 2.0]], dtype), requires_grad=True)
    before = x * 2.0
    after = wrong(before)
    explanation = explain(ops.sum(after * after), check=True)
    assert explanation.ok is False
    assert explanation[after].difference.ok
    assert explanation[before].difference.wrong.any()
    assert not explanation[x].difference.ok
    assert f"2 of 5 gradients differ from finite differences: {explanation[x].name}, before" in str(explanation)
    assert "DIFFER at" in str(explanation[before].difference)


def test_kinks_are_right_on_either_side():
    x = Tensor([0.0, 1e-5, 1.0], requires_grad=True)
    explanation = explain(ops.sum(ops.relu(x)), check=True)
    assert explanation.ok
    assert explanation[x].difference.kink.tolist() == [True, True, False]
    assert "at a kink in 2" in str(explanation[x].difference)


@pytest.mark.parametrize("inside", np.linspace(0, 3.2, 33))
def test_a_kink_within_the_steps_is_one(inside):
    x = Tensor([0.25 + inside * 1e-5], requires_grad=True)
    explanation = explain(ops.sum(ops.abs(x - 0.25) * 3.0 + x * x), check=True)
    assert explanation.ok
    assert explanation[x].difference.kink[0] == (0 < inside < 3)


@pytest.mark.parametrize("at", [1e-4, 1e-5])
def test_a_minimum_is_no_kink(at):
    x = Tensor([at], requires_grad=True)
    assert explain(ops.sum(ops.square(x)), check=True).ok
    assert not explain(ops.sum(a_little_off(x) * 1e3), check=True).ok


def test_what_cannot_be_repeated_says_so():
    x = Tensor(np.linspace(-1, 1, 8), requires_grad=True)
    dropped = ops.dropout(x, 0.5)
    drawn = default_generator().bit_generator.state
    explanation = explain(ops.sum(dropped * dropped), check=True)
    assert default_generator().bit_generator.state == drawn
    own = np.random.default_rng(3)
    state = own.bit_generator.state
    explain(ops.sum(ops.dropout(x, 0.5, True, own) * 2.0), check=True)
    own_again = np.random.default_rng(3)
    own_again.random(8, dtype=np.float32)
    assert own.bit_generator.state == own_again.bit_generator.state != state
    assert "dropout cannot be run again" in explanation[x].difference.reason
    assert explanation[dropped].difference.ok
    assert explanation.ok
    assert "1 could not be checked" in str(explanation)


def test_what_was_changed_since_is_not_compared():
    noise, x = np.ones(3), Tensor(np.ones(3), requires_grad=True)
    loss = ops.sum(x * noise)
    noise += 1
    assert "was changed since" in explain(loss, check=True)[x].difference.reason


def test_lists_of_tensors_are_replayed_and_may_change():
    parts = [Tensor([1.0], requires_grad=True), np.array([2.0]), Tensor([3.0], requires_grad=True)]
    loss = ops.sum(ops.square(ops.concatenate(parts)))
    explanation = explain(loss, check=True)
    joined = next(e for e in explanation if e.op == "concatenate")
    assert joined.call.startswith("concatenate([x1, c1, x2]")
    assert [p.slot for p in joined.passes] == [0, 2]
    assert explanation.ok
    parts.clear()
    explanation = explain(loss, check=True)
    joined = next(e for e in explanation if e.op == "concatenate")
    assert [p.slot for p in joined.passes] == [0, 1]
    assert "cannot be run again" in explanation.entries[0].difference.reason


def test_special_values_agree_with_themselves():
    x = Tensor([np.nan, np.inf, 2.0], requires_grad=True)
    explanation = explain(ops.sum(x * 2.0), check=True)
    assert np.isnan(explanation[x].difference.expected[2])  # the sum is NaN whatever moves
    assert "NaN" in listed(np.full(20, np.nan))
    str(explanation)


def test_float32_is_moved_in_float64():
    x = Tensor(np.array([1.0, 2.0, 3.0], np.float32), requires_grad=True)
    y = ops.astype(x * np.array([0.1, 0.2, 0.3], np.float32), np.float32)
    explanation = explain(ops.mean(ops.exp(y)), check=True)
    exact = np.exp([0.1, 0.4, 0.9]) * [0.1, 0.2, 0.3] / 3
    np.testing.assert_allclose(explanation[x].difference.expected, exact, rtol=1e-6)  # 0.1 is float32's


# ------------------------------------------------------------------------------ names and places


def line_of(text):
    return next(i for i, line in enumerate(open(__file__, encoding="utf-8"), 1) if text in line)


class Twice(nn.Module):
    def __init__(self):
        self.inner = nn.Dense(2, 2)

    def forward(self, x):
        return self.inner(ops.relu(self.inner(x)))  # in forward


def test_the_line_of_the_program():
    x = Tensor([[1.0, 2.0]], requires_grad=True)
    μ = ops.exp(x) + ops.log(x)  # with an umlaut: ü
    many = ops.sum(
        μ * 2.0,
        axis=0,
    )
    made = [m * 1.0 for m in many]  # in a comprehension
    loss = ops.sum(made[0] + made[1])
    explanation = explain(loss)
    places = {e.call: e.place for e in explanation if e.place}
    for call, part, text in (
        ("exp(x)", "ops.exp(x)", "# with an umlaut"),
        ("log(x)", "ops.log(x)", "# with an umlaut"),
        ("exp + log", "ops.exp(x) + ops.log(x)", "# with an umlaut"),
        ("getitem * 1.0", "m * 1.0", "# in a comprehension"),
    ):
        place = places[call]
        assert place.text[place.start : place.end] == part
        assert place.line == line_of(text)
        assert place.file == __file__
    assert places["exp(x)"].function == "test_the_line_of_the_program"
    assert places["sum(μ * 2.0)" if "sum(μ * 2.0)" in places else "sum(multiply, axis=0)"].text == "many = ops.sum("
    assert str(places["exp(x)"]).endswith("there ops.exp(x)")


def test_the_line_is_in_the_users_own_module():
    model = Twice()
    explanation = explain(ops.sum(model(np.ones((1, 2), np.float32))))
    for entry in explanation:
        if entry.op in ("dense", "relu"):
            assert entry.place.line == line_of("# in forward")
    assert [e.name for e in explanation if e.kind == "leaf"] == ["model.inner.weight", "model.inner.bias"]


def test_a_record_keeps_no_frame_alive():
    class Local:
        pass

    def make_loss():
        local = Local()
        return ops.exp(Tensor(1.0, requires_grad=True)), weakref.ref(local)

    gc.disable()
    try:
        _loss, reference = make_loss()
        assert reference() is None
    finally:
        gc.enable()


def test_without_columns_or_source_there_is_still_a_line():
    code = compile("y = f(x)", "<nowhere>", "exec")
    from minidl.explanation.origin import place

    found = place(code, 0)
    assert (found.file, found.text, str(found)) == ("<nowhere>", "", "<nowhere>:" + str(found.line))


def test_names():
    model, x = nn.Sequential(nn.Dense(2, 1)), np.ones((1, 2), np.float32)
    _hidden = Tensor(np.float32(2), requires_grad=True)
    loss = ops.sum(model(x) * _hidden * np.float32([[3]]))
    assert [e.name for e in explain(loss, model=model)] == [
        "0.weight", "0.bias", "x", "dense", "x1", "multiply", "c1", "multiply_2", "loss",
    ]  # fmt: skip
    named = explain(loss, names={"scale": _hidden, "loss": model[0].bias, "input": x})
    assert {"scale", "loss", "loss_2", "input", "model.0.weight"} <= {e.name for e in named}
    assert named["scale"].value == 2
    assert named[_hidden] is named["scale"]
    with pytest.raises(KeyError, match="no tensor is called 'scael'; there are scale"):
        named["scael"]
    with pytest.raises(KeyError, match="not in the graph"):
        named[Tensor(1.0)]


def test_calls_as_one_would_write_them():
    x = Tensor(np.arange(12.0).reshape(3, 4), requires_grad=True)
    text = {
        "x[1:, ::2]": x[1:, ::2],
        "x[0]": x[0],
        "x[None, Ellipsis]": x[None, ...],
        "sum(x, axis=(0, 1), keepdims=True)": ops.sum(x, (0, 1), True),
        "mean(x, axis=0)": ops.mean(x, axis=0),
        "sum(x)": x.sum(),
        "stack([x, x])": ops.stack([x, x]),
        "2.0 - x": 2.0 - x,
        "clip(x, min=0.5)": ops.clip(x, 0.5),
        "reshape(x, (2, 6))": x.reshape(2, 6),
        "astype(x, float32)": ops.astype(x, np.float32),
    }
    for expected, t in text.items():
        assert calls.call(t._node, {id(x): "x"}) == expected


def test_every_op_of_minidl_has_a_formula():
    for name, call in OPS.items():
        if call.__module__.startswith("minidl."):
            forward, backward, _ = formula(call)
            assert re.match(r"\S+ ?\S* \+?= |yᵢ|Lₙ|y\[", forward) or forward[:1] in "yLz", name
            assert backward.startswith(("dL/d", "−dL/d")), name
    assert formula(OPS["tanh"]) == ("y = tanh x", "dL/dx = dL/dy · (1 − y²)", "x: float")
    assert "dL/dW = dL/dzᵀ·x" in formula(OPS["dense_relu"]).backward
    assert formula(lambda x: x) == ("", "", "")


# --------------------------------------------------------------------------------------- printed


def test_printed():
    loss, model = make("two_layers")
    text = str(explain(loss, check=True, model=model))
    lines = text.splitlines()
    assert lines[0].startswith("Backward from loss = ")
    assert "through 4 results to 4 leaves" in lines[0]
    for part in (
        "  2 dense_2 = dense(tanh, 2.weight, 2.bias)    (3, 1) float32",
        "explained.py:",
        "y = tanh x   dL/dx = dL/dy · (1 − y²)",
        "→ 0.weight",
        "dL/d(tanh)",
        "agree, within",
        "What arrives at the leaves",
        "Checked: all 8 gradients agree with finite differences.",
    ):
        assert part in text, part


def test_printed_numbers_are_the_engines_digits():
    explanation = explain(make("shared")[0])
    text = str(explanation)
    for entry in explanation:
        for number in (
            *entry.value.ravel(),
            *entry.gradient.ravel(),
            *(g for p in entry.passes for g in p.gradient.ravel()),
        ):
            assert str(number) in text
    assert "the sum of 2 that meet here:" in text


def test_printed_large_arrays_are_summaries():
    loss, model = make("classifier")
    text = str(explain(loss, check=True, model=model))
    assert "% zero" in text
    assert re.search(r"agree, within \S+, at 12 of 600 elements", text)
    assert len(text) < 12000


def test_repr_says_how_it_stands():
    loss, _ = make("scalar")
    assert repr(explain(loss)) == "<Explanation of loss: 6 tensors>"
    assert "all 6 gradients agree" in repr(explain(loss, check=True))


# ------------------------------------------------------------------------------------------ cuts


def test_cut_by_depth_shows_all_that_flows_in():
    explanation = explain(make("lstm_step")[0])
    for depth in range(6):
        part = explanation.cut(depth=depth)
        assert explanation.loss.number in part.shown
        for entry in part:
            assert all(p.y in part.shown for p in entry.arrives)
    assert len(explanation.cut(depth=0)) == 1
    assert len(explanation.cut(depth=100)) == len(explanation)
    assert f"{len(explanation) - len(part)} of {len(explanation)} tensors are not shown" in str(part)


def test_cut_by_module():
    loss, model = make("convolution")
    explanation = explain(loss, model=model)
    part = explanation.cut(module="1")
    assert {e.op for e in part if e.kind == "result"} == {"batch_norm", "conv2d"}
    assert {e.name for e in part if e.kind == "leaf"} == {"1.weight", "1.bias"}
    assert len(explanation.cut(module="5.weight")) < len(explanation)


def test_cut_refuses():
    explanation = explain(make("convolution")[0])
    for keywords, message in (
        ({}, "expected depth or module"),
        ({"depth": 1, "module": "0"}, "expected depth or module"),
        ({"depth": -1}, "at least 0, found -1"),
        ({"module": "encoder"}, "no parameter is called 'encoder'"),
    ):
        with pytest.raises(ValueError, match=message):
            explanation.cut(**keywords)


# ------------------------------------------------------------------------------------- bad input


def freed():
    x = Tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    return y


def not_recorded():
    with minidl.no_grad():
        return Tensor(1.0, requires_grad=True) * 2.0


@pytest.mark.parametrize(
    ("make_arguments", "error", "message"),
    [
        (lambda: (3.0,), TypeError, "explain: expected a Tensor, the loss, found float"),
        (lambda: (np.ones(1),), TypeError, "found ndarray"),
        (lambda: (Tensor(1.0),), RuntimeError, "explain: expected a tensor with a graph"),
        (lambda: (not_recorded(),), RuntimeError, "made under no_grad"),
        (lambda: (freed(),), RuntimeError, "explain: .* backward\\(\\) freed"),
        (lambda: (Tensor([1.0, 2.0], requires_grad=True) * 2,), ValueError, r"one number, found shape \(2,\)"),
        (lambda: (make("scalar")[0], False, {"x": 3}), TypeError, r"expected names=.*found 'x': int"),
        (lambda: (make("scalar")[0], False, {3: Tensor(1.0)}), TypeError, "found 3: Tensor"),
        (lambda: (make("scalar")[0], False, None, "model"), TypeError, "expected a model.*found str"),
    ],
)
def test_bad_input(make_arguments, error, message):
    with pytest.raises(error, match=message):
        explain(*make_arguments())


def test_a_leaf_alone_can_be_explained():
    x = Tensor(3.0, requires_grad=True)
    explanation = explain(x, check=True)
    assert (len(explanation), explanation.order, explanation.ok) == (1, [], True)
    assert "dL/dx" in str(explanation)


def test_a_long_graph():
    loss, x = residual(3000)
    explanation = explain(loss)
    loss.backward()
    assert explanation[x].gradient == x.grad
    assert len(explanation) > 3000


# --------------------------------------------------------------------------------------- numbers


def test_summary():
    s = summary(np.array([0.0, 1.0, 3.0, np.nan, -np.inf], np.float32))
    finite = np.array([0.0, 1.0, 3.0])
    assert (s.mean, s.spread, s.least, s.most) == (finite.mean(), finite.std(), 0, 3)
    assert (s.zeros, s.nan, s.infinite) == (0.2, 0.2, 0.2)
    assert str(s) == "mean 1.333, spread 1.247, from 0 to 3, 20 % zero, 20 % NaN, 20 % infinite"
    assert summary(np.zeros((0, 3))) is None
    assert listed(np.zeros((0, 3))) == "[]"
    assert summary(np.array(["a"] * 20)) is None
    assert listed(np.array(["a"] * 20)).startswith("20 values of")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234567, "0.1235"),
        (-2.0, "−2"),
        (1.2e-7, "1.2e-07"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (3e9, "3e+09"),
        (0.0, "0"),
    ],
)
def test_short(value, text):
    assert short(value) == text.replace("-", "−")


@given(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8, bool]),
    hnp.array_shapes(min_dims=0, max_dims=5, max_side=70).filter(lambda s: np.prod(s) < 20000),
    st.integers(0, 2**32 - 1),
)
def test_a_heat_map_is_small_and_true(dtype, shape, seed):
    x = (np.random.default_rng(seed).normal(size=shape) * 50).astype(dtype)
    found = heat(x)
    rows, columns = found.cells.shape
    assert rows <= SIDE + TILES
    assert columns <= SIDE + TILES
    assert -127 <= found.cells.min() <= found.cells.max() <= 127
    if not found.note and x.ndim == 2:
        np.testing.assert_allclose(found.cells / 127 * found.scale, x.astype(float), atol=found.scale / 254 + 1e-12)
    assert found.scale <= np.abs(x.astype(float)).max() * (1 + 1e-12)


def test_a_heat_map_shows_means_and_holes():
    x = np.zeros((96, 10))
    x[:2, 0] = 3, 5  # the first block of two rows
    x[4, 9] = np.nan
    found = heat(x)
    assert (found.cells.shape, found.scale, found.note) == ((48, 10), 4, "each cell the mean of 2 × 1")
    assert found.cells[0, 0] == 127
    assert found.cells[2, 9] == -128
    assert (found.cells == 0).sum() == 478
    last = heat(np.concatenate([x, np.full((1, 10), 12.0)]))  # 97 rows: the last block has one
    assert (last.cells.shape, last.scale) == ((33, 10), 12)
    vector = heat(np.arange(100.0))
    assert (vector.cells.shape, vector.note) == ((10, 10), "10 in a row")
    tiles = heat(np.ones((64, 3, 3)))
    assert tiles.note == "the first 16 of 64 matrices"
    assert (tiles.cells == 127).sum() == 16 * 9
    assert heat(np.zeros((2, 0))) is None
    assert heat(np.zeros(3)).scale == 0


def test_recording_costs_no_reference_to_the_frame():
    loss, _ = make("scalar")
    node = loss._node
    assert node.code.co_name == "scalar"
    assert not any(type(r) is type(sys._getframe()) for r in gc.get_referents(node))
