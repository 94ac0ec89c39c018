"""The learned model against linear systems, autograd and brute force; the costate agent that plans on it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.agents import Agent, CostateAgent
from hamiltonian_rl.agents.action_codes import ActionCodes
from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.agents.learned_model import Features, fit
from hamiltonian_rl.agents.learned_problem import LearnedProblem
from hamiltonian_rl.envs.problems import problem
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
