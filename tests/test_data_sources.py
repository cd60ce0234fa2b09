"""Named data sets: the real ones, and every way in which a directory, a mirror or the cache can fail."""

import gzip
import hashlib
import http.server
import os
import socket
import tempfile
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from minidl.data import DataError, Dataset, DataUnavailable, load, sources
from minidl.data.sources import DIGITS, FILES, Source

# ---------------------------------------------------------------------------------------- the real sets


def mnist_directory() -> str | None:
    beside = Path(sources.__file__).parents[3] / "shared" / "data"
    for place in filter(None, (os.environ.get("MINIDL_DATA"), str(beside))):
        if os.path.isfile(os.path.join(place, "mnist", f"{FILES[0]}.gz")):
            return place
    return None


MNIST = mnist_directory()  # asked now: the fixtures below change the environment


@pytest.mark.skipif(MNIST is None, reason="MNIST is neither in $MINIDL_DATA nor in ../shared/data")
def test_mnist() -> None:
    train, test = load("mnist", data_dir=MNIST, offline=True)
    assert train.x.shape == (60_000, 1, 28, 28)
    assert test.x.shape == (10_000, 1, 28, 28)
    for part in (train, test):
        assert part.x.dtype == np.uint8
        assert part.y.dtype == np.int64
        assert part.x.min() == 0
        assert part.x.max() == 255
        assert part.x.flags.c_contiguous
        assert part.x.flags.writeable
    assert list(np.bincount(train.y)) == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert list(np.bincount(test.y)) == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert list(train.y[:5]) == [5, 0, 4, 1, 9]
    assert train.x[0, 0, 5, 12:16].tolist() == [3, 18, 18, 18]  # upright: rows, then columns
    assert abs(train.x.mean(dtype=np.float64) / 255 - 0.1307) < 1e-4


def test_digits() -> None:
    train, test = load("digits", offline=True)
    assert train.x.shape == (1437, 1, 8, 8)
    assert test.x.shape == (360, 1, 8, 8)
    for part in (train, test):
        assert isinstance(part, Dataset)
        assert part.x.dtype == np.uint8
        assert part.y.dtype == np.int64
    y = np.concatenate([train.y, test.y])
    assert list(np.bincount(y)) == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    checksum = hashlib.sha256(np.concatenate([train.x, test.x]).tobytes() + y.astype(np.uint8).tobytes())
    assert checksum.hexdigest() == "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91"


def test_digits_are_those_of_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    train, test = load("digits")
    x = np.concatenate([train.x, test.x])[:, 0]
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), theirs.target)
    np.testing.assert_array_equal(x, np.rint(theirs.images * 255 / 16))


def test_a_damaged_package_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DIGITS, "digits-labels-idx1-ubyte.gz", "0" * 64)
    with pytest.raises(DataError, match=f"digits-labels.*SHA-256 {'0' * 64}, found ce71631c"):
        load("digits")


def test_the_built_in_sources() -> None:
    for name, source in sources.SOURCES.items():
        checksums = source.sha256 or source.md5
        assert len(set(checksums)) == len(FILES), name
        assert {len(c) for c in checksums} == {64 if source.sha256 else 32}
        assert all(m.startswith(("https://", "http://")) and m.endswith("/") for m in source.mirrors)
    assert len(sources.SOURCES["mnist"].mirrors) == 2
    assert all(m.startswith("https://") for m in sources.SOURCES["mnist"].mirrors)


@pytest.mark.parametrize(
    ("name", "hint"), [("minst", "; did you mean 'mnist'?"), ("digit", "; did you mean 'digits'?"), ("cifar", None)]
)
def test_unknown_name(name: str, hint: str | None) -> None:
    with pytest.raises(ValueError, match=f"expected one of .*'digits'.*, found '{name}'") as caught:
        load(name)
    assert str(caught.value).endswith(hint or "'cifar'")


# ----------------------------------------------------------------------------------------- a small set

RNG = np.random.default_rng(0)


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def small_set(train: int = 5, test: int = 3) -> tuple[np.ndarray, ...]:
    """The arrays of FILES. The pixels are noise, so that they do not pack to nothing."""
    return tuple(
        part
        for n in (train, test)
        for part in (RNG.integers(0, 256, (n, 28, 28), np.uint8), RNG.integers(0, 10, n).astype(np.uint8))
    )


ARRAYS = small_set()
PLAIN = {file: idx(array) for file, array in zip(FILES, ARRAYS, strict=True)}
PACKED = {file: gzip.compress(data, mtime=0) for file, data in PLAIN.items()}


def sha256(plain: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(plain[file]).hexdigest() for file in FILES)


