"""What nobody foresaw ends in the eager path, with one warning, the same numbers and nothing half changed."""

import warnings

import numpy as np
import pytest

import minidl
from minidl import CompileError, nn, ops, optim
from minidl.compiler import program as programs
from minidl.compiler import recorder
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
