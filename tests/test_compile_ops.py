"""Every op's case, compiled: the bits of the eager run's values and gradients, in float64 and float32."""

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
