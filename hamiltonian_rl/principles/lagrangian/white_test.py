"""White's information-matrix test in trace form: is ``K = E[g gᵀ]`` equal to ``J = -E[∇²ℓ]``?"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from hamiltonian_rl.principles.lagrangian.euler_lagrange import information_residual
from hamiltonian_rl.principles.lagrangian.fisher import curvature, outer_information, unexplained
from hamiltonian_rl.principles.lagrangian.matrices import inverse_root
from hamiltonian_rl.problems.estimation import EstimationTask

MOST_SLOPES = 4_000_000  # second slopes held together
EMPTY = 1e-7  # a standard error that is rounding


@dataclass(frozen=True)
class InformationTest:
    """What the test says.

    Attributes:
        rho: ``ρ = 1 - tr(K⁻¹J)/P``; NaN where the fit leaves no residual, so that all scores are zero.
        standard_error: Of ``ρ`` if the model is true; zero where ``ρ`` is zero whatever the data, or where every
            observation adds the same to it.
        p_value: How often a true model gives a ``ρ`` as far from zero, by its normal limit; NaN where there is nothing
            to test.

    Example:
        >>> InformationTest(rho=0.5, standard_error=0.25, p_value=0.0455).empty
        False
    """

    rho: float
    standard_error: float
    p_value: float

    @property
    def empty(self) -> bool:
        """Whether there is no p-value: ``ρ`` is zero at every maximum of the likelihood, or has no standard error.

        Example:
            >>> from hamiltonian_rl.problems.estimation import Bernoulli
            >>> task = Bernoulli([1, 0, 1, 1])
            >>> information_test(task, task.start).empty
            True
        """
        return math.isnan(self.p_value)


def information_test(task: EstimationTask, params: torch.Tensor) -> InformationTest:
    """Test at the maximum-likelihood point whether the scores are as large as the curvature says.

    To first order ``ρ`` is the mean of ``q_n = (g_nᵀ K⁻¹ g_n + tr(K⁻¹ ∇²ℓ_n))/P``, less what estimating ``θ`` takes
    from it: under a true model its variance is that of the residual of ``q_n`` regressed on ``g_n``, over N.

    Args:
        task: The likelihood.
        params: Its maximum, shape ``(P,)``.

    Reference:
        White (1982), "Maximum likelihood estimation of misspecified models", theorem 4.1; Lancaster (1984), "The
        covariance matrix of the information matrix test".

    Example:
        >>> from hamiltonian_rl.problems.estimation import Poisson
        >>> task = Poisson([0, 0, 2, 2, 2, 6])  # mean 2, variance 4
        >>> round(information_test(task, task.start).rho, 9)  # 1 - mean/variance
        0.5
    """
    theta = task.checked(params)
    outer, bends = outer_information(task, theta), curvature(task, theta)
    if not unexplained(outer, bends, theta).any():
        return InformationTest(math.nan, 0.0, math.nan)
    root = inverse_root(outer)
    rank = max(root.shape[1], 1)
    rho = information_residual(outer, bends)
    white = task.scores(theta) @ root
    q = ((white**2).sum(1) + _second_slopes(task, theta, root)) / rank
    residual = q - white @ (white * q[:, None]).mean(0)
    error = (residual.var(correction=0) / len(q)).sqrt().item()
    if error <= EMPTY * max(1.0, q.abs().max().item()):
        return InformationTest(rho, 0.0, math.nan)
    return InformationTest(rho, error, math.erfc(abs(rho) / error / math.sqrt(2.0)))


def _second_slopes(task: EstimationTask, params: torch.Tensor, root: torch.Tensor) -> torch.Tensor:
    """Return ``tr(Rᵀ ∇²ℓ_n R)`` of each observation, by second slopes along the columns of ``R``; shape ``(N,)``."""
    total = params.new_zeros(len(task.data))
    together = max(1, MOST_SLOPES // len(task.data))
    for columns in root.T.split(together):  # type: ignore[no-untyped-call]
        directions = columns.contiguous()
        slope = functools.partial(_slopes_along, task, directions)
        total += torch.func.jvp(slope, (params.repeat(len(directions), 1),), (directions,))[1].sum(0)
    return total


def _slopes_along(task: EstimationTask, directions: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
    """Return the slope of each observation's log-likelihood along each direction, shape ``(directions, N)``."""
    slopes: torch.Tensor = torch.func.jvp(task.log_likelihood, (params,), (directions,))[1]
    return slopes
