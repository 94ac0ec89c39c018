"""The Gaussian distribution, known or unknown noise, one dimension or several: its density and its moments' points."""

from __future__ import annotations

import math

import torch

from hamiltonian_rl.problems.estimation.observations import Observations

LOG_TWO_PI = math.log(2.0 * math.pi)


def gaussian_log_density(y: torch.Tensor, mean: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return ``log N(y; mean, σ²)``, of the shape that the three broadcast to.

    Example:
        >>> gaussian_log_density(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0))
        tensor(-0.9189)
    """
    return -0.5 * ((y - mean) / sigma) ** 2 - torch.log(sigma) - 0.5 * LOG_TWO_PI


def gaussian_outcomes(
    data: Observations, mean: torch.Tensor, sigma: torch.Tensor
) -> list[tuple[Observations, torch.Tensor]]:
    """Return ``2 d + 1`` points with the moments of ``N(mean, σ² I)`` up to the fifth, and ``E|z|⁴``.

    The scores of mean and ``σ`` are polynomials of second degree in ``z`` by ``|z|²``, so that these points give the
    Fisher information exactly: the mean itself with weight ``2/(d + 2)``, and ``mean ± σ √(d + 2) e_j`` with
    ``1/(2 (d + 2))``.

    Args:
        data: Whose targets are replaced.
        mean: Shape ``(N,)`` or ``(N, d)``.
        sigma: A number.

    Returns:
        Targets of the shape of ``mean``, each with weights ``(N,)``.

    Example:
        >>> data = Observations.of([0.0])
        >>> points = gaussian_outcomes(data, torch.tensor([1.0]), torch.tensor(2.0))
        >>> [round(sum(float(w * (d.targets - 1.0) ** k) for d, w in points), 4) for k in (0, 1, 2, 4)]  # 1, 0, σ², 3σ⁴
        [1.0, 0.0, 4.0, 48.0]
    """
    d = 1 if mean.ndim == 1 else mean.shape[1]
    points = [(data.with_targets(mean), mean.new_full((len(mean),), 2.0 / (d + 2)))]
    weight = mean.new_full((len(mean),), 0.5 / (d + 2))
    for axis in torch.eye(d, dtype=mean.dtype):
        for sign in (-1.0, 1.0):
            step = sign * math.sqrt(d + 2) * sigma * (axis if mean.ndim == 2 else axis[0])
            points.append((data.with_targets(mean + step), weight))
    return points
