"""Smooth mechanical problems: swinging up a cart-pole, a planar quadrotor, the mountain car with a cost at its end."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.classic_control import cart_pole_step
from hamiltonian_rl.envs.integration import checked_horizon
from hamiltonian_rl.problems import ControlProblem


class CartPoleSwingUp(ControlProblem):
    """CartPole-v1's cart and pole with any force up to 10 N, from hanging to upright, without end or walls.

    State (position, velocity, angle with 0 upright, angular velocity) in m, m/s, rad and rad/s.

    Args:
        horizon: N, steps of 0.02 s.
    """

    state_space = gym.spaces.Box(
        np.array([-4.0, -8.0, -np.pi, -12.0]), np.array([4.0, 8.0, np.pi, 12.0]), dtype=np.float64
    )
    action_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float64)
    periodic = (False, False, True, False)
    start, spread = (0.0, 0.0, math.pi, 0.0), (0.2, 0.2, 0.2, 0.2)
    state_names = ("position (m)", "velocity (m/s)", "angle (rad)", "angular velocity (rad/s)")
    action_names = ("force (N)",)
    phase_plane = (2, 3)

    def __init__(
        self,
        horizon: int = 200,
        *,
        gravity: float = 9.8,
        cart_mass: float = 1.0,
        pole_mass: float = 0.1,
        half_length: float = 0.5,
    ) -> None:
        self.horizon, self.time_step = checked_horizon(horizon), 0.02
        self.gravity, self.half_length = gravity, half_length
        self.cart_mass, self.pole_mass = cart_mass, pole_mass

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """`cart_pole_step`: explicit Euler."""
        return cart_pole_step(
            state,
            action[..., 0],
            gravity=self.gravity,
            cart_mass=self.cart_mass,
            pole_mass=self.pole_mass,
            half_length=self.half_length,
            time_step=self.time_step,
        )

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-dt (2 (1 - cos θ) + 0.1 x² + 0.01 x'² + 0.01 θ'² + 0.001 F²)``."""
        position, velocity, angle, rotation = state.unbind(-1)
        moving = 0.1 * position**2 + 0.01 * velocity**2 + 0.01 * rotation**2
        return -self.time_step * (2.0 * (1.0 - angle.cos()) + moving + 0.001 * action[..., 0] ** 2)

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-50 (2 (1 - cos θ) + 0.1 θ'² + 0.5 x² + 0.1 x'²)``."""
        position, velocity, angle, rotation = state.unbind(-1)
        moving = 0.1 * rotation**2 + 0.5 * position**2 + 0.1 * velocity**2
        return -50.0 * (2.0 * (1.0 - angle.cos()) + moving)


class Quadrotor(ControlProblem):
    """A quadrotor in a vertical plane, flown to rest at the origin by the thrusts of its two sides.

    State (x, z, θ, x', z', θ') in m, rad and per s, actions two thrusts in N within [0, 8]. Semi-implicit Euler.

    Args:
        horizon: N.
        mass: In kg.
        inertia: In kg m².
        arm: From the middle to a rotor, in m.
        gravity: In m/s².
        time_step: In s.
    """

    state_space = gym.spaces.Box(
        np.array([-6.0, -6.0, -np.pi, -8.0, -8.0, -8.0]), np.array([6.0, 6.0, np.pi, 8.0, 8.0, 8.0]), dtype=np.float64
    )
    action_space = gym.spaces.Box(0.0, 8.0, (2,), np.float64)
    start, spread = (3.0, -2.0, 0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 0.3, 0.5, 0.5, 0.5)
    state_names = ("x (m)", "z (m)", "θ (rad)", "x' (m/s)", "z' (m/s)", "θ' (rad/s)")
    action_names = ("left thrust (N)", "right thrust (N)")

    def __init__(
        self,
        horizon: int = 100,
        *,
        mass: float = 1.0,
        inertia: float = 0.02,
        arm: float = 0.2,
        gravity: float = 9.81,
        time_step: float = 0.05,
    ) -> None:
        self.horizon, self.time_step = checked_horizon(horizon), time_step
        self.mass, self.inertia, self.arm, self.gravity = mass, inertia, arm, gravity

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``x'' = -(u₀+u₁) sin θ / m``, ``z'' = (u₀+u₁) cos θ / m - g``, ``θ'' = arm (u₀-u₁) / I``."""
        left, right = action.unbind(-1)
        x, z, angle, x_rate, z_rate, rotation = state.unbind(-1)
        thrust = (left + right) / self.mass
        x_rate = x_rate - self.time_step * thrust * angle.sin()
        z_rate = z_rate + self.time_step * (thrust * angle.cos() - self.gravity)
        rotation = rotation + self.time_step * (self.arm / self.inertia) * (left - right)
        places = [x + self.time_step * x_rate, z + self.time_step * z_rate, angle + self.time_step * rotation]
        return torch.stack([*places, x_rate, z_rate, rotation], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-dt (x² + z² + θ² + 0.1 (x'² + z'² + θ'²) + 0.01 Σ (u_i - m g / 2)²)``."""
        hover = 0.5 * self.mass * self.gravity
        cost = (state[..., :3] ** 2).sum(-1) + 0.1 * (state[..., 3:] ** 2).sum(-1)
        return -self.time_step * (cost + 0.01 * ((action - hover) ** 2).sum(-1))

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-10 |s|²``."""
        return -10.0 * (state**2).sum(-1)


class SmoothMountainCar(ControlProblem):
    """MountainCarContinuous-v0's hill without wall and flag: what is short of the flag at the end is paid for.

    State (position, velocity), action a force in [-1, 1].

    Args:
        horizon: N.
        power: Acceleration of a force of one, a step.
        gravity: Acceleration of the steepest slope, a step.
    """

    state_space = gym.spaces.Box(np.array([-1.2, -0.07]), np.array([0.6, 0.07]), dtype=np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)
    start, spread = (-0.5, 0.0), (0.1, 0.005)
    state_names, action_names = ("position", "velocity"), ("force",)

    def __init__(self, horizon: int = 150, *, power: float = 0.0015, gravity: float = 0.0025) -> None:
        self.horizon, self.power, self.gravity = checked_horizon(horizon), power, gravity

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``v' = v + 0.0015 u - 0.0025 cos 3p``, within ±0.07, and ``p' = p + v'``."""
        position, velocity = state.unbind(-1)
        slope = (3.0 * position).cos()
        velocity = (velocity + self.power * action[..., 0] - self.gravity * slope).clamp(-0.07, 0.07)
        return torch.stack([position + velocity, velocity], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-0.1 u²``."""
        return -0.1 * action[..., 0] ** 2

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """``-1000 max(0.45 - p, 0)²``."""
        return -1000.0 * (0.45 - state[..., 0]).clamp(min=0.0) ** 2
