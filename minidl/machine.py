"""The environment: versions, processor, memory."""

import contextlib
import importlib
import platform
import sys
from importlib.metadata import version

from minidl import __version__

__all__ = ["__version__", "cpu_name", "peak_memory", "threading_layers", "vector_bits", "versions"]


def versions() -> dict[str, str]:
    """Versions of minidl, Python and the packages minidl depends on."""
    others = {name: version(name) for name in ("numpy", "numba", "llvmlite", "safetensors")}
    return {"minidl": __version__, "python": platform.python_version(), **others}


def cpu_name() -> str:
    """The model name of the processor."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def vector_bits() -> int:
    """The vector width for which the matrix product is emitted; 0 if left to LLVM."""
    from minidl.ops.vectors import vector_bytes

    return 8 * vector_bytes()


def threading_layers() -> list[str]:
    """The threading layers Numba can load here, in order of preference."""
    found = []
    for layer, module in (("tbb", "tbbpool"), ("omp", "omppool"), ("workqueue", "workqueue")):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"numba.np.ufunc.{module}")
            found.append(layer)
    return found


def peak_memory() -> float | None:
    """The peak memory of this process in MiB, or None if the system does not report it.

    On Linux from VmHWM: `ru_maxrss` starts at the parent's memory when it spawned this process.
    """
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / (1 << 20), 1)
