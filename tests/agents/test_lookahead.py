"""Plans ahead with a network's V at their end, against Riccati's recursion and brute force."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_are

from hamiltonian_rl.agents import Agent, DeepValueIteration
from hamiltonian_rl.agents.led_starts import LedStarts
from hamiltonian_rl.agents.lookahead import PlannedModel
from hamiltonian_rl.agents.value_fit import Targets, ValueFit
from hamiltonian_rl.agents.value_network import LearntValue
from hamiltonian_rl.envs.classic_control import Pendulum
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.solvers.solve_control import solve_control
from hamiltonian_rl.trajectory import rollout

DISCOUNT = 0.95


def regulator() -> LinearQuadratic:
    """Return an unstable regulator of three states and two actions."""
    draw = np.random.default_rng(3)
    A = np.eye(3) + 0.1 * draw.normal(size=(3, 3))
    A *= 1.02 / np.abs(np.linalg.eigvals(A)).max()
    return LinearQuadratic(A, 0.5 * draw.normal(size=(3, 2)), horizon=None, discount=DISCOUNT)


def riccati(p: LinearQuadratic, P: np.ndarray, steps: int) -> np.ndarray:
    """Return P of V = -s'Ps with so many steps to go, from that at the end."""
    A, B, Q, R = (np.asarray(matrix) for matrix in (p.A, p.B, p.Q, p.R))
    for _ in range(steps):
        K = np.linalg.solve(R + DISCOUNT * B.T @ P @ B, DISCOUNT * B.T @ P @ A)
        P = Q + DISCOUNT * A.T @ P @ (A - B @ K)
    return P


def endless(p: LinearQuadratic) -> np.ndarray:
    root = DISCOUNT**0.5
    A, B, Q, R = (np.asarray(matrix) for matrix in (p.A, p.B, p.Q, p.R))
    return solve_discrete_are(root * A, root * B, Q, R)


def planned(steps: int, stride: int = 5) -> PlannedModel:
    """Return the model, with bounds that no optimal action meets."""
    return PlannedModel(regulator(), gym.spaces.Box(-1e3, 1e3, (2,)), DISCOUNT, steps, stride)


def quadratic(model: PlannedModel, P: np.ndarray) -> LearntValue:
    """Return the network that is -s'Ps: its products have it exactly."""
    network = model.network((), 1, products=True)
    states = torch.as_tensor(np.random.default_rng(0).uniform(-1.0, 1.0, (20, 3)))
    exact = Targets(-((states @ torch.as_tensor(P)) * states).sum(-1), None)
    fit = ValueFit(network, 0.0, float("inf"), ridge=0.0)
    fit.damping = 1e-13
    params, _ = fit.improve(network.initial(np.random.default_rng(0)), states, exact)
    return LearntValue(network, params)


