"""A status claims no more than what holds: saddles, flat directions, kinks, bounds, constraints, overflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import SolverError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathStatus, solve_costate

Made = Callable[..., ControlProblem]


def _nothing(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
    return s[..., 0] * 0.0


def test_a_path_on_a_ridge_between_two_wells_is_stationary_and_no_optimum(backend: str, made: Made) -> None:
    wells = made(
        lambda s, a, k: s + a,
        lambda s, a, k: -0.01 * a[..., 0] ** 2,
        end=lambda s: -((s[..., 0] ** 2 - 1.0) ** 2),
        horizon=3,
    )
    ridge = solve_costate(wells, np.array([0.0]), backend=backend)
    assert ridge.status == [PathStatus.STATIONARY]
    assert ridge.curvature[0] < 0.0
    assert not ridge.converged[0]
    with pytest.raises(SolverError, match="saddle"):
        ridge.unwrap()
    beside = solve_costate(wells, np.array([0.0]), initial_actions=np.full((3, 1), 1e-3), backend=backend)
    assert beside.status == [PathStatus.LOCAL_OPTIMUM]
    assert beside.value[0] > -0.01


@pytest.mark.parametrize("q", [7.0, 7.2, 7.5, 7.7, 7.9])
def test_a_saddle_that_a_shift_hides_is_no_optimum(backend: str, made: Made, q: float) -> None:
    """Of ``-q u0² / 2 + 4 u0 u1 - u1²`` each action alone has a maximum, both together have none for q < 8.

    A second, stiff and quartic, action makes the solver shift its model, and converge with the shift.
    """
    joint = made(
        lambda s, a, k: torch.stack([a[..., 0], s[..., 1]], -1),
        lambda s, a, k: (
            -torch.where(torch.as_tensor(k) == 0, 0.5 * q, 1.0) * a[..., 0] ** 2
            + 4.0 * s[..., 0] * a[..., 0]
            - 1e6 * ((a[..., 1] - 1.0) ** 2 + (a[..., 1] - 1.0) ** 4)
        ),
        n=2,
        m=2,
        horizon=2,
    )
    solution = solve_costate(joint, np.zeros(2), backend=backend)
    np.testing.assert_allclose(solution.trajectory.actions[0], [[0.0, 1.0], [0.0, 1.0]], atol=1e-9)
    assert solution.status == [PathStatus.STATIONARY]
    # Of -u1² + 4 u0 u1 the best is 4 u0²: the first pivot is q - 8.
    assert solution.curvature[0] == pytest.approx(q - 8.0, abs=1e-6)


def test_feedback_of_a_converged_path_is_not_that_of_a_shifted_model(backend: str, made: Made) -> None:
    """From far away, where the reward is convex, the model is shifted; at the top the gain is Riccati's."""
    bell = made(
        lambda s, a, k: s + a, lambda s, a, k: -0.5 * a[..., 0] ** 2, end=lambda s: 5.0 * (-(s[..., 0] ** 2)).exp()
    )
    solution = solve_costate(bell, np.array([1.2]), initial_actions=np.array([[-0.1]]), backend=backend).unwrap()
    last = solution.trajectory.states[0, 1, 0]
    bend = 5.0 * (4.0 * last**2 - 2.0) * math.exp(-(last**2))
    assert solution.feedback[0, 0, 0, 0] == pytest.approx(bend / (1.0 - bend), rel=1e-9)
    assert solution.curvature[0] == pytest.approx(1.0 - bend, rel=1e-9)


def test_a_flat_direction_is_stationary_and_no_strict_optimum(backend: str, made: Made) -> None:
    idle = made(lambda s, a, k: s + 0.0 * a, _nothing, horizon=3)
    assert solve_costate(idle, np.array([0.3]), backend=backend).status == [PathStatus.STATIONARY]
    # Only the sum of two actions matters.
    both = made(lambda s, a, k: s + a[..., :1] + a[..., 1:], _nothing, end=lambda s: -((s[..., 0] - 1.0) ** 2), m=2)
    solution = solve_costate(both, np.array([0.0]), backend=backend)
    assert solution.status[0] is not PathStatus.LOCAL_OPTIMUM
    assert solution.value[0] == pytest.approx(0.0, abs=1e-9)


