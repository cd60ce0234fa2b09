"""The examples run as a reader runs them, and say what they should (03_mnist.py: the command line's tests train it)."""

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
    }
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
