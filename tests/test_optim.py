"""Optimizers against PyTorch's, and against their formulas written down again in NumPy."""

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest

from minidl import nn, ops, optim
from minidl.tensor import Tensor

STEPS = 200

SGD = [
    {"lr": 0.1},
    {"lr": 0.1, "weight_decay": 0.3},
    {"lr": 0.05, "momentum": 0.9},
    {"lr": 0.05, "momentum": 0.9, "dampening": 0.4},
    {"lr": 0.05, "momentum": 0.9, "nesterov": True},
    {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    {"lr": 0.05, "momentum": 0.8, "dampening": 1.0},
    {"lr": 0.0, "momentum": 0.8},
]
ADAM = [
    {},
    {"lr": 0.05},
    {"lr": 0.05, "betas": (0.5, 0.7)},
    {"lr": 0.05, "betas": (0.0, 0.0)},
    {"lr": 0.05, "eps": 0.1},
    {"lr": 0.05, "weight_decay": 0.2},
    {"lr": 0.05, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.05},
]
CASES = [("SGD", o) for o in SGD] + [(name, o) for name in ("Adam", "AdamW") for o in ADAM]
ids = [f"{name}-{'-'.join(f'{k}={v}' for k, v in o.items()) or 'defaults'}" for name, o in CASES]
cases = pytest.mark.parametrize(("name", "options"), CASES, ids=ids)


def reference(
    name: str, theta: np.ndarray, state: dict[str, Any], g: np.ndarray, options: dict[str, Any]
) -> np.ndarray:
    """One step of the papers' formulas, in plain NumPy."""
    if name == "SGD":
        o = {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False} | options
        d = g + o["weight_decay"] * theta
        if o["momentum"]:
            state["b"] = o["momentum"] * state["b"] + (1 - o["dampening"]) * d if "b" in state else d
            d = d + o["momentum"] * state["b"] if o["nesterov"] else state["b"]
        return theta - o["lr"] * d
    o = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01 if name == "AdamW" else 0} | options
    if name == "AdamW":
        theta = theta * (1 - o["lr"] * o["weight_decay"])
    else:
        g = g + o["weight_decay"] * theta
    t = state["t"] = state.get("t", 0) + 1
    b1, b2 = o["betas"]
    state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0) + (1 - b2) * g * g
    return theta - o["lr"] * (state["m"] / (1 - b1**t)) / (np.sqrt(state["v"] / (1 - b2**t)) + o["eps"])


def gradient(theta: np.ndarray, t: int) -> np.ndarray:
    """Of something with valleys, and with noise, so that no term of an update hides behind another."""
    return (
        np.sin(3 * theta)
        + 0.1 * theta
        + 0.3 * np.cos(t + np.arange(theta.size, dtype=theta.dtype).reshape(theta.shape))
    )


def start(dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in ((3, 4), (5,), ())]


def make(name: str, params: Any, options: dict[str, Any]) -> optim.Optimizer:
    return getattr(optim, name)(params, **options)


def run(optimizer: optim.Optimizer, params: list[Tensor], steps: range) -> None:
    for t in steps:
        for p in params:
            p.grad = gradient(p.data, t)
        optimizer.step()


def leaves(arrays: list[np.ndarray]) -> list[Tensor]:
    return [Tensor(a.copy(), requires_grad=True) for a in arrays]


def assert_follows(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    """Relative to the parameter's size: an element on its way through 0 has no relative error of its own."""
    found, expected = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0))


# -------------------------------------------------------------------------------------- trajectories


@cases
def test_200_steps_follow_the_formula(name, options):
    params = leaves(start())
    optimizer = make(name, params, options)
    theta, states = start(), [{} for _ in params]
    for t in range(STEPS):
        run(optimizer, params, range(t, t + 1))
        theta = [reference(name, p, s, gradient(p, t), options) for p, s in zip(theta, states, strict=True)]
        for p, expected in zip(params, theta, strict=True):
            assert_follows(p.data, expected)
            assert p.data.dtype == np.float64


@cases
def test_200_steps_follow_pytorch(name, options):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    params = leaves(start())
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in params]
    optimizer, other = make(name, params, options), getattr(torch.optim, name)(theirs, **options)
    for t in range(STEPS):
        run(optimizer, params, range(t, t + 1))
        for p in theirs:
            p.grad = torch.tensor(gradient(p.detach().numpy(), t))
        other.step()
        for p, q in zip(params, theirs, strict=True):
            assert_follows(p.data, q.detach().numpy())


