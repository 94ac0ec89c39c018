"""Machine code and torch do the same: the problems' functions, their derivatives, whole solves."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS
from hamiltonian_rl.solvers.costate import PathSolution, PathStatus, solve_costate
from hamiltonian_rl.tracing.expressions import Graph, gradient
from hamiltonian_rl.tracing.trace import trace
from hamiltonian_rl.tracing.vector_code import LANES, Library

BOXES = [name for name in PROBLEMS if isinstance(problem(name).action_space, gym.spaces.Box)]
Made = Callable[..., ControlProblem]


def _points(asked: ControlProblem, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw states and actions, all over their spaces."""
    generator = np.random.default_rng(seed)
    space, actions = asked.state_space, asked.action_space
    assert isinstance(actions, gym.spaces.Box)
    low, high = np.maximum(actions.low, -3.0), np.minimum(actions.high, 3.0)
    return generator.uniform(space.low, space.high, (LANES, *space.shape)), generator.uniform(
        low, high, (LANES, *low.shape)
    )


@pytest.mark.parametrize("name", PROBLEMS)
def test_machine_code_of_a_problem_agrees_with_torch_up_to_second_derivatives(name: str) -> None:
    """Of every registered problem, of those with discrete actions the relaxation."""
    asked = problem(name)
    if name not in BOXES:
        relaxed = asked.relaxed()
        assert relaxed is not None
        asked = relaxed.problem
    n, m = asked.state_space.shape[0], asked.action_space.shape[0]
    graph = Graph()
    blocks = [("s", n), ("a", m), ("step", None)]
    state = [graph.input("s", i) for i in range(n)]
    variables = [*state, *(graph.input("a", i) for i in range(m))]
    costate = np.random.default_rng(5).normal(size=n)
    (next_state,), (reward,), (held,) = (
        trace(function, graph, blocks) for function in (asked.dynamics, asked.reward, asked.constraints)
    )
    (end,), (ended,) = (trace(f, graph, blocks[:1]) for f in (asked.terminal_reward, asked.terminal_constraints))
    H = sum((float(c) * x for c, x in zip(costate, next_state, strict=True)), reward.item())
    slopes, end_slopes = gradient(H, variables), gradient(end.item(), state)
    outputs = [
        [*next_state, reward.item(), *held],
        slopes,
        [x for slope in slopes for x in gradient(slope, variables)],
        [end.item(), *ended],
        end_slopes,
        [x for slope in end_slopes for x in gradient(slope, state)],
    ]
    states, actions = _points(asked, 3)
    found = Library({"f": (["s", "a", "step"], outputs)})("f", [states.T, actions.T, np.full((1, LANES), 3.0)])

    def hamiltonian(z: torch.Tensor) -> torch.Tensor:
        ahead = asked.dynamics(z[:n], z[n:], 3)
        return asked.reward(z[:n], z[n:], 3) + (torch.as_tensor(costate) * ahead).sum()

    for lane in range(LANES):
        s, a = torch.as_tensor(states[lane]), torch.as_tensor(actions[lane])
        z = torch.cat([s, a])
        at_end = asked.terminal_reward(s)
        expected = [
            torch.cat([asked.dynamics(s, a, 3), asked.reward(s, a, 3)[None], asked.constraints(s, a, 3)]),
            torch.autograd.functional.jacobian(hamiltonian, z),
            torch.autograd.functional.hessian(hamiltonian, z).flatten(),
            torch.cat([at_end[None], asked.terminal_constraints(s)]),
            torch.autograd.functional.jacobian(asked.terminal_reward, s),
            torch.autograd.functional.hessian(asked.terminal_reward, s).flatten(),
        ]
        for want, have in zip(expected, found, strict=True):
            np.testing.assert_allclose(have[:, lane], want.numpy(), rtol=1e-12, atol=1e-12)


