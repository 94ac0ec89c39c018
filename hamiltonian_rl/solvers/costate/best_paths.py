"""The best of several paths from the same initial state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.trajectory import Trajectory

TIE = 1e-12  # relative difference of two values that is rounding
_OF_PATH = ("states", "actions", "rewards", "value", "costates")
_ARRAYS = ("feedback", "residual", "violation", "curvature", "multipliers", "end_multipliers", "iterations")


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
    each = np.arange(len(best))

    def pick(read: Callable[[PathSolution], np.ndarray]) -> np.ndarray:
        return np.asarray(np.stack([read(run) for run in runs])[best, each])

    status = [runs[run].status[state] for state, run in enumerate(best)]
    return _made(runs[0], pick, status=status, start=best, from_all_starts=runs)


def merged(run: PathSolution, part: PathSolution, where: np.ndarray) -> PathSolution:
    """Return a solution with the paths of another for some of its states, those at the indices ``where``."""

    def put(read: Callable[[PathSolution], np.ndarray]) -> np.ndarray:
        whole = read(run).copy()
        whole[where] = read(part)
        return whole

    status = list(run.status)
    for index, state in enumerate(where):
        status[state] = part.status[index]
    return _made(run, put, status=status)


def _made(
    run: PathSolution, make: Callable[[Callable[[PathSolution], np.ndarray]], np.ndarray], **others: Any
) -> PathSolution:
    """Return a solution whose arrays are made anew, each by a call with the function that reads it of a solution."""
    path = {name: make(attrgetter(f"trajectory.{name}")) for name in _OF_PATH}
    arrays: dict[str, Any] = {name: make(attrgetter(name)) for name in _ARRAYS}
    return replace(run, trajectory=Trajectory(**path), **arrays, **others)


def _rank(status: PathStatus, feasible: bool) -> int:
    """A feasible path beats one that is not; among feasible ones the value decides."""
    return 0 if status is PathStatus.DIVERGED else 2 if feasible else 1
