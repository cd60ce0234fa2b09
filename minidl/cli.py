"""`minidl …`: what can be asked for, and how it ends. The commands themselves are in `commands`.

Exit codes: 0, 1 (it failed), 2 (it was called wrongly), 130 (interrupted; what was saved stays whole).
"""

import argparse
import contextlib
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from minidl import commands, machine
from minidl.terminal import Failure, note, reason

MOST_UNITS, MOST_THREADS = 1_000_000, 256


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argv: the arguments, None for the process's own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # closed, or replaced by the caller
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: note(f"warning: {message}")
        try:
            code = _run(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one would only cut the exit short
            _drop_output()
            return 130
        except BrokenPipeError:  # whoever read our output has gone: nobody is left to tell
            _drop_output()
            return 1
        except (Failure, MemoryError, OSError) as error:
            with contextlib.suppress(OSError):
                note(f"error: {reason(error)}")
            _drop_output()
            return 1


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else 2
    arguments.run(arguments)
    return 0


def _drop_output() -> None:
    """Let what cannot be written go nowhere, or Python complains about it at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ------------------------------------------------------------------------------------- arguments


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        expected = f"at least {least}" if most is None else f"from {least} to {most:,}"
        with contextlib.suppress(ValueError):
            if (value := int(text)) >= least and (most is None or value <= most):
                return value
        raise argparse.ArgumentTypeError(f"expected an integer {expected}, found {text!r}")

    return parse


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"expected a finite number above 0, found {text!r}")


def _directory(text: str) -> str:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"expected a directory, found {text!r}")
    return text


def _output(text: str) -> Path:
    if not Path(text).name or Path(text).suffix == ".json":
        raise argparse.ArgumentTypeError(
            f"expected a file's name, not ending in .json (the run's figures go there), found {text!r}"
        )
    return Path(text)


def _shape(text: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        shape = tuple(int(n) for n in text.lower().split("x"))
        if min(shape) > 0:
            return shape
    raise argparse.ArgumentTypeError(f"expected integers of at least 1 with x between them, found {text!r}")


def _png(text: str) -> Path:
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file's name ending in .png, found {text!r}")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minidl", description="Train small neural networks on the CPU.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"minidl {machine.__version__}")
    added = parser.add_subparsers(metavar="command", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], None], help: str, json: bool = True
    ) -> argparse.ArgumentParser:
        made = added.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)
        made.set_defaults(run=run)
        if json:
            made.add_argument("--json", action="store_true", help="print JSON instead of a table")
        return made

    def reads_data(made: argparse.ArgumentParser, default: str) -> None:
        made.add_argument("--dataset", choices=commands.DATASETS, help=f"what data (default: {default})")
        made.add_argument("--data-dir", type=_directory, metavar="DIR", help="where it is (default: $MINIDL_DATA)")
        made.add_argument("--offline", action="store_true", help="download nothing")

    def computes(made: argparse.ArgumentParser) -> None:
        threads = _whole(1, MOST_THREADS)
        made.add_argument("--threads", type=threads, metavar="N", help="threads to compute with (default: all cores)")

    train = command("train", commands.run_train, "train a network on a data set, test it, and save it")
    reads_data(train, "mnist, or the built-in digits where that cannot be had")
    one, out = _whole(1), Path("model.safetensors")
    width = _whole(1, MOST_UNITS)
    train.add_argument("--hidden", type=width, nargs="+", default=[512], metavar="N", help="widths (default: 512)")
    train.add_argument("--epochs", type=one, default=5, metavar="N", help="passes over the data (default: 5)")
    train.add_argument("--batch-size", type=one, default=128, metavar="N", help="images in a step (default: 128)")
    train.add_argument(
        "--optimizer", choices=commands.RATES, default="adam", help="default: adam; sgd has momentum 0.9"
    )
    train.add_argument("--lr", type=_rate, metavar="RATE", help="learning rate (default: 0.001; sgd: 0.05)")
    train.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of weights and order (default: 0)")
    computes(train)
    help = f"where the model goes, and beside it, as .json, the run's figures (default: {out})"
    train.add_argument("--out", type=_output, default=out, metavar="FILE", help=help)
    train.add_argument("--quiet", action="store_true", help="no progress on stderr")

    evaluate = command("eval", commands.run_eval, "test a model that was saved")
    evaluate.add_argument("model", metavar="MODEL", help="a .safetensors file of `minidl train`")
    reads_data(evaluate, "the one that the model was trained on")
    computes(evaluate)

    predict = command("predict", commands.run_predict, "tell what images show")
    predict.add_argument("model", metavar="MODEL", help="a .safetensors file of `minidl train`")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="PNG, JPEG, .npy or IDX files")
    computes(predict)

    bench = command("bench", commands.run_bench, "check kernels, and time them against the machine's peak", json=False)
    bench.add_argument("kernel", metavar="KERNEL", nargs="*", help="which (default: all)")
    bench.add_argument("--variant", action="append", metavar="NAME", help="only this variant, beside minidl's own")
    bench.add_argument("--shape", type=_shape, metavar="AxBxC", help="instead of the kernels' usual shapes")
    bench.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    bench.add_argument("--rounds", type=one, default=15, metavar="N", help="samples of each (default: 15)")
    computes(bench)
    bench.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    bench.add_argument("--compare", type=Path, metavar="FILE", help="earlier --json results; exit 1 if now slower")
    bench.add_argument("--plot", type=_png, metavar="FILE.png", help="draw the roofline")
    bench.add_argument("--asm", metavar="KERNEL", help="show what the compiler made of it, and time nothing")
    bench.add_argument("--quiet", action="store_true", help="no progress on stderr")

    command("info", commands.run_info, "show versions, the processor, threads and directories")
    command("warmup", commands.run_warmup, "compile all kernels ahead, so that nothing waits for that later")
    return parser
