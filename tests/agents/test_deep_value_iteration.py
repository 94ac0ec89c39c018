"""Deep value iteration against Riccati, closed forms and tables; its parts against brute force."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents import Agent, DeepValueIteration
from hamiltonian_rl.agents.box_maximum import box_maximum
from hamiltonian_rl.agents.value_fit import Targets, ValueFit
from hamiltonian_rl.agents.value_network import ValueNetwork
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solvers import value_iteration

HDP, GDHP, DHP = 0.0, 0.5, 1.0


def regulator(n: int) -> LinearQuadratic:
    """Return a random regulator of n states, some of its modes unstable."""
    draw = np.random.default_rng(n)
    A = np.eye(n) + 0.1 * draw.normal(size=(n, n))
    A *= 1.02 / np.abs(np.linalg.eigvals(A)).max()
    return LinearQuadratic(A, 0.5 * draw.normal(size=(n, max(1, n // 4))), horizon=None, discount=0.95)


def riccati(p: LinearQuadratic) -> np.ndarray:
    """Return P of V = -s'Ps without horizon, by scipy."""
    root = p.discount**0.5
    A, B, Q, R = (np.asarray(matrix) for matrix in (p.A, p.B, p.Q, p.R))
    return solve_discrete_are(root * A, root * B, Q, R)


@pytest.mark.parametrize(("n", "costate_weight"), [(4, HDP), (8, GDHP), (4, DHP)])
def test_value_and_costate_of_a_regulator_are_riccatis(n, costate_weight):
    p = regulator(n)
    P, states = riccati(p), np.random.default_rng(0).uniform(-10.0, 10.0, (500, n))
    # Actions of the optimum reach 20 N, where the environment's default bound is.
    agent = DeepValueIteration(
        ControlEnv(p, action_limit=1e3), gamma=0.95, costate_weight=costate_weight, states=200, hidden=(4,)
    )
    agent.learn(60 * 200)
    value, costate = -np.einsum("bi,ij,bj->b", states, P, states), -2.0 * states @ P
    np.testing.assert_allclose(agent.value(states), value, rtol=1e-3, atol=1e-3 * np.abs(value).mean())
    assert np.linalg.norm(agent.costate(states) - costate) < 1e-2 * np.linalg.norm(costate)


def test_value_of_growth_is_brock_and_mirmans():
    agent = DeepValueIteration(
        gym.make("hrl/BrockMirman-v0"), gamma=0.95, states=60, hidden=(16,), n_step=10, fit_steps=10
    )
    agent.learn(25 * 60)
    alpha, beta = 0.36, 0.95
    capital = np.linspace(0.05, 0.95, 50)[:, None]
    slope = alpha / (1.0 - alpha * beta)
    level = np.log(1.0 - alpha * beta) + alpha * beta * np.log(alpha * beta) / (1.0 - alpha * beta)
    exact = level / (1.0 - beta) + slope * np.log(capital[:, 0])
    # A logarithm by sixteen tanh: a thousandth of a value of 20.
    np.testing.assert_allclose(agent.value(capital), exact, atol=2e-2)
    np.testing.assert_allclose(agent.costate(capital), slope / capital, rtol=1e-1)  # largest where capital is scarce
    share = agent.predict(np.array([[0.2]], np.float32), deterministic=True)[0]
    assert share[0, 0] == pytest.approx(1.0 - alpha * beta, abs=5e-3)


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1"])
def test_values_of_a_table_are_value_iterations(env_id):
    env = gym.make(env_id)
    agent = DeepValueIteration(env, hidden=())
    mdp = MDP.from_gymnasium(env, 0.99, horizon=None)
    agent.learn(mdp.n_states * 250)
    exact = value_iteration(mdp, tol=1e-9).value
    # 250 sweeps leave 0.99^250 of the lake's error at the most; its slips lose far more.
    np.testing.assert_allclose(agent.value(np.arange(mdp.n_states)), exact, atol=2e-3)


