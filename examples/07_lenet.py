"""LeNet on MNIST. Expect about 99 % on the test set after 3 epochs, of some 4 seconds once it is compiled.

LeCun et al. 1998, figure 2, with today's parts: convolutions that see a little of the image and share their weights,
each followed by a pooling that halves it, then dense layers.

Usage: python 07_lenet.py [--quick]      (quick: the 1,797 built-in digits instead, in seconds)
"""

import sys
import time

import numpy as np

import minidl
from minidl import data, nn, ops, optim

EPOCHS, BATCH, PEAK = 3, 64, 2e-3


def enlarged(digits):
    """8×8 pixels as 28×28, as MNIST's: each is made 3×3, and 2 are put around."""
    x = np.kron(digits.x, np.ones((3, 3), np.uint8))
    return data.Dataset(np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)]), digits.y)


minidl.manual_seed(0)
train, test = map(enlarged, data.load("digits")) if "--quick" in sys.argv else data.load("mnist")
model = nn.Sequential(
    nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Dense(400, 120), nn.ReLU(), nn.Dense(120, 84), nn.ReLU(), nn.Dense(84, 10),
)  # fmt: skip
loader = data.Loader(train, batch_size=BATCH, shuffle=True)
optimizer = optim.Adam(model.parameters(), lr=PEAK)


@minidl.compile
def step(x, y):
    loss = ops.softmax_cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


steps, done = EPOCHS * len(loader), 0
for epoch in range(1, EPOCHS + 1):
    start = time.perf_counter()
    for x, y in loader:
        optimizer.param_groups[0]["lr"] = PEAK * (1 - done / steps)
        step(x, y)
        done += 1
    seconds = time.perf_counter() - start
    with minidl.no_grad():
        right = [model(x).numpy().argmax(axis=1) == y for x, y in data.Loader(test, batch_size=1000)]
    print(f"epoch {epoch}: test accuracy {np.concatenate(right).mean():.2%}, {seconds:.1f} s")
