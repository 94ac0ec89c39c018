"""A grid's process interpolates the problem that it came from."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import scipy.linalg
import torch

import hamiltonian_rl
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem, Grid
from hamiltonian_rl.solvers import backward_induction, solve


class Regulator(ControlProblem):
    """A stable scalar system with a quadratic cost: its value is a parabola, by Riccati's equation."""

    state_space = gym.spaces.Box(np.array([-1.0]), np.array([1.0]), dtype=np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)
    discount = 0.9

    def dynamics(self, state, action, step):
        return 0.9 * state + 0.3 * action

    def reward(self, state, action, step):
        return -(state[..., 0] ** 2 + action[..., 0] ** 2)


def riccati() -> float:
    """Return P of V(s) = -P s²; the discount is taken into A and B."""
    root = np.sqrt(0.9)
    (solution,) = scipy.linalg.solve_discrete_are([[0.9 * root]], [[0.3 * root]], [[1.0]], [[1.0]]).ravel()
    return float(solution)


def test_value_approaches_the_closed_form_with_the_square_of_the_spacing():
    errors = []
    for points in (41, 81, 161):
        grid = Grid(Regulator(), (points,), n_actions=8 * points + 1)  # so fine that the actions' error is small
        solution = solve(grid.mdp, tol=1e-9).unwrap()
        inside = np.abs(grid.states[:, 0]) < 0.8
        errors.append(np.abs(solution.value + riccati() * grid.states[:, 0] ** 2)[inside].max())
    assert errors[2] < 1e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 1.8 < np.log2(coarse / fine) < 2.2


class Aimed(Regulator):
    def terminal_constraints(self, state):
        return state


def test_terminal_constraints_are_refused_not_ignored():
    with pytest.raises(UsageError, match="1 terminal constraints"):
        Grid(Aimed(), (5,), 3)


def test_rows_are_distributions_and_interpolation_is_exact_for_multilinear_functions():
    grid = Grid(hamiltonian_rl.problem("MountainCar-v0"), (13, 17))
    generator = np.random.default_rng(0)
    states = generator.uniform(grid.problem.state_space.low, grid.problem.state_space.high, (200, 2))
    points, weights = grid.weights(states)
    assert points.shape == weights.shape == (200, 4)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=0, atol=1e-14)
    np.testing.assert_allclose((grid.states[points] * weights[..., None]).sum(axis=1), states, rtol=0, atol=1e-14)

    def bilinear(s):
        return 2.0 + s[..., 0] - 3.0 * s[..., 1] + 5.0 * s[..., 0] * s[..., 1]

    np.testing.assert_allclose(grid.interpolate(bilinear(grid.states), states), bilinear(states), rtol=0, atol=1e-13)


def test_angles_wrap_and_other_coordinates_stop_at_the_border():
    grid = Grid(hamiltonian_rl.problem("Pendulum-v1"), (12, 9), n_actions=3)
    value = np.cos(grid.states[:, 0]) + grid.states[:, 1]
    around = np.array([[2.9, 1.0], [2.9 + 2 * np.pi, 1.0], [2.9 - 4 * np.pi, 1.0]])
    np.testing.assert_allclose(grid.interpolate(value, around), grid.interpolate(value, around)[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        grid.interpolate(value, np.array([[0.0, 12.0]])), grid.interpolate(value, np.array([[0.0, 8.0]])), atol=1e-12
    )


def test_greedy_policy_of_the_grid_drives_mountain_car_at_least_as_well_as_published_agents():
    """The truth beside the learned -100.8 of rl-zoo3's DQN: the mean return of 100 episodes, in the environment."""
    problem = hamiltonian_rl.problem("MountainCar-v0")
    grid = Grid(problem, (121, 121))
    solution = backward_induction(grid.mdp).unwrap()
    env, returns = gym.make("MountainCar-v0"), []
    for seed in range(100):
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = grid.greedy_actions(solution.value, np.array(env.unwrapped.state, float))
            _, reward, terminated, truncated, _ = env.step(int(action))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    assert np.mean(returns) > -100.8


def test_finished_episodes_earn_nothing_more():
    grid = Grid(hamiltonian_rl.problem("MountainCar-v0"), (31, 31))
    ended = grid.problem.terminated(torch.as_tensor(grid.states)).numpy()
    assert ended.any()
    assert (grid.mdp.rewards[ended] == 0).all()
    assert (grid.mdp.row_sums[ended] == 0).all()
    assert (grid.mdp.rewards[~ended] == -1).all()


class Endless(Regulator):
    state_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)


