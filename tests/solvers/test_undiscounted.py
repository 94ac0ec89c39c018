"""Total reward without discount: exact fractions, brute force over all policies, and values that are not finite."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import solve, undiscounted, value_iteration


def random_mdp(seed: int, n_states: int, n_actions: int, rewards: list[int], sparse: bool) -> MDP:
    """A process in which many rows stay among few states, some end at times, and some actions are unavailable."""
    generator = np.random.default_rng(seed)
    table = np.zeros((n_states, n_actions, n_states))
    for row in table.reshape(-1, n_states):
        successors = generator.choice(n_states, 1 if sparse else generator.integers(1, min(n_states, 3) + 1), False)
        shares = generator.integers(1, 5, len(successors))  # none is minute: episodes last hundreds of steps at most
        row[successors] = shares / shares.sum()
    paid = generator.choice(rewards, (n_states, n_actions)).astype(float)
    paid[:, 1:][generator.random((n_states, n_actions - 1)) < 0.1] = -np.inf
    return MDP.from_arrays(table, paid, 1.0, terminal=generator.random(n_states) < 0.3)


def total_reward_of(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """The total reward of one policy from each state; ±inf, or nan where rewards cancel for ever."""
    states = np.arange(mdp.n_states)
    chain = mdp.transition_matrix.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)[states, policy]
    rewards = mdp.rewards[states, policy]
    reach = np.linalg.matrix_power(np.eye(mdp.n_states) + (chain > 0), mdp.n_states) > 0
    may_end = reach @ (chain.sum(axis=1) < 1 - 1e-12)
    recurrent = ~may_end & (reach <= reach.T).all(axis=1)
    total = np.zeros(mdp.n_states)
    for state in np.flatnonzero(recurrent):
        members = np.flatnonzero(reach[state])
        if rewards[members].any():
            equations = np.vstack([chain[np.ix_(members, members)].T - np.eye(len(members)), np.ones(len(members))])
            share = np.linalg.lstsq(equations, np.eye(len(members) + 1)[-1], rcond=None)[0]
            mean = share @ rewards[members]
            total[state] = np.nan if abs(mean) < 1e-9 else np.inf * np.sign(mean)
    for state in states[~recurrent]:
        met = total[recurrent & reach[state]]
        if not np.isfinite(met).all():
            total[state] = met[~np.isfinite(met)].max()  # nan if there is one; both infinities do not matter here
    unknown = ~recurrent & np.isfinite(total)
    total[unknown] = np.linalg.solve(np.eye(unknown.sum()) - chain[np.ix_(unknown, unknown)], rewards[unknown])
    return total


def totals_of_all_policies(mdp: MDP) -> np.ndarray:
    choices = [np.flatnonzero(row > -np.inf) for row in mdp.rewards]
    return np.array([total_reward_of(mdp, np.array(policy)) for policy in itertools.product(*choices)])


processes = st.builds(
    random_mdp,
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([[-1, 0], [-2, -1, 0, 0, 1], [0, 1], [-3, -2, -1, 2], [0]]),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(mdp=processes)
def test_value_is_the_best_of_all_policies_and_the_policy_attains_it_or_the_reason_is_said(mdp):
    totals = totals_of_all_policies(mdp)
    if (totals == np.inf).any():
        with pytest.raises(UsageError, match="The value is infinite: state"):
            undiscounted(mdp)
    elif np.isnan(totals).any():
        with pytest.raises(UsageError, match="rewards of both signs"):
            undiscounted(mdp)
    elif (totals.max(axis=0) == -np.inf).any():
        state = int((totals.max(axis=0) == -np.inf).argmax())
        with pytest.raises(UsageError, match=r"From state \d no policy ends.*minus infinity") as error:
            undiscounted(mdp)
        assert totals[:, int(str(error.value)[11])].max() == -np.inf, state
    else:
        truth = totals.max(axis=0)
        solution = undiscounted(mdp, tol=1e-6).unwrap()
        blur = 1e-11 * (1.0 + np.abs(truth).max())  # of brute force: rounding times the steps of an episode
        assert (solution.lower <= truth + blur).all()
        assert (truth <= solution.upper + blur).all()
        np.testing.assert_allclose(solution.value, truth, rtol=0, atol=100 * blur)
        np.testing.assert_allclose(total_reward_of(mdp, solution.policy), truth, rtol=0, atol=100 * blur)


def test_frozen_lake_without_limit_is_14_in_17():
    solution = undiscounted(MDP.from_gymnasium("FrozenLake-v1", 1.0, None), tol=1e-10).unwrap()
    assert Fraction(solution.lower[0]) <= Fraction(14, 17) <= Fraction(solution.upper[0])


def test_cliff_is_walked_around_in_13_steps():
    solution = undiscounted(MDP.from_gymnasium("CliffWalking-v1", 1.0, None), tol=1e-9).unwrap()
    assert solution.lower[36] <= -13 <= solution.upper[36]


def test_gridworld_of_sutton_and_barto_counts_the_steps_to_the_nearer_corner():
    """Sutton and Barto (2018), example 4.1, its optimum: minus the distance to a terminal corner."""

    def outcomes(state, action):
        row, column = divmod(state, 4)
        down, right = [(-1, 0), (1, 0), (0, -1), (0, 1)][action]
        after = 4 * min(max(row + down, 0), 3) + min(max(column + right, 0), 3)
        return [(1.0, after, -1.0, after in (0, 15))] if state not in (0, 15) else [(1.0, state, 0.0, True)]

    solution = undiscounted(MDP.from_function(16, 4, outcomes, 1.0)).unwrap()
    distance = [min(row + column, 6 - row - column) for row in range(4) for column in range(4)]
    np.testing.assert_allclose(solution.value, -np.array(distance), rtol=0, atol=1e-12)


def gambler(heads: float, goal: int = 100) -> MDP:
    """Sutton and Barto (2018), example 4.3: stake any part of the capital on a coin until it is 0 or ``goal``."""

    def outcomes(capital, stake):
        if capital in (0, goal):
            return [(1.0, capital, 0.0, True)]
        stake = min(stake, capital, goal - capital)
        won = capital + stake == goal
        return [
            (heads, capital + stake, float(won), won),
            (1 - heads, capital - stake, 0.0, capital == stake),
        ]

    return MDP.from_function(goal + 1, goal // 2 + 1, outcomes, 1.0)


def test_gambler_who_may_stake_nothing_plays_boldly():
    """Bold play is optimal for an unfair coin (Dubins and Savage 1965); its value at halves is exact in fractions.

    A stake of zero leads back to where it came from: a policy greedy for the value alone might never play.
    """
    heads = Fraction(2, 5)
    half, quarter = heads, heads * heads
    three_quarters = heads + (1 - heads) * heads
    mdp = gambler(0.4)
    solution = undiscounted(mdp, tol=1e-10).unwrap()
    for capital, value in ((50, half), (25, quarter), (75, three_quarters)):
        assert solution.value[capital] == pytest.approx(float(value), abs=1e-12)
    np.testing.assert_allclose(total_reward_of(mdp, solution.policy), solution.value, rtol=0, atol=1e-12)


def walk(n_states: int) -> MDP:
    """A symmetric random walk: 1 is paid for the last state, and the first one ends."""

    def outcomes(state, action):
        if state in (0, n_states - 1):
            return [(1.0, state, 0.0, True)]
        wins = state + 1 == n_states - 1
        return [(0.5, state + 1, float(wins), wins), (0.5, state - 1, 0.0, state == 1)]

    return MDP.from_function(n_states, 1, outcomes, 1.0)


def test_random_walk_wins_in_proportion_to_where_it_starts_where_a_naive_stop_is_wrong_by_1e_3():
    mdp = walk(101)
    solution = undiscounted(mdp, tol=1e-9).unwrap()
    for state in range(1, 100):
        assert Fraction(solution.lower[state]) <= Fraction(state, 100) <= Fraction(solution.upper[state])
    naive, change = np.zeros(101), 1.0
    while change > 1e-6:
        after = mdp.rewards[:, 0] + mdp.transition_matrix @ naive
        naive, change = after, np.abs(after - naive).max()
    assert np.abs(naive[1:100] - np.arange(1, 100) / 100).max() > 5e-4


def test_loop_that_pays_nothing_is_left_by_the_exit_that_pays_most():
    """0 <-> 1 for nothing; 0 may leave for 1, and 1 may leave for 5: from both the value is 5."""
    mdp = MDP.from_arrays([[1, -1], [0, -1]], [[0.0, 1.0], [0.0, 5.0]], 1.0)
    solution = undiscounted(mdp).unwrap()
    np.testing.assert_allclose(solution.value, [5.0, 5.0], atol=1e-12)
    assert solution.policy.tolist() == [0, 1]


@pytest.mark.parametrize("waits", [0, 1])
def test_policy_goes_to_the_exit_instead_of_waiting_for_ever_at_no_cost(waits):
    """0 may wait or go to 1, and 1 may go back or leave for 5; greedy for the value alone, 0 could wait for ever."""
    mdp = MDP.from_arrays([[0, 1] if waits == 0 else [1, 0], [0, -1]], [[0.0, 0.0], [0.0, 5.0]], 1.0)
    solution = undiscounted(mdp).unwrap()
    assert solution.policy.tolist() == [1 - waits, 1]
    assert total_reward_of(mdp, solution.policy).tolist() == [5.0, 5.0]


def test_loop_that_pays_nothing_is_never_left_at_a_loss():
    mdp = MDP.from_arrays([[1, -1], [0, -1]], [[0.0, -1.0], [0.0, -5.0]], 1.0)
    solution = undiscounted(mdp).unwrap()
    assert solution.upper.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    assert solution.policy.tolist() == [0, 0]


def test_loop_that_loses_on_the_whole_is_passed_through_for_what_it_pays_once():
    """1 is paid from 0 to 1 and 3 lost on the way back; leaving 1 is free: once through pays 1."""
    mdp = MDP.from_arrays([[1, 1], [0, -1]], [[1.0, 1.0], [-3.0, 0.0]], 1.0)
    np.testing.assert_allclose(undiscounted(mdp).unwrap().value, [1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize(
    ("successors", "rewards", "message"),
    [
        ([[0, -1]], [[1e-9, 0.0]], "The value is infinite: state 0 pays 1e-09 for action 0"),
        ([[1], [0]], [[3.0], [-2.0]], "The value is infinite: state 0 pays 3 for action 0"),
        ([[1], [0]], [[2.0], [-2.0]], "From state 0 an episode can go on for ever with rewards of both signs"),
        ([[-1], [1]], [[1.0], [-1.0]], "From state 1 no policy ends"),
    ],
)
def test_value_that_is_not_finite_is_said_with_its_state(successors, rewards, message):
    with pytest.raises(UsageError, match=message):
        undiscounted(MDP.from_arrays(successors, rewards, 1.0))


def test_rows_that_sum_to_one_in_nine_digits_do_not_end():
    """0.999999999 may not be taken for an end: the value would be -1e9 instead of minus infinity."""
    third = 0.333333333
    with pytest.raises(UsageError, match="no policy ends"):
        undiscounted(MDP.from_arrays([[[third] * 3]] * 3, [-1.0] * 3, 1.0))


def toll_road(bonus: float) -> MDP:
    """Five states in a row: walk on for 1, or leave at once for 10; a bonus is paid at the end of the road."""
    costs = np.full((5, 2), [-1.0, -10.0])
    costs[4, 0] += bonus
    return MDP.from_arrays([[1, -1], [2, -1], [3, -1], [4, -1], [-1, -1]], costs, 1.0)


@pytest.mark.parametrize(("bonus", "upper"), [(0.0, 0.0), (3.0, np.inf)])
def test_running_out_of_policies_is_a_status_and_its_bounds_hold(bonus, upper):
    mdp, truth = toll_road(bonus), bonus - np.arange(5, 0, -1)
    np.testing.assert_allclose(undiscounted(mdp).unwrap().value, truth, atol=1e-12)
    solution = undiscounted(mdp, max_iterations=1)
    assert solution.status is Status.MAX_ITERATIONS
    assert (solution.lower <= truth).all()
    assert solution.upper.tolist() == [upper] * 5
    with pytest.raises(SolverError, match="Raise max_iterations"):
        solution.unwrap()


def test_interrupted_solver_keeps_what_it_has():
    def interrupt(policies, gain):
        raise KeyboardInterrupt

    solution = undiscounted(toll_road(0.0), progress=interrupt)
    assert solution.status is Status.INTERRUPTED
    assert (solution.lower >= -10.0 - 1e-9).all()
    assert (solution.lower <= -np.arange(5, 0, -1)).all()
    assert solution.upper.tolist() == [0.0] * 5


@pytest.mark.parametrize(("loss", "reward", "upper"), [(1e-15, -1.0, 0.0), (1e-300, 1.0, np.inf)])
def test_loop_that_loses_less_than_rounding_leaves_a_rough_bound_and_says_so(loss, reward, upper):
    solution = undiscounted(MDP.from_arrays([[0, -1]], [[-loss, reward]], 1.0))
    assert solution.status is Status.INEXACT
    assert solution.lower[0] <= reward <= solution.upper[0] == upper


def test_episodes_of_1e59_steps_are_refused():
    """Sixty steps forward in a row, each with 0.1, or back to the start."""

    def outcomes(state, action):
        return [(0.1, min(state + 1, 59), -1.0, state == 59), (0.9, 0, -1.0, False)]

    with pytest.raises(SolverError, match="more steps than double precision can count"):
        undiscounted(MDP.from_function(60, 1, outcomes, 1.0))


def test_large_processes_are_evaluated_by_iteration_within_the_same_bounds():
    """A walk over 1,500 states that ends with 1/10 a step, against a dense solve."""
    size = 1_500
    table = np.zeros((size, 1, size))
    table[np.arange(size), 0, (np.arange(size) + 1) % size] = 0.6
    table[np.arange(size), 0, (np.arange(size) - 7) % size] = 0.3
    rewards = np.random.default_rng(0).normal(size=(size, 1))
    rows = [
        [(p, int(s), float(rewards[i, 0]), False) for s, p in enumerate(row[0]) if p] for i, row in enumerate(table)
    ]
    mdp = MDP.from_function(size, 1, lambda s, a: [*rows[s], (0.1, s, float(rewards[s, 0]), True)], 1.0)
    solution = undiscounted(mdp, tol=1e-9).unwrap()
    truth = np.linalg.solve(np.eye(size) - table[:, 0], rewards[:, 0])
    assert (solution.lower <= truth).all()
    assert (truth <= solution.upper).all()


def test_tolerance_below_rounding_is_a_status():
    solution = undiscounted(walk(101), tol=1e-16)
    assert solution.status is Status.STAGNATED
    assert solution.gap < 1e-10


def test_many_actions_that_tie_but_for_rounding_keep_their_bounds():
    """The same move by detours of equal cost: no policy's steps bound those of the others."""
    size = 200
    table = np.zeros((size, 3), int)
    costs = np.zeros((size, 3))
    for state in range(size):
        for action, stride in enumerate((1, 2, 7)):
            table[state, action] = state - stride if state >= stride else -1
            costs[state, action] = -0.1 * min(stride, state + 1)
    solution = undiscounted(MDP.from_arrays(table, costs, 1.0), tol=1e-9).unwrap()
    for state in range(size):
        exact = -Fraction(state + 1, 10)
        slack = Fraction(1, 10**13)  # the costs themselves are rounded
        assert Fraction(solution.lower[state]) - slack <= exact <= Fraction(solution.upper[state]) + slack


def test_solve_takes_it_for_processes_without_discount_and_others_name_it():
    mdp = walk(11)
    assert solve(mdp).method == "undiscounted"
    with pytest.raises(UsageError, match="Take undiscounted"):
        value_iteration(mdp)
    with pytest.raises(UsageError, match=r"discount = 0\.9; expected 1"):
        undiscounted(mdp.with_discount(0.9))
    with pytest.raises(UsageError, match="ends after 5 steps"):
        undiscounted(mdp.finite_horizon(5))
