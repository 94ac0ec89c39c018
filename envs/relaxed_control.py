"""Classic control with slopes: any action between the discrete ones, and rewards that say how far off the goal is.

The small cost of effort makes the optimum strict: without it many actions were as good.
"""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.classic_control import Acrobot, CartPole, ContinuousMountainCar, MountainCar
from hamiltonian_rl.problems import ControlProblem


class RelaxedCartPole(CartPole):
    """CartPole-v1 as a viability problem: ``-(x / 2.4 m)² - (θ / 12°)²`` a step, any force within ±10 N.

    Where it can be kept up at all, neither term reaches 1, which is where the environment ends.
    """

    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float64)  # type: ignore[assignment]
    terminated = ControlProblem.terminated  # never

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """CartPole-v1's, which is linear in the action."""
        return super().dynamics(state, action[..., 0], step)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Minus the squares of position and angle in units of their limits, and ``0.001 (a - 1/2)²``."""
        far = (state[..., 0] / 2.4) ** 2 + (state[..., 2] / (12 * math.pi / 180)) ** 2
        return -far - 0.001 * (action[..., 0] - 0.5) ** 2


class _AnyPush:
    """Before a problem whose actions 0, 1, 2 push back, not, forward: any push between them, and episodes that last."""

    action_space = gym.spaces.Box(0.0, 2.0, (1,), np.float64)
    terminated = ControlProblem.terminated  # never

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """The problem's own, which is made for any number between the actions."""
        following: torch.Tensor = super().dynamics(state, action[..., 0], step)  # type: ignore[misc]
        return following

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-1e-6 (a - 1)²``."""
        return -1e-6 * (action[..., 0] - 1.0) ** 2


class RelaxedMountainCar(_AnyPush, MountainCar):  # type: ignore[misc]
    """MountainCar-v0 with any push between left and right: what is left to the flag counts, at the last step."""

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-1000 max(0.501 - p, 0)²``: a little beyond the flag, for effort costs some of it."""
        return -1000.0 * (0.501 - state[..., 0]).clamp(min=0.0) ** 2


class ArrivingMountainCar(ContinuousMountainCar):
    """MountainCarContinuous-v0 without its jumps: be at the flag after the last step, off the wall, at the least cost.

    At the left wall the speed jumps to zero, so that the least effort that still reaches it is at a kink, where no
    path converges; turning short of it costs less. A car that cannot help the wall gets to the flag, without a claim.
    """

    terminated = ControlProblem.terminated  # never

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-0.1 a²``."""
        return -0.1 * action[..., 0] ** 2

    def constraints(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-1.199 - p`` from the third step on: a car that begins at the wall needs two to leave it."""
        return torch.where(torch.as_tensor(step) < 2, -1.0, -1.199 - state[..., :1])

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-100 max(0.48 - p, 0)²``: beyond the flag, for effort costs some of it, and single precision too."""
        return -100.0 * (0.48 - state[..., 0]).clamp(min=0.0) ** 2


class RelaxedAcrobot(_AnyPush, Acrobot):  # type: ignore[misc]
    """Acrobot-v1 with any torque within ±1: what the tip lacks of the height counts, at the last step."""

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-max(1.01 + cos θ₁ + cos(θ₁ + θ₂), 0)²``."""
        lacking = 1.01 + state[..., 0].cos() + (state[..., 0] + state[..., 1]).cos()
        return -(lacking.clamp(min=0.0) ** 2)
