"""What importing, training, saving and loading do to the machine, by Python's own audit events (PEP 578): they open no
socket, start no process, and unpickle nothing but what Numba keeps of compiled kernels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
from minidl.jit import interpreted

ROOT = Path(minidl.__file__).parents[1]
HEAD = """
import json, sys
seen = []
WATCHED = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.startfile", "pickle.")

def hook(event, arguments):
    if event.startswith(WATCHED):
        frame, stack = sys._getframe(1), []
        while frame is not None:
            stack.append(frame.f_globals.get("__name__", "?"))
            frame = frame.f_back
        if event != "pickle.find_class" or not any(name.startswith("numba.core") for name in stack):
            seen.append([event, str(arguments)[:200], stack[:6]])

sys.addaudithook(hook)
"""
TRAINING = """
import numpy as np
import minidl
from minidl import checkpoint, data, models, optim, train
from minidl.train import callbacks
from minidl.data import augment

digits, test = data.load("digits")
digits, test = data.Dataset(digits.x[:64], digits.y[:64]), data.Dataset(test.x[:32], test.y[:32])
model = models.mlp((1, 8, 8), [4], 10)
loader = data.Loader(digits, batch_size=32, shuffle=True, augment=[augment.Shift(1)])
found = [callbacks.EarlyStopping(), callbacks.Checkpoint("run.safetensors"), callbacks.Log("log.jsonl")]
options = dict(metrics=["accuracy"], callbacks=found, verbose=True, compile=COMPILE)
train.fit(model, loader, test, epochs=2, **options)
train.fit(model, loader, test, epochs=3, resume="run.safetensors", **options)
checkpoint.save_model("model.safetensors", model, {})
train.predict(checkpoint.load_model("model.safetensors")[0], test.x)
"""
COMMANDS = """
from minidl.cli import main
small = ["--dataset", "digits", "--hidden", "2", "--batch-size", "400"]
assert main(["train", *small, "--epochs", "1", "--log-dir", "run"]) == 0
assert main(["train", "--resume", "run", "--epochs", "2"]) == 0
assert main(["eval", "run/model.safetensors"]) == 0
assert main(["report", "run"]) == 0
assert main(["info"]) == 0
"""


def audited(code, tmp_path, **env):
    text = f"{HEAD}{code}\nprint('AUDIT' + json.dumps(seen))"
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("AUDIT")[2])


@pytest.mark.skipif(sys.platform != "linux", reason="what systems do beneath Python differs")
@pytest.mark.parametrize("what", ["import", "interpreted", "compiled kernels", "compiled step", "commands"])
def test_nothing_is_opened_started_or_unpickled(what, tmp_path):
    if interpreted() and what.startswith("compiled"):
        pytest.skip("NUMBA_DISABLE_JIT=1: there is nothing compiled")
    code = {"import": "import minidl, minidl.train, minidl.train.callbacks", "commands": COMMANDS}.get(what, TRAINING)
    env = {"NUMBA_DISABLE_JIT": "1"} if what == "interpreted" else {}
    assert audited(code.replace("COMPILE", str(what == "compiled step")), tmp_path, **env) == []


def test_the_audit_sees_what_it_should(tmp_path):
    code = """
import pickle, socket, subprocess, sys
socket.socket().close()
subprocess.run([sys.executable, "-c", ""])
class Own: pass
pickle.loads(pickle.dumps(Own()))
"""
    events = {event for event, *_ in audited(code, tmp_path)}
    assert {"socket.__new__", "subprocess.Popen", "pickle.find_class"} <= events
