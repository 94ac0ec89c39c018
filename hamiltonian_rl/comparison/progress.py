"""How far a comparison is: which runs go on, how far each is, and about how long the rest will take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from hamiltonian_rl.comparison.plan import Job
from hamiltonian_rl.comparison.worker import Outcome
from hamiltonian_rl.console import SECONDS_BETWEEN_LINES

LEAST_SHARE = 0.02  # of a run, before its speed is trusted: the first steps may take longer


class TimeLeft:
    """Estimates the seconds left from how long each agent's runs take; of agents not yet seen, from the others' mean.

    Args:
        jobs: All that are to be done.
        workers: How many at a time.
        clock: Seconds.

    Example:
        >>> TimeLeft([], workers=1).seconds() is None
        True
    """

    def __init__(self, jobs: Sequence[Job], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._workers = clock, workers
        self._shares_left = {job.name: 1.0 for job in jobs}
        self._labels = {job.name: job.label for job in jobs}
        self._started: dict[str, tuple[float, float]] = {}
        self._whole: dict[str, dict[str, float]] = {}  # seconds of a whole run, by agent and run

    def moved(self, job: Job, step: int) -> None:
        """Take it that a run is at a step; its time counts from the last call before it moves."""
        left = max(0.0, 1.0 - step / job.config.steps)
        self._shares_left[job.name] = left
        started, left_then = self._started.get(job.name, (0.0, left))
        if left == left_then:
            self._started[job.name] = self._clock(), left
        elif left_then - left >= LEAST_SHARE:
            self._whole.setdefault(job.label, {})[job.name] = (self._clock() - started) / (left_then - left)

    def ended(self, job: Job) -> None:
        """Take it that a run has ended."""
        self._shares_left[job.name] = 0.0

    def seconds(self) -> float | None:
        """Return the estimate; None while nothing is known."""
        means = {label: statistics.fmean(runs.values()) for label, runs in self._whole.items()}
        if not means:
            return None
        unknown = statistics.fmean(means.values())
        work = [left * means.get(self._labels[name], unknown) for name, left in self._shares_left.items()]
        return max(sum(work) / self._workers, max(work))


class ComparisonProgress:
    """Shows the runs: a bar each on a terminal, elsewhere a line every ten seconds and one for each run that ends.

    Args:
        jobs: All that are to be done.
        workers: How many at a time.
        console: Where; standard error unless given.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._left = TimeLeft(jobs, workers)
        self._total, self._ended = len(jobs), 0
        self._last = time.monotonic()
        columns = TextColumn("{task.description}"), BarColumn(bar_width=12), TextColumn("{task.fields[note]}")
        self._bars = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self._all = self._bars.add_task("all runs", total=self._total, note="")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def moved(self, job: Job, step: int) -> None:
        """Show how far a run is."""
        self._left.moved(job, step)
        if job.name not in self._tasks:
            self._tasks[job.name] = self._bars.add_task(job.name, total=job.config.steps, note="")
        where = f"{step:,} of {job.config.steps:,} steps"
        self._bars.update(self._tasks[job.name], completed=step, note=where)
        self._bars.update(self._all, completed=self._ended, note=self._note())
        now = time.monotonic()
        if self._bars.disable and now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.console.print(f"{self._note()}; {job.name}: {where}", soft_wrap=True, markup=False)

    def ended(self, outcome: Outcome) -> None:
        """Say how a run ended, and take its bar away."""
        self._ended += outcome.status == "finished"
        self._left.ended(outcome.job)
        self._bars.remove_task(self._tasks.pop(outcome.job.name))
        self._bars.update(self._all, completed=self._ended, note=self._note())
        end = f"{outcome.status}{': ' if outcome.sentence else ''}{outcome.sentence}"
        if outcome.status == "finished":
            result = outcome.job.result() or {}
            end = f"return {result['mean_reward']:.2f}, {result['training_cpu_seconds']:.1f} CPU seconds"
        self.console.print(f"{outcome.job.name}: {end}", soft_wrap=True, markup=False)

    def stopping(self) -> None:
        """Say what Ctrl-C does."""
        sentence = "Stopping: every run saves a checkpoint. Once more to stop at once, without saving."
        self.console.print(sentence, soft_wrap=True)

    def _note(self) -> str:
        seconds = self._left.seconds()
        left = "" if seconds is None else f", about {_duration(seconds)} left"
        return f"{self._ended} of {self._total} runs done{left}"


def _duration(seconds: float) -> str:
    """Return a time as a person says it.

    Example:
        >>> _duration(42.3), _duration(754.0), _duration(7500.0)
        ('42 s', '13 min', '2 h 5 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
