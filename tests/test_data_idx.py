"""IDX files: what is written is read back, and nothing but a whole and sound file is read at all."""

import errno
import gzip
import math
import os
import tempfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minidl.data import IDXError, read_idx, write_idx
from minidl.shared.files import write_atomically

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SHAPE = (2, 3)
WHOLE = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(10, 16))


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def refused(path: Path, *said: str, **options: Any) -> str:
    """The message with which this file is refused: it names the file, what was found and what was expected."""
    with pytest.raises(IDXError) as caught:
        read_idx(path, **options)
    message = str(caught.value)
    for part in (str(path), "expected", "found", *said):
        assert part in message
    return message


# ------------------------------------------------------------------------------------- round trips

dtypes = st.sampled_from(list(CODES)).flatmap(lambda t: st.sampled_from([np.dtype("<" + t), np.dtype(">" + t)]))
arrays = dtypes.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4)))


@given(array=arrays, zipped=st.booleans(), reverse=st.booleans())
@settings(deadline=None, max_examples=80)
def test_what_is_written_is_read_back(array: np.ndarray, zipped: bool, reverse: bool) -> None:
    if reverse:
        array = array.T[::-1]  # neither in C nor in Fortran order
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "a.idx.gz" if zipped else "a.idx")
        write_idx(path, array)
        assert (path.read_bytes()[:2] == b"\x1f\x8b") == zipped
        found = read_idx(str(path))
        assert os.listdir(directory) == [path.name]
    native = array.astype(array.dtype.newbyteorder("="))
    assert found.dtype == native.dtype
    assert found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == native.tobytes()  # NaN and −0 too
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.flags.aligned
    found[...] = 1  # is written to without error


@pytest.mark.parametrize("code", CODES)
def test_bytes_on_disk(tmp_path: Path, code: str) -> None:
    """Against the format's own definition, not against our reader."""
    array = np.array([[1, 2, 3]], code)
    write_idx(tmp_path / "a", array)
    data = (tmp_path / "a").read_bytes()
    assert data[:12] == bytes([0, 0, CODES[code], 2, 0, 0, 0, 1, 0, 0, 0, 3])
    assert data[12:] == array.astype(">" + code).tobytes()


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    expected = np.arange(10, 16, dtype=np.uint8).reshape(SHAPE)
    for name in ("a", "a.gz", "any.name"):
        np.testing.assert_array_equal(read_idx(put(tmp_path / name, WHOLE)), expected)
    (tmp_path / "zipped-without-suffix").write_bytes(gzip.compress(WHOLE))
    np.testing.assert_array_equal(read_idx(tmp_path / "zipped-without-suffix"), expected)
    members = gzip.compress(WHOLE[:14]) + gzip.compress(WHOLE[14:])  # as RFC 1952 allows
    (tmp_path / "members.gz").write_bytes(members)
    np.testing.assert_array_equal(read_idx(tmp_path / "members.gz"), expected)


def test_32_axes_and_sizes_past_a_byte(tmp_path: Path) -> None:
    many = np.arange(2, dtype=np.int16).reshape((1,) * 31 + (2,))
    write_idx(tmp_path / "many", many)
    assert read_idx(tmp_path / "many").shape == many.shape
    long = np.arange(70_001, dtype=np.int32)
    write_idx(tmp_path / "long.gz", long)
    np.testing.assert_array_equal(read_idx(tmp_path / "long.gz"), long)
    over_a_chunk = np.random.default_rng(0).integers(0, 256, (3, 700_001), np.uint8)  # 2 MiB: three reads
    write_idx(tmp_path / "chunks", over_a_chunk)
    np.testing.assert_array_equal(read_idx(tmp_path / "chunks"), over_a_chunk)


# --------------------------------------------------------------------------------------- bad files


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    """At every byte of the header and the data; the .gz is sound, what it holds is not."""
    for length in range(len(WHOLE)):
        message = refused(put(tmp_path / f"a{suffix}", WHOLE[:length]))
        if length < 4:
            assert f"expected 4 bytes of the magic number, found {length}" in message
        elif length < 12:
            assert f"expected 8 bytes of the sizes of 2 axes, found {length - 4}" in message
        else:
            assert f"expected 6 bytes of data for shape (2, 3), found {length - 12}" in message


def test_truncated_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(WHOLE)
    for length in range(2, len(packed)):
        path = tmp_path / f"{length}.gz"
        path.write_bytes(packed[:length])
        refused(path, "gzip")


