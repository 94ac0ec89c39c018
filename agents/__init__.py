"""Agents that learn and act, with Stable-Baselines3's interface.

The table below is all that is imported at first: an agent's module, and torch or Stable-Baselines3 with
it, is loaded when the agent is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hamiltonian_rl.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from hamiltonian_rl.agents.base import Agent

AGENTS: dict[str, tuple[str, str, str]] = {
    "costate": (
        "hamiltonian_rl.agents.costate_agent",
        "CostateAgent",
        "Plans by costates on the control problem behind the environment: the ceiling",
    ),
    "deep-value-iteration": (
        "hamiltonian_rl.agents.deep_value_iteration",
        "DeepValueIteration",
        "A network for V, fitted to Bellman's and the costate equation on the model behind the environment",
    ),
    "dqn": ("hamiltonian_rl.agents.dqn", "DQN", "Deep Q-learning: discrete actions, Box or Discrete observations"),
    "double-q-learning": (
        "hamiltonian_rl.agents.double_q_learning",
        "DoubleQLearning",
        "Double Q-learning in two tables: discrete observations and actions",
    ),
    "expected-sarsa": (
        "hamiltonian_rl.agents.expected_sarsa",
        "ExpectedSarsa",
        "Expected Sarsa in a table: discrete observations and actions",
    ),
    "optimizer": (
        "hamiltonian_rl.agents.optimizer_agent",
        "OptimizerAgent",
        "Adam, RMSprop, SGD, natural gradient or the least action, moving the parameters of an estimation task",
    ),
    "policy-iteration": (
        "hamiltonian_rl.agents.policy_iteration",
        "PolicyIteration",
        "Policy iteration on the environment's own table `P`: the ceiling",
    ),
    "q-learning": (
        "hamiltonian_rl.agents.q_learning",
        "QLearning",
        "Q-learning in a table: discrete observations and actions",
    ),
    "random": ("hamiltonian_rl.agents.random_agent", "RandomAgent", "Uniformly random actions: the floor"),
    "sarsa": ("hamiltonian_rl.agents.sarsa", "Sarsa", "Sarsa in a table: discrete observations and actions"),
    "sb3:a2c": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 A2C: any actions"),
    "sb3:ddpg": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 DDPG: continuous actions"),
    "sb3:dqn": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 DQN: discrete actions"),
    "sb3:ppo": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 PPO: any actions"),
    "sb3:sac": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 SAC: continuous actions"),
    "sb3:td3": ("hamiltonian_rl.agents.sb3", "SB3Agent", "Stable-Baselines3 TD3: continuous actions"),
    "value-iteration": (
        "hamiltonian_rl.agents.value_iteration",
        "ValueIteration",
        "Value iteration on the environment's own table `P`: the ceiling",
    ),
}
_EXPORTS = {
    "Agent": "base",
    "Callback": "callbacks",
    "CostateAgent": "costate_agent",
    "DQN": "dqn",
    "DeepValueIteration": "deep_value_iteration",
    "DoubleQLearning": "double_q_learning",
    "ExpectedSarsa": "expected_sarsa",
    "OptimalityCallback": "optimality_callback",
    "PolicyIteration": "policy_iteration",
    "QLearning": "q_learning",
    "RandomAgent": "random_agent",
    "SB3Agent": "sb3",
    "OptimizerAgent": "optimizer_agent",
    "Sarsa": "sarsa",
    "ValueIteration": "value_iteration",
}


def agent_class(name: str) -> type[Agent]:
    """Return the class of an agent.

    Raises:
        UsageError: There is no such agent; the message names the nearest one.
    """
    if name not in AGENTS:
        raise UsageError(f'There is no agent "{name}". {did_you_mean(name, AGENTS)}')
    module, class_name, _ = AGENTS[name]
    found: type[Agent] = getattr(importlib.import_module(module), class_name)
    return found


def make_agent(name: str, env: Any, **arguments: Any) -> Agent:
    """Make an agent by its name, for instance "dqn" or "sb3:ppo"."""
    kind = agent_class(name)
    if algorithm := name.partition(":")[2]:
        arguments["algorithm"] = algorithm
    return kind(env, **arguments)


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"hamiltonian_rl.agents.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
