"""Kernels: the registry, lazy compilation, swapping, the emitted tile, the private cache, and threads."""

import importlib
import inspect
import json
import os
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import jit, ops
from minidl.jit import KERNELS, Kernel, cache, get_num_threads, kernel, prange, set_num_threads
from minidl.jit.environment import cache_root, private_directory
from minidl.jit.kernel import _called
from minidl.ops import tile as _tile
from minidl.ops.activation import relu_forward
from minidl.ops.conv_kernels import lane_products, matmul_taps
from minidl.ops.linalg import matmul_forward, matmul_tile
from minidl.ops.sums import lane_sums

compiled = pytest.mark.skipif(jit.interpreted(), reason="NUMBA_DISABLE_JIT=1: there is no compiled code to test")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")


def python(code: str, timeout: float = 300, **env: str | None) -> Any:
    """Run this in a fresh process; what its last line prints, from JSON."""
    variables = {**os.environ, "PYTHONPATH": str(Path(jit.__file__).parents[2]), **env}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={k: v for k, v in variables.items() if v is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert run.returncode == 0, f"exit {run.returncode}\n{run.stderr}"
    return json.loads(run.stdout.splitlines()[-1])


def scale(x, factor, y):
    """y = factor·x"""
    for i in range(x.size):
        y[i] = factor * x[i]


def call(k: Any) -> list[float]:
    y = np.empty(3)
    k(np.arange(3.0), 2.0, y)
    return y.tolist()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "cache_directory", lambda: str(tmp_path))
    return tmp_path


def hits_and_misses(k: Kernel) -> tuple[int, int]:
    stats: Any = k.serial.stats
    return sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


# -------------------------------------------------------------------------------- registry, swapping


def test_registry_lists_every_kernel():
    assert KERNELS["relu_forward"] is relu_forward
    assert all(name == k.__name__ == k.py_func.__name__ for name, k in KERNELS.items())
    assert {"dense_forward", "matmul_forward", "adam_update", "sgd_update"} <= set(KERNELS)
    assert "relu_forward(x" in repr(relu_forward)
    before = dict(KERNELS)
    try:
        made = kernel(scale)
        assert KERNELS["scale"] is made
        assert made.py_func is scale
        assert made.__doc__ == "y = factor·x"
        assert kernel(fma=True, parallel=lambda *_: False)(scale).fma
    finally:
        KERNELS.clear()
        KERNELS.update(before)


def test_a_name_of_a_kernel_or_variant_is_taken_once():
    def relu_forward(x, y):
        y[:] = x

    def cell():
        def mine_for_test(x, y):
            y[:] = x

        return mine_for_test

    own = KERNELS["relu_forward"]
    before, variants = dict(KERNELS), dict(own.variants)
    try:
        for register in (kernel, kernel(fma=True)):
            with pytest.raises(ValueError, match=r"kernel .*relu_forward of .*: the name 'relu_forward' is taken by "):
                register(relu_forward)
            assert KERNELS["relu_forward"] is own
        made = kernel(replace=True)(relu_forward)
        assert KERNELS["relu_forward"] is made
        assert kernel(cell()) is not (again := kernel(cell()))  # a notebook's cell that runs again
        assert KERNELS["mine_for_test"] is again
        assert own.variant(cell()) is not (again := own.variant(cell()))
        assert own.variants["mine_for_test"] is again

        def mine_for_test(x, y):
            y[:] = x

        with pytest.raises(ValueError, match=r"variant .*'mine_for_test' is taken by"):
            own.variant(mine_for_test)
        assert own.variant(replace=True)(mine_for_test) is own.variants["mine_for_test"]
    finally:
        KERNELS.clear()
        KERNELS.update(before)
        own.variants.clear()
        own.variants.update(variants)


def test_kernels_run_compiled_and_as_plain_python():
    made = Kernel(scale)
    assert call(made) == call(made.py_func) == [0, 2, 4]
    assert (inspect.unwrap(made.serial) is scale) == jit.interpreted()


