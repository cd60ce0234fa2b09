"""What NumPy does to arrays, compiled: a table of functions, each run by NumPy, as loops and as readable source."""

import numpy as np
import pytest

import minidl
from minidl import CompileError, Tensor, nn, ops, optim
from minidl.compiler import native, program

X = np.random.default_rng(0).normal(size=(3, 4))
NAN = np.where(X > 1, np.nan, X)
ROWS, COLUMNS = np.array([2, 0, -1]), np.array([1, 1, 3])

TABLE = {
    "zeros_like": lambda x, i: np.zeros_like(x) + np.ones_like(x, dtype=np.float32) + np.full_like(x, 2.5),
    "empty_like": lambda x, i: _filled(np.empty_like(x)),
    "clip": lambda x, i: np.clip(x, -0.5, 0.5) + np.clip(x, None, 0.1),
    "where": lambda x, i: np.where(x > 0, x, 2.0),
    "copyto": lambda x, i: _copied(np.zeros_like(x), x),
    "astype": lambda x, i: (x * 3).astype(np.int64).astype(np.float32),
    "isfinite": lambda x, i: np.isfinite(x) & ~np.isnan(x) | np.isinf(x),
    "comparisons": lambda x, i: ((x > 0) ^ (x <= 1)) | (x != x),
    "floor": lambda x, i: x // 0.5 + x % 0.5 + np.floor(x) + np.sign(x) + x**3 + np.abs(x) ** 0.5,
    "hypot": lambda x, i: np.arctan2(x, 2.0) + np.hypot(x, x) + np.tanh(x) + np.log1p(np.abs(x)),
    "out": lambda x, i: np.add(x, 1, out=np.zeros_like(x)),
    "sum": lambda x, i: x.sum() + x.sum(axis=1).sum() + np.sum(x, axis=0, keepdims=True).mean(),
    "mean": lambda x, i: x.mean(axis=-1) + np.mean(x),
    "prod": lambda x, i: np.prod(x, axis=0),
    "max": lambda x, i: x.max(axis=1) - x.min(axis=1) + np.max(x) + np.amin(x),
    "any": lambda x, i: (x > 0).any(axis=0) & (x > -9).all(axis=0),
    "argmax": lambda x, i: x.argmax(axis=1) + np.argmax(x),
    "cumsum": lambda x, i: np.cumsum(x, axis=1) + np.cumsum(x).reshape(3, 4),
    "add.reduce": lambda x, i: np.add.reduce(x, axis=1) + np.maximum.reduce(x, axis=1),
    "reshape": lambda x, i: x.reshape(2, 6).ravel()[::-1].reshape(4, 3, order="F"),
    "transpose": lambda x, i: x.T.reshape(2, 6) + np.transpose(x).reshape(2, 6),
    "moveaxis": lambda x, i: np.moveaxis(x.reshape(3, 2, 2), 0, -1) + np.expand_dims(np.swapaxes(x, 0, 1)[:2, :2], 2),
    "squeeze": lambda x, i: np.squeeze(x[:, None]) + x[None].squeeze(0),
    "broadcast_to": lambda x, i: np.broadcast_to(x[:, :1], (3, 4)) * x,
    "flip": lambda x, i: np.flip(x, 1) + x[::-1, ::-1],
    "iteration": lambda x, i: sum(row for row in x) + len(x),
    "concatenate": lambda x, i: np.concatenate([x, x[:, :0], x * 2], axis=1),
    "concatenate flat": lambda x, i: np.concatenate([x, x[:1]], axis=None),
    "stack": lambda x, i: np.stack([x, x + 1], axis=1),
    "split": lambda x, i: np.split(x, [1, 3], axis=1)[1] + np.split(x, 2, axis=1)[0],
    "pad": lambda x, i: np.pad(x, ((1, 0), (0, 2)), constant_values=1.5),
    "roll": lambda x, i: np.roll(x, 1, axis=1),
    "take": lambda x, i: np.take(x, [2, 0], axis=1) + np.take(x, [1, 1]),
    "diagonal": lambda x, i: np.diagonal(x) + np.diagonal(x, 1),
    "index by constants": lambda x, i: x[ROWS, COLUMNS] + x[ROWS][:, 0],
    "index by the step's": lambda x, i: x[i] + x[i, COLUMNS][:, None],
    "index by both": lambda x, i: x[ROWS, i],
    "one element": lambda x, i: x[1, 2] + x[i[0]][0] + x[np.array(2), np.array(0)],
    "assignment": lambda x, i: _assigned(x.copy(), i),
    "add.at": lambda x, i: _added(x.copy(), i),
    "empty": lambda x, i: np.concatenate([x[:0].sum(axis=0), x[:0, 0].cumsum(), x[3:].reshape(-1)]),
    "nothing": lambda x, i: x,
    "constant": lambda x, i: np.arange(3),
}


def _filled(y):
    y.fill(3)
    return y


def _copied(y, x):
    np.copyto(y, x)
    return y


def _assigned(y, i):
    y[0] = 5
    y[1:, ::2] = y[:-1, ::2] * 2
    y[i, COLUMNS] = 7.0
    y[ROWS, 0] = -1
    return y


