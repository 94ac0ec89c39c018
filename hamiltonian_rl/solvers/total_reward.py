"""Total reward of a process where every policy that does not end loses without limit: policy iteration and bounds.

There (Bertsekas and Tsitsiklis 1991) Bellman's equation has one solution, ``L <= TL`` makes L a lower bound that
the greedy policy attains, and ``TU <= U`` makes U an upper one. Both come from margins that absorb rounding: with
``w = (I - P_π)^(-1) 1``, the expected steps to the end, the policy's value if every step paid η more is
``V_π + η w``. It exceeds its own Bellman backup by η, once π is optimal for the raised rewards; ``V_π - η w``
falls short of its own by η.

Reference:
    Bertsekas and Tsitsiklis (1991), "An analysis of stochastic shortest path problems".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from hamiltonian_rl.errors import SolverError
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.loops import Progress
from hamiltonian_rl.solvers.row_process import RowProcess

MARGIN = 2.0  # η in units of the rounding error that it absorbs
LARGE = 1_000  # states from which BiCGSTAB is tried before a factorisation, which may fill up
RAISES = 100  # policies, or doublings of the margin, that are tried for a bound


@dataclass(frozen=True, eq=False)
class TotalReward:
    """An optimal total reward between bounds; ``row``, shape ``(S,)``, attains ``lower``."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    row: np.ndarray
    iterations: int
    status: Status


@np.errstate(under="ignore")
def solve_total_reward(
    process: RowProcess, first_rows: np.ndarray, *, tol: float, max_iterations: int, progress: Progress | None = None
) -> TotalReward:
    """Solve a process whose only end components lose with every round.

    Args:
        process: The process.
        first_rows: A policy that ends with probability one from every state, shape ``(S,)``.
        tol: Largest distance of the bounds.
        max_iterations: Policies evaluated at the most.
        progress: Called after each with their number and the largest gain that a change of action promises.

    Raises:
        SolverError: If the first policy takes longer to end than double precision can count.
    """
    row, solved, iterations, status = first_rows, _evaluate(process, first_rows), 1, Status.MAX_ITERATIONS
    if solved is None:
        raise SolverError(
            "A policy that ends takes more steps than double precision can count, or rewards add up to more than it "
            "holds. Give a horizon (mdp.finite_horizon(n)), or scale the rewards down."
        )
    value, steps = solved
    try:
        while True:
            best, greedy = process.best(process.q(value))
            better = best > value + _noise(process, row, value)
            if progress is not None:
                progress(iterations, float((best - value).max()))
            if not better.any():
                status = Status.CONVERGED
                break
            candidate = np.where(better, greedy, row)
            if iterations >= max_iterations or (solved := _evaluate(process, candidate)) is None:
                status = Status.MAX_ITERATIONS if iterations >= max_iterations else Status.INEXACT
                break
            row, (value, steps), iterations = candidate, solved, iterations + 1
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    lower = _lower_bound(process, row, value, steps)
    try:
        upper = _upper_bound(process, row, value, steps) if status is Status.CONVERGED else None
    except KeyboardInterrupt:
        upper, status = None, Status.INTERRUPTED
    far = Status.STAGNATED if upper is not None else Status.INEXACT
    if upper is None:  # zero, where nothing pays, is its own backup
        upper = np.full(process.n_states, 0.0 if (process.rewards <= 0).all() else np.inf)
    if status is Status.CONVERGED and not float((upper - lower).max()) <= tol:
        status = far
    return TotalReward(value.clip(lower, upper), lower, upper, row, iterations, status)


def _evaluate(process: RowProcess, row: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the value and the expected steps to the end of a policy, or None if it does not end."""
    system = sparse.csc_array(sparse.eye_array(process.n_states, format="csc") - process.matrix[row])
    known = np.stack([process.rewards[row], np.ones(process.n_states)], axis=1)
    with np.errstate(all="ignore"):
        solved = _solve_by_iteration(system, known) if process.n_states > LARGE else None
        if solved is None:
            try:
                factors = linalg.splu(system)
            except RuntimeError:  # exactly singular
                return None
            solved = factors.solve(known)
            solved += factors.solve(known - system @ solved)
        value, steps = np.ascontiguousarray(solved[:, 0]), np.ascontiguousarray(solved[:, 1])
        # Positive steps that fall by one half at least with every step prove that the policy ends.
        ends = (steps > 0).all() and (steps - process.matrix[row] @ steps >= 0.5).all()
    return (value, steps) if ends and np.isfinite(solved).all() else None


def _solve_by_iteration(system: sparse.csc_array, known: np.ndarray) -> np.ndarray | None:
    """Return the solution for each column, or None where BiCGSTAB does not come near rounding soon."""
    columns = []
    for column in known.T:
        solved, _ = linalg.bicgstab(system, column, rtol=1e-14, maxiter=60)
        if not np.abs(column - system @ solved).max() <= 1e-12 * np.abs(column).max():
            return None
        columns.append(solved)
    return np.stack(columns, axis=1)


def _noise(process: RowProcess, row: np.ndarray, value: np.ndarray) -> float:
    """Return by how much ``V_π`` may miss its own equation, as computed."""
    missed = process.rewards[row] + process.matrix[row] @ value - value
    return float(np.abs(missed).max()) + 2.0 * process.rounding(value)


def _lower_bound(process: RowProcess, row: np.ndarray, value: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return an L with ``T_π L >= L``, rounding included."""
    margin = MARGIN * _noise(process, row, value)
    for _ in range(RAISES):
        lower = value - margin * steps
        if (process.rewards[row] + process.matrix[row] @ lower - lower >= process.rounding(lower)).all():
            return lower
        margin *= 2.0
    return np.full(len(value), -np.inf)


def _upper_bound(process: RowProcess, row: np.ndarray, value: np.ndarray, steps: np.ndarray) -> np.ndarray | None:
    """Return a U with ``TU <= U``, rounding included: the optimum if every step paid a little more.

    None if that is not found, as where an endless loop loses less than rounding.
    """
    margin = MARGIN * _noise(process, row, value)
    for _ in range(RAISES):
        upper = value + margin * steps
        best, greedy = process.best(process.q(upper))
        rounding = process.rounding(upper)
        if (best + rounding <= upper).all():
            return upper
        if margin < MARGIN * rounding:
            margin *= 2.0
            continue
        # A row that breaks the bound takes longer to the end: the policy that takes it has a larger margin.
        candidate = np.where(best + rounding > upper, greedy, row)
        solved = _evaluate(process, candidate)
        if solved is None:
            break
        row, (value, steps) = candidate, solved
    return None
