"""What a compiled step works on may change between calls, and recording it touches nothing that others see."""

import itertools
import re
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

import minidl
from minidl import CompileError, Tensor, nn, ops, optim
from minidl.compiler.reach import Guard
from minidl.random import default_generator

X = np.random.default_rng(0).normal(size=(3, 2))


def same(step, compiled, *args):
    """Twice, for what the first call may have left."""
    for _ in range(2):
        found, expected = compiled(*args), step(*args)
        np.testing.assert_allclose(getattr(found, "data", found), getattr(expected, "data", expected), rtol=1e-12)


# ------------------------------------------------------------------------------------- constants


@pytest.mark.parametrize("first", [np.eye(3), np.eye(3).tolist(), np.eye(3)[::-1], np.asfortranarray(np.eye(3))])
def test_a_constant_as_first_operand(first):
    step = lambda x: ops.matmul(first, x)  # noqa: E731
    same(step, minidl.compile(step), X)


def test_full_batch_data_of_the_closure():
    rng = np.random.default_rng(1)
    data, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 1))

    def build():
        minidl.manual_seed(0)
        model = nn.Dense(2, 1, dtype=np.float64)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step():
            loss = ops.mse(model(data), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, compiled = build(), minidl.compile(build())
    for _ in range(3):
        assert compiled().item() == pytest.approx(eager().item(), rel=1e-12)


@pytest.mark.parametrize("order", ["plain", "strided", "read-only", "repeated", "big-endian"])
def test_a_constant_that_is_changed_in_place(order):
    base = np.arange(12.0).reshape(3, 4)
    held = {
        "plain": base,
        "strided": base[:, ::2],
        "read-only": base.view(),
        "repeated": np.broadcast_to(base[0], (3, 4)),
        "big-endian": base.astype(">f8"),
    }[order]
    held.flags.writeable = order not in ("read-only", "repeated")
    changed = base if order != "big-endian" else held

    def step(x):
        return ops.add(held, x), held * 2 + x

    compiled = minidl.compile(step)
    for _ in range(3):
        for found, expected in zip(compiled(1.0 + np.zeros(1)), step(1.0 + np.zeros(1)), strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
        changed += 1
    assert compiled.stats["recorded"] == 1


def test_values_of_constants_that_python_looks_at():
    scale, picked, mask = np.array([2.0, 3.0]), np.array([2, 0]), np.array([True, False, True])

    def step(x):
        y = x[picked] + x[mask]
        return y * 2 if float(scale[0]) > 2 else y + np.linalg.norm(scale)

    compiled = minidl.compile(step)
    same(step, compiled, X)
    scale[0] = 3
    same(step, compiled, X)
    picked[0] = 1
    same(step, compiled, X)
    mask[...] = [False, True, True]
    same(step, compiled, X)
    assert compiled.stats["recorded"] == 4


def test_a_kernel_that_writes_into_a_plain_array():
    from minidl.ops.activation import relu_forward

    def step(x):
        y = np.empty(3)
        relu_forward(x, y)
        return y

    with pytest.raises(CompileError, match="relu_forward write into a plain array"):
        minidl.compile(step)(np.ones(3))


# ----------------------------------------------------------------------------------- stale state


class Holder:
    def __init__(self):
        minidl.manual_seed(0)
        self.model = nn.Sequential(nn.Dense(2, 2, dtype=np.float64), nn.Dense(2, 2, dtype=np.float64))
        self.items = [nn.Dense(2, 2, dtype=np.float64), 2.0]
        self.named = {"a": nn.Dense(2, 2, dtype=np.float64), "scale": 3.0}
        self.offset = np.ones(2)
        self.factor = 1.5

    def step(self, x):
        y = self.items[0](self.model(x)) * self.items[1]
        return self.named["a"](y) * self.named["scale"] * self.factor + self.offset


def dense():
    return nn.Dense(2, 2, dtype=np.float64)


CHANGES = {
    "a layer": lambda h: h.model.__setitem__(1, dense()),
    "a layer more": lambda h: h.model.append(dense()),
    "a layer less": lambda h: h.model.pop(),
    "an attribute": lambda h: setattr(h, "model", dense()),
    "a list's item": lambda h: h.items.__setitem__(0, dense()),
    "a list's number": lambda h: h.items.__setitem__(1, 5.0),
    "a dict's item": lambda h: h.named.__setitem__("a", dense()),
    "a dict's number": lambda h: h.named.__setitem__("scale", 4.0),
    "an array": lambda h: setattr(h, "offset", np.full(2, 7.0)),
    "an array of other shape": lambda h: setattr(h, "offset", np.full(1, 7.0)),
    "a number": lambda h: setattr(h, "factor", -0.0),
    "a parameter": lambda h: setattr(h.model[0], "weight", Tensor(np.ones((2, 2)), requires_grad=True)),
    "a bias": lambda h: setattr(h.model[0], "bias", None),
    "values": lambda h: setattr(h.model[0].weight, "data", np.ones((2, 2))),
    "what another list holds": lambda h: setattr(h, "items", [dense(), 2.0]),
    "a method": lambda h: setattr(h.model, "forward", lambda x: x),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    holder = Holder()
    compiled = minidl.compile(holder.step)
    same(holder.step, compiled, X)
    CHANGES[change](holder)
    same(holder.step, compiled, X)
    assert compiled.stats["recorded"] <= 2


def test_there_and_back_records_twice():
    holder = Holder()
    compiled = minidl.compile(holder.step)
    first, second = holder.model[1], dense()
    for n in range(6):
        holder.model[1] = second if n % 2 else first
        same(holder.step, compiled, X)
    assert compiled.stats["recorded"] == 2
    for _ in range(12):  # layers that never return are not kept for ever
        holder.model[1] = dense()
        same(holder.step, compiled, X)
    assert len(compiled._states) <= len(compiled._programs) + 1


def test_equal_numbers_do_not_record_again():
    holder = Holder()
    compiled = minidl.compile(holder.step)
    for n in range(1, 4):
        holder.factor = float(f"{n}.5") - n  # 0.5, another object each time
        same(holder.step, compiled, X)
    assert compiled.stats["recorded"] == 1


def test_zeros_have_signs():
    factor = 0.0

    def step(x):
        return np.copysign(x, factor)

    compiled = minidl.compile(step)
    for factor in (0.0, -0.0, 0.0):  # noqa: B007   the step's
        same(step, compiled, X)


def test_an_item_that_moves_on_is_seen():
    guard, first, second = Guard(), [1.0, 2.0], [3.0]
    guard.watch(first)
    guard.watch(second)
    guard.take()
    assert guard.holds()
    second.insert(0, first.pop())
    assert not guard.holds()


def test_a_gradient_that_is_given_as_a_constant():
    weight, given = np.ones((2, 2)), np.arange(6.0).reshape(3, 2)

    def step(x):
        x = Tensor(x, requires_grad=True)
        y = ops.relu(ops.matmul(x, weight))
        y.backward(given)
        return x.grad

    compiled = minidl.compile(step)
    same(step, compiled, X)
    given[0] = 9
    same(step, compiled, X)

    def fresh(x):
        x = Tensor(x, requires_grad=True)
        ops.relu(ops.matmul(x, weight)).backward(np.full((3, 2), 0.5))
        return x.grad

    same(fresh, minidl.compile(fresh), X)


def test_layers_that_a_step_makes_draw_random_numbers():
    before = default_generator().bit_generator.state
    with pytest.raises(CompileError, match="draws random numbers"):
        minidl.compile(lambda x: nn.Dense(2, 2, dtype=np.float64)(x))(X)
    assert default_generator().bit_generator.state == before


MODEL = dense()
OPTIMIZER = optim.SGD(MODEL.parameters(), lr=0.1)
SCALE = 2.0


def of_globals(x):
    loss = ops.mean(ops.square(MODEL(x))) * SCALE
    OPTIMIZER.zero_grad()
    loss.backward()
    OPTIMIZER.step()
    return loss


def test_globals_that_are_bound_anew(monkeypatch):
    compiled = minidl.compile(of_globals)
    before = MODEL.weight.data.copy()
    compiled(X)
    assert not np.array_equal(MODEL.weight.data, before)
    for _ in range(2):  # as when a notebook's cell runs again
        model = dense()
        monkeypatch.setitem(globals(), "MODEL", model)
        monkeypatch.setitem(globals(), "OPTIMIZER", optim.SGD(model.parameters(), lr=0.1))
        start = model.state_dict()["weight"].copy()
        expected = (np.square(model(X).data)).mean() * SCALE
        assert compiled(X).item() == pytest.approx(expected, rel=1e-12)
        assert not np.array_equal(model.weight.data, start)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    expected = (np.square(MODEL(X).data)).mean() * SCALE
    assert compiled(X).item() == pytest.approx(expected, rel=1e-12)


def test_frozen_parameters_and_other_options_are_seen():
    model = dense()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x):
        loss = ops.mean(ops.square(model(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    compiled = minidl.compile(step)
    compiled(X)
    model.weight.requires_grad = False
    before = model.weight.data.copy(), model.bias.data.copy()
    compiled(X)
    assert np.array_equal(model.weight.data, before[0])
    assert not np.array_equal(model.bias.data, before[1])
    optimizer.param_groups[0]["weight_decay"] = 1.0
    optimizer.param_groups[0]["lr"] = 0.0
    bias = model.bias.data.copy()
    compiled(X)
    assert np.array_equal(model.bias.data, bias)
    assert compiled.stats["recorded"] == 3


def test_an_optimizers_state_may_be_dropped():
    def build():
        minidl.manual_seed(0)
        model = dense()
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def step(x):
            loss = ops.mean(ops.square(model(x)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return optimizer, step

    (first, eager), (second, step) = build(), build()
    compiled = minidl.compile(step)
    for n in range(5):
        assert compiled(X).item() == pytest.approx(eager(X).item(), rel=1e-12)
        if n == 2:
            first.state, second.state = {}, {}


# ------------------------------------------------------------------------------------ in Python


def test_what_a_step_does_in_python_is_done_once_and_to_the_original():
    log, seen, count = [], {}, 0

    class Trainer:
        model = dense()

        def __init__(self):
            self.inner, self.steps = dense(), []

        def step(self, x):
            self.steps.append(len(self.steps))
            log.append("step")
            seen["x"] = x.shape
            return self.inner(x)

    trainer = Trainer()
    compiled = minidl.compile(trainer.step)
    for _ in range(3):
        compiled(X)
    assert (log, seen, trainer.steps, count) == (["step"], {"x": (3, 2)}, [0], 0)
    assert compiled.stats["recorded"] == 1


def test_a_number_that_python_changes_is_never_stale():
    model, n = dense(), 0

    def step(x):
        nonlocal n
        n += 1
        return model(x) * n

    compiled = minidl.compile(step)
    np.testing.assert_allclose(compiled(X).data, model(X).data)
    assert n == 1
    with pytest.raises(CompileError, match="changes n in Python at each call"):
        compiled(X)
    assert n == 1


def test_what_is_computed_is_not_kept_in_python():
    model, kept = dense(), {}

    def step(x):
        kept["y"] = model(x)
        return kept["y"]

    with pytest.raises(CompileError, match="keeps what it computes in y"):
        minidl.compile(step)(X)
    assert not kept


class Shared(nn.Module):
    scale = Tensor(np.full(2, 3.0), requires_grad=True)

    def forward(self, x):
        return x * self.scale


def test_a_parameter_that_is_not_found_is_an_error():
    module = Shared()
    unnamed = Tensor(np.ones(2), requires_grad=True)
    hidden = weakref.ref(unnamed)

    def step(x):
        loss = ops.mean(module(x) * hidden())
        loss.backward()
        return loss

    with pytest.raises(CompileError, match="differentiates through a Tensor"):
        minidl.compile(step)(X)
    assert Shared.scale.grad is None


class Slotted:
    __slots__ = ("n",)


class Counting:
    n = 0


COUNTED = {
    "an attribute": Counting,
    "a slot": Slotted,
    "a namespace": types.SimpleNamespace,
    "a class": lambda: type("Class", (), {"__module__": __name__}),
}


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("kind", COUNTED)
def test_what_a_step_changes_in_an_object_is_told_once(kind, fallback):
    held = COUNTED[kind]()
    held.n = 0

    def step(x):
        held.n += 1
        return x * held.n

    compiled = minidl.compile(step, fallback=fallback)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = []
        for _ in range(8):
            try:
                found.append(compiled(np.ones(1)).item())
            except CompileError as error:
                assert re.search("changes (n|what it works on) .*at each call", str(error))  # noqa: PT017
                break
    assert found == list(range(1, len(found) + 1))
    assert (len(found), len(told)) == (8, 1) if fallback else len(found) < 4 and not told
    assert compiled.stats["recorded"] <= 3


def test_what_a_step_takes_from_an_iterator():
    for numbers in (itertools.count(1), iter([1, 2, 3]), (n for n in (1, 2, 3))):
        step = lambda x, numbers=numbers: x * next(numbers)  # noqa: E731
        with pytest.raises(CompileError, match="takes the next of the iterator"):
            minidl.compile(step)(np.ones(1))
        compiled = minidl.compile(step, fallback=True)
        with pytest.warns(RuntimeWarning, match="running without compilation"):
            found = [compiled(np.ones(1)).item() for _ in range(3)]
        assert found == [1, 2, 3]


def test_attributes_that_a_step_adds_or_hides():
    model = nn.Dropout(0.5)

    def memo(x):
        memo.mask = getattr(memo, "mask", None) or (x.shape[0],)
        return x * memo.mask[0]

    compiled = minidl.compile(memo)
    assert [compiled(np.ones(2)).tolist() for _ in range(4)] == [[2, 2]] * 4

    def turning(x):
        model.train(not model.training)
        return x * (1 if model.training else 2)

    compiled = minidl.compile(turning, fallback=True)
    with pytest.warns(RuntimeWarning, match="changes training"):
        found = [compiled(np.ones(1)).item() for _ in range(4)]
    assert found == [2, 1, 2, 1]


def test_a_step_in_a_step():
    model = dense()
    inner = minidl.compile(lambda x: model(x) * 2)
    outer = minidl.compile(lambda x: inner(x) + 1)
    np.testing.assert_allclose(outer(X).data, model(X).data * 2 + 1)
    inner(X)
    np.testing.assert_allclose(outer(X + 1).data, model(X + 1).data * 2 + 1)


# --------------------------------------------------------------------------------- other threads


def test_recording_touches_nothing_that_another_thread_sees():
    minidl.manual_seed(0)
    model = nn.Sequential(dense(), nn.BatchNorm1d(2, dtype=np.float64), nn.Dropout(0.5), dense())
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    other = minidl.compile(lambda x: model[0](x))
    other(X)
    expected = model[0](X).data.copy()
    here, there, failures, recorded = threading.Event(), threading.Event(), [], []

    def forward(x):
        if not there.is_set():
            recorded.append(type(x).__name__)
            here.set()
            assert there.wait(60)
        return model(x)

    def step(x):
        loss = ops.mean(ops.square(forward(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def look():
        try:
            assert here.wait(60)
            for _ in range(3):
                nn.Dense(4, 4)  # draws from the default generator
            default_generator().random()
            np.testing.assert_array_equal(model[0](X).data, expected)
            np.testing.assert_array_equal(other(X).data, expected)
            assert minidl.compile(lambda x: ops.relu(x) + 1)(np.ones(2)).data.tolist() == [2, 2]
            assert not optimizer.state
            assert all(type(p.data) is np.ndarray and p.grad is None for p in model.parameters())
            assert all(type(b) is np.ndarray for b in model.state_dict().values())
            assert type(optimizer.param_groups[0]["lr"]) is float
        except BaseException as error:
            failures.append(error)
        finally:
            there.set()

    thread = threading.Thread(target=look)
    thread.start()
    compiled = minidl.compile(step)
    first = compiled(X).item()
    thread.join(60)
    assert not failures
    assert recorded == ["Traced"]
    assert np.isfinite(first)
    assert compiled.stats["recorded"] == 1


def test_two_threads_record_at_the_same_time():
    barrier, found = threading.Barrier(2, timeout=60), {}

    def run(n):
        model = nn.Dense(2, 2, dtype=np.float64)
        met = []

        def step(x):
            if not met:
                met.append(barrier.wait())
            return model(x)

        found[n] = np.array_equal(minidl.compile(step)(X).data, model(X).data)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert found == {0: True, 1: True}


@pytest.mark.parametrize("kind", ["list", "dict", "set", "attribute"])
def test_a_step_that_computes_with_what_it_adds_to_is_told(kind):
    """Adding happens in the recording call only: what is computed from it would be of that call for ever."""
    log, table, seen, thing = [], {}, set(), types.SimpleNamespace(rows=[])

    def step(x):
        if kind == "list":
            log.append("call")
            return x * len(log)
        if kind == "dict":
            table[len(table)] = 1
            return x + np.array(list(table), float).sum()
        if kind == "set":
            seen.add(len(seen))
            return x[: len(seen)] * 2.0
        thing.rows.append(3.0)
        return x * sum(thing.rows)

    x = np.arange(1.0, 6.0)
    with pytest.raises(minidl.CompileError, match=r"the step adds to .* in Python, .* and computes with what is in it"):
        minidl.compile(step)(x)
    assert not log
    assert not table
    assert not seen
    assert not thing.rows
    found = minidl.compile(step, fallback=True)
    with pytest.warns(RuntimeWarning, match="computes with what is in it"):
        first = found(x)
    values = [first, found(x), found(x)]
    del log[:], thing.rows[:]
    table.clear(), seen.clear()
    expected = [step(x) for _ in range(3)]
    assert [np.asarray(v).tolist() for v in values] == [np.asarray(v).tolist() for v in expected]


def test_a_step_that_only_keeps_a_log_is_compiled():
    log, marks = [], {}

    def step(x):
        log.append(len(log))
        marks[len(log)] = "called"
        return x * 2.0

    compiled = minidl.compile(step)
    assert [compiled(np.ones(2)).tolist() for _ in range(3)] == [[2.0, 2.0]] * 3
    assert log == [0]
    assert list(marks) == [1]
