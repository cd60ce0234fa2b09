"""2. The chain rule as a graph: numbers that remember how they were made.

They can. A Number keeps its value and the numbers it was computed from, each
with the slope of that one operation. Together they form a graph that nobody has
to draw: it appears while ordinary Python runs. Backward walks it from the end.
"""

import math

import minidl
from minidl import Tensor, ops


class Number:
    """A value, and how it was made: pairs of (an input, the slope of this value in that input)."""

    def __init__(self, value, made_from=(), name=""):
        self.value, self.made_from, self.name, self.grad = value, made_from, name, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, ((self, 1.0), (other, 1.0)), "+")

    def __sub__(self, other):
        return Number(self.value - other.value, ((self, 1.0), (other, -1.0)), "−")

    def __mul__(self, other):
        return Number(self.value * other.value, ((self, other.value), (other, self.value)), "×")

    def tanh(self):
        y = math.tanh(self.value)
        return Number(y, ((self, 1 - y * y),), "tanh")

    def backward(self, arriving=1.0):
        """Take every path down to the inputs, multiply the slopes along it, and add up where paths end together."""
        self.grad += arriving
        for x, slope in self.made_from:
            x.backward(arriving * slope)


def show(number, edge=1.0, product=1.0, depth=0):
    """What is below a number, a line for each number on each path."""
    print(f"{'    ' * depth + number.name:26s}{number.value:9.4f}{edge:9.4f}{product:9.4f}")
    for x, slope in number.made_from:
        show(x, slope, product * slope, depth + 1)


def neuron(w, b):
    error = (w * Number(2.0, name="x") + b).tanh() - Number(-0.5, name="t")
    return error * error


print(__doc__)
w, b = Number(0.5, name="w"), Number(-0.3, name="b")
L = neuron(w, b)
print("""The neuron of lesson 1, hanging from its loss. Its edge is the slope of what a
number hangs from, in it; its path is the product of the edges from the top.

                              value     edge     path""")
show(L)
L.backward()
print(f"""
The loss is error × error: the error is used twice, so two paths lead to w. Each
brings {w.grad / 2:.4f}, and their sum is dL/dw = {w.grad:.4f}, as we found by hand.""")
y = math.tanh(0.5 * 2.0 - 0.3)
dz = 2 * (y + 0.5) * (1 - y * y)  # lesson 1, in one line
assert abs(w.grad - dz * 2.0) < 1e-12
assert abs(b.grad - dz) < 1e-12


def tangle(a, b):
    return (a * b + (a - b * b).tanh() * a).tanh() * b - a * a


a, b, h = Number(0.7), Number(-1.2), 1e-6
tangle(a, b).backward()
felt = (tangle(Number(0.7 + h), b).value - tangle(Number(0.7 - h), b).value) / (2 * h)
assert abs(a.grad - felt) < 1e-8

v, c = Tensor(0.5, requires_grad=True), Tensor(-0.3, requires_grad=True)
e = ops.tanh(v * 2.0 + c) + 0.5
L = e * e
story = str(minidl.explain(L))
L.backward()
assert abs(v.grad - w.grad) < 1e-12
assert story.startswith("Backward from L = 1.2196")
print(f"""
Nobody wrote backward lines for tanh(a·b + tanh(a − b²)·a)·b − a², and yet its
graph says that its slope in a is {a.grad:.6f}. Nudging says {felt:.6f}.

minidl's graphs are of this kind. print(minidl.explain(L)) follows every number
through one; of the neuron above, written with minidl, it tells
  {story.splitlines()[0]}

Backward went down every path to its end. Take y = y + y, thirty times over:
each y is used twice in the next. How many numbers would backward visit then?""")
