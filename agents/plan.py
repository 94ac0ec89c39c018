"""What the planning agents share: an optimal value and policy, from the environment's own table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.agents.optimality import Optimality
from hamiltonian_rl.agents.q_table import checked_array, table_shape
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.envs.behind import table_model
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.tracking.logger import Logger


@dataclass(frozen=True)
class PlanSettings:
    """What a planning agent is asked for: the optimum without a time limit, for without one it is one policy."""

    gamma: float = setting(0.99, "discount", least=0, most=0.999999)
    tol: float = setting(1e-6, "largest loss from any state, certified", above=0)


class Plan:
    """A value and a policy for every state, made for one environment.

    Args:
        observations: The agent's observation space.
        actions: Its action space.
        settings: ``gamma`` and ``tol``.
        solver: From `hamiltonian_rl.solvers`.
        owner: Name of the agent's class, for messages.
    """

    def __init__(
        self,
        observations: gym.Space,
        actions: gym.Space,
        settings: PlanSettings,
        solver: Callable[..., Solution],
        owner: str,
    ) -> None:
        self.shape = table_shape(observations, actions, owner)
        self._starts = int(observations.start), int(actions.start)  # type: ignore[attr-defined]
        self._settings, self._solver = settings, solver
        self._env: Any = None
        self.value, self.policy = np.zeros(self.shape[0]), np.zeros(self.shape[0], np.int32)
        self.optimality = Optimality(settings.gamma, self.shape)

    def make(self, env: Any) -> None:
        """Plan for an environment, unless that is done.

        Raises:
            UsageError: It tells no table.
            SolverError: ``tol`` is beyond what double precision can certify.
        """
        if env is None or env is self._env:
            return
        mdp: MDP = table_model(env, self._settings.gamma, self.shape)
        solution = self._solver(mdp, tol=self._settings.tol).unwrap()
        self.value, self.policy, self._env = solution.value, solution.policy, env

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Return the planned actions, shape ``(n,)``."""
        states = np.asarray(observations)
        if states.dtype.kind not in "iu" or not ((states >= self._starts[0]) & (states < self._end)).all():
            raise UsageError(
                f"The observation {observations!r} is no whole number from {self._starts[0]} to {self._end - 1}."
            )
        chosen: np.ndarray = self.policy[states - self._starts[0]] + self._starts[1]
        return chosen

    @property
    def _end(self) -> int:
        return self._starts[0] + self.shape[0]

    def record(self, logger: Logger, env: Any) -> None:
        """Record how far the plan is from the optimum."""
        self.optimality.record(logger, env, self.value, self.policy)

    def state(self) -> dict[str, np.ndarray]:
        """Return the plan, for a checkpoint."""
        return {"value": self.value, "policy": self.policy}

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned.

        Raises:
            CheckpointError: An array is not what was saved.
        """
        self.value = checked_array(tree["value"], "value", self.value.shape, self.value.dtype)
        self.policy = checked_array(tree["policy"], "policy", self.policy.shape, self.policy.dtype)
        if not ((self.policy >= 0) & (self.policy < self.shape[1])).all():
            raise CheckpointError(f"The saved policy names actions beyond {self.shape[1]}. Use another file.")
        self._env = None  # in another environment a new episode begins with a new plan
