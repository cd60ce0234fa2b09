"""The examples run as a reader runs them, and say what they should (03_mnist.py: the command line's tests train it)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minidl.jit import interpreted

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str) -> str:
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
