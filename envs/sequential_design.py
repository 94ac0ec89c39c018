"""Choosing data one row after the other: the design of a regression as a control problem (section 3.1)."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem

LEAST_PIVOT = 1e-9  # of an information matrix that determines all parameters
WORST = -100.0  # the least that is paid; a grid also holds matrices that are no information matrices


class SequentialDesign(ControlProblem):
    """Measure N more rows of unit length, so that predictions are as exact as can be: ``h = -tr(S_N⁻¹ M)``.

    The state is the information matrix S, its upper triangle row by row; the action is a direction x on the sphere
    by its angles, ``x = (sin a₁, cos a₁ sin a₂, ..., cos a₁ ... cos a_{p-1})``; ``S' = S + xxᵀ``. The reward is that
    of the end alone: less the excess ``ε/σ² - 1`` of a regression's error, with ``M = I/p`` for rows to be predicted
    anywhere on the sphere. From p orthonormal rows, ``S_0 = I``, and with ``N >= p`` the optimum is exactly
    ``-p / (p + N)``; greedy reaches ``(k+a)(k+1-a) / (k(k+1))`` times it, ``p + N = p(k+a)``
    (`hamiltonian_rl.principles.fermat.greedy_excess`).

    Args:
        horizon: N.
        size: p, two at least.
        target: ``M``, shape ``(p, p)``; ``I/p`` unless given.

    Raises:
        UsageError: An argument does not fit.

    Example:
        >>> problem = SequentialDesign()
        >>> problem.dynamics(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0]), 0).tolist()
        [1.0, 0.0, 2.0]
        >>> float(problem.terminal_reward(torch.tensor([2.5, 0.0, 2.5], dtype=torch.float64)))  # -p / n of n = 5 rows
        -0.4
    """

    def __init__(self, horizon: int = 3, size: int = 2, target: np.ndarray | None = None) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 2:
            raise UsageError(f"size = {size!r}; expected a whole number from 2 up.")
        if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
            raise UsageError(f"horizon = {horizon!r}; expected a whole number from 1 up.")
        self.horizon, self.size = horizon, size
        self.target = np.eye(size) / size if target is None else np.asarray(target, dtype=float)
        if self.target.shape != (size, size) or not np.array_equal(self.target, self.target.T):
            raise UsageError(f"target has shape {self.target.shape}; expected a symmetric matrix of {size} x {size}.")
        self.places = [(i, j) for i in range(size) for j in range(i, size)]
        diagonal = np.array([i == j for i, j in self.places])
        low, high = np.where(diagonal, 0.5, -float(horizon)), np.where(diagonal, 1.5 + horizon, float(horizon))
        self.state_space = gym.spaces.Box(low, high, dtype=np.float64)
        self.action_space = gym.spaces.Box(-math.pi, math.pi, (size - 1,), np.float64)
        self.start = tuple(diagonal.astype(float).tolist())
        self.spread = tuple(np.where(diagonal, 0.2, 0.1 / size).tolist())
        self.state_names = tuple(f"S{i + 1}{j + 1}" for i, j in self.places)
        self.action_names = tuple(f"angle {i + 1} (rad)" for i in range(size - 1))

    def direction(self, action: torch.Tensor) -> list[torch.Tensor]:
        """Return the coordinates of the unit row x, p tensors of shape ``(...)``."""
        rest, row = torch.ones_like(action[..., 0]), []
        for angle in action.unbind(-1):
            row.append(rest * angle.sin())
            rest = rest * angle.cos()
        return [*row, rest]

    def action_of(self, row: np.ndarray) -> np.ndarray:
        """Return the angles of a row, shape ``(..., p)`` to ``(..., p - 1)``; of x and -x those of one of them.

        Example:
            >>> SequentialDesign(size=3).action_of(np.array([0.0, 1.0, 0.0])).round(6)
            array([0.      , 1.570796])
        """
        row = np.where(row[..., -1:] < 0.0, -row, row)
        behind = np.sqrt(np.cumsum(row[..., ::-1] ** 2, -1)[..., -2::-1])  # the length of what comes after
        angles: np.ndarray = np.arctan2(row[..., :-1], behind)
        return angles

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``S + xxᵀ``."""
        row = self.direction(action)
        return state + torch.stack([row[i] * row[j] for i, j in self.places], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Nothing on the way."""
        return state[..., 0] * 0.0

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-tr(S⁻¹ M)``, by elimination, which can be traced; `WORST` where that is worse, or S no design's."""
        p = self.size
        rows: list[list[torch.Tensor]] = [[state[..., 0]] * p for _ in range(p)]
        for place, (i, j) in enumerate(self.places):
            rows[i][j] = rows[j][i] = state[..., place]
        solved = [[state[..., 0] * 0.0 + float(value) for value in line] for line in self.target]
        definite = state[..., 0] == state[..., 0]
        for k in range(p):  # Gauss and Jordan; S is positive definite where its pivots are above zero
            above = rows[k][k] > LEAST_PIVOT
            definite = definite & above
            rows[k][k] = torch.where(above, rows[k][k], 1.0)
            for i in range(p):
                if i != k:
                    factor = rows[i][k] / rows[k][k]
                    rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
                    solved[i] = [a - factor * b for a, b in zip(solved[i], solved[k], strict=True)]
        trace = torch.stack([solved[k][k] / rows[k][k] for k in range(p)], -1).sum(-1)
        return torch.where(definite, (-trace).clamp_min(WORST), WORST)
