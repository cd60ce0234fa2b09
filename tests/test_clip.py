"""Gradients kept within bounds: PyTorch's results, eager and compiled."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import minidl
from minidl import Tensor, nn, ops, optim

SHAPES = [(3, 4), (5,), (), (2, 3, 2, 2), (0, 3), (1, 1100), (70, 31)]
ORDERS = [2.0, 1, 3.5, 0.5, math.inf, "inf"]


def parameters(dtype: Any = np.float64, scale: float = 1.0, fortran: bool = False) -> list[Tensor]:
    """Of every shape, with gradients, and one without."""
    rng = np.random.default_rng(0)
    made = []
    for shape in SHAPES:
        p = Tensor(np.zeros(shape, dtype, order="F" if fortran else "C"), requires_grad=True)
        p.grad = (rng.normal(size=shape) * scale).astype(dtype)
        made.append(p)
    return [*made[:2], Tensor(np.ones(7, dtype), requires_grad=True), *made[2:]]


def torchs(mine: list[Tensor]) -> Any:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
    made = []
    for p in mine:
        made.append(torch.tensor(p.numpy().copy(), requires_grad=True))
        made[-1].grad = None if p.grad is None else torch.tensor(np.array(p.grad))
    return torch.nn.utils, made


def gradients(params: list[Tensor]) -> list[Any]:
    return [p.grad for p in params]


def assert_same(mine: list[Tensor], theirs: Any, rtol: float) -> None:
    for p, q in zip(mine, theirs, strict=True):
        if q.grad is None:
            assert p.grad is None
            continue
        assert (p.grad.shape, p.grad.dtype) == (p.shape, p.dtype)
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=rtol)


# ---------------------------------------------------------------------------------- against PyTorch


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [0.0, 0.5, 20.0, 1e9, math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fortran", [False, True])
def test_norms_are_clipped_as_by_pytorch(order, limit, dtype, fortran):
    mine = parameters(dtype, fortran=fortran)
    utils, theirs = torchs(mine)
    if order in (math.inf, "inf"):  # PyTorch has no largest element of nothing
        theirs[5].grad = None
    expected = utils.clip_grad_norm_(theirs, limit, order).item()
    norm = optim.clip_grad_norm_(mine, limit, order)
    rtol = 1e-12 if dtype is np.float64 else 2e-5 if order == 0.5 else 1e-6
    assert isinstance(norm, float)
    assert norm == pytest.approx(expected, rel=rtol)
    if theirs[5].grad is None:
        assert mine[5].grad.shape == (0, 3)
        mine[5].grad = None
    assert_same(mine, theirs, rtol)


@pytest.mark.parametrize("limit", [0.0, 0.3, 1e9, math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fortran", [False, True])
def test_values_are_clipped_as_by_pytorch(limit, dtype, fortran):
    mine = parameters(dtype, fortran=fortran)
    mine[0].grad[1, 1:4] = np.nan, np.inf, -np.inf
    utils, theirs = torchs(mine)
    utils.clip_grad_value_(theirs, limit)
    assert optim.clip_grad_value_(mine, limit) is None
    assert_same(mine, theirs, 0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("order", [2.0, 1.0, math.inf])
def test_gradients_that_are_not_finite(bad, order):
    mine = parameters()
    mine[3].grad = np.array(bad)
    kept = [None if g is None else g.copy() for g in gradients(mine)]
    with pytest.raises(
        RuntimeError, match=r"clip_grad_norm_: expected .* finite norm of order (2|1|inf), found (nan|inf)"
    ):
        optim.clip_grad_norm_(mine, 1.0, order, error_if_nonfinite=True)
    for g, before in zip(gradients(mine), kept, strict=True):
        np.testing.assert_array_equal(g, before)
    utils, theirs = torchs(mine)
    theirs[5].grad = mine[5].grad = None
    expected = utils.clip_grad_norm_(theirs, 1.0, order).item()
    np.testing.assert_equal(optim.clip_grad_norm_(mine, 1.0, order), expected)
    assert_same(mine, theirs, 0)


def test_the_small_number_beside_the_norm_counts():
    """1e-6: a gradient of just the norm allowed is made a little smaller."""
    for size in (1e-6, 1e-3, 1.0):
        p = Tensor(np.zeros(1), requires_grad=True)
        p.grad = np.array([size])
        assert optim.clip_grad_norm_(p, size) == size
        assert p.grad[0] == pytest.approx(size * size / (size + 1e-6), rel=1e-14)
        assert p.grad[0] < size


# ------------------------------------------------------------------------------- what else holds


def test_by_hand():
    a, b = (Tensor(np.zeros(n), requires_grad=True) for n in (1, 2))
    a.grad, b.grad = np.array([3.0]), np.array([0.0, -4.0])
    assert optim.clip_grad_norm_([a, b], 1.0) == 5
    np.testing.assert_allclose(a.grad, [0.6], rtol=1e-6)
    np.testing.assert_allclose(b.grad, [0, -0.8], rtol=1e-6)
    a.grad, b.grad = np.array([3.0]), np.array([0.0, -4.0])
    assert optim.clip_grad_norm_([a, b], 10.0) == 5
    assert (a.grad.tolist(), b.grad.tolist()) == ([3], [0, -4])
    optim.clip_grad_value_([a, b], 3.5)
    assert (a.grad.tolist(), b.grad.tolist()) == ([3], [0, -3.5])
    assert optim.clip_grad_norm_([a, b], 1.0, norm_type=1) == 6.5
    assert optim.clip_grad_norm_([], 1.0) == 0
    assert optim.clip_grad_norm_((Tensor(np.ones(2), requires_grad=True) for _ in range(2)), 1.0) == 0


def test_arrays_that_were_there_are_not_changed():
    """They may be shared: by two parameters, or with whoever asked for a gradient."""
    shared = np.full((2, 2), 3.0)
    shared.flags.writeable = False
    for clip in (optim.clip_grad_norm_, optim.clip_grad_value_):
        a, b = (Tensor(np.zeros((2, 2)), requires_grad=True) for _ in range(2))
        a.grad = b.grad = shared
        clip([a, b], 1.0)
        assert (shared == 3).all()
        np.testing.assert_array_equal(a.grad, b.grad)
        assert (a.grad < 1.5).all()
        assert not np.may_share_memory(a.grad, b.grad)


@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
def test_every_layout(clip):
    values = np.random.default_rng(0).normal(size=(4, 6))
    expected = None
    layouts = (
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1][::-1],
    )
    for data, grad in itertools.product(layouts, layouts):
        p = Tensor(data(np.zeros((4, 6))), requires_grad=True)
        p.grad = grad(values.copy())
        clip([p], 0.7)
        expected = p.grad if expected is None else expected
        np.testing.assert_allclose(p.grad, expected, rtol=1e-15)
    assert 0.1 < np.abs(expected).max() <= 0.7


def test_the_norm_keeps_its_digits():
    """In float32 squares of 1e-25 are 0 and of 1e25 infinite, and a long sum stops at 2²⁴."""
    for size in (1e-25, 1e25):
        p = Tensor(np.zeros(3, np.float32), requires_grad=True)
        p.grad = np.full(3, size, np.float32)
        assert optim.clip_grad_norm_(p, math.inf) == pytest.approx(math.sqrt(3) * size, rel=1e-7)
    long = Tensor(np.zeros(1 << 25, np.float32), requires_grad=True)
    long.grad = np.ones(1 << 25, np.float32)
    assert optim.clip_grad_norm_(long, math.inf) == math.sqrt(1 << 25)


@settings(max_examples=100, deadline=None)
@example(arrays=[np.array([33285.0])], limit=2.2e-311, order=0.7)
@example(arrays=[np.array([1.0])], limit=3.7859e-160, order=2.0)
@given(
    arrays=st.lists(
        npst.arrays(np.float64, npst.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e6, 1e6)), max_size=4
    ),
    limit=st.floats(0, 1e3),
    order=st.sampled_from([0.7, 1.0, 2.0, 3.0, math.inf]),
)
def test_what_is_clipped_is_within_bounds_and_has_its_direction(arrays, limit, order):
    params = [Tensor(np.zeros(a.shape), requires_grad=True) for a in arrays]
    for p, a in zip(params, arrays, strict=True):
        p.grad = a.copy()
    flat = np.concatenate([np.zeros(0), *(a.ravel() for a in arrays)])
    tiny = 1e-100  # of less, the cube leaves float64's range, and limit / norm loses digits
    norm = optim.clip_grad_norm_(params, limit, order)
    if flat.size:
        assert norm == pytest.approx(np.linalg.norm(flat, order), rel=1e-9, abs=tiny)
    found = np.concatenate([np.zeros(0), *(p.grad.ravel() for p in params)])
    assert optim.clip_grad_norm_(params, math.inf, order) <= min(norm, limit) * (1 + 1e-12) + tiny
    np.testing.assert_allclose(found, flat * min(1, limit / (norm + 1e-6)), rtol=1e-12)
    optim.clip_grad_value_(params, limit)
    assert all(np.abs(p.grad).max() <= limit for p in params)


# -------------------------------------------------------------------------------------- compiled

CLIPS: dict[str, Any] = {
    "norm": lambda p: optim.clip_grad_norm_(p, 0.3),
    "norm not reached": lambda p: optim.clip_grad_norm_(p, 1e6),
    "norm 1": lambda p: optim.clip_grad_norm_(p, 0.3, norm_type=1),
    "norm 2.5": lambda p: optim.clip_grad_norm_(p, 0.3, 2.5),
    "largest": lambda p: optim.clip_grad_norm_(p, 0.01, math.inf),
    "finite": lambda p: optim.clip_grad_norm_(p, 0.3, error_if_nonfinite=True),
    "value": lambda p: optim.clip_grad_value_(p, 0.004),
}


def build(clip: Any, dtype: Any) -> tuple[Any, Any]:
    """One parameter lies transposed in memory, and is long enough to be summed in parts, with a rest."""
    rng = np.random.default_rng(4)
    w = Tensor(np.asfortranarray(rng.normal(size=(37, 33)).astype(dtype)), requires_grad=True)
    b = Tensor(rng.normal(size=33).astype(dtype), requires_grad=True)
    idle = Tensor(np.ones(2, dtype), requires_grad=True)
    made = optim.SGD([w, b, idle], lr=0.1)

    def step(x: Any) -> Any:
        loss = ops.sum(ops.square(w * x + b))
        made.zero_grad()
        loss.backward()
        norm = clip([w, b, idle])
        made.step()
        return loss, norm

    return [w, b, idle], step


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_compiled_step_clips_alike(name, dtype):
    (params, eager), (others, step) = build(CLIPS[name], dtype), build(CLIPS[name], dtype)
    compiled = minidl.compile(step)
    rng = np.random.default_rng(1)
    rtol = 1e-12 if dtype is np.float64 else 1e-6
    for _ in range(4):
        x = rng.normal(size=(37, 33)).astype(dtype)
        (loss, norm), (compiled_loss, compiled_norm) = eager(x), compiled(x)
        assert compiled_loss.item() == pytest.approx(loss.item(), rel=rtol)
        if norm is not None:
            assert (compiled_norm.shape, compiled_norm.dtype) == ((), np.float64)
            assert compiled_norm == pytest.approx(norm, rel=rtol)
        for p, q in zip(params[:2], others[:2], strict=True):
            np.testing.assert_allclose(q.grad, p.grad, rtol=rtol)
            np.testing.assert_allclose(q.data, p.data, rtol=rtol)
        assert others[2].grad is None
    assert compiled.stats["recorded"] == 1


def test_a_compiled_model_is_clipped_to_the_bits_of_the_eager_one():
    def trained(compile: bool) -> Any:
        minidl.manual_seed(4)
        model = nn.Sequential(nn.Dense(40, 33), nn.ReLU(), nn.Dense(33, 2))
        made = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x: Any, y: Any) -> Any:
            loss = ops.mse(model(x), y)
            made.zero_grad()
            loss.backward()
            optim.clip_grad_value_(model.parameters(), 0.01)
            optim.clip_grad_norm_(model.parameters(), 0.005, math.inf)  # of which there is no rounding
            made.step()

        run, rng = minidl.compile(step) if compile else step, np.random.default_rng(1)
        for _ in range(5):
            run(rng.normal(size=(8, 40)).astype(np.float32), rng.normal(size=(8, 2)).astype(np.float32))
        return [(p.data, p.grad) for p in model.parameters()]

    np.testing.assert_equal(trained(compile=True), trained(compile=False))


def test_a_compiled_step_stops_at_a_norm_that_is_not_finite():
    params, step = build(CLIPS["finite"], np.float64)
    compiled = minidl.compile(step)
    x = np.ones((37, 33))
    compiled(x)
    before = [p.data.copy() for p in params]
    for bad in (np.nan, 1e160):  # whose square is infinite
        with pytest.raises(RuntimeError, match="clip_grad_norm_: expected gradients with a finite norm of order 2"):
            compiled(x * bad)
        for p, kept in zip(params, before, strict=True):
            np.testing.assert_array_equal(p.data, kept)
    compiled(x)
    assert compiled.stats["recorded"] == 1


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("bad", [-1.0, math.nan, -math.inf])
def test_bounds_out_of_range(bad):
    p = parameters()
    kept = gradients(p)
    with pytest.raises(ValueError, match=f"clip_grad_norm_: expected max_norm ≥ 0, found {bad}"):
        optim.clip_grad_norm_(p, bad)
    with pytest.raises(ValueError, match=f"clip_grad_value_: expected clip_value ≥ 0, found {bad}"):
        optim.clip_grad_value_(p, bad)
    for order in (bad, 0):
        with pytest.raises(ValueError, match=f"clip_grad_norm_: expected norm_type > 0, found {order}"):
            optim.clip_grad_norm_(p, 1.0, order)
    assert all(a is b for a, b in zip(gradients(p), kept, strict=True))


@pytest.mark.parametrize("clip", [optim.clip_grad_norm_, optim.clip_grad_value_])
def test_what_is_no_tensor_or_no_number(clip):
    name = clip.__name__
    p = parameters()
    kept = gradients(p)
    for bad in ([*p, p[0].data], [*p, None], {"weight": p[0]}, np.ones(3)):
        with pytest.raises(TypeError, match=f"{name}: expected Tensors, found (ndarray|NoneType|str|float64)"):
            clip(bad, 1.0)
    for bad in (3, None, nn.Dense(2, 2)):
        with pytest.raises(TypeError, match=f"{name}: expected Tensors, found (int|NoneType|Dense)"):
            clip(bad, 1.0)
    for bad in (None, "much", [1.0]):
        with pytest.raises(TypeError, match=f"{name}: expected a number for (max_norm|clip_value), found"):
            clip(p, bad)
    p[0].grad = np.ones((3, 4), np.int64)
    with pytest.raises(TypeError, match=f"expected {name}: gradients in float32 or float64, found int64"):
        clip(p[::-1], 1e-3)
    assert all(a is b for a, b in zip(gradients(p[1:]), kept[1:], strict=True))
    with pytest.raises(TypeError, match="clip_grad_norm_: expected a number for norm_type, found 'two'"):
        optim.clip_grad_norm_(p, 1.0, "two")
