"""The examples in the docstrings of the names that people meet first: each has one, and it shows what it says."""

import doctest
import inspect
import sys

import numpy as np
import pytest

import minidl
from minidl import checkpoint, data, jit, metrics, nn, ops, optim, train
from minidl.train import callbacks

SCOPE = {  # what the examples take as imported: `minidl`, `np`, and its parts by their own names
    "np": np,
    "minidl": minidl,
    **{m.__name__.rpartition(".")[2]: m for m in (callbacks, checkpoint, data, metrics, nn, ops, optim, train)},
}
FIRST_MET = {
    "minidl": "no_grad kernel gradcheck compile explain summary manual_seed",
    "nn": "Module Dense Sequential ReLU Conv2d Dropout BatchNorm1d LSTM Embedding",
    "ops": "matmul softmax_cross_entropy mse sum where",
    "optim": "SGD Adam CosineAnnealingLR clip_grad_norm_",
    "data": "load Loader",
    "train": "fit evaluate",
    "callbacks": "EarlyStopping",
    "checkpoint": "save_model load_model",
    "metrics": "accuracy_score",
}
NAMES = [f"{part}.{name}" for part, names in FIRST_MET.items() for name in names.split()]


def example_of(dotted: str, text: str | None = None) -> doctest.DocTest:
    """The examples of a name's docstring (or of `text` instead), to run with `SCOPE` as a program's own variables."""
    first, *rest = dotted.split(".")
    value = SCOPE[first]
    for name in rest:
        value = getattr(value, name)
    scope = {**SCOPE, "__name__": "docstring"}
    return doctest.DocTestParser().get_doctest(text or inspect.getdoc(value) or "", scope, dotted, None, 0)


def run(example: doctest.DocTest) -> tuple[int, str]:
    """How many of its lines give something else, and the report of them."""
    report: list[str] = []
    failed, _ = doctest.DocTestRunner().run(example, out=report.append)
    return failed, "".join(report)


@pytest.fixture(autouse=True)
def aside(monkeypatch, tmp_path):
    """Files, ops and kernels that an example makes are gone after it, and its numbers are its own."""
    monkeypatch.chdir(tmp_path)
    kept = [(registry, dict(registry)) for registry in (sys.modules["minidl.tensor"].OPS, jit.KERNELS)]
    minidl.manual_seed(0)
    yield
    for registry, entries in kept:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("dotted", NAMES)
def test_the_example_shows_what_it_says(dotted):
    example = example_of(dotted)
    assert any(line.want for line in example.examples), f"{dotted} has no example in its docstring that shows a result"
    failed, report = run(example)
    assert not failed, report


def test_a_wrong_result_is_noticed():
    failed, report = run(example_of("ops.sum", ">>> ops.sum(np.ones(3)).item()\n4.0\n"))
    assert failed == 1
    assert "Expected:\n    4.0\nGot:\n    3.0" in report


def test_names_are_named_once():
    assert len(NAMES) == len(set(NAMES)) >= 30
