"""Insight 4 as a statement that can fail: the control problem of an estimation task, solved by four routes."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.optim import LeastAction, ModelFisher
from hamiltonian_rl.optim.gains import step_gain
from hamiltonian_rl.principles.hamiltonian import hamiltonian
from hamiltonian_rl.principles.lagrangian import legendre_transform
from hamiltonian_rl.problems.estimation import GaussianMean, LinearRegression, LogisticRegression, Poisson
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.grid_solution import GridSolution
from hamiltonian_rl.solvers.maximum_likelihood import maximum_likelihood
from hamiltonian_rl.solvers.solve_grid import solve_grid

TIME_STEPS = (1e-3, 1e-2, 0.1, 1.0, 30.0, 1e3)
MASS = 0.7
AROUND = np.array([[0.5, -0.3], [-0.4, 0.2]])
SHARP = 0.005  # σ with which the slowest mode goes within some hundred of the shortest steps


def regression(scale: float = 0.3, sigma: float = 1.0) -> tuple[LinearRegression, np.ndarray, np.ndarray]:
    """Return a quadratic task of two coupled parameters, its maximum and its Fisher information, by NumPy."""
    random = np.random.default_rng(0)
    x = random.normal(size=(10, 2)) * [1.0, scale]
    y = x @ [1.0, -2.0] + 0.5 * random.normal(size=10)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    return LinearRegression(y, x, sigma=sigma, intercept=False), best, x.T @ x / (10 * sigma**2)


def riccati(fisher: np.ndarray, dt: float, discount: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return P of ``V = -½ δᵀPδ``, and the gain of ``u = -K δ``, by SciPy."""
    root, eye = discount**0.5, np.eye(len(fisher))
    P = solve_discrete_are(root * eye, root * dt * eye, dt * fisher, dt * MASS * eye)
    return P, discount * np.linalg.solve(MASS * eye + discount * dt * P, P)


@pytest.mark.parametrize("dt", TIME_STEPS)
def test_costates_riccati_and_the_least_action_step_agree_on_a_quadratic_task_for_any_time_step(dt):
    task, best, fisher = regression()
    away = np.array([[1.0, 0.5], [-0.3, 2.0]])
    problem = task.control_problem(MASS, dt, start=best, reference=float(task.mean_log_likelihood(torch.tensor(best))))
    paths = solve_costate(problem, best + away).unwrap()
    step = dt * paths.trajectory.actions[:, 0]
    P, gain = riccati(fisher, dt)
    np.testing.assert_allclose(step, -dt * away @ gain.T, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(paths.value, -0.5 * np.einsum("bi,ij,bj->b", away, P, away), rtol=1e-8)
    np.testing.assert_allclose(step, [least_action_step(task, best + delta, dt) for delta in away], rtol=1e-8)


def least_action_step(task: LinearRegression, theta: np.ndarray, dt: float, sigma: float = 1.0) -> np.ndarray:
    """Return one step of the optimizer, as anybody would take it: a layer of torch, a loss, `LeastAction`.

    The loss of squares is σ² (-ℓ), and so is its Fisher information; with σ² m for the mass the step is the same.
    """
    layer = torch.nn.Linear(len(theta), 1, bias=False, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor(theta)[None]})
    options = {"betas": (0.0, 0.0), "eps": 0.0}
    watched = ModelFisher(layer, "gaussian", samples="exact")
    optimizer = LeastAction(layer.parameters(), dt, sigma**2 * MASS, "dense", fisher=watched, **options)
    loss = 0.5 * ((layer(task.data.inputs)[:, 0] - task.data.targets) ** 2).mean()
    loss.backward()
    optimizer.step()
    return layer.weight.detach().numpy()[0] - theta