def test_the_box_maximum_is_that_of_a_fine_grid():
    draw = np.random.default_rng(0)
    weights = torch.as_tensor(draw.normal(size=(20, 2)))

    def wave(points):
        return (weights * points).sum(-1).sin() + 0.3 * (points * weights.flip(0)).sum(-1)

    low, high = torch.tensor([-1.0, -0.5]).double(), torch.tensor([1.0, 0.5]).double()
    ends = torch.cartesian_prod(
        *(torch.linspace(float(a), float(b), 3).double() for a, b in zip(low, high, strict=True))
    )
    found = wave(box_maximum(wave, low, high, ends[:, None].expand(-1, 20, -1)))
    fine = torch.cartesian_prod(torch.linspace(-1, 1, 201), torch.linspace(-0.5, 0.5, 101)).double()
    best = torch.stack([wave(point.expand(20, 2)) for point in fine]).amax(0)
    assert (found >= best - 1e-9).all()


def test_a_networks_slope_is_its_finite_difference():
    network = ValueNetwork(np.array([-2.0, -np.pi]), np.array([4.0, np.pi]), (7, 5), 3, (False, True))
    params = network.initial(np.random.default_rng(0))
    states = torch.as_tensor(np.random.default_rng(1).uniform(-2.0, 2.0, (20, 2)))
    _, slope = network.slope(params, states)
    for axis in range(2):
        step = 1e-6 * torch.eye(2).double()[axis]
        difference = (network(params, states + step) - network(params, states - step)) / 2e-6
        torch.testing.assert_close(slope[:, axis], difference, rtol=0.0, atol=1e-8)  # of central differences


def test_a_change_of_scale_leaves_v_and_a_shift_adds_to_it():
    network = ValueNetwork(np.array([-1.0]), np.array([1.0]), (6,), 2)
    params = network.initial(np.random.default_rng(0))
    states = torch.linspace(-1.0, 1.0, 9).double()[:, None]
    before = network(params, states)
    network.rescale(params, 50.0)
    torch.testing.assert_close(network(params, states), before)
    network.shift(params, 3.0)
    torch.testing.assert_close(network(params, states), before + 3.0)


def test_a_network_of_products_is_fitted_to_a_quadratic_in_one_step():
    draw = np.random.default_rng(0)
    P, states = torch.as_tensor(draw.normal(size=(3, 3))), torch.as_tensor(draw.uniform(-1.0, 1.0, (12, 3)))
    exact = Targets((states * (states @ P)).sum(-1), states @ (P + P.T))
    network = ValueNetwork(-np.ones(3), np.ones(3), ())
    fit = ValueFit(network, GDHP, float("inf"), ridge=0.0)
    fit.damping = 1e-12
    params, loss = fit.improve(network.initial(draw), states, exact)
    assert loss < 1e-20
    torch.testing.assert_close(network.slope(params, states)[1].detach(), exact.costate)


def test_the_loss_is_huber_s_of_values_and_of_slopes_each_with_its_threshold():
    network = ValueNetwork(-2.0 * np.ones(1), 2.0 * np.ones(1), ())  # V = 0 at first, a slope counts for two
    params, states = network.initial(np.random.default_rng(0)), torch.tensor([[1.0]]).double()
    targets = Targets(torch.tensor([3.0]).double(), torch.tensor([[5.0]]).double())
    fit = ValueFit(network, 0.25, 1.0, ridge=0.0, costate_threshold=0.5)
    assert fit.loss(params, states, targets) == pytest.approx(0.75 * (3.0 - 0.5) + 0.25 * 0.5 * (10.0 - 0.25))
    squared = ValueFit(network, 0.25, float("inf"), ridge=0.0, costate_threshold=0.5)
    assert squared.loss(params, states, targets) == pytest.approx(0.75 * 4.5 + 0.25 * 0.5 * (10.0 - 0.25))
    for weight, expected in ((0.0, 4.5), (1.0, 50.0)):
        plain = ValueFit(network, weight, float("inf"), ridge=0.0)
        assert plain.loss(params, states, targets) == pytest.approx(expected)


