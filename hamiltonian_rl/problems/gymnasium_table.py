"""The table of transitions that some Gymnasium environments carry, such as the toy-text ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium as gym

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.tables import Outcome


class GymnasiumTable(NamedTuple):
    """What an environment says of its own process.

    Attributes:
        outcomes: ``P[s][a]``, what may happen after each action.
        initial: Distribution of the first state, or None where it is not told.
        horizon: Steps after which an episode is cut off, or None.
    """

    outcomes: Mapping[int, Mapping[int, list[Outcome]]]
    initial: Any
    horizon: int | None


def gymnasium_table(env: gym.Env | str, horizon: int | str | None) -> GymnasiumTable:
    """Return the table of an environment.

    Args:
        env: The environment or its id.
        horizon: Steps after which an episode is cut off; "auto" is the environment's own limit.

    Raises:
        UsageError: If there is no such environment, or it has no table, or another than its process.
    """
    try:
        made = gym.make(env) if isinstance(env, str) else env
        unwrapped, spec = made.unwrapped, made.spec
    except (gym.error.Error, AttributeError) as error:
        raise UsageError(f"{env!r} is no environment: {first_line(error)}") from error
    table = getattr(unwrapped, "P", None)
    initial = getattr(unwrapped, "initial_state_distrib", None)
    if isinstance(env, str):
        made.close()
    if not isinstance(table, Mapping) or not table:
        name = spec.id if spec is not None else type(unwrapped).__name__
        raise UsageError(
            f"{name} has no table `P` of its transitions, so that its optimum cannot be computed from a table. "
            "FrozenLake-v1, Taxi-v4 and CliffWalking-v1 have one; build others with MDP.from_function."
        )
    if getattr(unwrapped, "fickle_passenger", False):
        raise UsageError("Taxi with fickle_passenger=True is not the process of its table `P`. Leave that out.")
    if horizon == "auto":
        horizon = spec.max_episode_steps if spec is not None else None
    if isinstance(horizon, str):
        raise UsageError(f'horizon = "{horizon}" is not known. Give "auto", a number of steps, or None.')
    return GymnasiumTable(table, initial, horizon)
