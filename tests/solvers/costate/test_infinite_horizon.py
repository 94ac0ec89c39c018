"""Infinite horizons: steady states, and paths whose end is worth their neighborhood, against closed forms and scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathStatus, solve_costate, steady_state
from hamiltonian_rl.solvers.costate.infinite_horizon import SteadyEnd
from hamiltonian_rl.solvers.solve_control import solve_control
from hamiltonian_rl.trajectory import rollout

Made = Callable[..., ControlProblem]


@pytest.mark.parametrize(("alpha", "beta"), [(0.36, 0.95), (0.6, 0.99), (0.2, 0.5)])
def test_growth_is_worth_its_closed_form_from_little_and_much_capital(backend: str, alpha: float, beta: float) -> None:
    slope = alpha / (1.0 - alpha * beta)
    level = (math.log(1.0 - alpha * beta) + beta * slope * math.log(alpha * beta)) / (1.0 - beta)
    capital = np.array([0.02, 0.1, 0.187, 0.5, 1.0])
    growth = problem("hrl/BrockMirman-v0", alpha=alpha, discount=beta)
    solution = solve_costate(growth, capital[:, None], backend=backend).unwrap()
    # The solver's own tol is 1e-8 in the action; the value is stationary there.
    np.testing.assert_allclose(solution.value, level + slope * np.log(capital), rtol=1e-11)
    np.testing.assert_allclose(solution.trajectory.costates[:, 0, 0], slope / capital, rtol=1e-8)
    np.testing.assert_allclose(solution.trajectory.actions[:, 0, 0], 1.0 - alpha * beta, atol=1e-7)
    np.testing.assert_allclose(solution.trajectory.states[:, -1, 0], (alpha * beta) ** (1 / (1 - alpha)), rtol=1e-6)
    assert solution.problem.horizon == solution.trajectory.actions.shape[1]
    assert growth.horizon is None
    if alpha == 0.36:
        assert solution.value[1] == pytest.approx(-20.784185220929, abs=1e-10)
        assert solution.trajectory.costates[1, 0, 0] == pytest.approx(5.471124620, abs=1e-8)


def test_growth_rests_where_its_closed_form_does() -> None:
    alpha, beta = 0.36, 0.95
    found = steady_state(problem("hrl/BrockMirman-v0"))
    capital = (alpha * beta) ** (1.0 / (1.0 - alpha))
    slope = alpha / (1.0 - alpha * beta)
    np.testing.assert_allclose(found.state, capital, rtol=1e-9)
    np.testing.assert_allclose(found.action, 1.0 - alpha * beta, rtol=1e-9)
    np.testing.assert_allclose(found.costate, slope / capital, rtol=1e-9)
    np.testing.assert_allclose(found.curvature, -slope / capital**2, rtol=1e-8)
    np.testing.assert_allclose(found.feedback, 0.0, atol=1e-8)  # the share is the same whatever the capital
    np.testing.assert_allclose(found.multipliers, alpha, rtol=1e-9)
    assert found.value == pytest.approx(math.log((1.0 - alpha * beta) * capital**alpha) / (1.0 - beta), rel=1e-11)


@pytest.mark.parametrize(
    ("n", "m", "radius", "discount"), [(1, 1, 0.9, 0.95), (3, 2, 1.3, 0.9), (4, 1, 1.1, 0.99), (2, 2, 1.2, 1.0)]
)
def test_regulators_without_end_are_those_of_the_algebraic_riccati_equation(
    backend: str, n: int, m: int, radius: float, discount: float
) -> None:
    generator = np.random.default_rng(n)
    A = generator.normal(size=(n, n))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    B = generator.normal(size=(n, m))
    P = solve_discrete_are(math.sqrt(discount) * A, math.sqrt(discount) * B, np.eye(n), np.eye(m))
    gain = np.linalg.solve(np.eye(m) + discount * B.T @ P @ B, discount * B.T @ P @ A)
    states = generator.normal(size=(3, n))
    # Its own horizon and end count for nothing where none is asked for.
    regulator = LinearQuadratic(A, B, horizon=7, discount=discount)
    solution = solve_costate(regulator, states, horizon=math.inf, backend=backend).unwrap()
    scale = np.abs(P).max()
    np.testing.assert_allclose(solution.value, -np.einsum("bi,ij,bj->b", states, P, states), rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(solution.trajectory.actions[:, 0], -states @ gain.T, rtol=0, atol=1e-9)
    np.testing.assert_allclose(solution.trajectory.costates[:, 0], -2.0 * states @ P, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(solution.feedback[0, 0], -gain, rtol=0, atol=1e-9)
    found = steady_state(regulator)
    np.testing.assert_allclose(found.curvature, -2.0 * P, rtol=0, atol=1e-9 * scale)
    np.testing.assert_allclose(
        np.sort_complex(found.multipliers), np.sort_complex(np.linalg.eigvals(A - B @ gain)), atol=1e-8
    )


def test_the_end_of_a_regulator_is_worth_all_that_follows_whatever_the_horizon(backend: str) -> None:
    regulator = LinearQuadratic(discount=0.9)
    A, B, Q, R = (x.numpy() for x in (regulator.A, regulator.B, regulator.Q, regulator.R))
    P = solve_discrete_are(math.sqrt(0.9) * A, math.sqrt(0.9) * B, Q, R)
    ending = SteadyEnd(regulator, [steady_state(regulator)])
    state = np.array([1.5, -0.5])
    for horizon in (0, 1, 7):
        solution = solve_costate(ending, state, horizon=horizon, backend=backend)
        assert solution.value[0] == pytest.approx(-state @ P @ state, rel=1e-9)


def test_a_bounded_regulator_without_end_is_the_limit_of_long_horizons(backend: str) -> None:
    asked = LinearQuadratic(action_bound=0.5, horizon=None)
    solution = solve_costate(asked, np.array([1.0, 0.0]), backend=backend).unwrap()
    assert (np.abs(solution.trajectory.actions) == 0.5).any()
    # IPOPT's number for 100 steps (its bounds are relaxed by 1e-8); by then nothing is left to pay.
    assert solution.value[0] == pytest.approx(-12.428550019, abs=1e-7)


def test_a_steady_state_at_a_bound_has_no_feedback_there(backend: str, made: Made) -> None:
    """With ``s' = 0.9 s + a``, ``a <= 1/2``, ``r = s`` every push is worth ``γ λ``, ``λ = 1 / (1 - 0.9 γ)``."""
    asked = made(lambda s, a, k: 0.9 * s + a, lambda s, a, k: s[..., 0], low=0.0, high=0.5, horizon=None, discount=0.8)
    found, slope = steady_state(asked, np.array([1.0])), 1.0 / (1.0 - 0.72)
    np.testing.assert_allclose([*found.state, *found.action, *found.costate], [5.0, 0.5, slope], rtol=1e-12)
    np.testing.assert_array_equal(found.feedback, 0.0)
    solution = solve_costate(asked, np.array([[0.0], [9.0]]), backend=backend).unwrap()
    np.testing.assert_allclose(solution.value, 25.0 + slope * np.array([-5.0, 4.0]), rtol=1e-12)
    np.testing.assert_allclose(solution.trajectory.costates, slope, rtol=1e-12)


