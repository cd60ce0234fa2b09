"""The walk over a recorded graph."""

import pytest

import minidl
from minidl import Tensor, graph, nn, ops


def test_inputs_come_before_results_and_each_tensor_once():
    x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    y = x * w
    z = y + x * 2.0
    loss = ops.sum(z * y)
    order = graph.tensors(loss)
    assert len(order) == len(set(order)) == 7
    assert order[-1] is loss
    place = {t: i for i, t in enumerate(order)}
    for t in order:
        for x in t._node.inputs if t._node else ():
            assert place[x] < place[t]


def test_a_leaf_is_a_graph_of_one():
    x = Tensor(1.0, requires_grad=True)
    assert graph.tensors(x) == [x]


def test_a_long_chain_needs_no_recursion():
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    assert len(graph.tensors(y)) == 20_001


def test_no_graph_and_a_freed_graph_are_refused():
    with pytest.raises(RuntimeError, match="needs no gradient"):
        graph.tensors(Tensor(1.0))
    with minidl.no_grad():
        y = nn.Dense(2, 1)(Tensor([[1.0, 2.0]]))
    with pytest.raises(RuntimeError, match="no_grad"):
        graph.tensors(y)
    loss = ops.sum(Tensor([1.0], requires_grad=True) * 2.0)
    loss.backward()
    with pytest.raises(RuntimeError, match="freed"):
        graph.tensors(loss)
