"""Families of distributions without inputs: Gaussian, Bernoulli, Poisson, exponential.

Those of one parameter are exponential families. In the mean parameter ``μ = E[y]`` the score is ``(y - μ)/v(μ)`` with
``v(μ) = Var(y)``, and ``F = 1/v(μ)``; in the natural one (logit, log rate, rate) it is ``y - μ`` up to its sign, and
``F = v(μ)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems.estimation.checks import checked_sigma, observed, refuse_labels, refuse_targets
from hamiltonian_rl.problems.estimation.gaussian_points import gaussian_log_density, gaussian_outcomes
from hamiltonian_rl.problems.estimation.observations import Observations
from hamiltonian_rl.problems.estimation.task import EstimationTask, Outcomes

Link = Callable[[torch.Tensor], torch.Tensor]


class GaussianMean(EstimationTask):
    """``y ~ N(mean, σ²)`` with ``σ`` known: ``F = 1/σ²``.

    Args:
        targets: ``y``, shape ``(N,)``, in any unit; `Observations`, an array or a list.
        sigma: ``σ`` in units of the targets.

    Raises:
        UsageError: The targets are no numbers, or labels, or sigma is no positive number.

    Example:
        >>> task = GaussianMean([1.0, 2.0, 4.5], sigma=0.5)
        >>> task.start, task.fisher(task.start)
        (tensor([2.5000], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """

    def __init__(self, targets: Any, sigma: float = 1.0) -> None:
        known = checked_sigma(sigma, estimated=False)
        assert known is not None
        self.data, self.sigma = observed(targets), known
        refuse_labels(self.data, "a Gaussian")
        self.names, self.groups = ("mean",), (slice(0, 1),)
        self.start = self.data.targets.mean()[None]

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        return gaussian_log_density(y, params[..., :1], params.new_tensor(self.sigma))

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        noise = torch.randn(len(data), generator=generator, dtype=torch.float64)
        return data.with_targets(params[0] + self.sigma * noise)

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        return gaussian_outcomes(data, params[0].expand(len(data)), params.new_tensor(self.sigma))

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``1/σ²``, shape ``(1, 1)``.

        Example:
            >>> GaussianMean([1.0, 2.0], sigma=0.5).fisher(torch.zeros(1))
            tensor([[4.]])
        """
        return params.new_full((1, 1), self.sigma**-2)


class Gaussian(EstimationTask):
    """``y ~ N(mean, sigma²)``, both unknown: ``F = diag(1/σ², 2/σ²)``.

    Args:
        targets: ``y``, shape ``(N,)``, in any unit.

    Raises:
        UsageError: The targets are no numbers, or labels.

    Example:
        >>> task = Gaussian([1.0, 3.0])
        >>> task.start, task.fisher(torch.tensor([2.0, 0.5]))
        (tensor([2., 1.], dtype=torch.float64), tensor([[4., 0.],
                [0., 8.]]))
    """

    def __init__(self, targets: Any) -> None:
        self.data = observed(targets)
        refuse_labels(self.data, "a Gaussian")
        self.names, self.groups = ("mean", "sigma"), (slice(0, 2),)
        y = self.data.targets
        spread = y.std(correction=0)
        self.start = torch.stack([y.mean(), spread if y.min() < y.max() else torch.ones_like(spread)])

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        return gaussian_log_density(y, params[..., :1], params[..., 1:])

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        return data.with_targets(
            params[0] + params[1] * torch.randn(len(data), generator=generator, dtype=torch.float64)
        )

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        return gaussian_outcomes(data, params[0].expand(len(data)), params[1])

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether all targets are the same.

        Example:
            >>> Gaussian([3.0, 3.0]).no_maximum()
            'all targets are 3, and sigma runs to zero'
        """
        y = self.data.targets
        return f"all targets are {y[0].item():g}, and sigma runs to zero" if y.min() == y.max() else ""

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``diag(1/σ², 2/σ²)``.

        Example:
            >>> Gaussian([1.0, 3.0]).fisher(torch.tensor([2.0, 2.0])).diagonal()
            tensor([0.2500, 0.5000])
        """
        return torch.diag(params.new_tensor([1.0, 2.0]) / params[1] ** 2)


class _OneParameter(EstimationTask):
    """An exponential family of one parameter, in its mean or in another parameter.

    Attributes:
        parameter: Name of the parameter.
    """

    parameters: ClassVar[dict[str, Link]]  # each with the mean as its function
    inverses: ClassVar[dict[str, Link]]

    def __init__(self, targets: Any, parameter: str) -> None:
        if parameter not in self.parameters:
            raise UsageError(
                f'{type(self).__name__} has no parameter "{parameter}". {did_you_mean(parameter, self.parameters)}'
            )
        self.data, self.parameter = observed(targets), parameter
        self._check(self.data)
        self.names, self.groups = (parameter,), (slice(0, 1),)
        self.start = self.inverses[parameter](self._inside(self.data.targets))[None]

    def _check(self, data: Observations) -> None:
        """Refuse targets that the family cannot give."""

    def _inside(self, y: torch.Tensor) -> torch.Tensor:
        """Return the mean of the targets, moved off the boundary of the domain where it lies on it."""
        return y.mean()

    def mean(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``μ = E[y]``, shape ``(..., 1)``.

        Example:
            >>> Poisson([1, 2], "log_rate").mean(torch.tensor([0.0])), Exponential([1.0]).mean(torch.tensor([4.0]))
            (tensor([1.]), tensor([0.2500]))
        """
        return self.parameters[self.parameter](params[..., :1])

    def _variance(self, mean: torch.Tensor) -> torch.Tensor:
        """Return ``v(μ) = Var(y)``."""
        raise NotImplementedError

    def _outcomes(self, params: torch.Tensor, data: Observations) -> Outcomes:
        """Return ``μ ± √v``, half of the weight each: the score is linear in ``y``."""
        mean = self.mean(params)
        half, step = params.new_full((len(data),), 0.5), self._variance(mean).sqrt()
        return [(data.with_targets((mean + sign * step).expand(len(data))), half) for sign in (-1.0, 1.0)]

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether the mean lies where the parameter is infinite: no successes, or no failures, or no events.

        Example:
            >>> Poisson([0, 0], "log_rate").no_maximum()
            'all targets are 0, and log_rate runs to infinity'
        """
        mean = self.data.targets.mean()
        infinite = not bool(self.inverses[self.parameter](mean).isfinite())
        return f"all targets are {mean.item():g}, and {self.parameter} runs to infinity" if infinite else ""

    def boundary(self) -> torch.Tensor | None:
        """Return the parameter of a mean without variance, which only the boundary of the domain has; else None.

        Example:
            >>> Poisson([0, 0]).boundary(), Poisson([0, 1]).boundary()
            (tensor([0.], dtype=torch.float64), None)
        """
        mean = self.data.targets.mean()
        if self.no_maximum() or bool(self._variance(mean) > 0.0):
            return None
        return self.inverses[self.parameter](mean)[None]

    def fisher(self, params: torch.Tensor) -> torch.Tensor:
        """Return ``(dμ/dθ)²/v(μ)``, shape ``(1, 1)``.

        Example:
            >>> theta = torch.tensor([4.0])
            >>> Exponential([1.0, 2.0]).fisher(theta), Poisson([1, 2]).fisher(theta)  # 1/θ² and 1/θ
            (tensor([[0.0625]]), tensor([[0.2500]]))
        """
        slope = torch.func.grad(lambda theta: self.mean(theta).squeeze())(params)
        fisher: torch.Tensor = slope[:, None] ** 2 / self._variance(self.mean(params))
        return fisher


class Bernoulli(_OneParameter):
    """``y`` is 1 with probability ``μ``, else 0; in its mean ``μ`` or in the logit ``log(μ/(1 - μ))``.

    Args:
        targets: ``y``, 0 or 1, shape ``(N,)``.
        parameter: "mean" (a probability) or "logit" (nats).

    Raises:
        UsageError: A target is neither 0 nor 1, or there is no such parameter.

    Example:
        >>> task = Bernoulli([1, 0, 1, 1], "logit")
        >>> task.fisher(task.start)  # μ (1 - μ)
        tensor([[0.1875]], dtype=torch.float64)
    """

    parameters: ClassVar[dict[str, Link]] = {"mean": lambda theta: theta, "logit": torch.sigmoid}
    inverses: ClassVar[dict[str, Link]] = {"mean": lambda mean: mean, "logit": torch.logit}

    def __init__(self, targets: Any, parameter: str = "mean") -> None:
        super().__init__(targets, parameter)

    def _check(self, data: Observations) -> None:
        refuse_targets(data, (data.targets != 0.0) & (data.targets != 1.0), "0 or 1")

    def _inside(self, y: torch.Tensor) -> torch.Tensor:
        return y.mean() if y.min() < y.max() else (y.sum() + 0.5) / (len(y) + 1)

    def _variance(self, mean: torch.Tensor) -> torch.Tensor:
        return mean * (1.0 - mean)

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        theta = params[..., :1]
        if self.parameter == "logit":
            return y * theta - torch.nn.functional.softplus(theta)
        logs: torch.Tensor = torch.xlogy(y, theta) + torch.special.xlog1py(1.0 - y, -theta)
        return logs

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        return data.with_targets(torch.bernoulli(self.mean(params).expand(len(data)), generator=generator))


class Poisson(_OneParameter):
    """Counts with mean ``rate``, or with ``log_rate = log(rate)``.

    Args:
        targets: Counts, shape ``(N,)``.
        parameter: "rate" (counts an observation) or "log_rate".

    Raises:
        UsageError: A target is no count, or there is no such parameter.

    Example:
        >>> task = Poisson([0, 2, 4], "log_rate")
        >>> round(task.start.exp().item(), 9), round(task.fisher(task.start).item(), 9)  # both are the mean count
        (2.0, 2.0)
    """

    parameters: ClassVar[dict[str, Link]] = {"rate": lambda theta: theta, "log_rate": torch.exp}
    inverses: ClassVar[dict[str, Link]] = {"rate": lambda mean: mean, "log_rate": torch.log}

    def __init__(self, targets: Any, parameter: str = "rate") -> None:
        super().__init__(targets, parameter)

    def _check(self, data: Observations) -> None:
        refuse_labels(data, "a Poisson distribution")
        refuse_targets(data, (data.targets < 0.0) | (data.targets != data.targets.round()), "counts: 0, 1, 2, ...")

    def _inside(self, y: torch.Tensor) -> torch.Tensor:
        return y.mean() if y.max() > 0.0 else y.new_tensor(0.5 / (len(y) + 1))

    def _variance(self, mean: torch.Tensor) -> torch.Tensor:
        return mean

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        theta = params[..., :1]
        if self.parameter == "rate":
            outside = torch.where(theta < 0.0, -torch.inf, 0.0)  # which a count of 0 alone would not notice
            return torch.xlogy(y, theta) - theta - torch.lgamma(y + 1.0) + outside
        return y * theta - torch.exp(theta) - torch.lgamma(y + 1.0)

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        return data.with_targets(torch.poisson(self.mean(params).expand(len(data)), generator=generator))


class Exponential(_OneParameter):
    """``p(y) = exp(-y/μ)/μ`` for ``y >= 0``, in its ``mean`` ``μ`` or in its ``rate`` ``1/μ``.

    Args:
        targets: Waiting times, 0 or more, shape ``(N,)``.
        parameter: "rate" (events in a unit of the targets' time) or "mean" (in that unit).

    Raises:
        UsageError: A target is negative, or there is no such parameter.

    Example:
        >>> task = Exponential([1.0, 3.0])
        >>> task.start, task.fisher(task.start)  # the rate is 1/ȳ, and F its square's inverse: ȳ²
        (tensor([0.5000], dtype=torch.float64), tensor([[4.]], dtype=torch.float64))
    """

    parameters: ClassVar[dict[str, Link]] = {"rate": lambda theta: 1.0 / theta, "mean": lambda theta: theta}
    inverses: ClassVar[dict[str, Link]] = {"rate": lambda mean: 1.0 / mean, "mean": lambda mean: mean}

    def __init__(self, targets: Any, parameter: str = "rate") -> None:
        super().__init__(targets, parameter)

    def _check(self, data: Observations) -> None:
        refuse_labels(data, "an exponential distribution")
        refuse_targets(data, data.targets < 0.0, "waiting times, 0 or more")

    def no_maximum(self, params: torch.Tensor | None = None) -> str:
        """Return whether all waiting times are zero.

        Example:
            >>> Exponential([0.0, 0.0], "mean").no_maximum()
            'all targets are 0, and mean runs to zero'
        """
        runs = "infinity" if self.parameter == "rate" else "zero"
        return "" if self.data.targets.max() > 0.0 else f"all targets are 0, and {self.parameter} runs to {runs}"

    def _inside(self, y: torch.Tensor) -> torch.Tensor:
        return y.mean() if y.max() > 0.0 else torch.ones_like(y[0])

    def _variance(self, mean: torch.Tensor) -> torch.Tensor:
        return mean**2

    def _log_likelihood(self, params: torch.Tensor, data: Observations) -> torch.Tensor:
        y = data.targets
        theta = params[..., :1]
        if self.parameter == "rate":
            return torch.log(theta) - theta * y
        return -torch.log(theta) - y / theta

    def _sample(self, params: torch.Tensor, generator: torch.Generator | None, data: Observations) -> Observations:
        uniform = torch.rand(len(data), generator=generator, dtype=torch.float64)
        return data.with_targets(-self.mean(params) * torch.log1p(-uniform))
