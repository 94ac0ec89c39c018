"""The two loops that sweeping methods share: on until the bounds are close, and back from a horizon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers.sweeper import TINY, UNIT, Sweeper, check_count

MOST_ACTIONS = 2**32  # 16 GB
PATIENCE = 200  # rounds in which the bounds come no closer
Improve = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
Progress = Callable[[int, float], None]  # called with the number of sweeps and the gap of the bounds


def check_tol(tol: float) -> None:
    """Check the largest distance of the bounds."""
    if not (isinstance(tol, int | float | np.number) and tol > 0):
        raise UsageError(f"tol = {tol!r}; expected a number above 0.")


def sweep_from_horizon(
    mdp: MDP,
    step_back: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    *,
    method: str,
    tol: float,
    progress: Progress | None,
) -> Solution:
    """Go from the last step of an MDP with a horizon to the first.

    Args:
        mdp: The process.
        step_back: Returns the value of a step and its best actions from the value of the next step.
        method: Name of the method.
        tol: Largest distance of the bounds, which rounding alone keeps apart.
        progress: Called after each step.
    """
    check_tol(tol)
    if mdp.horizon is None:
        raise UsageError("This MDP has no horizon. Give one: mdp.finite_horizon(n); or take value_iteration.")
    largest, terms = mdp.largest_reward, mdp.successor_counts[1] + 4
    last = mdp.last_rewards
    if last is not None:
        largest = max(largest, float(np.abs(last, where=last > -np.inf, out=np.zeros_like(last)).max()))
    value, error = np.zeros(mdp.n_states), 0.0
    if mdp.horizon * mdp.n_states > MOST_ACTIONS:
        raise UsageError(
            f"A policy of {mdp.horizon:,} steps in {mdp.n_states:,} states does not fit into memory. Shorten the "
            "horizon, or leave it out: mdp.finite_horizon(None)."
        )
    policy = np.zeros((mdp.horizon, mdp.n_states), np.int32)
    for step in range(mdp.horizon - 1, -1, -1):
        # Twice the rounding of one step: the action that is best by a computed Q may be off by as much again.
        error += 2.0 * terms * (UNIT * (largest + 2.0 * float(np.abs(value).max())) + TINY)
        with np.errstate(over="ignore"):
            if step == mdp.horizon - 1 and last is not None:
                value, policy[step] = last.max(axis=1), last.argmax(axis=1)
            else:
                value, policy[step] = step_back(value)
        if not np.isfinite(value).all():
            raise UsageError(
                f"Rewards as large as {largest:.3g} add up to more than double precision holds in "
                f"{mdp.horizon - step} steps; scale them down."
            )
        if progress is not None:
            progress(mdp.horizon - step, 2.0 * error)
    status = Status.CONVERGED if 2.0 * error <= tol else Status.STAGNATED
    return Solution(value, value - error, value + error, policy, mdp.horizon, status, method)


def sweep_to_bounds(
    sweeper: Sweeper,
    initial_value: np.ndarray | None,
    improve: Improve,
    *,
    method: str,
    tol: float,
    max_iterations: int,
    progress: Progress | None,
) -> Solution:
    """Back up and improve until the bounds are within ``tol``: the loop that sweeping methods share.

    Args:
        sweeper: The MDP's operator.
        initial_value: First iterate.
        improve: Returns the next iterate and the array left over, from ``(V, TV, greedy policy, shift of the
            lower bound)``; the first two are its own to write into.
        method: Name of the method.
        tol: Largest distance of the bounds.
        max_iterations: Calls of ``improve`` at the most.
        progress: Called after each backup.
    """
    check_tol(tol)
    check_count(max_iterations, "max_iterations", least=0)
    value = sweeper.start(initial_value)
    backed_up = np.empty_like(value)
    policy = np.zeros(len(value), np.int32)
    iterations, status = 0, Status.MAX_ITERATIONS
    closest, closest_at = np.inf, 0
    try:
        while True:
            down, up, rounding = sweeper.certify(value, backed_up, policy)
            if progress is not None:
                progress(iterations, up - down)
            if up - down < closest:
                closest, closest_at = up - down, iterations
            if up - down <= tol:
                status = Status.CONVERGED
            elif up - down <= 4.0 * rounding or iterations - closest_at > PATIENCE:
                status = Status.STAGNATED
            if status is not Status.MAX_ITERATIONS or iterations >= max_iterations:
                break
            # Without its allowance for rounding the bound is where exact sums would have it: an iterate that
            # were pushed down by it each round would never come to rest.
            value, backed_up = improve(value, backed_up, policy, down + 0.5 * rounding)
            iterations += 1
    except KeyboardInterrupt:
        # Any V certifies: one more sweep turns what there is into bounds.
        down, up, _ = sweeper.certify(value, backed_up, policy)
        status = Status.INTERRUPTED
    sweeper.forget_policy()
    lower, upper = backed_up + down, backed_up + up
    return Solution(0.5 * (lower + upper), lower, upper, policy, iterations, status, method)
