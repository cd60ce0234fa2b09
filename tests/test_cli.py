"""The command line as its user meets it: in processes of its own, with real files, signals, pipes and terminals."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import data
from minidl.checkpoint import load_model
from minidl.jit import interpreted

ROOT = Path(minidl.__file__).parents[1]
MNIST = next(
    (d for d in (os.environ.get("MINIDL_DATA"), ROOT.parent / "shared" / "data") if d and Path(d, "mnist").is_dir()),
    None,
)
SMALL = ("--dataset", "digits", "--hidden", "2", "--batch-size", "400")  # quick even where kernels are interpreted
posix = pytest.mark.skipif(os.name == "nt", reason="signals, pipes and limits as POSIX has them")


def environment(**changes):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    for name, value in {"MINIDL_DATA": None, "NO_COLOR": None, "COLUMNS": "120", **changes}.items():
        env.pop(name, None)
        if value is not None:
            env[name] = str(value)
    return env


def minidl_(*arguments, code=0, cwd=None, **changes):
    """Run `minidl`, which must end with this code and without a traceback."""
    command = [sys.executable, "-m", "minidl", *map(str, arguments)]
    run = subprocess.run(
        command, env=environment(**changes), cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in run.stderr, run.stderr
    assert run.returncode == code, (run.stdout, run.stderr)
    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model trained on the digits, well enough to be used."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    if interpreted():
        minidl_("train", *SMALL, "--epochs", 1, "--out", path)
    else:
        minidl_("train", "--dataset", "digits", "--hidden", 64, "--batch-size", 32, "--epochs", 8, "--out", path)
    return path


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")[1]


# ----------------------------------------------------------------------------------------- train


def test_train_saves_a_model_and_the_runs_figures(tmp_path):
    out = tmp_path / "deep.safetensors"
    run = minidl_("train", *SMALL, "--hidden", 4, 3, "--epochs", 2, "--seed", 5, "--threads", 1, "--out", out)
    head, *rows = run.stdout.splitlines()
    assert head.split("  ") == ["epoch", "train loss", "train accuracy", "test loss", "test accuracy", "seconds"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert {len(line) for line in (head, *rows)} == {len(head)}
    assert "epoch 2/2" in run.stderr
    assert "images/s" in run.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep.checkpoint.safetensors", "deep.json", out.name]
    figures = json.loads((tmp_path / "deep.json").read_text("utf-8"))
    assert figures["config"] | {"hidden": [4, 3], "seed": 5, "batch_size": 400, "lr": 0.001} == figures["config"]
    assert figures["threads"] == 1
    assert figures["dataset"] == {"name": "digits", "source": "built in", "train": 1437, "test": 360}
    assert {"minidl", "python", "numpy", "numba"} <= figures["versions"].keys()
    assert [row["epoch"] for row in figures["epochs"]] == [1, 2]
    assert figures["epochs"][1]["train_loss"] < figures["epochs"][0]["train_loss"]
    trained, config = load_model(out)
    assert [layer.weight.shape for layer in trained if hasattr(layer, "weight")] == [(4, 64), (3, 4), (10, 3)]
    assert config["epoch"] == 2


def test_json_alone_is_on_stdout(tmp_path):
    run = minidl_("train", *SMALL, "--epochs", 1, "--json", "--quiet", "--out", tmp_path / "m.safetensors")
    assert json.loads(run.stdout) == json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert run.stderr == ""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_seed_gives_the_same_file_on_any_number_of_threads(tmp_path, optimizer):
    size = SMALL if interpreted() else ("--dataset", "digits", "--hidden", "300", "--batch-size", "400")
    files = []
    for threads in (1, 2):
        out = tmp_path / f"{len(files)}.safetensors"
        command = ("train", *size, "--epochs", 2, "--seed", 3, "--quiet", "--optimizer", optimizer)
        minidl_(*command, "--threads", threads, "--out", out)
        files.append(out.read_bytes())
    assert files[0] == files[1]
    minidl_("train", *size, "--epochs", 2, "--seed", 4, "--optimizer", optimizer, "--out", tmp_path / "other")
    assert (tmp_path / "other").read_bytes() != files[0]


def test_without_mnist_and_without_asking_for_it_the_digits_are_taken(tmp_path):
    if any(Path(minidl.jit.environment.cache_root(), "data", "mnist").glob("*")):
        pytest.skip("MNIST is in this user's cache")
    small = SMALL[2:]
    run = minidl_("train", "--offline", *small, "--epochs", 1, "--quiet", "--out", tmp_path / "m", MINIDL_DATA=tmp_path)
    told = [line for line in run.stderr.splitlines() if "MNIST cannot be had" in line]
    assert len(told) == 1
    assert "digits" in told[0]
    assert json.loads((tmp_path / "m.json").read_text("utf-8"))["dataset"]["name"] == "digits"
    for command in (("train", "--dataset", "mnist"), ("train", "--dataset", "kmnist", "--data-dir", tmp_path)):
        run = minidl_(*command, "--offline", "--out", tmp_path / "n", code=1, MINIDL_DATA=None)
        assert "error: " in run.stderr
        assert "MINIDL_DATA" in run.stderr
        assert "--dataset digits" in run.stderr
        assert run.stdout == ""
        assert not (tmp_path / "n").exists()


def test_a_damaged_file_of_data_is_told(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03garbage")
    run = minidl_("train", "--dataset", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "m", code=1)
    assert "train-images-idx3-ubyte" in run.stderr
    assert not (tmp_path / "m").exists()


def test_training_that_diverges_fails_and_saves_nothing(tmp_path):
    run = minidl_("train", *SMALL, "--lr", 1e38, "--optimizer", "sgd", "--epochs", 3, "--out", tmp_path / "m", code=1)
    assert "training diverged" in run.stderr
    assert "--lr" in run.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(MNIST is None, reason="no MNIST in $MINIDL_DATA or ../shared/data")
@pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT: an interpreted epoch of MNIST takes an hour")
def test_mnist_within_250_mib(tmp_path):
    for _ in range(2):  # the first one may have to compile: a compiler takes some 70 MiB
        run = minidl_("train", "--epochs", 1, "--json", "--quiet", "--out", tmp_path / "m", MINIDL_DATA=MNIST)
    result = json.loads(run.stdout)
    assert result["dataset"] == {"name": "mnist", "source": str(Path(MNIST, "mnist")), "train": 60000, "test": 10000}
    assert result["parameters"] == 407_050
    assert result["test_accuracy"] > 0.94
    if sys.platform == "linux":
        assert result["peak_memory_mib"] <= 250


# ----------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("flag", "value", "expected"),
    [
        ("--epochs", "0", "at least 1"),
        ("--epochs", "1.5", "at least 1"),
        ("--batch-size", "-3", "at least 1"),
        ("--hidden", "0", "from 1 to"),
        ("--hidden", "9999999999", "from 1 to"),
        ("--hidden", "many", "from 1 to"),
        ("--lr", "0", "finite number above 0"),
        ("--lr", "-1", "finite number above 0"),
        ("--lr", "nan", "finite number above 0"),
        ("--lr", "inf", "finite number above 0"),
        ("--seed", "-1", "at least 0"),
        ("--threads", "0", "from 1 to"),
        ("--threads", "100000", "from 1 to"),
        ("--dataset", "mnits", "choose from"),
        ("--optimizer", "adm", "choose from"),
        ("--data-dir", "nowhere", "a directory"),
        ("--out", "run.json", "not ending in .json"),
        ("--out", "", "a file's name"),
        ("--model", "resent", "choose from"),
        ("--schedule", "cosin", "choose from"),
        ("--augment", "spin", "choose from"),
        ("--val-split", "1", "between 0 and 1"),
        ("--early-stop", "0", "at least 1"),
        ("--weight-decay", "-1", "at least 0"),
        ("--clip-norm", "0", "above 0"),
    ],
)
def test_wrong_values_are_told_before_anything_happens(capsys, flag, value, expected):
    from minidl.cli import main

    assert main(["train", f"{flag}={value}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert flag in err
    assert expected in err
    assert value in err


@pytest.mark.parametrize(
    "arguments",
    [(), ("trian",), ("train", "--frobnicate"), ("train", "--epo", "1"), ("eval",), ("predict", "m"), ("train", "x")],
)
def test_wrong_usage(arguments):
    run = minidl_(*arguments, code=2)
    assert run.stdout == ""
    assert "usage: minidl" in run.stderr
    assert ("did you mean 'train'?" in run.stderr) == (arguments == ("trian",))


def test_help_and_version():
    assert minidl_("--version").stdout == f"minidl {minidl.__version__}\n"
    assert "train a network" in minidl_("--help").stdout
    assert "--batch-size" in minidl_("train", "--help").stdout


def test_help_does_not_wait_for_numba():
    code = (
        "import sys; from minidl.cli import main; assert main(['train', '--help']) == 0; "
        "sys.exit(bool({'numba', 'safetensors', 'tqdm', 'PIL'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, capture_output=True, timeout=300)


def test_an_output_that_cannot_be_written_is_told_before_training(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "taken.json").mkdir()
    for out in (tmp_path / "directory", tmp_path / "none" / "m", tmp_path / "taken", Path("/dev/null")):
        run = minidl_("train", *SMALL, "--out", out, code=1)
        assert "--out: cannot write" in run.stderr
        assert run.stdout == ""


@posix
def test_a_full_disk_leaves_the_model_that_was_there(tmp_path):
    import resource

    out = tmp_path / "m.safetensors"
    out.write_bytes(b"mine")
    command = [
        sys.executable,
        "-m",
        "minidl",
        "train",
        *SMALL,
        "--hidden",
        "100000",
        "--out",
        str(out),
        "--epochs",
        "1",
    ]
    if interpreted():
        pytest.skip("NUMBA_DISABLE_JIT: a network of more than a file may hold is too slow")
    run = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 24, 1 << 24)),
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert "error: cannot write" in run.stderr
    assert "Traceback" not in run.stderr
    assert out.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


@posix
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_results_that_cannot_be_written_are_a_failure():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "minidl", "info"]
        run = subprocess.run(command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "minidl: error: No space left on device\n"


@posix
def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "minidl", "train", *SMALL, "--epochs", "3", "--out", str(out)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    if out.exists():
        load_model(out)


@posix
@pytest.mark.parametrize("split", [[], ["--val-split", "0.2"]])
def test_a_reader_of_one_line_ends_the_run_quietly_with_whole_files(tmp_path, split):
    """As `minidl train | head -1`: nobody is told of an error, and what was saved is of one epoch."""
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "minidl", "train", *SMALL, "--epochs", "99999", "--out", str(out), *split]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().startswith("epoch")
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if not re.match(r"minidl: (epoch \d+/99999|digits|adam)", line)]
    assert not lines
    config = load_model(out)[1]
    figures = json.loads(out.with_suffix(".json").read_text())
    assert config["epoch"] == len(figures["epochs"]) < 99999
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors", ".safetensors"]


@posix
def test_ctrl_c_keeps_the_model_of_the_last_whole_epoch(tmp_path):
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "minidl", "train", *SMALL, "--epochs", "1000000", "--out", str(out)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(3):  # the head and two epochs
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted; " in err
    assert str(out) in err
    epochs = json.loads((tmp_path / "m.json").read_text("utf-8"))["epochs"]
    assert len(epochs) >= 2
    assert load_model(out)[1]["epoch"] in (len(epochs), len(epochs) + 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.checkpoint.safetensors", "m.json", "m.safetensors"]
    assert f"minidl train --resume {tmp_path / 'm.checkpoint.safetensors'}" in err


@posix
def test_ctrl_c_before_the_first_epoch_ends(tmp_path):
    code = """
