"""The best of several paths from the same initial state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus, picked

TIE = 1e-12  # relative difference of two values that is rounding


def best_of(runs: list[PathSolution], tol: float = 1e-8) -> PathSolution:
    """Return for each state the feasible path with the highest value, of several solutions for the same states.

    Of paths whose values differ only by rounding, one that converged, and of these the first.
    """
    runs = [start for run in runs for start in (run.from_all_starts or [run])]
    if len(runs) == 1:
        return runs[0]
    rank = np.array([[_rank(*x) for x in zip(run.status, run.violation <= tol, strict=True)] for run in runs])
    values = np.array([np.where(np.isfinite(run.value), run.value, -np.inf) for run in runs])
    values = np.where(rank == rank.max(0), values, -np.inf)
    highest = values.max(0)
    equal = (values >= highest - TIE * (1.0 + np.abs(highest))) | (values == highest)
    converged = np.array([run.converged for run in runs])
    best = np.where(equal, 1 + converged, 0).argmax(0)
    return replace(picked(runs, best), start=best, from_all_starts=runs)


def _rank(status: PathStatus, feasible: bool) -> int:
    """A feasible path beats one that is not; among feasible ones the value decides."""
    return 0 if status is PathStatus.DIVERGED else 2 if feasible else 1
