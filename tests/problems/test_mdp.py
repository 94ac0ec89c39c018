"""An MDP holds what was stated, from every source, and says what is wrong with what is not one."""

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
from scipy import sparse

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import solve

TOY_TEXT = ["FrozenLake-v1", "FrozenLake8x8-v1", "Taxi-v4", "CliffWalking-v1"]


def dense(mdp: MDP) -> np.ndarray:
    return mdp.transition_matrix.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)


@pytest.mark.parametrize("env_id", TOY_TEXT)
def test_gymnasium_table_is_read_with_equal_successors_summed(env_id):
    env = gym.make(env_id)
    mdp = MDP.from_gymnasium(env)
    expected = np.zeros((mdp.n_states, mdp.n_actions, mdp.n_states))
    rewards = np.zeros((mdp.n_states, mdp.n_actions))
    for state, action in itertools.product(range(mdp.n_states), range(mdp.n_actions)):
        for probability, successor, reward, terminated in env.unwrapped.P[state][action]:
            rewards[state, action] += probability * reward
            if not terminated:
                expected[state, action, successor] += probability
    np.testing.assert_allclose(dense(mdp), expected, rtol=0, atol=1e-15)
    np.testing.assert_allclose(mdp.rewards, rewards, rtol=0, atol=1e-15)
    assert mdp.horizon == env.spec.max_episode_steps
    assert len(mdp.next_states) == (expected > 0).sum()  # no duplicates, no zeros
    np.testing.assert_array_equal(mdp.initial, env.unwrapped.initial_state_distrib)


def test_dense_sparse_and_function_state_the_same_process():
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.ones(5), (5, 3))
    rewards = generator.normal(size=(5, 3))
    from_dense = MDP.from_arrays(table, rewards, 0.9)
    from_sparse = MDP.from_arrays([sparse.csr_array(table[:, a]) for a in range(3)], rewards, 0.9)
    from_function = MDP.from_function(
        5, 3, lambda s, a: [(table[s, a, z], z, rewards[s, a], False) for z in range(5)], 0.9
    )
    for other in (from_sparse, from_function):
        np.testing.assert_allclose(dense(other), dense(from_dense), rtol=0, atol=1e-15)
        np.testing.assert_allclose(other.rewards, rewards, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(dense(from_dense), table)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_action_that_is_not_available_needs_no_row(form):
    """Puterman (2005), section 3.1, whose second state has one action: V* = (-60/7, -20)."""
    table = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    rows = table if form == "dense" else [sparse.csr_array(table[:, action]) for action in range(2)]
    mdp = MDP.from_arrays(rows, [[5.0, 10.0], [-1.0, -np.inf]], 0.95)
    np.testing.assert_allclose(solve(mdp, tol=1e-9).unwrap().value, [-60 / 7, -20.0], rtol=0, atol=1e-9)
    with pytest.raises(UsageError, match=r"Row \(s=1, a=1\) of `transitions` sums to 0; expected 1"):
        MDP.from_arrays(rows, [[5.0, 10.0], [-1.0, 0.0]], 0.95)


def test_rewards_that_depend_on_the_successor_are_averaged():
    table = np.array([[[0.25, 0.75]], [[0.5, 0.5]]])
    by_successor = np.array([[[4.0, 8.0]], [[1.0, 3.0]]])
    expected = [[7.0], [2.0]]  # 0.25 * 4 + 0.75 * 8, and (1 + 3) / 2
    np.testing.assert_allclose(MDP.from_arrays(table, by_successor, 0.9).rewards, expected)
    pairs = [[sparse.csr_array(array[:, 0])] for array in (table, by_successor)]
    np.testing.assert_allclose(MDP.from_arrays(*pairs, 0.9).rewards, expected)


def test_episodes_end_where_a_terminal_state_is_entered():
    table = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])
    mdp = MDP.from_arrays(table, [[1.0], [9.0]], 0.9, terminal=[False, True])
    np.testing.assert_array_equal(dense(mdp)[:, 0], [[0.5, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(mdp.rewards, [[1.0], [0.0]])
    np.testing.assert_array_equal(mdp.row_sums, [[0.5], [0.0]])


def test_successor_table_ends_the_episode_at_minus_one():
    mdp = MDP.from_arrays([[0, 1], [-1, 0]], np.zeros((2, 2)), 0.9)
    np.testing.assert_array_equal(dense(mdp), [[[1, 0], [0, 1]], [[0, 0], [1, 0]]])


@pytest.mark.parametrize("env_id", TOY_TEXT)
def test_reachable_states_are_those_that_a_search_from_the_start_finds(env_id):
    env = gym.make(env_id)
    mdp = MDP.from_gymnasium(env)
    found = set(np.flatnonzero(env.unwrapped.initial_state_distrib).tolist())
    frontier = list(found)
    while frontier:
        outcomes = itertools.chain(*env.unwrapped.P[frontier.pop()].values())
        new = {int(s) for p, s, _, over in outcomes if p > 0 and not over} - found
        found |= new
        frontier += new
    assert set(np.flatnonzero(mdp.reachable)) == found


def test_absorbing_states_are_never_left():
    table = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]] * 2, [[0.5, 0.0, 0.5]] * 2])
    mdp = MDP.from_arrays(table, np.ones((3, 2)), 0.9)
    np.testing.assert_array_equal(mdp.absorbing, [False, True, False])
    np.testing.assert_array_equal(MDP.from_arrays([[-1], [0]], [[0.0], [0.0]], 0.9).absorbing, [True, False])


