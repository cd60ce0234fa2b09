"""Checkpoints on a bad day: the disk is full or fails, the process dies, the file is damaged or no file at all."""

import errno
import importlib.util
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from minidl import nn
from minidl.checkpoint import (
    CheckpointError,
    check_writable,
    load_checkpoint,
    load_model,
    save_checkpoint,
    save_model,
    write_file,
)
from minidl.shared import files as written

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, limits or signals")

# ------------------------------------------------------------------------------------ a bad disk


class Disk:
    """Counts what a save asks of the system, and lets one call fail, or every write take 1000 bytes at most.

    Python's own buffered file is kept; what is under it is a file whose `write` is this.
    """

    def __init__(self, monkeypatch, fail_at=None, error=None, short=False):
        self.calls, self.fail_at, self.error, self.short = [], fail_at, error, short
        disk = self

        class Raw(io.FileIO):
            def write(self, data):
                disk.call("write")
                return super().write(memoryview(data)[:1000] if disk.short else data)

            def close(self):
                if not self.closed:
                    super().close()  # the descriptor is gone even where the system tells of an error
                    disk.call("close")

        class File(io.BufferedWriter):
            def flush(self):
                if not self.closed:
                    disk.call("flush")
                super().flush()

        def opened(path, mode):
            assert mode == "wb"
            disk.call("open")
            return File(Raw(path, "w"))

        monkeypatch.setattr(written, "open", opened, raising=False)
        for name in ("fsync", "replace", "open"):
            self.watch(monkeypatch, name)

    def watch(self, monkeypatch, name):
        real = getattr(os, name)

        def watched(*arguments):
            self.call(f"os.{name}")
            return real(*arguments)

        monkeypatch.setattr(os, name, watched)

    def call(self, name):
        self.calls.append(name)
        if len(self.calls) - 1 == self.fail_at:
            raise self.error


def model_of(value):
    model = nn.Sequential(nn.Dense(30, 20), nn.BatchNorm1d(20))
    for p in model.parameters():
        p.data[...] = value
    return model


def save_plain(path, value):
    save_model(path, model_of(value), {"value": value})


def save_run(path, value):
    save_checkpoint(path, model_of(value), {"m": [np.full((9, 9), value)], "epoch": value}, {"value": value})


def value_of(path):
    """Of a whole file."""
    found = load_checkpoint(path)
    assert all((values == found.config["value"]).all() for n, values in found.model_state.items() if n.startswith("0."))
    return found.config["value"]


ERRORS = {
    "full": OSError(errno.ENOSPC, "No space left on device"),
    "failing": OSError(errno.EIO, "Input/output error"),
    "quota": OSError(errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.EIO, "Disk quota exceeded"),
    "interrupted": KeyboardInterrupt(),
    "no memory": MemoryError(),
}


@posix
@pytest.mark.parametrize("save", [save_plain, save_run])
@pytest.mark.parametrize("short", [False, True], ids=["whole writes", "short writes"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_at_any_call_leaves_the_file_before_or_the_new_one(tmp_path, save, short, error):
    path = tmp_path / "c.safetensors"
    save(path, 1)
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, short=short)
        save(path, 2)
        calls = disk.calls
    assert value_of(path) == 2
    new = path.read_bytes()
    writes = len(new) / 1000 if short else 1
    assert calls.count("write") >= writes
    assert [c for c in calls if c not in ("write", "flush")] == [
        "open", "os.fsync", "close", "os.replace", "os.open", "os.fsync"
    ]  # fmt: skip
    renamed = calls.index("os.replace")
    for at, call in enumerate(calls):
        path.write_bytes(before)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, at, ERRORS[error], short)
            if at <= renamed:
                with pytest.raises(type(ERRORS[error])):
                    save(path, 2)
            elif isinstance(ERRORS[error], OSError):  # the new file is there: what failed is to make that last
                with pytest.warns(RuntimeWarning, match="is written, but its directory cannot be flushed"):
                    save(path, 2)
            else:
                with pytest.raises(type(ERRORS[error])):
                    save(path, 2)
        assert path.read_bytes() == (before if at <= renamed else new), (at, call)
        assert value_of(path) == (1 if at <= renamed else 2)
        assert list(tmp_path.iterdir()) == [path], (at, call)


@posix
def test_a_fault_in_the_first_save_leaves_nothing(tmp_path):
    path, at, called = tmp_path / "c.safetensors", 0, ""
    while called != "os.replace":
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, at, ERRORS["full"])
            with pytest.raises(OSError, match="No space left"):
                save_run(path, 1)
        assert list(tmp_path.iterdir()) == []
        called, at = disk.calls[at], at + 1
    assert at >= 5


