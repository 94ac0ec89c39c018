"""What Pontryagin's conditions say of a path, computed from the problem and `principles`, not from the solver."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.principles.hamiltonian import costate_equation, hamiltonian, projected_stationarity
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.control_problem import standing_step
from hamiltonian_rl.trajectory import Trajectory


@dataclass(frozen=True, eq=False)
class Certificate:
    """Residuals of Eq. 13-15 along each of B paths.

    Attributes:
        dynamics: Largest ``|s_{k+1} - f(s_k, a_k, k)|``, shape ``(B,)``.
        costate: Largest ``|λ_k - ∂H/∂s_k|``, and of ``|λ_N - ∂h/∂s|``, shape ``(B,)``. The solver's costates follow
            the feedback, so that this is ``|K_kᵀ ∂H/∂a_k|``: the residual of Eq. 15 (at most tol) times the gain.
        stationarity: Largest ``|clip(a + ∂H/∂a) - a|``, shape ``(B,)``.
        hamiltonian_gap: Of each step, by how much the best of a lattice of other actions raises H at the same
            state and costate, shape ``(B, N)``; at a stationary path it is above zero where H is *not* maximised,
            which in discrete time is no contradiction (PAPER section 4).
    """

    dynamics: np.ndarray
    costate: np.ndarray
    stationarity: np.ndarray
    hamiltonian_gap: np.ndarray

    @property
    def maximises_hamiltonian(self) -> np.ndarray:
        """Whether no other action raises H at any step by more than rounding, shape ``(B,)``."""
        return np.asarray((self.hamiltonian_gap <= 1e-9).all(-1))


def certify(
    problem: ControlProblem, trajectory: Trajectory, multipliers: np.ndarray, end_multipliers: np.ndarray
) -> Certificate:
    """Return the certificate of paths with costates; multipliers of the constraints as in `PathSolution`."""
    states, actions = (torch.as_tensor(x) for x in (trajectory.states, trajectory.actions))
    costates = torch.as_tensor(trajectory.costates)
    count, horizon = actions.shape[:2]
    dynamics, costate, stationarity = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
    gap = torch.zeros(count, horizon, dtype=torch.float64)
    space: Any = problem.action_space
    low, high = (torch.as_tensor(x, dtype=torch.float64) for x in (space.low, space.high))
    for k in range(horizon):
        state, action = states[:, k].clone().requires_grad_(), actions[:, k].clone().requires_grad_()
        pressed = torch.as_tensor(multipliers[:, k])

        def value(state: torch.Tensor, action: torch.Tensor, k: int = k, pressed: torch.Tensor = pressed) -> Any:
            next_state, reward = standing_step(problem, state, action, k)
            if pressed.shape[-1]:
                reward = reward - (pressed * problem.constraints(state, action, k)).sum(-1)
            return hamiltonian(reward, next_state, costates[:, k + 1], problem.discount), next_state

        here, next_state = value(state, action)
        slope = _slope(here, action)
        dynamics = torch.maximum(dynamics, (states[:, k + 1] - next_state.detach()).abs().amax(-1))
        costate = torch.maximum(costate, (costates[:, k] - costate_equation(here, state)).abs().amax(-1))
        moved = projected_stationarity(action.detach(), slope, low, high)
        stationarity = torch.maximum(stationarity, moved.abs().amax(-1))
        with torch.no_grad():
            for other in _lattice(actions[:, k], low, high):
                gap[:, k] = torch.maximum(gap[:, k], value(states[:, k], other)[0] - here.detach())
    last = states[:, -1].clone().requires_grad_()
    end = problem.terminal_reward(last)
    if end_multipliers.shape[-1]:
        end = end - (torch.as_tensor(end_multipliers) * problem.terminal_constraints(last)).sum(-1)
    costate = torch.maximum(costate, (costates[:, -1] - _slope(end, last)).abs().amax(-1))
    return Certificate(*(x.detach().numpy() for x in (dynamics, costate, stationarity, gap)))


def _slope(value: torch.Tensor, variable: torch.Tensor) -> torch.Tensor:
    """Return the derivative of the sum of values, zero where they do not depend on the variable."""
    if not value.requires_grad:
        return torch.zeros_like(variable)
    (found,) = torch.autograd.grad(value.sum(), variable, retain_graph=True, allow_unused=True)
    return torch.zeros_like(variable) if found is None else found


def _lattice(actions: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> list[torch.Tensor]:
    """Return other actions: a lattice within the bounds, or around the action where it has none."""
    m = actions.shape[-1]
    parts = {1: 33, 2: 9}.get(m, 3)
    bounded = torch.isfinite(low) & torch.isfinite(high)
    found = []
    for place in itertools.product(np.linspace(0.0, 1.0, parts), repeat=m):
        share = torch.tensor(place, dtype=torch.float64)
        inside = torch.where(bounded, low + share * (high - low), 0.0)
        around = actions + (2.0 * share - 1.0) * (1.0 + actions.abs())
        around = torch.minimum(torch.maximum(around, low), high)
        found.append(torch.where(bounded, inside.expand_as(actions), around))
    return found
