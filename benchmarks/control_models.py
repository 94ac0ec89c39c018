"""The problems of `benchmarks/control.py`: this toolkit's, and the same written anew in CasADi for the peers.

Each has a nominal first state, others uniform around it, and first actions that every method starts from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.trajectory import Trajectory, rollout

Formula = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One problem: cost ``Σ cost(x, u) + end(x_N)``, ``x' = step(x, u)``, each a function of cs, x and u.

    Attributes:
        env_id: Of this toolkit's problem.
        start: Nominal first state.
        spread: Of the others around it.
        actions: ``(N, m)``, or a policy that is followed, to start from.
        step: Next state, a list of n expressions.
        cost: Of one step.
        end: Of the last state.
        settings: Of `solve_costate`.
    """

    env_id: str
    start: tuple[float, ...]
    spread: tuple[float, ...]
    actions: Any
    step: Formula
    cost: Formula
    end: Formula
    settings: dict[str, Any]

    def problem(self) -> ControlProblem:
        """Return this toolkit's problem."""
        return problem(self.env_id)

    def states(self, count: int, seed: int) -> np.ndarray:
        """Return the nominal first state and others, shape ``(count, n)``."""
        noise = np.random.default_rng(seed).uniform(-1.0, 1.0, (count, len(self.start)))
        noise[0] = 0.0
        return np.array(self.start + np.array(self.spread) * noise)

    def first_paths(self, states: np.ndarray) -> Trajectory:
        """Return the paths that every method starts from."""
        return rollout(self.problem(), states, self.actions)


def wave(horizon: int, size: float, period: float, phase: float) -> np.ndarray:
    """Return ``size sin(2πk/period + phase)``, shape ``(horizon, 1)``."""
    return size * np.sin(2.0 * np.pi * np.arange(horizon) / period + phase)[:, None]


def pendulum_pump(states: np.ndarray, step: int) -> np.ndarray:
    """Push the way it swings until it has the energy to stand, then hold it there."""
    angle, velocity = np.mod(states[:, 0] + np.pi, 2.0 * np.pi) - np.pi, states[:, 1]
    energy = velocity**2 / 2.0 + 15.0 * (np.cos(angle) - 1.0)  # zero when standing
    pump = np.where(energy < 0.0, 2.0, -2.0) * np.where(velocity >= 0.0, 1.0, -1.0)
    hold = np.clip(-10.0 * angle - 2.0 * velocity, -2.0, 2.0)
    return np.where(np.abs(angle) < 0.4, hold, pump)[:, None]


def pole_pump(gain: float, centering: float, kick: float, catch: bool) -> Formula:
    """Return a policy for the cart-pole: a kick, then swing up by energy, and (``catch``) hold the pole at the top."""

    def follow(states: np.ndarray, step: int) -> np.ndarray:
        place, speed, angle, rotation = states.T
        energy = rotation**2 / 3.0 + 9.8 * (np.cos(angle) - 1.0)  # zero when standing
        force = gain * energy * rotation * np.cos(angle) - centering * (place + speed)
        if catch:
            lean = np.arctan2(np.sin(angle), np.cos(angle))
            held = 25.0 * lean + 5.0 * rotation + place + 2.0 * speed
            force = np.where(np.cos(angle) > 0.7, held, force)
        return np.clip(force + (kick if step < 10 else 0.0), -10.0, 10.0)[:, None]

    return follow


POLE_STARTS: list[Any] = [  # 16 waves, half of them the other's mirror images, and 16 pumps
    *(
        wave(200, size, period, phase)
        for size in (5.0, 10.0)
        for period in (60.0, 75.0, 90.0, 120.0)
        for phase in (0.3, 0.3 + math.pi)
    ),
    *(
        pole_pump(gain, centering, kick, catch)
        for gain in (0.3, 0.1)
        for centering in (3.0, 1.0)
        for kick in (-5.0, 5.0)
        for catch in (False, True)
    ),
]


def _lqr_step(cs: Any, x: Any, u: Any) -> list[Any]:
    return [x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]]


def _car_step(cs: Any, x: Any, u: Any) -> list[Any]:
    velocity = cs.fmin(cs.fmax(x[1] + 0.0015 * u[0] - 0.0025 * cs.cos(3.0 * x[0]), -0.07), 0.07)
    return [x[0] + velocity, velocity]


def _quadrotor_step(cs: Any, x: Any, u: Any) -> list[Any]:
    thrust, dt = u[0] + u[1], 0.05
    right = x[3] - dt * thrust * cs.sin(x[2])
    up = x[4] + dt * (thrust * cs.cos(x[2]) - 9.81)
    rotation = x[5] + dt * 10.0 * (u[0] - u[1])
    return [x[0] + dt * right, x[1] + dt * up, x[2] + dt * rotation, right, up, rotation]


