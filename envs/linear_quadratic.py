"""The linear-quadratic problem, whose answer is Riccati's equation."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import checked_horizon
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem


class LinearQuadratic(ControlProblem):
    """``s' = A s + B a``, ``r = -(sᵀQ s + aᵀR a)``, ``h = -sᵀQ_N s``.

    The defaults are a point of mass 1 in steps of 0.1, brought from (1, 0) towards rest.

    Args:
        A: Shape ``(n, n)``.
        B: Shape ``(n, m)``.
        Q: Shape ``(n, n)``; the identity where only A and B are given.
        R: Shape ``(m, m)``; likewise.
        terminal_Q: ``Q_N``, shape ``(n, n)``; ten times the identity unless given.
        horizon: N, or None.
        discount: ``γ``.
        action_bound: ``|a_i|`` at the most; none unless given.

    Raises:
        UsageError: The shapes do not fit together.

    Example:
        >>> problem = LinearQuadratic()
        >>> problem.dynamics(torch.tensor([1.0, 0.0]).double(), torch.tensor([2.0]).double(), 0).tolist()
        [1.01, 0.2]
    """

    def __init__(
        self,
        A: Any = None,
        B: Any = None,
        Q: Any = None,
        R: Any = None,
        terminal_Q: Any = None,
        *,
        horizon: int | None = 100,
        discount: float = 1.0,
        action_bound: float = math.inf,
    ) -> None:
        if (A is None) != (B is None):
            raise UsageError("LinearQuadratic got one of A and B; expected both or neither.")
        if A is None:
            A, B = [[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]]
            Q, R = [[1.0, 0.0], [0.0, 0.1]] if Q is None else Q, [[0.1]] if R is None else R
        self.A, self.B = _matrix("A", A), _matrix("B", B)
        n, m = self.A.shape[0], self.B.shape[-1]
        self.Q = _matrix("Q", torch.eye(n) if Q is None else Q)
        self.R = _matrix("R", torch.eye(m) if R is None else R)
        self.terminal_Q = _matrix("terminal_Q", 10.0 * torch.eye(n) if terminal_Q is None else terminal_Q)
        expected = {"A": (n, n), "B": (n, m), "Q": (n, n), "R": (m, m), "terminal_Q": (n, n)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise UsageError(f"{name} has the shape {tuple(getattr(self, name).shape)}; expected {shape}.")
        self.horizon, self.discount = None if horizon is None else checked_horizon(horizon), discount
        self.state_space = gym.spaces.Box(-10.0, 10.0, (n,), np.float64)
        self.action_space = gym.spaces.Box(-action_bound, action_bound, (m,), np.float64)
        self.start, self.spread = (1.0, *[0.0] * (n - 1)), (2.0,) * n
        self.state_names = tuple(f"s_{index}" for index in range(n))
        self.action_names = tuple(f"a_{index}" for index in range(m))

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``A s + B a``."""
        return _times(self.A, state) + _times(self.B, action)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-(sᵀQ s + aᵀR a)``."""
        return -(state * _times(self.Q, state)).sum(-1) - (action * _times(self.R, action)).sum(-1)

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-sᵀQ_N s``."""
        return -(state * _times(self.terminal_Q, state)).sum(-1)


def _matrix(name: str, values: Any) -> torch.Tensor:
    """Return a float64 matrix; a tensor keeps its graph."""
    try:
        matrix = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{name} = {values!r} is no matrix of numbers.") from error
    if matrix.ndim != 2 or not matrix.isfinite().all():
        raise UsageError(f"{name} = {values!r}; expected a matrix of finite numbers.")
    return matrix


def _times(matrix: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return (matrix * vector.unsqueeze(-2)).sum(-1)
