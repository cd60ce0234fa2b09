"""IDX, the format of MNIST: two zero bytes, a type, the number of axes, each axis as a big-endian uint32, the data."""

from __future__ import annotations

import math
import os
from typing import IO, Any

import numpy as np

from minidl.shared.files import FilePath, open_file, write_atomically
from minidl.tensor import Array

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_BYTES = 1 << 31
MAX_AXES = 32


class IDXError(ValueError):
    """A file is not the expected IDX file; the message names the file, what was found and what was expected."""


def read_idx(path: FilePath, max_bytes: int = MAX_BYTES) -> Array:
    """Read the array in an IDX file, gzipped or not: in native byte order, C order, writable.

    Never unpacks more than the header announces. IDXError: truncated, trailing bytes, another format, a damaged gzip
    stream, or more than `max_bytes` announced. OSError: unreadable, or a directory, pipe, socket or device.
    """
    with open_file(path) as file:
        return as_array(*read_raw(file, os.fspath(path), max_bytes))


def as_array(header: bytes, values: bytearray) -> Array:
    """The array in the result of `read_raw`, sharing its memory: bytes are swapped in place."""
    array: Array = np.ndarray(_shape(header), _TYPES[header[2]], values)
    return array if array.dtype.isnative else array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def _shape(header: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(header[3]))


def read_raw(file: IO[bytes], path: str, max_bytes: int = MAX_BYTES) -> tuple[bytes, bytearray]:
    """(header, data) of an open file, unpacked, and checked as in `read_idx`. `path` is for error messages."""
    import gzip
    import zlib

    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if zipped else file
    try:
        return _read(stream, path, max_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IDXError(f"{path}: expected a whole gzip stream, found a damaged one ({error})") from error


def _read(stream: IO[bytes], path: str, max_bytes: int) -> tuple[bytes, bytearray]:
    header = _exactly(stream, 4, path, "the magic number")
    if header[:2] != b"\0\0" or header[2] not in _TYPES:
        raise IDXError(f"{path}: expected an IDX magic number 0000TTDD with a known type TT, found {header.hex()}")
    if not 1 <= header[3] <= MAX_AXES:
        raise IDXError(f"{path}: expected 1 to {MAX_AXES} axes, found {header[3]}")
    header += _exactly(stream, 4 * header[3], path, f"the sizes of {header[3]} axes")
    shape = _shape(header)
    itemsize = np.dtype(_TYPES[header[2]]).itemsize
    size = math.prod(shape) * itemsize
    if math.prod(n or 1 for n in shape) * itemsize > max_bytes:  # NumPy also refuses huge axes beside an empty one
        raise IDXError(f"{path}: expected at most {max_bytes:,} bytes, found a header of shape {shape}: {size:,} bytes")
    values = bytearray()  # grows as data arrives: a header can announce any size
    while missing := size - len(values):
        chunk = stream.read(min(missing, 1 << 20))
        if not chunk:
            raise IDXError(f"{path}: expected {size:,} bytes of data for shape {shape}, found {size - missing:,}")
        values += chunk
    if stream.read(1):
        raise IDXError(f"{path}: expected {size:,} bytes of data for shape {shape}, found more")
    return header, values


def _exactly(stream: IO[bytes], count: int, path: str, what: str) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise IDXError(f"{path}: expected {count} bytes of {what}, found {len(found)}")
    return found


def write_idx(path: FilePath, array: Array) -> None:
    """Write an array as an IDX file, gzipped if the name ends in ".gz"; atomically.

    TypeError: a dtype that IDX has no code for. ValueError: no axes, more than 32, or one longer than 2³² − 1.
    """
    codes = {np.dtype(t).newbyteorder("="): code for code, t in _TYPES.items()}
    array = np.asarray(array)
    native = array.dtype.newbyteorder("=")
    if native not in codes:
        raise TypeError(f"write_idx: expected one of {sorted(map(str, codes))}, found {native}")
    if not 1 <= array.ndim <= MAX_AXES or any(n >= 1 << 32 for n in array.shape):
        raise ValueError(f"write_idx: expected 1 to {MAX_AXES} axes of less than 2**32, found shape {array.shape}")
    header = bytes([0, 0, codes[native], array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    data = header + np.ascontiguousarray(array, dtype=native.newbyteorder(">")).tobytes()
    if os.fspath(path).endswith(".gz"):
        import gzip

        data = gzip.compress(data, mtime=0)
    write_atomically(os.fspath(path), data)
