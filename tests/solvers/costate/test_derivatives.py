"""Derivatives of the optimum with respect to the problem: Riccati's, closed forms, finite differences of the solver."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, PathStatus, differentiable, solve_costate, value_gradient
from hamiltonian_rl.trajectory import rollout

Made = Callable[..., ControlProblem]
STEP = 1e-5  # of central differences: their own error is of order 1e-10, what tol leaves of the paths 1e-11 / 1e-5


class Weighted(LinearQuadratic):
    """The double integrator within bounds, its penalty on actions a single number."""

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(horizon=60, action_bound=0.5)
        self.weight = weight

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return -(state**2).sum(-1) - self.weight * (action**2).sum(-1)


CASES = {
    "quadrotor": (
        lambda mass: problem("hrl/Quadrotor-v0", mass=mass, horizon=20),
        "mass",
        1.0,
        np.array([[3.0, -2.0, 0.0, 0.0, 0.0, 0.0], [0.5, 0.3, 0.2, 0.0, -0.4, 0.1]]),
    ),
    "growth": (lambda alpha: problem("hrl/BrockMirman-v0", alpha=alpha, horizon=8), "alpha", 0.36, [[0.1], [0.2]]),
    "cake": (lambda beta: problem("hrl/CakeEating-v0", discount=beta), "discount", 0.95, [[1.0], [0.5]]),
    "bounds": (Weighted, "weight", 0.1, [[1.0, 0.0], [0.3, 0.2]]),
    "wall": (lambda limit: problem("hrl/BrysonDenham-v0", horizon=20, limit=limit), "limit", 0.1, [[0.0, 1.0]]),
    "end": (lambda step: _with(problem("hrl/DoubleIntegrator-v0", horizon=5), time_step=step), "time_step", 0.2,
            [[-1.0, 0.0]]),
    "swing-up": (
        lambda mass: problem("hrl/CartPoleSwingUp-v0", pole_mass=mass, horizon=20),
        "pole_mass",
        0.1,
        [[0.0, 0.0, 0.5, 0.0]],
    ),
}  # fmt: skip


def _with(asked: ControlProblem, **attributes: Any) -> ControlProblem:
    for name, value in attributes.items():
        setattr(asked, name, value)
    return asked


def _solved(asked: ControlProblem, states: Any) -> PathSolution:
    return solve_costate(asked, np.asarray(states), tol=1e-11).unwrap()


@cache
def _differences(case: str) -> dict[str, np.ndarray]:
    """Return central differences of the solver's own answers."""
    make, _, at, states = CASES[case]
    ahead, behind = (_solved(make(at + step), states) for step in (STEP, -STEP))
    return {
        name: (getattr(ahead.trajectory, name) - getattr(behind.trajectory, name)) / (2.0 * STEP)
        for name in ("value", "states", "actions", "costates")
    }


@pytest.mark.parametrize("case", CASES)
def test_the_slope_of_the_value_in_a_parameter_is_that_of_the_solver(case: str) -> None:
    make, name, at, states = CASES[case]
    found = value_gradient(_solved(make(at), states), [name])[name]
    expected = _differences(case)["value"]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    assert (np.abs(expected) > 1e-3).all()  # else zero would do


@pytest.mark.parametrize("case", [case for case in CASES if case != "cake"])
def test_gradients_through_the_optimum_are_those_of_the_solver(case: str) -> None:
    make, name, at, states = CASES[case]
    parameter = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    path = differentiable(_solved(_with(make(at), **{name: parameter}), states))
    for kind, expected in _differences(case).items():
        weights = np.random.default_rng(0).normal(size=expected.shape)
        total = (getattr(path, kind) * torch.as_tensor(weights)).sum()
        (found,) = torch.autograd.grad(total, parameter, retain_graph=True)
        assert float(found) == pytest.approx((weights * expected).sum(), rel=1e-6, abs=1e-7 * np.abs(expected).sum())


