"""Bad input by table: the type of the error, and that it names the op, what was found and what was expected."""

import re

import numpy as np
import pytest

from minidl import Tensor, jit, ops

X = np.ones((2, 3))
Z = np.zeros((4, 3))
FLOAT_OPS = [
    *[
        "sqrt",
        "exp",
        "expm1",
        "log",
        "log2",
        "log1p",
        "sin",
        "cos",
        "tan",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "relu",
        "leaky_relu",
        "elu",
        "sigmoid",
        "silu",
        "softplus",
        "gelu",
        "softmax",
        "log_softmax",
        "mean",
        "var",
        "std",
        "prod",
        "cumsum",
        "logsumexp",
        "dropout",
    ]
]
WRONG_DTYPES = {
    "int": np.ones((2, 3), int),
    "bool": X > 0,
    "float16": X.astype(np.float16),
    "complex": X + 0j,
    "object": X.astype(object),
    "longdouble": X.astype(np.longdouble),
    "text": np.full((2, 3), "1"),
}


@pytest.mark.parametrize("kind", WRONG_DTYPES)
@pytest.mark.parametrize("name", FLOAT_OPS)
def test_float_ops_take_floats(name, kind):
    x = WRONG_DTYPES[kind]
    expected = rf"^{name}: expected x in float32 or float64, found {re.escape(str(x.dtype))} of shape \(2, 3\)"
    for given in (x, Tensor(x)):
        with pytest.raises(TypeError, match=expected):
            getattr(ops, name)(given)


TWO = {
    "matmul": (ops.matmul, "a", "b"),
    "outer": (ops.outer, "a", "b"),
    "dense": (ops.dense, "x", "weight"),
    "dense_relu": (ops.dense_relu, "x", "weight"),
    "mse": (ops.mse, "input", "target"),
    "l1": (ops.l1, "input", "target"),
    "huber": (ops.huber, "input", "target"),
    "kl_div": (ops.kl_div, "input", "target"),
    "binary_cross_entropy_with_logits": (ops.binary_cross_entropy_with_logits, "input", "target"),
}


@pytest.mark.parametrize("kind", ["int", "bool", "float16", "complex", "object"])
@pytest.mark.parametrize("name", TWO)
def test_float_pairs_take_floats(name, kind):
    fn, first, second = TWO[name]
    x = WRONG_DTYPES[kind]
    for arguments, which in (((x, X), first), ((X, x), second)):
        with pytest.raises(
            TypeError, match=rf"^{name}: expected {which} in float32 or float64, found {x.dtype} of shape"
        ):
            fn(*arguments)


def error(kind, pattern, fn, name=""):
    return pytest.param(fn, kind, pattern, id=name or None)


