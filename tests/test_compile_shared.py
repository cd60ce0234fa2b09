"""Compiled steps in use: called with ever new shapes, by several threads, after a fork, on memory that is read-only."""

import copy
import gc
import os
import pickle
import re
import subprocess
import sys
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import minidl
from minidl import data, nn, ops, optim
from minidl.compiler import native
from minidl.compiler import step as step_module
from minidl.jit import interpreted

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def small(optimizer=optim.SGD, seed=0, **options):
    """A little regression: (model, optimizer, step)"""
    minidl.manual_seed(seed)
    model = nn.Sequential(nn.Dense(2, 16), nn.ReLU(), nn.Dense(16, 1))
    made = optimizer(model.parameters(), lr=0.05, **options)

    def step(x, y):
        loss = ops.mse(model(x), y)
        made.zero_grad()
        loss.backward()
        made.step()
        return loss

    return model, made, step


def batch(n=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(n, 1)).astype(np.float32)


def python(code, **environment):
    """Run it in a process of its own, which would take this one along: what it prints."""
    env = {**os.environ, **environment}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert ran.returncode == 0, f"exit {ran.returncode}: {ran.stderr[-2000:]}"
    return ran.stdout.split()


def step_of_a_module(x):
    return x + 1


# ------------------------------------------------------------------------------------- many shapes


def test_shapes_and_dtypes_record_again_and_are_told_once():
    model, _, _ = small()
    compiled = minidl.compile(lambda images: model(images))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for n in [*range(1, 9), *range(1, 9)]:
            compiled(batch(n)[0])
        assert not told
        for n in [*range(9, 13), *range(1, 13)]:
            compiled(batch(n)[0])
    (one,) = told
    assert one.category is RuntimeWarning
    assert one.filename == __file__
    assert re.search(
        r"images is float32 \(9, 2\) and was float32 \(8, 2\).*pad or sort .* to a few sizes", str(one.message)
    )
    assert compiled.stats["recorded"] == 12
    assert compiled.stats["evicted"] == 0
    compiled(batch(1)[0].astype(np.float64))
    assert compiled.stats["recorded"] == 13


def test_another_dtype_of_the_same_shape_is_another_program():
    compiled = minidl.compile(lambda x: ops.relu(x) * 2.0)
    for dtype in (np.float32, np.float64, np.float32):
        y = compiled(np.array([1.5, -1.0, 3.0], dtype)).data
        assert (y.tolist(), y.dtype) == ([3.0, 0.0, 6.0], dtype)


def test_options_that_keep_changing_are_told_once():
    _, optimizer, step = small()
    compiled = minidl.compile(step)

    def change_and_call():
        for n in range(11):
            optimizer.param_groups[0]["weight_decay"] = 0.1 * n
            compiled(*batch())

    with pytest.warns(RuntimeWarning, match="an option or mode of its state, changed") as told:
        change_and_call()
    assert len(told) == 1


def test_programs_are_bounded_by_their_memory_and_their_code_is_kept(monkeypatch):
    monkeypatch.setattr(native, "_KEPT", OrderedDict())  # else those of other tests may leave it meanwhile
    compiled = minidl.compile(lambda x: ops.relu(x) * 2.0 + 1.0)
    sizes = [1000, 2000, 3000]
    programs = [weakref.ref(compiled(np.ones(n)) is not None and compiled._recorded()) for n in sizes]
    assert [p().nbytes >= 8 * n for p, n in zip(programs, sizes, strict=True)] == [True] * 3
    monkeypatch.setattr(step_module, "MOST_BYTES", programs[1]().nbytes + programs[2]().nbytes)
    built = dict(native._KEPT)
    for n in [500, 500, 3000, *sizes, *sizes]:
        assert compiled(np.full(n, 2.0)).data.tolist() == [5.0] * n
    gc.collect()
    assert [p() is None for p in programs] == [True, True, True]
    assert compiled.stats["evicted"] >= 3
    assert sum(p.nbytes for p in compiled._programs.values()) <= step_module.MOST_BYTES
    assert set(built) <= set(native._KEPT)
    assert len(native._KEPT) - len(built) in (0, 1)  # that of 500 alone is new


