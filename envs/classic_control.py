"""The control problems behind Gymnasium's classic-control environments, by the environments' own equations.

Each is held against its environment by a test that steps both side by side.
"""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import runge_kutta_step
from hamiltonian_rl.problems import ControlProblem, Relaxation


class Pendulum(ControlProblem):
    """Pendulum-v1: state (angle θ in rad, 0 upright; angular velocity in rad/s), action torque in N m.

    Example:
        >>> problem = Pendulum()
        >>> hanging, rest = torch.tensor([torch.pi, 0.0]), torch.tensor([0.0])
        >>> round(float(problem.reward(hanging, rest, 0)), 4)  # -π²
        -9.8696
    """

    state_space = gym.spaces.Box(np.array([-np.pi, -8.0]), np.array([np.pi, 8.0]), dtype=np.float64)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float64)
    horizon = 200
    periodic = (True, False)
    start, driven = (math.pi, 0.0), 1  # hanging
    state_names = ("angle (rad)", "angular velocity (rad/s)")
    action_names = ("torque (N m)",)
    reward_bound = 0.0

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Semi-implicit Euler of ``θ'' = 3g/(2l) sin θ + 3/(m l²) u`` with g = 10, l = m = 1, 0.05 s."""
        angle, velocity = state.unbind(-1)
        torque = action[..., 0].clamp(-2.0, 2.0)
        velocity = (velocity + (15.0 * angle.sin() + 3.0 * torque) * 0.05).clamp(-8.0, 8.0)
        return torch.stack([angle + velocity * 0.05, velocity], -1)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-(θ² + 0.1 θ'² + 0.001 u²)``, θ within ±π."""
        angle, velocity = state.unbind(-1)
        torque = action[..., 0].clamp(-2.0, 2.0)
        angle = (angle + math.pi) % (2.0 * math.pi) - math.pi
        return -(angle**2 + 0.1 * velocity**2 + 0.001 * torque**2)

    def initial_states(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Any angle, velocity within 1 rad/s."""
        return generator.uniform([-np.pi, -1.0], [np.pi, 1.0], (n, 2))

    def observation(self, state: torch.Tensor) -> torch.Tensor:
        """(cos θ, sin θ, θ')."""
        angle, velocity = state.unbind(-1)
        return torch.stack([angle.cos(), angle.sin(), velocity], -1)

    def state_of(self, observation: torch.Tensor) -> torch.Tensor:
        """The angle within ±π."""
        cosine, sine, velocity = observation.unbind(-1)
        return torch.stack([torch.atan2(sine, cosine), velocity], -1)


class MountainCar(ControlProblem):
    """MountainCar-v0: state (position, velocity), actions push left, none, right; -1 a step until the flag."""

    state_space = gym.spaces.Box(np.array([-1.2, -0.07]), np.array([0.6, 0.07]), dtype=np.float64)
    action_space = gym.spaces.Discrete(3)
    horizon = 200
    start, spread, driven = (-0.5, 0.0), (0.1, 0.0), 1
    state_names, action_names = ("position", "velocity"), ("push (0 left, 2 right)",)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """`car_step` with the push ``0.001 (a - 1)``."""
        return car_step(state, 0.001 * (action - 1.0))

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Minus one."""
        return state[..., 0] * 0.0 - 1.0

    def relaxed(self) -> Relaxation:
        """The least time to the flag."""
        from hamiltonian_rl.envs.relaxed_control import RelaxedMountainCar  # which is made of this class

        return Relaxation(RelaxedMountainCar(), minimum_time=True)

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """At the flag or beyond, not moving back."""
        return (state[..., 0] >= 0.5) & (state[..., 1] >= 0.0)


class ContinuousMountainCar(ControlProblem):
    """MountainCarContinuous-v0: the same car, pushed by a force in [-1, 1]; 100 at the flag, minus its cost."""

    state_space = MountainCar.state_space
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)
    horizon = 999
    start, spread, driven, state_names = MountainCar.start, MountainCar.spread, 1, MountainCar.state_names
    action_names = ("force",)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """`car_step` with the push ``0.0015 a``."""
        return car_step(state, 0.0015 * action[..., 0].clamp(-1.0, 1.0))

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``-0.1 a²``, and 100 for the step that reaches the flag."""
        arrived = self.terminated(self.dynamics(state, action, step))
        return 100.0 * arrived - 0.1 * action[..., 0] ** 2

    def relaxed(self) -> Relaxation:
        """The least cost of being at the flag after the last step."""
        from hamiltonian_rl.envs.relaxed_control import ArrivingMountainCar  # which is made of this class

        return Relaxation(ArrivingMountainCar(), minimum_time=False)

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """At the flag or beyond, not moving back."""
        return (state[..., 0] >= 0.45) & (state[..., 1] >= 0.0)


def car_step(state: torch.Tensor, push: torch.Tensor) -> torch.Tensor:
    """Return ``v' = v + push - 0.0025 cos 3p`` and ``p' = p + v'``, both clipped; the left wall stops the car.

    Args:
        state: Position and velocity, shape ``(..., 2)``.
        push: Change of the velocity, shape ``(...)``.
    """
    position, velocity = state.unbind(-1)
    velocity = (velocity + push - 0.0025 * (3.0 * position).cos()).clamp(-0.07, 0.07)
    position = (position + velocity).clamp(-1.2, 0.6)
    stopped = (position == -1.2) & (velocity < 0)
    return torch.stack([position, torch.where(stopped, 0.0, velocity)], -1)


class CartPole(ControlProblem):
    """CartPole-v1: state (position, velocity, angle, angular velocity), push left or right; 1 a step until it falls."""

    # Position and angle end where the episode does; the speeds are what the environment's policies reach.
    state_space = gym.spaces.Box(
        np.array([-2.4, -3.0, -12 * np.pi / 180, -3.5]), np.array([2.4, 3.0, 12 * np.pi / 180, 3.5]), dtype=np.float64
    )
    action_space = gym.spaces.Discrete(2)
    horizon = 500
    start, spread = (0.0, 0.0, 0.0, 0.0), (0.05, 0.05, 0.05, 0.05)
    state_names = ("position (m)", "velocity (m/s)", "angle (rad)", "angular velocity (rad/s)")
    action_names = ("push (0 left, 1 right)",)
    reward_bound = 1.0
    phase_plane = (2, 3)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Explicit Euler of Barto, Sutton and Anderson (1983): pole 0.1 kg, half length 0.5 m, cart 1 kg, 0.02 s."""
        return cart_pole_step(state, 20.0 * action - 10.0)

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """One."""
        return state[..., 0] * 0.0 + 1.0

    def relaxed(self) -> Relaxation:
        """Viability: as far from the limits as can be, at every step."""
        from hamiltonian_rl.envs.relaxed_control import RelaxedCartPole  # which is made of this class

        return Relaxation(RelaxedCartPole(), minimum_time=False, end_is_goal=False, window=50)

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """Off the track (2.4 m) or beyond 12 degrees."""
        return (state[..., 0].abs() > 2.4) | (state[..., 2].abs() > 12 * math.pi / 180)


def cart_pole_step(
    state: torch.Tensor,
    force: torch.Tensor,
    *,
    gravity: float = 9.8,
    cart_mass: float = 1.0,
    pole_mass: float = 0.1,
    half_length: float = 0.5,
    time_step: float = 0.02,
) -> torch.Tensor:
    """Return the state of a cart and pole one explicit Euler step later (Barto, Sutton and Anderson 1983).

    Args:
        state: Position, velocity, angle (0 upright) and angular velocity, shape ``(..., 4)``.
        force: On the cart, in N, shape ``(...)``.
        gravity: In m/s².
        cart_mass: In kg.
        pole_mass: In kg.
        half_length: Of the pole, in m.
        time_step: In s.
    """
    position, velocity, angle, rotation = state.unbind(-1)
    sine, cosine = angle.sin(), angle.cos()
    mass, moment = cart_mass + pole_mass, pole_mass * half_length
    push = (force + moment * rotation**2 * sine) / mass
    spin = (gravity * sine - cosine * push) / (half_length * (4.0 / 3.0 - pole_mass * cosine**2 / mass))
    acceleration = push - moment * spin * cosine / mass
    moved = [
        position + time_step * velocity,
        velocity + time_step * acceleration,
        angle + time_step * rotation,
        rotation + time_step * spin,
    ]
    return torch.stack(moved, -1)


class Acrobot(ControlProblem):
    """Acrobot-v1: state (θ₁ from hanging, θ₂ from the first link, both velocities), torques -1, 0, 1 at the elbow."""

    state_space = gym.spaces.Box(
        np.array([-np.pi, -np.pi, -4 * np.pi, -9 * np.pi]),
        np.array([np.pi, np.pi, 4 * np.pi, 9 * np.pi]),
        dtype=np.float64,
    )
    action_space = gym.spaces.Discrete(3)
    horizon = 500
    periodic = (True, True, False, False)
    start, spread, driven = (0.0, 0.0, 0.0, 0.0), (0.1, 0.1, 0.1, 0.1), 3
    state_names = ("θ₁ (rad)", "θ₂ (rad)", "θ₁' (rad/s)", "θ₂' (rad/s)")
    action_names = ("torque (from 0, -1 N m, to 2, 1 N m)",)

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Runge-Kutta over 0.2 s, angles wrapped to ±π, velocities clipped to ±4π and ±9π rad/s."""
        torque = action - 1.0
        moved = runge_kutta_step(lambda state: acrobot_derivative(state, torque), state, 0.2)
        first, second, first_rate, second_rate = moved.unbind(-1)
        return torch.stack(
            [
                (first + math.pi) % (2.0 * math.pi) - math.pi,
                (second + math.pi) % (2.0 * math.pi) - math.pi,
                first_rate.clamp(-4.0 * math.pi, 4.0 * math.pi),
                second_rate.clamp(-9.0 * math.pi, 9.0 * math.pi),
            ],
            -1,
        )

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Minus one, and zero for the step that reaches the height."""
        return self.terminated(self.dynamics(state, action, step)) * 1.0 - 1.0

    def relaxed(self) -> Relaxation:
        """The least time to the height."""
        from hamiltonian_rl.envs.relaxed_control import RelaxedAcrobot  # which is made of this class

        return Relaxation(RelaxedAcrobot(), minimum_time=True)

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """The tip is more than one link's length above the axis: ``-cos θ₁ - cos(θ₁ + θ₂) > 1``."""
        first, second = state[..., 0], state[..., 1]
        return -first.cos() - (first + second).cos() > 1.0

    def observation(self, state: torch.Tensor) -> torch.Tensor:
        """(cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ₁', θ₂')."""
        first, second, first_rate, second_rate = state.unbind(-1)
        return torch.stack([first.cos(), first.sin(), second.cos(), second.sin(), first_rate, second_rate], -1)

    def state_of(self, observation: torch.Tensor) -> torch.Tensor:
        """The angles within ±π."""
        cosine, sine, second_cosine, second_sine, *rates = observation.unbind(-1)
        return torch.stack([torch.atan2(sine, cosine), torch.atan2(second_sine, second_cosine), *rates], -1)


def acrobot_derivative(state: torch.Tensor, torque: torch.Tensor) -> torch.Tensor:
    """Return ``d/dt (θ₁, θ₂, θ₁', θ₂')`` of two links of 1 kg, 1 m and 1 kg m², as in Sutton and Barto's book.

    Args:
        state: Shape ``(..., 4)``.
        torque: At the elbow, in N m, shape ``(...)``.
    """
    first, second, first_rate, second_rate = state.unbind(-1)
    inertia = 3.5 + second.cos()  # 1/4 + (1 + 1/4 + cos θ₂) + 1 + 1
    coupling = 1.25 + 0.5 * second.cos()
    sine = second.sin()
    second_weight = 4.9 * (first + second).sin()
    weight = 14.7 * first.sin() + second_weight
    swirl = weight - 0.5 * sine * second_rate**2 - sine * second_rate * first_rate
    second_force = torque + coupling / inertia * swirl - 0.5 * sine * first_rate**2 - second_weight
    second_acceleration = second_force / (1.25 - coupling**2 / inertia)
    first_acceleration = -(coupling * second_acceleration + swirl) / inertia
    return torch.stack([first_rate, second_rate, first_acceleration, second_acceleration], -1)
