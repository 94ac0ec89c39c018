"""Greedy episodes: what an agent is worth, measured apart from its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.envs.making import env_spec, make_env, make_vector_env
from hamiltonian_rl.envs.stepping import Stepper

MAX_COPIES = 20
# An environment without a time limit may let a bad policy run for ever.
STEPS_WITHOUT_LIMIT = 10_000


class Evaluator:
    """Runs greedy episodes in an environment of its own, so that training never notices.

    Args:
        env_id: The environment.
        settings: Its keyword arguments.

    Example:
        >>> from hamiltonian_rl.agents import RandomAgent
        >>> agent = RandomAgent(gym.make("CartPole-v1"))
        >>> Evaluator("CartPole-v1").returns(agent, episodes=3, seed=0).shape
        (3,)
    """

    def __init__(self, env_id: str, settings: Mapping[str, Any] | None = None) -> None:
        self.env_id, self.settings = env_id, dict(settings or {})
        spec = env_spec(env_id)
        self._native = spec.vector_entry_point is not None and not self.settings
        self._limit = spec.max_episode_steps or STEPS_WITHOUT_LIMIT
        self._steppers: dict[int, Stepper] = {}

    def returns(
        self, agent: Agent, *, episodes: int, seed: int, check: Callable[[], None] = lambda: None
    ) -> np.ndarray:
        """Return the undiscounted returns of ``episodes`` greedy episodes.

        The copies of the environment share the episodes out beforehand; taking whatever ends first would
        favour short episodes.

        Args:
            agent: Anything with SB3's `predict`.
            episodes: How many.
            seed: Of the start states: the same seed gives every agent the same starts.
            check: Called before each step; may raise to leave.
        """
        stepper = self._stepper(episodes)
        shares = np.full(stepper.num_envs, episodes // stepper.num_envs)
        shares[: episodes % stepper.num_envs] += 1
        returns: list[list[float]] = [[] for _ in shares]
        running, lengths = np.zeros(stepper.num_envs), np.zeros(stepper.num_envs, int)
        stepper.reset(seed)
        while any(len(done) < share for done, share in zip(returns, shares, strict=True)):
            check()
            actions, _ = agent.predict(stepper.observations, deterministic=True)
            step = stepper.step(actions)
            running += step.rewards * step.valid
            lengths += step.valid
            for index in np.nonzero(step.over | (lengths >= self._limit + 1))[0]:
                if len(returns[index]) < shares[index]:
                    returns[index].append(float(running[index]))
                running[index], lengths[index] = 0.0, 0
        return np.array([value for done in returns for value in done])

    def _stepper(self, episodes: int) -> Stepper:
        copies = episodes if self._native else min(episodes, MAX_COPIES)
        if copies not in self._steppers:
            # Composite observations only pass through single environments.
            single = copies == 1 or not isinstance(self._space(), gym.spaces.Box | gym.spaces.Discrete)
            env = make_env(self.env_id, settings=self.settings) if single else None
            self._steppers[copies] = Stepper(env or make_vector_env(self.env_id, copies, self.settings))
        return self._steppers[copies]

    def _space(self) -> gym.Space:
        env = make_env(self.env_id, settings=self.settings)
        space: gym.Space = env.observation_space
        env.close()
        return space

    def close(self) -> None:
        """Close the environments."""
        for stepper in self._steppers.values():
            stepper.env.close()
        self._steppers.clear()


def mean_and_error(returns: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error (zero for a single episode)."""
    error = float(np.std(returns, ddof=1) / len(returns) ** 0.5) if len(returns) > 1 else 0.0
    return float(np.mean(returns)), error