def test_what_runs_away_at_no_cost_is_not_stabilised(made: Made) -> None:
    """Two solutions of Riccati's equation: nothing done costs nothing; the other one stabilises, and costs."""
    asked = made(lambda s, a, k: 2.0 * s + a, lambda s, a, k: -(a[..., 0] ** 2), horizon=None, discount=0.9)
    with pytest.raises(SolverError, match="runs away, by 2 a step"):
        solve_costate(asked, np.array([1e-3]))
    # And where the discount outweighs that, doing nothing is the answer, not the regulator that stabilises.
    asked.discount = 0.2
    solution = solve_costate(asked, np.array([1e-3])).unwrap()
    np.testing.assert_allclose(solution.trajectory.actions, 0.0, atol=1e-8)  # tol
    np.testing.assert_allclose(solution.value, 0.0, atol=1e-15)


def test_an_angle_rests_the_shorter_way_round() -> None:
    pendulum, turn = problem("Pendulum-v1"), 2.0 * np.pi
    states = np.array([[0.2, 0.0], [0.2 + turn, 0.0], [-0.2, 0.0]])
    solution = solve_costate(pendulum, states, horizon=math.inf).unwrap()
    np.testing.assert_allclose(solution.value, solution.value[0], rtol=1e-9)
    np.testing.assert_allclose(solution.trajectory.states[:, -1] - [[0.0, 0.0], [turn, 0.0], [0.0, 0.0]], 0, atol=1e-3)


