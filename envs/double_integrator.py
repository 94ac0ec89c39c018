"""A point of mass 1 on a line, moved by a force: least energy to rest, and with a wall (Bryson and Denham)."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import time_step_of
from hamiltonian_rl.problems import ControlProblem


class DoubleIntegrator(ControlProblem):
    """From (-1, 0) to rest at the origin with the least energy: state (position, velocity), action a force.

    The force is held over each step, so that the steps are exact. Maximise ``-Σ ½ a² dt`` subject to
    ``s_N = (0, 0)``. With N steps of T/N and no bound the optimum is exactly ``-6 / (1 - 1/N²) / T³``.

    Args:
        horizon: N.
        duration: T in s.
        action_bound: ``|a|`` at the most; the end cannot be reached below ``4 / T²``.

    Example:
        >>> problem = DoubleIntegrator(horizon=2)
        >>> problem.dynamics(torch.tensor([-1.0, 0.0]), torch.tensor([4.0]), 0).tolist()
        [-0.5, 2.0]
    """

    state_space = gym.spaces.Box(np.array([-2.0, -4.0]), np.array([2.0, 4.0]), dtype=np.float64)
    start, spread = (-1.0, 0.0), (0.1, 0.1)
    state_names, action_names = ("position", "velocity"), ("acceleration",)

    def __init__(self, horizon: int = 50, duration: float = 1.0, action_bound: float = math.inf) -> None:
        self.time_step = time_step_of(duration, horizon)
        self.horizon = horizon
        self.action_space = gym.spaces.Box(-action_bound, action_bound, (1,), np.float64)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """`point_mass_step`."""
        return point_mass_step(state, action[..., 0], self.time_step)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-½ a² dt``."""
        return -0.5 * self.time_step * action[..., 0] ** 2

    def terminal_constraints(self, state: torch.Tensor) -> torch.Tensor:
        """Position and velocity, both to be zero."""
        return state


class BrysonDenham(ControlProblem):
    """Turn a point around before a wall: from (0, 1) to (0, -1) in a second, never beyond ``limit``.

    Maximise ``-Σ ½ a² dt``. In continuous time the optimum is ``-4 / (9 ℓ)`` for ``ℓ <= 1/6``,
    ``-2 - 6 (1 - 4ℓ)²`` for ``1/6 <= ℓ <= 1/4``, and -2 beyond; steps of dt differ by O(dt²)
    (Bryson, Denham and Dreyfus 1963; Bryson and Ho 1975, section 3.11).

    Args:
        horizon: N.
        limit: ``ℓ``.
    """

    state_space = gym.spaces.Box(np.array([-0.5, -2.0]), np.array([0.5, 2.0]), dtype=np.float64)
    action_space = gym.spaces.Box(-math.inf, math.inf, (1,), np.float64)
    start, spread = (0.0, 1.0), (0.0, 0.0)
    state_names, action_names = ("position", "velocity"), ("acceleration",)

    def __init__(self, horizon: int = 50, limit: float = 1.0 / 9.0) -> None:
        self.time_step = time_step_of(1.0, horizon)
        self.horizon, self.limit = horizon, limit

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """`point_mass_step`."""
        return point_mass_step(state, action[..., 0], self.time_step)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-½ a² dt``."""
        return -0.5 * self.time_step * action[..., 0] ** 2

    def constraints(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``x - ℓ``."""
        return state[..., :1] - self.limit

    def terminal_constraints(self, state: torch.Tensor) -> torch.Tensor:
        """``(x, v + 1)``."""
        return torch.stack([state[..., 0], state[..., 1] + 1.0], -1)


def point_mass_step(state: torch.Tensor, force: torch.Tensor, time_step: float) -> torch.Tensor:
    """Return ``(x + v dt + ½ a dt², v + a dt)``: exact for a force that is held; ``(..., 2)``, ``(...)``."""
    position, velocity = state.unbind(-1)
    moved = position + time_step * velocity + 0.5 * time_step**2 * force
    return torch.stack([moved, velocity + time_step * force], -1)
