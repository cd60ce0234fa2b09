"""Cases of the array functions, activations, losses and dense layers."""

from typing import Any

import numpy as np

from cases.table import Make, apart, case, normal, scaled_signs, signs, uniform
from minidl import ops

# ------------------------------------------------------------------------------------- elementwise

for name in [
    "negative",
    "square",
    "exp",
    "expm1",
    "sin",
    "cos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "sigmoid",
    "silu",
    "softplus",
]:
    path = {"silu": "nn.functional.silu", "softplus": "nn.functional.softplus"}.get(name, name)

    def by_torch(t: Any, x: Any, path: str = path) -> Any:
        for part in path.split("."):
            t = getattr(t, part)
        return t(x)

    case(name, getattr(ops, name), [normal(3, 5)], by_torch)
case("exp scalar", ops.exp, [normal()], lambda t, x: t.exp(x))
case("exp 3d", ops.exp, [normal(2, 1, 3)], lambda t, x: t.exp(x))
case("tan", ops.tan, [uniform(-1.2, 1.2, 7)], lambda t, x: t.tan(x))
case("sqrt", ops.sqrt, [uniform(0.3, 4, 2, 5)], lambda t, x: t.sqrt(x))
case("log", ops.log, [uniform(0.2, 4, 2, 5)], lambda t, x: t.log(x))
case("log2", ops.log2, [uniform(0.2, 4, 2, 5)], lambda t, x: t.log2(x))
case("log1p", ops.log1p, [uniform(-0.7, 4, 2, 5)], lambda t, x: t.log1p(x))
case("abs", ops.abs, [apart(2, 5)], lambda t, x: t.abs(x))
case("relu", ops.relu, [apart(3, 5)], lambda t, x: t.relu(x))
case("relu scalar", ops.relu, [uniform(1, 2)], lambda t, x: t.relu(x))
case("leaky_relu", ops.leaky_relu, [apart(2, 5)], lambda t, x: t.nn.functional.leaky_relu(x))
case("leaky_relu slope", lambda x: ops.leaky_relu(x, 0.3), [apart(7)], lambda t, x: t.nn.functional.leaky_relu(x, 0.3))
case("elu", ops.elu, [apart(2, 5)], lambda t, x: t.nn.functional.elu(x))
case("elu alpha", lambda x: ops.elu(x, alpha=0.5), [apart(7)], lambda t, x: t.nn.functional.elu(x, 0.5))
case("gelu", ops.gelu, [apart(3, 5)], lambda t, x: t.nn.functional.gelu(x))
case("gelu tanh", lambda x: ops.gelu(x, approximate="tanh"), [apart(3, 5)],
     lambda t, x: t.nn.functional.gelu(x, approximate="tanh"))  # fmt: skip
case("softplus beta", lambda x: ops.softplus(x, beta=2.5, threshold=3.0), [apart(2, 5)],
     lambda t, x: t.nn.functional.softplus(x, 2.5, 3.0))  # fmt: skip
case("astype", lambda x: ops.astype(x, np.float64), [normal(2, 3)], lambda t, x: x.to(t.float64))
for name, bounds in {"both": (-0.8, 0.9), "low": (-0.8, None), "high": (None, 0.9)}.items():
    case(f"clip {name}", lambda x, b=bounds: ops.clip(x, *b), [apart(2, 5)], lambda t, x, b=bounds: t.clamp(x, *b))
LOW = np.array([-0.3, -0.9, 0.0])
case("clip arrays", lambda x: ops.clip(x, LOW, LOW + 0.9), [apart(4, 3)],
     lambda t, x: t.clamp(x, t.tensor(LOW), t.tensor(LOW + 0.9)))  # fmt: skip

PAIRS = {"": ((3, 4), (3, 4)), " row": ((3, 4), (4,)), " column": ((3, 1), (3, 4)), " both": ((2, 1, 3), (4, 1)),
         " scalar": ((), (2, 3)), " ones": ((1, 1), (5,))}  # fmt: skip
