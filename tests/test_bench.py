"""`minidl bench`: wrong variants are refused by name, figures are compared fairly, mistakes are told in a line."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import minidl
from minidl import jit
from minidl.bench import assembly, peak, report, rival, roofline
from minidl.bench.cases import CASES
from minidl.bench.measure import Result, Task, bench, cases_of, variants_of
from minidl.bench.rivals import Rivals
from minidl.bench.verify import BenchError, WrongResult, small, verify
from minidl.commands import bench as bench_command
from minidl.jit import KERNELS, Kernel, interpreted
from minidl.jit.kernel import _called
from minidl.ops.activation import relu_backward, relu_forward
from minidl.ops.linalg import matmul_forward
from minidl.shared.terminal import Failure

ROOT = str(Path(minidl.__file__).parents[1])
compiled = pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT is set: nothing is compiled")
every_case = pytest.mark.parametrize(
    "case", [c for cases in CASES.values() for c in cases], ids=lambda c: c.kernel.__name__ + c.label
)


# ---------------------------------------------------------------------------------- right or wrong


def test_every_kernel_that_ops_call_has_a_case():
    inner = {name for kernel in KERNELS.values() for name in kernel.py_func.__code__.co_names} & KERNELS.keys()
    untimed = {"normal_draw", "uniform_draw"}  # NumPy's own generator
    # timed whole, by benchmarks/layers.py and benchmarks/augment.py
    layers = ("conv_kernels", "pool", "norm", "recurrent_kernels", "embedding", "augment_kernels")
    untimed |= {n for n, k in KERNELS.items() if k.__module__.split(".")[-1] in layers}
    modules = {n: k.py_func.__module__ for n, k in KERNELS.items()}  # those of other tests may be among them
    own = {n for n, m in modules.items() if m.startswith("minidl.") and not m.startswith("minidl.bench")}
    assert own - inner - untimed == set(CASES) - {"conv2d_forward"}  # here too, for its naive variant


@every_case
def test_every_kernel_and_variant_is_right(case):
    for dtype in case.dtypes:
        for name, kernel in {"minidl": case.kernel, **case.kernel.variants}.items():
            verify(case, name, kernel, small(case)[1], dtype)


@every_case
def test_the_bytes_are_those_of_the_arguments(case):
    if case.kernel.__name__ in (
        "gather_images",
        "gather_rows",
        "softmax_cross_entropy_forward",
        "softmax_cross_entropy_backward",
    ):
        return  # indices, labels and bytes are not of the dtype; weights are not counted
    shape = small(case)[3]
    arguments = case.arguments(np.random.default_rng(0), np.dtype("float64"), *shape)
    read = sum(a.size for a in arguments if isinstance(a, np.ndarray))
    inputs_too = [i for i in case.outputs if not np.isnan(arguments[i]).all()]
    assert case.moved(*shape) == read + sum(arguments[i].size for i in inputs_too)


def wrong_sign(x, y):
    for i in range(x.size):
        y[i] = x[i] if x[i] < 0 else 0


def hides_nan(x, y):
    for i in range(x.size):
        y[i] = x[i] if x[i] > 0 else 0


def a_little_off(x, y):
    for i in range(x.size):
        y[i] = 0 if x[i] < 0 else x[i]
    y[x.size // 2] += 0.001


def forgets_the_last(x, y):
    for i in range(x.size - 1):
        y[i] = 0 if x[i] < 0 else x[i]


def spoils_its_input(x, y):
    for i in range(x.size):
        y[i] = 0 if x[i] < 0 else x[i]
    x[0] = 7


@pytest.mark.parametrize("wrong", [wrong_sign, hides_nan, a_little_off, forgets_the_last, spoils_its_input])
def test_a_wrong_variant_is_named(wrong, monkeypatch):
    monkeypatch.setitem(relu_forward.variants, wrong.__name__, Kernel(wrong))
    monkeypatch.setattr(peak, "measure", fake_peak)
    with pytest.raises(WrongResult, match=f"relu_forward: {wrong.__name__} ") as caught:
        bench([Task("relu_forward", shape=(40,))], rounds=1, rivals=())
    if wrong is a_little_off:
        assert "at 1 in float32: 1 of 1 elements of 'y' are wrong, the worst is [0]: expected" in str(caught.value)
    if wrong is spoils_its_input:
        assert "changes its input 'x'" in str(caught.value)


def test_a_variant_takes_its_kernels_arguments():
    with pytest.raises(TypeError, match="relu_forward takes 2 arguments, but lonely takes 1"):

        @relu_forward.variant
        def lonely(x):
            pass

    assert "lonely" not in relu_forward.variants


def test_a_variant_is_a_kernel_outside_the_registry():
    try:

        @relu_backward.variant(parallel=lambda dy, y, dx: True, fma=True)
        def other(dy, y, dx):
            dx[:] = np.where(y <= 0, 0, dy)

        assert relu_backward.variants == {"other": other}
        assert (other.fma, other.parallel(1, 2, 3)) == (True, True)
        assert "other" not in KERNELS
    finally:
        relu_backward.variants.clear()
    assert set(matmul_forward.variants) == {"naive", "reordered", "blocked", "tiled"}
    assert all(k.fma for k in matmul_forward.variants.values())  # as their kernel has it


# ------------------------------------------------------------------------------------ bad requests


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("relu"), r"expected one of the kernels matmul_forward, .*found 'relu'"),
        (Task("relu_forward", shape=(3, 4)), "expected a shape N, 1 numbers of at least 1, found 3x4"),
        (Task("matmul_forward", shape=(3, 0, 4)), "expected a shape MxKxN, 3 numbers of at least 1, found 3x0x4"),
        (Task("relu_forward", shape=(1 << 40,)), "at most 4 GiB to time, found 1099511627776, which takes"),
        (Task("gather_images", dtype="float64"), "expected dtype float32, found 'float64'"),
        (Task("matmul_forward", ["naive", "magic"]), r"expected variants among minidl, naive, .*, found magic"),
    ],
)
def test_bad_requests(task, message):
    with pytest.raises(BenchError, match=message):
        bench([task], rounds=1, rivals=())


def test_slow_variants_are_timed_on_the_first_shape_unless_named():
    task = Task("matmul_forward")
    sizes = [len(variants_of(task, case, shape)) for case, shape in cases_of(task)]
    assert sizes == [5, 1, 1] * 2
    named = Task("matmul_forward", ["blocked"])
    assert [list(variants_of(named, *work)) for work in cases_of(named)] == [["minidl", "blocked"]] * 6
    shaped = Task("matmul_forward", shape=(2, 3, 4))
    assert [len(variants_of(shaped, *work)) for work in cases_of(shaped)] == [5, 5]


# ---------------------------------------------------------------------------------------- figures


def fake_peak(threads, rounds=5):
    return peak.Peak(threads, {"float32": 1e11, "float64": 5e10}, dict.fromkeys(peak.LEVELS, 1e10))


@pytest.fixture(scope="module")
def run():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak, "measure", fake_peak)
        patch.setattr(peak.Peak, "again", lambda *_: None)
        said = []
        found = bench([Task("matmul_forward", ["tiled"], (5, 6, 7)), Task("relu_forward", shape=(65,))],
                      rounds=3, rivals=("numpy", "no_such_rival"), progress=said.append)  # fmt: skip
    return *found, said


def test_a_run(run):
    told, results, said = run
    names = [(line.kernel, line.case, line.variant) for line in results]
    matmul = [("matmul_forward", label, v) for label in ("A @ B", "A.T @ B") for v in ("minidl", "tiled", "numpy")]
    assert names == [*matmul, ("relu_forward", "", "minidl"), ("relu_forward", "", "numpy")]
    assert all(len(line.samples) == 3 and min(line.samples) > 0 for line in results)
    assert results[0].flops == 2 * 5 * 6 * 7
    assert results[0].moved == 4 * (5 * 6 + 6 * 7 + 5 * 7)
    assert told["left_out"] == {"no_such_rival": "not installed"}
    assert told["rivals"]["numpy"]["version"] == np.__version__
    assert told["versions"]["minidl"] == minidl.__version__
    assert "timing relu_forward  65" in said
    compiled_now = results[-2].compile is not None  # unless another test had it compiled
    assert not (compiled_now and interpreted())
    assert not compiled_now or (results[-2].compile > 0 and results[-2].first > 0)


def test_roofs():
    roof = peak.Peak(1, {"float32": 1e9}, dict(zip(peak.LEVELS, (8e9, 4e9, 2e9, 1e9), strict=True)))
    assert roof.roof("float32", 2_000_000, 1000) == (2e-3, "compute")
    assert roof.roof("float32", 0, peak.LEVELS[0]) == (peak.LEVELS[0] / 8e9, "memory")
    assert roof.roof("float32", 0, peak.LEVELS[3] * 5) == (peak.LEVELS[3] * 5 / 1e9, "memory")
    line = result(seconds=4e-3, roof=2e-3)
    assert line.share == 0.5


def result(variant="minidl", seconds=1.0, spread=0.0, roof=1.0, **other):
    samples = [seconds * (1 - spread / 2), seconds, seconds, seconds, seconds * (1 + spread / 2)]
    shape = other.pop("shape", (4,))
    return Result("relu_forward", "", shape, "float32", 2, variant, 4, 32, roof, "memory", samples, **other)


def kept(*results):
    return report.read_json(report.as_json({}, list(results)), "old")


@pytest.mark.parametrize(
    ("now", "verdict", "worse"),
    [
        ([result(seconds=1.2)], "1.20 x the time before (noise ±5 %, by the clock): slower", True),
        ([result(seconds=0.8)], "0.80 x the time before (noise ±5 %, by the clock): faster", False),
        ([result(seconds=1.04)], "same", False),
        (
            [result(seconds=1.2, spread=0.01), result("numpy", 1.2)],
            "1.00 x the time before (noise ±5 %, by NumPy in each run): same",
            False,
        ),
        ([result(seconds=1.0), result("numpy", 0.5)], "2.00 x the time before", True),
    ],
)
def test_comparison(now, verdict, worse):
    old = kept(result(seconds=1.0), result("numpy", 1.0), result(shape=(9,)))
    lines, found = report.compare(old, now)
    assert len(lines) == 1
    assert verdict in lines[0]
    assert found == worse


def test_noise_excuses():
    noisy = Result("relu_forward", "", (4,), "float32", 2, "minidl", 4, 32, 1.0, "memory", [0.8, 1.0, 1.3, 1.2, 1.4])
    lines, worse = report.compare(kept(result(seconds=1.0)), [noisy])
    assert "same" in lines[0]
    assert not worse
    with pytest.raises(BenchError, match="nothing to compare"):
        report.compare(kept(result(shape=(9,))), [noisy])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 2, "results": []}', '{"format": 1, "results": [{}]}', '{"format": 1, "results": 5}',
     report.as_json({}, [result()]).replace('"seconds": 1.0', '"seconds": -1')],
)  # fmt: skip
def test_what_is_no_result_is_refused(text):
    with pytest.raises(BenchError, match=r"mine\.json: expected what `minidl bench --json` writes"):
        report.read_json(text, "mine.json")


def test_the_table(run):
    told, results, _ = run
    lines = report.table(results)
    assert lines[1] == "matmul_forward A @ B  5x6x7  float32"
    assert lines[2].split()[0] == "minidl"
    assert "1.00x" in lines[2]
    assert len(lines) == 1 + 3 + len(results)
    text = "\n".join(report.header(told))
    assert "no_such_rival: left out (not installed)" in text
    assert "100 GFLOP/s float32" in text
    assert [report.seconds(s) for s in (2.5, 0.1234, 1.5e-3, 2e-6, 3e-8)] == [
        "2.5 s",
        "123 ms",
        "1.5 ms",
        "2 µs",
        "30 ns",
    ]


def test_the_drawing(run):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    told, results, _ = run
    assert roofline.draw(told, results)[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(BenchError, match="only move numbers"):
        roofline.draw(told, [Result("transpose_copy", "", (1,), "float32", 1, "minidl", 0, 4, 1, "memory", [1.0])])


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BenchError, match=r'pip install "minidl\[plot\]"'):
        roofline.check_plot()


@compiled
def test_the_peak_is_measured():
    found = peak.measure(1, rounds=1)
    assert found.flops["float32"] > 1e8
    assert found.flops["float64"] > 1e8
    assert all(rate > 1e7 for rate in found.bandwidth.values())
    before = found.flops["float64"]
    found.again("float64")
    assert found.flops["float64"] >= before


def test_a_rival_that_dies_is_left_out():
    with Rivals(["numpy"]) as rivals:
        assert rivals.versions["numpy"]["version"] == np.__version__
        case = CASES["relu_forward"][0]
        assert rivals.prepare("relu_forward", case, (9,), "float32") == ["numpy"]
        assert rivals.timer("numpy")(2) > 0
        rivals.processes["numpy"].kill()
        with pytest.raises(BenchError, match="numpy's process ended"):
            rivals.timer("numpy")(1)
        assert not rivals
        assert rivals.left_out == {"numpy": "its process failed"}


# --------------------------------------------------------------------------------------- assembly

LISTING = """
_ZN8__main__1fB2v1Ex:
\tpushq\t%rbp
.LBB0_1:
\tvmovups\t(%rdi), %ymm0
\tvfmadd231ps\t%ymm0, %ymm1, %ymm2
\tvaddps\t8(%rsp), %ymm2, %ymm2
\tjne\t.LBB0_1
.LBB0_2:
\tvaddss\t%xmm0, %xmm1, %xmm2
\tcallq\t*%rax
\tjne\t.LBB0_2
_ZN7cpython8__main__1fB2v1Ex:
.LBB1_1:
\tvfmadd231ps\t%zmm0, %zmm1, %zmm2
\tjne\t.LBB1_1
"""


def test_reading_assembly():
    counts, loop = assembly.summary(LISTING)
    assert loop[0] == ".LBB0_1"
    assert counts == {
        "loops": 2, "instructions": 4, "arithmetic": 2, "fused multiply-adds": 1, "on single numbers": 0,
        "vector width": 256, "stack accesses": 1, "calls": 0,
    }  # fmt: skip
    counts, loop = assembly.summary(
        LISTING.replace("ymm", "xmm").replace("vfmadd231ps", "vfmadd231ss").replace("vaddps", "vaddss")
    )
    assert counts["on single numbers"] == counts["arithmetic"] == 2
    assert counts["vector width"] == 32


@compiled
@pytest.mark.skipif(os.environ.get("NUMBA_BOUNDSCHECK", "0") != "0", reason="checks of bounds keep loops from vectors")
def test_kernels_become_vector_instructions():
    for name in ("relu_forward", "adam_update", "matmul_forward"):
        case = CASES[name][0]
        counts, _ = assembly.summary(assembly.compiled_source(case.kernel, case, "float32"))
        assert counts["vector width"] >= 128, name
        assert counts["on single numbers"] == 0, name
        assert counts["calls"] == 0, name
        if name == "matmul_forward" and _called(tile := jit.KERNELS["matmul_tile"]) is not tile.serial:
            tile = 24 if minidl.machine.vector_bits() == 512 else 12
            assert counts["fused multiply-adds"] in (tile, 2 * tile)  # LLVM unrolls the loop on some processors


# ------------------------------------------------------------------------------------ command line


def requested(tmp_path, **changed):
    asked = {"kernel": ["relu_forward"], "variant": [], "shape": (33,), "dtype": "float32", "rounds": 2, "asm": None,
             "json": None, "plot": None, "compare": None, "quiet": True}  # fmt: skip
    paths = {k: tmp_path / v for k, v in changed.items() if k in ("json", "plot", "compare")}
    return argparse.Namespace(**{**asked, **changed, **paths})


@pytest.fixture
def no_peak(monkeypatch):
    monkeypatch.setattr(peak, "measure", fake_peak)
    monkeypatch.setattr(peak.Peak, "again", lambda *_: None)


def test_the_command_from_inside(tmp_path, no_peak, capsys):
    """The same as `test_the_command`, in this process, where kernels may be plain Python."""
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    bench_command._run(requested(tmp_path, json="old.json", plot="roof.png"))
    assert "relu_forward  33  float32" in capsys.readouterr().out
    assert (tmp_path / "roof.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    results = json.loads((tmp_path / "old.json").read_text())
    assert {line["variant"] for line in results["results"]} >= {"minidl", "numpy"}
    for line in results["results"]:
        line["seconds"] *= 1e6 if line["variant"] == "minidl" else 1  # now it seems to have become fast
        line["spread"] = 0.0
    (tmp_path / "old.json").write_text(json.dumps(results))
    bench_command._run(requested(tmp_path, compare="old.json"))
    assert "relu_forward 33 float32 minidl: " in capsys.readouterr().out
    for line in results["results"]:
        line["seconds"] /= 1e12 if line["variant"] == "minidl" else 1
    (tmp_path / "old.json").write_text(json.dumps(results))
    with pytest.raises(Failure, match=r"slower than .*old\.json, by more than the noise"):
        bench_command._run(requested(tmp_path, compare="old.json"))


def test_files_that_cannot_be_written_or_read(tmp_path, no_peak, monkeypatch):
    (tmp_path / "a").mkdir()
    for option in ("json", "plot"):
        with pytest.raises(Failure, match=f"--{option}: cannot write .*nowhere"):
            bench_command._run(requested(tmp_path, **{option: "nowhere/x.png"}))
    with pytest.raises(Failure, match="--compare: cannot read"):
        bench_command._run(requested(tmp_path, compare="a"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match="--compare: cannot read"):
        bench_command._run(requested(tmp_path, compare="bytes"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bench_command.checkpoint, "write_file", full)
    with pytest.raises(Failure, match=r"cannot write the results .*[Nn]o space left"):
        bench_command._run(requested(tmp_path, json="results.json"))
    assert not (tmp_path / "results.json").exists()


def test_bench_errors_are_failures_of_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_command, "interpreted", lambda: False)
    with pytest.raises(Failure, match="expected one of the kernels"):
        bench_command.run(requested(tmp_path, kernel=["relu"]))


def test_what_the_rivals_process_does():
    """`rival` prepares what a case asks for, and says why where it cannot."""
    assert rival._about("numpy")[1]["version"] == np.__version__
    asked = {"kernel": "relu_forward", "label": "", "shape": [9], "dtype": "float32"}
    run, reason = rival._prepared(None, asked)
    assert reason == ""
    assert all(np.asarray(y).min() >= 0 for y in run())
    torch = types.SimpleNamespace(from_numpy=lambda x: x)
    case = CASES["relu_forward"][0]
    for answer, said in ((lambda torch, x, y: (-x,), "elements of 'y' are wrong"), (None, "has nothing like it")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(CASES, "relu_forward", [dataclasses.replace(case, torch=answer)])
            run, reason = rival._prepared(torch, asked)
        assert run is None
        assert said in reason


def minidl_bench(*arguments, code=0, **environment):
    env = {**os.environ, "PYTHONPATH": ROOT, "NO_COLOR": "1", **environment}
    run = subprocess.run(
        [sys.executable, "-m", "minidl", "bench", *map(str, arguments)],
        env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    return run


@compiled
def test_the_command(tmp_path):
    old = tmp_path / "old.json"
    few = "relu_forward", "--shape", 1000, "--rounds", 2
    run = minidl_bench(*few, "--json", old, "--threads", 1)
    assert "relu_forward  1000  float32" in run.stdout
    assert "peak, 1 thread:" in run.stdout
    assert "minidl: timing relu_forward" in run.stderr
    results = json.loads(old.read_text())
    for line in results["results"]:
        if line["variant"] == "minidl":  # it was a million times as fast, without a doubt
            line["seconds"] /= 1e6
        line["spread"] = 0.0
    old.write_text(json.dumps(results))
    run = minidl_bench(*few, "--compare", old, "--threads", 1, "--quiet", code=1)
    assert "relu_forward 1000 float32 minidl: " in run.stdout
    assert run.stderr == f"minidl: error: slower than {old}, by more than the noise\n"
    run = minidl_bench("--asm", "relu_forward")
    assert "relu_forward, minidl, float32: the hottest loop" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["relu"], 1, "expected one of the kernels"),
        (["relu_forward", "--variant", "magic"], 1, "expected variants among minidl, found magic"),
        (["relu_forward", "--shape", "3x4"], 1, "expected a shape N"),
        (["--shape", "3xx4"], 2, "expected integers of at least 1 with x between them, found '3xx4'"),
        (["--shape", "0"], 2, "expected integers of at least 1"),
        (["--plot", "roof.gif"], 2, "expected a file's name ending in .png, found 'roof.gif'"),
        (["--rounds", "0"], 2, "expected an integer at least 1"),
        (["--json", "/no/such/place.json"], 1, "--json: cannot write /no/such/place.json"),
        (["--compare", "/no/such/place.json"], 1, "--compare: cannot read /no/such/place.json"),
        (["--asm", "relu"], 1, "expected one of the kernels"),
        (["gather_images", "--dtype", "float64"], 1, "expected dtype float32, found 'float64'"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(arguments, code, message):
    run = minidl_bench(*arguments, code=code, NUMBA_DISABLE_JIT="0")
    assert message in run.stderr


def test_there_is_nothing_to_time_without_a_compiler():
    assert "nothing compiled to time" in minidl_bench("relu_forward", code=1, NUMBA_DISABLE_JIT="1").stderr