def test_file_holds_the_whole_process(tmp_path):
    mdp = MDP.from_gymnasium("FrozenLake-v1", discount=0.9)
    mdp.save(tmp_path / "lake.npz")
    for original, copy in ((mdp, MDP.load(tmp_path / "lake.npz")),):
        np.testing.assert_array_equal(dense(copy), dense(original))
        np.testing.assert_array_equal(copy.rewards, original.rewards)
        np.testing.assert_array_equal(copy.initial, original.initial)
        assert (copy.discount, copy.horizon) == (0.9, 100)
    mdp.finite_horizon(None).save(tmp_path / "endless.npz")
    assert MDP.load(tmp_path / "endless.npz").horizon is None
    paid = dataclasses.replace(mdp, last_rewards=mdp.rewards + 1.0)
    paid.save(tmp_path / "paid.npz")
    np.testing.assert_array_equal(MDP.load(tmp_path / "paid.npz").last_rewards, mdp.rewards + 1.0)


@pytest.mark.parametrize("method", ["backward-induction", "costate-sweep"])
def test_last_step_earns_its_own_rewards(method):
    """By hand: 2 steps at discount 0.5; the first pays 1 or 0, the last 3 or 8; no chance."""
    mdp = MDP.from_arrays([[0, 0]], [[1.0, 0.0]], 0.5, horizon=2)
    solution = solve(dataclasses.replace(mdp, last_rewards=[[3.0, 8.0]]), method=method)
    assert solution.value[0] == 1.0 + 0.5 * 8.0
    assert solution.policy.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("last_rewards", "message"),
    [
        ([[1.0]], r"`last_rewards` has shape \(1, 1\); expected that of `rewards`, \(1, 2\)"),
        ([[np.nan, 1.0]], r"`last_rewards\[0, 0\]` is nan"),
        ([[-np.inf, 1.0]], r"`last_rewards\[0, 0\]` is -inf; expected a number"),
        ([1.0, 2.0], r"expected 2 dimension"),
    ],
)
def test_bad_last_rewards_are_named(last_rewards, message):
    mdp = MDP.from_arrays([[0, 0]], [[1.0, 0.0]], 0.5, horizon=2)
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(mdp, last_rewards=last_rewards)


class Exploit:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_pickle_in_a_file_is_refused_and_does_not_run(tmp_path):
    marker, path = tmp_path / "ran", tmp_path / "planted.npz"
    mdp = MDP.from_gymnasium("FrozenLake-v1")
    mdp.save(path)
    with np.load(path) as file:
        tables = dict(file)
    np.savez(path, **{**tables, "initial": np.array([Exploit(marker)], dtype=object)})
    with pytest.raises(UsageError, match=r"cannot be read as an MDP.*MDP\.save"):
        MDP.load(path)
    assert not marker.exists()


@pytest.mark.parametrize("place", np.linspace(0.05, 0.7, 14))
def test_altered_file_is_refused_or_the_change_is_without_effect(tmp_path, place):
    path = tmp_path / "lake.npz"
    mdp = MDP.from_gymnasium("FrozenLake-v1")
    mdp.save(path)
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0xFF
    path.write_bytes(content)
    try:
        loaded = MDP.load(path)
    except UsageError:
        return
    np.testing.assert_array_equal(dense(loaded), dense(mdp))  # the byte was one that nobody reads
    np.testing.assert_array_equal(loaded.rewards, mdp.rewards)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text"])
def test_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"other\.npz cannot be read as an MDP"):
        MDP.load(path)


GOOD = np.array([[[0.5, 0.5]], [[0.0, 1.0]]])


