"""Compiled kernels on disk, so that a second process need not compile. Imported when the first kernel is compiled.

Numba's own cache, in a private directory per version of everything that Numba's key leaves out. It never
causes a failure: files that cannot be read are deleted and compiled anew.
"""

import contextlib
import functools
import glob
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numba
from llvmlite.binding import ffi
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock

from minidl.core import locks
from minidl.jit.environment import private_directory

locks.awaited(global_compiler_lock)
locks.awaited(ffi.lib._lock._lock)  # LLVM's: freeing code takes this lock alone


_ROOT = os.path.dirname(os.path.dirname(__file__))
_COMPILED = re.compile(
    rb"^[ \t]*(?:@(?:[\w.]+\.)?(?:kernel|variant)\b|(?:import|from) (?:numba|llvmlite)\b)", re.MULTILINE
)
_IMPORTS = re.compile(rb"^from minidl\.([\w.]+) import (\([^)]*\)|.*)", re.MULTILINE)
_CONSTANT = re.compile(rb"\b_?[A-Z][A-Z0-9_]+\b")


def kernel_sources(root: str = _ROOT) -> list[str]:
    """The files of a package that compiled code depends on, wherever they are.

    Those with a kernel or with settings for Numba or LLVM, and those with a constant that such a file imports,
    since compiled code holds its value.
    """
    texts: dict[str, bytes] = {}
    for path in glob.iglob(os.path.join(glob.escape(root), "**", "*.py"), recursive=True):
        with open(path, "rb") as file:
            texts[path] = file.read()
    sources = {path for path, text in texts.items() if _COMPILED.search(text)}
    waiting = list(sources)
    while waiting:
        for module, names in _IMPORTS.findall(texts[waiting.pop()]):
            base = os.path.join(root, *module.decode().split("."))
            path = f"{base}.py" if f"{base}.py" in texts else os.path.join(base, "__init__.py")
            if path in texts and path not in sources and _values(_CONSTANT.findall(names), texts[path]):
                sources.add(path)
                waiting.append(path)
    return sorted(sources)


def _values(names: list[bytes], text: bytes) -> bool:
    """Whether the text assigns one of these names a plain value, not an object or a dict."""
    value = rb"(?:: [^=\n]+)? = (?!\{|_?[A-Z]\w*\()"
    return any(re.search(rb"^" + name + value, text, re.MULTILINE) for name in names)


@functools.cache
def cache_directory() -> str | None:
    """The directory of this version's kernels, or None (with one warning) if there can be none.

    The name covers Numba's version, the flags in the environment, and all of minidl's `kernel_sources`, since one
    kernel may have inlined another.
    """
    config = numba.config
    version = [numba.__version__, sys.version, config.BOUNDSCHECK, config.OPT, config.CPU_NAME, config.CPU_FEATURES]
    for path in kernel_sources(_ROOT):
        status = os.stat(path)
        version += [
            os.path.relpath(path, os.path.dirname(os.path.dirname(__file__))),
            status.st_size,
            status.st_mtime_ns,
        ]
    try:
        return private_directory("kernels", hashlib.sha256(repr(version).encode()).hexdigest()[:16])
    except OSError as error:
        warnings.warn(
            f"kernels will be compiled anew in every process: {error}; "
            "set MINIDL_CACHE to a private directory that can be written to",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def attach(dispatcher: Any, function: Callable[..., Any]) -> None:
    """Let Numba's dispatcher of this function load and save what it compiles."""
    if cache_directory() is not None:
        dispatcher._cache = _Cache(function)


class _Locator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):  # type: ignore[misc]
    """Where a function's cache files are, and the source they were compiled from."""

    def __init__(self, function: Any, source: str) -> None:
        self._py_file, self._lineno, self._code = source, function.__code__.co_firstlineno, function.__code__.co_code

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func, py_file)

    def get_cache_path(self) -> str | None:
        return cache_directory()

    def get_disambiguator(self) -> str:
        return f"{self._lineno}-{hashlib.sha256(self._py_file.encode()).hexdigest()[:8]}"

    def get_source_stamp(self) -> Any:
        return super().get_source_stamp() if os.path.isfile(self._py_file) else self._code


class _Files(caching.IndexDataCacheFile):  # type: ignore[misc]
    """The cache files of one function. A data file is named after its signature, and repeats it inside.

    Numba numbers them from the index, so two processes that compile two signatures at once would both write
    number 1, and either index could lead to the other's code.
    """

    def save(self, key: Any, data: Any) -> None:
        overloads = self._load_index()
        if key not in overloads:
            overloads[key] = self._name_of(key)
            self._save_index(overloads)
        self._save_data(self._name_of(key), (self._label(key), data))

    def load(self, key: Any) -> Any:
        if key not in self._load_index() or not os.path.exists(self._data_path(self._name_of(key))):
            return None
        label, data = self._load_data(self._name_of(key))
        if label != self._label(key):
            raise LookupError(f"expected code for {self._label(key)}, found code for {label}")
        return data

    def _label(self, key: Any) -> str:
        return repr((self._index_name, self._source_stamp, key))

    def _name_of(self, key: Any) -> str:
        base = self._index_name.removesuffix(".nbi")
        return f"{base}.{hashlib.sha256(self._label(key).encode()).hexdigest()[:16]}.nbc"


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            made = super().load_overload(sig, target_context)
            if made is not None and (made.signature.args != sig or made.fndesc.qualname != self._py_func.__qualname__):
                raise LookupError(f"expected code for {sig}, found {made.fndesc.qualname} for {made.signature}")
            return made
        except Exception:  # truncated or foreign: unpickling raises nearly anything
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # a full disk, or an index damaged since it was read
            self._forget()

    def _forget(self) -> None:
        for path in glob.glob(os.path.join(glob.escape(self.cache_path), f"{self._impl.filename_base}.*")):
            with contextlib.suppress(OSError):
                os.unlink(path)
