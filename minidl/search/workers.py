"""Run trials one by one in this process, or several at once in worker processes.

Workers are spawned, not forked, so that they start without this process's threads. They ignore Ctrl-C, which a terminal
sends to all its processes; this process ends them. If this process is killed, a worker ends after its trial.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing import connection, resource_tracker
from multiprocessing.reduction import ForkingPickler
from typing import Any

from minidl.jit import get_num_threads, set_num_threads
from minidl.search.trial import Objective, Row, Trial, attempt, row_of

Rows = Generator[Row, None, None]
Following = Callable[[], Trial | None]
_GRACE = 5.0  # seconds to exit
_HINT = (
    "an objective for workers is a function of a module, not of a notebook or a prompt, and a script that searches "
    'with workers does so under `if __name__ == "__main__":`'
)


class TimeUp(Exception):
    """Time ran out with trials still running or to start."""


def in_this_process(objective: Objective, following: Following, deadline: float) -> Rows:
    """Run all following trials, yielding rows. TimeUp: the next would begin after the deadline (`time.monotonic`)."""
    while (trial := following()) is not None:
        if time.monotonic() >= deadline:
            raise TimeUp
        yield attempt(objective, trial)


def in_processes(objective: Objective, following: Following, deadline: float, workers: int) -> Rows:
    """Run all following trials, yielding rows as they end. Each worker has its share of the threads.

    A worker that dies leaves a row with an error. TimeUp: trials are running at the deadline, or the next would begin
    after it. RuntimeError: a worker died while starting. In any case all workers have ended on return.
    """
    threads = max(1, get_num_threads() // workers)
    idle: list[_Worker] = []
    busy: dict[Any, _Worker] = {}  # by connection
    try:
        while True:
            while len(busy) < workers and (trial := following()) is not None:
                if time.monotonic() >= deadline:
                    raise TimeUp
                worker = idle.pop() if idle else _Worker(objective, threads)
                busy[worker.connection] = worker
                worker.give(trial)
            if not busy:
                return
            left = deadline - time.monotonic()
            # At most an hour, as the system's own limit is finite.
            ready = connection.wait(list(busy), min(max(left, 0), 3600))
            if not ready and left <= 0:
                raise TimeUp
            for one in ready:
                worker = busy[one]
                row = worker.take()
                if row is not None:
                    del busy[one]
                    if worker.process.is_alive():
                        idle.append(worker)
                    yield row
    finally:
        for worker in busy.values():
            worker.process.kill()
        for worker in (*idle, *busy.values()):
            worker.connection.close()  # a waiting worker then exits by itself
        for worker in (*idle, *busy.values()):
            worker.process.join(_GRACE)
            worker.process.kill()
            worker.process.join()


class _Worker:
    """A process that waits for trials and sends back rows."""

    def __init__(self, objective: Objective, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, objective, threads), daemon=True)
        self.ready = False
        with _interrupts_held_back(), contextlib.suppress(BrokenPipeError):  # `take` finds out
            self.process.start()
        theirs.close()

    def give(self, trial: Trial) -> None:
        """Start a trial."""
        self.trial, self.start = trial, time.perf_counter()
        with contextlib.suppress(OSError):  # it is dead: `take` finds out
            self.connection.send(trial)

    def take(self) -> Row | None:
        """Receive its message: a row, or None if it is ready for its first trial."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError):
            self.connection.close()
            self.process.join()
            code = self.process.exitcode or 0
            told = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if not self.ready:
                raise RuntimeError(f"search: expected a worker to start, found that it {told}: {_HINT}") from None
            return row_of(self.trial, None, time.perf_counter() - self.start, f"the worker process {told}")
        self.ready = True
        return said if isinstance(said, Row) else None


def _work(given: connection.Connection, objective: Objective, threads: int) -> None:
    """The main loop of a worker: run trials until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):
        given.send("ready")
        while True:
            given.send(attempt(objective, given.recv()))


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes started within the block ignore Ctrl-C; here it is deferred until after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise `start` does this, and unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_importable(function: str, objective: Objective) -> None:
    """Raise TypeError unless other processes can import this objective."""
    try:
        ForkingPickler.dumps(objective)
    except Exception as error:
        raise TypeError(
            f"{function}: expected an objective that a worker process can import, found {objective!r:.80} ({error}): "
            f"{_HINT}; without workers it may be any function"
        ) from error
