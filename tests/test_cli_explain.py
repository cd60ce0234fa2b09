"""`minidl explain`: the built-in net and a trained one, opened on a page."""

import json
from pathlib import Path

import numpy as np
import pytest

from minidl import data
from minidl.checkpoint import load_model
from minidl.cli import main
from minidl.train import predict


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model():
    train = ["train", "--dataset", "digits", "--hidden", "3", "--batch-size", "400", "--epochs", "1", "--quiet"]
    assert main([*train, "--standardize", "--out", "m.safetensors"]) == 0
    np.save("one.npy", data.load("digits")[1].x[:1])
    return "m.safetensors"


def test_the_built_in_net(capsys):
    assert main(["explain", "--text"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Backward from loss")
    assert "wrote backprop.html" in err
    assert Path("backprop.html").read_text("utf-8").startswith("<!doctype html>")
    assert main(["explain", "--out", "other.html"]) == 0
    assert capsys.readouterr().out == ""
    assert Path("other.html").read_bytes() == Path("backprop.html").read_bytes()


def test_the_page_is_shown_if_asked(monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    assert main(["explain"]) == 0
    assert shown == []
    assert main(["explain", "--open"]) == 0
    assert shown == [Path("backprop.html").absolute().as_uri()]


def test_a_trained_model_on_an_image(model, capsys):
    capsys.readouterr()
    assert main(["explain", model, "--image", "one.npy", "--label", "7", "--text"]) == 0
    out = capsys.readouterr().out
    net, config = load_model(model)
    values = predict(net, data.Loader(np.load("one.npy"), **config["standardize"]))[0]
    loss = float(out.partition("loss = ")[2].split(",")[0])
    assert loss == pytest.approx(-np.log(values[7]), rel=1e-5)
    for name in ("1.weight", "1.bias", "3.weight", "3.bias", "image"):
        assert f"dL/d({name})" in out
    assert main(["explain", model, "--image", "one.npy", "--out", "x.html"]) == 0
    assert f"takes it for class {values.argmax()}" in capsys.readouterr().err


def test_bad_input_is_told(model, capsys):
    Path("text.npy").write_text("hello", "utf-8")
    Path("backprop.html").mkdir()
    capsys.readouterr()
    for arguments, code, told in (
        ([model], 1, "expected a MODEL and an --image"),
        (["--image", "one.npy"], 1, "expected a MODEL and an --image"),
        ([], 1, "--out: cannot write backprop.html"),
        ([model, "--image", "text.npy", "--out", "x.html"], 1, "text.npy"),
        ([model, "--image", "one.npy", "--label", "10", "--out", "x.html"], 1, "from 0 to 9, found 10"),
        (["one.npy", "--image", "one.npy", "--out", "x.html"], 1, "one.npy"),
        (["--out", "x.json"], 2, "ending in .html"),
        ([model, "--label", "-1"], 2, "at least 0"),
    ):
        assert main(["explain", *arguments]) == code
        out, err = capsys.readouterr()
        assert told in err
        assert out == ""
    assert not Path("x.html").exists()
    assert json.loads(Path("m.json").read_text("utf-8"))["epochs"]
