"""Read-only traversal of the recorded graph."""

from __future__ import annotations

from minidl.tensor import Tensor, backward_order


def tensors(root: Tensor) -> list[Tensor]:
    """Every tensor that `root` was computed from and that needs a gradient, inputs before results, `root` last.

    RuntimeError: the tensor has no graph, or an earlier backward() has freed it.
    """
    if not root.requires_grad:
        raise RuntimeError("expected a tensor with a graph, found one that needs no gradient or was made under no_grad")
    try:
        order = [*backward_order(root)]
    except RuntimeError as error:
        raise RuntimeError(
            "expected a recorded graph, found one that backward() freed; backward(retain_graph=True) keeps it"
        ) from error
    return order[::-1]
