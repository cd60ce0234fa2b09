"""ONNX's operators, said in minidl's: an adapter a line. Each takes the node's attributes and its inputs (None if left
out) and gives the outputs. Adapters of ops and layers that this minidl does not have are left out."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl import Tensor, nn, ops

ADAPTERS: dict[str, Callable[..., Any]] = {}


def unary(**names: Any) -> None:
    for name, fn in names.items():
        ADAPTERS[name] = lambda a, x, fn=fn: fn(x)


def node(name: str, needs: Any = ops, of: str = "") -> Any:
    """Enter a function as the adapter of this operator, if `needs` has what it is made of."""

    def enter(function: Any) -> Any:
        if not of or hasattr(needs, of):
            ADAPTERS[name] = function
        return function

    return enter


def folded(fn: Any) -> Any:
    def adapter(a: Any, x: Any, *others: Any) -> Any:
        y = ops.add(x, np.zeros((), x.dtype)) if not others else x
        for other in others:
            y = fn(y, other)
        return y

    return adapter


unary(
    Abs=ops.abs, Neg=ops.negative, Exp=ops.exp, Log=ops.log, Sqrt=ops.sqrt, Sin=ops.sin, Cos=ops.cos, Tan=ops.tan,
    Sinh=ops.sinh, Cosh=ops.cosh, Tanh=ops.tanh, Atan=ops.arctan, Sigmoid=ops.sigmoid, Relu=ops.relu,
    Softplus=ops.softplus, Reciprocal=lambda x: ops.divide(np.ones((), x.dtype), x),
    Softsign=lambda x: ops.divide(x, 1 + abs(Tensor(x))), Identity=lambda x: ops.reshape(x, x.shape),
    Mish=lambda x: x * ops.tanh(ops.softplus(x)), HardSwish=lambda x: x * ops.clip(x / 6 + 0.5, 0, 1),
    GlobalAveragePool=lambda x: ops.mean(x, tuple(range(2, x.ndim)), keepdims=True),
    GlobalMaxPool=lambda x: ops.max(x, tuple(range(2, x.ndim)), keepdims=True),
)  # fmt: skip
ADAPTERS |= {
    "Add": lambda a, x, y: ops.add(x, y), "Sub": lambda a, x, y: ops.subtract(x, y),
    "Mul": lambda a, x, y: ops.multiply(x, y), "Div": lambda a, x, y: ops.divide(x, y),
    "Pow": lambda a, x, y: ops.power(x, y), "MatMul": lambda a, x, y: ops.matmul(x, y),
    "Sum": folded(ops.add), "Max": folded(ops.maximum), "Min": folded(ops.minimum),
    "Mean": lambda a, *x: folded(ops.add)(a, *x) / len(x),
    "Where": lambda a, c, x, y: ops.where(c, x, y),
    "PRelu": lambda a, x, s: ops.where(x < 0, ops.multiply(s, x), x),
    "LeakyRelu": lambda a, x: ops.leaky_relu(x, a.get("alpha", 0.01)),
    "Elu": lambda a, x: ops.elu(x, a.get("alpha", 1.0)),
    "Celu": lambda a, x: ops.maximum(x, 0) + ops.elu(ops.minimum(x, 0) / a.get("alpha", 1.0)) * a.get("alpha", 1.0),
    "Selu": lambda a, x: ops.elu(x, a.get("alpha", 1.6732632)) * a.get("gamma", 1.0507009),
    "ThresholdedRelu": lambda a, x: ops.where(x > a.get("alpha", 1.0), x, 0.0),
    "HardSigmoid": lambda a, x: ops.clip(x * np.float32(a.get("alpha", 0.2)) + np.float32(a.get("beta", 0.5)), 0, 1),
    "Swish": lambda a, x: x * ops.sigmoid(x * np.float32(a.get("alpha", 1.0))),
    "Gelu": lambda a, x: ops.gelu(x, a.get("approximate", "none")),
    "Softmax": lambda a, x: ops.softmax(x, a.get("axis", -1)),
    "LogSoftmax": lambda a, x: ops.log_softmax(x, a.get("axis", -1)),
    "Clip": lambda a, x, low=None, high=None: ops.clip(x, -np.inf if low is None else low, high),
    "Concat": lambda a, *x: ops.concatenate(list(x), a["axis"]),
    "Transpose": lambda a, x: ops.transpose(x, a.get("perm")),
    "Squeeze": lambda a, x, axes=None: ops.squeeze(x, None if axes is None else tuple(axes)),
    "Unsqueeze": lambda a, x, axes: ops.expand_dims(x, tuple(axes)),
    "Flatten": lambda a, x: ops.reshape(x, (math.prod(x.shape[: a.get("axis", 1)]), -1)),
    "Expand": lambda a, x, shape: ops.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),
    "Einsum": lambda a, *x: ops.einsum(a["equation"].replace(" ", ""), *x),
    "Gather": lambda a, x, i: Tensor(x)[(slice(None),) * a.get("axis", 0) + (i,)],
    "GatherND": lambda a, x, i: Tensor(x)[tuple(np.moveaxis(i, -1, 0))],
}  # fmt: skip


@node("Mod")
def mod(a: Any, x: Any, y: Any) -> Any:
    return ops.remainder(x, y) if not a.get("fmod", 0) else x - y * Tensor(np.trunc(x / y))


@node("CumSum")
def cumsum(a: Any, x: Any, axis: Any) -> Any:
    axis, turned = int(axis), a.get("reverse", 0)
    y = ops.cumsum(ops.flip(x, axis) if turned else x, axis)
    y = y - (np.flip(x, axis) if turned else x) if a.get("exclusive", 0) else y
    return ops.flip(y, axis) if turned else y


@node("Reshape")
def reshape(a: Any, x: Any, shape: Any) -> Any:
    kept = a.get("allowzero", 0) == 0
    return ops.reshape(x, tuple(x.shape[i] if n == 0 and kept else int(n) for i, n in enumerate(shape)))


@node("Split")
def split(a: Any, x: Any, sizes: Any = None) -> Any:
    axis = a.get("axis", 0)
    if sizes is None:
        count = a["num_outputs"]
        each = -(-x.shape[axis] // count)
        return ops.split(x, [each * i for i in range(1, count)], axis)
    return ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis)


@node("Slice")
def sliced(a: Any, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    index = [slice(None)] * x.ndim
    axes = range(len(starts)) if axes is None else axes
    for i, axis in enumerate(axes):
        step = 1 if steps is None else int(steps[i])
        end = int(ends[i])
        index[axis] = slice(int(starts[i]), None if step < 0 and end < -x.shape[axis] else end, step)
    return Tensor(x)[tuple(index)]


@node("Pad")
def pad(a: Any, x: Any, pads: Any, value: Any = None, axes: Any = None) -> Any:
    widths = [(0, 0)] * x.ndim
    axes = list(range(x.ndim) if axes is None else axes)
    for i, axis in enumerate(axes):
        widths[axis] = int(pads[i]), int(pads[i + len(axes)])
    mode = a.get("mode", "constant")
    return ops.pad(
        x, widths, mode, **({"constant_values": float(value)} if mode == "constant" and value is not None else {})
    )


@node("Gemm")
def gemm(a: Any, x: Any, y: Any, c: Any = None) -> Any:
    z = ops.matmul(x.T if a.get("transA") else x, y.T if a.get("transB") else y) * np.float32(a.get("alpha", 1.0))
    return z if c is None else z + ops.multiply(c, np.float32(a.get("beta", 1.0)))


def reduction(fn: Any) -> Any:
    def adapter(a: Any, x: Any, axes: Any = None) -> Any:
        axes = a.get("axes") if axes is None else axes
        none = axes is None or len(axes) == 0
        if none and a.get("noop_with_empty_axes", 0):
            return fn(x, ())
        return fn(x, None if none else tuple(map(int, axes)), keepdims=bool(a.get("keepdims", 1)))

    return adapter


def norm_of(square: Any, after: Any) -> Any:
    return reduction(lambda x, axis, keepdims=False: after(ops.sum(square(x), axis, keepdims)))


ADAPTERS |= {
    "ReduceSum": reduction(ops.sum), "ReduceMean": reduction(ops.mean), "ReduceMax": reduction(ops.max),
    "ReduceMin": reduction(ops.min), "ReduceProd": reduction(ops.prod), "ReduceLogSumExp": reduction(ops.logsumexp),
    "ReduceL1": norm_of(ops.abs, lambda s: s), "ReduceL2": norm_of(ops.square, ops.sqrt),
    "ReduceSumSquare": norm_of(ops.square, lambda s: s), "ReduceLogSum": norm_of(lambda x: x, ops.log),
}  # fmt: skip


@node("LpNormalization")
def lp_normalization(a: Any, x: Any) -> Any:
    axis, p = a.get("axis", -1), a.get("p", 2)
    size = ops.sum(ops.abs(x) if p == 1 else ops.square(x), axis, keepdims=True)
    size = size if p == 1 else ops.sqrt(size)
    return ops.divide(x, ops.where(size.data == 0, 1.0, size))


@node("Dropout")
def dropout(a: Any, x: Any, ratio: Any = None, training: Any = False) -> Any:
    if training and (ratio is None or ratio > 0):
        raise ValueError("draws other random numbers")
    return [ops.dropout(x, 0.5, training=False), Tensor(np.ones(x.shape, bool))]


def class_loss(loss: Any) -> Any:
    def adapter(a: Any, x: Any, labels: Any, weight: Any = None) -> Any:
        return loss(x, labels, weight, a.get("ignore_index", -100), a.get("reduction", "mean"))

    return adapter


ADAPTERS["NegativeLogLikelihoodLoss"] = class_loss(ops.nll)


@node("SoftmaxCrossEntropyLoss")
def cross_entropy(a: Any, x: Any, labels: Any, weight: Any = None) -> Any:
    return [class_loss(ops.softmax_cross_entropy)(a, x, labels, weight), ops.log_softmax(x, 1)]


# ------------------------------------------------------------------------------------ attention


@node("Attention")
def attention(a: Any, q: Any, k: Any, v: Any, mask: Any = None, past_k: Any = None, past_v: Any = None,
              lengths: Any = None) -> Any:  # fmt: skip
    flat = q.ndim == 3
    if flat:  # (N, L, H·D)
        heads = lambda x, n: ops.transpose(ops.reshape(x, (*x.shape[:2], n, -1)), (0, 2, 1, 3))  # noqa: E731
        q, k, v = heads(q, a["q_num_heads"]), heads(k, a["kv_num_heads"]), heads(v, a["kv_num_heads"])
    q, k, v = (x if isinstance(x, Tensor) else Tensor(x) for x in (q, k, v))
    before = 0 if past_k is None else past_k.shape[2]
    if before:
        k, v = ops.concatenate([past_k, k], 2), ops.concatenate([past_v, v], 2)
    present = k, v
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = (ops.reshape(ops.stack([x] * groups, 2), (x.shape[0], -1, *x.shape[2:])) for x in (k, v))
    queries, keys = q.shape[2], k.shape[2]
    added = np.zeros((1, 1, 1, keys), q.dtype)
    if mask is not None:
        short = keys - mask.shape[-1]  # the keys that it does not speak of are hidden
        m = np.where(mask, 0, -np.inf).astype(q.dtype) if mask.dtype == bool else mask
        added = added + np.pad(m, [(0, 0)] * (m.ndim - 1) + [(0, short)], constant_values=-np.inf)
    offset = (lengths - queries if lengths is not None else np.array(before)).reshape(-1, 1, 1, 1)
    ahead = np.arange(keys) - np.arange(queries)[:, None] - offset
    kept = np.arange(keys) < lengths.reshape(-1, 1, 1, 1) if lengths is not None else np.ones((1, 1, 1, keys), bool)
    kept = kept & (ahead <= 0) if a.get("is_causal", 0) else kept
    left, right = a.get("left_window_size", -1), a.get("right_window_size", -1)
    kept = kept & (ahead >= -left) if left >= 0 else kept
    kept = kept & (ahead <= right) if right >= 0 else kept
    added = np.where(kept, added, -np.inf).astype(q.dtype)
    scale, cap, mode = a.get("scale", q.shape[-1] ** -0.5), a.get("softcap", 0.0), a.get("qk_matmul_output_mode", 0)
    y = None
    if cap == 0:
        y = ops.scaled_dot_product_attention(q, k, v, added, scale=scale)
    stages = [ops.matmul(q * np.float32(scale), ops.swapaxes(k, -1, -2))]
    stages.append(ops.tanh(stages[0] / np.float32(cap)) * np.float32(cap) if cap else stages[0])
    stages.append(stages[1] + added)
    blind = np.isneginf(stages[2].data).all(-1, keepdims=True)
    stages.append(ops.softmax(ops.where(blind, 0.0, stages[2])) * ~blind)
    y = ops.matmul(stages[3], v) if y is None else y
    y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (y.shape[0], queries, -1)) if flat else y
    return [y, *present, stages[mode]]


# ------------------------------------------------- layers that other files of minidl bring


def windows(a: Any, x: Any, kernel: Any) -> tuple[Any, Any, Any, Any]:
    """(pads as ((before, after), …), strides, dilations, are pads symmetric?)"""
    n = len(kernel)
    strides, dilations = a.get("strides", [1] * n), a.get("dilations", [1] * n)
    flat = a.get("pads", [0] * 2 * n)
    pads = list(zip(flat[:n], flat[n:], strict=True))
    if a.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
            small = total // 2
            pads.append((small, total - small) if a["auto_pad"] == "SAME_UPPER" else (total - small, small))
    return pads, tuple(strides), tuple(dilations), all(p == q for p, q in pads)


def padded(x: Any, pads: Any, value: float = 0.0) -> Any:
    return ops.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


@node("Conv", of="conv2d")
def conv(a: Any, x: Any, w: Any, b: Any = None) -> Any:
    pads, strides, dilations, _ = windows(a, x, w.shape[2:])
    fn = {1: getattr(ops, "conv1d", None), 2: ops.conv2d}[w.ndim - 2]
    return fn(padded(x, pads), w, b, strides, 0, dilations, a.get("group", 1))


@node("ConvTranspose", of="conv_transpose2d")
def conv_transpose(a: Any, x: Any, w: Any, b: Any = None) -> Any:
    n = w.ndim - 2
    if n != 2:
        raise NotImplementedError("two axes only")
    pads, strides, dilations, _ = windows({k: v for k, v in a.items() if k != "auto_pad"}, x, w.shape[2:])
    y = ops.conv_transpose2d(x, w, b, strides, 0, 0, a.get("group", 1), dilations)
    extra = a.get("output_padding", [0] * n)
    wanted = a.get("output_shape")
    if a.get("auto_pad", "NOTSET").startswith("SAME") and wanted is None:
        wanted = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    if wanted is not None:
        full = [y.shape[2 + i] + extra[i] - wanted[i] for i in range(n)]
        pads = [(t // 2, t - t // 2) if a.get("auto_pad") != "SAME_LOWER" else (t - t // 2, t // 2) for t in full]
    y = ops.pad(y, [(0, 0), (0, 0), *((0, e) for e in extra)])
    if b is not None and any(extra):
        raise NotImplementedError("output_padding with a bias")
    return y[(slice(None), slice(None), *(slice(p, y.shape[2 + i] - q) for i, (p, q) in enumerate(pads)))]


def pooled(a: Any, x: Any, fn: Any, value: float) -> Any:
    if x.ndim > 4:
        raise NotImplementedError("pooling over one axis or two only")
    pads, strides, dilation, same = windows(a, x, a["kernel_shape"])
    ceil, kernel = bool(a.get("ceil_mode", 0)), tuple(a["kernel_shape"])
    if same and all(2 * p <= k for (p, _), k in zip(pads, kernel, strict=True)):
        return fn(x, kernel, strides, tuple(p for p, _ in pads), tuple(dilation), ceil)
    return fn(padded(x, pads, value), kernel, strides, 0, tuple(dilation), ceil)


@node("MaxPool", of="max_pool2d")
def max_pool(a: Any, x: Any) -> Any:
    if x.dtype.kind != "f":
        raise NotImplementedError("floats only")
    return pooled(a, x, ops.max_pool1d if x.ndim == 3 else ops.max_pool2d, -np.inf)


@node("AveragePool", of="avg_pool2d")
def avg_pool(a: Any, x: Any) -> Any:
    counted = bool(a.get("count_include_pad", 0))

    def fn(x: Any, k: Any, s: Any, p: Any, d: Any, c: Any) -> Any:
        if any(step != 1 for step in d):
            raise NotImplementedError("averages of windows without gaps")
        return (ops.avg_pool1d if x.ndim == 3 else ops.avg_pool2d)(x, k, s, p, ceil_mode=c, count_include_pad=counted)

    pads = windows(a, x, a["kernel_shape"])[0]
    apart = any(p != q or 2 * p > k for (p, q), k in zip(pads, a["kernel_shape"], strict=False))
    if apart and not counted:  # divide by how many elements of x each window has
        ones = np.ones_like(x)
        full = {**a, "count_include_pad": 1}
        return ops.divide(avg_pool(full, x), avg_pool(full, ones))
    return pooled(a, x, fn, 0.0)


@node("BatchNormalization", of="batch_norm")
def batch_norm(a: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any) -> Any:
    training, keep = bool(a.get("training_mode", 0)), a.get("momentum", 0.9)
    y = ops.batch_norm(x, mean.copy(), variance.copy(), weight, bias, training, 1 - keep, a.get("epsilon", 1e-5))
    if not training:
        return y
    axes = tuple(i for i in range(x.ndim) if i != 1)  # ONNX keeps the biased variance
    return [y, mean * keep + x.mean(axes) * (1 - keep), variance * keep + x.var(axes) * (1 - keep)]


@node("LayerNormalization", of="layer_norm")
def layer_norm(a: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    axis, eps = a.get("axis", -1) % x.ndim, a.get("epsilon", 1e-5)
    y = ops.layer_norm(x, x.shape[axis:], weight, bias, eps)
    axes = tuple(range(axis, x.ndim))
    mean = ops.mean(x, axes, keepdims=True)
    return [y, mean, 1 / ops.sqrt(ops.var(x, axes, keepdims=True) + np.float32(eps))]


@node("GroupNormalization", of="group_norm")
def group_norm(a: Any, x: Any, weight: Any, bias: Any) -> Any:
    return ops.group_norm(x, a["num_groups"], weight, bias, a.get("epsilon", 1e-5))


@node("InstanceNormalization", of="group_norm")
def instance_norm(a: Any, x: Any, weight: Any, bias: Any) -> Any:
    return ops.group_norm(x, x.shape[1], weight, bias, a.get("epsilon", 1e-5))


def recurrent(name: str, order: list[int]) -> Any:
    """`order`: where PyTorch's gates stand among ONNX's."""

    def adapter(a: Any, x: Any, w: Any, r: Any, b: Any = None, lengths: Any = None, h: Any = None, c: Any = None,
                peepholes: Any = None) -> Any:  # fmt: skip
        gru = name == "GRU" and not a.get("linear_before_reset", 0)
        if peepholes is not None or a.get("activations") or a.get("clip") or gru or a.get("direction") == "reverse":
            raise NotImplementedError("peepholes, other activations, and GRUs that reset before the product")
        if a.get("layout", 0):
            raise NotImplementedError("batches first")
        hidden, both, gates = a["hidden_size"], w.shape[0] == 2, len(order)
        layer = getattr(nn, name)(x.shape[2], hidden, bidirectional=both)
        b = np.zeros((w.shape[0], 2 * gates * hidden), np.float32) if b is None else b
        state = {}
        for d, suffix in enumerate(("", "_reverse")[: 1 + both]):
            for key, values in (("weight_ih", w[d]), ("weight_hh", r[d]), ("bias_ih", b[d, : gates * hidden]),
                                ("bias_hh", b[d, gates * hidden :])):  # fmt: skip
                cut = values.reshape(gates, hidden, *values.shape[1:])
                state[f"{key}_l0{suffix}"] = cut[order].reshape(values.shape)
        layer.load_state_dict(state)
        if lengths is not None and (lengths != len(x)).any():
            raise NotImplementedError("lengths")
        initial = None if h is None else (h, c) if name == "LSTM" else h
        y, last = layer(x, initial)
        y = ops.transpose(ops.reshape(y, (*y.shape[:2], 1 + both, hidden)), (0, 2, 1, 3))
        return [y, *last] if name == "LSTM" else [y, last]

    return adapter


for name, order in (("RNN", [0]), ("GRU", [1, 0, 2]), ("LSTM", [0, 2, 3, 1])):
    node(name, nn, name)(recurrent(name, order))
