"""ControlEnv plays a problem as the problem says, alone and many at once."""

import math
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import hamiltonian_rl
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.control_vector_env import ControlVectorEnv
from hamiltonian_rl.envs.making import is_restorable, make_env, make_vector_env
from hamiltonian_rl.envs.stepping import Stepper
from hamiltonian_rl.errors import EnvironmentContractError, UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS, register_envs

ALL = sorted(PROBLEMS)
OWN = [env_id for env_id in ALL if env_id.startswith("hrl/")]


class Countdown(ControlProblem):
    """The state counts up by the action; the reward is worth as much as the step's number; ends at 10 or more."""

    state_space = gym.spaces.Box(-20.0, 20.0, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 4.0, (1,), np.float64)
    horizon = 6
    start, spread = (0.0,), (2.0,)

    def dynamics(self, state, action, step):
        return state + action

    def reward(self, state, action, step):
        return step * action[..., 0]

    def terminal_reward(self, state):
        return 100.0 * state[..., 0]

    def terminated(self, state):
        return state[..., 0] >= 10.0

    def constraints(self, state, action, step):
        return torch.stack([state[..., 0] - 5.0, action[..., 0] - 3.0], -1)


class Broken(Countdown):
    """Returns what it is told from the function it is told."""

    def __init__(self, name, value):
        setattr(self, name, lambda *arguments: value)


# Registration


@pytest.mark.parametrize("order", ["hamiltonian_rl, gymnasium", "gymnasium, hamiltonian_rl"])
def test_importing_both_in_either_order_registers_the_environments(order):
    code = f"import {order}\nassert gymnasium.make('hrl/DoubleIntegrator-v0').reset(seed=0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_registering_twice_changes_nothing():
    before = dict(gym.registry)
    register_envs()
    assert dict(gym.registry) == before


@pytest.mark.parametrize("env_id", OWN)
def test_the_registered_limit_is_the_problems_horizon(env_id):
    horizon = hamiltonian_rl.problem(env_id).horizon
    assert horizon == gym.spec(env_id).max_episode_steps or (horizon is None and env_id == "hrl/BrockMirman-v0")
    env, steps = gym.make(env_id), 0
    env.reset(seed=0)
    over = False
    while not over:
        _, _, terminated, over, _ = env.step(env.action_space.sample())
        steps += 1
        assert not terminated
    assert steps == env.spec.max_episode_steps


@pytest.mark.parametrize("env_id", OWN)
def test_registered_environments_pass_gymnasiums_and_sb3s_checks(env_id):
    with warnings.catch_warnings():  # both recommend bounds of ±1
        warnings.simplefilter("ignore")
        check_env(gym.make(env_id).unwrapped)
        sb3_check_env(gym.make(env_id), skip_render_check=False)
    for n_envs in (1, 3):
        assert is_restorable(env_id, n_envs)


