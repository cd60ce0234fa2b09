"""Every argument of NumPy's functions in a compiled step: it does what NumPy does, or a CompileError names it."""

import inspect

import numpy as np
import pytest

import minidl
from minidl import CompileError
from minidl.compiler import arrangements, binding, functions, native, program  # noqa: F401

X = np.random.default_rng(0).normal(size=(3, 4))
MASK = X > -0.3
ROWS = np.array([2, 0, 1])


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(native, "interpreted", lambda: True)
    monkeypatch.setattr(program, "interpreted", lambda: True)


def out_of(shape, dtype=None):
    """What is returned and what is written, where out= is an array of the step of this shape."""

    def decorated(function):
        def step(x):
            b = np.full_like(x, 7, shape=shape, dtype=dtype)
            made = function(x, b)
            assert made is b
            return b * 1

        return step

    return decorated


HONOURED = {
    "sum axis tuple": lambda x: np.sum(x, axis=(0, -1), keepdims=True),
    "sum keepdims=1": lambda x: np.sum(x, axis=-1, keepdims=1),
    "sum initial": lambda x: np.sum(x, axis=0, initial=3.5) + x.sum(initial=-1),
    "sum where": lambda x: np.sum(x, axis=1, where=MASK) + x.sum(axis=1, where=x > 0),
    "sum dtype": lambda x: np.sum(x, dtype=np.float32) + x.sum(0, np.float32),
    "sum out": out_of((4,))(lambda x, b: np.sum(x, axis=0, out=b)),
    "sum out, method": out_of((4,))(lambda x, b: x.sum(axis=0, out=b)),
    "sum out, by position": out_of((4,))(lambda x, b: x.sum(0, None, b)),
    "sum out of another dtype": out_of((), np.float32)(lambda x, b: np.sum(x.astype(np.float32), out=b)),
    "sum out, wider": out_of((4,))(lambda x, b: np.sum(x.astype(np.float32), axis=0, out=b)),
    "prod initial": lambda x: np.prod(x, axis=0, initial=2, where=MASK),
    "mean where": lambda x: np.mean(x, axis=0, where=MASK, keepdims=True) + x.mean(0, where=MASK),
    "mean out": out_of((3,))(lambda x, b: np.mean(x, axis=1, out=b)),
    "max initial": lambda x: np.max(x, axis=1, initial=0.5) + x[:0].max(axis=0, initial=-2).sum(),
    "max where": lambda x: np.max(x, axis=0, initial=-5, where=MASK) + np.min(x, initial=9, where=MASK),
    "max out": out_of((4,))(lambda x, b: x.max(0, b)),
    "any where": lambda x: np.any(x > 0, axis=0, where=MASK) | np.all(x > 0, axis=0, where=MASK),
    "any out": out_of((4,), bool)(lambda x, b: np.any(x > 0, axis=0, out=b)),
    "argmax keepdims": lambda x: np.argmax(x, axis=1, keepdims=True) + np.argmax(x.T, keepdims=True),
    "argmax out": out_of((4,), np.int64)(lambda x, b: x.argmax(0, out=b)),
    "cumsum": lambda x: x.cumsum(axis=1, dtype=np.float32) + np.cumprod(x, -1),
    "cumsum out": out_of((3, 4))(lambda x, b: np.cumsum(x, axis=0, out=b)),
    "add out": out_of((3, 4))(lambda x, b: np.add(x, 1, out=b)),
    "add out, by position": out_of((3, 4))(lambda x, b: np.add(x, 1, b)),
    "add out, broadcast": out_of((2, 3, 4))(lambda x, b: np.add(x, 1, out=b)),
    "add out where": out_of((3, 4))(lambda x, b: np.add(x, x, out=b, where=MASK)),
    "add dtype": lambda x: np.add(x, 1, dtype=np.float32),
    "exp dtype": lambda x: np.exp(x.astype(np.float32), dtype=np.float64),
    "greater out": out_of((3, 4), bool)(lambda x, b: np.greater(x, 0, out=b)),
    "in place": lambda x: _in_place(x),
    "out, a view": lambda x: _into_views(x),
    "out, what it reads": lambda x: _over_itself(x),
    "add.reduce": lambda x: np.add.reduce(x, 1, None, None, True, 2.0) + np.multiply.reduce(x, axis=None),
    "add.reduce out": out_of((3,))(lambda x, b: np.add.reduce(x, axis=-1, out=b)),
    "add.reduce where": lambda x: np.add.reduce(x, where=MASK) + np.maximum.reduce(x, where=MASK, initial=-1),
    "logical_or.reduce": lambda x: np.logical_or.reduce(x > 1, axis=1, keepdims=True),
    "clip": lambda x: np.clip(x, min=-0.1) + np.clip(x, max=x[::-1]) + x.clip(-0.2, 0.3) + np.clip(x, -1, None),
    "clip out": out_of((3, 4))(lambda x, b: np.clip(x, -0.5, 0.5, out=b)),
    "clip dtype": lambda x: np.clip(x.astype(np.float32), 0, 1, dtype=np.float64),
    "copyto where": lambda x: _copied(x),
    "astype": lambda x: x.astype(np.float32, copy=False, casting="same_kind", order="C").astype(np.float32, copy=False),
    "array": lambda x: np.array(x, np.float32, copy=True, ndmin=3, like=x) + np.asarray(x, like=x),
    "ascontiguousarray": lambda x: np.ascontiguousarray(x.T, like=x).reshape(-1),
    "copy": lambda x: np.copy(x, order="C") + x.copy("K"),
    "like": lambda x: np.full((2,), -0.0, like=x) * np.ones(2, int, like=x) - np.zeros_like(x, shape=2),
    "reshape": lambda x: np.reshape(x, (4, 3), order="C") + np.reshape(x, (4, 3), order="F", copy=True),
    "ravel": lambda x: np.ravel(x, order="F") + x.ravel("C"),
    "swapaxes": lambda x: np.swapaxes(x, axis1=0, axis2=1) + x.swapaxes(-1, 0) + np.moveaxis(x, 0, destination=1),
    "squeeze": lambda x: np.squeeze(x[None], axis=0) + np.expand_dims(x, axis=(0, 1)),
    "transpose": lambda x: np.transpose(x, axes=(1, 0)) + x.transpose(1, 0) + x.transpose(),
    "flip": lambda x: np.flip(x, axis=(0, 1)) + np.flip(x) + np.broadcast_to(x[0], shape=(3, 4)),
    "diagonal": lambda x: np.diagonal(x, offset=1, axis1=1, axis2=0) + x.diagonal()[:2],
    "split": lambda x: np.split(x, indices_or_sections=2, axis=-1)[1] + np.split(x, [-2], axis=1)[0],
    "take wrap": lambda x: np.take(x, [5, -7], axis=1, mode="wrap") + x.take([9, -9], 1, mode="clip"),
    "take out": out_of((3, 2))(lambda x, b: np.take(x, [3, 0], axis=1, out=b)),
    "concatenate dtype": lambda x: np.concatenate((x, x), axis=-1, dtype=np.float32, casting="same_kind"),
    "concatenate out": out_of((6, 4))(lambda x, b: np.concatenate((x, x), out=b)),
    "stack out": out_of((3, 2, 4))(lambda x, b: np.stack([x, x], axis=1, out=b)),
    "stack dtype": lambda x: np.stack([x, x + 1], axis=-1, dtype=np.float32, casting="unsafe"),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2)), mode="constant", constant_values=1.5),
    "roll": lambda x: np.roll(x, shift=(1, -1), axis=(0, 1)) + np.roll(x, 2),
    "take_along_axis": lambda x: np.take_along_axis(x, ROWS[:, None], axis=1) + np.take_along_axis(x, ROWS, None),
    "power of integers": lambda x: np.full_like(x, 3, dtype=np.int64) ** 2 + np.arange(4) ** (x > 0).astype(int),
}  # fmt: skip


