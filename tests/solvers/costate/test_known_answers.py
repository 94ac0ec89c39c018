"""The costate solver against Riccati's equation, closed forms and published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.linalg import solve_discrete_are
from scipy.optimize import LinearConstraint, lsq_linear, minimize

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathStatus, prepare, solve_costate


def _random_system(seed: int, n: int, m: int, radius: float) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    A = generator.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    B, q, r, e = (generator.normal(size=shape) for shape in ((n, m), (n, n), (m, m), (n, n)))
    return A, B, q @ q.T / n, r @ r.T / m + np.eye(m), e @ e.T / n


def _riccati(
    A: np.ndarray, B: np.ndarray, Q: np.ndarray, R: np.ndarray, P: np.ndarray, horizon: int, discount: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the matrices of the cost to go, and the gains of ``a = -K s``."""
    costs, gains = [P], []
    for _ in range(horizon):
        gain = np.linalg.solve(R + discount * B.T @ P @ B, discount * B.T @ P @ A)
        P = Q + discount * A.T @ P @ (A - B @ gain)
        costs.append(P)
        gains.append(gain)
    return costs[::-1], gains[::-1]


@pytest.mark.parametrize(
    ("n", "m", "radius", "discount", "horizon"),
    [
        (1, 1, 0.9, 1.0, 1),
        (2, 1, 0.95, 1.0, 50),
        (3, 2, 1.2, 1.0, 20),
        (4, 3, 1.5, 0.9, 10),
        (2, 2, 1.1, 0.95, 200),
        (5, 1, 0.7, 0.5, 30),
    ],
)
def test_linear_quadratic_paths_are_riccatis(
    backend: str, n: int, m: int, radius: float, discount: float, horizon: int
) -> None:
    A, B, Q, R, end = _random_system(n + horizon, n, m, radius)
    costs, gains = _riccati(A, B, Q, R, end, horizon, discount)
    states = np.random.default_rng(1).normal(size=(3, n))
    made = LinearQuadratic(A, B, Q, R, end, horizon=horizon, discount=discount)
    solution = solve_costate(made, states, backend=backend).unwrap()
    path = solution.trajectory
    scale = 1.0 + np.abs(path.value).max()
    expected = -np.einsum("bi,ij,bj->b", states, costs[0], states)
    np.testing.assert_allclose(solution.value, expected, atol=1e-9 * scale)
    state = states
    for k in range(horizon):
        np.testing.assert_allclose(path.states[:, k], state, atol=1e-9 * scale)
        np.testing.assert_allclose(path.actions[:, k], -state @ gains[k].T, atol=1e-9 * scale)
        np.testing.assert_allclose(path.costates[:, k], -2.0 * state @ costs[k], atol=1e-9 * scale)
        np.testing.assert_allclose(solution.feedback[:, k], np.tile(-gains[k], (3, 1, 1)), atol=1e-9)
        state = state @ (A - B @ gains[k]).T
    np.testing.assert_allclose(path.costates[:, -1], -2.0 * state @ end, atol=1e-9 * scale)
    smallest = min(np.linalg.eigvalsh(2.0 * (R + discount * B.T @ P @ B)).min() for P in costs[1:])
    np.testing.assert_allclose(solution.curvature, smallest, rtol=1e-9)


@pytest.mark.parametrize(("radius", "discount"), [(0.9, 1.0), (1.3, 1.0), (1.2, 0.9), (0.8, 0.6)])
def test_a_random_regulator_is_riccatis_at_every_horizon_from_1_to_200(radius: float, discount: float) -> None:
    A, B, Q, R, end = _random_system(int(100 * radius), 2, 1, radius)
    states = np.array([[1.0, -0.5], [-0.3, 2.0]])
    made = LinearQuadratic(A, B, Q, R, end, horizon=200, discount=discount)
    costs, gains = _riccati(A, B, Q, R, end, 200, discount)  # of N steps: the last N
    ready = prepare(made)
    for horizon in range(1, 201):
        made.horizon = horizon
        solution = solve_costate(made, states, backend=ready)
        P, path = costs[200 - horizon], solution.trajectory
        scale = 1.0 + np.abs(solution.value).max()
        assert solution.converged.all()
        np.testing.assert_allclose(solution.value, -np.einsum("bi,ij,bj->b", states, P, states), atol=1e-9 * scale)
        np.testing.assert_allclose(path.costates[:, 0], -2.0 * states @ P, atol=1e-9 * scale)
        np.testing.assert_allclose(solution.feedback[0], -np.array(gains[200 - horizon :]), atol=1e-9)
        replies = -np.einsum("kmn,bkn->bkm", gains[200 - horizon :], path.states[:, :-1])
        np.testing.assert_allclose(path.actions, replies, atol=1e-9 * scale)