for kind, (left, right) in PAIRS.items():
    for name in ("add", "subtract", "multiply"):
        case(name + kind, getattr(ops, name), [normal(*left), normal(*right)],
             lambda t, a, b, name=name: getattr(t, name)(a, b))  # fmt: skip
    case("divide" + kind, ops.divide, [normal(*left), uniform(0.5, 2, *right)], lambda t, a, b: t.divide(a, b))
    case("power" + kind, ops.power, [uniform(0.3, 2, *left), normal(*right)], lambda t, a, b: t.pow(a, b))
    # multiples of 0.6 against odd multiples of 0.3: never nearer than 0.3
    case("maximum" + kind, ops.maximum, [apart(*left, step=0.6), lambda rng, s=right: apart(*s, step=0.6)(rng) + 0.3],
         lambda t, a, b: t.maximum(a, b))  # fmt: skip
    case("minimum" + kind, ops.minimum, [apart(*left, step=0.6), lambda rng, s=right: apart(*s, step=0.6)(rng) + 0.3],
         lambda t, a, b: t.minimum(a, b))  # fmt: skip
    picked = np.array([[True], [False], [True]]) if kind in ("", " row", " column") else np.array(True)
    case("where" + kind, lambda a, b, c=picked: ops.where(c, a, b), [normal(*left), normal(*right)],
         lambda t, a, b, c=picked: t.where(t.tensor(c), a, b))  # fmt: skip
MASK = np.array([[True, False, True, False], [False, False, True, True]])
case("where mask", lambda a, b: ops.where(MASK, a, b), [normal(2, 4), normal(4)],
     lambda t, a, b: t.where(t.tensor(MASK), a, b))  # fmt: skip
case("where scalars", lambda a, b: ops.where(MASK, a, b), [normal(), normal(2, 1)],
     lambda t, a, b: t.where(t.tensor(MASK), a, b))  # fmt: skip
case("power square", lambda x: ops.power(x, 2), [apart(2, 4)], lambda t, x: t.pow(x, 2))
case("power cube", lambda x: ops.power(x, 3.0), [apart(2, 4)], lambda t, x: t.pow(x, 3.0))
case("power zero", lambda x: ops.power(x, 0), [apart(4)], lambda t, x: t.pow(x, 0))
case("power half", lambda x: ops.power(x, -0.5), [uniform(0.3, 2, 5)], lambda t, x: t.pow(x, -0.5))
case("power base", lambda x: ops.power(2.5, x), [normal(5)], lambda t, x: t.pow(2.5, x))
case("power integers", lambda x: ops.power(x, np.array([0.0, 1.0, 2.0, 3.0, -1.0])), [apart(3, 5)],
     lambda t, x: t.pow(x, t.tensor([0.0, 1.0, 2.0, 3.0, -1.0], dtype=x.dtype)))  # fmt: skip
case("add twice", lambda x: ops.add(x, x), [normal(3)], lambda t, x: x + x)
case("multiply twice", lambda x: ops.multiply(x, x), [normal(3)], lambda t, x: x * x)


# a = b·(n + f) with f from 0.2 to 0.8: far from where the quotient jumps
def quotients(*shape: int) -> Make:
    return lambda rng: rng.integers(-4, 5, shape) + rng.uniform(0.2, 0.8, shape)


case("remainder", lambda q, b: ops.remainder(q * 2.0, b), [quotients(3, 4), lambda rng: rng.choice([-2.0, 2.0], (4,))],
     lambda t, q, b: t.remainder(q * 2.0, b))  # fmt: skip
case("floor_divide", lambda q, b: ops.floor_divide(q * 2.0, b),
     [quotients(3, 4), lambda rng: rng.choice([-2.0, 2.0], (3, 1))])  # fmt: skip