def test_a_discount_that_requires_a_gradient_has_one() -> None:
    make, _, at, states = CASES["cake"]
    rate = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    path = differentiable(_solved(_with(make(at), discount=rate), states))
    weights = 1.0 + torch.arange(10.0, dtype=torch.float64)[:, None]
    (found,) = torch.autograd.grad((path.actions * weights).sum(), rate)
    expected = (_differences("cake")["actions"] * weights.numpy()).sum()
    assert float(found) == pytest.approx(expected, rel=1e-6)


def _riccati_value(made: LinearQuadratic, parameters: dict[str, torch.Tensor], states: np.ndarray) -> torch.Tensor:
    """Return ``-sᵀ P_0 s`` by Riccati's recursion in torch."""
    A, B, Q, R, P = (parameters[name] for name in ("A", "B", "Q", "R", "terminal_Q"))
    for _ in range(made.horizon or 0):
        gain = torch.linalg.solve(R + made.discount * B.T @ P @ B, made.discount * B.T @ P @ A)
        P = Q + made.discount * A.T @ P @ (A - B @ gain)
    s = torch.as_tensor(states)
    return -(s * (s @ P)).sum(-1)


def test_every_matrix_of_a_regulator_has_riccatis_derivative() -> None:
    generator = np.random.default_rng(2)
    A, B, root = generator.normal(size=(3, 3)), generator.normal(size=(3, 2)), generator.normal(size=(2, 2))
    made = LinearQuadratic(0.6 * A, B, R=np.eye(2) + root @ root.T, horizon=12, discount=0.9)
    states = generator.normal(size=(4, 3))
    names = ["A", "B", "Q", "R", "terminal_Q"]
    found = value_gradient(_solved(made, states), names)
    parameters = {name: getattr(made, name).clone().requires_grad_() for name in names}
    values = _riccati_value(made, parameters, states)
    for b, value in enumerate(values):
        expected = torch.autograd.grad(value, list(parameters.values()), retain_graph=True)
        for name, slope in zip(names, expected, strict=True):
            scale = float(slope.abs().max())
            # Of a symmetric matrix the recursion's derivative need not be symmetric; that of the value is.
            want = 0.5 * (slope + slope.T) if slope.shape[0] == slope.shape[1] and name != "A" else slope
            np.testing.assert_allclose(found[name][b], want.numpy(), atol=1e-9 * scale)


def test_growth_and_cake_have_their_closed_forms_derivatives() -> None:
    alpha = torch.tensor(0.36, dtype=torch.float64, requires_grad=True)
    beta, horizon, capital, value = 0.95, 12, torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.0)
    for k in range(horizon):
        share = 1.0 / sum((alpha * beta) ** j for j in range(horizon - k))
        value = value + beta**k * (share * capital**alpha).log()
        capital = (1.0 - share) * capital**alpha
    growth = _solved(problem("hrl/BrockMirman-v0", horizon=horizon), [[0.1]])
    (slope,) = torch.autograd.grad(value, alpha)
    assert value_gradient(growth, ["alpha"])["alpha"][0] == pytest.approx(float(slope), rel=1e-9)

    rate, periods = torch.tensor(0.95, dtype=torch.float64, requires_grad=True), torch.arange(10)
    eaten = rate**periods * (1.0 - rate) / (1.0 - rate**10)
    (slope,) = torch.autograd.grad((rate**periods * eaten.log()).sum(), rate)
    cake = _solved(problem("hrl/CakeEating-v0"), [[1.0]])
    assert value_gradient(cake, ["discount"])["discount"][0] == pytest.approx(float(slope), rel=1e-9)


def test_what_a_wall_costs_tends_to_its_closed_form_at_second_order() -> None:
    """Bryson and Denham: ``V = -4 / (9 ℓ)``, so that ``V' = 4 / (9 ℓ²)``."""
    errors = []
    for horizon in (20, 40, 80):
        solution = solve_costate(problem("hrl/BrysonDenham-v0", horizon=horizon, limit=0.1), np.array([0.0, 1.0]))
        errors.append(abs(value_gradient(solution, ["limit"])["limit"][0] - 4.0 / (9.0 * 0.1**2)))
    assert errors[2] < 0.1
    assert errors[2] < 0.5 * errors[1] < 0.25 * errors[0]


