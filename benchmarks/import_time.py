"""How much longer `import minidl` takes than `import numpy`, in fresh processes, alternated.

Bytecode is kept in a temporary directory, as an installed package keeps it beside its source.
Usage: python benchmarks/import_time.py [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 11
STATEMENTS = {
    "python": "pass",
    "numpy": "import numpy",
    "minidl": "import minidl, sys; assert 'numba' not in sys.modules",
}


def milliseconds(statement: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp()
    for statement in STATEMENTS.values():  # bytecode is written and files are read once before anything counts
        milliseconds(statement)
    times = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            times[name].append(milliseconds(statement))
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:8s} {middle:7.1f} ms   from {min(values):.1f} to {max(values):.1f}")
    extra = [b - a for a, b in zip(times["numpy"], times["minidl"], strict=True)]
    print(f"minidl costs {statistics.median(extra):.1f} ms more than numpy (median of {ROUNDS} pairs)")


if __name__ == "__main__":
    main()
