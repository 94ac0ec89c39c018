"""Reinforcement learning where every learned answer stands beside its computed truth.

Importing this package imports nothing heavy; agents and environments are loaded when they are named. Its own
environments, `hrl/...`, are registered with Gymnasium as soon as both are imported, in either order.

Example:
    >>> import gymnasium as gym
    >>> from hamiltonian_rl.agents import DQN
    >>> DQN(gym.make("CartPole-v1"), seed=0).learn(100).num_timesteps
    100
"""

from __future__ import annotations

from typing import Any

from hamiltonian_rl.registry import register_once_gymnasium_is_there

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("problem", "register_problem"):
        from hamiltonian_rl.envs import problems

        return getattr(problems, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


register_once_gymnasium_is_there()
