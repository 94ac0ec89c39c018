"""What is behind an environment: the environment itself without its wrappers, and its control problem."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem

# What these do leaves observations, actions, rewards and transitions as the environment has them. Monitor is SB3's.
NEUTRAL = {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker", "RecordEpisodeStatistics", "RecordVideo", "Monitor"}
_NO_PHYSICS = {"render_mode", "max_episode_steps", "num_envs"}


def copies_of(env: Any) -> list[gym.Env]:
    """Return the environment, or those of a vector, each with wrappers alone that alter nothing.

    Raises:
        UsageError: A wrapper may make another problem, or a vector does not show its environments.
    """
    copies = [env] if isinstance(env, gym.Env) else getattr(env, "envs", None)
    wrapped_vector = not isinstance(env, gym.Env) and getattr(env, "unwrapped", env) is not env
    if not copies or wrapped_vector:
        raise UsageError(
            f"{type(env).__name__} does not show its environments. Give one environment, a SyncVectorEnv or a "
            "DummyVecEnv, without wrappers around it."
        )
    for part in copies:
        while isinstance(part, gym.Wrapper):
            if type(part).__name__ not in NEUTRAL:
                raise UsageError(
                    f"The wrapper {type(part).__name__} may make another problem than that of the environment in it. "
                    "Give the environment without it."
                )
            part = part.env
    return list(copies)


def problem_behind(env: Any) -> ControlProblem:
    """Return the control problem behind an environment, at the environment's own limit of steps.

    Args:
        env: A Gymnasium environment of `hamiltonian_rl.registry`, a `ControlEnv`, or a vector of one of these.

    Raises:
        UsageError: It has none, or arguments or a wrapper make it another one.

    Example:
        >>> problem_behind(gym.make("Pendulum-v1", max_episode_steps=50)).horizon
        50
    """
    native = isinstance(env, VectorEnv) and not hasattr(env, "envs")
    one = env if native else copies_of(env)[0]
    found, spec = getattr(one.unwrapped, "problem", None), one.spec
    if not isinstance(found, ControlProblem):
        if spec is None:
            raise UsageError(f"{type(one.unwrapped).__name__} has no id and no control problem; expected gym.make(id).")
        arguments = {name: value for name, value in spec.kwargs.items() if name not in _NO_PHYSICS}
        found = problem(spec.id, **arguments)
    found = copy.copy(found)
    limits = (found.horizon, getattr(spec, "max_episode_steps", None), getattr(one, "max_episode_steps", None))
    found.horizon = min((limit for limit in limits if limit is not None), default=None)
    return found