def is_the_small_set(found: tuple[Dataset, Dataset]) -> bool:
    for part, images, labels in zip(found, ARRAYS[::2], ARRAYS[1::2], strict=True):
        np.testing.assert_array_equal(part.x, images[:, None])
        np.testing.assert_array_equal(part.y, labels)
        assert part.x.dtype == np.uint8
        assert part.y.dtype == np.int64
    return True


Answer = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]


def send(handler: http.server.BaseHTTPRequestHandler, data: bytes, length: int | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    handler.wfile.write(data)


class Mirror:
    """A web server on this machine that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.files = dict(PACKED)
        self.answer: Answer = send
        self.requests: list[str] = []
        self.closing = threading.Event()
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                data = mirror.files.get(self.path.removeprefix("/set/").removesuffix(".gz"))
                if data is None:
                    self.send_error(404)
                else:
                    mirror.answer(self, data)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # the client hung up, as it should
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/set/"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    made = Mirror()
    yield made
    made.close()


@pytest.fixture
def second() -> Iterator[Mirror]:
    made = Mirror()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data directory, a cache of our own, and no proxy between us and 127.0.0.1."""
    monkeypatch.delenv("MINIDL_DATA", raising=False)
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "data" / "mnist"


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make "mnist" the small set, to be had from these mirrors."""

    def give(*mirrors: Mirror | str, plain: dict[str, bytes] = PLAIN, md5: tuple[str, ...] = ()) -> None:
        urls = tuple(m if isinstance(m, str) else m.url for m in mirrors)
        monkeypatch.setitem(sources.SOURCES, "mnist", Source(urls, () if md5 else sha256(plain), md5))

    return give


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Wait so many seconds (`TIMEOUT` or `DEADLINE`) for this mirror. Others have as long as a busy machine takes."""
    download = sources._download

    def wait(limit: str, seconds: float, mirror: Mirror) -> None:
        def limited(url: str) -> bytes:
            monkeypatch.setattr(sources, limit, seconds if url.startswith(mirror.url) else 300.0)
            return download(url)

        monkeypatch.setattr(sources, "_download", limited)

    return wait


def put(directory: Path, suffix: str, plain: dict[str, bytes] = PLAIN) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for file, data in plain.items():
        (directory / f"{file}{suffix}").write_bytes(gzip.compress(data, 1) if suffix else data)
    return directory


def kept(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir()) if cache.is_dir() else []


EVERYTHING = sorted(f"{file}.gz" for file in FILES)


# -------------------------------------------------------------------------------- directories one names


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", ["mnist", "."])
@pytest.mark.parametrize("how", ["MINIDL_DATA", "data_dir", "path"])
def test_named_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Callable, mirror: Mirror, suffix: str, folder: str, how: str
) -> None:
    given(mirror)
    put(tmp_path / "d" / folder, suffix)
    if how == "MINIDL_DATA":
        monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "d"))
        assert is_the_small_set(load("mnist"))
    else:
        assert is_the_small_set(load("mnist", data_dir=tmp_path / "d" if how == "path" else str(tmp_path / "d")))
    assert mirror.requests == []
    assert not (tmp_path / "cache").exists()


def test_data_dir_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Callable
) -> None:
    given()
    put(tmp_path / "good", ".gz")
    put(tmp_path / "bad", ".gz", dict.fromkeys(FILES, b"?"))
    monkeypatch.setenv("MINIDL_DATA", str(tmp_path / "bad"))
    assert is_the_small_set(load("mnist", data_dir=tmp_path / "good"))


def test_what_a_directory_lacks_comes_from_a_mirror(tmp_path: Path, given: Callable, mirror: Mirror) -> None:
    given(mirror)
    (put(tmp_path / "d", ".gz") / f"{FILES[2]}.gz").unlink()
    assert is_the_small_set(load("mnist", data_dir=tmp_path / "d"))
    assert mirror.requests == [f"/set/{FILES[2]}.gz"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("which", range(4))
def test_a_wrong_file_in_a_named_directory(
    tmp_path: Path, given: Callable, mirror: Mirror, suffix: str, which: int
) -> None:
    """It is the user's own: said, with both checksums, and not passed over for a mirror."""
    given(mirror)
    wrong = bytearray(PLAIN[FILES[which]])
    wrong[-1] ^= 1
    put(tmp_path / "d", suffix, {**PLAIN, FILES[which]: bytes(wrong)})
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=tmp_path / "d")
    assert not isinstance(caught.value, DataUnavailable)
    checksums = (
        f"expected unpacked bytes with SHA-256 {sha256(PLAIN)[which]}, found {hashlib.sha256(wrong).hexdigest()}"
    )
    for part in (f"{FILES[which]}{suffix}", checksums):
        assert part in str(caught.value)
    assert mirror.requests == []


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08", b"<html>not found</html>", PACKED[FILES[0]][:-9]])
def test_a_damaged_file_in_a_named_directory(tmp_path: Path, given: Callable, damage: bytes) -> None:
    given()
    (put(tmp_path / "d", ".gz") / f"{FILES[0]}.gz").write_bytes(damage)
    with pytest.raises(DataError, match=f"{FILES[0]}.gz: expected .*, found"):
        load("mnist", data_dir=tmp_path / "d")


