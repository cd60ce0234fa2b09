"""`minidl.compile`: the bits of eager training, its state, what makes it record again, its errors, whole epochs."""

import itertools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import minidl
from minidl import CompileError, Tensor, data, nn, ops, optim
from minidl.jit import interpreted


def small(optimizer=optim.SGD, dtype=np.float32, seed=0, **options):
    """A little regression: (model, optimizer, step)"""
    minidl.manual_seed(seed)
    model = nn.Sequential(nn.Dense(2, 16, dtype=dtype), nn.ReLU(), nn.Dense(16, 1, dtype=dtype))
    made = optimizer(model.parameters(), lr=0.05, **options)

    def step(x, y):
        loss = ops.mse(model(x), y)
        made.zero_grad()
        loss.backward()
        made.step()
        return loss

    return model, made, step


def classifier(width=64, seed=0, dtype=np.float32, inside=()):
    minidl.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Dense(49, width, dtype=dtype), nn.ReLU(), *inside, nn.Dense(width, 10, dtype=dtype)
    )
    made = optim.Adam(model.parameters(), lr=1e-2)

    def step(x, y):
        loss = ops.softmax_cross_entropy(model(x), y)
        made.zero_grad()
        loss.backward()
        made.step()
        return loss

    return model, made, step


def batch(n=32, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)).astype(dtype), rng.normal(size=(n, 1)).astype(dtype)


def images(n=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 1, 7, 7), np.float32), rng.integers(0, 10, n)


def same(a, b):
    return all(np.array_equal(p.data, q.data) for p, q in zip(a.parameters(), b.parameters(), strict=True))


# ------------------------------------------------------------------------------- the bits of eager

