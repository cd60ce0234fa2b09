"""What the README writes is there, under the names it has, and its Python runs."""

import contextlib
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import data
from minidl.jit import interpreted

ROOT = Path(minidl.__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = ("README.md", "minidl/README.md", "examples/README.md", "benchmarks/README.md")
TEXTS = {name: (ROOT / name).read_text("utf-8") for name in PAGES}
BLOCKS = {name: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for name, text in TEXTS.items()}
EXTRAS = {"sklearn": "sklearn"}  # parts that take another package


def test_public_names_are_the_same_everywhere():
    public = {name for name in dir(minidl) if not name.startswith("_")}
    assert public == set(minidl.__all__)
    assert sorted(minidl.__all__) == list(minidl.__all__)
    in_readme = set(re.findall(r"\bminidl\.([a-zA-Z]\w*)", README))
    for line in re.findall(r"from minidl import ([\w, ]+)", README):
        in_readme |= set(line.split(", "))
    assert in_readme <= public | set(EXTRAS), "the README names what minidl does not have"
    quoted = set(re.findall(r"`(\w+)`", README))
    assert public <= in_readme | quoted, "the README says nothing of these"
    assert {"__version__", "__doc__", "__all__"} <= set(dir(minidl))


def test_all_that_is_public_can_be_imported_without_any_extra(monkeypatch):
    for part, package in EXTRAS.items():
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        monkeypatch.delitem(sys.modules, f"minidl.{part}", raising=False)
        monkeypatch.delitem(vars(minidl), part, raising=False)
    names = {}
    exec("from minidl import *", names)
    assert set(minidl.__all__) <= set(names)


@pytest.mark.parametrize("name", minidl.__all__)
def test_every_public_name_is_there(name):
    found = getattr(minidl, name)
    assert found.__doc__
    assert vars(sys.modules["minidl"]).get(name, found) is found
    with pytest.raises(AttributeError, match="module 'minidl' has no attribute 'nothing'"):
        minidl.nothing  # noqa: B018


def test_every_dotted_name_of_the_readme_is_there():
    for dotted in set(re.findall(r"\bminidl((?:\.[a-zA-Z]\w*)+)", "".join(TEXTS.values()))):
        found = minidl
        for name in dotted[1:].split("."):
            if name in EXTRAS:
                pytest.importorskip(EXTRAS[name], reason="the extra is not installed")
            found = getattr(found, name)


def test_every_path_of_the_readme_is_there():
    for name, text in TEXTS.items():
        for path in set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)):
            assert (ROOT / name).parent.joinpath(path).exists(), (name, path)


def as_mnist(name):
    """The built-in digits in place of a download: few of them, in the middle of 28 × 28 pixels."""
    assert name in ("mnist", "fashion_mnist", "kmnist")
    made = []
    for part, count in zip(data.load("digits"), (160, 40), strict=True):
        x = np.pad(part.x[:count], ((0, 0), (0, 0), (10, 10), (10, 10)))
        made.append(data.Dataset(x, part.y[:count]))
    return tuple(made)


def substituted(block):
    """The block with less to do, where that changes nothing of what it shows."""
    small = {"batch_size=128": "batch_size=32", "range(128)": "range(32)", "epochs=20": "epochs=1", "512": "32"}
    for large, less in small.items():
        block = block.replace(large, less)
    return block


@pytest.mark.skipif(interpreted(), reason="a compiled step and a convolutional net take minutes as plain Python")
def test_the_python_of_the_readme_runs(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    monkeypatch.chdir(tmp_path)
    assert {name: len(blocks) for name, blocks in BLOCKS.items() if blocks} == {"README.md": 1, "minidl/README.md": 7}
    load = data.load
    monkeypatch.setattr(data, "load", lambda name: as_mnist(name) if name != "digits" else load(name))
    scope = {"__name__": "readme"}
    with contextlib.ExitStack() as after:
        ops = importlib.import_module("minidl.tensor").OPS
        after.callback(ops.pop, "softsign", None)
        after.callback(
            importlib.import_module("minidl.ops.activation").relu_forward.variants.pop, "relu_by_maximum", None
        )
        for name, blocks in BLOCKS.items():
            for i, block in enumerate(blocks):
                exec(compile(substituted(block), f"{name}, block {i + 1}", "exec"), scope)
    shown = capsys.readouterr().out
    assert "gradients agree" in shown
    assert "'accuracy': " in shown
    assert scope["step"].source
    assert len(scope["history"].rows) == 1
    assert {p.name for p in tmp_path.iterdir()} >= {"curves.png", "run.safetensors"}
