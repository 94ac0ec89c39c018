"""What `solve_grid` returns: value, gradient and best action at any state, and the path that they lead along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.problems.interpolation import Interpolant
from hamiltonian_rl.problems.outcomes import last_reward, one_thread, outcomes, over
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.grid_backup import BLOCK, GridBackup


@dataclass(frozen=True)
class Rollout:
    """B episodes of up to N steps.

    Attributes:
        states: Shape ``(B, N + 1, n)``; after the end of an episode its last state.
        actions: Shape ``(B, N, m)``, or ``(B, N)`` where they are discrete; after the end zeros.
        rewards: ``r``, and ``γ h(s')`` with the last step of an episode that terminates or meets the horizon; after
            that zeros; shape ``(B, N)``.
        returns: ``Σ_k γ^k rewards_k``, shape ``(B,)``.
        lengths: Steps taken, shape ``(B,)``.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    returns: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class GridSolution(Solution):
    """The solution of a problem on a grid, and what it says of states between the points.

    With a horizon N the arrays have a row a step: ``value``, ``lower`` and ``upper`` have shape ``(N + 1, S)``, where
    ``value[N]`` is ``h``. The bounds are those of the grid's process. They are infinite where nothing certifies
    them: both for cubic interpolation, the upper one for refined actions, of which the best may have been missed.

    Attributes:
        policy: Best actions, shape ``(S, m)``, or ``(S,)`` where they are discrete; with a horizon a row a step.
        grid: The grid.
        refined: Whether actions were refined beyond the grid's.
        error_estimate: An estimate, no bound, of the distance of ``value`` (of the first step) from the problem's
            optimum, shape ``(S,)``, by a grid of half the resolution; None unless asked for.
    """

    grid: Grid
    refined: bool
    error_estimate: np.ndarray | None = None

    def value_at(self, states: np.ndarray, step: int = 0) -> np.ndarray:
        """Return ``V_k(s)`` interpolated, shape ``(...)``; ``h(s)`` at the horizon and where the episode is over.

        Args:
            states: Shape ``(..., n)``.
            step: The step k, up to N; of no effect without a horizon.
        """
        rows = self._rows(states)
        if self._step(step) == self.grid.problem.horizon:
            return last_reward(self.grid.problem, rows).reshape(np.shape(states)[:-1])
        found, ended = self._interpolant(step)(rows), over(self.grid.problem, rows)
        found[ended] = last_reward(self.grid.problem, rows[ended])
        return found.reshape(np.shape(states)[:-1])

    def gradient_at(self, states: np.ndarray, step: int = 0) -> np.ndarray:
        """Return ``∇V_k(s)``, the costate (Eq. 17), of the shape of ``states``; ``∇h(s)`` where `value_at` is ``h``.

        It is that of the interpolated V: of third order for cubic interpolation where V is smooth, constant within
        cells along its coordinate, of first order, for multilinear. Outside the grid it is zero along what was
        left.
        """
        rows = self._rows(states)
        if self._step(step) == self.grid.problem.horizon:
            return self._last_gradient(rows).reshape(np.shape(states))
        found, ended = self._interpolant(step).gradient(rows), over(self.grid.problem, rows)
        found[ended] = self._last_gradient(rows[ended])
        return found.reshape(np.shape(states))

    def action_at(self, states: np.ndarray, step: int = 0) -> np.ndarray:
        """Return the best action that was found, refined where the solution is, shape ``(..., m)`` or ``(...)``.

        Args:
            states: Shape ``(..., n)``.
            step: The step k, below N.
        """
        rows, last = self._rows(states), self._is_last(step)
        backup = GridBackup(self.grid, refine=self.refined)
        later = None if last else self._interpolant(step + 1)
        found = []
        for start in range(0, len(rows), BLOCK):
            part = rows[start : start + BLOCK]
            actions = backup.best(later, part, step, last=last)[0]
            if backup.refines and self.grid.interpolation == "cubic":
                actions, _ = backup.polished(later, part, actions, step, last=last)
            found.append(actions)
        shape = (*np.shape(states)[:-1], *self.grid.actions.shape[1:])
        return np.concatenate(found).reshape(shape) if found else np.empty(shape, self.grid.actions.dtype)

    @one_thread()
    def rollout(
        self,
        initial_states: np.ndarray,
        n_steps: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Rollout:
        """Follow `action_at` by the problem's own dynamics, which no grid limits.

        Args:
            initial_states: Shape ``(B, n)``.
            n_steps: Steps at the most; all of the horizon unless given.
            progress: Called after each step with their number.

        Raises:
            UsageError: If there are more steps than the horizon has, or neither is given.
        """
        problem, states = self.grid.problem, self._rows(initial_states)
        count = problem.horizon if n_steps is None else n_steps
        if not isinstance(count, int | np.integer) or count < 1 or count > (problem.horizon or np.inf):
            most = "up; the problem has no horizon" if problem.horizon is None else f"to the horizon, {problem.horizon}"
            raise UsageError(f"n_steps = {n_steps}; expected a whole number from 1 {most}.")
        path = np.repeat(states[:, None], count + 1, axis=1)
        actions = np.zeros((len(states), count, *self.grid.actions.shape[1:]), self.grid.actions.dtype)
        rewards, lengths = np.zeros((len(states), count)), np.zeros(len(states), np.int64)
        running = np.flatnonzero(~over(problem, states))
        for step in range(count):
            if not len(running):
                break
            chosen = self.action_at(path[running, step], step)
            found = outcomes(problem, path[running, step], chosen, step, last=self._is_last(step))
            actions[running, step], rewards[running, step] = chosen, found.rewards
            path[running, step + 1 :] = found.successors[:, None]
            lengths[running] += 1
            running = running[found.goes_on]
            if progress is not None:
                progress(step + 1)
        returns = rewards @ problem.discount ** np.arange(count)
        return Rollout(path, actions, rewards, returns, lengths)

    def _rows(self, states: np.ndarray) -> np.ndarray:
        size = len(self.grid.shape)
        try:
            given = np.asarray(states, float)
        except (TypeError, ValueError) as error:
            raise UsageError(f"`states` are no array of numbers: {first_line(error)}") from error
        if given.ndim < 1 or given.shape[-1] != size or not np.isfinite(given).all():
            raise UsageError(f"`states` has shape {given.shape}; expected (..., {size}), of finite numbers.")
        return given.reshape(-1, size)

    def _step(self, step: int) -> int:
        """Return the row of the value that belongs to a step."""
        horizon = self.grid.problem.horizon
        if not isinstance(step, int | np.integer) or step < 0 or step > (np.inf if horizon is None else horizon):
            raise UsageError(f"step = {step!r}; expected a whole number from 0 to the horizon, {horizon}.")
        return 0 if horizon is None else int(step)

    def _is_last(self, step: int) -> bool:
        """Return whether the horizon ends with a step."""
        horizon = self.grid.problem.horizon
        if self._step(step) == horizon:
            raise UsageError(f"step = {step}; the last one that has an action is {step - 1}.")
        return horizon is not None and step == horizon - 1

    @cached_property
    def _made(self) -> dict[int, Interpolant]:
        return {}

    def _interpolant(self, step: int) -> Interpolant:
        """Return V of a step; the last one made is kept."""
        row = self._step(step)
        if row not in self._made:
            self._made.clear()
            self._made[row] = self.grid.interpolant(self.value if self.value.ndim == 1 else self.value[row])
        return self._made[row]

    def _last_gradient(self, rows: np.ndarray) -> np.ndarray:
        import torch

        states = torch.tensor(rows, requires_grad=True)
        paid = self.grid.problem.terminal_reward(states).sum()
        (slope,) = torch.autograd.grad(paid, states, allow_unused=True) if paid.requires_grad else (None,)
        return np.zeros_like(rows) if slope is None else np.asarray(slope.numpy())