# -------------------------------------------------------------------------------------- reductions

AXES = [(None, False), (0, False), (-1, True), ((0, 2), False), ((2, 0), True), ((-3, -2, -1), False), ((), False)]
for axis, keepdims in AXES:
    suffix = f" {axis}".replace(" ", "") + (" keepdims" if keepdims else "")
    how = {"axis": axis, "keepdims": keepdims}
    dims = {"dim": tuple(range(3)) if axis is None else axis, "keepdim": keepdims}
    for name in ("sum", "mean", "prod", "logsumexp"):
        case(f"{name} {suffix}", lambda x, name=name, how=how: getattr(ops, name)(x, **how), [normal(2, 3, 4)],
             None if name == "prod" or axis == ()
             else lambda t, x, name=name, dims=dims: getattr(t, name)(x, **dims))  # fmt: skip
    for name, theirs in (("max", "amax"), ("min", "amin")):
        case(f"{name} {suffix}", lambda x, name=name, how=how: getattr(ops, name)(x, **how), [apart(2, 3, 4)],
             None if axis == () else lambda t, x, name=theirs, dims=dims: getattr(t, name)(x, **dims))  # fmt: skip
    if axis != ():
        for ddof in (0, 1):
            for name in ("var", "std"):
                case(f"{name} {suffix} ddof={ddof}",
                     lambda x, name=name, how=how, d=ddof: getattr(ops, name)(x, ddof=d, **how), [normal(2, 3, 4)],
                     lambda t, x, name=name, dims=dims, d=ddof: getattr(t, name)(x, correction=d, **dims))  # fmt: skip
case("prod one axis", lambda x: ops.prod(x, axis=1), [normal(3, 5)], lambda t, x: t.prod(x, 1))
case("prod zeros", lambda x: ops.prod(x, axis=1), [lambda rng: rng.normal(size=(3, 4)) * [[1, 1, 1, 1], [1, 0, 1, 1],
     [0, 1, 0, 1]]], lambda t, x: t.prod(x, 1))  # fmt: skip
case("sum of a scalar", ops.sum, [normal()], lambda t, x: t.sum(x))
case("max of one", lambda x: ops.max(x, axis=0), [normal(1, 3)], lambda t, x: t.amax(x, 0))
case("cumsum", ops.cumsum, [normal(3, 4)], lambda t, x: t.cumsum(x.reshape(-1), 0))
for axis in (0, 1, -1):
    case(f"cumsum {axis}", lambda x, a=axis: ops.cumsum(x, a), [normal(2, 3, 2)], lambda t, x, a=axis: t.cumsum(x, a))
for dim in (-1, 0, 1):
    case(f"softmax {dim}", lambda x, d=dim: ops.softmax(x, d), [normal(3, 4, 2)], lambda t, x, d=dim: t.softmax(x, d))
    case(f"log_softmax {dim}", lambda x, d=dim: ops.log_softmax(x, dim=d), [normal(3, 4, 2)],
         lambda t, x, d=dim: t.log_softmax(x, d))  # fmt: skip
case("softmax vector", ops.softmax, [normal(7)], lambda t, x: t.softmax(x, -1))

# ------------------------------------------------------------------------------------------- shape

case("reshape", lambda x: ops.reshape(x, (3, -1)), [normal(2, 3, 2)], lambda t, x: x.reshape(3, -1))
case("reshape flat", lambda x: ops.reshape(x, -1), [normal(2, 3)], lambda t, x: x.reshape(-1))
case("transpose", ops.transpose, [normal(2, 3, 4)], lambda t, x: x.permute(2, 1, 0))
case("transpose axes", lambda x: ops.transpose(x, (1, 2, 0)), [normal(2, 3, 4)], lambda t, x: x.permute(1, 2, 0))
case("transpose negative", lambda x: ops.transpose(x, (-1, 0, -2)), [normal(2, 3, 4)],
     lambda t, x: x.permute(-1, 0, -2))  # fmt: skip
