"""Whether a control problem is the process of an environment: both take the same steps from the same states."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.envs.checking import env_name
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem

TOLERANCE = 1e-4  # relative: observations come in single precision, and a step may multiply their rounding


def check_model(env: gym.Env, problem: ControlProblem, *, steps: int = 100, seed: int = 0) -> None:
    """Step an environment by random actions, and hold each step against its problem.

    The states are those that the environment's observations show (`ControlProblem.state_of`), so that it may keep its
    own to itself.

    Args:
        env: The environment; it is reset and stepped.
        problem: At the environment's limit of steps.
        steps: How many.
        seed: Of first states and actions.

    Raises:
        UsageError: They differ; the message says where.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> check_model(gym.make("Pendulum-v1"), problem("Pendulum-v1"))
        >>> check_model(gym.make("Pendulum-v1", g=9.81), problem("Pendulum-v1"))
        Traceback (most recent call last):
        hamiltonian_rl.errors.UsageError: Pendulum is not the process of Pendulum-v1: ...
    """
    _check_observations(env, problem)
    env.action_space.seed(seed)
    stepper = Stepper(env)
    stepper.reset(seed)
    count = 0
    for _ in range(steps):
        action = env.action_space.sample()
        taken = stepper.step(np.asarray(action)[None])
        state, next_state = (_state(problem, seen) for seen in (taken.observations, taken.next_observations))
        found = next_state, float(taken.rewards[0]), bool(taken.terminated[0])
        expected = _step(problem, state, action, count)
        if not _same(problem, found, expected):
            raise UsageError(
                f"{type(problem).__name__} is not the process of {stepper.name}: from the state {_shown(state)} the "
                f"action {action!r} leads in the environment to {_told(found)}, by the problem to {_told(expected)}. "
                "Correct the problem, or register the right one."
            )
        count = 0 if taken.over[0] else count + 1


def _check_observations(env: gym.Env, problem: ControlProblem) -> None:
    import torch

    shape = tuple(problem.observation(torch.zeros((1, *problem.state_space.shape), dtype=torch.float64)).shape[1:])
    if not isinstance(env.observation_space, gym.spaces.Box) or env.observation_space.shape != shape:
        raise UsageError(
            f"{type(problem).__name__} is not the process of {env_name(env)}: its observations have shape {shape}, "
            f"those of the environment are {env.observation_space}. Write the problem's `observation`."
        )


_Step = tuple[np.ndarray, float, bool]  # next state, reward, and whether the episode is over with that


def _state(problem: ControlProblem, observations: np.ndarray) -> np.ndarray:
    import torch  # takes seconds to load

    return np.asarray(problem.state_of(torch.as_tensor(observations.astype(float))).numpy()[0])


def _step(problem: ControlProblem, state: np.ndarray, action: Any, step: int) -> _Step:
    import torch

    before, taken = torch.as_tensor(state)[None], torch.as_tensor(np.asarray(action))[None]
    if isinstance(problem.action_space, gym.spaces.Box):
        taken = taken.double()
    with torch.no_grad():
        after = problem.dynamics(before, taken, step)
        reward, over = float(problem.reward(before, taken, step)[0]), bool(problem.terminated(after)[0])
        if over or step + 1 == problem.horizon:
            reward += float(problem.terminal_reward(after)[0])
    next_state: np.ndarray = after.numpy()[0]
    return next_state, reward, over


def _same(problem: ControlProblem, one: _Step, other: _Step) -> bool:
    from hamiltonian_rl.solvers.costate.following import apart  # torch comes with it

    away = np.abs(apart(problem, one[0][None], other[0][None])[0])
    near = bool((away <= TOLERANCE * (1.0 + np.abs(other[0]))).all())
    return near and abs(one[1] - other[1]) <= TOLERANCE * (1.0 + abs(other[1])) and one[2] == other[2]


def _told(step: _Step) -> str:
    return f"{_shown(step[0])} for the reward {step[1]:.6g}{', which ends the episode' if step[2] else ''}"


def _shown(state: np.ndarray) -> str:
    return f"({', '.join(f'{value:.6g}' for value in state)})"