@pytest.mark.parametrize(
    ("asked", "states", "held"),
    [
        pytest.param(problem("Pendulum-v1"), [[0.3, 0.2], [-0.8, 1.0]], 2.0, id="bounds"),
        pytest.param(problem("hrl/BoundedDoubleIntegrator-v0", horizon=10), [[-1.0, 0.1]], 5.0, id="bounds and end"),
        pytest.param(problem("hrl/Zermelo-v0"), [[0.1, -0.2]], None, id="nothing held"),
    ],
)
def test_gradients_with_respect_to_the_initial_state_pass_gradcheck(
    asked: ControlProblem, states: Any, held: float | None
) -> None:
    def paths(start: torch.Tensor) -> tuple[torch.Tensor, ...]:
        solution = solve_costate(asked, start.detach().numpy(), horizon=10, tol=1e-11)
        path = differentiable(solution, start)
        return path.states, path.actions, path.costates, path.value

    start = torch.tensor(states, dtype=torch.float64, requires_grad=True)
    _, actions, costates, value = paths(start)
    if held is not None:
        at_the_bound = actions[actions.abs() == held]
        assert len(at_the_bound)
        (slope,) = torch.autograd.grad(at_the_bound.sum(), start, retain_graph=True)
        assert (slope == 0.0).all()
    (slope,) = torch.autograd.grad(value.sum(), start)
    np.testing.assert_allclose(slope, costates[:, 0].detach(), atol=1e-8 * float(costates.detach().abs().max()))
    assert torch.autograd.gradcheck(paths, (start,), eps=1e-5, atol=1e-5, rtol=1e-5)


def test_the_second_derivative_of_the_value_is_riccatis_matrix() -> None:
    made = LinearQuadratic(horizon=15)
    start = torch.tensor([[1.0, 0.5]], dtype=torch.float64, requires_grad=True)
    value = differentiable(_solved(made, start.detach()), start).value
    (slope,) = torch.autograd.grad(value.sum(), start, create_graph=True)
    bent = torch.stack([torch.autograd.grad(x, start, retain_graph=True)[0][0] for x in slope[0]])
    parameters = {name: getattr(made, name) for name in ("A", "B", "Q", "R", "terminal_Q")}
    columns = [_riccati_value(made, parameters, x).item() for x in (np.eye(2)[:1], np.eye(2)[1:], np.ones((1, 2)))]
    mixed = columns[2] - columns[0] - columns[1]
    np.testing.assert_allclose(bent, [[2.0 * columns[0], mixed], [mixed, 2.0 * columns[1]]], rtol=1e-9)


def test_the_second_derivative_of_the_value_in_a_parameter_is_that_of_the_solver() -> None:
    make, name, at, states = CASES["quadrotor"]
    parameter = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    value = differentiable(_solved(_with(make(at), **{name: parameter}), states)).value[1]
    (slope,) = torch.autograd.grad(value, parameter, create_graph=True)
    (bent,) = torch.autograd.grad(slope, parameter)
    ahead, behind = (value_gradient(_solved(make(at + s), states), [name])[name][1] for s in (STEP, -STEP))
    assert float(bent) == pytest.approx((ahead - behind) / (2.0 * STEP), rel=1e-5)


