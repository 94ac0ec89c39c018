"""Batches of problems, given to the compiled solver in eights."""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate.lane_arrays import Problem, Result
from hamiltonian_rl.solvers.costate.lanes import RUNNING, run
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.tracing.vector_code import Library


def solve_lanes(
    library: Library,
    rule: str,
    batch: Any,
    bounds: tuple[np.ndarray, np.ndarray],
    discount: float,
    settings: Settings,
    into: Any = None,
) -> Any:
    """Solve a batch of problems, and return a `Result` of arrays, one entry a problem.

    Args:
        library: Of `kernels.compile_kernels`.
        rule: ``"box"`` or ``"barrier"``.
        batch: Initial states ``(B, n)``, first states ``(B, N + 1, n)`` or NaN where there are only first actions
            ``(B, N, m)``, multipliers, penalties.
        bounds: Of the actions, each ``(m,)``.
        discount: γ.
        settings: Tolerance, iterations, barrier.
        into: A `Result` whose arrays are to be used again: fresh memory takes the time of a tenth of a small solve.
            Its paths may be the batch's own: a problem's is read when it begins, and written when it has ended.
    """
    address = library.addresses
    numbers = (
        settings.tol,
        settings.max_iterations,
        settings.first_barrier,
        settings.last_barrier if rule == "barrier" else 0.0,
    )
    problem = Problem(
        address[f"{rule}_backward"], address[f"{rule}_forward"], address["terminal"], discount, *bounds, numbers
    )
    (count, horizon, m), n = batch.guess.shape, batch.initial.shape[1]
    result = new_result(count, horizon, m, n) if into is None else into
    result.residual[:], result.iterations[:], result.code[:] = np.inf, 0, RUNNING
    run(problem, batch, result)
    return result


def new_result(count: int, horizon: int, m: int, n: int) -> Any:
    """Return a `Result` of so many problems."""
    return Result(
        states=np.empty((count, horizon + 1, n)),
        actions=np.empty((count, horizon, m)),
        rewards=np.empty((count, horizon)),
        costates=np.empty((count, horizon + 1, n)),
        feedback=np.empty((count, horizon, m * n)),
        curvature=np.empty((count, horizon, m * (m + 1) // 2)),
        value=np.empty(count),
        residual=np.empty(count),
        iterations=np.empty(count, np.int64),
        code=np.empty(count, np.int64),
    )
