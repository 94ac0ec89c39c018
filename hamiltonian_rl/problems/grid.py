"""A control problem on a grid: the finite process whose value interpolates the problem's own.

A next state between grid points becomes their mixture, with the weights of multilinear interpolation as
probabilities. They are not negative and sum to one, so Bellman's operator on the grid contracts and is
monotone, and every solver of finite processes applies with its bounds (Kushner and Dupuis 2001, chapter 5).
The bounds are those of the grid's process; its distance from the problem falls with the square of the
spacing where V is smooth.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.control_problem import ControlProblem
from hamiltonian_rl.problems.mdp import MDP

LARGEST = 2**31 - 1  # states that int32 numbers


class Grid:
    """A grid over the states of a control problem, and the MDP on it.

    States that leave the box of `ControlProblem.state_space` are put back on its border, except along
    periodic coordinates, which wrap.

    Args:
        problem: The problem; its dynamics and reward must not depend on the step.
        points: Points along each coordinate, ``(P_1, ..., P_n)``.
        n_actions: Points along each coordinate of a Box action, ends included; unused for Discrete ones.

    Attributes:
        states: Grid points, shape ``(S, n)``.
        actions: Actions, shape ``(A, m)``, or ``(A,)`` where they are discrete.
        mdp: The process on them, with the problem's horizon and discount.

    Raises:
        UsageError: If the numbers do not fit the problem, or the state space has no bounds.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> grid = Grid(problem("Pendulum-v1"), (21, 21), n_actions=5)
        >>> grid.mdp
        MDP(441 states, 5 actions, 8,820 successors, discount 1, horizon 200)
    """

    def __init__(self, problem: ControlProblem, points: Sequence[int], n_actions: int = 15) -> None:
        self.problem = problem
        self.shape = _checked_points(problem, points)
        low, high = problem.state_space.low.astype(float), problem.state_space.high.astype(float)
        periodic = tuple(bool(wraps) for wraps in problem.periodic) or (False,) * len(self.shape)
        if len(periodic) != len(self.shape):
            raise UsageError(f"periodic = {problem.periodic}; expected {len(self.shape)} entries, one a coordinate.")
        self.axes = [
            np.linspace(first, last, count, endpoint=not wraps)
            for first, last, count, wraps in zip(low, high, self.shape, periodic, strict=True)
        ]
        self.states = np.stack(np.meshgrid(*self.axes, indexing="ij"), axis=-1).reshape(-1, len(self.shape))
        self.actions = _actions(problem, n_actions)
        self._low, self._period = low, np.where(periodic, high - low, 0.0)
        self._spacing = np.array([axis[1] - axis[0] for axis in self.axes])
        self.mdp = self._build()

    def greedy_actions(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return the best of the grid's actions at any states, shape ``(..., m)``, or ``(...)`` where discrete."""
        best: np.ndarray = self.actions[self.q_values(value, states).argmax(axis=-1)]
        return best

    def weights(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the grid points around states and their weights, each of shape ``(..., 2^n)``."""
        place = (states - self._low) / self._spacing
        around, shares = [], []
        for coordinate, count in enumerate(self.shape):
            x = place[..., coordinate]
            if self._period[coordinate]:
                cell = np.floor(x)
                below = np.mod(cell, count).astype(np.int64)
                above = (below + 1) % count
            else:
                x = x.clip(0, count - 1)
                cell = np.floor(x).clip(0, count - 2)
                below = cell.astype(np.int64)
                above = below + 1
            share = x - cell
            around.append((below, above))
            shares.append((1.0 - share, share))
        corners = list(itertools.product((0, 1), repeat=len(self.shape)))
        points = [
            np.ravel_multi_index([a[c] for a, c in zip(around, corner, strict=True)], self.shape) for corner in corners
        ]
        weights = [np.prod([s[c] for s, c in zip(shares, corner, strict=True)], axis=0) for corner in corners]
        return np.stack(points, axis=-1), np.stack(weights, axis=-1)

    def interpolate(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return ``V`` between the grid points, multilinear; shapes ``(S,)`` and ``(..., n)`` to ``(...)``."""
        points, weights = self.weights(states)
        between: np.ndarray = (value[points] * weights).sum(axis=-1)
        return between

    def q_values(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return ``r(s, a) + γ V(f(s, a))`` of every action, with V interpolated; shape ``(..., A)``.

        Args:
            value: Of the next step, shape ``(S,)``.
            states: Any states, shape ``(..., n)``.
        """
        successors, rewards, over = self._outcomes(states)
        later: np.ndarray = ~over * self.interpolate(value, successors)
        return rewards + self.problem.discount * later

    def _outcomes(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return next states ``(..., A, n)``, rewards ``(..., A)``, and whether the episode is over, of all actions."""
        import torch  # takes seconds to load

        count = len(self.actions)
        state = torch.as_tensor(np.repeat(states[..., None, :], count, axis=-2))
        action = torch.as_tensor(np.broadcast_to(self.actions, (*states.shape[:-1], *self.actions.shape)).copy())
        with torch.no_grad():
            try:
                successors = self.problem.dynamics(state, action, 0)
                found = successors, self.problem.reward(state, action, 0), self.problem.terminated(successors)
            except (TypeError, ValueError, IndexError, RuntimeError) as error:
                raise UsageError(
                    f"The problem fails for states {tuple(state.shape)} and actions {tuple(action.shape)}: "
                    f"{first_line(error)} Its functions take batches of both."
                ) from error
        batch = tuple(state.shape[:-1])
        for name, value, shape in zip(
            ("dynamics", "reward", "terminated"), found, (tuple(state.shape), batch, batch), strict=True
        ):
            if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
                got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise UsageError(f"{name} returned {got} for a batch of {batch}; expected a tensor of shape {shape}.")
        successors, rewards, over = found
        return successors.double().numpy(), rewards.double().numpy(), over.bool().numpy()

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which grid points are terminal and what the terminal reward is there, both ``(S,)``."""
        import torch

        with torch.no_grad():
            states = torch.as_tensor(self.states)
            return self.problem.terminated(states).numpy(), self.problem.terminal_reward(states).numpy()

    def _check_unconstrained(self) -> None:
        import torch

        state, action = torch.as_tensor(self.states[:1]), torch.as_tensor(self.actions[:1])
        with torch.no_grad():
            numbers = {
                "constraints": self.problem.constraints(state, action, 0).shape[-1],
                "terminal_constraints": self.problem.terminal_constraints(state).shape[-1],
            }
        for name, number in numbers.items():
            if number:
                raise UsageError(
                    f"The problem has {number} {name}, which a grid cannot keep. State them as a cost in its reward, "
                    "or solve it by another route."
                )

    def _build(self) -> MDP:
        self._check_unconstrained()
        successors, rewards, over = self._outcomes(self.states)
        if not (np.isfinite(successors).all() and np.isfinite(rewards).all()):
            bad = ~(np.isfinite(successors).all(axis=-1) & np.isfinite(rewards))
            state, action = np.argwhere(bad)[0]
            raise UsageError(
                f"dynamics or reward is not finite at state {self.states[state].tolist()} and action "
                f"{np.atleast_1d(self.actions[action]).tolist()}; expected finite numbers on all of the state space."
            )
        if (np.abs(successors) > 1e6 * (np.abs(self._low) + self._spacing * np.array(self.shape)).max()).any():
            raise UsageError("dynamics leads more than a million times as far as the state space is wide. Check it.")
        points, weights = self.weights(successors)
        # Rows of finished episodes are kept with probability zero, so that all rows are as long: faster sweeps.
        weights *= ~over[..., None]
        ended, at_the_end = self._ends()
        weights[ended] = 0.0
        rewards = np.where(ended[:, None], 0.0, rewards)
        if at_the_end.any():
            raise UsageError(
                "The problem has a terminal reward, which a grid cannot state yet. Fold it into the last reward, or "
                "solve it by another route."
            )
        branching = points.shape[-1]
        return MDP(
            rewards=rewards,
            first=np.arange(rewards.size + 1, dtype=np.int64) * branching,
            next_states=points.astype(np.int32).ravel(),
            probabilities=weights.ravel(),
            discount=self.problem.discount,
            initial=np.full(len(rewards), 1.0 / len(rewards)),
            horizon=self.problem.horizon,
        )


def _checked_points(problem: ControlProblem, points: Sequence[int]) -> tuple[int, ...]:
    space: Any = problem.state_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise UsageError(f"The state space is {space}; a grid needs a Box of shape (n,) with n from 1 up.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise UsageError(f"The state space {space} has no bounds; a grid needs finite ones, the lower below the upper.")
    try:
        shape = tuple(operator.index(count) for count in points)
    except TypeError:
        shape = ()
    if len(shape) != space.shape[0] or min(shape) < 2:
        raise UsageError(f"points = {points}; expected {space.shape[0]} numbers of at least 2, one a coordinate.")
    if np.prod([float(count) for count in shape]) > LARGEST:
        raise UsageError(f"points = {shape} make more than {LARGEST:,} states; take fewer.")
    return shape


def _actions(problem: ControlProblem, n_actions: int) -> np.ndarray:
    space: Any = problem.action_space
    if isinstance(space, gym.spaces.Discrete):
        return np.arange(space.start, space.start + space.n)
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise UsageError(
            f"The action space is {space}; a grid needs Discrete, or a Box of shape (m,) with m from 1 up."
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise UsageError(f"The action space {space} has no bounds; a grid needs a Box with finite ones.")
    if not isinstance(n_actions, int | np.integer) or n_actions < 2:
        raise UsageError(f"n_actions = {n_actions!r}; expected a whole number of at least 2 along each coordinate.")
    axes = [
        np.linspace(low, high, n_actions)
        for low, high in zip(space.low.astype(float), space.high.astype(float), strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
