"""Schedules: PyTorch's rates, step by step, and their formulas; resuming; options that make no sense."""

import copy
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minidl
from minidl import Tensor, ops, optim

STEPS = 200
FIRST = [0.1, 0.03]  # of the two groups
METRIC = np.random.default_rng(3).normal(size=STEPS) * 0.05 + 1 / np.arange(1, STEPS + 1)


def decay(t: int) -> float:
    return 0.97**t


def sine(t: int) -> float:
    return 1 + math.sin(t) / 2


# Made alike from minidl.optim and torch.optim.lr_scheduler: m is the module, o the optimizer.
MAKERS: dict[str, Any] = {
    "lambda": lambda m, o: m.LambdaLR(o, decay),
    "lambdas": lambda m, o: m.LambdaLR(o, [decay, sine]),
    "step": lambda m, o: m.StepLR(o, 30),
    "step of gamma": lambda m, o: m.StepLR(o, step_size=7, gamma=0.8),
    "multi-step": lambda m, o: m.MultiStepLR(o, [20, 60, 150]),
    "multi-step, twice and out of order": lambda m, o: m.MultiStepLR(o, [90, 0, 10, 10, 199], gamma=0.7),
    "constant": lambda m, o: m.ConstantLR(o),
    "constant of factor": lambda m, o: m.ConstantLR(o, factor=0.3, total_iters=101),
    "linear": lambda m, o: m.LinearLR(o),
    "linear down": lambda m, o: m.LinearLR(o, start_factor=1.0, end_factor=0.01, total_iters=150),
    "linear to 0": lambda m, o: m.LinearLR(o, 0.5, 0, total_iters=50),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.97),
    "polynomial": lambda m, o: m.PolynomialLR(o),
    "polynomial of power": lambda m, o: m.PolynomialLR(o, total_iters=160, power=2.5),
    "polynomial of power 0": lambda m, o: m.PolynomialLR(o, total_iters=20, power=0),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, T_max=200),
    "cosine, up and down": lambda m, o: m.CosineAnnealingLR(o, T_max=17, eta_min=0.01),
    "cosine, T_max 1": lambda m, o: m.CosineAnnealingLR(o, T_max=1, eta_min=0.02),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 20),
    "restarts, longer": lambda m, o: m.CosineAnnealingWarmRestarts(o, T_0=5, T_mult=2, eta_min=0.001),
    "restarts, T_0 1": lambda m, o: m.CosineAnnealingWarmRestarts(o, T_0=1, T_mult=3),
    "one cycle": lambda m, o: m.OneCycleLR(o, 0.5, total_steps=STEPS),
    "one cycle, linear": lambda m, o: m.OneCycleLR(o, [0.5, 0.2], total_steps=STEPS, anneal_strategy="linear"),
    "one cycle, three phases": lambda m, o: m.OneCycleLR(o, 0.5, epochs=20, steps_per_epoch=10, three_phase=True),
    "one cycle, options": lambda m, o: m.OneCycleLR(
        o, 0.5, 250, pct_start=0.11, base_momentum=[0.7, 0.8], max_momentum=0.9, div_factor=7, final_div_factor=30
    ),
    "one cycle, momentum kept": lambda m, o: m.OneCycleLR(o, 0.5, 230, cycle_momentum=False, three_phase=True),
    "one cycle, falling only": lambda m, o: m.OneCycleLR(o, 0.5, 200, pct_start=0.0),
    "one cycle, rising only": lambda m, o: m.OneCycleLR(o, 0.5, 210, pct_start=1.0),
    "warm-up and cosine": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.1, total_iters=20), m.CosineAnnealingLR(o, 180)], milestones=[20]
    ),
    "four in a row": lambda m, o: m.SequentialLR(
        o,
        [m.ConstantLR(o, 0.1, 30), m.ExponentialLR(o, 0.9), m.StepLR(o, 10), m.CosineAnnealingWarmRestarts(o, 7)],
        milestones=[10, 60, 100],
    ),
    "functions in a row": lambda m, o: m.SequentialLR(
        o, [m.LambdaLR(o, sine), m.LambdaLR(o, decay), m.MultiStepLR(o, [5, 0])], milestones=[50, 100]
    ),
    "warm-up of no steps": lambda m, o: m.SequentialLR(o, [m.LinearLR(o), m.PolynomialLR(o, 90)], milestones=[0]),
    "one cycle after another": lambda m, o: m.SequentialLR(
        o, [m.LinearLR(o, 0.2, total_iters=30), m.OneCycleLR(o, 0.4, 170)], milestones=[30]
    ),
    "chained": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 40), m.ExponentialLR(o, 0.98)]),
    "chained with a sequence": lambda m, o: m.ChainedScheduler(
        [
            m.SequentialLR(o, [m.LinearLR(o, total_iters=9), m.StepLR(o, 33)], milestones=[12]),
            m.CosineAnnealingLR(o, 50),
            m.MultiStepLR(o, [70]),
        ],
        optimizer=o,
    ),
    "plateau": lambda m, o: m.ReduceLROnPlateau(o),
    "plateau, impatient": lambda m, o: m.ReduceLROnPlateau(o, factor=0.7, patience=2, cooldown=3, min_lr=[1e-3, 0.02]),
    "plateau, highest": lambda m, o: m.ReduceLROnPlateau(o, "max", 0.9, patience=0, threshold=0.03),
    "plateau, highest by unit": lambda m, o: m.ReduceLROnPlateau(
        o, "max", 0.9, 1, threshold=0.02, threshold_mode="abs", cooldown=1
    ),
    "plateau, lowest by unit": lambda m, o: m.ReduceLROnPlateau(
        o, factor=0.6, patience=3, threshold=0.02, threshold_mode="abs", eps=1e-3
    ),
}
OPTIMIZERS = {"SGD": {"momentum": 0.5}, "Adam": {"betas": (0.8, 0.99)}}
every_schedule = pytest.mark.parametrize("name", MAKERS)
both_optimizers = pytest.mark.parametrize("kind", OPTIMIZERS)


