"""Greedy episodes: what an agent is worth, measured apart from its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.envs.making import close_env, env_spec, make_env, make_vector_env
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import EnvironmentContractError

MAX_COPIES, MAX_NATIVE_COPIES = 20, 1000
# An environment without a time limit may let a bad policy run for ever.
STEPS_WITHOUT_LIMIT = 10_000


class Episodes(NamedTuple):
    """Greedy episodes.

    Attributes:
        returns: Undiscounted, shape ``(n,)``.
        starts: Their first observations, in the same order, shape ``(n, ...)``; empty where observations are composite.
        n_cut: How many were cut because the environment has no time limit.
    """

    returns: np.ndarray
    starts: np.ndarray
    n_cut: int


def greedy_episodes(
    stepper: Stepper,
    agent: Any,
    episodes: int,
    seed: int,
    *,
    limit: int | None,
    before_step: Callable[[int], None] = lambda finished: None,
) -> Episodes:
    """Run greedy episodes in an environment.

    The copies of the environment share the episodes out beforehand; taking whatever ends first would favour short
    episodes.

    Args:
        stepper: Of the environment, or of a vector.
        agent: Anything with SB3's `predict`.
        episodes: How many.
        seed: Of the start states: the same seed gives every agent the same starts.
        limit: The environment's limit of steps; where it has none, an episode is cut after 10,000.
        before_step: Called before each step with the number of finished episodes; may raise to leave.

    Example:
        >>> from hamiltonian_rl.agents import RandomAgent
        >>> env = gym.make("CartPole-v1")
        >>> found = greedy_episodes(Stepper(env), RandomAgent(env), 3, seed=0, limit=500)
        >>> found.returns.shape, found.starts.shape
        ((3,), (3, 4))
    """
    shares = np.full(stepper.num_envs, episodes // stepper.num_envs)
    shares[: episodes % stepper.num_envs] += 1
    returns: list[list[float]] = [[] for _ in shares]
    starts: list[list[Any]] = [[] for _ in shares]
    running, lengths, n_cut = np.zeros(stepper.num_envs), np.zeros(stepper.num_envs, int), 0
    stepper.reset(seed)
    composite = isinstance(stepper.observations, dict)
    first = np.zeros((stepper.num_envs, 0)) if composite else stepper.observations.copy()
    starting = np.ones(stepper.num_envs, bool)
    while (finished := sum(map(len, returns))) < episodes:
        before_step(finished)
        actions, _ = agent.predict(stepper.observations, episode_start=starting, deterministic=True)
        step = stepper.step(actions)
        starting = step.over | ~step.valid
        running += step.rewards * step.valid
        lengths += step.valid
        # A native vector need not keep the limit; where there is none, ours is not the environment's end.
        cut = (lengths >= (limit or STEPS_WITHOUT_LIMIT)) & ~step.terminated & ((limit is None) | ~step.truncated)
        for index in np.nonzero(step.over | cut)[0]:
            if len(returns[index]) < shares[index]:
                returns[index].append(float(running[index]))
                starts[index].append(first[index].copy())
                n_cut += int(limit is None and cut[index])
            running[index], lengths[index] = 0.0, 0
        if not composite:
            begun = starting | cut
            first[begun] = stepper.observations[begun]
    return Episodes(
        np.array([value for done in returns for value in done]),
        np.array([value for done in starts for value in done]),
        n_cut,
    )


class Evaluator:
    """Runs greedy episodes in an environment of its own, so that training never notices.

    Attributes:
        starts: First observations of the last `returns`, in their order; empty where observations are composite.
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
        limit = self.settings.get("max_episode_steps", spec.max_episode_steps)
        self._limit: int | None = limit if limit is not None and limit > 0 else None  # -1 is Gymnasium's "none"
        if self._limit is None and not self._native:
            self.settings["max_episode_steps"] = STEPS_WITHOUT_LIMIT
        self._steppers: dict[int, Stepper] = {}
        self.starts, self.n_cut = np.zeros((0, 0)), 0

    def returns(
        self, agent: Agent, *, episodes: int, seed: int, before_step: Callable[[int], None] = lambda finished: None
    ) -> np.ndarray:
        """Return the undiscounted returns of greedy episodes; ``starts`` and ``n_cut`` tell of them too.

        Args:
            agent: Anything with SB3's `predict`.
            episodes: How many.
            seed: Of the start states: the same seed gives every agent the same starts.
            before_step: Called before each step with the number of finished episodes; may raise to leave.
        """
        found = self.run(agent, episodes=episodes, seed=seed, before_step=before_step)
        self.starts, self.n_cut = found.starts, found.n_cut
        return found.returns

    def run(self, agent: Any, **arguments: Any) -> Episodes:
        """Run greedy episodes; takes the arguments of `returns`."""
        return greedy_episodes(self._stepper(arguments["episodes"]), agent, limit=self._limit, **arguments)

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
