"""Output of the command line: results on stdout, progress and notes on stderr, colours only if wanted."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


class Failure(Exception):
    """A command failed; the message is for the user."""


def note(message: str) -> None:
    """Print a line on stderr."""
    print(f"minidl: {' '.join(message.split())}", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """The message of an exception, for the user."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or ("there is not enough memory" if isinstance(error, MemoryError) else type(error).__name__)


def may_colour(stream: Any) -> bool:
    """Whether this is a terminal that wants colours (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream is not None and bool(stream.isatty())


def bold(text: str) -> str:
    """`text` for stdout, bold if that is a terminal."""
    return f"\033[1m{text}\033[0m" if may_colour(sys.stdout) else text


def _bar(form: str, total: int, **options: Any) -> Any:
    """A progress bar on stderr, or None if that is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    colour = "green" if may_colour(sys.stderr) else None
    return tqdm(
        total=total, file=sys.stderr, leave=False, dynamic_ncols=True, bar_format=form, colour=colour, **options
    )


class Progress:
    """Progress of training: a bar over the whole run if stderr is a terminal, else a line per epoch."""

    def __init__(self, epochs: int, images: int, quiet: bool) -> None:
        self.epochs, self.images, self.quiet = epochs, images, quiet
        form = "{desc} {percentage:3.0f}% {bar} {rate_fmt}  ETA {remaining}{postfix}"
        self.bar = None if quiet else _bar(form, epochs * images, unit=" images", unit_scale=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin(self, epoch: int) -> None:
        """Begin an epoch, counted from 1."""
        self.epoch, self.start, self.seen = epoch, time.perf_counter(), 0
        if self.bar is not None:
            self.bar.set_description_str(f"epoch {epoch}/{self.epochs}")

    def step(self, count: int, told: str = "") -> None:
        """Advance by `count` images; `told` describes the epoch so far."""
        self.seen += count
        if self.bar is not None:
            self.bar.set_postfix_str(told, refresh=False)
            self.bar.update(count)

    def end(self, told: str) -> None:
        """End the epoch; `told` describes its result."""
        if self.bar is not None:
            self.bar.set_postfix_str(told)
        elif not self.quiet:
            rate = self.seen / max(time.perf_counter() - self.start, 1e-9)
            left = (self.epochs - self.epoch) * self.images / max(rate, 1e-9)
            note(f"epoch {self.epoch}/{self.epochs}: {told}, {rate:,.0f} images/s, ETA {left:.0f} s")

    def print(self, text: str) -> None:
        """Print a line on stdout, which may be the terminal with the bar."""
        if self.bar is not None:
            self.bar.clear()
        print(text, flush=True)
        if self.bar is not None:
            self.bar.refresh()


@contextlib.contextmanager
def counting(verb: str) -> Iterator[Callable[[str, int], None]]:
    """Yield a function to call before each item with its name and the total: it shows a bar on a terminal."""
    bar = _bar(f"{verb} {{bar}} {{n_fmt}}/{{total_fmt}}{{postfix}}", 1)
    if bar is None:
        yield lambda name, total: None
        return
    with bar:

        def step(name: str, total: int) -> None:
            bar.total = total
            bar.set_postfix_str(name, refresh=False)
            bar.update()
            bar.refresh()

        yield step