OPTIMIZERS = {
    "sgd": (optim.SGD, {}),
    "momentum": (optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {"weight_decay": 0.01}),
    "adamw": (optim.AdamW, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_has_the_bits_of_eager(name):
    optimizer, options = OPTIMIZERS[name]
    model, _, eager = small(optimizer, **options)
    other, made, step = small(optimizer, **options)
    compiled = minidl.compile(step)
    x, y = batch()
    for _ in range(20):
        assert eager(x, y).item() == compiled(x, y).item()
    assert same(model, other)
    assert compiled.stats["recorded"] == 1
    assert compiled.stats["calls"] == 20
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
    assert all(s.get("step", 20) == 20 for s in made.state.values())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_classifier_has_the_bits_of_eager(threads, threads_set):
    threads_set(threads)
    many = 16 if interpreted() else 256  # enough for threads, where there are any
    model, _, eager = classifier(many)
    other, _, step = classifier(many)
    compiled = minidl.compile(step)
    x, y = images(many)
    for _ in range(5):
        assert eager(x, y).item() == compiled(x, y).item()
    assert same(model, other)


@pytest.fixture
def threads_set():
    before = minidl.get_num_threads()
    yield minidl.set_num_threads
    minidl.set_num_threads(before)


MODELS = {  # those of examples/: sizes of the layers, dtype, loss
    "moons": ((2, 16, 16, 1), np.float64, ops.binary_cross_entropy_with_logits),
    "mnist": ((784, 512, 10), np.float32, ops.softmax_cross_entropy),
    "mnist in a second": ((784, 64, 10), np.float32, ops.softmax_cross_entropy),
    "read your gradients": ((2, 8, 1), np.float32, ops.mse),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_200_steps_of_the_examples_models(name, threads, threads_set):
    sizes, dtype, loss_of = MODELS[name]
    if sizes[0] > 2 and interpreted():
        pytest.skip("200 steps of these take hours where kernels are plain Python")
    threads_set(threads)

    def build():
        minidl.manual_seed(1)
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Dense(a, b, dtype=dtype), nn.ReLU())]
        model = nn.Sequential(*layers[:-1])
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        def step(x, y):
            loss = loss_of(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    rng = np.random.default_rng(0)
    batch = 16 if interpreted() else 128
    x = rng.random((batch, sizes[0])).astype(dtype)
    y = rng.integers(0, 10, batch) if sizes[-1] == 10 else (x[:, :1] * x[:, 1:]).astype(dtype)
    (model, eager), (other, step) = build(), build()
    compiled = minidl.compile(step)
    for _ in range(200):
        assert eager(x, y).item() == compiled(x, y).item()
    assert same(model, other)


def test_compiled_and_eager_steps_may_alternate():
    model, _, eager = small(optim.Adam)
    other, _, step = small(optim.Adam)
    compiled = minidl.compile(step)
    x, y = batch()
    for n in range(9):
        a, b = eager(x, y), (step if n % 3 == 1 else compiled)(x, y)
        assert a.item() == b.item()
    assert same(model, other)


def test_source_runs_as_python():
    model, _, eager = small(optim.Adam)
    other, _, step = small(optim.Adam)
    compiled = minidl.compile(step)
    x, y = batch()
    for _ in range(3):
        assert eager(x, y).item() == pytest.approx(compiled.python(x, y).item(), rel=1e-6)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.data, q.data, rtol=1e-5, atol=1e-7)


def test_source_is_there_to_be_read():
    _, _, step = small()
    compiled = minidl.compile(step)
    with pytest.raises(RuntimeError, match="nothing is recorded"):
        _ = compiled.source
    compiled(*batch())
    text = compiled.source
    at = [text.index(part) for part in ("# ---- forward", "# ---- backward", "# ---- update", "return (")]
    assert at == sorted(at)
    for part in ("layers_0_weight", "d_layers_0_weight", "# mse: L = (x − t)²", "(32, 1)", "sgd_update(", "lr"):
        assert part in text
    lines = [line for line in text.split("\n") if " = " in line and "#" not in line.split("=")[0]]
    assigned = [line.split(" = ")[0].strip() for line in lines]
    assert len(assigned) == len(set(assigned))  # straight line: nothing is computed twice under one name
    for name in assigned:
        assert text.count(name) > 1, f"{name} is computed and never used"
    assert "def step(" in compiled.loops


# ------------------------------------------------------------------------------------------- state


def test_gradients_are_there_and_are_not_overwritten():
    model, _, step = small()
    compiled = minidl.compile(step)
    compiled(*batch())
    p = next(iter(model.parameters()))
    held, before = p.grad, p.grad.copy()
    compiled(*batch(seed=1))
    np.testing.assert_array_equal(held, before)
    assert not np.array_equal(p.grad, before)


def test_gradients_accumulate():
    def accumulating(seed=0):
        model, made, _ = small(seed=seed)

        def step(x, y):
            ops.mse(model(x), y).backward()

        return model, made, step

    model, _, eager = accumulating()
    other, made, step = accumulating()
    compiled = minidl.compile(step)
    for n in range(4):
        eager(*batch(seed=n))
        assert compiled(*batch(seed=n)) is None
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
    assert compiled.stats["recorded"] == 2  # without gradients before it, and with
    made.zero_grad()
    compiled(*batch())
    assert compiled.stats["recorded"] == 2


def test_gradients_may_be_clipped():
    def build():
        model, made, _ = small(optim.Adam, np.float64)

        def step(x, y):
            loss = ops.mse(model(x), y)
            made.zero_grad()
            loss.backward()
            norm = np.sqrt(sum((p.grad**2).sum() for p in model.parameters()))
            for p in model.parameters():
                p.grad = p.grad * np.minimum(1, 0.1 / norm)
            made.step()
            return loss, norm

        return model, step

    (model, eager), (other, step) = build(), build()
    compiled = minidl.compile(step)
    for _ in range(5):
        expected, found = eager(*batch(dtype=np.float64)), compiled(*batch(dtype=np.float64))
        assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-12)
        assert found[1] == pytest.approx(expected[1], rel=1e-12)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(q.data, p.data, rtol=1e-11)
        np.testing.assert_allclose(q.grad, p.grad, rtol=1e-11)


def test_parameters_and_optimizer_state_may_be_replaced():
    model, made, eager = small(optim.Adam)
    other, others, step = small(optim.Adam, seed=1)
    compiled = minidl.compile(step)
    x, y = batch()
    eager(x, y)
    compiled(x, y)
    other.load_state_dict(model.state_dict())
    others.load_state_dict(made.state_dict())
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        q.data = np.array(q.data, copy=True, order="K")
        q.grad = p.grad
    for _ in range(3):
        assert eager(x, y).item() == compiled(x, y).item()
    assert same(model, other)


def test_dropout_draws_anew_in_each_step():
    def build():
        generator = np.random.default_rng(7)
        return classifier(inside=[nn.Dropout(0.5, generator)])

    model, _, eager = build()
    other, _, step = build()
    compiled = minidl.compile(step)
    x, y = images()
    for _ in range(4):
        assert eager(x, y).item() == compiled(x, y).item()
    assert same(model, other)
    other.eval()
    model.eval()
    assert eager(x, y).item() == compiled(x, y).item()
    assert compiled.stats["recorded"] == 2


