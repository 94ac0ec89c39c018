"""The Lagrangian (Eq. 26) and whether something is stationary under it: a field, or an optimizer's path (Eq. 27-30)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.lagrangian.matrices import inverse_root, matrix_rank
from hamiltonian_rl.problems.estimation import EstimationTask


def lagrangian(
    gradient: torch.Tensor, inverse_fisher: torch.Tensor, log_likelihood: torch.Tensor, prefactor: float | None = None
) -> torch.Tensor:
    """Return ``L = (1/2P) (∇ℓ)ᵀ F⁻¹ ∇ℓ - ℓ`` (Eq. 26), kinetic less potential energy.

    Args:
        gradient: ``∇ℓ``, shape ``(P,)``.
        inverse_fisher: ``F⁻¹``, shape ``(P, P)``.
        log_likelihood: ``ℓ``.
        prefactor: Another than ``1/(2P)``.

    Example:
        >>> lagrangian(torch.tensor([2.0, 0.0]), torch.eye(2), torch.tensor(-3.0))
        tensor(4.)
    """
    scale = 0.5 / gradient.numel() if prefactor is None else prefactor
    return scale * gradient @ inverse_fisher @ gradient - log_likelihood


def field_residual(
    task: EstimationTask,
    params: torch.Tensor,
    *,
    divergence: bool = True,
    prefactor: float | None = None,
    inverse_metric: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> float:
    """Return ``ρ(θ) = 1 + (1/P) E[∇·(F⁻¹∇ℓ)]``, zero where the field ``ℓ`` satisfies Euler-Lagrange (Eq. 27-30).

    ``∇·(F⁻¹∇ℓ) = tr(F⁻¹∇²ℓ) + (∇·F⁻¹)·∇ℓ``, the expectation over the data; where ``E[∇ℓ] = 0`` the last term is zero.
    Of a singular F, by its pseudo-inverse, its rank takes the place of P: there is no residual along what the
    likelihood does not depend on.

    Args:
        task: The likelihood, with an exact Fisher information.
        params: ``θ``, shape ``(P,)``.
        divergence: Whether with the term of ``∇·F⁻¹``.
        prefactor: ``c`` of ``L = c (∇ℓ)ᵀF⁻¹∇ℓ - ℓ`` where it is not ``1/(2P)``: then ``1 + 2c E[∇·(F⁻¹∇ℓ)]``.
        inverse_metric: Gives another matrix ``(P, P)`` than ``F⁻¹`` at each ``θ``, such as ``η I`` of gradient descent.

    Raises:
        UsageError: The Fisher information is zero, or of more than 16,384 parameters.

    Example:
        >>> from hamiltonian_rl.problems.estimation import Bernoulli
        >>> coin = Bernoulli([1, 1, 1, 0], "logit")
        >>> abs(field_residual(coin, coin.start)) < 1e-12  # at the maximum
        True
    """
    theta = task.checked(params)
    size = task.n_params
    if inverse_metric is None:
        fisher = task.fisher(theta)
        size = matrix_rank(fisher)
        if size == 0:
            raise UsageError("The Fisher information is zero: the likelihood does not depend on the parameters here.")
    whole = size == task.n_params

    def velocity(at: torch.Tensor, metric_at: torch.Tensor) -> torch.Tensor:
        slope: torch.Tensor = torch.func.grad(task.mean_log_likelihood)(at)
        if inverse_metric is not None:
            moved: torch.Tensor = inverse_metric(metric_at) @ slope
        elif whole:
            moved = torch.linalg.solve(task.fisher(metric_at), slope)
        else:
            moved = torch.linalg.pinv(task.fisher(metric_at), hermitian=True, rtol=1e-12) @ slope
        return moved

    def field(at: torch.Tensor) -> torch.Tensor:
        return velocity(at, at if divergence else theta)

    spread = torch.func.jacrev(field)(theta).trace().item()
    return float(1.0 + (1.0 / size if prefactor is None else 2.0 * prefactor) * spread)


def information_residual(outer: torch.Tensor, curvature: torch.Tensor) -> float:
    """Return ``ρ = 1 - tr(K⁻¹J)/P``: at the maximum-likelihood point zero if the model is true (White's equality).

    It is `field_residual` with the empirical ``K = E[g gᵀ]`` in place of F, where ``E[∇ℓ] = 0``. Singular matrices by
    the pseudo-inverse, with the rank for P.

    Args:
        outer: ``K``, shape ``(P, P)``.
        curvature: ``J = -E[∇²ℓ]``, shape ``(P, P)``.

    Reference:
        White (1982), "Maximum likelihood estimation of misspecified models", section 4, in trace form.

    Example:
        >>> information_residual(4.0 * torch.eye(2), torch.eye(2))  # scores twice as large as the curvature allows
        0.75
    """
    root = inverse_root(outer)
    return float(1.0 - (root.T @ curvature @ root).trace().item() / max(root.shape[1], 1))


def particle_residual(path: torch.Tensor, gradients: torch.Tensor, dt: float, mass: float) -> torch.Tensor:
    """Return ``m θ̈ + ∇ℓ`` along a path, zero where it is stationary under ``L = ½ m |θ̇|² - ℓ``.

    With the second difference for ``θ̈`` it is the Euler-Lagrange equation of the discrete action
    ``Σ_k dt (½ m |θ_{k+1} - θ_k|²/dt² - ℓ(θ_k))`` itself, with no error of discretization.

    Args:
        path: ``θ_k``, shape ``(K + 1, P)``.
        gradients: ``∇ℓ(θ_k)``, shape ``(K + 1, P)``; the first and last are not used.
        dt: Time between two points.
        mass: ``m``.

    Returns:
        Of each inner point, shape ``(K - 1, P)``.

    Raises:
        UsageError: Path and gradients have other shapes, or fewer than three points.

    Example:
        >>> path = torch.tensor([[4.0], [2.0], [1.0]])  # halved at each step, as by ℓ = -θ²/4 and m = dt = 1
        >>> particle_residual(path, -0.5 * path, dt=1.0, mass=1.0)
        tensor([[0.]])
    """
    if path.ndim != 2 or len(path) < 3 or path.shape != gradients.shape:
        raise UsageError(
            f"path has shape {tuple(path.shape)} and gradients {tuple(gradients.shape)}; expected (K + 1, P) of both, "
            "three points at least."
        )
    return mass * (path[2:] - 2.0 * path[1:-1] + path[:-2]) / dt**2 + gradients[1:-1]