def optimizer(kind: str = "SGD", lrs: Any = FIRST) -> optim.Optimizer:
    groups = [{"params": [Tensor(np.ones(2), requires_grad=True)], "lr": lr} for lr in lrs]
    return getattr(optim, kind)(groups, **OPTIMIZERS[kind])


def rates(o: Any) -> list[float]:
    return [group["lr"] for group in o.param_groups]


def momentums(o: Any) -> list[Any]:
    return [group["momentum"] if "momentum" in group else group["betas"] for group in o.param_groups]


def step(schedule: Any, t: int) -> None:
    schedule.step(*[METRIC[t]] * ("Plateau" in type(schedule).__name__))


def run(name: str, kind: str = "SGD", steps: int = STEPS) -> tuple[list[Any], list[Any]]:
    """(rates, momentums) at every step, the first included."""
    o = optimizer(kind)
    schedule = MAKERS[name](optim, o)
    found = [rates(o)], [momentums(o)]
    for t in range(steps):
        step(schedule, t)
        assert schedule.get_last_lr() == rates(o)
        found[0].append(rates(o))
        found[1].append(momentums(o))
    return found


def torchs(kind: str) -> tuple[Any, Any]:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    groups = [{"params": [torch.ones(2, requires_grad=True)], "lr": lr} for lr in FIRST]
    return torch.optim.lr_scheduler, getattr(torch.optim, kind)(groups, **OPTIMIZERS[kind])


# ---------------------------------------------------------------------------------- against PyTorch


@every_schedule
@both_optimizers
@pytest.mark.filterwarnings("ignore")  # that no optimizer.step() came before
def test_200_steps_are_pytorchs(name, kind):
    module, other = torchs(kind)
    theirs = MAKERS[name](module, other)
    found, beside = run(name, kind)
    for t in range(STEPS + 1):
        np.testing.assert_allclose(found[t], rates(other), rtol=1e-12, atol=1e-17, err_msg=f"step {t}")
        np.testing.assert_allclose(beside[t], momentums(other), rtol=1e-12, err_msg=f"step {t}")
        if t < STEPS:
            step(theirs, t)
    assert all(type(lr) is float for lr in itertools.chain(*found))


def test_arguments_and_defaults_are_pytorchs():
    import inspect

    module, _ = torchs("SGD")
    for name in optim.__all__:
        if hasattr(module, name) and name != "LRScheduler":
            theirs = inspect.signature(getattr(module, name)).parameters
            mine = inspect.signature(getattr(optim, name)).parameters
            assert [p for p in theirs if (name, p) != ("SequentialLR", "last_epoch")] == list(mine), name
            assert {p: v.default for p, v in mine.items()} == {p: theirs[p].default for p in mine}, name


@pytest.mark.parametrize("name", [n for n in MAKERS if " in a row" not in n and "chained" not in n])
@pytest.mark.filterwarnings("ignore")
def test_rates_set_by_hand_are_gone_on_from(name):
    """By those schedules that go from one rate to the next, as PyTorch's do."""
    module, other = torchs("SGD")
    o = optimizer()
    mine, theirs = MAKERS[name](optim, o), MAKERS[name](module, other)
    for t in range(60):
        if t == 25:
            for group in (*o.param_groups, *other.param_groups):
                group["lr"] = 0.07
        step(mine, t)
        step(theirs, t)
        np.testing.assert_allclose(rates(o), rates(other), rtol=1e-12, err_msg=f"step {t + 1}")