@cases
def test_float32_stays_close(name, options):
    """To the float64 trajectory of the same gradients, so that only the updates' rounding counts."""
    single, double = leaves(start(np.float32)), leaves([a.astype(np.float64) for a in start(np.float32)])
    one, two = make(name, single, options), make(name, double, options)
    for t in range(50):
        for p, q in zip(single, double, strict=True):
            p.grad = gradient(q.data, t).astype(np.float32)
            q.grad = p.grad.astype(np.float64)
        one.step()
        two.step()
    for p, q in zip(single, double, strict=True):
        assert p.data.dtype == np.float32
        # Adam divides by √v, so rounding shows most where gradients are small: PyTorch's own is up to 5e-6 here
        assert_follows(p.data, q.data, 2e-5)
    for p in single:
        assert all(v.dtype == np.float32 for k, v in one.state.get(p, {}).items() if k != "step")


def test_defaults_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    for name in ("SGD", "Adam", "AdamW"):
        mine = make(name, leaves(start()), {}).defaults
        theirs = getattr(torch.optim, name)([torch.zeros(1)]).defaults
        assert {k: theirs[k] for k in mine} == mine


def test_first_steps_by_hand():
    p = Tensor(np.array([1.0]), requires_grad=True)
    p.grad = np.array([2.0])
    optim.SGD([p], lr=0.1, weight_decay=0.5).step()  # 1 − 0.1·(2 + 0.5·1)
    assert p.data == pytest.approx(0.75, rel=1e-15)
    optim.Adam([p], lr=0.1).step()  # m̂/√v̂ is the gradient's sign at first
    assert p.data == pytest.approx(0.65, rel=1e-7)
    optim.AdamW([p], lr=0.1, weight_decay=0.5).step()  # 0.65·(1 − 0.05) − 0.1
    assert p.data == pytest.approx(0.5175, rel=1e-7)


# -------------------------------------------------------------------------------- groups and options


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_have_their_own_options(name):
    options = [{"lr": 0.05, "weight_decay": 0.2}, {"weight_decay": 0.0}, {"lr": 0.01}]
    extra = {"momentum": 0.5} if name == "SGD" else {"betas": (0.6, 0.8)}
    options[1] |= extra
    params = leaves(start())
    optimizer = make(name, [{"params": [p], **o} for p, o in zip(params[:2], options[:2], strict=True)], {"lr": 0.1})
    optimizer.add_param_group({"params": params[2], **options[2]})
    theta, states = start(), [{} for _ in params]
    for t in range(20):
        run(optimizer, params, range(t, t + 1))
        for i, o in enumerate(options):
            theta[i] = reference(name, theta[i], states[i], gradient(theta[i], t), {"lr": 0.1, **o})
    for p, expected in zip(params, theta, strict=True):
        assert_follows(p.data, expected)
    assert [g["lr"] for g in optimizer.param_groups] == [0.05, 0.1, 0.01]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_options_change_in_mid_run(name):
    options = {"lr": 0.1, "weight_decay": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
    params = leaves(start())
    optimizer = make(name, params, options)
    theta, states = start(), [{} for _ in params]
    for t in range(20):
        options["lr"] *= 0.9
        if t == 10:
            options["weight_decay"] = 0.5
            options |= {"momentum": 0.5} if name == "SGD" else {"betas": (0.8, 0.9)}
        optimizer.param_groups[0].update(options)
        run(optimizer, params, range(t, t + 1))
        theta = [reference(name, p, s, gradient(p, t), options) for p, s in zip(theta, states, strict=True)]
    for p, expected in zip(params, theta, strict=True):
        assert_follows(p.data, expected)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_parameters_without_a_gradient_do_not_move(name):
    options = {"weight_decay": 0.5} | ({"momentum": 0.9} if name == "SGD" else {})
    params = leaves(start())
    optimizer = make(name, params, options)
    for p in params[1:]:
        p.grad = gradient(p.data, 0)
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, start()[0])
    assert params[0] not in optimizer.state
    assert not np.array_equal(params[1].data, start()[1])
    before, kept = params[1].data.copy(), copy.deepcopy(optimizer.state_dict()["state"])
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, before)
    np.testing.assert_equal(optimizer.state_dict()["state"], kept)


