"""Steps of differential equations, in torch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import torch

from hamiltonian_rl.errors import UsageError


def runge_kutta_step(
    derivative: Callable[[torch.Tensor], torch.Tensor], state: torch.Tensor, time_step: float
) -> torch.Tensor:
    """Return the state one step of the classical fourth-order Runge-Kutta method later.

    Args:
        derivative: ``dx/dt`` of states ``(..., n)``.
        state: Shape ``(..., n)``.
        time_step: In units of the derivative's time.

    Example:
        >>> growth = runge_kutta_step(lambda x: x, torch.tensor([1.0], dtype=torch.float64), 0.1)
        >>> round(float(growth), 8)  # e^0.1 = 1.10517092
        1.10517083
    """
    first = derivative(state)
    second = derivative(state + 0.5 * time_step * first)
    third = derivative(state + 0.5 * time_step * second)
    fourth = derivative(state + time_step * third)
    return state + time_step / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)


def checked_horizon(horizon: int) -> int:
    """Return the number of steps as an int.

    Raises:
        UsageError: It is no whole number from 1 up.
    """
    try:
        steps = operator.index(horizon)
    except TypeError:
        steps = 0
    if steps < 1:
        raise UsageError(f"horizon = {horizon!r}; expected a whole number of steps from 1 up.")
    return steps


def time_step_of(duration: float, horizon: int) -> float:
    """Return the length of one of ``horizon`` equal steps.

    Raises:
        UsageError: The duration is not positive, or the horizon no whole number from 1 up.
    """
    if not 0.0 < duration < math.inf:
        raise UsageError(f"duration = {duration!r}; expected a positive, finite time.")
    return duration / checked_horizon(horizon)
