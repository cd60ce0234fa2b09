"""Layers, forward and backward, against PyTorch: the same inputs, verified first, runs alternated, medians and ranges.

    python benchmarks/layers.py [ROUNDS] [WORD …]      only the cases whose name has one of these words

A ratio above 1 means that minidl is faster. `pip install "minidl[oracle]"` brings PyTorch.
"""

import ctypes
import os
import platform
import statistics
import sys
import time

import numpy as np

import minidl
from minidl import Tensor, nn, ops, optim

try:
    import torch
except ImportError:
    sys.exit('this compares with PyTorch: pip install "minidl[oracle]"')
F = torch.nn.functional
THREADS = min(2, os.cpu_count() or 1)
PAUSE = 0.05  # seconds, in which the threads of the other library stop spinning; then one run to wake one's own
RNG = np.random.default_rng(0)


def keep_memory():
    """Let the C library keep what is freed, for both: else each large array is paid for in page faults, or not."""
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3
        for threshold in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(threshold, 1 << 30)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def pair(ours, theirs, *arrays):
    """(run ours, run theirs): forward and backward with one cotangent, checked against each other."""
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    his = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*his)
    dy = normal(*y.shape)
    grad = torch.tensor(dy)

    def run_ours():
        for t in mine:
            t.grad = None
        ours(*mine).backward(dy)

    def run_theirs():
        for t in his:
            t.grad = None
        theirs(*his).backward(grad)

    run_ours()
    run_theirs()
    found = [y.data, *(t.grad for t in mine)]
    for a, b in zip(found, [expected.detach(), *(t.grad for t in his)], strict=True):
        right = b.numpy()
        assert np.abs(a - right).max() <= 1e-3 * np.abs(right).max(), "the results differ"
    return run_ours, run_theirs


def convolution(images, channels, outputs, size):
    return pair(
        lambda x, w, b: ops.conv2d(x, w, b, padding=1),
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
        normal(images, channels, size, size), normal(outputs, channels, 3, 3), normal(outputs),
    )  # fmt: skip


def lstm():
    ours, theirs = nn.LSTM(28, 128), torch.nn.LSTM(28, 128)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    return pair(lambda x: ours(x)[0], lambda x: theirs(x)[0], normal(28, 64, 28))


def small_net():
    """conv(1→8,3)-ReLU-pool-conv(8→16,3)-ReLU-pool-dense with Adam, batches of 128, 12,800 images; ours compiled."""
    x, y = normal(12800, 1, 28, 28), RNG.integers(0, 10, 12800)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU())
    model = nn.Sequential(*model, nn.MaxPool2d(2), nn.Flatten(), nn.Dense(400, 10))
    optimizer = optim.Adam(model.parameters())
    layers = torch.nn
    other = layers.Sequential(layers.Conv2d(1, 8, 3), layers.ReLU(), layers.MaxPool2d(2), layers.Conv2d(8, 16, 3))
    other = layers.Sequential(*other, layers.ReLU(), layers.MaxPool2d(2), layers.Flatten(), layers.Linear(400, 10))
    adam = torch.optim.Adam(other.parameters(), fused=True)
    x_other, y_other = torch.tensor(x), torch.tensor(y)

    @minidl.compile
    def step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def step_other(x, y):
        loss = F.cross_entropy(other(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()

    def epoch(step, x, y):
        return lambda: [step(x[i : i + 128], y[i : i + 128]) for i in range(0, len(y), 128)]

    return epoch(step, x, y), epoch(step_other, x_other, y_other)


CASES = {
    "net conv(1-8)-pool-conv(8-16)-pool-dense, 12,800 images": small_net,
    "conv2d 3x3 32-64, 28x28, batch 64": lambda: convolution(64, 32, 64, 28),
    "conv2d 3x3 16-32, 14x14, batch 128": lambda: convolution(128, 16, 32, 14),
    "LSTM T 28, N 64, H 128": lstm,
    "batch_norm (64, 32, 28, 28)": lambda: pair(
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        normal(64, 32, 28, 28), normal(32), normal(32)),
    "layer_norm (1792, 128)": lambda: pair(
        lambda x, w, b: ops.layer_norm(x, 128, w, b), lambda x, w, b: F.layer_norm(x, (128,), w, b),
        normal(1792, 128), normal(128), normal(128)),
    "max_pool2d 2, (128, 16, 28, 28)": lambda: pair(
        lambda x: ops.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), normal(128, 16, 28, 28)),
    "attention (256, 64, 32)": lambda: pair(
        ops.scaled_dot_product_attention, F.scaled_dot_product_attention, *(normal(256, 64, 32) for _ in range(3))),
    "GELU (4096, 512)": lambda: pair(ops.gelu, F.gelu, normal(4096, 512)),
}  # fmt: skip


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdecimal() else 15
    words = [w for w in sys.argv[1:] if not w.isdecimal()]
    keep_memory()
    torch.set_num_threads(THREADS)
    minidl.set_num_threads(THREADS)
    print(
        f"{platform.machine()}, {THREADS} threads; minidl {minidl.__version__}, PyTorch {torch.__version__}", end=", "
    )
    print(f"{torch.backends.cpu.get_cpu_capability()}; medians of {rounds} alternated rounds, ms (lowest, highest)")
    for name, make in CASES.items():
        if words and not any(w in name for w in words):
            continue
        runs = make()
        times = ([], [])
        for run in runs:
            run()
        for _ in range(rounds):
            for run, found in zip(runs, times, strict=True):
                time.sleep(PAUSE)
                run()
                start = time.perf_counter()
                run()
                found.append((time.perf_counter() - start) * 1e3)
        told = [f"{statistics.median(t):8.2f} ({min(t):.2f}, {max(t):.2f})" for t in times]
        ratio = statistics.median(b / a for a, b in zip(*times, strict=True))
        print(f"{name:<58} minidl {told[0]}  PyTorch {told[1]}  ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