T, V, I = TypeError, ValueError, IndexError  # noqa: E741
CE, NLL, BCE = ops.softmax_cross_entropy, ops.nll, ops.binary_cross_entropy_with_logits
LABELS = np.array([0, 1, 2, 0])
TABLE = [
    # shapes that do not broadcast
    *(
        error(V, rf"^{n}: .*\(2,3\) \(2,\)", lambda n=n: getattr(ops, n)(X, np.ones(2)), f"{n} broadcast")
        for n in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "remainder", "floor_divide")
    ),
    error(V, r"^where: .*\(2,3\)", lambda: ops.where(X > 0, X, np.ones(2)), "where broadcast"),
    error(V, r"^clip: .*\(2,3\)", lambda: ops.clip(X, np.ones(2), None), "clip broadcast"),
    error(V, r"^broadcast_to: .*\(2,3\).*\(2,4\)", lambda: ops.broadcast_to(X, (2, 4))),
    error(
        V,
        r"^matmul: expected a \(…, M, K\) and b \(…, K, N\), found shapes \(2, 3\) and \(2, 3\)",
        lambda: ops.matmul(X, X),
    ),
    error(V, r"^matmul: .*\(3,\) and \(2,\)", lambda: ops.matmul(np.ones(3), np.ones(2))),
    error(
        V, r"^matmul: expected arrays of at least one axis, found shapes \(\) and \(2, 3\)", lambda: ops.matmul(1.0, X)
    ),
    error(V, r"^matmul: .*\(2,\).*\(3,\)", lambda: ops.matmul(np.ones((2, 2, 3)), np.ones((3, 3, 2)))),
    *(
        error(
            V,
            rf"^{n}: expected x \(…, I\) and weight \(O, I\), found shapes \(2, 3\) and \(3, 2\)",
            lambda n=n: getattr(ops, n)(X, X.T),
            f"{n} weight",
        )
        for n in ("dense", "dense_relu")
    ),
    error(V, r"^dense: expected x .*found shapes \(\) and \(2, 3\)", lambda: ops.dense(1.0, X)),
    error(V, r"^dense: expected x .*found shapes \(2, 3\) and \(3,\)", lambda: ops.dense(X, np.ones(3))),
    error(
        V, r"^dense: expected bias \(2,\), one for each output, found shape \(3,\)", lambda: ops.dense(X, X, np.ones(3))
    ),
    error(V, r"^dense: expected bias \(2,\).*found shape \(\)", lambda: ops.dense(X, X, 1.0)),
    error(V, r"^dense: expected bias \(2,\).*found shape \(1, 2\)", lambda: ops.dense(X, X, np.ones((1, 2)))),
    error(T, r"^dense: expected bias in float32 or float64, found int64", lambda: ops.dense(X, X, np.ones(2, int))),
    *(
        error(
            V,
            rf"^{n}: expected input and target of one shape, found \(4, 1\) and \(4,\)",
            lambda n=n: getattr(ops, n)(np.ones((4, 1)), np.ones(4)),
            f"{n} shapes",
        )
        for n in ("mse", "l1", "huber", "kl_div", "binary_cross_entropy_with_logits")
    ),
    error(
        T, r"^divide: expected a float among its inputs, found int64 and int64", lambda: ops.divide(np.ones(2, int), 2)
    ),
    error(V, r"^clip: expected min or max, found neither", lambda: ops.clip(X)),
    # labels
    *(
        error(*e, f"{n} labels {i}")
        for n, fn in (("softmax_cross_entropy", CE), ("nll", NLL))
        for i, e in enumerate(
            [
                (V, rf"^{n}: expected labels from 0 to 2, found 3 in row 1", lambda f=fn: f(Z, [0, 3, 0, 7])),
                (V, rf"^{n}: expected labels from 0 to 2, found 3 in row 2", lambda f=fn: f(Z, [0, 2, 3, 0])),
                (V, rf"^{n}: expected labels from 0 to 2, found -1 in row 3", lambda f=fn: f(Z, [0, 1, 0, -1])),
                (
                    V,
                    rf"^{n}: expected labels from 0 to 2, found -100 in row 0",
                    lambda f=fn: f(Z, [-100, 1, 0, 0], ignore_index=-1),
                ),
                (V, rf"^{n}: expected labels from 0 to 2, found {2**62} in row 2", lambda f=fn: f(Z, [0, 1, 2**62, 0])),
                (
                    T,
                    rf"^{n}: expected integer labels of shape \(4,\), found float64 of shape \(4,\)$",
                    lambda f=fn: f(Z, LABELS.astype(float)),
                ),
                (T, rf"^{n}: expected integer labels .*found bool", lambda f=fn: f(Z, LABELS > 0)),
                *(  # which `softmax_cross_entropy` takes for probabilities
                    (
                        T,
                        rf"^{n}: expected integer labels .*found float64 of shape \(4, 3\); from one-hot rows take",
                        lambda f=fn: f(Z, np.eye(3)[LABELS]),
                    ),
                )[: n == "nll"],
                (
                    V if n == "softmax_cross_entropy" else T,
                    rf"^{n}: expected .*labels .*found .*shape \(4, 2\)",
                    lambda f=fn: f(Z, np.eye(3)[LABELS][:, :2]),
                ),
                (
                    V,
                    rf"^{n}: expected labels of shape \(4,\).*found shape \(4, 3\)",
                    lambda f=fn: f(Z, np.eye(3, dtype=int)[LABELS]),
                ),
                (V, rf"^{n}: expected labels of shape \(4,\).*found shape \(3,\)", lambda f=fn: f(Z, LABELS[:3])),
                (
                    V,
                    rf"^{n}: expected labels of shape \(4,\).*found shape \(4, 1\)",
                    lambda f=fn: f(Z, LABELS[:, None]),
                ),
                (V, rf"^{n}: expected labels of shape \(4,\).*found shape \(\)", lambda f=fn: f(Z, 1)),
                (V, rf"^{n}: expected labels of shape \(\).*found shape \(1,\)", lambda f=fn: f(Z[0], [1])),
                (
                    V,
                    rf"^{n}: expected labels of shape \(4, 1\).*found shape \(4,\)",
                    lambda f=fn: f(Z[:, :, None], LABELS),
                ),
                (V, rf"^{n}: expected labels from 0 to 2, found 3$", lambda f=fn: f(Z[0], 3)),
                (
                    V,
                    rf"^{n}: expected labels from 0 to 2, found -1 in row \(1, 0\)",
                    lambda f=fn: f(Z.reshape(2, 3, 2), [[0, 2], [-1, 3]]),
                ),
                (
                    V,
                    rf"^{n}: expected labels from 0 to 2, found {2**64 - 100} in row 1",
                    lambda f=fn: f(Z, np.array([0, 2**64 - 100, 0, 0], np.uint64)),  # −100, were it cast
                ),
                (T, rf"^{n}: expected ignore_index as an int", lambda f=fn: f(Z, LABELS, ignore_index=1.0)),
                (T, rf"^{n}: expected ignore_index as an int", lambda f=fn: f(Z, LABELS, ignore_index=None)),
                (T, rf"^{n}: expected ignore_index as an int", lambda f=fn: f(Z, LABELS, ignore_index=1 << 63)),
                (V, rf"^{n}: expected l\w+ \(N, C\), .* found shape \(\)", lambda f=fn: f(np.float64(1), 1)),
                (V, rf"^{n}: expected l\w+ \(N, C\), .* found shape \(0,\)", lambda f=fn: f(Z[0, :0], 1)),
                (V, rf"^{n}: expected l\w+ \(N, C\), .* found shape \(4, 0\)", lambda f=fn: f(Z[:, :0], LABELS)),
                (
                    V,
                    rf"^{n}: expected l\w+ \(N, C\), .* found shape \(4, 0, 1\)",
                    lambda f=fn: f(Z[:, :0, None], LABELS),
                ),
                (T, rf"^{n}: expected l\w+ in float32 or float64, found int64", lambda f=fn: f(Z.astype(int), LABELS)),
                (
                    V,
                    rf"^{n}: expected weight of shape \(3,\), one for each class, found shape \(4,\)",
                    lambda f=fn: f(Z, LABELS, weight=np.ones(4)),
                ),
                (
                    V,
                    rf"^{n}: expected weight of shape \(3,\).*found shape \(3, 1\)",
                    lambda f=fn: f(Z, LABELS, weight=np.ones((3, 1))),
                ),
                (
                    T,
                    rf"^{n}: expected weight in float32 or float64, found int64",
                    lambda f=fn: f(Z, LABELS, weight=np.ones(3, int)),
                ),
                (
                    V,
                    rf"^{n}: expected at least one element to take the mean of, found shape \(0, 3\)",
                    lambda f=fn: f(Z[:0], LABELS[:0]),
                ),
                (
                    V,
                    rf'^{n}: expected reduction "none", "mean" or "sum", found \'average\'',
                    lambda f=fn: f(Z, LABELS, reduction="average"),
                ),
            ]
        )
    ),
    *(
        error(
            V,
            rf"^softmax_cross_entropy: expected label_smoothing from 0 to 1, found {e}",
            lambda e=e: CE(Z, LABELS, label_smoothing=e),
            f"smoothing {e}",
        )
        for e in (-0.1, 1.1, float("nan"))
    ),
    # the other losses
    *(
        error(
            V,
            rf'^{n}: expected reduction "none", "mean" or "sum", found \'batch\'',
            lambda n=n: getattr(ops, n)(X, X, reduction="batch"),
            f"{n} reduction",
        )
        for n in ("mse", "l1", "huber", "kl_div", "binary_cross_entropy_with_logits")
    ),
    *(
        error(
            V,
            rf"^{n}: expected at least one element to take the mean of, found shape \(0, 3\)",
            lambda n=n: getattr(ops, n)(X[:0], X[:0]),
            f"{n} empty",
        )
        for n in ("mse", "l1", "huber", "kl_div", "binary_cross_entropy_with_logits")
    ),
    *(
        error(V, rf"^huber: expected delta > 0, found {d}", lambda d=d: ops.huber(X, X, delta=d), f"delta {d}")
        for d in (0, -1.0, float("nan"))
    ),
    error(
        V,
        r"^kl_div: expected a batch to take the mean over, found shape \(\)",
        lambda: ops.kl_div(1.0, 1.0, "batchmean"),
    ),
    error(V, r"^kl_div: expected a batch .*found shape \(0, 3\)", lambda: ops.kl_div(X[:0], X[:0], "batchmean")),
    error(
        V,
        r"^binary_cross_entropy_with_logits: expected weights .* \(2, 3\), found shapes \(4, 2, 3\) and \(\)",
        lambda: BCE(X, X, np.ones((4, 2, 3))),
    ),
    error(V, r"^binary_cross_entropy_with_logits: .*\(2,\)", lambda: BCE(X, X, pos_weight=np.ones(2))),
    error(T, r"^binary_cross_entropy_with_logits: expected weight in float", lambda: BCE(X, X, np.ones(3, int))),
    error(
        T,
        r"^binary_cross_entropy_with_logits: expected pos_weight in float",
        lambda: BCE(X, X, pos_weight=np.ones(3, int)),
    ),
    # axes
    *(
        error(
            V,
            rf"^{n}: .*axis 2 is out of bounds for array of dimension 2",
            lambda n=n: getattr(ops, n)(X, axis=2),
            f"{n} axis",
        )
        for n in ("sum", "mean", "var", "std", "max", "min", "prod", "cumsum", "logsumexp", "flip")
    ),
    *(
        error(V, rf"^{n}: .*(repeated|duplicate)", lambda n=n: getattr(ops, n)(X, axis=(0, -2)), f"{n} repeated axis")
        for n in ("sum", "mean", "var", "std", "max", "min", "prod", "logsumexp", "flip")
    ),
    *(
        error(
            (V, I),
            rf"^{n}: .*{d} is out of bounds for array of dimension 2",
            lambda n=n, d=d: getattr(ops, n)(X, dim=d),
            f"{n} dim {d}",
        )
        for n in ("softmax", "log_softmax")
        for d in (2, -3)
    ),
    error(V, r"^split: axis 3 is out of bounds for array of dimension 2", lambda: ops.split(X, 2, axis=3)),
    error(V, r"^split: expected sections that divide axis 1 of \(2, 3\), found 2", lambda: ops.split(X, 2, axis=1)),
    error(V, r"^split: expected sections .*found 0", lambda: ops.split(X, 0)),
    *(
        error(V, rf"^{n}: .*axis 5 is out of bounds", f, f"{n} axis")
        for n, f in {
            "concatenate": lambda: ops.concatenate([X, X], 5),
            "stack": lambda: ops.stack([X, X], 5),
            "expand_dims": lambda: ops.expand_dims(X, 5),
            "squeeze": lambda: ops.squeeze(X, 5),
            "roll": lambda: ops.roll(X, 1, 5),
        }.items()
    ),
    error(V, r"^swapaxes: .*axis2.* 5 is out of bounds", lambda: ops.swapaxes(X, 0, 5)),
    error(V, r"^moveaxis: .*5 is out of bounds", lambda: ops.moveaxis(X, 0, 5)),
    error(V, r"^transpose: .*axes", lambda: ops.transpose(X, (0, 0))),
    error(V, r"^transpose: .*axes", lambda: ops.transpose(X, (0,))),
    error(V, r"^diagonal: ", lambda: ops.diagonal(np.ones(3))),
    *(
        error(
            V,
            rf"^{n}: expected at least one element along (axis|dim) .*, found shape \(0, 3\)",
            lambda n=n: getattr(ops, n)(X[:0], 0),
            f"{n} of nothing",
        )
        for n in ("mean", "var", "std", "max", "min", "logsumexp", "softmax", "log_softmax")
    ),
    error(
        V, r"^var: expected more than ddof=2 elements along axis \(0,\), found shape \(2, 3\)", lambda: ops.var(X, 0, 2)
    ),
    error(V, r"^std: expected more than ddof=1 elements", lambda: ops.std(X[:1], 0, 1)),
    # shapes
    error(V, r"^reshape: .*size 6 into shape \(4,2\)", lambda: ops.reshape(X, (4, 2))),
    error(V, r"^reshape: .*one unknown dimension", lambda: ops.reshape(X, (-1, -1))),
    error(
        V, r"^squeeze: cannot select an axis to squeeze out which has size not equal to one", lambda: ops.squeeze(X, 0)
    ),
    error(V, r"^concatenate: .*index 0 has size 3.*index 1 has size 2", lambda: ops.concatenate([X, X.T])),
    error(V, r"^concatenate: need at least one array", lambda: ops.concatenate([])),
    error(V, r"^stack: all input arrays must have the same shape", lambda: ops.stack([X, X.T])),
    error(V, r"^pad: .*", lambda: ops.pad(X, -1)),
    error(V, r"^pad: expected mode as one of constant, edge, .*found 'replicate'", lambda: ops.pad(X, 1, "replicate")),
    error(T, r"^pad: expected pad_width in integers, found 1.5", lambda: ops.pad(X, 1.5)),
    error(T, r"^pad: expected pad_width in integers, found None", lambda: ops.pad(X, None)),
    error(T, r"^pad: expected pad_width in integers, found \{0: 1.5\}", lambda: ops.pad(X, {0: 1.5})),
    error(V, r"^pad: expected pad_width of at least 0, found \{-1: -2\}", lambda: ops.pad(X, {-1: -2})),
    error(V, r"^pad: .*of 2 axes, found \{2: 1\}", lambda: ops.pad(X, {2: 1})),
    error(V, r"^pad: .*of 2 axes, found \{0: \(1, 2, 3\)\}", lambda: ops.pad(X, {0: (1, 2, 3)})),
    error(V, r"^pad: expected elements along axis 1 .*\(2, 0\)", lambda: ops.pad(X[:, :0], {1: 1}, "wrap")),
    error(V, r"^pad: .*broadcast", lambda: ops.pad(X, ((1, 1),) * 3)),
    error(I, r"^getitem: index 2 is out of bounds for axis 0 with size 2", lambda: Tensor(X)[2]),
    error(I, r"^getitem: too many indices", lambda: Tensor(X)[0, 0, 0]),
    error(I, r"^getitem: boolean index did not match", lambda: Tensor(X)[np.ones(3, bool)]),
    error(I, r"^getitem: .*integer", lambda: Tensor(X)[1.0]),
    # einsum
    *(
        error(V, rf"^einsum: .*{p}", lambda s=s, x=x: ops.einsum(s, *x), f"einsum {s} {i}")
        for i, (s, x, p) in enumerate(
            [
                ("ij,jk->ik", (X, X), "index 'j'.*3 in one operand, 2 in another"),
                ("ij->ij", (X, X), "names 1 operands, found 2"),
                ("ij,jk", (X,), "names 2 operands, found 1"),
                ("ijk->ij", (X,), r"does not fit an operand of shape \(2, 3\)"),
                ("i->i", (X,), "does not fit"),
                ("ij->ik", (X,), "output .*needs indices of the operands"),
                ("ij->ii", (X,), "each once"),
                ("i1->i", (X,), "does not fit"),
                ("ii->i", (X[:1],), "index 'i' is 1 and 3 in one operand"),
                ("ii->i", (X,), "2 .*3 in one operand|'i'"),
                ("i.j->ij", (X,), "does not fit"),
                ("", (X,), "does not fit"),
                ("ijk...->i", (X,), "does not fit"),
            ]
        )
    ),
    error(T, r"^\w+: expected .* in float32 or float64, found int64", lambda: ops.einsum("ij,jk", X.astype(int), X.T)),
    # the rest
    *(
        error(
            V,
            rf"^dropout: expected a probability p from 0 to 1, found {p}",
            lambda p=p: ops.dropout(X, p),
            f"dropout {p}",
        )
        for p in (-0.1, 1.5, float("nan"))
    ),
    error(V, r"^gelu: expected approximate \"none\" or \"tanh\", found 'erf'", lambda: ops.gelu(X, "erf")),
    error(T, r"^exp: ", lambda: ops.exp(None)),
    error(T, r"^exp: ", lambda: ops.exp("1")),
    error(T, r"^add: ", lambda: ops.add(X)),
    error(T, r"^sum: .*axes", lambda: ops.sum(X, axes=1)),
]


