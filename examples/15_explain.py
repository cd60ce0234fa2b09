"""See backprop: open a computation, follow every number of its backward pass, and write it as a page to step through.

A neuron whose input goes two ways, so that gradients meet; then a small net on real digits, as a page.
    python examples/15_explain.py [page.html]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import minidl
from minidl import Tensor, data, nn, ops

path = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "backprop.html")

x, w, b = (Tensor(v, requires_grad=True) for v in (2.0, -0.75, 0.5))
z = x * w + b
loss = ops.square(ops.tanh(z) - z)
explanation = minidl.explain(loss, check=True)
print(explanation)

# z is used twice. What its two uses pass back adds up to its gradient …
first, second = explanation[z].arrives
assert explanation[z].gradient == first.gradient + second.gradient
# … and without that addition, or in another order, what is below z is wrong: really computed, as on the page.
without = explanation.faults["accumulation"]
wrong, right = without.gradients[explanation[x].number], explanation[x].gradient
print(f"\ndL/dx is {right}; without accumulation it would be {wrong}")
assert explanation[x].number in without.wrong

# Nothing was changed: the graph is still there, and the engine finds the same.
assert x.grad is None
loss.backward()
assert (x.grad, w.grad, b.grad) == tuple(explanation[t].gradient for t in (x, w, b))

# Any model, with the names of its parameters; large arrays are heat maps. The image asks for its gradient, too:
# which pixels would change the loss?
minidl.manual_seed(0)
train, _ = data.load("digits")
model = nn.Sequential(nn.Flatten(), nn.Dense(64, 32), nn.ReLU(), nn.Dense(32, 10))
image = Tensor(train.x[:1].astype(np.float32) / 255, requires_grad=True)
page = minidl.explain(ops.softmax_cross_entropy(model(image), train.y[:1]), model=model, names={"image": image})
page.html(path)
print(f"\n{page!r} is drawn in {path}: open it in a browser, and step through with the arrow keys")
