"""The recorded graph, walked from outside: for those who look at a computation and do not change it."""

from __future__ import annotations

from minidl import tensor
from minidl.tensor import Tensor


def tensors(root: Tensor) -> list[Tensor]:
    """Every tensor that `root` was computed from and that needs a gradient, inputs before results, `root` last.

    RuntimeError: the tensor has no graph, or an earlier backward() has freed it.
    """
    if not root.requires_grad:
        raise RuntimeError("expected a tensor with a graph, found one that needs no gradient or was made under no_grad")
    order: list[Tensor] = []
    seen: set[Tensor] = set()
    stack: list[tuple[Tensor, bool]] = [(root, False)]
    while stack:
        t, inputs_done = stack.pop()
        if inputs_done:
            order.append(t)
        elif t not in seen:
            seen.add(t)
            if t._node is tensor._FREED:
                raise RuntimeError(
                    "expected a recorded graph, found one that backward() freed; backward(retain_graph=True) keeps it"
                )
            stack.append((t, True))
            stack.extend((x, False) for x in reversed(t._node.inputs if t._node else []) if x not in seen)
    return order
