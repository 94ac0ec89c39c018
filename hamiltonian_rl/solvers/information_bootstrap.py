"""The information-matrix test by parametric bootstrap: what a true model gives, by fitting what it draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.lagrangian import InformationTest, information_test
from hamiltonian_rl.solvers.maximum_likelihood import Estimate, maximum_likelihood


@dataclass(frozen=True)
class Bootstrap:
    """What the bootstrap says.

    Attributes:
        p_value: ``(1 + how many are as far out)/(1 + how many there are)``; NaN where fewer than half have a maximum:
            what is left of them is no sample of the model.
        drawn: Data sets drawn from the fitted model, and fitted.
        failed: How many of these have no maximum, and are left out.

    Example:
        >>> Bootstrap(p_value=(1 + 1) / (1 + 39), drawn=39, failed=0).p_value  # one of 39 draws is as far out
        0.05
    """

    p_value: float
    drawn: int
    failed: int


def bootstrap_information_test(
    estimate: Estimate,
    test: InformationTest,
    n_draws: int,
    generator: torch.Generator,
    progress: Callable[[int], None] | None = None,
) -> Bootstrap:
    """Return the p-value of ``|ρ|`` over its standard error among fits of data that the fitted model draws.

    In small samples it keeps the size that White's limit promises and, from scores alone, misses by far.

    Args:
        estimate: The fit.
        test: Its test.
        n_draws: Data sets to draw.
        generator: Of the draws.
        progress: Called with the number of fits.

    Raises:
        UsageError: No draw is asked for, or there is nothing to test.

    Reference:
        Horowitz (1994), "Bootstrap-based critical values for the information matrix test".

    Example:
        >>> from hamiltonian_rl.problems.estimation import Poisson
        >>> task = Poisson([0, 0, 0, 5, 10, 20, 30, 40] * 5)  # fifteen times the variance of Poisson counts
        >>> test = information_test(task, task.start)
        >>> bootstrap_information_test(maximum_likelihood(task), test, 19, torch.Generator().manual_seed(0)).p_value
        0.05
    """
    if n_draws < 1:
        raise UsageError(f"n_draws = {n_draws}; expected one at least.")
    if test.empty:
        raise UsageError(
            "There is nothing to test: ρ is zero at every maximum of the likelihood, or the fit leaves no residual."
        )
    observed, as_far, failed = abs(test.rho) / test.standard_error, 0, 0
    for draw in range(n_draws):
        again = estimate.task.with_data(estimate.task.sample(estimate.params, generator))
        fit = maximum_likelihood(again, estimate.params)
        drawn = information_test(again, fit.params) if fit.converged else None
        if drawn is None or drawn.empty:
            failed += 1
        else:
            as_far += abs(drawn.rho) / drawn.standard_error >= observed
        if progress is not None:
            progress(draw + 1)
    enough = 2 * failed <= n_draws
    return Bootstrap((1 + as_far) / (1 + n_draws - failed) if enough else math.nan, n_draws, failed)