def test_the_checksum_covers_the_header(tmp_path: Path, given: Callable) -> None:
    """The same values under another type or shape are not the published file."""
    given()
    for header in (bytes([0, 0, 9, 1]), bytes([0, 0, 8, 2, 0, 0, 0, 1])):
        put(tmp_path / "d", "", {**PLAIN, FILES[1]: header + PLAIN[FILES[1]][4:]})
        with pytest.raises(DataError, match="SHA-256"):
            load("mnist", data_dir=tmp_path / "d")


def test_md5_is_of_the_packed_file(tmp_path: Path, given: Callable) -> None:
    given(md5=tuple(hashlib.md5(PACKED[file]).hexdigest() for file in FILES))
    directory = tmp_path / "d"
    directory.mkdir()
    for file in FILES:
        (directory / f"{file}.gz").write_bytes(PACKED[file])
    assert is_the_small_set(load("mnist", data_dir=directory))
    other = gzip.compress(PLAIN[FILES[0]], 1)
    assert other != PACKED[FILES[0]]
    (directory / f"{FILES[0]}.gz").write_bytes(other)
    with pytest.raises(DataError) as caught:
        load("mnist", data_dir=directory)
    for data in (PACKED[FILES[0]], other):
        assert hashlib.md5(data).hexdigest() in str(caught.value)


# ------------------------------------------------------------------------------------ what the set holds


@pytest.mark.parametrize(
    ("which", "array", "says"),
    [
        (1, np.zeros(4, np.uint8), r"expected 5 labels, one for each image, found shape \(4,\)"),
        (3, np.zeros(4, np.uint8), r"expected 3 labels, one for each image, found shape \(4,\)"),
        (1, np.zeros((5, 1), np.uint8), r"expected 5 labels, .* found shape \(5, 1\)"),
        (0, np.zeros((5, 28, 27), np.uint8), r"\(N, 28, 28\), found uint8 \(5, 28, 27\)"),
        (2, np.zeros((3, 32, 28), np.uint8), r"\(N, 28, 28\), found uint8 \(3, 32, 28\)"),
        (0, np.zeros((5, 784), np.uint8), r"\(N, 28, 28\), found uint8 \(5, 784\)"),
        (0, np.zeros((5, 28, 28), ">f4"), r"expected uint8 images .* found float32"),
        (1, np.array([0, 1, 2, 3, 10], np.uint8), "expected labels from 0 to 9, found uint8 .*10"),
        (1, np.array([0, 1, 2, 3, -1], np.int8), "expected labels from 0 to 9, found int8 .*-1"),
        (1, np.zeros(5, ">f8"), "expected labels from 0 to 9, found float64"),
    ],
)
def test_contents(tmp_path: Path, given: Callable, which: int, array: np.ndarray, says: str) -> None:
    """Even where the checksum agrees."""
    code = {"uint8": 8, "int8": 9, "float32": 13, "float64": 14}[array.dtype.name]
    plain = {**PLAIN, FILES[which]: idx(array, code)}
    given(plain=plain)
    put(tmp_path / "d", ".gz", plain)
    with pytest.raises(DataError, match=f"^mnist: .*{says}"):
        load("mnist", data_dir=tmp_path / "d")


# ---------------------------------------------------------------------------------- mirrors and the cache


def test_download_and_cache(given: Callable, mirror: Mirror, cache: Path) -> None:
    given(mirror)
    assert is_the_small_set(load("mnist"))
    assert mirror.requests == [f"/set/{file}.gz" for file in FILES]
    assert kept(cache) == EVERYTHING
    for file in FILES:
        assert (cache / f"{file}.gz").read_bytes() == PACKED[file]
    if os.name != "nt":
        assert cache.stat().st_mode & 0o077 == 0
    assert is_the_small_set(load("mnist"))
    assert is_the_small_set(load("mnist", offline=True))
    assert len(mirror.requests) == 4  # no more than the first time


