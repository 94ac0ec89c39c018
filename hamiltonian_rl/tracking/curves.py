"""Reading curves back: what was logged under a tag, every point of it, from TensorBoard's files or a table.

Logs are often not one clean series. A run that was stopped and taken up again writes some steps twice: the later write
of a step wins, and so does all that a later file holds from its first step on. Values that are no numbers are kept as
they are: what they mean is for the reader to say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.tracking.event_records import read_records

EVENT_FILES = "*tfevents*"
POINTS_BETWEEN_NEWS = 100_000


@dataclass(frozen=True)
class Curve:
    """What was logged under a tag; every array has the shape ``(n,)``.

    Attributes:
        steps: Increasing.
        values: May hold what is no number.
        seconds: Since the log began; NaN where nothing is known.
        clock: What the seconds are.
        notes: What was done to the points, as sentences.
    """

    steps: np.ndarray
    values: np.ndarray
    seconds: np.ndarray
    clock: str
    notes: tuple[str, ...] = ()


@dataclass
class _Series:
    """Points of one tag in one file, in the order of writing."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


@dataclass
class EventLog:
    """All scalars of one event file.

    Attributes:
        path: Of the file.
        began: Wall time of its first record.
        series: By tag.
        restarts: Steps from which on a writer has declared all earlier points void.
        damaged: Bytes at its end that are no whole record.
    """

    path: Path
    began: float = float("nan")
    series: dict[str, _Series] = field(default_factory=dict)
    restarts: list[int] = field(default_factory=list)
    damaged: int = 0


def read_events(path: Path, show: Callable[[str], None] = lambda text: None) -> EventLog:
    """Read all scalars of an event file.

    Scalars are plain numbers, as torch, Stable-Baselines3 and Hugging Face write them, or tensors of one number, as
    TensorFlow 2 does.

    Args:
        path: Of the file.
        show: Is told how far it is.

    Raises:
        UsageError: The file cannot be read.
    """
    data, places, damaged = read_records(path)
    log, parse = EventLog(path, damaged=damaged), Event.FromString
    content: Any = memoryview(data)  # type: ignore[arg-type]  # NumPy's stubs do not say so
    for count, (start, stop) in enumerate(places.tolist()):
        try:
            event = parse(content[start:stop].tobytes())
        except Exception:  # a whole record with something else in it: protobuf's errors differ by version
            log.damaged += stop - start
            continue
        if count == 0:
            log.began = event.wall_time
        if count % POINTS_BETWEEN_NEWS == 0:
            show(f"reading {path.name}: {count:,} of {len(places):,} records")
        what = event.WhichOneof("what")
        if what == "summary":
            _add(log, event.summary, event.step, event.wall_time)
        elif what == "session_log" and event.session_log.status == SessionLog.START:
            log.restarts.append(event.step)
            _void(log, event.step)
    return log


def _add(log: EventLog, summary: Any, step: int, time: float) -> None:
    """Take the scalars of a summary."""
    for value in summary.value:
        number = _scalar(value)
        if number is None:
            continue
        series = log.series.get(value.tag)
        if series is None:
            series = log.series[value.tag] = _Series()
        series.steps.append(step)
        series.values.append(number)
        series.times.append(time)


def _scalar(value: Any) -> float | None:
    """Return the number that a summary's value holds; None where it holds something else."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor" or value.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    try:
        array = make_ndarray(value.tensor)
    except (TypeError, ValueError, struct.error):
        return None
    return float(array.item()) if array.size == 1 and array.dtype.kind in "fiu" else None


def _void(log: EventLog, step: int) -> None:
    """Drop the points of a file from a step on: its writer went back there."""
    for series in log.series.values():
        keep = [index for index, at in enumerate(series.steps) if at < step]
        series.steps[:] = [series.steps[index] for index in keep]
        series.values[:] = [series.values[index] for index in keep]
        series.times[:] = [series.times[index] for index in keep]


class RunLog:
    """The event files of one folder: one run, in as many files as it was taken up.

    Args:
        paths: Event files.
        show: Is told how far reading is.

    Raises:
        UsageError: A file cannot be read.
    """

    def __init__(self, paths: list[Path], show: Callable[[str], None] = lambda text: None) -> None:
        self.paths = paths
        logs = [read_events(path, show) for path in paths]
        self.logs = sorted(logs, key=lambda log: (np.nan_to_num(log.began, nan=np.inf), log.path.name))
        self.notes = tuple(
            f"The last {log.damaged:,} bytes of {log.path.name} are cut off or damaged and were left out."
            for log in self.logs
            if log.damaged
        )

    def tags(self) -> set[str]:
        """Return the tags that hold a point."""
        return {tag for log in self.logs for tag, series in log.series.items() if series.steps}

    def curve(self, tag: str) -> Curve:
        """Return what was logged under a tag.

        Raises:
            UsageError: There is nothing.
        """
        if tag not in self.tags():
            raise UsageError(f'{self.paths[0].parent} has nothing under "{tag}". {did_you_mean(tag, self.tags())}')
        steps, values, seconds = np.empty(0, np.int64), np.empty(0), np.empty(0)
        voided = 0
        for log in self.logs:
            series = log.series.get(tag, _Series())
            first = min([*log.restarts, *series.steps[:1]], default=None)
            if first is not None:
                kept = steps < first
                voided += int((~kept).sum())
                steps, values, seconds = steps[kept], values[kept], seconds[kept]
            before = float(seconds[-1]) if len(seconds) else 0.0  # the time between two files is nobody's
            steps = np.concatenate([steps, np.array(series.steps, np.int64)])
            values = np.concatenate([values, np.array(series.values)])
            seconds = np.concatenate([seconds, before + np.array(series.times) - log.began])
        notes = [*self.notes]
        if voided:
            notes.append(f"{voided:,} points were left out: a later file of the run goes on from before them.")
        return ordered(steps, values, seconds, "seconds by the clock on the wall", notes)


def ordered(steps: np.ndarray, values: np.ndarray, seconds: np.ndarray, clock: str, notes: list[str]) -> Curve:
    """Return a curve with increasing steps; of several writes of a step the last one counts, and that is noted."""
    order = np.argsort(steps, kind="stable")
    last = np.append(steps[order][1:] != steps[order][:-1], True) if len(order) else np.empty(0, bool)
    said = list(notes)
    if not (steps[1:] > steps[:-1]).all():  # their difference may be beyond 64 bits
        again = len(steps) - int(last.sum())
        what = (
            f"{again:,} points were written again later; the last write of a step counts"
            if again
            else ("the steps were not in order and were sorted")
        )
        said.append(f"{what[0].upper()}{what[1:]}.")
    keep = order[last]
    return Curve(steps[keep], values[keep], seconds[keep], clock, tuple(said))


def event_folders(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each folder from ``root`` down that holds event files, with these, in order."""
    folders: dict[Path, list[Path]] = {}
    for path in root.rglob(EVENT_FILES):
        if path.is_file():
            folders.setdefault(path.parent, []).append(path)
    for folder in sorted(folders):
        yield folder, sorted(folders[folder])