def test_zero_grad_can_set_zeros():
    a, b = leaves(start()[:2])
    optimizer = optim.SGD([a, b])
    a.grad = np.ones(a.shape)
    optimizer.zero_grad(set_to_none=False)
    assert b.grad is None
    np.testing.assert_array_equal(a.grad, np.zeros(a.shape))


def test_a_step_is_taken_in_place_and_leaves_gradients_alone():
    for name in ("SGD", "Adam", "AdamW"):
        (p,) = leaves(start()[:1])
        data, p.grad = p.data, gradient(p.data, 0)
        before = p.grad.copy()
        make(name, [p], {"weight_decay": 0.1}).step()
        assert p.data is data
        np.testing.assert_array_equal(p.grad, before)
        assert not np.array_equal(data, start()[0])


# ------------------------------------------------------------------------------------------- layouts

LAYOUTS = {
    "C": lambda a: a.copy(),
    "F": lambda a: np.asfortranarray(a),
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "columns": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "rows": lambda a: np.repeat(a, 2, axis=0)[::2],
    "transposed columns": lambda a: np.repeat(np.ascontiguousarray(a.T), 2, axis=-1)[..., ::2].T,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "permuted": lambda a: np.ascontiguousarray(np.moveaxis(a, 0, -1)).transpose(a.ndim - 1, *range(a.ndim - 1)),
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
shapes = pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (1, 3), (6,), (0, 3)], ids=str)


@layouts
@shapes
@pytest.mark.parametrize(("name", "options"), [CASES[1], CASES[6], ("Adam", ADAM[-1]), ("AdamW", ADAM[-1])])
def test_every_layout_of_parameter_and_gradient(name, options, layout, shape):
    initial = np.random.default_rng(1).normal(size=shape)
    p, state, theta = Tensor(LAYOUTS[layout](initial.copy()), requires_grad=True), {}, initial
    np.testing.assert_array_equal(p.data, initial)
    data, strides = p.data, p.data.strides
    optimizer = make(name, [p], options)
    for t, kind in enumerate(["C", "F", "columns", "permuted", "float32"]):
        g = np.random.default_rng(t).normal(size=shape).astype(np.float32)
        p.grad = g if kind == "float32" else LAYOUTS[kind](g.astype(np.float64))
        optimizer.step()
        theta = reference(name, theta, state, g.astype(np.float64), options)
        if t == 1:  # state of every layout must survive its dictionary too
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = make(name, [p], options)
            optimizer.load_state_dict(saved)
    assert_follows(p.data, theta, 1e-13)
    assert p.data is data
    assert p.data.strides == strides
    for key, value in optimizer.state.get(p, {}).items():
        if key != "step":
            assert_follows(value, state[{"momentum_buffer": "b", "exp_avg": "m", "exp_avg_sq": "v"}[key]], 1e-13)


def test_data_may_be_replaced_by_an_array_of_another_layout():
    for name, options in (CASES[6], ("Adam", {"lr": 0.1})):
        p, state = Tensor(start()[0], requires_grad=True), {}
        theta, optimizer = p.data.copy(), make(name, [p], options)
        for t in range(4):
            p.data = np.asfortranarray(p.data) if t % 2 else np.ascontiguousarray(p.data)
            p.grad = gradient(theta, t)
            optimizer.step()
            theta = reference(name, theta, state, gradient(theta, t), options)
        assert_follows(p.data, theta, 1e-13)


def test_large_parameters_take_the_same_steps_as_small_ones():
    """Above the size from which threads share an update, too."""
    size = 1 << 15
    for name, options in (("SGD", SGD[1]), ("SGD", SGD[5]), ("Adam", ADAM[5]), ("AdamW", ADAM[5])):
        values = np.random.default_rng(0).normal(size=size)
        large, small = Tensor(values.copy(), requires_grad=True), Tensor(values[-7:].copy(), requires_grad=True)
        for p in (large, small):
            optimizer = make(name, [p], options)
            for t in range(2):
                p.grad = np.sin(p.data + t)
                optimizer.step()
        np.testing.assert_array_equal(large.data[-7:], small.data)


