"""MNIST to 98 % in about a second of training. Expect 98.1 to 98.3 % on the test set.

Three things make a small net enough: each image is sheared upright and centred first (LeCun et al. 1998, section
III.A), inputs have mean 0 and standard deviation 1, and the learning rate rises to ten times the usual one and falls
to zero again (Smith and Topin 2018). The seconds are those of deskewing and of three epochs; kernels are compiled
before, on a few images, as `minidl warmup` does for minidl's own.
"""

import math
import sys
import time

import numpy as np

import minidl
from minidl import data, nn, ops, optim
from minidl.jit import kernel, prange

EPOCHS, BATCH, PEAK, RISE = 3, 256, 1e-2, 0.2
MEAN, STD = 0.1307, 0.3081


@kernel(parallel=lambda images, out: len(images) > 1000)
def deskew(images, out):
    """Move each row so that the ink's main axis stands upright, in the middle.   (N, 1, H, W) bytes

    x ← x + x̄ + (y − ȳ)·cov(x, y)/var(y), the values between pixels interpolated.
    """
    height, width = images.shape[2], images.shape[3]
    for n in prange(images.shape[0]):
        image, target = images[n, 0], out[n, 0]
        ink, x_mean, y_mean = 1e-9, 0.0, 0.0
        for y in range(height):
            for x in range(width):
                ink += image[y, x]
                x_mean += image[y, x] * float(x)
                y_mean += image[y, x] * float(y)
        x_mean, y_mean = x_mean / ink, y_mean / ink
        covariance, variance = 0.0, 1e-9
        for y in range(height):
            for x in range(width):
                covariance += image[y, x] * (x - x_mean) * (y - y_mean)
                variance += image[y, x] * (y - y_mean) ** 2
        for y in range(height):
            shift = x_mean - (width - 1) / 2 + (y - y_mean) * covariance / variance
            whole = math.floor(shift)
            for x in range(width):
                a = x + whole
                left = float(image[y, a]) if 0 <= a < width else 0.0
                right = float(image[y, a + 1]) if 0 <= a + 1 < width else 0.0
                target[y, x] = np.uint8(left + (shift - whole) * (right - left))


def upright(dataset):
    images = np.ascontiguousarray(dataset.x)
    out = np.empty_like(images)
    deskew(images, out)
    return data.Dataset(out, dataset.y)


def train_on(dataset, epochs, seed):
    minidl.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Dense(784, 64), nn.ReLU(), nn.Dense(64, 10))
    optimizer = optim.Adam(model.parameters())
    loader = data.Loader(dataset, batch_size=BATCH, shuffle=True, mean=MEAN, std=STD)
    step, steps = 0, epochs * len(loader)
    for _ in range(epochs):
        for x, y in loader:
            done = (step + 0.5) / steps
            optimizer.param_groups[0]["lr"] = PEAK * min(done / RISE, (1 - done) / (1 - RISE))
            loss = ops.softmax_cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    return model


seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
train, test = data.load("mnist")
train_on(upright(data.Dataset(train.x[:1024], train.y[:1024])), 1, seed)  # compiles; the model is thrown away

start = time.perf_counter()
model = train_on(upright(train), EPOCHS, seed)
seconds = time.perf_counter() - start

batches = data.Loader(upright(test), batch_size=1000, mean=MEAN, std=STD)
with minidl.no_grad():
    right = np.concatenate([model(x).numpy().argmax(axis=1) == y for x, y in batches])
print(f"test accuracy {right.mean():.2%} after {seconds:.2f} s of deskewing and training")
