"""A small residual network with batch normalisation on MNIST. Expect about 99.3 % on the test set after 4 epochs.

He et al. 2016, "Deep residual learning": a block adds what it computes to what it was given, y = x + f(x), so that
gradients reach the first layers undiminished. Where a block changes the shape, a 1×1 convolution brings x to it.

Usage: python 08_resnet.py [--quick]      (quick: the 1,797 built-in digits instead, in seconds)
"""

import sys
import time

import numpy as np

import minidl
from minidl import data, nn, ops, optim

EPOCHS, BATCH, PEAK = 4, 128, 5e-3


def block(inside, outside, stride):
    """y = ReLU(x + f(x)), f two 3×3 convolutions, each normalised."""
    f = nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside),
    )  # fmt: skip
    shortcut = None
    if stride > 1 or inside != outside:
        shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside))
    return nn.Sequential(nn.Residual(f, shortcut), nn.ReLU())


minidl.manual_seed(0)
train, test = data.load("digits" if "--quick" in sys.argv else "mnist")
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    block(16, 32, 1), block(32, 64, 2),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dense(64, 10),
)  # fmt: skip
loader = data.Loader(train, batch_size=BATCH, shuffle=True, drop_last=True)
optimizer = optim.AdamW(model.parameters(), lr=PEAK, weight_decay=1e-2)


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
    model.train()
    for x, y in loader:
        part = (done := done + 1) / steps  # the rate rises for a fifth of the time and then falls to zero
        optimizer.param_groups[0]["lr"] = PEAK * min(part / 0.2, (1 - part) / 0.8)
        step(x, y)
    seconds = time.perf_counter() - start
    model.eval()
    with minidl.no_grad():
        right = [model(x).numpy().argmax(axis=1) == y for x, y in data.Loader(test, batch_size=1000)]
    print(f"epoch {epoch}: test accuracy {np.concatenate(right).mean():.2%}, {seconds:.0f} s")
