"""What is measured, as motion and noise: few points that stand for many, and noise that remembers.

Notation: ``n`` points, ``S (n, n)`` the smoother, so that ``Sy`` is the smooth curve, ``A = I - S``; the noise is taken
for a first-order autoregression, ``Cov(e_i, e_j) = σ² R_ij`` with ``R_ij = ρ^|i-j|``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_POINTS = 200  # more are averaged in groups, each as large as the others
CORRELATIONS = np.linspace(0.0, 0.95, 20)


def grouped(places: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return places and values, averaged over neighbours where there are more than ``most``.

    Args:
        places: Increasing, shape ``(N,)``.
        values: Shape ``(N,)``.
        most: Points to return at the most.

    Example:
        >>> grouped(np.arange(4.0), np.array([1.0, 3.0, 5.0, 7.0]), most=2)
        (array([0.5, 2.5]), array([2., 6.]))
    """
    if len(places) <= most:
        return places, values
    edges = np.linspace(0, len(places), most + 1).round().astype(int)
    sizes = np.diff(edges)
    return np.add.reduceat(places, edges[:-1]) / sizes, np.add.reduceat(values, edges[:-1]) / sizes


@dataclass(frozen=True)
class Noise:
    """What the curve does not explain.

    Attributes:
        sigma: Standard deviation.
        rho: Correlation of neighbours.
        freedom: Points less what the smooth curve has used up, ``tr((I - S)ᵀ(I - S))``.
    """

    sigma: float
    rho: float
    freedom: float

    def correlation(self, n: int) -> np.ndarray:
        """Return ``R``, shape ``(n, n)``."""
        return correlation_matrix(self.rho, n)


def correlation_matrix(rho: float, n: int) -> np.ndarray:
    """Return ``R_ij = ρ^|i-j|``, shape ``(n, n)``."""
    places = np.arange(n)
    with np.errstate(under="ignore"):
        matrix = rho ** np.abs(places[:, None] - places)
    return np.where(matrix < 1e-15, 0.0, matrix)


def rounding(values: np.ndarray) -> float:
    """Return what in values like these is no more than the rounding of computing with them."""
    return 1e-10 * float(np.ptp(values)) + 1e-13 * float(np.abs(values).max())


def noise_of(smoother: np.ndarray, values: np.ndarray) -> Noise:
    """Return the noise by the moments of the residuals.

    Residuals ``r = Ay`` have ``E[rrᵀ] = σ² A R Aᵀ`` where the curve is smooth enough for ``S``. The correlation is the
    one whose expected ratio ``Σ E[r_i r_{i+1}] / Σ E[r_i²]`` is the observed one: the smoother takes out some of the
    noise, so that the residuals' own correlation is too small.

    Args:
        smoother: ``S``, shape ``(n, n)``.
        values: ``y``, shape ``(n,)``.
    """
    n = len(values)
    away = np.eye(n) - smoother
    residuals = away @ values
    squares = float(residuals @ residuals)
    freedom = max(float((away**2).sum()), 1.0)
    if squares <= n * rounding(values) ** 2:
        return Noise(0.0, 0.0, freedom)
    totals, neighbours = np.empty(len(CORRELATIONS)), np.empty(len(CORRELATIONS))
    for index, rho in enumerate(CORRELATIONS):
        spread = away @ correlation_matrix(float(rho), n)
        totals[index] = (spread * away).sum()
        neighbours[index] = (spread[:-1] * away[1:]).sum()
    ratio = float(residuals[:-1] @ residuals[1:]) / squares
    rho = float(np.interp(ratio, np.maximum.accumulate(neighbours / totals), CORRELATIONS))
    return Noise(float(np.sqrt(squares / np.interp(rho, CORRELATIONS, totals))), rho, freedom)