def _reduced_hessian(asked: ControlProblem, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Return the Hessian of the return in all actions, by torch through the dynamics."""

    def earned(flat: torch.Tensor) -> torch.Tensor:
        s, total = torch.as_tensor(state), torch.zeros((), dtype=torch.float64)
        for k, a in enumerate(flat.reshape(actions.shape)):
            total = total + asked.discount**k * asked.reward(s, a, k)
            s = asked.dynamics(s, a, k)
        return total + asked.discount ** len(actions) * asked.terminal_reward(s)

    hessian: Any = torch.autograd.functional.hessian(earned, torch.as_tensor(actions.ravel()))  # untyped in torch
    return np.asarray(hessian.numpy())


@pytest.mark.parametrize(
    ("name", "state", "horizon"),
    [
        ("Pendulum-v1", [0.6, 0.4], 12),
        ("hrl/Quadrotor-v0", [0.5, -0.3, 0.4, 0.0, 0.0, 0.2], 12),
        ("hrl/CartPoleSwingUp-v0", [0.0, 0.0, 2.0, 0.0], 25),
        ("hrl/VanDerPol-v0", [0.0, 1.0], 15),
        ("hrl/BrockMirman-v0", [0.1], 10),
        ("hrl/LinearQuadratic-v0", [1.0, 0.5], 20),
    ],
)
def test_a_local_optimum_is_a_strict_maximum_of_the_return_in_all_free_actions(
    name: str, state: list[float], horizon: int
) -> None:
    asked = problem(name)
    solution = solve_costate(asked, np.array(state), horizon=horizon, tol=1e-10).unwrap()
    actions = solution.trajectory.actions[0]
    space: Any = asked.action_space
    free = ((actions > space.low) & (actions < space.high)).ravel()
    hessian = _reduced_hessian(asked, np.array(state), actions)[np.ix_(free, free)]
    assert np.linalg.eigvalsh(hessian).max() < 0.0
    # The curvature is the smallest of the pivots: of L D Lᵀ from the last step back, each in its own step's currency.
    m, left, pivots = actions.shape[1], -hessian, []
    weights = np.repeat(asked.discount ** np.arange(horizon), m)[free]
    steps = np.repeat(np.arange(horizon), m)[free]
    for k in reversed(range(horizon)):
        here = steps == k
        if here.any():
            pivots.append(np.linalg.eigvalsh(left[np.ix_(here, here)] / weights[here][0]).min())
            left = left - left[:, here] @ np.linalg.solve(left[np.ix_(here, here)], left[here])
    assert solution.curvature[0] == pytest.approx(min(pivots), rel=1e-5)


def test_saddles_in_all_actions_are_what_the_curvature_says_they_are(backend: str, made: Made) -> None:
    """Random quadratics in two actions at each of three steps: the sign of the curvature is the reduced Hessian's."""
    verdicts = set()
    for seed in range(12):
        generator = np.random.default_rng(seed)
        A, B = (torch.as_tensor(generator.normal(size=(2, 2))) for _ in range(2))
        q = generator.uniform(0.2, 1.2)
        mixed = made(
            lambda s, a, k, A=A, B=B: (s.unsqueeze(-2) * A).sum(-1) + (a.unsqueeze(-2) * B).sum(-1),
            lambda s, a, k: -(a**2).sum(-1) + (s**2).sum(-1) * 0.3,
            end=lambda s, q=q: q * s[..., 0] * s[..., 1],
            n=2,
            m=2,
            horizon=3,
            discount=0.9,
        )
        solution = solve_costate(mixed, np.zeros(2), backend=backend)
        concave = np.linalg.eigvalsh(_reduced_hessian(mixed, np.zeros(2), np.zeros((3, 2)))).max() < 0.0
        if np.abs(solution.trajectory.actions).max() == 0.0:  # else the ascent has found where it rises
            assert (solution.status[0] is PathStatus.LOCAL_OPTIMUM) == concave
            verdicts.add(bool(concave))
    assert verdicts == {True, False}


DEGENERATE = {
    "a³": lambda a: a**3,
    "a⁵": lambda a: a**5,
    "-a⁴": lambda a: -(a**4),
    "million a³": lambda a: 1e6 * a**3,
    "thousandth a³": lambda a: 1e-3 * a**3,
    "a³ - a⁴": lambda a: a**3 - a**4,
}


@pytest.mark.parametrize("bound", [math.inf, 2.0])
@pytest.mark.parametrize("name", DEGENERATE)
def test_a_path_on_its_way_to_a_flat_point_is_no_strict_optimum(
    backend: str, made: Made, name: str, bound: float
) -> None:
    """Below 0 the curvature of a³ is that of a maximum, and its slope below tol from 6e-5 on; beyond 0 it rises."""
    asked = made(
        lambda s, a, k: s + a, lambda s, a, k: DEGENERATE[name](a[..., 0]) - (a[..., 1] + 0.3) ** 2,
        low=-bound, high=bound, m=2, n=2, horizon=2,
    )  # fmt: skip
    for start in (-0.5, -1e-3):
        actions = np.tile([start, 0.4], (2, 1))
        solution = solve_costate(asked, np.zeros(2), starts=[actions], backend=backend)
        assert np.abs(solution.trajectory.actions[0, :, 0]).max() < 0.02
        assert solution.status == [PathStatus.STATIONARY]
        assert solution.curvature[0] == 0.0


@pytest.mark.parametrize("start", [-1e-5, -1e-6, -1e-9, -1e-12])
def test_a_start_beside_an_inflection_is_no_optimum(backend: str, made: Made, start: float) -> None:
    cubic = made(lambda s, a, k: s, lambda s, a, k: a[..., 0] ** 3)
    solution = solve_costate(cubic, np.array([0.0]), initial_actions=np.array([[start]]), backend=backend)
    assert solution.status == [PathStatus.STATIONARY]


@pytest.mark.parametrize(("scale", "tol"), [(1e-4, 1e-8), (1.0, 1e-8), (1e4, 1e-6), (1.0, 0.1)])
def test_a_maximum_that_is_strict_is_not_taken_for_a_flat_one(
    backend: str, made: Made, scale: float, tol: float
) -> None:
    bent = made(lambda s, a, k: s, lambda s, a, k: scale * (a[..., 0] ** 3 - a[..., 0] ** 2))
    for start in (-0.5, -1e-3, 0.0, 0.2):
        solution = solve_costate(
            bent, np.array([0.0]), initial_actions=np.array([[start]]), tol=tol * scale, backend=backend
        )
        assert solution.status == [PathStatus.LOCAL_OPTIMUM]


def test_a_least_value_in_the_middle_is_left_or_at_least_not_called_an_optimum(backend: str, made: Made) -> None:
    convex = made(lambda s, a, k: s, lambda s, a, k: a[..., 0] ** 2, low=-1.0, high=1.0)
    at_rest = solve_costate(convex, np.array([0.0]), backend=backend)
    assert at_rest.status == [PathStatus.STATIONARY]
    moved = solve_costate(convex, np.array([0.0]), initial_actions=np.array([[0.1]]), backend=backend)
    assert moved.status == [PathStatus.LOCAL_OPTIMUM]
    assert moved.value[0] == 1.0


@pytest.mark.parametrize("m", [1, 2])
def test_an_action_at_its_bound_without_a_slope_is_no_optimum(backend: str, made: Made, m: int) -> None:
    """``Σ u²`` from u = 0 within [0, 1]: the slope is zero, and every step up is better."""
    convex = made(lambda s, a, k: s, lambda s, a, k: (a**2).sum(-1), low=0.0, high=1.0, m=m)
    held = solve_costate(convex, np.array([0.0]), barrier=False, backend=backend)
    assert held.status == [PathStatus.STATIONARY]
    assert held.curvature[0] <= 0.0
    assert solve_costate(convex, np.array([0.0]), backend=backend).unwrap().value[0] == m


def test_actions_that_lean_on_their_bounds_are_an_optimum(backend: str, made: Made) -> None:
    linear = made(
        lambda s, a, k: s, lambda s, a, k: a[..., 0] - (a[..., 1] - 0.3) ** 2, low=[0.0, 0.0], high=[1.0, 2.0], m=2
    )
    solution = solve_costate(linear, np.array([0.0]), backend=backend).unwrap()
    np.testing.assert_allclose(solution.trajectory.actions[0, 0], [1.0, 0.3], atol=1e-8)
    assert solution.curvature[0] == pytest.approx(2.0)
    alone = made(lambda s, a, k: s, lambda s, a, k: a[..., 0], low=0.0, high=1.0, horizon=2)
    assert solve_costate(alone, np.array([0.0]), backend=backend).unwrap().curvature[0] == math.inf


def test_an_action_that_is_fixed_is_no_obstacle(backend: str, made: Made) -> None:
    fixed = made(lambda s, a, k: s, lambda s, a, k: -((a - 0.5) ** 2).sum(-1), low=[0.2, -1.0], high=[0.2, 1.0], m=2)
    solution = solve_costate(fixed, np.array([0.0]), backend=backend).unwrap()
    np.testing.assert_allclose(solution.trajectory.actions[0, 0], [0.2, 0.5], atol=1e-8)


def test_a_kink_where_no_gradient_vanishes_stagnates(backend: str, made: Made) -> None:
    kink = made(lambda s, a, k: s + a, lambda s, a, k: -(a[..., 0] - 0.3).abs(), horizon=2)
    solution = solve_costate(kink, np.array([0.0]), backend=backend)
    assert solution.status == [PathStatus.STAGNATED]
    np.testing.assert_allclose(solution.trajectory.actions, 0.3, atol=1e-6)


def test_the_pendulum_on_its_velocity_limit_stagnates_short_of_a_claim() -> None:
    solution = solve_costate(problem("Pendulum-v1"), np.array([0.5, 0.0]), horizon=50)
    assert solution.status == [PathStatus.STAGNATED]
    assert solution.residual[0] > 1e-4
    assert np.abs(solution.trajectory.states[0, :, 1]).max() == 8.0


@pytest.mark.parametrize(
    ("reward", "start"),
    [
        pytest.param(lambda s, a, k: a[..., 0], 0.0, id="linear"),
        pytest.param(lambda s, a, k: a[..., 0] ** 2, 0.5, id="convex"),
        pytest.param(lambda s, a, k: a[..., 0].exp(), 0.0, id="exponential"),
    ],
)
def test_a_return_without_bound_is_never_called_optimal(
    backend: str, made: Made, reward: Callable[..., torch.Tensor], start: float
) -> None:
    unbounded = made(lambda s, a, k: s + a, reward, horizon=2)
    solution = solve_costate(
        unbounded, np.array([0.0]), initial_actions=np.full((2, 1), start), max_iterations=100, backend=backend
    )
    assert solution.status[0] in (PathStatus.MAX_ITERATIONS, PathStatus.STAGNATED)
    assert solution.value[0] > 1e6


@pytest.mark.parametrize(
    "problem_of",
    [
        pytest.param(lambda made: made(lambda s, a, k: s * math.nan, lambda s, a, k: -(a[..., 0] ** 2)), id="dynamics"),
        pytest.param(lambda made: made(lambda s, a, k: s, lambda s, a, k: a[..., 0].log()), id="reward"),
        pytest.param(lambda made: made(lambda s, a, k: s, _nothing, end=lambda s: (s[..., 0] - 1.0).sqrt()), id="end"),
        pytest.param(
            lambda made: made(lambda s, a, k: 1e10 * (s + 1.0) ** 3, _nothing, horizon=20), id="growth without limit"
        ),
        pytest.param(
            lambda made: made(lambda s, a, k: s, _nothing, terminal_constraints=lambda s: s * math.nan),
            id="terminal constraint",
        ),
    ],
)
def test_a_first_path_that_is_not_finite_is_said_to_diverge(backend: str, made: Made, problem_of: Made) -> None:
    solution = solve_costate(problem_of(made), np.array([0.0]), backend=backend)
    assert solution.status == [PathStatus.DIVERGED]
    with pytest.raises(SolverError, match="not finite"):
        solution.unwrap()
    assert solution.optima() == []


def test_one_path_that_diverges_leaves_the_others_alone(backend: str, made: Made) -> None:
    half = made(
        lambda s, a, k: s + a, lambda s, a, k: (s[..., 0] + 1.0).log() - a[..., 0] ** 2, horizon=3, low=-0.2, high=5.0
    )
    states = np.array([[0.5], [-3.0], [0.1]])
    together = solve_costate(half, states, backend=backend)
    assert [status is PathStatus.DIVERGED for status in together.status] == [False, True, False]
    for i in (0, 2):
        alone = solve_costate(half, states[i], backend=backend).unwrap()
        np.testing.assert_array_equal(alone.trajectory.actions[0], together.trajectory.actions[i])


def test_a_slope_that_is_not_defined_at_the_start_is_never_an_optimum(backend: str, made: Made) -> None:
    rooted = made(lambda s, a, k: s + a, lambda s, a, k: -(a[..., 0] ** 2).sqrt(), horizon=2)
    solution = solve_costate(rooted, np.array([0.0]), backend=backend)
    assert solution.status[0] in (PathStatus.STAGNATED, PathStatus.MAX_ITERATIONS)
    elsewhere = solve_costate(rooted, np.array([0.0]), initial_actions=np.full((2, 1), 0.5), backend=backend)
    assert elsewhere.status[0] is not PathStatus.LOCAL_OPTIMUM


@pytest.mark.parametrize("name", ["abs", "root", "maximum", "distance"])
def test_a_start_at_a_kink_that_rises_to_both_sides_is_no_optimum(name: str, backend: str, made: Made) -> None:
    # A push of 0.1 at the first step returns 0.4 and more, staying returns 0; torch's slope of |s| at 0 is 0.
    kinks = {
        "abs": lambda s: s.abs(),
        "root": lambda s: s.abs().sqrt(),
        "maximum": lambda s: torch.maximum(s, -s),
        "distance": lambda s: (s**2).sqrt(),
    }
    kink = kinks[name]
    steep = made(lambda s, a, k: s + a, lambda s, a, k: kink(s)[..., 0] - a[..., 0] ** 2, horizon=5, low=-1.0, high=1.0)
    solution = solve_costate(steep, np.array([0.0]), backend=backend)
    assert solution.value[0] > 0.3 or solution.status[0] is not PathStatus.LOCAL_OPTIMUM


def test_an_end_out_of_reach_is_infeasible_by_what_is_missing(backend: str, made: Made) -> None:
    far = made(
        lambda s, a, k: s + a,
        lambda s, a, k: -(a[..., 0] ** 2),
        low=-1.0,
        high=1.0,
        horizon=2,
        terminal_constraints=lambda s: s - 5.0,
    )
    solution = solve_costate(far, np.array([0.0]), backend=backend)
    assert solution.status == [PathStatus.INFEASIBLE]
    assert solution.violation[0] == pytest.approx(3.0)
    with pytest.raises(SolverError, match="constraints are not met"):
        solution.unwrap()


def test_constraints_that_contradict_each_other_are_infeasible(backend: str, made: Made) -> None:
    torn = made(
        lambda s, a, k: s + a,
        lambda s, a, k: -(a[..., 0] ** 2),
        horizon=2,
        constraints=lambda s, a, k: torch.stack([a[..., 0] - 1.0, 2.0 - a[..., 0]], -1),
    )
    solution = solve_costate(torn, np.array([0.0]), backend=backend)
    assert solution.status == [PathStatus.INFEASIBLE]
    assert solution.violation[0] == pytest.approx(0.5, abs=1e-6)


def test_a_step_constraint_that_binds_has_its_multiplier(backend: str, made: Made) -> None:
    """Maximise ``-(u - 3)²`` with ``u <= 1``: ν = 4."""
    pressed = made(
        lambda s, a, k: s, lambda s, a, k: -((a[..., 0] - 3.0) ** 2), constraints=lambda s, a, k: a[..., :1] - 1.0
    )
    solution = solve_costate(pressed, np.array([0.0]), backend=backend).unwrap()
    assert solution.trajectory.actions[0, 0, 0] == pytest.approx(1.0, abs=1e-8)
    assert solution.multipliers[0, 0, 0] == pytest.approx(4.0, abs=1e-6)
    assert solution.certificate.stationarity[0] < 1e-7


def test_used_up_iterations_are_said(backend: str) -> None:
    swing = problem("hrl/CartPoleSwingUp-v0")
    solution = solve_costate(swing, np.array([0.0, 0.0, 3.0, 0.0]), horizon=20, max_iterations=2, backend=backend)
    assert solution.status == [PathStatus.MAX_ITERATIONS]
    held = solve_costate(problem("hrl/DoubleIntegrator-v0"), np.array([-1.0, 0.0]), max_iterations=1, backend=backend)
    assert held.status == [PathStatus.MAX_ITERATIONS]  # and not that no path could meet the constraints
    assert held.violation[0] > 1e-3


def test_a_path_of_no_steps_is_its_end(backend: str, made: Made) -> None:
    end = made(lambda s, a, k: s + a, lambda s, a, k: a[..., 0], end=lambda s: -(s[..., 0] ** 2), horizon=3)
    solution = solve_costate(end, np.array([[2.0], [1.0]]), horizon=0, backend=backend)
    np.testing.assert_array_equal(solution.value, [-4.0, -1.0])
    np.testing.assert_array_equal(solution.trajectory.costates[:, 0, 0], [-4.0, -2.0])
    assert solution.trajectory.actions.shape == (2, 0, 1)
    assert solution.feedback.shape == (2, 0, 1, 1)
    assert solution.certificate.costate.max() == 0.0
    missed = made(lambda s, a, k: s + a, _nothing, terminal_constraints=lambda s: s)
    assert solve_costate(missed, np.array([2.0]), horizon=0, backend=backend).status == [PathStatus.INFEASIBLE]


def test_a_solution_of_many_paths_is_shown_in_a_line_that_counts_how_they_ended(backend: str, made: Made) -> None:
    wells = made(lambda s, a, k: s + a, lambda s, a, k: -(a[..., 0] ** 2), end=lambda s: -(s[..., 0] ** 2), horizon=3)
    shown = repr(solve_costate(wells, np.linspace(-1.0, 1.0, 64)[:, None], backend=backend))
    assert "64 LOCAL_OPTIMUM; value [-0.25 " in shown  # -s^2 / (N + 1)
    assert "\n" not in shown
    assert len(shown) < 160


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("horizon", [20, None])
def test_without_the_second_order_the_paths_are_the_same_and_none_is_called_an_optimum(backend, horizon):
    growth = problem("hrl/BrockMirman-v0")
    asked, unasked = (
        solve_costate(growth, np.array([0.1]), horizon=horizon, backend=backend, second_order=asked)
        for asked in (True, False)
    )
    np.testing.assert_array_equal(unasked.trajectory.actions, asked.trajectory.actions)
    assert asked.status == [PathStatus.LOCAL_OPTIMUM]
    assert unasked.status == [PathStatus.STATIONARY]
    assert np.isnan(unasked.curvature).all()
