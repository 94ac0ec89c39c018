"""Several starts, policies as starts, polishing; and that no path depends on the others of its batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, PathStatus, solve_costate
from hamiltonian_rl.trajectory import rollout

Made = Callable[..., ControlProblem]


@pytest.fixture
def wells(made: Made) -> ControlProblem:
    """Two wells at ±1, the right one 0.2 deeper: with ``s = u``, ``r = -(u² - 1)² + 0.1 u``."""
    return made(lambda s, a, k: a, lambda s, a, k: -((a[..., 0] ** 2 - 1.0) ** 2) + 0.1 * a[..., 0])


def _tops() -> np.ndarray:
    """Return where ``-4 u (u² - 1) + 0.1 = 0``, from left to right."""
    return np.sort(np.roots([-4.0, 0.0, 4.0, 0.1]).real)


def test_the_best_of_several_starts_is_returned_and_all_optima_are_listed(backend: str, wells: ControlProblem) -> None:
    left, ridge, right = _tops()
    value = lambda u: -((u**2 - 1.0) ** 2) + 0.1 * u  # noqa: E731
    starts = [np.array([[u]]) for u in (-1.3, -0.7, 0.8, 1.2, ridge)]
    solution = solve_costate(wells, np.array([0.0]), starts=starts, backend=backend)
    assert solution.trajectory.actions[0, 0, 0] == pytest.approx(right)
    assert solution.value[0] == pytest.approx(value(right))
    assert solution.start[0] in (2, 3)
    assert len(solution.from_all_starts) == 5
    optima = solution.optima(0)
    np.testing.assert_allclose([v for v, _ in optima], [value(right), value(left), value(ridge)], atol=1e-9)
    assert [run for _, run in optima][2] == 4
    assert solution.from_all_starts[4].status == [PathStatus.STATIONARY]


def test_each_state_takes_its_own_best_start(backend: str, made: Made) -> None:
    """The next state is ``s + u``, and the nearer well is the cheaper one."""
    nearer = made(
        lambda s, a, k: s + a,
        lambda s, a, k: -0.1 * a[..., 0] ** 2,
        end=lambda s: -((s[..., 0] ** 2 - 1.0) ** 2),
    )
    states = np.array([[-0.5], [0.5], [0.9]])
    goals = [lambda states, step, goal=goal: goal - states for goal in (-1.0, 1.0)]
    solution = solve_costate(nearer, states, starts=goals, backend=backend).unwrap()
    assert solution.start.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(np.sign(solution.trajectory.states[:, -1, 0]), [-1.0, 1.0, 1.0])
    for i, run in enumerate(solution.start):
        chosen = solution.from_all_starts[run]
        for name in ("value", "residual", "curvature", "iterations"):
            assert getattr(solution, name)[i] == getattr(chosen, name)[i]
        np.testing.assert_array_equal(solution.trajectory.costates[i], chosen.trajectory.costates[i])
    assert (solution.value >= np.max([run.value for run in solution.from_all_starts], axis=0) - 1e-12).all()


def test_a_path_that_meets_the_constraints_beats_a_better_one_that_does_not(backend: str, made: Made) -> None:
    """Within [-1, 1.1] only ``u <= 1 - 1/√2`` keeps ``(u - 1)² >= 1/2``; beyond u = 1 every way back seems worse."""
    humps = made(
        lambda s, a, k: s,
        lambda s, a, k: 0.01 * a[..., 0],
        low=-1.0,
        high=1.1,
        constraints=lambda s, a, k: 0.5 - (a[..., :1] - 1.0) ** 2,
    )
    solution = solve_costate(
        humps, np.array([0.0]), starts=[np.array([[1.0]]), np.array([[-0.5]])], barrier=False, backend=backend
    )
    broken, kept = solution.from_all_starts
    assert broken.status == [PathStatus.INFEASIBLE]
    assert kept.status == [PathStatus.LOCAL_OPTIMUM]
    assert broken.value[0] > kept.value[0]
    assert solution.start[0] == 1
    assert solution.value[0] == pytest.approx(0.01 - 0.01 * np.sqrt(0.5), abs=1e-9)


def test_a_policy_as_a_start_is_followed_first(backend: str) -> None:
    pendulum, states = problem("Pendulum-v1"), np.array([[0.2, 0.0], [3.0, 0.5]])

    def policy(states: np.ndarray, step: int) -> np.ndarray:
        return -3.0 * states[:, :1] - 0.1 * step  # beyond the bounds, which clip it

    asked = solve_costate(
        pendulum, states, horizon=6, initial_actions=policy, max_iterations=1, barrier=False, backend=backend
    )
    clipped = rollout(pendulum, states, lambda states, step: policy(states, step), horizon=6)
    # Along its states by feedback, and so to rounding.
    np.testing.assert_allclose(asked.trajectory.actions, np.clip(clipped.actions, -2.0, 2.0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("keep", [True, False])
def test_polishing_without_barrier_leaves_actions_on_their_bounds(backend: str, keep: bool) -> None:
    bounded = LinearQuadratic(horizon=30, action_bound=0.5)
    best = solve_costate(bounded, np.array([1.0, 0.0]), backend=backend).unwrap()
    actions = best.trajectory.actions
    assert (np.abs(actions) == 0.5).sum() > 3
    again = solve_costate(
        bounded, np.array([1.0, 0.0]), initial_actions=actions, barrier=not keep, backend=backend
    ).unwrap()
    if keep:
        assert again.iterations[0] == 1
        np.testing.assert_array_equal(again.trajectory.actions, actions)
    np.testing.assert_allclose(again.trajectory.actions, actions, atol=1e-7)


def test_polishing_never_lowers_the_return(backend: str) -> None:
    swing = problem("hrl/SmoothMountainCar-v0", horizon=60)
    states = np.array([[-0.5, 0.0], [-0.4, 0.01]])
    first = np.sign(np.sin(np.arange(60) / 8.0))[:, None]
    solution = solve_costate(swing, states, initial_actions=first, barrier=False, backend=backend)
    assert (solution.value >= rollout(swing, states, first).value).all()


def _same(first: PathSolution, i: int, second: PathSolution, j: int) -> None:
    for name in ("states", "actions", "rewards", "value", "costates"):
        np.testing.assert_array_equal(getattr(first.trajectory, name)[i], getattr(second.trajectory, name)[j])
    for name in ("feedback", "residual", "violation", "curvature", "multipliers", "end_multipliers", "iterations"):
        np.testing.assert_array_equal(getattr(first, name)[i], getattr(second, name)[j])
    assert first.status[i] is second.status[j]


@pytest.mark.parametrize(("name", "horizon"), [("Pendulum-v1", 8), ("hrl/DoubleIntegrator-v0", 50)])
def test_a_state_is_solved_bit_for_bit_alike_alone_among_others_and_in_any_order(
    backend: str, name: str, horizon: int
) -> None:
    asked = problem(name)
    states = asked.initial_states(11, np.random.default_rng(2))
    together = solve_costate(asked, states, horizon=horizon, backend=backend)
    turned = solve_costate(asked, states[::-1], horizon=horizon, backend=backend)
    for i in range(11):
        _same(together, i, turned, 10 - i)
    for i in (0, 9):
        _same(together, i, solve_costate(asked, states[i], horizon=horizon, backend=backend), 0)


def test_threads_change_nothing() -> None:
    asked = problem("Pendulum-v1")
    states = asked.initial_states(37, np.random.default_rng(3))
    one, two, many = (solve_costate(asked, states, horizon=10, threads=threads) for threads in (1, 2, 16))
    for i in range(37):
        _same(one, i, two, i)
        _same(one, i, many, i)


def test_the_arguments_are_left_as_they_were(backend: str) -> None:
    asked = problem("hrl/DoubleIntegrator-v0")
    states, actions = np.array([[-1.0, 0.0], [-0.5, 0.2]]), np.ones((50, 1))
    before = states.copy(), actions.copy(), asked.horizon
    solve_costate(asked, states, initial_actions=actions, backend=backend)
    np.testing.assert_array_equal(states, before[0])
    np.testing.assert_array_equal(actions, before[1])
    shorter = problem("Pendulum-v1")
    assert solve_costate(shorter, np.zeros(2), horizon=3, backend=backend).problem.horizon == 3
    assert shorter.horizon == 200


def test_paths_replay_to_their_value(backend: str) -> None:
    asked = problem("hrl/Quadrotor-v0", horizon=6)
    states = asked.initial_states(2, np.random.default_rng(4))
    solution = solve_costate(asked, states, backend=backend).unwrap()
    path = rollout(asked, states, solution.trajectory.actions)
    np.testing.assert_allclose(path.value, solution.value, rtol=1e-12)
    np.testing.assert_allclose(path.states, solution.trajectory.states, atol=1e-11)
    np.testing.assert_allclose(path.rewards, solution.trajectory.rewards, atol=1e-12)


def test_feedback_brings_a_disturbed_start_nearer_to_its_own_optimum_than_replay_does() -> None:
    pendulum, state = problem("Pendulum-v1"), np.array([0.1, 0.05])
    solution = solve_costate(pendulum, state, horizon=20).unwrap()
    path = solution.trajectory

    def follow(states: np.ndarray, step: int) -> np.ndarray:
        return path.actions[:, step] + (states - path.states[:, step]) @ solution.feedback[0, step].T

    disturbed = state + np.array([[0.01, -0.01]])
    best = solve_costate(pendulum, disturbed, horizon=20).unwrap().value[0]
    lost = best - rollout(pendulum, disturbed, follow, horizon=20).value[0]
    assert 0.0 <= lost < 0.1 * (best - rollout(pendulum, disturbed, path.actions[0]).value[0])


def test_a_tensor_of_the_callers_is_as_good_as_an_array(backend: str) -> None:
    pendulum = problem("Pendulum-v1")
    first = solve_costate(pendulum, torch.tensor([0.1, 0.0], dtype=torch.float64), horizon=5, backend=backend)  # type: ignore[arg-type]
    _same(first, 0, solve_costate(pendulum, [0.1, 0.0], horizon=5, backend=backend), 0)  # type: ignore[arg-type]