@pytest.mark.parametrize("steps", [1, 4, 30])
def test_values_and_costates_of_plans_are_riccatis_recursion_from_any_value_at_their_end(steps):
    model, exact = planned(steps), endless(regulator())
    states = np.random.default_rng(1).uniform(-5.0, 5.0, (30, 3))
    # Of the exact value the recursion stays where it is. The others meet code that was compiled for the first.
    for end in (exact, np.zeros((3, 3)), np.diag([3.0, 0.5, 7.0])):
        found = model.targets(quadratic(model, end), torch.as_tensor(states))
        P = riccati(regulator(), end, steps)
        np.testing.assert_allclose(found.value, -np.einsum("bi,ij,bj->b", states, P, states), rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(found.costate, -2.0 * states @ P, rtol=1e-6, atol=1e-6)
        if end is exact:
            np.testing.assert_allclose(P, exact, rtol=1e-9, atol=1e-12)


def test_who_is_led_by_plans_with_the_exact_value_earns_the_value():
    p, model = regulator(), planned(12, stride=5)
    P = endless(p)
    value, states = quadratic(model, P), np.random.default_rng(2).uniform(-5.0, 5.0, (7, 3))
    p.horizon = 400
    path = rollout(p, states, lambda now, step: model.actions(value, now, told=True))
    expected = -np.einsum("bi,ij,bj->b", states, P, states)
    # What is left after 400 steps is 0.95^400 = 1e-9 of it; actions are of single precision.
    np.testing.assert_allclose(path.value, expected, rtol=1e-6)


def test_a_plan_of_the_pendulum_is_not_worse_than_any_of_many_sequences_of_actions():
    steps, draw = 8, np.random.default_rng(0)
    p = Pendulum()
    model = PlannedModel(p, p.action_space, 0.99, steps, 1)
    network = model.network((8,), 2, products=True)
    value = LearntValue(network, network.initial(draw))
    network.rescale(value.parameters, 0.02)  # V of some fifty
    states = draw.uniform([-3.0, -2.0], [3.0, 2.0], (5, 2))
    found = model.targets(value, torch.as_tensor(states)).value.numpy()
    tried = draw.choice([-2.0, -1.0, 0.0, 1.0, 2.0], (20_000, steps, 1))
    for state, best in zip(states, found, strict=True):
        now, total = torch.as_tensor(state).expand(len(tried), 2), torch.zeros(len(tried)).double()
        for step in range(steps):
            action = torch.as_tensor(tried[:, step])
            total += 0.99**step * p.reward(now, action, 0)
            now = p.dynamics(now, action, 0)
        assert best >= float((total + 0.99**steps * value(now)).max()) - 1e-9


def test_visited_states_are_ends_of_plans_within_the_box():
    p = Pendulum()
    model = PlannedModel(p, p.action_space, 0.99, 4, 1)
    network = model.network((), 1, products=True)
    value = LearntValue(network, network.initial(np.random.default_rng(0)))
    states = torch.as_tensor(np.random.default_rng(0).uniform([-np.pi, -8.0], [np.pi, 8.0], (50, 2)))
    model.targets(value, states)
    moved = model.moved(states, 0.4, np.random.default_rng(0))
    assert torch.equal(moved[:30], states[:30])
    # Four steps of the greatest torque change the speed of a free fall by 4 * 0.3.
    ends = states
    for _ in range(4):
        ends = p.dynamics(ends, torch.zeros(50, 1).double(), 0)
    for state in moved[30:]:
        apart = ends - state
        apart[:, 0] -= 2 * np.pi * torch.round(apart[:, 0] / (2 * np.pi))
        assert float(apart.abs().amax(-1).min()) < 1.3
    assert bool((moved.abs() <= torch.tensor([np.pi + 1e-9, 8.0])).all())


def swinging(**settings) -> DeepValueIteration:
    given = {"states": 60, "hidden": (6,), "lookahead": 10, "stride": 4, "seed": 3, **settings}
    return DeepValueIteration(gym.make("Pendulum-v1"), **given)


def test_what_a_trial_on_the_model_earns_is_what_gymnasium_pays():
    learnt = swinging().learn(120)
    model = learnt.model
    assert isinstance(model, PlannedModel)
    env = gym.make("Pendulum-v1")
    observation, _ = env.reset(seed=5)
    start, paid, over = env.unwrapped.state.copy(), 0.0, False
    begins = True
    while not over:
        action = learnt.predict(observation[None], None, np.array([begins]), deterministic=True)[0][0]
        observation, reward, _, over, _ = env.step(action)
        paid, begins = paid + reward, False
    assert model.tried(LearntValue(learnt.network, learnt._params), start[None]) == pytest.approx(paid, rel=0.02)


def test_the_value_that_acts_is_the_best_of_those_tried_and_is_kept_by_a_save(tmp_path):
    learnt = swinging(trials=4)
    earned = []
    for _ in range(4):
        learnt.learn(60, reset_num_timesteps=False)
        model = learnt.model
        assert isinstance(model, PlannedModel)
        starts = model.problem.initial_states(4, np.random.default_rng([3, 1]))
        earned.append(model.tried(LearntValue(learnt.network, learnt._params), starts))
        acting = model.tried(learnt._acting, starts)
        assert acting == pytest.approx(max(earned), rel=1e-6)
    assert max(earned) > min(earned)
    learnt.save(tmp_path / "agent")
    loaded, states = Agent.load(tmp_path / "agent"), np.array([[1.0, 0.0], [3.0, 1.0]])
    np.testing.assert_array_equal(loaded.value(states), learnt.value(states))


def agent(**settings) -> DeepValueIteration:
    given = {"states": 40, "hidden": (6,), "lookahead": 6, "visited": 0.5, "seed": 3, **settings}
    return DeepValueIteration(gym.make("hrl/LinearQuadratic-v0"), **given)


def test_actions_of_a_batch_are_those_of_its_rows():
    learnt = agent().learn(200)
    states = np.random.default_rng(0).uniform(-1.0, 1.0, (9, 2)).astype(np.float32)
    batch = learnt.predict(states, deterministic=True)[0]
    single = [learnt.predict(state, deterministic=True)[0] for state in states]
    np.testing.assert_allclose(batch, single, atol=1e-5)


def test_learning_ahead_after_a_save_is_learning_on_and_it_acts_without_its_environment(tmp_path):
    once, begun = agent().learn(480), agent().learn(240)
    begun.save(tmp_path / "agent")
    states = np.random.default_rng(0).uniform(-1.0, 1.0, (5, 2)).astype(np.float32)
    loaded = Agent.load(tmp_path / "agent")
    np.testing.assert_array_equal(loaded.predict(states)[0], begun.predict(states)[0])
    loaded.set_env(gym.make("hrl/LinearQuadratic-v0"))
    loaded.learn(240, reset_num_timesteps=False)
    np.testing.assert_array_equal(loaded.parameter_arrays()[0], once.parameter_arrays()[0])


def test_what_cannot_be_planned_is_refused_in_a_sentence():
    def refused(env, match, **settings):
        with pytest.raises(UsageError, match=match):
            DeepValueIteration(env, **settings)

    refused(gym.make("FrozenLake-v1"), "no slopes", lookahead=2)
    refused(gym.make("CartPole-v1"), "Box", lookahead=2)
    refused(gym.make("MountainCarContinuous-v0"), "can end", lookahead=2)
    refused(gym.make("Pendulum-v1"), "n_step = 2", lookahead=2, n_step=2)
    refused(gym.make("Pendulum-v1"), "lookahead above 1", visited=0.5)
    refused(gym.make("Pendulum-v1"), "lookahead above 1", trials=5)


def test_a_path_that_begins_anew_earns_what_the_optimum_does_in_its_first_steps():
    """V is zero, so that nothing beyond them counts; the optimum is of all 200 steps, by both routes."""
    agent = DeepValueIteration(gym.make("Pendulum-v1"), seed=0, lookahead=40, gamma=0.995, hidden=())
    model, nothing = agent.model, agent._value
    assert isinstance(model, PlannedModel)
    states = np.array([[3.05, 0.66], [3.12, 0.89], [-3.04, 0.25], [3.1, 0.0], [2.5, 1.0]])
    path = solve_control(model.problem, states, horizon=200).paths.trajectory
    start, taken = torch.as_tensor(path.states[:, :40]), torch.as_tensor(path.actions[:, :40])
    first = model.problem.reward(start, taken, 0).numpy() @ 0.995 ** np.arange(40)
    plans = model.plan(nothing, states, model._led(nothing, states, anew=True))
    assert (plans.trajectory.value >= first - 1e-6).all()


def test_switched_paths_hold_one_action_and_then_another():
    starts = LedStarts(lambda states: (states, states), lambda states: states, np.array([[0.0], [-1.0], [1.0]]))
    found = np.stack(starts.switched(np.zeros((2, 1)), 7, most=100))[:, 0, :, 0]
    expected = {(*[a] * n, *[-a] * (7 - n)) for a in (-1.0, 1.0) for n in (3, 6)}
    assert {tuple(actions) for actions in found} == expected
    assert len(starts.switched(np.zeros((2, 1)), 90, most=10)) <= 10
    assert not LedStarts(lambda states: (states, states), lambda states: states, np.zeros((1, 1))).switched(
        np.zeros((2, 1)), 9, most=10
    )