def test_denormal_moments_become_zero():
    tiny = np.finfo(np.float32).tiny
    p = Tensor(np.array([1.0, 1.0], np.float32), requires_grad=True)
    optimizer = optim.Adam([p], lr=0.1, betas=(0.5, 0.5))
    p.grad = np.array([tiny, 3.0], np.float32)  # half of it is denormal
    optimizer.step()
    state = optimizer.state[p]
    assert state["exp_avg"].tolist() == [0, 1.5]
    assert state["exp_avg_sq"].tolist() == [0, 4.5]
    assert p.data[0] == 1
    for _ in range(140):  # 1.5·2⁻¹⁴⁰ would be denormal
        p.grad = np.zeros(2, np.float32)
        optimizer.step()
        for key in ("exp_avg", "exp_avg_sq"):
            assert all(v == 0 or abs(v) >= tiny for v in state[key])
    assert state["exp_avg"].tolist() == [0, 0]
    p.grad = np.array([-4 * tiny, 0], np.float32)  # a small but normal moment stays, of either sign
    optimizer.step()
    assert state["exp_avg"][0] == -2 * tiny


def test_nan_and_infinite_gradients_are_not_hidden():
    for name in ("SGD", "Adam", "AdamW"):
        p = Tensor(np.ones(3), requires_grad=True)
        p.grad = np.array([np.nan, np.inf, 1.0])
        make(name, [p], {}).step()
        assert np.isnan(p.data[0])
        assert not np.isfinite(p.data[1])
        assert np.isfinite(p.data[2])


# --------------------------------------------------------------------------------- state dictionaries


@cases
def test_state_dict_continues_to_the_same_bits(name, options):
    params = leaves(start(np.float32))
    optimizer = make(name, params, options)
    run(optimizer, params, range(5))
    saved, values = copy.deepcopy(optimizer.state_dict()), [p.data.copy() for p in params]
    run(optimizer, params, range(5, 10))
    again = leaves(values)
    other = make(name, again, {"lr": 123.0})
    other.load_state_dict(saved)
    kept = copy.deepcopy(saved)
    run(other, again, range(5, 10))
    np.testing.assert_equal(saved, kept)  # loading takes copies
    for p, q in zip(params, again, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    np.testing.assert_equal(other.state_dict(), optimizer.state_dict())


def test_state_dict_has_pytorchs_form():
    params = leaves(start())
    optimizer = optim.Adam([{"params": params[:2]}, {"params": params[2:], "lr": 0.5}])
    run(optimizer, params, range(3))
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2]]
    assert [g["lr"] for g in state["param_groups"]] == [1e-3, 0.5]
    assert sorted(state["state"]) == [0, 1, 2]
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][1]["step"] == 3
    sgd = optim.SGD(params, momentum=0.5)
    run(sgd, params, range(1))
    assert set(sgd.state_dict()["state"][0]) == {"momentum_buffer"}


@cases
def test_pytorchs_state_dict_is_continued(name, options):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    theirs = [torch.tensor(a, requires_grad=True) for a in start()]
    other = getattr(torch.optim, name)(theirs, **options)

    def step(t: int) -> None:
        for p in theirs:
            p.grad = torch.tensor(gradient(p.detach().numpy(), t))
        other.step()

    for t in range(5):
        step(t)
    params = leaves([p.detach().numpy() for p in theirs])
    optimizer = make(name, params, {})
    optimizer.load_state_dict(other.state_dict())
    for t in range(5, 30):
        step(t)
    run(optimizer, params, range(5, 30))
    for p, q in zip(params, theirs, strict=True):
        assert_follows(p.data, q.detach().numpy())


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_pytorch_continues_ours(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    options = {"lr": 0.05} | ({"momentum": 0.9} if name == "SGD" else {})
    params = leaves(start())
    optimizer = make(name, params, options)
    run(optimizer, params, range(5))
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in params]
    other = getattr(torch.optim, name)(theirs, **options)
    state = optimizer.state_dict()
    entries = {i: {k: torch.tensor(v) for k, v in entry.items()} for i, entry in state["state"].items()}
    other.load_state_dict({"state": entries, "param_groups": other.state_dict()["param_groups"]})
    for t in range(5, 10):
        for p in theirs:
            p.grad = torch.tensor(gradient(p.detach().numpy(), t))
        other.step()
    run(optimizer, params, range(5, 10))
    for p, q in zip(params, theirs, strict=True):
        assert_follows(p.data, q.detach().numpy())


