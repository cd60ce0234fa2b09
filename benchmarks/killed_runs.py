"""Kill a training run at random instants, resume it each time, and see whether it ends with the same file.

    python benchmarks/killed_runs.py --kills 50

SIGKILL falls at instants drawn over the whole of a short MNIST run: while it starts, trains, tests and writes. After
each the checkpoint is read; in the end model files are compared byte by byte with that of a run that nobody killed.
"""

import argparse
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


def train(directory: Path, *more: str, kill_after: float | None = None) -> bool:
    """Run until it ends (True), or is killed (False)."""
    with subprocess.Popen([*RUN, "--log-dir", str(directory), *more], stdout=subprocess.DEVNULL) as process:
        try:
            code = process.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return False
    if code != 0:
        sys.exit(f"the run ended with {code}")
    return True


def read(directory: Path) -> int:
    """The epoch of the run's checkpoint, 0 for none. Whatever is there must be whole."""
    path = directory / "model.checkpoint.safetensors"
    return load_checkpoint(path).state["counters"]["epoch"] if path.exists() else 0


with tempfile.TemporaryDirectory() as temporary:
    root = Path(temporary)
    train(root / "warm")  # kernels compiled
    start = time.perf_counter()
    train(root / "whole")
    seconds = time.perf_counter() - start
    print(f"a run of {arguments.epochs} epochs takes {seconds:.1f} s")
    kills, runs, epochs = 0, 0, []
    while kills < arguments.kills:
        runs += 1
        directory = root / f"cut{runs}"
        ended = False
        while not ended and kills < arguments.kills:
            # A run that goes on has less to do: let it get anywhere from its start to its end.
            left = seconds * (1 - 0.8 * read(directory) / arguments.epochs)
            ended = train(directory, "--resume", kill_after=draw.uniform(0, left * 1.1))
            kills += not ended
            epochs.append(read(directory))
        ended or train(directory, "--resume")
        for name in ("model.safetensors", "model.json", "log.jsonl"):
            if not (directory / name).exists():
                sys.exit(f"{name} is missing after {kills} kills")
        if (directory / "model.safetensors").read_bytes() != (root / "whole" / "model.safetensors").read_bytes():
            sys.exit(f"the model of run {runs} is another, after {kills} kills")
        left_over = [p.name for p in directory.iterdir() if p.name.startswith(".")]
        if left_over:
            sys.exit(f"run {runs} left {left_over}")
    spread = ", ".join(f"{epochs.count(k)} in epoch {k + 1}" for k in sorted(set(epochs)))
    print(f"{kills} kills over {runs} runs ({spread}): every checkpoint could be read, every model is the same file")
