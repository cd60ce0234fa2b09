"""MNIST with a plain training loop. Expect about 97.9 % on the test set after 5 epochs.

Usage: python 03_mnist.py [--quick]      (quick: the 1,797 built-in digits instead, in seconds)
"""

import sys

import numpy as np

import minidl
from minidl import data, nn, ops, optim

minidl.manual_seed(0)
train, test = data.load("digits" if "--quick" in sys.argv else "mnist")
model = nn.Sequential(nn.Flatten(), nn.Dense(train.x[0].size, 512), nn.ReLU(), nn.Dense(512, 10))
optimizer = optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(1, 6):
    for x, y in data.Loader(train, batch_size=128, shuffle=True):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with minidl.no_grad():
        right = [model(x).numpy().argmax(axis=1) == y for x, y in data.Loader(test, batch_size=1000)]
    print(f"epoch {epoch}: test accuracy {np.concatenate(right).mean():.2%}")
