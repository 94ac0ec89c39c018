"""Curves from the tables of Stable-Baselines3's Monitor: a line an episode, with its return r, length l and time t.

Above the columns' names stands ``#{"t_start": ..., "env_id": ...}``. There is no column of steps: an episode ends at
the step ``Σ l`` over all that ended until then, as SB3's own ``load_results`` and ``ts2xy`` count them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.tracking.curve_tables import Cells, column, read_cells
from hamiltonian_rl.tracking.curves import Curve, ordered

RETURN, LENGTH, TIME = "r", "l", "t"


def is_monitor_table(path: Path) -> bool:
    """Return whether a file begins as Monitor's do; False of one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#{"
    except OSError:
        return False


class MonitorTable:
    """The episodes of one run, in one file an environment.

    Args:
        paths: Of the files.

    Raises:
        UsageError: One cannot be read, is empty, or is not what Monitor writes.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        files = [read_cells(path) for path in paths]
        self._path, self._files = paths[0], files
        self._lengths = np.concatenate([_lengths(cells) for cells in files])
        times = [_times(cells) for cells in files]
        first = min(start for start, _ in times)
        seconds = np.concatenate([start - first + since for start, since in times])
        # Of one file the order of its lines is that of its episodes; of several, that of the clock.
        self._order = np.arange(len(seconds)) if len(files) == 1 else np.argsort(seconds, kind="stable")
        self._seconds = seconds[self._order]
        self._steps = np.cumsum(self._lengths[self._order])
        notes = [note for cells in files for note in cells.notes]
        if len(files) > 1:
            notes.append(f"{len(files)} environments are one run: its steps are those of all of them.")
        self.notes = tuple(notes)

    def tags(self) -> set[str]:
        """Return the columns that may be a curve's values: return, length, and what else Monitor was told to keep."""
        return set.intersection(*(set(cells.names) for cells in self._files)) - {TIME}

    def curve(self, tag: str) -> Curve:
        """Return a column by the steps at which episodes ended.

        Raises:
            UsageError: There is no such column, or a cell is no number.
        """
        if tag not in self.tags():
            raise UsageError(f'{self._path} has no column "{tag}". {did_you_mean(tag, self.tags())}')
        values = np.concatenate([column(cells, tag) for cells in self._files])[self._order]
        clock = "seconds by the clock on the wall, of Monitor"
        return ordered(self._steps, values, self._seconds, clock, [*self.notes])


def _lengths(cells: Cells) -> np.ndarray:
    """Return the lengths of a file's episodes, whole and above 0."""
    missing = next((name for name in (RETURN, LENGTH, TIME) if name not in cells.names), None)
    if missing is not None:
        raise UsageError(
            f"{cells.path} begins as a table of Monitor and has no column {missing}; expected r, l and t. Its columns: "
            f"{', '.join(cells.names[:12])}."
        )
    lengths = column(cells, LENGTH)
    sound = (lengths >= 1.0) & (lengths < 2**53) & (lengths == np.floor(lengths))
    if not sound.all():
        line, row = cells.rows[int(np.argmin(sound))]
        raise UsageError(
            f'Column "{LENGTH}" of {cells.path} holds "{row[cells.names.index(LENGTH)]}" at line {line}; expected a '
            "whole number of steps."
        )
    return lengths.astype(np.int64)


def _times(cells: Cells) -> tuple[float, np.ndarray]:
    """Return when a file was begun, and the seconds from then to each episode's end, shape ``(n,)``.

    Where a run was taken up again in the same file its clock begins anew; the time between is nobody's.
    """
    try:
        start = float(json.loads(cells.about[1:])["t_start"])
    except (ValueError, TypeError, KeyError):
        raise UsageError(f"The first line of {cells.path} has no t_start; expected what Monitor writes.") from None
    since = column(cells, TIME)
    back = np.append(False, np.diff(since) < 0.0)
    return start, since + np.cumsum(np.where(back, np.append(0.0, since[:-1]), 0.0))
