"""A whole training step as code that one can read: what `minidl.compile` writes down, and what it makes of it.

The step is run once; every array operation and kernel call in it is written down, in order, with the names of the
model's parameters. That text is what is compiled to machine code, and it runs as plain Python, too.
"""

import time

import numpy as np

import minidl
from minidl import nn, ops, optim

minidl.manual_seed(0)
model = nn.Sequential(nn.Dense(2, 8), nn.ReLU(), nn.Dense(8, 1))
optimizer = optim.SGD(model.parameters(), lr=0.05)


def train_step(x, y):
    loss = ops.mse(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


rng = np.random.default_rng(0)
x = rng.normal(size=(32, 2)).astype(np.float32)
y = (x[:, :1] * x[:, 1:]).astype(np.float32)  # to be learned: the product of two numbers

step = minidl.compile(train_step)
first = step(x, y)  # records, compiles, runs
print(step.source)

print("""How to read it. Above the first line stand the shapes. `forward` is what the model does, one op after the
other. `backward` goes through the same ops from the last to the first: each line applies the chain rule to one of
them, and the formula above it is the one in the op's docstring. The name d_layers_0_weight means dL/d(layers_0_weight).
`update` moves each parameter against its gradient. The lines can be run: step.python(x, y) does, for a debugger.
""")

for _ in range(2000):
    loss = step(x, y)
assert abs(step.python(x, y).item() - loss.item()) < 1e-3  # the same lines in Python go on from the same state
print(f"loss at first {first.item():.4f}, after 2,000 steps {loss.item():.4f}")

for name, run in (("eager", train_step), ("compiled", step)):
    started = time.perf_counter()
    for _ in range(1000):
        run(x, y)
    print(f"{name:9s} {(time.perf_counter() - started) * 1e3:6.1f} µs a step")