@pytest.mark.parametrize(("fn", "kind", "pattern"), TABLE)
def test_bad_input(fn, kind, pattern, monkeypatch):
    """And the error comes before any kernel has run: compiled loops would read foreign memory."""
    monkeypatch.setattr(jit.Kernel, "__call__", lambda *_: pytest.fail("a kernel ran"))
    with pytest.raises(kind, match=pattern):
        fn()


def test_a_ragged_gradient_is_an_error_of_backward():
    x = Tensor(X, requires_grad=True)
    with pytest.raises(ValueError, match=r"backward: expected a grad of shape \(2, 3\), found \(3,\)"):
        ops.exp(x).backward(np.ones(3))


def test_labels_of_every_integer_type():
    expected = CE(Z, LABELS).data
    for dtype in "bBhHiIlLqQ":
        np.testing.assert_array_equal(CE(Z, LABELS.astype(dtype)).data, expected)
    np.testing.assert_array_equal(CE(Z, LABELS.astype(">i4")).data, expected)
    np.testing.assert_array_equal(CE(Z, np.repeat(LABELS, 2)[::2]).data, expected)
    np.testing.assert_array_equal(CE(Z, LABELS.tolist()).data, expected)
    np.testing.assert_array_equal(CE(Z, Tensor(LABELS)).data, expected)