def test_policies_are_the_starts_of_an_infinite_horizon(backend: str) -> None:
    starts: list[Any] = [lambda s, k: 0.3 + 0.0 * s, lambda s, k: 0.9 + 0.0 * s]
    solution = solve_costate(problem("hrl/BrockMirman-v0"), np.array([0.1]), starts=starts, backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-20.784185220929, abs=1e-9)


def test_a_path_that_comes_to_no_rest_is_not_called_settled(made: Made) -> None:
    """A state that turns for ever at a cost of fourth order: the quadratic model of its end knows none of it."""
    turn = torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]], dtype=torch.float64)
    asked = made(
        lambda s, a, k: (s.unsqueeze(-2) * turn).sum(-1),
        lambda s, a, k: -(s[..., 0] ** 4) - a[..., 0] ** 2,
        n=2,
        horizon=None,
        discount=0.999,
    )
    solution = solve_costate(asked, np.array([[1.0, 0.0], [0.0, 0.0]]))
    assert solution.status == [PathStatus.UNSETTLED, PathStatus.LOCAL_OPTIMUM]
    # Turning takes a mean of 3/8 a step for ever, to the accuracy of the first few steps.
    assert solution.value[0] == pytest.approx(-375.0, rel=0.03)


@pytest.mark.parametrize(
    ("asked", "options", "error", "message"),
    [
        ({"horizon": None}, {}, UsageError, "pays -1 for ever"),
        ({"reward": lambda s, a, k: -(a[..., 0] ** 2) * (1.0 + k)}, {}, UsageError, "reward depends on the step"),
        ({"dynamics": lambda s, a, k: 0.5 * s + a * (k < 5)}, {}, UsageError, "dynamics depends on the step"),
        ({"terminal_constraints": lambda s: s}, {}, UsageError, "terminal constraints"),
        ({}, {"initial_actions": np.zeros((3, 1))}, UsageError, "expected a policy"),
        ({}, {"horizon": -math.inf}, UsageError, "horizon = -inf"),
        ({"reward": lambda s, a, k: s[..., 0] ** 2, "discount": 0.9}, {}, SolverError, "not strictly concave"),
        ({"dynamics": lambda s, a, k: 2.0 * s, "discount": 0.9}, {}, SolverError, "has no limit"),
        ({"dynamics": lambda s, a, k: s, "discount": 0.9}, {}, SolverError, "one of a continuum"),
        ({"dynamics": lambda s, a, k: s + 1.0, "discount": 0.9}, {}, SolverError, "No steady state was found"),
        (
            {"constraints": lambda s, a, k: s, "reward": lambda s, a, k: -((s - 1.0) ** 2 + a**2)[..., 0]},
            {},
            SolverError,
            "at or beyond a constraint",
        ),
    ],
)
def test_what_has_no_infinite_horizon_is_told_why(
    made: Made, asked: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    plain = {"dynamics": lambda s, a, k: 0.5 * s + a, "reward": lambda s, a, k: -(s**2 + a**2)[..., 0] - 1.0}
    regulator = made(**{**plain, "horizon": 5, "discount": 1.0 if "horizon" in asked else 0.9, **asked})
    with pytest.raises(error, match=message):
        solve_costate(regulator, np.array([0.3]), **{"horizon": math.inf, **options})


def test_a_cake_is_eaten_and_leaves_no_steady_state() -> None:
    with pytest.raises(SolverError, match="steady state"):
        solve_costate(problem("hrl/CakeEating-v0"), np.array([1.0]), horizon=math.inf)


def test_episodes_that_end_and_discrete_actions_have_no_steady_state() -> None:
    with pytest.raises(UsageError, match="episodes can end"):
        steady_state(problem("MountainCarContinuous-v0"))
    with pytest.raises(UsageError, match="needs a Box"):
        steady_state(problem("CartPole-v1"))
    with pytest.raises(UsageError, match="no guess"):
        steady_state(problem("Pendulum-v1"), np.array([1.0]))
    assert isinstance(problem("MountainCarContinuous-v0").action_space, gym.spaces.Box)


def test_each_path_of_a_batch_comes_to_its_own_steady_state(backend: str, made: Made) -> None:
    """``r = -(s² - 1)² - a²``, s' = s + a: rest is free at -1 and at 1. Truth is value iteration over 1,201 states."""
    two = made(
        lambda s, a, k: s + a,
        lambda s, a, k: -((s[..., 0] ** 2 - 1.0) ** 2) - a[..., 0] ** 2,
        horizon=None,
        discount=0.95,
    )
    states = np.array([[0.8], [-0.8], [-1.2], [1.3], [-0.3]])
    found = solve_costate(two, states, backend=backend).unwrap()
    axis = np.linspace(-1.5, 1.5, 1201)
    pays, value = -((axis**2 - 1.0) ** 2)[:, None] - (axis[None] - axis[:, None]) ** 2, np.zeros(1201)
    for _ in range(400):  # 0.95^400 = 1e-9
        value = (pays + 0.95 * value).max(1)
    # Next states lie 0.0025 apart: up to 4e-6 a step is lost, within some ten steps until the path rests.
    np.testing.assert_allclose(found.value, np.interp(states[:, 0], axis, value), atol=5e-5)
    np.testing.assert_allclose(found.trajectory.states[:, -1, 0], np.sign(states[:, 0]), atol=1e-6)
    assert isinstance(found.problem, SteadyEnd)
    assert sorted(float(rest.state[0].round(9)) for rest in found.problem.rests) == [-1.0, 1.0]
    alone = solve_costate(two, states[1], backend=backend)
    assert found.value[1] == pytest.approx(alone.value[0], abs=1e-9)


def test_a_steady_state_that_pays_is_told_without_what_rounding_leaves() -> None:
    with pytest.raises(UsageError, match=r"steady state at \[0\.0, 0\.0, 3\.141593, 0\.0\] pays -0\.08 for ever"):
        solve_costate(problem("hrl/CartPoleSwingUp-v0"), np.array([0.0, 0.0, np.pi, 0.0]), horizon=math.inf)


@pytest.mark.parametrize("guess", [[0.034, -0.132, -0.014, 0.121], [0.1, 0.0, 0.3, 0.0]])
def test_a_guess_that_is_not_at_rest_is_not_taken_for_a_continuum_of_rests(guess: list[float]) -> None:
    """Undiscounted, the costate of a place that costs nothing by itself has no equation: any huge one seems to fit."""
    found = steady_state(problem("hrl/CartPoleSwingUp-v0"), np.array(guess))
    np.testing.assert_allclose(found.state, 0.0, atol=1e-8)  # upright, at the middle
    assert (np.abs(found.multipliers) < 1.0).all()


def test_a_pole_is_swung_up_for_ever_and_stays_up() -> None:
    """Hanging is a steady state too, but it costs something for ever."""
    pole = problem("hrl/CartPoleSwingUp-v0")
    hanging = np.array([[0.0, 0.0, np.pi, 0.0], [0.0, 0.0, 0.5, 0.0]])
    solution = solve_control(pole, hanging, horizon=math.inf).paths
    assert solution is not None
    ends = solution.unwrap().trajectory.states[:, -1]
    np.testing.assert_allclose(np.cos(ends[:, 2]), 1.0, atol=1e-8)
    np.testing.assert_allclose(ends[:, [0, 1, 3]], 0.0, atol=1e-4)
    # Its actions earn what is said, step by step in the problem itself, and nothing is left to pay at the end.
    replayed = rollout(pole, hanging, solution.trajectory.actions[:, :300])
    np.testing.assert_allclose(replayed.rewards.sum(1), solution.value, atol=1e-4)


def test_states_without_bounds_or_start_have_an_infinite_horizon_too() -> None:
    bounded = LinearQuadratic(np.array([[0.9]]), np.array([[1.0]]), horizon=None)
    free = LinearQuadratic(np.array([[0.9]]), np.array([[1.0]]), horizon=None)
    free.state_space, free.start = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64), ()
    with pytest.raises(UsageError, match="no bounds to draw one within"):
        free.initial_states(1, np.random.default_rng(0))
    values = [solve_costate(regulator, np.array([2.0])).value for regulator in (bounded, free)]
    np.testing.assert_allclose(*values, rtol=1e-12)