def changed(place, value):
    table = GOOD.copy()
    table[place] = value
    return table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((changed((1, 0, 1), 0.97), [0.0, 0.0], 0.9), r"Row \(s=1, a=0\) of `transitions` sums to 0\.97; expected 1"),
        ((changed((0, 0), [-0.5, 1.5]), [0.0, 0.0], 0.9), r"Row \(s=0, a=0\).*probability -0\.5"),
        ((changed((1, 0, 0), np.nan), [0.0, 0.0], 0.9), r"Row \(s=1, a=0\).*sums to nan"),
        ((GOOD[:, :, :1], [0.0, 0.0], 0.9), r"shape \(2, 1, 1\)"),
        ((np.zeros((0, 0, 0)), [], 0.9), "0 states"),
        ((np.zeros((2, 0, 2)), np.zeros((2, 0)), 0.9), "no rows"),
        (([["a"]], [0.0], 0.9), "expected probabilities"),
        ((GOOD, [[0.0, 0.0, 0.0]], 0.9), r"`rewards` has shape \(1, 3\)"),
        ((GOOD, ["x", "y"], 0.9), "not an array of numbers"),
        ((GOOD, [0.0, np.nan], 0.9), r"`rewards\[1, 0\]` is nan"),
        ((GOOD, [np.inf, 0.0], 0.9), r"`rewards\[0, 0\]` is inf"),
        ((GOOD, [-np.inf, 0.0], 0.9), "State 0 has no action"),
        ((GOOD, [0.0, 0.0], 1.1), r"discount = 1\.1"),
        ((GOOD, [0.0, 0.0], np.nan), "discount = nan"),
        ((GOOD, [0.0, 0.0], "0.9"), "discount = '0.9'"),
        (
            ([[0, 2], [1, 1]], np.zeros((2, 2)), 0.9),
            r"Row \(s=0, a=1\) of `transitions` leads to state 2; expected 0 to 1",
        ),
        (
            ([sparse.eye_array(2), sparse.eye_array(3)], np.zeros((2, 2)), 0.9),
            r"`transitions\[1\]` is .* shape \(3, 3\).*expected a sparse \(2, 2\)",
        ),
        (([np.eye(2), sparse.eye_array(2)], np.zeros((2, 2)), 0.9), r"`transitions\[0\]` is of class ndarray"),
        (([sparse.eye_array(2), None], np.zeros((2, 2)), 0.9), r"`transitions\[1\]` is of class NoneType"),
        (([1j * sparse.eye_array(2)], np.zeros((2, 1)), 0.9), r"`transitions\[0\]` is .* type complex128"),
        ((GOOD, [1j, 0.0], 0.9), "`rewards` are not an array of numbers: they are complex"),
        ((GOOD, [sparse.eye_array(3)], 0.9), r"1 matrices of shape \(3, 3\); expected 1 of shape \(2, 2\)"),
        ((GOOD, [sparse.eye_array(2), sparse.eye_array(3)], 0.9), r"`rewards\[1\]` is .* shape \(3, 3\)"),
        ((np.array([[2**64 - 1]], np.uint64), [0.0], 0.9), "leads to state 9223372036854775807; expected 0 to 0"),
        ((np.full((3, 1, 3), np.float32(1 / 3)), np.zeros(3), 0.9), "expected 1 within 1e-08; divide the rows by"),
    ],
)
def test_bad_table_is_one_clear_sentence(arguments, message):
    with pytest.raises(UsageError, match=message):
        MDP.from_arrays(*arguments)


@pytest.mark.parametrize("horizon", [0, -1, 1.5, "ten", True])
def test_bad_horizon_is_named(horizon):
    with pytest.raises(UsageError, match="horizon ="):
        MDP.from_gymnasium("FrozenLake-v1").finite_horizon(horizon)


def test_outcomes_that_do_not_sum_to_one_are_named():
    with pytest.raises(UsageError, match=r"Row \(s=1, a=0\) of `transitions` sums to 0\.5; expected 1"):
        MDP.from_function(2, 1, lambda s, a: [(1.0 if s == 0 else 0.5, 0, 0.0, False)], 0.9)
    with pytest.raises(UsageError, match=r"Row \(s=0, a=0\) of `transitions` leads to state 7"):
        MDP.from_function(2, 1, lambda s, a: [(1.0, 7, 0.0, False)], 0.9)


@pytest.mark.parametrize("policy", [[0, 2], [-1, 0], [0], 0])
def test_policy_of_other_states_or_actions_has_no_chain(policy):
    with pytest.raises(UsageError, match=r"`policy` has shape .*; expected shape \(2,\) and 0 to 1"):
        MDP.from_arrays([[0, 1], [1, 0]], np.zeros((2, 2)), 0.9).under(policy)


@pytest.mark.parametrize("count", [True, 0, 1.5, "2"])
def test_number_of_states_that_is_none_is_named(count):
    with pytest.raises(UsageError, match=r"n_states = .*expected a whole number from 1 up"):
        MDP.from_function(count, 1, lambda s, a: [(1.0, 0, 0.0, False)], 0.9)


