"""The running sums of a training epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from minidl.tensor import Tensor


class Sums:
    """The sums of an epoch: Tensors of one float64, which both eager and compiled steps can add to.

    loss    means of batches times their counts;  count: the sum of the counts
    right   correct predictions, if counted;  rows: the number of predictions
    group   the counts of the batches that share a step; reset after each step
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
