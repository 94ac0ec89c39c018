"""Optimizers as policies: what they earn, and that they are torch's own."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents import Agent, DeepValueIteration, OptimizerAgent
from hamiltonian_rl.agents.tuned import tuned_settings
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.estimation import SoftmaxRegression
from hamiltonian_rl.trajectory import rollout


def policy(agent, count):
    """Return an agent's policy, its episodes begun at step 0."""
    return lambda states, step: agent.predict(states, None, np.full(count, step == 0), deterministic=True)[0]


def test_the_least_action_earns_what_riccatis_equation_says_is_most():
    env = gym.make("hrl/Estimation-v0", model="linear")
    p = env.unwrapped.problem
    states = p.initial_states(5, np.random.default_rng(0))
    p.horizon = 800  # after which the slowest mode is at 1e-8
    earned = rollout(p, states, policy(OptimizerAgent(env), 5)).value
    inputs = p.task.data.inputs.numpy()
    P = solve_discrete_are(
        np.eye(2), p.dt * np.eye(2), p.dt * inputs.T @ inputs / len(inputs), p.dt * p.mass * np.eye(2)
    )
    away = states - p.estimate
    np.testing.assert_allclose(earned, -0.5 * np.einsum("bi,ij,bj->b", away, P, away), rtol=1e-7)


@pytest.mark.parametrize("model", ["linear", "logistic"])
def test_no_optimizer_earns_more_than_the_optimum_and_of_the_default_rates_the_least_action_comes_nearest(model):
    from hamiltonian_rl.solvers.costate import solve_costate

    env = gym.make("hrl/Estimation-v0", model=model)
    p = env.unwrapped.problem
    states = p.initial_states(10, np.random.default_rng(1))
    best = solve_costate(p, states).unwrap().value
    rules = ("least-action", "fisher-root", "natural-gradient", "sgd", "adam", "rmsprop")
    regret = {rule: best - rollout(p, states, policy(OptimizerAgent(env, rule=rule), 10)).value for rule in rules}
    assert all((lost > -1e-9).all() for lost in regret.values())
    assert min(regret, key=lambda rule: regret[rule].mean()) == "least-action"


@pytest.mark.parametrize(
    ("rule", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)]
)
def test_a_rules_path_is_that_of_torchs_optimizer_on_the_loss(rule, kind):
    env = gym.make("hrl/Estimation-v0", model="logistic")
    p = env.unwrapped.problem
    states = p.initial_states(2, np.random.default_rng(2))
    path = rollout(p, states, policy(OptimizerAgent(env, rule=rule, learning_rate=0.05), 2)).states
    x, y = p.task.data.inputs, p.task.data.targets
    for row, start in enumerate(states):
        theta = torch.nn.Parameter(torch.tensor(start))
        optimizer = kind([theta], lr=0.05)
        for step in range(50):
            np.testing.assert_allclose(path[row, step], theta.detach(), atol=1e-6)  # RMSprop enlarges rounding
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(x @ theta, y).backward()
            optimizer.step()


def test_other_agents_are_trained_in_the_environment():
    """A network for V, which knows nothing of gradients of ℓ, finds Riccati's value."""
    env = gym.make("hrl/Estimation-v0", model="linear")
    p, gamma = env.unwrapped.problem, 0.9
    agent = DeepValueIteration(env, seed=0, gamma=gamma, states=100, hidden=(4,)).learn(100 * 100)
    inputs, root = p.task.data.inputs.numpy(), gamma**0.5
    cost, effort = p.dt * inputs.T @ inputs / len(inputs), p.dt * p.mass * np.eye(2)
    P = solve_discrete_are(root * np.eye(2), root * p.dt * np.eye(2), cost, effort)
    states = p.initial_states(20, np.random.default_rng(1))
    away = states - p.estimate
    exact = -0.5 * np.einsum("bi,ij,bj->b", away, P, away)
    np.testing.assert_allclose(agent.value(states), exact, atol=1e-2 * np.abs(exact).max())


def test_averages_begin_anew_with_each_episode():
    env = gym.make("hrl/Estimation-v0")
    agent, fresh = (OptimizerAgent(env, rule="adam") for _ in range(2))
    here, there = np.array([[1.0, 0.0]]), np.array([[-1.0, 2.0]])
    for _ in range(3):
        agent.predict(here, None, np.zeros(1, bool), deterministic=True)
    again = agent.predict(there, None, np.ones(1, bool), deterministic=True)[0]
    np.testing.assert_array_equal(again, fresh.predict(there, None, np.ones(1, bool), deterministic=True)[0])


def test_a_loaded_agent_goes_on_exactly(tmp_path):
    env = gym.make("hrl/Estimation-v0", model="logistic")
    agent = OptimizerAgent(env, rule="adam")
    observation = np.array([[1.0, -1.0]])
    for _ in range(3):
        agent.predict(observation, deterministic=True)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent")
    for _ in range(3):
        expected = agent.predict(observation, deterministic=True)[0]
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], expected)


def test_what_a_singular_fisher_information_knows_nothing_of_is_left_where_it_is():
    """A softmax regression does not change where all classes' coefficients move alike."""
    random = np.random.default_rng(0)
    task = SoftmaxRegression(np.arange(30) % 3, random.normal(size=(30, 1)))
    env = ControlEnv(task.control_problem(1.0, 0.5, 10, max_speed=10.0))
    action = OptimizerAgent(env).predict(random.normal(size=task.n_params), deterministic=True)[0]
    null = np.linalg.svd(task.fisher(task.start).numpy())[0][:, -1]
    assert np.isfinite(action).all()
    assert np.abs(action).max() > 0.01
    assert abs(null @ action) < 1e-6 * np.abs(action).max()


def test_other_environments_and_unknown_rules_are_refused():
    with pytest.raises(UsageError, match=r"parameters of an estimation task.*Pendulum"):
        OptimizerAgent(gym.make("Pendulum-v1"))
    with pytest.raises(UsageError, match=r'no rule "adm". Did you mean "adam"'):
        OptimizerAgent(gym.make("hrl/Estimation-v0"), rule="adm")
    with pytest.raises(UsageError, match='no estimation of the model "logstic"'):
        problem("hrl/Estimation-v0", model="logstic")


def test_more_steps_change_nothing_so_that_ten_episodes_are_its_budget(hrl, tmp_path):
    env = gym.make("hrl/Estimation-v0")
    agent, observation = OptimizerAgent(env), env.reset(seed=1)[0]
    before = agent.predict(observation, deterministic=True)[0]
    agent.learn(120)
    np.testing.assert_array_equal(agent.predict(observation, deterministic=True)[0], before)
    outcome = hrl("train", "--env", "hrl/Estimation-v0", "--agent", "optimizer", "--run-dir", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "for 500 steps" in outcome.out
    assert tuned_settings("optimizer", "hrl/Estimation-v0") == {"steps": 10 * env.spec.max_episode_steps}
