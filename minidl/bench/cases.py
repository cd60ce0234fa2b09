"""The benchmark cases: arguments for a shape, the work, and the same computation in NumPy and PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minidl.bench.case import CASES as CASES
from minidl.bench.case import Arguments, blank, case, normal
from minidl.compiler.epoch import gather_rows
from minidl.data.loader import gather_images
from minidl.jit import Kernel
from minidl.ops import ladder  # noqa: F401 (its variants of matmul_forward)
from minidl.ops.activation import gelu_backward, gelu_forward, relu_backward, relu_forward
from minidl.ops.dense import dense_backward, dense_forward
from minidl.ops.linalg import matmul_forward, transpose_copy
from minidl.ops.loss import softmax_cross_entropy_backward, softmax_cross_entropy_forward, sum_of_losses
from minidl.optim import adam_update, sgd_momentum_update, sgd_update

# ------------------------------------------------------------------------------- matrix product


def _product(transposed: bool) -> None:
    def arguments(rng: Any, dtype: Any, m: int, k: int, n: int) -> Arguments:
        a = normal(rng, dtype, *((k, m) if transposed else (m, k)))
        strides = (1, m) if transposed else (k, 1)
        return [a, m * k, *strides, normal(rng, dtype, k, n), 0, blank(dtype, m, n)]

    def by_numpy(a: Any, a_batch: int, a_row: int, a_column: int, b: Any, b_batch: int, c: Any) -> tuple[Any]:
        return ((a.T if transposed else a) @ b,)

    case(
        matmul_forward, "MKN", [(128, 784, 512), (512, 512, 512), (1024, 1024, 1024)], arguments, (6,),
        flops=lambda m, k, n: 2 * m * k * n, moved=lambda m, k, n: m * k + k * n + m * n,
        numpy=by_numpy, torch=lambda torch, *args: by_numpy(*args), label="A.T @ B" if transposed else "A @ B",
    )  # fmt: skip


_product(False)
_product(True)

case(
    transpose_copy, "NHW", [(1, 784, 512)],
    lambda rng, dtype, n, h, w: [normal(rng, dtype, n, h, w), blank(dtype, n, w, h)], (1,),
    flops=lambda *shape: 0, moved=lambda n, h, w: 2 * n * h * w,
    numpy=lambda x, y: (np.ascontiguousarray(x.swapaxes(1, 2)),),
    torch=lambda torch, x, y: (x.transpose(1, 2).contiguous(),),
)  # fmt: skip

# -------------------------------------------------------------------------------------- layers


def _dense_forward(x: Any, w: Any, b: Any, rectify: bool, y: Any) -> tuple[Any]:
    z = x @ w
    z += b
    return (np.maximum(z, 0, out=z),)


case(
    dense_forward, "NIO", [(128, 784, 512)],
    lambda rng, dtype, n, i, o: [
        normal(rng, dtype, n, i), normal(rng, dtype, i, o), normal(rng, dtype, o), True, blank(dtype, n, o)
    ], (4,),
    flops=lambda n, i, o: 2 * n * i * o + 2 * n * o, moved=lambda n, i, o: n * i + i * o + o + n * o,
    numpy=_dense_forward, torch=lambda torch, x, w, b, rectify, y: (torch.addmm(b, x, w).relu_(),),
)  # fmt: skip


def _dense_backward(dy: Any, y: Any, rectify: bool, dz: Any, db: Any) -> tuple[Any, ...]:
    dz = np.where(y <= 0, dy.dtype.type(0), dy)
    return dz, dz.sum(axis=0)


def _torch_dense_backward(torch: Any, dy: Any, y: Any, rectify: bool, dz: Any, db: Any) -> tuple[Any, ...]:
    dz = torch.ops.aten.threshold_backward(dy, y, 0)
    return dz, dz.sum(0)


case(
    dense_backward, "NO", [(128, 512)],
    lambda rng, dtype, n, o: [
        normal(rng, dtype, n, o), normal(rng, dtype, n, o), True, blank(dtype, n, o), blank(dtype, o)
    ], (3, 4),
    flops=lambda n, o: n * o, moved=lambda n, o: 3 * n * o + o, numpy=_dense_backward, torch=_torch_dense_backward,
)  # fmt: skip


def _elementwise(kernel: Kernel, inputs: int, flops: int, by_numpy: Any, by_torch: Any) -> None:
    case(
        kernel, "N", [(1 << 16,)],
        lambda rng, dtype, n: [*(normal(rng, dtype, n) for _ in range(inputs)), blank(dtype, n)], (inputs,),
        flops=lambda n: flops * n, moved=lambda n: (inputs + 1) * n, numpy=by_numpy, torch=by_torch,
    )  # fmt: skip


_elementwise(relu_forward, 1, 1, lambda x, y: (np.maximum(x, 0),), lambda torch, x, y: (torch.relu(x),))
_elementwise(
    relu_backward, 2, 1, lambda dy, y, dx: (np.where(y <= 0, dy.dtype.type(0), dy),),
    lambda torch, dy, y, dx: (torch.ops.aten.threshold_backward(dy, y, 0),),
)  # fmt: skip


def _normal_distribution(x: Any) -> Any:
    return np.frompyfunc(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)), 1, 1)(x).astype(x.dtype)


_elementwise(
    gelu_forward, 1, 4, lambda x, y: (x * _normal_distribution(x),),
    lambda torch, x, y: (torch.nn.functional.gelu(x),),
)  # fmt: skip
_elementwise(
    gelu_backward, 2, 8,
    lambda dy, x, dx: (dy * (_normal_distribution(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),),
    lambda torch, dy, x, dx: (torch.ops.aten.gelu_backward(dy, x),),
)  # fmt: skip

# ---------------------------------------------------------------------------------------- loss


def _softmax(z: Any) -> Any:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _loss_forward(z: Any, y: Any, weight: Any, ignore: int, smoothing: float, losses: Any, p: Any) -> tuple[Any, ...]:
    p = _softmax(z)
    return -np.log(p[np.arange(len(y)), y]), p


def _loss_backward(dl: Any, p: Any, y: Any, weight: Any, ignore: int, smoothing: float, dz: Any) -> tuple[Any]:
    dz = p.copy()
    dz[np.arange(len(y)), y] -= 1
    dz *= dl[:, None]
    return (dz,)


def _torch_loss_forward(torch: Any, z: Any, y: Any, weight: Any, ignore: int, smoothing: float, *out: Any) -> Any:
    p = torch.log_softmax(z, 1)
    return torch.nn.functional.nll_loss(p, y, reduction="none"), p.exp()


def _torch_loss_backward(torch: Any, dl: Any, p: Any, y: Any, *rest: Any) -> tuple[Any]:
    dz = p.clone()
    dz[torch.arange(len(y)), y] -= 1
    return (dz.mul_(dl[:, None]),)


def _loss_arguments(rng: Any, dtype: Any, n: int, c: int) -> Arguments:
    z, y = normal(rng, dtype, n, c), rng.integers(0, c, n)
    return [z, y, np.ones(c, dtype), -100, 0.0, blank(dtype, n), blank(dtype, n, c)]


case(
    softmax_cross_entropy_forward, "NC", [(128, 10)], _loss_arguments, (5, 6),
    flops=lambda n, c: 5 * n * c, moved=lambda n, c: 2 * n * c + 3 * n, numpy=_loss_forward, torch=_torch_loss_forward,
)  # fmt: skip
case(
    softmax_cross_entropy_backward, "NC", [(128, 10)],
    lambda rng, dtype, n, c: [
        normal(rng, dtype, n), _softmax(normal(rng, dtype, n, c)), rng.integers(0, c, n), np.ones(c, dtype),
        -100, 0.0, blank(dtype, n, c),
    ], (6,),
    flops=lambda n, c: 2 * n * c, moved=lambda n, c: 2 * n * c + 3 * n,
    numpy=_loss_backward, torch=_torch_loss_backward,
)  # fmt: skip


def _sums(losses: Any, labels: Any, weight: Any, ignored: int, sums: Any) -> tuple[Any]:
    return (np.array([losses.sum(dtype=np.float64), weight[labels[labels != ignored]].sum(dtype=np.float64)]),)


case(
    sum_of_losses, "NC", [(128, 10)],
    lambda rng, dtype, n, c: [
        normal(rng, dtype, n), rng.integers(0, c, n), np.ones(c, dtype), -100, blank(np.float64, 2)
    ], (4,),
    flops=lambda n, c: 2 * n, moved=lambda n, c: 2 * n + c + 2, numpy=_sums,
)  # fmt: skip

# ---------------------------------------------------------------------------------- optimizers

PARAMETERS = 407_050  # of a 784-512-10 net


def _sgd(p: Any, g: Any, lr: Any, decay: Any) -> tuple[Any]:
    return (p - lr * (g + decay * p),)


def _torch_sgd(
    torch: Any, p: Any, g: Any, buffer: Any, lr: Any, momentum: Any, share: Any, decay: Any
) -> tuple[Any, ...]:
    torch._fused_sgd_(
        [p], [g], [buffer] if momentum else [], weight_decay=float(decay), momentum=float(momentum), lr=float(lr),
        dampening=1 - float(share), nesterov=False, maximize=False, is_first_step=False,
    )  # fmt: skip
    return p, buffer


case(
    sgd_update, "N", [(PARAMETERS,)],
    lambda rng, dtype, n: [normal(rng, dtype, n), normal(rng, dtype, n), 1e-3, 1e-4], (0,),
    flops=lambda n: 4 * n, moved=lambda n: 3 * n, numpy=_sgd,
    torch=lambda torch, p, g, lr, decay: _torch_sgd(torch, p, g, None, lr, 0, 1, decay)[:1],
)  # fmt: skip


def _momentum(
    p: Any, g: Any, b: Any, lr: Any, momentum: Any, share: Any, decay: Any, nesterov: bool
) -> tuple[Any, ...]:
    b = momentum * b + share * (g + decay * p)
    return p - lr * b, b


case(
    sgd_momentum_update, "N", [(PARAMETERS,)],
    lambda rng, dtype, n: [
        *(normal(rng, dtype, n) for _ in range(3)), 1e-3, 0.9, 1.0, 1e-4, False
    ], (0, 2),
    flops=lambda n: 7 * n, moved=lambda n: 5 * n, numpy=_momentum,
    torch=lambda torch, p, g, b, lr, momentum, share, decay, nesterov: _torch_sgd(
        torch, p, g, b, lr, momentum, share, decay
    ),
)  # fmt: skip

STEP = 10
RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


def _adam_arguments(rng: Any, dtype: Any, n: int) -> Arguments:
    p, g, m = (normal(rng, dtype, n) for _ in range(3))
    return [p, g, m, normal(rng, dtype, n) ** 2, STEP, RATE, BETA1, BETA2, EPS, 0.0, False, np.finfo(dtype).tiny]


def _adam(
    p: Any, g: Any, m: Any, v: Any, t: int, lr: Any, beta1: Any, beta2: Any, eps: Any, *_: Any
) -> tuple[Any, ...]:
    g = g + 0.0 * p
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * (g * g)
    return p - lr / (1 - beta1**t) * m / (np.sqrt(v / (1 - beta2**t)) + eps), m, v


def _torch_adam(torch: Any, p: Any, g: Any, m: Any, v: Any, *rest: Any) -> tuple[Any, ...]:
    torch._fused_adam_(
        [p], [g], [m], [v], [], [torch.tensor(float(STEP))], lr=RATE, beta1=BETA1, beta2=BETA2, weight_decay=0.0,
        eps=EPS, amsgrad=False, maximize=False,
    )  # fmt: skip
    return p, m, v


case(
    adam_update, "N", [(PARAMETERS,)], _adam_arguments, (0, 2, 3),
    flops=lambda n: 14 * n, moved=lambda n: 7 * n, numpy=_adam, torch=_torch_adam,
)  # fmt: skip

# ---------------------------------------------------------------------------------------- data


def _gather(images: Any, indices: Any, scale: Any, shift: Any, out: Any) -> tuple[Any]:
    return (images[indices] * scale[:, None] + shift[:, None],)


def _torch_gather(torch: Any, images: Any, indices: Any, scale: Any, shift: Any, out: Any) -> tuple[Any]:
    return (images[indices].to(out.dtype).mul_(scale[:, None]).add_(shift[:, None]),)


case(
    gather_images, "NCP", [(128, 1, 784)],
    lambda rng, dtype, n, c, p: [
        rng.integers(0, 256, (10 * n, c, p), dtype=np.uint8), rng.permutation(10 * n)[:n],
        np.full(c, 1 / 255, dtype), np.full(c, 0.5, dtype), blank(dtype, n, c, p),
    ], (4,),
    flops=lambda n, c, p: 2 * n * c * p, moved=lambda n, c, p: n * c * p * 5 // 4,  # a byte in, four out
    numpy=_gather, torch=_torch_gather, dtypes=("float32",),
)  # fmt: skip

case(
    gather_rows, "NM", [(128, 784)],
    lambda rng, dtype, n, m: [normal(rng, dtype, 10 * n, m), rng.permutation(10 * n)[:n], blank(dtype, n, m)], (2,),
    flops=lambda n, m: 0, moved=lambda n, m: 2 * n * m,
    numpy=lambda rows, indices, out: (rows[indices],), torch=lambda torch, rows, indices, out: (rows[indices],),
)  # fmt: skip

from minidl.bench import cases_attention, cases_conv  # noqa: E402, F401 (registers cases)