def test_inference():
    model, _, _ = small()
    compiled = minidl.compile(model)
    x, _ = batch()
    first = compiled(x)
    np.testing.assert_array_equal(first.data, model(x).data)
    second = compiled(x * 2)
    assert first.data is not second.data
    np.testing.assert_array_equal(first.data, model(x).data)


def test_results_of_every_form():
    @minidl.compile
    def both(x, scale=2.0):
        t = Tensor(x)
        return {"twice": ops.multiply(t, scale), "parts": [x + 1, 3, None]}

    x = np.arange(3.0)
    made = both(x, scale=3.0)
    np.testing.assert_array_equal(made["twice"].data, 3 * x)
    np.testing.assert_array_equal(made["parts"][0], x + 1)
    assert made["parts"][1:] == [3, None]
    assert both(x)["twice"].data.tolist() == [0, 2, 4]
    assert both.__name__ == "both"


# ----------------------------------------------------------------------------- what is recorded again


def test_a_learning_rate_does_not_record_again():
    model, made, eager = small()
    other, others, step = small()
    compiled = minidl.compile(step)
    for n in range(4):
        made.param_groups[0]["lr"] = others.param_groups[0]["lr"] = 0.1 / (n + 1)
        assert eager(*batch()).item() == compiled(*batch()).item()
    assert same(model, other)
    assert compiled.stats["recorded"] == 1


def test_other_options_record_again():
    model, made, eager = small(optim.Adam)
    other, others, step = small(optim.Adam)
    compiled = minidl.compile(step)
    for betas in ((0.9, 0.999), (0.5, 0.9)):
        made.param_groups[0]["betas"] = others.param_groups[0]["betas"] = betas
        assert eager(*batch()).item() == compiled(*batch()).item()
    assert same(model, other)
    assert compiled.stats["recorded"] == 2


def test_layouts_are_taken():
    model, _, _ = small()
    compiled = minidl.compile(model)
    x = batch()[0]
    for other in (np.asfortranarray(x), np.repeat(x, 2, 0)[::2], x[::-1][::-1], x.astype(">f4")):
        np.testing.assert_array_equal(compiled(other).data, model(x).data)
    assert compiled.stats["recorded"] == 1


# ------------------------------------------------------------------------------------------ errors


