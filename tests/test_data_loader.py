"""Batches and splits: against NumPy, for every layout, dtype and option."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minidl
from minidl import jit
from minidl.data import Dataset, Loader, mean_std, train_test_split
from minidl.data.loader import gather_images

RNG = np.random.default_rng(0)


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *(shape or (1, 3, 4))), np.uint8)


def converted(x: np.ndarray, mean: Any = 0.0, std: Any = 1.0) -> np.ndarray:
    """What a batch of these bytes should hold, in float64."""
    per_channel = (1, -1, *(1,) * (x.ndim - 2)) if x.ndim > 2 else (1, 1)
    return (x / 255 - np.reshape(mean, per_channel)) / np.reshape(std, per_channel)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=1e-7)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 2, -1)[::2, ..., ::2],
    "negative": lambda a: np.ascontiguousarray(a[::-1, ..., ::-1])[::-1, ..., ::-1],
    "transposed": lambda a: (
        np.ascontiguousarray(np.moveaxis(a, 1, -1)).swapaxes(1, -1)
        if a.ndim == 2
        else (np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1))
    ),
    "offset": lambda a: (
        np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape)
        if a.dtype == np.uint8
        else np.frombuffer(b"x" + a.tobytes(), np.uint8, offset=1).view(a.dtype).reshape(a.shape)
    ),
}


def readonly(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS["readonly"] = readonly


# ------------------------------------------------------------------------------- against a reference


@given(
    n=st.integers(0, 40),
    batch_size=st.integers(1, 45),
    drop_last=st.booleans(),
    seed=st.none() | st.integers(0, 9),
    layout=st.sampled_from(list(LAYOUTS)),
    dtype=st.sampled_from(["u1", "i1", "<i4", ">i4", "i8", "f2", "f4", "f8", ">f8", "?"]),
    shape=st.sampled_from([(), (3,), (1, 3, 4), (3, 2, 2), (2, 2), (2, 0, 2)]),
)
@settings(deadline=None, max_examples=200)
def test_batches(
    n: int, batch_size: int, drop_last: bool, seed: int | None, layout: str, dtype: str, shape: tuple[int, ...]
) -> None:
    plain = np.random.default_rng(n).integers(0, 256, (n, *shape)).astype(dtype)
    x = LAYOUTS[layout](plain) if shape else plain
    np.testing.assert_array_equal(x, plain)
    y = np.arange(n)
    loader = Loader(x, y, batch_size=batch_size, shuffle=seed is not None, seed=seed, drop_last=drop_last)
    order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    expected = [order[i : i + batch_size] for i in range(0, n, batch_size)]
    if drop_last:
        expected = [part for part in expected if len(part) == batch_size]
    batches = list(loader)
    assert len(batches) == len(loader) == len(expected)
    for (found_x, found_y), indices in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(found_y, indices)
        assert found_y.dtype == y.dtype
        if dtype == "u1" and shape:
            close(found_x, plain[indices] / 255)
        else:
            np.testing.assert_array_equal(found_x, plain[indices])
            assert found_x.dtype == plain.dtype
    np.testing.assert_array_equal(x, plain)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (6,), (2, 3)])
def test_layouts_of_images(layout: str, shape: tuple[int, ...]) -> None:
    plain = images(9, *shape)
    loader = Loader(LAYOUTS[layout](plain), batch_size=9)
    [batch] = loader
    close(batch, plain / 255)
    assert loader.arrays[0].flags.carray  # one form, so that the kernel is compiled once


def test_stride_zero() -> None:
    one = images(1, 2, 3, 4)
    x, y = np.broadcast_to(one, (7, 2, 3, 4)), np.broadcast_to(np.int64(4), (7,))
    for bx, by in Loader(x, y, batch_size=3):
        close(bx, np.broadcast_to(one / 255, bx.shape))
        np.testing.assert_array_equal(by, 4)
        by[...] = 5
    flat = np.broadcast_to(images(5, 1, 1, 1), (5, 2, 3, 3))
    [batch] = Loader(flat, batch_size=5)
    close(batch, flat / 255)


def test_every_byte_to_the_last_bit() -> None:
    """0 is 0.0 and 255 is 1.0 exactly; the others are within one part in 2²³, and ascend."""
    x = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    [batch] = Loader(x)
    values = batch.reshape(-1)
    assert values[0] == 0.0
    assert values[255] == 1.0
    np.testing.assert_allclose(values, np.arange(256) / 255, rtol=2**-23, atol=0)
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.1307, 0.3081),
        ([0.1, 0.5, 0.9], [0.2, 0.3, 1.7]),
        (np.float32(0.25), [1.0, 2.0, 4.0]),
        ([-1.0, 0.0, 2.0], 0.5),
        (np.array([0, 1, 2]), 1),
    ],
)
def test_mean_and_std(mean: Any, std: Any) -> None:
    x = images(11, 3, 5, 2)
    for start, (bx,) in zip((0, 4, 8), ((b,) for b in Loader(x, batch_size=4, mean=mean, std=std)), strict=True):
        expected = converted(x[start : start + 4], mean, std)
        assert bx.dtype == np.float32
        np.testing.assert_allclose(bx, expected, rtol=1e-6, atol=2e-6)


def test_mean_and_std_of_flat_images() -> None:
    x = images(4, 7)
    [batch] = Loader(x, mean=[0.3], std=0.6)
    np.testing.assert_allclose(batch, (x / 255 - 0.3) / 0.6, rtol=1e-6, atol=1e-6)


def test_standardised() -> None:
    x = images(200, 3, 6, 6) // np.array([1, 2, 5], np.uint8)[:, None, None]
    mean, std = mean_std(x)
    [batch] = Loader(x, batch_size=200, mean=mean, std=std)
    np.testing.assert_allclose(batch.mean((0, 2, 3), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(batch.std((0, 2, 3), dtype=np.float64), 1, atol=1e-6)


# --------------------------------------------------------------------------------- what goes in and out


def test_forms_of_input() -> None:
    x, y, w = images(6), np.arange(6), np.linspace(0, 1, 6)
    for made in (Loader(Dataset(x, y)), Loader(x, y), Loader((x, y)), Loader([x, y])):
        [batch] = made
        assert isinstance(batch, tuple)
        assert len(batch) == 2
        close(batch[0], x / 255)
        np.testing.assert_array_equal(batch[1], y)
    [(bx, by, bw)] = Loader(x, y, w)
    close(bx, x / 255)
    np.testing.assert_array_equal(by, y)
    np.testing.assert_array_equal(bw, w)
    for lone in (Loader(x), Loader((x,))):
        [batch] = lone
        close(batch, x / 255)


def test_byte_labels_stay_bytes() -> None:
    y = np.array([0, 9, 255], np.uint8)
    [(_, labels)] = Loader(images(3), y, mean=0.5, std=0.5)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_new_arrays(shuffle: bool) -> None:
    x, y, f = images(8), np.arange(8), RNG.random((8, 2))
    before = x.copy(), y.copy(), f.copy()
    loader = Loader(x, y, f, batch_size=8, shuffle=shuffle, seed=0)
    [first] = loader
    for array, source in zip(first, (x, y, f), strict=True):
        assert not np.shares_memory(array, source)
        assert array.flags.writeable
        assert array.flags.c_contiguous
        array[...] = 0
    for source, kept in zip((x, y, f), before, strict=True):
        np.testing.assert_array_equal(source, kept)
    a, b = next(iter(loader)), next(iter(loader))
    assert not any(np.shares_memory(p, q) for p, q in zip(a, b, strict=True))
    assert a[0].any()


def test_images_stay_bytes_in_memory() -> None:
    x = images(10)
    loader = Loader(x)
    assert loader.arrays[0] is x  # not even copied
    assert loader.arrays[0].dtype == np.uint8


def test_empty() -> None:
    for arrays in ((images(0), np.zeros(0)), (np.zeros((0, 3)),)):
        for drop_last in (True, False):
            loader = Loader(*arrays, shuffle=True, drop_last=drop_last)
            assert len(loader) == 0
            assert list(loader) == []
    assert list(Loader(images(3), batch_size=4, drop_last=True)) == []


def test_numpy_batch_size() -> None:
    assert [len(b) for b in Loader(images(5), batch_size=np.int32(2))] == [2, 2, 1]


# ------------------------------------------------------------------------------------------- order


def orders(loader: Loader, epochs: int = 3) -> list[list[int]]:
    return [[int(i) for batch in loader for i in batch] for _ in range(epochs)]


def test_seed() -> None:
    y = np.arange(50)
    a, b, c = (orders(Loader(y, batch_size=7, shuffle=True, seed=s)) for s in (3, 3, 4))
    assert a == b != c
    assert all(sorted(epoch) == list(range(50)) for epoch in a)
    assert a[0] != a[1] != a[2] != a[0]  # a new order in each epoch
    assert list(range(50)) not in a
    assert a == orders(Loader(y, batch_size=13, shuffle=True, seed=3))  # whatever the batch size


def test_seed_zero_is_a_seed() -> None:
    minidl.manual_seed(1)
    a = orders(Loader(np.arange(50), shuffle=True, seed=0))
    minidl.manual_seed(2)
    assert a == orders(Loader(np.arange(50), shuffle=True, seed=0))


def test_manual_seed_governs_what_has_no_seed() -> None:
    y = np.arange(50)
    minidl.manual_seed(5)
    a = orders(Loader(y, shuffle=True))
    minidl.manual_seed(5)
    b = orders(Loader(y, shuffle=True))
    minidl.manual_seed(6)
    c = orders(Loader(y, shuffle=True))
    assert a == b != c
    loader = Loader(y, shuffle=True)
    minidl.manual_seed(5)  # after the loader was made
    assert orders(loader) == a


def test_a_seeded_loader_leaves_the_default_generator_alone() -> None:
    minidl.manual_seed(5)
    a = orders(Loader(np.arange(50), shuffle=True), 1)
    minidl.manual_seed(5)
    orders(Loader(np.arange(50), shuffle=True, seed=1))
    orders(Loader(np.arange(50)))
    assert orders(Loader(np.arange(50), shuffle=True), 1) == a


def test_not_shuffled() -> None:
    assert orders(Loader(np.arange(9), batch_size=4, seed=1)) == [list(range(9))] * 3


def test_two_iterations_at_once() -> None:
    loader = Loader(np.arange(10), batch_size=5, shuffle=True, seed=0)
    one, two = iter(loader), iter(loader)
    first, second = [next(one)], [next(two)]
    first.append(next(one))
    second.append(next(two))
    for found in (first, second):
        assert sorted(np.concatenate(found)) == list(range(10))


def test_drop_last_leaves_out_other_examples_each_time() -> None:
    loader = Loader(np.arange(10), batch_size=4, shuffle=True, seed=0, drop_last=True)
    left_out = {frozenset(set(range(10)) - set(epoch)) for epoch in orders(loader, 6)}
    assert len(left_out) > 1
    assert all(len(s) == 2 for s in left_out)


# ------------------------------------------------------------------------------------------ threads


@pytest.mark.parametrize(("n", "c", "p"), [(1, 1, 1), (5, 3, 7), (64, 1, 49), (3, 2, 1000)])
def test_serial_and_parallel_builds_agree(n: int, c: int, p: int) -> None:
    """To the last bit, and with the source: multiply, round, add, round, in float32."""
    x = RNG.integers(0, 256, (n + 3, c, p), np.uint8)
    indices = RNG.integers(0, n + 3, n)
    scale, shift = (RNG.standard_normal(c).astype(np.float32) for _ in range(2))
    found = []
    for build in (gather_images.serial, gather_images.threaded):
        out = np.full((n, c, p), np.nan, np.float32)
        build(x, indices, scale, shift, out)
        found.append(out)
    product = x[indices].astype(np.float32) * scale[:, None]
    expected = product + shift[:, None]
    assert found[0].tobytes() == found[1].tobytes() == expected.tobytes()


def test_large_batches_use_threads() -> None:
    assert gather_images.parallel is not None
    arguments = (None, None, None, None)
    assert gather_images.parallel(*arguments, np.empty((128, 1, 2048), np.float32))
    assert not gather_images.parallel(*arguments, np.empty((1, 1, 784), np.float32))


PROGRAM = """
import hashlib, json, sys
import numpy as np, minidl
from minidl.data import Loader
minidl.set_num_threads(int(sys.argv[1]))
x = np.random.default_rng(0).integers(0, 256, (400, 3, 28, 28), np.uint8)
digest = hashlib.sha256()
for batch in Loader(x, batch_size=150, shuffle=True, seed=1, mean=[.1, .2, .3], std=.7):
    digest.update(batch.tobytes())
