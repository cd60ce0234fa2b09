"""The course in examples/learn runs as a learner runs it, and what it asserts would fail if it were not so."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from minidl.jit import interpreted

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "examples" / "learn").glob("*.py"))
NEEDS_COMPILED = {8, 9, 10}  # train a net, or time a kernel

# What is replaced, and by what: each makes a lesson wrong.
FAULTS = {
    1: [
        ("dL * 2 * e", "dL * e"),
        ("dy * (1 - y * y)", "dy * (1 + y * y)"),
        ("dw = dp * x", "dw = dp * w"),
        ("promised = -rate", "promised = -2 * rate"),
        ("w - 0.05 * dz * x", "w + 0.05 * dz * x"),
    ],
    2: [
        ("((self, 1.0), (other, -1.0))", "((self, 1.0), (other, 1.0))"),
        ("((self, other.value), (other, self.value))", "((self, self.value), (other, other.value))"),
        ("((self, 1 - y * y),)", "((self, 1 - y),)"),
        ("self.grad += arriving", "self.grad = arriving"),
        ("x.backward(arriving * slope)", "x.backward(slope)"),
    ],
    3: [
        ("number.grad += arriving", "number.grad = arriving"),
        ("if x not in queue:", "if True:"),
        ("if not uses[x]:", "if True:"),
        ("x.grad += number.grad * slope\n            uses", "x.grad = number.grad * slope\n            uses"),
        ("uses[x] = uses.get(x, 0) + 1", "uses[x] = 1"),
        ("late = c.grad * 2", "late = c.grad"),
    ],
    4: [
        ("number.grad += total", "number.grad = total"),
        ("arrived.get(x, 0.0) + total * slope", "total * slope"),
        ("w.grad = b.grad = 0.0\nL", "L"),
        ("if zeroing:", "if not zeroing:"),
        ("b.value - 0.05 * b.grad", "b.value"),
    ],
    5: [
        ("(other, lambda dy: a.T @ dy)", "(other, lambda dy: 2 * a.T @ dy)"),
        ("dx = dx.sum(", "dx = dx.mean("),
        ("return dx.sum(", "return dx.mean("),
        ("dy * (1 - y * y)", "dy * (1 - y)"),
        ("arrived.get(x, 0.0) + summed_to", "summed_to"),
        ("p.values - 0.1 * p.grad", "p.values + 0.1 * p.grad"),
    ],
    6: [
        ("np.diag(p) - np.outer(p, p)", "np.diag(p) + np.outer(p, p)"),
        ("dp = -y / p", "dp = y / p"),
        ("np.exp(z).sum()", "np.exp(z).mean()"),
        ("(p - y)[right], (", "p[right], ("),
    ],
    7: [
        ("(f(x + h) - f(x - h)) / (2 * h)", "(f(x + h) - f(x)) / h"),
        ("-p * (dp", "p * (dp"),
        ("dy * x * x", "dy * 2 * x"),
        ("softmax_with_a_slip(z).sum()", "softmax_with_a_slip(z)[0]"),
        ("for v in (1e-6, 0.5)", "for v in (0.1, 0.5)"),
    ],
    8: [
        ("dy * s / (2 * r)", "-dy * s / (2 * r)"),
        ("dy * s / r", "dy * s / (2 * r)"),
        ("return squareplus(x, self.s)", "return ops.relu(x)"),
        ("lr=0.02", "lr=0.0"),
    ],
    9: [
        ("half * s * s / (r - x[i])", "half * s / (r - x[i])"),
        ("if x[i] < 0 else", "if x[i] < -2000 else"),
        ("half * (x[i] + r)", "half * (x[i] + r) + x.dtype.type(1e-13)"),
        ("dy[i] * y[i] / np", "dy[i] / np"),
    ],
    10: [
        ("m / (1 - self.beta1**self.t)", "m"),
        ("(1 - self.beta2) * p.grad**2", "(1 - self.beta1) * p.grad**2"),
        ("np.sqrt(square) + self.eps", "np.sqrt(square + self.eps)"),
        ("self.beta1 * m + (1 - self.beta1) * p.grad", "m + (1 - self.beta1) * p.grad"),
        ("p.data -= ", "p.data += "),
        ("lr=0.003", "lr=0.0"),
    ],
}

# Runs a lesson with one fault after the other, in one process, and prints those that no assertion noticed.
SEED = """
import contextlib, io, json, pathlib, runpy, sys
source, survived = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"), []
for i, (old, new) in enumerate(json.loads(sys.argv[2])):
    if source.count(old) != 1:
        sys.exit(f"{old!r} is there {source.count(old)} times")
    copy = pathlib.Path(sys.argv[3]) / f"fault_{i}.py"
    copy.write_text(source.replace(old, new), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(copy), run_name="__main__")
    except AssertionError:
        continue
    survived.append([old, new])
print(json.dumps(survived))
"""


SKIP = pytest.mark.skipif(interpreted(), reason="takes long where kernels are plain Python")
each_lesson = pytest.mark.parametrize(
    ("number", "path"),
    [
        pytest.param(number, path, id=path.stem, marks=[SKIP] if number in NEEDS_COMPILED else [])
        for number, path in enumerate(LESSONS, 1)
    ],
)


def run(*command, **environment):
    """What a new Python prints, without MNIST's directory and behind a proxy that is not there."""
    inherited = {k: v for k, v in os.environ.items() if k != "MINIDL_DATA"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    fixed = {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "NUMBA_NUM_THREADS": "1"}
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *command],
        env={**inherited, **fixed, **proxies, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def columns(line):
    return sum(not unicodedata.combining(c) for c in line)


def test_there_are_ten_lessons_each_with_faults():
    assert [int(path.name[:2]) for path in LESSONS] == list(FAULTS) == list(range(1, 11))


@each_lesson
def test_a_lesson_says_its_number_and_ends_with_a_question(number, path):
    lines = run(str(path)).splitlines()
    assert lines[0].startswith(f"{number}. ")
    assert lines[-1].endswith("?")
    assert max(map(columns, lines)) <= 80
    assert len(lines) <= 50  # to be read in one go


@each_lesson
def test_a_lesson_notices_when_it_is_wrong(number, path, tmp_path):
    environment = {"MINIDL_CACHE": str(tmp_path)} if number == 9 else {}  # its kernels are compiled with each fault
    survived = json.loads(run("-c", SEED, str(path), json.dumps(FAULTS[number]), str(tmp_path), **environment))
    assert survived == []
