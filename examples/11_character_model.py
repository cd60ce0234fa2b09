"""A GRU learns to write Python, a character at a time, from the standard library's own source. Expect about 2 bits a
character of files that it has not seen, where the frequencies of characters alone give 4.6.

After Karpathy 2015, "The unreasonable effectiveness of recurrent neural networks". The state goes on from one piece of
text to the next, but gradients stay within a piece.      Usage: python 11_character_model.py [STEPS] [--quick]
"""

import argparse
import math
import sysconfig
import time
from pathlib import Path

import numpy as np

import minidl
from minidl import nn, ops, optim

parser = argparse.ArgumentParser()
parser.add_argument("steps", nargs="?", type=int)
parser.add_argument("--quick", action="store_true", help="a small net, and few files to learn from")
given = parser.parse_args()
STEPS = given.steps or (150 if given.quick else 1500)
BATCH, LENGTH, WIDTH, PEAK = 64, 64, 64 if given.quick else 256, 4e-3

files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[: 30 if given.quick else None]
texts = [f.read_text("utf-8", errors="ignore").encode("ascii", "ignore").decode() for f in files]
characters = "\n" + "".join(map(chr, range(32, 127)))
code = {c: i for i, c in enumerate(characters)}


def encoded(texts):
    return np.array([code[c] for text in texts for c in text.replace("\t", "    ") if c in code])


held_out = encoded(texts[::10])
learnt = encoded([t for i, t in enumerate(texts) if i % 10])


class Writer(nn.Module):
    def __init__(self):
        self.embedding = nn.Embedding(len(characters), 64)
        self.gru = nn.GRU(64, WIDTH)
        self.output = nn.Dense(WIDTH, len(characters))

    def forward(self, x, h):
        y, h = self.gru(self.embedding(x), h)
        return self.output(y), h


def nats(logits, targets):
    return ops.softmax_cross_entropy(ops.reshape(logits, (-1, len(characters))), targets.reshape(-1))


minidl.manual_seed(0)
model = Writer()
optimizer = optim.Adam(model.parameters(), lr=PEAK)


@minidl.compile
def step(x, y, h):
    logits, h = model(x, h)
    loss = nats(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss, h.detach()


def pieces(text, batch):
    """(x, y) of shape (LENGTH, batch): each column goes on where it ended in the piece before."""
    columns = text[: (len(text) - 1) // batch * batch].reshape(batch, -1).T
    for i in range(0, len(columns) - LENGTH - 1, LENGTH):
        yield columns[i : i + LENGTH], columns[i + 1 : i + LENGTH + 1]


def bits(text):
    h, found = np.zeros((1, BATCH, WIDTH), np.float32), []
    with minidl.no_grad():
        for x, y in pieces(text, BATCH):
            logits, h = model(x, h)
            found.append(nats(logits, y).item())
    return np.mean(found) / math.log(2)


def write(start, count, rng, heat=0.7):
    """Go on from `start`, each character drawn from the model's probabilities, sharpened by 1 / heat."""
    h, text = np.zeros((1, 1, WIDTH), np.float32), start
    given = np.array([[code[c]] for c in start])
    with minidl.no_grad():
        for _ in range(count):
            logits, h = model(given, h)
            p = ops.softmax(logits[-1, 0] * (1 / heat)).numpy().astype(np.float64)
            text += characters[rng.choice(len(p), p=p / p.sum())]
            given = np.array([[code[text[-1]]]])
    return text


share = np.bincount(held_out, minlength=len(characters)) / len(held_out)
alone = -(share[share > 0] * np.log2(share[share > 0])).sum()
print(f"{len(learnt):,} characters to learn from; those of the unseen files take {alone:.2f} bits each by frequency")
done, start = 0, time.perf_counter()
while done < STEPS:
    h = np.zeros((1, BATCH, WIDTH), np.float32)
    for x, y in pieces(learnt, BATCH):
        optimizer.param_groups[0]["lr"] = PEAK * (1 - done / STEPS)
        loss, h = step(x, y, h)
        done += 1
        if done % 250 == 0:
            print(f"step {done}: {loss.item() / math.log(2):.2f} bits, {time.perf_counter() - start:.0f} s")
        if done == STEPS:
            break
print(f"unseen files: {bits(held_out):.2f} bits a character\n")
print(write("def ", 500, np.random.default_rng(0)))
