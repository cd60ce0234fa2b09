"""An LSTM that reads each digit of MNIST row by row, 28 steps of 28 pixels. Expect over 98 % after 5 epochs.

Only the last row's state goes to the classifier: what it knows of the first rows, it has remembered.

Usage: python 09_lstm.py [--quick]      (quick: the 1,797 built-in digits instead, of 8 rows each, in seconds)
"""

import sys
import time

import numpy as np

import minidl
from minidl import data, nn, ops, optim

EPOCHS, BATCH, PEAK = 5, 64, 3e-3


class Reader(nn.Module):
    def __init__(self, pixels):
        self.lstm = nn.LSTM(pixels, 128, batch_first=True)
        self.output = nn.Dense(128, 10)

    def forward(self, x):
        _, (h, _) = self.lstm(ops.squeeze(x, 1))
        return self.output(h[0])


minidl.manual_seed(0)
train, test = data.load("digits" if "--quick" in sys.argv else "mnist")
model = Reader(train.x.shape[-1])
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
