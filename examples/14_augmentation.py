"""The same net on MNIST with and without augmentation. Expect 98.5 % without and 99.0 % with it, on the test set.

    python 14_augmentation.py [SEEDS] [EPOCHS]      # 1 and 15: about a minute

In each epoch every image is turned, slanted, resized and moved a little at random, so that the net never sees one
twice: it cannot learn them by heart, and what it learns holds for digits that are written a little differently.
"""

import sys

import numpy as np

import minidl
from minidl import data, nn, ops, optim
from minidl.data import augment

BATCH, PEAK = 128, 2e-3
SEEDS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
EPOCHS = int(sys.argv[2]) if len(sys.argv) > 2 else 15

train, test = data.load("mnist")
statistics = data.statistics(train.x)  # of the training set alone


def accuracy(seed, augmentation):
    minidl.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Dense(784, 512), nn.ReLU(), nn.Dense(512, 10))
    optimizer = optim.Adam(model.parameters(), lr=PEAK)
    loader = data.Loader(train, batch_size=BATCH, shuffle=True, augment=augmentation, **statistics)

    @minidl.compile
    def step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    steps, done = EPOCHS * len(loader), 0
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.param_groups[0]["lr"] = PEAK * (1 - done / steps)
            step(x, y)
            done += 1
    with minidl.no_grad():
        batches = data.Loader(test, batch_size=1000, **statistics)
        return 100 * np.mean([(model(x).numpy().argmax(axis=1) == y).mean() for x, y in batches])


def told(values):
    return f"{np.mean(values):.2f} % ({min(values):.2f} to {max(values):.2f})"


plain, augmented = [], []
for seed in range(SEEDS):
    plain.append(accuracy(seed, None))
    augmented.append(accuracy(seed, augment.Affine(degrees=10, pixels=2, zoom=0.1, shear=10)))
    print(f"seed {seed}: test accuracy {plain[-1]:.2f} %, augmented {augmented[-1]:.2f} %", flush=True)
print(f"without {told(plain)}, augmented {told(augmented)}; gain {told(np.subtract(augmented, plain))}")
