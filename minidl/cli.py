"""`minidl …`: argument parsing and exit codes. The commands themselves are in `commands`.

Exit codes: 0, 1 (failure), 2 (usage error), 130 (interrupted; saved files stay intact).
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
from typing import Any

from minidl import machine, models, optim
from minidl.commands import explain, report, search, settings, shared, tools, use
from minidl.commands import train as training
from minidl.shared.names import hint
from minidl.shared.terminal import Failure, note, reason
from minidl.train import defaults

MOST_UNITS, MOST_THREADS = 1_000_000, 256


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argv: the arguments; None: the process's own."""
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
        except BrokenPipeError:  # the reader of our output is gone
            _drop_output()
            return 1
        except (Failure, MemoryError, OSError) as error:
            with contextlib.suppress(OSError):
                note(f"error: {reason(error)}")
            _drop_output()
            return 1


def _run(argv: Sequence[str] | None) -> int:
    parser, train = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["train"]:
            try:
                given = ["train", *settings.expanded(given[1:], train)]
            except ValueError as error:
                train.error(str(error))
        arguments = parser.parse_args(given)
    except SystemExit as stop:  # argparse has printed why
        return stop.code if isinstance(stop.code, int) else 2
    arguments.run(arguments)
    return 0


def _drop_output() -> None:
    """Redirect output that cannot be written to nowhere, or Python complains at exit."""
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


def _part(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"expected a finite number of at least 0, found {text!r}")


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < 1:
            return value
    raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, found {text!r}")


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


