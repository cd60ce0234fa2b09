"""`warmup` compiles what training and every op with a kernel will ask for, so that later processes compile nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl.jit import KERNELS, interpreted
from minidl.warmup import compile_for, warmup

ROOT = str(Path(minidl.__file__).parents[1])
compiled = pytest.mark.skipif(interpreted(), reason="NUMBA_DISABLE_JIT is set: nothing is compiled")

WARM = """
LATER = {"conv_kernels", "pool", "norm", "recurrent_kernels", "embedding", "attention"}  # compiled when first used
import json
from minidl.jit import KERNELS
from minidl.warmup import compile_for, warmup
told = []
names = warmup(lambda name, total: told.append((name, total)))
builds = {n: [len(k.serial.signatures), len(k.threaded.signatures) if k.parallel else None] for n, k in KERNELS.items()}
def called(kernels):
    return {n for k in kernels for n in k.py_func.__code__.co_names} & set(KERNELS)

later = [k for k in KERNELS.values() if k.__module__.split(".")[-1] in LATER]
ahead = [k for k in KERNELS.values() if k not in later]
inner = called(ahead)
kernels = {k.__name__ for k in ahead} - (called(later) - inner)
print(json.dumps({"names": names, "told": told, "builds": builds, "inner": sorted(inner), "kernels": sorted(kernels)}))
"""
AFTER = """
import json, sys
from minidl import cli
from minidl.jit import KERNELS
code = cli.main(["train", "--dataset", "digits", "--epochs", "2", "--quiet", "--threads", sys.argv[1],
                 "--hidden", "512", "--optimizer", sys.argv[2], "--batch-size", "512", "--out", sys.argv[3]])
missed = {}
for name, kernel in KERNELS.items():
    for build in (kernel._serial, kernel._threaded):
        if build is not None and sum(build.stats.cache_misses.values()):
            missed[build.__qualname__] = str(build.stats)
print(json.dumps({"code": code, "missed": missed, "used": [n for n, k in KERNELS.items() if k._threaded or k._serial]}))
"""


def fresh(*arguments):
    env = {**os.environ, "PYTHONPATH": ROOT}
    run = subprocess.run(
        [sys.executable, *map(str, arguments)], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@compiled
def test_after_warmup_nothing_is_left_to_compile(tmp_path):
    told = json.loads(fresh("-m", "minidl", "warmup", "--json"))
    found = json.loads(fresh("-c", WARM))
    assert told["kernels"] == found["names"]
    assert sorted(found["names"] + found["inner"]) == found["kernels"]  # inner ones are compiled into their callers
    assert found["told"] == [[name, len(found["names"])] for name, _ in found["told"]]
    assert sorted(name for name, _ in found["told"]) == found["names"]
    for name in found["names"]:
        serial, threaded = found["builds"][name]
        assert serial >= (1 if name == "gather_images" else 2), f"{name}: float32 and float64"
        assert threaded in (None, serial), name
    for threads, optimizer in ((1, "sgd"), (2, "adam")):
        printed = fresh("-c", AFTER, threads, optimizer, tmp_path / "model.safetensors")
        after = json.loads(printed.splitlines()[-1])
        assert after["code"] == 0
        assert after["missed"] == {}
        assert "dense_forward" in after["used"]
    assert fresh("-m", "minidl", "warmup").startswith(f"{len(found['names'])} kernels ready in ")


def test_an_interpreted_process_has_nothing_to_warm(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert warmup() == []


def test_kernels_are_themselves_again_afterwards(monkeypatch):
    def fails():
        raise RuntimeError("while kernels are replaced")

    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    with pytest.raises(RuntimeError, match="replaced"):
        compile_for(fails)
    assert all(kernel._replacement is None for kernel in KERNELS.values())
