"""Maximum likelihood against statsmodels, closed forms and brute force; each way to fail has its status."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.principles.lagrangian import information_test
from hamiltonian_rl.problems.estimation import (
    Bernoulli,
    EstimationTask,
    Exponential,
    Gaussian,
    LinearRegression,
    LogisticRegression,
    ModuleClassifier,
    ModuleRegressor,
    Poisson,
    PoissonRegression,
    SoftmaxRegression,
)
from hamiltonian_rl.solvers.information_bootstrap import bootstrap_information_test
from hamiltonian_rl.solvers.maximum_likelihood import EstimateStatus, maximum_likelihood


def regression_data(seed: int = 0, n: int = 200) -> dict[str, np.ndarray]:
    """Inputs of very different units, and targets of each kind."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    eta = 0.3 + x @ np.array([0.8, -0.5, 0.2])
    scores = np.column_stack([np.zeros(n), eta, 0.5 - x[:, 0]]) + rng.gumbel(size=(n, 3))
    return {
        "inputs": x * np.array([1e-4, 1.0, 1e5]),
        "linear": eta + rng.normal(size=n) * (0.5 + np.abs(x[:, 0])),
        "logistic": (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
        "poisson": rng.poisson(np.exp(eta)).astype(float),
        "softmax": scores.argmax(1),
    }


def statsmodels_fit(model: str, y: np.ndarray, x: np.ndarray, sandwich: bool):
    sm = pytest.importorskip("statsmodels.api")
    if model == "poisson":  # its own Newton's method fails on inputs of such different units, and scoring does not
        poisson = sm.GLM(y, sm.add_constant(x), family=sm.families.Poisson())
        return poisson.fit(cov_type="HC0" if sandwich else "nonrobust", tol=1e-14)
    kind = {"linear": sm.OLS, "logistic": sm.Logit, "softmax": sm.MNLogit}[model]
    options = {} if model == "linear" else {"disp": 0, "method": "newton", "maxiter": 100, "tol": 1e-14}
    return kind(y, sm.add_constant(x)).fit(cov_type="HC0" if sandwich else "nonrobust", **options)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("model", ["linear", "logistic", "poisson", "softmax"])
def test_coefficients_and_both_standard_errors_are_those_of_statsmodels(model: str, seed: int) -> None:
    data = regression_data(seed)
    y, x = data[model], data["inputs"]
    task: EstimationTask = {
        "linear": lambda: LinearRegression(y, x),
        "logistic": lambda: LogisticRegression(y, x),
        "poisson": lambda: PoissonRegression(y, x),
        "softmax": lambda: SoftmaxRegression(y, x, reference=True),
    }[model]()
    estimate = maximum_likelihood(task)
    assert estimate.status is EstimateStatus.CONVERGED
    plain, robust = (statsmodels_fit(model, y, x, sandwich) for sandwich in (False, True))
    size = plain.params.size
    # Maximum likelihood divides the residuals by N, ordinary least squares by N - p.
    scale = math.sqrt((len(y) - 4) / len(y)) if model == "linear" else 1.0
    expected = (
        (estimate.params[:size], plain.params.T.reshape(-1)),
        (estimate.standard_errors()[:size], scale * plain.bse.T.reshape(-1)),
        (estimate.standard_errors("sandwich")[:size], robust.bse.T.reshape(-1)),
    )
    for found, reference in expected:
        np.testing.assert_allclose(found.numpy(), reference, rtol=1e-6)
    assert estimate.log_likelihood == pytest.approx(plain.llf, rel=1e-9)


@pytest.mark.parametrize(
    ("task", "params"),
    [
        (Gaussian([1.0, 2.0, 6.0]), [3.0, math.sqrt(14.0 / 3.0)]),
        (Bernoulli([1, 0, 0, 1, 1]), [0.6]),
        (Bernoulli([1, 0, 0, 1, 1], "logit"), [math.log(1.5)]),
        (Poisson([0, 1, 5]), [2.0]),
        (Poisson([0, 1, 5], "log_rate"), [math.log(2.0)]),
        (Exponential([1.0, 2.0, 6.0]), [1.0 / 3.0]),
        (Exponential([1.0, 2.0, 6.0], "mean"), [3.0]),
    ],
)
def test_families_are_fitted_from_afar_to_their_closed_forms(task: EstimationTask, params: list[float]) -> None:
    for factor in (0.7, 1.0, 1.4):
        estimate = maximum_likelihood(task, task.start * factor)
        assert estimate.status is EstimateStatus.CONVERGED
        np.testing.assert_allclose(estimate.params.numpy(), params, rtol=1e-9)


def test_a_network_is_fitted_to_where_its_score_is_zero_and_its_curvature_negative() -> None:
    torch.manual_seed(0)
    x = np.linspace(-2.0, 2.0, 40)[:, None]
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1))
    noise = 0.3 * np.random.default_rng(0).normal(size=40)
    task = ModuleRegressor(net, 1.0 + 2.0 * np.tanh(x[:, 0] - 0.5) + noise, x, sigma=None)
    estimate = maximum_likelihood(task)
    assert estimate.status is EstimateStatus.CONVERGED, estimate.sentence()
    assert task.scores(estimate.params).mean(0).abs().max() < 1e-9
    steps = 1e-3 * torch.randn(200, task.n_params, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (task.mean_log_likelihood(estimate.params + steps) < task.mean_log_likelihood(estimate.params)).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_where_residuals_bend_the_likelihood_newtons_steps_keep_it_quick(seed: int) -> None:
    """Much noise: scoring alone takes up to 257 steps here, for F is not J."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(100, 1))
    y = 1.0 + 2.0 * np.tanh(x[:, 0] - 0.5) + 2.0 * rng.normal(size=100)
    estimate = maximum_likelihood(ModuleRegressor(net, y, x, sigma=None), max_iterations=60)
    assert estimate.status is EstimateStatus.CONVERGED, estimate.sentence()


def test_collinear_inputs_are_said_and_fitted_as_without_them() -> None:
    data = regression_data()
    x, y = data["inputs"][:, :2], data["logistic"]
    alone = maximum_likelihood(LogisticRegression(y, x))
    twice = maximum_likelihood(LogisticRegression(y, np.column_stack([x, 3.0 * x[:, 0]])))
    assert twice.status is EstimateStatus.SINGULAR
    assert twice.converged
    assert (twice.rank, twice.task.n_params) == (3, 4)
    assert twice.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-12)
    assert twice.identified().tolist() == [True, False, True, False]
    errors = twice.standard_errors()
    assert errors[[1, 3]].isnan().all()
    torch.testing.assert_close(errors[[0, 2]], alone.standard_errors()[[0, 2]], rtol=1e-6, atol=0)
    torch.testing.assert_close(twice.params[1] + 3.0 * twice.params[3], alone.params[1], rtol=1e-6, atol=0)


def test_the_gauge_of_a_softmax_is_said_and_its_differences_are_those_against_a_reference() -> None:
    data = regression_data()
    gauge = maximum_likelihood(SoftmaxRegression(data["softmax"], data["inputs"]))
    fixed = maximum_likelihood(SoftmaxRegression(data["softmax"], data["inputs"], reference=True))
    assert gauge.status is EstimateStatus.SINGULAR
    assert (gauge.rank, fixed.rank) == (8, 8)
    assert not gauge.identified().any()
    rows = gauge.params.reshape(3, 4)
    torch.testing.assert_close((rows[1:] - rows[0]).reshape(-1), fixed.params, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: LogisticRegression([0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0]), "separable"),
        (lambda: LogisticRegression([0, 0, 1, 1], [0.0, 1.0, 1.0, 2.0]), "separable"),
        (lambda: SoftmaxRegression([0, 1, 2, 2], [0.0, 1.0, 2.0, 3.0], reference=True), "separable"),
        (lambda: PoissonRegression([0, 0, 3, 4], [0.0, 0.0, 1.0, 1.0]), "separable"),
        (lambda: LogisticRegression([0, 1, 1, 0], np.eye(4)), "separable"),  # more parameters than data
        (lambda: LinearRegression([1.0, 2.0, 4.0], np.random.default_rng(0).normal(size=(3, 5))), "without a residual"),
        (lambda: LinearRegression([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), "without a residual"),
        (lambda: Gaussian([2.0, 2.0]), "sigma runs to zero"),
        (lambda: Bernoulli([1, 1], "logit"), "all targets are 1"),
        (lambda: Poisson([0, 0], "log_rate"), "all targets are 0"),
    ],
)
def test_where_there_is_no_maximum_that_is_said_with_the_reason(make, reason: str) -> None:
    estimate = maximum_likelihood(make())
    assert estimate.status is EstimateStatus.NO_MAXIMUM
    assert reason in estimate.sentence()
    with pytest.raises(SolverError, match="There is no maximum"):
        estimate.unwrap()


def test_well_separated_but_overlapping_data_have_a_maximum_all_the_same() -> None:
    x = np.concatenate([np.linspace(-9.0, 1.0, 60), np.linspace(-1.0, 9.0, 60)])
    estimate = maximum_likelihood(LogisticRegression(np.repeat([0, 1], 60), x))
    assert estimate.status is EstimateStatus.CONVERGED


def test_more_parameters_than_data_are_fitted_by_one_of_many_where_sigma_is_known() -> None:
    x, y = np.random.default_rng(0).normal(size=(3, 5)), [1.0, 2.0, 4.0]
    estimate = maximum_likelihood(LinearRegression(y, x, sigma=1.0))
    assert estimate.status is EstimateStatus.SINGULAR
    assert estimate.rank == 3
    np.testing.assert_allclose(estimate.task.predictor(estimate.params).numpy(), y, rtol=1e-9)


def test_a_maximum_on_the_boundary_is_said() -> None:
    estimate = maximum_likelihood(Bernoulli([0, 0, 0]))
    assert estimate.status is EstimateStatus.BOUNDARY
    assert estimate.params.item() == 0.0


def test_too_few_iterations_are_said_and_never_pass_for_convergence() -> None:
    data = regression_data()
    estimate = maximum_likelihood(PoissonRegression(data["poisson"], data["inputs"]), max_iterations=1)
    assert estimate.status is EstimateStatus.MAX_ITERATIONS
    with pytest.raises(SolverError, match="Raise max_iterations"):
        estimate.unwrap()
    with pytest.raises(UsageError, match="within their domain"):
        maximum_likelihood(Poisson([1, 2]), torch.tensor([-1.0]))
    with pytest.raises(UsageError, match="expected both positive"):
        maximum_likelihood(Poisson([1, 2]), tol=0.0)


def test_a_saddle_is_not_a_maximum() -> None:
    """All weights zero: the hidden units are one, and turning them apart raises the likelihood."""
    net = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2, bias=False))
    task = ModuleClassifier(net, [0, 1, 0, 1], [[-1.0], [-0.5], [0.5], [1.0]])
    estimate = maximum_likelihood(task, torch.zeros(task.n_params, dtype=torch.float64))
    assert estimate.residual == 0.0
    assert estimate.status is EstimateStatus.SADDLE
    assert not estimate.converged


def bootstrap_p(counts: np.ndarray, x: np.ndarray, seed: int) -> float:
    estimate = maximum_likelihood(PoissonRegression(counts, x))
    test = information_test(estimate.task, estimate.params)
    found = bootstrap_information_test(estimate, test, 39, torch.Generator().manual_seed(seed))
    assert (found.drawn, found.failed) == (39, 0)
    return found.p_value


def test_the_bootstrap_rejects_overdispersed_counts_and_not_true_ones() -> None:
    """Not both of two true samples below 5 % (by chance in 0.25 % of such tests); 1/40 is the least."""
    below = 0
    for seed in (11, 12):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=400)
        mean = np.exp(0.5 + 0.3 * x)
        below += bootstrap_p(rng.poisson(mean), x, seed) < 0.05
        assert bootstrap_p(rng.negative_binomial(mean, 0.5), x, seed) <= 0.05
    assert below <= 1


def test_the_bootstrap_refuses_where_there_is_nothing_to_test() -> None:
    estimate = maximum_likelihood(Bernoulli([0, 1, 1]))
    test = information_test(estimate.task, estimate.params)
    assert test.empty
    with pytest.raises(UsageError, match="nothing to test"):
        bootstrap_information_test(estimate, test, 9, torch.Generator())


def test_under_a_true_model_p_values_below_five_percent_are_about_as_rare_as_that() -> None:
    """Of 150 large samples; 7.5 expected, and 20 are 5 binomial standard errors more."""
    rng, below = np.random.default_rng(21), 0
    for _ in range(150):
        x = rng.uniform(-1.0, 1.0, size=3000)
        estimate = maximum_likelihood(PoissonRegression(rng.poisson(np.exp(1.0 + 0.3 * x)), x))
        below += information_test(estimate.task, estimate.params).p_value < 0.05
    assert 1 <= below <= 20
