"""The Hamiltonian and what it says of an optimal path (Eq. 9-15).

Notation: ``s`` state, ``a`` action, ``f`` next state, ``r`` reward, ``λ`` costate of the *next* state, ``γ``
discount (one in the paper). Functions take torch tensors and keep their graph, so that derivatives are
exact.
"""

from __future__ import annotations

import torch


def hamiltonian(
    reward: torch.Tensor, next_state: torch.Tensor, costate: torch.Tensor, discount: float = 1.0
) -> torch.Tensor:
    """Return ``H = r(s, a) + γ f(s, a)ᵀ λ`` (Eq. 10).

    Args:
        reward: ``r(s, a)``, shape ``(...)``.
        next_state: ``f(s, a)``, shape ``(..., n)``.
        costate: ``λ`` of the next state, shape ``(..., n)``.
        discount: ``γ``.

    Example:
        >>> hamiltonian(torch.tensor(1.0), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), 0.5)
        tensor(6.5000)
    """
    return reward + discount * (next_state * costate).sum(-1)


def costate_equation(hamiltonian_value: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """Return ``λ_k = ∂H/∂s_k = r_s + γ f_sᵀ λ_{k+1}`` (Eq. 14), of the shape of ``state``.

    It is zero where H does not depend on the state.

    Args:
        hamiltonian_value: H, computed from ``state``; of a batch, where each belongs to its own state.
        state: A tensor that requires a gradient.

    Example:
        >>> state = torch.tensor([2.0], requires_grad=True)
        >>> costate_equation(hamiltonian(-(state**2).sum(), 3.0 * state, torch.tensor([1.0])), state)
        tensor([-1.])
    """
    if not hamiltonian_value.requires_grad:
        return torch.zeros_like(state)
    (gradient,) = torch.autograd.grad(hamiltonian_value.sum(), state, retain_graph=True, allow_unused=True)
    return torch.zeros_like(state) if gradient is None else gradient


def projected_stationarity(
    action: torch.Tensor, slope: torch.Tensor, low: torch.Tensor, high: torch.Tensor
) -> torch.Tensor:
    """Return ``clip(a + ∂H/∂a, low, high) - a``, zero where Eq. 15 holds within the bounds; shape ``(..., m)``.

    Args:
        action: ``(..., m)``.
        slope: ``∂H/∂a``, shape ``(..., m)``.
        low: Bounds of the action, ``(m,)``, infinite for none.
        high: The same.

    Example:
        >>> at_the_bound, pushing_out = torch.tensor([1.0]), torch.tensor([3.0])
        >>> projected_stationarity(at_the_bound, pushing_out, torch.tensor([-1.0]), torch.tensor([1.0]))
        tensor([0.])
    """
    return (action + slope).clamp(low, high) - action
