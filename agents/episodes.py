"""Counting episodes: their returns and lengths, running and finished."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.tracking.checkpoint import Tree

RECENT = 100  # as many as Stable-Baselines3 averages


class EpisodeCounter:
    """Adds up the rewards of running episodes and remembers the last hundred that finished.

    Attributes:
        finished: Episodes finished so far.
    """

    def __init__(self) -> None:
        self.finished = 0
        self._recent_returns: deque[float] = deque(maxlen=RECENT)
        self._recent_lengths: deque[int] = deque(maxlen=RECENT)
        self._returns, self._lengths = np.zeros(0), np.zeros(0, int)
        self._ended: dict[int, tuple[float, int]] = {}  # environment: return and length, in the last step

    @property
    def n_envs(self) -> int:
        """Environments whose episodes are running."""
        return len(self._returns)

    @property
    def mean_return(self) -> float | None:
        """Mean return of the last hundred episodes; None before the first."""
        return float(np.mean(self._recent_returns)) if self._recent_returns else None

    @property
    def mean_length(self) -> float | None:
        """Mean length of the last hundred episodes; None before the first."""
        return float(np.mean(self._recent_lengths)) if self._recent_lengths else None

    def start(self, n_envs: int) -> None:
        """Start new episodes in ``n_envs`` environments."""
        self._returns, self._lengths = np.zeros(n_envs), np.zeros(n_envs, int)

    def count(self, step: Transitions) -> int:
        """Count one step of every environment; return how many episodes ended."""
        self._returns += step.rewards * step.valid
        self._lengths += step.valid
        over = step.over
        self._ended = {}
        if not over.any():
            return 0
        returns, lengths = self._returns[over].tolist(), self._lengths[over].tolist()
        self._recent_returns.extend(returns)
        self._recent_lengths.extend(lengths)
        self._ended = dict(zip(np.nonzero(over)[0].tolist(), zip(returns, lengths, strict=True), strict=True))
        self._returns[over] = 0.0
        self._lengths[over] = 0
        ended = int(over.sum())
        self.finished += ended
        return ended

    def add(self, returns: np.ndarray, lengths: np.ndarray) -> int:
        """Count episodes that were lived elsewhere; return how many."""
        self._recent_returns.extend(returns.tolist())
        self._recent_lengths.extend(lengths.tolist())
        self.finished += len(returns)
        return len(returns)

    def infos(self, step: Transitions) -> list[dict[str, Any]]:
        """Return the step's infos, with the episodes that ended in it as SB3's Monitor tells them."""
        infos = step.infos or [{} for _ in range(len(step.rewards))]
        for index, (total, length) in self._ended.items():
            infos[index].setdefault("episode", {"r": total, "l": length})
        return infos

    def state(self) -> Tree:
        """Return all counts, for a checkpoint."""
        return {
            "finished": self.finished,
            "recent_returns": list(self._recent_returns),
            "recent_lengths": list(self._recent_lengths),
            "returns": self._returns,
            "lengths": self._lengths,
        }

    def set_state(self, tree: Any) -> None:
        """Take back what `state` returned."""
        self.finished = tree["finished"]
        self._recent_returns.extend(tree["recent_returns"])
        self._recent_lengths.extend(tree["recent_lengths"])
        self._returns, self._lengths = tree["returns"], tree["lengths"]
