"""Curves from tables: a CSV file with a column of steps and one or more of values.

Ours and other people's: TensorBoard's download (Wall time, Step, Value), Stable-Baselines3's ``progress.csv``
(time/total_timesteps, ...), in which a cell is empty where nothing was logged, or plain ``step,value``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line
from hamiltonian_rl.tracking.curves import Curve, ordered

STEPS = ("step", "steps", "global_step", "total_timesteps", "time/total_timesteps", "timesteps", "samples")
SECONDS = ("seconds", "time/time_elapsed", "time_elapsed", "elapsed")
WALL_TIMES = ("wall time", "wall_time")
NO_NUMBER = frozenset(("nan", "na", "n/a", "null", "none"))


class Table:
    """A CSV file of a run.

    Args:
        path: Of the file; its first line names the columns.

    Raises:
        UsageError: It cannot be read, is empty, has a line of another length, or has no column of steps.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, ()
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file, strict=True)
                self.names = [name.strip() for name in next(reader, [])]
                self._rows = [(reader.line_num, row) for row in reader if row]
        except FileNotFoundError:
            raise UsageError(f"There is no file {path}.") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{path} cannot be read as CSV: {first_line(error)} Expected text in UTF-8.") from None
        if not self._rows:
            raise UsageError(f"{path} is empty. Expected a line with the columns' names, and one line a step.")
        for line, row in self._rows:
            if len(row) != len(self.names):
                raise UsageError(f"Line {line} of {path} has {len(row)} values; expected {len(self.names)}.")
        self._steps = self._named(STEPS)
        if self._steps is None:
            raise UsageError(
                f"{path} has no column of steps. Expected one named {', '.join(STEPS[:4])}; its columns: "
                f"{', '.join(self.names[:12])}."
            )

    def _named(self, names: tuple[str, ...]) -> str | None:
        by_name = {name.lower(): name for name in reversed(self.names)}
        return next((by_name[name] for name in names if name in by_name), None)

    def tags(self) -> set[str]:
        """Return the columns that may be a curve's values."""
        return set(self.names) - {name for kind in (STEPS, SECONDS, WALL_TIMES) if (name := self._named(kind))}

    def curve(self, tag: str) -> Curve:
        """Return what a column holds, by the column of steps; rows where its cell is empty are passed over.

        Raises:
            UsageError: There is no such column, or a cell is no number.
        """
        if tag not in self.tags():
            raise UsageError(f'{self.path} has no column "{tag}". {did_you_mean(tag, self.tags())}')
        column = self.names.index(tag)
        rows = [(line, row) for line, row in self._rows if row[column].strip()]
        values = np.array([self._number(line, tag, row[column]) for line, row in rows])
        steps = np.array([self._step(line, row[self.names.index(self._steps or "")]) for line, row in rows], np.int64)
        clock, seconds = "no times: the table has no column of seconds", np.full(len(rows), np.nan)
        for kind in (SECONDS, WALL_TIMES):
            name = self._named(kind)
            if name is not None:
                seconds = np.array([self._number(line, name, row[self.names.index(name)]) for line, row in rows])
                seconds = seconds - seconds[0] if kind is WALL_TIMES and len(seconds) else seconds
                clock = f'seconds from the column "{name}"'
                break
        return ordered(steps, values, seconds, clock, [])

    def _number(self, line: int, name: str, text: str) -> float:
        if text.strip().lower() in NO_NUMBER:
            return float("nan")
        try:
            return float(text)
        except ValueError:
            raise UsageError(
                f'Column "{name}" of {self.path} holds "{text}" at line {line}; expected a number.'
            ) from None

    def _step(self, line: int, text: str) -> int:
        value = self._number(line, self._steps or "", text or "nan")
        if not (np.isfinite(value) and value == round(value) and abs(value) < 2**53):
            raise UsageError(
                f'Column "{self._steps}" of {self.path} holds "{text}" at line {line}; expected a whole number.'
            )
        return round(value)