@pytest.mark.parametrize("last_epoch", [0, 6, 41])
@pytest.mark.filterwarnings("ignore")
def test_the_older_way_to_resume(last_epoch):
    """By last_epoch and the groups' initial_lr."""
    module, _ = torchs("SGD")
    makers = {
        "LambdaLR": {"lr_lambda": decay},
        "StepLR": {"step_size": 7},
        "MultiStepLR": {"milestones": [7, 30]},
        "ConstantLR": {"factor": 0.5, "total_iters": 42},
        "LinearLR": {"start_factor": 0.1, "total_iters": 60},
        "ExponentialLR": {"gamma": 0.97},
        "PolynomialLR": {"total_iters": 50},
        "CosineAnnealingLR": {"T_max": 50},
        "CosineAnnealingWarmRestarts": {"T_0": 9},
    }
    for name, options in makers.items():
        o, (_, other) = optimizer(), torchs("SGD")
        for mine, theirs, base in zip(o.param_groups, other.param_groups, [0.2, 0.4], strict=True):
            mine["initial_lr"] = theirs["initial_lr"] = base
        schedule = getattr(optim, name)(o, last_epoch=last_epoch, **options)
        beside = getattr(module, name)(other, last_epoch=last_epoch, **options)
        for t in range(30):
            np.testing.assert_allclose(rates(o), rates(other), rtol=1e-12, err_msg=f"{name}, step {t}")
            assert schedule.last_epoch == beside.last_epoch
            schedule.step()
            beside.step()
    cycle = optim.OneCycleLR(optimizer(), 0.5, 100)
    for _ in range(last_epoch + 1):
        cycle.step()
    o = optimizer()
    for group in o.param_groups:
        group["initial_lr"] = 0.5 / 25
    assert optim.OneCycleLR(o, 0.5, 100, last_epoch=last_epoch).get_last_lr() == cycle.get_last_lr()


@pytest.mark.filterwarnings("ignore")
def test_restarts_at_fractions_of_an_epoch():
    module, other = torchs("SGD")
    for options in ({"T_0": 5}, {"T_0": 5, "T_mult": 2}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}):
        o, (_, other) = optimizer(), torchs("SGD")
        mine, theirs = (m.CosineAnnealingWarmRestarts(x, **options) for m, x in ((optim, o), (module, other)))
        for epoch, batch in itertools.product(range(40), range(3)):
            mine.step(epoch + batch / 3)
            theirs.step(epoch + batch / 3)
            np.testing.assert_allclose(rates(o), rates(other), rtol=1e-9, atol=1e-12)
            assert mine.last_epoch == epoch
        mine.step(7)
        mine.step()
        theirs.step(8)
        np.testing.assert_allclose(rates(o), rates(other), rtol=1e-12)


# -------------------------------------------------------------------------------------- formulas