def _in_place(x):
    y, z = x.copy(), np.ones_like(x, dtype=np.float32)
    y += x
    y[1:] *= 2
    y[:, 0] -= y[:, 1]
    y **= 2
    y /= 3
    z += x.astype(np.float32)
    return y + z


def _into_views(x):
    y = np.zeros_like(x, shape=(5, 6))
    np.add(x, 1, out=y[1:4, ::2][:, :3] if x.shape[1] == 3 else y[1:4, 1:5])
    np.sum(x, axis=0, out=y[-1, 2:])
    np.multiply(y[0], 2, out=y[::-1][0])
    return y


def _over_itself(x):
    y = x.copy()
    np.add(y, y[::-1], out=y)
    np.exp(y[:, ::-1], out=y)
    return y


def _copied(x):
    y = np.zeros_like(x)
    np.copyto(y, x, where=MASK)
    np.copyto(y, 5, where=x > 1, casting="unsafe")
    return y


def run(function, x):
    """Its result, or the error that it raises."""
    with np.errstate(all="ignore"):
        return function(x)


@pytest.mark.parametrize("name", HONOURED)
def test_what_is_honoured_is_numpys(name):
    for x in (X, np.asfortranarray(X)):
        expected = run(HONOURED[name], x)
        step = minidl.compile(HONOURED[name])
        for made in (step(x), step.python(x)):
            assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
            if "where" in name or not x.flags.c_contiguous:  # sums in another order: mask by mask, column by column
                np.testing.assert_allclose(made, expected, rtol=1e-13 if made.itemsize == 8 else 1e-5)
            else:
                np.testing.assert_array_equal(made, expected)


