"""An opened graph as seen by all that prints or draws it: its tensors, their order, and possible mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minidl.explanation.record import Entry
from minidl.tensor import Array


@dataclass(eq=False, frozen=True)
class Fault:
    """A backward pass actually computed with a mistake; tensors are given by the numbers of their entries.

    order       the results, in the order in which they passed on their gradients
    used        the gradient that each of them had then
    gradients   the final gradient of each tensor
    passed      (y, slot) → the gradient passed from a result y to its input in that slot
    wrong       the tensors whose gradient is wrong
    """

    order: list[int]
    used: dict[int, Array]
    gradients: dict[int, Array]
    passed: dict[tuple[int, int], Array]
    wrong: list[int]


class Opened:
    """The data of an `Explanation`, where the attributes are described."""

    def __init__(self, entries: list[Entry], order: list[int], faults: dict[str, Fault], shown: frozenset[int]) -> None:
        self.entries, self.order, self.faults, self.shown = entries, order, faults, shown

    def __len__(self) -> int:
        return len(self.shown)

    def __iter__(self) -> Iterator[Entry]:
        return (e for e in self.entries if e.number in self.shown)

    @property
    def loss(self) -> Entry:
        return self.entries[-1]

    @property
    def ok(self) -> bool | None:
        """Whether all gradients agree with their finite differences; None if unchecked (see `check=True`)."""
        found = [e.difference for e in self.entries if e.difference is not None]
        return not any(d.wrong.any() for d in found) if found else None
