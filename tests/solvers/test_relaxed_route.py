"""Problems without slopes: relaxed, rounded, and followed in Gymnasium's own environments."""

import gymnasium as gym
import numpy as np
import pytest

import hamiltonian_rl
from hamiltonian_rl.envs.replay import replay
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import Grid
from hamiltonian_rl.solvers import solve_grid
from hamiltonian_rl.solvers.relaxed_route import solve_relaxed
from hamiltonian_rl.trajectory import rollout


def first_states(env_id, count, seed=0):
    env = gym.make(env_id)
    found = []
    for index in range(count):
        env.reset(seed=seed + index)
        found.append(np.array(env.unwrapped.state, dtype=float))
    return np.array(found)


def test_cart_pole_stands_for_500_steps_from_100_resets_of_the_real_environment():
    states = first_states("CartPole-v1", 100)
    found = solve_relaxed(hamiltonian_rl.problem("CartPole-v1"), states)
    earned = [replay("CartPole-v1", policy, state)[0] for policy, state in zip(found.policies, states, strict=True)]
    assert earned == [500.0] * 100
    assert (found.followed.value == 500.0).all()


@pytest.mark.parametrize(
    ("env_id", "count", "seed", "least"),
    [
        # Our tuned DQN, mean of 100 episodes: -98 to -100, and -70 to -76.
        ("MountainCar-v0", 6, 0, -105.0),
        ("Acrobot-v1", 2, 0, -65.0),
    ],
)
def test_minimum_time_rounded_is_as_short_in_the_real_environment(env_id, count, seed, least):
    states = first_states(env_id, count, seed)
    found = solve_relaxed(hamiltonian_rl.problem(env_id), states)
    for policy, state, value in zip(found.policies, states, found.followed.value, strict=True):
        earned, steps = replay(env_id, policy, state)
        assert earned == value  # the count of steps: no rounding
        assert steps - earned in (0, 2 * steps, 2 * steps - 1)  # -1 a step, Acrobot's last one free
        assert earned >= least


def test_rounded_mountain_car_is_as_good_as_the_grids_greedy_path():
    car = hamiltonian_rl.problem("MountainCar-v0")
    states = car.initial_states(5, np.random.default_rng(3))
    grid = solve_grid(Grid(car, (101, 101)))
    # A path of the grid's greedy policy is feasible and so is no better than the optimum, which is within a step.
    assert (solve_relaxed(car, states).followed.value >= grid.rollout(states).returns - 1.0).all()


def test_sum_up_and_nearest_rounding_take_actions_that_exist():
    acrobot = hamiltonian_rl.problem("MountainCar-v0")
    found = solve_relaxed(acrobot, np.array([[-0.5, 0.0]]))
    assert set(np.unique(found.followed.actions)) <= {0.0, 1.0, 2.0}
    again = rollout(acrobot, np.array([[-0.5, 0.0]]), found.followed.actions)
    assert again.value[0] == found.followed.value[0]


def test_the_continuous_mountain_car_earns_in_single_precision_what_was_reported():
    env_id = "MountainCarContinuous-v0"
    states = first_states(env_id, 3)
    found = solve_relaxed(hamiltonian_rl.problem(env_id), states)
    assert [path.status[0].name for path in found.paths] == ["LOCAL_OPTIMUM"] * 3
    for policy, state, value in zip(found.policies, states, found.followed.value, strict=True):
        earned, _ = replay(env_id, policy, state)
        # The environment rounds its state to 6e-8 in each of 999 steps, and the optimal feedback follows.
        assert earned == pytest.approx(value, abs=1e-3)
        assert earned > 99.5  # the threshold of the environment is 90; paths that touch the wall earn less


@pytest.mark.slow
def test_a_car_that_cannot_help_the_wall_reaches_the_flag_and_claims_no_optimum():
    found = solve_relaxed(hamiltonian_rl.problem("MountainCarContinuous-v0"), np.array([[-1.1, -0.05]]))
    assert found.reached[0]
    assert found.followed.value[0] > 99.5
    assert not found.paths[0].converged[0]


def test_a_problem_that_states_no_relaxation_has_none():
    assert solve_relaxed(hamiltonian_rl.problem("Pendulum-v1"), np.zeros((1, 2))) is None


def test_actions_of_one_length_are_no_start_for_a_path_of_least_time():
    with pytest.raises(UsageError, match="several horizons: expected policies"):
        solve_relaxed(hamiltonian_rl.problem("MountainCar-v0"), np.array([[-0.5, 0.0]]), [np.zeros((200, 1))])