def _quadrotor_cost(cs: Any, x: Any, u: Any) -> Any:
    effort = (u[0] - 9.81 / 2.0) ** 2 + (u[1] - 9.81 / 2.0) ** 2
    places, speeds = x[0] ** 2 + x[1] ** 2 + x[2] ** 2, x[3] ** 2 + x[4] ** 2 + x[5] ** 2
    return 0.05 * (places + 0.1 * speeds + 0.01 * effort)


def _pole_step(cs: Any, x: Any, u: Any) -> list[Any]:
    sine, cosine = cs.sin(x[2]), cs.cos(x[2])
    push = (u[0] + 0.05 * x[3] ** 2 * sine) / 1.1
    spin = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - 0.1 * cosine**2 / 1.1))
    acceleration = push - 0.05 * spin * cosine / 1.1
    return [x[0] + 0.02 * x[1], x[1] + 0.02 * acceleration, x[2] + 0.02 * x[3], x[3] + 0.02 * spin]


def _pole_cost(cs: Any, x: Any, u: Any) -> Any:
    moving = 0.1 * x[0] ** 2 + 0.01 * x[1] ** 2 + 0.01 * x[3] ** 2
    return 0.02 * (2.0 * (1.0 - cs.cos(x[2])) + moving + 0.001 * u[0] ** 2)


def _pole_end(cs: Any, x: Any) -> Any:
    return 50.0 * (2.0 * (1.0 - cs.cos(x[2])) + 0.1 * x[3] ** 2 + 0.5 * x[0] ** 2 + 0.1 * x[1] ** 2)


def _pendulum_step(cs: Any, x: Any, u: Any) -> list[Any]:
    velocity = cs.fmin(cs.fmax(x[1] + 0.05 * (15.0 * cs.sin(x[0]) + 3.0 * u[0]), -8.0), 8.0)
    return [x[0] + 0.05 * velocity, velocity]


def _pendulum_cost(cs: Any, x: Any, u: Any) -> Any:
    angle = x[0] - 2.0 * math.pi * cs.floor((x[0] + math.pi) / (2.0 * math.pi))
    return angle**2 + 0.1 * x[1] ** 2 + 0.001 * u[0] ** 2


def _pendulum(actions: Any, **settings: Any) -> Case:
    return Case(
        env_id="Pendulum-v1",
        start=(math.pi, 0.0),
        spread=(0.5, 0.5),
        actions=actions,
        step=_pendulum_step,
        cost=_pendulum_cost,
        end=lambda cs, x: 0.0,
        settings=settings,
    )


CASES = {
    "lqr": Case(
        env_id="hrl/LinearQuadratic-v0",
        start=(1.0, 0.0),
        spread=(2.0, 2.0),
        actions=np.zeros((100, 1)),
        step=_lqr_step,
        cost=lambda cs, x, u: x[0] ** 2 + 0.1 * x[1] ** 2 + 0.1 * u[0] ** 2,
        end=lambda cs, x: 10.0 * (x[0] ** 2 + x[1] ** 2),
        settings={},
    ),
    "mountain-car": Case(
        env_id="hrl/SmoothMountainCar-v0",
        start=(-0.5, 0.0),
        spread=(0.1, 0.005),
        actions=wave(150, 0.2, 50.0, 0.3),
        step=_car_step,
        cost=lambda cs, x, u: 0.1 * u[0] ** 2,
        end=lambda cs, x: 1000.0 * cs.fmax(0.45 - x[0], 0.0) ** 2,
        settings={},
    ),
    "quadrotor": Case(
        env_id="hrl/Quadrotor-v0",
        start=(3.0, -2.0, 0.0, 0.0, 0.0, 0.0),
        spread=(1.0, 1.0, 0.3, 0.5, 0.5, 0.5),
        actions=np.full((100, 2), 9.81 / 2.0),
        step=_quadrotor_step,
        cost=_quadrotor_cost,
        end=lambda cs, x: 10.0 * sum(x[i] ** 2 for i in range(6)),
        settings={},
    ),
    "cart-pole": Case(
        env_id="hrl/CartPoleSwingUp-v0",
        start=(0.0, 0.0, math.pi, 0.0),
        spread=(0.2, 0.2, 0.2, 0.2),
        actions=wave(200, 1.0, 60.0, 0.3),
        step=_pole_step,
        cost=_pole_cost,
        end=_pole_end,
        settings={},
    ),
    "pendulum": _pendulum(np.zeros((200, 1))),
    "pendulum-pump": _pendulum(pendulum_pump, barrier=False),  # a barrier moves good first actions off their bounds
}