def test_over_a_long_time_the_first_gain_is_that_of_the_algebraic_riccati_equation(backend: str) -> None:
    A, B, Q, R, end = _random_system(3, 3, 2, 1.1)
    P = solve_discrete_are(A, B, Q, R)
    solution = solve_costate(LinearQuadratic(A, B, Q, R, end, horizon=200), np.ones(3), backend=backend).unwrap()
    gain = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    np.testing.assert_allclose(solution.feedback[0, 0], -gain, atol=1e-9)
    np.testing.assert_allclose(solution.trajectory.costates[0, 0], -2.0 * P @ np.ones(3), rtol=1e-9)


def test_the_double_integrator_costs_what_casadi_finds(backend: str) -> None:
    solution = solve_costate(problem("hrl/LinearQuadratic-v0"), np.array([1.0, 0.0]), backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-9.077561471453, abs=1e-11)
    np.testing.assert_allclose(-solution.trajectory.costates[0, 0], [18.15512, 6.33246], atol=5e-6)


def test_the_bounded_double_integrator_costs_what_bounded_least_squares_finds(backend: str) -> None:
    made, horizon = LinearQuadratic(action_bound=0.5), 100
    A, B = made.A.numpy(), made.B.numpy()
    powers = [np.linalg.matrix_power(A, k) for k in range(horizon + 1)]
    roots = [np.diag([1.0, math.sqrt(0.1)])] * horizon + [math.sqrt(10.0) * np.eye(2)]
    rows = np.zeros((2 * horizon + 2, horizon))
    for k in range(horizon + 1):
        for j in range(k):
            rows[2 * k : 2 * k + 2, j : j + 1] = roots[k] @ powers[k - 1 - j] @ B
    rows = np.vstack([rows, math.sqrt(0.1) * np.eye(horizon)])
    right = np.concatenate(
        [*(-root @ power @ [1.0, 0.0] for root, power in zip(roots, powers, strict=True)), np.zeros(horizon)]
    )
    expected = lsq_linear(rows, right, (-0.5, 0.5), method="bvls", tol=1e-15)
    solution = solve_costate(made, np.array([1.0, 0.0]), backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-2.0 * expected.cost, abs=1e-10)
    np.testing.assert_allclose(solution.trajectory.actions[0, :, 0], expected.x, atol=1e-7)
    assert (np.abs(solution.trajectory.actions) == 0.5).any()
    # IPOPT's number, whose bounds are relaxed by 1e-8.
    assert solution.value[0] == pytest.approx(-12.428550019, abs=1e-7)


def test_costates_are_the_gradient_of_the_value(backend: str) -> None:
    pendulum, state, step = problem("Pendulum-v1"), np.array([0.3, 0.2]), 1e-4
    moved = state + step * np.vstack([np.eye(2), -np.eye(2)])
    solution = solve_costate(pendulum, np.vstack([state, moved]), horizon=12, backend=backend).unwrap()
    slope = (solution.value[1:3] - solution.value[3:]) / (2.0 * step)
    np.testing.assert_allclose(solution.trajectory.costates[0, 0], slope, rtol=1e-6)
    # And at a later step: the rest of the path is the solution from there.
    later = solution.trajectory.states[0, 5]
    rest = solve_costate(
        pendulum, later + step * np.vstack([np.eye(2), -np.eye(2)]), horizon=7, backend=backend
    ).unwrap()
    slope = (rest.value[:2] - rest.value[2:]) / (2.0 * step)
    np.testing.assert_allclose(solution.trajectory.costates[0, 5], slope, rtol=1e-6)


def test_feedback_is_the_slope_of_the_optimal_action(backend: str) -> None:
    pendulum, state, step = problem("Pendulum-v1"), np.array([0.1, 0.05]), 1e-5
    moved = state + step * np.vstack([np.eye(2), -np.eye(2)])
    solution = solve_costate(pendulum, np.vstack([state, moved]), horizon=8, tol=1e-11, backend=backend).unwrap()
    assert (np.abs(solution.trajectory.actions[:, 0]) < 2.0).all()
    slope = (solution.trajectory.actions[1:3, 0] - solution.trajectory.actions[3:, 0]) / (2.0 * step)
    np.testing.assert_allclose(solution.feedback[0, 0].T, slope, rtol=1e-5)


