"""Training speed against other ways to do it: the MNIST net and a tiny one, interleaved, each in its own process.

    python benchmarks/train.py [--threads 2] [--rounds 9] [--rivals minidl torch …]

MNIST: 784-512-10, ReLU, Adam, batch 128; seconds an epoch of 60,000 images, from slices of 100 batches, converting
bytes to float32 in every batch. Small: 2-16-16-1, ReLU, SGD, batch 32; microseconds a step. The images are random
bytes: speed does not depend on them. Rivals that are not installed are left out; `pip install torch jax scikit-learn`
brings all. "minidl-compile" and "jax" compile a step, "minidl-run" and "jax-scan" the loop over all steps too.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time

N, BATCH, SLICE = 60_000, 128, 100
THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def mnist_like():
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (N, 784), dtype=np.uint8), rng.integers(0, 10, N), rng


# Each returns two functions: one trains on SLICE batches of the large net, the other takes 200 steps of the small.


def minidl(how="eager"):
    import numpy as np

    import minidl
    from minidl import data, nn, ops, optim

    images, labels, rng = mnist_like()
    model = nn.Sequential(nn.Dense(784, 512), nn.ReLU(), nn.Dense(512, 10))
    adam = optim.Adam(model.parameters())
    net = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 16), nn.ReLU(), nn.Dense(16, 1))
    sgd = optim.SGD(net.parameters(), lr=0.01)

    def large_step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()

    def small_step(x, y):
        loss = ops.mse(net(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    if how != "eager":
        large_step, small_step = minidl.compile(large_step), minidl.compile(small_step)
    if how == "run":
        few = rng.permutation(N)[: SLICE * BATCH]
        batches = data.Loader(images[few], labels[few], batch_size=BATCH, shuffle=True)
        x, y = (rng.normal(size=(200 * 32, k)).astype(np.float32) for k in (2, 1))
        steps = data.Loader(x, y, batch_size=32)
        return lambda: large_step.run(batches), lambda: small_step.run(steps)

    loader = data.Loader(images, labels, batch_size=BATCH, shuffle=True)
    x, y = (rng.normal(size=(32, k)).astype(np.float32) for k in (2, 1))

    def large():
        for _, batch in zip(range(SLICE), loader, strict=False):
            large_step(*batch)

    def small():
        for _ in range(200):
            small_step(x, y)

    return large, small


def torch(compiled=False):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    faster = torch.compile if compiled else lambda function: function
    images, labels, rng = mnist_like()
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)  # its fastest
    loss_of = faster(lambda x, y: F.cross_entropy(model(x.float().mul(1 / 255)), y))

    def large():
        order = torch.from_numpy(rng.permutation(N))
        for i in range(SLICE):
            rows = order[i * BATCH : (i + 1) * BATCH]
            loss = loss_of(images[rows], labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    x, y = torch.randn(32, 2), torch.randn(32, 1)
    error_of = faster(lambda x, y: F.mse_loss(net(x), y))

    def small():
        for _ in range(200):
            loss = error_of(x, y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()

    return large, small


def jax(scan=False):
    import jax
    import jax.numpy as jnp
    import numpy as np

    images, labels, rng = mnist_like()

    def parameters(*sizes):
        pairs = list(itertools.pairwise(sizes))
        return [(jnp.asarray(rng.normal(size=p) / p[0] ** 0.5, jnp.float32), jnp.zeros(p[1])) for p in pairs]

    def net(layers, x):
        for w, b in layers[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    def cross_entropy(layers, x, y):
        log_p = jax.nn.log_softmax(net(layers, x.astype(jnp.float32) * (1 / 255)))
        return -jnp.take_along_axis(log_p, y[:, None], 1).mean()

    def adam(state, batch):
        p, m, v, t = state
        g = jax.grad(cross_entropy)(p, *batch)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return (p, m, v, t), 0.0

    def sgd(layers, batch):
        g = jax.grad(lambda layers: jnp.mean((net(layers, batch[0]) - batch[1]) ** 2))(layers)
        return jax.tree.map(lambda p, g: p - 0.01 * g, layers, g), 0.0

    p = parameters(784, 512, 10)
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = p, zeros, zeros, jnp.float32(0)
    small_state = parameters(2, 16, 16, 1)
    x, y = (jnp.asarray(rng.normal(size=(32, k)), jnp.float32) for k in (2, 1))

    if scan:

        @jax.jit
        def many_large(state, images, labels):
            return jax.lax.scan(adam, state, (images.reshape(SLICE, BATCH, 784), labels.reshape(SLICE, BATCH)))[0]

        @jax.jit
        def many_small(layers):
            return jax.lax.scan(lambda layers, _: sgd(layers, (x, y)), layers, None, length=200)[0]

        def large():
            nonlocal state
            rows = rng.permutation(N)[: SLICE * BATCH]
            state = jax.block_until_ready(many_large(state, images[rows], labels[rows]))

        def small():
            nonlocal small_state
            small_state = jax.block_until_ready(many_small(small_state))

        return large, small

    one_large, one_small = jax.jit(lambda s, x, y: adam(s, (x, y))[0]), jax.jit(lambda s: sgd(s, (x, y))[0])

    def large():
        nonlocal state
        order = rng.permutation(N)
        for i in range(SLICE):
            rows = order[i * BATCH : (i + 1) * BATCH]
            state = one_large(state, images[rows], labels[rows].astype(np.int32))
        jax.block_until_ready(state)

    def small():
        nonlocal small_state
        for _ in range(200):
            small_state = one_small(small_state)
        jax.block_until_ready(small_state)

    return large, small


def sklearn():
    import numpy as np
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    images, labels, rng = mnist_like()
    classifier = MLPClassifier(hidden_layer_sizes=(512,), batch_size=BATCH, alpha=0.0)
    regressor = MLPRegressor(hidden_layer_sizes=(16, 16), solver="sgd", batch_size=32, alpha=0.0, momentum=0.0)
    x, y = rng.normal(size=(32, 2)).astype(np.float32), rng.normal(size=32).astype(np.float32)

    def large():
        rows = rng.permutation(N)[: SLICE * BATCH]
        classifier.partial_fit(
            images[rows].astype(np.float32) * np.float32(1 / 255), labels[rows], classes=np.arange(10)
        )

    def small():
        for _ in range(200):
            regressor.partial_fit(x, y)

    return large, small


def numpy():
    import numpy as np

    images, labels, rng = mnist_like()

    def parameters(*sizes):
        shapes = [s for i, o in itertools.pairwise(sizes) for s in ((i, o), (o,))]
        return [rng.uniform(-1, 1, s).astype(np.float32) / np.float32(np.sqrt(s[0])) for s in shapes]

    P = parameters(784, 512, 10)
    M, V = [np.zeros_like(p) for p in P], [np.zeros_like(p) for p in P]
    t = 0

    def large():
        nonlocal t
        W1, b1, W2, b2 = P
        order = rng.permutation(N)
        for i in range(SLICE):
            rows = order[i * BATCH : (i + 1) * BATCH]
            x, y = images[rows].astype(np.float32) * np.float32(1 / 255), labels[rows]
            h = np.maximum(x @ W1 + b1, 0)
            z = h @ W2 + b2
            e = np.exp(z - z.max(axis=1, keepdims=True))
            e /= e.sum(axis=1, keepdims=True)
            e[np.arange(BATCH), y] -= 1
            e /= BATCH
            dh = (e @ W2.T) * (h > 0)
            t += 1
            for p, g, m, v in zip(P, (x.T @ dh, dh.sum(0), h.T @ e, e.sum(0)), M, V, strict=True):
                m += np.float32(0.1) * (g - m)
                v += np.float32(0.001) * (g * g - v)
                p -= np.float32(1e-3 / (1 - 0.9**t)) * m / (np.sqrt(v / np.float32(1 - 0.999**t)) + np.float32(1e-8))

    Q = parameters(2, 16, 16, 1)
    x, y = rng.normal(size=(32, 2)).astype(np.float32), rng.normal(size=(32, 1)).astype(np.float32)

    def small():
        W1, b1, W2, b2, W3, b3 = Q
        for _ in range(200):
            h1 = np.maximum(x @ W1 + b1, 0)
            h2 = np.maximum(h1 @ W2 + b2, 0)
            d3 = (h2 @ W3 + b3 - y) * np.float32(2 / 32)
            d2 = (d3 @ W3.T) * (h2 > 0)
            d1 = (d2 @ W2.T) * (h1 > 0)
            for p, g in zip(Q, (x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)), strict=True):
                p -= np.float32(0.01) * g

    return large, small


RIVALS = {
    "minidl": minidl,
    "minidl-compile": lambda: minidl("compile"),
    "minidl-run": lambda: minidl("run"),
    "torch": torch,
    "torch-compile": lambda: torch(compiled=True),
    "jax": jax,
    "jax-scan": lambda: jax(scan=True),
    "sklearn": sklearn,
    "numpy": numpy,
}


def work(name):
    """A rival's process: runs what it is told to by lines on stdin and answers with the seconds it took."""
    try:
        tasks = dict(zip(("large", "small"), RIVALS[name](), strict=True))
    except ModuleNotFoundError as error:
        print(f"missing {error.name}", flush=True)
        return
    for task in tasks.values():
        task()
    print("ready", flush=True)
    for line in sys.stdin:
        task = tasks[line.strip()]
        start = time.perf_counter()
        task()
        print(time.perf_counter() - start, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument("--work", choices=RIVALS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}  # it would hold NumPy back
    environment |= dict.fromkeys(THREAD_VARIABLES, str(options.threads))
    if options.threads == 1:
        environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    processes = {}
    for name in options.rivals:
        process = subprocess.Popen(
            [sys.executable, __file__, "--work", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        answer = process.stdout.readline().strip()
        if answer == "ready":
            processes[name] = process
        else:
            print(f"{name}: left out ({answer or 'it failed'})")
    times = {(name, task): [] for name in processes for task in ("large", "small")}
    for _ in range(options.rounds):
        for name, process in processes.items():
            time.sleep(0.3)  # so that the others' idle threads have stopped spinning
            for task in ("large", "small"):
                print(task, file=process.stdin, flush=True)
                times[name, task].append(float(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    for task, title, scale, unit in (
        ("large", "MNIST epoch", N / BATCH / SLICE, "s"),
        ("small", "small step", 1e6 / 200, "µs"),
    ):
        base = statistics.median(times[next(iter(processes)), task])
        for name in processes:
            values = times[name, task]
            middle = statistics.median(values)
            print(
                f"{title:12s} {name:14s} {scale * middle:8.2f} {unit:2s}  (from {scale * min(values):.2f} to "
                f"{scale * max(values):.2f})   {middle / base:5.2f} × {next(iter(processes))}"
            )
    print(f"{options.threads} threads, medians of {options.rounds} rounds, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