case("swapaxes", lambda x: ops.swapaxes(x, 0, -1), [normal(2, 3, 4)], lambda t, x: x.swapaxes(0, -1))
case("moveaxis", lambda x: ops.moveaxis(x, 0, -1), [normal(2, 3, 4)], lambda t, x: x.moveaxis(0, -1))
case("moveaxis several", lambda x: ops.moveaxis(x, (0, 1), (1, 2)), [normal(2, 3, 4)],
     lambda t, x: x.moveaxis((0, 1), (1, 2)))  # fmt: skip
case("expand_dims", lambda x: ops.expand_dims(x, 1), [normal(2, 3)], lambda t, x: x.unsqueeze(1))
case("expand_dims several", lambda x: ops.expand_dims(x, (0, -1)), [normal(2, 3)],
     lambda t, x: x.unsqueeze(0).unsqueeze(-1))  # fmt: skip
case("squeeze", ops.squeeze, [normal(1, 3, 1)], lambda t, x: x.squeeze())
case("squeeze axis", lambda x: ops.squeeze(x, -1), [normal(1, 3, 1)], lambda t, x: x.squeeze(-1))
case("squeeze axes", lambda x: ops.squeeze(x, (0, 2)), [normal(1, 3, 1)], lambda t, x: x.squeeze((0, 2)))
case("broadcast_to", lambda x: ops.broadcast_to(x, (2, 3, 4)), [normal(3, 1)], lambda t, x: x.expand(2, 3, 4))
case("concatenate", lambda a, b, c: ops.concatenate([a, b, c]), [normal(2, 3), normal(1, 3), normal(0, 3)],
     lambda t, *x: t.cat(x))  # fmt: skip
case("concatenate last", lambda a, b: ops.concatenate((a, b), axis=-1), [normal(2, 3), normal(2, 2)],
     lambda t, *x: t.cat(x, -1))  # fmt: skip
case("concatenate constant", lambda a, b: ops.concatenate([a, np.ones((2, 2)), b], 1), [normal(2, 1), normal(2, 3)])
case("stack", lambda a, b: ops.stack([a, b]), [normal(2, 3), normal(2, 3)], lambda t, *x: t.stack(x))
case("stack middle", lambda a, b, c: ops.stack([a, b, c], axis=1), [normal(2, 3)] * 3, lambda t, *x: t.stack(x, 1))
case("stack last", lambda a, b: ops.stack((a, b), axis=-1), [normal(3), normal(3)], lambda t, *x: t.stack(x, -1))
case("split", lambda x: ops.multiply(*ops.split(x, 2, axis=1)), [normal(3, 4)],
     lambda t, x: t.multiply(*x.split(2, 1)))  # fmt: skip
case("split indices", lambda x: ops.concatenate(ops.split(x, [1, 3], axis=-1)[::-2], axis=1), [normal(2, 5)],
     lambda t, x: t.cat([x[:, 3:], x[:, :1]], 1))  # fmt: skip
case("pad", lambda x: ops.pad(x, ((1, 0), (2, 3))), [normal(2, 3)], lambda t, x: t.nn.functional.pad(x, (2, 3, 1, 0)))
case("pad value", lambda x: ops.pad(x, 1, constant_values=2.5), [normal(2, 3)],
     lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1), value=2.5))  # fmt: skip
case("pad pair", lambda x: ops.pad(x, (2, 1)), [normal(2, 3)], lambda t, x: t.nn.functional.pad(x, (2, 1, 2, 1)))
case("pad dictionary", lambda x: ops.pad(x, {-1: (1, 2)}), [normal(2, 3)],
     lambda t, x: t.nn.functional.pad(x, (1, 2)))  # fmt: skip
