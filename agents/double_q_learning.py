"""Double Q-learning: two tables, of which one chooses the next action and the other judges it.

The maximum over noisy estimates is biased upwards: ``E[max_a Q] >= max_a E[Q]``. At each step a fair coin picks the
table to correct, ``Q_1(s, a) <- Q_1(s, a) + α_n (r + γ Q_2(s', argmax_a' Q_1(s', a')) - Q_1(s, a))``, or the same with
1 and 2 exchanged; the agent acts by their mean.

Reference:
    van Hasselt (2010), "Double Q-learning"; Sutton and Barto (2018), "Reinforcement learning", section 6.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.optimality import Optimality
from hamiltonian_rl.agents.q_table import QTables, TableSettings
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.principles.bellman import bellman_target, double_q_value

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


class DoubleQLearning(Agent):
    """Double Q-learning for Discrete observations and actions.

    Example:
        >>> import gymnasium as gym
        >>> agent = DoubleQLearning(gym.make("CliffWalking-v1"), seed=0).learn(100)
        >>> agent.table.values.shape
        (2, 48, 4)
    """

    name = "double-q-learning"
    Settings = TableSettings
    settings: TableSettings

    def _build(self) -> None:
        self.table = QTables(self.observation_space, self.action_space, self.settings, "DoubleQLearning", n_tables=2)
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
        coins = self._rng.integers(0, 2, len(step.valid))
        for sample in self.table.samples(step, self.settings.gamma):
            table = int(coins[sample.env])
            mine, other = self.table.values[table], self.table.values[1 - table]
            next_value = double_q_value(mine[sample.successor], other[sample.successor])
            target = bellman_target(sample.reward, sample.discount, next_value)
            error = float(target - mine[sample.state, sample.action])
            self.table.move(sample.state, sample.action, error=error, table=table)

    def _log(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        q = self.table.values.mean(axis=0)
        self._optimality.record(self.logger, self.env, q.max(axis=1), q.argmax(axis=1))

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return both tables, shape ``(2, S, A)``."""
        return [self.table.values]

    def _own_state(self) -> Tree:
        return self.table.state()

    def _set_own_state(self, tree: Any) -> None:
        self.table.set_state(tree)
