"""Mean reward in the long run: textbook processes, and brute force over all policies, of any number of classes."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import MDP, restarted
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import average_reward, solve

INFINITE = -np.inf


def gain_of(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """The mean reward of a policy from each state: ``P* r``, with the Cesàro limit P* of the powers of the chain.

    ``lim (1 - x) (I - x P)^(-1)`` for x -> 1; the error is of the order of 1 - x.
    """
    states = np.arange(mdp.n_states)
    chain = mdp.transition_matrix.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)[states, policy]
    x = 1.0 - 1e-9
    return (1.0 - x) * np.linalg.solve(np.eye(mdp.n_states) - x * chain, mdp.rewards[states, policy])


def best_gain(mdp: MDP) -> np.ndarray:
    choices = [np.flatnonzero(row > INFINITE) for row in mdp.rewards]
    return np.max([gain_of(mdp, np.array(policy)) for policy in itertools.product(*choices)], axis=0)


def toymaker() -> MDP:
    """Howard (1960), chapter 4: a successful or an unsuccessful toy; advertise, or research, or not. The best is 2."""
    plain, dear = [[0.5, 0.5], [0.4, 0.6]], [[0.8, 0.2], [0.7, 0.3]]
    rewards = [[[9.0, 3.0], [3.0, -7.0]], [[4.0, 4.0], [1.0, -19.0]]]
    return MDP.from_arrays(np.stack([plain, dear], axis=1), np.stack(rewards, axis=1), 1.0)


def taxicab() -> MDP:
    """Howard (1960), chapter 5: three towns; cruise, go to a stand, or wait for a radio call. The best is 13.3445."""
    transitions = np.array(
        [
            [[1 / 2, 1 / 4, 1 / 4], [1 / 16, 3 / 4, 3 / 16], [1 / 4, 1 / 8, 5 / 8]],
            [[1 / 2, 0, 1 / 2], [1 / 16, 7 / 8, 1 / 16], [1, 0, 0]],
            [[1 / 4, 1 / 4, 1 / 2], [1 / 8, 3 / 4, 1 / 8], [3 / 4, 1 / 16, 3 / 16]],
        ]
    )
    rewards = np.array(
        [
            [[10, 4, 8], [8, 2, 4], [4, 6, 4]],
            [[14, 0, 18], [8, 16, 8], [0, 0, 0]],
            [[10, 2, 8], [6, 4, 2], [4, 0, 8]],
        ]
    )
    expected = (transitions * rewards).sum(axis=2)
    expected[1, 2] = INFINITE  # no radio in the second town
    return MDP.from_arrays(transitions, expected, 1.0)


@pytest.mark.parametrize(
    ("problem", "known", "digits", "policy"),
    [(toymaker, 2.0, 1e-12, [1, 1]), (taxicab, 13.3445, 5e-5, [1, 1, 1])],
)
def test_gain_and_policy_are_those_of_howard(problem, known, digits, policy):
    solution = average_reward(problem(), tol=1e-10).unwrap()
    np.testing.assert_allclose(solution.value, known, rtol=0, atol=digits + 1e-10)
    np.testing.assert_allclose(solution.value, best_gain(problem()), rtol=0, atol=1e-6)
    assert solution.policy.tolist() == policy


def random_mdp(seed: int, n_states: int, n_actions: int, sparse: bool) -> MDP:
    generator = np.random.default_rng(seed)
    table = np.zeros((n_states, n_actions, n_states))
    for row in table.reshape(-1, n_states):
        successors = generator.choice(n_states, 1 if sparse else generator.integers(1, min(n_states, 2) + 1), False)
        row[successors] = generator.dirichlet(np.ones(len(successors)))
    rewards = generator.integers(-3, 4, (n_states, n_actions)).astype(float)
    rewards[:, 1:][generator.random((n_states, n_actions - 1)) < 0.1] = INFINITE
    return MDP.from_arrays(table, rewards, 1.0)


@settings(max_examples=150, deadline=None)
@given(st.builds(random_mdp, st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3), st.booleans()))
def test_gain_is_the_best_of_all_policies_from_every_state_and_the_policy_attains_it(mdp):
    solution = average_reward(mdp, tol=1e-7)
    truth = best_gain(mdp)
    blur = 1e-5  # of the truth: 1 - x times biases, which are large where chains mix slowly
    assert (solution.lower <= truth + blur).all()
    assert (truth <= solution.upper + blur).all()
    if solution.converged:
        np.testing.assert_allclose(gain_of(mdp, solution.policy), truth, rtol=0, atol=2 * blur)
    else:
        assert solution.status is Status.STAGNATED


def test_periodic_chain_converges():
    """Three states in a circle that pay 1, 2 and 6: without half steps the bounds would turn round for ever."""
    solution = average_reward(MDP.from_arrays([[1], [2], [0]], [1.0, 2.0, 6.0], 1.0), tol=1e-10).unwrap()
    np.testing.assert_allclose(solution.value, 3.0, rtol=0, atol=1e-10)


def test_states_that_reach_different_classes_have_different_gains():
    """0 chooses: stay for 1, or toss a coin between 1, which pays 4 for ever, and 2, which pays -1: exactly 3/2."""
    table = np.array(
        [[[1.0, 0, 0], [0, 0.5, 0.5]], [[0, 1.0, 0], [0, 1.0, 0]], [[0, 0, 1.0], [0, 0, 1.0]]],
    )
    solution = average_reward(MDP.from_arrays(table, [[1.0, -100.0], [4.0, 0.0], [-1.0, -2.0]], 1.0), tol=1e-9).unwrap()
    for state, gain in enumerate((Fraction(3, 2), Fraction(4), Fraction(-1))):
        assert Fraction(solution.lower[state]) <= gain <= Fraction(solution.upper[state])
    assert solution.policy.tolist() == [1, 0, 0]


def test_better_part_of_one_component_is_gone_to_and_stayed_in():
    """A line of ten states; only the last one pays for staying: from all of them the gain is 1."""
    table = np.stack([np.maximum(np.arange(10) - 1, 0), np.minimum(np.arange(10) + 1, 9)], axis=1)
    rewards = np.zeros((10, 2))
    rewards[9, 1] = 1.0
    mdp = MDP.from_arrays(table, rewards, 1.0)
    solution = average_reward(mdp, tol=1e-9).unwrap()
    np.testing.assert_allclose(solution.value, 1.0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(gain_of(mdp, solution.policy), 1.0, rtol=0, atol=1e-6)


def test_running_out_of_sweeps_is_a_status_and_its_bounds_hold():
    solution = average_reward(taxicab(), tol=1e-10, max_iterations=3)
    assert solution.status is Status.MAX_ITERATIONS
    assert (solution.lower <= 13.3445).all()
    assert (solution.upper >= 13.3445).all()
    with pytest.raises(SolverError, match="Raise max_iterations"):
        solution.unwrap()


def test_tolerance_below_rounding_is_a_status():
    assert average_reward(taxicab(), tol=1e-16).status is Status.STAGNATED


def test_process_that_ends_is_refused():
    with pytest.raises(UsageError, match="may end in state 1 with action 0"):
        average_reward(MDP.from_arrays([[1], [-1]], [1.0, 1.0], 1.0))
    with pytest.raises(UsageError, match="ends after 5 steps"):
        average_reward(taxicab().finite_horizon(5))
    with pytest.raises(UsageError, match="tol ="):
        average_reward(taxicab(), tol=0.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_gain_of_episodes_begun_anew_is_mean_return_over_mean_length(seed, n_states):
    """Renewal: for each policy E[return] / E[length] by linear systems; the best of all of them."""
    generator = np.random.default_rng(seed)
    table = generator.dirichlet(np.ones(n_states + 1), (n_states, 2))[..., :n_states]  # what is left off ends
    initial, rewards = generator.dirichlet(np.ones(n_states)), generator.normal(size=(n_states, 2))
    counts = np.arange(2 * n_states + 1) * n_states
    columns = np.tile(np.arange(n_states), 2 * n_states)
    mdp = MDP(rewards, counts, columns, table.ravel(), 1.0, initial)
    best, states = -np.inf, np.arange(n_states)
    for policy in itertools.product((0, 1), repeat=n_states):
        system = np.eye(n_states) - table[states, policy]
        known = np.stack([rewards[states, policy], np.ones(n_states)], axis=1)
        earned, steps = initial @ np.linalg.solve(system, known)
        best = max(best, earned / steps)
    solution = average_reward(restarted(mdp), tol=1e-9).unwrap()
    np.testing.assert_allclose(solution.value, best, rtol=0, atol=1e-8)


def test_average_reward_is_solved_for_when_it_is_named():
    solution = solve(toymaker(), method="average-reward", tol=1e-9)
    assert solution.method == "average reward"
    np.testing.assert_allclose(solution.value, 2.0, rtol=0, atol=1e-9)
