"""A control problem on a grid: points, interpolation between them, and the finite process that multilinear one makes.

A next state between grid points becomes their mixture, with the weights of multilinear interpolation as
probabilities. They are not negative and sum to one, so Bellman's operator on the grid contracts and is
monotone, and every solver of finite processes applies with its bounds (Kushner and Dupuis 2001, chapter 5).
The bounds are those of the grid's process; its distance from the problem falls with the square of the
spacing where V is smooth. Cubic interpolation is of fourth order, and no process: `solve_grid` takes both.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems.checks import check_horizon, checked_discount
from hamiltonian_rl.problems.control_problem import ControlProblem
from hamiltonian_rl.problems.interpolation import DEGREES, LEAST_CUBIC, Interpolant
from hamiltonian_rl.problems.mdp import MDP
from hamiltonian_rl.problems.outcomes import last_reward, outcomes, over

LARGEST = 2**31 - 1  # states that int32 numbers
MOST_ACTIONS = 1_000_000
PROBED = 1000  # states at which two steps are compared


class Grid:
    """A grid over the states of a control problem.

    States that leave the box of `ControlProblem.state_space` take the value of its nearest border point, except
    along periodic coordinates, which wrap.

    Args:
        problem: The problem.
        points: Points along each coordinate, ``(P_1, ..., P_n)``.
        n_actions: Points along each coordinate of a Box action, ends included; unused for Discrete ones.
        interpolation: "multilinear", or "cubic", which needs four points along each coordinate.

    Attributes:
        shape: Points along each coordinate.
        axes: The points of each coordinate.
        n_states: Number of grid points S.
        actions: Actions, shape ``(A, m)``, or ``(A,)`` where they are discrete.

    Raises:
        UsageError: If the numbers do not fit the problem, or the state space has no bounds.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> grid = Grid(problem("Pendulum-v1"), (21, 21), n_actions=5)
        >>> grid.mdp
        MDP(441 states, 5 actions, 8,820 successors, discount 1, horizon 200)
    """

    def __init__(
        self,
        problem: ControlProblem,
        points: Sequence[int],
        n_actions: int = 15,
        interpolation: str = "multilinear",
    ) -> None:
        if not isinstance(problem, ControlProblem):
            raise UsageError(
                f"The problem is of class {type(problem).__name__}; expected a ControlProblem, such as "
                'hamiltonian_rl.problem("Pendulum-v1").'
            )
        check_horizon(problem.horizon)
        checked_discount(problem.discount)
        if interpolation not in DEGREES:
            raise UsageError(
                f'There is no interpolation "{interpolation}". {did_you_mean(str(interpolation), DEGREES)}'
            )
        self.problem, self.interpolation, self.n_actions = problem, interpolation, n_actions
        self.shape = _checked_points(problem, points, LEAST_CUBIC if interpolation == "cubic" else 2)
        low, high = problem.state_space.low.astype(float), problem.state_space.high.astype(float)
        self.periodic = tuple(bool(wraps) for wraps in problem.periodic) or (False,) * len(self.shape)
        if len(self.periodic) != len(self.shape):
            raise UsageError(f"periodic = {problem.periodic}; expected {len(self.shape)} entries, one a coordinate.")
        self.axes = [
            np.linspace(first, last, count, endpoint=not wraps)
            for first, last, count, wraps in zip(low, high, self.shape, self.periodic, strict=True)
        ]
        self.actions = _actions(problem, n_actions)
        _check_free_end(problem, low)
        self.n_states = int(np.prod(self.shape))
        self._low, self._spacing = low, np.array([axis[1] - axis[0] for axis in self.axes])

    @cached_property
    def states(self) -> np.ndarray:
        """Grid points, shape ``(S, n)``."""
        return self.states_of(slice(0, self.n_states))

    def states_of(self, part: slice) -> np.ndarray:
        """Return some grid points, computed and not stored."""
        places = np.unravel_index(np.arange(part.start, part.stop), self.shape)
        return np.stack([axis[place] for axis, place in zip(self.axes, places, strict=True)], axis=-1)

    def blocks(self, size: int) -> Iterator[slice]:
        """Yield parts of the grid points."""
        for start in range(0, self.n_states, size):
            yield slice(start, min(start + size, self.n_states))

    @cached_property
    def mdp(self) -> MDP:
        """The process of multilinear interpolation, with the problem's horizon and discount.

        Arriving in a terminated state pays ``γ h(s')`` with the reward; in the last step of a horizon every
        arrival does (`MDP.last_rewards`).

        Raises:
            UsageError: If the interpolation is cubic, the dynamics or the reward depends on the step, or a function
                of the problem fails.
        """
        if self.interpolation != "multilinear":
            raise UsageError("Cubic interpolation has negative weights, which are no probabilities. Take solve_grid.")
        return self._build()

    def interpolant(self, value: np.ndarray) -> Interpolant:
        """Return V as a function of all states, with its gradient; the value has shape ``(S,)``."""
        degree = DEGREES[self.interpolation]
        return Interpolant(value.reshape(self.shape), self._low, self._spacing, self.periodic, degree)

    def interpolate(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return ``V`` between the grid points; shapes ``(S,)`` and ``(..., n)`` to ``(...)``."""
        return self.interpolant(value)(states)

    def greedy_actions(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return the best of the grid's actions at any states, shape ``(..., m)``, or ``(...)`` where discrete."""
        best: np.ndarray = self.actions[self.q_values(value, states).argmax(axis=-1)]
        return best

    def q_values(self, value: np.ndarray, states: np.ndarray) -> np.ndarray:
        """Return ``r(s, a) + γ V(f(s, a))`` of every action, with V interpolated; shape ``(..., A)``.

        Args:
            value: Of the next step, shape ``(S,)``.
            states: Any states, shape ``(..., n)``.
        """
        found = outcomes(self.problem, *self._pairs(states.reshape(-1, len(self.shape))))
        later = found.goes_on * self.interpolate(value, found.successors)
        q: np.ndarray = found.rewards + self.problem.discount * later
        return q.reshape(*states.shape[:-1], len(self.actions))

    def _pairs(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return every state with every action, shapes ``(M A, n)`` and ``(M A, m)`` or ``(M A,)``."""
        tiled = np.tile(self.actions, (len(states),) + (1,) * (self.actions.ndim - 1))
        return np.repeat(states, len(self.actions), axis=0), tiled

    def weights(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the grid points around states and their multilinear weights, each of shape ``(..., 2^n)``."""
        place = (states - self._low) / self._spacing
        around, shares = [], []
        for coordinate, count in enumerate(self.shape):
            x = place[..., coordinate]
            if self.periodic[coordinate]:
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

    def _build(self) -> MDP:
        problem, table = self.problem, (self.n_states, len(self.actions))
        self._check_steps()
        states, actions = self._pairs(self.states)
        successors, rewards, goes_on = outcomes(problem, states, actions)
        if (np.abs(successors) > 1e6 * (np.abs(self._low) + self._spacing * np.array(self.shape)).max()).any():
            raise UsageError("dynamics leads more than a million times as far as the state space is wide. Check it.")
        points, weights = self.weights(successors)
        # Rows of finished episodes are kept with probability zero, so that all rows are as long: faster sweeps.
        weights *= goes_on[..., None]
        ended = over(problem, self.states)
        weights.reshape(*table, -1)[ended] = 0.0
        at_the_end = last_reward(problem, self.states[ended])[:, None]
        rewards = rewards.reshape(table).copy()
        rewards[ended] = at_the_end
        last_rewards = None
        if problem.horizon is not None and last_reward(problem, successors).any():
            last_rewards = outcomes(problem, states, actions, last=True).rewards.reshape(table)
            last_rewards[ended] = at_the_end
        branching = points.shape[-1]
        return MDP(
            rewards=rewards,
            first=np.arange(rewards.size + 1, dtype=np.int64) * branching,
            next_states=points.astype(np.int32).ravel(),
            probabilities=weights.ravel(),
            discount=problem.discount,
            initial=np.full(len(rewards), 1.0 / len(rewards)),
            horizon=problem.horizon,
            last_rewards=last_rewards,
        )

    def _check_steps(self) -> None:
        """Check at some of the states that the first and a later step are alike: one table stands for all steps."""
        states, actions = self._pairs(self.states[:: max(1, self.n_states // PROBED)])
        first = outcomes(self.problem, states, actions, 0)
        later = outcomes(self.problem, states, actions, (self.problem.horizon or 2) - 1)
        if not all(np.array_equal(a, b) for a, b in zip(first, later, strict=True)):
            raise UsageError("dynamics or reward depends on the step, which one table cannot state. Take solve_grid.")


def _check_free_end(problem: ControlProblem, state: np.ndarray) -> None:
    """Refuse conditions on the last state: no value between grid points could keep them."""
    import torch

    with torch.no_grad():
        count = problem.terminal_constraints(torch.as_tensor(state[None])).shape[-1]
    if count:
        raise UsageError(
            f"The problem has {count} terminal constraints, which a grid cannot keep. State them as a terminal "
            "reward, or solve it by costates: solve_costate."
        )


def _checked_points(problem: ControlProblem, points: Sequence[int], least: int) -> tuple[int, ...]:
    space: Any = problem.state_space
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise UsageError(f"The state space is {space}; a grid needs a Box of shape (n,) with n from 1 up.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all() and (space.low < space.high).all()):
        raise UsageError(f"The state space {space} has no bounds; a grid needs finite ones, the lower below the upper.")
    try:
        shape = tuple(operator.index(count) for count in points)
    except TypeError:
        shape = ()
    if len(shape) != space.shape[0] or min(shape) < least:
        raise UsageError(f"points = {points}; expected {space.shape[0]} numbers of at least {least}, one a coordinate.")
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
    if float(n_actions) ** space.shape[0] > MOST_ACTIONS:
        raise UsageError(
            f"n_actions = {n_actions} along {space.shape[0]} coordinates make more than {MOST_ACTIONS:,} actions; take "
            "fewer, or solve it by costates: solve_costate."
        )
    axes = [
        np.linspace(low, high, n_actions)
        for low, high in zip(space.low.astype(float), space.high.astype(float), strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
