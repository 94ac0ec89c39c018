"""The floor under every comparison: uniformly random actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self._sample(observations, self._predict_rng)

    def _sample(self, observations: Any, generator: np.random.Generator) -> np.ndarray:
        space, count = self._space, self._shape(observations)[0]
        if isinstance(space, gym.spaces.Discrete):
            return generator.integers(space.start, space.start + space.n, count)
        space.seed(int(generator.integers(2**31)))
        return np.stack([np.asarray(space.sample()) for _ in range(count)])

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Return random actions, as many as there are observations; these may also be dicts of arrays."""
        own = self._space_shape()
        if self._shape(observation) == own:
            return self._sample(np.zeros((1, *own)), self._predict_rng)[0], state
        return self._sample(observation, self._predict_rng), state

    @staticmethod
    def _shape(observation: Any) -> tuple[int, ...]:
        """Return the shape of an observation, of its first part where it has parts."""
        while isinstance(observation, dict):
            observation = observation[next(iter(observation))]
        return np.shape(observation)

    def _space_shape(self) -> tuple[int, ...]:
        space: Any = self.observation_space
        while isinstance(space, gym.spaces.Dict):
            space = space[next(iter(space))]
        return space.shape or ()
