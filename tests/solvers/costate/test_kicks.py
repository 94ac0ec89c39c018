"""Kicks find optima that ascent from where it stands does not, and what is found comes back in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import PathStatus, best_of, solve_costate
from hamiltonian_rl.solvers.costate.kicks import best_few, extremes, reach
from hamiltonian_rl.solvers.solve_control import solve_control

Made = Callable[..., ControlProblem]


def test_extremes_are_the_corners_of_one_action_at_a_time() -> None:
    quadrotor = problem("hrl/Quadrotor-v0")  # thrusts from 0 to 8
    assert extremes(quadrotor).tolist() == [[4, 4], [0, 4], [8, 4], [4, 0], [4, 8]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-np.inf, np.inf, (-2, 0, 2)), (0.0, np.inf, (0, 0, 2)), (-np.inf, -5.0, (-7, -5, -5)), (1.0, 4.0, (1, 2.5, 4))],
)
def test_a_bound_that_is_missing_is_two_from_the_middle(
    low: float, high: float, expected: tuple[float, ...], made: Made
) -> None:
    some = made(lambda s, a, k: s, lambda s, a, k: a[..., 0], low=low, high=high)
    assert tuple(float(x[0]) for x in reach(some)) == expected


def test_kicks_find_the_highest_of_three_tops_where_ascent_alone_does_not(made: Made) -> None:
    """``r = -(u³ - u)² + u / 10``: tops near -1, 0 and 1, and all starts that know nothing lead to the middle."""
    hills = made(lambda s, a, k: a, lambda s, a, k: -((a**3 - a)[..., 0] ** 2) + 0.1 * a[..., 0], low=-1.5, high=1.5)
    alone = solve_control(hills, np.array([0.0]), route="hamiltonian", search=False)
    found = solve_control(hills, np.array([0.0]), route="hamiltonian")
    slopes = np.polyder(np.polysub([0.1, 0.0], np.polymul([1.0, 0.0, -1.0, 0.0], [1.0, 0.0, -1.0, 0.0])))
    tops = np.sort([u.real for u in np.roots(slopes) if np.polyval(np.polyder(slopes), u.real) < 0.0])
    assert alone.paths is not None
    assert found.paths is not None
    assert alone.paths.trajectory.actions[0, 0, 0] == pytest.approx(tops[1], abs=1e-8)
    assert found.paths.trajectory.actions[0, 0, 0] == pytest.approx(tops[2], abs=1e-8)
    values = -((tops**3 - tops) ** 2) + 0.1 * tops
    np.testing.assert_allclose([value for value, _ in found.paths.optima()], values[::-1], atol=1e-12)


def test_the_best_few_of_each_state_are_its_distinct_optima_best_first(made: Made) -> None:
    """``r = -(u² - 1)² + tilt u``: with a tilt of 0.1 the right well is the better one, with -0.1 the left."""
    wells = made(lambda s, a, k: a, lambda s, a, k: -((a[..., 0] ** 2 - 1.0) ** 2) + s[..., 0] * a[..., 0])
    tilts = np.array([[0.1], [-0.1]])
    starts = [np.array([[u]]) for u in (-1.2, -0.8, 0.8, 1.2)]
    solved = solve_costate(wells, tilts, starts=starts)
    few = best_few(solved, solved.from_all_starts, 8)
    tops = np.array([np.sort(np.roots([-4.0, 0.0, 4.0, tilt]).real)[[0, 2]] for tilt in tilts[:, 0]])
    values = np.sort(-((tops**2 - 1.0) ** 2) + tilts * tops, axis=1)[:, ::-1]
    np.testing.assert_allclose([run.value for run in few], values.T, atol=1e-12)
    assert [value for value, _ in best_of(few).optima(1)] == [run.value[1] for run in few]
    assert len(best_few(solved, solved.from_all_starts, 1)) == 1


def test_a_state_without_other_optima_repeats_its_best(made: Made) -> None:
    wells = made(lambda s, a, k: a, lambda s, a, k: -((a[..., 0] ** 2 - s[..., 0]) ** 2) + 0.1 * a[..., 0])
    solved = solve_costate(wells, np.array([[1.0], [-1.0]]), starts=[np.array([[1.2]]), np.array([[-1.2]])])
    few = best_few(solved, solved.from_all_starts, 8)
    assert len(few) == 2  # of two wells; where s = -1 there is one
    assert few[0].value[1] == few[1].value[1]
    assert few[1].status == [PathStatus.LOCAL_OPTIMUM] * 2
