"""One table: what every op does to small arrays, in minidl and, where it has the same function, in PyTorch.

The inputs keep away from kinks by construction (values 0.3 apart, none nearer to 0 than 0.15), so that finite
differences are right everywhere. A test fails while an op has no case here.
"""

from cases import arrays, attention, convolution, normalisation, recurrence  # noqa: F401
from cases.table import CASES, COMPOSED, OP_NAMES, Case, apart

__all__ = ["BY_OP", "CASES", "COMPOSED", "OP_NAMES", "Case", "apart"]

BY_OP: dict[str, list[Case]] = {}
for c in CASES:
    BY_OP.setdefault(c.op, []).append(c)