def test_the_first_mirror_is_asked_first(given: Callable, mirror: Mirror, second: Mirror) -> None:
    given(mirror, second)
    load("mnist")
    assert len(mirror.requests) == 4
    assert second.requests == []


def missing(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_error(404)


def broken(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_error(503)


def too_long(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    send(handler, data, len(data) + 100)


def too_short(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    send(handler, data, len(data) - 10)


def no_number(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "much")
    handler.end_headers()
    handler.wfile.write(data)


def truncated(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    """It hangs up half way, and announced nothing."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])


def chunks_cut(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data[: len(data) // 2])
    handler.close_connection = True


def wrong_file(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    plain = bytearray(gzip.decompress(data))
    plain[-1] ^= 1
    send(handler, gzip.compress(plain))


def web_page(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    send(handler, b"<html>Log in to this network</html>")


def bad_crc(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    send(handler, data[:-8] + bytes([data[-8] ^ 1]) + data[-7:])


def not_http(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(b"220 ready for mail\r\n")


def in_circles(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


FAULTS = {
    "404": (missing, "404"),
    "503": (broken, "503"),
    "longer": (too_long, "IncompleteRead|announced"),
    "shorter": (too_short, "gzip"),
    "length-no-number": (no_number, "ValueError: .*much"),
    "truncated": (truncated, "gzip"),
    "chunks": (chunks_cut, "IncompleteRead"),
    "wrong-file": (wrong_file, "SHA-256"),
    "page": (web_page, "magic number"),
    "crc": (bad_crc, "gzip"),
    "not-http": (not_http, "BadStatusLine"),
    "redirects": (in_circles, "redirect"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_mirror(given: Callable, mirror: Mirror, cache: Path, fault: str) -> None:
    mirror.answer, says = FAULTS[fault]
    given(mirror)
    with pytest.raises(DataUnavailable, match=says) as caught:
        load("mnist")
    message = str(caught.value)
    for part in ("mnist: ", FILES[0], str(cache), mirror.url, "MINIDL_DATA"):
        assert part in message
    assert kept(cache) == []  # neither the file nor half of it


@pytest.mark.parametrize("fault", FAULTS)
def test_the_second_mirror(given: Callable, mirror: Mirror, second: Mirror, cache: Path, fault: str) -> None:
    mirror.answer, _ = FAULTS[fault]
    given(mirror, second)
    assert is_the_small_set(load("mnist"))
    assert len(second.requests) == 4
    assert kept(cache) == EVERYTHING


def test_all_mirrors_bad(given: Callable, mirror: Mirror, second: Mirror, cache: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening: refused
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        mirror.answer, second.answer = missing, wrong_file
        given(mirror, nobody, second)
        with pytest.raises(DataUnavailable) as caught:
            load("mnist")
    for part in (mirror.url, "404", nobody, "refused", second.url, "SHA-256", "MINIDL_DATA", f"{FILES[0]}.gz", "mnist"):
        assert part in str(caught.value)
    assert kept(cache) == []


def test_a_mirror_without_the_last_file(given: Callable, mirror: Mirror, cache: Path) -> None:
    del mirror.files[FILES[3]]
    given(mirror)
    with pytest.raises(DataUnavailable, match=f"{FILES[3]} is not in"):
        load("mnist")
    assert kept(cache) == [name for name in EVERYTHING if FILES[3] not in name]
    mirror.files[FILES[3]] = PACKED[FILES[3]]
    mirror.requests.clear()
    assert is_the_small_set(load("mnist"))
    assert mirror.requests == [f"/set/{FILES[3]}.gz"]  # what came before is kept


def hang(mirror: Mirror, before: bool) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        if not before:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data[:20])
        mirror.closing.wait(10)

    return answer


@pytest.mark.parametrize("before", [True, False], ids=["at-once", "half-way"])
def test_a_mirror_that_hangs(
    given: Callable, impatient: Callable, mirror: Mirror, second: Mirror, cache: Path, before: bool
) -> None:
    impatient("TIMEOUT", 0.3, mirror)
    mirror.answer = hang(mirror, before)
    given(mirror)
    start = time.monotonic()
    with pytest.raises(DataUnavailable, match=r"(?i)timed out|timeout"):
        load("mnist")
    assert time.monotonic() - start > 0.25
    assert kept(cache) == []
    given(mirror, second)
    mirror.files = {FILES[0]: b"?" * 100}  # hangs for the first file only
    assert is_the_small_set(load("mnist"))


def test_a_mirror_that_drips(given: Callable, impatient: Callable, mirror: Mirror, second: Mirror, cache: Path) -> None:
    """A byte now and then keeps it within TIMEOUT for ever: DEADLINE ends that."""

    def drip(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for _ in range(600):  # 30 s, and then it hangs up
            if mirror.closing.wait(0.05):
                return
            handler.wfile.write(b"?")

    impatient("DEADLINE", 0.4, mirror)
    mirror.answer = drip
    mirror.files = {FILES[0]: PACKED[FILES[0]]}
    given(mirror, second)
    start = time.monotonic()
    assert is_the_small_set(load("mnist"))
    assert time.monotonic() - start > 0.35
    cache.joinpath(f"{FILES[0]}.gz").unlink()
    given(mirror)
    with pytest.raises(DataUnavailable, match=r"expected the file within 0.4 s, found \d+ bytes"):
        load("mnist")
    assert f"{FILES[0]}.gz" not in kept(cache)


def test_a_mirror_that_never_ends(
    given: Callable, mirror: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    def pour(handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        while sent < 1 << 26 and not mirror.closing.is_set():
            handler.wfile.write(bytes(1 << 16))
            sent += 1 << 16

    monkeypatch.setattr(sources, "MAX_BYTES", 1 << 20)
    mirror.answer = pour
    given(mirror)
    with pytest.raises(DataUnavailable, match="expected at most 1,048,576 bytes, found more"):
        load("mnist")
    assert sent < 1 << 25  # the connection was closed on it


def test_a_mirror_that_sends_a_bomb(given: Callable, mirror: Mirror, cache: Path) -> None:
    """What would unpack to 80 MiB, and says so in a sound header: more than any of our files, so refused."""
    size = 80 << 20
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [packer.compress(bytes([0, 0, 8, 1]) + size.to_bytes(4, "big"))]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    mirror.files[FILES[0]] = b"".join([*parts, packer.flush()])
    given(mirror)
    tracemalloc.start()
    try:
        with pytest.raises(DataUnavailable, match="expected at most 67,108,864 bytes"):
            load("mnist")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert kept(cache) == []


@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:-5] + b"?" + b[-4:], lambda b: gzip.compress(b"other")],
    ids=["empty", "half", "bit", "other"],
)
@pytest.mark.parametrize("which", [0, 3])
def test_a_damaged_file_in_the_cache(
    given: Callable, mirror: Mirror, cache: Path, damage: Callable[[bytes], bytes], which: int
) -> None:
    given(mirror)
    load("mnist")
    mirror.requests.clear()
    file = cache / f"{FILES[which]}.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataUnavailable, match=rf"{FILES[which]}\.gz \(.*expected"):
        load("mnist", offline=True)
    assert is_the_small_set(load("mnist"))
    assert mirror.requests == [f"/set/{FILES[which]}.gz"]
    assert file.read_bytes() == PACKED[FILES[which]]
    assert kept(cache) == EVERYTHING


def test_offline_asks_nobody(given: Callable, mirror: Mirror, tmp_path: Path, cache: Path) -> None:
    given(mirror)
    with pytest.raises(DataUnavailable) as caught:
        load("mnist", data_dir=tmp_path / "none", offline=True)
    for part in (FILES[0], str(tmp_path / "none"), str(cache), "downloads are off", "MINIDL_DATA"):
        assert part in str(caught.value)
    assert mirror.requests == []


def test_a_cache_that_cannot_be_made(
    given: Callable, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(mirror)
    (tmp_path / "file").write_text("here is a file, no directory")
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "file" / "cache"))
    before = sorted(os.listdir(tempfile.gettempdir()))
    assert is_the_small_set(load("mnist"))
    assert is_the_small_set(load("mnist"))
    assert len(mirror.requests) == 8
    with pytest.raises(DataUnavailable, match=r"the cache \(.*file"):
        load("mnist", offline=True)
    left = set(os.listdir(tempfile.gettempdir())) - set(before)
    assert not [p for p in left if os.path.isfile(os.path.join(tempfile.gettempdir(), p, f"{FILES[0]}.gz"))]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_cache_that_others_can_write_to_is_not_used(given: Callable, mirror: Mirror, cache: Path) -> None:
    put(cache, ".gz")
    cache.chmod(0o777)
    given(mirror)
    assert is_the_small_set(load("mnist"))
    assert len(mirror.requests) == 4
    assert (cache / f"{FILES[0]}.gz").read_bytes() != PACKED[FILES[0]]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk(
    given: Callable, mirror: Mirror, second: Mirror, cache: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What has come and is right is used, though it cannot be kept."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, where, full)
    given(mirror, second)
    assert is_the_small_set(load("mnist"))
    assert len(mirror.requests) == 4
    assert second.requests == []
    assert kept(cache) == []


def test_import_and_load_of_digits_use_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert len(load("digits")[0]) == 1437
