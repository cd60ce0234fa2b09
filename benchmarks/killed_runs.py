"""Kill a training run at random instants, resume it each time, and see whether it ends with the same file.

    python benchmarks/killed_runs.py --kills 50

SIGKILL falls at instants drawn over the start of a short MNIST run and the two epochs that follow, and, each third
time, while a file is being written. After each the checkpoint is read; in the end model files are compared byte by
byte with that of a run that nobody killed.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from minidl.checkpoint import load_checkpoint

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--kills", type=int, default=50)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--hidden", default="64")
parser.add_argument("--dataset", default="mnist")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
draw = random.Random(arguments.seed)
RUN = [sys.executable, "-m", "minidl", "train", "--dataset", arguments.dataset, "--hidden", arguments.hidden]
RUN += ["--epochs", str(arguments.epochs), "--quiet", "--val-split", "0.1", "--augment", "shift", "--threads", "1"]


def train(directory: Path, *more: str, kill_after: float | None = None, in_a_save: bool = False) -> bool:
    """Run until it ends (True), or is killed (False): after so long, or then in the middle of the next save."""
    before = unfinished(directory)
    with subprocess.Popen(
        [*RUN, "--log-dir", str(directory), *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            code = process.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            while in_a_save and process.poll() is None and not unfinished(directory) - before:
                pass
            process.send_signal(signal.SIGKILL)
            code = process.wait()
            if code == -signal.SIGKILL:
                return False
    if code != 0:
        sys.exit(f"the run ended with {code}")
    return True


def unfinished(directory: Path) -> set[str]:
    """Files that are being written, or that a killed writer left."""
    return {name for name in os.listdir(directory) if name.startswith(".")} if directory.exists() else set()


def read(directory: Path) -> int:
    """The epoch of the run's checkpoint, 0 for none. Whatever is there must be whole."""
    path = directory / "model.checkpoint.safetensors"
    return load_checkpoint(path).state["counters"]["epoch"] if path.exists() else 0


with tempfile.TemporaryDirectory() as temporary:
    root = Path(temporary)
    train(root / "warm")  # kernels compiled
    began = time.perf_counter()
    train(root / "whole")
    seconds = time.perf_counter() - began
    rows = json.loads((root / "whole" / "model.json").read_text("utf-8"))["epochs"]
    epoch = max(row["seconds"] for row in rows)
    start = max(seconds - arguments.epochs * epoch, 0)
    print(f"a run takes {seconds:.1f} s, an epoch of it {epoch:.2f} s")
    kills, saves, runs, epochs = 0, 0, 0, []
    while kills < arguments.kills:
        runs += 1
        directory, ended = root / f"cut{runs}", False
        while not ended and kills < arguments.kills:
            aimed, left = kills % 3 == 2, unfinished(directory)
            ended = train(directory, "--resume", kill_after=draw.uniform(0, start + 2 * epoch), in_a_save=aimed)
            kills += not ended
            saves += not ended and bool(unfinished(directory) - left)
            epochs += [] if ended else [read(directory)]
        if not ended:
            train(directory, "--resume")
        for name in ("model.safetensors", "model.json", "log.jsonl"):
            if not (directory / name).exists():
                sys.exit(f"{name} is missing after {kills} kills")
        if (directory / "model.safetensors").read_bytes() != (root / "whole" / "model.safetensors").read_bytes():
            sys.exit(f"the model of run {runs} is another, after {kills} kills")
    spread = ", ".join(f"{epochs.count(k)} after {k} epochs" for k in sorted(set(epochs)))
    print(f"{kills} kills, {saves} of them in a save, over {runs} runs ({spread}):")
    print("every checkpoint could be read, and every model is the same file")
