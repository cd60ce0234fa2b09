"""An opened graph as everything that prints or draws it sees it: its tensors, their order, and what could go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minidl.explanation.record import Entry
from minidl.tensor import Array


@dataclass(eq=False, frozen=True)
class Fault:
    """A backward pass with a mistake in it, really computed; tensors by the numbers of their entries.

    order       the results, in the order in which they passed their gradients on
    used        the gradient that each of them had then
    gradients   what each tensor has in the end
    passed      what flowed from a result y to its input in a slot: (y, slot) → gradient
    wrong       the tensors whose gradient is not the right one
    """

    order: list[int]
    used: dict[int, Array]
    gradients: dict[int, Array]
    passed: dict[tuple[int, int], Array]
    wrong: list[int]


class Opened:
    """What an `Explanation` holds, before it is printed or drawn; its attributes are described there."""

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
        """Do all gradients agree with their finite differences? None if that was not checked (`check=True`)."""
        found = [e.difference for e in self.entries if e.difference is not None]
        return not any(d.wrong.any() for d in found) if found else None
