"""4. Why gradients accumulate, and why they are zeroed.

It adds to what is there. Within one backward that is the chain rule; from one
to the next it is a choice, and a useful one: the slope of a sum is the sum of
the slopes, so that a batch may come in pieces. The price is that one must say
when to start afresh. Forgetting it raises no error either. It looks like this.
"""

import minidl
from minidl import Tensor


class Number:
    def __init__(self, value, made_from=()):
        self.value, self.made_from, self.grad = value, made_from, 0.0

    def __add__(self, other):
        return Number(self.value + other.value, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Number(self.value * other.value, ((self, other.value), (other, self.value)))

    def backward(self):
        uses, found = {}, [self]
        for number in found:
            for x, _ in number.made_from:
                uses[x] = uses.get(x, 0) + 1
                if uses[x] == 1:
                    found.append(x)
        arrived, ready = {self: 1.0}, [self]
        for number in ready:
            total = arrived.pop(number)
            if not number.made_from:  # only inputs keep it: in lesson 3 all numbers did, and would
                number.grad += total  # have sent the old sum down again with the next
            for x, slope in number.made_from:
                arrived[x] = arrived.get(x, 0.0) + total * slope
                uses[x] -= 1
                if not uses[x]:
                    ready.append(x)


def loss(w, b, points):
    """Σ (w·x + b − t)² over the points (x, t): how far they are from a straight line."""
    total = Number(0.0)
    for x, t in points:
        error = w * Number(x) + b + Number(-t)
        total = total + error * error
    return total


print(__doc__)
points = [(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]  # on the line 2·x + 1
w, b = Number(0.5), Number(0.0)
print("Fit w·x + b to three points (x, t), from w = 0.5, b = 0:    w.grad   b.grad")
for point in points:
    loss(w, b, [point]).backward()
    print(f"  backward from the loss at {point} alone          {w.grad:8g} {b.grad:8g}")
pieces = w.grad, b.grad
w.grad = b.grad = 0.0
L = loss(w, b, points)
for words in ("zeroed, and backward from all three at once", "backward from that once more"):
    L.backward()
    print(f"  {words:53s} {w.grad:8g} {b.grad:8g}")
assert pieces == (-21, -15)
assert (w.grad, b.grad) == (-42, -30)


def descend(zeroing):
    w, b, losses = Number(0.5), Number(0.0), []
    for _ in range(101):
        if zeroing:
            w.grad = b.grad = 0.0
        L = loss(w, b, points)
        L.backward()
        w.value, b.value = w.value - 0.05 * w.grad, b.value - 0.05 * b.grad
        losses.append(L.value)
    return losses


zeroed, piled = descend(True), descend(False)
print("\nDownhill, steps of 0.05.  after step 0     5    10    20    40    60    80   100")
for name, losses in (("zeroed before each: loss", zeroed), ("never zeroed: loss", piled)):
    print(f"  {name:28s}" + " ".join(f"{losses[i]:5.2f}" for i in (0, 5, 10, 20, 40, 60, 80, 100)))
assert zeroed[100] < 0.001
assert max(piled[80:]) > 0.5 * piled[0]

print("""
Never zeroed, each step repeats all those before it. It is a ball without any
friction: it rolls through the valley, up the other side and back, for ever.

minidl does as we do. Of x·x at x = 3, minidl.explain tells:
""")
x = Tensor(3.0, requires_grad=True)
L = x * x
print(minidl.explain(L))
L.backward()
(x * x).backward()
print(f"""
Two backwards that are not zeroed in between leave {x.grad:g} in x.grad. Therefore
training loops say optimizer.zero_grad() before loss.backward().

So far each number was alone. In a net a bias of 3 numbers is added to each of 5
rows: 15 sums, to which 15 slopes come back. How do they become the bias's 3?""")
assert x.grad == 12
