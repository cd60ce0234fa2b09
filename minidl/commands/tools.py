"""`minidl info`, `minidl warmup` and `minidl bench`: the environment and its speed."""

import argparse
import json
import os
import time
import warnings

from minidl import machine
from minidl.commands.shared import DATASETS, source, use_threads
from minidl.jit import KERNELS, get_num_threads, interpreted
from minidl.jit.environment import cache_root
from minidl.shared.terminal import Failure, counting
from minidl.warmup import warmup


def run_info(arguments: argparse.Namespace) -> None:
    from minidl.jit.cache import cache_directory

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernels = cache_directory()
    problem = str(caught[0].message) if caught else None
    try:
        kept: str | None = os.path.join(cache_root(), "data")
    except OSError:  # there is no home directory
        kept = None
    bits, layers = machine.vector_bits(), machine.threading_layers()
    files = len(os.listdir(kernels)) if kernels else 0
    sources = {name: source(name, None) for name in DATASETS}
    given = os.environ.get("MINIDL_DATA")
    if arguments.json:
        result = {
            "versions": machine.versions(),
            "cpu": {"name": machine.cpu_name(), "cores": os.cpu_count(), "vector_bits": bits},
            "threads": {"count": get_num_threads(), "layers": layers},
            "kernels": {"compiled": not interpreted(), "count": len(KERNELS)},
            "cache": {"directory": kernels, "usable": kernels is not None, "problem": problem, "files": files},
            "data": {"MINIDL_DATA": given, "cache": kept, "found": sources},
        }
        print(json.dumps(result, indent=2))
        return
    lines = dict(machine.versions())
    vectors = f"{bits}-bit vectors" if bits else "vectors as LLVM finds them"
    lines["processor"] = f"{machine.cpu_name()}; {os.cpu_count()} cores, {vectors}"
    lines["threads"] = f"{get_num_threads()}, layer {layers[0] if layers else 'none'}"
    lines["kernels"] = f"{len(KERNELS)}, {'as plain Python (NUMBA_DISABLE_JIT)' if interpreted() else 'compiled'}"
    lines["cache"] = f"{kernels} ({files} files)" if kernels else f"none: {problem}"
    lines["MINIDL_DATA"] = given or "not set"
    lines["downloads"] = kept or "not kept: there is no home directory"
    lines |= {name: place or "not on this machine" for name, place in sources.items()}
    for name, value in lines.items():
        print(f"{name:15}{value}")


def run_warmup(arguments: argparse.Namespace) -> None:
    if interpreted():
        raise Failure("NUMBA_DISABLE_JIT is set: there is nothing to compile")
    from minidl.jit.cache import cache_directory

    start = time.perf_counter()
    with counting("compiling") as step:
        names = warmup(step)
    seconds, where = time.perf_counter() - start, cache_directory()
    if arguments.json:
        print(json.dumps({"kernels": names, "seconds": round(seconds, 3), "cache": where}, indent=2))
    else:
        print(
            f"{len(names)} kernels ready in {seconds:.1f} s, kept in {where or 'this process alone: there is no cache'}"
        )


# ----------------------------------------------------------------------------------------- bench


def run_bench(arguments: argparse.Namespace) -> None:
    from minidl.commands import bench

    use_threads(arguments)
    bench.run(arguments)
