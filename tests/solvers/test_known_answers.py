"""Every method finds the values that textbooks, exact fractions and the peers' documentation give."""

from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import METHODS

DISCOUNTED = sorted(set(METHODS) - {"average-reward", "backward-induction", "undiscounted", "work-list"})
LIMITED = ["backward-induction", "costate-sweep"]
INFINITE = -np.inf


def puterman() -> MDP:
    """Puterman (2005), section 3.1: two states; in the first one stays with 1/2 for 5, or goes for 10."""
    transitions = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    return MDP.from_arrays(transitions, [[5.0, 10.0], [-1.0, INFINITE]], 0.95)


def forest() -> MDP:
    """The forest of pymdptoolbox: three ages, wait or cut, burns down with 0.1."""
    wait = [[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.1, 0.0, 0.9]]
    cut = [[1.0, 0.0, 0.0]] * 3
    return MDP.from_arrays(np.stack([wait, cut], axis=1), [[0.0, 0.0], [0.0, 1.0], [4.0, 2.0]], 0.9)


def small() -> MDP:
    """The small example of pymdptoolbox."""
    transitions = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.8, 0.2], [0.1, 0.9]]])
    return MDP.from_arrays(transitions, [[5.0, 10.0], [-1.0, 2.0]], 0.9)


def gridworld() -> MDP:
    """Sutton and Barto (2018), example 3.8: 5x5; from A any move pays 10 and leads to A', from B 5 and to B'."""

    def outcomes(state, action):
        row, column = divmod(state, 5)
        if (row, column) == (0, 1):
            return [(1.0, 4 * 5 + 1, 10.0, False)]
        if (row, column) == (0, 3):
            return [(1.0, 2 * 5 + 3, 5.0, False)]
        row_step, column_step = [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
        new_row, new_column = row + row_step, column + column_step
        if not (0 <= new_row < 5 and 0 <= new_column < 5):
            return [(1.0, state, -1.0, False)]
        return [(1.0, new_row * 5 + new_column, 0.0, False)]

    return MDP.from_function(25, 4, outcomes, 0.9)


def lake(map_name: str) -> MDP:
    return MDP.from_gymnasium(gym.make("FrozenLake-v1", map_name=map_name), discount=0.99, horizon=None)


# Each with the states and values known, and half a unit of the last digit that is given.
KNOWN = {
    "puterman": (puterman, {0: -8.571428571429, 1: -20.0}, 5e-12),  # -60/7 and -1/(1 - .95)
    "forest": (forest, {0: 26.244, 1: 29.484, 2: 33.484}, 5e-10),
    "small": (small, {0: 42.441860, 1: 36.046512}, 5e-7),
    "gridworld": (gridworld, {1: 10 / (1 - 0.9**5)}, 1e-10),
    "lake 4x4": (lambda: lake("4x4"), {0: 0.5420259320}, 5e-11),
    "lake 8x8": (lambda: lake("8x8"), {0: 0.4146403618}, 5e-11),
    "cliff": (lambda: MDP.from_gymnasium("CliffWalking-v1", 0.9), {36: -(1 - 0.9**13) / 0.1}, 1e-10),
}


@pytest.mark.parametrize("method", DISCOUNTED)
@pytest.mark.parametrize("name", KNOWN)
def test_known_values_are_found_and_lie_within_the_bounds(name, method):
    problem, known, digits = KNOWN[name]
    solution = METHODS[method](problem(), tol=1e-10).unwrap()
    for state, value in known.items():
        assert abs(solution.value[state] - value) <= 1e-10 + digits
        assert solution.lower[state] - digits <= value <= solution.upper[state] + digits


@pytest.mark.parametrize("method", DISCOUNTED)
def test_unavailable_action_is_never_taken(method):
    mdp = puterman()
    assert METHODS[method](mdp).policy[1] == 0


# Optimal mean return within Gymnasium's own limit, undiscounted.
LIMITS = [
    ("FrozenLake-v1", {"map_name": "4x4"}, None, 0.744190),
    ("FrozenLake-v1", {"map_name": "8x8"}, None, 0.640719),
    ("FrozenLake8x8-v1", {}, None, 0.913220),
    ("Taxi-v4", {}, None, 7.93),
    ("CliffWalking-v1", {}, 100, -13.0),
]


@pytest.mark.parametrize("method", LIMITED)
@pytest.mark.parametrize(("env_id", "arguments", "horizon", "known"), LIMITS)
def test_optimum_under_the_time_limit_of_gymnasium(env_id, arguments, horizon, known, method):
    mdp = MDP.from_gymnasium(gym.make(env_id, **arguments), discount=1.0)
    solution = METHODS[method](mdp if horizon is None else mdp.finite_horizon(horizon), tol=1e-9).unwrap()
    assert mdp.initial @ solution.value == pytest.approx(known, abs=5e-7 if known < 1 else 5e-3)


@pytest.mark.parametrize("method", LIMITED)
def test_limited_optimum_equals_exact_fractions(method):
    """The forest undiscounted over 7 years, in rational arithmetic, lies within the bounds."""
    mdp = forest().with_discount(1.0).finite_horizon(7)
    burnt, year = Fraction(1, 10), [Fraction(0)] * 3
    for _ in range(7):
        after = [burnt * year[0] + (1 - burnt) * year[min(age + 1, 2)] for age in range(3)]
        wait, cut = (Fraction(0), Fraction(0), Fraction(4)), (Fraction(0), Fraction(1), Fraction(2))
        year = [max(wait[age] + after[age], cut[age] + year[0]) for age in range(3)]
    solution = METHODS[method](mdp, tol=1e-12).unwrap()
    for age in range(3):
        assert Fraction(solution.lower[age]) <= year[age] <= Fraction(solution.upper[age])
    assert solution.policy.shape == (7, 3)


@pytest.mark.parametrize("map_name", ["4x4", "8x8"])
def test_long_horizon_approaches_the_discounted_optimum(map_name):
    mdp = lake(map_name)
    endless = METHODS["policy-iteration"](mdp, tol=1e-11).unwrap()
    limited = METHODS["backward-induction"](mdp.finite_horizon(2_500), tol=1e-9).unwrap()
    # What lies beyond the horizon is worth γ^2500 = 1e-11 at the most.
    np.testing.assert_allclose(limited.value, endless.value, rtol=0, atol=1e-10)
