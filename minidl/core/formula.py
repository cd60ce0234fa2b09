"""The formula that opens the docstring of an op or kernel, parsed for the code that prints it.

    \"\"\"y = x·Wᵀ + b.   dL/dx = dL/dy·W,  dL/dW = dL/dyᵀ·x      x: float

    dL/db = Σ dL/dy. Further remarks.
    \"\"\"

The form, in the first paragraph (line breaks count as spaces):

value       first, "y = …": a name, with an index where it needs one, then "=" or "+="
gradients   "dL/d<input> = …", one for each input, with commas between them. The input is one word (`x`, `weight[v]`)
            or is bracketed: `dL/d(ln σ²)`. Any number of spaces may precede them
note        whatever follows the value or the last gradient after two or more spaces

A later paragraph that begins with a gradient continues them, up to its first full stop. A docstring that does not open
with a value in this form has no formula: its first paragraph is the note.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

_VALUE = re.compile(r"[^\s=\[(]+(\[[^\]]*\])?\s*\+?=(?!=)")
_GRADIENT = re.compile(r"dL/d(\([^)]*\)|[^\s=,;·*/+()\[\]]+(?:\[[^\]]*\])?)\s*=(?!=)")
_GAP = re.compile(r"(?<![,;])\s{2,}")


class Formula(NamedTuple):
    """y = …, then dL/dx = … for all inputs, then the note. Parts that the docstring lacks are empty."""

    forward: str
    backward: str
    note: str

    def __str__(self) -> str:
        return "   ".join(part for part in self if part)

    @property
    def gradients(self) -> dict[str, str]:
        """Input → its formula, "dL/dx = …", in their order."""
        return dict(_gradients(self.backward))

    @property
    def title(self) -> str:
        """The value's formula or, failing that, the beginning of the note."""
        return self.forward or _GAP.split(self.note)[0]


NO_FORMULA = Formula("", "", "")


def formula(function: Any) -> Formula:
    """The formula of an op or kernel, from its docstring: see the top of this file."""
    text = inspect.getdoc(function)
    if not isinstance(text, str) or not text.strip():
        return NO_FORMULA
    first, *others = (" ".join(paragraph.splitlines()) for paragraph in re.split(r"\n\s*\n", text.strip()))
    start = _GRADIENT.search(first)
    if not _VALUE.match(first) or (start and start.start() == 0):
        return Formula("", "", first)
    value, *notes = _GAP.split((first[: start.start()] if start else first).strip())
    found = []
    if start:
        backward, *more = _GAP.split(first[start.start() :].strip())
        found, notes = _gradients(backward), [*notes, *more]
    for paragraph in others:
        if _GRADIENT.match(paragraph):
            found += _gradients(re.split(r"\.(?:\s|$)", " ".join(paragraph.split()))[0])
    return Formula(_trimmed(value), ",  ".join(text for _, text in found), "  ".join(notes))


def _gradients(text: str) -> list[tuple[str, str]]:
    """(input, "dL/d<input> = …") of each gradient in a text that begins with one."""
    starts = list(_GRADIENT.finditer(text))
    ends = [*(m.start() for m in starts[1:]), len(text)]
    return [(m[1].strip("()"), _trimmed(text[m.start() : end])) for m, end in zip(starts, ends, strict=False)]


def _trimmed(text: str) -> str:
    return text.strip().rstrip(".,;").rstrip()