def test_gradients_reach_a_network_in_the_dynamics(backend: str, made: Made) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    learned = made(
        lambda s, a, k: s + network(torch.cat([s, a], -1)),
        lambda s, a, k: -((s[..., 0] - 1.0) ** 2) - 0.1 * a[..., 0] ** 2,
        end=lambda s: -3.0 * (s[..., 0] - 1.0) ** 2,
        horizon=4,
    )

    def first_action() -> float:
        return float(solve_costate(learned, np.array([0.2]), tol=1e-11, backend=backend).trajectory.actions[0, 0, 0])

    path = differentiable(solve_costate(learned, np.array([0.2]), tol=1e-11, backend=backend))
    path.actions[0, 0, 0].backward()
    weights = network[0].weight
    for i, j in ((0, 0), (2, 1)):
        kept, moved = weights[i, j].item(), []
        for step in (STEP, -STEP, 0.0):
            with torch.no_grad():
                weights[i, j] = kept + step
            moved.append(first_action())
        assert float(weights.grad[i, j]) == pytest.approx((moved[0] - moved[1]) / (2.0 * STEP), rel=1e-5, abs=1e-8)


class Pushed(ControlProblem):
    """Bent dynamics and a target, both by one number."""

    state_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    horizon, discount, push = 4, 0.9, 0.2

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return state + 0.3 * action.sin() + self.push * state**2

    def reward(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return -(action[..., 0] ** 2) - (state[..., 0] - self.push) ** 2


def test_of_a_path_that_is_not_stationary_the_slope_is_that_of_its_return_under_feedback() -> None:
    solution = solve_costate(Pushed(), np.array([0.5]), initial_actions=np.full((4, 1), 0.7), max_iterations=1)
    assert solution.status == [PathStatus.MAX_ITERATIONS]
    path = solution.trajectory

    def earned(push: float) -> float:
        policy = lambda s, k: path.actions[:, k] + (s - path.states[:, k]) @ solution.feedback[0, k].T  # noqa: E731
        return float(rollout(_with(Pushed(), push=push), np.array([0.5]), policy).value[0])

    expected = (earned(0.2 + STEP) - earned(0.2 - STEP)) / (2.0 * STEP)
    assert value_gradient(solution, ["push"])["push"][0] == pytest.approx(expected, rel=1e-7)
    with pytest.raises(SolverError, match="iterations were used up"):
        differentiable(solution)


def test_where_there_is_no_derivative_none_is_given(made: Made) -> None:
    flat = made(lambda s, a, k: s, lambda s, a, k: -(a[..., 0] ** 4))
    with pytest.raises(SolverError, match="not that of a strict maximum"):
        differentiable(solve_costate(flat, np.array([0.0])))
    # The best u is 1 with the constraint or without: a multiplier of zero.
    touching = made(
        lambda s, a, k: s, lambda s, a, k: -((a[..., 0] - 1.0) ** 2), constraints=lambda s, a, k: a[..., :1] - 1.0
    )
    with pytest.raises(SolverError, match="does not press"):
        differentiable(solve_costate(touching, np.array([0.0]), initial_actions=np.ones((1, 1))))
    # The same wish twice: how the two multipliers share the load is not decided.
    doubled = made(
        lambda s, a, k: s + a, lambda s, a, k: -(a[..., 0] ** 2), terminal_constraints=lambda s: torch.cat([s, s], -1)
    )
    with pytest.raises(SolverError, match="depend on each other"):
        differentiable(solve_costate(doubled, np.array([1.0])))


def test_states_and_actions_refuse_a_second_derivative() -> None:
    start = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
    path = differentiable(_solved(Pushed(), start.detach()), start)
    with pytest.raises(UsageError, match="once"):
        torch.autograd.grad(path.actions.sum(), start, create_graph=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pull", "no attribute"),
        ("horizon", "real number"),
        ("state_names", "expected a number"),
        ("reward", "number"),
    ],
)
def test_what_is_no_number_has_no_slope(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        value_gradient(_solved(_with(Pushed(), state_names=("place",)), [[0.5]]), [name])


class Halved(Pushed):
    """It takes its number out of torch."""

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return state + math.sqrt(self.push) * action


def test_a_parameter_that_leaves_torch_has_no_slope_and_that_is_said() -> None:
    with pytest.raises(UsageError, match="cannot be differentiated with respect to push"):
        value_gradient(_solved(Halved(), [[0.5]]), ["push"])


class Bound(Pushed):
    """Its dynamics read another object, a number of `__init__`, or a float."""

    def __init__(self, way: str) -> None:
        self.strength, self.rooted = torch.tensor(0.2, dtype=torch.float64), math.sqrt(0.2)
        other, rooted = _with(Pushed(), push=0.2), self.rooted
        self.number: Callable[[Bound], Any] = {
            "another object": lambda problem: other.push,
            "worked out before": lambda problem: rooted**2,
            "a float": lambda problem: float(problem.strength),
            "detached": lambda problem: problem.strength.detach(),
        }[way]

    def dynamics(self, state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return state + self.number(self) * action


@pytest.mark.parametrize("way", ["another object", "worked out before", "detached"])
def test_a_parameter_that_nothing_reads_is_named_instead_of_a_zero(way: str) -> None:
    with pytest.raises(UsageError, match=r"does not depend on Bound\.strength"):
        value_gradient(_solved(Bound(way), [[0.5]]), ["strength"])


@pytest.mark.parametrize("way", ["another object", "worked out before", "a float", "detached"])
def test_a_tensor_that_waits_for_a_gradient_in_vain_is_named(way: str) -> None:
    solution = _solved(Bound(way), [[0.5]])
    vars(solution.problem)["strength"] = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(UsageError, match=r"does not depend on Bound\.strength"):
        differentiable(solution)


def test_the_derivative_of_an_infinite_horizon_is_refused() -> None:
    growth = problem("hrl/BrockMirman-v0")
    with pytest.raises(UsageError, match="horizon is infinite"):
        value_gradient(solve_costate(growth, np.array([0.1])), ["discount"])


@pytest.mark.parametrize("name", ["discount", "alpha", "unread"])
def test_no_parameter_of_an_infinite_horizon_waits_for_a_gradient_in_vain(name: str) -> None:
    growth = problem("hrl/BrockMirman-v0")
    number = torch.tensor({"discount": 0.95, "alpha": 0.36, "unread": 1.0}[name], dtype=torch.float64)
    setattr(growth, name, number.requires_grad_())
    solution = solve_costate(growth, np.array([0.1]), backend="torch")
    assert solution.value[0] == pytest.approx(-20.784185220929, rel=1e-8)  # its closed form, to tol
    with pytest.raises(UsageError, match="horizon is infinite"):
        differentiable(solution)


def test_the_slope_of_an_infinite_horizon_in_its_first_state_is_the_closed_form() -> None:
    first = torch.tensor([[0.1]], dtype=torch.float64, requires_grad=True)
    path = differentiable(solve_costate(problem("hrl/BrockMirman-v0"), first.detach().numpy()), first)
    path.value.sum().backward()
    slope = 0.36 / (1.0 - 0.36 * 0.95) / 0.1  # of V = A + B ln k: B / k
    assert first.grad is not None
    assert first.grad.item() == pytest.approx(slope, rel=1e-8)  # the path is optimal to 1e-8


def test_other_initial_states_are_refused() -> None:
    solution = _solved(Pushed(), [[0.5]])
    for other in (torch.tensor([[0.4]]).double(), torch.zeros(2, 1).double()):
        with pytest.raises(UsageError, match="not those of the solution"):
            differentiable(solution, other)
    with pytest.raises(UsageError, match="expected a tensor"):
        differentiable(solution, np.array([[0.5]]))  # type: ignore[arg-type]


def test_a_path_of_no_steps_has_the_slope_of_its_end(made: Made) -> None:
    end = made(lambda s, a, k: s + a, lambda s, a, k: a[..., 0], end=lambda s: -(s[..., 0] ** 2))
    start = torch.tensor([[2.0], [-1.0]], dtype=torch.float64, requires_grad=True)
    path = differentiable(solve_costate(end, start.detach().numpy(), horizon=0), start)
    (slope,) = torch.autograd.grad(path.value.sum(), start)
    assert slope[:, 0].tolist() == [-4.0, 2.0]
