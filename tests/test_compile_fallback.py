"""What nobody foresaw ends in the eager path, with one warning, the same numbers and nothing half changed."""

import random
import threading
import warnings

import numpy as np
import pytest

import minidl
from minidl import CompileError, nn, ops, optim
from minidl.compiler import program as programs
from minidl.compiler import recorder
from minidl.compiler.epoch import Epoch
from minidl.compiler.program import Program

X = np.random.default_rng(0).normal(size=(4, 2))


def build():
    minidl.manual_seed(0)
    model = nn.Sequential(nn.Dense(2, 3, dtype=np.float64), nn.Dropout(0.5), nn.Dense(3, 1, dtype=np.float64))
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    def step(x):
        loss = ops.mean(ops.square(model(x)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def broken(*_, **__):
    raise LookupError("a fault in the compiler")


FAULTS = {
    "recording a call": (recorder.Recorder, "call"),
    "the end of the recording": (recorder.Recorder, "rename"),
    "planning": (programs, "Plan"),
    "lowering": (programs, "Lower"),
    "compiling": (Program, "compile"),
}


@pytest.mark.parametrize("where", FAULTS)
def test_a_fault_anywhere(where, monkeypatch):
    model, _, eager = build()
    expected = [eager(X).item() for _ in range(3)]
    weights = [p.data.copy() for p in model.parameters()]
    owner, name = FAULTS[where]
    monkeypatch.setattr(owner, name, broken)
    other, optimizer, step = build()
    state = minidl.random.default_generator().bit_generator.state
    with pytest.raises(CompileError, match="LookupError: a fault in the compiler"):
        minidl.compile(step)(X)
    assert not optimizer.state
    assert all(type(p.data) is np.ndarray and p.grad is None for p in other.parameters())
    assert minidl.random.default_generator().bit_generator.state == state
    compiled = minidl.compile(step, fallback=True)
    with pytest.warns(
        RuntimeWarning, match="LookupError: a fault in the compiler.*running without compilation"
    ) as told:
        found = [compiled(X).item() for _ in range(3)]
    assert len(told) == 1
    assert found == expected
    assert all(np.array_equal(p.data, w) for p, w in zip(other.parameters(), weights, strict=True))


def classes():
    """(model, optimizer, step) that sorts rows into three classes, and one that clears gradients first."""
    for first in (False, True):
        minidl.manual_seed(0)
        model = nn.Dense(2, 3, dtype=np.float64)
        optimizer = optim.Adam(model.parameters(), lr=0.1)

        def step(x, y, model=model, optimizer=optimizer, first=first):
            if first:
                optimizer.zero_grad()
            loss = ops.softmax_cross_entropy(model(x), y)
            if not first:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        yield model, optimizer, step


def each(f, x, y, places):
    for at in places:
        f(x[at : at + 4], y[at : at + 4])


def assert_alike(model, optimizer, other, others):
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_array_equal(p.grad, q.grad)
        assert optimizer.state[p]["step"] == others.state[q]["step"]


@pytest.mark.parametrize("wrong", [0, 1, 2, 5, 7])
@pytest.mark.parametrize("way", ["call", "run"])
def test_an_error_of_the_functions_own_leaves_what_the_eager_path_leaves(way, wrong):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 2)), rng.integers(0, 3, 32)
    y[4 * wrong + 1] = 3
    loader = minidl.data.Loader(x, y, batch_size=4)
    for (model, optimizer, step), (other, others, eager) in zip(classes(), classes(), strict=True):
        compiled = minidl.compile(step, fallback=True)
        for f in (compiled, eager):
            for _ in range(2):  # so that there are gradients before
                f(x[:4], np.zeros(4, int))
            with pytest.raises(ValueError, match="labels from 0 to 2, found 3 in row 1"):
                f.run(loader) if f is compiled and way == "run" else each(f, x, y, range(0, 32, 4))
        assert_alike(model, optimizer, other, others)
        for f in (compiled, eager):
            f(x[:4], np.zeros(4, int))
        assert_alike(model, optimizer, other, others)


@pytest.mark.parametrize("where", ["a call", "an epoch", "the epoch's loop"])
def test_a_fault_of_what_runs_the_program(where, monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 3
    (model, optimizer, step), (other, others, eager) = (next(classes()) for _ in range(2))
    compiled = minidl.compile(step, fallback=True)
    compiled(x[:4], y[:4]), eager(x[:4], y[:4])
    owner, name = {"a call": (Program, "run"), "an epoch": (Epoch, "__init__"), "the epoch's loop": (Epoch, "_build")}[
        where
    ]
    monkeypatch.setattr(owner, name, broken)
    with pytest.warns(RuntimeWarning, match="LookupError.*running without compilation") as told:
        compiled(x[:4], y[:4]) if where == "a call" else compiled.run(minidl.data.Loader(x, y, batch_size=4))
    assert len(told) == 1
    each(eager, x, y, (0,) if where == "a call" else (0, 4, 8))
    assert_alike(model, optimizer, other, others)


DRAWS = {
    "np.random": lambda x: x + np.random.rand(2),  # noqa: NPY002
    "np.random.choice": lambda x: x * np.random.choice([1.0, 2.0]),  # noqa: NPY002
    "random": lambda x: x + random.random(),
    "random.gauss": lambda x: x + random.gauss(0, 1),
}


def reseeded():
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002


@pytest.mark.parametrize("what", DRAWS)
def test_draws_from_the_generators_that_all_share(what):
    step, before = DRAWS[what], (random.getstate(), np.random.get_state())  # noqa: NPY002
    try:
        reseeded()
        expected = [step(np.ones(2)).tolist() for _ in range(3)]
        reseeded()
        with pytest.raises(CompileError, match="draws random numbers in Python"):
            minidl.compile(step)(np.ones(2))
        compiled = minidl.compile(step, fallback=True)
        with pytest.warns(RuntimeWarning, match="draws random numbers"):
            found = [compiled(np.ones(2)).tolist() for _ in range(3)]
        assert found == expected
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def test_other_threads_may_draw_from_them():
    stop, begun = threading.Event(), threading.Event()

    def drawing():
        while not stop.is_set():
            np.random.rand(3), random.random()  # noqa: NPY002
            begun.set()

    thread = threading.Thread(target=drawing)
    thread.start()
    try:
        begun.wait(60)
        for n in range(5):
            assert minidl.compile(lambda x, n=n: ops.relu(x) * 2.0 + n)(np.ones(2)).data.tolist() == [2.0 + n] * 2
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("fallback", [True, False])
def test_the_functions_own_error_is_its_own(fallback):
    _, optimizer, step = build()
    known = {}
    for function, kind in ((lambda x: step(x[:, :1]), ValueError), (lambda x: step(x) + known["bias"], KeyError)):
        with pytest.raises(kind) as eager:
            build()[2](X[:, :1]) if kind is ValueError else known["bias"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(kind) as found:
                minidl.compile(function, fallback=fallback)(X)
        assert str(found.value) == str(eager.value)
        if not fallback:
            assert not optimizer.state


def test_an_interrupt_passes(monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(programs, "Plan", stop)
    _, _, step = build()
    with pytest.raises(KeyboardInterrupt):
        minidl.compile(step, fallback=True)(X)
