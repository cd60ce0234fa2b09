"""Convolution and pooling: PyTorch's whole argument grid, ties and NaN, threads, state dicts, bad input."""

import itertools

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.jit import interpreted
from minidl.ops.conv_kernels import conv2d_forward
from minidl.ops.conv_naive import seven_loops

try:
    import torch

    F = torch.nn.functional
except ImportError:
    torch = F = None
oracle = pytest.mark.skipif(torch is None, reason="PyTorch is the oracle of this test, not a dependency")
X = np.ones((2, 4, 5, 6))
W = np.ones((6, 2, 3, 3))


def arrays(*shapes, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def results(fn, *inputs, grad):
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(grad)
    return [y.data, *(t.grad for t in tensors)]


def torch_results(fn, *inputs, grad):
    tensors = [torch.tensor(np.ascontiguousarray(x), requires_grad=True) for x in inputs]
    y = fn(*tensors)
    y.backward(torch.tensor(grad))
    return [y.detach().numpy(), *(t.grad.numpy() for t in tensors)]


def agree(ours, theirs, *inputs):
    """To 1e-10, or both refuse."""
    try:
        shape = theirs(*map(torch.tensor, inputs)).shape
    except RuntimeError:
        with pytest.raises(ValueError, match="expected"):
            ours(*inputs)
        return
    grad = arrays(shape, seed=1)[0]
    expected = torch_results(theirs, *inputs, grad=grad)
    turned = [np.asarray(x.T, order="C").T for x in inputs]  # the same values, not contiguous
    for given in (inputs, turned):
        for found, right in zip(results(ours, *given, grad=grad), expected, strict=True):
            assert found.shape == right.shape
            np.testing.assert_allclose(found, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("geometry", [((1, 1), (1, 1), (0, 0)), ((2, 3), (1, 1), (1, 2)), ((1, 2), (2, 1), (2, 0))])
def test_the_naive_convolution_is_the_fast_one(geometry, groups, dtype):
    stride, dilation, padding = geometry
    x, w, b = arrays((2, 4, 6, 7), (8, 4 // groups, 2, 3), (8,), dtype=dtype)
    expected = ops.conv2d(x, w, b, stride, padding, dilation, groups).data
    y = np.full(expected.shape, np.nan, dtype)
    seven_loops(x, w, b, np.array([*stride, *dilation, *padding, groups]), y)
    np.testing.assert_allclose(y, expected, rtol=1e-4 if dtype == "float32" else 1e-12, atol=64 * np.finfo(dtype).eps)
    with conv2d_forward.replaced_by(seven_loops):
        np.testing.assert_array_equal(ops.conv2d(x, w, b, stride, padding, dilation, groups).data, y)


KERNELS = ((3, 3), (1, 1), (2, 3), (1, 4))
SIZES = ((2, 4, 6, 2), (1, 1, 3, 1), (3, 3, 3, 3), (1, 5, 26, 1), (0, 2, 2, 1))  # images, channels, outputs, groups


@oracle
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.skipif(interpreted(), reason="a thousand convolutions take long where kernels are plain Python")
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_conv2d_is_pytorchs(sizes, kernel):
    images, channels, outputs, groups = sizes
    for size, s, p, d in itertools.product(
        ((7, 9), (5, 5), (1, 6)), (1, 2, (3, 1)), (0, 1, (2, 0), "same"), (1, 2, (1, 3))
    ):
        inputs = arrays((images, channels, *size), (outputs, channels // groups, *kernel), (outputs,))
        if p != "same" or s == 1:
            agree(
                lambda x, w, b, s=s, p=p, d=d: ops.conv2d(x, w, b, s, p, d, groups),
                lambda x, w, b, s=s, p=p, d=d: F.conv2d(x, w, b, s, p, d, groups),
                *inputs,
            )


@oracle
@pytest.mark.skipif(interpreted(), reason="hundreds of convolutions take long where kernels are plain Python")
@pytest.mark.parametrize("sizes", SIZES[:4])
def test_conv_transpose2d_is_pytorchs(sizes):
    images, channels, outputs, groups = sizes
    if outputs == 26:
        outputs = 3
    for size, kernel, s, p, d, more in itertools.product(
        ((4, 5), (1, 3)), KERNELS[:3], (1, 2, (3, 1)), (0, 1, (2, 0)), (1, 2), (0, 1)
    ):
        agree(
            lambda x, w, b, s=s, p=p, d=d, more=more: ops.conv_transpose2d(x, w, b, s, p, more, groups, d),
            lambda x, w, b, s=s, p=p, d=d, more=more: F.conv_transpose2d(x, w, b, s, p, more, groups, d),
            *arrays((images, channels, *size), (channels, outputs // groups, *kernel), (outputs,)),
        )


@oracle
@pytest.mark.skipif(interpreted(), reason="thousands of windows take long where kernels are plain Python")
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (1, 1, 4, 4), (3, 5, 6), (2, 2, 2, 5)])
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_is_pytorchs(shape, ties):
    x = arrays(shape)[0]
    x = np.round(x) if ties else x
    for k, s, p, ceil in itertools.product((2, 3, (1, 2), (3, 2)), (None, 1, 2, (3, 1)), (0, 1, (1, 0)), (False, True)):
        for d in (1, 2):
            if np.any(np.multiply(k, 0) + shape[-2:] + 2 * np.array(p) > 2 * (np.multiply(k, 1) - 1) * (d - 1)):
                agree(
                    lambda x, k=k, s=s, p=p, d=d, c=ceil: ops.max_pool2d(x, k, s, p, d, c),
                    lambda x, k=k, s=s, p=p, d=d, c=ceil: F.max_pool2d(x, k, s, p, d, c),
                    x,
                )
        for include, divisor in ((True, None), (False, None), (True, 3)):
            agree(
                lambda x, k=k, s=s, p=p, c=ceil, i=include, v=divisor: ops.avg_pool2d(x, k, s, p, c, i, v),
                lambda x, k=k, s=s, p=p, c=ceil, i=include, v=divisor: F.avg_pool2d(x, k, s, p, c, i, v),
                x,
            )
    for size in (1, 2, (3, None), (5, 4), (9, 9)):
        agree(lambda x, o=size: ops.adaptive_avg_pool2d(x, o), lambda x, o=size: F.adaptive_avg_pool2d(x, o), x)


@oracle
@pytest.mark.skipif(interpreted(), reason="large convolutions take long where kernels are plain Python")
@pytest.mark.parametrize("stride", [1, 2])
def test_float32_error_is_at_most_twice_pytorchs(stride):
    inputs = arrays((4, 20, 17, 19), (33, 20, 3, 3), (33,))
    grad = arrays(F.conv2d(*map(torch.tensor, inputs), stride).shape, seed=1)[0]
    right = torch_results(lambda *t: F.conv2d(*t, stride), *inputs, grad=grad)
    small = [x.astype(np.float32) for x in inputs]
    ours = results(lambda *t: ops.conv2d(*t, stride), *small, grad=grad.astype(np.float32))
    theirs = torch_results(lambda *t: F.conv2d(*t, stride), *small, grad=grad.astype(np.float32))
    for a, b, c in zip(ours, theirs, right, strict=True):
        assert a.dtype == np.float32
        assert np.abs(a - c).max() <= 2 * max(np.abs(b - c).max(), np.spacing(np.float32(np.abs(c).max())))


def test_the_first_of_equal_values_is_the_largest():
    x = Tensor(np.ones((1, 1, 4, 4)), requires_grad=True)
    ops.max_pool2d(x, 2).backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]))
    np.testing.assert_array_equal(x.grad[0, 0, ::2, ::2], [[1, 2], [3, 4]])
    assert x.grad.sum() == 10


@pytest.mark.parametrize("stride", [2, 1])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_nan_is_the_largest(place, stride):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, place // 2, place % 2] = np.nan
    x = Tensor(x, requires_grad=True)
    y = ops.max_pool2d(x, 2, stride)
    assert np.isnan(y.data[0, 0, 0, 0])
    assert y.data[0, 0, -1, -1] == 15
    y.backward(np.ones(y.shape))
    assert x.grad[0, 0, place // 2, place % 2] >= 1


def test_infinities_are_values():
    x = np.array([[[[-np.inf, -np.inf, np.inf, 1], [-np.inf, -np.inf, np.inf, -np.inf]]]])
    np.testing.assert_array_equal(ops.max_pool2d(x, 2).data, [[[[-np.inf, np.inf]]]])


def test_bits_do_not_depend_on_the_number_of_threads():
    sizes = ((3, 2, 5, 5), (3, 2, 3, 3)) if interpreted() else ((37, 8, 21, 19), (16, 8, 3, 3))
    x, w = arrays(*sizes, dtype=np.float32)

    def run(x, w):
        y = ops.max_pool2d(ops.conv2d(x, w, stride=2, padding=1), 2, 1)
        return y + ops.avg_pool2d(ops.conv2d(x, w, stride=2, padding=1), 2, 1)

    grad = arrays(run(x, w).shape, seed=1, dtype=np.float32)[0]
    before = minidl.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            minidl.set_num_threads(threads)
            found.append(results(run, x, w, grad=grad))
    finally:
        minidl.set_num_threads(before)
    for a, b in zip(*found, strict=True):
        assert a.tobytes() == b.tobytes()


def test_dropout2d_drops_whole_channels():
    layer = nn.Dropout2d(0.4, generator=np.random.default_rng(0))
    y = layer(np.ones((50, 20, 2, 3))).data
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :, :1, :1], y.shape))
    assert set(np.unique(y).tolist()) == {0.0, 1 / (1 - 0.4)}
    assert 0.35 < (y == 0).mean() < 0.45
    np.testing.assert_array_equal(layer.eval()(np.ones((2, 3, 4, 4))).data, 1)


LAYERS = {
    "Conv2d": ((4, 6, (3, 2)), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 7, 6)),
    "Conv1d": ((4, 6, 3), {"padding": "same", "bias": False}, (2, 4, 7)),
    "ConvTranspose2d": ((4, 6, 3), {"stride": 2, "output_padding": 1}, (2, 4, 3, 4)),
    "MaxPool2d": ((3, 2, 1), {"ceil_mode": True}, (2, 4, 7, 6)),
    "AvgPool2d": ((3, 2, 1), {"count_include_pad": False}, (2, 4, 7, 6)),
    "AdaptiveAvgPool2d": (((2, 3),), {}, (2, 4, 7, 6)),
}


