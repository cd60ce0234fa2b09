"""The matrix product: awkward sizes between guard bytes, transposition, batches, NaN, and digits over long sums."""

import ctypes
import itertools
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from minidl import Tensor, jit, ops
from minidl.ops import ladder
from minidl.ops.dense import dense_backward, dense_forward
from minidl.ops.linalg import matmul_forward, matmul_panel, matmul_tile, product, transpose_copy

SIZES = (1, 2, 5, 6, 7, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 160, 161, 257)
GUARD = 96
interpreted = jit.interpreted() or os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")


def sizes():
    """Each size as M, as N and as K, against small and random others: 200 of 19,683 triples."""
    rng = np.random.default_rng(0)
    for s, (a, b) in itertools.product(SIZES, [(3, 5), (7, 17)]):
        yield from ((s, a, b), (a, s, b), (a, b, s))
    yield 145, 65, 2  # two panels of rows
    for _ in range(0 if interpreted else 30):
        yield tuple(int(v) for v in rng.choice(SIZES, 3))
    if not interpreted:
        yield from (
            (529, 257, 3),
            (530, 322, 161),
            (1057, 130, 2),
            (288, 129, 320),
            (145, 65, 321),
            (528, 320, 160),
            (24, 64, 481),
            (25, 65, 479),
            (1023, 33, 17),
            (17, 1025, 31),
            (31, 15, 1024),
            (1025, 1, 1),
            (1, 1023, 1),
            (1, 1, 1025),
        )


class Guarded:
    """Arrays that lie, at odd element offsets, between elements that must stay as they are."""

    def __init__(self, dtype):
        self.dtype, self.buffers = np.dtype(dtype), []

    def __call__(self, values):
        values = np.asarray(values, self.dtype)
        buffer = np.full(values.size + 2 * GUARD + 3, np.nan, self.dtype)
        start = GUARD + len(self.buffers) % 3  # so that they are not aligned to vectors
        buffer[start : start + values.size] = values.reshape(-1)
        self.buffers.append((buffer, start, start + values.size))
        return buffer[start : start + values.size].reshape(values.shape)

    def check(self):
        for buffer, start, end in self.buffers:
            assert np.isnan(buffer[:start]).all(), "written before the array"
            assert np.isnan(buffer[end:]).all(), "written behind the array"


