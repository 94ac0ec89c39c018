"""The control problems behind Gymnasium's environments are those environments, step for step."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import hamiltonian_rl
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.registry import PROBLEMS

THEIRS = sorted(env_id for env_id in PROBLEMS if not env_id.startswith("hrl/"))
# MountainCarContinuous-v0 keeps its state in single precision: one rounding of a position of about one.
ROUNDING = {"MountainCarContinuous-v0": 1e-7}


@pytest.mark.parametrize("env_id", THEIRS)
def test_problem_and_environment_agree_step_for_step(env_id):
    env, problem = gym.make(env_id), hamiltonian_rl.problem(env_id)
    assert problem.horizon == env.spec.max_episode_steps
    tolerance = ROUNDING.get(env_id, 1e-12)
    env.action_space.seed(0)
    checked, ends = 0, 0
    for episode in range(40):
        env.reset(seed=episode)
        for _ in range(100):
            state = torch.as_tensor(np.array(env.unwrapped.state, float))
            action = env.action_space.sample()
            if isinstance(env.action_space, gym.spaces.Box):
                action = action.astype(float)  # NumPy lets a single-precision torque pull the whole step down with it
            as_tensor = torch.as_tensor(np.asarray(action, float))
            observation, reward, terminated, _, _ = env.unwrapped.step(action)
            after = problem.dynamics(state, as_tensor, 0)
            np.testing.assert_allclose(after, env.unwrapped.state, rtol=0, atol=tolerance)
            assert problem.reward(state, as_tensor, 0).item() == pytest.approx(reward, abs=1e-12)
            assert problem.terminated(after).item() == terminated
            np.testing.assert_allclose(problem.observation(after), observation, rtol=0, atol=1e-6)
            checked, ends = checked + 1, ends + terminated
            if terminated:
                break
    assert checked >= 700
    assert env_id != "CartPole-v1" or ends == 40


@pytest.mark.parametrize("env_id", THEIRS)
def test_problem_and_environment_agree_from_anywhere(env_id):
    """Random walks see little of the state space: neither flags nor walls, nor the fastest wrapping or clipping."""
    env, problem = gym.make(env_id).unwrapped, hamiltonian_rl.problem(env_id)
    env.reset(seed=0)
    env.action_space.seed(1)
    low, high = problem.state_space.low, problem.state_space.high
    states = np.random.default_rng(0).uniform(low, high, (2000, len(low)))
    states = states.astype(np.float32).astype(float)  # as MountainCarContinuous-v0 rounds them itself
    ends = []
    for state in states:
        env.state, env.steps_beyond_terminated = state.copy(), None
        action = env.action_space.sample()
        if isinstance(env.action_space, gym.spaces.Box):
            action = 1.5 * action.astype(float)  # also beyond the bounds
        observation, reward, terminated, _, _ = env.step(action)
        arguments = torch.as_tensor(state), torch.as_tensor(np.asarray(action, float))
        after = problem.dynamics(*arguments, 0)
        # Bounds of single precision differ from ours by 1e-7 of theirs.
        np.testing.assert_allclose(after, env.state, rtol=0, atol=max(ROUNDING.get(env_id, 0), 1e-12))
        assert problem.reward(*arguments, 0).item() == pytest.approx(reward, abs=1e-11)
        assert problem.terminated(after).item() == terminated
        np.testing.assert_allclose(problem.observation(after), observation, rtol=1e-6, atol=1e-6)
        ends.append(terminated)
    assert env_id == "Pendulum-v1" or 20 < sum(ends) < 1980


@pytest.mark.parametrize(("env_id", "action"), [("MountainCar-v0", 2), ("MountainCarContinuous-v0", [1.0])])
def test_flag_and_left_wall_are_where_gymnasium_has_them(env_id, action):
    """Random walks never see them, so start there."""
    env, problem = gym.make(env_id).unwrapped, hamiltonian_rl.problem(env_id)
    for start in ([0.44, 0.03], [0.48, 0.05], [0.49, -0.01], [-1.19, -0.05], [-1.2, 0.0]):
        env.reset(seed=0)
        env.state = np.array(start)
        arguments = torch.tensor(start, dtype=torch.float64), torch.as_tensor(np.array(action, float))
        _, reward, terminated, _, _ = env.step(action)
        after = problem.dynamics(*arguments, 0)
        np.testing.assert_allclose(after, env.state, rtol=0, atol=1e-7)
        assert problem.terminated(after).item() == terminated
        assert problem.reward(*arguments, 0).item() == pytest.approx(reward, abs=1e-12)


@pytest.mark.parametrize("env_id", THEIRS)
def test_batches_are_states_side_by_side_and_derivatives_exist(env_id):
    problem = hamiltonian_rl.problem(env_id)
    generator = np.random.default_rng(0)
    states = torch.as_tensor(problem.initial_states(6, generator))
    actions = torch.as_tensor(np.stack([np.asarray(problem.action_space.sample(), float) for _ in range(6)]))
    together = problem.dynamics(states, actions, 0)
    for state, action, after in zip(states, actions, together, strict=True):
        torch.testing.assert_close(problem.dynamics(state, action, 0), after, rtol=0, atol=0)
    states.requires_grad_()
    (gradient,) = torch.autograd.grad(problem.dynamics(states, actions, 0).sum(), states)
    assert torch.isfinite(gradient).all()
    assert problem.terminal_reward(states).shape == (6,)
    assert problem.constraints(states, actions, 0).shape == (6, 0)


def test_first_states_are_drawn_where_gymnasium_draws_them():
    for env_id in THEIRS:
        env, problem = gym.make(env_id), hamiltonian_rl.problem(env_id)
        theirs = []
        for seed in range(300):
            env.reset(seed=seed)
            theirs.append(np.array(env.unwrapped.state, float))
        ours = problem.initial_states(300, np.random.default_rng(0))
        span = np.ptp(ours, axis=0) + 1e-12
        np.testing.assert_allclose(np.min(theirs, axis=0), ours.min(axis=0), atol=0.05 * span.max())
        np.testing.assert_allclose(np.max(theirs, axis=0), ours.max(axis=0), atol=0.05 * span.max())


def test_unknown_problem_is_named():
    with pytest.raises(UsageError, match='Did you mean "Pendulum-v1"'):
        hamiltonian_rl.problem("Pendulum-v0")


def test_unknown_parameter_is_named():
    with pytest.raises(UsageError, match=r'hrl/Quadrotor-v0 has no parameter "maas"\. Did you mean "mass"'):
        hamiltonian_rl.problem("hrl/Quadrotor-v0", maas=1.0)
    with pytest.raises(UsageError, match='Pendulum-v1 has no parameter "mass"'):
        hamiltonian_rl.problem("Pendulum-v1", mass=1.0)
