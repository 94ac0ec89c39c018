"""Regressions: linear, logistic and Poisson, linear in their coefficients.

Notation: ``x`` inputs ``(N, p)``, behind a leading column of ones where there is an intercept; ``η = x·β`` the linear
predictor. Fisher informations are those of generalized linear models: ``F = (1/N) Σ_n w_n x_n x_nᵀ``.

Reference:
    McCullagh and Nelder (1989), "Generalized Linear Models", chapters 2-6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.checks import checked_sigma, refuse_labels, refuse_targets
from hamiltonian_rl.problems.estimation.gaussian_points import gaussian_log_density, gaussian_outcomes
from hamiltonian_rl.problems.estimation.linear_predictor import LinearPredictor
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import Outcomes

EXACT = 1e-11  # residuals, beside the targets, that are rounding


class LinearRegression(LinearPredictor):
    """``y ~ N(x·β, σ²)``, with ``σ`` known or the last parameter.

    Args:
        targets: ``y``, shape ``(N,)``.
        inputs: ``x``, shape ``(N, p)`` or ``(N,)``, without a column of ones.
        sigma: ``σ`` in units of the targets; None to estimate it.
        intercept: Whether a column of ones is put before the inputs.

    Raises:
        UsageError: The targets are labels, sigma is no positive number, an input has a parameter's name, or there is
            nothing to estimate.

    Example:
        >>> task = LinearRegression([1.0, 2.0, 2.0], inputs=[0.0, 1.0, 2.0], sigma=1.0)
        >>> task.names, task.fisher(task.start)
        (('intercept', 'x1'), tensor([[1.0000, 1.0000],
                [1.0000, 1.6667]], dtype=torch.float64))
    """

    def __init__(self, targets: Any, inputs: Any = None, sigma: float | None = None, intercept: bool = True) -> None:
        self.sigma = checked_sigma(sigma, estimated=True)
        self._take(targets, inputs, intercept)
        refuse_labels(self.data, "linear regression")
        if sigma is None and "sigma" in self.feature_names:
            raise UsageError('There is an input "sigma" beside the estimated noise. Rename it, or give sigma.')
        p = len(self.feature_names)
        self.names = self.feature_names + (("sigma",) if sigma is None else ())
        self.groups = (slice(0, p), *([slice(p, p + 1)] if sigma is None else []))
        self.start = torch.zeros(len(self.names), dtype=torch.float64)
        if sigma is None:
            y = self.data.targets
            varied, size = y.std(correction=0), y.square().mean().sqrt()
            self.start[-1] = varied if varied > EXACT * size else size if size > 0.0 else 1.0

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether the inputs fit all targets without a residual, where ``σ`` is estimated.

        Example:
            >>> LinearRegression([1.0, 3.0], inputs=[0.0, 1.0]).no_maximum()  # a line goes through two points
            'the inputs fit all targets without a residual, and sigma runs to zero'
        """
        y, design = self.data.targets, self.design()
        left = y - design @ torch.linalg.lstsq(design, y[:, None], driver="gelsd").solution[:, 0]
        exact = self.sigma is None and left.norm() <= EXACT * y.norm()
        return "the inputs fit all targets without a residual, and sigma runs to zero" if exact else ""

    def noise(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``σ``, shape ``(..., 1)``.

        Example:
            >>> task = LinearRegression([1.0, 2.0, 2.0], inputs=[0.0, 1.0, 2.0])
            >>> task.noise(torch.tensor([0.0, 1.0, 0.5]))  # the last parameter
            tensor([0.5000])
        """
        return params[..., -1:] if self.sigma is None else torch.full_like(params[..., -1:], self.sigma)

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        return gaussian_log_density(y, self.predictor(params, data), self.noise(params))

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        noise = torch.randn(len(data), generator=generator, dtype=torch.float64)
        return data.with_targets(self.predictor(params, data) + self.noise(params) * noise)

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        return gaussian_outcomes(data, self.predictor(params, data), self.noise(params).squeeze(-1))

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``E[x xᵀ]/σ²``, and ``2/σ²`` for an estimated ``σ``.

        Example:
            >>> task = LinearRegression([1.0, 2.0, 4.0], inputs=[-1.0, 0.0, 1.0])
            >>> task.fisher(torch.tensor([0.0, 0.0, 0.5], dtype=torch.float64)).diagonal()  # 1, E[x²], 2, each over σ²
            tensor([4.0000, 2.6667, 8.0000], dtype=torch.float64)
        """
        variance = self.noise(params) ** 2
        of_coefficients = self._weighted(torch.ones(len(self.data), dtype=torch.float64)) / variance
        return of_coefficients if self.sigma is not None else _joined(of_coefficients, 2.0 / variance)


class LogisticRegression(LinearPredictor):
    """``y`` is 1 with probability ``1/(1 + exp(-x·β))``, else 0: ``w = μ (1 - μ)``.

    Args:
        targets: ``y``, 0 or 1, shape ``(N,)``.
        inputs: ``x``, shape ``(N, p)`` or ``(N,)``; ``β`` is in log odds by their units.
        intercept: Whether a column of ones is put before the inputs.

    Raises:
        UsageError: A target is neither 0 nor 1, or all are the same.

    Example:
        >>> task = LogisticRegression([0, 1, 1, 1])  # of an intercept alone: the logit of the share of ones
        >>> bool(task.scores(torch.tensor([3.0], dtype=torch.float64).log()).sum().abs() < 1e-12)
        True
    """

    def __init__(self, targets: Any, inputs: Any = None, intercept: bool = True) -> None:
        self._take(targets, inputs, intercept)
        y = self.data.targets
        refuse_targets(self.data, (y != 0.0) & (y != 1.0), "0 or 1; for more classes take a softmax regression")
        if y.min() == y.max():
            raise UsageError(
                f'All {len(y):,} targets "{self.data.target_name}" are {y[0].item():g}: of one class only. Expected '
                "both 0 and 1, for otherwise the coefficients run to infinity."
            )
        self.names, self.groups = self.feature_names, (slice(0, len(self.feature_names)),)
        self.start = torch.zeros(len(self.names), dtype=torch.float64)

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        design = self.design().numpy()
        return (2.0 * self.data.targets.numpy()[:, None] - 1.0) * design, design[:0]

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        predictor = self.predictor(params, data)
        return data.targets * predictor - torch.nn.functional.softplus(predictor)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        return data.with_targets(torch.bernoulli(torch.sigmoid(self.predictor(params, data)), generator=generator))

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        predictor = self.predictor(params, data)
        zeros, ones = torch.zeros_like(predictor), torch.ones_like(predictor)
        return [
            (data.with_targets(zeros), torch.sigmoid(-predictor)),
            (data.with_targets(ones), torch.sigmoid(predictor)),
        ]

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n μ_n (1 - μ_n) x_n x_nᵀ``.

        Example:
            >>> task = LogisticRegression([0, 1], inputs=[1.0, 3.0])
            >>> task.fisher(task.start).diagonal()  # at β = 0: 1/4, E[x²]/4
            tensor([0.2500, 1.2500], dtype=torch.float64)
        """
        predictor = self.predictor(params)
        return self._weighted(torch.sigmoid(predictor) * torch.sigmoid(-predictor))


class PoissonRegression(LinearPredictor):
    """Counts ``y`` with mean ``exp(x·β)``: ``w = μ``.

    Args:
        targets: Counts, shape ``(N,)``.
        inputs: ``x``, shape ``(N, p)`` or ``(N,)``; ``β`` is in logs of the mean count by their units.
        intercept: Whether a column of ones is put before the inputs.

    Raises:
        UsageError: A target is no count, or all are 0.

    Example:
        >>> task = PoissonRegression([1, 2, 6])  # of an intercept alone: the log of the mean count
        >>> round(task.start.exp().item(), 9), round(task.fisher(task.start).item(), 9)
        (3.0, 3.0)
    """

    def __init__(self, targets: Any, inputs: Any = None, intercept: bool = True) -> None:
        self._take(targets, inputs, intercept)
        refuse_labels(self.data, "Poisson regression")
        y = self.data.targets
        refuse_targets(self.data, (y < 0.0) | (y != y.round()), "counts: 0, 1, 2, ...")
        if y.max() == 0.0:
            raise UsageError(
                f'All {len(y):,} counts "{self.data.target_name}" are 0, for which the coefficients run to infinity. '
                "Expected one other at least."
            )
        self.names, self.groups = self.feature_names, (slice(0, len(self.feature_names)),)
        self.start = torch.zeros(len(self.names), dtype=torch.float64)
        if intercept:
            self.start[0] = y.mean().log()

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        design, none = self.design().numpy(), self.data.targets.numpy() == 0.0
        return -design[none], design[~none]

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y, predictor = data.targets, self.predictor(params, data)
        return y * predictor - torch.exp(predictor) - torch.lgamma(y + 1.0)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        return data.with_targets(torch.poisson(torch.exp(self.predictor(params, data)), generator=generator))

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        """Return ``μ ± √μ``, half of the weight each: the score is linear in ``y``."""
        mean = torch.exp(self.predictor(params, data))
        half = torch.full_like(mean, 0.5)
        return [(data.with_targets(mean + sign * mean.sqrt()), half) for sign in (-1.0, 1.0)]

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n μ_n x_n x_nᵀ``.

        Example:
            >>> task = PoissonRegression([1, 2], inputs=[1.0, 3.0])
            >>> task.fisher(torch.zeros(2, dtype=torch.float64)).diagonal()  # at β = 0: 1, E[x²]
            tensor([1., 5.], dtype=torch.float64)
        """
        return self._weighted(torch.exp(self.predictor(params)))


def _joined(matrix: torch.Tensor, corner: torch.Tensor) -> torch.Tensor:
    """Return a matrix with one more row and column, zero but for the corner."""
    joined = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
    joined[-1, -1] = corner.squeeze()
    return joined
