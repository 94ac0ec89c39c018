"""Control problems made of a few functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.problems import ControlProblem


def _made(
    dynamics: Callable[..., Any],
    reward: Callable[..., Any],
    *,
    end: Callable[..., Any] | None = None,
    n: int = 1,
    m: int = 1,
    low: Any = -math.inf,
    high: Any = math.inf,
    horizon: int | None = 1,
    discount: float = 1.0,
    constraints: Callable[..., Any] | None = None,
    terminal_constraints: Callable[..., Any] | None = None,
) -> ControlProblem:
    class Made(ControlProblem):
        state_space = gym.spaces.Box(-1.0, 1.0, (n,), np.float64)
        action_space = gym.spaces.Box(np.full(m, low, float), np.full(m, high, float), dtype=np.float64)

        def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
            return dynamics(state, action, step)

        def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
            return reward(state, action, step)

    problem = Made()
    problem.horizon, problem.discount = horizon, discount
    if end is not None:
        problem.terminal_reward = end  # type: ignore[method-assign]
    if constraints is not None:
        problem.constraints = constraints  # type: ignore[method-assign]
    if terminal_constraints is not None:
        problem.terminal_constraints = terminal_constraints  # type: ignore[method-assign]
    return problem


@pytest.fixture
def made() -> Callable[..., ControlProblem]:
    """Return a function that makes a problem of dynamics, reward and what else it has."""
    return _made


@pytest.fixture(params=["compiled", "torch"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both back ends, one after the other."""
    return str(request.param)
