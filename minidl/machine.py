"""What this runs on: versions, the processor, memory."""

import contextlib
import importlib
import platform
import sys
from importlib.metadata import version

from minidl import __version__

__all__ = ["__version__", "cpu_name", "peak_memory", "threading_layers", "vector_bits", "versions"]


def versions() -> dict[str, str]:
    """Of minidl, Python and the packages that minidl stands on."""
    others = {name: version(name) for name in ("numpy", "numba", "llvmlite", "safetensors")}
    return {"minidl": __version__, "python": platform.python_version(), **others}


def cpu_name() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def vector_bits() -> int:
    """How wide the vectors are for which the matrix product is emitted; 0 where it is left to LLVM."""
    from minidl.ops.vectors import vector_bytes

    return 8 * vector_bytes()


def threading_layers() -> list[str]:
    """The layers that Numba can load here, best first: it takes the first."""
    found = []
    for layer, module in (("tbb", "tbbpool"), ("omp", "omppool"), ("workqueue", "workqueue")):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"numba.np.ufunc.{module}")
            found.append(layer)
    return found


def peak_memory() -> float | None:
    """MiB that this process has had in memory at most, where the system tells.

    On Linux from VmHWM: `ru_maxrss` there begins at what the parent process had when it started this one.
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
