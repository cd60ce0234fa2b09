"""The page about a run: what it says is what the run's files say, and nothing in it reaches out."""

import base64
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from minidl import data
from minidl.checkpoint import load_model
from minidl.cli import main
from minidl.report import page
from minidl.report.charts import curves, matrix, ticks
from minidl.train import predict

SMALL = ["--dataset", "digits", "--hidden", "8", "--batch-size", "100", "--quiet", "--epochs", "3"]


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Reader(HTMLParser):
    """Is every element closed, in order, and what do they refer to?"""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.tags = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def figures(**changed):
    rows = [
        {"epoch": k + 1, "train_loss": 1 / (k + 1), "train_accuracy": 0.5 + k / 10, "test_loss": 1.5 / (k + 1),
         "test_accuracy": 0.4 + k / 10, "lr": 0.1 / (k + 1), "seconds": 1.25}
        for k in range(4)
    ]  # fmt: skip
    return {"config": {"model": "mlp", "dataset": "digits", "lr": 0.1}, "parameters": 1234, "epochs": rows, **changed}


def test_the_page_says_what_the_run_left(capsys):
    assert main(["train", *SMALL, "--log-dir", "run", "--val-split", "0.2"]) == 0
    assert main(["report", "run"]) == 0
    assert "wrote run/model.html" in capsys.readouterr().err
    text = Path("run/model.html").read_text("utf-8")
    reader = Reader(text)
    assert "script" not in reader.tags
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|[\"'(]//|@import|url\(", text)
    left = json.loads(Path("run/model.json").read_text("utf-8"))
    for row in left["epochs"]:
        assert f"training, epoch {row['epoch']}: {row['train_loss']:.4f}" in text
        assert f"validation, epoch {row['epoch']}: {100 * row['val_accuracy']:.2f} %" in text
    test = data.load("digits")[1]
    p = predict(load_model("run/model.safetensors")[0], test.x)
    found = p.argmax(axis=1)
    assert f"<dd>{100 * np.mean(found == test.y):.2f} %</dd>" in text
    for k in range(10):
        for j in range(10):
            count = np.sum((test.y == k) & (found == j))
            about = f"{count} of {np.sum(test.y == k)} images of class {k} were taken for class {j}"
            assert f'title="{about}">{count or "·"}</td>' in text
    worst = max(np.flatnonzero(found != test.y), key=lambda i: p[i].max())
    first = re.search(r'alt="test image (\d+): true class (\d), predicted (\d)"', text)
    assert [int(n) for n in first.groups()] == [worst, test.y[worst], found[worst]]


def test_mistakes_are_pictures_of_the_images(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow, of the plot extra, is not installed")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 1, 5, 7), np.uint8)
    p = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    text = page(figures(), images, np.array([0, 0, 0]), p)
    shown = [base64.b64decode(link.partition(",")[2]) for link in Reader(text).links]
    assert len(shown) == 2
    for content, i in zip(shown, (2, 1), strict=True):  # the surest first
        (tmp_path / "x.png").write_bytes(content)
        np.testing.assert_array_equal(np.asarray(image.open(tmp_path / "x.png")), images[i, 0])


def test_without_mistakes_and_with_sentences_of_a_watcher():
    images, p = np.zeros((2, 1, 2, 2), np.uint8), np.eye(2)
    text = page(figures(watch=["layer <b> is dead"], stopped="it was <good>"), images, np.array([0, 1]), p)
    assert "There are none" in text
    assert html.escape("layer <b> is dead") in text
    assert html.escape("it was <good>") in text
    assert "<good>" not in text
    assert "Nothing out of the ordinary" in page(figures(watch=[]), images, np.array([0, 1]), p)
    assert "Noticed" not in page(figures(), images, np.array([0, 1]), p)


def test_curves_are_drawn_to_scale():
    text = curves("Loss", {"a": [3.0, 1.0, float("nan"), 2.0], "b": [1.0]})
    first, second = re.findall(r'<path class="series s\d" d="([^"]*)"', text)
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", first)]
    assert [command for command in first if command in "ML"] == ["M", "L", "M"]  # a gap where there is no number
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx((xs[2] - xs[0]) / 3, abs=0.1)
    assert ys[0] < ys[2] < ys[1]
    assert ys[2] == pytest.approx((ys[0] + ys[1]) / 2, abs=0.1)
    assert second.startswith("M")
    assert curves("Loss", {"a": [float("nan")]}) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.9512), (-3, 1e6), (1e-9, 3e-9), (0, 1e-3)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * abs(low) <= t <= high * (1 + 1e-9) for t in found)
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0])
    assert steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.0000001)) == pytest.approx(
        min((1, 2, 5, 10), key=lambda m: abs(m - steps[0] / 10 ** np.floor(np.log10(steps[0] * 1.0000001))))
    )


def test_a_class_without_images_has_an_empty_row():
    assert "0 of 0 images" in matrix(np.array([[1, 0], [0, 0]]))


def test_bad_input_is_told(capsys):
    images, labels, p = np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), np.eye(2)
    for call in (
        lambda: page(figures(), images[:1], labels, p),
        lambda: page(figures(), images[:, 0], labels, p),
        lambda: page(figures(), images[:0], labels[:0], p[:0]),
        lambda: page(figures(epochs=[]), images, labels, p),
        lambda: page(figures(epochs="many"), images, labels, p),
    ):
        with pytest.raises(ValueError, match="report: expected"):
            call()
    main(["train", *SMALL, "--out", "m.safetensors"])
    Path("other.json").write_text("[1]", "utf-8")
    Path("directory.html").mkdir()
    capsys.readouterr()
    for arguments, code, told in (
        (["none"], 1, "none.json"),
        (["other.safetensors"], 1, "other.json: expected the figures"),
        (["m.safetensors", "--out", "x.htm"], 2, "ending in .html"),
        (["m.safetensors", "--out", "none/x.html"], 1, "--out: cannot write none/x.html"),
        (["m.safetensors", "--out", "directory.html"], 1, "--out: cannot write"),
        (["m.safetensors", "--dataset", "mnits"], 2, "choose from"),
    ):
        assert main(["report", *arguments]) == code
        assert told in capsys.readouterr().err
    Path("m.json").write_text("{", "utf-8")
    assert main(["report", "m.safetensors"]) == 1
    assert "m.json: expected the figures" in capsys.readouterr().err
