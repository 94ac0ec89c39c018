"""The best of several paths from the same initial state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus, overwrite, picked, replaced

TIE = 1e-12  # relative difference of two values that is rounding


def best_of(runs: list[PathSolution], tol: float = 1e-8) -> PathSolution:
    """Return for each state the feasible path with the highest value, of several solutions for the same states.

    Of paths whose values differ only by rounding, one that converged, and of these the first.
    """
    runs = [start for run in runs for start in (run.from_all_starts or [run])]
    if len(runs) == 1:
        return runs[0]
    best = _best(runs, tol)
    return replace(picked(runs, best), start=best, from_all_starts=runs)


def better_in_parts(best: PathSolution, parts: Sequence[tuple[np.ndarray, PathSolution]], tol: float) -> PathSolution:
    """Return the best paths, of those that there are and of further ones from some of the initial states.

    Args:
        best: Of `best_of` several, whose arrays are written into.
        parts: Indices of initial states, and the paths from these.
        tol: As of `best_of`.
    """
    if not parts:
        return best
    for number, (where, part) in enumerate(parts, len(best.from_all_starts)):
        chosen = np.flatnonzero(_best([best.rows(where), part], tol))
        overwrite(best, where[chosen], part.rows(chosen))
        best.start[where[chosen]] = number
    return replace(best, from_all_starts=WithParts(best.from_all_starts, parts))


def _best(runs: Sequence[PathSolution], tol: float) -> np.ndarray:
    """Return which of several solutions has the best path of each state, ``(B,)``."""
    diverged = np.array([[status is PathStatus.DIVERGED for status in run.status] for run in runs])
    # A feasible path beats one that is not; among feasible ones the value decides.
    rank = np.where(diverged, 0, np.where(np.array([run.violation for run in runs]) <= tol, 2, 1))
    values = np.array([np.where(np.isfinite(run.value), run.value, -np.inf) for run in runs])
    values = np.where(rank == rank.max(0), values, -np.inf)
    highest = values.max(0)
    equal = (values >= highest - TIE * (1.0 + np.abs(highest))) | (values == highest)
    converged = np.array([run.converged for run in runs])
    return np.asarray(np.where(equal, 1 + converged, 0).argmax(0))


class WithParts(Sequence[PathSolution]):
    """Solutions for all initial states, and further ones for some, whose other places hold the paths before.

    Those are put together when they are asked for: most callers want the best paths alone.
    """

    def __init__(self, whole: Sequence[PathSolution], parts: Sequence[tuple[np.ndarray, PathSolution]]) -> None:
        self._found, self._parts = list(whole), list(parts)

    def __len__(self) -> int:
        return len(self._found) + len(self._parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        while len(self._found) <= place:
            self._found.append(replaced(self._found[-1], [self._parts.pop(0)]))
        return self._found[place]
