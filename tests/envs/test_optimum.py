"""The optimal return of an episode: held against closed forms, plain recursions over tables, and what can be earned."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch

import hamiltonian_rl
from hamiltonian_rl.envs.behind import problem_behind
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.making import make_env
from hamiltonian_rl.envs.model_check import check_model
from hamiltonian_rl.envs.optimum import optimum_of
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS

HANGING = np.array([[-1.0, 0.0, 0.0]], np.float32)


def mean_optimum(env_id, **settings):
    """Mean over the environment's own distribution of first states."""
    initial = make_env(env_id, settings=settings).unwrapped.initial_state_distrib
    found = optimum_of(env_id, settings).returns(np.flatnonzero(initial))
    assert found.certificate == "exact"
    return initial[initial > 0] @ found.value


def by_plain_recursion(table, steps):
    """V_k(s) = max_a Σ p (r + V_{k+1}(s') unless over), in plain Python."""
    value = dict.fromkeys(table, 0.0)
    for _ in range(steps):
        value = {
            state: max(
                sum(p * (r + (0.0 if over else value[after])) for p, after, r, over in outcomes)
                for outcomes in actions.values()
            )
            for state, actions in table.items()
        }
    return value


@pytest.mark.parametrize(
    ("env_id", "settings", "expected", "digits"),
    [
        ("FrozenLake-v1", {}, 0.744190, 6),
        ("FrozenLake-v1", {"map_name": "8x8"}, 0.640719, 6),
        ("CliffWalking-v1", {}, -13.0, 9),
        ("Taxi-v4", {}, 7.93, 9),  # the mean over all 300 first states
    ],
)
def test_tables_give_the_known_optimal_returns(env_id, settings, expected, digits):
    assert mean_optimum(env_id, **settings) == pytest.approx(expected, abs=0.6 * 10.0**-digits)


@pytest.mark.parametrize("steps", [7, 30])
def test_the_limit_of_steps_counts_and_so_do_the_settings(steps):
    settings = {"max_episode_steps": steps, "is_slippery": True}
    truth = by_plain_recursion(gym.make("FrozenLake-v1").unwrapped.P, steps)
    found = optimum_of("FrozenLake-v1", settings).returns(np.arange(16))
    np.testing.assert_allclose(found.value, list(truth.values()), rtol=0, atol=1e-12)  # rounding of sums of ones


def test_an_environment_that_is_given_is_taken_as_it_is():
    env = gym.make("FrozenLake-v1", is_slippery=False)
    assert optimum_of(env).returns(np.array([0, 0])).value.tolist() == [1.0, 1.0]


def test_cart_pole_earns_one_a_step_and_no_more_which_certifies_it():
    env = gym.make("CartPole-v1")
    starts = np.stack([env.reset(seed=seed)[0] for seed in range(4)])
    found = optimum_of("CartPole-v1").returns(starts)
    assert found.value.tolist() == [500.0] * 4
    assert found.error.tolist() == [0.0] * 4
    assert found.certificate == "exact"
    assert optimum_of(gym.make("CartPole-v1", max_episode_steps=40)).returns(starts).value.tolist() == [40.0] * 4


def test_a_pole_that_must_fall_leaves_a_lower_bound_and_says_how_far_below_the_highest_it_is():
    falling = np.array([[0.0, 0.0, 0.2, 3.0], [0.0, 0.0, 0.0, 0.0]])  # the first beyond saving: 12 degrees are 0.209
    found = optimum_of("CartPole-v1").returns(falling)
    assert found.value[0] < 10
    assert found.value[0] + found.error[0] == 500
    assert found.error[1] == 0
    assert found.certificate == "lower bound"


def test_pendulum_from_hanging_earns_what_is_known():
    """-295.3012 is that of issue 4, by two independent routes; a small grid is enough of a start for the costates."""
    optimum = optimum_of("Pendulum-v1", points=21)
    found = optimum.returns(HANGING)
    assert found.value[0] == pytest.approx(-295.3012, abs=1e-3)
    assert found.error[0] > 0
    assert found.certificate == "lower bound"
    upright = optimum.returns(np.array([[1.0, 0.0, 0.0]]))  # at rest: nothing is lost, and no reward is above zero
    assert upright.value[0] == pytest.approx(0.0, abs=1e-9)
    assert upright.certificate == "exact" or upright.error[0] < 1e-9


