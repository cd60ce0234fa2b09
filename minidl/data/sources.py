"""Named data sets: found on this machine or downloaded, and verified on every load.

    train, test = load("mnist")

Looks in `data_dir` or `$MINIDL_DATA` (in a folder of that name, or directly), then in minidl's cache, then tries the
mirrors in turn. A download is verified before it is cached, and cached atomically.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from typing import IO

import numpy as np

from minidl.data.dataset import Dataset
from minidl.data.idx import IDXError, as_array, read_raw
from minidl.jit.environment import private_directory
from minidl.shared.files import FilePath, open_file, write_atomically
from minidl.shared.names import hint
from minidl.tensor import Array

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
TIMEOUT = 20.0  # seconds without a byte before trying the next mirror
DEADLINE = 300.0  # seconds for one file from one mirror
MAX_BYTES = 1 << 26  # of one file, compressed or not; the largest is 47 MB


class DataError(RuntimeError):
    """A data set cannot be loaded; the message says what was found, what was expected and what to do."""


class DataUnavailable(DataError):
    """The data set is neither on this machine nor available from a mirror."""


class Source:
    """The origin of a data set, and the checksums of its four files, in the order of `FILES`.

    `sha256` is of the uncompressed bytes, so any compression will do. Where none is published, `md5` is of the .gz
    files, and only those can be verified.
    """

    def __init__(self, mirrors: tuple[str, ...], sha256: tuple[str, ...] = (), md5: tuple[str, ...] = ()) -> None:
        self.mirrors, self.sha256, self.md5 = mirrors, sha256, md5


SOURCES = {
    # LeCun, Cortes, Burges 1998; CC BY-SA 3.0
    "mnist": Source(
        ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    # Xiao, Rasul, Vollgraf 2017; MIT. Plain HTTP: the checksum is the only defence
    "fashion_mnist": Source(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    # Clanuwat et al. 2018; CC BY-SA 4.0
    "kmnist": Source(
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        md5=(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
    ),
}
# E. Alpaydin, C. Kaynak 1998; CC BY 4.0: see DIGITS.md beside this file
DIGITS = {
    "digits-images-idx3-ubyte.gz": "d224a90b51e21e5d1332d34effc46c3a7d6244906f07c292c24213770d11ca7b",
    "digits-labels-idx1-ubyte.gz": "ce71631c1f31ce56fa54f31d1d498fafacff59b001e6c30c4a5e29508aa277ad",
}


def load(name: str, data_dir: FilePath | None = None, offline: bool = False) -> tuple[Dataset, Dataset]:
    """(train, test) of "mnist", "fashion_mnist", "kmnist" or "digits": .x uint8 (N, 1, H, W), .y int64 (N,).

    data_dir   where to look instead of `$MINIDL_DATA`
    offline    do not use the mirrors

    ValueError: no such data set. DataError: a local file fails verification. DataUnavailable: not on this
    machine, and no reachable mirror sent the right bytes.

    >>> train, test = data.load("digits")
    >>> train
    Dataset(x: uint8 (1437, 1, 8, 8), y: int64 (1437,))
    >>> len(test)
    360
    """
    if name == "digits":
        return _digits()
    if name not in SOURCES:
        names = [*SOURCES, "digits"]
        raise ValueError(f"load: expected one of {names}, found {name!r}{hint(name, names)}")
    arrays = [_find(name, i, data_dir, offline) for i in range(len(FILES))]
    return _dataset(name, arrays[0], arrays[1], (28, 28)), _dataset(name, arrays[2], arrays[3], (28, 28))


def _dataset(name: str, images: Array, labels: Array, size: tuple[int, int]) -> Dataset:
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != size:
        raise DataError(f"{name}: expected uint8 images (N, {size[0]}, {size[1]}), found {images.dtype} {images.shape}")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{name}: expected {len(images)} labels, one for each image, found shape {labels.shape}")
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() <= 9):
        raise DataError(f"{name}: expected labels from 0 to 9, found {labels.dtype} {np.unique(labels)}")
    return Dataset(images[:, None], labels.astype(np.int64))


def _digits() -> tuple[Dataset, Dataset]:
    here = os.path.dirname(__file__)
    images, labels = (_on_disk(os.path.join(here, file), sha256=checksum) for file, checksum in DIGITS.items())
    both = _dataset("digits", images, labels, (8, 8))
    return Dataset(both.x[:1437], both.y[:1437]), Dataset(both.x[1437:], both.y[1437:])


# --------------------------------------------------------------------------------- finding a file


def _find(name: str, i: int, data_dir: FilePath | None, offline: bool) -> Array:
    """The array of a data set's i-th file, from the first source that has it."""
    source, file = SOURCES[name], FILES[i]
    checksums = {"sha256": source.sha256[i]} if source.sha256 else {"md5": source.md5[i]}
    looked: list[str] = []
    for directory in named_directories(name, data_dir):
        for path in (os.path.join(directory, f"{file}.gz"), os.path.join(directory, file)):
            if os.path.isfile(path):
                return _on_disk(path, **checksums)
        looked.append(directory)
    try:
        cache: str | None = private_directory("data", name)
    except OSError as error:
        cache = None
        looked.append(f"the cache ({error})")
    if cache is not None:
        kept = os.path.join(cache, f"{file}.gz")
        if os.path.isfile(kept):
            try:
                return _on_disk(kept, **checksums)
            except (DataError, OSError) as error:
                looked.append(f"{kept} ({error})")  # damaged: download again
        else:
            looked.append(cache)
    advice = f"put {file}.gz into a directory {name} and name the one above it in MINIDL_DATA"
    if offline:
        raise DataUnavailable(f"{name}: {file} is not in {', '.join(looked)}, and downloads are off; {advice}")
    failures = []
    for mirror in source.mirrors:
        try:
            packed = _download(f"{mirror}{file}.gz")
            return _keep(packed, cache, f"{file}.gz", checksums)
        except Exception as error:  # however a mirror fails, try the next
            failures.append(f"{mirror} ({type(error).__name__}: {error})")
    raise DataUnavailable(
        f"{name}: {file} is not in {', '.join(looked)}, and no mirror sent it: {'; '.join(failures)}; {advice}"
    )


