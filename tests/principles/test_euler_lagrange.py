"""The verdicts on section 3.3 of the paper, each by numbers: what holds, what does not, and what only half."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.principles.lagrangian import (
    curvature,
    field_residual,
    information_residual,
    information_test,
    kinetic_hamiltonian,
    lagrangian,
    legendre_transform,
    matrix_power,
    outer_information,
    particle_residual,
)
from hamiltonian_rl.problems.estimation import (
    Bernoulli,
    EstimationTask,
    Exponential,
    Gaussian,
    GaussianMean,
    LinearRegression,
    LogisticRegression,
    ModuleRegressor,
    Poisson,
    PoissonRegression,
    SoftmaxRegression,
)
from hamiltonian_rl.solvers.maximum_likelihood import maximum_likelihood

RNG = np.random.default_rng(7)
INPUTS = RNG.normal(size=(60, 2))
ETA = 0.3 + INPUTS @ np.array([0.6, -0.4])
COUNTS = RNG.poisson(np.exp(ETA))
BITS = (RNG.random(60) < 1.0 / (1.0 + np.exp(-ETA))).astype(float)
REALS = ETA + RNG.normal(size=60)
TIMES = RNG.exponential(np.exp(ETA))
EYE = torch.eye(2, dtype=torch.float64)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rho(task: EstimationTask, params: torch.Tensor) -> float:
    return information_residual(outer_information(task, params), curvature(task, params))


WELL_SPECIFIED = {
    "gaussian": Gaussian(REALS),
    "bernoulli logit": Bernoulli(BITS, "logit"),
    "poisson log rate": Poisson(COUNTS, "log_rate"),
    "exponential rate": Exponential(TIMES),
    "linear, sigma": LinearRegression(REALS, INPUTS),
    "logistic": LogisticRegression(BITS, INPUTS),
    "poisson regression": PoissonRegression(COUNTS, INPUTS),
    "softmax, reference": SoftmaxRegression(COUNTS % 3, INPUTS, reference=True),
    "softmax": SoftmaxRegression(COUNTS % 3, INPUTS),
}


@pytest.mark.parametrize("divergence", [True, False])
@pytest.mark.parametrize("name", WELL_SPECIFIED)
def test_the_field_residual_is_zero_at_a_maximum_likelihood_point(name: str, divergence: bool) -> None:
    """True: ρ < 4e-11."""
    estimate = maximum_likelihood(WELL_SPECIFIED[name], tol=1e-13)
    assert abs(field_residual(estimate.task, estimate.params, divergence=divergence)) < 4e-11


def test_of_a_network_the_residual_vanishes_as_the_data_grow() -> None:
    """J is F plus residuals times the curvature of the mean, which average out: as 1/√N, tenfold here."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Tanh(), torch.nn.Linear(1, 1))
    sizes = {}
    for n in (200, 20_000):
        found = []
        for seed in (1, 2, 3):
            rng = np.random.default_rng(seed)
            x = rng.normal(size=(n, 1))
            y = 1.0 + 2.0 * np.tanh(x[:, 0] - 0.5) + 0.5 * rng.normal(size=n)
            estimate = maximum_likelihood(ModuleRegressor(net, y, x, sigma=0.5)).unwrap()
            found.append(field_residual(estimate.task, estimate.params, divergence=False) ** 2)
        sizes[n] = math.sqrt(sum(found) / 3)
    assert sizes[200] > 1e-4
    assert sizes[20_000] < 0.4 * sizes[200]


@pytest.mark.parametrize(
    "task",
    [
        GaussianMean(REALS, sigma=2.0),
        Bernoulli(BITS),
        Poisson(COUNTS),
        Exponential(TIMES, "mean"),
        LinearRegression(REALS, INPUTS, sigma=1.5),
    ],
    ids=lambda task: f"{type(task).__name__}",
)
def test_the_converse_is_false_for_in_mean_parameters_it_is_zero_everywhere(task: EstimationTask) -> None:
    for factor in (0.5, 0.8, 1.2):
        params = torch.ones_like(task.start) * factor if isinstance(task, LinearRegression) else task.start * factor
        assert abs(field_residual(task, params)) < 1e-12
    off = task.start * 0.5 + 0.1
    slope = task.scores(off).mean(0).norm().item()
    assert slope > 1e-3  # and these are no maxima


def test_without_the_divergence_of_the_inverse_fisher_mean_parameters_have_a_residual_off_the_maximum() -> None:
    """-(ȳ - μ) v'/v for the Poisson rate, v = μ: the term that the paper drops where E[∇ℓ] = 0."""
    task = Poisson([1, 2, 6])
    for rate in (2.0, 3.0, 4.5):
        found = field_residual(task, vector(rate), divergence=False)
        assert found == pytest.approx(1.0 - 3.0 / rate, abs=1e-12)  # 1 - tr(F⁻¹J), with J = ȳ/μ² and F = 1/μ