print(json.dumps(digest.hexdigest()))
"""


@pytest.mark.skipif(jit.interpreted(), reason="NUMBA_DISABLE_JIT=1: there are no threads, and loops take minutes")
def test_number_of_threads_changes_nothing() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(jit.__file__).parents[2])}
    found = [
        json.loads(subprocess.check_output([sys.executable, "-c", PROGRAM, n], env=environment, timeout=300))
        for n in ("1", "2")
    ]
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------- errors

X, Y = images(4, 3, 2, 2), np.arange(4)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Loader(X, Y[:3]), ValueError, r"expected arrays of one length, found lengths \[4, 3\]"),
        (lambda: Loader(), ValueError, "expected arrays of one length"),
        (lambda: Loader(Dataset(X, Y), batch_size=0), ValueError, "at least 1, found 0"),
        (lambda: Loader(X, batch_size=-3), ValueError, "at least 1, found -3"),
        (lambda: Loader(X, batch_size=2.0), TypeError, "batch_size as an int, found 2.0"),  # type: ignore[arg-type]
        (lambda: Loader(X, batch_size="8"), TypeError, "batch_size as an int, found '8'"),  # type: ignore[arg-type]
        (lambda: Loader(X, batch_size=True), TypeError, "batch_size as an int, found True"),
        (lambda: Loader(X, batch_size=None), TypeError, "batch_size as an int, found None"),  # type: ignore[arg-type]
        (lambda: Loader(X, mean=[0.1, 0.2]), ValueError, r"mean as a number or one for each of 3 .* found \(2,\)"),
        (lambda: Loader(X, std=[[1.0, 1.0, 1.0]]), ValueError, r"std as a number or .* 3 channels, found \(1, 3\)"),
        (lambda: Loader(X[:, 0, 0], mean=[0.1, 0.2]), ValueError, "each of 1 channels"),
        (lambda: Loader(X, std=0.0), ValueError, "std > 0"),
        (lambda: Loader(X, std=[1.0, 0.0, 1.0]), ValueError, "std > 0"),
        (lambda: Loader(X, std=-1.0), ValueError, "std > 0"),
        (lambda: Loader(X, std=math.nan), ValueError, "std > 0"),
        (lambda: Loader(X, std=math.inf), ValueError, "std > 0"),
        (lambda: Loader(X, mean=math.nan), ValueError, "finite mean"),
        (lambda: Loader(X, mean=[0.0, math.inf, 0.0]), ValueError, "finite mean"),
        (lambda: Loader(X, shuffle=True, seed=-1), ValueError, "non-negative|negative"),
        (lambda: Loader(5), TypeError, "unsized|len"),
        (lambda: Dataset(X, Y[:2]), ValueError, "as many labels as examples, found 2 and 4"),
        (lambda: train_test_split(), ValueError, "arrays of one length"),
        (lambda: train_test_split(X, Y[:3]), ValueError, r"found lengths \[4, 3\]"),
        (lambda: train_test_split(X, test_size=0), ValueError, "both sides, found 0 of 4"),
        (lambda: train_test_split(X, test_size=4), ValueError, "both sides, found 4 of 4"),
        (lambda: train_test_split(X, test_size=0.0), ValueError, "both sides, found 0 of 4"),
        (lambda: train_test_split(X, test_size=0.9), ValueError, "both sides, found 4 of 4"),
        (lambda: train_test_split(X, test_size=-1), ValueError, "both sides, found -1 of 4"),
        (lambda: train_test_split(X, test_size=1.0), ValueError, "both sides, found 4 of 4"),
        (lambda: train_test_split(X[:0]), ValueError, "both sides, found 0 of 0"),
        (lambda: train_test_split(X, test_size=1, stratify=Y[:3]), ValueError, "4 labels to stratify by, found 3"),
        (lambda: mean_std(X[0]), ValueError, r"images \(N, C, H, W\), found shape \(3, 2, 2\)"),
        (lambda: mean_std(X[:0]), ValueError, r"found shape \(0, 3, 2, 2\)"),
    ],
)
def test_errors(make: Callable[[], Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


# -------------------------------------------------------------------------------------------- splits


@given(n=st.integers(2, 60), data=st.data(), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=100)
def test_split_is_disjoint_and_complete(n: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, n - 1))
    stratify = data.draw(st.none() | st.lists(st.integers(0, 4), min_size=n, max_size=n))
    y = np.arange(n)
    x = np.stack([y, -y], 1)
    labels = None if stratify is None else np.array(stratify)
    parts = train_test_split(x, y, test_size=count, seed=seed, stratify=labels)
    x_train, x_test, y_train, y_test = parts
    assert (len(y_train), len(y_test)) == (n - count, count)
    assert sorted([*y_train, *y_test]) == list(range(n))
    np.testing.assert_array_equal(x_train, np.stack([y_train, -y_train], 1))  # the arrays stay aligned
    np.testing.assert_array_equal(x_test, np.stack([y_test, -y_test], 1))
    again = train_test_split(x, y, test_size=count, seed=seed, stratify=labels)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    if labels is not None:  # every class has its share, to within one example
        for label in set(stratify or ()):
            assert abs((labels[y_test] == label).sum() - (labels == label).sum() * count / n) < 1


@pytest.mark.parametrize(
    ("n", "test_size", "count"), [(10, 0.2, 2), (10, 3, 3), (100, 0.25, 25), (7, 0.5, 4), (5, np.int64(2), 2)]
)
def test_split_sizes(n: int, test_size: Any, count: int) -> None:
    train, test = train_test_split(np.arange(n), test_size=test_size, seed=0)
    assert (len(train), len(test)) == (n - count, count)


def test_split_default_is_a_fifth() -> None:
    train, test = train_test_split(np.arange(50))
    assert (len(train), len(test)) == (40, 10)


def test_split_of_a_dataset() -> None:
    data = Dataset(images(20), np.arange(20))
    train, test = train_test_split(data, test_size=5, seed=2)
    assert isinstance(train, Dataset)
    assert isinstance(test, Dataset)
    assert (len(train), len(test)) == (15, 5)
    assert sorted([*train.y, *test.y]) == list(range(20))
    np.testing.assert_array_equal(test.x, data.x[test.y])
    np.testing.assert_array_equal(train.x, data.x[train.y])
    np.testing.assert_array_equal(test.y, train_test_split(data.y, test_size=5, seed=2)[1])
    strata = train_test_split(data, test_size=4, seed=2, stratify=data.y % 4)[1]
    assert sorted(strata.y % 4) == [0, 1, 2, 3]


def test_split_takes_every_example_as_likely() -> None:
    """Over 400 seeds each of 10 examples is in a test set of 3 about 120 times (standard deviation 9)."""
    drawn = np.zeros(10)
    for seed in range(400):
        drawn[train_test_split(np.arange(10), test_size=3, seed=seed)[1]] += 1
    assert (abs(drawn - 120) < 45).all()


def test_stratified_split_is_shuffled() -> None:
    """By class and by place: a learner that does not shuffle shall not see the classes one after the other."""
    y = np.repeat([0, 1], [90, 10])
    i = np.arange(100)
    train, test, labels, _ = train_test_split(i, y, test_size=0.5, seed=0, stratify=y)
    for part in (train, test):
        assert 0.2 < (np.diff(part) > 0).mean() < 0.8
    where = np.flatnonzero(labels == 1)
    assert where.min() < 25 <= where.max()


def test_stratified_shares_of_small_classes() -> None:
    """One class of 60 and twenty of 3: a test set of 12 has 6 of the large one."""
    y = np.concatenate([np.zeros(60, int), np.repeat(np.arange(1, 21), 3)])
    for seed in range(5):
        test = train_test_split(y, test_size=12, seed=seed, stratify=y)[1]
        assert (test == 0).sum() == 6
    assert len({tuple(train_test_split(y, test_size=12, seed=s, stratify=y)[1]) for s in range(5)}) > 1


def test_split_without_a_seed_follows_manual_seed() -> None:
    y = np.arange(100)
    found = []
    for seed in (1, 1, 2):
        minidl.manual_seed(seed)
        found.append(list(train_test_split(y)[1]))
    assert found[0] == found[1] != found[2]
    assert list(train_test_split(y, seed=0)[1]) == list(train_test_split(y, seed=0)[1]) != found[0]


def test_split_copies() -> None:
    y = np.arange(10)
    for part in train_test_split(y, seed=0):
        part[...] = -1
    np.testing.assert_array_equal(y, np.arange(10))


# ------------------------------------------------------------------------------------------ mean, std


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_mean_std(layout: str, dtype: str) -> None:
    plain = images(30, 3, 4, 5) // np.array([1, 3, 60], np.uint8)[:, None, None]
    plain = plain if dtype == "u1" else (plain * 0.37 + 100).astype(dtype)
    mean, std = mean_std(LAYOUTS[layout](plain))
    wide = plain.astype(np.float64) / (255 if dtype == "u1" else 1)
    assert mean.shape == std.shape == (3,)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, wide.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, wide.std((0, 2, 3)), rtol=1e-12)


def test_mean_std_of_a_constant() -> None:
    mean, std = mean_std(np.full((2, 1, 3, 3), 51, np.uint8))
    np.testing.assert_allclose(mean, [0.2], rtol=1e-15)
    np.testing.assert_allclose(std, [0.0], atol=1e-15)


def test_float32_mean_does_not_drift() -> None:
    x = np.full((4, 1, 256, 1024), 0.1, np.float32)
    mean, std = mean_std(x)
    np.testing.assert_allclose(mean, [np.float64(np.float32(0.1))], rtol=1e-12)
    np.testing.assert_allclose(std, [0.0], atol=1e-12)


def test_repr_of_a_dataset() -> None:
    data = Dataset(X, Y)
    assert len(data) == 4
    assert repr(data) == "Dataset(x: uint8 (4, 3, 2, 2), y: int64 (4,))"


# ------------------------------------------------------------------------------- places


def places_of() -> tuple[Loader, np.ndarray]:
    x = images(7, 1, 2, 2)
    return Loader(x, np.arange(7)), x


@pytest.mark.parametrize(
    "wrong",
    [
        [10**6], [7], [-8], [0, 7], [-8, 0], [2**63 - 1], [-(2**63)], np.array([2**64 - 1], np.uint64), [2**70], [1.0],
        [float("nan")], [[0]], 3, [None], ["1"], [True], np.ones(6, bool), np.array([], object).reshape(0, 1), slice(2),
    ],
    ids=repr,
)  # fmt: skip
def test_places_beyond_the_examples_are_index_errors(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit.Kernel, "__call__", lambda *_: pytest.fail("a kernel ran"))
    for arrays in ((images(7, 1, 2, 2), np.arange(7)), (images(7, 3),), (np.arange(7),)):
        with pytest.raises(IndexError, match=r"Loader: expected .*examples"):
            Loader(*arrays).batch(wrong)


@pytest.mark.parametrize(
    "right",
    [
        [3, 0], [-1, -7, 6], (2,), [], np.array([], int), np.array([6, 6], np.uint64), np.array([-2, 1], np.int8),
        np.arange(7)[::-2], np.array([0, 5], ">i8"), readonly(np.array([4])), np.arange(7) > 4,
    ],
    ids=repr,
)  # fmt: skip
def test_places_are_numpys(right: Any) -> None:
    loader, x = places_of()
    before = np.array(right, int if len(right) == 0 else None)
    found, numbers = loader.batch(right)
    close(found, x[before] / 255)
    np.testing.assert_array_equal(numbers, np.arange(7)[before])
    np.testing.assert_array_equal(right, before)


def test_places_are_an_array_of_its_own() -> None:
    loader, _ = places_of()
    given = np.array([1, 2])
    assert not np.shares_memory(loader.places(given), given)
    loader.arrays[1] = np.arange(5)  # shorter than it was
    with pytest.raises(IndexError, match="from -5 to 4, found 1 to 6"):
        loader.batch([1, 6])


def test_an_order_of_the_users_is_checked_before_a_compiled_epoch() -> None:
    class Mine(Loader):
        def order(self) -> np.ndarray:
            return np.array([0, 1, 2, 10**6])

    with pytest.raises(IndexError, match="from -7 to 6, found 0 to 1000000"):
        minidl.compile(lambda x: x * 2.0).run(Mine(images(7, 4), batch_size=2))
