"""Saving and spending over time, with answers in closed form.

Both eat a share of what there is, which is a box whatever there is. A logarithm of nothing is not finite: what lies
below `LEAST` counts as `LEAST`, which no good plan touches.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch

from hamiltonian_rl.envs.integration import checked_horizon
from hamiltonian_rl.problems import ControlProblem

LEAST = 1e-9


class BrockMirman(ControlProblem):
    """Growth: of the output ``k^α`` a share ``a`` is eaten, the rest is the capital of the next period.

    ``k' = (1 - a) k^α``, ``r = ln(a k^α)``. Without horizon the optimal share is ``1 - αβ`` and
    ``V(k) = A + B ln k`` with ``B = α / (1 - αβ)`` and
    ``A = (ln(1 - αβ) + αβ ln(αβ) / (1 - αβ)) / (1 - β)`` (Brock and Mirman 1972; Ljungqvist and Sargent,
    section 4.1). With N periods the last eats all, and k periods before the end the share is
    ``1 / (1 + αβ + ... + (αβ)^k)``.

    Args:
        alpha: ``α``, what capital yields.
        discount: ``β``.
        horizon: N, or None.
    """

    state_space = gym.spaces.Box(0.01, 1.0, (1,), np.float64)
    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float64)
    start, spread = (0.1,), (0.05,)
    state_names, action_names = ("capital",), ("share eaten",)

    def __init__(self, alpha: float = 0.36, discount: float = 0.95, horizon: int | None = None) -> None:
        self.horizon = None if horizon is None else checked_horizon(horizon)
        self.alpha, self.discount = alpha, discount

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``(1 - a) k^α``."""
        return (1.0 - action) * state.clamp(min=LEAST) ** self.alpha

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``ln(a k^α)``."""
        eaten = action[..., 0] * state[..., 0].clamp(min=LEAST) ** self.alpha
        return eaten.clamp(min=LEAST).log()


class CakeEating(ControlProblem):
    """A cake to be eaten in N periods: of what is left a share ``a`` is eaten, and liked as its logarithm.

    ``x' = (1 - a) x``, ``r = ln(a x)``. The optimum eats ``c_k = β^k x_0 (1 - β) / (1 - β^N)``, so that
    ``V(x_0) = Σ β^k ln c_k`` and its costate is ``λ_0 = (1 - β^N) / (1 - β) / x_0``.

    Args:
        horizon: N.
        discount: ``β``.
    """

    state_space = gym.spaces.Box(0.0, 1.0, (1,), np.float64)
    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float64)
    start, spread = (1.0,), (0.0,)
    state_names, action_names = ("cake left",), ("share eaten",)

    def __init__(self, horizon: int = 10, discount: float = 0.95) -> None:
        self.horizon, self.discount = checked_horizon(horizon), discount

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``(1 - a) x``."""
        return (1.0 - action) * state

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        """``ln(a x)``."""
        return (action[..., 0] * state[..., 0]).clamp(min=LEAST).log()
