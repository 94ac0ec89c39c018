"""What is behind an environment: the environment itself without its wrappers, and its control problem."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS

# What these do leaves observations, actions, rewards and transitions as the environment has them. Monitor is SB3's.
NEUTRAL = {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker", "RecordEpisodeStatistics", "RecordVideo", "Monitor"}
# Arguments of environments that are no parameters of a problem.
_OTHERS = {
    "render_mode",
    "max_episode_steps",
    "num_envs",
    "vectorization_mode",
    "problem",
    "penalty",
    "action_limit",
}


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


@dataclass(frozen=True)
class ProblemSource:
    """What a problem is made from again: an id of `hamiltonian_rl.registry`, arguments, and the limit of steps."""

    env_id: str
    arguments: dict[str, Any]
    horizon: int | None

    def make(self) -> ControlProblem:
        """Return the problem.

        Raises:
            UsageError: There is none of that id, or it has no such parameter.
        """
        made = problem(self.env_id, **self.arguments)
        made.horizon = self.horizon
        return made


def problem_behind(env: Any) -> tuple[ControlProblem, ProblemSource | None]:
    """Return the control problem behind an environment, at the environment's own limit of steps, and its source.

    Args:
        env: A Gymnasium environment of `hamiltonian_rl.registry`, a `ControlEnv`, or a vector of one of these.

    Returns:
        The problem; and what it is made from, None where somebody made it himself.

    Raises:
        UsageError: It has none, or arguments or a wrapper make it another one.

    Example:
        >>> problem_behind(gym.make("Pendulum-v1", max_episode_steps=50))[1]
        ProblemSource(env_id='Pendulum-v1', arguments={}, horizon=50)
    """
    native = isinstance(env, VectorEnv) and not hasattr(env, "envs")
    copies = [env] if native else copies_of(env)
    one, sources = copies[0], [_source(each) for each in copies]
    if any(source != sources[0] for source in sources):
        raise UsageError("The environments of the vector have different problems; expected one. Give one of them.")
    own, source = getattr(one.unwrapped, "problem", None), sources[0]
    if isinstance(own, ControlProblem):
        found = copy.copy(own)
    elif source is not None:
        found = problem(source.env_id, **source.arguments)
    else:
        name = type(one.unwrapped).__name__ if one.spec is None else one.spec.id
        raise UsageError(
            f'There is no control problem of "{name}". {did_you_mean(name, PROBLEMS)} Or make one a `ControlEnv`.'
        )
    limits = (found.horizon, getattr(one.spec, "max_episode_steps", None), getattr(one, "max_episode_steps", None))
    found.horizon = min((limit for limit in limits if limit is not None), default=None)
    return found, source and replace(source, horizon=found.horizon)


def _source(env: Any) -> ProblemSource | None:
    """Return what the problem of an environment was made from; None where it is not one of the registry."""
    if env.spec is None:
        return None
    given = env.spec.kwargs.get("problem", env.spec.id)
    if not isinstance(given, str) or given not in PROBLEMS:
        return None
    arguments = {name: value for name, value in env.spec.kwargs.items() if name not in _OTHERS}
    return ProblemSource(given, arguments, None)