@oracle
@pytest.mark.parametrize("name", LAYERS)
def test_state_dicts_go_both_ways(name):
    args, how, shape = LAYERS[name]
    minidl.manual_seed(0)
    ours, theirs = getattr(nn, name)(*args, **how), getattr(torch.nn, name)(*args, **how)
    x = arrays(shape, dtype=np.float32)[0]
    for _ in range(2):
        assert {k: v.shape for k, v in ours.state_dict().items()} == {
            k: tuple(v.shape) for k, v in theirs.state_dict().items()
        }
        theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
        np.testing.assert_allclose(ours(x).data, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-5, atol=1e-6)
        theirs = getattr(torch.nn, name)(*args, **how)
        ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})


@pytest.mark.parametrize("name", ["Conv2d", "Conv1d", "ConvTranspose2d"])
def test_initial_values_are_uniform_on_one_over_root_fan_in(name):
    layer = getattr(nn, name)(8, 16, 3, dtype=np.float64, generator=np.random.default_rng(0))
    bound = 1 / np.sqrt(np.prod(layer.weight.shape[1:]))
    assert bound * 0.95 < np.abs(layer.weight.data).max() <= bound
    assert np.abs(layer.bias.data).max() <= bound
    assert layer.weight.dtype == np.float64
    assert "8, 16, kernel_size=(3" in repr(layer)