def named_directories(name: str, data_dir: FilePath | None) -> list[str]:
    """The directories named by the user in `data_dir` or else in `$MINIDL_DATA`."""
    named = data_dir if data_dir is not None else os.environ.get("MINIDL_DATA")
    return [os.path.join(named, name), os.fspath(named)] if named else []


def _on_disk(path: str, sha256: str = "", md5: str = "") -> Array:
    with open_file(path) as file:
        return _verified(file, path, sha256, md5)


def _verified(file: IO[bytes], path: str, sha256: str = "", md5: str = "") -> Array:
    """The array in a file whose bytes have this checksum: SHA-256 of the unpacked, or MD5 of the packed ones."""
    import hashlib

    if md5:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]
        file.seek(0)
        if found != md5:
            raise DataError(
                f"{path}: expected the published .gz file with MD5 {md5}, found {found} "
                "(its unpacked bytes have no published checksum, so only that file can be verified)"
            )
    try:
        header, values = read_raw(file, path, MAX_BYTES)
    except IDXError as error:
        raise DataError(str(error)) from error
    if sha256:
        digest = hashlib.sha256(header)
        digest.update(values)
        if (found := digest.hexdigest()) != sha256:
            raise DataError(f"{path}: expected unpacked bytes with SHA-256 {sha256}, found {found}")
    return as_array(header, values)


def _download(url: str) -> bytes:
    """The bytes at a URL, within `DEADLINE`. Any failure raises.

    In a thread of its own: `TIMEOUT` is of one wait, and a slow name server, or headers that come a byte at a
    time, may take any number of them before there is a response to look at.
    """
    received, failures, late = bytearray(), list[Exception](), threading.Event()

    def receive() -> None:
        try:
            _receive(url, received, late)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    try:
        thread.join(DEADLINE)
        if thread.is_alive():
            raise TimeoutError(f"expected the file within {DEADLINE} s, found {len(received)} bytes of it")
    finally:
        late.set()
    if failures:
        raise failures[0]
    return bytes(received)


def _receive(url: str, received: bytearray, late: threading.Event) -> None:
    """Append what a URL sends, until it is `late`. Raises: silence, another length than announced, too much."""
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "minidl"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        # What has come: `read` would wait for all of it, however late it is.
        while not late.is_set() and (chunk := response.read1(1 << 16)):
            received += chunk
            if len(received) > MAX_BYTES:
                raise DataError(f"expected at most {MAX_BYTES:,} bytes, found more")
        announced = response.headers.get("Content-Length")
    if announced is not None and int(announced) != len(received):
        raise DataError(f"expected the announced {announced} bytes, found {len(received)}")


def _keep(packed: bytes, cache: str | None, file: str, checksums: dict[str, str]) -> Array:
    """The array in a downloaded file, verified, and then kept in the cache if there is one with room for it."""
    array = _verified(io.BytesIO(packed), file, **checksums)
    if cache is not None:
        with contextlib.suppress(OSError):
            write_atomically(os.path.join(cache, file), packed)
    return array
