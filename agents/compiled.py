"""Q-learning against an environment's own table, as one compiled loop: the same process, without its Python.

Notation: row ``s A + a`` of the table lists the outcomes of action a in state s: ``first (S A + 1,)`` where rows begin,
``cumulative (O,)`` probabilities summed up within a row, ``z, r, over (O,)`` successors, rewards, ends.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numba
import numpy as np

from hamiltonian_rl.agents.q_table import TableSettings
from hamiltonian_rl.envs.behind import table_model
from hamiltonian_rl.errors import TrainingError, UsageError

DRAWS = 4  # uniform numbers a step: explore or not, which action, which outcome, which start of the next episode
CHUNK = 1_000  # steps between two looks at callbacks


class TableSampler:
    """Samples the steps of an environment from its table ``P``, time limit included.

    Args:
        env: A Gymnasium environment with a table, without wrappers that change it.
        shape: ``(S, A)`` of the agent's spaces.

    Raises:
        UsageError: There is no such table.

    Example:
        >>> sampler = TableSampler(gym.make("FrozenLake-v1"), (16, 4))
        >>> sampler.limit, len(sampler.rewards)  # in 11 states 3 outcomes of 4 actions, in 5 terminal ones one
        (100, 152)
    """

    def __init__(self, env: Any, shape: tuple[int, int]) -> None:
        if not isinstance(env, gym.Env):
            raise UsageError("compiled=True samples one environment's table; give one environment, not a vector.")
        table_model(env, 0.9, shape)  # checks the table, and that no wrapper changes it
        table: Any = env.unwrapped.P  # type: ignore[attr-defined]
        rows = [table[state][action] for state in range(shape[0]) for action in range(shape[1])]
        outcomes = [outcome for row in rows for outcome in row]
        self.first = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        self.cumulative = np.concatenate([np.cumsum([float(outcome[0]) for outcome in row]) for row in rows])
        self.successors = np.array([int(outcome[1]) for outcome in outcomes])
        self.rewards = np.array([float(outcome[2]) for outcome in outcomes])
        self.over = np.array([bool(outcome[3]) for outcome in outcomes])
        self.starts = np.cumsum(env.unwrapped.initial_state_distrib)  # type: ignore[attr-defined]
        limit = env.spec.max_episode_steps if env.spec is not None else None
        self.limit = limit or np.iinfo(np.int64).max

    def learn(
        self,
        q: np.ndarray,
        visits: np.ndarray,
        settings: TableSettings,
        rates: np.ndarray,
        episode: np.ndarray,
        generator: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take steps of Q-learning, in place; return the returns and lengths of the episodes that ended.

        Args:
            q: ``Q``, shape ``(S, A)``.
            visits: ``n``, shape ``(S, A)``.
            settings: Discount and step sizes.
            rates: Share of random actions in each step, shape ``(T,)``.
            episode: State (-1 for a new episode), steps so far and return so far, shape ``(3,)``; changed.
            generator: Source of ``(T, 4)`` uniform numbers, and one more for a first state.

        Raises:
            TrainingError: A value is no longer finite.
        """
        if episode[0] < 0:
            episode[:] = min(np.searchsorted(self.starts, generator.random(), side="right"), len(q) - 1), 0, 0
        draws = generator.random((len(rates), DRAWS))
        returns, lengths = np.empty(len(rates)), np.empty(len(rates), np.int64)
        numbers = float(settings.gamma), float(settings.step_size), float(settings.count_exponent)
        table = self.first, self.cumulative, self.successors, self.rewards, self.over, self.starts
        ended = _q_learning(*table, self.limit, q, visits, *numbers, rates, draws, episode, returns, lengths)
        if not np.isfinite(q).all():
            raise TrainingError("Learning diverged: a value is not finite. Lower step_size or scale the rewards down.")
        return returns[:ended], lengths[:ended]


@numba.njit(cache=True)
def _q_learning(  # type: ignore[no-untyped-def]
    first, cumulative, z, r, over, starts, limit, q, n, g, step_size, exponent, rates, draws, episode, returns, lengths
):
    """Take ``len(rates)`` steps; ``q, n (S, A)`` values and visits, ``g`` discount; return how many episodes ended."""
    n_actions, ended = q.shape[1], 0
    s, length, total = int(episode[0]), int(episode[1]), episode[2]
    for t in range(len(rates)):
        a = min(int(draws[t, 1] * n_actions), n_actions - 1) if draws[t, 0] < rates[t] else q[s].argmax()
        o, last = first[s * n_actions + a], first[s * n_actions + a + 1] - 1
        while o < last and cumulative[o] <= draws[t, 2]:
            o += 1
        n[s, a] += 1
        step = step_size if exponent == 0.0 else step_size * float(n[s, a]) ** -exponent
        q[s, a] += step * (r[o] + (0.0 if over[o] else g * q[z[o]].max()) - q[s, a])
        s, length, total = z[o], length + 1, total + r[o]
        if over[o] or length >= limit:
            returns[ended], lengths[ended] = total, length
            ended += 1
            s = min(np.searchsorted(starts, draws[t, 3], side="right"), len(starts) - 1)
            length, total = 0, 0.0
    episode[0], episode[1], episode[2] = s, length, total
    return ended
