"""A process that runs the NumPy or PyTorch equivalent of a kernel: `python -m minidl.bench.rival torch`.

Reads one JSON object per line: a case to prepare (kernel, label, shape, dtype), or the number of runs (repeats).
"""

from __future__ import annotations

import ctypes
import glob
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from minidl.bench.cases import CASES
from minidl.bench.verify import WrongResult, aligned, arguments_of, compare


def openblas_core() -> str | None:
    """The processor type that NumPy's OpenBLAS selected; None without OpenBLAS."""
    for path in glob.glob(os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs", "*openblas*")):
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
            if hasattr(library, name):
                function = getattr(library, name)
                function.restype = ctypes.c_char_p
                return str(function().decode())
    return None


def _about(name: str) -> tuple[Any, dict[str, Any]]:
    if name == "numpy":
        return None, {"version": np.__version__, "openblas_core": openblas_core()}
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_grad_enabled(False)
    return torch, {"version": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability()}


def _prepared(torch: Any, request: dict[str, Any]) -> tuple[Callable[[], Any] | None, str]:
    """(the function to time, "") or (None, the reason against)."""
    shape, dtype = tuple(request["shape"]), request["dtype"]
    case = next(c for c in CASES[request["kernel"]] if c.label == request["label"])
    arguments = arguments_of(case, shape, dtype)

    def given() -> list[Any]:
        arrays = [aligned(x) if isinstance(x, np.ndarray) else x for x in arguments]
        if torch is None:
            return arrays
        return [torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in arrays]

    if torch is None:
        run: Callable[..., Any] = case.numpy
    elif case.torch is None:
        return None, "PyTorch has nothing like it"
    else:
        function = case.torch

        def run(*args: Any) -> Any:
            return function(torch, *args)

    try:
        compare(case, request["kernel"], [np.asarray(y) for y in run(*given())], arguments, shape, dtype)
    except WrongResult as error:
        return None, str(error)
    mine = given()
    return lambda: run(*mine), ""


def main(name: str) -> None:
    torch, about = _about(name)
    print(json.dumps(about), flush=True)
    run: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        if "repeats" in request:
            start = time.perf_counter()
            for _ in range(request["repeats"]):
                run()
            answer: dict[str, Any] = {"seconds": time.perf_counter() - start}
        else:
            run, reason = _prepared(torch, request)
            answer = {"ready": run is not None, "reason": reason}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
