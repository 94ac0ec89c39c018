"""Regressions: linear, logistic, softmax and Poisson, linear in their coefficients.

Notation: ``x`` inputs ``(N, p)``, behind a leading column of ones where there is an intercept; ``η = x·β`` the linear
predictor. Fisher informations are those of generalized linear models: ``F = (1/N) Σ_n w_n x_n x_nᵀ``.

Reference:
    McCullagh and Nelder (1989), "Generalized Linear Models", chapters 2-6.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation.checks import class_targets, observed, refuse_labels, refuse_targets
from hamiltonian_rl.problems.estimation.gaussian_points import gaussian_log_density, gaussian_outcomes
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import EstimationTask, Layer, Outcomes

TINY = 1e-300  # a row of zeros has slope zero
NEARLY_CERTAIN = -1e-6  # log-likelihood of an observation that separation may explain
EXACT = 1e-11  # residuals, beside the targets, that are rounding
SEPARATED = 1e-7  # what the linear programme must gain, beside its rounding


class _Regression(EstimationTask):
    """A model whose distribution of ``y`` depends on ``η = x·β``.

    Attributes:
        feature_names: Of the columns of the design, the intercept's first.
    """

    intercept: bool
    feature_names: tuple[str, ...]

    def _take(self, targets: Any, inputs: Any, intercept: bool) -> None:
        self.data, self.intercept = observed(targets, inputs), intercept
        x = self.data.inputs
        if x is not None and (x.ndim != 2 or not x.is_floating_point()):
            self.data = Observations.of(self.data.targets, x.to(torch.float64).flatten(1))
            x = self.data.inputs
        if x is None and not intercept:
            raise UsageError(f"{type(self).__name__} has no inputs and no intercept: there is nothing to estimate.")
        width = 0 if x is None else x.shape[1]
        names = self.data.input_names or tuple(f"x{i}" for i in range(1, width + 1))
        self.feature_names = (("intercept",) if intercept else ()) + tuple(names)

    def design(self, data: Observations | None = None) -> torch.Tensor:
        """Return the rows ``x_n``, with a leading one where there is an intercept, shape ``(N, p)``."""
        data = self.data if data is None else data
        ones = torch.ones(len(data), 1, dtype=torch.float64)
        if data.inputs is None:
            return ones
        return torch.cat([ones, data.inputs], 1) if self.intercept else data.inputs

    def predictor(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``η``, shape ``(..., N)``."""
        design = self.design(data)
        return params[..., : design.shape[1]] @ design.T

    def layers(self, params: torch.Tensor, data: Observations | None = None) -> tuple[Layer, ...]:
        """Return the coefficients as one layer of the design: the score is ``slope ⊗ x``, so ``slope = g·x / |x|²``."""
        data = self.data if data is None else data
        design = self.design(data)
        width = design.shape[1]
        rows = len(self.names) // width
        by_row = self.scores(params, data)[:, : rows * width].reshape(len(data), rows, width)
        slopes = torch.einsum("nrw,nw->nr", by_row, design) / (design**2).sum(1).clamp(min=TINY)[:, None]
        return (Layer(torch.arange(rows * width).reshape(rows, width), design, slopes),)

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether some direction of the coefficients raises the likelihood for ever: separable data.

        Decided by a linear programme: a direction along which no observation loses, and one gains at least.

        Reference:
            Albert and Anderson (1984), "On the existence of maximum likelihood estimates in logistic regression".
        """
        if params is not None and not (self.log_likelihood(params) > NEARLY_CERTAIN).any():
            return ""
        no_loss, no_change = self._recession()
        if not len(no_loss):
            return ""
        gain = no_loss.sum(0)
        equal = {} if not len(no_change) else {"A_eq": no_change, "b_eq": np.zeros(len(no_change))}
        found = linprog(-gain, A_ub=-no_loss, b_ub=np.zeros(len(no_loss)), bounds=(-1.0, 1.0), **equal)
        if found.status != 0 or -found.fun <= SEPARATED * np.abs(no_loss).max():
            return ""
        return (
            "some combination of the inputs tells the outcomes apart without an error (separable data), and "
            "coefficients run to infinity"
        )

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows ``d`` with which no observation loses where ``d·β >= 0``, and those where ``d·β = 0``."""
        return np.zeros((0, self.n_params)), np.zeros((0, self.n_params))

    def _weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n w_n x_n x_nᵀ``."""
        design = self.design()
        return (design.T * weights) @ design / len(design)


class LinearRegression(_Regression):
    """``y ~ N(x·β, σ²)``, with ``σ`` known or the last parameter.

    Example:
        >>> task = LinearRegression([1.0, 2.0, 2.0], inputs=[0.0, 1.0, 2.0], sigma=1.0)
        >>> task.names, task.fisher(task.start)
        (('intercept', 'x1'), tensor([[1.0000, 1.0000],
                [1.0000, 1.6667]], dtype=torch.float64))
    """

    def __init__(self, targets: Any, inputs: Any = None, sigma: float | None = None, intercept: bool = True) -> None:
        if sigma is not None and not 0.0 < sigma < math.inf:
            raise UsageError(f"sigma = {sigma!r}; expected a positive number, or None to estimate it.")
        self._take(targets, inputs, intercept)
        refuse_labels(self.data, "linear regression")
        self.sigma, p = sigma, len(self.feature_names)
        self.names = self.feature_names + (("sigma",) if sigma is None else ())
        self.groups = (slice(0, p), *([slice(p, p + 1)] if sigma is None else []))
        self.start = torch.zeros(len(self.names), dtype=torch.float64)
        if sigma is None:
            spread = self.data.targets.std(correction=0)
            self.start[-1] = spread if spread > 0.0 else 1.0

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether the inputs fit all targets without a residual, where ``σ`` is estimated."""
        y, design = self.data.targets, self.design()
        left = y - design @ torch.linalg.lstsq(design, y[:, None], driver="gelsd").solution[:, 0]
        exact = self.sigma is None and left.norm() <= EXACT * y.norm()
        return "the inputs fit all targets without a residual, and sigma runs to zero" if exact else ""

    def noise(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``σ``, shape ``(..., 1)``."""
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
        """Return ``E[x xᵀ]/σ²``, and ``2/σ²`` for an estimated ``σ``."""
        variance = self.noise(params) ** 2
        of_coefficients = self._weighted(torch.ones(len(self.data), dtype=torch.float64)) / variance
        return of_coefficients if self.sigma is not None else _joined(of_coefficients, 2.0 / variance)


class LogisticRegression(_Regression):
    """``y`` is 1 with probability ``1/(1 + exp(-x·β))``, else 0: ``w = μ (1 - μ)``."""

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
        """Return ``(1/N) Σ_n μ_n (1 - μ_n) x_n x_nᵀ``."""
        predictor = self.predictor(params)
        return self._weighted(torch.sigmoid(predictor) * torch.sigmoid(-predictor))


class PoissonRegression(_Regression):
    """Counts ``y`` with mean ``exp(x·β)``: ``w = μ``."""

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
        """Return ``(1/N) Σ_n μ_n x_n x_nᵀ``."""
        return self._weighted(torch.exp(self.predictor(params)))


class SoftmaxRegression(_Regression):
    """``y`` is class ``c`` of C with probability ``softmax(x·β_c)``.

    Without a reference class adding one vector to all ``β_c`` changes nothing (a gauge): the Fisher information is
    singular, of rank ``(C - 1) p``. With it ``β_0 = 0``, and the parameters are those of the other classes.
    """

    def __init__(self, targets: Any, inputs: Any = None, intercept: bool = True, reference: bool = False) -> None:
        self._take(targets, inputs, intercept)
        classes, self.n_classes = class_targets(self.data)
        self.data, self.reference = self.data.with_targets(classes), reference
        labels = self.data.labels or tuple(str(c) for c in range(self.n_classes))
        p, named = len(self.feature_names), labels[1:] if reference else labels
        self.names = tuple(f"{label}: {feature}" for label in named for feature in self.feature_names)
        self.groups = tuple(slice(c * p, (c + 1) * p) for c in range(len(named)))
        self.start = torch.zeros(len(self.names), dtype=torch.float64)

    def _recession(self) -> tuple[np.ndarray, np.ndarray]:
        design, classes = self.design().numpy(), self.data.targets.numpy()
        one_hot = np.eye(self.n_classes)
        against = np.concatenate([one_hot[classes] - one_hot[c] for c in range(self.n_classes)])
        rows = against[:, int(self.reference) :, None] * np.tile(design, (self.n_classes, 1))[:, None, :]
        rows = rows.reshape(len(rows), -1)
        return rows[against.any(1)], rows[:0]

    def log_probabilities(self, params: torch.Tensor, data: Observations | None = None) -> torch.Tensor:
        """Return ``log p(c | x_n)``, shape ``(..., N, C)``."""
        design = self.design(data)
        coefficients = params.reshape(*params.shape[:-1], -1, design.shape[1])
        predictors = design @ coefficients.transpose(-1, -2)
        if self.reference:
            predictors = torch.cat([torch.zeros_like(predictors[..., :1]), predictors], -1)
        return torch.log_softmax(predictors, -1)

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y, logs = data.targets, self.log_probabilities(params, data)
        return logs.gather(-1, y[:, None].expand(*logs.shape[:-1], 1)).squeeze(-1)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        shares = self.log_probabilities(params, data).exp()
        return data.with_targets(torch.multinomial(shares, 1, generator=generator)[:, 0])

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        shares = self.log_probabilities(params, data).exp()
        return [(data.with_targets(torch.full((len(data),), c)), shares[:, c]) for c in range(self.n_classes)]

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``(1/N) Σ_n (diag(p_n) - p_n p_nᵀ) ⊗ x_n x_nᵀ``."""
        shares = self.log_probabilities(params).exp()[:, int(self.reference) :]
        of_classes = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]
        design = self.design()
        size = self.n_params
        return torch.einsum("ncd,ni,nj->cidj", of_classes, design, design).reshape(size, size) / len(design)


def _joined(matrix: torch.Tensor, corner: torch.Tensor) -> torch.Tensor:
    """Return a matrix with one more row and column, zero but for the corner."""
    joined = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
    joined[-1, -1] = corner.squeeze()
    return joined
