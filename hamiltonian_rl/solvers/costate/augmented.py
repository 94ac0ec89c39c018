"""A problem with its constraints moved into the reward: the augmented Lagrangian (Hestenes, Powell 1969).

For ``c(s, a, k) <= 0`` with multiplier ν and penalty ρ the reward loses
``(max(0, ν + ρ c)² - ν²) / 2ρ``; for ``g(s_N) = 0`` the terminal reward loses ``νᵀg + ρ |g|² / 2``.
"""

from __future__ import annotations

import torch

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.problems.control_problem import standing_step


class Augmented:
    """The step and the end of a problem, with multipliers; all functions are batched like the problem's.

    Attributes:
        problem: The problem itself.
        sizes: Of state, action, and constraints of a step.
        end_sizes: Of state, action, and constraints of the end.
    """

    def __init__(self, problem: ControlProblem) -> None:
        self.problem = problem
        n, m = problem.state_space.shape[0], problem.action_space.shape[0]  # type: ignore[index]
        state, action = torch.zeros(1, n, dtype=torch.float64), torch.zeros(1, m, dtype=torch.float64)
        with torch.no_grad():
            count = problem.constraints(state, action, 0).shape[-1]
            count_end = problem.terminal_constraints(state).shape[-1]
        self.sizes, self.end_sizes = (n, m, count), (n, m, count_end)

    def step(
        self, state: torch.Tensor, action: torch.Tensor, step: int, multipliers: torch.Tensor, penalty: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next state and the augmented reward."""
        next_state, reward = standing_step(self.problem, state, action, step)
        if self.sizes[2]:
            excess = self.problem.constraints(state, action, step)
            pressed = (multipliers + penalty[..., None] * excess).clamp(min=0.0)
            reward = reward - (pressed**2 - multipliers**2).sum(-1) / (2.0 * penalty)
        return next_state, reward

    def end(self, state: torch.Tensor, multipliers: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
        """Return the augmented terminal reward."""
        reward = self.problem.terminal_reward(state)
        if self.end_sizes[2]:
            excess = self.problem.terminal_constraints(state)
            reward = reward - (multipliers * excess).sum(-1) - 0.5 * penalty * (excess**2).sum(-1)
        return reward