def test_replaced_by_kernels_functions_and_nested():
    x = np.array([-1.0, 2.0])
    seen = []

    def spy(x, y):
        seen.append(threading.current_thread().name)
        y[:] = 7

    def other(x, y):
        y[:] = 9

    with relu_forward.replaced_by(spy):
        assert ops.relu(x).data.tolist() == [7, 7]
        with relu_forward.replaced_by(Kernel(other)):
            assert ops.relu(x).data.tolist() == [9, 9]
        assert ops.relu(x).data.tolist() == [7, 7]
        thread = threading.Thread(target=ops.relu, args=(x,), name="another")
        thread.start()
        thread.join()
    assert seen[-1] == "another"
    assert ops.relu(x).data.tolist() == [0, 2]


def test_replaced_by_is_undone_when_an_exception_passes():
    def breaks(x, y):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), relu_forward.replaced_by(breaks):
        ops.relu(np.ones(2))
    assert ops.relu(np.ones(2)).data.tolist() == [1, 1]


@pytest.mark.parametrize("wrong", [lambda x: None, lambda x, y, z: None, Kernel(scale)])
def test_replaced_by_another_number_of_arguments(wrong):
    with (
        pytest.raises(TypeError, match=r"relu_forward takes 2 arguments, but .* takes [13]"),
        relu_forward.replaced_by(wrong),
    ):
        pass
    assert ops.relu(np.ones(2)).data.tolist() == [1, 1]


@compiled
def test_fma_is_what_a_kernel_asks_for():
    """a·a − b where rounding a·a first gives 0; a fused multiply-add does not round it."""

    def fused(x, y):
        for i in range(x.size):
            y[i] = x[i] * x[i] - y[i]

    x = np.full(8, 1 + 2.0**-30)
    results = []
    for fma in (False, True):
        y = x * x
        Kernel(fused, fma=fma)(x, y)
        results.append(y)
    assert (results[0] == 0).all()
    import llvmlite.binding as llvm

    if llvm.get_host_cpu_features().get("fma"):
        assert (results[1] == 2.0**-60).all()


@compiled
@pytest.mark.parametrize("fma", [False, True])
def test_sums_keep_their_order_and_nan_its_meaning(fma):
    def sums(x, y):
        total = 0.0
        for i in range(x.size):
            total += x[i]
        y[0] = total
        y[1] = 1.0 if x[0] != x[0] else 0.0

    made, y = Kernel(sums, fma=fma), np.empty(2)
    x = np.random.default_rng(0).normal(size=10_001) * 10.0 ** np.random.default_rng(1).integers(-8, 8, 10_001)
    made(x, y)
    expected = 0.0
    for v in x.tolist():
        expected += v
    assert y[0] == expected
    made(np.array([np.nan]), y)
    assert y[1] == 1


# ------------------------------------------------------------------------------------- emitted tile


