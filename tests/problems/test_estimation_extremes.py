"""Tasks at the edge: no residual, numbers of any size, targets all alike, thousands of classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.lagrangian import curvature, fisher_information, outer_information, unexplained
from hamiltonian_rl.problems.estimation import (
    Bernoulli,
    EstimationTask,
    Exponential,
    Gaussian,
    GaussianMean,
    LinearRegression,
    LogisticRegression,
    ModuleClassifier,
    ModuleRegressor,
    Poisson,
    PoissonRegression,
    SoftmaxRegression,
)
from hamiltonian_rl.solvers.maximum_likelihood import EstimateStatus, maximum_likelihood

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2))
Y = X @ [1.0, -2.0] + RNG.normal(size=30)
SQUARE = RNG.normal(size=(4, 3))


@pytest.mark.parametrize(
    "task",
    [
        LinearRegression(RNG.normal(size=4), SQUARE, sigma=1.0),
        LinearRegression(1e8 + RNG.normal(size=4), SQUARE, sigma=1.0),
        LinearRegression(1e8 * RNG.normal(size=4), SQUARE, sigma=1.0),
        LinearRegression(np.full(30, 0.1), X, sigma=2.0),
        PoissonRegression(np.full(30, 3), X),
        GaussianMean([3.0]),
        Exponential([0.1, 0.1, 0.1]),
        Poisson([5]),
    ],
    ids=lambda task: type(task).__name__,
)
def test_where_no_residual_is_left_the_sandwich_is_no_number_and_fishers_errors_are(task: EstimationTask) -> None:
    estimate = maximum_likelihood(task).unwrap()
    assert estimate.standard_errors("sandwich").isnan().all()
    assert estimate.covariance("sandwich").isnan().all()
    expected = np.sqrt(np.diag(np.linalg.inv(task.fisher(estimate.params).numpy() * len(task.data))))
    np.testing.assert_allclose(estimate.standard_errors().numpy(), expected, rtol=1e-9)


def test_a_parameter_of_one_row_alone_has_no_sandwich_and_the_others_have() -> None:
    """A column that is zero but in one row, and all others zero there, takes that row's residual away."""
    x = np.column_stack([np.r_[X[:-1, 0], 0.0], np.r_[np.zeros(29), 1.0]])
    errors = maximum_likelihood(LinearRegression(Y, x, sigma=1.0, intercept=False)).standard_errors("sandwich")
    assert errors.isnan().tolist() == [False, True]
    residual = Y[:-1] - X[:-1, 0] * (X[:-1, 0] @ Y[:-1]) / (X[:-1, 0] @ X[:-1, 0])
    by_hand = np.sqrt(np.sum((X[:-1, 0] * residual) ** 2)) / (X[:-1, 0] @ X[:-1, 0])  # HC0 of one coefficient
    assert errors[0].item() == pytest.approx(by_hand, rel=1e-9)


def test_a_small_residual_that_is_none_of_rounding_counts() -> None:
    """Noise of a millionth of a known sigma, on targets of 1: the sandwich is that millionth of Fisher's error."""
    noise = RNG.normal(size=30)
    task = GaussianMean(1.0 + 1e-6 * (noise - noise.mean()) / noise.std(), sigma=1.0)
    estimate = maximum_likelihood(task)
    ratio = estimate.standard_errors("sandwich") / estimate.standard_errors()
    assert ratio.item() == pytest.approx(1e-6, rel=1e-6)
    assert unexplained(*(of(task, estimate.params) for of in (outer_information, curvature)), estimate.params).all()


SCALED: dict[str, Callable[[float], EstimationTask]] = {
    "linear": lambda s: LinearRegression(Y * s, X),
    "linear, sigma": lambda s: LinearRegression(Y * s, X, sigma=s),
    "gaussian": lambda s: Gaussian(Y * s),
    "gaussian mean": lambda s: GaussianMean(Y * s, sigma=s),
    "exponential": lambda s: Exponential(np.abs(Y) * s),
    "exponential mean": lambda s: Exponential(np.abs(Y) * s, "mean"),
    "regressor": lambda s: ModuleRegressor(torch.nn.Linear(2, 1), Y * s, X, sigma=s),
}


@pytest.mark.parametrize("name", [name for name in SCALED if name != "regressor"])
@pytest.mark.parametrize("scale", [1e-50, 1e-10, 1e10, 1e50])
def test_units_of_the_targets_change_nothing_but_units(name: str, scale: float) -> None:
    """t-values, and so the sandwich's, are pure numbers."""
    plain, scaled = (maximum_likelihood(SCALED[name](s)).unwrap() for s in (1.0, scale))
    for kind in ("fisher", "sandwich"):
        ratios = [(fit.params / fit.standard_errors(kind)).numpy() for fit in (plain, scaled)]
        np.testing.assert_allclose(*ratios, rtol=1e-7)  # 1e-10 of a standard error, beside estimates of some


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-80, 1e80, 1e150, 1e300])
def test_targets_whose_fourth_powers_are_no_numbers_are_refused(name: str, scale: float) -> None:
    with pytest.raises(UsageError, match=r"expected (one between|a positive number from) 1e-60"):
        SCALED[name](scale)


