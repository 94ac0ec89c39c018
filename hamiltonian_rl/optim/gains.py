"""How far a mode moves: the closed form of the least-action step on one eigenvalue of the Fisher information.

Notation: ``φ`` eigenvalue of the Fisher information ``F``, ``α = dt/√m`` length of the step, ``κ`` its share of
Newton's step, ``ε`` damping.

The control problem of an estimation task pays ``dt (ℓ(θ) - ½ m |u|²)`` a step and moves by ``dt·u``. Where
``ℓ = ℓ* - ½ δᵀFδ`` its Riccati equation is solved by

    dt·u = F⁻¹ (I - exp(-2 asinh(½ dt √(F/m)))) ∇ℓ .

With ``x = ½ dt √(φ/m)``, ``exp(-asinh x) = √(1 + x²) - x`` turns this into ``gain · ∇ℓ`` with

    gain(φ) = α / (κφ + √(φ + κ²φ²)) ,   κ = α/2 ,

in which nothing cancels. As ``φ → 0`` the gain diverges like ``α/√φ`` (as that of ``F^(-1/2)`` does, which is
``κ = 0``), so that ``ε`` is added to the denominator, where RMSprop and Adam have theirs (Eq. 31-32). Damping only
shortens a step: what never overshoots without it does not with it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def step_gain(fisher: Tensor, length: float, newton: float, eps: float) -> Tensor:
    """Return ``α / (κφ + √(φ + κ²φ²) + ε)``, the factor of a gradient's mode.

    Args:
        fisher: ``φ >= 0``, any shape.
        length: ``α``: ``dt/√m``, or a learning rate.
        newton: ``κ``: half of ``α`` for the least-action step, zero for ``F^(-1/2)``.
        eps: ``ε``.

    Returns:
        The gain, of the shape of ``fisher``; without damping zero where ``φ`` is, as of the pseudo-inverse.

    Example:
        >>> phi = torch.tensor([4.0])
        >>> step_gain(phi, 1e-3, 0.5e-3, 0.0) / 1e-3, step_gain(phi, 1e3, 0.5e3, 0.0)  # F^(-1/2), and Newton
        (tensor([0.4995]), tensor([0.2500]))
    """
    scaled = newton * fisher
    below = fisher.sqrt() if newton == 0.0 else (fisher + scaled.square()).sqrt() + scaled
    return length / (below + eps if eps else below.masked_fill(below == 0.0, torch.inf))


def contraction(fisher: Tensor, dt: float, mass: float) -> Tensor:
    """Return ``exp(-2 asinh(½ dt √(φ/m)))``: what a step leaves of a mode's distance to the maximum.

    Args:
        fisher: ``φ``, any shape.
        dt: Length of a step.
        mass: ``m``.

    Example:
        >>> contraction(torch.tensor([1.0]), dt=1.5, mass=1.0)  # exp(-2 ln 2)
        tensor([0.2500])
    """
    return torch.exp(-2.0 * torch.asinh(0.5 * dt * (fisher / mass).sqrt()))
