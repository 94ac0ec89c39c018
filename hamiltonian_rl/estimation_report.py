"""A fit of data from a file, and what there is to say of it: the table that `hrl estimate` prints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.principles.lagrangian import InformationTest, cramer_rao_bound, information_test
from hamiltonian_rl.problems import estimation
from hamiltonian_rl.problems.estimation import EstimationTask, Observations
from hamiltonian_rl.solvers.information_bootstrap import Bootstrap, bootstrap_information_test
from hamiltonian_rl.solvers.maximum_likelihood import Estimate, maximum_likelihood

LEVEL = 0.05
WANTED_DRAWS = 199
MANY = 2000  # observations from which White's limit is nearly reached
ROUNDING = 1e-6  # of ρ
NO_ERROR = ", and no p-value: every observation is as far out as every other, so that ρ has no standard error."
NO_RESIDUAL = (
    "Nothing to test: the fit leaves no residual beside the model's noise, and all scores are zero or rounding. For "
    "the same reason the sandwich and the efficiency are not defined."
)
SEES = (
    "It sees noise that is not as large as the model says: overdispersed counts, a wrong sigma, heavy tails. It does "
    "not see a wrong mean whose errors look like noise of the right size, rows that depend on each other, or "
    "deviations that cancel in the trace (noise that grows with an input can)."
)


SEES_OF_CLASSES = (
    "Of classes the noise cannot be of a wrong size, and it sees a wrong mean alone, such as a missing curve. It does "
    "not see one that cancels in the trace, or rows that depend on each other."
)


@dataclass(frozen=True)
class ModelOptions:
    """How a model is asked for.

    Attributes:
        inputs: Columns; None for all but the target.
        intercept: Whether regressions have one.
        sigma: Known noise of the linear and the Gaussian model; None to estimate it.
        parameter: Of the Bernoulli and the exponential model; None for its mean and its rate.
    """

    inputs: tuple[str, ...] | None = None
    intercept: bool = True
    sigma: float | None = None
    parameter: str | None = None


Make = Callable[[Observations, ModelOptions], EstimationTask]


def _gaussian(data: Observations, options: ModelOptions) -> EstimationTask:
    if options.sigma is None:
        return estimation.Gaussian(data)
    return estimation.GaussianMean(data, options.sigma)


REGRESSIONS: dict[str, Make] = {
    "linear": lambda data, options: estimation.LinearRegression(data, None, options.sigma, options.intercept),
    "logistic": lambda data, options: estimation.LogisticRegression(data, None, options.intercept),
    "poisson": lambda data, options: estimation.PoissonRegression(data, None, options.intercept),
    "softmax": lambda data, options: estimation.SoftmaxRegression(data, None, options.intercept, reference=True),
}
FAMILIES: dict[str, Make] = {
    "bernoulli": lambda data, options: estimation.Bernoulli(data, options.parameter or "mean"),
    "exponential": lambda data, options: estimation.Exponential(data, options.parameter or "rate"),
    "gaussian": _gaussian,
}


def task_from_csv(path: Path, target: str, model: str, options: ModelOptions) -> EstimationTask:
    """Return the task of a model and a file's columns.

    Raises:
        UsageError: There is no such model, an option does not apply to it, or the file does not hold what it needs.
    """
    known = {**REGRESSIONS, **FAMILIES}
    if model not in known:
        raise UsageError(f'There is no model "{model}". {did_you_mean(model, known)}')
    refused = {
        "inputs": options.inputs is not None and model in FAMILIES,
        "intercept": not options.intercept and model in FAMILIES,
        "sigma": options.sigma is not None and model not in ("linear", "gaussian"),
        "parameter": options.parameter is not None and model not in ("bernoulli", "exponential"),
    }
    for name, wrong in refused.items():
        if wrong:
            raise UsageError(f'"{name}" does not apply to the {model} model. Leave it out.')
    return known[model](Observations.from_csv(path, target, () if model in FAMILIES else options.inputs), options)


@dataclass(frozen=True)
class EstimationReport:
    """A fit, with its test where there is a maximum.

    Attributes:
        estimate: The fit.
        test: The information-matrix test; None where there is no maximum.
        bootstrap: Its p-value from draws; None where none was asked for, or there is nothing to test.
    """

    estimate: Estimate
    test: InformationTest | None
    bootstrap: Bootstrap | None

    def summary(self) -> dict[str, str]:
        """Return the rows on the fit as a whole."""
        fit = self.estimate
        rows = {
            "Observations": f"{len(fit.task.data):,}",
            **_label_rows(fit.task),
            "Log-likelihood": f"{fit.log_likelihood:.6f}",
            "Status": f"{fit.status.name}: {fit.sentence()} ({fit.iterations} steps, residual {fit.residual:.1e})",
        }
        if fit.rank < fit.task.n_params and fit.converged:
            names = [n for n, good in zip(fit.task.names, fit.identified().tolist(), strict=True) if not good]
            rows["Not identified"] = (
                f"{', '.join(names)}: {fit.task.n_params} parameters, of which the data determine {fit.rank} "
                "combinations"
            )
        if self.test is not None:
            rows |= self._test_rows(self.test)
        return rows

    def _test_rows(self, test: InformationTest) -> dict[str, str]:
        if math.isnan(test.rho):
            return {"Information-matrix test": NO_RESIDUAL}
        if test.empty and abs(test.rho) > ROUNDING:
            return {"Information-matrix test": f"ρ = {test.rho:.4f}{NO_ERROR}"}
        if test.empty:
            return {"Information-matrix test": "Nothing to test: the model's ρ is 0 at every maximum."}
        p_value, drawn = test.p_value, ""
        classes = estimation.LogisticRegression, estimation.SoftmaxRegression
        sees = SEES_OF_CLASSES if isinstance(self.estimate.task, classes) else SEES
        if self.bootstrap is not None:
            p_value = self.bootstrap.p_value
            failed = f", {self.bootstrap.failed} of them without a maximum" if self.bootstrap.failed else ""
            shown = "none" if math.isnan(p_value) else f"{p_value:.3g}"
            drawn = f"; {shown} by parametric bootstrap ({self.bootstrap.drawn} draws{failed})"
        return {
            "Information-matrix test": (
                f"ρ = {test.rho:.4f} ± {test.standard_error:.4f} (standard error if the model is true); "
                f"p = {test.p_value:.3g} by White's asymptotics{drawn}"
            ),
            "What it says": f"{_verdict(test.rho, p_value)} {self._doubt(p_value)}{sees}",
        }

    def _doubt(self, p_value: float) -> str:
        """Return a warning where a small p-value rests on a limit that is far."""
        if self.bootstrap is not None or len(self.estimate.task.data) >= MANY or not p_value < LEVEL:
            return ""
        return (
            f"Of so few observations White's limit calls true models false too often: ask for {WANTED_DRAWS} draws of "
            "the bootstrap (--bootstrap) before believing it. "
        )

    def coefficients(self) -> list[dict[str, str]]:
        """Return a row a parameter; in words where a standard error is not identified or not defined."""
        fit = self.estimate
        plain, robust = fit.standard_errors(), fit.standard_errors("sandwich")
        bound = cramer_rao_bound(fit.task.fisher(fit.params), len(fit.task.data)).diagonal()
        efficiency = bound / robust**2
        lacks = ["not defined" if known else "not identified" for known in fit.identified().tolist()]
        columns = zip(fit.task.names, fit.params, plain, robust, efficiency, lacks, strict=True)
        return [
            {
                "parameter": name,
                "estimate": f"{value.item():.6g}",
                "std. error (Fisher)": _shown(by_fisher, lack),
                "std. error (sandwich)": _shown(by_sandwich, lack),
                "Cramér-Rao efficiency": _shown(share, lack, 4),
            }
            for name, value, by_fisher, by_sandwich, share, lack in columns
        ]


def estimate_task(
    task: EstimationTask, bootstrap: int = 0, seed: int = 0, progress: Callable[[str], None] | None = None
) -> EstimationReport:
    """Fit a task, and test it where there is a maximum.

    Args:
        task: The task.
        bootstrap: Draws of the parametric bootstrap; none at zero.
        seed: Of the draws.
        progress: Told what is being done.
    """
    show = progress or (lambda text: None)
    estimate = maximum_likelihood(
        task, progress=lambda steps, residual: show(f"{steps} steps, residual {residual:.1e}")
    )
    if not estimate.converged:
        return EstimationReport(estimate, None, None)
    test = information_test(task, estimate.params)
    if not bootstrap or test.empty:
        return EstimationReport(estimate, test, None)
    generator = torch.Generator().manual_seed(seed)
    drawn = bootstrap_information_test(
        estimate, test, bootstrap, generator, lambda count: show(f"{count} of {bootstrap} draws of the bootstrap")
    )
    return EstimationReport(estimate, test, drawn)


def _verdict(rho: float, p_value: float) -> str:
    if math.isnan(p_value):
        return "Nothing can be said: most of what the fitted model draws has no maximum of the likelihood itself."
    if not p_value < LEVEL:
        return f"No sign against the model at the level of {LEVEL:.0%}."
    if rho > 0.0:
        return (
            "The data contradict the model: scores are larger than its curvature allows (ρ > 0), as with more noise "
            "than it has. Trust the sandwich's standard errors, or take another model."
        )
    return (
        "The data contradict the model: scores are smaller than its curvature allows (ρ < 0), as with less noise than "
        "it has. Trust the sandwich's standard errors, or take another model."
    )


def _label_rows(task: EstimationTask) -> dict[str, str]:
    labels = task.data.labels
    if isinstance(task, estimation.SoftmaxRegression):
        if not task.reference:
            return {}
        first = labels[0] if labels else "0"
        return {"Reference class": f"{first}: coefficients are log odds against it"}
    return {"Labels": f"{labels[1]} is 1, {labels[0]} is 0"} if len(labels) == 2 else {}


def _shown(value: torch.Tensor, lack: str, digits: int = 6) -> str:
    """Return a number, or in words why there is none."""
    number = value.item()
    return f"{number:.{digits}g}" if math.isfinite(number) else lack
