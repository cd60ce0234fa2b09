"""Opening files, which pipes and devices are not."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
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


def _no_file(path: str | os.PathLike[str], mode: int) -> OSError:
    found = _KINDS.get(stat.S_IFMT(mode), "a device")
    return OSError(
        errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, f"expected a file, found {found}", os.fspath(path)
    )


def _at_once(path: str, flags: int) -> int:
    """Open without waiting, as a pipe would have us do until somebody writes."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
