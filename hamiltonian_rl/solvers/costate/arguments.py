"""What `solve_costate` is given, checked and brought into one form."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.multiple_shooting import Guess, close_gaps
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.trajectory import Policy, Trajectory, as_numbers, rollout

Start = np.ndarray | Policy | Guess


def given_starts(initial_actions: Start | None, starts: Sequence[Start] | None) -> list[Start | None]:
    """Return all starts as one list.

    Raises:
        UsageError: Both are given, or what is no list, or an empty one.
    """
    if starts is None:
        return [initial_actions]
    if initial_actions is not None:
        raise UsageError("initial_actions and starts are both given; expected one of them.")
    if not isinstance(starts, Sequence | np.ndarray):
        raise UsageError(f"starts is a {type(starts).__name__}; expected a list of first actions and policies.")
    if not len(starts):
        raise UsageError("starts is empty; expected at least one.")
    return list(starts)


def is_endless(problem: ControlProblem, horizon: int | float | None) -> bool:
    """Return whether an infinite horizon is asked for: by ``math.inf``, or by a problem that has none of its own."""
    if horizon is None:
        return isinstance(problem, ControlProblem) and problem.horizon is None
    return isinstance(horizon, float) and horizon == math.inf


def checked_states(
    problem: ControlProblem, initial_states: np.ndarray, horizon: int | float | None
) -> tuple[ControlProblem, np.ndarray]:
    """Return the problem at its horizon and the initial states as ``(B, n)``.

    Raises:
        UsageError: If they do not fit.
    """
    if not isinstance(problem, ControlProblem):
        raise UsageError(
            f"The problem is a {type(problem).__name__}; expected a ControlProblem, as hamiltonian_rl.problem(id) is."
        )
    for name in ("state", "action"):
        if name == "action" and isinstance(problem.action_space, gym.spaces.Discrete):
            continue
        shape = getattr(problem, f"{name}_space").shape
        if len(shape) != 1 or shape[0] < 1:
            raise UsageError(f"The {name} space has the shape {shape}; expected one dimension: ({name} size,).")
    n = problem.state_space.shape[0]
    states = np.array(np.atleast_2d(as_numbers("initial_states", initial_states)))
    if states.ndim != 2 or states.shape[1] != n or not len(states):
        raise UsageError(f"initial_states have shape {np.shape(initial_states)}; expected (B, {n}), or ({n},) for one.")
    if not np.isfinite(states).all():
        bad = int(np.argwhere(~np.isfinite(states).all(1))[0, 0])
        raise UsageError(f"Initial state {bad} is {states[bad].tolist()}; expected finite numbers.")
    if horizon is not None:
        if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 0:
            raise UsageError(f"horizon = {horizon!r}; expected a whole number of steps, at least 0.")
        problem = copy.copy(problem)
        problem.horizon = int(horizon)
    if problem.horizon is None:
        raise UsageError("The problem has no horizon; say how many steps to optimize: horizon=N.")
    if not isinstance(problem.horizon, int | np.integer) or problem.horizon < 0:
        raise UsageError(f"The problem's horizon is {problem.horizon!r}; expected a whole number, at least 0.")
    return problem, states


def checked_settings(tol: float, max_iterations: int, threads: int) -> Settings:
    """Return the settings.

    Raises:
        UsageError: A number is out of range, or none.
    """
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not 0.0 < tol < np.inf:
        raise UsageError(f"tol = {tol!r}; expected a finite number above 0.")
    for name, number in (("max_iterations", max_iterations), ("threads", threads)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise UsageError(f"{name} = {number!r}; expected a whole number of at least 1.")
    return Settings(tol=float(tol), max_iterations=int(max_iterations))


def first_path(problem: ControlProblem, states: np.ndarray, start: Start | None) -> Trajectory:
    """Return the first actions of every path, within the bounds, and its states where they are known, else NaN.

    Raises:
        UsageError: They do not fit.
    """
    space: Any = problem.action_space
    count, horizon = len(states), problem.horizon
    shape = (count, horizon, *space.shape)
    if callable(start):

        def policy(state: np.ndarray, step: int) -> np.ndarray:
            chosen = as_numbers("The policy's actions", start(state, step))
            return np.asarray(np.clip(chosen, space.low, space.high))

        return rollout(problem, states, policy)
    if isinstance(start, Guess):
        return close_gaps(problem, states, start)
    actions = np.zeros(shape) if start is None else as_numbers("The first actions", start)
    if actions.shape not in (shape, shape[1:]):
        raise UsageError(f"The first actions have shape {actions.shape}; expected {shape[1:]} or {shape}.")
    if not np.isfinite(actions).all():
        raise UsageError("The first actions are not all finite.")
    within = np.maximum(actions, space.low, out=np.empty(shape))
    np.minimum(within, space.high, out=within)
    unknown = np.full((count, within.shape[1] + 1, states.shape[1]), np.nan)
    return Trajectory(unknown, within, np.empty((count, 0)), np.empty(count))