for mode, theirs in (("reflect", "reflect"), ("edge", "replicate"), ("wrap", "circular")):
    case(f"pad {mode}", lambda x, m=mode: ops.pad(x, ((0, 0), (2, 0), (1, 3)), m), [normal(2, 3, 4)],
         lambda t, x, m=theirs: t.nn.functional.pad(x[None], (1, 3, 2, 0), m)[0])  # fmt: skip
case("pad symmetric", lambda x: ops.pad(x, (1, 2), mode="symmetric"), [normal(2, 3)],
     lambda t, x: x[[0, 0, 1, 1, 0]][:, [0, 0, 1, 2, 2, 1]])  # fmt: skip
case("pad edge far", lambda x: ops.pad(x, {0: 3}, "edge"), [normal(1, 2)], lambda t, x: x.expand(7, 2))
case("pad nothing", lambda x: ops.pad(x, 0, "wrap"), [normal(2, 3)], lambda t, x: x * 1)
case("flip", ops.flip, [normal(2, 3)], lambda t, x: x.flip((0, 1)))
case("flip axis", lambda x: ops.flip(x, 1), [normal(2, 3)], lambda t, x: x.flip(1))
case("flip axes", lambda x: ops.flip(x, (0, -1)), [normal(2, 3, 2)], lambda t, x: x.flip((0, -1)))
case("roll", lambda x: ops.roll(x, 2), [normal(2, 4)], lambda t, x: x.roll(2))
case("roll axis", lambda x: ops.roll(x, -1, axis=0), [normal(3, 2)], lambda t, x: x.roll(-1, 0))
case("roll axes", lambda x: ops.roll(x, (1, -2), axis=(0, 1)), [normal(3, 4)], lambda t, x: x.roll((1, -2), (0, 1)))
case("diagonal", ops.diagonal, [normal(3, 4)], lambda t, x: x.diagonal())
case("diagonal axes", lambda x: ops.diagonal(x, 2, 0), [normal(3, 2, 4)], lambda t, x: x.diagonal(0, 2, 0))
case("diagonal negative", lambda x: ops.diagonal(x, -2, -1), [normal(2, 4, 3)], lambda t, x: x.diagonal(0, -2, -1))

ROWS, COLUMNS = np.array([0, 2, 0, 0, -1]), np.array([1, 1, 3, 1, 0])
PICK = np.array([[True, False, False, True], [False] * 4, [True] * 4])
INDICES: dict[str, Any] = {
    "integer": 1, "negative": -1, "slice": slice(None, None, 2), "none": (None, slice(1, 3)), "dots": (..., 0),
    "both": (1, slice(1, None)), "element": (2, 3), "list": [2, 0], "repeats": ROWS, "pairs": (ROWS, COLUMNS),
    "mixed": (slice(None), COLUMNS), "outer": (ROWS[:2, None], COLUMNS[None, :3]), "mask": PICK,
    "row mask": np.array([True, False, True]), "empty": slice(2, 2), "no rows": np.array([], int),
    "bools": [True, 0 > 1, True],
}  # fmt: skip
for name, index in INDICES.items():
    case(f"getitem {name}", lambda x, i=index: x[i], [normal(3, 4)],
         lambda t, x, i=index: x[tuple(map(t.as_tensor, i)) if isinstance(i, tuple) and isinstance(i[0], np.ndarray)
                                 else t.as_tensor(i) if isinstance(i, np.ndarray | list) else i])  # fmt: skip
case("getitem middle", lambda x: x[:, [1, 0, 1]], [normal(2, 3, 4)], lambda t, x: x[:, [1, 0, 1]])
case("getitem reversed", lambda x: x[::-1, ::-2], [normal(3, 4)], lambda t, x: x.flip((0, 1))[:, ::2])
case("getitem tuples", lambda x: x[(0, 0, 2), :], [normal(3, 4)], lambda t, x: x[[0, 0, 2], :])

# ------------------------------------------------------------------------------------------ linalg