LIMITED = """
import resource, sys
from minidl import nn
from minidl.checkpoint import save_model
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
save_model(sys.argv[1], nn.Dense(30, 400), {"value": 2})
"""


@posix
def test_a_limit_on_the_size_of_files_leaves_the_file_before(tmp_path):
    path = tmp_path / "c.safetensors"
    save_plain(path, 1)
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import sys
import numpy as np
from minidl import nn
from minidl.checkpoint import load_checkpoint, save_checkpoint
path, value = sys.argv[1], load_checkpoint(sys.argv[1]).config["value"]
model = nn.Sequential(nn.Dense(30, 20), nn.BatchNorm1d(20))
while True:
    value += 1
    for p in model.parameters():
        p.data[...] = value
    save_checkpoint(path, model, {"m": [np.full((99, 99), value)], "epoch": value}, {"value": value})
    print(value, flush=True)
"""


@posix
def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path):
    path = tmp_path / "c.safetensors"
    save_run(path, 0)
    draw = np.random.default_rng(0)
    for _ in range(4):
        before = value_of(path)
        with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as process:
            told = [int(process.stdout.readline()) for _ in range(draw.integers(2, 20))]
            try:
                process.wait(draw.uniform(0, 0.004))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
            told += [int(line) for line in process.stdout.read().split()]
        assert process.returncode == -signal.SIGKILL
        assert told[-1] <= value_of(path) <= told[-1] + 1
        assert value_of(path) > before


def test_a_directory_that_cannot_be_opened_is_a_warning(tmp_path, monkeypatch):
    if os.name == "nt":
        pytest.skip("Windows cannot open directories")

    def denied(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.warns(RuntimeWarning, match=r"c is written, but .*Permission denied"):
        write_file(tmp_path / "c", b"x")
    assert (tmp_path / "c").read_bytes() == b"x"


def test_what_killed_processes_left_behind_is_removed_after_an_hour(tmp_path):
    path = tmp_path / "c.safetensors"
    old = [f".{path.name}.0123456789abcdef", f".{path.name}.{'f' * 16}"]
    other = [f".{path.name}.0123456789abcdeg", f".{path.name}.0123456789abcde", ".cxsafetensors.0123456789abcdef"]
    young = f".{path.name}.{'0' * 16}"
    for name in (*old, *other, young):
        (tmp_path / name).write_bytes(b"half of a")
    for name in (*old, *other):
        os.utime(tmp_path / name, (time.time() - 3700,) * 2)
    save_plain(path, 1)
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *other, young}
    assert value_of(path) == 1


@posix
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "directory"):
        for write in (check_writable, lambda path: write_file(path, b"x"), lambda path: save_plain(path, 1)):
            with pytest.raises(OSError, match="is there and is not a file"):
                write(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["directory", "pipe"]
    with pytest.raises(OSError, match="is there and is not a file"):
        write_file("/dev/null", b"x")


@posix
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "target"
    link.symlink_to(target)
    for value in (1, 2):
        save_plain(link, value)
        assert link.is_symlink()
        assert value_of(target) == value
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["link", "target", "there"]


# ------------------------------------------------------------------------------------ bad files

WEIGHT, BIAS = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(3, dtype=np.float32)
ABOUT = {
    "version": 2,
    "layers": ["Dense", {"in_features": 2, "out_features": 3}],
    "config": {},
    "arrays": ["weight", "bias"],
    "state": {"a": {"$array": 0}},
}
DATA = BIAS.tobytes() + WEIGHT.tobytes() + np.float64(7).tobytes()
HEADER = {
    "__metadata__": {"minidl": json.dumps(ABOUT)},
    "bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
    "weight": {"dtype": "F32", "shape": [3, 2], "data_offsets": [12, 36]},
    "$state:0": {"dtype": "F64", "shape": [], "data_offsets": [36, 44]},
}


def packed(header, data=DATA, length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(name="bias", **changes):
    return packed({**HEADER, name: {**HEADER[name], **changes}})


def text(old, new):
    """The header's text with a part exchanged."""
    told = json.dumps(HEADER)
    assert told.count(old) == 1, old
    return packed(told.replace(old, new).encode())


