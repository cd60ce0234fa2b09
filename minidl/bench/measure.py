"""Check kernels, then time them in alternation with NumPy and PyTorch."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from minidl import machine
from minidl.bench import peak
from minidl.bench.case import Case
from minidl.bench.cases import CASES
from minidl.bench.rivals import RIVALS, Rivals
from minidl.bench.verify import BenchError, aligned, arguments_of, copied, verify
from minidl.jit import Kernel, get_num_threads, interpreted

SAMPLE = 10e-3  # seconds per sample, or one call if longer
WARM = 20e-3  # seconds of warm-up before it: threads just woken may first share a core
PAUSE = 0.05  # seconds between samples: idle threads spin about that long before releasing their core
MOST_BYTES = 4 << 30


@dataclass
class Task:
    """What to time: a kernel by name, its variants (None: all, on the first shape), a shape (None: the case's)."""

    kernel: str
    variants: list[str] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str = "float32"


@dataclass
class Result:
    """One line of the table. Times are in seconds per call; `seconds` is the median of `samples`."""

    kernel: str
    case: str
    shape: tuple[int, ...]
    dtype: str
    threads: int
    variant: str  # "minidl" is the kernel itself; "numpy" and "torch" are the rivals
    flops: int
    moved: int
    roof: float = 0.0
    bound: str = ""
    samples: list[float] = field(default_factory=list)
    compile: float | None = None
    cached: bool = False
    first: float | None = None

    @property
    def seconds(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """The middle half of the samples, as a share of their median."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(high - low) / self.seconds

    @property
    def share(self) -> float:
        """The share of the roofline: 1 is the best this machine can do."""
        return self.roof / self.seconds

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": self.seconds, "spread": self.spread, "share": self.share}


def cases_of(task: Task) -> list[tuple[Case, tuple[int, ...]]]:
    """The cases and shapes of a task. BenchError: unknown kernel or dtype, or an invalid shape."""
    if task.kernel not in CASES:
        raise BenchError(f"expected one of the kernels {', '.join(CASES)}, found {task.kernel!r}")
    found = []
    for case in CASES[task.kernel]:
        if task.dtype not in case.dtypes:
            raise BenchError(f"{task.kernel}: expected dtype {' or '.join(case.dtypes)}, found {task.dtype!r}")
        shapes = case.shapes if task.shape is None else [task.shape]
        for shape in shapes:
            if len(shape) != len(case.dims) or min(shape) < 1:
                expected = "x".join(case.dims)
                raise BenchError(
                    f"{task.kernel}: expected a shape {expected}, {len(case.dims)} numbers of at least 1, "
                    f"found {'x'.join(map(str, shape))}"
                )
            size = 10 * case.moved(*shape) * np.dtype(task.dtype).itemsize  # with copies, rivals' and float64 ones
            if size > MOST_BYTES:
                raise BenchError(
                    f"{task.kernel}: expected a shape that takes at most {MOST_BYTES >> 30} GiB to time, "
                    f"found {'x'.join(map(str, shape))}, which takes {size / (1 << 30):.0f}"
                )
            found.append((case, shape))
    return found


def variants_of(task: Task, case: Case, shape: tuple[int, ...]) -> dict[str, Kernel]:
    """The variants to time, by name, the kernel itself first, as "minidl". BenchError: an unknown one."""
    kernel = case.kernel
    known = {"minidl": kernel, **kernel.variants}
    if task.variants is None:
        return known if shape in (task.shape, case.shapes[0]) else {"minidl": kernel}  # the naive ones are slow
    if unknown := [name for name in task.variants if name not in known]:
        raise BenchError(f"{task.kernel}: expected variants among {', '.join(known)}, found {', '.join(unknown)}")
    return {name: known[name] for name in ("minidl", *task.variants)}


def bench(
    tasks: list[Task], rounds: int = 15, rivals: Iterable[str] = RIVALS, progress: Callable[[str], None] | None = None
) -> tuple[dict[str, Any], list[Result]]:
    """(the machine, a Result for each case, shape and variant). See `table` in `bench.report`.

    Each variant is checked before it is timed; in each of `rounds` all are timed once, in turn. Rivals that are not
    installed are left out.

    BenchError, WrongResult: before anything is timed.
    """
    say = progress or (lambda text: None)
    work = [(task, case, shape, variants_of(task, case, shape)) for task in tasks for case, shape in cases_of(task)]
    import_seconds = _import_numba()
    with Rivals(rivals) as others:
        say("measuring this machine's peak")
        threads = get_num_threads()
        roofs = {count: peak.measure(count) for count in sorted({1, threads})}
        compiled = {}
        for task, case, shape, variants in work:
            for name, kernel in variants.items():
                say(f"checking {task.kernel} {case.label} {'x'.join(map(str, shape))} {name}")
                key = name, case.label, task.kernel, shape, task.dtype
                compiled[key] = _compile(kernel, arguments_of(case, shape, task.dtype))
                verify(case, name, kernel, shape, task.dtype)
        results: list[Result] = []
        for task, case, shape, variants in work:
            say(f"timing {task.kernel} {case.label} {'x'.join(map(str, shape))}")
            lines = {}
            for name in (*variants, *others.prepare(task.kernel, case, shape, task.dtype)):
                flops, moved = case.flops(*shape), case.moved(*shape) * np.dtype(task.dtype).itemsize
                lines[name] = Result(task.kernel, case.label, shape, task.dtype, threads, name, flops, moved)
                seconds = compiled.get((name, case.label, task.kernel, shape, task.dtype))
                if seconds:
                    lines[name].compile, lines[name].cached, lines[name].first = seconds
            runs = {name: _timer(kernel, arguments_of(case, shape, task.dtype)) for name, kernel in variants.items()}
            _alternate(lines, runs, others, rounds)
            roofs[threads].again(task.dtype)
            results += lines.values()
        for line in results:
            line.roof, line.bound = roofs[threads].roof(line.dtype, line.flops, line.moved)
        told = describe(roofs, others) | {"import_numba_seconds": import_seconds}
    return told, results


def _alternate(lines: dict[str, Result], runs: dict[str, Callable[[int], float]], others: Rivals, rounds: int) -> None:
    times = {name: runs[name] if name in runs else others.timer(name) for name in lines}
    repeats = {name: max(1, int(SAMPLE / max(min(run(1), run(3) / 3), 1e-7))) for name, run in times.items()}
    for _ in range(rounds):
        for name, run in times.items():
            if others:
                time.sleep(PAUSE)
            spent = 0.0
            while spent < WARM:
                spent += run(repeats[name])
            lines[name].samples.append(run(repeats[name]) / repeats[name])


def _timer(run: Callable[..., Any], arguments: list[Any]) -> Callable[[int], float]:
    arguments = [aligned(x) if isinstance(x, np.ndarray) else x for x in arguments]

    def seconds(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            run(*arguments)
        return time.perf_counter() - start

    return seconds


def _import_numba() -> float | None:
    """The seconds that importing Numba took, or None if it was already imported."""
    if "numba" in sys.modules or interpreted():
        return None
    start = time.perf_counter()
    importlib.import_module("numba")
    return time.perf_counter() - start


def _compile(kernel: Kernel, arguments: list[Any]) -> tuple[float, bool, float] | None:
    """(seconds to compile or load, whether from the cache, seconds of the first call); None if already compiled."""
    if interpreted():
        return None
    start = time.perf_counter()
    threaded = kernel.parallel is not None and get_num_threads() > 1 and kernel.parallel(*arguments)
    build: Any = kernel.threaded if threaded else kernel.serial
    types = tuple(build.typeof_pyval(x) for x in arguments)
    if types in build.overloads:
        return None
    build.compile(types)
    seconds, hits = time.perf_counter() - start, sum(build.stats.cache_hits.values())
    start = time.perf_counter()
    kernel(*copied(arguments))
    return seconds, hits > 0, time.perf_counter() - start


def describe(roofs: dict[int, peak.Peak], others: Rivals) -> dict[str, Any]:
    """A description of the machine and the run, for judging and repeating the figures."""
    import numba

    with_layer = None
    if get_num_threads() > 1 and not interpreted():
        try:
            with_layer = numba.threading_layer()
        except ValueError:  # nothing parallel has run
            with_layer = None
    return {
        "cpu": machine.cpu_name(),
        "cores": os.cpu_count(),
        "threads": get_num_threads(),
        "threading_layer": with_layer,
        "vector_bits": machine.vector_bits(),
        "versions": machine.versions(),
        "rivals": others.versions,
        "left_out": others.left_out,
        "peak": {
            str(n): {"flops": roof.flops, "bytes": {str(k): v for k, v in roof.bandwidth.items()}}
            for n, roof in roofs.items()
        },
    }
