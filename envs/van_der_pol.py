"""The oscillator of van der Pol, brought to rest."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import runge_kutta_step, time_step_of
from hamiltonian_rl.problems import ControlProblem


class VanDerPol(ControlProblem):
    """``x₁' = (1 - x₂²) x₁ - x₂ + a``, ``x₂' = x₁`` from (0, 1), with ``a`` within [-0.3, 1].

    Maximise ``-∫ x₁² + x₂² + a² dt`` over 5 s. The action is held over each step; state and cost are integrated
    together by Runge-Kutta. In continuous time the optimum is -2.867260.

    Args:
        horizon: N.
        duration: In s.
        damping: The factor of ``(1 - x₂²) x₁``.
    """

    state_space = gym.spaces.Box(-3.0, 3.0, (2,), np.float64)
    action_space = gym.spaces.Box(-0.3, 1.0, (1,), np.float64)
    start, spread = (0.0, 1.0), (0.5, 0.5)
    state_names, action_names = ("x₁", "x₂"), ("a",)

    def __init__(self, horizon: int = 100, duration: float = 5.0, damping: float = 1.0) -> None:
        self.time_step = time_step_of(duration, horizon)
        self.horizon, self.damping = horizon, damping

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """A Runge-Kutta step."""
        return self._step(state, action)[..., :2]

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-∫ x₁² + x₂² + a² dt`` over the step."""
        return -self._step(state, action)[..., 2]

    def _step(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return the next state and the cost on the way, ``(..., 3)``."""
        force = action[..., 0]

        def derivative(augmented: torch.Tensor) -> torch.Tensor:
            rate, place, _ = augmented.unbind(-1)
            acceleration = self.damping * (1.0 - place**2) * rate - place + force
            return torch.stack([acceleration, rate, rate**2 + place**2 + force**2], -1)

        start = torch.cat([state, state[..., :1] * 0.0], -1)
        return runge_kutta_step(derivative, start, self.time_step)
