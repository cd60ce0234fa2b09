"""Opening regular files only, and writing files atomically."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
import time
import warnings
from pathlib import Path
from typing import BinaryIO

FilePath = str | os.PathLike[str]
ABANDONED = 3600  # seconds
_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_file(path: FilePath) -> BinaryIO:
    """Open a file to read bytes. OSError: missing, or a directory, pipe, socket or device, reading which might block
    or never end."""
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EISDIR):  # errors of opening a socket or a directory
            raise
        raise _no_file(path, os.stat(path).st_mode) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _no_file(path, mode)
    return file


def _no_file(path: FilePath, mode: int) -> OSError:
    found = _KINDS.get(stat.S_IFMT(mode), "a device")
    return OSError(
        errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"expected a file, found {found}", os.fspath(path)
    )


def _at_once(path: str, flags: int) -> int:
    """Open without blocking, as opening a pipe would until it has a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_atomically(path: str, data: bytes | bytearray) -> None:
    """Write a temporary file beside the target, flush it to disk and rename it: no partial file is ever visible."""
    directory, name = os.path.split(path)
    # A unique, unpredictable name: other threads write too, and a planted link would be followed.
    beside = os.path.join(directory, f".{name}.{os.urandom(8).hex()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def write_file(path: FilePath, data: bytes) -> None:
    """Write a file atomically: to a temporary file that is flushed and renamed, then flush the directory.

    OSError: the file cannot be written, or the path exists and is not a file; an existing file is left unchanged.
    RuntimeWarning: the directory cannot be flushed, so that a power failure may undo the write.
    """
    target = os.path.realpath(path)  # so that a link stays a link
    _refuse_other_than_files(path, target)
    write_atomically(target, data)
    _remove_abandoned(target)
    if os.name == "nt":  # Windows cannot open directories
        return
    try:
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        warnings.warn(f"{path} is written, but its directory cannot be flushed ({error})", RuntimeWarning, stacklevel=2)


def _remove_abandoned(target: str) -> None:
    """Remove temporary files that killed writers of this file left behind, if untouched for an hour."""
    directory, name = os.path.split(target)
    mine = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}")  # see write_atomically
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if mine.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                os.unlink(entry)


def check_writable(path: FilePath) -> None:
    """Raise OSError if `write_file` could not write there, as far as can be known without writing."""
    target = Path(os.path.realpath(path))
    _refuse_other_than_files(path, target)
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{path} is read-only")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no directory {target.parent}")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}."):
        pass


def _refuse_other_than_files(path: FilePath, target: FilePath) -> None:
    """Raise OSError for a pipe or device, which a rename would replace."""
    if os.path.exists(target) and not os.path.isfile(target):
        raise IsADirectoryError(f"{path} is there and is not a file")