def bad_state_dicts() -> dict[str, Any]:
    def without(key: str) -> Any:
        return lambda s: s.pop(key)

    return {
        "no param_groups": (without("param_groups"), KeyError),
        "no state": (without("state"), KeyError),
        "a group too few": (lambda s: s["param_groups"].pop(), ValueError),
        "a parameter too many": (lambda s: s["param_groups"][0]["params"].append(7), ValueError),
        "negative lr in the last group": (lambda s: s["param_groups"][1].update(lr=-1.0), ValueError),
        "NaN lr": (lambda s: s["param_groups"][1].update(lr=math.nan), ValueError),
        "bad betas": (lambda s: s["param_groups"][1].update(betas=(0.9, 1.0)), ValueError),
        "another shape": (lambda s: s["state"][2].update(exp_avg=np.zeros((9, 9))), ValueError),
        "a shape that would broadcast": (lambda s: s["state"][0].update(exp_avg=np.zeros((1, 4))), ValueError),
        "no second moment": (lambda s: s["state"][2].pop("exp_avg_sq"), KeyError),
        "no step": (lambda s: s["state"][2].pop("step"), KeyError),
        "strings": (lambda s: s["state"][1].update(exp_avg=np.array(["x"] * 5)), (TypeError, ValueError)),
    }


@pytest.mark.parametrize("case", bad_state_dicts())
def test_bad_state_dicts_change_nothing(case):
    damage, error = bad_state_dicts()[case]
    params = leaves(start())
    optimizer = optim.Adam([{"params": params[:2]}, {"params": params[2:]}])
    run(optimizer, params, range(3))
    other = optim.Adam([{"params": params[:2], "lr": 0.7}, {"params": params[2:], "lr": 0.7}])
    run(other, params, range(2))
    before, bad = copy.deepcopy(other.state_dict()), copy.deepcopy(optimizer.state_dict())
    damage(bad)
    with pytest.raises(error):
        other.load_state_dict(bad)
    np.testing.assert_equal(other.state_dict(), before)


# -------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("option", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-1e-3, math.nan, -math.inf])
def test_options_out_of_range(name, option, value):
    with pytest.raises(ValueError, match=f"{name}: expected {option} ≥ 0, found"):
        make(name, leaves(start()), {option: value})
    with pytest.raises(ValueError, match=f"{name}: expected {option} ≥ 0, found"):
        make(name, [{"params": leaves(start()), option: value}], {})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": -0.1}, "SGD: expected momentum ≥ 0, found -0.1"),
        ("SGD", {"nesterov": True}, "nesterov expects momentum > 0"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov expects .*dampening 0"),
        ("Adam", {"eps": -1e-8}, "Adam: expected eps ≥ 0"),
        ("Adam", {"betas": (1.0, 0.9)}, r"Adam: expected betas\[0\] .*found 1.0"),
        ("Adam", {"betas": (0.9, 1.0)}, r"Adam: expected betas\[1\]"),
        ("AdamW", {"betas": (-0.1, 0.9)}, r"AdamW: expected betas\[0\]"),
        ("Adam", {"betas": (0.9, math.nan)}, r"betas\[1\]"),
        ("Adam", {"betas": (0.9,)}, "Adam: expected .*betas"),
        ("Adam", {"betas": (0.9, 0.9, 0.9)}, "Adam: expected .*betas"),
    ],
)
def test_options_that_do_not_go_together(name, options, message):
    with pytest.raises(ValueError, match=message):
        make(name, leaves(start()), options)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_parameters_that_are_none(name):
    a, b = leaves(start()[:2])
    for nothing in ([], iter([]), nn.ReLU().parameters()):
        with pytest.raises(ValueError, match=f"{name}: expected parameters to optimize, found none"):
            make(name, nothing, {})
    for twice in ([a, b, a], [{"params": [a]}, {"params": [b, a]}]):
        with pytest.raises(ValueError, match=f"{name}: .*twice"):
            make(name, twice, {})
    for other in ([a.data], [a * 2], [a, "w"], [a, {"params": [b]}], [1.0]):
        with pytest.raises(TypeError, match=f"{name}: expected leaf Tensors"):
            make(name, other, {})
    with pytest.raises(ValueError, match=f"{name}: expected options .*'learning_rate'"):
        make(name, [{"params": [a], "learning_rate": 1.0}], {})