READERS = {  # (op, integers that say where it reads, the bound of these)
    "softmax_cross_entropy": (lambda x, i: CE(x, i), Z, 3),
    "nll": (lambda x, i: NLL(x, i), Z, 3),
    "embedding": (lambda x, i: ops.embedding(i, x), np.zeros((3, 2)), 3),
    "recurrent": (
        lambda x, i: ops.recurrent(
            x, np.zeros((1, 1)), np.zeros(1), np.zeros((4, 1)), np.zeros((4, 1)), "tanh", False, i
        ),
        np.zeros((2, 4, 1)),
        3,
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_integers_that_say_where_to_read_are_checked_and_kept(name):
    """Each kind of wrong integer, and a backward pass after the caller wrote wrong ones into the very array."""
    fn, x, bound = READERS[name]
    for wrong in ([-1], [bound], [-(2**63)], [2**63 - 1], np.array([2**64 - 1], np.uint64), [1.0], [True], [2**70]):
        indices = np.resize(np.asarray(wrong), 4)
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected"):
            fn(x, indices)
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected"):
        fn(x, np.zeros((4, 1), np.float32))
    right = np.array([0, 1, 2, 1])
    strided, frozen = np.repeat(right, 2)[::2], right.copy()
    frozen.flags.writeable = False
    expected = None
    for indices in (right.copy(), right.tolist(), strided, frozen, right.astype(np.uint64), right.astype(">i2")):
        t = Tensor(x, requires_grad=True)
        y = fn(t, indices)
        if isinstance(indices, np.ndarray) and indices.flags.writeable:
            indices[:] = 127
        y.backward(np.ones(y.shape))
        expected = t.grad if expected is None else expected
        np.testing.assert_array_equal(t.grad, expected)
    assert name == "recurrent" or expected.any()


def test_options_of_recurrent_and_embedding():
    z, h = np.zeros((2, 4, 1)), np.zeros((4, 1))
    with pytest.raises(ValueError, match=r"^recurrent: expected cell as one of tanh, relu, lstm, gru, found 'elman'"):
        ops.recurrent(z, np.zeros((1, 1)), np.zeros(1), h, h, "elman")
    for lengths in ([1], [1, 2, 1, 2, 1]):
        with pytest.raises(ValueError, match=r"^recurrent: expected lengths \(4,\) of integers"):
            ops.recurrent(z, np.zeros((1, 1)), np.zeros(1), h, h, "tanh", False, lengths)
    for padding in (1.0, True):
        with pytest.raises(TypeError, match=r"^embedding: expected padding_idx as an int"):
            ops.embedding([0], X, padding)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_pad_takes_what_numpys_takes(mode):
    """Widths of every form; and the gradient is the adjoint."""
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 2, 3, 4))
    widths = [1, 0, (1,), (1, 2), [2, 0], ((1, 2),), ((1, 2), (0, 1), (3, 7)), ((1,), (2,), (0,)), np.array([[1, 2]])]
    for given, plain in [(w, w) for w in widths] + [
        ({0: (1, 2)}, ((1, 2), (0, 0), (0, 0))),
        ({-1: 5, 0: [0, 2]}, ((0, 2), (0, 0), (5, 5))),
        ({}, 0),
        (np.uint8(2), 2),
    ]:
        expected = np.pad(x, plain, mode)
        t = Tensor(x, requires_grad=True)
        y = ops.pad(t, given, mode)
        np.testing.assert_array_equal(y.data, expected)
        np.testing.assert_array_equal(ops.pad(x, pad_width=given, mode=mode).data, expected)
        dy = rng.normal(size=y.shape)
        y.backward(dy)
        np.testing.assert_allclose((t.grad * v).sum(), (dy * np.pad(v, plain, mode)).sum(), rtol=1e-9)
    assert ops.pad(np.arange(3), 1, mode).dtype == int
    assert ops.pad(2.0, 1, mode).data == 2.0
    np.testing.assert_array_equal(ops.pad(x, 1, 2.5).data, np.pad(x, 1, constant_values=2.5))
