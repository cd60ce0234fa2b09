"""A tiny Transformer learns to sort. Expect some 99 % of unseen rows of 12 digits sorted without a mistake.

Two encoder layers read a row of digits and say, for each place, which digit stands there when the row is sorted. Every
batch is drawn anew, so nothing can be learnt by heart: there are 10^12 rows.

Usage: python 13_transformer.py [STEPS] [--quick]      (quick: a smaller net sorts rows of 4)
"""

import argparse
import time

import numpy as np

import minidl
from minidl import Tensor, nn, ops, optim

parser = argparse.ArgumentParser()
parser.add_argument("steps", nargs="?", type=int)
parser.add_argument("--quick", action="store_true", help="a net of one layer sorts rows of 4 digits")
given = parser.parse_args()
STEPS = given.steps or (200 if given.quick else 600)
LENGTH, LAYERS = (4, 1) if given.quick else (12, 2)
WIDTH, BATCH = 64, 128


class Sorter(nn.Module):
    def __init__(self):
        self.digits = nn.init.normal_(Tensor(np.empty((10, WIDTH), np.float32), requires_grad=True), std=0.5)
        self.places = nn.init.normal_(Tensor(np.empty((LENGTH, WIDTH), np.float32), requires_grad=True), std=0.5)
        layer = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, **layer) for _ in range(LAYERS))
        self.norm, self.output = nn.LayerNorm(WIDTH), nn.Dense(WIDTH, 10)

    def forward(self, rows):
        x = self.digits[rows] + self.places
        for layer in self.layers:
            x = layer(x)
        return self.output(self.norm(x))


minidl.manual_seed(0)
rng = np.random.default_rng(0)
model = Sorter()
optimizer = optim.Adam(model.parameters(), lr=1e-3)


@minidl.compile
def step(rows, answers):
    loss = ops.softmax_cross_entropy(model(rows).reshape(-1, 10), answers)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def sorted_by_model(rows):
    with minidl.no_grad():
        return model(rows).numpy().argmax(axis=-1)


start = time.perf_counter()
for n in range(1, STEPS + 1):
    rows = rng.integers(0, 10, (BATCH, LENGTH))
    optimizer.param_groups[0]["lr"] = 1e-3 * min(1, n / 100, 3 * (1 - n / (STEPS + 1)))
    loss = step(rows, np.sort(rows).reshape(-1))
    if n % 100 == 0:
        print(f"step {n}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s")

rows = np.random.default_rng(1).integers(0, 10, (2000, LENGTH))
found = sorted_by_model(rows)
for row, answer in zip(rows[:3], found, strict=False):
    print(*row, "->", *answer)
print(f"exactly sorted: {(found == np.sort(rows)).all(axis=1).mean():.1%} of 2,000 unseen rows")
