"""Q-learning: Bellman's optimality equation (Eq. 19) solved by samples, in a table.

After each step, ``Q(s, a) <- Q(s, a) + α_n (r + γ max_a' Q(s', a') - Q(s, a))``: whatever the behaviour, as long
as it tries everything for ever, this converges to ``Q*`` (with step sizes α_n whose sum diverges and whose squares'
sum does not). With ``trace_decay = λ > 0`` an error also corrects what led there, back to the last action that was
not greedy: Watkins's Q(λ).

Reference:
    Watkins and Dayan (1992), "Q-learning"; Sutton and Barto (2018), "Reinforcement learning", sections 6.5, 12.10.
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
from hamiltonian_rl.errors import CheckpointError, UsageError
from hamiltonian_rl.principles.bellman import bellman_target, greedy_value

if TYPE_CHECKING:
    from hamiltonian_rl.agents.compiled import TableSampler
    from hamiltonian_rl.tracking.checkpoint import Tree

NEW_EPISODE = np.array([-1.0, 0.0, 0.0])  # of the compiled loop: state (none yet), steps, return


@dataclass(frozen=True)
class QLearningSettings(TableSettings):
    """Hyper-parameters of Q-learning."""

    trace_decay: float = setting(0.0, "λ of Watkins's Q(λ): how far errors reach back (0: one step)", least=0, most=1)
    traces: str = setting("replacing", "what a visit does to its trace: replacing (by 1) or accumulating (adds 1)")
    compiled: bool = setting(False, "sample the environment's table in compiled code, callbacks each 1,000 steps")


class QLearning(Agent):
    """Q-learning for Discrete observations and actions.

    Example:
        >>> import gymnasium as gym
        >>> agent = QLearning(gym.make("CliffWalking-v1"), seed=0, step_size=0.5).learn(5_000)
        >>> int(agent.predict(np.array(36), deterministic=True)[0])  # from the start, up
        0
    """

    name = "q-learning"
    Settings = QLearningSettings
    settings: QLearningSettings

    def _build(self) -> None:
        s = self.settings
        self.table = QTables(self.observation_space, self.action_space, s, "QLearning")
        self.traces = Traces(self.table.shape, s.gamma * s.trace_decay, s.traces)
        self._optimality = Optimality(s.gamma, self.table.shape)
        if s.compiled and s.trace_decay:
            raise UsageError(f"compiled=True has no traces; got trace_decay = {s.trace_decay:g}. Leave out either.")
        self._sampler: tuple[Any, TableSampler] | None = None  # the environment that it was made of, and it
        self._episode = NEW_EPISODE.copy()

    def _prepare(self) -> None:
        self.traces.start(self.stepper.num_envs)
        self._episode[:] = NEW_EPISODE

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
            value = q[sample.state, sample.action]
            # What followed an action that is not greedy says nothing of the greedy policy before it.
            trace = self.traces.visit(sample, keep=bool(value == q[sample.state].max()))
            target = bellman_target(sample.reward, sample.discount, greedy_value(q[sample.successor]))
            self.table.move(sample.state, sample.action, error=float(target - value), trace=trace)
            self.traces.end(sample)

    def _take_step(self) -> tuple[int, dict[str, Any]]:
        s = self.settings
        if not s.compiled:
            return super()._take_step()
        from hamiltonian_rl.agents.compiled import CHUNK, TableSampler  # numba takes a moment to import

        if self._sampler is None or self._sampler[0] is not self.env:
            self._sampler = self.env, TableSampler(self.env, self.table.shape)
        count = min(CHUNK, self._total_timesteps - self.num_timesteps)
        rates = np.array([s.exploration_rate(self.num_timesteps + step) for step in range(count)])
        tables = self.table.values[0], self.table.visits[0]
        finished = self._episodes.add(*self._sampler[1].learn(*tables, s, rates, self._episode, self._rng))
        self.num_timesteps += count
        return finished, {"dones": np.array([finished > 0]), "infos": [{}]}

    def _log(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        q = self.table.values[0]
        self._optimality.record(self.logger, self.env, q.max(axis=1), q.argmax(axis=1))

    def parameter_arrays(self) -> list[np.ndarray]:
        """Return the table, shape ``(1, S, A)``."""
        return [self.table.values]

    def _own_state(self) -> Tree:
        return {**self.table.state(), "traces": self.traces.weights, "episode": self._episode}

    def _set_own_state(self, tree: Any) -> None:
        self.table.set_state(tree)
        self.traces.set_state(tree["traces"], self._episodes.n_envs)
        self._episode[:] = checked_array(tree["episode"], "episode", (3,), np.float64)
        if not (self._episode[0] < self.table.shape[0] and self._episode[0] == int(self._episode[0])):
            raise CheckpointError("The saved episode is in no state of the table. Use another file.")