GOOD = packed(HEADER)
WHOLE = "expected a whole safetensors file, found "
MALFORMED = {
    "empty": (b"", WHOLE + "0 bytes"),
    "seven bytes": (GOOD[:7], WHOLE + "7 bytes"),
    "a length alone": (GOOD[:8], WHOLE + "8 bytes that announce a header of"),
    "cut in the header": (GOOD[:100], WHOLE + "100 bytes that announce"),
    "no data": (GOOD[:-44], WHOLE + ".* 44 bytes of arrays"),
    "a byte less": (GOOD[:-1], WHOLE),
    "a byte more": (GOOD + b"\0", WHOLE + ".* bytes for a header of .* and 44 bytes of arrays"),
    "text": (b"garbage, no tensors at all", WHOLE),
    "a pickle": (b"\x80\x04\x95" + bytes(100), WHOLE),
    "a zip archive": (b"PK\3\4" + bytes(100), WHOLE),
    "no header": (packed(b"", length=0), WHOLE),
    "a header of 2^40": (packed(HEADER, length=1 << 40), WHOLE + ".* a header of 1,099,511,627,776"),
    "a header of 2^64 - 1": (packed(HEADER, length=(1 << 64) - 1), WHOLE),
    "a header into the data": (packed(HEADER, length=len(json.dumps(HEADER)) + 20), WHOLE + ".* not JSON"),
    "a header too short": (packed(HEADER, length=len(json.dumps(HEADER)) - 1), WHOLE + "a header that is not JSON"),
    "not JSON": (packed(b"{]"), WHOLE + "a header that is not JSON"),
    "not UTF-8": (packed(b'{"\xff\xfe": 1}'), WHOLE + "a header that is not JSON"),
    "a byte order mark": (packed(b"\xef\xbb\xbf{}"), WHOLE + "a header that is not a JSON object"),
    "a list": (packed(b"[1, 2]"), WHOLE + "a header that is not a JSON object"),
    "space before": (packed(b" {}", b""), WHOLE),
    "deep lists": (packed(b'{"a":' + b"[" * 200_000), WHOLE + ".*nested too deeply"),
    "deep objects": (packed(b'{"a":' * 100_000), WHOLE + ".*nested too deeply"),
    "deep and closed": (packed(b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"), WHOLE),
    "a number of 10,000 digits": (packed(b'{"a":' + b"1" * 10_000 + b"}"), WHOLE + "a header that is not JSON"),
    "a name twice": (text('"weight": {"dtype"', '"bias": {"dtype"'), WHOLE + ".*comes twice"),
    "a name twice, alike": (
        text('"bias": {', '"bias": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}, "bias": {'),
        WHOLE + ".*comes twice",
    ),
    "a dtype twice": (text('{"dtype": "F64"', '{"dtype": "F64", "dtype": "F64"'), WHOLE + ".*comes twice"),
    "metadata twice": (text('{"__metadata__"', '{"__metadata__": {}, "__metadata__"'), WHOLE + ".*comes twice"),
    "metadata of numbers": (packed({**HEADER, "__metadata__": {"minidl": 3}}), WHOLE + "metadata"),
    "metadata as a list": (packed({**HEADER, "__metadata__": ["minidl"]}), WHOLE + "metadata"),
    "no metadata": (packed({k: v for k, v in HEADER.items() if k != "__metadata__"}), "without its description"),
    "another's metadata": (packed({**HEADER, "__metadata__": {"format": "pt"}}), "without its description"),
    "overlapping": (entry("weight", data_offsets=[8, 32]), WHOLE + "'weight' at byte 8"),
    "a hole": (
        packed(
            {**HEADER, "weight": {**HEADER["weight"], "data_offsets": [16, 40]},
             "$state:0": {**HEADER["$state:0"], "data_offsets": [40, 48]}}, DATA + b"1234",
        ),
        WHOLE + "'weight' at byte 16 of the data where byte 12",
    ),
    "two in one place": (entry("weight", shape=[3], data_offsets=[0, 12]), WHOLE),
    "beyond the end": (entry("$state:0", data_offsets=[1 << 50, (1 << 50) + 8]), WHOLE),
    "offsets turned": (entry(data_offsets=[12, 0]), WHOLE),
    "negative offsets": (entry(data_offsets=[-12, 0]), WHOLE),
    "one offset": (entry(data_offsets=[12]), WHOLE),
    "three offsets": (entry(data_offsets=[0, 12, 12]), WHOLE),
    "offsets as text": (entry(data_offsets="ab"), WHOLE),
    "offsets of 2^64": (entry(data_offsets=[1 << 64, (1 << 64) + 12]), WHOLE),
    "a dtype of another size": (entry(dtype="F64"), WHOLE),
    "an unknown dtype": (entry(dtype="F33"), "expected arrays of F64.* found 'bias' of 'F33'"),
    "bfloat16": (entry(dtype="BF16"), "found 'bias' of 'BF16'"),
    "no dtype": (entry(dtype=None), "found 'bias' of None"),
    "a list as a dtype": (entry(dtype=["F32"]), r"found 'bias' of \['F32'\]"),
    "another dtype of that size": (entry(dtype="I32"), "bias as float32"),
    "a NaN in a shape": (text("[3]", "[NaN]"), WHOLE + "a header that is not JSON .NaN"),
    "infinity in a shape": (text("[3]", "[Infinity]"), WHOLE + "a header that is not JSON"),
    "1e400 in a shape": (text("[3]", "[1e400]"), WHOLE),
    "a fraction in a shape": (entry(shape=[3.0]), WHOLE),
    "true in a shape": (entry(shape=[3, True]), WHOLE),
    "null in a shape": (entry(shape=[None]), WHOLE),
    "a negative size": (entry(shape=[-3]), WHOLE),
    "two negative sizes": (entry(shape=[-3, -1]), WHOLE),
    "a huge shape": (entry(shape=[1 << 40, 1 << 20]), WHOLE),
    "a shape that overflows to what is there": (entry(shape=[(1 << 62) + 3, 1]), WHOLE),
    "a shape of 2^64": (entry(shape=[1 << 64]), WHOLE),
    "a huge shape of nothing": (entry(shape=[1 << 62, 1 << 62, 0], data_offsets=[0, 0]), WHOLE + "'bias': {"),
    "a thousand axes": (entry(shape=[3, *[1] * 1000]), WHOLE),
    "no shape": (entry(shape=None), WHOLE),
    "a number for an array": (packed({**HEADER, "bias": 3}), WHOLE + "'bias': 3"),
    "a key too many": (entry(strides=[4]), WHOLE),
    "a key too few": (packed({**HEADER, "bias": {"dtype": "F32", "shape": [3]}}), WHOLE),
    "booleans of 2": (
        packed({**HEADER, "$state:0": {**HEADER["$state:0"], "dtype": "BOOL", "shape": [8]}}, DATA[:36] + b"\1\2" * 4),
        WHOLE + "'.state:0' of booleans",
    ),
    "an array less": (
        packed({k: v for k, v in HEADER.items() if k != "$state:0"}, DATA[:36]), "an array 0 of the state"
    ),
    "a weight less": (
        packed({"__metadata__": HEADER["__metadata__"], "bias": HEADER["bias"]}, DATA[:12]), "missing weight"
    ),
    "an array more": (
        packed({**HEADER, "x": {"dtype": "U8", "shape": [1], "data_offsets": [44, 45]}}, DATA + b"1"), "unexpected x"
    ),
    "a huge array less": (
        packed({**HEADER, "__metadata__": {"minidl": json.dumps({**ABOUT, "arrays": ["weight", "bias", "x" * 9**5]})}}),
        "missing xxxx",
    ),
}  # fmt: skip


def refused(path, match, loads=(load_model, load_checkpoint)):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an open file that is left behind
        for load in loads:
            with pytest.raises(CheckpointError, match=match) as caught:
                load(path)
            assert str(path) in str(caught.value)
            assert len(str(caught.value)) < 1000 + len(str(path))


def test_the_file_that_is_malformed_below_is_whole(tmp_path):
    (tmp_path / "c").write_bytes(GOOD)
    found = load_checkpoint(tmp_path / "c")
    assert found.state["a"] == 7
    assert np.array_equal(load_model(tmp_path / "c")[0].weight.data, WEIGHT)
    (tmp_path / "c").write_bytes(packed(json.dumps(HEADER).encode() + b"   "))  # as writers align the data
    assert load_checkpoint(tmp_path / "c").state["a"] == 7


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_files_are_refused(tmp_path, name):
    content, match = MALFORMED[name]
    (tmp_path / "c").write_bytes(content)
    loads = (load_checkpoint,) if name == "an array less" else (load_model, load_checkpoint)  # the state's
    refused(tmp_path / "c", match, loads)


def test_every_truncation_is_refused(tmp_path):
    for length in (*range(0, len(GOOD), 2), len(GOOD) - 1):
        (tmp_path / "c").write_bytes(GOOD[:length])
        refused(tmp_path / "c", WHOLE, (load_checkpoint,))


def test_every_byte_of_the_header_that_is_changed_is_noticed(tmp_path):
    """All but the one key that is the caller's own."""
    path, unnoticed = tmp_path / "c", set()
    for at in range(8, len(GOOD) - len(DATA)):
        data = bytearray(GOOD)
        data[at] ^= 1 << at % 7
        path.write_bytes(data)
        try:
            assert load_checkpoint(path).state == {chr(data[at]): 7}
        except CheckpointError:
            continue
        unnoticed.add(at)
    assert unnoticed == {GOOD.index(b'{\\"a') + 3}


def test_huge_files_of_nothing_are_refused_unread(tmp_path):
    path = tmp_path / "c"
    for length, size in ((90_000_000, 95_000_000), ((1 << 24) + 1, 1 << 40)):
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", length))
            try:
                file.truncate(size)  # takes no room on the disk
            except OSError:
                pytest.skip("this file system has no holes in files")
        refused(path, WHOLE + f"{size:,} bytes that announce a header of {length:,}")


def test_what_is_not_a_file_is_refused(tmp_path):
    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "directory")
    refused(tmp_path / "none" / "none", "No such file")
    refused(tmp_path / ("x" * 5000), "cannot be read")


@posix
def test_special_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "expected a file, found a pipe")
    for a, b in (("loop", "loop"), ("a", "b"), ("b", "a")):
        (tmp_path / a).symlink_to(tmp_path / b)
    for name in ("loop", "a"):
        refused(tmp_path / name, "cannot be read")
    for device in ("/dev/zero", "/dev/null", "/dev/urandom"):
        if os.path.exists(device):
            refused(Path(device), "expected a file, found a device")
    link = tmp_path / "zero"
    link.symlink_to("/dev/zero")
    refused(link, "expected a file, found a device")
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        refused(tmp_path, "directory")
        refused(tmp_path / "pipe", "a pipe")
    assert len(os.listdir("/dev/fd")) == before


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    from minidl.checkpoint import files

    path, read = tmp_path / "c", files.SafetensorsFile.read
    padded = json.dumps(HEADER).encode() + b" " * 99_999
    whole = packed(padded)
    path.write_bytes(whole)
    assert load_checkpoint(path).state == {"a": 7}
    for change in (whole[:-1], b"", packed(padded[:-1] + b"\n")):

        def changed(file, change=change):
            path.write_bytes(change)  # the same file, not one that was renamed into its place
            return read(file)

        with monkeypatch.context() as patch:
            patch.setattr(files.SafetensorsFile, "read", changed)
            for load in (load_model, load_checkpoint):
                path.write_bytes(whole)
                with pytest.raises(CheckpointError, match="changed while it was read"):
                    load(path)


