"""A progress bar for anything that learns: steps, return, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hamiltonian_rl.agents.callbacks import Callback
from hamiltonian_rl.console import SECONDS_BETWEEN_LINES

SECONDS_BETWEEN_FRAMES = 0.1


class ProgressBar(Callback):
    """Shows steps, return and time left; a line every ten seconds where the output is no terminal."""

    def __init__(self, total: int | None = None, console: Console | None = None) -> None:
        self.total = total
        self.console = console or Console(stderr=True)
        self.note = ""
        self._last = self._started = 0.0
        self._bar: Progress | None = None

    def on_training_start(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        """Open the bar."""
        if self.total is None:
            self.total = self.agent.num_timesteps + int(locals_["total_timesteps"])
        self._started = self._last = time.monotonic()
        self._first_step = self.agent.num_timesteps
        if self.console.is_terminal:
            columns = (
                BarColumn(bar_width=12),  # so that all of it fits into 80 columns
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps  {task.fields[note]} "),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            self._bar = Progress(*columns, console=self.console)
            self._task = self._bar.add_task("training", total=self.total, note="")
            self._bar.start()

    def on_step(self) -> bool:
        """Move the bar, at most ten times a second."""
        now = time.monotonic()
        if now - self._last >= (SECONDS_BETWEEN_FRAMES if self._bar else SECONDS_BETWEEN_LINES):
            self._last = now
            self._show(now)
        return True

    def _show(self, now: float) -> None:
        steps, value = self.agent.num_timesteps, self.agent.mean_episode_return
        note = f"return {value:.1f}" if value is not None else "return -"
        note += f"  {self.note}" if self.note else ""  # "greedy" is what the last evaluation measured
        if self._bar:
            self._bar.update(self._task, completed=steps, note=note)
        elif self.total:
            done = steps - self._first_step
            left = (now - self._started) / max(done, 1) * (self.total - steps)
            self.console.print(f"{steps:,} of {self.total:,} steps  {note}  {left:.0f} s left", highlight=False)

    def close(self) -> None:
        """Close the bar, also when training was cut off."""
        if self._bar:
            self._show(time.monotonic())
            self._bar.stop()
            self._bar = None

    def on_training_end(self) -> None:
        """Close the bar."""
        self.close()


@contextlib.contextmanager
def episodes_shown(total: int, console: Console | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of finished episodes and shows it, as `ProgressBar` does."""
    console = console or Console(stderr=True)
    last = time.monotonic()
    if console.is_terminal:
        columns = TextColumn("greedy episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True)
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("evaluation", total=total)
            yield lambda finished: bar.update(task, completed=finished)
        return

    def show(finished: int) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"{finished} of {total} greedy episodes", highlight=False)

    yield show
