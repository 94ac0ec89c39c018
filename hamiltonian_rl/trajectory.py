"""Paths of a control problem: states and costates at N + 1 times, actions and rewards at N."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems.control_problem import ControlProblem, standing_step

if TYPE_CHECKING:
    import torch

Policy = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Paths from B initial states.

    Attributes:
        states: ``s_k``, shape ``(B, N + 1, n)``.
        actions: ``a_k``, shape ``(B, N, m)``.
        rewards: ``r(s_k, a_k, k)``, shape ``(B, N)``.
        value: ``Σ γ^k r + γ^N h(s_N)`` of each path, shape ``(B,)``.
        costates: ``λ_k``, the gradient of the value with respect to ``s_k`` in the currency of step k, shape
            ``(B, N + 1, n)``; None for a path that no solver made.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    value: np.ndarray
    costates: np.ndarray | None = None


def follow(problem: ControlProblem, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards ``(B, N)`` and values ``(B,)`` along given states ``(B, N + 1, n)`` and actions ``(B, N, m)``.

    Where the dynamics are unstable, actions alone do not lead along a path again: rounding grows.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> rewards, value = follow(problem("Pendulum-v1"), np.zeros((1, 3, 2)), np.ones((1, 2, 1)))
        >>> rewards.tolist(), value.tolist()
        ([[-0.001, -0.001]], [-0.002])
    """
    import torch  # takes seconds to load

    along, taken = torch.as_tensor(states), torch.as_tensor(actions)
    with torch.no_grad():
        paid = [standing_step(problem, along[:, k], taken[:, k], k)[1] for k in range(taken.shape[1])]
        return _summed(problem, paid, along[:, -1])


def _summed(problem: ControlProblem, paid: list[torch.Tensor], last: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards ``(B, N)``, of N steps' ``(B,)``, and values ``(B,)`` with what the last state is worth."""
    rewards = np.stack([reward.numpy() for reward in paid], 1) if paid else np.zeros((len(last), 0))
    weights = float(problem.discount) ** np.arange(len(paid) + 1.0)
    # Not a matrix product, whose rounding would depend on the other paths.
    return rewards, (rewards * weights[:-1]).sum(1) + weights[-1] * problem.terminal_reward(last).numpy()


def rollout(
    problem: ControlProblem, initial_states: np.ndarray, actions: np.ndarray | Policy, horizon: int | None = None
) -> Trajectory:
    """Follow actions, or a policy, from initial states; where an episode is over, the state stands.

    Args:
        problem: The problem.
        initial_states: ``(B, n)``, or ``(n,)`` for one.
        actions: ``(B, N, m)`` or ``(N, m)`` for all alike, without the m where actions are discrete; or a function of
            states ``(B, n)`` and the step that returns ``(B, m)``.
        horizon: Number of steps of a policy; the problem's own when None.

    Raises:
        UsageError: If shapes do not fit, or a policy is given and there is no horizon.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> path = rollout(problem("Pendulum-v1"), np.array([np.pi, 0.0]), lambda states, step: 0.0 * states[:, :1])
        >>> path.states.shape, round(float(path.value[0]), 3)
        ((1, 201, 2), -1973.921)
    """
    import torch  # takes seconds to load

    n, shape = problem.state_space.shape[0], problem.action_space.shape or ()
    first = np.atleast_2d(as_numbers("initial_states", initial_states))
    if first.ndim != 2 or first.shape[1] != n:
        raise UsageError(f"initial_states have shape {first.shape}; expected (B, {n}), or ({n},) for one.")
    state, count = torch.tensor(first), len(first)
    choose = actions if callable(actions) else _in_order(actions, count, shape)
    length = _length(problem, actions, horizon)
    states, taken, paid = [state], [], []
    with torch.no_grad():
        for step in range(length):
            chosen = as_numbers("The policy's actions", choose(state.numpy().copy(), step))
            if chosen.shape != (count, *shape):
                raise UsageError(
                    f"The policy's actions of step {step} have shape {chosen.shape}; expected {(count, *shape)}."
                )
            action = torch.tensor(chosen)
            state, reward = standing_step(problem, state, action, step)
            states.append(state)
            taken.append(action)
            paid.append(reward)
        followed = torch.stack(taken, 1).numpy() if taken else np.zeros((count, 0, *shape))
        return Trajectory(torch.stack(states, 1).numpy(), followed, *_summed(problem, paid, state))


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Return values as an array of float64.

    Raises:
        UsageError: They are no numbers, or do not make an array.

    Example:
        >>> as_numbers("actions", [[1, 2]])
        array([[1., 2.]])
    """
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: expected an array of numbers, got {reprlib.repr(values)}.") from error


def _in_order(actions: Any, count: int, shape: tuple[int, ...]) -> Policy:
    """Return the policy that takes given actions step by step, whatever the state."""
    given = as_numbers("actions", actions)
    fits = given.shape[1:] == shape or (given.shape[:1] == (count,) and given.shape[2:] == shape and given.ndim > 1)
    if not given.ndim or not fits:
        inner = ", ".join(map(str, ("N", *shape)))
        raise UsageError(f"actions have shape {given.shape}; expected ({count}, {inner}), or ({inner}) for all alike.")
    given = np.broadcast_to(given, (count, *given.shape[-1 - len(shape) :]))
    return lambda states, step: given[:, step]


def _length(problem: ControlProblem, actions: Any, horizon: int | None) -> int:
    """Return how many steps to follow actions or a policy."""
    if not callable(actions):
        shape = problem.action_space.shape or ()
        given = int(np.shape(actions)[-1 - len(shape)])
        if horizon not in (None, given):
            raise UsageError(f"horizon = {horizon!r}, and there are {given} actions; leave the horizon out.")
        return given
    horizon = problem.horizon if horizon is None else horizon
    if horizon is None:
        raise UsageError("The problem has no horizon; say how many steps to follow the policy.")
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 0:
        raise UsageError(f"horizon = {horizon!r}; expected a whole number of steps, at least 0.")
    return int(horizon)