for name, (left, right) in {
    "": ((2, 3), (3, 4)), " vector row": ((3,), (3, 4)), " vector column": ((2, 3), (3,)), " vectors": ((3,), (3,)),
    " batch": ((2, 2, 3), (2, 3, 4)), " one right": ((2, 2, 3), (3, 4)), " one left": ((2, 3), (2, 3, 2)),
    " broadcast": ((3, 1, 2, 3), (2, 3, 2)), " ones": ((1, 2, 3), (4, 3, 1)), " batch vector": ((2, 2, 3), (3,)),
    " vector batch": ((3,), (2, 3, 2)), " one by one": ((1, 1), (1, 1)), " 4d one right": ((2, 1, 2, 3), (3, 2)),
}.items():  # fmt: skip
    case("matmul" + name, ops.matmul, [normal(*left), normal(*right)], lambda t, a, b: t.matmul(a, b))
case("matmul transposed", lambda a, b: a.T @ b.T, [normal(3, 2), normal(4, 3)], lambda t, a, b: a.T @ b.T)
case("matmul twice", lambda x: ops.matmul(x, x), [normal(3, 3)], lambda t, x: x @ x)
case("outer", ops.outer, [normal(3), normal(4)], lambda t, a, b: t.outer(a, b))
case("outer flattened", ops.outer, [normal(2, 2), normal(3)], lambda t, a, b: t.outer(a.reshape(-1), b))

for text, shapes in {
    "ij,jk->ik": ((2, 3), (3, 4)), "ij,jk": ((2, 3), (3, 4)), "bij,bjk->bik": ((2, 2, 3), (2, 3, 2)),
    "ij->ji": ((2, 3),), "ij->": ((2, 3),), "ij->j": ((2, 3),), "ii->i": ((3, 3),), "ii": ((3, 3),),
    "i,i->": ((4,), (4,)), "i,j->ij": ((2,), (3,)), "ij,ij->ij": ((2, 3), (2, 3)), "ij,ij->i": ((2, 3), (2, 3)),
    "...ij,...jk->...ik": ((2, 1, 2, 3), (3, 3, 2)), "i...->...": ((2, 3, 2),),
    "ij,jk,kl->il": ((2, 3), (3, 2), (2, 3)),
    "bn,anm,bm->ba": ((2, 3), (2, 3, 2), (2, 2)), "ijk,k->ji": ((2, 3, 4), (4,)), "iij,j->ij": ((2, 2, 3), (3,)),
    "iji->j": ((2, 3, 2),), "ab,cd->bd": ((2, 3), (2, 2)), "b...,b->...": ((2, 3), (2,)), "i,i,i->i": ((3,),) * 3,
}.items():  # fmt: skip
    case(f"einsum {text}", lambda *x, s=text: ops.einsum(s, *x), [normal(*s) for s in shapes],
         lambda t, *x, s=text: t.einsum(s, *x))  # fmt: skip
case("einsum one broadcasts", lambda a, b: ops.einsum("ij,ij->ij", a, b), [normal(1, 3), normal(2, 3)],
     lambda t, a, b: a * b)  # fmt: skip
case("einsum one right", lambda a, b: ops.einsum("ij,ij->ij", a, b), [normal(2, 3), normal(1, 3)],
     lambda t, a, b: a * b)  # fmt: skip
case("einsum one inner right", lambda a, b: ops.einsum("ij,jk->ik", a, b), [normal(2, 3), normal(1, 2)],
     lambda t, a, b: a.sum(1, keepdim=True) @ b)  # fmt: skip
case("einsum one inner", lambda a, b: ops.einsum("ij,jk->ik", a, b), [normal(2, 1), normal(3, 2)],
     lambda t, a, b: a @ b.sum(0, keepdim=True))  # fmt: skip

