"""The learned model against linear systems, autograd and brute force; the costate agent that plans on it."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.agents import Agent, CostateAgent
from hamiltonian_rl.agents.action_codes import ActionCodes
from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.agents.learned_model import Features, fit
from hamiltonian_rl.agents.learned_problem import LearnedProblem
from hamiltonian_rl.agents.learned_value import FittedValue
from hamiltonian_rl.agents.led_starts import HOLD
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.envs.stepping import Transitions
from hamiltonian_rl.errors import UsageError


def waves(inputs, count=16, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(count, inputs)), generator.uniform(0.0, 2.0 * np.pi, count)


def test_a_linear_system_is_found_to_be_linear_from_twenty_transitions():
    generator = np.random.default_rng(1)
    x, matrix = generator.normal(size=(20, 3)) * [1.0, 10.0, 0.1], generator.normal(size=(2, 3))
    model = fit(x, x @ matrix.T + 5.0, *waves(3), np.array([False, False]))
    # The prior of what is linear, and the noise taken for rounding, are both 1e-7 or less of what varies.
    np.testing.assert_allclose(model.mean[:, 1:4], matrix, rtol=1e-5)
    far = 3.0 * generator.normal(size=(50, 3)) * [1.0, 10.0, 0.1]
    np.testing.assert_allclose(model.features(far) @ model.mean.T, far @ matrix.T + 5.0, rtol=1e-4, atol=1e-4)


def test_a_square_is_found_where_squares_are_allowed():
    x = np.random.default_rng(2).normal(size=(40, 2))
    y = (3.0 * x[:, :1] * x[:, 1:] - x[:, :1] ** 2) @ np.ones((1, 2))
    model = fit(x, y, *waves(2), np.array([True, False]))
    squares = model.mean[:, -3:]  # x0², x0 x1, x1²
    np.testing.assert_allclose(squares[0], [-1.0, 3.0, 0.0], atol=1e-5)
    np.testing.assert_allclose(squares[1], 0.0, atol=1e-5)


def test_members_of_the_ensemble_are_further_apart_where_there_were_no_data():
    x = np.random.default_rng(3).uniform(-1.0, 1.0, (60, 1))
    model = fit(x, np.sin(3.0 * x), *waves(1, 32), np.array([False]))
    generator = np.random.default_rng(4)
    members = np.array([model.draw(generator)[0] for _ in range(20)])
    near, far = (model.features(np.full((1, 1), where)) @ members.T for where in (0.5, 4.0))
    assert near.std() < 0.01
    assert far.std() > 10.0 * near.std()


def test_the_problem_is_the_model_and_its_numpy_half_the_same_function():
    generator = np.random.default_rng(5)
    p = LearnedProblem(-np.ones(2), np.ones(2), states=3, waves=7)
    features = Features(generator.normal(size=(7, 5)), generator.normal(size=7))
    weights = generator.normal(size=(4, Features.count(5, 7)))
    count = p.weights.shape[1]
    weights[:-1, count:] = 0.0  # the dynamics have no squares
    p.set_model(features, weights)
    p.pull.copy_(torch.rand(3))
    p.effort.fill_(0.3)
    states, actions = generator.normal(size=(6, 3)), generator.normal(size=(6, 2))
    predicted = features(np.concatenate([states, actions], 1)) @ weights.T
    away = (states**2 * p.pull.numpy()).sum(1) + 0.3 * (actions**2).sum(1)
    next_states, rewards = p.ahead(states, actions)
    np.testing.assert_allclose(next_states, states + predicted[:, :3], rtol=1e-12)
    np.testing.assert_allclose(rewards, predicted[:, 3] - away, rtol=1e-12)
    given = torch.as_tensor(states), torch.as_tensor(actions)
    np.testing.assert_allclose(p.dynamics(*given, 0), next_states, rtol=1e-12)
    np.testing.assert_allclose(p.reward(*given, 0), rewards, rtol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_discrete_actions_are_equally_far_from_each_other_and_rounded_to_the_nearest(count):
    codes = ActionCodes(gym.spaces.Discrete(count, start=4))
    actions = np.arange(4, 4 + count)
    points = codes.points(actions)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)[~np.eye(count, dtype=bool)]
    np.testing.assert_allclose(apart, apart[0])
    assert (np.abs(points) <= 1.0 + 1e-12).all()
    np.testing.assert_array_equal(codes.actions(0.6 * points), actions)


def test_the_pendulum_is_learnt_with_its_limit_of_speed_and_keeps_to_its_circle():
    agent = CostateAgent(gym.make("Pendulum-v1"), seed=0, model="learned", random_steps=2)
    learner = agent._planner.learner
    generator, env = np.random.default_rng(8), gym.make("Pendulum-v1")
    env.reset(seed=8)
    for episode in range(300):  # pushed for a step from anywhere
        env.unwrapped.state = generator.uniform([-np.pi, -8.0], [np.pi, 8.0])
        before, action = env.unwrapped._get_obs(), generator.uniform(-2.0, 2.0, 1).astype(np.float32)
        after, reward, *_ = env.step(action)
        rows, never = (x[None] for x in (before, action, np.float64(reward), after)), np.zeros(1, bool)
        observation, action, reward, after = rows
        learner.see(Transitions(observation, action, reward, after, never, never, ~never), np.array([episode == 0]))
    learner.learn(10)
    angles, speeds, torques = generator.uniform([[-np.pi], [-8.0], [-2.0]], [[np.pi], [8.0], [2.0]], (3, 200))
    states = np.stack([np.cos(angles), np.sin(angles), speeds], 1)
    learner._imagine(exploring=False)
    found, _ = learner.problem.ahead(states, torques[:, None])
    # Linear in the observation but for the limit: 15 sin θ + 3 u, for 0.05 s. Speeds are of single precision, 5e-7.
    speed = np.clip(speeds + 0.05 * (15.0 * np.sin(angles) + 3.0 * torques), -8.0, 8.0)
    assert (np.abs(speed) == 8.0).sum() > 3
    np.testing.assert_allclose(found[:, 2], speed, atol=1e-4)
    for _ in range(100):
        found, _ = learner.problem.ahead(found, torques[:, None])
    np.testing.assert_allclose(found[:, 0] ** 2 + found[:, 1] ** 2, 1.0, rtol=1e-6)


def test_coordinates_that_are_no_angle_are_on_no_circle():
    p = LearnedProblem(-np.ones(1), np.ones(1), states=4, waves=2)
    angle = np.linspace(0.0, 3.0, 9)
    p.set_circles(np.stack([2.0 * np.cos(angle), angle, 2.0 * np.sin(angle), 0.0 * angle], 1))
    # On a circle of radius 2 the sum of the squares is 4.
    expected = np.zeros((4, 4))
    expected[np.ix_([0, 2], [0, 2])] = 0.25
    np.testing.assert_allclose(p.circles, expected, atol=1e-12)
    np.testing.assert_array_equal(p.rest, [0.0, 1.0, 0.0, 1.0])


def test_the_best_led_path_is_that_of_trying_all():
    generator = np.random.default_rng(9)
    p = LearnedProblem(-np.ones(1), np.ones(1), states=2, waves=3)
    features = Features(generator.normal(size=(3, 3)), generator.normal(size=3))
    weights = 0.1 * generator.normal(size=(3, Features.count(3, 3)))
    weights[:-1, p.weights.shape[1] :] = 0.0
    p.set_model(features, weights)
    actions, states = np.array([[0.0], [-1.0], [1.0]]), generator.normal(size=(6, 2))
    value, steps = FittedValue(p, states, actions, 12, generator), 12

    def paid(state, taken):
        total = 0.0
        for action in taken:
            (state, reward) = p.ahead(state[None], action[None])
            state, total = state[0], total + reward[0]
        return total, state

    for state, found in zip(states, value.best_led(states, steps), strict=True):
        ways = []
        for action, held in itertools.product(actions, range(0, steps + 1, HOLD)):
            first = np.tile(action, (held, 1))
            rest = value.greedy(paid(state, first)[1][None], steps - held)[0] if held < steps else first[:0]
            ways.append(paid(state, np.concatenate([first, rest]))[0])
        assert paid(state, found)[0] == pytest.approx(max(ways), rel=1e-9)
    many, best = np.array(value.many_led(states, steps)), value.best_led(states, steps)
    assert (many == best).all((2, 3)).any(0).all()  # it is one of those that are polished
    # The rest switch once between the bounds, both ways round.
    assert {(one[0, 0, 0], one[0, -1, 0]) for one in many[31:]} == {(-1.0, 1.0), (1.0, -1.0)}


def test_the_dynamics_of_a_regulator_are_learnt_and_the_policy_is_riccatis():
    env, truth = gym.make("hrl/LinearQuadratic-v0"), problem("hrl/LinearQuadratic-v0")
    agent = CostateAgent(env, seed=0, model="learned", horizon=100).learn(60)
    learner = agent._planner.learner
    states, actions = np.random.default_rng(6).normal(size=(2, 9, 2))
    expected = states @ truth.A.numpy().T + actions[:, :1] @ truth.B.numpy().T
    # Observations are of single precision, 1e-7, and steps are a tenth of what they change.
    np.testing.assert_allclose(learner.problem.ahead(states, actions[:, :1])[0], expected, atol=1e-4)
    A, B, Q, R = (np.asarray(matrix) for matrix in (truth.A, truth.B, truth.Q, truth.R))
    P = np.zeros((2, 2))  # what is learnt has no reward at its end
    for _ in range(100):
        K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
        P = Q + A.T @ P @ (A - B @ K)
    for state in ([1.0, 0.0], [-1.5, 1.0]):
        action = agent.predict(np.array(state, np.float32), deterministic=True, episode_start=np.array([True]))[0]
        np.testing.assert_allclose(action, -K @ state, rtol=0.02)


def test_cart_pole_is_balanced_after_a_hundred_steps():
    agent = CostateAgent(gym.make("CartPole-v1"), seed=1, model="learned", stride=2).learn(100)
    returns = Evaluator("CartPole-v1").returns(agent, episodes=4, seed=10_000)
    assert returns.mean() >= 475  # the threshold that is registered


def test_a_loaded_agent_predicts_and_learns_on_as_the_saved_one(tmp_path):
    agent = CostateAgent(gym.make("CartPole-v1"), seed=3, model="learned").learn(60)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent", env=gym.make("CartPole-v1"))
    for one in (agent, loaded):
        one.learn(30, reset_num_timesteps=False)
    np.testing.assert_array_equal(loaded._planner.learner._inputs, agent._planner.learner._inputs)
    observation = np.array([0.01, 0.02, -0.03, 0.01], np.float32)
    for _ in range(3):
        actions = [one.predict(observation, deterministic=True)[0] for one in (agent, loaded)]
        assert actions[0] == actions[1]


def refused(env, *, match, **settings):
    with pytest.raises(UsageError, match=match):
        CostateAgent(env, **{"model": "learned", **settings})


def test_what_cannot_be_learnt_is_refused_in_a_sentence():
    refused(gym.make("FrozenLake-v1"), match="observation space is Discrete.*Box of shape")
    image = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    pictures = gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda _: image.sample(), image)
    refused(pictures, match="images are beyond it")
    many = gym.wrappers.TransformAction(gym.make("Pendulum-v1"), lambda a: a[:1], gym.spaces.MultiDiscrete([3]))
    refused(many, match="action space is MultiDiscrete")
    refused(gym.make("CartPole-v1"), model="learnd", match='Did you mean "learned"')
