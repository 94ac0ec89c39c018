"""A horizon that is free: the number of steps is chosen with the actions.

Every horizon of a range is solved, and each state takes the best that meets the constraints: whole numbers of steps
have no derivative, and the value as a function of them may have several maxima. A step keeps its length. Where a
reward counts the steps and nothing else, the best horizon is the minimum time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.solvers.costate.solve_costate import solve_costate
from hamiltonian_rl.trajectory import Trajectory

SAME = 1e-12  # relative difference of two values that counts as none: then the shorter horizon is better


@dataclass(frozen=True, eq=False)
class FreeHorizon:
    """The paths of B states at each of H horizons, and which is best.

    Attributes:
        paths: One solution a horizon, from the shortest up.
        best: Of each state the place of its best horizon in `paths`, shape ``(B,)``. Where no horizon meets the
            constraints, that of the least violation, whose status is then INFEASIBLE.
    """

    paths: list[PathSolution]
    best: np.ndarray

    @property
    def horizon(self) -> np.ndarray:
        """The best number of steps of each state, shape ``(B,)``."""
        return np.array([self.paths[place].problem.horizon for place in self.best])

    @property
    def value(self) -> np.ndarray:
        """The return of each state's best path, shape ``(B,)``."""
        return np.array([self.paths[place].value[state] for state, place in enumerate(self.best)])

    @property
    def status(self) -> list[PathStatus]:
        """How each state's best path ended: optimal among paths of its own horizon."""
        return [self.paths[place].status[state] for state, place in enumerate(self.best)]

    def trajectory(self, index: int) -> Trajectory:
        """Return the best path of one state; shapes begin with 1."""
        path, one = self.paths[self.best[index]].trajectory, slice(index, index + 1)
        costates = None if path.costates is None else path.costates[one]
        return Trajectory(path.states[one], path.actions[one], path.rewards[one], path.value[one], costates)


def solve_free_horizon(
    problem: ControlProblem, initial_states: np.ndarray, horizons: Iterable[int], *, tol: float = 1e-8, **options: Any
) -> FreeHorizon:
    """Return for each state the horizon whose path returns most, ``max_N max_a Σ γ^k r + γ^N h``, with its path.

    Args:
        problem: With a Box of actions; its functions may depend on the step, not on N.
        initial_states: ``(B, n)``, or ``(n,)`` for one.
        horizons: Numbers of steps to choose from, such as ``range(10, 60)``: a solve each.
        tol: As of `solve_costate`; a path whose violation is below it meets the constraints.
        options: Others of `solve_costate`; starts as policies, which fit every horizon.

    Raises:
        UsageError: There are no horizons, or an argument does not fit.

    Example:
        >>> from hamiltonian_rl.envs.double_integrator import DoubleIntegrator
        >>> problem = DoubleIntegrator(horizon=10, action_bound=5.0)  # steps of 0.1
        >>> solve_free_horizon(problem, np.array([-0.5, 0.0]), range(5, 9)).horizon  # energy alone: the longest
        array([8])
    """
    numbers = sorted(set(horizons))
    if not numbers:
        raise UsageError("horizons is empty; expected numbers of steps such as range(10, 60).")
    paths = [solve_costate(problem, initial_states, horizon=number, tol=tol, **options) for number in numbers]
    violation = np.array([path.violation for path in paths])
    value = np.array([np.where(np.isfinite(path.value), path.value, -np.inf) for path in paths])
    feasible = (violation <= tol) & np.isfinite(value)
    score = np.where(feasible, value, -np.inf)
    most = score.max(0)
    with np.errstate(invalid="ignore"):  # of states that have no feasible path
        shortest = (score >= most - SAME * (1.0 + np.abs(most))).argmax(0)
    return FreeHorizon(paths, np.where(feasible.any(0), shortest, np.nan_to_num(violation, nan=np.inf).argmin(0)))
