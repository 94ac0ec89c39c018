"""The costate agent against Riccati's closed form, computed optima, and environments as Gymnasium registers them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from hamiltonian_rl.agents import Agent, CostateAgent, make_agent
from hamiltonian_rl.agents.evaluation import Evaluator
from hamiltonian_rl.agents.led_paths import LedPaths, PlannedPath
from hamiltonian_rl.envs.behind import copies_of, problem_behind
from hamiltonian_rl.envs.control_env import ControlEnv
from hamiltonian_rl.envs.linear_quadratic import LinearQuadratic
from hamiltonian_rl.envs.making import make_vector_env
from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.registry import PROBLEMS
from hamiltonian_rl.solvers.solve_control import solve_control


def episode(env: gym.Env, agent: Agent, seed: int) -> float:
    """Return the return of one greedy episode, the agent being told nothing but the observations."""
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(agent.predict(observation, deterministic=True)[0])
        total, over = total + float(reward), terminated or truncated
    return total


def riccati(p: LinearQuadratic) -> np.ndarray:
    """Return P of the optimal return ``-s'Ps`` by the textbook recursion, written anew here."""
    A, B, Q, R, P = (np.asarray(matrix) for matrix in (p.A, p.B, p.Q, p.R, p.terminal_Q))
    for _ in range(p.horizon):
        P = Q + A.T @ P @ (A - B @ np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A))
    return P


def test_the_return_on_a_regulator_is_riccatis():
    env = gym.make("hrl/LinearQuadratic-v0")
    agent, P = CostateAgent(env), riccati(problem("hrl/LinearQuadratic-v0"))
    for seed in range(3):
        env.reset(seed=seed)
        first = env.unwrapped.state
        # The agent sees single precision: 6e-8 of the state.
        assert episode(env, agent, seed) == pytest.approx(-first @ P @ first, rel=1e-5)


def test_cart_pole_is_kept_up_for_500_steps_without_training():
    assert (
        Evaluator("CartPole-v1").returns(make_agent("costate", gym.make("CartPole-v1")), episodes=5, seed=0) == 500
    ).all()


def test_pendulums_return_is_within_a_percent_of_the_computed_optimum():
    env = gym.make("Pendulum-v1")
    agent = CostateAgent(env, points=51)
    returns, starts = [], []
    for seed in range(4):
        env.reset(seed=seed)
        starts.append(env.unwrapped.state.copy())
        returns.append(episode(env, agent, seed))
    (grid,) = agent._planner._grids.values()
    optimum = solve_control(problem("Pendulum-v1"), np.array(starts), grid=grid).value
    assert (np.array(returns) <= optimum + 1e-3).all()  # along the unstable upright Gymnasium's rounding shows
    assert np.mean(optimum - returns) <= 0.01 * np.mean(np.abs(optimum))


def test_environments_in_a_vector_are_led_as_single_ones():
    agent = CostateAgent(gym.make("hrl/DoubleIntegrator-v0"))
    together = Evaluator("hrl/DoubleIntegrator-v0").returns(agent, episodes=3, seed=0)
    env = gym.make("hrl/DoubleIntegrator-v0")
    first = [env.reset(seed=seed)[0] for seed in range(3)]
    apart = [agent.predict(row, deterministic=True)[0] for row in first]
    actions = CostateAgent(env).predict(np.array(first), deterministic=True)[0]
    np.testing.assert_allclose(actions, np.array(apart), rtol=1e-6)
    assert together.shape == (3,)


def test_predicting_does_not_disturb_the_path_of_training():
    env = gym.make("hrl/DoubleIntegrator-v0")
    undisturbed, agent = CostateAgent(gym.make("hrl/DoubleIntegrator-v0")), CostateAgent(env)
    undisturbed.learn(60)
    agent.learn(30)
    agent.predict(np.array([5.0, 5.0]), deterministic=True)
    agent.learn(30, reset_num_timesteps=False)
    np.testing.assert_array_equal(env.unwrapped.state, undisturbed.env.unwrapped.state)


