"""What is behind an environment: itself without its wrappers, its table of transitions, its control problem."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import MDP, ControlProblem
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


def has_table(env: Any) -> bool:
    """Whether an environment, or the first of a vector, carries a table ``P`` of its transitions."""
    one = env if isinstance(env, gym.Env) else next(iter(getattr(env, "envs", [])), None)
    table = getattr(getattr(one, "unwrapped", None), "P", None)
    return isinstance(table, Mapping) and len(table) > 0


def table_model(
    env: Any, discount: float, shape: tuple[int, int] | None = None, horizon: int | str | None = None
) -> MDP:
    """Return the MDP behind an environment that carries its table.

    Args:
        env: A Gymnasium environment with a table ``P``, or a vector of equal ones.
        discount: ``γ``.
        shape: ``(S, A)`` of the agent's spaces, where there is one.
        horizon: Steps after which an episode is cut off; "auto" is the environment's own limit.

    Raises:
        UsageError: There is no table, or it is not that of the problem as the agent meets it.

    Example:
        >>> table_model(gym.make("CliffWalking-v1"), 0.99, (48, 4))
        MDP(48 states, 4 actions, 188 successors, discount 0.99)
    """
    copies = copies_of(env)
    mdp = MDP.from_gymnasium(copies[0], discount, horizon)
    table = copies[0].unwrapped.P  # type: ignore[attr-defined]
    if any(getattr(copy.unwrapped, "P", None) != table for copy in copies[1:]):
        raise UsageError(
            "The environments of the vector have different tables; expected one problem. Give one of them."
        )
    if shape is not None and mdp.rewards.shape != shape:
        raise UsageError(f"The table `P` is for {mdp.rewards.shape} states and actions; the spaces have {shape}.")
    return mdp


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
    _check_there_is_one(env)
    native = isinstance(env, VectorEnv) and not hasattr(env, "envs")
    copies = [env] if native else copies_of(env)
    one, sources = copies[0], [_source(each) for each in copies]
    if any(source != sources[0] for source in sources):
        raise UsageError("The environments of the vector have different problems; expected one. Give one of them.")
    own, source = getattr(one.unwrapped, "problem", None), sources[0]
    limits = [getattr(one.spec, "max_episode_steps", None), getattr(one, "max_episode_steps", None)]
    if isinstance(own, ControlProblem):
        found = copy.copy(own)
        limits.append(own.horizon)  # which a `ControlEnv` keeps; the limit of others is what they are made with
    else:
        _check_there_is_one(one)
        assert source is not None
        found = problem(source.env_id, **source.arguments)
    found.horizon = min((limit for limit in limits if limit is not None), default=None)
    return found, source and replace(source, horizon=found.horizon)


def _check_there_is_one(env: Any) -> None:
    """Refuse an environment without a problem; wrappers and vectors are looked at later."""
    if not isinstance(env, gym.Env | VectorEnv) or hasattr(env, "envs"):
        return
    if not isinstance(getattr(env.unwrapped, "problem", None), ControlProblem) and _source(env) is None:
        name = type(env.unwrapped).__name__ if env.spec is None else env.spec.id
        raise UsageError(
            f'There is no control problem of "{name}". {did_you_mean(name, PROBLEMS)} Or register it with '
            "hamiltonian_rl.register_problem, or make it a `ControlEnv` (docs/optimality.md)."
        )


def _source(env: Any) -> ProblemSource | None:
    """Return what the problem of an environment was made from; None where it is not one of the registry."""
    if env.spec is None:
        return None
    given = env.spec.kwargs.get("problem", env.spec.id)
    if not isinstance(given, str) or given not in PROBLEMS:
        return None
    arguments = {name: value for name, value in env.spec.kwargs.items() if name not in _OTHERS}
    return ProblemSource(given, arguments, None)