def test_more_shapes_than_are_worth_it_run_uncompiled(monkeypatch):
    monkeypatch.setattr(step_module, "MOST_COMPILED", 12)

    def doubled(x):
        return ops.relu(x) * 2.0

    compiled = minidl.compile(doubled)
    before = len(native._KEPT)

    def call_with_all():
        for n in [*range(1, 201), *range(1, 14)]:
            assert compiled(np.full(n, float(n))).data.tolist() == [2.0 * n] * n

    with pytest.warns(RuntimeWarning, match="as it is after 12 of them") as told:
        call_with_all()
    assert len(told) == 1
    assert len(compiled._programs) == 12
    assert compiled.stats["recorded"] == 200
    assert len(native._KEPT) <= before + 12
    assert compiled.stats["calls"] == 24
    loader = data.Loader(np.ones((40, 3)), batch_size=20)
    whole = minidl.compile(lambda x: ops.sum(x))
    monkeypatch.setattr(step_module, "MOST_COMPILED", 0)
    assert whole.run(loader).tolist() == [60.0, 60.0]
    assert not whole._programs


def test_a_text_that_was_compiled_is_not_compiled_again():
    first, second = (minidl.compile(lambda x: ops.tanh(x) * 3.0) for _ in range(2))
    x = np.linspace(-1, 1, 7)
    assert first(x).data.tolist() == second(x).data.tolist()
    made = [step._recorded().serial for step in (first, second)]
    assert made[0] is made[1] or interpreted()
    for n in range(native.MOST_KEPT + 1):
        native._KEPT.setdefault(f"another {n}", None)
    third = minidl.compile(lambda x: ops.tanh(x) * 4.0)
    third(x)
    assert len(native._KEPT) <= native.MOST_KEPT or interpreted()
    for name in [k for k, v in native._KEPT.items() if v is None]:
        del native._KEPT[name]


def test_copies_of_a_step_are_steps_of_their_own():
    compiled = minidl.compile(step_of_a_module, fallback=True)
    assert compiled(np.ones(3)).tolist() == [2, 2, 2]
    for other in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        assert other.fallback
        assert other(np.ones(3)).tolist() == [2, 2, 2]
        assert other.stats["recorded"] == 1


# ----------------------------------------------------------------------------------------- threads


def test_threads_call_one_step_with_shapes_of_their_own():
    code = """
import threading, numpy as np, minidl
from minidl import ops
f = minidl.compile(lambda x: ops.relu(x) * 2.0)
sizes, wrong, kept = (3, 50_000, 7, 200), [], []
start = threading.Barrier(8)
def work(k):
    x = np.full(sizes[k % 4], float(k + 1))
    start.wait()
    for n in range(300):
        y = f(x).data
        if y.shape != x.shape or not (y == 2.0 * x).all():
            wrong.append((k, y.shape))
        if n % 50 == 0:
            kept.append((k, y))
threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
wrong += [k for k, y in kept if not (y == 2.0 * (k + 1)).all()]
print(len(wrong), len(kept), f.stats["recorded"], f.stats["calls"])
"""
    assert python(code) == ["0", "48", "4", "2400"]


def test_threads_train_one_model_call_by_call():
    code = """
import threading, numpy as np, minidl
from minidl import nn, ops, optim
model = nn.Sequential(nn.Dense(4, 8), nn.Tanh(), nn.Dense(8, 1))
weight = model[0].weight
optimizer = optim.Adam(model.parameters(), lr=0.0)
def step(x):
    loss = ops.mean(model(x) ** 2)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    return loss, weight.grad
f = minidl.compile(step)
inputs = [np.random.default_rng(k).normal(size=(k + 2, 4)).astype(np.float32) for k in range(4)]
def alone(x):
    loss, grad = minidl.compile(step)(x)
    return loss.item(), grad.copy()
expected, wrong = [alone(x) for x in inputs], []
begun = optimizer.state[weight]["step"]
start = threading.Barrier(4)
def work(k):
    start.wait()
    for n in range(150):
        loss, grad = f(inputs[k])
        if loss.item() != expected[k][0] or not np.array_equal(grad, expected[k][1]):
            wrong.append(k)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(wrong), optimizer.state[weight]["step"] - begun, f.stats["calls"])
"""
    assert python(code) == ["0", "600", "600"]


