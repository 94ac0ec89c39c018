"""Fitting a value network to values and slopes: Levenberg and Marquardt's method, for one flat vector of parameters.

A quadratic V, and the last layer whatever the others are, is linear in the parameters and found in one step; that is
what first-order methods take thousands for.

Reference:
    Marquardt (1963), "An algorithm for least-squares estimation of nonlinear parameters"; Nocedal and Wright (2006),
    section 10.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.func import grad_and_value, jacrev, vmap

from hamiltonian_rl.agents.value_network import ValueNetwork
from hamiltonian_rl.principles.bellman import huber

LEAST_DAMPING, ATTEMPTS = 1e-9, 8
ROWS_AT_ONCE = 2_000


class Targets(NamedTuple):
    """What V and its gradient are to become at B states: ``(B,)`` and ``(B, n)``, None where a state has no slopes."""

    value: torch.Tensor
    costate: torch.Tensor | None


class ValueFit:
    """The loss of a value network on targets, and its descent.

    ``L(θ) = mean of (1 - w) ρ(V_θ - y) + w Σ_i ρ'(∂_i V_θ - λ_i) + ridge |θ|² / 2``, in units of V, with ρ and ρ'
    Huber's losses and a slope counted per half width of the box. At cliffs and ridges of V slopes jump more than values
    do: hence a threshold of their own.

    Args:
        network: For V.
        costate_weight: ``w``; without slopes in the targets it is zero.
        huber_threshold: Of ρ, infinite for the squared loss.
        ridge: Weight of the parameters' own squares.
        costate_threshold: Of ρ'; that of ρ when None.

    Attributes:
        damping: Added to the curvature; it falls where steps succeed, and is a part of what is learnt.
    """

    def __init__(
        self,
        network: ValueNetwork,
        costate_weight: float,
        huber_threshold: float,
        ridge: float,
        costate_threshold: float | None = None,
    ) -> None:
        self._network, self._weight, self._ridge = network, costate_weight, ridge
        slopes = huber_threshold if costate_threshold is None else costate_threshold
        # w ρ(e) with the threshold t is ρ(√w e) with √w t; without weight there is no error either.
        value = (1.0 - costate_weight) ** 0.5 * huber_threshold if costate_weight < 1 else math.inf
        each = [costate_weight**0.5 * slopes] * len(network.half_width) if costate_weight > 0 else []
        self._limits = torch.tensor([value, *each], dtype=torch.float64)
        self.damping = 1e-3

    def improve(self, params: torch.Tensor, states: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, float]:
        """Take one step; return the parameters, and the loss there. Both stay where no step lowers the loss."""
        wanted = self._wanted(targets)
        curvature = torch.zeros(self._network.size, self._network.size, dtype=params.dtype)
        slope = self._ridge * params
        parts = zip(*(torch.split(part, ROWS_AT_ONCE) for part in (states, wanted)), strict=True)
        for some, want in parts:
            rows = vmap(jacrev(self._outputs), (None, 0))(params, some) / self._network.scale
            error = vmap(self._outputs, (None, 0))(params, some) / self._network.scale - want
            # Huber's loss is a squared one whose weights fall with the error (Holland and Welsch 1977).
            weights = (self._limits / error.abs().clamp(min=1e-300)).clamp(max=1.0) / len(states)
            rows, error, weights = rows.flatten(0, 1), error.flatten(), weights.flatten()
            curvature += (rows.T * weights) @ rows
            slope += rows.T @ (weights * error)
        loss = self.loss(params, states, targets)
        for _ in range(ATTEMPTS):
            damped = curvature.clone()
            damped.diagonal().add_(self.damping + self._ridge)
            tried = params - torch.cholesky_solve(slope[:, None], torch.linalg.cholesky(damped))[:, 0]
            new = self.loss(tried, states, targets)
            if new < loss:
                self.damping = max(self.damping / 4.0, LEAST_DAMPING)
                return tried, new
            self.damping *= 5.0
        return params, loss

    def loss(self, params: torch.Tensor, states: torch.Tensor, targets: Targets) -> float:
        """Return the loss."""
        error = vmap(self._outputs, (None, 0))(params, states) / self._network.scale - self._wanted(targets)
        return float(huber(error, self._limits).sum() / len(states) + 0.5 * self._ridge * params @ params)

    def _outputs(self, params: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Return V of one state and its slopes, each times the root of its weight."""
        if self._weight == 0:
            return self._network(params, state)[None]
        slopes, value = grad_and_value(lambda state: self._network(params, state))(state)
        return self._weighted(value[None], slopes)

    def _wanted(self, targets: Targets) -> torch.Tensor:
        """Return what `_outputs` should be at each state, in units of V."""
        value = targets.value[:, None] / self._network.scale
        if self._weight == 0 or targets.costate is None:
            return value
        return self._weighted(value, targets.costate / self._network.scale)

    def _weighted(self, value: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        root, other = self._weight**0.5, (1.0 - self._weight) ** 0.5
        return torch.cat([other * value, root * self._network.half_width * slopes], -1)
