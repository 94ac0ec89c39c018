"""The Legendre transform ``H(p) = sup_u [p·u - L(u)]``, numerically for any convex L, and in closed form."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hamiltonian_rl.errors import SolverError

MOST_STEPS = 200
HALVINGS = 60
FAR = 1e12


def kinetic_hamiltonian(momentum: torch.Tensor, log_likelihood: torch.Tensor, mass: float) -> torch.Tensor:
    """Return ``H = |p|²/2m + ℓ``, the Legendre transform of ``L = (m/2)|u|² - ℓ`` at ``u = p/m``.

    Args:
        momentum: ``p``, shape ``(..., P)``.
        log_likelihood: ``ℓ``, shape ``(...)``.
        mass: ``m``.

    Example:
        >>> kinetic_hamiltonian(torch.tensor([3.0, 4.0]), torch.tensor(-1.0), mass=0.5)
        tensor(24.)
    """
    return (momentum**2).sum(-1) / (2.0 * mass) + log_likelihood


def legendre_transform(
    lagrangian: Callable[[torch.Tensor], torch.Tensor],
    momentum: torch.Tensor,
    start: torch.Tensor | None = None,
    tol: float = 1e-12,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``sup_u [p·u - L(u)]`` and the velocity where it is reached, by solving ``∇L(u) = p``.

    Newton's method, with steps halved until the supremum rises. L must be twice differentiable by torch and strictly
    convex.

    Args:
        lagrangian: ``L``, from a velocity ``(P,)`` to a number; a state is closed over.
        momentum: ``p``, shape ``(P,)``, float64.
        start: Velocity to start from; zero unless given.
        tol: Largest residual of ``∇L(u) = p``, beside ``1 + |p|``.

    Raises:
        SolverError: The supremum is infinite, or L is not convex where the search came to.

    Example:
        >>> p = torch.tensor([2.0], dtype=torch.float64)
        >>> legendre_transform(lambda u: torch.cosh(u).sum(), p)[1]  # arsinh 2
        tensor([1.4436], dtype=torch.float64)
    """
    velocity = torch.zeros_like(momentum) if start is None else start.clone()

    def value(u: torch.Tensor) -> torch.Tensor:
        return momentum @ u - lagrangian(u)

    slope_of, bend_of = torch.func.grad(value), torch.func.hessian(value)
    for _ in range(MOST_STEPS):
        slope = slope_of(velocity)
        if slope.norm() <= tol * (1.0 + momentum.norm()):
            return value(velocity).detach(), velocity
        factor, failed = torch.linalg.cholesky_ex(-bend_of(velocity))
        if failed or not slope.isfinite().all():
            break
        step = torch.cholesky_solve(slope[:, None], factor)[:, 0]
        here = value(velocity)
        for halving in range(HALVINGS):
            there = velocity + 0.5**halving * step
            # Rounding of the value hides the last gains, where the residual still falls.
            if value(there) > here or slope_of(there).norm() < slope.norm():
                break
        else:
            break
        velocity = there
        if velocity.norm() > FAR:
            break
    raise SolverError(
        f"The Legendre transform found no velocity with ∇L(u) = p: at u = {velocity.tolist()[:4]} the residual is "
        f"{slope_of(velocity).norm().item():.3g}. Expected L strictly convex, and p among its slopes; elsewhere the "
        "supremum is infinite. Try another start."
    )