@pytest.mark.parametrize("dt", TIME_STEPS)
@pytest.mark.parametrize("discount", [0.9, 0.99])
def test_value_iteration_agrees_with_costates_and_the_closed_form_to_1e_8_for_any_time_step(dt, discount):
    task = GaussianMean([1.0, 2.0, 4.5], sigma=0.5)
    best, phi = 2.5, 4.0
    # γ dt p² + p (m (1 - γ) - γ dt² φ) - dt φ m = 0, u = -γ p δ / (m + γ dt p)
    a, b, c = discount * dt, MASS * (1.0 - discount) - discount * dt**2 * phi, -dt * phi * MASS
    p = (-b + math.sqrt(b * b - 4.0 * a * c)) / (2.0 * a)
    gain = discount * p / (MASS + discount * dt * p)
    reference = float(task.mean_log_likelihood(torch.tensor([best], dtype=torch.float64)))
    problem = task.control_problem(
        MASS, dt, discount=discount, reference=reference, radius=2.0, max_speed=2.5 * gain, start=[best]
    )
    away = np.array([[0.5], [-1.0], [1.3]])
    grid = solve_grid(Grid(problem, (41,), 11, interpolation="cubic"), tol=1e-10)
    paths = solve_costate(problem, best + away)
    for value, action in (
        (grid.value_at(best + away), grid.action_at(best + away)),
        (paths.value, paths.trajectory.actions[:, 0]),
    ):
        np.testing.assert_allclose(value, -0.5 * p * away[:, 0] ** 2, rtol=1e-8)
        np.testing.assert_allclose(action, -gain * away, rtol=1e-8)


def two_parameter_grid(dt: float, sigma: float, **options: float) -> tuple[GridSolution, np.ndarray]:
    """Return value iteration's answer for two parameters that F couples, and where the maximum lies.

    The columns are of one scale: no best path from within the box leaves it, where no value is known.
    """
    task, best, fisher = regression(1.0, sigma)
    gain = riccati(fisher, dt, options.get("discount", 1.0))[1]
    assert np.abs(np.eye(2) - dt * gain).sum(1).max() < 1.0
    reference = float(task.mean_log_likelihood(torch.tensor(best)))
    bounds = {"radius": 2.0, "max_speed": 4.4 * float(np.abs(gain).sum(1).max())}
    problem = task.control_problem(MASS, dt, reference=reference, start=best, **bounds, **options)
    return solve_grid(Grid(problem, (9, 9), 5, interpolation="cubic"), tol=1e-13), best


@pytest.mark.parametrize("dt", TIME_STEPS)
def test_value_iteration_agrees_with_riccati_to_1e_8_for_two_coupled_parameters_and_any_time_step(dt):
    grid, best = two_parameter_grid(dt, sigma=1.0, discount=0.9)
    P, gain = riccati(regression(1.0)[2], dt, 0.9)
    value = -0.5 * np.einsum("bi,ij,bj->b", AROUND, P, AROUND)
    np.testing.assert_allclose(grid.value_at(best + AROUND), value, rtol=1e-8)
    np.testing.assert_allclose(grid.action_at(best + AROUND), -AROUND @ gain.T, rtol=1e-8)


@pytest.mark.parametrize("dt", TIME_STEPS)
def test_undiscounted_value_iteration_takes_the_least_action_step_to_1e_8_for_any_time_step(dt):
    """Over as many steps as the slowest mode needs to go: it falls by ``exp(-2 asinh(½ dt √(φ/m)))`` in each."""
    task, _, fisher = regression(1.0, SHARP)
    slowest = 2.0 * math.asinh(0.5 * dt * math.sqrt(np.linalg.eigvalsh(fisher)[0] / MASS))
    grid, best = two_parameter_grid(dt, SHARP, horizon=2 + math.ceil(math.log(1e12) / (2.0 * slowest)))
    step = [least_action_step(task, best + delta, dt, SHARP) for delta in AROUND]
    np.testing.assert_allclose(dt * grid.action_at(best + AROUND), step, rtol=1e-8)


def test_the_costate_is_the_momentum():
    task = Poisson([0, 2, 1, 4, 3], "log_rate")  # not quadratic
    problem = task.control_problem(MASS, 0.3, horizon=30)
    path = solve_costate(problem, np.array([[1.5], [-0.5]])).unwrap().trajectory
    np.testing.assert_allclose(path.costates[:, 1:], MASS * path.actions, atol=1e-7)


