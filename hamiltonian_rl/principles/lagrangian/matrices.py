"""Powers of symmetric, positive semi-definite matrices by their eigenvalues."""

from __future__ import annotations

import math

import torch

from hamiltonian_rl.errors import UsageError

EPS = torch.finfo(torch.float64).eps
SINGULAR = 1e-13  # of a matrix with ones on its diagonal, an eigenvalue that counts as zero


def powers(values: torch.Tensor, power: float, damping: float = 0.0) -> torch.Tensor:
    """Return ``(φ + damping)^power`` of eigenvalues ``φ``.

    Without damping those below ``n ε φ_max``, which rounding cannot tell from zero, count as zero, and zero to a
    negative power is zero: the pseudo-inverse. Negative ones, of rounding, count as zero.

    Args:
        values: ``φ``, shape ``(n,)``.
        power: Any number; zero gives the projection on what is not singular.
        damping: What is added to each, at least 0.

    Raises:
        UsageError: ``power`` or ``damping`` is no finite number, or ``damping`` is negative.

    Example:
        >>> powers(torch.tensor([4.0, 0.0]), -0.5)
        tensor([0.5000, 0.0000])
    """
    for name, value in (("power", power), ("damping", damping)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{name} = {value!r}; expected a finite number.")
    if damping < 0.0:
        raise UsageError(f"damping = {damping!r}; expected a number from 0 up.")
    damped = values.clamp(min=0.0) + damping
    kept = damped > (0.0 if damping else _zero_below(values))
    return torch.where(kept, torch.where(kept, damped, 1.0) ** power, 0.0)


def _zero_below(values: torch.Tensor) -> torch.Tensor:
    """Return below what an eigenvalue counts as zero."""
    return values.max().clamp(min=0.0) * (values.numel() * EPS)


def matrix_power(matrix: torch.Tensor, power: float, damping: float = 0.0) -> torch.Tensor:
    """Return ``(F + damping I)^power``, of a singular ``F`` without damping that of its pseudo-inverse.

    Args:
        matrix: ``F``, symmetric and positive semi-definite, shape ``(n, n)``.
        power: -1 for the natural gradient, -1/2 for the stationary path (section 3.3), or another.
        damping: Added to each eigenvalue; zero for the pseudo-inverse, see `powers`.

    Raises:
        UsageError: The matrix is not square or symmetric, or holds what is no number.

    Example:
        >>> matrix_power(torch.diag(torch.tensor([4.0, 0.0])), -0.5)
        tensor([[0.5000, 0.0000],
                [0.0000, 0.0000]])
        >>> matrix_power(torch.diag(torch.tensor([4.0, 0.0])), -0.5, damping=0.25).diagonal()
        tensor([0.4851, 2.0000])
    """
    values, vectors = torch.linalg.eigh(_checked(matrix))
    raised: torch.Tensor = (vectors * powers(values, power, damping)) @ vectors.T
    return raised


def inverse_root(matrix: torch.Tensor) -> torch.Tensor:
    """Return ``R`` with ``R Rᵀ = F⁻¹``, of a singular ``F`` a generalized inverse; shape ``(n, rank)``.

    Computed from ``F`` scaled to a diagonal of ones, so that neither the inverse nor the rank depends on the units of
    the parameters. Eigenvalues of the scaled matrix below 1e-13 count as zero.

    Example:
        >>> inverse_root(torch.diag(torch.tensor([4e12, 1e-12]))).diagonal()
        tensor([5.0000e-07, 1.0000e+06])
    """
    symmetric = _checked(matrix)
    scales = symmetric.diagonal().clamp(min=0.0).sqrt()
    scales = torch.where(scales > 0.0, scales, 1.0)
    values, vectors = torch.linalg.eigh(symmetric / scales[:, None] / scales)
    kept = values > SINGULAR
    root: torch.Tensor = vectors[:, kept] * values[kept].rsqrt() / scales[:, None]
    return root


def matrix_rank(matrix: torch.Tensor) -> int:
    """Return how many eigenvalues are not zero, by the rule of `inverse_root`.

    Example:
        >>> matrix_rank(torch.ones(3, 3))
        1
    """
    return inverse_root(matrix).shape[1]


def _checked(matrix: torch.Tensor) -> torch.Tensor:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise UsageError(f"The matrix has shape {tuple(matrix.shape)}; expected (n, n).")
    if not matrix.isfinite().all():
        raise UsageError("The matrix holds infinities or NaN. Look at the parameters that it was computed at.")
    gap, size = (matrix - matrix.T).abs().max(), matrix.abs().max()
    if gap > size * 1e3 * matrix.shape[0] * torch.finfo(matrix.dtype).eps:
        raise UsageError(f"The matrix is not symmetric: {gap.item():.3g} beside entries of up to {size.item():.3g}.")
    return 0.5 * (matrix + matrix.T)