class Straight:
    """Plans unit steps from a state to the right, and counts what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, states, steps, so_far):
        self.asked.append((states[:, 0].tolist(), steps))
        return [
            PlannedPath(state + np.arange(steps + 1.0)[:, None], lambda now, step: np.ones((1, 1))) for state in states
        ]


def led(plan, steps=4, stride=None):
    shown = LinearQuadratic(A=[[1.0]], B=[[1.0]])  # states from -10 to 10
    return LedPaths(shown, plan, steps=steps, stride=stride)


def test_a_path_that_is_followed_is_not_planned_again():
    plan = Straight()
    paths = led(plan)
    for state in (0.0, 1.1, 2.0, 3.0):  # 0.1 beside it is less than a hundredth of 20
        paths.actions(np.array([[state]]), told=True)
    assert plan.asked == [([0.0], 4)]


def test_who_left_the_path_begins_an_episode_unless_all_ends_are_told():
    for told, steps in ((False, 4), (True, 3)):
        plan = Straight()
        paths = led(plan)
        paths.actions(np.array([[0.0]]), told=told)
        paths.actions(np.array([[5.0]]), told=told)
        assert plan.asked == [([0.0], 4), ([5.0], steps)]


def test_an_end_that_is_told_begins_an_episode_on_the_path_too():
    plan = Straight()
    paths = led(plan)
    paths.actions(np.array([[0.0], [0.0]]), told=True)
    paths.forget(np.array([False, True]))
    paths.actions(np.array([[1.0], [1.0]]), told=True)
    assert plan.asked == [([0.0, 0.0], 4), ([1.0], 4)]


def test_a_stride_plans_the_rest_of_the_episode():
    plan = Straight()
    paths = led(plan, stride=2)
    for state in range(6):
        paths.actions(np.array([[float(state)]]), told=True)
    assert plan.asked == [([0.0], 4), ([2.0], 2), ([4.0], 4)]


@pytest.mark.parametrize("env_id", PROBLEMS)
def test_the_state_of_an_observation_is_the_state_observed(env_id):
    p = problem(env_id)
    states = torch.as_tensor(p.initial_states(50, np.random.default_rng(0)))
    again = p.state_of(p.observation(states))
    torch.testing.assert_close(p.observation(again), p.observation(states), rtol=0.0, atol=1e-14)
    torch.testing.assert_close(again, states, rtol=0.0, atol=1e-14)  # they are drawn within ±π


class HalfSeen(LinearQuadratic):
    """A problem whose agents see one coordinate."""

    def observation(self, state):
        return state[..., :1]


def refused(env, *, match):
    with pytest.raises(UsageError, match=match):
        CostateAgent(env)


def test_what_cannot_be_planned_is_refused_in_a_sentence():
    refused(gym.make("FrozenLake-v1"), match='no control problem of "FrozenLake-v1"')
    refused(gym.make("Pendulum-v1", g=9.8), match='no parameter "g"')
    refused(ControlEnv(HalfSeen()), match="state_of")
    refused(ControlEnv(LinearQuadratic(horizon=None)), match="horizon=N")
    refused(gym.wrappers.TransformReward(gym.make("Pendulum-v1"), abs), match="TransformReward")
    refused(
        SyncVectorEnv([lambda mass=mass: gym.make("hrl/Quadrotor-v0", mass=mass) for mass in (1.0, 1.2)]),
        match="different problems",
    )
    hidden = gym.wrappers.vector.RecordEpisodeStatistics(SyncVectorEnv([lambda: gym.make("Pendulum-v1")]))
    with pytest.raises(UsageError, match="does not show its environments"):
        copies_of(hidden)


def test_the_problem_behind_is_found_at_the_environments_own_limit():
    assert problem_behind(gym.make("hrl/Quadrotor-v0", mass=1.2))[0].mass == 1.2
    assert problem_behind(gym.make("Pendulum-v1", max_episode_steps=50))[0].horizon == 50
    assert problem_behind(make_vector_env("CartPole-v1", 2))[0].horizon == 500
    assert problem_behind(make_vector_env("hrl/Zermelo-v0", 2))[0].horizon == 50
    changed = gym.make("hrl/Quadrotor-v0")
    changed.unwrapped.problem.mass = 1.5
    assert problem_behind(changed)[0].mass == 1.5  # as it is, not as it was made
    gym.register("Own-v0", lambda **_: ControlEnv(LinearQuadratic(horizon=9)))
    assert problem_behind(gym.make("Own-v0"))[0].horizon == 9
    own = LinearQuadratic(horizon=7)
    found, source = problem_behind(ControlEnv(own))
    assert found is not own
    assert (found.horizon, source) == (7, None)


def test_a_saved_agent_knows_its_problem_again(tmp_path):
    env = gym.make("hrl/Quadrotor-v0", mass=1.2, max_episode_steps=30)
    observation = env.reset(seed=0)[0]
    agent = CostateAgent(env)
    agent.save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent")
    assert (loaded.problem.mass, loaded.problem.horizon) == (1.2, 30)
    for _ in range(3):
        action = agent.predict(observation, deterministic=True)[0]
        np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
        observation = env.step(action)[0]


def test_an_agent_of_a_problem_of_ones_own_asks_for_its_environment(tmp_path):
    CostateAgent(ControlEnv(LinearQuadratic())).save(tmp_path / "agent")
    loaded = Agent.load(tmp_path / "agent")
    with pytest.raises(UsageError, match="set_env"):
        loaded.predict(np.zeros(2, np.float32), deterministic=True)
    loaded.set_env(ControlEnv(LinearQuadratic()))
    assert loaded.predict(np.zeros(2, np.float32), deterministic=True)[0].shape == (1,)