def test_a_bernoulli_logit_has_a_second_zero_at_one_half() -> None:
    """ρ = -(ȳ - p)(1 - 2p)/(p (1 - p)): zero at p = ȳ, and at p = 1/2, where nothing is stationary."""
    task = Bernoulli([1, 1, 1, 0], "logit")
    for p in (0.2, 0.4, 0.5, 0.6, 0.75, 0.9):
        expected = -(0.75 - p) * (1.0 - 2.0 * p) / (p * (1.0 - p))
        assert field_residual(task, vector(math.log(p / (1.0 - p)))) == pytest.approx(expected, abs=1e-12)
    assert abs(field_residual(task, vector(0.0))) < 1e-14
    assert task.scores(vector(0.0)).mean().item() == pytest.approx(0.25)


def test_with_the_empirical_fisher_it_is_the_trace_form_of_whites_test() -> None:
    """ρ = 1 + E[∇·(K⁻¹∇ℓ)]/P = 1 - tr(K⁻¹J)/P, K held: two ways to compute it."""
    estimate = maximum_likelihood(WELL_SPECIFIED["logistic"])
    inverse = torch.linalg.inv(outer_information(estimate.task, estimate.params))
    by_field = field_residual(estimate.task, estimate.params, inverse_metric=lambda _: inverse)
    assert by_field == pytest.approx(rho(estimate.task, estimate.params), abs=1e-11)


def test_it_catches_overdispersed_counts() -> None:
    """Counts of mean 2 and variance 4: K = Var/μ², J = 1/μ, so ρ = 1 - μ/Var = 1/2."""
    counts = [0, 0, 2, 2, 2, 6]
    assert (np.mean(counts), np.var(counts)) == (2.0, 4.0)
    assert rho(Poisson(counts), vector(2.0)) == pytest.approx(0.5, abs=1e-12)
    draws = np.random.default_rng(1).negative_binomial(2, 0.5, size=20_000)  # mean 2, variance 4
    estimate = maximum_likelihood(Poisson(draws))
    test = information_test(estimate.task, estimate.params)
    assert test.rho == pytest.approx(0.5, abs=5 * test.standard_error)
    assert test.p_value < 1e-10


def test_its_standard_error_counts_that_the_parameters_are_estimated() -> None:
    """Exponential waiting times: ρ = 1 - ȳ²/s², whose variance is 4/N; with the rate known it would be 8/N."""
    times = np.random.default_rng(3).exponential(2.0, size=200_000)
    test = information_test(Exponential(times), vector(1.0 / times.mean()))
    assert test.rho == pytest.approx(1.0 - times.mean() ** 2 / times.var(), abs=1e-10)
    # The variance is that of eighth moments, E[u⁸] = 14,833: 7 % of it, 3.4 % of its root.
    assert test.standard_error * math.sqrt(200_000) == pytest.approx(2.0, abs=0.35)


def test_it_catches_a_wrong_sigma() -> None:
    """σ taken for 1 where it is 2: K = σ²E[xxᵀ], J = E[xxᵀ], so ρ = 1 - 1/4."""
    assert rho(GaussianMean([1.0, 5.0], sigma=1.0), vector(3.0)) == pytest.approx(0.75, abs=1e-12)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(20_000, 2))
    estimate = maximum_likelihood(LinearRegression(x @ [1.0, -1.0] + 2.0 * rng.normal(size=20_000), x, sigma=1.0))
    test = information_test(estimate.task, estimate.params)
    assert test.rho == pytest.approx(0.75, abs=0.02)  # 20,000 squares: 1 % each
    assert test.p_value < 1e-10


def test_it_is_blind_to_noise_as_large_as_the_input() -> None:
    """Noise of variance (7/9) x²: tr(K⁻¹J)/2 = (1 + E[x²]²/E[x⁴])/2 · 9/7 = 1 for E[x²] = 1, E[x⁴] = 9/5.

    Four inputs have these moments of the uniform distribution, and noise of both signs makes them the data's own.
    """
    inner, outer = math.sqrt(1.0 - math.sqrt(0.8)), math.sqrt(1.0 + math.sqrt(0.8))
    x = np.repeat([-outer, -inner, inner, outer], 2)
    noise = np.tile([-1.0, 1.0], 4) * math.sqrt(7.0 / 9.0) * np.abs(x)
    assert (x**4).mean() == pytest.approx(9.0 / 5.0)
    task = LinearRegression(0.5 + 2.0 * x + noise, x, sigma=1.0)
    assert abs(rho(task, vector(0.5, 2.0))) < 1e-12
    estimate = maximum_likelihood(task)
    assert (estimate.standard_errors() / estimate.standard_errors("sandwich")).tolist() == pytest.approx(
        [math.sqrt(9.0 / 7.0), math.sqrt(5.0 / 7.0)]
    )  # and so the plain standard errors are wrong, one too large, one too small


