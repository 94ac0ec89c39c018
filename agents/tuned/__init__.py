"""Tuned settings per agent and environment, in the TOML files beside this one."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any


def tuned_settings(agent: str, env_id: str) -> dict[str, Any]:
    """Return the tuned settings of an agent for an environment; an empty dict where there are none.

    Besides the agent's own settings they may hold ``steps`` (the budget that they were tuned for) and
    ``n_envs``.

    Example:
        >>> tuned_settings("sb3:dqn", "CartPole-v1")["train_freq"]
        256
    """
    family, _, algorithm = agent.partition(":")
    file = resources.files(__package__) / f"{family}.toml"
    if not file.is_file():
        return {}
    table = tomllib.loads(file.read_text())
    if algorithm:
        table = table.get(algorithm, {})
    return dict(table.get(env_id, {}))
