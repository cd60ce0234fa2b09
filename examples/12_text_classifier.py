"""From which package of Python's standard library does a text come? Expect 63 % right, where the largest is 21 %.

The texts are on every machine that runs Python: docstrings and comments of eight words or more, from the six packages
that have the most of them and are in every installation. Files, not texts, are drawn for testing, so that no text is
tested whose neighbours were learnt; words that name a package or a module of it are struck out, or it would be too
easy. A text is the mean of its words' learnt vectors (Joulin et al. 2017). A naive Bayes classifier stands beside it.

Usage: python 12_text_classifier.py [--quick]      (quick: fewer epochs)
"""

import ast
import re
import sys
import sysconfig
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np

import minidl
from minidl import Tensor, nn, ops, optim

PACKAGES = ["asyncio", "email", "importlib", "multiprocessing", "unittest", "xml"]
WORDS, LENGTH, WIDTH, BATCH = 4000, 64, 64, 64
EPOCHS = 10 if "--quick" in sys.argv else 30
HOME = Path(sysconfig.get_paths()["stdlib"])


def texts_of(path):
    """Docstrings, and comments that stand in consecutive lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    block, last = [], -2
    with path.open("rb") as file:
        comments = [t for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]
    for token in comments:
        if token.start[0] != last + 1:
            yield " ".join(block)
            block = []
        block.append(token.string.lstrip("#"))
        last = token.start[0]
    yield " ".join(block)


def collect(rng):
    """((texts as lists of words, their packages), for training and for testing)"""
    parts = ([], []), ([], [])
    for label, package in enumerate(PACKAGES):
        files = sorted(p for p in (HOME / package).rglob("*.py") if "test" not in p.relative_to(HOME).parts[1:])
        names = {package, *(p.stem.strip("_") for p in files)}
        tested = set(rng.permutation(len(files))[: len(files) // 4].tolist())
        for i, path in enumerate(files):
            for text in texts_of(path):
                words = [w for w in re.findall(r"[a-z]+", text.lower()) if w not in names]
                if len(words) >= 8:
                    texts, labels = parts[i in tested]
                    texts.append(words)
                    labels.append(label)
    return parts


class Classifier(nn.Module):
    def __init__(self):
        self.table = nn.init.normal_(Tensor(np.empty((WORDS, WIDTH), np.float32), requires_grad=True), std=0.3)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Dense(WIDTH, len(PACKAGES)))

    def forward(self, words, shares):
        return self.head(ops.sum(self.table[words] * shares, axis=1))


minidl.manual_seed(0)
(train, y), (test, wanted) = collect(np.random.default_rng(0))
y, wanted = np.array(y), np.array(wanted)
places = {w: i for i, (w, _) in enumerate(Counter(w for t in train for w in t).most_common(WORDS))}


def arrays(texts):
    """(N, LENGTH) words by number and (N, LENGTH, 1) their shares in the mean; words that are not known have none."""
    words, shares = np.zeros((len(texts), LENGTH), np.int64), np.zeros((len(texts), LENGTH, 1), np.float32)
    for i, text in enumerate(texts):
        known = [places[w] for w in text if w in places][:LENGTH]
        words[i, : len(known)], shares[i, : len(known)] = known, 1 / max(1, len(known))
    return words, shares


words, shares = arrays(train)
model = Classifier()
optimizer = optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)


@minidl.compile
def step(words, shares, labels):
    loss = ops.softmax_cross_entropy(model(words, shares), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


rng = np.random.default_rng(1)
for _ in range(EPOCHS):
    order = rng.permutation(len(y))
    for i in range(0, len(y) - BATCH + 1, BATCH):
        rows = order[i : i + BATCH]
        step(words[rows], shares[rows], y[rows])
model.eval()
with minidl.no_grad():
    right = (model(*arrays(test)).numpy().argmax(axis=1) == wanted).mean()

counts = np.ones((len(PACKAGES), WORDS))
for text, label in zip(train, y, strict=True):
    for word in text:
        if word in places:
            counts[label, places[word]] += 1
scores = np.log(counts / counts.sum(axis=1, keepdims=True))
prior = np.log(np.bincount(y) / len(y))
bayes = [(prior + sum(scores[:, places[w]] for w in text if w in places)).argmax() for text in test]

print(f"{len(train)} texts to learn from, {len(test)} of other files to test on; packages: {', '.join(PACKAGES)}")
print(f"always the largest package: {(wanted == np.bincount(y).argmax()).mean():.1%}")
print(f"naive Bayes:                {(np.array(bayes) == wanted).mean():.1%}")
print(f"mean of word vectors:       {right:.1%}")
