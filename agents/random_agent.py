"""The floor under every comparison: uniformly random actions."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent


@dataclass(frozen=True)
class RandomSettings:
    """A random agent has nothing to set."""


class RandomAgent(Agent):
    """Draws every action from the action space, in learning and in evaluation alike.

    Example:
        >>> agent = RandomAgent(gym.make("CartPole-v1"), seed=0)
        >>> agent.predict(np.zeros(4))[0] in (0, 1)
        True
    """

    name = "random"
    Settings = RandomSettings

    def _build(self) -> None:
        self._space = self.action_space

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        return self._sample(observations, self._rng)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self._sample(observations, self._predict_rng)

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        space = self._space
        if isinstance(space, gym.spaces.Discrete):
            return generator.integers(space.start, space.start + space.n, len(observations))
        space.seed(int(generator.integers(2**31)))
        return np.stack([np.asarray(space.sample()) for _ in observations])