def test_a_branch_on_a_value_names_the_line():
    @minidl.compile
    def step(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(CompileError, match=r"test_compile\.py:\d+: `if x\.sum\(\) > 0:`.*ops\.where"):
        step(np.ones(3))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: np.linalg.inv(x), "calls np.inv"),
        (lambda x: float(x.sum()), "needs the value"),
        (lambda x: np.asarray(x), "plain one"),
        (lambda x: x[x > 0], "mask"),
        (lambda x: x.tobytes(), "needs the value"),
        (lambda x: np.add.reduceat(x, [0]), "reduceat"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(function, says):
    with pytest.raises(CompileError, match=says):
        minidl.compile(function)(np.eye(3))


def test_fallback_runs_eagerly_with_one_warning():
    step = minidl.compile(lambda x: np.linalg.inv(x), fallback=True)
    with pytest.warns(RuntimeWarning, match="running without compilation"):
        np.testing.assert_array_equal(step(np.eye(2)), np.eye(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(np.eye(3))


def test_draws_outside_of_ops_are_an_error():
    rng = np.random.default_rng(0)
    with pytest.raises(CompileError, match="draws random numbers"):
        minidl.compile(lambda x: x + rng.normal(size=3))(np.ones(3))


def test_state_that_only_the_first_step_makes_is_an_error():
    _, made, step = small(momentum=0.9, dampening=0.5)
    with pytest.raises(CompileError, match="makes momentum_buffer in its first call; call it once"):
        minidl.compile(step)(*batch())
    assert not any(made.state.values())
    step(*batch())
    _, _, eager = small(momentum=0.9, dampening=0.5)
    eager(*batch())
    assert minidl.compile(step)(*batch()).item() == eager(*batch()).item()


def test_changes_of_python_numbers_are_an_error():
    _, made, step = small()

    @minidl.compile
    def decaying(x, y):
        made.param_groups[0]["lr"] = 0.5
        return step(x, y)

    with pytest.raises(CompileError, match="changes lr"):
        decaying(*batch())
    assert made.param_groups[0]["lr"] == 0.05  # and all is as before


def test_arguments_that_are_no_arrays_are_an_error():
    step = minidl.compile(lambda x: x)
    with pytest.raises(CompileError, match="found object"):
        step(object())
    with pytest.raises(CompileError, match="requires a gradient"):
        step(Tensor(np.ones(2), requires_grad=True))


def test_bad_labels_are_the_error_of_eager():
    model, _, step = classifier()
    compiled = minidl.compile(step)
    x, y = images()
    compiled(x, y)
    before = [p.data.copy() for p in model.parameters()]
    y = y.copy()
    y[3] = 10
    with pytest.raises(ValueError, match="labels from 0 to 9") as eager:
        step(x, y)
    with pytest.raises(ValueError, match="labels from 0 to 9") as found:
        compiled(x, y)
    assert str(found.value) == str(eager.value)
    assert all(np.array_equal(p.data, b) for p, b in zip(model.parameters(), before, strict=True))


# ---------------------------------------------------------------------------------- whole epochs


@pytest.mark.parametrize("n", [128, 100, 20])
def test_an_epoch_is_its_steps(n):
    x, y = images(n)
    x = (x * 255).astype(np.uint8)
    model, made, eager = classifier()
    other, others, step = classifier()
    compiled, seen = minidl.compile(step), []
    for _ in range(2):
        loaders = [data.Loader(x, y, batch_size=32, shuffle=True, seed=5) for _ in range(2)]
        expected = [eager(*b).item() for b in loaders[0]]
        found = compiled.run(loaders[1], progress=seen.append)
        assert found.astype(np.float32).tolist() == expected
    assert same(model, other)
    assert sum(seen) == 2 * n
    steps = {s["step"] for s in others.state.values()}
    assert steps == {s["step"] for s in made.state.values()} == {2 * len(loaders[0])}


def test_an_epoch_of_plain_arrays():
    x, y = batch(64)
    model, _, eager = small()
    other, _, step = small()
    loader = data.Loader(x, y, batch_size=16)
    expected = [eager(*b).item() for b in loader]
    assert minidl.compile(step).run(loader).astype(np.float32).tolist() == expected
    assert same(model, other)


def test_an_epoch_refuses_what_it_cannot_do():
    _, _, step = small()
    compiled = minidl.compile(step)
    with pytest.raises(TypeError, match=r"expected a minidl\.data\.Loader, found list"):
        compiled.run([batch()])
    with pytest.raises(ValueError, match="at least one batch of 64, found 32 examples"):
        compiled.run(data.Loader(*batch(), batch_size=64, drop_last=True))


def test_an_epoch_that_is_interrupted_keeps_its_state():
    x, y = batch(64)
    _, others, step = small(optim.Adam)
    compiled = minidl.compile(step)

    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled.run(data.Loader(x, y, batch_size=16), progress=stop)
    assert {s["step"] for s in others.state.values()} == {1}


def test_a_second_process_starts_from_the_disk(tmp_path):
    program = (
        "import numpy as np, minidl; from minidl import ops\n"
        "f = minidl.compile(lambda x: ops.exp(x) + 1); print(f(np.zeros(3)).data.tolist())\n"
        "import glob, os; print(len(glob.glob(os.environ['MINIDL_CACHE'] + '/**/*.nbc', recursive=True)))\n"
    )

    env = {**os.environ, "MINIDL_CACHE": str(tmp_path), "NUMBA_DISABLE_JIT": "0"}
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
        ).stdout.split("\n")
        for _ in range(2)
    ]
    assert runs[0][0] == runs[1][0] == "[2.0, 2.0, 2.0]"
    assert runs[0][1] == runs[1][1] != "0"


def test_indices_from_the_end_of_a_part():
    def step(x, i):
        x = Tensor(x, requires_grad=True)
        y = x[2:][i]
        y.backward(np.arange(1.0, 5.0))
        return y, x.grad

    compiled = minidl.compile(step)
    x = np.random.default_rng(0).normal(size=7)
    for i in (np.array([0, 4, 2, 4]), np.array([-1, -5, 0, -1])):
        for found, expected in zip(compiled(x, i), step(x, i), strict=True):
            np.testing.assert_array_equal(getattr(found, "data", found), getattr(expected, "data", expected))
    np.testing.assert_array_equal(compiled.python(x, i)[1], step(x, i)[1])
    assert compiled.source.count("IndexError") == 1
    assert "np.where" not in compiled.source  # the index is written as it is, without the positions made of it
    with pytest.raises(IndexError, match="axis of 5"):
        compiled(x, np.array([0, 5, 1, 1]))