def calls_the_tile(a, a_at, a_row, a_col, b, b_at, b_row, kept, keep, c, c_at, c_row, terms, rows, columns, accumulate):
    matmul_tile(a, a_at, a_row, a_col, b, b_at, b_row, kept, keep, c, c_at, c_row, terms, rows, columns, accumulate)


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_emitted_tile_is_its_source_to_the_bit(dtype, own_cache):
    emitted, source = Kernel(calls_the_tile, fma=True), Kernel(matmul_tile.py_func, fma=True)
    rng = np.random.default_rng(0)
    a, b, start = (rng.normal(size=9000).astype(dtype) for _ in range(3))
    width = 256 // a.itemsize
    shapes = [
        (m, n) for m in (1, 2, 5, 6, 7, 11, 12, 13, 18, 23, 24) for n in (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64)
    ]
    for n, (rows, columns) in enumerate((m, n) for m, n in shapes if n <= width):
        terms, c_row, b_row = [0, 1, 2, 13, 40][n % 5], columns + n % 3, columns + n % 4
        a_row, a_column = (terms + n % 2, 1) if n % 2 else (1, rows + n % 3)  # A as it is, or transposed
        at, keep = 5 + n % 7, n % 4 < 2
        found, expected = start.copy(), start.copy()
        kept = [np.full(40 * width + 8, np.nan, dtype) for _ in range(2)]
        for k, c, to in ((emitted, found, kept[0]), (source, expected, kept[1])):
            k(a, at, a_row, a_column, b, at + 1, b_row, to, keep, c, at + 2, c_row, terms, rows, columns, n % 3 == 0)
        np.testing.assert_array_equal(found, expected)
        touched = np.zeros(start.size, bool)
        for i in range(rows):
            touched[at + 2 + i * c_row : at + 2 + i * c_row + columns] = True
        np.testing.assert_array_equal(found[~touched], start[~touched])
        for to in kept:
            assert np.isnan(to[terms * width if keep else 0 :]).all()
            copy = to[: terms * width].reshape(terms, width)[:, :columns]
            whole = np.array([b[at + 1 + k * b_row : at + 1 + k * b_row + columns] for k in range(terms)])
            np.testing.assert_array_equal(copy, whole.reshape(copy.shape) if keep else np.full_like(copy, np.nan))


def calls_taps(a, b, places, c, terms, rows, columns, accumulate):
    matmul_taps(a, 3, terms, b, 5, places, c, 2, columns + 1, terms, rows, columns, accumulate)


def calls_products(a, b, places, c, images, steps, rows, columns):
    row = steps * (64 // a.itemsize)
    lane_products(a, 1, row, rows * row, b, 5, places, 300, c, columns, images, steps, rows, columns)


def calls_sums(a, b, first, steps, a_centre, b_centre, lanes):
    lane_sums(a, b, first, steps, a_centre, b_centre, lanes[:32])


@compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_emitted_for_convolution_and_sums_is_its_source_to_the_bit(dtype, own_cache):
    rng = np.random.default_rng(0)
    a, b, start = (rng.normal(size=6000).astype(dtype) for _ in range(3))
    places = rng.integers(0, 200, 40)

    def check(calls, *arguments):
        found, expected = start.copy(), start.copy()
        for to, run in ((found, Kernel(calls, fma=True)), (expected, SOURCES[calls])):
            run(*(to if x is start else x for x in arguments))
        np.testing.assert_array_equal(found, expected)

    for rows in (1, 3, 4, 7, 8, 9, 17):
        for columns in (1, 15, 16, 17, 24, 47, 48):
            check(calls_taps, a, b, places, start, [1, 9, 40][columns % 3], rows, columns, rows % 2 == 0)
    for rows in (1, 2, 7, 8, 9, 16):
        for columns in (1, 2, 3, 9, 10):
            check(calls_products, a, b, places, start, [0, 1, 3][columns % 3], [1, 2][rows % 2], rows, columns)
    for steps in (0, 1, 2, 64):
        check(calls_sums, a, b, steps % 3, steps, dtype(0.1), dtype(-3), start)


def from_source(calls, name):
    """What `calls` does with the plain Python of the kernel that it calls, compiled."""
    function = types.FunctionType(calls.__code__, {**globals(), name: Kernel(globals()[name].py_func, fma=True)})
    function.__qualname__ = f"{name}_from_source"  # or it would share the other's place in the cache
    return Kernel(function, fma=True)


SOURCES = {
    calls: from_source(calls, name)
    for calls, name in ((calls_taps, "matmul_taps"), (calls_products, "lane_products"), (calls_sums, "lane_sums"))
}


@compiled
def test_where_the_tile_is_emitted(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "BOUNDSCHECK", None)
    monkeypatch.setattr(numba.config, "CPU_NAME", "skylake-avx512")
    assert _tile.vector_bytes() == 64
    assert _called(matmul_tile) is _tile.matmul_tile
    monkeypatch.setattr(numba.config, "CPU_NAME", "haswell")
    assert _tile.vector_bytes() == 32
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", 1)
    assert _called(matmul_tile) is matmul_tile.serial  # only source checks its bounds
    monkeypatch.setattr(numba.config, "BOUNDSCHECK", None)
    monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
    assert _called(matmul_tile) is matmul_tile.serial
    assert _called(matmul_forward) is matmul_forward.serial


# --------------------------------------------------------------------------------------------- cache


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "mine"))
    assert Path(cache_root()) == tmp_path / "mine"
    monkeypatch.setenv("MINIDL_CACHE", "")
    assert Path(cache_root()) == tmp_path / "xdg" / "minidl"
    monkeypatch.delenv("MINIDL_CACHE")
    assert Path(cache_root()) == tmp_path / "xdg" / "minidl"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert Path(cache_root()) == tmp_path / "home" / ".cache" / "minidl"