def _added(y, i):
    np.add.at(y, i, 1.5)
    np.add.at(y, (ROWS, COLUMNS), y[:, 0] * 0 + 2)
    return y


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["f64", "f32"])
@pytest.mark.parametrize("name", TABLE)
def test_numpys_functions(name, dtype, monkeypatch):
    monkeypatch.setattr(native, "interpreted", lambda: True)
    monkeypatch.setattr(program, "interpreted", lambda: True)
    for values in (X, NAN):
        if values is NAN and name == "astype":  # NaN has no integer
            values = np.nan_to_num(NAN)
        x = np.asfortranarray(values.astype(dtype)) if values is not X else values.astype(dtype)
        i = np.array([1, -1, 0])
        expected = np.asarray(TABLE[name](x, i))
        step = minidl.compile(TABLE[name])
        for run in (step, step.python):
            found = run(x, i)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(found, expected)


def test_the_table_compiled():
    def everything(x, i):
        return {name: function(x, i) for name, function in TABLE.items()}

    i = np.array([1, -1, 0])
    expected, found = everything(X, i), minidl.compile(everything)(X, i)
    for name, right in expected.items():
        np.testing.assert_array_equal(found[name], right, err_msg=name)


@pytest.mark.parametrize(
    ("function", "error", "says"),
    [
        (lambda x: np.where(x), CompileError, "condition alone"),
        (lambda x: np.pad(x, 1, mode="edge"), CompileError, "pads with edge"),
        (lambda x: np.einsum("ij->ji", x), CompileError, r"use minidl\.ops\.einsum"),
        (lambda x: x.dot(x.T), CompileError, r"uses \.dot"),
        (lambda x: x.nothing, AttributeError, "nothing"),
        (lambda x: np.empty_like(x) + 1, CompileError, "before anything was written"),
        (lambda x: x.__setitem__(0, 1), CompileError, "changes x in place"),
        (lambda x: _filled(np.zeros_like(x)).__setitem__(0, np.ones(3)), ValueError, "broadcast"),
        (lambda x: x[:0].max(), ValueError, "zero-size array to reduction operation maximum"),  # as NumPy says it
        (lambda x: x.view(np.int64), CompileError, "needs the value"),
    ],
)
def test_mistakes(function, error, says):
    with pytest.raises(error, match=says):
        minidl.compile(function)(X)


def test_an_index_out_of_range_is_an_error_of_the_step():
    step = minidl.compile(lambda x, i: x[i])
    step(X, ROWS)
    with pytest.raises(IndexError, match="within an axis of 3"):
        step(X, np.array([0, 1, 3]))


class Average(nn.Module):
    """Keeps a running mean of what it saw, and lists and dicts of arrays."""

    def __init__(self):
        self.mean = np.zeros(4)
        self.kept = {"last": [np.zeros(4)]}

    def forward(self, x):
        rows = x.data if isinstance(x, Tensor) else x
        self.mean = 0.9 * self.mean + 0.1 * rows.mean(axis=0)
        self.kept["last"][0] = rows[0].copy()
        return ops.subtract(x, self.mean)


def test_buffers_live_in_the_module():
    eager, other = Average(), Average()
    step = minidl.compile(lambda x: other(x))
    for _ in range(3):
        np.testing.assert_allclose(step(X).data, eager(X).data, rtol=1e-14)
    np.testing.assert_allclose(other.mean, eager.mean, rtol=1e-14)
    np.testing.assert_array_equal(other.kept["last"][0], X[0])


def test_several_models_bound_methods_and_lone_tensors():
    class Trainer:
        def __init__(self):
            minidl.manual_seed(3)
            self.first, self.second = nn.Dense(4, 3, dtype=np.float64), nn.Dense(3, 1, dtype=np.float64)
            self.scale = Tensor(np.full(1, 2.0), requires_grad=True)
            parameters = [*self.first.parameters(), *self.second.parameters(), self.scale]
            self.optimizer = optim.SGD(parameters, lr=0.1)

        def step(self, x):
            loss = ops.mean(ops.square(self.second(self.first(x)) * self.scale))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            return loss

    eager, other = Trainer(), Trainer()
    step = minidl.compile(other.step)
    for _ in range(3):
        assert step(X).item() == pytest.approx(eager.step(X).item(), rel=1e-13)
    np.testing.assert_allclose(other.scale.data, eager.scale.data, rtol=1e-13)
    for name in ("first_weight", "second_bias", "scale", "d_first_weight"):
        assert name in step.source


def test_parameters_of_another_layout_are_recorded_again():
    model = nn.Dense(4, 3, dtype=np.float64)
    step = minidl.compile(model)
    expected = step(X).data.copy()
    model.weight.data = np.ascontiguousarray(model.weight.data[::-1])[::-1].copy(order="C")
    np.testing.assert_allclose(step(X).data, expected, rtol=1e-13)
    model.weight.data = np.repeat(model.weight.data, 2, axis=1)[:, ::2]
    with pytest.raises(CompileError, match="contiguous"):
        step(X)


def test_an_epoch_cannot_accumulate():
    model = nn.Dense(4, 1, dtype=np.float64)

    @minidl.compile
    def step(x):
        ops.mean(model(x)).backward()

    step(X)
    with pytest.raises(CompileError, match="reads gradients"):
        step.run(minidl.data.Loader(X, batch_size=1))


def test_the_decorator_takes_options():
    @minidl.compile(fallback=True)
    def step(x):
        return x + 1

    np.testing.assert_array_equal(step(X), X + 1)
    assert minidl.compile(lambda x: ops.exp(x))(Tensor(X)).shape == (3, 4)