def test_the_greatest_hamiltonian_is_the_legendre_transform_of_the_lagrangian():
    """``max_a H(θ, a, λ) = λθ + dt sup_u (λu - L)``, ``L = ½ m u² - ℓ``: one by the control problem, one by L alone."""
    task, dt = Poisson([0, 2, 1, 4, 3], "log_rate"), 0.3
    problem = task.control_problem(MASS, dt, horizon=30)
    actions = torch.linspace(-6.0, 6.0, 120_001, dtype=torch.float64)[:, None]
    for theta, costate in ((0.2, 1.0), (1.5, -2.0), (-1.0, 0.3)):
        state, momentum = torch.tensor([theta]).double(), torch.tensor([costate]).double()
        states = state.expand(len(actions), 1)
        reward, arrived = problem.reward(states, actions, 0), problem.dynamics(states, actions, 0)
        greatest = hamiltonian(reward, arrived, momentum).max()
        transform, _ = legendre_transform(
            lambda u, state=state: 0.5 * MASS * (u**2).sum() - task.mean_log_likelihood(state), momentum
        )
        expected = momentum @ state + dt * transform
        assert abs(float(greatest) - float(expected)) < 1e-8


def test_away_from_the_optimum_the_least_action_step_is_right_to_first_order():
    """The relative error of the closed form falls in proportion to the distance, where the task is not quadratic."""
    task, dt = Poisson([0, 2, 1, 4, 3], "log_rate"), 0.5
    best = math.log(2.0)
    problem = task.control_problem(MASS, dt, reference=float(task.mean_log_likelihood(torch.tensor([best]).double())))
    distances = np.array([0.2, 0.1, 0.05, 0.025, 0.0125])
    paths = solve_costate(problem, best + distances[:, None], tol=1e-12)
    step = dt * paths.trajectory.actions[:, 0, 0]
    theta = torch.tensor(best + distances)
    score, fisher = 2.0 - theta.exp(), theta.exp()
    closed = (step_gain(fisher, dt / MASS**0.5, 0.5 * dt / MASS**0.5, 0.0) * score).numpy()
    errors = np.abs(closed / step - 1.0)
    slope = np.polyfit(np.log(distances), np.log(errors), 1)[0]
    assert 0.9 < slope < 1.1, errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mass": 0.0}, "mass = 0.0; expected a positive number"),
        ({"dt": -1.0}, "dt = -1.0"),
        ({"dt": math.inf}, "dt = inf"),
        ({"mass": "a"}, "mass = 'a'; expected a positive number"),
        ({"discount": None}, "discount = None"),
        ({"horizon": math.inf}, "horizon = inf; expected a whole number"),
        ({"horizon": 0}, "horizon = 0; expected a whole number"),
        ({"discount": 1.5}, "discount = 1.5"),
        ({"spread": -1.0}, "spread = -1.0; expected a finite number, 0 or more"),
        ({"start": [1.0, 2.0]}, "shape"),
    ],
)
def test_what_is_no_control_problem_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        GaussianMean([1.0, 2.0]).control_problem(**options)


def test_a_task_of_hundreds_of_rows_is_solved_without_an_end_and_without_writing_its_sum_out(recwarn):
    random = np.random.default_rng(1)
    x = random.normal(size=(300, 2))
    task = LogisticRegression((x @ [1.0, -1.0] + random.logistic(size=300) > 0).astype(float), x)
    best = maximum_likelihood(task).params.numpy()
    problem = task.control_problem(MASS, 0.5, start=best, reference=float(task.mean_log_likelihood(torch.tensor(best))))
    away = 1e-3 * np.array([[1.0, 2.0, -1.0]])  # so near that the task is quadratic
    assert not problem.compile_kernels
    path = solve_costate(problem, best + away).unwrap()
    P, gain = riccati(task.fisher(torch.tensor(best)).numpy(), 0.5)
    np.testing.assert_allclose(path.trajectory.actions[:, 0], -away @ gain.T, rtol=2e-3)
    np.testing.assert_allclose(path.value, -0.5 * np.einsum("bi,ij,bj->b", away, P, away), rtol=2e-3)
    assert not [w for w in recwarn if "torch instead" in str(w.message)]
