"""Actions as numbers that a model can be differentiated by: a Box as it is, discrete ones as corners of a simplex."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError


class ActionCodes:
    """Between an environment's actions and points of a Box.

    Discrete actions are the corners of a regular simplex, which supposes no order among them: two are -1 and 1. What
    lies between is rounded to the nearest corner.

    Attributes:
        low: Of the points, ``(m,)``.
        high: ``(m,)``.
        corners: Points of discrete actions, ``(k, m)``; None for a Box.

    Raises:
        UsageError: The space is neither Discrete nor a Box of numbers in one dimension.

    Example:
        >>> codes = ActionCodes(gym.spaces.Discrete(2))
        >>> codes.points(np.array([0, 1])).tolist(), codes.actions(np.array([[0.3], [-0.1]])).tolist()
        ([[-1.0], [1.0]], [1, 0])
    """

    def __init__(self, space: gym.Space) -> None:
        self._space: Any = space
        self.corners: np.ndarray | None = None
        if isinstance(space, gym.spaces.Discrete):
            self.corners = _simplex(int(space.n))
            self.low, self.high = -np.ones(self.corners.shape[1]), np.ones(self.corners.shape[1])
        elif isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f":
            self.low, self.high = space.low.astype(np.float64), space.high.astype(np.float64)
        else:
            raise UsageError(
                f"The action space is {space}; a learned model needs Discrete actions or a Box of shape (m,) of "
                "floats. Wrap the environment so that it has one."
            )

    def points(self, actions: np.ndarray) -> np.ndarray:
        """Return the points of actions, ``(n, m)``."""
        if self.corners is None:
            return np.asarray(actions, np.float64)
        return np.asarray(self.corners[np.asarray(actions, np.int64) - int(self._space.start)])

    def actions(self, points: np.ndarray) -> np.ndarray:
        """Return the actions that points stand for."""
        if self.corners is None:
            return np.asarray(np.clip(points, self.low, self.high), self._space.dtype)
        return np.asarray((points @ self.corners.T).argmax(1) + int(self._space.start))

    def draw(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Draw actions: uniformly where they are bounded, normally where not."""
        if self.corners is not None:
            return np.asarray(generator.integers(len(self.corners), size=count) + int(self._space.start))
        bounded = np.isfinite(self.low) & np.isfinite(self.high)
        low, high = np.where(bounded, self.low, 0.0), np.where(bounded, self.high, 1.0)
        size = (count, len(low))
        return self.actions(np.where(bounded, generator.uniform(low, high, size), generator.normal(size=size)))


def _simplex(corners: int) -> np.ndarray:
    """Return the corners of a regular simplex around zero, ``(k, k - 1)``, the largest coordinate being 1."""
    if corners == 1:
        return np.zeros((1, 1))
    points = np.zeros((corners, corners - 1))
    for i in range(corners - 1):
        rest = corners - 1 - i  # corners that share what this coordinate leaves
        size = np.sqrt(1.0 - (points[i, :i] ** 2).sum())
        points[i, i], points[i + 1 :, i] = size, -size / rest
    points[:, 0] *= -1.0  # the first action is the least of two
    return np.asarray(points / np.abs(points).max())
