"""Deterministic control problems in discrete time, stated once for every solver, environment and agent.

Notation: ``s`` state ``(..., n)``, ``a`` action ``(..., m)`` (``(...)`` where actions are discrete), ``k`` step,
``N`` horizon. Leading dimensions are a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

if TYPE_CHECKING:
    import torch


class ControlProblem(ABC):
    """Maximise ``Σ_k γ^k r(s_k, a_k, k) + γ^N h(s_N)`` subject to ``s_{k+1} = f(s_k, a_k, k)`` (Eq. 8-9).

    A subclass sets the attributes and writes `dynamics` and `reward` with torch operations, batched over
    leading dimensions and differentiable: the derivatives come from them.

    Attributes:
        state_space: A Box of shape ``(n,)``; its bounds limit a grid, and a solver's states where it asks.
        action_space: A Box of shape ``(m,)``, or Discrete.
        horizon: Number of steps N, or None.
        discount: ``γ`` in [0, 1].
        periodic: Which coordinates are angles: their two bounds are the same place; shape ``(n,)``.
    """

    state_space: gym.spaces.Box
    action_space: gym.spaces.Box | gym.spaces.Discrete
    horizon: int | None = None
    discount: float = 1.0
    periodic: tuple[bool, ...] = ()

    @abstractmethod
    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return the next state ``f(s, a, k)``, shape ``(..., n)``."""

    @abstractmethod
    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return ``r(s, a, k)``, shape ``(...)``."""

    def terminal_reward(self, state: torch.Tensor) -> torch.Tensor:
        """Return ``h`` of an episode's last state, shape ``(...)``; zero unless a problem says otherwise.

        The last state is ``s_N``, or an earlier one where the episode is over (`terminated`), N then being its step.
        """
        return state[..., 0] * 0.0

    def terminated(self, state: torch.Tensor) -> torch.Tensor:
        """Return whether an episode that arrives at the state is over, shape ``(...)``; never unless said."""
        return (state != state).any(-1)

    def constraints(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """Return ``c(s, a, k)``, feasible where ``<= 0``, shape ``(..., C)``; none unless said."""
        return state[..., :0]

    def initial_states(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw n first states, shape ``(n, state size)``; uniform in the state space unless said."""
        low, high = self.state_space.low, self.state_space.high
        return generator.uniform(low, high, (n, *low.shape))

    def observation(self, state: torch.Tensor) -> torch.Tensor:
        """Return what an agent sees of the state; all of it unless said."""
        return state