@pytest.mark.parametrize("name", ["gaussian", "logistic", "linear, sigma"])
def test_the_prefactor_must_be_one_over_two_p(name: str) -> None:
    """With c in its place the residual at the maximum is 1 - 2cP: the abstract's c = 1/2 leaves 1 - P."""
    estimate = maximum_likelihood(WELL_SPECIFIED[name], tol=1e-13)
    size = estimate.task.n_params
    assert abs(field_residual(estimate.task, estimate.params, prefactor=0.5 / size)) < 4e-11
    assert field_residual(estimate.task, estimate.params, prefactor=0.5) == pytest.approx(1.0 - size, abs=1e-9)


FISHER = torch.tensor([[3.0, 1.0], [1.0, 0.5]], dtype=torch.float64)


def path_of(speed: torch.Tensor, dt: float, steps: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """The path of δ̇ = -speed δ at steps of dt, exactly, and the gradients -Fδ along it."""
    step = torch.linalg.matrix_exp(-dt * speed)
    points = [vector(1.0, -0.7)]
    for _ in range(steps):
        points.append(step @ points[-1])
    path = torch.stack(points)
    return path, -path @ FISHER


def worst(path: torch.Tensor, gradients: torch.Tensor, dt: float, mass: float) -> float:
    """The largest residual beside the largest gradient."""
    return (particle_residual(path, gradients, dt, mass).norm(dim=1) / gradients[1:-1].norm(dim=1)).max().item()


def test_the_root_of_the_fisher_needs_the_square_root_of_p() -> None:
    """With m = 1/P the stationary path is √P F^(-1/2)∇ℓ; as printed, its residual is 1 - 1/P of the gradient."""
    root, dt = matrix_power(FISHER, 0.5), 1e-4
    assert worst(*path_of(math.sqrt(2.0) * root, dt), dt, mass=0.5) < 1e-6  # of second order in dt
    assert worst(*path_of(root, dt), dt, mass=0.5) == pytest.approx(0.5, abs=1e-6)


def test_equal_kinetic_energies_fix_the_speed_alone() -> None:
    """½ m|θ̇|² = (1/2P) gᵀF⁻¹g with m = 1/P holds for F^(-1/2)g, for its opposite, and for any rotation of it."""
    gradient = vector(0.3, -2.0)
    energy = lagrangian(gradient, torch.linalg.inv(FISHER), vector(0.0).squeeze())
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    for rotation in (EYE, -EYE, turn):
        velocity = rotation @ matrix_power(FISHER, -0.5) @ gradient
        torch.testing.assert_close(0.5 * 0.5 * velocity @ velocity, energy)
    # Only one of them is stationary under the control problem's L = ½ m|θ̇|² - ℓ: the turned path is not.
    root, dt = math.sqrt(2.0) * matrix_power(FISHER, 0.5), 1e-4
    assert worst(*path_of(turn @ root, dt), dt, mass=0.5) > 0.1
    assert worst(*path_of(root, dt), dt, mass=0.5) < 1e-6


@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e3])
def test_the_least_action_step_is_stationary_at_any_step(dt: float) -> None:
    """exp(-2 asinh(½ dt √(F/m))) a step solves the discrete Euler-Lagrange equation itself: rounding alone is left."""
    mass, values = 0.3, torch.linalg.eigvalsh(FISHER)
    for value in values.tolist():
        factor = math.exp(-2.0 * math.asinh(0.5 * dt * math.sqrt(value / mass)))
        path = torch.tensor([[1.0], [factor], [factor**2]], dtype=torch.float64)
        assert worst(path, -value * path, dt, mass) < 1e-9 * max(1.0, 1.0 / dt)


def test_gradient_descent_violates_the_particle_form_unless_the_fisher_is_the_identity_over_m() -> None:
    dt = 1e-4
    assert worst(*path_of(FISHER, dt), dt, mass=0.5) > 0.1
    mass = 0.5
    path = torch.stack([math.exp(-k * dt / mass) * vector(1.0, -0.7) for k in range(40)])
    assert worst(path, -path / mass, dt, mass) < 1e-6


