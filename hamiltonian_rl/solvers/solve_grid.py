"""Bellman's equation on a grid without a table: dynamics, corners and weights are computed anew in each sweep.

With a horizon, backward induction; without one, modified policy iteration. Between the points V is interpolated:
multilinear, which is the grid's process, with its bounds; or by cubic splines, of fourth order where V is smooth, for
which nobody has proved that sweeps contract. So cubic interpolation bounds nothing, and growth and unrest are told.

Reference:
    Kushner and Dupuis (2001), chapter 5; Judd (1998), "Numerical methods in economics", chapter 12.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.problems.interpolation import DEGREES
from hamiltonian_rl.problems.outcomes import last_reward, one_thread
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.grid_backup import BLOCK, GridBackup
from hamiltonian_rl.solvers.grid_solution import GridSolution
from hamiltonian_rl.solvers.grid_sweeps import GridSweeps
from hamiltonian_rl.solvers.loops import MOST_ACTIONS, Progress, check_tol
from hamiltonian_rl.solvers.sweeper import TINY, UNIT, check_count

PATIENCE = 30  # rounds in which the iterates come no closer
ORDER = [Status.CONVERGED, Status.UNSETTLED, Status.DIVERGED]


@one_thread()
def solve_grid(
    grid: Grid,
    *,
    refine: bool = True,
    tol: float = 1e-6,
    initial_value: np.ndarray | None = None,
    evaluation_sweeps: int = 40,
    max_iterations: int = 1000,
    estimate_error: bool = False,
    progress: Progress | None = None,
) -> GridSolution:
    """Solve a control problem on a grid; see `GridSolution` for what can be asked of the answer.

    Memory: a few numbers for each grid point (with a horizon, for each step), whatever the number of actions.

    Args:
        grid: The grid, with its interpolation. With a horizon the problem's functions may depend on the step.
        refine: Whether a Box action is refined beyond the grid's actions, a search near the best of them: at the
            kinks of multilinear interpolation, actions of several coordinates may be left a little short of the
            best. Without it and with multilinear interpolation, the solution is that of ``grid.mdp``.
        tol: Largest distance of the bounds, or of what stands for them where nothing is certified.
        initial_value: First iterate, shape ``(S,)``, without a horizon.
        evaluation_sweeps: Sweeps of each policy at the most, without a horizon.
        max_iterations: Rounds at the most, without a horizon.
        estimate_error: Whether to solve on half the resolution too, for `GridSolution.error_estimate` (Richardson);
            there is none if either does not end as was asked.
        progress: Called after each sweep over all actions with their number and the distance of the bounds. Ctrl-C
            returns what there is; with a horizon, the steps not reached repeat the first that was.

    Returns:
        The solution; ``iterations`` counts sweeps over all actions.

    Raises:
        UsageError: If the problem has neither a horizon nor a discount below one; if its functions fail, or are not
            finite, or no action is allowed somewhere; or if an argument is wrong.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> solution = solve_grid(Grid(problem("Pendulum-v1"), (21, 21), 3))
        >>> solution.value.shape, solution.policy.shape, solution.status.name
        ((201, 441), (200, 441, 1), 'UNCERTIFIED')
        >>> solution.rollout(np.array([[0.5, 0.0]])).states.shape
        (1, 201, 2)
    """
    if not isinstance(grid, Grid):
        raise UsageError(f"What is to be solved is of class {type(grid).__name__}; expected Grid(problem, points).")
    half = _half(grid) if estimate_error else grid
    check_tol(tol)
    check_count(evaluation_sweeps, "evaluation_sweeps", least=0)
    check_count(max_iterations, "max_iterations", least=0)
    work = GridSweeps(GridBackup(grid, refine=refine), tol, progress)
    if grid.problem.horizon is not None:
        if initial_value is not None:
            raise UsageError("initial_value is for problems without a horizon; here h is the value that is known.")
        solution = _backward(work)
    else:
        solution = _iterate(work, initial_value, evaluation_sweeps, max_iterations)
    if not (estimate_error and solution.converged):
        return solution
    start = solution.value_at(half.states) if grid.problem.horizon is None else None
    coarse = solve_grid(
        half,
        refine=refine,
        tol=tol,
        initial_value=start,
        evaluation_sweeps=evaluation_sweeps,
        max_iterations=max_iterations,
        progress=progress,
    )
    return dataclasses.replace(solution, error_estimate=_richardson(solution, coarse)) if coarse.converged else solution


def _backward(work: GridSweeps) -> GridSolution:
    """Go from the last step to the first."""
    grid, horizon = work.grid, int(work.problem.horizon or 0)
    if horizon * grid.n_states * max(1, work.backup.size) > MOST_ACTIONS:
        raise UsageError(
            f"A policy of {horizon:,} steps in {grid.n_states:,} states does not fit into memory. Take fewer "
            "points or steps."
        )
    value, policy = np.empty((horizon + 1, grid.n_states)), work.actions(horizon)
    for part in grid.blocks(BLOCK):
        value[horizon, part] = last_reward(work.problem, grid.states_of(part))
    errors, status, step = np.zeros(horizon + 1), Status.CONVERGED, horizon - 1
    low, high = float(value[horizon].min()), float(value[horizon].max())
    try:
        while step >= 0:
            kept = policy[step + 1] if step + 1 < horizon else None
            work.sweep(value[step + 1], step, kept, value[step], policy[step])
            _check_size(work)
            # Twice the rounding of one step: the best action by a computed q may be off by as much again.
            size = work.backup.largest_reward + 2.0 * float(np.abs(value[step + 1]).max())
            errors[step] = work.problem.discount * errors[step + 1] + 2.0 * work.terms * (UNIT * size + TINY)
            (least, largest), discount = work.backup.rewards, work.problem.discount
            low, high = min(low, least, least + discount * low), max(high, largest, largest + discount * high)
            status = max(status, work.range_status(value[step], low, high), key=ORDER.index)
            step -= 1
            if status is Status.DIVERGED:
                break
            if work.progress is not None:
                work.progress(horizon - 1 - step, 2.0 * errors[step + 1])
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    value[: step + 1], errors[: step + 1] = value[step + 1], np.inf
    policy[: step + 1] = policy[min(step + 1, horizon - 1)]
    if status is Status.CONVERGED:
        status = work.done(2.0 * float(errors[0]) <= work.tol)
    return work.solution(value, -errors[:, None], errors[:, None], policy, horizon - 1 - step, status)


def _iterate(work: GridSweeps, initial_value: np.ndarray | None, sweeps: int, most: int) -> GridSolution:
    """Improve and evaluate policies until what stands for the bounds is close."""
    if not work.problem.discount < 1.0:
        raise UsageError(
            "The problem has neither a horizon nor a discount below 1: its value may be infinite. Set one of both."
        )
    value, policy = work.start(initial_value), work.actions()
    best = (value, -np.inf, np.inf, policy)
    iterations, closest, closest_at, status = 0, np.inf, 0, Status.MAX_ITERATIONS
    try:
        while True:
            improved, better = np.empty_like(value), np.empty_like(policy)
            work.sweep(value, 0, policy if iterations else None, improved, better)
            _check_size(work)
            down, up, rounding = work.shifts(value, improved)
            iterations += 1
            if work.progress is not None:
                work.progress(iterations, up - down)
            low, high = (reward / (1.0 - work.problem.discount) for reward in work.backup.rewards)
            ranging = work.range_status(improved, *sorted((low, high, *work.backup.rewards))[::3])
            if ranging is Status.DIVERGED:
                status = ranging
                break
            if up - down < closest:
                closest, closest_at, best = up - down, iterations, (improved, down, up, better)
            if closest <= work.tol:
                status = work.done(True) if ranging is Status.CONVERGED else ranging
            elif up - down <= 4.0 * rounding:
                status = Status.STAGNATED
            elif iterations - closest_at > PATIENCE:
                status = Status.STAGNATED if work.certain else Status.UNSETTLED
            if status is not Status.MAX_ITERATIONS or iterations > most:
                break
            policy = better
            value = work.evaluate(improved + (down + 0.5 * rounding), policy, sweeps)
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    value, down, up, policy = best
    if np.isfinite(up - down):
        value = value + 0.5 * (down + up)
        work.settle_ends(value)
        down, up = 0.5 * (down - up), 0.5 * (up - down)
    return work.solution(value, down, up, policy, iterations, status)


def _half(grid: Grid) -> Grid:
    """Return a grid of half the resolution."""
    points = [count // 2 if wraps else (count + 1) // 2 for count, wraps in zip(grid.shape, grid.periodic, strict=True)]
    if min(points) < (least := DEGREES[grid.interpolation] + 1):
        raise UsageError(
            f"estimate_error solves on half the points too, {tuple(points)} of {grid.shape}; {grid.interpolation} "
            f"interpolation needs at least {least} along each coordinate. Take more points."
        )
    return Grid(grid.problem, points, grid.n_actions, grid.interpolation)


def _check_size(work: GridSweeps) -> None:
    """Check that what is paid adds up to numbers that double precision holds."""
    discount, largest = work.problem.discount, work.backup.largest_reward
    steps = work.problem.horizon or 1.0 / (1.0 - discount)
    if not largest < np.finfo(float).max / (8.0 * steps):
        raise UsageError(
            f"Rewards as large as {largest:.3g} add up to more than double precision holds in {steps:.6g} steps; "
            "scale them down."
        )


def _richardson(fine: GridSolution, coarse: GridSolution) -> np.ndarray:
    """Return ``|V_h - V_2h| / (2^p - 1)`` on the fine points, p the order of the interpolation.

    Compared where the coarse grid has its points, so that its error between them plays no part.
    """
    steps = [[axis[1] - axis[0] for axis in grid.axes] for grid in (coarse.grid, fine.grid)]
    ratio = float((np.array(steps[0]) / steps[1]).min())
    first = coarse.value if coarse.value.ndim == 1 else coarse.value[0]
    difference = np.abs(fine.value_at(coarse.grid.states) - first) / (
        ratio ** (DEGREES[fine.grid.interpolation] + 1) - 1.0
    )
    plain = Grid(coarse.grid.problem, coarse.grid.shape, coarse.grid.n_actions)
    spread = plain.interpolant(difference)
    return np.concatenate([spread(fine.grid.states_of(part)) for part in fine.grid.blocks(BLOCK)])
