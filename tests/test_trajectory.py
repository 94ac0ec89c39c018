"""Rollouts: against a loop by hand, Gymnasium's own environment, and with what does not fit."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from hamiltonian_rl.envs.problems import problem
from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.trajectory import rollout


def test_a_rollout_is_the_loop_that_one_would_write() -> None:
    growth, horizon = problem("hrl/BrockMirman-v0"), 7
    shares = np.random.default_rng(0).uniform(0.2, 0.8, (3, horizon, 1))
    path = rollout(growth, np.array([[0.1], [0.2], [0.3]]), shares)
    for i, capital in enumerate((0.1, 0.2, 0.3)):
        total = 0.0
        for k in range(horizon):
            assert path.states[i, k, 0] == pytest.approx(capital, rel=1e-14)
            assert path.rewards[i, k] == pytest.approx(np.log(shares[i, k, 0] * capital**0.36), rel=1e-13)
            total += 0.95**k * path.rewards[i, k]
            capital = (1.0 - shares[i, k, 0]) * capital**0.36
        assert path.value[i] == pytest.approx(total, rel=1e-13)
    assert path.costates is None


def test_the_end_is_paid_at_its_discount() -> None:
    linear = problem("hrl/LinearQuadratic-v0", discount=0.5)
    path = rollout(linear, np.array([1.0, 0.0]), np.zeros((3, 1)))
    assert path.value[0] == -(1.0 + 0.5 + 0.25 + 0.125 * 10.0)


def test_a_rollout_follows_gymnasiums_pendulum() -> None:
    env = gym.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    env.state = np.array([2.0, -0.5])  # type: ignore[attr-defined]
    torques = np.random.default_rng(1).uniform(-2.0, 2.0, (30, 1))
    earned = sum(float(env.step(torque)[1]) for torque in torques)
    path = rollout(problem("Pendulum-v1"), np.array([2.0, -0.5]), torques)
    assert path.value[0] == pytest.approx(earned, rel=1e-9)
    np.testing.assert_allclose(path.states[0, -1], env.state, atol=1e-9)  # type: ignore[attr-defined]


def test_a_policy_sees_states_and_step_and_its_actions_are_kept() -> None:
    seen = []

    def policy(states: np.ndarray, step: int) -> np.ndarray:
        seen.append((states.shape, step))
        return states[:, :1] * (step + 1)

    path = rollout(problem("hrl/LinearQuadratic-v0"), np.ones((2, 2)), policy, horizon=3)
    assert seen == [((2, 2), 0), ((2, 2), 1), ((2, 2), 2)]
    np.testing.assert_array_equal(path.actions[:, 2, 0], 3.0 * path.states[:, 2, 0])
    again = rollout(problem("hrl/LinearQuadratic-v0"), np.ones((2, 2)), path.actions)
    np.testing.assert_array_equal(again.states, path.states)


def test_a_policy_that_writes_into_its_states_changes_neither_the_path_nor_the_callers_array() -> None:
    def careless(states: np.ndarray, step: int) -> np.ndarray:
        states *= 0.0
        return states[:, :1]

    first = np.ones((2, 2))
    path = rollout(problem("hrl/LinearQuadratic-v0"), first, careless, horizon=2)
    still = rollout(problem("hrl/LinearQuadratic-v0"), np.ones((2, 2)), np.zeros((2, 1)))
    np.testing.assert_array_equal(first, 1.0)
    np.testing.assert_array_equal(path.states, still.states)


def test_discrete_actions_are_followed_too() -> None:
    pole = problem("CartPole-v1")
    path = rollout(pole, np.zeros((2, 4)), np.ones(5))
    assert path.actions.shape == (2, 5)
    assert path.value.tolist() == [5.0, 5.0]
    np.testing.assert_array_equal(rollout(pole, np.zeros((2, 4)), np.ones((2, 5))).states, path.states)
    np.testing.assert_array_equal(rollout(pole, np.zeros((2, 4)), lambda s, k: np.ones(2), 5).states, path.states)


@pytest.mark.parametrize("actions", [np.zeros((0, 1)), lambda states, step: states[:, :1]])
def test_no_steps_are_worth_their_end(actions: Any) -> None:
    horizon = 0 if callable(actions) else None
    path = rollout(problem("hrl/LinearQuadratic-v0"), np.array([2.0, 0.0]), actions, horizon=horizon)
    assert path.value.tolist() == [-40.0]
    assert path.states.shape == (1, 1, 2)
    assert path.actions.shape == (1, 0, 1)
    assert path.rewards.shape == (1, 0)


def test_no_states_make_no_paths() -> None:
    path = rollout(problem("hrl/LinearQuadratic-v0"), np.zeros((0, 2)), np.zeros((4, 1)))
    assert path.states.shape == (0, 5, 2)
    assert path.value.shape == (0,)


def test_a_rollout_keeps_no_graph_of_a_problems_parameters() -> None:
    linear = problem("hrl/LinearQuadratic-v0")
    linear.A = linear.A.clone().requires_grad_()  # type: ignore[attr-defined]
    path = rollout(linear, np.ones(2), np.zeros((2, 1)))
    assert isinstance(path.states, np.ndarray)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("states", "actions", "horizon", "message"),
    [
        (np.zeros((2, 3)), np.zeros((5, 1)), None, r"initial_states have shape \(2, 3\); expected \(B, 2\)"),
        (np.zeros((2, 2, 2)), np.zeros((5, 1)), None, "initial_states have shape"),
        ("hanging", np.zeros((5, 1)), None, "initial_states: expected an array of numbers, got 'hanging'"),
        (np.zeros((2, 2)), np.zeros((5, 2)), None, r"actions have shape \(5, 2\); expected \(2, N, 1\), or \(N, 1\)"),
        (np.zeros((2, 2)), np.zeros((2, 5, 3)), None, "actions have shape"),
        (np.zeros((2, 2)), np.zeros((3, 5, 1)), None, "actions have shape"),
        (np.zeros((2, 2)), np.zeros(5), None, "actions have shape"),
        (np.zeros((2, 2)), 0.0, None, "actions have shape"),
        (np.zeros((2, 2)), "left", None, "array of numbers"),
        (np.zeros((2, 2)), np.zeros((5, 1)), 3, "horizon = 3, and there are 5 actions"),
        (np.zeros((2, 2)), lambda s, k: s, None, r"actions of step 0 have shape \(2, 2\); expected \(2, 1\)"),
        (np.zeros((2, 2)), lambda s, k: s[:, 0], None, "actions of step 0"),
        (np.zeros((2, 2)), lambda s, k: s[: 2 - k, :1], None, "actions of step 1"),
        (np.zeros((2, 2)), lambda s, k: "left", None, "array of numbers"),
        (np.zeros((2, 2)), lambda s, k: s[:, :1], -1, "horizon = -1"),
        (np.zeros((2, 2)), lambda s, k: s[:, :1], 2.5, "horizon = 2.5"),
    ],
)
def test_what_does_not_fit_is_named(states: Any, actions: Any, horizon: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rollout(problem("hrl/LinearQuadratic-v0"), states, actions, horizon)


def test_a_policy_without_horizon_asks_for_one() -> None:
    with pytest.raises(UsageError, match="how many steps"):
        rollout(problem("hrl/BrockMirman-v0"), np.array([0.1]), lambda states, step: 0.5 * states)