def test_no_sequence_of_torques_earns_more_than_the_optimum_and_some_earn_nearly_as_much():
    """All 13^4 sequences in Gymnasium's equations, written in NumPy; two neighbours differ by a third of a N m."""
    angle, velocity = np.meshgrid([-3.0, -1.0, 0.5, 2.5], [-1.0, 0.3])
    starts = np.stack([angle.ravel(), velocity.ravel()], -1)
    torques = np.array(np.meshgrid(*[np.linspace(-2.0, 2.0, 13)] * 4)).reshape(4, -1)
    theta, speed, total = (np.repeat(part[:, None], torques.shape[1], 1) for part in (*starts.T, np.zeros(8)))
    for torque in torques:
        wrapped = (theta + np.pi) % (2 * np.pi) - np.pi
        total = total - (wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
        speed = np.clip(speed + (15.0 * np.sin(theta) + 3.0 * torque) * 0.05, -8.0, 8.0)
        theta = theta + speed * 0.05
    observations = np.stack([np.cos(starts[:, 0]), np.sin(starts[:, 0]), starts[:, 1]], -1)
    found = optimum_of("Pendulum-v1", {"max_episode_steps": 4}, points=11).returns(observations)
    assert (found.value >= total.max(1) - 1e-6).all()  # of the path's tolerance
    assert (found.value <= total.max(1) + 0.01).all()


def test_each_start_state_is_solved_once():
    told = []
    optimum = optimum_of("hrl/DoubleIntegrator-v0", announce=told.append)
    starts = np.array([[-1.0, 0.0], [-0.9, 0.1]], np.float32)
    first = optimum.returns(starts)
    count = len(told)
    again = optimum.returns(starts[[1, 0, 1]])
    assert count > 0
    assert len(told) == count
    assert again.value.tolist() == first.value[[1, 0, 1]].tolist()


def test_the_double_integrator_earns_its_closed_form_under_the_limit_of_its_problem():
    """-6 / (1 - 1/N²) / T³ from (-1, 0), by the least-norm solution of two linear equations."""
    for env in ("hrl/DoubleIntegrator-v0", ControlEnv(hamiltonian_rl.problem("hrl/DoubleIntegrator-v0", horizon=10))):
        steps = 50 if isinstance(env, str) else 10
        found = optimum_of(env).returns(np.array([[-1.0, 0.0]], np.float32))
        assert found.value[0] == pytest.approx(
            -6 / (1 - 1 / steps**2), abs=1e-5
        )  # ends are met to some 1e-7, at 12 a unit


def test_returns_are_not_discounted_whatever_the_problem_says():
    """Undiscounted, a cake is eaten in equal parts: N ln(x / N)."""
    problem = hamiltonian_rl.problem("hrl/CakeEating-v0")
    assert problem.discount < 1
    start, steps = problem.start[0], problem.horizon
    found = optimum_of("hrl/CakeEating-v0").returns(np.array([[start]], np.float64))
    assert found.value[0] == pytest.approx(steps * np.log(start / steps), abs=1e-6)  # of the costates' tolerance
    assert problem_behind(gym.make("hrl/CakeEating-v0"))[0].discount < 1  # and the problem itself is left alone


class Coast(gym.Env):
    """A ship of one's own: what it sees is twice its position, and distance costs."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, target=0.0):
        self.target, self.position = target, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-3.0, 3.0)
        return np.array([2.0 * self.position], np.float32), {}

    def step(self, action):
        reward = -abs(self.position - self.target)
        self.position += float(np.clip(action[0], -1.0, 1.0))
        return np.array([2.0 * self.position], np.float32), reward, False, False, {}


class CoastProblem(ControlProblem):
    state_space = gym.spaces.Box(-10.0, 10.0, (1,), np.float64)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, target=0.0):
        self.target = target

    def dynamics(self, state, action, step):
        return state + action.clamp(-1.0, 1.0)

    def reward(self, state, action, step):
        return -((state[..., 0] - self.target) ** 2 + 1e-12).sqrt()

    def observation(self, state):
        return 2.0 * state

    def state_of(self, observation):
        return observation / 2.0


@pytest.fixture
def coast():
    gym.register("Coast-v0", Coast, max_episode_steps=6)
    yield "Coast-v0"
    del gym.registry["Coast-v0"]
    PROBLEMS.pop("Coast-v0", None)


def test_the_optimum_of_an_environment_of_ones_own_is_that_of_the_problem_it_registered(coast):
    """From 2.5 of a target at 0.5: 2, 1, then nothing is lost."""
    hamiltonian_rl.register_problem(coast, CoastProblem)
    found = optimum_of(coast, {"target": 0.5}).returns(np.array([[5.0]]))
    assert found.value[0] == pytest.approx(-3.0, abs=1e-4)  # the root's rounded corner costs 1e-6 a step
    assert optimum_of(coast, {"target": 0.5, "max_episode_steps": 1}).returns(np.array([[5.0]])).value[
        0
    ] == pytest.approx(-2.0, abs=1e-4)


def test_a_problem_that_is_not_the_process_of_its_environment_is_refused(coast):
    class Slower(CoastProblem):
        def dynamics(self, state, action, step):
            return state + 0.9 * action.clamp(-1.0, 1.0)

    class Elsewhere(CoastProblem):
        def reward(self, state, action, step):
            return super().reward(state, action, step) - 0.01

    class Ending(CoastProblem):
        def terminated(self, state):
            return state[..., 0].abs() < 1.0

    for wrong in (Slower, Elsewhere, Ending):
        hamiltonian_rl.register_problem(coast, wrong)
        with pytest.raises(UsageError, match=rf"{wrong.__name__} is not the process of {coast}: from the state"):
            optimum_of(coast)


def test_a_problem_that_sees_something_else_is_refused(coast):
    hamiltonian_rl.register_problem(coast, "hamiltonian_rl.envs.classic_control:Pendulum")
    with pytest.raises(UsageError, match=r"its observations have shape \(3,\), those of the environment are Box"):
        optimum_of(coast)


@pytest.mark.parametrize("env_id", [env_id for env_id in PROBLEMS if not env_id.startswith("hrl/")])
def test_gymnasiums_own_environments_are_the_processes_of_their_problems(env_id):
    check_model(gym.make(env_id), hamiltonian_rl.problem(env_id), steps=500)


def test_a_problem_without_an_environment_of_its_own_is_taken_too():
    problem = CoastProblem()
    problem.horizon = 4
    problem.state_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)  # no grid, and no first state to draw
    found = optimum_of(problem).returns(np.array([[2.0]]))
    assert found.value[0] == pytest.approx(-1.0, abs=1e-4)
    assert problem.discount == 1.0


@pytest.mark.parametrize("env_id", sorted(PROBLEMS))
def test_no_reward_is_above_what_the_problem_says(env_id):
    problem = hamiltonian_rl.problem(env_id)
    rng = np.random.default_rng(0)
    low, high = (np.clip(bound, -5.0, 5.0) for bound in (problem.state_space.low, problem.state_space.high))
    state = torch.as_tensor(rng.uniform(low, high, (10_000, len(low))))
    if isinstance(problem.action_space, gym.spaces.Discrete):
        action = torch.as_tensor(rng.integers(problem.action_space.n, size=10_000))
    else:
        action = torch.as_tensor(rng.uniform(-20.0, 20.0, (10_000, *problem.action_space.shape)))
    assert float(problem.reward(state, action, 0).max()) <= problem.reward_bound


def test_a_bound_that_a_path_passes_is_named():
    problem = hamiltonian_rl.problem("CartPole-v1")
    wrong = copy.copy(problem)
    wrong.reward_bound = 0.5
    with pytest.raises(UsageError, match=r"earns 500, more in 500 steps than its reward_bound = 0.5"):
        optimum_of(wrong).returns(np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "Blackjack-v1", "no control problem of .Blackjack-v1.*register_problem"),
        (lambda: "NoSuch-v1", "no environment .NoSuch-v1"),
        (lambda: gym.make("Pendulum-v1", max_episode_steps=-1), "has a limit of steps"),
        (lambda: gym.wrappers.TransformReward(gym.make("Pendulum-v1"), lambda r: -r), "TransformReward may make"),
        (lambda: 3, "does not show its environments"),
    ],
)
def test_where_there_is_no_optimum_a_sentence_says_so(make, said):
    with pytest.raises(UsageError, match=said):
        optimum_of(make())


def test_observations_that_are_none_are_refused():
    with pytest.raises(UsageError, match="whole numbers from 0 to 15"):
        optimum_of("FrozenLake-v1").returns(np.array([16]))
    pendulum = optimum_of("Pendulum-v1")
    for wrong in (np.zeros((2, 2)), np.array([[np.nan, 0, 0]])):
        with pytest.raises(UsageError, match=r"expected finite numbers of shape \(n, \*\(3,\)\)"):
            pendulum.returns(wrong)


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("no_such_module:Problem", "not found at .no_such_module:Problem"),
        ("hamiltonian_rl.envs.classic_control:NoProblem", "not found at"),
        ("Pendulum", "not found at"),
        (dict, "expected a class derived from ControlProblem"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_at_once(coast, entry_point, said):
    with pytest.raises(UsageError, match=said):
        hamiltonian_rl.register_problem(coast, entry_point)
    assert coast not in PROBLEMS


def test_the_problem_of_an_unknown_environment_cannot_be_registered():
    with pytest.raises(UsageError, match=r'"Pendulun-v1".*Did you mean "Pendulum-v1"'):
        hamiltonian_rl.register_problem("Pendulun-v1", CoastProblem)
