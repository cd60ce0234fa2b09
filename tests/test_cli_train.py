"""`minidl train` as a run that is left alone: settings from a file, validation, stopping, and going on after a kill."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import data
from minidl.checkpoint import load_checkpoint, load_model
from minidl.cli import main
from minidl.commands import train as training
from minidl.jit import interpreted
from minidl.train import evaluate, predict

ROOT = Path(minidl.__file__).parents[1]
SMALL = ["--dataset", "digits", "--hidden", "2", "--batch-size", "400", "--quiet"]
posix = pytest.mark.skipif(os.name == "nt", reason="SIGKILL as POSIX has it")


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Run `minidl train` in this process: (stdout, stderr)."""

    def call(*arguments, code=0):
        assert main(["train", *map(str, arguments)]) == code
        return capsys.readouterr()

    return call


def weights(path):
    return {name: values.copy() for name, values in load_model(path)[0].state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


# ------------------------------------------------------------------------------------- settings


def test_every_flag_is_printed_back_and_taken_again(run):
    given = ["--model", "mlp", "--hidden", 3, 4, "--epochs", 2, "--batch-size", 64, "--optimizer", "sgd", "--lr", 0.01]
    given += ["--weight-decay", 0.001, "--schedule", "warm-up", "--clip-norm", 2, "--augment", "shift", "noise"]
    given += [
        "--standardize",
        "--val-split",
        0.25,
        "--early-stop",
        2,
        "--seed",
        7,
        "--threads",
        1,
        "--out",
        "x.safetensors",
    ]
    given += ["--log-dir", "runs", "--quiet", "--dataset", "digits", "--data-dir", ".", "--offline", "--compile"]
    given += ["--watch", 3]
    printed = run(*given, "--print-config").out
    Path("all.toml").write_text(printed, "utf-8")
    assert run("--config", "all.toml", "--print-config").out == printed
    for line in ("hidden = [3, 4]", 'augment = ["shift", "noise"]', "val_split = 0.25", 'schedule = "warm-up"'):
        assert line in printed.splitlines()
    flags = {word for word in map(str, given) if word.startswith("--")}
    assert {f"--{line.split(' = ')[0].replace('_', '-')}" for line in printed.splitlines()} >= flags
    assert not Path("x.safetensors").exists()


def test_what_is_given_here_comes_before_the_file(run):
    Path("c.toml").write_text("epochs = 3\nhidden = [5, 6]\nstandardize = true\nval-split = 0.5\n", "utf-8")
    printed = run("--epochs", 9, "--config", "c.toml", "--no-standardize", "--print-config").out
    assert "epochs = 9\n" in printed
    assert "hidden = [5, 6]\n" in printed
    assert "standardize = false\n" in printed
    assert "val_split = 0.5\n" in printed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", "found 'epoch'; did you mean 'epochs'"),
        ("lr = 'fast'", "finite number above 0"),
        ("epochs = 0", "at least 1"),
        ("[lr]\na = 1", "expected a value or a list for 'lr'"),
        ("epochs: 3", "expected TOML"),
        ("resume = 'x'", "found 'resume'"),
        ("model = 'lenett'", "did you mean 'lenet'?"),
        ("schedule = 'cosin'", "did you mean 'cosine'?"),
        ("\udcff", "expected TOML"),
    ],
)
def test_what_is_wrong_in_a_file_of_settings(run, text, told):
    Path("c.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = run("--config", "c.toml", code=2)
    assert told in found.err
    assert found.out == ""


def test_a_file_of_settings_that_is_not_there(run):
    assert "--config: cannot read none.toml" in run("--config", "none.toml", code=2).err


# ------------------------------------------------------------------------- validation, stopping


def test_a_part_of_the_training_set_is_held_out(run):
    out = run(*SMALL, "--val-split", 0.25, "--epochs", 2, "--out", "m.safetensors").out
    assert "val. loss" in out
    assert "test accuracy" in out.splitlines()[-1]
    figures = json.loads(Path("m.json").read_text("utf-8"))
    assert figures["dataset"] == {"name": "digits", "source": "built in", "train": 1077, "val": 360}
    model, _ = load_model("m.safetensors")
    test = data.load("digits")[1]
    found = evaluate(model, test, metrics=["accuracy"])
    assert figures["test_accuracy"] == found["accuracy"]
    assert figures["test_loss"] == pytest.approx(found["loss"])
    assert {"val_loss", "val_accuracy"} <= figures["epochs"][0].keys()


def test_early_stopping_leaves_the_best_model(run):
    found = run(*SMALL, "--early-stop", 1, "--lr", 2, "--optimizer", "sgd", "--epochs", 30, "--out", "m.safetensors")
    figures = json.loads(Path("m.json").read_text("utf-8"))
    losses = [row["val_loss"] for row in figures["epochs"]]
    best = int(np.argmin(losses))
    assert len(losses) == best + 2 < 30
    assert f"stopped early: val_loss was best in epoch {best + 1}" in found.out
    assert figures["stopped"] == f"val_loss was best in epoch {best + 1}"
    train, _ = data.load("digits")
    _, held = data.train_test_split(train, test_size=0.1, stratify=train.y, seed=0)
    assert evaluate(load_model("m.safetensors")[0], held)["loss"] == pytest.approx(losses[best], rel=1e-6)


def test_statistics_of_the_training_set_come_with_the_model(run, capsys):
    run(*SMALL, "--standardize", "--val-split", 0.5, "--epochs", 1, "--out", "m.safetensors")
    model, config = load_model("m.safetensors")
    train, test = data.load("digits")
    part, _ = data.train_test_split(train, test_size=0.5, stratify=train.y, seed=0)
    mean, std = data.mean_std(part.x)
    assert config["standardize"] == {"mean": mean.tolist(), "std": std.tolist()}
    expected = predict(model, data.Loader(test.x[:4], mean=mean, std=std))
    np.save("bytes.npy", test.x[:4])
    np.save("floats.npy", (test.x[:4] / 255).astype(np.float32))
    assert main(["predict", "m.safetensors", "bytes.npy", "floats.npy", "--json"]) == 0
    found = [row["probabilities"] for row in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(found, [*expected, *expected], rtol=1e-5, atol=1e-7)
    assert main(["eval", "m.safetensors", "--json"]) == 0
    figures = json.loads(Path("m.json").read_text("utf-8"))
    assert json.loads(capsys.readouterr().out)["accuracy"] == figures["test_accuracy"]


@pytest.mark.parametrize("model", ["lenet", "resnet", "lstm"])
@pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT: these nets are slow as plain Python")
def test_the_other_nets(run, model, capsys):
    run(*SMALL, "--model", model, "--epochs", 1, "--out", "m.safetensors")
    assert main(["eval", "m.safetensors", "--json"]) == 0
    figures = json.loads(Path("m.json").read_text("utf-8"))
    assert json.loads(capsys.readouterr().out)["accuracy"] == figures["test_accuracy"]


def test_a_directory_of_a_run_has_everything(run):
    run(*SMALL, "--log-dir", "runs/one", "--epochs", 2, "--augment", "shift", "rotate", "--schedule", "cosine")
    names = ["log.jsonl", "model.checkpoint.safetensors", "model.json", "model.safetensors"]
    assert sorted(p.name for p in Path("runs/one").iterdir()) == names
    lines = Path("runs/one/log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert Path("model.safetensors").exists() is False
    Path("file").touch()
    assert "--log-dir: cannot make file/x" in run(*SMALL, "--log-dir", "file/x", code=1).err


def test_what_a_watcher_notices_is_said_and_kept(run):
    run(*SMALL, "--epochs", 2, "--out", "plain.safetensors", "--lr", 1e-7)
    found = run(*SMALL[:-1], "--epochs", 2, "--out", "watched.safetensors", "--lr", 1e-7, "--watch", 2)
    sentences = json.loads(Path("watched.json").read_text("utf-8"))["watch"]
    assert any("learning rate" in sentence for sentence in sentences)
    assert all(sentence in found.err for sentence in sentences)
    assert Path("plain.safetensors").read_bytes() == Path("watched.safetensors").read_bytes()
    assert "watch" not in json.loads(Path("plain.json").read_text("utf-8"))


# ---------------------------------------------------------------------------------------- resume


def test_a_run_that_is_resumed_ends_as_one_that_was_not_cut_off(run, monkeypatch):
    more = ["--augment", "shift", "noise", "--standardize", "--schedule", "one-cycle", "--early-stop", 9]
    run(*SMALL, *more, "--epochs", 4, "--out", "whole.safetensors")

    class Cut(Exception):
        pass

    def third(run):
        if run.epoch == 3:
            raise Cut

    fit = training.fit
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", lambda *a, callbacks, **k: fit(*a, callbacks=[third, *callbacks], **k))
        with pytest.raises(Cut):
            run(*SMALL, *more, "--epochs", 4, "--log-dir", "cut")
    assert load_checkpoint("cut/model.checkpoint.safetensors").state["counters"]["epoch"] == 2
    minidl.manual_seed(99)
    run("--quiet", "--resume", "cut")
    assert Path("cut/model.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    found = run("--quiet", "--resume", "cut")  # it has reached its end: nothing changes
    head, test = found.out.splitlines()
    assert (head.split()[0], test.split()[0]) == ("epoch", "test")
    assert Path("cut/model.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


def test_a_longer_run_goes_on_by_any_name_of_the_checkpoint(run):
    run(*SMALL, "--epochs", 3, "--out", "whole.safetensors")
    for name, resume in (
        ("a", ["--resume", "a.checkpoint.safetensors"]),
        ("b", ["--resume", "--out", "b.safetensors"]),
    ):
        run(*SMALL, "--epochs", 1, "--out", f"{name}.safetensors")
        run(*resume, "--quiet", "--epochs", 3)
        assert_same(weights("whole.safetensors"), weights(f"{name}.safetensors"))
        rows = json.loads(Path(f"{name}.json").read_text("utf-8"))["epochs"]
        expected = json.loads(Path("whole.json").read_text("utf-8"))["epochs"]
        for mine, theirs in zip(rows, expected, strict=True):
            assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}


def test_resuming_what_is_not_there(run):
    found = run(*SMALL, "--epochs", 1, "--out", "m.safetensors", "--resume")
    assert "this run starts anew" in found.err
    assert Path("m.safetensors").exists()
    assert "none.safetensors" in run("--resume", "none.safetensors", code=1).err
    Path("empty").mkdir()
    assert "empty/model.checkpoint.safetensors" in run("--resume", "empty", code=1).err
    assert "checkpoint" in run("--resume", "m.safetensors", code=1).err
    Path("text").write_text("hello", "utf-8")
    assert "error: --resume: text: " in run("--resume", "text", code=1).err


def test_resuming_with_other_settings_is_refused(run):
    run(*SMALL, "--epochs", 1, "--out", "m.safetensors")
    before = Path("m.checkpoint.safetensors").read_bytes()
    for other, told in ((["--lr", "3"], "lr 0.001 there, 3.0 asked for"), (["--augment", "flip"], "augment []")):
        found = run("--resume", "m.checkpoint.safetensors", "--quiet", "--epochs", 2, *other, code=1)
        assert "is of another run" in found.err
        assert told in found.err
    assert Path("m.checkpoint.safetensors").read_bytes() == before


@posix
def test_a_run_killed_again_and_again_ends_as_one_that_was_not(tmp_path):
    """SIGKILL at instants spread over the run, until four have hit."""
    settings = ["--dataset", "digits", "--hidden", "2", "--batch-size", "100", "--epochs", "12", "--quiet"]
    if interpreted():
        settings[5:8:2] = ["400", "3"]
    command = [sys.executable, "-m", "minidl", "train", *settings]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run([*command, "--out", "whole"], env=env, check=True, capture_output=True, timeout=300)
    whole = time.perf_counter() - start
    parts, kills = itertools.cycle((0.3, 0.7, 0.8, 0.9, 0.95)), 0
    while kills < 4:
        with subprocess.Popen([*command, "--out", "cut", "--resume"], env=env, stderr=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL) as process:  # fmt: skip
            try:
                process.wait(timeout=whole * next(parts))
                whole /= 2  # it got through: runs are faster than the first was, which may have compiled kernels
                for left in Path().glob("cut*"):
                    left.unlink()
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
        if Path("cut.checkpoint.safetensors").exists():
            load_checkpoint("cut.checkpoint.safetensors")
    subprocess.run([*command, "--out", "cut", "--resume"], env=env, check=True, capture_output=True, timeout=300)
    assert Path("cut").read_bytes() == Path("whole").read_bytes()