@pytest.mark.parametrize("horizon", [1, 2, 5, 20])
def test_brock_and_mirman_save_by_their_closed_form(backend: str, horizon: int) -> None:
    alpha, beta, capital = 0.36, 0.95, 0.1
    solution = solve_costate(
        problem("hrl/BrockMirman-v0"), np.array([capital]), horizon=horizon, backend=backend
    ).unwrap()
    shares = [1.0 / sum((alpha * beta) ** j for j in range(horizon - k)) for k in range(horizon)]
    np.testing.assert_allclose(solution.trajectory.actions[0, :, 0], shares, atol=1e-7)
    value = 0.0
    for k, share in enumerate(shares):
        value += beta**k * math.log(share * capital**alpha)
        capital = (1.0 - share) * capital**alpha
    assert solution.value[0] == pytest.approx(value, abs=1e-9)
    if horizon == 20:
        assert solution.value[0] == pytest.approx(-13.287585362, abs=1e-8)
    slope = sum(alpha * (alpha * beta) ** k for k in range(horizon)) / 0.1
    assert solution.trajectory.costates[0, 0, 0] == pytest.approx(slope, rel=1e-7)


def test_over_a_long_time_growth_is_worth_the_stationary_value(backend: str) -> None:
    solution = solve_costate(problem("hrl/BrockMirman-v0"), np.array([0.1]), horizon=40, backend=backend).unwrap()
    assert solution.trajectory.costates[0, 0, 0] == pytest.approx(5.471124620, abs=1e-7)


def test_cake_is_eaten_by_its_closed_form(backend: str) -> None:
    solution = solve_costate(problem("hrl/CakeEating-v0"), np.array([1.0]), backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-18.392324228, abs=1e-8)
    assert solution.trajectory.costates[0, 0, 0] == pytest.approx(8.025261215, abs=1e-7)
    eaten = (solution.trajectory.actions * solution.trajectory.states[:, :-1])[0, :, 0]
    np.testing.assert_allclose(eaten, 0.95 ** np.arange(10) * 0.05 / (1.0 - 0.95**10), atol=1e-8)


@pytest.mark.parametrize("horizon", [2, 10, 50])
def test_the_least_energy_is_exact_for_any_number_of_steps(backend: str, horizon: int) -> None:
    made = problem("hrl/DoubleIntegrator-v0", horizon=horizon)
    solution = solve_costate(made, np.array([-1.0, 0.0]), tol=1e-10, backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-6.0 / (1.0 - 1.0 / horizon**2), abs=1e-7)
    assert np.abs(solution.trajectory.states[0, -1]).max() < 1e-8
    # The multipliers are what the end costs: the value's slope in the place where it must end, which is -λ_N.
    np.testing.assert_allclose(-solution.end_multipliers[0], solution.trajectory.costates[0, -1], rtol=1e-9)
    # Linear in time, as the costates of a double integrator are.
    np.testing.assert_allclose(np.diff(solution.trajectory.actions[0, :, 0], 2), 0.0, atol=1e-7)


def test_least_energy_within_bounds_converges_to_its_closed_form() -> None:
    errors = []
    for horizon in (25, 50):
        made = problem("hrl/BoundedDoubleIntegrator-v0", horizon=horizon)
        solution = solve_costate(made, np.array([-1.0, 0.0])).unwrap()
        errors.append(abs(-solution.value[0] - 25.0 * (0.5 - math.sqrt(0.15) * 2.0 / 3.0)))
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 3e-3


@pytest.mark.parametrize(("limit", "cost"), [(0.1, 4.0 / 0.9), (0.2, 2.24), (0.3, 2.0)])
def test_bryson_and_denham_turn_at_the_wall_at_second_order(limit: float, cost: float) -> None:
    errors = []
    for horizon in (20, 40):
        made = problem("hrl/BrysonDenham-v0", horizon=horizon, limit=limit)
        solution = solve_costate(made, np.array([0.0, 1.0])).unwrap()
        assert solution.trajectory.states[0, :, 0].max() <= limit + 1e-8
        # What is enforced between nodes only at the nodes costs O(1/N²).
        errors.append(abs(-solution.value[0] - cost))
        assert errors[-1] * horizon**2 < 6.0 / limit
        assert (solution.multipliers >= 0.0).all()
        slack = limit - solution.trajectory.states[0, :-1, 0]
        assert np.abs(solution.multipliers[0, :, 0] * slack).max() < 1e-6
    assert errors[1] < 0.5 * errors[0] + 1e-8


