"""Finding the logs of runs below a folder, and which of them differ in their seed alone.

Runs form a group where they lie beside each other: ours in ``<env>/<agent>/<seed>-<time>/``, Stable-Baselines3's in
``<folder>/DQN_1``, ``DQN_2``, others' in a folder each, and tables in one folder. Tables whose name is the tool's own
(``progress.csv``, ``monitor.csv``) stand for the folder that they are in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.tracking.curve_tables import Table
from hamiltonian_rl.tracking.curves import Curve, RunLog, event_folders
from hamiltonian_rl.tracking.monitor_tables import MonitorTable, is_monitor_table

OWN_TAG = "eval/mean_reward"
OURS = re.compile(r"\d+-\d{8}-\d{6}(-\d+)?")  # seed, date, time
COUNTED = re.compile(r"(.+)_\d+")
OF_AN_ENVIRONMENT = re.compile(r"\d+\.monitor\.csv")  # one of several that a run of Stable-Baselines3 steps together
NAMED_BY_A_TOOL = re.compile(r"progress\.csv|(\d+\.)?monitor\.csv")
SUFFIX = "-kinematics"  # of the folders that velocities are written to


@dataclass(frozen=True)
class RunSource:
    """The log of one run.

    Attributes:
        path: Of its folder, or of its table; of tables of several environments, the folder that they are in.
        log: What it holds.
        result: Of a run of ours that has ended; empty otherwise.
    """

    path: Path
    log: RunLog | Table | MonitorTable
    result: dict

    @property
    def group(self) -> str:
        """Name shared by the runs that differ in their seed alone."""
        run = self.path.parent if NAMED_BY_A_TOOL.fullmatch(self.path.name) else self.path
        run = run if run.name and run.parent.name else run.resolve()
        name = run.stem if run.suffix.lower() == ".csv" else run.name  # "lr_0.1_2" is no file
        counted = None if OURS.fullmatch(name) else COUNTED.fullmatch(name)
        return str(run.parent / counted[1]) if counted else str(run.parent)

    def curve(self, tag: str) -> Curve:
        """Return what was logged under a tag, with CPU seconds where the run's result tells them.

        Raises:
            UsageError: There is nothing.
        """
        curve = self.log.curve(tag)
        rows = self.result.get("evaluations") or [] if tag == OWN_TAG else []
        seconds = {row["step"]: row["seconds"] for row in rows}
        if not len(curve.steps) or not all(step in seconds for step in curve.steps.tolist()):
            return curve
        known = np.array([seconds[step] for step in curve.steps.tolist()], float)
        return replace(curve, seconds=known, clock="CPU seconds of training")


def find_runs(paths: Sequence[Path], show: Callable[[str], None] = lambda text: None) -> list[RunSource]:
    """Return the logs of all runs at or below some paths: folders, event files, CSV files.

    Raises:
        UsageError: There is none at a path, or one cannot be read.
    """
    found: dict[Path, RunSource] = {}
    for path in paths:
        for source in _runs_at(path, show):
            found.setdefault(source.path.resolve(), source)
    return list(found.values())


def _runs_at(path: Path, show: Callable[[str], None]) -> list[RunSource]:
    if path.is_file():
        if path.suffix.lower() == ".csv":
            return [RunSource(path, _table([path]), {})]
        if "tfevents" in path.name:
            return [RunSource(path, RunLog([path], show), _result(path.parent))]
        raise UsageError(f"{path} is no log: expected a folder, an event file (...tfevents...), or a table (.csv).")
    if not path.is_dir():
        raise UsageError(f"There is no run or log {path}.")
    runs = []
    for folder, files in event_folders(path):
        if not folder.name.endswith(SUFFIX) or folder == path:
            show(f"reading {folder}")
            runs.append(RunSource(folder, RunLog(files, show), _result(folder)))
    if not runs:
        runs = _tables_below(path)
    if not runs:
        raise UsageError(
            f"{path} holds no log: neither event files (...tfevents...) nor tables (.csv), also in the folders below."
        )
    return runs


def _tables_below(root: Path) -> list[RunSource]:
    """Return the runs of all tables in a folder and those below."""
    tables: dict[Path, list[Path]] = {}
    for file in sorted(root.rglob("*.csv")):
        joined = OF_AN_ENVIRONMENT.fullmatch(file.name) and is_monitor_table(file)
        tables.setdefault(file.parent if joined else file, []).append(file)
    return [RunSource(run, _table(files), {}) for run, files in tables.items()]


def _table(files: list[Path]) -> Table | MonitorTable:
    return MonitorTable(files) if is_monitor_table(files[0]) else Table(files[0])


def _result(folder: Path) -> dict:
    """Return the result of a run of ours; empty where there is none."""
    try:
        result = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def run_names(runs: Sequence[RunSource]) -> list[str]:
    """Return names to call runs by: the last parts of their paths, as many as tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names
