"""Sweeps over a grid without a table, and what can be said of their outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.outcomes import last_reward, outcomes, over
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.grid_backup import BLOCK, GridBackup
from hamiltonian_rl.solvers.grid_solution import GridSolution
from hamiltonian_rl.solvers.loops import Progress
from hamiltonian_rl.solvers.policy_iteration import EVALUATED
from hamiltonian_rl.solvers.sweeper import LARGEST, certified_shifts

GROWTH = 100.0  # times what rewards can add up to, from where iterates diverge
BEYOND = 0.01  # share of the range of what rewards can add up to, by which V may lie outside


@dataclass
class GridSweeps:
    """Sweeps of Bellman's operator over a grid, and what they certify: what both ways of solving share.

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
        self.terms = 4 + 2 ** len(self.grid.shape) + 4 * sum(self.grid.shape)
        self.name = f"{self.grid.interpolation} grid"

    def sweep(self, value: np.ndarray, step: int, kept: np.ndarray | None, out: np.ndarray, policy: np.ndarray) -> None:
        """Write ``TV`` and its policy."""
        last = self.problem.horizon is not None and step == self.problem.horizon - 1
        later = None if last else self.grid.interpolant(value)
        for part in self.grid.blocks(BLOCK):
            states = self.grid.states_of(part)
            old = None if kept is None else kept[part]
            policy[part], out[part] = self.backup.best(later, states, step, last=last, kept=old)
            self._settle_ends(states, out[part])

    def evaluate(self, value: np.ndarray, policy: np.ndarray, sweeps: int) -> np.ndarray:
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
            self.backup.may_end = True

    def settle_ends(self, value: np.ndarray) -> None:
        """Write h into a value ``(S,)`` where the episode is over."""
        for part in self.grid.blocks(BLOCK):
            self._settle_ends(self.grid.states_of(part), value[part])

    def shifts(self, value: np.ndarray, improved: np.ndarray) -> tuple[float, float, float]:
        """Return `certified_shifts` of V and TV; for cubic interpolation they bound nothing, and say when to stop."""
        change, most = improved - value, float(self.problem.discount)
        size = max(float(np.abs(value).max()), float(np.abs(improved).max()))
        least = 0.0 if self.backup.may_end else most
        lowest, highest = float(change.min()), float(change.max())
        return certified_shifts(lowest, highest, least, most, self.terms, self.backup.largest_reward, size)

    def range_status(self, value: np.ndarray, low: float, high: float) -> Status:
        """Return CONVERGED where V lies within what rewards can add up to, UNSETTLED or DIVERGED where not."""
        if not np.isfinite(value).all():
            return Status.DIVERGED
        if self.linear:
            return Status.CONVERGED  # nothing takes it outside, and an initial value may have lain there
        outside = max(float(value.max()) - high, low - float(value.min()))
        if not outside <= GROWTH * max(high - low, abs(low), abs(high)):
            return Status.DIVERGED
        return Status.UNSETTLED if outside > BEYOND * (high - low) + 1e-9 * abs(high) else Status.CONVERGED

    def start(self, initial_value: np.ndarray | None) -> np.ndarray:
        """Return the first iterate: a copy of the one given, or zeros."""
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

    def actions(self, *steps: int) -> np.ndarray:
        """Return room for actions, filled with the first one."""
        actions = self.grid.actions
        room = np.empty((*steps, self.grid.n_states, *actions.shape[1:]), actions.dtype)
        room[...] = actions[0]
        return room

    def done(self, close: bool) -> Status:
        """Return how a solver has ended that did all it was asked; ``close`` says whether its bounds are."""
        if not self.certain:
            return Status.UNCERTIFIED
        return Status.CONVERGED if close else Status.STAGNATED

    def solution(
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
        found = value, lower, upper, policy, iterations, status, self.name
        return GridSolution(*found, grid=self.grid, refined=self.backup.refines)
