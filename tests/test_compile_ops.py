"""Every op's case, compiled: the bits of the eager run's values and gradients, in float64 and float32."""

import itertools

import numpy as np
import pytest
from cases import CASES

import minidl
from minidl import Tensor
from minidl.compiler import native, program

ONCE = {
    "dropout",
    "dropout2d",
    "reparameterise",
}  # their cases make their generator anew in each eager call; the compiled one draws on
FIRST = {case.op: case.id for case in reversed(CASES)}  # these are compiled; the others' loops run as Python


def runs(case, dtype):
    """(the step that computes the case's value and gradients, its tensors)"""
    tensors = [Tensor(x, requires_grad=True) for x in case.inputs(dtype=dtype)]

    def step(cotangent):
        for t in tensors:
            t.grad = None
        y = case.fn(*tensors)
        y.backward(cotangent)
        return y

    return step, tensors


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_compiled_is_eager(case, dtype, monkeypatch):
    if case.id != FIRST[case.op]:
        monkeypatch.setattr(native, "interpreted", lambda: True)
        monkeypatch.setattr(program, "interpreted", lambda: True)
    eager, expected = runs(case, dtype)
    step, tensors = runs(case, dtype)
    compiled = minidl.compile(step)
    y = case.fn(*expected)
    cotangent = np.asarray(np.random.default_rng(3).normal(size=y.shape), y.dtype)
    value = eager(cotangent)
    for run in (compiled,) if case.id in ONCE else (compiled, compiled, compiled.python):
        made = run(cotangent)
        assert (made.shape, made.dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(made.data, value.data)
        for t, e in zip(tensors, expected, strict=True):
            assert (t.grad.shape, t.grad.dtype) == (e.grad.shape, e.grad.dtype)
            np.testing.assert_array_equal(t.grad, e.grad)
    assert compiled.stats["recorded"] == 1


def subsets(case):
    """Which inputs are constant: every proper subset, and none of the cases' inputs alone where there is only one."""
    count = len(case.inputs())
    return [held for n in range(1, count + 1) for held in itertools.combinations(range(count), n)]


HELD = [(case, held) for case in CASES for held in subsets(case)]


@pytest.mark.parametrize(("case", "held"), HELD, ids=[f"{c.id}-{''.join(map(str, h))}" for c, h in HELD])
def test_compiled_with_constant_operands_is_eager(case, held, monkeypatch):
    """Some operands are arrays of the closure, or lists: the others are arguments of the step, and differentiated."""
    monkeypatch.setattr(native, "interpreted", lambda: True)
    monkeypatch.setattr(program, "interpreted", lambda: True)
    inputs = case.inputs()
    listed = case.id == FIRST[case.op] and all(x.size for x in inputs)
    for constants in [inputs, [x.tolist() if x.ndim else x for x in inputs]][: 2 if listed else 1]:

        def step(cotangent, *given, constants=constants):
            rest = iter(given)
            tensors = [Tensor(next(rest), requires_grad=True) if n not in held else None for n in range(len(inputs))]
            y = case.fn(*(constants[n] if t is None else t for n, t in enumerate(tensors)))
            if any(t is not None for t in tensors):
                y.backward(cotangent)
            return Tensor(y), [t.grad for t in tensors if t is not None]

        compiled = minidl.compile(step)
        given = [x for n, x in enumerate(inputs) if n not in held]
        cotangent = np.random.default_rng(3).normal(size=case.fn(*map(Tensor, inputs)).shape)
        try:
            value, gradients = step(cotangent, *given)
        except (TypeError, IndexError):
            assert constants is not inputs  # lists have no operators, and not every op takes them
            continue
        made, found = compiled(cotangent, *given)
        assert (made.shape, made.dtype) == (value.shape, value.dtype)
        np.testing.assert_allclose(made.data, value.data, rtol=1e-12, atol=1e-12)
        for g, e in zip(found, gradients, strict=True):
            assert (g.shape, g.dtype) == (e.shape, e.dtype)
            np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-12)