BAD = [
    (lambda: ops.conv2d(X, np.ones((6, 4, 7, 3))), ValueError, r"padded input \(5, 6\).*reaches over \(7, 3\)"),
    (lambda: ops.conv2d(X, np.ones((6, 4, 3, 3)), dilation=3), ValueError, r"reaches over \(7, 7\)"),
    (lambda: ops.conv2d(X, W, groups=3), ValueError, "3 groups divide, found 4 in and 6 out"),
    (lambda: ops.conv2d(X, W), ValueError, r"\(O, 4 / 1, KH, KW\).*\(6, 2, 3, 3\)"),
    (lambda: ops.conv2d(X[0, 0], W), ValueError, r"\(N, C, H, W\) or \(C, H, W\).*\(5, 6\)"),
    (lambda: ops.conv2d(X[0], W), ValueError, r"\(O, 4 / 1, KH, KW\).*\(6, 2, 3, 3\)"),
    (lambda: ops.conv2d(X, W[0]), ValueError, r"a weight of 4 axes.*\(2, 3, 3\)"),
    (lambda: ops.conv1d(X[0, 0, 0], W[0]), ValueError, r"\(N, C, L\) or \(C, L\).*\(6,\)"),
    (lambda: ops.conv_transpose2d(X[0, 0], W), ValueError, r"\(N, C, H, W\) or \(C, H, W\).*\(5, 6\)"),
    (lambda: ops.max_pool1d(X, 2), ValueError, r"\(N, C, L\) or \(C, L\), found shape \(2, 4, 5, 6\)"),
    (lambda: ops.max_pool1d(X[0], (2, 2)), ValueError, r"kernel_size as an int or 1 of them"),
    (lambda: ops.max_pool1d(X[0], 2, padding=2), ValueError, r"half of the kernel \(2,\), found \(2,\)"),
    (lambda: ops.avg_pool1d(X[0], 9), ValueError, "reaches over 9 of 6"),
    (lambda: ops.avg_pool1d(X[0].astype(int), 2), TypeError, "found int64"),
    (lambda: ops.adaptive_avg_pool1d(X[0], 0), ValueError, "output_size"),
    (
        lambda: ops.adaptive_avg_pool1d(X[0, :, :, :0], 1),
        ValueError,
        r"an image with elements, found shape \(4, 5, 0\)",
    ),
    (lambda: nn.Conv1d(4, 2, 3, padding_mode="mirror"), ValueError, "Conv1d: .* zeros, reflect, replicate, circular"),
    (
        lambda: nn.Conv2d(4, 2, 3, padding=(5, 0), padding_mode="reflect")(X),
        ValueError,
        r"reflect .* at most 4 .*found 5",
    ),
    (lambda: nn.Conv1d(4, 2, 3, padding=6, padding_mode="circular")(X[0, :, 0, :5]), ValueError, "at most 5 .*found 6"),
    (lambda: ops.conv2d(X, W[:, :, :0], groups=2), ValueError, "a weight with elements"),
    (lambda: ops.conv2d(X, W, np.ones(5), groups=2), ValueError, r"bias \(6,\).*\(5,\)"),
    (lambda: ops.conv2d(X, W, groups=2, stride=0), ValueError, "stride as an int or 2 of them, of at least 1, found 0"),
    (lambda: ops.conv2d(X, W, groups=2, stride=1.5), TypeError, "found 1.5"),
    (lambda: ops.conv2d(X, W, groups=2, padding=-1), ValueError, "of at least 0, found -1"),
    (lambda: ops.conv2d(X, W, groups=2, padding=(1, 2, 3)), ValueError, r"found \(1, 2, 3\)"),
    (lambda: ops.conv2d(X, W, groups=2, padding="full"), ValueError, "found 'full'"),
    (lambda: ops.conv2d(X, W, groups=2, padding="same", stride=2), ValueError, r"stride of 1.*found \(2, 2\)"),
    (lambda: ops.conv2d(X.astype(int), W, groups=2), TypeError, "float32 or float64, found int64"),
    (lambda: ops.conv1d(X, W), ValueError, r"\(N, C, L\)"),
    (lambda: ops.conv_transpose2d(X, W), ValueError, r"\(4, O / groups, KH, KW\).*\(6, 2, 3, 3\)"),
    (lambda: ops.conv_transpose2d(X, W[:4], output_padding=1), ValueError, r"below stride \(1, 1\).*found \(1, 1\)"),
    (lambda: ops.conv_transpose2d(X, W[:4], padding=4), ValueError, r"at least 1 × 1, found \(-1, 0\)"),
    (lambda: ops.max_pool2d(X, 2, padding=2), ValueError, r"half of the kernel \(2, 2\), found \(2, 2\)"),
    (lambda: ops.max_pool2d(X, 7), ValueError, "reaches over 7 of 5"),
    (lambda: ops.max_pool2d(X[0, 0], 2), ValueError, r"\(C, H, W\), found shape \(5, 6\)"),
    (lambda: ops.max_pool2d(X.astype(int), 2), TypeError, "found int64"),
    (lambda: ops.avg_pool2d(X, 2, divisor_override=0), ValueError, "other than 0"),
    (lambda: ops.avg_pool2d(X[:, :, :0], 1), ValueError, "of 0"),
    (lambda: ops.adaptive_avg_pool2d(X, 0), ValueError, "output_size"),
    (lambda: ops.adaptive_avg_pool2d(X, (1, 2, 3)), ValueError, "output_size"),
    (lambda: ops.adaptive_avg_pool2d(X[:, :, :0], 1), ValueError, "an image with elements"),
    (lambda: ops.dropout2d(X[0, 0]), ValueError, r"\(C, H, W\), found shape \(5, 6\)"),
    (lambda: ops.dropout2d(X, 1.5), ValueError, "from 0 to 1, found 1.5"),
    (lambda: nn.Conv2d(0, 1, 3), ValueError, "Conv2d: expected in_channels"),
    (lambda: nn.Conv2d(4, 6, 3, groups=4), ValueError, "4 groups divide, found 4 in and 6 out"),
    (lambda: nn.Conv2d(4, 6, 3, dtype=np.int32), TypeError, "Conv2d: expected dtype float32 or float64, found int32"),
]


