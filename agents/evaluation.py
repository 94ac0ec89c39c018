"""Greedy episodes: what an agent is worth, measured apart from its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.envs.making import close_env, env_spec, make_env, make_vector_env
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import EnvironmentContractError

MAX_COPIES, MAX_NATIVE_COPIES = 20, 1000
# An environment without a time limit may let a bad policy run for ever.
STEPS_WITHOUT_LIMIT = 10_000


class Evaluator:
    """Runs greedy episodes in an environment of its own, so that training never notices.

    Attributes:
        n_cut: Episodes of the last `returns` that were cut at 10,000 steps, for the environment has no
            time limit: their returns lack what would have come.

    Args:
        env_id: The environment.
        settings: Its keyword arguments.
        render_mode: As for `gymnasium.make`; the episodes then run one after the other.

    Example:
        >>> from hamiltonian_rl.agents import RandomAgent
        >>> agent = RandomAgent(gym.make("CartPole-v1"))
        >>> Evaluator("CartPole-v1").returns(agent, episodes=3, seed=0).shape
        (3,)
    """

    def __init__(
        self, env_id: str, settings: Mapping[str, Any] | None = None, *, render_mode: str | None = None
    ) -> None:
        self.env_id, self.settings, self.render_mode = env_id, dict(settings or {}), render_mode
        spec = env_spec(env_id)
        self._native = spec.vector_entry_point is not None and not self.settings and render_mode is None
        self._limit = spec.max_episode_steps or STEPS_WITHOUT_LIMIT
        self._endless = spec.max_episode_steps is None and "max_episode_steps" not in self.settings
        if self._endless and not self._native:
            self.settings["max_episode_steps"] = STEPS_WITHOUT_LIMIT
        self._steppers: dict[int, Stepper] = {}
        self.n_cut = 0

    def returns(
        self, agent: Agent, *, episodes: int, seed: int, before_step: Callable[[int], None] = lambda finished: None
    ) -> np.ndarray:
        """Return the undiscounted returns of ``episodes`` greedy episodes.

        The copies of the environment share the episodes out beforehand; taking whatever ends first would
        favour short episodes.

        Args:
            agent: Anything with SB3's `predict`.
            episodes: How many.
            seed: Of the start states: the same seed gives every agent the same starts.
            before_step: Called before each step with the number of finished episodes; may raise to leave.
        """
        stepper = self._stepper(episodes)
        shares = np.full(stepper.num_envs, episodes // stepper.num_envs)
        shares[: episodes % stepper.num_envs] += 1
        returns: list[list[float]] = [[] for _ in shares]
        running, lengths = np.zeros(stepper.num_envs), np.zeros(stepper.num_envs, int)
        stepper.reset(seed)
        self.n_cut = 0
        starting = np.ones(stepper.num_envs, bool)
        while (finished := sum(map(len, returns))) < episodes:
            before_step(finished)
            actions, _ = agent.predict(stepper.observations, episode_start=starting, deterministic=True)
            step = stepper.step(actions)
            starting = step.over | ~step.valid
            running += step.rewards * step.valid
            lengths += step.valid
            # A native vector need not keep the limit; where there is none, ours is not the environment's end.
            cut = (lengths >= self._limit) & ~step.terminated & (self._endless | ~step.truncated)
            for index in np.nonzero(step.over | cut)[0]:
                if len(returns[index]) < shares[index]:
                    returns[index].append(float(running[index]))
                    self.n_cut += int(cut[index])
                running[index], lengths[index] = 0.0, 0
        return np.array([value for done in returns for value in done])

    def _stepper(self, episodes: int) -> Stepper:
        most = MAX_NATIVE_COPIES if self._native else MAX_COPIES if self.render_mode is None else 1
        copies = min(episodes, most)
        if copies not in self._steppers:
            # Composite observations only pass through single environments.
            single = copies == 1 or not isinstance(self._space(), gym.spaces.Box | gym.spaces.Discrete)
            env = make_env(self.env_id, self.render_mode, self.settings) if single else None
            self._steppers[copies] = Stepper(env or make_vector_env(self.env_id, copies, self.settings))
        return self._steppers[copies]

    def _space(self) -> gym.Space:
        env = make_env(self.env_id, settings=self.settings)
        space: gym.Space = env.observation_space
        close_env(env)
        return space

    @property
    def frames_per_second(self) -> int:
        """How fast a film of the environment should run; 30 where it does not say."""
        env = make_env(self.env_id, self.render_mode, self.settings)
        close_env(env)
        fps = env.metadata.get("render_fps")
        return fps if isinstance(fps, int) and fps > 0 else 30

    def render(self) -> Any:
        """Return what the environment shows now, in the given ``render_mode``."""
        try:
            return self._steppers[1].env.render()
        except (Exception, SystemExit) as error:
            raise EnvironmentContractError(f"{self.env_id}.render() raised {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the environments."""
        for stepper in self._steppers.values():
            close_env(stepper.env)
        self._steppers.clear()


def mean_and_error(returns: np.ndarray) -> tuple[float, float]:
    """Return the mean and its standard error (zero for a single episode)."""
    error = float(np.std(returns, ddof=1) / len(returns) ** 0.5) if len(returns) > 1 else 0.0
    return float(np.mean(returns)), error