for relu, name in ((False, "dense"), (True, "dense_relu")):

    def by_linear(t: Any, x: Any, w: Any, b: Any = None, relu: bool = relu) -> Any:
        y = t.nn.functional.linear(x, w, b)
        return t.relu(y) if relu else y

    fn = getattr(ops, name)
    case(name, fn, [signs(4, 3), scaled_signs(5, 3), uniform(-0.3, 0.3, 5)], by_linear)
    case(name + " no bias", fn, [signs(2, 3), scaled_signs(2, 3)], by_linear)
    case(name + " vector", fn, [signs(3), scaled_signs(2, 3), uniform(-0.3, 0.3, 2)], by_linear)
    case(name + " 3d", fn, [signs(2, 2, 3), scaled_signs(2, 3), uniform(-0.3, 0.3, 2)], by_linear)
    case(name + " one", fn, [signs(1, 1), scaled_signs(1, 1), uniform(-0.3, 0.3, 1)], by_linear)

# --------------------------------------------------------------------------------- losses, dropout

LABELS = np.array([2, 0, 1, 2, 2])
WEIGHT = np.array([0.5, 2.0, 1.25])
ENTROPY: dict[str, dict[str, Any]] = {
    "": {}, " sum": {"reduction": "sum"}, " none": {"reduction": "none"}, " weight": {"weight": WEIGHT},
    " ignore": {"ignore_index": 2}, " smooth": {"label_smoothing": 0.2},
    " all": {"weight": WEIGHT, "ignore_index": 0, "label_smoothing": 0.3},
    " all none": {"weight": WEIGHT, "ignore_index": 2, "label_smoothing": 0.3, "reduction": "none"},
    " all sum": {"weight": WEIGHT, "ignore_index": 1, "label_smoothing": 1.0, "reduction": "sum"},
}  # fmt: skip


def torch_arguments(t: Any, like: Any, how: dict[str, Any]) -> dict[str, Any]:
    return {k: t.tensor(v, dtype=like.dtype) if isinstance(v, np.ndarray) else v for k, v in how.items()}


for name, how in ENTROPY.items():
    case("softmax_cross_entropy" + name, lambda x, how=how: ops.softmax_cross_entropy(x, LABELS, **how), [normal(5, 3)],
         lambda t, x, how=how: t.nn.functional.cross_entropy(x, t.tensor(LABELS), **torch_arguments(t, x, how)),
        )  # fmt: skip
    if "label_smoothing" not in how:
        case("nll" + name, lambda x, how=how: ops.nll(x, LABELS, **how), [normal(5, 3)],
             lambda t, x, how=how: t.nn.functional.nll_loss(x, t.tensor(LABELS), **torch_arguments(t, x, how)),
        )  # fmt: skip
for name, how in ENTROPY.items():
    if "ignore_index" not in how:
        case("softmax_cross_entropy probabilities" + name,
             lambda x, p, how=how: ops.softmax_cross_entropy(x, p, **how), [normal(5, 3), uniform(0.1, 1, 5, 3)],
             lambda t, x, p, how=how: t.nn.functional.cross_entropy(x, p, **torch_arguments(t, x, how)),
        )  # fmt: skip
PIXELS = np.array([[[2, 0, 1], [2, 2, 1]], [[1, 1, 0], [0, 2, 0]]])
ONE_LABEL = np.array(1)
for shape, labels in (((2, 3, 2, 3), PIXELS), ((2, 3, 2), PIXELS[..., 0]), ((3,), ONE_LABEL)):
    for name, how in ENTROPY.items():
        name = f" {len(shape)}d{name}"
        case("softmax_cross_entropy" + name, lambda x, y=labels, how=how: ops.softmax_cross_entropy(x, y, **how),
             [normal(*shape)], lambda t, x, y=labels, how=how:
             t.nn.functional.cross_entropy(x, t.tensor(y), **torch_arguments(t, x, how)))  # fmt: skip
        if "label_smoothing" not in how:
            case("nll" + name, lambda x, y=labels, how=how: ops.nll(x, y, **how), [normal(*shape)],
                 lambda t, x, y=labels, how=how:
                 t.nn.functional.nll_loss(x.contiguous(), t.tensor(y), **torch_arguments(t, x, how)))  # fmt: skip
        if "ignore_index" not in how:
            case("softmax_cross_entropy probabilities" + name,
                 lambda x, p, how=how: ops.softmax_cross_entropy(x, p, **how),
                 [normal(*shape), uniform(0.1, 1, *shape)],
                 lambda t, x, p, how=how: t.nn.functional.cross_entropy(x, p, **torch_arguments(t, x, how)),
            )  # fmt: skip