def test_threads_share_epochs_and_calls():
    code = """
import threading, numpy as np, minidl
from minidl import data, ops
f = minidl.compile(lambda x: ops.sum(x))
loaders = [data.Loader(np.full((60, k + 1), 1.0), batch_size=10) for k in range(4)]
wrong = []
def work(k):
    for n in range(20):
        seen = []
        if f.run(loaders[k], seen.append).tolist() != [10.0 * (k + 1)] * 6 or sum(seen) != 60:
            wrong.append(k)
        if f(np.ones((k + 1, 5))).item() != 5 * (k + 1):
            wrong.append(k)
threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(wrong), f.stats["calls"])
"""
    assert python(code) == ["0", str(4 * 20 * 7)]


def test_what_a_step_gave_is_not_overwritten_by_one_that_its_progress_calls():
    _, _, step = small()
    compiled = minidl.compile(step)
    x, y = batch(40)
    inside = []
    compiled.run(data.Loader(x, y, batch_size=2), lambda n: inside.append(compiled(x[:2], y[:2])))
    assert len(inside) >= 2
    values = [loss.item() for loss in inside]
    compiled.run(data.Loader(x, y, batch_size=2))
    assert [loss.item() for loss in inside] == values


def test_an_epoch_follows_what_its_progress_changes():
    model, optimizer, step = small()
    other, others, eager = small()
    x, y = batch(12)

    def changed(model, optimizer):
        optimizer.param_groups[0]["lr"] *= 0.5
        model[0].weight.data = np.array(model[0].weight.data + 1, order="C")

    calls = []

    def progress(n):
        calls.append(n)
        changed(model, optimizer)

    compiled = minidl.compile(step)
    compiled.run(data.Loader(x, y, batch_size=4), progress)
    for n, first in zip(calls, np.cumsum([0, *calls]), strict=False):
        for at in range(first, first + n, 4):
            eager(x[at : at + 4], y[at : at + 4])
        changed(other, others)
    assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_an_epoch_gathers_from_the_arrays_that_the_loader_has_now():
    compiled = minidl.compile(lambda x: ops.sum(x))
    loader = data.Loader(np.ones((4, 3)), batch_size=2)
    assert compiled.run(loader).tolist() == [6, 6]
    loader.arrays[0] = np.full((6, 3), 2.0)
    assert compiled.run(loader).tolist() == [12, 12, 12]
    rows = np.ones((8, 3))[::2]  # of which the loop takes a copy
    loader.arrays[0] = rows
    assert compiled.run(loader).tolist() == [6, 6]
    rows[:] = 3.0
    assert compiled.run(loader).tolist() == [18, 18]
    loader.order = lambda: np.array([0, 1, 2, 4])
    with pytest.raises(IndexError, match="from -4 to 3, found 0 to 4"):
        compiled.run(loader)


# ------------------------------------------------------------------------------------------- forks

FORKED = """
import os, threading, time, signal, warnings, numpy as np, minidl
from minidl import data, nn, ops, optim
warnings.simplefilter("ignore")  # of forking with threads, which is what this is about
x = np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)
model = nn.Sequential(nn.Dense(20, 30), nn.ReLU(), nn.Dropout(0.5), nn.Dense(30, 1))
optimizer = optim.Adam(model.parameters(), lr=0.0)
def step(x):
    loss = ops.mean(model(x) ** 2)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    return loss
f = minidl.compile(step)
g = minidl.compile(lambda x: ops.tanh(x) * 2.0)
f(x), g(x), f.run(data.Loader(x, batch_size=16))
expected = g(x).data.copy()
stop = threading.Event()
def calling():
    while not stop.is_set(): f(x); g(x)
def an_epoch():
    loader = data.Loader(np.repeat(x, 50, 0), batch_size=16, shuffle=True)
    while not stop.is_set(): f.run(loader)
def recording():
    n = 0
    while not stop.is_set(): n += 1; minidl.compile(lambda x: ops.exp(x) * float(n) + n)(x)
def drawing():
    while not stop.is_set(): minidl.random.default_generator().permutation(100_000)
def child():
    ok = np.array_equal(g(x).data, expected)
    ok = ok and np.isfinite(f(x).item()) and np.isfinite(f.run(data.Loader(x, batch_size=16, shuffle=True))).all()
    ok = ok and np.array_equal(g(x[:5]).data, expected[:5])
    ok = ok and minidl.compile(lambda x: ops.relu(x) - 1.0)(x).shape == x.shape
    nn.Dense(3, 3)
    return ok
thread = threading.Thread(target=WORK, daemon=True)
thread.start()
results = []
for k in range(CHILDREN):
    time.sleep(0.01 * (k + 1))
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            signal.alarm(120)
            code = 0 if child() else 3
        finally:
            os._exit(code)
    results.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set(); thread.join()
f(x)
print(*results)
"""


