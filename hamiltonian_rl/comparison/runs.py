"""The runs of a comparison, each in a process of its own, some of them side by side.

A process of its own gives every run the same cold start and one thread, whatever runs beside it, and lets one die
without the others. Ctrl-C reaches this process alone, which has each run save a checkpoint; when this process is
killed, the runs end with it, at their last checkpoints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from hamiltonian_rl.comparison.plan import Job
from hamiltonian_rl.comparison.worker import Outcome, work
from hamiltonian_rl.console import handling_stops
from hamiltonian_rl.tracking.run_folder import file_name

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Watcher(Protocol):
    """Is told how far the runs are."""

    def moved(self, job: Job, step: int) -> None:
        """A run is at a step; the first call says that it has begun."""

    def ended(self, outcome: Outcome) -> None:
        """A run has ended."""

    def stopping(self) -> None:
        """Ctrl-C: the runs are saving their checkpoints."""


def execute_jobs(jobs: Sequence[Job], workers: int, watcher: Watcher) -> list[Outcome]:
    """Execute runs, some side by side, each from where it stopped; return how they ended.

    A run that fails ends alone. After Ctrl-C (or SIGTERM) no run begins, and those that run save a checkpoint and stop;
    after a second one they end at once. The results do not depend on how many run side by side.

    Args:
        jobs: The runs.
        workers: How many at a time.
        watcher: Is told how far they are.
    """
    pool = _Pool(watcher)
    waiting = deque(jobs)
    with _one_thread_each(), handling_stops(pool.stop), contextlib.closing(pool):
        while True:
            while waiting and len(pool.running) < workers and not pool.stops:
                pool.start(waiting.popleft())
            if not pool.running:
                return sorted(pool.outcomes, key=lambda outcome: jobs.index(outcome.job))
            pool.listen()


@dataclasses.dataclass
class _Running:
    """A run, its process, and what is known of it."""

    job: Job
    process: BaseProcess
    output: Path
    step: int = 0
    outcome: Outcome | None = None


class _Pool:
    """The processes that run now, by the connections on which they report."""

    def __init__(self, watcher: Watcher) -> None:
        self.running: dict[Any, _Running] = {}
        self.outcomes: list[Outcome] = []
        self.stops = 0
        self._watcher = watcher

    def start(self, job: Job) -> None:
        """Begin a run, or go on with it."""
        context = multiprocessing.get_context("spawn")  # inherits no threads and no generators
        output = job.folder / f"{file_name(job.label)}-{job.config.seed}.log"
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(job, theirs, output), name=job.name)
        process.start()
        theirs.close()  # so that the end of the process is the end of the connection
        self.running[ours] = _Running(job, process, output)
        self._watcher.moved(job, 0)
        if self.stops:  # Ctrl-C came just now
            _interrupt(process)

    def listen(self) -> None:
        """Wait for news of any run, and take them."""
        ready: list[Any] = wait(list(self.running))
        for connection in ready:
            run = self.running[connection]
            try:
                news = connection.recv()
            except (EOFError, OSError):
                self._end(connection, run)
                continue
            if isinstance(news, Outcome):
                run.outcome = news
            else:
                run.step = news
                self._watcher.moved(run.job, news)

    def _end(self, connection: Any, run: _Running) -> None:
        run.process.join()
        connection.close()
        del self.running[connection]
        if self.stops and run.outcome is None:
            run.outcome = Outcome(run.job, "stopped")
        elif run.outcome is None:
            code = run.process.exitcode
            why = " (killed; is the memory large enough?)" if code == -9 else ""
            sentence = f"its process ended at step {run.step:,} with exit code {code}{why}; its output: {run.output}"
            run.outcome = Outcome(run.job, "failed", sentence)
        if run.outcome.status == "finished":
            run.output.unlink(missing_ok=True)
        self.outcomes.append(run.outcome)
        self._watcher.ended(run.outcome)

    def stop(self, number: int) -> None:
        """Let Ctrl-C and SIGTERM stop the runs: gently, and at once when they come again."""
        self.stops += 1
        if self.stops > 1:
            self.close()
            return
        for run in list(self.running.values()):
            _interrupt(run.process)
        self._watcher.stopping()

    def close(self) -> None:
        """End what still runs, at once."""
        for run in list(self.running.values()):
            run.process.kill()


def _interrupt(process: BaseProcess) -> None:
    """Let a run stop at its next whole state. Without POSIX the console has told it itself."""
    if os.name == "posix" and process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Have processes that start now compute with one thread, so that many do not crowd the machine."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
