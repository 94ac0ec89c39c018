"""Reinforcement learning where every learned answer stands beside its computed truth.

Importing this package imports nothing heavy; agents and environments are loaded when they are named.

Example:
    >>> import gymnasium as gym
    >>> from hamiltonian_rl.agents import DQN
    >>> DQN(gym.make("CartPole-v1"), seed=0).learn(100).num_timesteps
    100
"""

__version__ = "0.1.0"