@forks
@pytest.mark.parametrize("work", ["calling", "an_epoch", "recording", "drawing"])
def test_children_forked_while_a_thread_is_busy_go_on(work):
    children = 4
    code = FORKED.replace("WORK", work).replace("CHILDREN", str(children))
    assert python(code) == ["0"] * children


# -------------------------------------------------------------------------- memory that is read-only


def read_only(array):
    array = array.copy(order="K")
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("way", ["call", "run", "eager"])
@pytest.mark.parametrize("what", ["weight", "moment"])
def test_what_a_step_would_change_must_be_writable(what, way):
    model, optimizer, eager = small(optim.Adam)
    x, y = batch()
    step = eager if way == "eager" else minidl.compile(eager)
    step(x, y)
    before = [p.data.copy() for p in model.parameters()]
    last = model[2].weight
    if what == "weight":
        last.data = read_only(last.data)
    else:
        optimizer.state[last]["exp_avg_sq"] = read_only(optimizer.state[last]["exp_avg_sq"])
    name = {"weight": "layers_2_weight", "moment": "layers_2_weight_exp_avg_sq"}[what]
    with pytest.raises(ValueError, match="read-only" if way == "eager" else f"expected {name} as a writable array"):
        step.run(data.Loader(x, y, batch_size=8)) if way == "run" else step(x, y)
    assert all(np.array_equal(p.data, b) for p, b in zip(model.parameters(), before, strict=True))
    assert optimizer.state[model[0].weight]["step"] == 1
    last.data = last.data.copy(order="K")
    optimizer.state[last]["exp_avg_sq"] = optimizer.state[last]["exp_avg_sq"].copy(order="K")
    step(x, y)
    assert not np.array_equal(last.data, before[2])


def test_an_array_that_becomes_read_only_between_calls():
    model, _, step = small()
    compiled = minidl.compile(step)
    compiled(*batch())
    model[0].bias.data.flags.writeable = False
    with pytest.raises(ValueError, match="bias as a writable array, found a read-only one"):
        compiled(*batch())


def test_running_statistics_must_be_writable():
    model = nn.Sequential(nn.BatchNorm1d(3))
    compiled = minidl.compile(model)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    compiled(x)
    model[0].running_var = read_only(model[0].running_var)
    for forward in (compiled, model):
        with pytest.raises(ValueError, match="read-only"):
            forward(x)
    model.eval()
    assert np.array_equal(compiled(x).data, model(x).data)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_weights_in_mapped_files(tmp_path, mode):
    model, _, step = small()
    other, _, eager = small()
    for n, p in enumerate(model.parameters()):
        np.save(tmp_path / f"{n}.npy", p.data)
        p.data = np.load(tmp_path / f"{n}.npy", mmap_mode=mode)
    compiled, forward = minidl.compile(step), minidl.compile(model)
    x, y = batch()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    assert np.array_equal(forward(mapped).data, other(x).data)
    if mode == "r":
        with pytest.raises(ValueError, match="read-only"):
            compiled(x, y)
        return
    for _ in range(2):
        assert compiled(mapped, y).item() == eager(x, y).item()
    assert all(np.array_equal(p.data, q.data) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    kept = np.load(tmp_path / "0.npy")
    assert np.array_equal(kept, other[0].weight.data) == (mode == "r+")


def test_a_parameter_whose_shape_is_set_in_place_records_again():
    w = minidl.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    compiled = minidl.compile(lambda x: ops.sum(w, axis=0) + ops.sum(x))
    assert compiled(np.zeros(2)).data.tolist() == [3, 5, 7]
    w.data.shape = 3, 2
    assert compiled(np.zeros(2)).data.tolist() == [6, 9]


def test_arrays_that_are_replaced_meanwhile_are_kept_alive():
    code = """
import threading, numpy as np, minidl
from minidl import ops
w = minidl.Tensor(np.ones(200_000), requires_grad=True)
f = minidl.compile(lambda x: ops.sum(w * x))
f(np.ones(1))
stop = threading.Event()
def replacing():
    while not stop.is_set():
        w.data = np.ones(200_000)
thread = threading.Thread(target=replacing); thread.start()
wrong = sum(f(np.ones(1)).item() != 200_000 for _ in range(300))
stop.set(); thread.join()
print(wrong)
"""
    assert python(code) == ["0"]