@posix
def test_directories_are_private(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "deep" / "cache"))
    mask = os.umask(0)
    try:
        made = private_directory("kernels", "v1")
    finally:
        os.umask(mask)
    assert made == str(tmp_path / "deep" / "cache" / "kernels" / "v1")
    for directory in (made, *list(Path(made).parents)[:2]):
        assert os.stat(directory).st_mode & 0o777 == 0o700
    assert private_directory("kernels", "v1") == made


@posix
@pytest.mark.parametrize("place", ["", "kernels", "kernels/v1"])
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_directories_that_others_can_write_to_are_refused(monkeypatch, tmp_path, place, mode):
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    private_directory("kernels", "v1")
    (tmp_path / "cache" / place).chmod(mode)
    with pytest.raises(PermissionError, match=rf"others can write to .*{mode:04o}"):
        private_directory("kernels", "v1")


@posix
def test_directories_of_others_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(PermissionError, match=r"belongs to user"):
        private_directory("kernels")


@pytest.mark.parametrize("refused", ["below a file", "writable by all"])
def test_a_cache_that_cannot_be_is_one_warning(monkeypatch, tmp_path, refused):
    if refused == "below a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "file" / "cache"))
    elif os.name == "nt":
        pytest.skip("Windows has no mode bits")
    else:
        tmp_path.chmod(0o777)
        monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    cache.cache_directory.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"compiled anew in every process: .*MINIDL_CACHE"):
            assert cache.cache_directory() is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert cache.cache_directory() is None
            assert call(Kernel(scale)) == [0, 2, 4]
    finally:
        cache.cache_directory.cache_clear()
    assert not any(path.suffix in (".nbi", ".nbc") for path in tmp_path.rglob("*"))


def test_the_cache_is_keyed_by_what_code_depends_on(monkeypatch, tmp_path):
    import numba

    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path))
    find = cache.cache_directory.__wrapped__
    usual = find()
    assert Path(usual).parent == tmp_path / "kernels"
    assert find() == usual
    for option, value in (("BOUNDSCHECK", 7), ("CPU_NAME", "another"), ("CPU_FEATURES", "+none"), ("OPT", 0)):
        with monkeypatch.context() as patch:
            patch.setattr(numba.config, option, value)
            assert find() != usual
    monkeypatch.setattr(numba, "__version__", "0.0")
    assert find() != usual


@compiled
def test_second_builds_come_from_the_cache(own_cache):
    first, second = Kernel(scale), Kernel(scale)
    assert call(first) == [0, 2, 4]
    assert hits_and_misses(first) == (0, 1)
    assert {path.suffix for path in own_cache.iterdir()} == {".nbi", ".nbc"}
    assert call(second) == [0, 2, 4]
    assert hits_and_misses(second) == (1, 0)


def squares(x, y):
    for i in prange(x.size):
        y[i] = x[i] * x[i]