import os, signal, sys
from minidl import cli
from minidl.commands import train
train.fit = lambda *arguments, **options: os.kill(os.getpid(), signal.SIGINT)
sys.exit(cli.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "train", *SMALL, "--out", str(tmp_path / "m")]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 130
    assert "interrupted in the first epoch" in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------- the terminal


def on_a_terminal(*arguments, **changes):
    """What `minidl` writes to a terminal of 120 columns."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, "-m", "minidl", *map(str, arguments)]
    with subprocess.Popen(command, env=environment(TERM="xterm", **changes), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # EIO: the other side has closed
            while chunk := os.read(ours, 1 << 16):
                written += chunk
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


@posix
def test_a_terminal_gets_a_bar_and_colours(tmp_path):
    command = ("train", *SMALL, "--epochs", 2, "--out", tmp_path / "m")
    told = on_a_terminal(*command)
    assert "epoch 1/2" in told
    assert "images/s" in told
    assert "ETA" in told
    assert "█" in told or "#" in told
    assert "\033[1m" in told
    assert "\033[32m" in told
    plain = on_a_terminal(*command, NO_COLOR=1)
    assert "ETA" in plain
    assert "\033[1m" not in plain
    assert "\033[32m" not in plain
    quiet = on_a_terminal(*command, "--quiet", NO_COLOR=1)
    assert "ETA" not in quiet
    assert len(quiet.splitlines()) == 3


# -------------------------------------------------------------------------------- eval, predict


def test_eval_tells_what_training_told(model):
    figures = json.loads(model.with_suffix(".json").read_text("utf-8"))
    result = json.loads(minidl_("eval", model, "--json").stdout)
    assert result["accuracy"] == figures["test_accuracy"]
    assert result["loss"] == pytest.approx(figures["epochs"][-1]["test_loss"])
    assert sum(row["images"] for row in result["classes"]) == result["images"] == 360
    assert sum(row["right"] for row in result["classes"]) == round(360 * result["accuracy"])
    table = minidl_("eval", model)
    assert table.stderr == ""
    assert len(table.stdout.splitlines()) == 13 + 12  # by class, and the confusion matrix
    assert np.sum(result["confusion"]) == 360
    assert [row["right"] for row in result["classes"]] == np.diagonal(result["confusion"]).tolist()
    assert f"{100 * result['accuracy']:.2f} %" in table.stdout


def test_eval_refuses_what_is_no_model(model, tmp_path):
    (tmp_path / "damaged").write_bytes(model.read_bytes()[:-5])
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path / "damaged", tmp_path / "text", tmp_path / "none", tmp_path):
        run = minidl_("eval", path, code=1)
        assert f"error: {path}: " in run.stderr
        assert run.stdout == ""


def test_eval_on_other_data(model):
    if MNIST is None:
        pytest.skip("no MNIST in $MINIDL_DATA or ../shared/data")
    run = minidl_("eval", model, "--dataset", "mnist", MINIDL_DATA=MNIST, code=1)
    assert "takes images (1, 8, 8)" in run.stderr


def test_models_that_are_no_classifiers_of_images(tmp_path):
    from minidl import nn
    from minidl.checkpoint import save_model

    net = nn.Sequential(nn.Flatten(), nn.Dense(4, 2))
    good = {"dataset": "digits", "input_shape": [1, 2, 2], "classes": 2}
    shapes = ([1, 3, 3], [4], [1, 10**9, 10**9], "abc", None)
    wrong = [
        {},
        {**good, "classes": 3},
        {**good, "classes": None},
        *({**good, "input_shape": shape} for shape in shapes),
    ]
    for config in wrong:
        save_model(tmp_path / "m", net, config)
        assert "expected a classifier" in minidl_in_process("eval", tmp_path / "m")
    net[1].bias.data[0] = np.nan
    save_model(tmp_path / "m", net, good)
    assert "finite weights" in minidl_in_process("eval", tmp_path / "m")


def minidl_in_process(*arguments):
    """What a command that fails says, without the cost of a process."""
    import io

    from minidl.cli import main

    with contextlib.redirect_stderr(io.StringIO()) as err:
        assert main([*map(str, arguments)]) == 1
    return err.getvalue()


def test_predict_reads_arrays(model, digits, tmp_path):
    np.save(tmp_path / "three.npy", digits.x[:3])
    np.save(tmp_path / "floats.npy", digits.x[3, 0] / 255)
    data.write_idx(tmp_path / "some.idx.gz", digits.x[4:6, 0])
    files = [tmp_path / name for name in ("three.npy", "floats.npy", "some.idx.gz")]
    run = minidl_("predict", model, *files, "--json")
    assert run.stderr == ""
    results = json.loads(run.stdout)
    assert [r["image"] for r in results] == [
        *(f"{files[0]}[{i}]" for i in range(3)), str(files[1]), *(f"{files[2]}[{i}]" for i in range(2)),
    ]  # fmt: skip
    for r in results:
        assert r["probability"] == max(r["probabilities"]) == r["probabilities"][r["class"]]
        assert sum(r["probabilities"]) == pytest.approx(1, abs=1e-5)
    if not interpreted():
        assert sum(r["class"] == y for r, y in zip(results, digits.y, strict=False)) >= 5
    table = minidl_("predict", model, *files).stdout.splitlines()
    assert table[0].split() == ["image", "class", "probability"]
    assert len(table) == 7
    assert len({len(line) for line in table}) == 1


def test_predict_reads_pictures(model, digits, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow, of the plot extra, is not installed")
    array = digits.x[0, 0]
    image.fromarray(array).save(tmp_path / "as_it_is.png")
    image.fromarray(255 - array).resize((80, 80), image.Resampling.NEAREST).save(tmp_path / "scan.png")
    image.fromarray(array.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    colours = np.stack([array] * 3, axis=-1)
    image.fromarray(colours).save(tmp_path / "colours.png")
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[..., 3] = array
    image.fromarray(clear).save(tmp_path / "clear.png")
    image.fromarray(array).resize((64, 64)).save(tmp_path / "photo.jpg")
    names = ["as_it_is.png", "scan.png", "deep.png", "colours.png", "clear.png", "photo.jpg"]
    run = minidl_("predict", model, *names, "--json", cwd=tmp_path)
    results = json.loads(run.stdout)
    for result in results[1:5]:
        assert result["probabilities"] == pytest.approx(results[0]["probabilities"], abs=1e-5), result["image"]
    told = run.stderr.splitlines()
    assert told == [
        "minidl: scan.png: inverted, as its border is bright, resized from 80x80 to 8x8",
        "minidl: clear.png: inverted, as its border is bright",
        "minidl: photo.jpg: resized from 64x64 to 8x8",
    ]


def test_predict_refuses_what_is_no_image(model, tmp_path):
    pytest.importorskip("PIL", reason="Pillow, of the plot extra, is not installed")
    np.save(tmp_path / "shape.npy", np.zeros((3, 3), np.uint8))
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8), np.uint8))
    np.save(tmp_path / "range.npy", np.full((8, 8), 2.0))
    np.save(tmp_path / "nan.npy", np.full((8, 8), np.nan))
    np.save(tmp_path / "big.npy", np.full((8, 8), 256))
    np.save(tmp_path / "text.npy", np.full((8, 8), "a"))
    np.save(tmp_path / "objects.npy", np.full((8, 8), None), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "range.npy").read_bytes()[:200])
    (tmp_path / "cut.idx").write_bytes(b"\0\0\x08\x03\0\0")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "void.png").touch()
    (tmp_path / "directory").mkdir()
    for path in (*sorted(tmp_path.iterdir()), tmp_path / "none.png"):
        err = minidl_in_process("predict", model, path)
        assert err.startswith(f"minidl: error: {path}: "), err
        assert len(err.splitlines()) == 1


def test_predict_without_pillow_names_what_brings_it(model, digits, tmp_path, monkeypatch):
    np.save(tmp_path / "array.npy", digits.x[:1])
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert 'pip install "minidl[plot]"' in minidl_in_process("predict", model, tmp_path / "picture.png")
    from minidl.cli import main

    assert main(["predict", str(model), str(tmp_path / "array.npy")]) == 0


# --------------------------------------------------------------------------------- info, warmup


def test_info(tmp_path):
    told = json.loads(minidl_("info", "--json", MINIDL_DATA=tmp_path, NUMBA_NUM_THREADS=2).stdout)
    assert told["versions"]["minidl"] == minidl.__version__
    assert told["threads"]["count"] == 2
    assert told["threads"]["layers"][-1] == "workqueue"
    assert told["cache"]["usable"]
    assert Path(told["cache"]["directory"]).is_dir()
    assert told["data"]["MINIDL_DATA"] == str(tmp_path)
    assert told["data"]["found"]["digits"] == "built in"
    assert told["cpu"]["vector_bits"] in (0, 256, 512)
    text = minidl_("info").stdout
    for name in ("numpy", "numba", "processor", "threads", "cache", "mnist"):
        assert f"\n{name}" in text


def test_info_tells_of_a_cache_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    run = minidl_("info", "--json", MINIDL_CACHE=tmp_path / "file")
    cache = json.loads(run.stdout)["cache"]
    assert not cache["usable"]
    assert "MINIDL_CACHE" in cache["problem"]


def test_warmup_without_a_compiler():
    assert "NUMBA_DISABLE_JIT" in minidl_("warmup", code=1, NUMBA_DISABLE_JIT=1).stderr