@pytest.mark.parametrize("env_id", [env_id for env_id in ALL if env_id not in OWN])
def test_the_problems_behind_gymnasiums_environments_pass_the_checks_too(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(ControlEnv(env_id), skip_render_check=True)
        sb3_check_env(ControlEnv(env_id))


# Episodes


def test_an_episode_is_the_one_computed_by_hand():
    env = ControlEnv(Countdown(), penalty=10.0)
    env.reset(options={"state": [1.0]})
    # Step 3 starts at 5.5, half a unit over the first constraint; the action of step 4 is clipped to 4.
    expected = [
        (1.5, 2.5, 0.0, False, False, 0.0),
        (1.5, 4.0, 1.5, False, False, 0.0),
        (1.5, 5.5, 3.0, False, False, 0.0),
        (-0.5, 5.0, -1.5 - 5.0, False, False, 0.5),
        (7.0, 9.0, 16.0 - 10.0, False, False, 1.0),
        (-1.0, 8.0, -5.0 - 40.0 + 800.0, False, True, 4.0),
    ]
    for action, state, reward, terminated, truncated, violation in expected:
        observation, *rest, info = env.step(np.array([action]))
        assert observation.tolist() == [state]
        assert rest == [reward, terminated, truncated]
        assert info == {"constraint_violation": violation}


def test_termination_pays_the_terminal_reward_and_wins_over_truncation():
    env = ControlEnv(Countdown())
    env.reset(options={"state": [7.0]})
    assert env.step(np.array([3.0]))[1:4] == (1000.0 - 200.0, True, False)
    env.reset(options={"state": [3.0]})
    for action in (0.0, 0.0, 0.0, 0.0, 2.0):
        assert env.step(np.array([action]))[2:4] == (False, False)
    # The sixth step reaches both 10 and the horizon, from a state within the wall and with too large an action.
    env.unwrapped.state[0] = 6.0
    _, reward, terminated, truncated, _ = env.step(np.array([4.0]))
    assert (reward, terminated, truncated) == (5 * 4.0 + 1000.0 - 100.0 * 2.0, True, False)


def test_terminal_constraints_cost_their_distance():
    env = ControlEnv("hrl/DoubleIntegrator-v0", penalty=7.0)
    env.reset(options={"state": [-1.0, 0.25]})
    total = sum(env.step(np.array([0.0]))[1] for _ in range(50))
    # After a second: at -0.75 with a velocity of 0.25.
    assert total == pytest.approx(-7.0, rel=1e-12)


def test_the_default_penalty_is_exact_for_the_least_energy():
    """Falling short of the end by a little never pays: scale the optimal forces, whose energy is known."""
    env, n = ControlEnv("hrl/DoubleIntegrator-v0"), 50
    slope = -12.0 / (1.0 - 1.0 / n**2)
    forces = slope * ((np.arange(n) + 0.5) / n - 0.5)
    returns = []
    for scale in (0.9, 0.99, 1.0, 1.01):
        env.reset(options={"state": [-1.0, 0.0]})
        returns.append(sum(env.step(np.array([scale * force]))[1] for force in forces))
    # Actions are not rounded, so that the best one reaches the end up to rounding.
    assert returns[2] == pytest.approx(-6.0 / (1 - 1 / n**2), abs=1e-10)
    assert max(returns) == returns[2]


def test_a_drawn_start_is_the_seeds_and_lies_within_the_spread():
    env = ControlEnv(Countdown())
    first = env.reset(seed=5)[0]
    assert abs(first[0]) <= 2.0
    assert env.reset()[0] != first
    assert env.reset(seed=5)[0] == first


def test_actions_without_bounds_get_some_and_one_sided_ones_keep_theirs():
    assert ControlEnv("hrl/LinearQuadratic-v0", action_limit=3.0).action_space == gym.spaces.Box(-3.0, 3.0, (1,))
    problem = Countdown()
    problem.action_space = gym.spaces.Box(np.array([50.0, -np.inf]), np.array([np.inf, 1.0]), dtype=np.float64)
    space = ControlEnv(problem, action_limit=20.0).action_space
    assert space.low.tolist() == [50.0, -39.0]
    assert space.high.tolist() == [90.0, 1.0]


def test_bounds_are_the_problems_whichever_way_single_precision_rounds_them():
    problem = Countdown()
    problem.action_space = gym.spaces.Box(-0.3, 0.7, (1,), np.float64)
    env = ControlEnv(problem)
    assert float(env.action_space.low[0]) < -0.3
    assert float(env.action_space.high[0]) < 0.7
    for action, bound in ((env.action_space.low, -0.3), (np.array([0.7]), 0.7)):
        env.reset(options={"state": [0.0]})
        env.step(action)
        assert env.state.tolist() == [bound]


# Many at once


def test_the_vector_is_single_environments_side_by_side():
    """Episodes end at different steps, so that steps, on which the reward depends, differ between the copies."""
    n = 7
    vector = ControlVectorEnv(Countdown(), num_envs=n)
    observations, _ = vector.reset(seed=0)
    singles = [ControlEnv(Countdown()) for _ in range(n)]
    for index, single in enumerate(singles):
        single.reset(options={"state": observations[index].astype(float)})
        vector.states[index] = observations[index]
    generator = np.random.default_rng(0)
    ends = {"terminated": 0, "truncated": 0}
    for _ in range(40):
        actions = generator.uniform(-1.0, 4.0, (n, 1))
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        for index, single in enumerate(singles):
            after, reward, *flags, info = single.step(actions[index])
            assert [terminated[index], truncated[index]] == flags
            assert rewards[index] == reward
            assert infos["constraint_violation"][index] == info["constraint_violation"]
            if any(flags):
                assert infos["_final_obs"][index]
                np.testing.assert_array_equal(infos["final_obs"][index], after)
                vector.states[index] = observations[index]
                single.reset(options={"state": observations[index].astype(float)})
            else:
                np.testing.assert_array_equal(observations[index], after)
                assert not infos.get("_final_obs", np.zeros(n, bool))[index]
        ends["terminated"] += int(terminated.sum())
        ends["truncated"] += int(truncated.sum())
    assert min(ends.values()) > 5


def test_the_native_vector_is_what_training_takes_and_steps_like_any_other():
    vector = make_vector_env("hrl/CakeEating-v0", 4)
    assert isinstance(vector, ControlVectorEnv)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    stepper = Stepper(vector)
    stepper.reset(seed=0)
    for step in range(1, 21):
        transitions = stepper.step(np.full((4, 1), 0.5))
        assert transitions.valid.all()
        assert transitions.truncated.all() == (step % 10 == 0)
        np.testing.assert_allclose(transitions.next_observations, 0.5 ** ((step - 1) % 10 + 1), rtol=1e-6)
        np.testing.assert_allclose(stepper.observations, 0.5 ** (step % 10), rtol=1e-6)


def test_an_earlier_limit_truncates_without_the_terminal_reward():
    vector = gym.make_vec("hrl/Zermelo-v0", num_envs=2, max_episode_steps=3)
    vector.reset(options={"state": [1.0, 0.0]})
    for step in (1, 2, 3):
        _, rewards, _, truncated, _ = vector.step(np.zeros((2, 1)))
        assert rewards.tolist() == [0.0, 0.0]
        assert truncated.all() == (step == 3)
    assert make_vector_env("hrl/BrockMirman-v0", 2).max_episode_steps == 100  # its problem has no horizon


def test_each_copy_can_be_given_its_own_start():
    vector = ControlVectorEnv("hrl/Zermelo-v0", num_envs=2)
    observations, _ = vector.reset(options={"state": [[1.0, 2.0], [3.0, 4.0]]})
    assert observations.tolist() == [[1.0, 2.0], [3.0, 4.0]]


# Pictures


@pytest.mark.parametrize("env_id", ["hrl/CartPoleSwingUp-v0", "hrl/CakeEating-v0", "hrl/LinearQuadratic-v0"])
def test_the_picture_shows_the_path_so_far(env_id):
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = [env.render()]
    env.action_space.seed(0)
    for _ in range(8):
        env.step(env.action_space.sample())
        pictures.append(env.render())
    for picture in pictures:
        assert picture.shape == (480, 640, 3)
        assert picture.dtype == np.uint8
    blue = [int(((picture[..., 2] > 150) & (picture[..., 0] < 100)).sum()) for picture in pictures]
    # The line is blue and grows; the mark of the start, blue too, is covered at first.
    assert blue[0] < blue[4] < blue[8]


def test_without_a_render_mode_there_is_no_picture():
    env = ControlEnv("hrl/Zermelo-v0")
    env.reset()
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None


# What is wrong is named


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ControlEnv("hrl/Quadrotr-v0"), 'Did you mean "hrl/Quadrotor-v0"'),
        (lambda: ControlEnv("hrl/Quadrotor-v0", maas=1.0), 'Did you mean "mass"'),
        (lambda: ControlEnv("hrl/Quadrotor-v0", horizon=7), r"problem\(\"hrl/Quadrotor-v0\", horizon=7\)"),
        (lambda: make_env("hrl/Quadrotor-v0", settings={"horizon": 7}), "The horizon of"),
        (lambda: ControlEnv(Countdown(), mass=1.0), "mass: only a problem given by its id"),
        (lambda: ControlEnv(3), "of a int; expected a ControlProblem"),
        (lambda: ControlEnv(Countdown(), penalty=math.nan), "penalty = nan"),
        (lambda: ControlEnv(Countdown(), action_limit=math.inf), "action_limit = inf"),
        (lambda: ControlEnv(Countdown(), render_mode="humn"), "render_mode is 'humn'"),
        (lambda: ControlEnv(Broken("horizon", 0)), "horizon = "),
        (lambda: ControlEnv(Countdown()).reset(options={"stat": [0.0]}), 'no option "stat". Did you mean "state"'),
        (lambda: ControlEnv(Countdown()).reset(options={"state": [0.0, 1.0]}), "finite numbers of shape"),
        (lambda: ControlEnv(Countdown()).reset(options={"state": [math.nan]}), "finite numbers of shape"),
        (lambda: ControlEnv(Countdown()).reset(options={"state": "here"}), "finite numbers of shape"),
    ],
)
def test_wrong_use_is_a_sentence(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("action", [np.array([np.nan]), np.zeros(2), "left", np.float64(1.0), None])
def test_an_action_that_is_none_is_refused(action):
    env = ControlEnv(Countdown())
    env.reset()
    with pytest.raises(UsageError, match=r"The action is .*; expected numbers"):
        env.step(action)


@pytest.mark.parametrize("action", [-1, 3, 0.5, np.nan])
def test_a_discrete_action_out_of_range_is_refused(action):
    env = ControlEnv("MountainCar-v0")
    env.reset()
    with pytest.raises(UsageError, match=r"expected one of Discrete\(3\)"):
        env.step(action)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "dynamics",
            torch.tensor([[math.nan]]).double(),
            r"from the state \[1\.0\] by the action \[2\.0\] at step 0 .*nan",
        ),
        ("reward", torch.tensor([math.inf]).double(), r"to the reward inf; expected finite"),
        ("terminal_reward", torch.tensor([math.nan]).double(), "to the reward nan"),
        ("dynamics", torch.zeros(1, 2), r"dynamics\(\) returned shape \(1, 2\); expected a tensor of shape \(1, 1\)"),
        ("reward", torch.zeros(()), r"reward\(\) returned shape \(\); expected a tensor of shape \(1,\)"),
        ("reward", 3.0, r"reward\(\) returned float"),
        ("terminated", torch.zeros(2), r"terminated\(\) returned shape \(2,\)"),
    ],
)
def test_a_problem_that_returns_what_is_none_is_blamed(name, value, message):
    problem = Broken(name, value)
    problem.horizon = 1
    env = ControlEnv(problem)
    env.reset(options={"state": [1.0]})
    with pytest.raises(EnvironmentContractError, match=message):
        env.step(np.array([2.0]))


def test_stepping_before_a_reset_or_after_an_end_needs_a_reset():
    env = ControlEnv("hrl/CakeEating-v0")
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.array([0.5]))
    env.reset()
    for _ in range(10):
        env.step(np.array([0.5]))
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.array([0.5]))


def test_training_on_one_of_our_environments_runs_and_lists_it(hrl, tmp_path):
    done = hrl("train", "--env", "hrl/DoubleIntegrator-v0", "--steps", 120, "--run-dir", tmp_path)
    assert done.code == 0, done.err
    assert "sb3:sac" in done.out
    assert "hrl/DoubleIntegrator-v0" in hrl("list", "envs").out


@pytest.mark.parametrize("wrong", [{"start": (0.0, 1.0)}, {"spread": (1.0, 1.0)}, {"start": (0.0, 1.0), "spread": ()}])
def test_a_start_of_another_length_than_the_state_is_refused(wrong):
    problem = Countdown()
    for name, value in wrong.items():
        setattr(problem, name, value)
    with pytest.raises(UsageError, match=r"start = .* expected 1 numbers each, one a coordinate of the state"):
        ControlEnv(problem).reset(seed=0)
