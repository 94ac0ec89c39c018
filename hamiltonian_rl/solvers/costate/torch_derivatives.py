"""First and second derivatives of a problem along many paths at once, by torch's automatic differentiation.

Notation: B paths, N steps, n state, m action, ``z = (s, a)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hamiltonian_rl.solvers.costate.augmented import Augmented


@dataclass(frozen=True)
class Multipliers:
    """Of the constraints, with the penalty of each path.

    Attributes:
        weights: ν of each step, shape ``(B, N, C)``.
        end_weights: ν of the end, shape ``(B, C')``.
        penalty: ρ, shape ``(B,)``.
    """

    weights: torch.Tensor
    end_weights: torch.Tensor
    penalty: torch.Tensor


@dataclass(frozen=True)
class Expansion:
    """Derivatives along paths.

    Attributes:
        jacobian: ``∂f/∂z``, shape ``(B, N, n, n + m)``.
        reward_slope: ``∂r/∂z``, shape ``(B, N, n + m)``.
        reward_curvature: ``∂²r/∂z²``, shape ``(B, N, n + m, n + m)``.
        next_curvature: ``∂²f/∂z²``, shape ``(B, N, n, n + m, n + m)``.
        end_slope: ``∂h/∂s``, shape ``(B, n)``.
        end_curvature: ``∂²h/∂s²``, shape ``(B, n, n)``.
    """

    jacobian: torch.Tensor
    reward_slope: torch.Tensor
    reward_curvature: torch.Tensor
    next_curvature: torch.Tensor
    end_slope: torch.Tensor
    end_curvature: torch.Tensor


def slopes(value: torch.Tensor, variable: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each path's and step's value with respect to its own variable, keeping the graph."""
    if not value.requires_grad:
        return torch.zeros_like(variable)
    (gradient,) = torch.autograd.grad(value.sum(), variable, create_graph=True, allow_unused=True)
    return torch.zeros_like(variable) if gradient is None else gradient


def jacobian(values: torch.Tensor, variable: torch.Tensor) -> torch.Tensor:
    """Return the slopes of each entry of the last dimension, ``(..., entries, variables)``, keeping the graph."""
    return torch.stack([slopes(values[..., i], variable) for i in range(values.shape[-1])], -2)


def run(
    augmented: Augmented, states: torch.Tensor, actions: torch.Tensor, multipliers: Multipliers, *, stepwise: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return next states and rewards of all steps of given states and actions.

    Args:
        augmented: The problem.
        states: ``(B, N, n)``.
        actions: ``(B, N, m)``.
        multipliers: Of the constraints.
        stepwise: Call the problem once a step, with a whole number; else once, with all numbers as a tensor.
    """
    if not stepwise:
        steps: torch.Tensor = torch.arange(actions.shape[1], device=states.device)
        penalty = multipliers.penalty[:, None].expand(actions.shape[:2])
        return augmented.step(states, actions, steps, multipliers.weights, penalty)  # type: ignore[arg-type]
    made = [
        augmented.step(states[:, k], actions[:, k], k, multipliers.weights[:, k], multipliers.penalty)
        for k in range(actions.shape[1])
    ]
    return torch.stack([x for x, _ in made], 1), torch.stack([x for _, x in made], 1)


def expand(
    augmented: Augmented, states: torch.Tensor, actions: torch.Tensor, multipliers: Multipliers, *, stepwise: bool
) -> Expansion:
    """Return all derivatives that the backward pass needs; states ``(B, N + 1, n)``."""
    n = states.shape[-1]
    with torch.enable_grad():
        z = torch.cat([states[:, :-1], actions], -1).detach().requires_grad_()
        next_states, rewards = run(augmented, z[..., :n], z[..., n:], multipliers, stepwise=stepwise)
        reward_slope, of_dynamics = slopes(rewards, z), jacobian(next_states, z)
        next_curvature = torch.stack([jacobian(of_dynamics[..., i, :], z) for i in range(n)], -3)
        reward_curvature = jacobian(reward_slope, z)
    end_slope, end_curvature = expand_end(augmented, states[:, -1], multipliers)
    found = of_dynamics, reward_slope, reward_curvature, next_curvature, end_slope, end_curvature
    return Expansion(*(x.detach() for x in found))


def expand_end(
    augmented: Augmented, states: torch.Tensor, multipliers: Multipliers
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gradient ``(B, n)`` and curvature ``(B, n, n)`` of the terminal reward at last states ``(B, n)``."""
    with torch.enable_grad():
        last = states.detach().requires_grad_()
        slope = slopes(augmented.end(last, multipliers.end_weights, multipliers.penalty), last)
        curvature = jacobian(slope, last)
    return slope.detach(), curvature.detach()
