"""Several episodes of a control problem, stepped together: what its single and its vector environment share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import checked_horizon
from hamiltonian_rl.envs.problems import problem as problem_of
from hamiltonian_rl.errors import EnvironmentContractError, UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem


class Outcome(NamedTuple):
    """What a step of ``n`` episodes brought, each of shape ``(n,)``."""

    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    violations: np.ndarray


class ControlBatch:
    """``n`` episodes of a problem.

    Args:
        problem: The problem, or its id.
        n: Number of episodes.
        penalty: What a violation of one costs, summed over the constraints of a step.
        action_limit: Bound of actions that have none.
        parameters: Of the problem's class, where it is given by its id.

    Attributes:
        states: Shape ``(n, state size)``, float64.
        steps: Steps taken, shape ``(n,)``.
        constrained: Whether the problem has constraints.
        observation_space: Of one episode; without bounds, for a state may go anywhere.
        action_space: Of one episode; a Box has finite bounds.

    Raises:
        UsageError: The problem, or a number, is not what is expected.
    """

    def __init__(
        self,
        problem: ControlProblem | str,
        n: int,
        *,
        penalty: float,
        action_limit: float,
        parameters: Mapping[str, Any],
    ) -> None:
        self.problem = _checked_problem(problem, parameters)
        for name, value in (("penalty", penalty), ("action_limit", action_limit)):
            if not 0.0 < value < np.inf:
                raise UsageError(f"{name} = {value!r}; expected a positive, finite number.")
        self.penalty = float(penalty)
        self.action_space, self._bounds = self._spaces(action_limit)
        self.states = np.zeros((n, *self.problem.state_space.shape))
        self.steps = np.zeros(n, np.int64)
        first = torch.as_tensor(self.problem.initial_states(1, np.random.default_rng(0)))
        with torch.no_grad():
            size = self.problem.observation(first).shape[-1]
            some_action = self._as_tensor(np.asarray(self.action_space.sample())[None])
            limits = self.problem.constraints(first, some_action, 0), self.problem.terminal_constraints(first)
        self.constrained = any(limit.shape[-1] for limit in limits)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def begin(
        self, which: np.ndarray, generator: np.random.Generator, options: Mapping[str, Any] | None = None
    ) -> None:
        """Start new episodes where ``which`` is true, ``(n,)``: at ``options["state"]``, or drawn.

        Raises:
            UsageError: An option is unknown, or the state is no finite one of the problem's shape.
        """
        for name in options or {}:
            if name != "state":
                raise UsageError(f'reset() has no option "{name}". {did_you_mean(name, ["state"])}')
        count = int(which.sum())
        if options and options.get("state") is not None:
            self.states[which] = self._given_state(options["state"], count)
        else:
            self.states[which] = self.problem.initial_states(count, generator)
        self.steps[which] = 0

    def advance(self, actions: Any) -> Outcome:
        """Take a step everywhere.

        Args:
            actions: Shape ``(n, m)``, or ``(n,)`` where they are discrete; clipped to the problem's bounds.

        Raises:
            UsageError: The actions are no actions.
            EnvironmentContractError: The problem returned what is no state or no reward; the message says where.
        """
        actions = self._checked_actions(actions)
        before, successors = self.states, np.empty_like(self.states)
        rewards, violations = np.empty(len(before)), np.empty(len(before))
        # The step is one number for a whole call; episodes that started at other times have other ones.
        for step in np.unique(self.steps):
            at = self.steps == step
            parts = self._transition(before[at], actions[at], int(step))
            successors[at], rewards[at], violations[at] = parts
        self.states, self.steps = successors, self.steps + 1
        after = torch.as_tensor(successors)
        horizon = self.problem.horizon
        with torch.no_grad():
            terminated = self._checked("terminated", self.problem.terminated(after), rewards.shape).astype(bool)
            ended = np.zeros_like(terminated) if horizon is None else self.steps >= horizon
            last = terminated | ended
            if last.any():
                end = self._checked("terminal_reward", self.problem.terminal_reward(after[last]), (int(last.sum()),))
                rewards[last] += end
                violations[last] += self.problem.terminal_constraints(after[last]).abs().sum(-1).numpy()
        rewards -= self.penalty * violations
        self._check_finite(before, actions, rewards)
        return Outcome(rewards, terminated, ended & ~terminated, violations)

    def observations(self) -> np.ndarray:
        """Return what agents see, shape ``(n, observation size)``, float32."""
        with torch.no_grad():
            seen: np.ndarray = self.problem.observation(torch.as_tensor(self.states)).numpy().astype(np.float32)
        return seen

    def _spaces(self, limit: float) -> tuple[gym.spaces.Box | gym.spaces.Discrete, tuple[Any, ...]]:
        """Return the action space of agents, in single precision as they want it, and the bounds of a Box."""
        space = self.problem.action_space
        if isinstance(space, gym.spaces.Discrete):
            return gym.spaces.Discrete(int(space.n), start=int(space.start)), ()
        low, high = _finite_bounds(space, limit)
        return gym.spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32), (low, high)

    def _transition(self, states: np.ndarray, actions: np.ndarray, step: int) -> tuple[np.ndarray, ...]:
        state, action = torch.as_tensor(states), self._as_tensor(actions)
        count = len(states)
        with torch.no_grad():
            return (
                self._checked("dynamics", self.problem.dynamics(state, action, step), states.shape),
                self._checked("reward", self.problem.reward(state, action, step), (count,)),
                self.problem.constraints(state, action, step).clamp(min=0.0).sum(-1).numpy(),
            )

    def _as_tensor(self, actions: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(actions if isinstance(self.action_space, gym.spaces.Discrete) else actions.astype(float))

    def _checked_actions(self, actions: Any) -> np.ndarray:
        space: Any = self.action_space
        count = len(self.states)
        array = np.asarray(actions)
        if array.shape != (count, *space.shape) or array.dtype.kind not in "biuf":
            raise UsageError(
                f"The action is {actions!r}; expected numbers of shape {space.shape}"
                f"{f' for each of {count} episodes' if count > 1 else ''}."
            )
        if isinstance(space, gym.spaces.Discrete):
            if array.dtype.kind not in "iu" or not ((array >= space.start) & (array < space.start + space.n)).all():
                raise UsageError(f"The action is {actions!r}; expected one of {space}.")
            return array.astype(np.int64)
        if np.isnan(array).any():
            raise UsageError(f"The action is {actions!r}; expected numbers, and NaN is none.")
        clipped: np.ndarray = array.astype(float).clip(*self._bounds)
        return clipped

    def _checked(self, what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        if not isinstance(value, torch.Tensor) or tuple(value.shape) != shape:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise EnvironmentContractError(
                f"{type(self.problem).__name__}.{what}() returned {got}; expected a tensor of shape {shape}. "
                "Correct the problem."
            )
        array: np.ndarray = value.numpy()
        return array

    def _check_finite(self, before: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        sound = np.isfinite(self.states).all(axis=-1)
        for what, fine, values in (("state", sound, self.states), ("reward", np.isfinite(rewards), rewards)):
            if not fine.all():
                bad = int(np.argmin(fine))
                raise EnvironmentContractError(
                    f"{type(self.problem).__name__} leads from the state {before[bad].tolist()} by the action "
                    f"{actions[bad].tolist()} at step {self.steps[bad] - 1} to the {what} {values[bad].tolist()}; "
                    "expected finite numbers. Correct the problem, or bound its states and actions."
                )

    def _given_state(self, state: Any, count: int) -> np.ndarray:
        shape = self.problem.state_space.shape
        try:
            array = np.asarray(state, float)
        except (TypeError, ValueError):
            array = np.array(np.nan)
        if array.shape not in (shape, (count, *shape)) or not np.isfinite(array).all():
            raise UsageError(f'options["state"] is {state!r}; expected finite numbers of shape {shape}.')
        return np.broadcast_to(array, (count, *shape))


def _checked_problem(problem: Any, parameters: Mapping[str, Any]) -> ControlProblem:
    if isinstance(problem, str):
        if "horizon" in parameters:  # Gymnasium's own limit would cut the episode before the terminal reward
            raise UsageError(
                f'The horizon of "{problem}" is registered; for another one, make '
                f'ControlEnv(hamiltonian_rl.problem("{problem}", horizon={parameters["horizon"]})).'
            )
        problem = problem_of(problem, **parameters)
    elif parameters:
        raise UsageError(f"{', '.join(parameters)}: only a problem given by its id takes parameters.")
    if not isinstance(problem, ControlProblem):
        raise UsageError(f"Cannot make an environment of a {type(problem).__name__}; expected a ControlProblem.")
    states = getattr(problem, "state_space", None)
    if not isinstance(states, gym.spaces.Box) or len(states.shape) != 1:
        raise UsageError(f"{type(problem).__name__}.state_space is {states}; expected a Box of shape (n,).")
    actions = getattr(problem, "action_space", None)
    if not isinstance(actions, gym.spaces.Discrete) and not (
        isinstance(actions, gym.spaces.Box) and len(actions.shape) == 1
    ):
        raise UsageError(
            f"{type(problem).__name__}.action_space is {actions}; expected Discrete or a Box of shape (m,)."
        )
    if problem.horizon is not None:
        checked_horizon(problem.horizon)
    return problem


def _finite_bounds(space: gym.spaces.Box, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of actions, in double precision, with others where there are none."""
    low = np.where(np.isfinite(space.low), space.low, np.minimum(-limit, space.high - 2.0 * limit))
    high = np.where(np.isfinite(space.high), space.high, np.maximum(limit, low + 2.0 * limit))
    return low, high
