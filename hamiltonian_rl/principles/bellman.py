"""Bellman's equation (Eq. 16-20) as update rules.

Notation: ``r`` reward, ``γ`` discount, ``q`` action values of shape ``(..., A)``, ``a`` actions of
shape ``(...)``. Every function takes NumPy arrays or torch tensors and returns the same kind.

The optimal action value satisfies ``Q(s, a) = r + γ E[max_a' Q(s', a')]`` (Eq. 19). A learner sees
one sample of the right-hand side, the *target*; what is missing on the left is the
*temporal-difference error*. A terminal ``s'`` has value zero; a truncated one has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hamiltonian_rl.problems import MDP

Array = Any  # numpy.ndarray or torch.Tensor: the functions use only what both understand


def action_value(q: Array, actions: Array) -> Array:
    """Return ``q[..., a]``, the value of the given actions.

    Args:
        q: Action values, shape ``(..., A)``.
        actions: Integer actions, shape ``(...)``.

    Example:
        >>> action_value(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0]))
        array([2., 3.])
    """
    if isinstance(q, np.ndarray):
        rows = q.reshape(-1, q.shape[-1])
        return rows[np.arange(len(rows)), actions.reshape(-1)].reshape(actions.shape)
    return q.gather(-1, actions[..., None]).squeeze(-1)


def double_q_value(q_online: Array, q_target: Array) -> Array:
    """Return the value of the next state by double Q-learning: one network chooses, the other judges.

    ``max_a Q(s', a)`` of a noisy ``Q`` is biased upwards; with two estimates whose errors are not
    the same, ``Q_target(s', argmax_a Q_online(s', a))`` is not (van Hasselt, Guez, Silver 2016).

    Args:
        q_online: Action values that choose, shape ``(..., A)``.
        q_target: Action values that judge, shape ``(..., A)``.

    Example:
        >>> double_q_value(np.array([[0.0, 1.0]]), np.array([[5.0, 3.0]]))
        array([3.])
    """
    return action_value(q_target, q_online.argmax(-1))


def greedy_value(q: Array) -> Array:
    """Return ``max_a q[..., a]``, the right-hand side of Eq. 18 for tabulated or predicted ``q``.

    Example:
        >>> greedy_value(np.array([[1.0, 2.0], [3.0, 0.0]]))
        array([2., 3.])
    """
    return action_value(q, q.argmax(-1))


def epsilon_greedy_value(q: Array, epsilon: float) -> Array:
    """Return ``Σ_a π(a) q[..., a]`` of the policy that takes any action with probability ε, else the best.

    Example:
        >>> epsilon_greedy_value(np.array([[1.0, 2.0], [3.0, 0.0]]), 0.5)
        array([1.75, 2.25])
    """
    return (1.0 - epsilon) * greedy_value(q) + epsilon * q.mean(-1)


def bellman_target(rewards: Array, discounts: Array, next_values: Array) -> Array:
    """Return one sample of the right-hand side of Eq. 19, ``r + γ V(s')``.

    Args:
        rewards: Reward of the step, or ``Σ_k γ^k r_k`` of n steps, shape ``(...)``.
        discounts: ``γ^n``, and zero where the episode terminated. Truncation is not termination:
            there the discount stays, and the value of the state that the limit cut off counts.
        next_values: ``V(s')``, shape ``(...)``.

    Example:
        >>> bellman_target(np.array([1.0, 1.0]), np.array([0.9, 0.0]), np.array([10.0, 10.0]))
        array([10.,  1.])
    """
    return rewards + discounts * next_values


def huber_slope(error: Array, threshold: float | Array = 1.0) -> Array:
    """Return the derivative of Huber's loss: the error, clipped to ``[-threshold, threshold]``.

    Where targets are random, the squared loss settles at their mean, which is Bellman's value; Huber's
    loss settles between mean and median, which is not. An infinite threshold gives the squared loss.

    Example:
        >>> huber_slope(np.array([-3.0, 0.5]))
        array([-1. ,  0.5])
    """
    return error.clip(-threshold, threshold)


def huber(error: Array, threshold: float | Array = 1.0) -> Array:
    """Return Huber's loss: ``e²/2`` inside the threshold t, ``t (|e| - t/2)`` outside.

    Example:
        >>> huber(np.array([-3.0, 0.5]))
        array([2.5  , 0.125])
    """
    slope = huber_slope(error, threshold)
    return slope * (error - 0.5 * slope)


# On tables: the whole right-hand side of Eq. 19, not one sample of it.


def backup(mdp: MDP, value: np.ndarray) -> np.ndarray:
    """Return ``Q(s, a) = r(s, a) + γ Σ_s' P(s' | s, a) V(s')``, the right-hand side of Eq. 19 before its maximum.

    Args:
        mdp: The process.
        value: ``V``, shape ``(S,)``.

    Returns:
        Shape ``(S, A)``; -inf where an action is not available.
    """
    expected: np.ndarray = (mdp.transition_matrix @ value).reshape(mdp.rewards.shape)
    return mdp.rewards + mdp.discount * expected


def bellman_residual(mdp: MDP, value: np.ndarray) -> np.ndarray:
    """Return ``max_a Q(s, a) - V(s)``, zero exactly where Bellman's equation (Eq. 19) holds, shape ``(S,)``."""
    residual: np.ndarray = backup(mdp, value).max(axis=1) - value
    return residual


def optimal_actions(q: np.ndarray, tolerance: float) -> np.ndarray:
    """Return which actions are within ``tolerance`` of the best one of their state: ties are sets.

    Example:
        >>> optimal_actions(np.array([[1.0, 1.0 - 1e-12, 0.0]]), 1e-9)
        array([[ True,  True, False]])
    """
    tied: np.ndarray = q >= q.max(axis=-1, keepdims=True) - tolerance
    return tied


def span_shifts(lowest: float, highest: float, least: float, most: float) -> tuple[float, float]:
    """Return what to add to ``TV`` to bound ``V*`` from below and from above (MacQueen 1966).

    With ``d = TV - V``, every further sweep adds at least ``c lowest`` to each state and at most
    ``c highest``, where c lies between ``least`` and ``most``. Sums of the geometric series:
    ``TV + c/(1-c) lowest <= V_π <= V* <= TV + c/(1-c) highest``, each with the c that makes it hold.

    Args:
        lowest: ``min d``.
        highest: ``max d``.
        least: ``γ`` times the smallest sum of a row's probabilities, zero where episodes may end at once.
        most: ``γ`` times the largest.

    Example:
        >>> span_shifts(1.0, 2.0, 0.5, 0.5)
        (1.0, 2.0)
        >>> span_shifts(1.0, 2.0, 0.0, 0.5)  # an episode may end, then nothing is added
        (0.0, 2.0)
    """
    if most >= 1.0:
        return -np.inf if lowest < 0 else 0.0, np.inf if highest > 0 else 0.0
    series = {weight: weight / (1.0 - weight) for weight in (least, most)}
    return lowest * series[most if lowest < 0 else least], highest * series[most if highest > 0 else least]