@pytest.mark.parametrize("make", [GaussianMean, lambda y, sigma: LinearRegression(y, X, sigma=sigma)])
@pytest.mark.parametrize("sigma", [1e-300, 1e300, 0.0, -1.0, np.nan, np.inf, "1", True, [1.0]])
def test_a_known_noise_that_is_none_is_refused(make: Callable[..., EstimationTask], sigma: object) -> None:
    with pytest.raises(UsageError, match="sigma = "):
        make(Y, sigma=sigma)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e100, 1e300])
@pytest.mark.parametrize(
    "kind", [LinearRegression, lambda y, x: LogisticRegression(y > 0, x), lambda y, x: SoftmaxRegression(y > 0, x)]
)
def test_inputs_whose_fourth_powers_are_no_numbers_are_refused_by_name(kind: Callable, scale: float) -> None:
    with pytest.raises(UsageError, match=r'input "x2" is .* Scale the inputs'):
        kind(Y, X * [1.0, scale])


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Gaussian([0.1] * 9), "all targets are 0.1, and sigma runs to zero"),
        (Gaussian([3.0]), "all targets are 3, and sigma"),
        (LinearRegression([0.1] * 30, X), "without a residual, and sigma runs to zero"),
        (LinearRegression([0.0] * 30, X, intercept=False), "without a residual"),
        (Exponential([0.0] * 3), "rate runs to infinity"),
        (Exponential([0.0] * 3, "mean"), "mean runs to zero"),
        (Poisson([0] * 3, "log_rate"), "log_rate runs to infinity"),
        (Bernoulli([1] * 3, "logit"), "logit runs to infinity"),
    ],
)
def test_targets_all_alike_have_no_maximum_and_that_is_said_before_a_step(task: EstimationTask, reason: str) -> None:
    estimate = maximum_likelihood(task)
    assert estimate.status is EstimateStatus.NO_MAXIMUM
    assert reason in estimate.sentence()
    assert estimate.iterations == 0


@pytest.mark.parametrize(
    ("task", "edge"), [(Poisson([0, 0]), 0.0), (Bernoulli([1, 1, 1]), 1.0), (Bernoulli([0, 0]), 0.0)]
)
def test_a_maximum_on_the_boundary_is_there_exactly(task: EstimationTask, edge: float) -> None:
    estimate = maximum_likelihood(task)
    assert estimate.status is EstimateStatus.BOUNDARY
    assert estimate.params.item() == edge
    assert estimate.log_likelihood == 0.0  # what was seen is certain


def test_a_negative_rate_is_outside_the_domain_also_of_counts_that_are_zero() -> None:
    assert Poisson([0, 0]).log_likelihood(torch.tensor([-0.1]).double()).tolist() == [-np.inf] * 2


@pytest.mark.parametrize("level", [0.1, 1.0, 3.7, 1e8])
def test_constant_targets_without_an_intercept_are_fitted_by_least_squares(level: float) -> None:
    x, y = np.tile(X, (2, 1))[:50], np.full(50, level)  # 50 times 0.1 have a deviation, of rounding
    estimate = maximum_likelihood(LinearRegression(y, x, intercept=False)).unwrap()
    beta, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    np.testing.assert_allclose(estimate.params.numpy(), [*beta, np.sqrt(residual[0] / 50)], rtol=1e-8)
    assert estimate.iterations < 10


def test_thousands_of_classes_are_refused_with_the_size_before_it_is_taken() -> None:
    task = SoftmaxRegression(np.arange(4000), RNG.normal(size=(4000, 10)), reference=True)
    for call in (
        lambda: maximum_likelihood(task),
        lambda: task.fisher(task.start),
        lambda: fisher_information(task, task.start, "empirical"),
        lambda: curvature(task, task.start),
    ):
        with pytest.raises(UsageError, match=r"43,989 parameters.* 15\.5 GB"):
            call()
    wide = ModuleClassifier(torch.nn.Linear(10_000, 2), [0, 1], np.zeros((2, 10_000)))
    with pytest.raises(UsageError, match=r"ModuleClassifier has 20,002 parameters.* 3\.2 GB"):
        maximum_likelihood(wide)


@pytest.mark.parametrize("reference", [False, True])
def test_fishers_information_of_softmax_in_parts_is_that_of_the_whole(
    reference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition, the sum over classes of p g gᵀ by autograd, in parts of two rows."""
    task = SoftmaxRegression(np.arange(30) % 3, X, reference=reference)
    theta = 0.3 * torch.arange(task.n_params, dtype=torch.float64).cos()
    monkeypatch.setattr("hamiltonian_rl.problems.estimation.softmax.MOST_NUMBERS", 2 * task.n_params)
    found = task.fisher(theta)
    torch.testing.assert_close(found, EstimationTask.fisher(task, theta), rtol=1e-12, atol=1e-15)


def test_the_curvature_in_parts_is_the_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    task = LogisticRegression(Y > 0, X)
    theta = torch.tensor([0.1, 0.5, -0.5], dtype=torch.float64)
    monkeypatch.setattr("hamiltonian_rl.principles.lagrangian.fisher.MOST_NUMBERS", 1)
    hessian = torch.autograd.functional.hessian(task.mean_log_likelihood, theta)
    torch.testing.assert_close(curvature(task, theta), -hessian, rtol=1e-12, atol=1e-15)
