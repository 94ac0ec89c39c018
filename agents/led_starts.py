"""Paths to begin with: an action is kept for a while, then the greedy ones of a rough value follow.

A rough value knows roughly how many swings it takes; what it takes for the second best at first is tried (a rollout
algorithm; Bertsekas 2017, "Dynamic programming and optimal control", section 6.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

HOLD = 3  # steps that an action is kept at least


@dataclass(frozen=True)
class LedStarts:
    """Leads paths by a value, an action being kept for `HOLD` steps.

    Args:
        ahead: Takes states ``(B, n)``; returns where each of k actions leads ``(B k, n)``, and what it pays ``(B, k)``.
        value: Of states ``(B, n)``, shape ``(B,)``.
        actions: That are compared, ``(k, m)``.
        decay: Of rewards in one hold, ``γ^HOLD``.
        ends: Whether what a path's last state is worth counts where paths are compared.
    """

    ahead: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    value: Callable[[np.ndarray], np.ndarray]
    actions: np.ndarray
    decay: float = 1.0
    ends: bool = False

    def greedy(self, states: np.ndarray, steps: int) -> np.ndarray:
        """Return the actions of the greedy path from each state, ``(B, steps, m)``."""
        nothing = np.zeros(len(states), np.int64)
        return self.led(states, steps, nothing, nothing)[0]

    def best(self, states: np.ndarray, steps: int, holds: np.ndarray) -> np.ndarray:
        """Return the actions of the best path of those that are greedy after one action has been kept for a while.

        Args:
            states: ``(B, n)``.
            steps: Of the paths.
            holds: For how many holds it is kept; every action is tried with each.

        Returns:
            ``(B, steps, m)``.
        """
        actions, paid = self._ways(states, steps, holds)
        return np.asarray(actions[np.arange(len(states)), paid.argmax(1)])

    def best_of_each(self, states: np.ndarray, steps: int, holds: np.ndarray) -> list[np.ndarray]:
        """Return for each first action what `best` returns of the paths that begin with it."""
        actions, paid = self._ways(states, steps, holds)
        begins = [np.where((actions[:, :, 0] == one).all(-1), paid, -np.inf) for one in self.actions]
        return [np.asarray(actions[np.arange(len(states)), some.argmax(1)]) for some in begins]

    def all(self, states: np.ndarray, steps: int, holds: np.ndarray) -> list[np.ndarray]:
        """Return the actions of all paths that `best` compares, each ``(B, steps, m)``."""
        return list(self._ways(states, steps, holds)[0].swapaxes(0, 1))

    def switched(self, states: np.ndarray, steps: int, most: int) -> list[np.ndarray]:
        """Return up to ``most`` paths' actions, each ``(B, steps, m)``: one action at first, another to the end.

        They are of all but the first action, and the value is not asked: at a cliff of it, a path that just fails to
        climb looks bad until it is polished.
        """
        holds, others = -(-steps // HOLD), range(1, len(self.actions))
        ways = [[i] * held + [j] * (holds - held) for held in range(1, holds) for i in others for j in others if i != j]
        taken = [np.repeat(self.actions[way], HOLD, 0)[:steps] for way in ways[:: max(1, -(-len(ways) // most))]]
        return [np.broadcast_to(one, (len(states), *one.shape)) for one in taken]

    def _ways(self, states: np.ndarray, steps: int, holds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the actions of all paths ``(B, ways, steps, m)``, and what they are worth ``(B, ways)``."""
        first = np.concatenate([[0], np.tile(np.arange(len(self.actions)), len(holds))])
        held = np.concatenate([[0], np.repeat(holds, len(self.actions))])
        rows, ways = len(states), len(first)
        actions, paid = self.led(np.repeat(states, ways, 0), steps, np.tile(first, rows), np.tile(held, rows))
        return actions.reshape(rows, ways, *actions.shape[1:]), np.where(np.isfinite(paid), paid, -np.inf).reshape(
            rows, ways
        )

    def led(self, states: np.ndarray, steps: int, first: np.ndarray, held: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return actions ``(B, steps, m)`` and their return: one kept for some holds, then the greedy ones."""
        chosen: list[Any] = []
        total, weight, every = np.zeros(len(states)), 1.0, np.arange(len(states))
        for hold in range(-(-steps // HOLD)):
            after, paid = self.ahead(states)
            greedy = (paid + self.decay * self.value(after).reshape(paid.shape)).argmax(1)
            taken = np.where(hold < held, first, greedy)
            states = after.reshape(*paid.shape, -1)[every, taken]
            total += weight * paid[every, taken]
            weight *= self.decay
            chosen += [self.actions[taken]] * HOLD
        if self.ends:
            total += weight * self.value(states)
        return np.stack(chosen[:steps], 1), total
