"""Settings from the environment: whether kernels are compiled, and where files are kept between runs.

Compiled kernels and downloaded data are in `$MINIDL_CACHE`, else `$XDG_CACHE_HOME/minidl`, else `~/.cache/minidl`.
"""

import os
import stat


def cache_root() -> str:
    """The cache's directory, which need not exist yet. FileNotFoundError: no variable names one, and no home."""
    if chosen := os.environ.get("MINIDL_CACHE"):
        return chosen
    if base := os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(base, "minidl")
    home = os.path.expanduser("~")
    if home == "~":
        raise FileNotFoundError("there is no home directory to keep a cache in; set MINIDL_CACHE")
    return os.path.join(home, ".cache", "minidl")


def private_directory(*parts: str) -> str:
    """`cache_root()/parts…`, created if need be, writable by this user alone.

    Raises OSError if it cannot be created or written to, or belongs to another user:
    Numba's index files are pickles, so a directory that others can write to could run their code.
    """
    directory = cache_root()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    _check_private(directory)
    for part in parts:
        directory = os.path.join(directory, part)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _check_private(directory)
    return directory


def _check_private(directory: str) -> None:
    if os.name == "nt":  # a Windows profile is private by its access lists; mode bits say nothing
        return
    status = os.stat(directory)
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{directory} belongs to user {status.st_uid}, expected {os.geteuid()}")
    if status.st_mode & 0o022:
        raise PermissionError(
            f"others can write to {directory} (mode {stat.S_IMODE(status.st_mode):04o}, expected 0700)"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} cannot be written to")


def interpreted() -> bool:
    """Whether kernels run as plain Python (`NUMBA_DISABLE_JIT=1`, for debuggers and coverage)."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
