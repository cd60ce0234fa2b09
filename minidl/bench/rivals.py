"""NumPy and PyTorch as rivals of minidl, each in its own process and at its best (see `rival`)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from minidl import machine
from minidl.bench.case import Case
from minidl.bench.verify import BenchError
from minidl.jit import get_num_threads

RIVALS = ("numpy", "torch")


class Rivals:
    """A context manager of the rivals' processes, separate so that thread pools do not compete."""

    def __init__(self, names: Iterable[str]) -> None:
        self.processes: dict[str, subprocess.Popen[str]] = {}
        self.versions: dict[str, Any] = {}
        self.left_out: dict[str, str] = {}
        for name in names:
            if importlib.util.find_spec(name) is None:
                self.left_out[name] = "not installed"
                continue
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "minidl.bench.rival", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=_environment(),
            )  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self.processes)

    def __enter__(self) -> Rivals:
        for name in list(self.processes):
            answer = self._read(name)
            if answer is not None:
                self.versions[name] = answer
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self.processes.values():
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(timeout=0.0 if any(exception) else 5.0)  # it exits when its input closes
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]

    def _read(self, name: str) -> Any:
        line = self.processes[name].stdout.readline()  # type: ignore[union-attr]
        if line:
            return json.loads(line)
        self.processes.pop(name).wait()
        self.left_out[name] = "its process failed"
        return None

    def ask(self, name: str, **request: Any) -> Any:
        """The answer of a rival, or None if it has exited."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.processes[name].stdin, flush=True)
        return self._read(name)

    def prepare(self, kernel: str, case: Case, shape: tuple[int, ...], dtype: str) -> list[str]:
        """The rivals that support this case and compute it correctly."""
        ready = []
        for name in list(self.processes):
            answer = self.ask(name, kernel=kernel, label=case.label, shape=shape, dtype=dtype)
            if answer is not None and answer.get("ready"):
                ready.append(name)
            elif answer is not None:
                self.left_out[f"{name}: {kernel} {case.label}".strip()] = answer["reason"]
        return ready

    def timer(self, name: str) -> Callable[[int], float]:
        def seconds(repeats: int) -> float:
            answer = self.ask(name, repeats=repeats)
            if answer is None:
                raise BenchError(f"{name}'s process ended while it was timed")
            return float(answer["seconds"])

        return seconds


def _environment() -> dict[str, str]:
    """As many threads as minidl, and no restriction to an older instruction set."""
    held = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    environment = {k: v for k, v in os.environ.items() if k not in held}
    if machine.vector_bits() == 512:  # OpenBLAS does not know every processor that has AVX-512
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
    elif os.environ.get("NUMBA_CPU_NAME"):  # minidl itself is restricted: restrict all to AVX2
        environment |= {
            "OPENBLAS_CORETYPE": "Haswell",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
        }
    count = str(get_num_threads())
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment
