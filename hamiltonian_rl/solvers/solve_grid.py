"""Bellman's equation on a grid without a table: dynamics, corners and weights are computed anew in each sweep.

With a horizon, backward induction; without one, modified policy iteration. Between the points V is interpolated:
multilinear, which is the grid's process, with its bounds; or by cubic splines, of fourth order where V is smooth, for
which nobody has proved that sweeps contract. So cubic interpolation bounds nothing, and growth and unrest are told.

Reference:
    Kushner and Dupuis (2001), chapter 5; Judd (1998), "Numerical methods in economics", chapter 12.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.problems.interpolation import DEGREES
from hamiltonian_rl.problems.outcomes import last_reward, outcomes, over
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.grid_backup import BLOCK, GridBackup
from hamiltonian_rl.solvers.grid_solution import GridSolution
from hamiltonian_rl.solvers.loops import MOST_ACTIONS, Progress, check_tol
from hamiltonian_rl.solvers.policy_iteration import EVALUATED
from hamiltonian_rl.solvers.sweeper import LARGEST, TINY, UNIT, certified_shifts, check_count

PATIENCE = 30  # rounds in which the iterates come no closer
GROWTH = 100.0  # times what rewards can add up to


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
        refine: Whether a Box action is refined beyond the grid's actions. Without it and with multilinear
            interpolation, the solution is that of ``grid.mdp``.
        tol: Largest distance of the bounds, or of what stands for them where nothing is certified.
        initial_value: First iterate, shape ``(S,)``, without a horizon.
        evaluation_sweeps: Sweeps of each policy at the most, without a horizon.
        max_iterations: Rounds at the most, without a horizon.
        estimate_error: Whether to solve on half the resolution too, for `GridSolution.error_estimate` (Richardson).
        progress: Called after each sweep over all actions with their number and the distance of the bounds. Ctrl-C
            returns what there is; with a horizon, the steps not reached repeat the first that was.

    Returns:
        The solution; ``iterations`` counts sweeps over all actions.

    Raises:
        UsageError: If the problem has neither a horizon nor a discount below one; if its functions fail, or are not
            finite, or no action is allowed somewhere; or if an argument is wrong.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> solution = solve_grid(Grid(problem("Pendulum-v1"), (31, 31), 5, "cubic"))
        >>> solution.value.shape, solution.policy.shape, solution.status.name
        ((201, 961), (200, 961, 1), 'UNCERTIFIED')
        >>> upright = np.zeros(2)
        >>> abs(solution.value_at(upright)) < 1e-3, np.abs(solution.gradient_at(upright)).max() < 1e-3
        (True, True)
    """
    check_tol(tol)
    check_count(evaluation_sweeps, "evaluation_sweeps", least=0)
    check_count(max_iterations, "max_iterations", least=0)
    coarse = None
    if estimate_error:
        coarse = solve_grid(
            _half(grid), refine=refine, tol=tol, evaluation_sweeps=evaluation_sweeps, max_iterations=max_iterations
        )
        if grid.problem.horizon is None and initial_value is None:
            initial_value = _on(grid, coarse)
    work = _Work(GridBackup(grid, refine=refine), tol, progress)
    if grid.problem.horizon is not None:
        if initial_value is not None:
            raise UsageError("initial_value is for problems without a horizon; here h is the value that is known.")
        solution = work.backward()
    else:
        solution = work.iterate(initial_value, evaluation_sweeps, max_iterations)
    if coarse is None or not (solution.converged and coarse.converged):
        return solution
    return dataclasses.replace(solution, error_estimate=_richardson(solution, coarse))


@dataclass
class _Work:
    """What both ways share.

    Attributes:
        backup: Bellman's operator.
        tol: Largest distance of the bounds.
        progress: Called after each sweep.
    """

    backup: GridBackup
    tol: float
    progress: Progress | None

    def __post_init__(self) -> None:
        self.grid, self.problem = self.backup.grid, self.backup.problem
        self.linear = self.grid.interpolation == "multilinear"
        self.certain = self.linear and not self.backup.refines
        # Corners of a cell, and what the rounding of a place in the grid does to their weights.
        self.terms = 4 + 2 ** len(self.grid.shape) + 8 * sum(self.grid.shape)
        self.name = f"{self.grid.interpolation} grid"

    def backward(self) -> GridSolution:
        """Go from the last step to the first."""
        grid, horizon = self.grid, int(self.problem.horizon or 0)
        if horizon * grid.n_states * max(1, self.backup.size) > MOST_ACTIONS:
            raise UsageError(
                f"A policy of {horizon:,} steps in {grid.n_states:,} states does not fit into memory. Take fewer "
                "points or steps."
            )
        value, policy = np.empty((horizon + 1, grid.n_states)), self._actions(horizon)
        for part in grid.blocks(BLOCK):
            value[horizon, part] = last_reward(self.problem, grid.states_of(part))
        errors, status, step = np.zeros(horizon + 1), Status.CONVERGED, horizon - 1
        limit = size = float(np.abs(value[horizon]).max())
        try:
            while step >= 0:
                kept = policy[step + 1] if step + 1 < horizon else None
                self._sweep(value[step + 1], step, kept, value[step], policy[step])
                # Twice the rounding of one step: the best action by a computed q may be off by as much again.
                unit = UNIT * (self.backup.largest_reward + 2.0 * size) + TINY
                errors[step] = self.problem.discount * errors[step + 1] + 2.0 * self.terms * unit
                limit = max(limit, self.backup.largest_reward + self.problem.discount * limit)
                size = float(np.abs(value[step]).max())
                step -= 1
                if not size <= GROWTH * limit:
                    status = Status.DIVERGED
                    break
                if self.progress is not None:
                    self.progress(horizon - 1 - step, 2.0 * errors[step + 1])
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        value[: step + 1], errors[: step + 1] = value[step + 1], np.inf
        policy[: step + 1] = policy[min(step + 1, horizon - 1)]
        if status is Status.CONVERGED:
            status = self._done(2.0 * float(errors[0]) <= self.tol)
        return self._solution(value, -errors[:, None], errors[:, None], policy, horizon - 1 - step, status)

    def iterate(self, initial_value: np.ndarray | None, sweeps: int, most: int) -> GridSolution:
        """Improve and evaluate policies until what stands for the bounds is close."""
        self._check_discount()
        value, policy = self._start(initial_value), self._actions()
        best = (value, -np.inf, np.inf, policy)
        iterations, closest, closest_at, status = 0, np.inf, 0, Status.MAX_ITERATIONS
        try:
            while True:
                improved, better = np.empty_like(value), np.empty_like(policy)
                self._sweep(value, 0, policy if iterations else None, improved, better)
                down, up, rounding = self._shifts(value, improved)
                iterations += 1
                if self.progress is not None:
                    self.progress(iterations, up - down)
                if not np.abs(improved).max() <= GROWTH * self.backup.largest_reward / (1.0 - self.problem.discount):
                    status = Status.DIVERGED
                    break
                if up - down < closest:
                    closest, closest_at, best = up - down, iterations, (improved, down, up, better)
                if closest <= self.tol:
                    status = self._done(True)
                elif up - down <= 4.0 * rounding or iterations - closest_at > PATIENCE:
                    status = Status.STAGNATED if self.certain else Status.UNSETTLED
                if status is not Status.MAX_ITERATIONS or iterations > most:
                    break
                policy = better
                value = self._evaluate(improved + (down + 0.5 * rounding), policy, sweeps)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        value, down, up, policy = best
        if np.isfinite(up - down):
            value = value + 0.5 * (down + up)
            down, up = 0.5 * (down - up), 0.5 * (up - down)
        return self._solution(value, down, up, policy, iterations, status)

    def _sweep(
        self, value: np.ndarray, step: int, kept: np.ndarray | None, out: np.ndarray, policy: np.ndarray
    ) -> None:
        """Write ``TV`` and its policy."""
        last = self.problem.horizon is not None and step == self.problem.horizon - 1
        later = None if last else self.grid.interpolant(value)
        for part in self.grid.blocks(BLOCK):
            states = self.grid.states_of(part)
            old = None if kept is None else kept[part]
            policy[part], out[part] = self.backup.best(later, states, step, last=last, kept=old)
            self._settle_ends(states, out[part])

    def _evaluate(self, value: np.ndarray, policy: np.ndarray, sweeps: int) -> np.ndarray:
        """Sweep ``V <- r_π + γ V(f_π)`` until its changes are a hundredth as uneven as the first."""
        successors = np.empty((len(value), len(self.grid.shape)))
        rewards, weight = np.empty(len(value)), np.empty(len(value))
        for part in self.grid.blocks(BLOCK):
            states = self.grid.states_of(part)
            successors[part], rewards[part], goes_on = outcomes(self.problem, states, policy[part])
            ended = over(self.problem, states)
            weight[part] = self.problem.discount * (goes_on & ~ended)
            self._settle_ends(states, rewards[part])
        span = np.inf
        for sweep in range(sweeps):
            swept = rewards + weight * self.grid.interpolant(value)(successors)
            change = swept - value
            value, spread = swept, float(change.max() - change.min())
            if sweep and not spread > EVALUATED * span:
                break
            span = spread if sweep == 0 else span
        return value

    def _settle_ends(self, states: np.ndarray, value: np.ndarray) -> None:
        """Write h where the episode is over: nothing else is earned there."""
        ended = over(self.problem, states)
        if ended.any():
            value[ended] = last_reward(self.problem, states[ended])

    def _shifts(self, value: np.ndarray, improved: np.ndarray) -> tuple[float, float, float]:
        change, most = improved - value, float(self.problem.discount)
        size = max(float(np.abs(value).max()), float(np.abs(improved).max()))
        least = 0.0 if self.backup.may_end else most
        lowest, highest = float(change.min()), float(change.max())
        return certified_shifts(lowest, highest, least, most, self.terms, self.backup.largest_reward, size)

    def _start(self, initial_value: np.ndarray | None) -> np.ndarray:
        if initial_value is None:
            return np.zeros(self.grid.n_states)
        try:
            value = np.array(initial_value, float)
        except (TypeError, ValueError) as error:
            raise UsageError(f"`initial_value` is no array of numbers: {first_line(error)}") from error
        if value.shape != (self.grid.n_states,) or not (np.abs(value) < LARGEST).all():
            raise UsageError(
                f"`initial_value` has shape {value.shape}; expected ({self.grid.n_states},), sizes below {LARGEST:g}."
            )
        return value

    def _check_discount(self) -> None:
        if not self.problem.discount < 1.0:
            raise UsageError(
                "The problem has neither a horizon nor a discount below 1: its value may be infinite. Set one of both."
            )

    def _actions(self, *steps: int) -> np.ndarray:
        """Return room for actions, filled with the first one."""
        actions = self.grid.actions
        room = np.empty((*steps, self.grid.n_states, *actions.shape[1:]), actions.dtype)
        room[...] = actions[0]
        return room

    def _done(self, close: bool) -> Status:
        if not self.certain:
            return Status.UNCERTIFIED
        return Status.CONVERGED if close else Status.STAGNATED

    def _solution(
        self,
        value: np.ndarray,
        down: np.ndarray | float,
        up: np.ndarray | float,
        policy: np.ndarray,
        iterations: int,
        status: Status,
    ) -> GridSolution:
        """Return the solution, with the bounds that are certain; infinite ones take no memory."""
        lower = value + down if self.linear else np.broadcast_to(-np.inf, value.shape)
        upper = value + up if self.certain else np.broadcast_to(np.inf, value.shape)
        return GridSolution(value, lower, upper, policy, iterations, status, self.name, self.grid, self.backup.refines)


def _half(grid: Grid) -> Grid:
    """Return a grid of half the resolution."""
    points = [count // 2 if wraps else (count + 1) // 2 for count, wraps in zip(grid.shape, grid.periodic, strict=True)]
    return Grid(grid.problem, points, grid.n_actions, grid.interpolation)


def _on(grid: Grid, solution: GridSolution) -> np.ndarray:
    """Return the value of another grid's solution (at the first step) on the points of this one."""
    return np.concatenate([solution.value_at(grid.states_of(part)) for part in grid.blocks(BLOCK)])


def _richardson(fine: GridSolution, coarse: GridSolution) -> np.ndarray:
    """Return ``|V_h - V_2h| / (2^p - 1)``, p the order of the interpolation, with the spacings as they are."""
    ratios = [
        (a.axes[axis][1] - a.axes[axis][0]) / (b.axes[axis][1] - b.axes[axis][0])
        for axis, (a, b) in enumerate((coarse.grid, fine.grid) for _ in fine.grid.shape)
    ]
    order = DEGREES[fine.grid.interpolation] + 1
    first = fine.value if fine.value.ndim == 1 else fine.value[0]
    estimate: np.ndarray = np.abs(first - _on(fine.grid, coarse)) / (min(ratios) ** order - 1.0)
    return estimate