@compiled
def test_serial_and_parallel_builds_do_not_take_each_others_files(own_cache):
    x, y = np.arange(5.0), np.empty(5)
    for _ in range(2):
        made = Kernel(squares, parallel=lambda *_: True)
        for build in (made.serial, made.threaded):
            build(x, y)
            assert y.tolist() == [0, 1, 4, 9, 16]
        assert not made.serial.targetoptions.get("parallel")
        assert made.threaded.targetoptions.get("parallel")
        assert made.serial._cache.cache_path == str(own_cache)
    names = [path.name for path in own_cache.glob("*.nbi")]
    assert sum("squares.serial" in name for name in names) == 1
    assert sum("squares.parallel" in name for name in names) == 1


DAMAGE = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "almost whole": lambda data: data[:-1],
    "garbage": lambda data: os.urandom(len(data)),
    "text": lambda data: b"cos\nnonsense\n(S'x'\ntR.",
    "another pickle": lambda data: b"\x80\x04]\x94.",
}


@compiled
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_files_are_compiled_again(own_cache, damage, suffix):
    call(Kernel(scale))
    for path in own_cache.glob(f"*{suffix}"):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    again, after = Kernel(scale), Kernel(scale)
    assert call(again) == [0, 2, 4]
    assert call(after) == [0, 2, 4]
    assert hits_and_misses(after) == (1, 0)  # and the cache is whole again


@compiled
def test_a_cache_that_disappears_or_cannot_be_written_does_not_stop_a_kernel(own_cache, monkeypatch):
    monkeypatch.setattr(cache, "cache_directory", lambda: str(own_cache / "file" / "below"))
    (own_cache / "file").write_text("")
    assert call(Kernel(scale)) == [0, 2, 4]


TRAIN = """
import json, numpy as np, minidl
from minidl import jit, nn, ops, optim

def train(steps=3, seed=0, sizes=(20, 30, 5), batch=16, Optimizer=optim.Adam):
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Dense(*sizes[:2], generator=rng), nn.ReLU(), nn.Dense(*sizes[1:], generator=rng))
    optimizer = Optimizer(model.parameters(), lr=1e-2)
    x, y = rng.normal(size=(batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[2], batch)
    for _ in range(steps):
        loss = ops.softmax_cross_entropy(model(x), y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    return [loss.item(), *(float(p.data.sum()) for p in model.parameters())], model
"""


@compiled
def test_the_second_process_compiles_nothing(tmp_path):
    code = (
        TRAIN
        + """
train()
builds = [b for k in jit.KERNELS.values() for b in (k._serial, k._threaded) if hasattr(b, "stats")]
counts = [sum(sum(getattr(b.stats, n).values()) for b in builds) for n in ("cache_hits", "cache_misses")]
print(json.dumps(counts))
"""
    )
    python(code)
    hits, misses = python(code)
    assert hits >= 5
    assert misses == 0


@compiled
def test_a_kernel_that_is_jumped_to_may_be_lost_from_the_cache(tmp_path):
    code = """
import numpy as np
from minidl.ops.linalg import product
from minidl.ops.linalg import matmul_forward
total = float(product(np.ones((3, 5)), np.ones((5, 2))).sum())
print([total, sum(matmul_forward.serial.stats.cache_hits.values())])
"""
    for hits in (0, 1):
        assert python(code, MINIDL_CACHE=str(tmp_path)) == [30, hits]
    lost = list(tmp_path.rglob("*matmul_panel*"))
    assert lost
    for path in lost:
        path.unlink()
    for hits in (0, 1):  # the product is compiled again, for the panel's new place
        assert python(code, MINIDL_CACHE=str(tmp_path)) == [30, hits]


def test_kernels_without_numba_and_with_every_check_agree():
    code = TRAIN + "print(json.dumps(train()[0]))"
    plain = python(code, NUMBA_DISABLE_JIT=None, NUMBA_BOUNDSCHECK=None)
    for option in ("NUMBA_DISABLE_JIT", "NUMBA_BOUNDSCHECK"):
        other = {"NUMBA_DISABLE_JIT": None, "NUMBA_BOUNDSCHECK": None, option: "1"}
        np.testing.assert_allclose(python(code, **other), plain, rtol=1e-5)
    assert plain[0] < np.log(5) + 0.5