FORMULAS: dict[str, Any] = {
    "lambda": lambda t, base: base * 0.97**t,
    "step": lambda t, base: base * 0.1 ** (t // 30),
    "multi-step": lambda t, base: base * 0.1 ** sum(t >= m for m in (20, 60, 150)),
    "constant of factor": lambda t, base: base * (0.3 if t < 101 else 1),
    "linear": lambda t, base: base * (1 / 3 + 2 / 3 * min(t, 5) / 5),
    "linear down": lambda t, base: base * (1 - 0.99 * min(t, 150) / 150),
    "linear to 0": lambda t, base: base * (0.5 - 0.5 * min(t, 50) / 50),
    "exponential": lambda t, base: base * 0.97**t,
    "polynomial of power": lambda t, base: base * (1 - min(t, 160) / 160) ** 2.5,
    "cosine": lambda t, base: base * (1 + math.cos(math.pi * t / 200)) / 2,
    "cosine, up and down": lambda t, base: 0.01 + (base - 0.01) * (1 + math.cos(math.pi * t / 17)) / 2,
    "restarts": lambda t, base: base * (1 + math.cos(math.pi * (t % 20) / 20)) / 2,
    "warm-up and cosine": lambda t, base: (
        base * (0.1 + 0.9 * t / 20 if t < 20 else (1 + math.cos(math.pi * (t - 20) / 180)) / 2)
    ),
    "chained": lambda t, base: base * (0.1 if t < 40 else 1) * 0.98**t,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_200_steps_follow_the_formula(name):
    found, _ = run(name)
    expected = [[FORMULAS[name](t, base) for base in FIRST] for t in range(STEPS + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-15)


def test_one_cycle_by_hand():
    found, momentum = run("one cycle", "Adam")
    np.testing.assert_allclose(found[0], 0.02, rtol=1e-14)  # 0.5 / 25
    assert found[59] == [0.5, 0.5]  # 30 % of 200, from 0
    np.testing.assert_allclose(found[199], 0.02 / 1e4)
    np.testing.assert_allclose([momentum[t][0][0] for t in (0, 59, 199)], [0.95, 0.85, 0.95])
    assert all(type(b) is tuple and b[1] == 0.99 for b in itertools.chain(*momentum))
    three, _ = run("one cycle, three phases")
    np.testing.assert_allclose([three[t][0] for t in (0, 59, 118, 199)], [0.02, 0.5, 0.02, 0.02 / 1e4])
    single = optimizer()
    assert optim.OneCycleLR(single, 0.5, total_steps=10, pct_start=0.1).get_last_lr() == [0.5, 0.5]  # nothing to rise


def test_plateau_by_hand():
    o = optimizer(lrs=[1.0])
    schedule = optim.ReduceLROnPlateau(o, patience=1, cooldown=2, min_lr=0.05)
    for metric, expected in [
        (5, 1), (4, 1), (4, 1), (math.nan, 0.1),  # two in a row that are no better
        (9, 0.1), (9, 0.1),  # cooling down
        (9, 0.1), (3.9999, 0.05), (3.9, 0.05),  # 3.9999 is not better by 0.01 %; down to min_lr
    ]:  # fmt: skip
        schedule.step(metric)
        assert rates(o) == [pytest.approx(expected)], metric
    for broken in (-math.inf, math.inf, math.nan):
        schedule.step(broken)
    assert schedule.best == 3.9
    for mode in ("min", "max"):
        still = optim.ReduceLROnPlateau(optimizer(), mode, patience=0, threshold=0)
        still.step(2.0)
        still.step(2.0)  # as good is not better
        assert still.get_last_lr() == pytest.approx([lr * 0.1 for lr in FIRST])
    schedule.step(Tensor(3.0))
    schedule.step(np.float32(2))
    assert schedule.best == 2


def test_a_schedule_moves_the_parameters_of_a_compiled_step():
    """The rate is state of a compiled step: a new one is no reason to compile again."""

    def build() -> Any:
        p = Tensor(np.ones(3), requires_grad=True)
        made = optim.SGD([p], lr=0.1)
        schedule = optim.SequentialLR(
            made, [optim.LinearLR(made, 0.1, total_iters=3), optim.CosineAnnealingLR(made, 7)], milestones=[3]
        )

        def train(x: Any) -> Any:
            loss = ops.mean(ops.square(p * x - 1))
            made.zero_grad()
            loss.backward()
            made.step()
            return loss

        return p, schedule, train

    x = np.random.default_rng(0).normal(size=(4, 3))
    (p, schedule, eager), (q, beside, train) = build(), build()
    compiled = minidl.compile(train)
    for _ in range(9):
        eager(x)
        compiled(x)
        schedule.step()
        beside.step()
        np.testing.assert_allclose(q.data, p.data, rtol=1e-12)
    assert compiled.stats["recorded"] == 1

    def both(x: Any) -> Any:
        loss = eager(x)
        schedule.step()
        return loss

    kept = schedule.state_dict()
    with pytest.raises(minidl.CompileError, match=r"schedule\.step"):  # it would happen once, when it is recorded
        minidl.compile(both)(x)
    assert schedule.state_dict() == kept


# -------------------------------------------------------------------------------------- resuming


@every_schedule
@both_optimizers
@pytest.mark.parametrize("at", [0, 1, 77])
def test_resuming_goes_on_to_the_same_bits(name, kind, at):
    expected = run(name, kind)
    o = optimizer(kind)
    schedule = MAKERS[name](optim, o)
    for t in range(at):
        step(schedule, t)
    saved = json.dumps([o.state_dict(), schedule.state_dict()], allow_nan=False)
    for order in (1, -1):
        o = optimizer(kind, lrs=[123.0, 0.0])  # other rates: all comes from the state
        schedule = MAKERS[name](optim, o)
        states = json.loads(saved)
        for owner, state in list(zip([o, schedule], states, strict=True))[::order]:
            owner.load_state_dict(state)
        assert states == json.loads(saved)
        assert schedule.get_last_lr() == rates(o) == expected[0][at]
        assert momentums(o) == expected[1][at]
        for t in range(at, STEPS):
            step(schedule, t)
            assert rates(o) == expected[0][t + 1], t
            assert momentums(o) == expected[1][t + 1], t


@every_schedule
def test_a_state_dict_is_a_copy(name):
    o = optimizer()
    schedule = MAKERS[name](optim, o)
    step(schedule, 0)
    state = schedule.state_dict()
    kept = copy.deepcopy(state)
    for t in range(1, 30):
        step(schedule, t)
    assert state == kept
    later = schedule.state_dict()
    assert later != kept
    for mine in (schedule.get_last_lr(), *(v for v in later.values() if isinstance(v, list))):
        mine.clear()
    schedule.load_state_dict(state)
    assert schedule.state_dict() == kept
    schedule.get_last_lr().clear()
    for value in state.values():
        if isinstance(value, list):
            value.clear()
    assert schedule.state_dict() == kept


def test_options_come_from_the_state():
    o = optimizer()
    saved = optim.StepLR(o, 3, gamma=0.5).state_dict()
    schedule = optim.StepLR(o, 100, gamma=0.9)
    schedule.load_state_dict(saved)
    assert (schedule.step_size, schedule.gamma) == (3, 0.5)
    assert saved == {
        "step_size": 3, "gamma": 0.5, "last_epoch": 0, "base_lrs": FIRST, "_last_lr": FIRST,
    }  # fmt: skip


def damaged(state: dict[str, Any]) -> Any:
    """(what is wrong, a state with that)"""
    for key in state:
        yield f"without {key}", {k: v for k, v in state.items() if k != key}
        for wrong in ("x", None, [], [0.1], ["x", "x"], -5, math.nan, {}, [[1.0], [2.0]], [math.inf, 0.1], True):
            yield f"{key} {wrong!r}", {**state, key: wrong}
    yield "unknown", {**state, "momentum": 1}
    yield "a list", list(state)
    yield "nothing", None


@every_schedule
def test_a_damaged_state_changes_nothing(name):
    o = optimizer()
    schedule = MAKERS[name](optim, o)
    for t in range(5):
        step(schedule, t)
    state, groups = schedule.state_dict(), copy.deepcopy([rates(o), momentums(o)])
    refused = 0
    for what, bad in damaged(copy.deepcopy(state)):
        try:
            schedule.load_state_dict(bad)
        except (KeyError, TypeError, ValueError) as error:
            refused += 1
            assert "load_state_dict: expected" in str(error), what  # noqa: PT017
            assert schedule.state_dict() == state, what
        else:  # None is a best that there is none of, an empty list of milestones is a list
            key = what.split()[0]
            assert (key, bad[key]) in [("best", None), ("best", -5), ("milestones", []), ("cycle_momentum", True),
                                       ("three_phase", True)], what  # fmt: skip
            schedule.load_state_dict(state)
    assert refused > 10 * len(state)
    assert [rates(o), momentums(o)] == groups


def test_states_of_other_schedules_are_refused():
    schedules = {name: make(optim, optimizer()) for name, make in MAKERS.items()}
    for one, other in itertools.permutations(schedules.values(), 2):
        if type(one) is not type(other):
            state = other.state_dict()
            with pytest.raises((KeyError, ValueError), match=f"{type(one).__name__}.load_state_dict: expected"):
                one.load_state_dict(state)
    warm_up, row = schedules["warm-up and cosine"], schedules["four in a row"]
    with pytest.raises(ValueError, match="expected the states of 2 schedules, found 4"):
        warm_up.load_state_dict(row.state_dict())
    state = warm_up.state_dict()
    state["_schedulers"][0] = schedules["exponential"].state_dict()
    with pytest.raises(KeyError, match=r"LinearLR.load_state_dict: .*'end_factor'.* missing and \['gamma'\] unknown"):
        warm_up.load_state_dict(state)


# --------------------------------------------------------------------------------------- the optimizer's part


def test_betas_from_json_are_a_tuple_again():
    """Which a compiled step takes for the same option as before."""
    p = Tensor(np.ones(3), requires_grad=True)
    for kind in (optim.Adam, optim.AdamW):
        made = kind([p], betas=[0.8, 0.9])
        state = json.loads(json.dumps(made.state_dict()))
        assert state["param_groups"][0]["betas"] == [0.8, 0.9]
        made.load_state_dict(state)
        assert made.param_groups[0]["betas"] == (0.8, 0.9)
        assert kind([{"params": p, "betas": [0.5, 0.6]}]).param_groups[0]["betas"] == (0.5, 0.6)

    @minidl.compile
    def train(x: Any) -> Any:
        loss = ops.mean(p * x)
        made.zero_grad()
        loss.backward()
        made.step()
        return loss

    train(np.ones(3))
    state = made.state_dict()
    state["param_groups"][0]["betas"] = [0.8, 0.9]
    made.load_state_dict(state)
    train(np.ones(3))
    assert train.stats["recorded"] == 1


def test_initial_rates_go_through_the_optimizers_state():
    o = optimizer()
    schedule = optim.ExponentialLR(o, 0.5)
    schedule.step()
    assert [g["initial_lr"] for g in o.param_groups] == FIRST
    other = optimizer(lrs=[7.0, 8.0])
    other.load_state_dict(o.state_dict())
    assert optim.StepLR(other, 5).base_lrs == FIRST
    assert rates(other) == [lr * 0.5 for lr in FIRST]
    p = Tensor(np.ones(2), requires_grad=True)
    assert optim.SGD([{"params": p, "lr": 0.1, "initial_lr": 0.4}]).param_groups[0]["initial_lr"] == 0.4
    with pytest.raises(ValueError, match="SGD: expected initial_lr ≥ 0, found -1"):
        optim.SGD([{"params": p, "initial_lr": -1}])


# -------------------------------------------------------------------------------------- properties


@settings(max_examples=60, deadline=None)
@given(
    steps=st.integers(1, 60),
    split=st.floats(0, 1),
    gamma=st.floats(0.5, 1),
    milestones=st.lists(st.integers(0, 60), max_size=5),
    total=st.integers(1, 60),
    lr=st.floats(1e-6, 10),
)
@example(steps=58, split=0.5, gamma=0.5, milestones=[57, 44, 47], total=28, lr=1.0)
def test_any_split_of_a_run_gives_the_same_rates(steps, split, gamma, milestones, total, lr):
    lowest = 0 if milestones else lr / 100  # see the next test

    def make(o: Any) -> Any:
        inner = [optim.LinearLR(o, 0.25, total_iters=total), optim.CosineAnnealingLR(o, total, lowest)]
        row = optim.SequentialLR(o, inner, milestones=[total])
        return optim.ChainedScheduler([row, optim.MultiStepLR(o, milestones, gamma)])

    def advance(schedule: Any, n: int) -> list[Any]:
        found = []
        for _ in range(n):
            schedule.step()
            found.append(schedule.get_last_lr())
        return found

    whole = advance(make(optimizer(lrs=[lr])), steps)
    o = optimizer(lrs=[lr])
    schedule = make(o)
    cut = int(split * steps)
    first = advance(schedule, cut)
    states = json.loads(json.dumps([o.state_dict(), schedule.state_dict()]))
    again = optimizer(lrs=[1.0])
    resumed = make(again)
    again.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert first + advance(resumed, steps - cut) == whole
    assert all(0 <= r[0] <= lr * (1 + 1e-9) for r in whole)


@pytest.mark.filterwarnings("ignore")  # that no optimizer.step() came before
def test_below_its_lowest_a_cosine_goes_on_downwards_as_pytorchs():
    """Where another schedule has halved the rate below eta_min, the formula leads away from it, here to less than 0."""

    def make(m: Any, o: Any) -> Any:
        inner = [m.LinearLR(o, 0.25, total_iters=28), m.CosineAnnealingLR(o, 28, 0.01)]
        return m.ChainedScheduler([m.SequentialLR(o, inner, milestones=[28]), m.MultiStepLR(o, [57, 44, 47], 0.5)])

    module, other = torchs("SGD")
    o = optimizer()
    theirs, ours = make(module, other), make(optim, o)
    found = []
    for _ in range(60):
        theirs.step()
        ours.step()
        np.testing.assert_allclose(rates(o), rates(other), rtol=1e-12)
        found += rates(o)
    assert min(found) < 0


# --------------------------------------------------------------------------------------- bad input

BAD: list[Any] = [
    (lambda o: optim.StepLR("Adam", 3), TypeError, "StepLR: expected an optimizer, found str"),
    (lambda o: optim.OneCycleLR(None, 0.1, 10), TypeError, "OneCycleLR: expected an optimizer"),
    (
        lambda o: optim.ReduceLROnPlateau(o.param_groups),
        TypeError,
        "ReduceLROnPlateau: expected an optimizer, found list",
    ),
    (lambda o: optim.LambdaLR([], decay), TypeError, "LambdaLR: expected an optimizer"),
    (lambda o: optim.StepLR(o, 0), ValueError, "StepLR: expected step_size ≥ 1, found 0"),
    (lambda o: optim.StepLR(o, 2.5), TypeError, "StepLR: expected an integer for step_size, found 2.5"),
    (lambda o: optim.StepLR(o, True), TypeError, "StepLR: expected an integer for step_size, found True"),
    (lambda o: optim.StepLR(o, 3, -0.1), ValueError, "StepLR: expected a finite gamma ≥ 0, found -0.1"),
    (lambda o: optim.StepLR(o, 3, math.nan), ValueError, "StepLR: expected a finite gamma ≥ 0, found nan"),
    (lambda o: optim.StepLR(o, 3, 10**400), ValueError, "StepLR: expected a finite gamma"),
    (lambda o: optim.StepLR(o, 3, "0.1"), TypeError, "StepLR: expected a number for gamma, found '0.1'"),
    (lambda o: optim.StepLR(o, 3, last_epoch=-2), ValueError, "StepLR: expected last_epoch ≥ -1"),
    (lambda o: optim.StepLR(o, 3, last_epoch=4), KeyError, r"StepLR: expected initial_lr in param_groups\[0\]"),
    (lambda o: optim.MultiStepLR(o, 30), TypeError, "MultiStepLR: expected a list for milestones, found 30"),
    (lambda o: optim.MultiStepLR(o, "30"), TypeError, "MultiStepLR: expected a list for milestones"),
    (lambda o: optim.MultiStepLR(o, [3, -1]), ValueError, r"MultiStepLR: expected milestones\[1\] ≥ 0, found -1"),
    (lambda o: optim.MultiStepLR(o, [3, 1.5]), TypeError, r"MultiStepLR: expected an integer for milestones\[1\]"),
    (lambda o: optim.ConstantLR(o, 0), ValueError, "ConstantLR: expected factor > 0 and ≤ 1, found 0"),
    (lambda o: optim.ConstantLR(o, 1.1), ValueError, "ConstantLR: expected factor > 0 and ≤ 1, found 1.1"),
    (lambda o: optim.ConstantLR(o, total_iters=0), ValueError, "ConstantLR: expected total_iters ≥ 1"),
    (lambda o: optim.LinearLR(o, 0), ValueError, "LinearLR: expected start_factor > 0 and ≤ 1, found 0"),
    (lambda o: optim.LinearLR(o, end_factor=2), ValueError, "LinearLR: expected end_factor ≥ 0 and ≤ 1, found 2"),
    (lambda o: optim.LinearLR(o, total_iters=0), ValueError, "LinearLR: expected total_iters ≥ 1"),
    (lambda o: optim.ExponentialLR(o, None), TypeError, "ExponentialLR: expected a number for gamma, found None"),
    (lambda o: optim.PolynomialLR(o, 0), ValueError, "PolynomialLR: expected total_iters ≥ 1"),
    (lambda o: optim.PolynomialLR(o, 5, -1), ValueError, "PolynomialLR: expected a finite power ≥ 0"),
    (lambda o: optim.CosineAnnealingLR(o, 0), ValueError, "CosineAnnealingLR: expected T_max ≥ 1"),
    (lambda o: optim.CosineAnnealingLR(o, 9, -1), ValueError, "CosineAnnealingLR: expected a finite eta_min ≥ 0"),
    (lambda o: optim.CosineAnnealingWarmRestarts(o, 0), ValueError, "WarmRestarts: expected T_0 ≥ 1"),
    (lambda o: optim.CosineAnnealingWarmRestarts(o, 2, 0), ValueError, "WarmRestarts: expected T_mult ≥ 1"),
    (
        lambda o: optim.CosineAnnealingWarmRestarts(o, 2).step(-1),
        ValueError,
        "WarmRestarts: expected a finite epoch ≥ 0",
    ),
    (lambda o: optim.LambdaLR(o, 0.5), TypeError, "LambdaLR: expected a function for lr_lambda, found 0.5"),
    (lambda o: optim.LambdaLR(o, [decay]), ValueError, "LambdaLR: expected lr_lambda for 2 groups, found 1"),
    (lambda o: optim.LambdaLR(o, lambda t: math.nan), ValueError, r"LambdaLR: expected a finite λ\(0\) ≥ 0, found nan"),
    (lambda o: optim.LambdaLR(o, lambda t: None), TypeError, r"LambdaLR: expected a number for λ\(0\), found None"),
    (lambda o: optim.OneCycleLR(o, 0.1), ValueError, "OneCycleLR: expected total_steps, or epochs and steps_per_epoch"),
    (lambda o: optim.OneCycleLR(o, 0.1, epochs=3), ValueError, "OneCycleLR: expected total_steps, or epochs"),
    (lambda o: optim.OneCycleLR(o, 0.1, epochs=3, steps_per_epoch=0), ValueError, "expected steps_per_epoch ≥ 1"),
    (lambda o: optim.OneCycleLR(o, 0.1, 0), ValueError, "OneCycleLR: expected total_steps ≥ 1"),
    (lambda o: optim.OneCycleLR(o, [0.1], 9), ValueError, "OneCycleLR: expected max_lr for 2 groups, found 1"),
    (lambda o: optim.OneCycleLR(o, -1, 9), ValueError, r"OneCycleLR: expected a finite max_lrs\[0\] ≥ 0, found -1"),
    (lambda o: optim.OneCycleLR(o, 0.1, 9, pct_start=1.1), ValueError, "expected pct_start ≥ 0 and ≤ 1, found 1.1"),
    (lambda o: optim.OneCycleLR(o, 0.1, 9, anneal_strategy="cosin"), ValueError, "found 'cosin'; did you mean 'cos'"),
    (lambda o: optim.OneCycleLR(o, 0.1, 9, max_momentum=1), ValueError, r"max_momentums\[0\] ≥ 0 and < 1, found 1"),
    (lambda o: optim.OneCycleLR(o, 0.1, 9, div_factor=0), ValueError, "expected a finite div_factor > 0, found 0"),
    (
        lambda o: optim.OneCycleLR(o, 0.1, 9, three_phase=1),
        TypeError,
        "True or False for three_phase, found 1",
    ),
    (
        lambda o: optim.ReduceLROnPlateau(o, "mini"),
        ValueError,
        "Plateau: .* found 'mini'; did you mean 'min'",
    ),
    (lambda o: optim.ReduceLROnPlateau(o, threshold_mode=3), ValueError, "expected threshold_mode to be one of"),
    (lambda o: optim.ReduceLROnPlateau(o, factor=1), ValueError, "expected factor ≥ 0 and < 1, found 1"),
    (lambda o: optim.ReduceLROnPlateau(o, patience=-1), ValueError, "expected patience ≥ 0, found -1"),
    (lambda o: optim.ReduceLROnPlateau(o, min_lr=[0.1]), ValueError, "expected min_lr for 2 groups, found 1"),
    (lambda o: optim.ReduceLROnPlateau(o).step(None), TypeError, "expected a number as the metric, found NoneType"),
    (lambda o: optim.ReduceLROnPlateau(o).step({"loss": 1}), TypeError, "expected a number as the metric, found dict"),
    (lambda o: optim.SequentialLR(o, [], []), ValueError, "SequentialLR: expected at least one schedule, found none"),
    (lambda o: optim.ChainedScheduler([]), ValueError, "ChainedScheduler: expected at least one schedule, found none"),
    (lambda o: optim.ChainedScheduler([3]), TypeError, "ChainedScheduler: expected schedules, found int at 0"),
    (lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []), ValueError, "at 0 needs a metric"),
    (lambda o: optim.SequentialLR(o, [optim.StepLR(optimizer(), 3)], []), ValueError, "found another one's at 0"),
    (
        lambda o: optim.ChainedScheduler([optim.StepLR(x, 3) for x in (o, optimizer())]),
        ValueError,
        "expected schedules of one optimizer, found another one's at 1",
    ),
    (
        lambda o: optim.SequentialLR(o, [optim.StepLR(o, 3), optim.StepLR(o, 3)], [1, 2]),
        ValueError,
        r"SequentialLR: expected 1 milestones in order for 2 schedules, found \[1, 2\]",
    ),
    (
        lambda o: optim.SequentialLR(o, [optim.StepLR(o, 3)] * 3, [5, 2]),
        ValueError,
        r"expected 2 milestones in order for 3 schedules, found \[5, 2\]",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message[:50] for _, _, message in BAD])
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make(optimizer())


@pytest.mark.parametrize("n", [n for n, (_, _, message) in enumerate(BAD) if "at 0" not in message])
def test_bad_options_leave_the_optimizer_alone(n):
    o = optimizer()
    before = copy.deepcopy(o.state_dict())
    make, error, message = BAD[n]
    if any(word in message for word in ("metric", "epoch ≥ 0", "one's at 1", "milestones in order")):
        return  # there it is made before it is used wrongly
    with pytest.raises(error):
        make(o)
    assert o.state_dict() == before


def test_one_cycle_ends():
    o = optimizer()
    schedule = optim.OneCycleLR(o, 0.5, total_steps=3)
    for _ in range(3):
        schedule.step()
    before = copy.deepcopy([o.state_dict(), schedule.state_dict()])
    with pytest.raises(ValueError, match="OneCycleLR: expected at most 3 steps, found one more"):
        schedule.step()
    assert [o.state_dict(), schedule.state_dict()] == before


def test_one_cycle_needs_a_momentum_to_cycle():
    class Plain(optim.Optimizer):
        pass

    p = Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(ValueError, match="OneCycleLR: expected an optimizer with momentum or betas"):
        optim.OneCycleLR(Plain([p], {"lr": 0.1}), 0.5, 10)
    schedule = optim.OneCycleLR(Plain([p], {"lr": 0.1}), 0.5, 10, cycle_momentum=False)
    assert schedule.get_last_lr() == [pytest.approx(0.02)]


@every_schedule
def test_a_group_added_later(name):
    o = optimizer()
    schedule = MAKERS[name](optim, o)
    o.add_param_group({"params": Tensor(np.ones(2), requires_grad=True), "lr": 0.5})
    before, state = rates(o), schedule.state_dict()
    with pytest.raises(ValueError, match="expected the 2 groups that it was made for, found 3"):
        step(schedule, 0)
    assert (rates(o), schedule.state_dict()) == (before, state)


# ------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 90])
@pytest.mark.parametrize("name", list(optim.SCHEDULES))
def test_named_schedules_fit_a_run(name, epochs):
    """Of any length: the rate that was given is the highest, and unless the run is too short, the last is lower."""
    steps_per_epoch = 5
    o = optimizer("Adam")
    schedule, unit = optim.SCHEDULES[name](o, epochs, steps_per_epoch)
    assert unit in ("epoch", "step")
    found = [rates(o)]
    betas = momentums(o)
    for t in range(epochs * steps_per_epoch):
        if unit == "step" or (t + 1) % steps_per_epoch == 0:
            schedule.step(*[1.0] * schedule.needs_metric)
        found.append(rates(o))
    used = np.array(found[:-1])
    assert (used > 0).all()
    assert (used <= np.array(FIRST) * (1 + 1e-12)).all()
    np.testing.assert_allclose(used[:, 1], used[:, 0] * 0.3, rtol=1e-9)  # each group from its own
    assert momentums(o) == betas
    if epochs > 3:
        assert used[-1][0] < 0.2 * FIRST[0]
        assert max(used[:, 0]) == pytest.approx(FIRST[0], rel=0.02)


def test_named_schedules_are_what_they_say():
    def made(name: str) -> Any:
        return optim.SCHEDULES[name](optimizer(), 90, 10)

    assert (made("step")[0].step_size, made("step")[1]) == (30, "epoch")
    assert (made("multi-step")[0].milestones, made("multi-step")[1]) == ([45, 68], "epoch")
    assert made("exponential")[0].gamma ** 90 == pytest.approx(0.01)
    assert (made("cosine")[0].T_max, made("cosine")[1]) == (900, "step")
    up, unit = made("warm-up")
    assert unit == "step"
    found = [up.get_last_lr()[0]]
    for _ in range(900):
        up.step()
        found.append(up.get_last_lr()[0])
    np.testing.assert_allclose(found[:46], np.arange(1, 47) / 46 * 0.1, rtol=1e-12)
    assert found.index(max(found)) == 45
    assert found[-1] == pytest.approx(0, abs=1e-12)
    cycle, unit = made("one-cycle")
    assert (cycle.total_steps, cycle.max_lrs, cycle.cycle_momentum, unit) == (900, FIRST, False, "step")
    assert (made("plateau")[0].patience, made("plateau")[1]) == (9, "epoch")


def test_unknown_names_suggest_the_nearest():
    for wrong, near in {"cosin": "cosine", "warmup": "warm-up", "onecycle": "one-cycle", "plato": "plateau"}.items():
        with pytest.raises(KeyError, match=f"expected a schedule of .*, found '{wrong}'; did you mean '{near}'"):
            optim.SCHEDULES[wrong]
    assert "cosin" not in optim.SCHEDULES
    assert optim.SCHEDULES.get("cosin") is None
    for name in optim.SCHEDULES:
        with pytest.raises(ValueError, match=f"schedule {name}: expected epochs ≥ 1, found 0"):
            optim.SCHEDULES[name](optimizer(), 0, 5)
        with pytest.raises(ValueError, match=f"schedule {name}: expected steps_per_epoch ≥ 1, found -1"):
            optim.SCHEDULES[name](optimizer(), 5, -1)
        with pytest.raises(TypeError, match=f"schedule {name}: expected an optimizer, found NoneType"):
            optim.SCHEDULES[name](None, 5, 5)
