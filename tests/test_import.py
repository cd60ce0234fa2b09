"""`import minidl` costs what NumPy costs, and touches neither the network nor the disk's caches."""

import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import minidl

HEAVY = [
    "numba", "llvmlite", "tqdm", "safetensors", "urllib.request", "http.client", "ssl", "socket", "_socket",
    "subprocess", "multiprocessing", "PIL", "matplotlib", "scipy", "torch", "sklearn", "pandas", "pickletools",
    "tkinter", "unittest", "concurrent.futures", "asyncio", "email", "sqlite3", "pytest",
]  # fmt: skip

CODE = """
import sys
import numpy
before = set(sys.modules)
events = []
sys.addaudithook(lambda name, args: events.append((name, str(args[0]) if args else "")))
import threading
threads = threading.active_count()
import minidl
wanted = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.mkdir", "os.remove",
          "os.rename", "urllib.", "pty.", "ctypes.dlopen", "exec_", "tempfile.")
told = [e for e in events if e[0].startswith(wanted)]
import json
print(json.dumps({"new": sorted(set(sys.modules) - before), "told": told, "threads": threading.active_count() - threads,
                  "all": sorted(sys.modules)}))
"""


def fresh(tmp_path: Path) -> dict:
    """What `import minidl` did in a process of its own, with a home and a cache that do not exist yet."""
    env = {**os.environ, "PYTHONPATH": str(Path(minidl.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"MINIDL_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_importing_minidl_imports_numpy_and_little_else(tmp_path):
    found = fresh(tmp_path)
    heavy = [name for name in found["new"] if any(name == h or name.startswith(f"{h}.") for h in HEAVY)]
    assert heavy == []
    assert "minidl.tensor" in found["new"]
    for name in ("numba", "llvmlite", "tqdm", "safetensors", "urllib.request"):
        assert name not in found["all"]
    foreign = {n.split(".")[0] for n in found["new"]} - {"minidl", "numpy"} - set(sys.stdlib_module_names)
    assert not foreign


def test_importing_minidl_opens_spawns_and_writes_nothing(tmp_path):
    found = fresh(tmp_path)
    assert found["told"] == []
    assert found["threads"] == 0
    assert list(tmp_path.iterdir()) == []


def test_public_names():
    assert {"Tensor", "op", "no_grad", "nn", "ops", "optim", "data", "gradcheck", "manual_seed"} <= set(minidl.__all__)
    assert all(hasattr(minidl, name) for name in minidl.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", minidl.__version__)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from the sources, not installed
        assert importlib.metadata.version("minidl") == minidl.__version__