def numbers(rng, shape, dtype):
    """Small integers: every sum is exact, in any order."""
    return rng.integers(-8, 9, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("transposed", [False, True], ids=["A", "A.T"])
def test_awkward_sizes(dtype, transposed):
    rng = np.random.default_rng(1)
    for m, n, k in sizes():
        guarded = Guarded(dtype)
        a, b = numbers(rng, (m, k), dtype), numbers(rng, (k, n), dtype)
        c = guarded(np.full((m, n), np.nan))
        stored = guarded(a.T if transposed else a)
        matmul_forward(stored, m * k, *((1, m) if transposed else (k, 1)), guarded(b), 0, c)
        np.testing.assert_array_equal(c, a @ b, err_msg=f"M {m}, N {n}, K {k}")
        guarded.check()


@pytest.mark.parametrize(
    "rung", [ladder.naive, ladder.reordered, ladder.blocked, ladder.tiled], ids=lambda k: k.__name__
)
@pytest.mark.parametrize("transposed", [False, True], ids=["A", "A.T"])
def test_every_rung_of_the_ladder(rung, transposed):
    rng = np.random.default_rng(1)
    for m, n, k in [(1, 1, 1), (3, 2, 4), (5, 7, 6), (2, 3, 65), (3, 257, 2), (1, 2, 0), (17, 31, 5), (2, 300, 67)]:
        for shared in (False, True):
            guarded = Guarded(np.float32)
            a, b = numbers(rng, (2, m, k), np.float32), numbers(rng, (k, n) if shared else (2, k, n), np.float32)
            c = guarded(np.full((2, m, n), np.nan))
            stored = guarded(a.swapaxes(1, 2) if transposed else a)
            rung(stored, m * k, *((1, m) if transposed else (k, 1)), guarded(b), 0 if shared else k * n, c)
            np.testing.assert_array_equal(c, a @ b, err_msg=f"M {m}, N {n}, K {k}")
            guarded.check()


@pytest.mark.parametrize("transposed", [False, True], ids=["A", "A.T"])
@pytest.mark.parametrize("shared", [False, True], ids=["each-its-B", "one-B"])
def test_batches(shared, transposed):
    rng = np.random.default_rng(2)
    for m, n, k in [(1, 1, 1), (5, 7, 3), (6, 16, 4), (7, 65, 9)] + ([] if interpreted else [(133, 66, 257)]):
        guarded = Guarded(np.float32)
        a = numbers(rng, (3, m, k), np.float32)
        b = numbers(rng, (k, n) if shared else (3, k, n), np.float32)
        c = guarded(np.full((3, m, n), np.nan))
        stored = guarded(a.swapaxes(1, 2) if transposed else a)
        matmul_forward(stored, m * k, *((1, m) if transposed else (k, 1)), guarded(b), 0 if shared else k * n, c)
        np.testing.assert_array_equal(c, a @ b)
        guarded.check()


def test_a_tile_adds_or_sets():
    rng = np.random.default_rng(3)

    def run(rows, columns, terms, accumulate):
        guarded = Guarded(np.float64)
        a, b, c = (numbers(rng, s, float) for s in ((rows, terms), (terms, columns), (rows, columns)))
        result, kept = guarded(c), guarded(np.full((terms, 32), np.nan))
        matmul_tile(
            guarded(a).reshape(-1),
            0,
            terms,
            1,
            guarded(b).reshape(-1),
            0,
            columns,
            kept.reshape(-1),
            True,
            result.reshape(-1),
            0,
            columns,
            terms,
            rows,
            columns,
            accumulate,
        )
        np.testing.assert_array_equal(result, a @ b + c * accumulate)
        np.testing.assert_array_equal(kept[:, :columns], b)
        guarded.check()

    for rows, columns, accumulate in itertools.product((1, 5, 6, 24), (1, 8, 17, 32), (False, True)):
        run(rows, columns, 3, accumulate)
        run(rows, columns, 0, accumulate)


@pytest.mark.parametrize("kernel", [matmul_forward, matmul_panel], ids=lambda k: k.__name__)
def test_interpreted_equals_compiled(kernel):
    rng = np.random.default_rng(4)
    for m, n, k in [(1, 1, 1), (7, 5, 3), (13, 17, 6), (3, 65, 2), (26, 3, 170)]:
        a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
        found = []
        for fn in (kernel, kernel.py_func):
            c = np.full((m, n), np.nan)
            if kernel is matmul_forward:
                fn(a, m * k, k, 1, b, 0, c)
            elif n <= 32:
                fn(a.reshape(-1), 0, k, 1, m, False, b.reshape(-1), 0, n, c.reshape(-1), 0, n, k, 0, m, n)
            else:
                c[:] = a @ b
            found.append(c)
            np.testing.assert_allclose(c, a @ b, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(*found, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
def test_dense_kernels(dtype, rectify):
    rng = np.random.default_rng(5)
    shapes = [(1, 1, 1), (5, 3, 7), (6, 4, 16), (17, 2, 33), (33, 5, 65)]
    for n, i, o in shapes + ([] if interpreted else [(133, 257, 129), (128, 100, 10), (64, 64, 64)]):
        guarded = Guarded(dtype)
        x, w, b = (numbers(rng, s, dtype) for s in ((n, i), (i, o), (o,)))
        y = guarded(np.full((n, o), np.nan))
        dense_forward(guarded(x), guarded(w), guarded(b), rectify, y)
        z = x @ w + b
        np.testing.assert_array_equal(y, np.maximum(z, 0) if rectify else z, err_msg=f"{n} {i} {o}")
        dy, dz, db = guarded(numbers(rng, (n, o), dtype)), guarded(np.full((n, o), np.nan)), guarded(np.full(o, np.nan))
        dense_backward(dy, y, rectify, dz if rectify else dy, db)
        expected = np.where(z > 0, dy, 0) if rectify else dy
        if rectify:
            np.testing.assert_array_equal(dz, expected)
        np.testing.assert_array_equal(db, expected.sum(0))
        guarded.check()


def test_dense_relu_is_relu_of_dense_to_the_bit():
    rng = np.random.default_rng(6)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((13, 20), (17, 20), (17,)))
    results = []
    for fn in (ops.dense_relu, lambda x, w, b: ops.relu(ops.dense(x, w, b))):
        tensors = [Tensor(v, requires_grad=True) for v in (x, w, b)]
        y = fn(*tensors)
        y.backward(np.ones(y.shape))
        results.append([y.data, *(t.grad for t in tensors)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
def test_transposed_copies(dtype):
    rng = np.random.default_rng(11)
    for shape in [(1, 1, 1), (2, 1, 17), (3, 17, 1), (1, 15, 16), (2, 16, 33), (1, 33, 47)]:
        guarded = Guarded(dtype)
        x, y = guarded(rng.normal(size=shape)), guarded(np.full((shape[0], shape[2], shape[1]), np.nan))
        transpose_copy(x, y)
        np.testing.assert_array_equal(y, x.swapaxes(1, 2))
        guarded.check()
    b = numbers(rng, (129, 128), dtype)  # large enough for `product` to use it
    np.testing.assert_array_equal(product(numbers(rng, (2, 128), dtype) * 0 + 1, b.T), np.tile(b.sum(1), (2, 1)))
    batch = numbers(rng, (2, 130, 70), dtype)
    ones = np.ones((2, 3, 70), dtype)
    np.testing.assert_array_equal(product(ones, batch.swapaxes(1, 2)), ones @ batch.swapaxes(1, 2))


BATCHES = [
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((4, 1, 2, 3), (5, 3, 1)),
    ((1, 2, 3), (6, 3, 2)),
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((3,), (4, 3, 2)),
    ((4, 2, 3), (3,)),
    ((2, 0), (0, 3)),
    ((0, 2), (2, 3)),
    ((2, 3), (3, 0)),
    ((0, 2, 3), (3, 4)),
    ((0,), (0,)),
    ((2, 1, 0, 3), (3, 3, 2)),
    ((1, 1), (1, 1)),
    ((2, 2, 2, 3), (2, 3, 2)),
    ((0,), (0, 3)),
    ((3, 0, 2), (3, 2, 0)),
]


@pytest.mark.parametrize("shapes", BATCHES, ids=str)
def test_matmul_is_numpys(shapes):
    rng = np.random.default_rng(7)
    a, b = (numbers(rng, s, float) for s in shapes)
    y = ops.matmul(Tensor(a, requires_grad=True), Tensor(b, requires_grad=True))
    np.testing.assert_array_equal(y.data, np.matmul(a, b), strict=True)
    for one, other in ((a, b.copy(order="F")), (a.copy(order="F"), b), (np.flip(np.flip(a).copy()), b)):
        np.testing.assert_array_equal(ops.matmul(one, other).data, np.matmul(a, b))
    if a.ndim > 1 and b.ndim > 1:
        swapped = ops.matmul(
            Tensor(b).transpose(*range(b.ndim - 2), -1, -2), Tensor(a).transpose(*range(a.ndim - 2), -1, -2)
        )
        np.testing.assert_array_equal(swapped.data, np.swapaxes(np.matmul(a, b), -1, -2))


def test_mixed_dtypes():
    rng = np.random.default_rng(10)
    a, b = numbers(rng, (5, 7), np.float32), numbers(rng, (5, 9), np.float64)
    for left, right in ((a.T, b), (b.T, a), (a.T, a.astype(">f4")), (b.T.astype(np.float32), b.astype(">f8"))):
        y = product(left, right)
        assert y.dtype == np.result_type(left, right)
        np.testing.assert_array_equal(y, left @ right)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_bad_element_reaches_its_row_or_column_only(value):
    m, n, k = (8, 9, 4) if interpreted else (14, 67, 260)
    for i, j in ((0, 0), (m - 1, k - 1), (5, k // 2), (6, 1)):
        a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        a[i, j] = value
        rows = ~np.isfinite(product(a, b)).all(1)
        np.testing.assert_array_equal(np.flatnonzero(rows), [i])
        assert not np.isfinite(product(a, b)[i]).any()
    for i, j in ((0, 0), (k - 1, n - 1), (k // 2, 8), (1, 5)):
        a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        b[i, j] = value
        y = product(a, b)
        np.testing.assert_array_equal(np.flatnonzero(~np.isfinite(y).any(0)), [j])
        np.testing.assert_array_equal(y[:, np.arange(n) != j], k)
    a[0, 0], b[0, 0] = 0, np.inf
    assert np.isnan(product(a, b)[0, 0])


@pytest.mark.skipif(interpreted, reason="the digits are those of the compiled kernel; interpreted it takes minutes")
def test_long_float32_sums_keep_their_digits():
    rng = np.random.default_rng(8)
    a, b = rng.uniform(0, 1, (6, 1 << 16)).astype(np.float32), rng.uniform(0, 1, (1 << 16, 17)).astype(np.float32)
    np.testing.assert_allclose(product(a, b), a.astype(float) @ b.astype(float), rtol=3e-6)
    ones = np.ones((1, 1 << 25), np.float32)  # one float32 accumulator stops at 2²⁴
    assert product(ones, ones.T).item() == 1 << 25


@pytest.mark.skipif(interpreted, reason="there are no threads")
def test_threads_and_positions_change_no_bit():
    rng = np.random.default_rng(9)
    a, b = rng.normal(size=(140, 300)).astype(np.float32), rng.normal(size=(300, 130)).astype(np.float32)
    whole = product(a, b)
    before = jit.get_num_threads()
    try:
        jit.set_num_threads(1)
        np.testing.assert_array_equal(product(a, b), whole)
    finally:
        jit.set_num_threads(before)
    np.testing.assert_array_equal(product(a[3:4], b), whole[3:4])  # an element is the same chain wherever it stands
    np.testing.assert_array_equal(product(a, b[:, 77:78]), whole[:, 77:78])
    np.testing.assert_array_equal(product(a.T.copy().T, b), whole)


AT_THE_EDGE = """
import ctypes, mmap
import numpy as np
from minidl.ops.linalg import matmul_forward
PAGE, keep = mmap.PAGESIZE, []
mprotect = ctypes.CDLL(None, use_errno=True).mprotect

def at_edge(values, behind):  # flush against a page that may not be touched
    pages = -(-values.nbytes // PAGE)
    area = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    for page in (0, pages + 1):
        assert mprotect(ctypes.c_void_p(base + page * PAGE), PAGE, 0) == 0
    keep.append(area)
    start = PAGE + (pages * PAGE - values.nbytes if behind else 0)
    array = np.frombuffer(area, values.dtype, values.size, start).reshape(values.shape)
    array[...] = values
    return array

for dtype in (np.float32, np.float64):
    for behind in (False, True):
        for m, n, k in [(1, 1, 1), (5, 7, 3), (6, 16, 1), (7, 17, 2), (13, 33, 5), (1, 63, 4),
                        (14, 65, 3), (6, 64, 257)]:
            a, b = np.ones((m, k), dtype), np.ones((k, n), dtype)
            for row, column in ((k, 1), (1, m)):
                c = at_edge(np.zeros((m, n), dtype), behind)
                stored = at_edge(a if column == 1 else a.T.copy(), behind)
                matmul_forward(stored, m * k, row, column, at_edge(b, behind), 0, c)
                assert (c == k).all()
print("untouched")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses Linux's mprotect")
@pytest.mark.skipif(interpreted, reason="bounds of interpreted and checked loops are checked by NumPy and Numba")
def test_nothing_beyond_the_arrays_is_touched():
    """Guard bytes catch writes; a guard page catches reads too, by ending the process."""
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    assert mmap.PAGESIZE >= 4096
    done = subprocess.run([sys.executable, "-c", AT_THE_EDGE], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "untouched\n"), done.stderr
