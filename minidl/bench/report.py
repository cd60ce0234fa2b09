"""The output of `minidl bench`: the table, JSON, and the comparison with an earlier run."""

from __future__ import annotations

import json
import math
from typing import Any

from minidl.bench.measure import Result
from minidl.bench.verify import BenchError

LEAST_CHANGE = 0.05  # smaller changes are never called regressions


def seconds(value: float) -> str:
    """A time with three digits and its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value / scale < 100 else f"{value / scale:.0f} {unit}"
    return f"{value * 1e9:.0f} ns"


def header(told: dict[str, Any]) -> list[str]:
    """The machine, the versions and the peak measured."""
    vectors = f"{told['vector_bits']}-bit vectors" if told["vector_bits"] else "vectors as LLVM finds them"
    layer = f" ({told['threading_layer']})" if told["threading_layer"] else ""
    lines = [f"{told['cpu']}, {told['cores']} cores, {vectors}; {told['threads']} threads{layer}"]
    versions = told["versions"]
    lines.append(", ".join(f"{name} {versions[name]}" for name in ("python", "minidl", "numba", "numpy")))
    for name, about in told["rivals"].items():
        detail = about.get("openblas_core") or about.get("instructions")
        lines.append(f"{name} {about['version']}" + (f", code for {detail}" if detail else ""))
    lines += [f"{name}: left out ({reason})" for name, reason in told["left_out"].items()]
    for count, roof in told["peak"].items():
        flops = ", ".join(f"{value / 1e9:.0f} GFLOP/s {name}" for name, value in roof["flops"].items())
        memory = ", ".join(f"{value / 1e9:.0f}" for value in roof["bytes"].values())
        sizes = ", ".join(_size(int(size)) for size in roof["bytes"])
        lines.append(f"peak, {count} thread{'s' * (count != '1')}: {flops}; {memory} GB/s on {sizes}")
    if told["import_numba_seconds"] is not None:
        lines.append(f"importing Numba took {seconds(told['import_numba_seconds'])}")
    return lines


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


COLUMNS = ("variant", "time", "spread", "rate", "of peak", "bound", "vs minidl", "compile", "first call")


def table(results: list[Result]) -> list[str]:
    """A block for each kernel, case and shape; a line for each variant and rival."""
    blocks: dict[tuple[Any, ...], list[Result]] = {}
    for line in results:
        blocks.setdefault((line.kernel, line.case, line.shape, line.dtype), []).append(line)
    rows: list[tuple[str, ...] | str] = []
    for (kernel, case, shape, dtype), lines in blocks.items():
        rows.append(f"{kernel} {case}".strip() + f"  {'x'.join(map(str, shape))}  {dtype}")
        rows += [_row(line, lines[0]) for line in lines]
    cells = [COLUMNS, *(row for row in rows if not isinstance(row, str))]
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS))]
    made = ["  " + _aligned(COLUMNS, widths)]
    return made + [row if isinstance(row, str) else "  " + _aligned(row, widths) for row in rows]


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    first, *rest = (
        cell.ljust(w) if i in (0, 5) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *rest]).rstrip()


def _row(line: Result, base: Result) -> tuple[str, ...]:
    rate = line.flops / line.seconds if line.bound == "compute" else line.moved / line.seconds
    unit = "GFLOP/s" if line.bound == "compute" else "GB/s"
    compiled = "" if line.compile is None else seconds(line.compile) + (" cached" if line.cached else "")
    return (
        line.variant, seconds(line.seconds), f"±{50 * line.spread:.0f} %", f"{rate / 1e9:.3g} {unit}",
        f"{100 * line.share:.0f} %", line.bound, f"{line.seconds / base.seconds:.2f}x", compiled,
        "" if line.first is None else seconds(line.first),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------- JSON


def as_json(told: dict[str, Any], results: list[Result]) -> str:
    return json.dumps({"format": 1, "machine": told, "results": [line.as_dict() for line in results]}, indent=1) + "\n"


def read_json(text: str, name: str) -> dict[str, Any]:
    """Parse the output of `as_json`. BenchError: it is not."""
    try:
        found = json.loads(text)
        if found["format"] != 1:
            raise ValueError(f"format {found['format']!r}")
        for line in found["results"]:
            _key(line)
            if not (math.isfinite(line["seconds"]) and line["seconds"] > 0 and line["spread"] >= 0):
                raise ValueError(f"a time of {line['seconds']}")
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{name}: expected what `minidl bench --json` writes, found {error!s:.80}") from error
    return found  # type: ignore[no-any-return]


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["kernel"], line["case"], tuple(line["shape"]), line["dtype"], line["threads"], line["variant"]


def compare(old: dict[str, Any], results: list[Result]) -> tuple[list[str], bool]:
    """(a line for each time found in both runs, whether any became slower by more than the noise).

    The ratio is new / old, each divided by NumPy's time in the same run if both have it, since a machine's speed varies
    between runs. The noise is twice the interquartile range of all samples in the ratio, and at least 5 %. BenchError:
    the runs have no time in common.
    """
    before = {_key(line): line for line in old["results"]}
    now = {_key(line.as_dict()): line.as_dict() for line in results}
    lines, worse = [], False
    for key, new in now.items():
        if key not in before or key[-1] in ("numpy", "torch"):
            continue
        used = [new, before[key]]
        ratio = new["seconds"] / before[key]["seconds"]
        yard = (*key[:-1], "numpy")
        if yard in now and yard in before:
            used += [now[yard], before[yard]]
            ratio *= before[yard]["seconds"] / now[yard]["seconds"]
        noise = max(LEAST_CHANGE, 2 * math.hypot(*(line["spread"] for line in used)))
        verdict = "slower" if ratio > 1 + noise else "faster" if ratio < 1 / (1 + noise) else "same"
        worse |= verdict == "slower"
        kernel, case, shape, dtype, _, variant = key
        name = f"{kernel} {case}".strip() + f" {'x'.join(map(str, shape))} {dtype} {variant}"
        against = "NumPy in each run" if len(used) > 2 else "the clock"
        lines.append(f"{name}: {ratio:.2f} x the time before (noise ±{100 * noise:.0f} %, by {against}): {verdict}")
    if not lines:
        raise BenchError("nothing to compare: no kernel, shape, dtype and number of threads is in both runs")
    return lines, worse
