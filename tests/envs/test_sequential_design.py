"""Data chosen one row after the other: greedy, planned by costates, planned ahead, and the truth in closed form."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import hamiltonian_rl
from hamiltonian_rl.design import plan_rows
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.fermat import filled_spectrum, greedy_excess, row_norm_defect
from hamiltonian_rl.problems import Grid
from hamiltonian_rl.solvers.costate import solve_costate
from hamiltonian_rl.solvers.solve_grid import solve_grid

ID = "hrl/SequentialDesign-v0"


def rolled_out(problem, rows):
    """The return of measuring rows, by the problem's own steps."""
    state = torch.tensor(problem.start, dtype=torch.float64)
    for step, action in enumerate(problem.action_of(rows)):
        state = problem.dynamics(state, torch.tensor(action), step)
    return float(problem.terminal_reward(state))


def test_the_return_is_the_trace_by_numpys_inverse_of_any_rows_and_target():
    generator = np.random.default_rng(0)
    for p, n in [(2, 3), (3, 5), (4, 2)]:
        target = generator.standard_normal((p, p))
        target = target @ target.T
        problem = hamiltonian_rl.problem(ID, size=p, horizon=n, target=target)
        rows = generator.standard_normal((n, p))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        information = np.eye(p) + rows.T @ rows
        assert rolled_out(problem, rows) == pytest.approx(-np.trace(np.linalg.solve(information, target)), rel=1e-12)


@pytest.mark.parametrize("p", [2, 3, 6])
def test_greedy_exceeds_the_bound_as_the_formula_says_and_planning_p_ahead_too_but_planning_all_does_not(p):
    """Measured in the control problem to 1e-5. Blocks of p end where greedy does; only the last block can do better."""
    for n in range(1, 3 * p + 1):
        problem = hamiltonian_rl.problem(ID, size=p, horizon=n)
        bound = -p / (p + n)
        greedy = rolled_out(problem, plan_rows(np.eye(p), n, ahead=1))
        assert greedy / bound == pytest.approx(greedy_excess(p + n, p), abs=1e-5)
        blocks = rolled_out(problem, plan_rows(np.eye(p), n, ahead=p))
        assert blocks == pytest.approx(greedy, rel=1e-9)
        planned = rolled_out(problem, plan_rows(np.eye(p), n))
        assert planned == pytest.approx(bound if n >= p else greedy, rel=1e-9)  # fewer than p cannot reach a frame


@pytest.mark.parametrize(("p", "n"), [(2, 3), (3, 4), (3, 2)])
def test_costates_find_what_filling_up_like_water_says(p, n):
    """From an anisotropic start, where the optimum is unique but for the rows' order: several random starts."""
    spectrum = np.array([1.0, 1.3, 2.2])[:p]
    problem = hamiltonian_rl.problem(ID, size=p, horizon=n)
    state = [float(np.diag(spectrum)[i, j]) for i, j in problem.places]
    generator = np.random.default_rng(1)
    starts = [generator.uniform(-1.5, 1.5, (n, p - 1)) for _ in range(6)]
    found = solve_costate(problem, np.array(state), starts=starts)
    exact = -(1.0 / filled_spectrum(spectrum, float(n), n)).sum() / p
    assert found.value[0] == pytest.approx(exact, rel=1e-7)
    assert found.certificate.stationarity[0] < 1e-7


def test_planned_rows_are_units_and_no_random_rows_are_better():
    generator = np.random.default_rng(2)
    mixing = generator.standard_normal((4, 4))
    information = mixing @ mixing.T + 0.2 * np.eye(4)
    for n in (1, 2, 3, 6):
        rows = plan_rows(information, n)
        assert row_norm_defect(rows) < 1e-13
        planned = np.trace(np.linalg.inv(information + rows.T @ rows))
        tried = generator.standard_normal((5000, n, 4))
        tried /= np.linalg.norm(tried, axis=2, keepdims=True)
        found = np.linalg.inv(information + np.einsum("bni,bnj->bij", tried, tried))
        assert planned <= np.trace(found, axis1=1, axis2=2).min() + 1e-12


def test_bellmans_grid_agrees_with_the_closed_form_of_two_columns():
    """Two rows from S = diag(1, 1.4), linear between 25 points an axis: it errs by the square of their distance."""
    problem = hamiltonian_rl.problem(ID, horizon=2)
    solution = solve_grid(Grid(problem, (25, 25, 25), 32))
    exact = -(1.0 / filled_spectrum(np.array([1.0, 1.4]), 2.0, 2)).sum() / 2
    assert solution.value_at(np.array([[1.0, 0.0, 1.4]]), 0)[0] == pytest.approx(exact, abs=0.02)


def test_the_environment_pays_the_optimum_for_planned_rows():
    env = gym.make(ID)
    problem = hamiltonian_rl.problem(ID)
    start, _ = env.reset(seed=0)
    first = np.array([[start[0], start[1]], [start[1], start[2]]], float)
    rows, total = plan_rows(first, 3), 0.0
    for action in problem.action_of(rows):
        _, reward, terminated, truncated, _ = env.step(action)
        total += reward
    assert terminated or truncated
    assert total == pytest.approx(-(1.0 / filled_spectrum(np.linalg.eigvalsh(first), 3.0)).sum() / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 1}, "size = 1"),
        ({"horizon": 0}, "horizon = 0"),
        ({"target": np.eye(3)}, "2 x 2"),
        ({"target": np.array([[1.0, 0.5], [0.0, 1.0]])}, "symmetric"),
    ],
)
def test_what_does_not_fit_is_told(arguments, sentence):
    with pytest.raises(UsageError, match=sentence):
        hamiltonian_rl.problem(ID, **arguments)


def test_no_rows_to_plan_are_told():
    with pytest.raises(UsageError, match="n_rows = 0"):
        plan_rows(np.eye(2), 0)
