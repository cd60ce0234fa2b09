"""5. Broadcasting's transpose is a sum, and with that our engine takes arrays.

Adding b to 5 rows means repeating it 5 times, then adding. Repeating is linear:
it multiplies by a matrix R of ones and zeros. Going back, the chain rule then
multiplies by its transpose; and Rᵀ adds up what R had repeated.
"""

import numpy as np

from minidl import Tensor, ops


class Array:
    """An array, and how it was made: pairs of (an input, the function that carries a gradient back to it)."""

    def __init__(self, values, made_from=()):
        self.values, self.made_from, self.grad = np.asarray(values, float), made_from, None

    def __add__(self, other):
        return Array(self.values + other.values, ((self, lambda dy: dy), (other, lambda dy: dy)))

    def __mul__(self, other):
        a, b = self.values, other.values
        return Array(a * b, ((self, lambda dy: dy * b), (other, lambda dy: dy * a)))

    def __matmul__(self, other):
        a, b = self.values, other.values
        return Array(a @ b, ((self, lambda dy: dy @ b.T), (other, lambda dy: a.T @ dy)))

    def tanh(self):
        y = np.tanh(self.values)
        return Array(y, ((self, lambda dy: dy * (1 - y * y)),))

    def sum(self):
        shape = self.values.shape  # and a sum's transpose is broadcasting
        return Array(self.values.sum(), ((self, lambda dy: np.broadcast_to(dy, shape)),))

    def backward(self):
        uses, found = {}, [self]
        for array in found:
            for x, _ in array.made_from:
                uses[x] = uses.get(x, 0) + 1
                if uses[x] == 1:
                    found.append(x)
        arrived, ready = {self: np.ones_like(self.values)}, [self]
        for array in ready:
            dy = arrived.pop(array)
            if not array.made_from:
                array.grad = dy if array.grad is None else array.grad + dy
            for x, carry in array.made_from:
                arrived[x] = arrived.get(x, 0.0) + summed_to(x.values.shape, carry(dy))
                uses[x] -= 1
                if not uses[x]:
                    ready.append(x)


def summed_to(shape, dx):
    """What broadcasting repeated, added up: the axes that it put in front, and those that it stretched from 1."""
    dx = dx.sum(axis=tuple(range(dx.ndim - len(shape))))
    return dx.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


print(__doc__)
rng = np.random.default_rng(0)
R, dy = np.tile(np.eye(3), (5, 1)), rng.normal(size=(5, 3))
print("Rᵀ =", str(R.T.astype(int)).replace("\n", "\n     "))
print("Rᵀ·dy, with 15 slopes dy:  ", R.T @ dy.reshape(15))
print("the 5 rows of dy, added up:", summed_to((3,), dy))
assert np.allclose(R @ [1, 2, 3], np.broadcast_to([1, 2, 3], (5, 3)).reshape(15))
assert np.allclose(R.T @ dy.reshape(15), summed_to((3,), dy), rtol=1e-14)
assert np.allclose(summed_to((5, 1), dy), dy @ np.ones((3, 1)), rtol=1e-14)  # a column, repeated 3 times

x, t = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([[-1.0], [1], [1], [-1]])  # "one of the two"
start = [rng.normal(size=shape) for shape in ((2, 4), (4,), (4, 1), (1,))]


def loss(x, minus_t, tanh, w1, b1, w2, b2):
    error = tanh(tanh(x @ w1 + b1) @ w2 + b2) + minus_t
    return (error * error).sum()


ours, theirs = [Array(p) for p in start], [Tensor(p, requires_grad=True) for p in start]
first = L = loss(Array(x), Array(-t), Array.tanh, *ours)
L.backward()
loss(Tensor(x), Tensor(-t), ops.tanh, *theirs).backward()
print("\nA net with 4 hidden neurons; our gradients, and how minidl's differ:")
for name, p, q in zip(("w1", "b1", "w2", "b2"), ours, theirs, strict=True):
    print(f"  {name} {p.grad.shape!s:7s} up to {abs(p.grad).max():.4f}, differing by {abs(p.grad - q.grad).max():.1e}")
    assert abs(p.grad - q.grad).max() < 1e-14
for _ in range(500):
    for p in ours:
        p.values, p.grad = p.values - 0.1 * p.grad, None
    L = loss(Array(x), Array(-t), Array.tanh, *ours)
    L.backward()
assert L.values < 0.01 < first.values
print(f"""Its loss on `exclusive or`, which is too hard for a single neuron: at first
{first.values:.4f}, after 500 steps {L.values:.4f}.

This is an engine, and minidl/tensor.py is the same idea: its Node is made_from,
its backward_order the counting, its unbroadcast is summed_to. It reads
easily now.

For classes, a net ends in a softmax and the loss is a cross-entropy: exponents,
a quotient, a logarithm. Why is the gradient of all that nothing but p − y?""")