def test_damaged_gzip(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(WHOLE))
    for offset in range(len(packed) - 8, len(packed)):  # CRC-32 and length
        bad = packed.copy()
        bad[offset] ^= 1
        (tmp_path / "crc.gz").write_bytes(bad)
        refused(tmp_path / "crc.gz", "gzip stream")
    for bad in (packed[:10] + b"\xff" * 20, b"\x1f\x8b\x09" + packed[3:], packed + b"garbage"):
        (tmp_path / "bad.gz").write_bytes(bad)
        refused(tmp_path / "bad.gz", "gzip stream")


def test_bad_crc_of_an_empty_array(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 0])))
    packed[-8] ^= 1
    (tmp_path / "a.gz").write_bytes(packed)
    refused(tmp_path / "a.gz", "gzip stream")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("first", [b"\1\0", b"\0\1", b"\xff\xff", b"PK", b"\x89P"])
def test_wrong_zero_bytes(tmp_path: Path, suffix: str, first: bytes) -> None:
    refused(put(tmp_path / f"a{suffix}", first + WHOLE[2:]), "magic number", (first + WHOLE[2:4]).hex())


def test_unknown_type(tmp_path: Path) -> None:
    for code in set(range(256)) - set(CODES.values()):
        refused(put(tmp_path / "a", WHOLE[:2] + bytes([code]) + WHOLE[3:]), "known type", f"0000{code:02x}02")


@pytest.mark.parametrize("axes", [0, 33, 64, 65, 255])
def test_number_of_axes(tmp_path: Path, axes: int) -> None:
    data = bytes([0, 0, 8, axes]) + bytes([0, 0, 0, 1]) * axes + b"\7"
    refused(put(tmp_path / "a", data), f"1 to 32 axes, found {axes}")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("extra", [b"\0", b"\n", WHOLE])
def test_trailing_bytes(tmp_path: Path, suffix: str, extra: bytes) -> None:
    refused(put(tmp_path / f"a{suffix}", WHOLE + extra), "6 bytes of data for shape (2, 3), found more")
    empty = bytes([0, 0, 8, 1, 0, 0, 0, 0])
    refused(put(tmp_path / f"b{suffix}", empty + extra), "0 bytes of data for shape (0,), found more")


