"""The compiled code of a kernel: its hottest loop, and what is good and bad in it. For x86-64 and ARM64."""

from __future__ import annotations

import re
from typing import Any

from minidl.bench.case import Case
from minidl.bench.verify import arguments_of
from minidl.jit import Kernel

_LABEL = re.compile(r"^(\.?\w+):")
_REGISTERS = ((512, r"%zmm\d"), (256, r"%ymm\d"), (128, r"%xmm\d|\bv\d+\.(?:4s|2d)|\bq\d+"))
_FMA = re.compile(r"^(v?fn?m(?:add|sub)\w*|fmla|fmls)")
_FLOAT = re.compile(
    r"^v?(?:add|sub|mul|div|min|max|sqrt|fn?m(?:add|sub)\d*)\w*[ps][sd]$|^f(?:add|sub|mul|div|mla|mls|madd)"
)


def compiled_source(kernel: Kernel, case: Case, dtype: str) -> str:
    """The assembly of the serial build for this dtype and of the kernels it calls, compiled afresh."""
    build: Any = kernel.serial
    types = tuple(build.typeof_pyval(x) for x in arguments_of(case, (2,) * len(case.dims), dtype))
    texts = [_assembly(kernel, types)]
    for part in _with_inner(kernel)[1:]:
        found: Any = part.serial
        texts += [_assembly(part, inner) for inner in found.signatures if _dtypes(inner) <= _dtypes(types)]
    return "\n".join(texts)


def _dtypes(types: tuple[Any, ...]) -> set[Any]:
    return {kind.dtype for kind in types if hasattr(kind, "dtype")}


def _with_inner(kernel: Kernel) -> list[Kernel]:
    names = kernel.py_func.__code__.co_names
    inner = [v for name in names if isinstance(v := kernel.py_func.__globals__.get(name), Kernel) and not v.emitted]
    return [kernel, *(part for k in inner for part in _with_inner(k))]


def _assembly(kernel: Kernel, types: tuple[Any, ...]) -> str:
    from numba.core.caching import NullCache

    build: Any = Kernel(kernel.py_func, None, kernel.fma).serial
    build._cache = NullCache()  # code loaded from disk has no assembly
    build.compile(types)
    return str(next(iter(build.inspect_asm().values())))


def instructions(text: str) -> list[list[str]]:
    """The basic blocks without the Python wrapper: each a list of instructions, its label first."""
    blocks: list[list[str]] = [[]]
    inside = True
    for line in text.splitlines():
        if line.startswith("_ZN"):  # the code itself, or the wrapper that unpacks Python's arguments
            inside = not line.startswith(("_ZN7cpython", "_ZN08NumbaEnv"))
        if not inside:
            continue
        if found := _LABEL.match(line):
            blocks.append([found[1]])
        elif line.startswith("\t") and not line.startswith("\t.") and len(line) > 1:
            blocks[-1].append(line.strip())
    return [block for block in blocks if len(block) > 1]


def is_loop(block: list[str]) -> bool:
    """Whether the block jumps back to its own start."""
    return any(line.split()[-1] == block[0] for line in block[1:] if line[0] in "jb")


def summary(text: str) -> tuple[dict[str, Any], list[str]]:
    """(counts over the hottest loop, its instructions).

    The hottest loop is the one with the most vector arithmetic, the shortest of equals.
    """
    loops = [block for block in instructions(text) if is_loop(block)] or instructions(text) or [[""]]
    hottest = max(loops, key=lambda block: (_vector_arithmetic(block), -len(block)))
    body = hottest[1:]
    operations = [line.split()[0] for line in body]
    arithmetic = [line for line, name in zip(body, operations, strict=True) if _FLOAT.match(name)]
    return {
        "loops": len([block for block in instructions(text) if is_loop(block)]),
        "instructions": len(body),
        "arithmetic": len(arithmetic),
        "fused multiply-adds": sum(bool(_FMA.match(name)) for name in operations),
        "on single numbers": sum(bool(re.search(r"s[sd]$", line.split()[0])) for line in arithmetic),
        "vector width": max((_width(line) for line in arithmetic), default=0),
        "stack accesses": sum(bool(re.search(r"\(%rsp|\(%rbp|\[sp", line)) for line in body),
        "calls": sum(name.startswith("call") or name == "bl" for name in operations),
    }, hottest


def _vector_arithmetic(block: list[str]) -> int:
    return sum(_width(line) for line in block[1:] if _FLOAT.match(line.split()[0]))


def _width(line: str) -> int:
    """Bits of the widest register named, or of a single number for a scalar instruction."""
    if found := re.search(r"s([sd])$", line.split()[0]):
        return 32 if found[1] == "s" else 64
    return next((bits for bits, pattern in _REGISTERS if re.search(pattern, line)), 0)
