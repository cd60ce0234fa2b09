"""The same net on MNIST with and without augmentation. Expect 98.5 % without and 99.0 % with it, on the test set.

    python 14_augmentation.py [SEEDS] [EPOCHS]      # 1 and 15: about a minute
    python 14_augmentation.py --quick               # the 1,797 built-in digits instead: seconds

In each epoch every image is turned, slanted, resized and moved a little at random, so that the net never sees one
twice: it cannot learn them by heart, and what it learns holds for digits that are written a little differently.
"""

import argparse

import numpy as np

import minidl
from minidl import data, nn, ops, optim
from minidl.data import augment

BATCH, PEAK = 128, 2e-3
parser = argparse.ArgumentParser()
parser.add_argument("seeds", nargs="?", type=int, default=1)
parser.add_argument("epochs", nargs="?", type=int, default=15)
parser.add_argument("--quick", action="store_true", help="the built-in digits instead of MNIST")
given = parser.parse_args()
SEEDS, EPOCHS = given.seeds, given.epochs

train, test = data.load("digits" if given.quick else "mnist")
AFFINE = augment.Affine(degrees=10, pixels=train.x.shape[-1] / 14, zoom=0.1, shear=10)  # 2 of 28 pixels
statistics = data.statistics(train.x)  # of the training set alone


def accuracy(seed, augmentation):
    minidl.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Dense(train.x[0].size, 512), nn.ReLU(), nn.Dense(512, 10))
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
    augmented.append(accuracy(seed, AFFINE))
    print(f"seed {seed}: test accuracy {plain[-1]:.2f} %, augmented {augmented[-1]:.2f} %", flush=True)
print(f"without {told(plain)}, augmented {told(augmented)}; gain {told(np.subtract(augmented, plain))}")