@pytest.mark.parametrize(
    ("code", "shape"),
    [
        (8, (2**32 - 1,)),
        (8, (2**16, 2**16)),  # 2³²: 0 in 32 bits
        (8, (2**32 - 1, 2**32 - 1)),
        (8, (2**31, 2**31, 4)),  # 2⁶⁴: 0 in 64 bits
        (14, (2**31, 2**30)),  # 2⁶¹ values of 8 bytes
        (14, (2**29,)),
        (8, (2**32 - 1,) * 32),
        (8, (0, *(2**32 - 1,) * 3)),  # empty, and yet more than NumPy can address
        (14, (*(2**32 - 1,) * 2, 0)),
    ],
)
def test_dimensions_that_overflow(tmp_path: Path, code: int, shape: tuple[int, ...]) -> None:
    header = bytes([0, 0, code, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    data = b"" if 0 in shape else b"\0" * 64
    tracemalloc.start()
    try:
        refused(put(tmp_path / "a", header + data), "shape", str(shape[0]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_max_bytes(tmp_path: Path) -> None:
    path = put(tmp_path / "a", WHOLE)
    assert read_idx(path, max_bytes=6).shape == SHAPE
    refused(path, "at most 5 bytes", "(2, 3)", "6 bytes", max_bytes=5)
    write_idx(tmp_path / "f", np.zeros(3))
    assert read_idx(tmp_path / "f", max_bytes=24).shape == (3,)
    refused(tmp_path / "f", "at most 23 bytes", "24 bytes", max_bytes=23)


def bomb(path: Path, header: bytes, mebibytes: int) -> Path:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    with open(path, "wb") as file:
        file.write(packer.compress(header))
        for _ in range(mebibytes):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    return path


def peak_and_position(path: Path, monkeypatch: pytest.MonkeyPatch, *said: str, **options: Any) -> tuple[int, int]:
    """(peak memory, bytes unpacked) while this file is refused."""
    unpacked = 0
    read = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        nonlocal unpacked
        data = read(self, size)
        unpacked += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    tracemalloc.start()
    try:
        refused(path, *said, **options)
        return tracemalloc.get_traced_memory()[1], unpacked
    finally:
        tracemalloc.stop()


def test_gzip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB behind a header of 6 bytes: one byte too many is found, and no more is unpacked."""
    path = bomb(tmp_path / "a.gz", WHOLE[:12], 64)
    assert path.stat().st_size < 1 << 19
    peak, unpacked = peak_and_position(path, monkeypatch, "found more")
    assert unpacked <= 12 + 6 + 1
    assert peak < 1 << 20


def test_gzip_bomb_with_a_large_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It announces what it holds: refused by the cap, before anything is unpacked."""
    path = bomb(tmp_path / "a.gz", bytes([0, 0, 8, 1]) + (64 << 20).to_bytes(4, "big"), 64)
    peak, unpacked = peak_and_position(path, monkeypatch, "at most 1,000,000 bytes", max_bytes=1_000_000)
    assert unpacked == 8
    assert peak < 1 << 20


def test_a_large_header_alone_takes_no_memory(tmp_path: Path) -> None:
    path = put(tmp_path / "a", bytes([0, 0, 8, 1]) + ((1 << 31) - 1).to_bytes(4, "big") + b"\1\2\3")
    tracemalloc.start()
    try:
        refused(path, "2,147,483,647 bytes", "found 3")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@given(data=st.binary(max_size=64), zipped=st.booleans(), magic=st.booleans())
@settings(deadline=None, max_examples=120)
def test_any_bytes_are_an_array_or_an_idx_error(data: bytes, zipped: bool, magic: bool) -> None:
    if magic:
        data = bytes([0, 0, 8, len(data) % 4]) + data
    with tempfile.TemporaryDirectory() as directory:
        path = put(Path(directory, "a.gz" if zipped else "a"), data)
        try:
            array = read_idx(path)
        except IDXError:
            refused(path)
        else:
            assert len(data) == 4 + 4 * array.ndim + array.nbytes
            assert data[4 + 4 * array.ndim :] == array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(OSError):
        read_idx(tmp_path)
    assert issubclass(IDXError, ValueError)


# ----------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("dtype", ["bool", "u2", "u4", "u8", "i8", "f2", "c8", "U3", "O", "M8[s]"])
def test_write_refuses_other_dtypes(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(TypeError, match=r"write_idx: expected one of .*uint8.*, found"):
        write_idx(tmp_path / "a", np.zeros(2, dtype))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(), (1,) * 33, (1,) * 64])
def test_write_refuses_what_could_not_be_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"write_idx: expected 1 to 32 axes .* found shape"):
        write_idx(tmp_path / "a", np.zeros(shape, np.uint8))
    assert os.listdir(tmp_path) == []


def test_write_refuses_an_axis_over_32_bits(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.uint8(0), (1 << 32, 0))
    with pytest.raises(ValueError, match=r"less than 2\*\*32, found shape \(4294967296, 0\)"):
        write_idx(tmp_path / "a", huge)


def test_write_takes_what_numpy_takes(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", [1.5, 2.5])
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), [1.5, 2.5])


def test_write_gives_the_same_bytes_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(100, dtype=np.uint8)
    write_idx(tmp_path / "a.gz", array)
    monkeypatch.setattr("time.time", lambda: 1e9)
    write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_write_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_idx("a", np.zeros(math.prod(SHAPE), np.uint8))
    assert os.listdir(tmp_path) == ["a"]


def failing_write(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    import builtins

    real = builtins.open

    def opened(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = real(path, mode, *args, **kwargs)
        if "w" not in mode:
            return file

        class Full:
            def __enter__(self) -> "Full":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> int:
                file.write(data[: len(data) // 2])
                file.flush()
                raise error

        return Full()

    monkeypatch.setattr(builtins, "open", opened)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("old", [True, False])
def test_a_failed_write_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException, old: bool
) -> None:
    path = tmp_path / "a"
    if old:
        write_idx(path, np.arange(3, dtype=np.uint8))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        if where == "write":
            failing_write(patched, error)
        else:
            patched.setattr(os, where, fail)
        with pytest.raises(type(error)):
            write_idx(path, np.zeros((20, 20)))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(fd: int) -> None:
        assert os.fstat(fd).st_size == 5  # nothing is left in Python's buffer
        assert not (tmp_path / "a").exists()
        events.append("fsync")
        fsync(fd)

    def renamed(source: str, target: str) -> None:
        assert os.path.dirname(source) == str(tmp_path)  # on the same file system
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(str(tmp_path / "a"), b"12345")
    assert events == ["fsync", "replace"]
    assert (tmp_path / "a").read_bytes() == b"12345"


def test_write_into_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_idx(tmp_path / "none" / "a", np.zeros(3))
