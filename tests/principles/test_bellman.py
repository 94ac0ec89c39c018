"""The update rules of Bellman's equation against tables worked out by hand, brute force and torch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hamiltonian_rl.principles.bellman import (
    action_value,
    bellman_target,
    double_q_value,
    greedy_value,
    huber,
    huber_slope,
)

Make = Callable[[Any], Any]
either_kind = pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
leading_shapes = pytest.mark.parametrize("leading", [(), (4,), (2, 3)], ids=str)


def assert_same(found: Any, expected: Any, make: Make, *, atol: float = 0.0) -> None:
    """The result is of the kind that came in, of the expected shape, and has the expected numbers."""
    assert isinstance(found, torch.Tensor if make is torch.tensor else np.ndarray | np.generic)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


@either_kind
def test_action_value_picks_the_entry_of_each_action(make: Make) -> None:
    q = make([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    assert_same(action_value(q, make([2, 0, 1])), [3.0, 4.0, 8.0], make)


@either_kind
@leading_shapes
def test_action_value_keeps_the_leading_shape(make: Make, leading: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    q, actions = rng.normal(size=(*leading, 5)), rng.integers(0, 5, leading)
    expected = np.empty(leading)
    for index in np.ndindex(leading):
        expected[index] = q[index][actions[index]]
    assert_same(action_value(make(q), make(actions)), expected, make)


@either_kind
def test_double_q_value_lets_one_table_choose_and_the_other_judge(make: Make) -> None:
    q_online = make([[0.0, 1.0, 0.5], [9.0, 1.0, 0.0], [-3.0, -2.0, -1.0]])  # chooses actions 1, 0, 2
    q_target = make([[5.0, 3.0, 9.0], [-4.0, 8.0, 8.0], [7.0, 7.0, 2.0]])  # judges them as 3, -4, 2
    assert_same(double_q_value(q_online, q_target), [3.0, -4.0, 2.0], make)


@either_kind
@leading_shapes
def test_double_q_value_of_one_table_with_itself_is_its_maximum(make: Make, leading: tuple[int, ...]) -> None:
    q = np.random.default_rng(1).normal(size=(*leading, 4))
    assert_same(double_q_value(make(q), make(q)), q.max(-1), make)


@either_kind
@pytest.mark.parametrize("seed", range(5))
def test_double_q_value_is_unbiased_where_the_single_maximum_is_not(make: Make, seed: int) -> None:
    # Two actions, both worth 0, each estimated twice with noise N(0, 1). The maximum of two standard
    # normals has mean 1/√π and variance 1 - 1/π; the judge's noise is independent of the choice.
    n = 20_000
    first, second = (make(noise) for noise in np.random.default_rng(seed).normal(size=(2, n, 2)))
    bias = 1 / np.pi**0.5
    # Five standard errors: crossed by chance once in two million seeds.
    assert abs(float(greedy_value(first).mean()) - bias) < 5 * ((1 - 1 / np.pi) / n) ** 0.5
    assert abs(float(double_q_value(first, second).mean())) < 5 * (1 / n) ** 0.5


@either_kind
def test_greedy_value_is_the_largest_action_value(make: Make) -> None:
    assert_same(greedy_value(make([[1.0, 2.0], [3.0, 0.0], [-5.0, -4.0]])), [2.0, 3.0, -4.0], make)


@either_kind
@leading_shapes
def test_greedy_value_keeps_the_leading_shape(make: Make, leading: tuple[int, ...]) -> None:
    q = np.random.default_rng(2).normal(size=(*leading, 3))
    assert_same(greedy_value(make(q)), q.max(-1), make)


@either_kind
def test_bellman_target_adds_the_discounted_value_of_the_successor(make: Make) -> None:
    # 1 + 0.5 · 8 = 5; terminated: 2 + 0 · 8 = 2; two steps of 0.5: -1 + 0.25 · (-4) = -2; 0 + 1 · 3 = 3.
    rewards, discounts = make([[1.0, 2.0], [-1.0, 0.0]]), make([[0.5, 0.0], [0.25, 1.0]])
    target = bellman_target(rewards, discounts, make([[8.0, 8.0], [-4.0, 3.0]]))
    assert_same(target, [[5.0, 2.0], [-2.0, 3.0]], make)


def bellman_operator(q: Any, rewards: Any, probabilities: Any, gamma: float) -> Any:
    """Right-hand side of Eq. 18 for tables ``q, rewards (S, A)`` and ``probabilities (S, A, S)``."""
    return bellman_target(rewards, gamma, probabilities @ greedy_value(q))


def random_mdp(seed: int, n_states: int, n_actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards in [-1, 1] and transition probabilities, some of them zero."""
    rng = np.random.default_rng(seed)
    weights = rng.random((n_states, n_actions, n_states)) * rng.integers(0, 2, (n_states, n_actions, n_states))
    weights[..., 0] += 1e-3  # every row leads somewhere
    return rng.uniform(-1, 1, (n_states, n_actions)), weights / weights.sum(-1, keepdims=True)


