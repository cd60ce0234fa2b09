"""What `train.fit` costs beside the bare compiled loop: python benchmarks/fit.py

An epoch of MNIST (784-512-10, batch 128, Adam), alternated in one process: the loop by hand, `step(x, y)` for each
batch; `step.run(loader)`, the loop in machine code; and `fit`, which takes the second way, or, where a callback asks
after each step, the first.
"""

import argparse
import statistics
import time

import minidl
from minidl import data, models, ops, optim, train

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--rounds", type=int, default=9)
arguments = parser.parse_args()
digits, _ = data.load("mnist")


class EachStep:
    def on_step_end(self, run):
        pass


def prepared():
    minidl.manual_seed(0)
    model = models.mlp((1, 28, 28), [512], 10)
    return model, optim.Adam(model.parameters(), lr=1e-3), data.Loader(digits, batch_size=128, shuffle=True)


def fitted(*callbacks):
    """The second epoch of a `fit`: the first records and compiles the step."""
    model, optimizer, loader = prepared()
    ends = []
    told = [lambda run: ends.append(time.perf_counter()), *callbacks]
    train.fit(model, loader, epochs=2, optimizer=optimizer, callbacks=told, compile=True, verbose=False)
    return ends[1] - ends[0]


def by_hand(whole):
    model, optimizer, loader = prepared()

    @minidl.compile
    def step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    def epoch():
        start = time.perf_counter()
        if whole:
            step.run(loader)
        else:
            for x, y in loader:
                step(x, y)
        return time.perf_counter() - start

    epoch()
    return epoch


calls, runs = by_hand(False), by_hand(True)
figures = {"step(x, y) by hand": [], "step.run by hand": [], "fit, asked each step": [], "fit": []}
for _ in range(arguments.rounds):
    figures["step(x, y) by hand"].append(calls())
    figures["fit, asked each step"].append(fitted(EachStep()))
    figures["step.run by hand"].append(runs())
    figures["fit"].append(fitted())
print(f"{minidl.get_num_threads()} threads, seconds an epoch, median (least to most) of {arguments.rounds}")
for name, seconds in figures.items():
    print(f"{name:22}{statistics.median(seconds):7.3f} ({min(seconds):.3f} to {max(seconds):.3f})")
for mine, bare in (("fit, asked each step", "step(x, y) by hand"), ("fit", "step.run by hand")):
    ratios = [a / b for a, b in zip(figures[mine], figures[bare], strict=True)]
    print(f"{mine} / {bare}: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