def test_environment_without_a_table_is_named():
    with pytest.raises(UsageError, match="CartPole-v1 has no table"):
        MDP.from_gymnasium("CartPole-v1")


@pytest.mark.parametrize("terminal", [[True], "no", None])
@pytest.mark.parametrize("initial", [[1.0], [0.7, 0.7], [1.5, -0.5]])
def test_bad_initial_or_terminal_states_are_named(terminal, initial):
    with pytest.raises(UsageError, match=r"`initial`|`terminal`"):
        MDP.from_arrays(GOOD, [0.0, 0.0], 0.9, initial=initial, terminal=terminal)


def test_direct_tables_are_checked():
    mdp = MDP.from_arrays(GOOD, [0.0, 0.0], 0.9)
    fields = {"rewards": mdp.rewards, "first": mdp.first, "next_states": mdp.next_states, "discount": 0.9}
    with pytest.raises(UsageError, match=r"Row \(s=0, a=0\) of `transitions` sums to 1\.4; expected 1 \(less"):
        MDP(**fields, probabilities=np.array([0.5, 0.9, 1.0]), initial=mdp.initial)
    with pytest.raises(UsageError, match="`first`, `next_states` and `probabilities`"):
        MDP(**fields, probabilities=np.array([0.5, 0.5]), initial=mdp.initial)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("next_states", np.array([0.0, 1.7, 1.0]), "`next_states` cannot be used: it is of type float64"),
        ("next_states", np.array([0, 2**40, 1]), "do not fit into int32"),
        ("probabilities", np.array([0.5, 0.5, 1.0 + 0j]), "type complex128"),
        ("probabilities", [[0.5, 0.5, 1.0]], r"`probabilities` has shape \(1, 3\)"),
        ("first", np.zeros(0, int), "`first`, `next_states` and `probabilities`"),
        ("first", 3, r"`first` has shape|`first`, `next_states`"),
        ("rewards", ["a", "b"], "`rewards` cannot be used"),
        ("rewards", [0.0, 0.0], r"`rewards` has shape \(2,\)"),
        ("initial", ["a", "b"], "`initial` is of type"),
    ],
)
def test_direct_table_of_another_kind_is_named(name, value, message):
    mdp = MDP.from_arrays(GOOD, [0.0, 0.0], 0.9)
    tables = {field: getattr(mdp, field) for field in ("rewards", "first", "next_states", "probabilities", "initial")}
    with pytest.raises(UsageError, match=message):
        MDP(**{**tables, name: value}, discount=0.9)


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([(1.0, 0, 0.0, False), (0.5, 0, 9.0, True), (-0.5, 0, 0.0, True)], "has the probability -0.5"),
        ([(1.0, 0.7, 0.0, False)], "cannot be read"),
        ([(1.0, 0, 0.0)], "cannot be read"),
        (None, "cannot be read"),
        ([("p", 0, 0.0, False)], "cannot be read"),
    ],
)
def test_outcome_of_another_kind_is_named_with_its_row(outcomes, message):
    with pytest.raises(UsageError, match=rf"Row \(s=0, a=0\) of `transitions` {message}"):
        MDP.from_function(1, 1, lambda s, a: outcomes, 0.9)


def test_states_behind_actions_that_are_not_available_are_not_reached():
    table = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    mdp = MDP.from_arrays(table, [[1.0, -np.inf], [1.0, 1.0]], 0.9, initial=[1.0, 0.0])
    np.testing.assert_array_equal(mdp.reachable, [True, False])
    np.testing.assert_array_equal(mdp.absorbing, [True, True])


@pytest.mark.parametrize("probability", [np.inf, 1e300, 1.5])
def test_impossible_probability_is_named_even_where_the_action_is_not_available(probability):
    """Times a value it becomes infinite, and minus infinity plus that is no number."""
    with pytest.raises(UsageError, match=r"Row \(s=0, a=1\).* has the probability"):
        MDP(np.array([[1.0, -np.inf]]), np.arange(3), np.zeros(2, int), np.array([1.0, probability]), 0.9, None)


@pytest.mark.parametrize(("name", "value"), [("horizon", 2.7), ("horizon", 0), ("discount", True), ("discount", "0.9")])
def test_number_of_another_kind_in_a_file_is_not_rounded_to_one(name, value, tmp_path):
    MDP.from_gymnasium("FrozenLake-v1").save(tmp_path / "mdp.npz")
    with np.load(tmp_path / "mdp.npz") as file:
        fields = dict(file)
    np.savez(tmp_path / "mdp.npz", **{**fields, name: value})
    with pytest.raises(UsageError, match=f"{name} = "):
        MDP.load(tmp_path / "mdp.npz")
