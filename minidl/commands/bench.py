"""`minidl bench`: runs the requested tasks in order, by `measure` and `report`."""

from __future__ import annotations

import argparse
import json

from minidl import checkpoint
from minidl.bench import assembly, report, roofline
from minidl.bench.cases import CASES
from minidl.bench.measure import Task, bench, cases_of, variants_of
from minidl.bench.verify import BenchError
from minidl.jit import interpreted
from minidl.shared.terminal import Failure, bold, note, reason


def run(arguments: argparse.Namespace) -> None:
    """Run the command. Failure: with the reason for the user."""
    if interpreted():
        raise Failure("NUMBA_DISABLE_JIT is set: there is nothing compiled to time")
    try:
        _run(arguments)
    except BenchError as error:
        raise Failure(str(error)) from error


def _run(arguments: argparse.Namespace) -> None:
    if arguments.asm:
        _show_assembly(arguments)
        return
    tasks = [
        Task(name, arguments.variant, arguments.shape, arguments.dtype)
        for name in arguments.kernel or CASES
        if arguments.kernel or arguments.dtype in CASES[name][0].dtypes
    ]
    for task in tasks:  # report errors before anything slow
        for case, shape in cases_of(task):
            variants_of(task, case, shape)
    for option, path in (("--json", arguments.json), ("--plot", arguments.plot)):
        if path is not None:
            try:
                checkpoint.check_writable(path)
            except OSError as error:
                raise Failure(f"{option}: cannot write {path} ({reason(error)})") from error
    if arguments.plot is not None:
        roofline.check_plot()
    old = None
    if arguments.compare is not None:
        try:
            old = report.read_json(arguments.compare.read_text("utf-8"), str(arguments.compare))
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"--compare: cannot read {arguments.compare} ({reason(error)})") from error
    told, results = bench(tasks, arguments.rounds, progress=None if arguments.quiet else note)
    for line in report.header(told):
        print(line)
    heading, *rows = report.table(results)
    print("\n" + bold(heading))
    for row in rows:
        print(row if row.startswith("  ") else bold(row))
    try:
        if arguments.json is not None:
            checkpoint.write_file(arguments.json, report.as_json(told, results).encode())
        if arguments.plot is not None:
            checkpoint.write_file(arguments.plot, roofline.draw(told, results))
    except OSError as error:
        raise Failure(f"cannot write the results ({reason(error)})") from error
    if old is not None:
        lines, worse = report.compare(old, results)
        print()
        for line in lines:
            print(line)
        if worse:
            raise Failure(f"slower than {arguments.compare}, by more than the noise")


def _show_assembly(arguments: argparse.Namespace) -> None:
    for name in (arguments.asm, *arguments.kernel):
        for case, shape in cases_of(Task(name, dtype=arguments.dtype))[:1]:
            chosen = variants_of(Task(name, arguments.variant or [], dtype=arguments.dtype), case, shape)
            for variant, kernel in chosen.items():
                counts, loop = assembly.summary(assembly.compiled_source(kernel, case, arguments.dtype))
                print(bold(f"{name}, {variant}, {arguments.dtype}: the hottest loop"))
                print(json.dumps(counts)[1:-1].replace('"', ""))
                print("\n".join([loop[0] + ":", *(f"    {line}" for line in loop[1:])]))
