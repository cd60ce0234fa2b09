"""Attention, GELU, softmax and a Transformer's layer, forward and backward, against PyTorch eager.

Medians of alternated runs.
Usage: python benchmarks/attention.py [THREADS]      (pip install torch)
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

import minidl
from minidl import Tensor, nn, ops

F = torch.nn.functional
ROUNDS = 30


def alternated(mine: Callable[[], object], theirs: Callable[[], object]) -> tuple[float, float]:
    """The median milliseconds of each."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        mine(), theirs()
    for _ in range(ROUNDS):
        for run, seconds in zip((mine, theirs), times, strict=True):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[0]), 1e3 * statistics.median(times[1])


def compare(
    name: str, arrays: list[np.ndarray], mine: Callable, theirs: Callable, parameters: tuple = ((), ())
) -> None:
    a = [Tensor(x, requires_grad=True) for x in arrays]
    b = [torch.tensor(x, requires_grad=True) for x in arrays]
    y, z = mine(*a), theirs(*b)
    assert np.abs(y.data - z.detach().numpy()).max() < 1e-4
    dy = np.ones(y.shape, np.float32)
    dz = torch.tensor(dy)

    def run(fn: Callable, inputs: list, grad: object, weights: tuple) -> None:
        for t in (*inputs, *weights):
            t.grad = None
        fn(*inputs).backward(grad)

    ours, other = alternated(lambda: run(mine, a, dy, parameters[0]), lambda: run(theirs, b, dz, parameters[1]))
    print(f"{name:44} minidl {ours:7.2f} ms   PyTorch {other:7.2f} ms   {other / ours:.2f}x")


threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
minidl.set_num_threads(threads)
torch.set_num_threads(threads)
rng = np.random.default_rng(0)
qkv = [rng.normal(size=(64, 4, 64, 32)).astype(np.float32) for _ in range(3)]
for causal in (False, True):
    compare(
        f"attention 64x4x64x32{' causal' * causal}", qkv,
        lambda *x, c=causal: ops.scaled_dot_product_attention(*x, is_causal=c),
        lambda *x, c=causal: F.scaled_dot_product_attention(*x, is_causal=c),
    )  # fmt: skip
hidden = rng.normal(size=(64 * 64, 512)).astype(np.float32)
compare("gelu 4096x512", [hidden], ops.gelu, F.gelu)
scores = rng.normal(size=(64 * 4 * 64, 64)).astype(np.float32)
compare("softmax 16384x64", [scores], ops.softmax, lambda x: F.softmax(x, -1))
how = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
layer, other = nn.TransformerEncoderLayer(128, 4, 512, **how), torch.nn.TransformerEncoderLayer(128, 4, 512, **how)
other.load_state_dict({k: torch.tensor(v) for k, v in layer.state_dict().items()})
compare(
    "encoder layer 64x64, width 128, GELU", [rng.normal(size=(64, 64, 128)).astype(np.float32)], layer, other,
    (tuple(layer.parameters()), tuple(other.parameters())),
)  # fmt: skip
