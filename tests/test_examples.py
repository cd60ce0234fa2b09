"""All examples run as a reader runs them, and say what they should; the long ones in their quick mode."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minidl import data
from minidl.jit import interpreted

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str) -> str:
    """What the program prints. `name`: its path below examples/."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",  # formulas are printed as formulas
    }
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(pattern: str, text: str) -> list[float]:
    """What the pattern's group finds, as numbers."""
    return [float(found) for found in re.findall(pattern, text)]


trains = pytest.mark.skipif(interpreted(), reason="training takes minutes where kernels are plain Python")


def test_every_example_is_run_here():
    told = Path(__file__).read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in told, f"{path.name} has no test"


def test_backprop_by_hand():
    lines = run("01_backprop_by_hand.py").splitlines()
    assert lines[0].split()[3] == lines[0].split()[5]  # the two losses, to 15 digits
    assert lines[-1] == "The gradients agree to the last bits of float64."


@pytest.mark.skipif(interpreted(), reason="50 epochs take minutes where kernels are plain Python")
def test_moons_draws_its_boundary(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    picture = tmp_path / "moons.png"
    assert f"the boundary is drawn in {picture}" in run("02_moons.py", str(picture))
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.skipif(interpreted(), reason="a million numbers take long where kernels are plain Python")
def test_your_own_op():
    out = run("04_your_own_op.py")
    assert "softsign: gradients agree" in out
    assert "forgetful: gradients differ" in out
    assert "fast: gradients agree" in out
    assert "relu with another kernel: [-0.2  3. ]" in out
    assert "relu again: [0. 3.]" in out


def test_read_your_gradients():
    out = run("05_read_your_gradients.py")
    for part in ("# ---- backward", "d_layers_0_weight", "return (loss, ", "after 2,000 steps 0.0"):
        assert part in out


@pytest.mark.skipif(interpreted(), reason="three epochs of MNIST take hours where kernels are plain Python")
def test_mnist_in_a_second():
    try:
        data.load("mnist")
    except data.DataError as error:
        pytest.skip(f"no MNIST: {error}")
    found = re.search(r"test accuracy (\d+\.\d+)%", run("06_mnist_in_a_second.py"))
    assert found
    assert float(found[1]) >= 98


@pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT is set: there is nothing compiled to time")
def test_bench_mine():
    lines = run("../benchmarks/bench_mine.py").splitlines()
    assert lines[0].startswith("refused: relu_forward: hides_nan ")
    assert [line.split()[0] for line in lines if line.startswith("  on_threads")] == ["on_threads"] * 2


@pytest.mark.skipif(interpreted(), reason="an epoch of MNIST takes hours where kernels are plain Python")
def test_vae(tmp_path):
    try:
        data.load("mnist")
    except data.DataError as error:
        pytest.skip(f"no MNIST: {error}")
    picture = tmp_path / "vae.png"
    found = re.search(r"epoch  1: test ELBO (-\d+\.\d+) nats", run("10_vae.py", "1", str(picture)))
    assert found
    assert float(found[1]) > -130
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_explaining_a_graph(tmp_path):
    page = tmp_path / "backprop.html"
    assert "without accumulation it would be" in run("15_explain.py", str(page))
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.skipif(interpreted(), reason="four nets take minutes where kernels are plain Python")
def test_a_run_that_is_watched():
    assert "Nothing wrong was noticed." in run("18_watch_a_run.py")


# Accuracies of a first training on 1,437 digits: far below what the examples reach on MNIST, far above chance.
@trains
@pytest.mark.parametrize(
    ("name", "epochs", "least"),
    [("03_mnist.py", 5, 80), ("07_lenet.py", 3, 60), ("08_resnet.py", 4, 80), ("09_lstm.py", 5, 60)],
)
def test_digits_are_learnt(name, epochs, least):
    out = run(name, "--quick")
    assert figures(r"epoch (\d+): test accuracy", out) == list(range(1, epochs + 1))
    accuracies = figures(r"test accuracy (\d+\.\d+)%", out)
    assert least < accuracies[-1] < 100
    assert accuracies[-1] > accuracies[0]


@trains
def test_character_model():
    out = run("11_character_model.py", "--quick")
    (alone,), (learnt,) = figures(r"take (\d\.\d+) bits each", out), figures(r"unseen files: (\d\.\d+) bits", out)
    assert 1 < learnt < alone - 0.7
    assert len(out[out.index("def ") :].rstrip("\n")) > 400  # what it writes


@trains
def test_text_classifier():
    out = run("12_text_classifier.py", "--quick")
    (largest,), (bayes,) = figures(r"package: +(\d+\.\d+)%", out), figures(r"Bayes: +(\d+\.\d+)%", out)
    (right,) = figures(r"word vectors: +(\d+\.\d+)%", out)
    assert min(bayes, right) > 2 * largest


@trains
def test_transformer_sorts():
    out = run("13_transformer.py", "--quick")
    (share,) = figures(r"exactly sorted: (\d+\.\d+)%", out)
    assert share > 80
    rows = re.findall(r"^([\d ]+) -> ([\d ]+)$", out, re.MULTILINE)
    assert len(rows) == 3
    assert any(sorted(row.split()) == answer.split() for row, answer in rows)


@trains
def test_augmentation():
    out = run("14_augmentation.py", "--quick")
    ((plain, augmented),) = re.findall(r"seed 0: test accuracy (\d+\.\d+) %, augmented (\d+\.\d+) %", out)
    assert 80 < float(plain) < 100
    assert 80 < float(augmented) < 100
    assert plain != augmented


@trains
def test_search(tmp_path):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    picture = tmp_path / "search.png"
    out = run("16_search.py", "--quick", str(picture))
    (best,) = figures(r"best: (\d+\.\d+)% after 3 epochs", out)
    assert best > 85
    assert f"all trials are drawn in {picture}" in out
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@trains
def test_scikit_learn():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    out = run("17_scikit_learn.py", "--quick")
    accuracies = figures(r"test accuracy (\d+\.\d+)%", out)
    assert len(accuracies) == 4
    assert min(accuracies) > 75
    assert "'minidlclassifier__hidden_layer_sizes': (64,)" in out
    (r2,) = figures(r"R² (-?\d+\.\d+)", out)
    assert r2 > 0.3
