"""From the start of a process to the end of its first training step, with and without compiled kernels on the disk.

    python benchmarks/start_time.py [--rounds 5]

784-512-10, ReLU, Adam, batch 128. Every round starts fresh processes, in turn; "cold" has an empty kernel cache.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time

MINIDL = """
import numpy as np
from minidl import nn, ops, optim
model = nn.Sequential(nn.Dense(784, 512), nn.ReLU(), nn.Dense(512, 10))
optimizer = optim.Adam(model.parameters())
x, y = np.ones((128, 784), np.float32), np.zeros(128, np.int64)
ops.softmax_cross_entropy(model(x), y).backward()
optimizer.step()
"""
TORCH = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
optimizer = torch.optim.Adam(model.parameters(), fused=True)
x, y = torch.ones(128, 784), torch.zeros(128, dtype=torch.int64)
nn.functional.cross_entropy(model(x), y).backward()
optimizer.step()
"""
JAX = """
import jax, jax.numpy as jnp
def loss(p, x, y):
    logits = jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()
def step(p, m, v, x, y):
    g = jax.grad(loss)(p, x, y)
    m, v = [0.9 * a + 0.1 * b for a, b in zip(m, g)], [0.999 * a + 0.001 * b * b for a, b in zip(v, g)]
    return [a - 1e-3 * b / 0.1 / (jnp.sqrt(c / 0.001) + 1e-8) for a, b, c in zip(p, m, v)], m, v
p = [jnp.ones(s) for s in ((784, 512), (512,), (512, 10), (10,))]
zeros = [jnp.zeros_like(a) for a in p]
jax.block_until_ready(jax.jit(step)(p, zeros, zeros, jnp.ones((128, 784)), jnp.zeros(128, int)))
"""


def seconds(code, cache):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "MINIDL_CACHE": cache}, check=True)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rivals = {name: code for name, code in (("torch", TORCH), ("jax", JAX)) if importlib.util.find_spec(name)}
    times = {}
    with tempfile.TemporaryDirectory() as kept:
        for code in (MINIDL, *rivals.values()):
            seconds(code, kept)  # everything has been read from the disk once
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as empty:
                times.setdefault("minidl, cold", []).append(seconds(MINIDL, empty))
            times.setdefault("minidl, warm", []).append(seconds(MINIDL, kept))
            for name, code in rivals.items():
                times.setdefault(name, []).append(seconds(code, kept))
    for name, values in times.items():
        print(f"{name:14s}{statistics.median(values):7.2f} s  (from {min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    main()
