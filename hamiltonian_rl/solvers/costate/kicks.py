"""Kicks: a policy followed but for a few steps, in which an extreme action is taken. A way from one optimum to others.

Where V has ridges (another number of swings) or the reward has kinks (an angle that wraps, a speed limit), there are
many local optima, and they differ by what is done in a few steps early on. A kick of a grid's greedy policy crosses a
ridge that the grid misplaces, for after it the grid decides anew; a kick of a solved path, followed by its feedback,
goes across a kink. Then the costates polish. (Iterated local search: Lourenço, Martin and Stützle 2003.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus, picked
from hamiltonian_rl.trajectory import Policy

FAR = 2.0  # from the middle: what takes the place of a bound where there is none


def reach(problem: ControlProblem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the least, the middle and the largest action, each ``(m,)``; 2 about the middle where a bound is missing.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> [action.tolist() for action in reach(problem("hrl/Quadrotor-v0"))]
        [[0.0, 0.0], [4.0, 4.0], [8.0, 8.0]]
    """
    space: Any = problem.action_space
    low, high = np.asarray(space.low, float), np.asarray(space.high, float)
    bounded = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):  # of bounds that are none
        middle = np.where(bounded, 0.5 * (low + high), np.clip(0.0, low, high))
    return (
        np.where(bounded, low, np.fmax(low, middle - FAR)),
        middle,
        np.where(bounded, high, np.fmin(high, middle + FAR)),
    )


def extremes(problem: ControlProblem) -> np.ndarray:
    """Return the middle of all actions, and the least and the largest of each with the others there, ``(1 + 2 m, m)``.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> extremes(problem("Pendulum-v1")).tolist()
        [[0.0], [-2.0], [2.0]]
    """
    low, middle, high = reach(problem)
    each = np.eye(len(middle), dtype=bool)
    return np.stack([middle, *(np.where(one, side, middle) for one in each for side in (low, high))])


def kicked(policy: Policy, first: np.ndarray, actions: np.ndarray, length: int) -> Policy:
    """Return the policy that takes given actions for some steps, and does what another does before and after.

    Args:
        policy: The other.
        first: Step at which each state's kick begins, ``(B,)``.
        actions: Of the kicks, ``(B, m)``.
        length: Their steps.

    Example:
        >>> still = lambda states, step: np.full((len(states), 1), 0.5)
        >>> kick = kicked(still, np.array([1, 2]), np.array([[-2.0], [2.0]]), length=2)
        >>> [kick(np.zeros((2, 2)), step).ravel().tolist() for step in range(4)]
        [[0.5, 0.5], [-2.0, 0.5], [-2.0, 2.0], [0.5, 2.0]]
    """

    def kick(states: np.ndarray, step: int) -> np.ndarray:
        now = (first <= step) & (step < first + length)
        return np.where(now[:, None], actions, policy(states, step))

    return kick


def best_few(best: PathSolution, runs: Sequence[PathSolution], most: int) -> list[PathSolution]:
    """Return the best paths, and after them, best first, the other stationary paths of each state that differ in value.

    Where a state has fewer than ``most`` of them its best path takes the place.

    Args:
        best: The best path of each state.
        runs: Solutions for the same states.
        most: Paths of a state to return at the most.
    """
    found = [replace(best, from_all_starts=[], start=np.zeros(len(best.value), np.int64))]
    stationary = (PathStatus.LOCAL_OPTIMUM, PathStatus.STATIONARY)
    values = np.array([np.where([s in stationary for s in run.status], run.value, -np.inf) for run in runs])
    for _ in range(most - 1):
        values[np.abs(values - found[-1].value) <= 1e-9 * (1.0 + np.abs(found[-1].value))] = -np.inf
        chosen = values.argmax(0)
        others = np.isfinite(values.max(0))
        if not others.any():
            break
        found.append(picked([found[0], *runs], np.where(others, chosen + 1, 0)))
    return found
