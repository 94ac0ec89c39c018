"""What the costate solver returns: paths, what is certified of each, and a status that is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any, cast

import numpy as np

from hamiltonian_rl.errors import SolverError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.certificate import Certificate, certify
from hamiltonian_rl.trajectory import Trajectory

# What has one entry for each initial state, in a solution and in its trajectory.
ARRAYS = "feedback", "residual", "violation", "curvature", "multipliers", "end_multipliers", "iterations", "start"
PATH_ARRAYS = "states", "actions", "rewards", "value", "costates"


class PathStatus(Enum):
    """How one path ended; each member is a sentence that says what to do."""

    LOCAL_OPTIMUM = "The first-order conditions hold and the curvature is that of a strict local maximum."
    STATIONARY = (
        "The first-order conditions hold, but the curvature is not that of a strict maximum: a saddle, a flat "
        "direction, a kink, or an action at its bound that nothing presses there, which may be an optimum all the "
        "same. Try other starts; or nobody asked (second_order=False)."
    )
    STAGNATED = (
        "No step raises the return any more, and the first-order conditions do not hold to tol: a kink, such as a "
        "speed limit, or rounding. The path and its return are real. Raise tol above the residual of stationarity, or "
        "try other starts."
    )
    MAX_ITERATIONS = (
        "The iterations were used up; the path and its return are real. Raise max_iterations or tol, or try other "
        "starts."
    )
    INFEASIBLE = (
        "The constraints are not met: no path near this one meets them. Try other starts or another horizon, or see "
        "whether they can be met at all."
    )
    UNSETTLED = (
        "Up to the longest horizon tried the value, the first action or the first costate of an infinite horizon kept "
        "changing: the path comes to no rest, or slowly. Raise tol, or give a horizon."
    )
    DIVERGED = "The first path is not finite: dynamics or reward overflow, or are not defined on it. Start elsewhere."


@dataclass(frozen=True, eq=False)
class PathSolution:
    """One path from each initial state, stationary where its status says so; never claimed to be the global optimum.

    Attributes:
        problem: What was solved, at the horizon that was asked for; of an infinite one a `SteadyEnd` at the horizon
            that sufficed.
        trajectory: States, actions, costates, rewards, value. The value is a lower bound on V*; of an infinite
            horizon it includes what the last state is estimated to be worth.
        feedback: Gains ``∂a_k/∂s_k`` around the path, shape ``(B, N, m, n)``.
        status: Of each path, ``(B,)``.
        residual: Largest ``|clip(a + ∂H/∂a) - a|``, of Eq. 15 within the bounds, ``(B,)``.
        violation: Of the constraints, the largest, ``(B,)``; zero where there are none.
        curvature: Smallest eigenvalue of ``-∂²Q/∂a²`` over the actions that are free, along the path, ``(B,)``. Q
            counts what later actions answer, so that these blocks are the pivots of the return's Hessian in all free
            actions, ``L D Lᵀ`` from the last step back: that one has as many negative eigenvalues as they. Positive
            means a strict local maximum, infinite that every action leans on its bound, and zero at the most that
            the curvature fades, or that the path is at a kink (`kinks`). Where second derivatives jump it is
            the smallest of the pieces'.
        multipliers: ν of ``constraints <= 0``, ``(B, N, C)``.
        end_multipliers: ν of ``terminal_constraints = 0``, ``(B, C')``.
        iterations: Backward passes, ``(B,)``.
        backend: ``"compiled"`` or ``"torch"``.
        start: Which of `from_all_starts` each path is, ``(B,)``.
        from_all_starts: The paths of every start, start by start, where there were several.
    """

    problem: ControlProblem
    trajectory: Trajectory
    feedback: np.ndarray
    status: Sequence[PathStatus]
    residual: np.ndarray
    violation: np.ndarray
    curvature: np.ndarray
    multipliers: np.ndarray
    end_multipliers: np.ndarray
    iterations: np.ndarray
    backend: str
    start: np.ndarray
    from_all_starts: Sequence[PathSolution] = field(default_factory=list)

    def __repr__(self) -> str:
        """Return how many paths there are of what problem, how they ended, and their values: not the arrays."""
        ends = ", ".join(f"{count} {name}" for name, count in Counter(s.name for s in self.status).most_common())
        value = np.array2string(self.value, precision=6, threshold=6, edgeitems=2)
        return f"PathSolution of {type(self.problem).__name__}: {ends}; value {value}"

    @property
    def value(self) -> np.ndarray:
        """The return of each path, shape ``(B,)``: a lower bound on V* at its initial state."""
        return self.trajectory.value

    @property
    def converged(self) -> np.ndarray:
        """Which paths satisfy the first- and second-order conditions, shape ``(B,)``."""
        return np.array([status is PathStatus.LOCAL_OPTIMUM for status in self.status])

    @cached_property
    def certificate(self) -> Certificate:
        """The residuals of Eq. 13-15, computed anew from the problem's own functions, and whether H is maximised."""
        return certify(self.problem, self.trajectory, self.multipliers, self.end_multipliers)

    def optima(self, index: int = 0, tol: float = 1e-6) -> list[tuple[float, int]]:
        """Return the distinct stationary paths from one initial state, best first, as pairs (value, start).

        Two are one where their actions nowhere differ by more than ``tol`` times the largest action.
        """
        runs = self.from_all_starts or [self]
        found: list[tuple[float, int, np.ndarray]] = []
        order = sorted(range(len(runs)), key=lambda run: -_or_lowest(runs[run].value[index]))
        for run in order:
            actions = runs[run].trajectory.actions[index]
            if runs[run].status[index] not in (PathStatus.LOCAL_OPTIMUM, PathStatus.STATIONARY):
                continue
            scale = tol * max(1.0, float(np.abs(actions).max(initial=0.0)))
            if all(np.abs(actions - other).max(initial=0.0) > scale for _, _, other in found):
                found.append((float(runs[run].value[index]), run, actions))
        return [(value, run) for value, run, _ in found]

    def one(self, index: int) -> PathSolution:
        """Return the path from one initial state, as a solution of its own."""
        return self.rows(np.array([index]))

    def rows(self, which: np.ndarray) -> PathSolution:
        """Return the paths from some initial states, as a solution of its own; a state may come more than once."""
        path = {name: value[which] for name, value in vars(self.trajectory).items() if value is not None}
        return replace(
            self,
            trajectory=Trajectory(**path),
            status=[self.status[index] for index in which],
            from_all_starts=[run.rows(which) for run in self.from_all_starts],
            **cast(Any, {name: getattr(self, name)[which] for name in ARRAYS}),
        )

    def unwrap(self) -> PathSolution:
        """Return this solution.

        Raises:
            SolverError: If a path is not a strict local optimum; the message says which and what to change.
        """
        bad = np.flatnonzero(~self.converged)
        if len(bad):
            first = int(bad[0])
            raise SolverError(
                f"{len(bad)} of {len(self.status)} paths are not local optima; the first is {first}: "
                f"{self.status[first].value} Reached: residual {self.residual[first]:.3g}, constraint violation "
                f"{self.violation[first]:.3g}, smallest curvature {self.curvature[first]:.3g}."
            )
        return self


def picked(runs: Sequence[PathSolution], which: np.ndarray) -> PathSolution:
    """Return for each state its path of one of several solutions for the same states.

    Args:
        runs: R solutions.
        which: Of them for each state, shape ``(B,)``, from 0 to R - 1.
    """
    places = [np.flatnonzero(which == run) for run in range(len(runs))]
    return replaced(runs[0], [(place, runs[run].rows(place)) for run, place in enumerate(places) if run and len(place)])


def replaced(run: PathSolution, parts: Sequence[tuple[np.ndarray, PathSolution]]) -> PathSolution:
    """Return a solution with the paths of others for the states at some indices."""
    path = {name: getattr(run.trajectory, name).copy() for name in PATH_ARRAYS}
    arrays = cast(Any, {name: getattr(run, name).copy() for name in ARRAYS})
    whole = replace(run, trajectory=Trajectory(**path), status=list(run.status), **arrays)
    for where, part in parts:
        overwrite(whole, where, part)
    return whole


def overwrite(whole: PathSolution, where: np.ndarray | slice, part: PathSolution) -> None:
    """Write the paths of a solution into the arrays of another, and its statuses into the list that it has."""
    for name in PATH_ARRAYS:
        getattr(whole.trajectory, name)[where] = getattr(part.trajectory, name)
    for name in ARRAYS:
        getattr(whole, name)[where] = getattr(part, name)
    places = range(len(whole.status))[where] if isinstance(where, slice) else where
    for place, status in zip(places, part.status, strict=True):
        cast(list[PathStatus], whole.status)[place] = status


def _or_lowest(value: float) -> float:
    return value if np.isfinite(value) else -np.inf
