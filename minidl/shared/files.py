"""Opening files, which pipes and devices are not, and writing them whole or not at all."""

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
    """A file to read bytes from. OSError: there is none, or it is a directory, pipe, socket or device: reading those
    might wait for ever, or never end."""
    try:
        file = open(path, "rb", opener=_at_once)  # noqa: SIM115 (the caller closes it)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EISDIR):  # what opening a socket, or a directory, gives
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
    """Open without waiting, as a pipe would have us do until somebody writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_atomically(path: str, data: bytes | bytearray) -> None:
    """Write a file beside its place, flush it to the disk and rename it: nobody ever sees half of it."""
    directory, name = os.path.split(path)
    # A name nobody else has or can foresee: other threads write too, and a planted link would be followed.
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
    """Write a file beside its place, flush it, rename it, and flush the directory too: whole or not at all.

    OSError: it cannot be written, or it is not a file that is there; what was there before is as it was. A directory
    that cannot be flushed is a RuntimeWarning: the new file is there, but a power failure may undo it.
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
    """Remove what writers of this file left beside it that were killed: unfinished, and untouched for an hour."""
    directory, name = os.path.split(target)
    mine = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{16}}")  # see write_atomically
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if mine.fullmatch(entry.name) and time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED:
                os.unlink(entry)


def check_writable(path: FilePath) -> None:
    """OSError if `write_file` could not write there, as far as can be told without doing it."""
    target = Path(os.path.realpath(path))
    _refuse_other_than_files(path, target)
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{path} is read-only")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no directory {target.parent}")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}."):
        pass


def _refuse_other_than_files(path: FilePath, target: FilePath) -> None:
    """A rename would put a file in the place of a pipe or a device as well."""
    if os.path.exists(target) and not os.path.isfile(target):
        raise IsADirectoryError(f"{path} is there and is not a file")
