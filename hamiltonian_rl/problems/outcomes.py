"""What follows from many states and actions of a control problem, checked, as arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hamiltonian_rl.errors import UsageError, first_line
from hamiltonian_rl.problems.control_problem import ControlProblem

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch work on one thread: on batches of some thousand states more of them mostly wait for each other."""
    import torch  # takes seconds to load

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Outcomes(NamedTuple):
    """What follows from M states and actions.

    Attributes:
        successors: Next states, shape ``(M, n)``.
        rewards: ``r(s, a)``, and ``γ h(s')`` where the episode is over with that; -inf where a constraint does not
            allow the action; shape ``(M,)``.
        goes_on: Where the episode is not over, shape ``(M,)``.
    """

    successors: np.ndarray
    rewards: np.ndarray
    goes_on: np.ndarray


def outcomes(
    problem: ControlProblem, states: np.ndarray, actions: np.ndarray, step: int = 0, *, last: bool = False
) -> Outcomes:
    """Evaluate a problem's functions.

    Args:
        problem: The problem.
        states: Shape ``(M, n)``.
        actions: Shape ``(M, m)``, or ``(M,)`` where they are discrete.
        step: The step k.
        last: Whether the horizon ends with this step.

    Raises:
        UsageError: If a function fails, or what it returns has another shape or is not finite.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> outcomes(problem("MountainCar-v0"), np.array([[0.45, 0.06]]), np.array([2])).goes_on.tolist()
        [False]
    """
    import torch  # takes seconds to load

    state, action = torch.from_numpy(np.ascontiguousarray(states)), torch.from_numpy(np.ascontiguousarray(actions))
    batch = (len(states),)
    with torch.no_grad():
        successors = _evaluated(problem, "dynamics", tuple(state.shape), state, action, step)
        rewards = _evaluated(problem, "reward", batch, state, action, step)
        over = _evaluated(problem, "terminated", batch, successors)
        limits = _evaluated(problem, "constraints", (*batch, None), state, action, step)
        found, paid, ended = successors.double().numpy(), rewards.double().numpy(), over.bool().numpy()
    if not (np.isfinite(found).all() and np.isfinite(paid).all()):
        row = int(np.argmin(np.isfinite(found).all(axis=-1) & np.isfinite(paid)))
        raise UsageError(
            f"dynamics or reward is not finite at state {states[row].tolist()} and action "
            f"{np.atleast_1d(actions[row]).tolist()}; expected finite numbers on all of the state space."
        )
    if last or ended.any():
        at_the_end = last_reward(problem, found)
        paid = np.where(ended | last, paid + problem.discount * at_the_end, paid)
    if limits.shape[-1]:
        paid = np.where((limits.numpy() <= 0).all(axis=-1), paid, -np.inf)
    return Outcomes(found, paid, np.zeros_like(ended) if last else ~ended)


def last_reward(problem: ControlProblem, states: np.ndarray) -> np.ndarray:
    """Return ``h(s)`` of states ``(M, n)``, shape ``(M,)``: what is paid where an episode is over.

    Raises:
        UsageError: If it is not finite, or has another shape.
    """
    import torch

    with torch.no_grad():
        state = torch.from_numpy(np.ascontiguousarray(states))
        paid = _evaluated(problem, "terminal_reward", (len(states),), state)
    found: np.ndarray = paid.double().numpy()
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found)))
        raise UsageError(
            f"terminal_reward is {found[row]} at state {states[row].tolist()}; expected a finite number wherever an "
            "episode can end."
        )
    return found


def over(problem: ControlProblem, states: np.ndarray) -> np.ndarray:
    """Return which of the states ``(M, n)`` are terminal, boolean ``(M,)``."""
    import torch

    with torch.no_grad():
        ended: np.ndarray = problem.terminated(torch.from_numpy(np.ascontiguousarray(states))).bool().numpy()
    return ended


def _evaluated(problem: ControlProblem, name: str, shape: tuple[int | None, ...], *arguments: Any) -> torch.Tensor:
    """Return what a function of the problem says of a batch; its last dimension may be free, None."""
    import torch

    try:
        value = getattr(problem, name)(*arguments)
    except (TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RuntimeError) as error:
        shapes = " and ".join(str(tuple(given.shape)) for given in arguments if isinstance(given, torch.Tensor))
        raise UsageError(
            f"{name} fails for a batch of shape {shapes}: {first_line(error)} Its arguments are batches."
        ) from error
    real = isinstance(value, torch.Tensor) and not value.is_complex()
    if (
        not real
        or len(value.shape) != len(shape)
        or any(b not in (a, None) for a, b in zip(value.shape, shape, strict=True))
    ):
        got = (
            f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
        )
        expected = str(tuple("any" if size is None else size for size in shape))
        raise UsageError(
            f"{name} returned {got} for a batch of {shape[0]}; expected a real tensor of shape {expected}."
        )
    found: torch.Tensor = value
    return found
