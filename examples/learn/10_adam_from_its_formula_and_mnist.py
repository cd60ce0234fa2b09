"""10. Adam from its formula, and MNIST.

There is not. With g the gradient, t the number of the step, and m = v = 0 at
first, it is (Kingma and Ba 2015, algorithm 1):

    m ← β₁·m + (1 − β₁)·g        a running mean of the gradient
    v ← β₂·v + (1 − β₂)·g²       a running mean of its square
    θ ← θ − η · m̂ / (√v̂ + ε)     where m̂ = m/(1 − β₁ᵗ) and v̂ = v/(1 − β₂ᵗ)
"""

import itertools

import numpy as np

import minidl
from minidl import Tensor, data, nn, ops, optim


class Adam:
    def __init__(self, parameters, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        self.lr, self.beta1, self.beta2, self.eps, self.t = lr, beta1, beta2, eps, 0
        self.state = [(p, np.zeros_like(p.data), np.zeros_like(p.data)) for p in parameters]

    def zero_grad(self):
        for p, _, _ in self.state:
            p.grad = None

    def step(self):
        self.t += 1
        for p, m, v in self.state:
            m[...] = self.beta1 * m + (1 - self.beta1) * p.grad
            v[...] = self.beta2 * v + (1 - self.beta2) * p.grad**2
            mean, square = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
            p.data -= self.lr * mean / (np.sqrt(square) + self.eps)


def train(model, optimizer, batches):
    for x, y in batches:
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def net(inputs, hidden, dtype):
    minidl.manual_seed(0)
    layers = nn.Dense(inputs, hidden, dtype=dtype), nn.ReLU(), nn.Dense(hidden, 10, dtype=dtype)
    return nn.Sequential(nn.Flatten(), *layers)


print(__doc__)
print("""The mean is divided by the gradient's own size. So a parameter's first step is η
downhill, whatever the scale of its gradient. With η = 0.001:
""")
for slope in (-10_000.0, 1.0, 0.0001):
    p = Tensor(0.0, requires_grad=True)
    p.grad = np.array(slope)
    Adam([p]).step()
    print(f"  gradient {slope:9g}    step {p.item():9.6f}")
    assert abs(p.item() + 0.001 * np.sign(slope)) < 1e-6

digits = data.load("digits")
ours, minidls = net(64, 32, np.float64), net(64, 32, np.float64)
for model, optimizer in ((ours, Adam(ours.parameters())), (minidls, optim.Adam(minidls.parameters()))):
    train(model, optimizer, data.Loader(digits[0].x / 255.0, digits[0].y, batch_size=8, shuffle=True, seed=0))
pairs = list(zip(ours.parameters(), minidls.parameters(), strict=True))
size, difference = (max(abs(f(p.data, q.data)).max() for p, q in pairs) for f in (np.maximum, np.subtract))
print(f"""
Two nets alike see {len(digits[0].x):,} small digits, one with this Adam, one with minidl's.
Their parameters, up to {size:.2f} in size, then differ by at most {difference:.0e}.""")
assert difference < 1e-12

try:
    name, (train_set, test_set) = "MNIST", data.load("mnist", offline=True)
except data.DataUnavailable:
    name, (train_set, test_set) = "the small digits (MNIST is not on this machine)", digits
model = net(train_set.x[0].size, 64, np.float32)
optimizer = Adam(model.parameters(), lr=0.003)
loader = data.Loader(train_set, batch_size=64, shuffle=True)
batches = (batch for _ in itertools.count() for batch in loader)  # epoch after epoch
print(f"\nNow {name}: of {len(test_set.x):,} images never seen,\n")
for steps in (0, 1, 10, 100, 500):
    train(model, optimizer, itertools.islice(batches, steps - optimizer.t))
    right = (model(test_set.x / np.float32(255)).numpy().argmax(axis=1) == test_set.y).mean()
    print(f"  {right:5.1%} are named right after {steps:3d} steps, {64 * steps:6,d} images looked at")
assert right > 0.85

print("""
From one slope to a net that reads handwriting: you have now seen every part,
and written most of them.

This net would learn as well if the pixels of every image were shuffled, always
in the same way. What could one do that knows which pixels are neighbours, as in
examples/07_lenet.py?""")
