"""Sums, products, extremes and running sums, as loops.

A sum depends on its order, so this follows NumPy's: axes from the longest stride to the shortest, the last of them by
NumPy's own loop (pairwise summation), and where NumPy converts on the way, in chunks of its buffer size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from minidl.compiler.notation import c_strides, cast, coalesce, literal, place
from minidl.compiler.numpy_loops import name_of
from minidl.compiler.traced import Node, Traced, layout

if TYPE_CHECKING:
    from minidl.compiler.lower import Lower

_UFUNCS = {"sum": "add", "mean": "add", "prod": "multiply", "max": "maximum", "min": "minimum"}
_STARTS = {"sum": 0, "mean": 0, "prod": 1, "any": False, "all": True}


_BUFFER = 8192  # np.getbufsize(): elements converted or gathered at a time


def reduce(lower: Lower, node: Node) -> None:
    x, result, loop = node.operands[0], node.result, node.options["loop"]
    assert result is not None
    if result.size == 0:
        return
    if loop.kind == "f" and loop == result.dtype and node.function in _UFUNCS and not lower.plan.scalar(x.memory):
        _in_numpys_order(lower, node, x, result)
    else:
        _in_any_order(lower, node, x, result)


def _in_numpys_order(lower: Lower, node: Node, x: Traced, result: Traced) -> None:
    name, loop, function = x.memory.name, node.options["loop"], node.function
    offset, strides = layout(x)
    kept = [i for i in range(x.ndim) if i not in node.options["axes"]]
    to = dict(zip(kept, c_strides([x.shape[i] for i in kept]), strict=True))
    axes = sorted(range(x.ndim), key=lambda i: -abs(x.value.strides[i]))
    sizes, (steps, ends) = coalesce(
        [x.shape[i] for i in axes], [[strides[i] for i in axes], [to.get(i, 0) for i in axes]]
    )
    zero = _start(node)
    call = name_of(_UFUNCS[function], loop)
    if ends and ends[-1]:  # the last axis is kept: rows are added to rows
        _by_rows(lower, node, (sizes, steps, ends), zero, call, name, offset)
        return
    inner = len(sizes)
    while inner and not ends[inner - 1] and (inner == len(sizes) or sizes[-1] <= _BUFFER or x.dtype != loop):
        inner -= 1
    outer = [k for k in range(inner) if ends[k]]
    between = [k for k in range(inner) if not ends[k]]
    lower.open([sizes[k] for k in outer])
    start = zero or f"{name}[{place(offset, [steps[k] for k in outer])}]"
    lower.put(f"total = {start}")
    lower.open([sizes[k] for k in between], len(outer))
    at = place(offset, [steps[k] for k in (*outer, *between)])
    _inner(lower, call, (name, at, x.dtype != loop), sizes[inner:], steps[inner:], inner, loop)
    lower.close([sizes[k] for k in between])
    _store(lower, node, result, "total", place(0, [ends[k] for k in outer]))
    lower.close([sizes[k] for k in outer])


def _start(node: Node) -> str | None:
    """The initial value, or None if that is the first element."""
    initial = node.options["initial"]
    initial = _STARTS.get(node.function) if initial is None else initial
    return None if initial is None else literal(initial, node.options["loop"])


def _inner(lower: Lower, call: str, source: tuple[str, str, bool], sizes: list[int], steps: list[int], depth: int,
           loop: Any) -> None:  # fmt: skip
    """Continue `total` over these elements, through a buffer like NumPy's where NumPy uses one."""
    name, at, converts = source
    if not converts and len(sizes) <= 1:
        lower.put(f"total = {call}(total, {sizes[0] if sizes else 1}, {name}, {at}, {steps[0] if steps else 0})")
        return
    count, whole = math.prod(sizes), 1  # elements per buffer: as many whole rows as fit
    for n in reversed(sizes):
        whole = whole * n if whole * n <= _BUFFER else max(_BUFFER // whole, 1) * whole
    buffer, fill = lower.scratch(loop, min(whole, count)), min(whole, count)
    rest = [f"(j // {math.prod(sizes[k + 1 :])} % {n} * {steps[k]})" for k, n in enumerate(sizes)]
    plain = f"j * {steps[0]}" if len(sizes) == 1 else " + ".join(rest) or "0"
    lower.put(f"for i{depth} in range(0, {count}, {fill}):")
    lower.put(f"    n = min({fill}, {count} - i{depth})")
    lower.put(f"    for j in range(i{depth}, i{depth} + n):")
    lower.put(f"        {buffer}[j - i{depth}] = {cast(f'{name}[{at} + {plain}]', loop)}")
    lower.put(f"    total = {call}(total, n, {buffer}, 0, 1)")


def _by_rows(
    lower: Lower, node: Node, axes: tuple[Any, ...], zero: str | None, call: str, name: str, offset: int
) -> None:
    sizes, steps, ends = axes
    result, loop, x = node.result, node.options["loop"], node.operands[0]
    assert result is not None
    total = result.memory.name
    outer = [k for k in range(len(sizes)) if ends[k]]
    to = f"{total}[{place(0, [ends[k] for k in outer])}]"
    lower.open([sizes[k] for k in outer])
    lower.put(f"{to} = {zero or f'{name}[{place(offset, [steps[k] for k in outer])}]'}")
    lower.close([sizes[k] for k in outer])
    if node.function in _STARTS:
        lower.open(sizes)
        here = f"{name}[{place(offset, steps)}]"
        here = cast(here, loop) if x.dtype != loop else here
        lower.put(f"{total}[{place(0, ends)}] {'*' if node.function == 'prod' else '+'}= {here}")
        lower.close(sizes)
    else:
        lower.open(sizes[:-1])
        row = f"{total}, {place(0, ends[:-1])}, {ends[-1]}"
        lower.put(f"{call}({sizes[-1]}, {row}, {name}, {place(offset, steps[:-1])}, {steps[-1]}, {row})")
        lower.close(sizes[:-1])
    if node.function == "mean":
        lower.open([sizes[k] for k in outer])
        mean = f"{to} / {node.options['count']}"
        lower.put(f"{to} = {cast(mean, loop)}")
        lower.close([sizes[k] for k in outer])


def _store(lower: Lower, node: Node, result: Traced, total: str, at: str) -> None:
    loop, scalar = node.options["loop"], lower.plan.scalar(result.memory)
    value = f"{total} / {node.options['count']}" if node.function == "mean" else total
    value = cast(value, result.dtype) if result.dtype != loop or node.function == "mean" else value
    if scalar:
        lower.put(f"{scalar} = {value}")
        value = scalar
    if result.memory in lower.plan.stored:
        lower.put(f"{result.memory.name}[{at}] = {value}")


def _in_any_order(lower: Lower, node: Node, x: Traced, result: Traced) -> None:
    """Reductions that do not depend on order: of integers, extremes, single elements."""
    axes, loop, function = node.options["axes"], node.options["loop"], node.function
    offset, strides = layout(x)
    kept = [i for i in range(x.ndim) if i not in axes]
    inner, (inner_x,) = coalesce([x.shape[i] for i in axes], [[strides[i] for i in axes]])
    outer, outer_x = [x.shape[i] for i in kept], [strides[i] for i in kept]
    lower.open(outer)
    known, name = lower.plan.scalar(x.memory), x.memory.name
    here = known or f"{name}[{place(offset, [*outer_x, *inner_x])}]"
    if function == "argmax":
        _argmax(lower, name, (inner[0], inner_x[0]) if inner else (1, 0), outer_x, offset)
    else:
        first = known or f"{name}[{place(offset, outer_x)}]"
        lower.put(f"total = {_start(node) or first}")
        lower.open(inner, len(outer))
        if function in ("sum", "mean", "prod"):
            here = cast(here, loop) if x.dtype != loop else here
            lower.put(f"total {'*' if function == 'prod' else '+'}= {here}")
        elif function in ("any", "all"):
            lower.put(f"total = total {'or' if function == 'any' else 'and'} bool({here})")
        else:
            lower.put(f"v = {here}")
            lower.put(f"if v {'>' if function == 'max' else '<'} total or v != v:")
            lower.put("    total = v")
        lower.close(inner)
    _store(lower, node, result, "total", place(0, c_strides(outer)))
    lower.close(outer)


def _argmax(lower: Lower, name: str, axis: tuple[int, int], outer: list[int], offset: int) -> None:
    k, (n, step) = len(outer), axis
    lower.put(f"total, top = 0, {name}[{place(offset, outer)}]")
    lower.put(f"for i{k} in range({n}):")
    lower.put(f"    v = {name}[{place(offset, [*outer, step])}]")
    lower.put("    if top == top and (v > top or v != v):")
    lower.put(f"        total, top = i{k}, v")


def scan(lower: Lower, node: Node) -> None:
    """Running sums and products, which begin with the first element, so that −0 stays −0."""
    x, result, axis = node.operands[0], node.result, node.options["axis"]
    assert result is not None
    if x.size == 0:
        return
    offset, strides = layout(x)
    steps = c_strides(x.shape)
    others = [i for i in range(x.ndim) if i != axis]
    sizes = [x.shape[i] for i in others]
    lower.open(sizes)
    k, symbol = len(sizes), "+" if node.function == "cumsum" else "*"
    order = [*others, axis]
    here = lower.plan.scalar(x.memory) or f"{x.memory.name}[{place(offset, [strides[i] for i in order])}]"
    lower.put(f"total = {literal(-0.0 if symbol == '+' else 1, result.dtype)}")
    lower.put(f"for i{k} in range({x.shape[axis]}):")
    lower.put(f"    total {symbol}= {cast(here, result.dtype)}")
    lower.put(f"    {result.memory.name}[{place(0, [steps[i] for i in order])}] = total")
    lower.close(sizes)
