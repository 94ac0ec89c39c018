"""Any control problem as a Gymnasium vector environment: all copies in one call of the problem's functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from hamiltonian_rl.envs.control_batch import ControlBatch
from hamiltonian_rl.envs.integration import checked_horizon
from hamiltonian_rl.problems import ControlProblem


class ControlVectorEnv(VectorEnv[np.ndarray, Any, np.ndarray]):
    """Copies of `ControlEnv` that step together and start anew in the step that ends an episode.

    The last observation of an episode is in ``infos["final_obs"]``, where ``infos["_final_obs"]`` is true.

    Args:
        problem: The problem, or its id.
        num_envs: Number of copies.
        max_episode_steps: Episodes are truncated here at the latest; before the problem's own horizon there is
            no terminal reward, for the problem goes on.
        penalty: As for `ControlEnv`.
        action_limit: As for `ControlEnv`.
        parameters: As for `ControlEnv`.

    Example:
        >>> env = ControlVectorEnv("hrl/Quadrotor-v0", num_envs=3)
        >>> env.reset(seed=0)[0].shape
        (3, 6)
    """

    def __init__(
        self,
        problem: ControlProblem | str,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        *,
        penalty: float = 100.0,
        action_limit: float = 20.0,
        **parameters: Any,
    ) -> None:
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self._batch = ControlBatch(problem, num_envs, penalty=penalty, action_limit=action_limit, parameters=parameters)
        self.problem, self.num_envs = self._batch.problem, num_envs
        self.max_episode_steps = None if max_episode_steps is None else checked_horizon(max_episode_steps)
        self.single_observation_space, self.single_action_space = (
            self._batch.observation_space,
            self._batch.action_space,
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def states(self) -> np.ndarray:
        """The states, shape ``(num_envs, n)``, float64."""
        return self._batch.states

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start all episodes: at ``options["state"]``, one for all or one each, or at states drawn by the problem."""
        super().reset(seed=seed)
        self._batch.begin(np.ones(self.num_envs, bool), self.np_random, options)
        return self._batch.observations(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take a step in each episode; those that it ends are followed by new ones."""
        outcome = self._batch.advance(actions)
        truncated = outcome.truncated
        if self.max_episode_steps is not None:
            truncated = truncated | (self._batch.steps >= self.max_episode_steps) & ~outcome.terminated
        infos: dict[str, Any] = {"constraint_violation": outcome.violations} if self._batch.constrained else {}
        observations = self._batch.observations()
        over = outcome.terminated | truncated
        if over.any():
            infos |= {"final_obs": observations, "_final_obs": over}
            self._batch.begin(over, self.np_random)
            observations = self._batch.observations()
        return observations, outcome.rewards, outcome.terminated, truncated, infos
