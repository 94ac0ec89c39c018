"""Curves from tables: a CSV file with a column of steps and one or more of values.

Ours and other people's: TensorBoard's download (Wall time, Step, Value), Stable-Baselines3's ``progress.csv``
(time/total_timesteps, ...), in which a cell is empty where nothing was logged, or plain ``step,value``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line
from hamiltonian_rl.tracking.curves import Curve, ordered

STEPS = ("step", "steps", "global_step", "total_timesteps", "time/total_timesteps", "timesteps", "samples")
SECONDS = ("seconds", "time/time_elapsed", "time_elapsed", "elapsed")
WALL_TIMES = ("wall time", "wall_time")
NO_NUMBER = frozenset(("nan", "na", "n/a", "null", "none"))
TRUTH = {"true": 1.0, "false": 0.0}


@dataclass(frozen=True)
class Cells:
    """The lines of a CSV file.

    Attributes:
        path: Of the file.
        about: Its first line where that begins with ``#``, which is none of the table's; else empty. Who writes one
            ends each line, so that a last one without an end is cut off, however many cells it has.
        names: Of the columns.
        rows: Cells of each line, as many as there are names, with its number.
        notes: What was left out, as sentences.
    """

    path: Path
    about: str
    names: list[str]
    rows: list[tuple[int, list[str]]]
    notes: tuple[str, ...]


def read_cells(path: Path) -> Cells:
    """Read a CSV file; of a last line that was cut off while it was written, nothing is kept, and that is noted.

    Args:
        path: Of the file; its first line, or the one after a first line ``#...``, names the columns.

    Raises:
        UsageError: It cannot be read, is empty, or has a line of another length.
    """
    try:
        written = path.read_bytes()
        raw = written.rstrip(b"\0")  # what a file system leaves where the machine stopped
        ended = raw[: raw.rfind(b"\n") + 1]
        try:
            about, names, rows = _parsed(raw)
            cut = len(ended) < len(raw) and bool(rows) and (len(rows[-1][1]) < len(names) or bool(about))
        except (UnicodeDecodeError, csv.Error):
            if not ended:
                raise
            cut = True
        if cut:
            about, names, rows = _parsed(ended)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as CSV: {first_line(error)} Expected text in UTF-8.") from None
    if not rows:
        raise UsageError(f"{path} is empty. Expected a line with the columns' names, and one line a step.")
    for line, row in rows:
        if len(row) != len(names):
            raise UsageError(f"Line {line} of {path} has {len(row)} values; expected {len(names)}.")
    lost = cut or len(raw) < len(written)
    return Cells(path, about, names, rows, (f"The last line of {path.name} is cut off and was left out.",) * lost)


def _parsed(raw: bytes) -> tuple[str, list[str], list[tuple[int, list[str]]]]:
    """Return what a first line ``#...`` says, the names of the columns, and the lines with their numbers."""
    text = raw.decode("utf-8-sig")
    about, rest = text.split("\n", 1) if text.startswith("#") and "\n" in text else ("", text)
    reader = csv.reader(io.StringIO(rest, newline=""), strict=True)
    names = [name.strip() for name in next(reader, [])]
    return about, names, [(reader.line_num + bool(about), row) for row in reader if row]


def number_in(cells: Cells, line: int, name: str, text: str) -> float:
    """Return the number that a cell holds; NaN where it says that it is none, 1 and 0 for true and false.

    Raises:
        UsageError: It holds something else.
    """
    word = text.strip().lower()
    if word in NO_NUMBER:
        return float("nan")
    try:
        return TRUTH[word] if word in TRUTH else float(text)
    except ValueError:
        raise UsageError(f'Column "{name}" of {cells.path} holds "{text}" at line {line}; expected a number.') from None


def column(cells: Cells, name: str) -> np.ndarray:
    """Return the numbers of a column, shape ``(n,)``.

    Raises:
        UsageError: A cell is no number.
    """
    place = cells.names.index(name)
    try:
        return np.array([float(row[place]) for _, row in cells.rows])
    except ValueError:  # words, or none of what there may be
        return np.array([number_in(cells, line, name, row[place]) for line, row in cells.rows])


class Table:
    """A CSV file of a run.

    Args:
        path: Of the file; its first line names the columns.

    Raises:
        UsageError: It cannot be read, is empty, has a line of another length, or has no column of steps.
    """

    def __init__(self, path: Path) -> None:
        self._cells = cells = read_cells(path)
        self.path, self.names, self.notes = path, cells.names, cells.notes
        self._steps = self._named(STEPS)
        if self._steps is None:
            raise UsageError(
                f"{self.path} has no column of steps. Expected one named {', '.join(STEPS[:4])}; its columns: "
                f"{', '.join(self.names[:12])}.{_separator(self.names)}"
            )

    def _named(self, names: tuple[str, ...]) -> str | None:
        by_name = {name.lower(): name for name in reversed(self.names)}
        return next((by_name[name] for name in names if name in by_name), None)

    def tags(self) -> set[str]:
        """Return the columns that may be a curve's values: those with a name and some cell that is not empty."""
        others = {name for kind in (STEPS, SECONDS, WALL_TIMES) if (name := self._named(kind))} | {""}
        rows, places = self._cells.rows, range(len(self.names))
        return {self.names[place] for place in places if any(row[place].strip() for _, row in rows)} - others

    def curve(self, tag: str) -> Curve:
        """Return what a column holds, by the column of steps; rows where its cell is empty are passed over.

        Raises:
            UsageError: There is no such column, or a cell is no number.
        """
        if tag not in self.tags():
            raise UsageError(f'{self.path} has no numbers in a column "{tag}". {did_you_mean(tag, self.tags())}')
        if self.names.count(tag) > 1:
            raise UsageError(f'{self.path} has {self.names.count(tag)} columns "{tag}". Rename all but one.')
        place = self.names.index(tag)
        cells = replace(self._cells, rows=[(line, row) for line, row in self._cells.rows if row[place].strip()])
        rows, values = cells.rows, column(cells, tag)
        steps = self._whole_steps(rows)
        clock, seconds = "no times: the table has no column of seconds", np.full(len(rows), np.nan)
        for kind in (SECONDS, WALL_TIMES):
            name = self._named(kind)
            if name is not None:
                seconds = column(cells, name)
                seconds = seconds - seconds[0] if kind is WALL_TIMES and len(seconds) else seconds
                clock = f'seconds from the column "{name}"'
                break
        return ordered(steps, values, seconds, clock, [*self.notes])

    def _whole_steps(self, rows: list[tuple[int, list[str]]]) -> np.ndarray:
        place = self.names.index(self._steps or "")
        try:
            steps = np.array([float(row[place]) for _, row in rows])
            if ((steps == np.round(steps)) & (np.abs(steps) < 2**53)).all():
                return steps.astype(np.int64)
        except ValueError:
            pass  # the first that is wrong is named below
        return np.array([self._step(line, row[place]) for line, row in rows], np.int64)

    def _step(self, line: int, text: str) -> int:
        value = number_in(self._cells, line, self._steps or "", text or "nan")
        if not (np.isfinite(value) and value == round(value) and abs(value) < 2**53):
            raise UsageError(
                f'Column "{self._steps}" of {self.path} holds "{text}" at line {line}; expected a whole number.'
            )
        return round(value)


def _separator(names: list[str]) -> str:
    """Return a hint where a table's cells are separated by something else than commas."""
    other = next((mark for mark in (";", "\t") if len(names) == 1 and mark in names[0]), None)
    return "" if other is None else f" They are separated by {other!r}; expected commas."
