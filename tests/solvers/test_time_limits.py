"""The optimum under a time limit: Gymnasium's own limits, and exact fractions."""

from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import METHODS

LIMITED = ["backward-induction", "costate-sweep"]


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
    wait, cut = [[0.1, 0.9, 0.0], [0.1, 0.0, 0.9], [0.1, 0.0, 0.9]], [[1.0, 0.0, 0.0]] * 3
    mdp = MDP.from_arrays(np.stack([wait, cut], axis=1), [[0.0, 0.0], [0.0, 1.0], [4.0, 2.0]], 1.0, horizon=7)
    burnt, year = Fraction(1, 10), [Fraction(0)] * 3
    for _ in range(7):
        after = [burnt * year[0] + (1 - burnt) * year[min(age + 1, 2)] for age in range(3)]
        wait, cut = (Fraction(0), Fraction(0), Fraction(4)), (Fraction(0), Fraction(1), Fraction(2))
        year = [max(wait[age] + after[age], cut[age] + year[0]) for age in range(3)]
    solution = METHODS[method](mdp, tol=1e-12).unwrap()
    for age in range(3):
        assert Fraction(solution.lower[age]) <= year[age] <= Fraction(solution.upper[age])
    assert solution.policy.shape == (7, 3)