def test_numba_is_imported_by_the_first_kernel_that_runs():
    code = """
import json, sys, numpy as np, minidl
from minidl import nn, ops
x = np.ones((2, 3), np.float32)
model = nn.Sequential(nn.Dense(3, 2), nn.ReLU())
ops.tanh(x) + 1
seen = ["numba" in sys.modules]
model(x)
print(json.dumps([*seen, "numba" in sys.modules]))
"""
    assert python(code, NUMBA_DISABLE_JIT=None) == [False, True]
    assert python(code, NUMBA_DISABLE_JIT="1") == [False, False]


# ------------------------------------------------------------------------------------------- threads


def test_set_num_threads_and_its_errors(monkeypatch):
    monkeypatch.setattr(jit.pool.POOL, "requested", None)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert get_num_threads() == 3
    for value in ("", "0", "many", "-1"):
        monkeypatch.setattr(jit.pool.POOL, "requested", None)
        monkeypatch.setenv("NUMBA_NUM_THREADS", value)
        assert get_num_threads() == jit.pool._cores()
    set_num_threads(1)
    assert get_num_threads() == 1
    for wrong in (2.0, "2", None, True, np.float64(1)):
        with pytest.raises(TypeError, match=r"set_num_threads: expected an int, found"):
            set_num_threads(wrong)
    for few in (0, -1):
        with pytest.raises(ValueError, match=rf"set_num_threads: expected at least 1 thread, found {few}"):
            set_num_threads(few)
    assert get_num_threads() == 1


BITS = (
    TRAIN
    + """
import hashlib
count = COUNT
minidl.set_num_threads(count)
rng = np.random.default_rng(0)
hashes = {}
def add(name, *arrays):
    hashes[name] = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()
for dtype in (np.float32, np.float64):
    a, b = rng.normal(size=(301, 300)).astype(dtype), rng.normal(size=(300, 203)).astype(dtype)
    products = ops.matmul(a, b), ops.matmul(b.T, a.T), ops.matmul(np.stack([a] * 3), b)
    add(f"matmul {dtype.__name__}", *(y.data for y in products))
for Optimizer in (optim.Adam, optim.SGD, lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9)):
    _, model = train(2, sizes=(300, 203, 10), batch=301, Optimizer=Optimizer)
    add(f"train {len(hashes)}", *(p.data for p in model.parameters()), *(p.grad for p in model.parameters()))
import numba
threaded = [k for k in ("matmul_forward", "dense_forward", "adam_update", "sgd_update", "sgd_momentum_update")
            if jit.KERNELS[k]._threaded is not None]
try:
    minidl.set_num_threads(count + 100)
    error = ""
except ValueError as e:
    error = str(e)
print(json.dumps([hashes, threaded, numba.get_num_threads(), minidl.get_num_threads(), error]))
"""
)


@compiled
def test_bits_do_not_depend_on_the_number_of_threads():
    results = {n: python(BITS.replace("COUNT", str(n)), NUMBA_NUM_THREADS=None) for n in (1, 2, 3, 4)}
    assert results[1][1] == []
    for n in (2, 3, 4):
        hashes, threaded, used, asked, error = results[n]
        assert hashes == results[1][0]
        assert len(threaded) == 5
        assert used == asked == n
        assert f"found {n + 100}, expected at most" in error
        assert f"NUMBA_NUM_THREADS={n + 100}" in error


@compiled
@pytest.mark.parametrize("layer", [None, "workqueue"])
def test_eight_python_threads_train_at_once(layer):
    code = (
        TRAIN
        + """
import threading, numba
big = dict(steps=4, sizes=(200, 180, 10), batch=128)
minidl.set_num_threads(2)
results = [None] * 8
barrier = threading.Barrier(8)
def work(i):
    barrier.wait()
    results[i] = train(seed=i % 2, **big)[0]
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
layer = numba.threading_layer()
minidl.set_num_threads(1)
print(json.dumps([layer, results, [train(seed=i % 2, **big)[0] for i in range(8)]]))
"""
    )
    used, together, alone = python(code, NUMBA_THREADING_LAYER=layer)
    assert together == alone
    assert used == layer or layer is None