mdps = {"seed": st.integers(0, 2**32 - 1), "n_states": st.integers(1, 5), "n_actions": st.integers(1, 4)}
gammas = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0])


@either_kind
@settings(max_examples=60, deadline=None)
@given(gamma=gammas, scale=st.sampled_from([1e-3, 1.0, 1e3]), **mdps)
def test_bellman_operator_brings_any_two_tables_closer_by_the_discount(
    make: Make, gamma: float, scale: float, seed: int, n_states: int, n_actions: int
) -> None:
    rewards, probabilities = map(make, random_mdp(seed, n_states, n_actions))
    first, second = map(make, scale * np.random.default_rng(seed + 1).normal(size=(2, n_states, n_actions)))
    before = float(abs(first - second).max())
    after = abs(
        bellman_operator(first, rewards, probabilities, gamma) - bellman_operator(second, rewards, probabilities, gamma)
    )
    # The slack is rounding: numbers up to 1 + 4 · scale, a dozen operations of 2e-16 each.
    assert float(after.max()) <= gamma * before + 1e-14 * (1 + scale)


@either_kind
@settings(max_examples=60, deadline=None)
@given(gamma=gammas, shift=st.floats(-10, 10), **mdps)
def test_bellman_operator_passes_a_constant_on_times_the_discount(
    make: Make, gamma: float, shift: float, seed: int, n_states: int, n_actions: int
) -> None:
    # T(Q + c) = TQ + γc: here the contraction holds with equality.
    rewards, probabilities = map(make, random_mdp(seed, n_states, n_actions))
    q = make(np.random.default_rng(seed + 1).normal(size=(n_states, n_actions)))
    moved = bellman_operator(q + shift, rewards, probabilities, gamma)
    expected = np.asarray(bellman_operator(q, rewards, probabilities, gamma)) + gamma * shift
    np.testing.assert_allclose(np.asarray(moved), expected, rtol=0, atol=1e-13)  # rounding of numbers up to 15


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_states=st.integers(1, 4), n_actions=st.integers(1, 3))
def test_fixed_point_of_the_bellman_operator_is_the_value_of_the_best_of_all_policies(
    seed: int, n_states: int, n_actions: int
) -> None:
    gamma = 0.8
    rewards, probabilities = random_mdp(seed, n_states, n_actions)
    q = np.zeros((n_states, n_actions))
    for _ in range(200):
        q = bellman_operator(q, rewards, probabilities, gamma)
    rows, values = np.arange(n_states), []
    for policy in itertools.product(range(n_actions), repeat=n_states):
        chosen = rows, list(policy)
        values.append(np.linalg.solve(np.eye(n_states) - gamma * probabilities[chosen], rewards[chosen]))
    # The distance to the fixed point is at most 0.8^200 / (1 - 0.8) < 1e-18, so what is left is rounding,
    # which the solve multiplies by 1 / (1 - 0.8) and its condition.
    np.testing.assert_allclose(q.max(-1), np.max(values, axis=0), rtol=0, atol=1e-12)


# Inside, at both kinks, outside, and far outside of the quadratic part.
ERRORS = [-1e6, -3.0, -1.0, -0.999, -0.5, 0.0, 0.25, 1.0, 1.001, 2.0, 1e6]


@either_kind
def test_huber_equals_smooth_l1_loss_of_torch(make: Make) -> None:
    oracle = torch.nn.functional.smooth_l1_loss(
        torch.tensor(ERRORS, dtype=torch.float64),
        torch.zeros(len(ERRORS), dtype=torch.float64),
        beta=1.0,
        reduction="none",
    )
    found = huber(make(np.array(ERRORS)))
    assert_same(found, oracle.numpy(), make, atol=1e-9)  # one rounding of 1e6 is 1e-10


@either_kind
def test_huber_slope_is_the_derivative_of_smooth_l1_loss(make: Make) -> None:
    error = torch.tensor(ERRORS, dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error), beta=1.0, reduction="sum")
    (derivative,) = torch.autograd.grad(loss, error)
    assert_same(huber_slope(make(np.array(ERRORS))), derivative.numpy(), make)


@either_kind
@leading_shapes
def test_huber_keeps_the_shape(make: Make, leading: tuple[int, ...]) -> None:
    error = make(np.full(leading, 3.0))
    assert_same(huber(error), np.full(leading, 2.5), make)  # |3| - 1/2
    assert_same(huber_slope(error), np.full(leading, 1.0), make)