def test_a_wrong_slope_does_not_move_a_fit_with_a_threshold_for_slopes():
    states = torch.linspace(-1.0, 1.0, 21).double()[:, None]
    slopes = 2.0 * states
    slopes[10] = 1_000.0
    network = ValueNetwork(-np.ones(1), np.ones(1), ())
    wrong = {}
    for threshold in (float("inf"), 0.01):
        fit, params = ValueFit(network, 0.5, float("inf"), 1e-12, threshold), network.initial(np.random.default_rng(0))
        for _ in range(50):
            params, _ = fit.improve(params, states, Targets(states[:, 0] ** 2, slopes))
        wrong[threshold] = float((network(params, states) - states[:, 0] ** 2).abs().max())
    assert wrong[0.01] < 0.01 < 1.0 < wrong[float("inf")]  # one threshold's pull in 21 states, against a slope of 1,000


@pytest.mark.parametrize("env_id", ["hrl/LinearQuadratic-v0", "FrozenLake-v1"])
def test_learning_after_a_save_is_learning_on(env_id, tmp_path):
    env = gym.make(env_id)
    settings = {"states": 40, "hidden": (6,), "pieces": 2, "seed": 3}
    once = DeepValueIteration(gym.make(env_id), **settings).learn(640)
    agent = DeepValueIteration(env, **settings).learn(320)
    agent.save(tmp_path / "agent")
    agent = Agent.load(tmp_path / "agent", env=gym.make(env_id))
    agent.learn(320, reset_num_timesteps=False)
    np.testing.assert_array_equal(agent.parameter_arrays()[0], once.parameter_arrays()[0])


def test_records_are_written_though_no_episode_ends(tmp_path):
    agent = DeepValueIteration(gym.make("FrozenLake-v1"), hidden=(), tensorboard_log=tmp_path)
    agent.learn(16 * 3, log_interval=1)
    assert list(tmp_path.rglob("events.*"))


@pytest.mark.parametrize("env_id", ["hrl/LinearQuadratic-v0", "FrozenLake-v1"])
def test_a_saved_agent_acts_without_its_environment(env_id, tmp_path):
    env = gym.make(env_id)
    agent = DeepValueIteration(env, states=40, hidden=(6,)).learn(400)
    agent.save(tmp_path / "agent")
    observations = np.array([env.reset(seed=seed)[0] for seed in range(4)])
    loaded = Agent.load(tmp_path / "agent")
    for deterministic in (True, False):
        expected = agent.predict(observations, deterministic=deterministic)[0]
        np.testing.assert_array_equal(loaded.predict(observations, deterministic=deterministic)[0], expected)


def test_an_agent_of_a_problem_of_ones_own_asks_for_its_environment(tmp_path):
    agent = DeepValueIteration(ControlEnv(regulator(2)), states=40, hidden=()).learn(400)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent")
    with pytest.raises(UsageError, match="set_env"):
        loaded.value(np.zeros((1, 2)))
    loaded.set_env(ControlEnv(regulator(2)))
    ones = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(loaded.predict(ones)[0], agent.predict(ones)[0])


def refused(env, *, match, **settings):
    with pytest.raises(UsageError, match=match):
        DeepValueIteration(env, **settings)


def test_what_has_no_model_or_no_bounds_is_refused_in_a_sentence():
    unbounded = regulator(2)
    unbounded.state_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    refused(ControlEnv(unbounded), match="finite bounds")
    refused(gym.make("hrl/BrysonDenham-v0"), match="constraints")
    refused(gym.make("Blackjack-v1"), match='no control problem of "Blackjack-v1"')
    refused(gym.make("FrozenLake-v1"), match="gamma = 1", gamma=1.0)
    refused(gym.make("Pendulum-v1"), match="costate_weight = 2", costate_weight=2.0)
    agent = DeepValueIteration(gym.make("FrozenLake-v1"), hidden=())
    with pytest.raises(UsageError, match="no slopes"):
        agent.costate(np.array([0]))
    with pytest.raises(UsageError, match="from 0 to 15"):
        agent.value(np.array([16]))
    with pytest.raises(UsageError, match="1, 3"):
        DeepValueIteration(gym.make("Pendulum-v1"), states=10).value(np.zeros((1, 3)))