@compiled
@forks
def test_forked_children_of_a_running_pool_train():
    code = (
        TRAIN
        + """
import os, multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, which is what this is about
big = dict(steps=3, sizes=(200, 180, 10), batch=128)
minidl.set_num_threads(2)
expected = train(**big)[0]
assert jit.pool.pool_is_running()
pid = os.fork()
if pid == 0:
    os._exit(0 if train(**big)[0] == expected else 3)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def work(seed):
    return train(seed=seed, **big)[0]
with multiprocessing.get_context("fork").Pool(2) as pool:
    children = pool.map(work, [0, 0, 1])
print(json.dumps([status, children == [expected, expected, work(1)], train(**big)[0] == expected]))
"""
    )
    assert python(code) == [0, True, True]


@compiled
def test_a_pool_that_somebody_else_started_smaller_is_used_as_it_is():
    code = (
        TRAIN
        + """
import numba
@numba.njit(parallel=True)
def users(x):
    for i in numba.prange(x.size):
        x[i] += 1
minidl.set_num_threads(4)
users(np.zeros(100))
a = np.ones((300, 300), np.float32)
print(json.dumps([numba.config.NUMBA_NUM_THREADS, float(ops.matmul(a, a).data.sum())]))
"""
    )
    assert python(code, NUMBA_NUM_THREADS="2") == [2, 300.0**3]


@compiled
def test_more_threads_than_cores_after_numba_was_imported():
    code = """
import json, numba, numpy as np, minidl
minidl.set_num_threads(5)
a = np.ones((300, 300), np.float32)
print(json.dumps([float(minidl.ops.matmul(a, a).data.sum()), numba.get_num_threads()]))
"""
    assert python(code, NUMBA_NUM_THREADS=None) == [300.0**3, 5]


def test_the_cache_is_another_when_a_file_with_kernels_changes():
    sources = cache.kernel_sources()
    importlib.import_module("minidl.bench")
    importlib.import_module("minidl.compiler.epoch")
    for known in jit.KERNELS.values():
        path = inspect.getsourcefile(known.py_func)
        if Path(path).is_relative_to(Path(minidl.__file__).parent):
            assert path in sources, known.__name__


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the cache's: write(path, text) a file of it, and the name of its kernels' directory then."""
    root = tmp_path / "minidl"
    monkeypatch.setenv("MINIDL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_ROOT", str(root))

    def write(path, text):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        return cache.cache_directory.__wrapped__()

    return write


KERNEL = "from minidl.jit.kernel import kernel\n@kernel\ndef f(x, y):\n    y[0] = {}\n"


@pytest.mark.parametrize("path", ["ops/f.py", "f.py", "a/new/room/of/kernels.py", "nn/__init__.py"])
@pytest.mark.parametrize("head", ["@kernel", "@kernel(fma=True)", "@f.variant", "@jit.kernel", "    @jit.kernel"])
def test_a_kernel_in_any_room_that_is_edited_or_moved_leaves_no_stale_code(package, path, head):
    empty = package("__init__.py", "")
    text = KERNEL.replace("@kernel", head)
    first = package(path, text.format("1"))
    assert first != empty
    assert package(path, text.format("22")) != first
    (Path(cache._ROOT) / path).rename(Path(cache._ROOT) / "moved.py")
    assert package("__init__.py", "") not in (empty, first)


def test_an_intrinsic_and_a_constant_that_kernels_take_from_elsewhere_are_of_the_key(package):
    package("ops/f.py", KERNEL.format("LENGTH") + "from minidl.deep.sizes import (\n    LENGTH,\n)\n")
    one = package("deep/sizes.py", "from minidl.other import _WIDTH\nLENGTH = 2 * _WIDTH\n")
    two = package("other/__init__.py", "_WIDTH: int = 3\n")
    assert len({one, two, package("other/__init__.py", "_WIDTH: int = 40\n")}) == 3
    intrinsic = package("far/away.py", "from numba.extending import intrinsic\n")
    assert package("far/away.py", "import numba.core\n") != intrinsic


def test_an_edit_of_a_file_without_kernels_keeps_the_cache(package):
    before = package("ops/f.py", KERNEL.format("1") + "from minidl.tensor import OPS, op\n")
    for path in ("tensor.py", "nn/layer.py", "commands/train.py"):
        assert package(path, "OPS: dict[str, int] = {}\n# no @kernel, no numba: words of a kernel\n") == before
        assert package(path, "OPS: dict[str, int] = {}\nfrom minidl.ops.f import f\n") == before


def test_the_package_itself():
    sources = {Path(path).relative_to(Path(minidl.__file__).parent).as_posix() for path in cache.kernel_sources()}
    assert {"ops/tile.py", "jit/kernel.py", "jit/linking.py", "compiler/intrinsics.py", "data/loader.py"} <= sources
    assert not {"nn/module.py", "train/fit.py", "cli.py", "compiler/plan.py", "ops/reduce.py", "__init__.py"} & sources


# ------------------------------------------------------------------- one cache of several processes


@compiled
def test_two_processes_that_compile_for_two_dtypes_at_once(own_cache):
    code = """