@pytest.mark.parametrize(("call", "kind", "pattern"), BAD)
def test_bad_input(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


@pytest.mark.parametrize(("images", "channels", "outputs"), [(2, 163, 3), (1, 8192, 9), (8300, 1, 1)])
def test_what_is_added_up_in_parts(images, channels, outputs):
    """More terms than are added up at a time, more output channels than have their sums in cache, many images."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(images, channels, 1, 1)), rng.normal(size=(outputs, channels, 1, 1))
    dy = rng.normal(size=(images, outputs, 1, 1))
    tx, tw = Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)
    y = ops.conv2d(tx, tw)
    y.backward(dy)
    np.testing.assert_allclose(y.data, np.einsum("ncij,ocij->noij", x, w), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tw.grad, np.einsum("noij,ncij->ocij", dy, x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(tx.grad, np.einsum("noij,ocij->ncij", dy, w), rtol=1e-9, atol=1e-9)


def test_the_first_of_the_largest_whatever_the_window():
    x = Tensor(np.ones((1, 1, 5, 5)), requires_grad=True)
    ops.max_pool2d(x, 3, 2).sum().backward()
    expected = np.zeros((5, 5))
    expected[:3:2, :3:2] = 1
    np.testing.assert_array_equal(x.grad[0, 0], expected)


def test_no_window_begins_in_the_padding_behind():
    assert ops.max_pool2d(np.ones((1, 1, 3, 3)), 1, 3, ceil_mode=True).shape == (1, 1, 1, 1)
    assert ops.avg_pool2d(np.ones((1, 1, 3, 3)), 1, 3, ceil_mode=True).shape == (1, 1, 1, 1)


def same_layers(name, *args, **how):
    ours, theirs = getattr(nn, name)(*args, **how), getattr(torch.nn, name)(*args, **how)
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    return ours, theirs


def same_results(ours, theirs, x):
    """Values and the gradients of x and parameters, or both refuse."""
    theirs = theirs.double()
    theirs.zero_grad()
    for p in ours.parameters():
        p.data, p.grad = p.data.astype(np.float64), None
    a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    try:
        expected = theirs(b)
    except RuntimeError:
        with pytest.raises(ValueError, match="expected"):
            ours(a)
        return
    y, grad = ours(a), arrays(expected.shape, seed=2)[0]
    y.backward(grad)
    expected.backward(torch.tensor(grad))
    assert y.shape == tuple(expected.shape)
    pairs = [(y.data, expected.detach()), (a.grad, b.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for found, right in pairs:
        np.testing.assert_allclose(found, right.numpy(), rtol=1e-9, atol=1e-12)


@oracle
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("name", ["Conv1d", "Conv2d"])
def test_padding_modes_are_pytorchs(name, mode):
    dimensions = int(name[4])
    paddings = [0, 1, 2, 3, "same", "valid"] + [(2, 0), (0, 3), (5, 1)] * (dimensions == 2)
    for p, d, groups in itertools.product(paddings, (1, 2), (1, 2)):
        made = same_layers(name, 4, 2, 3, padding=p, dilation=d, groups=groups, padding_mode=mode)
        for size in ((7, 6), (5, 5), (2, 3)):
            for batch in ((2,), ()):
                same_results(*made, arrays((*batch, 4, *size[:dimensions]))[0])
    made = same_layers(name, 4, 2, 3, stride=2, padding=2, padding_mode=mode)
    same_results(*made, arrays((1, 4, 7, 6)[: dimensions + 2])[0])
    assert ("padding_mode" in repr(made[0])) == (mode != "zeros")


@oracle
def test_layers_of_one_image_are_pytorchs():
    for name, args in (
        ("Conv1d", (4, 2, 3)), ("Conv2d", (4, 2, 3)), ("ConvTranspose2d", (4, 2, 3)), ("MaxPool1d", (2,)),
        ("MaxPool1d", (3, 2, 1, 1)), ("MaxPool1d", (3, 1, 0, 2)), ("MaxPool1d", (3, 2, 0, 1, False)),
        ("MaxPool2d", (2,)), ("AvgPool1d", (2,)), ("AvgPool1d", (3, 2, 1, True, False)),
        ("AvgPool1d", ((3,), (1,), (1,))), ("AvgPool2d", (2,)), ("AdaptiveAvgPool1d", (3,)),
        ("AdaptiveAvgPool2d", ((2, 3),)),
    ):  # fmt: skip
        made = same_layers(name, *args)
        sizes = (8,) if "1d" in name else (6, 5)
        for shape in ((4, *sizes), (2, 4, *sizes)):
            same_results(*made, arrays(shape)[0])


@oracle
@pytest.mark.skipif(interpreted(), reason="hundreds of windows take long where kernels are plain Python")
@pytest.mark.parametrize("shape", [(2, 3, 9), (3, 4), (1, 1, 1), (0, 2, 5)])
def test_pooling_of_sequences_is_pytorchs(shape):
    x = arrays(shape)[0]
    for k, s, p, ceil in itertools.product((1, 2, 3, (4,)), (None, 1, (3,)), (0, 1, (2,)), (False, True)):
        for d in (1, 2):
            agree(
                lambda x, k=k, s=s, p=p, d=d, c=ceil: ops.max_pool1d(x, k, s, p, d, c),
                lambda x, k=k, s=s, p=p, d=d, c=ceil: F.max_pool1d(x, k, s, p, d, c),
                x,
            )
        for include in (True, False):
            agree(
                lambda x, k=k, s=s, p=p, c=ceil, i=include: ops.avg_pool1d(x, k, s, p, c, i),
                lambda x, k=k, s=s, p=p, c=ceil, i=include: F.avg_pool1d(x, k, s, p, c, i),
                x,
            )
    for size in (1, 2, (5,), 12):
        agree(lambda x, o=size: ops.adaptive_avg_pool1d(x, o), lambda x, o=size: F.adaptive_avg_pool1d(x, o), x)


def test_the_gradients_of_one_image_are_computed_once(monkeypatch):
    """Weight and bias have one loop in common, in whatever shape the gradient comes."""
    calls = []
    kernel = minidl.ops.conv.conv2d_dw
    monkeypatch.setattr(minidl.ops.conv, "conv2d_dw", lambda *args: (calls.append(1), kernel(*args)))
    for layer, x in ((nn.Conv1d(4, 2, 3), X[0, :, 0]), (nn.Conv1d(4, 2, 3), X[:, :, 0]), (nn.Conv2d(4, 2, 3), X[0])):
        layer(x.astype(np.float32)).sum().backward()
    assert len(calls) == 3


SPREAD = [  # x, weight, options
    ((2, 3, 5, 6), (2, 3, 3, 2), {}),
    ((2, 4, 5, 6), (4, 2, 3, 3), {"groups": 2, "padding": 1}),
    ((3, 2, 7, 6), (2, 2, 2, 3), {"stride": 2, "dilation": (2, 1), "padding": (1, 2)}),
]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("shape", "weight", "how"), SPREAD)
def test_nan_reaches_only_the_taps_that_met_it(shape, weight, how, bad):
    """dw as the sum over what each tap met, at every place of one bad pixel of x and of dy."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=weight)
    g = rng.normal(size=ops.conv2d(x, w, **how).shape)

    def gradient(x, g):
        t = Tensor(w, requires_grad=True)
        ops.conv2d(x, t, **how).backward(g)
        return t.grad

    clean = gradient(x, g)
    for spoilt, others in ((0, x), (1, g)):
        for place in rng.permutation(others.size)[:12]:
            given = [x.copy(), g.copy()]
            given[spoilt].flat[place] = bad
            only = [np.zeros_like(x), np.zeros_like(g)]  # 1 where the bad number is: what it meets
            only[spoilt].flat[place] = 1
            only[1 - spoilt][...] = 1
            met = gradient(*only) != 0
            dw = gradient(*given)
            assert not np.isfinite(dw[met]).any()
            np.testing.assert_allclose(dw[~met], clean[~met], rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("op", "shape", "weight", "how"),
    [
        (ops.conv2d, (2, 2, 4, 5), (3, 2, 3, 2), {}),  # the weight turned round
        (ops.conv2d, (2, 2, 4, 5), (3, 2, 2, 3), {"padding": 1, "dilation": (2, 1)}),
        (ops.conv2d, (2, 4, 5, 4), (2, 2, 3, 2), {"stride": 2, "groups": 2}),
        (ops.conv2d, (1, 2, 4, 4), (2, 2, 2, 2), {"padding": 2}),  # padding over the kernel
        (ops.conv1d, (2, 2, 6), (3, 2, 3), {}),
        (ops.conv_transpose2d, (2, 3, 3, 4), (3, 2, 2, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        (ops.conv_transpose2d, (2, 4, 3, 3), (4, 1, 3, 2), {"groups": 2}),
    ],
)  # fmt: skip
def test_a_weight_that_is_not_finite_reaches_only_what_it_met(op, shape, weight, how, bad):
    """dx of a convolution, and y of a transposed one: elsewhere they are as if that weight were 1."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=shape), rng.normal(size=weight)
    g = np.abs(rng.normal(size=op(x, w, **how).shape)) + 1

    def carried(w, one=False):
        t = Tensor(np.ones(shape) if one else np.abs(x) + 1, requires_grad=True)
        y = op(t, w, **how)
        if op is ops.conv_transpose2d:
            return y.data
        y.backward(np.ones(g.shape) if one else g)
        return t.grad

    clean = carried(w)
    for place in range(w.size):
        only = np.zeros(weight)
        only.flat[place] = 1
        met = carried(only, one=True) != 0
        spoilt = w.copy()
        spoilt.flat[place] = bad
        found = carried(spoilt)
        np.testing.assert_array_equal(found[met], bad)
        np.testing.assert_allclose(found[~met], clean[~met], rtol=1e-12)
