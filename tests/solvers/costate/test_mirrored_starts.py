"""The further starts of bounded problems, and solving with code that was prepared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathSolution, best_of, prepare, solve_costate
from hamiltonian_rl.solvers.costate.mirrored_starts import mirrored_later, mirrored_runs

Made = Callable[..., ControlProblem]


@pytest.fixture
def wells(made: Made) -> ControlProblem:
    """``r = 10 (0.1 u - (u² - 1)²)`` within [-1.5, 1.5]: two wells at about ±1, the right one deeper."""
    return made(
        lambda s, a, k: a, lambda s, a, k: 10.0 * (0.1 * a[..., 0] - (a[..., 0] ** 2 - 1.0) ** 2), low=-1.5, high=1.5
    )


def test_the_mirror_of_the_worse_well_is_the_better_one(backend: str, wells: ControlProblem) -> None:
    left, _, right = np.sort(np.roots([-4.0, 0.0, 4.0, 0.1]).real)  # where the reward's slope vanishes
    first = np.array([[-1.0]])
    once = solve_costate(wells, np.array([0.0]), starts=[first], backend=backend).unwrap()
    assert once.trajectory.actions.item() == pytest.approx(left)
    twice = solve_costate(wells, np.array([0.0]), initial_actions=first, backend=backend).unwrap()
    assert twice.trajectory.actions.item() == pytest.approx(right)
    assert twice.start.tolist() == [1]
    assert [run.trajectory.actions.item() for run in twice.from_all_starts] == pytest.approx([left, right])


def test_mirrored_actions_come_a_fifth_of_the_horizon_later_about_the_middle_of_their_bounds(made: Made) -> None:
    asked = made(lambda s, a, k: s, lambda s, a, k: a[..., 0], low=[0.0, -1.0], high=[4.0, 1.0], m=2)
    actions = np.stack([np.arange(10.0) / 3.0, np.linspace(-1.0, 1.0, 10)], -1)[None]
    later = mirrored_later(asked, actions)
    np.testing.assert_array_equal(later[0, :2], [[2.0, 0.0]] * 2)
    np.testing.assert_allclose(later[0, 2:], [4.0, 0.0] - actions[0, :8])
    half = mirrored_later(asked, actions, 10)
    np.testing.assert_array_equal(half[0, 0], [2.0, 0.0])
    np.testing.assert_allclose(half[0, 1:], [4.0, 0.0] - actions[0, :9])
    assert mirrored_later(asked, np.full((1, 3, 2), np.nan)).tolist() == [[[2.0, 0.0]] * 3]
    assert mirrored_later(asked, np.empty((1, 0, 2))).shape == (1, 0, 2)


def test_without_two_bounds_there_is_no_middle_and_no_second_start(made: Made) -> None:
    for high in (np.inf, [1.0, np.inf]):
        asked = made(lambda s, a, k: s, lambda s, a, k: -(a**2).sum(-1), low=-1.0, high=high, m=2)
        assert solve_costate(asked, np.array([0.0])).from_all_starts == []
    bounded = made(lambda s, a, k: s, lambda s, a, k: -(a**2).sum(-1), low=-1.0, high=1.0, m=2)
    assert len(solve_costate(bounded, np.array([0.0])).from_all_starts) == 2
    assert solve_costate(bounded, np.array([0.0]), barrier=False).from_all_starts == []
    assert solve_costate(bounded, np.array([0.0]), starts=[np.zeros((1, 2))]).from_all_starts == []


def test_a_second_start_never_costs_return() -> None:
    swing = problem("hrl/CartPoleSwingUp-v0")
    states = swing.initial_states(16, np.random.default_rng(3))
    wave = np.sin(np.arange(200.0) / 10.0)[:, None]
    once, twice = (solve_costate(swing, states, **asked) for asked in ({"starts": [wave]}, {"initial_actions": wave}))
    np.testing.assert_array_equal(twice.from_all_starts[0].value, once.value)
    assert (twice.value >= once.value - 1e-11).all()


def test_two_more_starts_are_tried_where_the_mirror_ends_in_another_and_worse_optimum_alone() -> None:
    swing = problem("hrl/CartPoleSwingUp-v0")
    states = swing.initial_states(24, np.random.default_rng(3))
    wave = np.sin(np.arange(200.0) / 10.0)[:, None]
    solution = solve_costate(swing, states, initial_actions=wave)
    first, second, *further = solution.from_all_starts
    asked_again = second.value < first.value - 1e-6 * (1.0 + np.abs(first.value))
    assert 0 < asked_again.sum() < 24
    assert len(further) == 2
    before, left = second, asked_again
    for run in further:
        anew = np.abs(run.trajectory.actions - before.trajectory.actions).max((1, 2)) > 0.0
        np.testing.assert_array_equal(anew, left)
        before, left = run, left & (run.value <= first.value + 1e-6 * (1.0 + np.abs(first.value)))
    assert (solution.value[asked_again] > first.value[asked_again]).any()  # worth it
    best = np.max([run.value for run in solution.from_all_starts], 0)
    np.testing.assert_allclose(solution.value, best, rtol=1e-11)
    for state, start in enumerate(solution.start):  # the path that is said to be best is the one that is returned
        taken = solution.from_all_starts[start]
        np.testing.assert_array_equal(solution.trajectory.actions[state], taken.trajectory.actions[state])
        assert solution.status[state] is taken.status[state]


def test_the_further_starts_are_the_mirror_images_of_the_second_path_and_of_the_first_with_half_the_delay(
    wells: ControlProblem,
) -> None:
    """Whatever is asked, the answer is the worse well."""
    first, second = (solve_costate(wells, np.array([[0.0]] * 2), starts=[np.array([[u]])]) for u in (1.0, -1.0))
    asked: list[tuple[list[int], np.ndarray]] = []

    def solve(where: np.ndarray, actions: np.ndarray) -> PathSolution:
        asked.append((where.tolist(), actions))
        return solve_costate(wells, np.zeros((len(where), 1)), starts=[np.array([[-1.0]])])

    _, parts = mirrored_runs(wells, first, solve)
    assert [where for where, _ in asked] == [[0, 1]] * 3
    mirrored = [mirrored_later(wells, run.trajectory.actions, part) for run, part in ((first, 5), (second, 5))]
    np.testing.assert_allclose(asked[0][1], mirrored[0])
    np.testing.assert_allclose(asked[1][1], mirrored[1])
    np.testing.assert_allclose(asked[2][1], mirrored_later(wells, first.trajectory.actions, 10))
    assert [where.tolist() for where, _ in parts] == [[0, 1]] * 2
    _, more = mirrored_runs(wells, second, solve)  # what is found is the same optimum: nothing more is asked
    assert not more


def test_of_equal_paths_the_first_is_taken(wells: ControlProblem) -> None:
    """Both end in the same well: their values differ by rounding, and the choice must not."""
    starts = [np.array([[u]]) for u in (0.9, 1.1, 1.05)]
    solution = solve_costate(wells, np.array([0.0]), starts=starts)
    assert solution.start.tolist() == [0]
    assert best_of(solution.from_all_starts[::-1]).start.tolist() == [0]


def test_prepared_code_solves_the_same_at_any_horizon() -> None:
    for name in ("hrl/LinearQuadratic-v0", "hrl/Quadrotor-v0", "hrl/BrysonDenham-v0"):
        asked = problem(name)
        ready, states = prepare(asked), asked.initial_states(3, np.random.default_rng(0))
        for horizon in (7, 20):
            fresh = solve_costate(asked, states, horizon=horizon)
            again = solve_costate(asked, states, horizon=horizon, backend=ready)
            np.testing.assert_array_equal(again.trajectory.actions, fresh.trajectory.actions)
            assert list(again.status) == list(fresh.status)


def test_what_was_prepared_for_another_problem_is_refused() -> None:
    ready = prepare(problem("hrl/LinearQuadratic-v0"))
    with pytest.raises(UsageError, match="prepared for another problem"):
        solve_costate(problem("hrl/LinearQuadratic-v0"), np.array([1.0, 0.0]), backend=ready)


def test_threads_and_batches_of_any_size_end_alike() -> None:
    """Each thread goes the whole way with its own states; which thread takes which must not matter."""
    asked = problem("Pendulum-v1")
    states = asked.initial_states(37, np.random.default_rng(1))
    one = solve_costate(asked, states, horizon=60)
    assert len(one.from_all_starts) > 1
    for threads in (2, 3, 8):
        more = solve_costate(asked, states, horizon=60, threads=threads)
        np.testing.assert_array_equal(more.start, one.start)
        for mine, others in zip([one, *one.from_all_starts], [more, *more.from_all_starts], strict=True):
            np.testing.assert_array_equal(others.trajectory.actions, mine.trajectory.actions)
            np.testing.assert_array_equal(others.iterations, mine.iterations)
            assert list(others.status) == list(mine.status)