import sys, time, numpy as np
from pathlib import Path
from minidl.jit import cache
from minidl.ops.activation import relu_forward
cache.cache_directory = lambda: sys.argv[1]
from numba.core.caching import IndexDataCacheFile as Files
place, mine = Path(sys.argv[1]), sys.argv[2]
other = {"float32": "float64", "float64": "float32"}[mine]
def wait(what): # or both would be right by luck: one has the last word in the index, the other in the data
    for _ in range(20_000): # 200 seconds, less than whoever waits for this process; it may have to compile
        if (place / what).exists(): return
        time.sleep(0.01)
    raise TimeoutError(f"expected the other process to come to {what}")
def in_turn(step, later):
    done = getattr(Files, step)
    def run(*args):
        (place / f"{mine}{step}ready").touch(), wait(f"{other}{step}ready")
        if mine == later: wait(f"{other}{step}done")
        done(*args), (place / f"{mine}{step}done").touch()
    setattr(Files, step, run)
in_turn("_save_index", "float64"), in_turn("_save_data", "float32")
x = np.ones(3, mine)
relu_forward(x, x.copy())
"""
    pair = ["float32", "float64"]
    both = [subprocess.Popen([sys.executable, "-c", code, str(own_cache), name]) for name in pair]
    try:
        assert [process.wait(timeout=300) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    data = [path.name for path in own_cache.glob("*relu_forward*.nbc")]
    assert len(set(data)) == 2
    for dtype in ("float32", "float64"):
        relu = Kernel(KERNELS["relu_forward"].py_func)
        y = np.empty(2, dtype)
        relu(np.array([-1, 2], dtype), y)
        assert y.tolist() == [0, 2]


@compiled
def test_a_cache_file_with_other_code_is_compiled_again(own_cache):
    def halved(x, y):
        for i in range(x.size):
            y[i] = x[i] / 2

    def doubled(x, y):
        for i in range(x.size):
            y[i] = x[i] * 2

    first, second = Kernel(doubled), Kernel(halved)
    for dtype in (np.float32, np.float64):
        for k in (first, second):
            k(np.arange(3, dtype=dtype), np.empty(3, dtype))
    files = sorted(own_cache.glob("*.nbc"))
    assert len(files) == 4
    whole = [path.read_bytes() for path in files]
    for shift in (1, 2, 3):
        for n, path in enumerate(files):
            path.write_bytes(whole[(n + shift) % 4])
        for dtype in (np.float32, np.float64):
            for function, expected in ((doubled, [0, 2, 4]), (halved, [0, 0.5, 1])):
                y = np.empty(3, dtype)
                Kernel(function)(np.arange(3, dtype=dtype), y)
                assert y.tolist() == expected
