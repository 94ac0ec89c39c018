"""Expected Sarsa: Bellman's equation of the policy that acts, its next action averaged instead of sampled.

``Q(s, a) <- Q(s, a) + α_n (r + γ Σ_a' π(a' | s') Q(s', a') - Q(s, a))`` with the ε-greedy π of the next step. The same
fixed point as Sarsa's, without the noise of the next action; with ε = 0 it is Q-learning.

Reference:
    van Seijen et al. (2009), "A theoretical and empirical analysis of Expected Sarsa"; Sutton and Barto (2018),
    "Reinforcement learning", section 6.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.optimality import Optimality
from hamiltonian_rl.agents.q_table import QTables, TableSettings
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.principles.bellman import bellman_target, epsilon_greedy_value

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


class ExpectedSarsa(Agent):
    """Expected Sarsa for Discrete observations and actions.

    Example:
        >>> import gymnasium as gym
        >>> agent = ExpectedSarsa(gym.make("CliffWalking-v1"), seed=0, step_size=1.0).learn(100)
        >>> agent.num_timesteps
        100
    """

    name = "expected-sarsa"
    Settings = TableSettings
    settings: TableSettings

    def _build(self) -> None:
        self.table = QTables(self.observation_space, self.action_space, self.settings, "ExpectedSarsa")
        self._optimality = Optimality(self.settings.gamma, self.table.shape)

    @property
    def exploration_rate(self) -> float:
        """Share of random actions now."""
        return self.settings.exploration_rate(self.num_timesteps)

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Return ``Q(s, ·)``, shape ``(..., A)``."""
        return self.table.q_values(observations)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self.table.greedy(observations)

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self.table.epsilon_greedy(observations, self.exploration_rate, generator)

    def _learn_from(self, step: Transitions) -> None:
        q = self.table.values[0]
        for sample in self.table.samples(step, self.settings.gamma):
            # The steps are counted already: this is the rate that the next action will be drawn with.
            next_value = epsilon_greedy_value(q[sample.successor], self.exploration_rate)
            target = bellman_target(sample.reward, sample.discount, next_value)
            error = float(target - q[sample.state, sample.action])
            self.table.move(sample.state, sample.action, error=error)

    def _log(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        q = self.table.values[0]
        self._optimality.record(self.logger, self.env, q.max(axis=1), q.argmax(axis=1))

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the table, shape ``(1, S, A)``."""
        return [self.table.values]

    def _own_state(self) -> Tree:
        return self.table.state()

    def _set_own_state(self, tree: Any) -> None:
        self.table.set_state(tree)