@pytest.mark.parametrize("limit", [0.08, 1.0 / 9.0, 0.15, 0.2, 0.3])
def test_bryson_and_denham_of_few_steps_is_the_quadratic_programme_of_another_solver(limit: float) -> None:
    """Positions at the nodes and the end are linear in the actions: ``min Σ ½ a² dt``, x <= limit, by SLSQP."""
    horizon, dt = 10, 0.1
    left = horizon - np.arange(horizon)[None] - (horizon - np.arange(horizon + 1))[:, None]  # k - j
    moved = np.where(left > 0, (left - 0.5) * dt**2, 0.0)
    coasting = dt * np.arange(horizon + 1)
    found = minimize(
        lambda a: (0.5 * dt * (a**2).sum(), dt * a),
        np.full(horizon, -2.0),
        jac=True,
        method="SLSQP",
        constraints=[
            LinearConstraint(moved[1:-1], -np.inf, limit - coasting[1:-1]),
            LinearConstraint(np.stack([moved[-1], np.full(horizon, dt)]), [-1.0, -2.0], [-1.0, -2.0]),
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success
    made = problem("hrl/BrysonDenham-v0", horizon=horizon, limit=limit)
    solution = solve_costate(made, np.array([0.0, 1.0]), tol=1e-9).unwrap()
    assert solution.value[0] == pytest.approx(-found.fun, abs=1e-7)
    np.testing.assert_allclose(solution.trajectory.actions[0, :, 0], found.x, atol=1e-5)  # 25 √(2 ftol / dt)


def test_van_der_pols_cost_tends_to_the_published_one_at_second_order() -> None:
    costs = [
        -solve_costate(problem("hrl/VanDerPol-v0", horizon=horizon), np.array([0.0, 1.0])).unwrap().value[0]
        for horizon in (50, 100, 200)
    ]
    errors = np.array(costs) - 2.867260
    assert errors[1] == pytest.approx(errors[0] / 4.0, rel=0.2)
    assert (4.0 * costs[2] - costs[1]) / 3.0 == pytest.approx(2.867260, abs=2e-6)


def test_zermelos_headings_and_value_are_their_closed_form(backend: str) -> None:
    made = problem("hrl/Zermelo-v0", wind=(0.2, -0.1), speed=1.3)
    state = np.array([0.1, -0.2])
    solution = solve_costate(made, state, backend=backend).unwrap()
    left = 49 - np.arange(50)
    np.testing.assert_allclose(np.tan(solution.trajectory.actions[0, :, 0]), 0.04 * left, atol=1e-7)
    drift = 2.0 * 0.2 + 2.0 * -0.2 + 0.04**2 * -0.1 * 50 * 49 / 2.0
    expected = 0.1 + drift + (1.3 * 0.04 * np.sqrt(1.0 + (0.04 * left) ** 2)).sum()
    assert solution.value[0] == pytest.approx(expected, abs=1e-10)


def test_the_hamiltonian_need_not_be_maximised_at_an_optimum_in_discrete_time(
    backend: str, made: Callable[..., ControlProblem]
) -> None:
    """With s1 = u, r = u² and h = -2 s1² the return is -u², and H = u² + λ u with λ = -4 u is least at u = 0."""
    step = made(
        lambda s, a, k: a, lambda s, a, k: a[..., 0] ** 2, end=lambda s: -2.0 * s[..., 0] ** 2, low=-1.0, high=1.0
    )
    for start in (0.0, 0.7, -1.0):
        solution = solve_costate(step, np.array([0.0]), initial_actions=np.array([[start]]), backend=backend)
        assert solution.trajectory.actions[0, 0, 0] == pytest.approx(0.0, abs=1e-8)
        assert solution.status == [PathStatus.LOCAL_OPTIMUM]
        assert solution.curvature[0] == pytest.approx(2.0)
        assert not solution.certificate.maximises_hamiltonian[0]
        assert solution.certificate.hamiltonian_gap[0, 0] == pytest.approx(1.0, abs=1e-7)
        assert solution.certificate.stationarity[0] < 1e-8


def test_where_the_hamiltonian_is_concave_it_is_maximised(backend: str) -> None:
    solution = solve_costate(problem("hrl/LinearQuadratic-v0"), np.array([1.0, 0.5]), horizon=20, backend=backend)
    assert solution.certificate.maximises_hamiltonian.all()
    assert solution.certificate.dynamics.max() < 1e-12
    assert solution.certificate.costate.max() < 1e-12
    assert solution.certificate.stationarity.max() < 1e-8