def test_gradient_descent_passes_the_field_form_at_one_rate() -> None:
    """With η I for F⁻¹ the residual is 1 - η tr(J)/P: zero at η = P/tr J."""
    estimate = maximum_likelihood(WELL_SPECIFIED["poisson regression"], tol=1e-13)
    size = estimate.task.n_params
    trace = curvature(estimate.task, estimate.params).trace().item()
    identity = torch.eye(size, dtype=torch.float64)
    for rate, expected in ((size / trace, 0.0), (0.5 * size / trace, 0.5), (1.0, 1.0 - trace / size)):
        found = field_residual(estimate.task, estimate.params, inverse_metric=lambda _, rate=rate: rate * identity)
        assert found == pytest.approx(expected, abs=4e-11)


def rmsprop_ratio(task: EstimationTask, params: torch.Tensor, batch: int) -> torch.Tensor:
    """E[g²] B / diag F of a batch's mean gradient, drawn with replacement, in closed form."""
    scores = task.scores(params)
    mean, square = scores.mean(0), (scores**2).mean(0)
    return (square + (batch - 1) * mean**2) / task.fisher(params).diagonal()


def test_rmsprop_is_the_root_of_the_fisher_near_the_optimum_only() -> None:
    """E[g²] B/diag F is 1 at the maximum of a true model, whatever the batch; far off it grows with the batch."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20_000, 4))
    eta = 0.8 + x @ np.array([0.5, -1.0, 0.7, 1.5])
    task = LogisticRegression((rng.random(20_000) < 1.0 / (1.0 + np.exp(-eta))).astype(float), x)
    estimate = maximum_likelihood(task)
    at_zero = torch.zeros(5, dtype=torch.float64)
    for batch in (1, 32, 1024):
        near = rmsprop_ratio(task, estimate.params, batch)
        assert ((near - 1.0).abs() < 0.1).all()  # 20,000 squares of heavy tails: 2 % each
    far = rmsprop_ratio(task, at_zero, 1024)
    assert (far > 6.0).all()
    assert (rmsprop_ratio(task, at_zero, 1) < 1.1).all()
    indices = rng.integers(0, 20_000, size=(400, 1024))
    scores = task.scores(at_zero)
    drawn = torch.stack([scores[row].mean(0) ** 2 for row in indices]) * 1024 / task.fisher(at_zero).diagonal()
    assert ((drawn.mean(0) - far).abs() <= 5.0 * drawn.std(0) / 20.0).all()


def test_the_legendre_transform_of_kinetic_less_potential_energy_is_their_sum() -> None:
    """Insight 4's H = |p|²/2m + ℓ, found by solving for the velocity, and it is m u = p that is the momentum."""
    task, params, mass = WELL_SPECIFIED["logistic"], vector(0.2, 0.4, -0.3), 0.7
    potential = task.mean_log_likelihood(params)
    momentum = vector(1.0, -2.0, 0.5)
    found, velocity = legendre_transform(lambda u: 0.5 * mass * u @ u - potential, momentum)
    torch.testing.assert_close(found, kinetic_hamiltonian(momentum, potential, mass), rtol=1e-12, atol=0)
    torch.testing.assert_close(mass * velocity, momentum, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("function", "transform"),
    [
        (lambda u: torch.cosh(u).sum(), lambda p: (p * torch.asinh(p) - torch.sqrt(1.0 + p**2)).sum()),
        (lambda u: torch.exp(u).sum(), lambda p: (p * torch.log(p) - p).sum()),
        (lambda u: 0.25 * (u**4).sum() + 0.5 * (u**2).sum(), None),
    ],
    ids=["cosh", "exp", "quartic"],
)
@pytest.mark.parametrize("size", [3.0, 5000.0])  # where undamped, Newton's method overflows cosh and exp
def test_legendre_transforms_are_those_of_the_tables_and_no_velocity_does_better(function, transform, size) -> None:
    momentum = vector(0.5, size)
    found, velocity = legendre_transform(function, momentum)
    if transform is not None:
        torch.testing.assert_close(found, transform(momentum), rtol=1e-11, atol=1e-12)
    # Fenchel: L(u) + H(p) = p·u, and no velocity nearby does better.
    torch.testing.assert_close(function(velocity) + found, momentum @ velocity, rtol=1e-11, atol=0)
    others = velocity + torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert all(momentum @ u - function(u) <= found for u in others)


def test_an_infinite_supremum_and_a_lagrangian_that_is_not_convex_are_said() -> None:
    with pytest.raises(SolverError, match="infinite"):
        legendre_transform(lambda u: torch.exp(u).sum(), vector(-1.0))  # p < 0 is no slope of exp
    with pytest.raises(SolverError, match="strictly convex"):
        legendre_transform(lambda u: -(u**2).sum(), vector(1.0))
    with pytest.raises(SolverError):
        legendre_transform(lambda u: u.sum(), vector(2.0))
    with pytest.raises(UsageError, match="three points"):
        particle_residual(torch.zeros(2, 1), torch.zeros(2, 1), 1.0, 1.0)