def test_a_failing_read_is_told(tmp_path, monkeypatch):
    from minidl.checkpoint import files

    (tmp_path / "c").write_bytes(GOOD)
    for error, match in ((OSError(errno.EIO, "Input/output error"), "Input/output error"), (MemoryError(), "memory")):

        def failing(file, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(files.SafetensorsFile, "read", failing)
            refused(tmp_path / "c", match)


@pytest.mark.parametrize("part", ["layers", "state", "arrays", "config", "version"])
@pytest.mark.parametrize(
    ("opened", "closed", "each"), [("[", "]", 1), ('{"a":', "}", 1), ('["Sequential", {}, {"0":', "}]", 2)]
)
def test_what_the_parser_just_takes_brings_nothing_after_it_down(tmp_path, part, opened, closed, each):
    """What comes after the parser has a little less stack than it."""
    most = sys.getrecursionlimit() // each
    for depth in range(most - 150, most + 10, 5):
        deep = opened * depth + "{}" + closed * depth
        about = json.dumps({**ABOUT, part: "HERE"}).replace('"HERE"', deep)
        (tmp_path / "c").write_bytes(packed({**HEADER, "__metadata__": {"minidl": about}}))
        for load in (load_model, load_checkpoint):
            try:
                load(tmp_path / "c")
            except CheckpointError as error:
                told = str(error)
                assert str(tmp_path / "c") in told
                continue
            assert part == "config" or (part, load) == ("state", load_model)


def test_a_checkpoint_of_a_newer_version_says_so(tmp_path):
    content = packed({**HEADER, "__metadata__": {"minidl": json.dumps({**ABOUT, "version": 3})}})
    (tmp_path / "c").write_bytes(content)
    refused(tmp_path / "c", "expected version 1 or 2 of the format, found 3")


def test_mutated_files_are_refused_or_whole(tmp_path):
    """Some of the files of `benchmarks/fuzz_checkpoint.py`, which makes thousands."""
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz_checkpoint.py"
    spec = importlib.util.spec_from_file_location("fuzz_checkpoint", path)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    counts, _ = fuzz.run(300, 7, tmp_path)
    outcomes = [(kind, outcome) for kind, counter in counts.items() for outcome in counter]
    assert sum(sum(counter.values()) for counter in counts.values()) == 300
    assert {outcome for _, outcome in outcomes} == {"refused", "loaded", "its model loaded"}
    assert {kind for kind, _ in outcomes} == {mutation.__name__ for mutation in fuzz.MUTATIONS}
