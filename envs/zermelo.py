"""Zermelo's navigation: steering a ship in a current."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import time_step_of
from hamiltonian_rl.problems import ControlProblem


class Zermelo(ControlProblem):
    """How far east a ship comes in a given time, in a current that is stronger further north (Zermelo 1931).

    ``x' = x + dt (v cos θ + w_x + c y)``, ``y' = y + dt (v sin θ + w_y)``; the action is the heading θ in rad,
    the reward the place ``x_N`` that is reached. Steer north first, where the current is strong, then ever more
    eastwards: with κ = N - 1 - k steps left after step k, ``tan θ_k = c dt κ`` exactly, and the value is
    ``x_0 + T w_x + c (T y_0 + dt² w_y N (N-1)/2) + Σ_κ v dt √(1 + (c dt κ)²)``. The least time to a line
    ``x = X`` is the T whose best ``x_N`` is X (Bryson and Ho 1975, section 2.7).

    Args:
        horizon: N.
        duration: T.
        speed: ``v`` of the ship through the water.
        wind: ``(w_x, w_y)``, the current at ``y = 0``.
        shear: ``c``, how much faster the current runs for each unit further north.
    """

    state_space = gym.spaces.Box(np.array([-2.0, -3.0]), np.array([8.0, 3.0]), dtype=np.float64)
    action_space = gym.spaces.Box(-math.pi, math.pi, (1,), np.float64)
    start, spread = (0.0, 0.0), (0.5, 0.5)
    state_names, action_names = ("x, east", "y, north"), ("heading (rad)",)

    def __init__(
        self,
        horizon: int = 50,
        duration: float = 2.0,
        *,
        speed: float = 1.0,
        wind: tuple[float, float] = (0.0, 0.0),
        shear: float = 1.0,
    ) -> None:
        self.time_step = time_step_of(duration, horizon)
        self.horizon, self.speed, self.wind, self.shear = horizon, speed, wind, shear

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """An Euler step."""
        east, north = state.unbind(-1)
        heading = action[..., 0]
        east_rate = self.speed * heading.cos() + self.wind[0] + self.shear * north
        north_rate = self.speed * heading.sin() + self.wind[1]
        return torch.stack([east + self.time_step * east_rate, north + self.time_step * north_rate], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Nothing on the way."""
        return state[..., 0] * 0.0

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``x_N``."""
        return state[..., 0]
