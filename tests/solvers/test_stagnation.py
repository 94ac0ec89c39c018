"""STAGNATED means that rounding alone keeps the bounds apart: slow progress is none of it."""

import numpy as np
import pytest

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import (
    METHODS,
    average_reward,
    gauss_seidel,
    inexact_policy_iteration,
    linear_program,
    modified_policy_iteration,
    undiscounted,
    value_iteration,
)

SWEEPING = [value_iteration, gauss_seidel, modified_policy_iteration, inexact_policy_iteration]


def mixing(discount: float) -> MDP:
    generator = np.random.default_rng(0)
    return MDP.from_arrays(generator.dirichlet(np.full(20, 0.1), (20, 3)), generator.random((20, 3)), discount)


def corridor(length: int, discount: float) -> MDP:
    """Each step costs 1; the way out is at the right end."""
    states = np.arange(length)
    table = np.stack([np.maximum(states - 1, 0), np.append(states[1:], -1)], axis=1)
    return MDP.from_arrays(table, np.full((length, 2), -1.0), discount)


@pytest.mark.parametrize("first", [1e9, -1e9])
@pytest.mark.parametrize("method", SWEEPING)
@pytest.mark.parametrize("discount", [0.9, 0.99, 0.999])
def test_first_iterate_far_from_the_optimum_costs_sweeps_and_not_the_answer(method, discount, first):
    solution = method(mixing(discount), tol=1e-5, initial_value=np.full(20, first)).unwrap()
    exact = METHODS["policy-iteration"](mixing(discount), tol=1e-7).unwrap()
    np.testing.assert_allclose(solution.value, exact.value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [modified_policy_iteration, inexact_policy_iteration])
def test_news_that_travels_a_state_a_round_is_waited_for(method):
    """The bounds of 600 states come no closer for hundreds of rounds, until the way out is known to the last."""
    solution = method(corridor(600, 0.999), tol=1e-6).unwrap()
    truth = -(1.0 - 0.999 ** np.arange(600, 0, -1)) / (1.0 - 0.999)
    np.testing.assert_allclose(solution.value, truth, rtol=0, atol=1e-6)


def test_slow_sweeps_are_called_slow():
    solution = value_iteration(corridor(3, 1 - 1e-6), tol=1e-6, initial_value=np.full(3, -1e9), max_iterations=2)
    assert solution.status is Status.MAX_ITERATIONS


@pytest.mark.parametrize("apart", [1e-10, 1e-13, 1e-15])
def test_linear_program_so_near_to_one_that_nothing_is_feasible_says_so(apart):
    """HiGHS calls a programme infeasible whose solution is known: 2 / (1 - γ)."""
    mdp = MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], 1.0 - apart)
    with pytest.raises(SolverError, match=r"has a solution, but none.* Lower the discount, or take policy_iteration"):
        linear_program(mdp)


def test_linear_program_near_one_that_comes_through_says_how_exact_it_is():
    solution = linear_program(mixing(1.0 - 1e-9))
    assert solution.status is Status.INEXACT
    assert solution.gap > 1.0


@pytest.mark.parametrize("method", [value_iteration, modified_policy_iteration, gauss_seidel])
def test_discount_that_rounding_takes_for_one_ends_soon_and_its_bounds_hold(method):
    discount = float(np.nextafter(1.0, 0.0))
    solution = method(MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], discount))
    assert solution.status is Status.STAGNATED
    assert solution.iterations < 1_000
    assert (solution.lower <= 2.0 / (1.0 - discount)).all()
    assert (solution.upper >= 2.0 / (1.0 - discount)).all()


@pytest.mark.parametrize("method", [average_reward, undiscounted])
def test_rewards_whose_sums_do_not_fit_are_refused(method):
    with pytest.raises(UsageError, match=r"1\.7e\+308 add up to more than double precision holds"):
        method(MDP.from_arrays([[1], [0]], [[1.7e308], [-1.7e308]], 1.0))