for reduction in ("mean", "sum", "none"):
    for name, theirs in (("mse", "mse_loss"), ("l1", "l1_loss")):
        case(f"{name} {reduction}", lambda x, y, name=name, r=reduction: getattr(ops, name)(x, y, reduction=r),
             [apart(2, 3, step=0.6), lambda rng: apart(2, 3, step=0.6)(rng) + 0.3],
             lambda t, x, y, name=theirs, r=reduction: getattr(t.nn.functional, name)(x, y, reduction=r))  # fmt: skip
    for delta in (1.0, 0.5):  # differences are odd multiples of 0.3: 0.3, 0.9, 1.5, …
        case(f"huber {reduction} {delta}", lambda x, y, r=reduction, d=delta: ops.huber(x, y, r, d),
             [apart(2, 3, step=0.6), lambda rng: apart(2, 3, step=0.6)(rng) + 0.3],
             lambda t, x, y, r=reduction, d=delta: t.nn.functional.huber_loss(x, y, reduction=r, delta=d))  # fmt: skip
    case(f"binary_cross_entropy_with_logits {reduction}",
         lambda x, y, r=reduction: ops.binary_cross_entropy_with_logits(x, y, reduction=r),
         [lambda rng: 3 * apart(2, 3)(rng), uniform(0, 1, 2, 3)],
         lambda t, x, y, r=reduction: t.nn.functional.binary_cross_entropy_with_logits(x, y, reduction=r))  # fmt: skip
    how = {"weight": WEIGHT, "pos_weight": WEIGHT[::-1].copy(), "reduction": reduction}
    case(f"binary_cross_entropy_with_logits {reduction} weights",
         lambda x, y, how=how: ops.binary_cross_entropy_with_logits(x, y, **how), [apart(2, 3), uniform(0, 1, 2, 3)],
         lambda t, x, y, how=how:
         t.nn.functional.binary_cross_entropy_with_logits(x, y, **torch_arguments(t, x, how)),
        )  # fmt: skip
for reduction in ("mean", "sum", "none", "batchmean"):
    for logs in (False, True):
        case(f"kl_div {reduction}" + " log" * logs,
             lambda x, y, r=reduction, g=logs: ops.kl_div(x, y, reduction=r, log_target=g),
             [uniform(-3, -0.2, 2, 3), uniform(-2, -0.2, 2, 3) if logs else uniform(0.1, 0.9, 2, 3)],
             lambda t, x, y, r=reduction, g=logs: t.nn.functional.kl_div(x, y, reduction=r, log_target=g))  # fmt: skip
case("dropout", lambda x: ops.dropout(x, 0.4, True, np.random.default_rng(3)), [normal(3, 4)])
case("dropout off", lambda x: ops.dropout(x, 0.4, training=False), [normal(3, 4)], lambda t, x: x * 1)
case("dropout2d", lambda x: ops.dropout2d(x, 0.4, True, np.random.default_rng(3)), [normal(2, 3, 1, 2)])
case("dropout2d off", lambda x: ops.dropout2d(x, 0.4, training=False), [normal(3, 1, 2)], lambda t, x: x * 1)
case("dropout all", lambda x: ops.dropout(x, 1.0), [normal(3)], lambda t, x: x * 0)
