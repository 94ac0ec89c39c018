"""Sarsa: Bellman's equation of the policy that acts, solved by samples of it.

``Q(s, a) <- Q(s, a) + α_n (r + γ Q(s', a') - Q(s, a))``, where a' is the action that is then taken. So a' is drawn
before the update, and kept for the next step; where a time limit cuts the episode off, a' is drawn for the target
alone, and the new episode's first action besides. With ``trace_decay = λ > 0`` it is Sarsa(λ), with
replacing or accumulating traces.

Reference:
    Rummery and Niranjan (1994), "On-line Q-learning using connectionist systems"; Sutton and Barto (2018),
    "Reinforcement learning", sections 6.4 and 12.7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.agents.base import Agent
from hamiltonian_rl.agents.optimality import Optimality
from hamiltonian_rl.agents.q_table import QTables, TableSettings, Traces, checked_array
from hamiltonian_rl.agents.settings import setting
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import CheckpointError
from hamiltonian_rl.principles.bellman import bellman_target

if TYPE_CHECKING:
    from hamiltonian_rl.tracking.checkpoint import Tree


@dataclass(frozen=True)
class SarsaSettings(TableSettings):
    """Hyper-parameters of Sarsa."""

    trace_decay: float = setting(0.0, "λ of Sarsa(λ): how far errors reach back (0: one step)", least=0, most=1)
    traces: str = setting("replacing", "what a visit does to its trace: replacing (by 1) or accumulating (adds 1)")


class Sarsa(Agent):
    """Sarsa for Discrete observations and actions.

    Example:
        >>> import gymnasium as gym
        >>> agent = Sarsa(gym.make("CliffWalking-v1"), seed=0, trace_decay=0.9).learn(100)
        >>> agent.num_timesteps
        100
    """

    name = "sarsa"
    Settings = SarsaSettings
    settings: SarsaSettings

    def _build(self) -> None:
        s = self.settings
        self.table = QTables(self.observation_space, self.action_space, s, "Sarsa")
        self.traces = Traces(self.table.shape, s.gamma * s.trace_decay, s.traces)
        self._next_actions: np.ndarray | None = None
        self._optimality = Optimality(s.gamma, self.table.shape)

    def _prepare(self) -> None:
        self.traces.start(self.stepper.num_envs)
        self._next_actions = None

    @property
    def exploration_rate(self) -> float:
        """Share of random actions now."""
        return self.settings.exploration_rate(self.num_timesteps)

    def q_values(self, observations: np.ndarray) -> np.ndarray:
        """Return ``Q(s, ·)``, shape ``(..., A)``."""
        return self.table.q_values(observations)

    def _greedy(self, observations: np.ndarray) -> np.ndarray:
        return self.table.greedy(observations)

    def _explore(self, observations: np.ndarray) -> np.ndarray:
        if self._next_actions is None:
            self._next_actions = self._draw(observations)
        return self._next_actions

    def _draw(self, observations: np.ndarray) -> np.ndarray:
        return self.table.epsilon_greedy(observations, self.exploration_rate, self._rng)

    def _sample(self, observations: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self.table.epsilon_greedy(observations, self.exploration_rate, generator)

    def _learn_from(self, step: Transitions) -> None:
        q = self.table.values[0]
        actions = self._draw(step.next_observations)
        # Where an episode is over, what is acted on next is not the successor but a new start.
        over = step.over
        self._next_actions = np.where(over, self._draw(self.stepper.observations), actions) if over.any() else actions
        for sample in self.table.samples(step, self.settings.gamma):
            next_value = q[sample.successor, actions[sample.env] - self.table.first_action]
            target = bellman_target(sample.reward, sample.discount, next_value)
            error = float(target - q[sample.state, sample.action])
            self.table.move(sample.state, sample.action, error=error, trace=self.traces.visit(sample))
            self.traces.end(sample)

    def _log(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        q = self.table.values[0]
        self._optimality.record(self.logger, self.env, q.max(axis=1), q.argmax(axis=1))

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the table, shape ``(1, S, A)``."""
        return [self.table.values]

    def _own_state(self) -> Tree:
        return {**self.table.state(), "traces": self.traces.weights, "next_actions": self._next_actions}

    def _set_own_state(self, tree: Any) -> None:
        self.table.set_state(tree)
        self.traces.set_state(tree["traces"], self._episodes.n_envs)
        self._next_actions = tree["next_actions"]
        if self._next_actions is not None:
            checked_array(self._next_actions, "next_actions", (self._episodes.n_envs,), np.int64)
            if not all(map(self.action_space.contains, self._next_actions)):
                raise CheckpointError(f"The saved next actions are not of {self.action_space}. Use another file.")
