"""What an epoch of training sums up, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minidl.tensor import Tensor


class Sums:
    """What is summed up over an epoch: Tensors of one float64, as both eager and compiled steps can add to them.

    loss    means of batches, each times its count;  count: what those were divided by
    right   right answers, where they are counted;  rows: how many answers there were
    group   the counts of the batches that share a step, which are not kept from one step to the next
    """

    def __init__(self) -> None:
        self.loss, self.count, self.right, self.rows, self.group = (Tensor(np.zeros(())) for _ in range(5))

    def begin(self) -> None:
        for tensor in vars(self).values():
            tensor.data = np.zeros(())

    def state_dict(self) -> dict[str, float]:
        return {name: tensor.item() for name, tensor in vars(self).items() if name != "group"}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        for name in self.state_dict():
            getattr(self, name).data = np.array(state[name], np.float64)