def _assert_agree(first: PathSolution, second: PathSolution) -> None:
    assert list(first.status) == list(second.status)
    np.testing.assert_array_equal(first.iterations, second.iterations)
    np.testing.assert_allclose(first.value, second.value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(first.violation, second.violation, atol=1e-9)
    for name in ("states", "actions"):
        np.testing.assert_allclose(getattr(first.trajectory, name), getattr(second.trajectory, name), atol=1e-8)
    scale = 1.0 + np.abs(second.trajectory.costates).max()
    np.testing.assert_allclose(first.trajectory.costates, second.trajectory.costates, atol=1e-8 * scale)
    np.testing.assert_allclose(first.feedback, second.feedback, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(first.curvature, second.curvature, rtol=1e-6, atol=1e-8)
    assert (first.backend, second.backend) == ("compiled", "torch")


@pytest.mark.parametrize("name", BOXES)
def test_both_back_ends_find_the_same_paths_in_as_many_iterations(name: str) -> None:
    asked = problem(name)
    states = asked.initial_states(2, np.random.default_rng(0))
    horizon = 8 if name != "hrl/BrysonDenham-v0" else 20
    found = [solve_costate(asked, states, horizon=horizon, backend=backend) for backend in ("compiled", "torch")]
    _assert_agree(*found)


def test_both_back_ends_agree_where_the_model_is_shifted_and_bent(made: Made) -> None:
    hinge = made(
        lambda s, a, k: s + 0.3 * a.sin() + 0.1 * s * a,
        lambda s, a, k: -0.1 * a[..., 0] ** 2 + 0.2 * (3.0 * a[..., 0]).cos(),
        end=lambda s: -50.0 * (1.0 - s[..., 0]).clamp(min=0.0) ** 2 - (s[..., 0] ** 2 - 0.3) ** 2,
        low=-2.0,
        high=2.0,
        horizon=6,
    )
    states = np.linspace(-1.0, 1.5, 5)[:, None]
    found = [
        solve_costate(hinge, states, starts=[np.full((6, 1), 0.4)], backend=backend)
        for backend in ("compiled", "torch")
    ]
    _assert_agree(*found)
    assert found[0].iterations.max() > 10


def _random_problem(made: Made, seed: int) -> ControlProblem:
    generator = np.random.default_rng(seed)
    n, m = generator.integers(1, 4), generator.integers(1, 3)
    A, B, C = (torch.as_tensor(0.5 * generator.normal(size=shape)) for shape in ((n, n), (n, m), (n, n)))
    q = torch.as_tensor(generator.normal(size=n))

    def dynamics(state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        bent = (state.unsqueeze(-2) * C).sum(-1).sin() + 0.1 * step
        return (state.unsqueeze(-2) * A).sum(-1) + (action.unsqueeze(-2) * B).sum(-1) + 0.3 * bent

    def reward(state: torch.Tensor, action: torch.Tensor, step: int) -> torch.Tensor:
        return (
            (q * state).sum(-1).cos()
            - (action**2).sum(-1)
            - 0.1 * (action**4).sum(-1)
            + 0.2 * state[..., 0] * action[..., 0]
        )

    return made(
        dynamics,
        reward,
        end=lambda s: -(s**2).sum(-1) + s[..., 0].tanh(),
        n=int(n),
        m=int(m),
        low=-1.5,
        high=2.0,
        horizon=int(generator.integers(1, 6)),
        discount=float(generator.uniform(0.7, 1.0)),
    )


def _return(
    asked: ControlProblem, states: np.ndarray, actions: np.ndarray, path: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """Compute ``Σ γ^k r + γ^N h`` of ``a + K (s - path)`` with nothing but the problem's functions."""
    s, total, weight = torch.as_tensor(states), torch.zeros(len(states), dtype=torch.float64), 1.0
    for k in range(actions.shape[1]):
        a = torch.as_tensor(actions[:, k] + (s.numpy() - path[k]) @ gains[k].T)
        total, weight, s = total + weight * asked.reward(s, a, k), weight * asked.discount, asked.dynamics(s, a, k)
    return (total + weight * asked.terminal_reward(s)).numpy()


def test_costates_are_the_gradient_of_the_return_along_the_feedback_on_paths_that_are_not_optimal(
    backend: str, made: Made
) -> None:
    for seed in range(5):
        asked = _random_problem(made, seed)
        generator = np.random.default_rng(seed)
        n, m, horizon = asked.state_space.shape[0], asked.action_space.shape[0], asked.horizon
        state, actions = generator.normal(size=(1, n)), generator.uniform(-1.0, 1.0, (1, horizon, m))
        # One backward pass, no step: the path is the one that was given.
        solution = solve_costate(
            asked, state, initial_actions=actions, max_iterations=1, barrier=False, backend=backend
        )
        np.testing.assert_array_equal(solution.trajectory.actions, actions)
        assert solution.status == [PathStatus.MAX_ITERATIONS]
        around = solution.trajectory.states[0], solution.feedback[0]
        step = 1e-5
        moved = np.vstack([state + step * np.eye(n), state - step * np.eye(n)])
        values = _return(asked, moved, np.repeat(actions, 2 * n, 0), *around)
        np.testing.assert_allclose(
            solution.trajectory.costates[0, 0], (values[:n] - values[n:]) / (2.0 * step), rtol=1e-7, atol=1e-8
        )
        # Of the actions: γ^k ∂H_k/∂a_k with these costates; the residual is the largest, as an ascent step.
        directions = step * np.eye(horizon * m).reshape(-1, horizon, m)
        same = np.repeat(state, len(directions), 0)
        values = [_return(asked, same, actions + s * directions, *around) for s in (1.0, -1.0)]
        expected = ((values[0] - values[1]) / (2.0 * step)).reshape(horizon, m)
        slopes = expected / asked.discount ** np.arange(horizon)[:, None]
        path = actions[0]
        residual = np.abs(np.clip(path + slopes, -1.5, 2.0) - path).max()
        assert solution.residual[0] == pytest.approx(residual, rel=1e-6, abs=1e-8)
        assert solution.certificate.stationarity[0] == pytest.approx(residual, rel=1e-6, abs=1e-8)


def test_the_residual_of_the_costate_equation_is_the_feedback_times_that_of_stationarity(backend: str) -> None:
    asked = problem("hrl/CartPoleSwingUp-v0", horizon=25)
    start = np.array([0.0, 0.0, 2.8, 0.0])
    solution = solve_costate(asked, start, starts=[np.zeros((25, 1))], tol=1e-3, backend=backend)
    path, largest = solution.trajectory, 0.0
    for k in range(25):
        s, a = (torch.as_tensor(x[0, k]).requires_grad_() for x in (path.states, path.actions))
        H = asked.reward(s, a, k) + (torch.as_tensor(path.costates[0, k + 1]) * asked.dynamics(s, a, k)).sum()
        in_state, in_action = torch.autograd.grad(H, (s, a))
        off = path.costates[0, k] - in_state.numpy()
        np.testing.assert_allclose(off, solution.feedback[0, k].T @ in_action.numpy(), rtol=1e-6, atol=1e-12)
        largest = max(largest, np.abs(off).max())
    assert solution.certificate.costate[0] == pytest.approx(largest, rel=1e-6)
    assert largest > 1e-5  # tol is loose: else all of this is zero


def test_random_problems_have_the_same_optima_on_both_back_ends(made: Made) -> None:
    for seed in range(20, 24):
        asked = _random_problem(made, seed)
        states = np.random.default_rng(seed).normal(size=(2, asked.state_space.shape[0]))
        _assert_agree(*(solve_costate(asked, states, backend=backend) for backend in ("compiled", "torch")))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_back_ends_agree_where_two_actions_have_several_maxima(made: Made, seed: int) -> None:
    generator = np.random.default_rng(seed)
    A, B = (torch.as_tensor(generator.normal(size=(2, 2))) for _ in range(2))

    def reward(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
        mixed = (a.unsqueeze(-2) * B).sum(-1)
        return 2.0 * (mixed**2).sum(-1).cos() + s.sum(-1).sin() - 0.05 * (a**2).sum(-1)

    waves = made(
        lambda s, a, k: 0.7 * (s.unsqueeze(-2) * A).sum(-1).tanh() + a,
        reward,
        end=lambda s: -0.2 * ((s**2).sum(-1) - 1.0) ** 2,
        n=2,
        m=2,
        low=-1.0,
        high=1.5,
        horizon=3,
    )
    states, actions = generator.normal(size=(8, 2)), generator.uniform(-1.0, 1.5, (8, 3, 2))
    _assert_agree(
        *(
            solve_costate(waves, states, initial_actions=actions, barrier=False, backend=backend)
            for backend in ("compiled", "torch")
        )
    )


def test_what_cannot_be_traced_is_solved_in_torch_with_the_same_result_and_one_warning(made: Made) -> None:
    def with_erf(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
        return s + 0.3 * torch.erf(a)

    def with_numpy(s: torch.Tensor, a: torch.Tensor, k: int) -> torch.Tensor:
        return -(a[..., 0] ** 2) - float(np.float64(1.0)) * (s[..., 0] - 1.0) ** 2

    untraced = made(with_erf, with_numpy, horizon=4)
    with pytest.warns(UserWarning, match="erf") as told:
        found = solve_costate(untraced, np.array([0.2]))
    assert len(told) == 1
    assert found.backend == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # who asks for torch is not warned
        asked = solve_costate(untraced, np.array([0.2]), backend="torch")
    np.testing.assert_array_equal(asked.trajectory.actions, found.trajectory.actions)
    assert found.unwrap().certificate.stationarity[0] < 1e-8


def test_steps_as_whole_numbers_and_as_numbers_mean_the_same(made: Made) -> None:
    wished = [0.5, -1.0, 2.0, 0.0, 1.5]
    table = torch.tensor(wished, dtype=torch.float64)

    def reward(target: Callable[[int], torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda s, a, k: -((s[..., 0] - target(k)) ** 2) - 0.1 * a[..., 0] ** 2

    listed, tabled = (
        made(lambda s, a, k: s + a, reward(target), horizon=5)
        for target in (lambda k: wished[k], lambda k: table[k])  # type: ignore[list-item]
    )
    # Lagrange's polynomial through the same targets takes the step as a number, and compiles.
    coefficients = np.polyfit(np.arange(5), wished, 4)
    smooth = made(
        lambda s, a, k: s + a, reward(lambda k: sum(c * k**p for p, c in enumerate(coefficients[::-1]))), horizon=5
    )
    with pytest.warns(UserWarning, match="cannot be traced"):
        found = [solve_costate(asked, np.array([0.3])).unwrap() for asked in (listed, tabled)]
    found.append(solve_costate(smooth, np.array([0.3]), backend="compiled").unwrap())
    found.append(solve_costate(smooth, np.array([0.3]), backend="torch").unwrap())
    for solution in found:
        np.testing.assert_allclose(solution.trajectory.actions, found[0].trajectory.actions, atol=1e-9)


def test_a_reward_that_varies_in_time_is_compiled(backend: str, made: Made) -> None:
    """The best of ``Σ k u_k - u_k²/2`` is ``u_k = k``, worth ``Σ k²/2``."""
    varying = made(lambda s, a, k: s + a, lambda s, a, k: k * a[..., 0] - 0.5 * a[..., 0] ** 2, horizon=6)
    solution = solve_costate(varying, np.array([0.0]), backend=backend).unwrap()
    np.testing.assert_allclose(solution.trajectory.actions[0, :, 0], np.arange(6), atol=1e-9)
    assert solution.value[0] == pytest.approx(0.5 * (np.arange(6) ** 2).sum())


def test_the_problems_own_tensors_are_read_and_never_written(made: Made) -> None:
    gain = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    asked = made(lambda s, a, k: s + gain * a, lambda s, a, k: -(a[..., 0] ** 2), end=lambda s: -(s[..., 0] ** 2))
    for backend in ("compiled", "torch"):
        solution = solve_costate(asked, np.array([1.0]), backend=backend).unwrap()
        assert solution.trajectory.actions[0, 0, 0] == pytest.approx(-2.0 / 5.0)
    assert gain.grad is None
