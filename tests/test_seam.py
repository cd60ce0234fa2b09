"""The seam: what an interceptor of the thread is told, and where the user's line is found."""

import sys

import numpy as np
import pytest

from minidl import Tensor, explanation, graph, nn, ops, optim
from minidl.core.frames import users_frame
from minidl.core.seam import SEAM, Interceptor, intercepted
from minidl.core.tracing import is_traced, like_traced, require
from minidl.instrument import observed
from minidl.tensor import backward_order


class Listening(Interceptor):
    """Lists what begins, in order."""

    def __init__(self):
        self.heard = []

    def op(self, function, args, arrays, kwargs):
        self.heard.append(("op", function.__name__))
        return super().op(function, args, arrays, kwargs)

    def backward(self, tensor, run):
        self.heard.append(("backward", tensor))
        super().backward(tensor, run)
        self.heard.append(("ended", tensor))

    def gradient(self, op, tensor):
        self.heard.append(("gradient", op, tensor))

    def update(self, optimizer, parameter, run):
        before = parameter.data.copy()
        super().update(optimizer, parameter, run)
        self.heard.append(("update", optimizer, parameter, not np.array_equal(before, parameter.data)))


def step(w, optimizer):
    loss = ops.sum(w * 3.0)
    loss.backward()
    optimizer.step()
    return loss


def test_backward_and_optimizers_announce_what_they_begin():
    w = Tensor([1.0, 2.0], requires_grad=True)
    still = Tensor([1.0], requires_grad=True)  # has no gradient and is not updated
    optimizer = optim.SGD([w, still], lr=0.1)
    listening = Listening()
    with intercepted(listening):
        loss = step(w, optimizer)
    assert listening.heard == [
        ("op", "multiply"),
        ("op", "sum"),
        ("backward", loss),
        ("gradient", "sum", listening.heard[3][2]),
        ("gradient", "multiply", w),
        ("gradient", "", w),
        ("ended", loss),
        ("update", optimizer, w, True),
    ]
    assert np.allclose(w.data, [0.7, 1.7])
    assert SEAM.interceptor is None


def test_what_is_announced_passes_through_an_observer():
    w = Tensor([1.0, 2.0], requires_grad=True)
    listening = Listening()
    with intercepted(listening), observed(lambda call, *a, **k: call(*a, **k), lambda f, *a, **k: f(*a, **k)):
        step(w, optim.SGD([w], lr=0.1))
    assert [h[0] for h in listening.heard] == ["op", "op", "backward", *["gradient"] * 3, "ended", "update"]


def test_backward_under_an_interceptor_raises_as_without_and_leaves_nothing():
    with intercepted(Listening()), pytest.raises(RuntimeError, match="does not require a gradient"):
        Tensor([1.0]).backward()
    assert SEAM.interceptor is None


def test_the_users_line_is_the_innermost_outside_of_minidl_and_numpy():
    assert users_frame(0) is sys._getframe()
    model = nn.Sequential(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 1))
    y = model(Tensor([[1.0, 2.0]]))
    for t in graph.tensors(ops.sum(y)):
        assert t._node is None or t._node.code is sys._getframe().f_code
    seen = []
    np.apply_along_axis(lambda _: seen.append(users_frame(0)) or 0.0, 0, np.ones(1))  # called by NumPy, but mine
    assert seen[0].f_code.co_filename == __file__
    entries = explanation.example().entries
    assert {e.place.file.rpartition("minidl")[2].replace("\\", "/") for e in entries if e.place} == {
        "/explanation/example.py"
    }


def test_backward_goes_to_each_tensor_after_all_that_were_computed_from_it():
    x = Tensor([1.0], requires_grad=True)
    y = x * 2.0
    z = ops.concatenate([y, x, y * x, x])
    loss = ops.sum(z * z)
    order = [*backward_order(loss)]
    place = {t: i for i, t in enumerate(order)}
    assert order[0] is loss
    assert len(place) == len(order) == 6
    assert all(place[x] > place[t] for t in order if t._node for x in t._node.inputs)
    assert list(map(id, graph.tensors(loss))) == list(map(id, order[::-1]))


def test_arrays_that_are_not_traced_are_drawn_and_checked_at_once():
    x = np.ones(2)
    assert not is_traced(x)
    assert like_traced(x) is None
    require(True, "expected much", str, 1)
    with pytest.raises(RuntimeError, match="expected much, 1"):
        require(np.False_, "expected much", str, 1, error=RuntimeError)
