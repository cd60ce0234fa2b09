"""Data under pressure: several threads, little memory, mirrors that only pretend to answer, arguments by mistake."""

import gzip
import hashlib
import http.server
import math
import os
import socket
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl.checkpoint import CheckpointError, load_model
from minidl.data import DataError, Dataset, DataUnavailable, Loader, load, mean_std, read_idx, sources, write_idx
from minidl.data import train_test_split as split
from minidl.data.images import PictureError, read_images
from minidl.data.sources import FILES, Source

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (4, 28, 28), np.uint8), np.array([3, 1, 4, 1], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


PLAIN = {file: idx(IMAGES if "images" in file else LABELS) for file in FILES}
PACKED = {f"{file}.gz": gzip.compress(data, mtime=0) for file, data in PLAIN.items()}
MD5 = tuple(hashlib.md5(data).hexdigest() for data in PACKED.values())


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """The most memory that Python and NumPy held since the test began, in bytes."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "data" / "kmnist"


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def mirror(requests: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sound mirror of "kmnist", whose packed files alone have checksums; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path.removeprefix("/"))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PACKED[self.path.removeprefix("/")])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setitem(sources.SOURCES, "kmnist", Source((url,), md5=MD5))
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture
def dripping() -> Iterator[Callable[[bytes], str]]:
    """A server that says something at once and then, for ever, a letter every 50 ms; its address."""
    closing = threading.Event()
    servers = []

    def serve(first: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    connection.sendall(first)
                    while not closing.wait(0.05):
                        connection.sendall(b"a")
                except OSError:
                    pass

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/"

    yield serve
    closing.set()
    for server in servers:
        server.close()


def in_threads(count: int, work: Callable[[int], None]) -> list[Exception]:
    """What goes wrong when so many threads do this at once."""
    failures: list[Exception] = []
    together = threading.Barrier(count)

    def run(i: int) -> None:
        together.wait()
        try:
            work(i)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


# ----------------------------------------------------------------------------------------- threads


def test_threads_that_write_one_file(tmp_path: Path) -> None:
    def write(i: int) -> None:
        for _ in range(20):
            write_idx(tmp_path / "a", np.full(5000, i, np.uint8))
            assert len(set(read_idx(tmp_path / "a").tolist())) == 1  # somebody's, and whole

    assert in_threads(4, write) == []
    assert os.listdir(tmp_path) == ["a"]


def test_threads_that_load_one_data_set(mirror: str, cache: Path) -> None:
    def check(_: int) -> None:
        train, test = load("kmnist")
        assert (len(train), len(test)) == (4, 4)

    assert in_threads(3, check) == []
    assert sorted(os.listdir(cache)) == sorted(PACKED)


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_one_copy_is_held_while_reading(tmp_path: Path, peak: Callable[[], int], suffix: str) -> None:
    array = np.full(1 << 20, 1.5)
    data = bytes([0, 0, 14, 1, 0, 16, 0, 0]) + array.astype(">f8").tobytes()
    (tmp_path / "a").write_bytes(gzip.compress(data, 1) if suffix else data)
    del data
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = read_idx(tmp_path / "a")
    chunks = 3 << 20  # what is being read, as it comes and as it is added
    assert peak() - before < 1.15 * array.nbytes + chunks
    np.testing.assert_array_equal(found, array)


def test_mean_std_takes_no_copy(peak: Callable[[], int]) -> None:
    x = np.zeros((6000, 1, 28, 28), np.uint8)
    before = tracemalloc.get_traced_memory()[0]
    mean_std(x)
    assert peak() - before < x.nbytes


@pytest.mark.parametrize("shape", [(1031, 2, 16, 20), (3, 1, 700, 701), (262_145, 1, 1, 1)])
def test_mean_std_of_many_blocks(shape: tuple[int, ...]) -> None:
    x = RNG.integers(0, 256, shape, np.uint8)
    x[: len(x) // 2] //= 3
    mean, std = mean_std(x)
    np.testing.assert_allclose(mean, (x / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (x / 255).std((0, 2, 3)), rtol=1e-12)


# ----------------------------------------------------------------------------------------- mirrors


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 2", b""], ids=["header", "status", "all"])
def test_the_deadline_holds_before_there_is_an_answer(
    dripping: Callable[[bytes], str], mirror: str, cache: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(sources, "DEADLINE", 0.3)
    slow = dripping(first)
    monkeypatch.setitem(sources.SOURCES, "kmnist", Source((slow,), md5=MD5))
    start = time.monotonic()
    with pytest.raises(DataUnavailable, match=r"TimeoutError: expected the file within 0.3 s, found 0 bytes"):
        load("kmnist")
    assert time.monotonic() - start > 0.25
    assert os.listdir(cache) == []


def test_what_is_late_is_not_read_on(dripping: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "DEADLINE", 0.3)
    slow = dripping(b"HTTP/1.1 200 OK\r\n\r\n")
    monkeypatch.setitem(sources.SOURCES, "kmnist", Source((slow,), md5=MD5))
    before = set(threading.enumerate())
    with pytest.raises(DataUnavailable, match=r"within 0.3 s, found [1-9]\d* bytes"):
        load("kmnist")
    left = [t for t in set(threading.enumerate()) - before if t.is_alive()]
    for thread in left:
        thread.join(10)
    assert not any(thread.is_alive() for thread in left)


def test_a_download_needs_no_room_for_temporary_files(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "file" / "cache"))
    train, _ = load("kmnist")
    np.testing.assert_array_equal(train.x[:, 0], IMAGES)


# ------------------------------------------------------------------- checksums of the packed files


def test_md5_on_every_load(mirror: str, cache: Path, requests: list[str]) -> None:
    load("kmnist")
    load("kmnist", offline=True)
    assert requests == list(PACKED)
    name = f"{FILES[1]}.gz"
    repacked = gzip.compress(PLAIN[FILES[1]], 1, mtime=1)  # the right bytes, in a wrapping nobody vouches for
    (cache / name).write_bytes(repacked)
    with pytest.raises(DataUnavailable, match=hashlib.md5(repacked).hexdigest()):
        load("kmnist", offline=True)
    load("kmnist")
    assert requests == [*PACKED, name]
    assert (cache / name).read_bytes() == PACKED[name]


def test_an_unpacked_copy_that_cannot_be_verified(mirror: str, tmp_path: Path, requests: list[str]) -> None:
    for file, data in PLAIN.items():
        (tmp_path / file).write_bytes(data)
    with pytest.raises(DataError, match=rf"{FILES[0]}: .* MD5 {MD5[0]}.* unpacked bytes .* only that file") as caught:
        load("kmnist", data_dir=tmp_path)
    assert not isinstance(caught.value, DataUnavailable)
    assert requests == []


# --------------------------------------------------------------------------------------- arguments

X, Y = IMAGES[:, None], LABELS


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (
            lambda: Loader(X / 255, Y, mean=0.1),
            ValueError,
            r"Loader: expected uint8 images .* float64 \(4, 1, 28, 28\)",
        ),
        (lambda: Loader(Y, std=2.0), ValueError, r"Loader: expected uint8 images .* found uint8 \(4,\)"),
        (lambda: Loader(Y, mean=[0.1, 0.2]), ValueError, "expected uint8 images"),
        (lambda: Loader(X, 5), TypeError, "Loader: expected arrays with a length, found 5"),
        (lambda: Loader([1.0, 2.0]), TypeError, "Loader: expected arrays with a length, found 1.0"),
        (lambda: Dataset(X, np.int64(4)), TypeError, "Dataset: expected arrays with a length"),
        (lambda: split(3.0), TypeError, "train_test_split: expected arrays with a length, found 3.0"),
        (lambda: split(X, test_size="2"), TypeError, "test_size as a number, found '2'"),
        (lambda: split(X, test_size=True), TypeError, "test_size as a number, found True"),
        (lambda: split(X, test_size=None), TypeError, "test_size as a number, found None"),
        (lambda: split(X, test_size=math.nan), ValueError, "finite test_size, found nan"),
        (lambda: split(X, test_size=math.inf), ValueError, "finite test_size, found inf"),
        (lambda: split(X, test_size=-0.1), ValueError, "both sides, found 0 of 4"),
        (lambda: split(X, test_size=2.5), ValueError, "both sides, found 10 of 4"),
    ],
)
def test_arguments(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_mean_and_std_that_change_nothing_need_no_images() -> None:
    [batch] = Loader(X / 255, mean=[0.0], std=np.ones(1))
    np.testing.assert_array_equal(batch, X / 255)


@pytest.mark.parametrize(
    ("n", "test_size", "count"), [(10, 0.25, 3), (4, 0.1, 1), (10, 0.33, 4), (10, 0.3, 3), (7, 0.5, 4), (9, 1, 1)]
)
def test_the_test_set_is_rounded_up(n: int, test_size: float, count: int) -> None:
    """As scikit-learn does."""
    train, test = split(np.arange(n), test_size=test_size, seed=0)
    assert (len(train), len(test)) == (n - count, count)


def test_lists_become_arrays() -> None:
    data = Dataset([[1.0, 2.0], [3.0, 4.0]], [0, 1])  # type: ignore[arg-type]
    assert repr(data) == "Dataset(x: float64 (2, 2), y: int64 (2,))"
    [(x, y)] = Loader([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    np.testing.assert_array_equal(x, data.x)
    np.testing.assert_array_equal(y, data.y)


# ------------------------------------------------------------------------------- what is no file


def entries(directory: Path) -> dict[str, Path]:
    """What can stand in a directory and is no file, by what messages call it."""
    found = {"a directory": directory / "inside", "a pipe": directory / "pipe", "a device": Path("/dev/zero")}
    found["a directory"].mkdir()
    os.mkfifo(found["a pipe"])
    found["a socket"] = Path(os.path.relpath(directory / "s"))  # the names of sockets are short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(found["a socket"]))
    return found


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names, and devices, as POSIX has them")
def test_what_is_no_file_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a pipe would wait until somebody writes, and /dev/zero never ends."""
    monkeypatch.chdir(tmp_path)
    for what, path in entries(tmp_path).items():
        with pytest.raises(OSError, match=f"expected a file, found {what}"):
            read_idx(path)
        with pytest.raises(PictureError, match=f"{path.name}: expected a file, found {what}"):
            read_images(path, (1, 8, 8), print)
        with pytest.raises(CheckpointError, match=f"{path.name}: .*expected a file, found {what}"):
            load_model(path)
        link = tmp_path / f"link to {what}"
        link.symlink_to(path.absolute())
        with pytest.raises(OSError, match=f"expected a file, found {what}"):
            read_idx(link)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names as POSIX has them")
def test_a_pipe_in_place_of_a_data_set_is_no_wait(tmp_path: Path) -> None:
    for file in FILES:
        os.mkfifo(tmp_path / file)
    with pytest.raises(DataUnavailable):
        load("kmnist", tmp_path, offline=True)
