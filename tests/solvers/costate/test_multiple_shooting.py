"""Starts given as states that do not fit their actions, where the dynamics are unstable."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import root

from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import Guess, PathStatus, solve_costate
from hamiltonian_rl.solvers.costate.multiple_shooting import close_gaps

Made = Callable[..., ControlProblem]
STEPS = 60


@pytest.fixture
def explosion(made: Made) -> ControlProblem:
    """``s' = s + 0.1 (s³ + a)``: from 2 the state overflows within 20 steps where nothing is done."""
    return made(
        lambda s, a, k: s + 0.1 * (s**3 + a),
        lambda s, a, k: -0.1 * (s**2 + 0.1 * a**2)[..., 0],
        end=lambda s: -(s**2)[..., 0],
        horizon=STEPS,
    )


def _conditions(z: np.ndarray, first: float) -> np.ndarray:
    """Return Eq. 13-15 of the explosion, by hand: 60 states, actions and costates, which vanish at a solution."""
    later, actions, costates = z.reshape(3, STEPS)
    states = np.concatenate([[first], later[:-1]])
    dynamics = states + 0.1 * (states**3 + actions) - later
    own = -0.2 * later[:-1] + (1.0 + 0.3 * later[:-1] ** 2) * costates[1:] - costates[:-1]
    return np.concatenate([dynamics, own, [-2.0 * later[-1] - costates[-1]], -0.02 * actions + 0.1 * costates])


@pytest.mark.parametrize("first", [2.0, 4.0])
def test_a_straight_line_of_states_is_a_start_where_actions_alone_explode(
    backend: str, explosion: ControlProblem, first: float
) -> None:
    state = np.array([first])
    assert solve_costate(explosion, state, backend=backend).status == [PathStatus.DIVERGED]
    line = np.linspace(first, 0.0, STEPS + 1)[:, None]
    solution = solve_costate(explosion, state, initial_actions=Guess(line), backend=backend).unwrap()
    path = solution.trajectory
    assert solution.certificate.dynamics[0] < 1e-12 * first**3
    # The same conditions by hand and by scipy's Newton, from near: they hold there, and nowhere else nearby.
    near = np.concatenate([path.states[0, 1:, 0], path.actions[0, :, 0], path.costates[0, 1:, 0]])
    found = root(_conditions, near + 1e-3 * np.cos(np.arange(len(near))), first, tol=1e-13)
    assert np.abs(_conditions(found.x, first)).max() < 1e-9
    np.testing.assert_allclose(near, found.x, rtol=1e-6, atol=1e-7)


def test_a_guess_leads_where_a_policy_that_stabilises_leads(backend: str, explosion: ControlProblem) -> None:
    states = np.array([[2.0], [-3.0], [0.5]])
    calm = lambda s, k: -(s**3) - 2.0 * s  # noqa: E731
    known = solve_costate(explosion, states, initial_actions=calm, backend=backend).unwrap()
    lines = states[:, None] * np.linspace(1.0, 0.0, STEPS + 1)[:, None]
    guessed = solve_costate(explosion, states, initial_actions=Guess(lines), backend=backend).unwrap()
    np.testing.assert_allclose(guessed.value, known.value, rtol=1e-10)
    np.testing.assert_allclose(guessed.trajectory.actions, known.trajectory.actions, atol=1e-6)


def test_one_newton_step_on_states_and_actions_is_riccatis_answer(backend: str) -> None:
    """A linear-quadratic problem with gaps is solved by a single step, however unstable it is: 2^200 is 1e60."""
    doubling = LinearQuadratic([[2.0]], [[1.0]], horizon=200)
    guess = Guess(np.random.default_rng(0).normal(size=(201, 1)), np.ones((200, 1)))
    first = close_gaps(doubling, np.array([[1.0]]), guess)
    gain = (1.0 + math.sqrt(5.0)) / 2.0  # of P = 2 + √5 = 1 + 4 P - 4 P² / (1 + P)
    np.testing.assert_allclose(first.actions[0, :20, 0], -gain * (2.0 - gain) ** np.arange(20), rtol=1e-9, atol=1e-11)
    solution = solve_costate(doubling, np.array([1.0]), initial_actions=guess, backend=backend).unwrap()
    assert solution.value[0] == pytest.approx(-2.0 - math.sqrt(5.0), rel=1e-11)


def test_gaps_are_closed_within_bounds_and_constraints(backend: str) -> None:
    """Bryson and Denham from a straight line of states that violates the dynamics everywhere."""
    asked = problem("hrl/BrysonDenham-v0", horizon=20, limit=0.1)
    wall = np.stack([np.zeros(21), np.linspace(1.0, -1.0, 21)], 1)
    known, guessed = (
        solve_costate(asked, np.array([0.0, 1.0]), initial_actions=start, backend=backend).unwrap()
        for start in (None, Guess(wall))
    )
    np.testing.assert_allclose(guessed.value, known.value, atol=1e-6)
    bounded = LinearQuadratic(action_bound=0.5)
    guess = Guess(np.linspace([1.0, 0.0], [0.0, 0.0], 101))
    solution = solve_costate(bounded, np.array([1.0, 0.0]), starts=[guess, np.zeros((100, 1))], backend=backend)
    np.testing.assert_allclose([run.value[0] for run in solution.from_all_starts], -12.428550019, atol=1e-7)
    first = close_gaps(bounded, np.array([[1.0, 0.0]]), guess)
    assert np.abs(first.actions).max() == 0.5


@pytest.mark.parametrize(
    ("guess", "message"),
    [
        (Guess(np.zeros((60, 1))), r"guessed states have shape \(60, 1\); expected \(61, 1\) or \(1, 61, 1\)"),
        (Guess(np.zeros((61, 1)), np.zeros((59, 1))), "guessed actions have shape"),
        (Guess(np.full((61, 1), np.nan)), "guessed states are not all finite"),
        (Guess("line"), "array of numbers"),  # type: ignore[arg-type]
    ],
)
def test_guesses_that_do_not_fit_are_refused(explosion: ControlProblem, guess: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        solve_costate(explosion, np.array([1.0]), initial_actions=guess)
