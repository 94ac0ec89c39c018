"""One run of a comparison, in its own process: begins it or goes on with it, and reports to whoever started it."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hamiltonian_rl.agents.progress import ProgressBar
from hamiltonian_rl.comparison.learned_picture import learned_picture
from hamiltonian_rl.comparison.optima import keep_starts
from hamiltonian_rl.comparison.plan import Job
from hamiltonian_rl.errors import CheckpointError, HamiltonianRLError, UsageError
from hamiltonian_rl.solving import Figure
from hamiltonian_rl.tracking.tensorboard import TensorBoardSink
from hamiltonian_rl.training import TrainingRun, resume_run, start_run

SECONDS_BETWEEN_REPORTS = 0.2
PICTURE = "learned/value"  # tag


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        job: The run.
        status: "finished", "failed" or "stopped".
        sentence: What went wrong, where something did.
    """

    job: Job
    status: str
    sentence: str = ""


class _Reporter(ProgressBar):
    """Reports the steps taken to the other process, where `ProgressBar` shows them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Report where the run starts."""
        self._report(time.monotonic())

    def on_step(self) -> bool:
        """Report the steps, some times a second."""
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_REPORTS:
            self._report(now)
        return True

    def _report(self, now: float) -> None:
        self._last = now
        self._connection.send(self.agent.num_timesteps)

    def close(self) -> None:
        """Nothing is open."""


def work(job: Job, connection: Connection, output: Path) -> None:
    """Execute one run: the body of its process.

    Args:
        job: The run.
        connection: Takes its steps, now and then, and in the end its `Outcome`.
        output: File for what the run prints.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if os.name == "posix":
        os.setpgrp()  # Ctrl-C of the terminal is for the other process, which passes it on once
    with open(output, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        run = _opened(job, _Reporter(connection))
        result = run.execute()
        if result["status"] == "finished":
            keep_starts(run.folder.path, run.starts)
            _draw(run)
        connection.send(Outcome(job, result["status"]))
    except HamiltonianRLError as error:
        connection.send(Outcome(job, "failed", str(error)))
    except KeyboardInterrupt:
        connection.send(Outcome(job, "stopped"))


def _draw(run: TrainingRun) -> None:
    """Write a picture of what the agent has learnt into its run, where it can be drawn."""
    picture = None
    with contextlib.suppress(HamiltonianRLError):  # without a picture the run is no worse
        picture = learned_picture(run.agent, run.config)
    if picture is not None:
        sink = TensorBoardSink(run.folder.path)
        sink.write({PICTURE: Figure(picture)}, run.agent.num_timesteps)
        sink.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # as by kill -9: the last checkpoint is whole


def _opened(job: Job, progress: ProgressBar) -> TrainingRun:
    """Return the run: the one that was begun where it can go on exactly, else a new one in its place."""
    begun = job.run_folder()
    if begun is not None:
        with contextlib.suppress(CheckpointError, UsageError):  # none yet, or damaged, or the environment has changed
            run = resume_run(begun.path, progress=progress)
            if run.resume == "exact":
                return run
            run.close()
        begun.remove(job.folder)
    return start_run(job.config, job.folder.parent, (job.folder.name, job.label), progress=progress)
