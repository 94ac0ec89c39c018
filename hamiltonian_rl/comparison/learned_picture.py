"""Pictures of what an agent has learnt, where its states can be drawn: on a map or in a plane."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.envs.behind import has_table, problem_behind
from hamiltonian_rl.envs.making import close_env, make_env
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.run_config import RunConfig
from hamiltonian_rl.solving import solve_env
from hamiltonian_rl.tracking.pictures import plane_picture, value_picture

POINTS = 41  # of a plane, along each coordinate


def learned_picture(agent: Agent, config: RunConfig) -> Figure | None:
    """Draw the value that an agent has learnt, its policy, and its costates, the slope of that value.

    Args:
        agent: With ``q_values(observations)``, or with ``value(states)`` and perhaps ``costate(states)``.
        config: Of its run.

    Returns:
        None where the agent has no values, or its states are neither cells of a map nor two numbers.
    """
    if not (hasattr(agent, "value") or hasattr(agent, "q_values")):
        return None
    title = f"What {config.agent} has learnt in {config.env}, seed {config.seed}"
    env = make_env(config.env, settings=config.env_settings)
    try:
        if has_table(env):
            return _on_a_map(agent, config, title)
        return _in_a_plane(agent, env, title)
    finally:
        close_env(env)


def _on_a_map(agent: Any, config: RunConfig, title: str) -> Figure | None:
    optimum = solve_env(config.env, env_settings=config.env_settings)
    if optimum.shape is None:
        return None
    states = np.arange(optimum.mdp.n_states) + getattr(agent.observation_space, "start", 0)
    policy = agent.predict(states, deterministic=True)[0] - getattr(agent.action_space, "start", 0)
    value = np.where(optimum.mdp.absorbing, 0.0, _values(agent, states, states))  # nothing is learnt of the end
    learned = dataclasses.replace(optimum.solution, value=value, policy=policy)
    shown = dataclasses.replace(optimum, solution=learned)
    return value_picture(shown.shown_value, shown.shape, shown.arrows(), title, "learned value")


def _in_a_plane(agent: Any, env: gym.Env, title: str) -> Figure | None:
    """Draw over the states of the problem behind the environment, else over its observations."""
    import torch

    space: gym.Space = env.observation_space
    names: tuple[str, ...] = ()
    problem: ControlProblem | None = None
    with contextlib.suppress(UsageError):  # it has none
        problem = problem_behind(env)[0]
        space, names = problem.state_space, problem.state_names
    if not (isinstance(space, gym.spaces.Box) and space.shape == (2,) and space.is_bounded("both")):
        return None
    axes_values = tuple(np.linspace(low, high, POINTS) for low, high in zip(space.low, space.high, strict=True))
    states = np.stack([grid.ravel() for grid in np.meshgrid(*axes_values, indexing="ij")], axis=-1)
    seen = states if problem is None else problem.observation(torch.as_tensor(states)).numpy()
    observations = seen.astype(np.float32)
    value = _values(agent, observations, states).reshape(POINTS, POINTS)
    actions = np.asarray(agent.predict(observations, deterministic=True)[0], float).reshape(POINTS, POINTS, -1)
    if hasattr(agent, "costate"):
        costate = np.asarray(agent.costate(states)).reshape(POINTS, POINTS, 2)
    else:
        costate = np.stack(np.gradient(value, *axes_values), axis=-1)
    return plane_picture(
        axes_values, value, actions[..., 0], costate, names or ("observation 0", "observation 1"), title
    )


def _values(agent: Any, observations: np.ndarray, states: np.ndarray) -> np.ndarray:
    value: np.ndarray = agent.value(states) if hasattr(agent, "value") else agent.q_values(observations).max(axis=-1)
    return value
