"""The computed optimum beside a comparison: from the very start states that each run's last greedy episodes had."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hamiltonian_rl.comparison.plan import Comparison, Job
from hamiltonian_rl.envs.optimum import Optimum, optimum_of
from hamiltonian_rl.files import atomic_write, write_text

STARTS = "starts.npy"  # in a run's folder
KEPT = "optimum.json"  # in the comparison's folder


@dataclasses.dataclass(frozen=True)
class MeanOptimum:
    """The optimal return, on average over the start states of a run's last greedy episodes.

    Attributes:
        value: The average.
        error: How far the true one may be from it, on average; NaN where nothing is known.
        certificate: How it is known, as `hamiltonian_rl.envs.optimum.OptimalReturns` says it.
    """

    value: float
    error: float
    certificate: str


def keep_starts(folder: Path, starts: np.ndarray) -> None:
    """Write the first observations of a run's last greedy episodes into its folder.

    Raises:
        RunStorageError: The folder cannot be written.
    """
    with atomic_write(folder / STARTS) as file:
        np.save(file, starts, allow_pickle=False)


def optima_of(
    comparison: Comparison,
    announce: Callable[[str], None] = lambda text: None,
) -> dict[str, MeanOptimum]:
    """Return the mean optimum of each finished run, by the run's name; each set of start states is solved once for all.

    What was solved is kept in the comparison's folder.

    Args:
        comparison: What was compared.
        announce: Told in words what begins.

    Raises:
        UsageError: The environment has neither a table nor a control problem, or no limit of steps.
        SolverError: From one of the start states there is no path.
    """
    starts = {job.name: found for job in comparison.jobs if (found := _starts(job)) is not None}
    known = _read(comparison.folder)
    optimum: Optimum | None = None
    for found in starts.values():
        if _digest(found) not in known:
            if optimum is None:
                settings = comparison.jobs[0].config.env_settings
                optimum = optimum_of(comparison.env, settings, announce=announce)
            value, error, certificate = optimum.returns(found)
            known[_digest(found)] = MeanOptimum(float(value.mean()), float(error.mean()), certificate)
            _write(comparison.folder, known)
    return {name: known[_digest(found)] for name, found in starts.items()}


def _starts(job: Job) -> np.ndarray | None:
    """Return the start states of a run; None where it has not come to its end."""
    run = job.run_folder()
    if run is None or not job.is_finished():
        return None
    try:
        return np.asarray(np.load(run.path / STARTS, allow_pickle=False))
    except (OSError, ValueError):  # killed before it was written
        return None


def _digest(starts: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(starts).tobytes()).hexdigest()[:16]


def _read(folder: Path) -> dict[str, MeanOptimum]:
    try:
        kept = json.loads((folder / KEPT).read_text())
        return {
            name: MeanOptimum(row["value"], math.nan if row["error"] is None else row["error"], row["certificate"])
            for name, row in kept.items()
        }
    except (OSError, ValueError, TypeError, KeyError):  # none yet, or altered: it is computed again
        return {}


def _write(folder: Path, known: dict[str, MeanOptimum]) -> None:
    rows = {name: dataclasses.asdict(found) for name, found in known.items()}
    for row in rows.values():
        row["error"] = None if math.isnan(row["error"]) else row["error"]
    write_text(folder / KEPT, json.dumps(rows, indent=2) + "\n")