def _html(text: str) -> Path:
    if Path(text).suffix.lower() != ".html":
        raise argparse.ArgumentTypeError(f"expected a file's name ending in .html, found {text!r}")
    return Path(text)


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest valid choice."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            raise argparse.ArgumentError(action, f"{error.message}{hint(value, action.choices or ())}") from None


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The main parser, and that of `train`."""
    parser = _Parser(prog="minidl", description="Train small neural networks on the CPU.", allow_abbrev=False)
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
        made.add_argument("--dataset", choices=shared.DATASETS, help=f"what data (default: {default})")
        made.add_argument("--data-dir", type=_directory, metavar="DIR", help="where it is (default: $MINIDL_DATA)")
        made.add_argument("--offline", action="store_true", help="download nothing")

    def computes(made: argparse.ArgumentParser) -> None:
        threads = _whole(1, MOST_THREADS)
        made.add_argument("--threads", type=threads, metavar="N", help="threads to compute with (default: all cores)")

    train = command("train", training.run_train, "train a network on a data set, test it, and save it")
    reads_data(train, "mnist, or the built-in digits where that cannot be had")
    one = _whole(1)
    train.add_argument("--model", choices=models.MODELS, default="mlp", help="what net (default: mlp)")
    width = _whole(1, MOST_UNITS)
    help = "widths of an mlp (default: 512)"
    train.add_argument("--hidden", type=width, nargs="+", default=[512], metavar="N", help=help)
    train.add_argument(
        "--epochs", type=one, default=defaults.COMMAND_EPOCHS, metavar="N", help="passes over the data (default: 5)"
    )
    train.add_argument(
        "--batch-size",
        type=one,
        default=defaults.COMMAND_BATCH_SIZE,
        metavar="N",
        help="images in a step (default: 128)",
    )
    help = "default: adam; sgd has momentum 0.9"
    train.add_argument("--optimizer", choices=defaults.RATES, default=defaults.OPTIMIZER, help=help)
    train.add_argument("--lr", type=_rate, metavar="RATE", help="learning rate (default: 0.001; sgd: 0.05)")
    train.add_argument("--weight-decay", type=_part, metavar="RATE", help="(default: the optimizer's own)")
    train.add_argument("--schedule", choices=optim.SCHEDULES, help="how the rate changes (default: not at all)")
    train.add_argument("--clip-norm", type=_rate, metavar="NORM", help="the largest norm of the gradients together")
    help = "change training images at random: " + ", ".join(training.AUGMENTATIONS)
    train.add_argument("--augment", choices=training.AUGMENTATIONS, nargs="*", default=[], metavar="HOW", help=help)
    help = "scale images by the training set's mean and deviation, which are saved with the model"
    train.add_argument("--standardize", action=argparse.BooleanOptionalAction, default=False, help=help)
    help = "part of the training set to validate with, in place of the test set"
    train.add_argument("--val-split", type=_share, metavar="SHARE", help=help)
    help = "stop when the validation loss has not fallen for N epochs (with --val-split 0.1 unless given)"
    train.add_argument("--early-stop", type=one, metavar="N", help=help)
    help = "look at layers and gradients every N steps, and say what is wrong with them"
    train.add_argument("--watch", type=one, metavar="N", help=help)
    train.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of weights and order (default: 0)")
    help = "make each step one machine-code call: seconds to compile at first, then faster epochs"
    train.add_argument("--compile", action=argparse.BooleanOptionalAction, default=defaults.COMPILE, help=help)
    computes(train)
    help = "where the model goes; beside it the run's figures (.json) and a checkpoint (default: model.safetensors)"
    train.add_argument("--out", type=_output, metavar="FILE", help=help)
    help = "a directory for all of the run: model, figures, checkpoint, and a log as JSON lines"
    train.add_argument("--log-dir", type=Path, metavar="DIR", help=help)
    help = "continue a run from its checkpoint or directory (default: that of --out or --log-dir)"
    train.add_argument("--resume", nargs="?", const="", metavar="PATH", help=help)
    train.add_argument("--config", metavar="FILE.toml", help="take flags from there; those given here come first")
    train.add_argument("--print-config", action="store_true", help="print every flag as such a file, and do nothing")
    train.add_argument("--quiet", action="store_true", help="no progress on stderr")

    search.add_parser(command, reads_data, computes, train)

    evaluate = command("eval", use.run_eval, "test a model that was saved")
    evaluate.add_argument("model", metavar="MODEL", help="a .safetensors file of `minidl train`")
    reads_data(evaluate, "the one that the model was trained on")
    computes(evaluate)

    evaluate.add_argument("--confusion", type=_png, metavar="FILE.png", help="draw the confusion matrix")

    predict = command("predict", use.run_predict, "tell what images show")
    predict.add_argument("model", metavar="MODEL", help="a .safetensors file of `minidl train`")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="PNG, JPEG, .npy or IDX files")
    computes(predict)

    page = command("report", report.run_report, "write one page about a run: curves, confusion, mistakes", json=False)
    page.add_argument("run_path", metavar="RUN", help="a directory of `minidl train --log-dir`, or a model of it")
    reads_data(page, "the one that the model was trained on")
    computes(page)
    help = "where the page goes (default: beside the model)"
    page.add_argument("--out", type=_html, metavar="FILE.html", help=help)

    help = "open a backward pass and follow every number of it, on a page"
    opened = command("explain", explain.run_explain, help, json=False)
    help = "a .safetensors file of `minidl train` (default: a built-in net of two layers, on three points)"
    opened.add_argument("model", metavar="MODEL", nargs="?", help=help)
    opened.add_argument("--image", metavar="FILE", help="what the model is shown: PNG, JPEG, .npy or IDX")
    opened.add_argument("--label", type=_whole(0), metavar="N", help="its true class (default: the predicted one)")
    help = "where the page goes (default: backprop.html)"
    opened.add_argument("--out", type=_html, default=Path("backprop.html"), metavar="FILE.html", help=help)
    opened.add_argument("--open", action="store_true", help="and show it in the browser")
    opened.add_argument("--text", action="store_true", help="and print it")
    computes(opened)

    bench = command("bench", tools.run_bench, "check kernels, and time them against the machine's peak", json=False)
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

    command("info", tools.run_info, "show versions, the processor, threads and directories")
    command("warmup", tools.run_warmup, "compile all kernels ahead, so that nothing waits for that later")
    return parser, train