class Broken(Regulator):
    def reward(self, state, action, step):
        return state[..., 0] / 0.0


class Rewarded(Regulator):
    def terminal_reward(self, state):
        return state[..., 0]


class Flat(Regulator):
    def reward(self, state, action, step):
        return torch.tensor(1.0)


class Wrapped(Regulator):
    periodic = (True, False)


class Single(Regulator):
    state_space = gym.spaces.Box(0.1, 0.7, (1,))  # single precision, Gymnasium's own default


class Imaginary(Regulator):
    def dynamics(self, state, action, step):
        return state + 1j


class Silent(Regulator):
    def dynamics(self, state, action, step):
        return None


class Failing(Regulator):
    def reward(self, state, action, step):
        return 1 / 0


class Halting(Regulator):
    horizon = 1.5


class Gaining(Regulator):
    discount = -0.5


class Strong(Regulator):
    action_space = gym.spaces.Box(-1.0, 1.0, (12,))


class Pushed(Regulator):
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,))


class Many(Regulator):
    action_space = gym.spaces.MultiDiscrete([2, 2])


def test_single_precision_bounds_leave_rows_that_sum_to_one():
    np.testing.assert_allclose(Grid(Single(), (11,)).mdp.row_sums, 1.0, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("problem", "points", "n_actions", "message"),
    [
        (
            Flat(),
            (5,),
            3,
            r"reward returned torch.float32 of shape \(\) for a batch of 15; expected a real tensor of .*15,",
        ),
        (Wrapped(), (5,), 3, "expected 1 entries, one a coordinate"),
        (Imaginary(), (5,), 3, "dynamics returned torch.complex128 .* expected a real tensor"),
        (Silent(), (5,), 3, "dynamics returned NoneType"),
        (Failing(), (5,), 3, "reward fails for a batch .*division by zero"),
        (Halting(), (5,), 3, r"horizon = 1\.5; expected a whole number"),
        (Gaining(), (5,), 3, r"discount = -0\.5; expected a number from 0 to 1"),
        (Strong(), (5,), 11, "more than 1,000,000 actions"),
        ("Pendulum-v1", (5,), 3, "The problem is of class str; expected a ControlProblem"),
        (Pushed(), (5,), 3, "The action space .* has no bounds"),
        (Many(), (5,), 3, "The action space is MultiDiscrete"),
        (Regulator(), 5, 3, "points = 5; expected 1 numbers"),
        (Regulator(), (5.5,), 3, "expected 1 numbers"),
        (Regulator(), (5,), 2.5, r"n_actions = 2\.5"),
        (Regulator(), (5, 5), 3, "expected 1 numbers of at least 2"),
        (Regulator(), (1,), 3, "expected 1 numbers of at least 2"),
        (Regulator(), (2**40,), 3, "more than 2,147,483,647 states"),
        (Regulator(), (5,), 1, "n_actions = 1"),
        (Endless(), (5,), 3, "has no bounds"),
        (Broken(), (5,), 3, r"not finite at state \[-1\.0\] and action \[-1\.0\]"),
    ],
)
def test_bad_grid_is_one_clear_sentence(problem, points, n_actions, message):
    with pytest.raises(UsageError, match=message):
        _ = Grid(problem, points, n_actions).mdp