HELD = np.zeros(4)
NAMED = {
    "out": lambda x: np.sum(x, axis=0, out=HELD),
    "out of a ufunc": lambda x: np.add(x, 1, out=np.zeros((3, 4))),
    "out of a method": lambda x: x.max(axis=0, out=HELD),
    "out of a reduction": lambda x: np.add.reduce(x, out=HELD),
    "order": lambda x: np.copy(x, order="F"),
    "order=": lambda x: x.astype(np.float32, order="F"),
    "order of a method": lambda x: x.copy("F"),
    "order of zeros_like": lambda x: np.zeros_like(x, order="F"),
    "order of reshape": lambda x: np.reshape(x, -1, order="A"),
    "order of ravel": lambda x: x.ravel("K"),
    "order of a ufunc": lambda x: np.add(x, 1, order="F"),
    "where": lambda x: np.add(x, 1, where=MASK),
    "signature": lambda x: np.add(x, 1, signature="ff->f"),
    "device": lambda x: np.zeros_like(x, device="tpu"),
    "initial": lambda x: np.sum(x, initial=x[0, 0]),
    "stat_length": lambda x: np.pad(x, 1, mode="mean", stat_length=2),
    "mean": lambda x: np.pad(x, 1, mode="mean"),
    "constant_values": lambda x: np.pad(x, 1, reflect_type="odd"),
    "matmul": lambda x: x @ x.T,
    "power of": lambda x: np.ldexp(x, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_honoured_is_named(name):
    with pytest.raises((CompileError, TypeError)) as error:
        minidl.compile(NAMED[name])(X)
    assert "np." in str(error.value) or "order" in str(error.value) or "pads with" in str(error.value)


WRONG = [
    lambda x: np.sum(x, nothing=1),
    lambda x: np.sum(x, axis=0, out=np.zeros_like(x)),
    lambda x: np.add(x, 1, out=np.zeros_like(x, shape=2)),
    lambda x: np.add(x, 1, out=np.zeros_like(x, dtype=np.int64)),
    lambda x: np.add(x, 1.5, dtype=np.int64),
    lambda x: np.add(x, 1, dtype=np.float32, casting="no"),
    lambda x: x.astype(np.int64, casting="safe"),
    lambda x: np.concatenate((x, x), dtype=np.int64),
    lambda x: np.split(x, 3, axis=1),
    lambda x: np.max(x, where=MASK),
    lambda x: np.take(x, [0], mode="around"),
    lambda x: np.clip(x, 0, 1, min=0),
    lambda x: np.reshape(x.T, -1, copy=False),
    lambda x: np.copyto(np.zeros_like(x, dtype=np.int64), x),
    lambda x: np.broadcast_to(x, (3, 4)).__setitem__(0, 1),
    lambda x: np.power(np.ones_like(x, dtype=np.int64), -1),
    lambda x: np.power(np.full_like(x, 2, dtype=np.int64), (x < 9).astype(int) * -1),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_numpys_errors_are_errors(n):
    with pytest.raises((TypeError, ValueError)):
        run(WRONG[n], X)
    with pytest.raises((TypeError, ValueError)):
        minidl.compile(WRONG[n])(X)


def _arguments():
    for name, function in binding.FUNCTIONS.items():
        try:
            parameters = inspect.signature(getattr(np, name)).parameters.values()
        except ValueError:
            continue
        own = list(inspect.signature(function).parameters.values())
        yield from ((name, p.name) for p in parameters if not any(q.kind is q.VAR_POSITIONAL for q in own)
                    and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.default is not p.empty)  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), list(_arguments()))
def test_no_argument_vanishes(name, argument):
    """A value that means nothing is an error, so it was looked at."""
    first = {"concatenate": (X, X), "stack": (X, X)}
    rest = {
        "full": (1,), "full_like": (1,), "reshape": ((4, 3),), "split": (1,), "take": ([0],), "pad": (1,), "roll": (1,),
        "take_along_axis": (ROWS[:, None],), "copyto": (1,), "where": (X, X),
    }.get(name, ())  # fmt: skip
    if len(rest) > list(inspect.signature(getattr(np, name)).parameters).index(argument) - 1 >= 0:
        pytest.skip("given by position")
    if argument in ("subok", "like", "keepdims") or (name, argument) == ("reshape", "copy"):
        pytest.skip("any value is one: no subclasses in a step, and what counts as True")

    class Nothing:
        def __index__(self):
            raise TypeError("no index")

        def __repr__(self):
            return "nothing"

    def step(x):
        given = [tuple(x for _ in range(2))] if name in first else [x]
        if name in ("empty", "zeros", "ones", "full"):
            return getattr(np, name)(3, *rest, **{argument: Nothing(), "like": x})
        return getattr(np, name)(*given, *rest, **{argument: Nothing()})

    with pytest.raises((CompileError, TypeError, ValueError)):
        minidl.compile(step)(X)