def test_a_rejected_group_is_not_added():
    a, b = leaves(start()[:2])
    optimizer = optim.Adam([a])
    for bad in ({"params": [b], "lr": -1}, {"params": [b, a]}, {"params": [b], "rho": 1}, {"params": [b, 3]}):
        with pytest.raises((TypeError, ValueError)):
            optimizer.add_param_group(bad)
    assert len(optimizer.param_groups) == 1
    optimizer.add_param_group({"params": b})
    assert optimizer.param_groups[1]["params"] == [b]


def test_a_gradient_of_another_shape():
    for name, shape in itertools.product(("SGD", "Adam", "AdamW"), [(4, 3), (12,), (), (1, 4), (3, 4, 1)]):
        (p,) = leaves(start()[:1])
        p.grad = np.zeros(shape)
        with pytest.raises(ValueError, match=r"gradient of shape \(3, 4\)"):
            make(name, [p], {}).step()
        np.testing.assert_array_equal(p.data, start()[0])


def test_a_model_and_a_single_tensor_as_parameters():
    model = nn.Sequential(nn.Dense(3, 4), nn.ReLU(), nn.Dense(4, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    x, y = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32), np.arange(16) % 2
    losses = []
    for _ in range(60):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    single = Tensor(np.ones(2), requires_grad=True)
    (single * 2).sum().backward()
    optim.SGD(single, lr=1.0).step()
    assert single.data.tolist() == [-1, -1]


@pytest.mark.parametrize("option", ["amsgrad", "maximize"])
def test_a_torch_option_that_changes_the_method_is_refused(option):
    optimizer = optim.Adam([Tensor(np.ones(2), requires_grad=True)])
    state = optimizer.state_dict()
    state["param_groups"][0][option] = True
    with pytest.raises(ValueError, match=f"Adam.load_state_dict: found {option}"):
        optimizer.load_state_dict(state)


def test_adam_keeps_the_digits_of_a_gradient_after_larger_ones():
    """With β = 0 the moments are g and g² themselves, whatever came before."""
    p = Tensor(np.zeros(1, np.float32), requires_grad=True)
    optimizer = optim.Adam([p], betas=(0.0, 0.0))
    for g in (1e3, 1e-3):
        p.grad = np.array([g], np.float32)
        optimizer.step()
    assert optimizer.state[p]["exp_avg"] == np.float32(1e-3)
    assert optimizer.state[p]["exp_avg_sq"] == np.float32(1e-3) ** 2


WRONG = [
    ("x", TypeError), (Tensor(0.1), TypeError), (np.array(0.1), TypeError), (None, TypeError), ([0.1], TypeError),
    (True, TypeError), (math.nan, ValueError), (math.inf, ValueError), (10**400, ValueError),
]  # fmt: skip
OPTIONS = [
    *((name, option) for name in ("SGD", "Adam", "AdamW") for option in ("lr", "weight_decay")),
    ("SGD", "momentum"), ("SGD", "dampening"), ("Adam", "eps"), ("AdamW", "eps"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "option"), OPTIONS)
@pytest.mark.parametrize(("value", "error"), WRONG)
def test_options_that_are_no_finite_numbers(name, option, value, error):
    said = f"{name}: expected (a finite |a number for |){option}"
    with pytest.raises(error, match=said):
        make(name, leaves(start()), {option: value})
    optimizer = make(name, leaves(start()), {})
    with pytest.raises(error, match=said):
        optimizer.add_param_group({"params": leaves(start()), option: value})
    state = optimizer.state_dict()
    state["param_groups"][0][option] = value
    with pytest.raises(error, match=said):
        optimizer.load_state_dict(state)
    assert len(optimizer.param_groups) == 1
    if option == "lr":  # set by hand, between steps
        p = optimizer.param_groups[0]["params"][0]
        kept, p.grad = p.data.copy(), np.ones_like(p.data)
        optimizer.param_groups[0]["lr"] = value
        if not isinstance(value, float):
            with pytest.raises(error, match=said):
                optimizer.step()
            np.testing.assert_array_equal(p.data, kept)


def test_options_are_kept_as_plain_numbers():
    optimizer = optim.Adam(leaves(start()), lr=np.float32(0.5), betas=[np.float64(0.5), 0], eps=1, weight_decay=0)
    group = {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
    assert group == {"lr": 0.5, "betas": (0.5, 0.0), "eps": 1.0, "weight_decay": 0.0}
    assert [type(v) for v in (group["lr"], *group["betas"], group["eps"], group["weight_decay"])] == [float] * 5
    for betas, error in (("ab", TypeError), (0.9, TypeError), (np.array(0.9), TypeError), ((0.9, "a"), TypeError)):
        with pytest.raises(error, match=r"Adam: expected a (list|number) for betas"):
            optim.Adam(leaves(start()), betas=betas)
    for nesterov in (1, "yes", None, np.float64(1)):
        with pytest.raises(TypeError, match="SGD: expected True or False for nesterov"):
            optim.SGD(leaves(start()), momentum=0.9, nesterov=nesterov)


def test_parameters_of_other_kinds():
    model = nn.Sequential(nn.Dense(2, 2), nn.Dense(2, 1))
    for given in (model, model[0]):
        with pytest.raises(TypeError, match=r"SGD: expected leaf Tensors, found (Sequential|Dense); give its \.param"):
            optim.SGD(given)
    for given in (3, None, "weights", np.ones(3), set(model.parameters()), model.named_parameters(), {"params": 1}):
        with pytest.raises(TypeError, match="SGD: expected leaf Tensors, found "):
            optim.SGD(given)
    with pytest.raises(TypeError, match="SGD: expected leaf Tensors in float32 or float64, found "):
        optim.SGD([Tensor(np.arange(3))])
    for group in ({"lr": 1.0}, [1], None):
        with pytest.raises(TypeError, match='SGD: expected groups as dicts with "params", found'):
            optim.SGD(model.parameters()).add_param_group(group)
    assert len(optim.SGD(dict(model.named_parameters()).values()).param_groups[0]["params"]) == 4


def test_a_generator_gives_its_parameters_once():
    model = nn.Dense(2, 2)
    parameters = model.parameters()
    optimizer = optim.SGD(parameters)
    with pytest.raises(ValueError, match="Adam: expected parameters to optimize, found none; a generator"):
        optim.Adam(parameters)
    for group in ({"params": parameters}, {"params": nn.ReLU().parameters()}):
        with pytest.raises(ValueError, match="expected parameters, found none: a generator"):
            optimizer.add_param_group(group)
        with pytest.raises(ValueError, match="expected parameters, found none: a generator"):
            optim.SGD([{"params": list(model.parameters())}, group])
    optimizer.add_param_group({"params": []})  # a group may be empty, as in PyTorch


@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
def test_a_generator_that_is_used_up_clips_nothing_and_says_so(clip):
    model = nn.Dense(2, 2)
    for p in model.parameters():
        p.grad = np.full_like(p.data, 9)
    parameters = model.parameters()
    clip(parameters, 1.0)
    with pytest.raises(ValueError, match=f"{clip.__name__}: expected parameters, found none: a generator"):
        clip(parameters, 1.0)
    with pytest.raises(TypeError, match=f"{clip.__name__}: expected Tensors, found Dense; give its .parameters"):
        clip(model, 1.0)
    with pytest.raises(TypeError, match="expected a number"):
        clip(model.parameters(), True)
    clip([], 1.0)


def test_a_state_of_one_parameter_under_two_keys():
    optimizer = optim.Adam(leaves(start()))
    for p in optimizer.param_groups[0]["params"]:
        p.grad = np.ones_like(p.data)
    optimizer.step()
    state = optimizer.state_dict()
    before = optimizer.state
    state["state"]["0"] = state["state"][0]
    with pytest.raises(ValueError, match=r"Adam\.load_state_dict: expected parameter 0 once, found 0 and '0'"):
        optimizer.load_state_dict(state)
    assert optimizer.state is before
    del state["state"][0]
    optimizer.load_state_dict(state)  # as JSON has it
    assert len(optimizer.state) == len(optimizer.param_groups[0]["params"])


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW])
def test_a_rate_that_a_schedule_made_negative_is_loaded_again(kind):
    def made():
        return kind([Tensor(np.ones(2), requires_grad=True)], lr=0.1)

    optimizer, other = made(), made()
    optim.StepLR(optimizer, 1)
    optimizer.param_groups[0]["lr"] = -1e-3
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["lr"] == -1e-3
    optimizer.load_state_dict(optimizer.state_dict())
    for wrong in (math.nan, math.inf, "0.1"):
        with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: expected a (finite lr|number for lr)"):
            other.load_state_dict(
                {"state": {}, "param_groups": [{**optimizer.state_dict()["param_groups"][0], "lr": wrong}]}
            )
