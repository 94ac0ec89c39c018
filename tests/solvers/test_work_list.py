"""The work list finds what sweeps over all states find, on mazes and on any process without chance."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers import (
    choose_method,
    modified_policy_iteration,
    policy_iteration,
    value_iteration,
    work_list,
)

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def maze(size: int, seed: int, discount: float, step: float = -1.0, goal: float = 0.0) -> MDP:
    """A square with 30 % of walls, in which moves against them change nothing; the last cell ends."""
    walls = np.random.default_rng(seed).random((size, size)) < 0.3
    walls[-1, -1] = False
    cells = np.arange(size * size).reshape(size, size)
    successors = np.zeros((size * size, 4), int)
    for action, (down, right) in enumerate(MOVES):
        row = np.clip(np.arange(size) + down, 0, size - 1)[:, None]
        column = np.clip(np.arange(size) + right, 0, size - 1)[None, :]
        target = cells[row, column]
        successors[:, action] = np.where(walls[row, column] | walls, cells, target).ravel()
    rewards = np.full((size * size, 4), step)
    last = size * size - 1
    rewards[successors == last] = step + goal
    return MDP.from_arrays(successors, rewards, discount, terminal=np.arange(size * size) == last)


def steps_to_the_end(mdp: MDP) -> np.ndarray:
    """Breadth-first search backward from the last state."""
    sources = np.repeat(np.arange(mdp.rewards.size), np.diff(mdp.first)) // mdp.n_actions
    entering = np.flatnonzero((np.diff(mdp.first) == 0).reshape(mdp.rewards.shape).any(axis=1))[:-1]
    steps = np.full(mdp.n_states, np.inf)
    steps[-1], steps[entering] = 0, 1
    queue = deque(entering)
    while queue:
        cell = queue.popleft()
        for other in np.unique(sources[mdp.next_states == cell]):
            if steps[other] == np.inf:
                steps[other] = steps[cell] + 1
                queue.append(other)
    return steps


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("discount", [0.5, 0.99, 0.9999])
def test_values_of_a_maze_are_those_of_breadth_first_distances_and_of_walking_for_ever(seed, discount):
    mdp = maze(20, seed, discount)
    steps = steps_to_the_end(mdp)
    assert np.isinf(steps).any()  # walls, and cells behind them
    solution = work_list(mdp).unwrap()
    truth = -(1 - discount**steps) / (1 - discount)
    np.testing.assert_allclose(solution.value, truth, rtol=0, atol=1e-6)
    assert (solution.lower <= truth + 1e-11).all()
    assert (truth <= solution.upper + 1e-11).all()


@pytest.mark.parametrize(("step", "goal"), [(0.0, 1.0), (-1.0, 5.0), (1.0, 0.0), (0.5, 300.0)])
def test_mazes_with_a_prize_or_with_pay_for_every_step_agree_with_value_iteration(step, goal):
    mdp = maze(15, 0, 0.95, step, goal)
    by_list, by_sweeps = work_list(mdp, tol=1e-9).unwrap(), value_iteration(mdp, tol=1e-9).unwrap()
    np.testing.assert_allclose(by_list.value, by_sweeps.value, rtol=0, atol=1e-9)


def random_process(seed: int, n_states: int, n_actions: int, discount: float) -> MDP:
    generator = np.random.default_rng(seed)
    successors = generator.integers(-1 if seed % 2 else 0, n_states, (n_states, n_actions))
    rewards = generator.normal(size=(n_states, n_actions)) + generator.integers(-2, 3)
    rewards[:, 1:][generator.random((n_states, n_actions - 1)) < 0.2] = -np.inf
    return MDP.from_arrays(successors, rewards, discount)


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        random_process,
        st.integers(0, 2**32 - 1),
        st.integers(1, 12),
        st.integers(1, 4),
        st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    )
)
def test_any_process_without_chance_is_solved_as_by_policy_iteration(mdp):
    by_list, exact = work_list(mdp, tol=1e-8).unwrap(), policy_iteration(mdp, tol=1e-9).unwrap()
    np.testing.assert_allclose(by_list.value, exact.value, rtol=0, atol=2e-8)
    assert (by_list.lower <= exact.upper).all()
    assert (exact.lower <= by_list.upper).all()


@pytest.mark.parametrize("reward", [-1.0, 1.0])
def test_corridor_is_done_in_one_round_where_sweeps_need_its_length(reward):
    corridor = MDP.from_arrays(np.arange(2_000)[:, None] - 1, [reward] * 2_000, 0.999)
    assert work_list(corridor).unwrap().iterations == 1
    assert value_iteration(corridor).unwrap().iterations >= 1_999


def test_pay_for_staying_is_summed_at_once():
    """1 is paid in state 1 for ever; step by step, 1e-9 of 10,000 takes 230,000 backups, more than a round has."""
    solution = work_list(MDP.from_arrays([[1], [1]], [0.0, 1.0], 0.9999)).unwrap()
    assert solution.iterations == 1
    np.testing.assert_allclose(solution.value, [9_999.0, 10_000.0], rtol=0, atol=1e-6)


def test_circle_that_pays_is_solved_in_many_rounds_with_bounds_that_hold_at_each():
    size, discount = 50_000, 0.9
    rewards = np.ones(size)
    rewards[0] = 1.5
    circle = MDP.from_arrays((np.arange(size)[:, None] + 1) % size, rewards, discount)
    truth = 10.0 + 0.5 * discount ** np.minimum((size - np.arange(size)) % size, 1_000)  # 1e-46 and less is nothing
    for rounds in range(3):
        solution = work_list(circle, max_iterations=rounds, tol=1e-9)
        assert (solution.lower <= truth + 1e-12).all()
        assert (truth <= solution.upper + 1e-12).all()
    assert solution.status is Status.CONVERGED
    assert work_list(circle, max_iterations=0, tol=1e-9).status is Status.MAX_ITERATIONS


def test_tolerance_below_rounding_is_a_status():
    assert work_list(maze(10, 0, 0.999), tol=1e-14).status is Status.STAGNATED


def test_chance_is_refused_with_its_place():
    mdp = MDP.from_arrays(np.array([[[0.5, 0.5]], [[0.0, 1.0]]]), [1.0, 1.0], 0.9)
    with pytest.raises(UsageError, match=r"s=0, a=0.*probabilities 0\.5, 0\.5.*modified_policy_iteration"):
        work_list(mdp)
    with pytest.raises(UsageError, match="Take undiscounted"):
        work_list(maze(5, 0, 1.0))


def test_it_is_chosen_for_large_mazes_only():
    assert choose_method(maze(120, 0, 0.99))[0] == "work-list"
    assert choose_method(maze(10, 0, 0.99))[0] == "policy-iteration"
    slippery = MDP.from_arrays(np.full((200, 2, 200), 1 / 200), np.ones((200, 2)), 0.99)
    assert choose_method(slippery)[0] == "modified-policy-iteration"
    assert modified_policy_iteration(slippery).converged
