"""Policies that follow paths by their feedback: as starts, and in the real environment."""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.path_solution import PathSolution
from hamiltonian_rl.trajectory import Policy


def along(
    problem: ControlProblem, states: np.ndarray, actions: np.ndarray, feedback: np.ndarray, after: Policy | None = None
) -> Policy:
    """Return the policy ``a_k + K_k (s - s_k)`` within the bounds, angles being apart by the shorter way.

    Args:
        problem: With a Box of actions.
        states: Of the paths, ``(B, N + 1, n)``.
        actions: ``(B, N, m)``.
        feedback: K, ``(B, N, m, n)``.
        after: What to do after step N; the last action when None.
    """
    low, high = problem.action_space.low, problem.action_space.high  # type: ignore[union-attr]

    def follow(now: np.ndarray, step: int) -> np.ndarray:
        if step >= actions.shape[1]:
            return (
                np.broadcast_to(actions[:, -1], (len(now), *actions.shape[2:])) if after is None else after(now, step)
            )
        away = apart(problem, now, states[:, step])
        return np.asarray(np.clip(actions[:, step] + np.einsum("bmn,bn->bm", feedback[:, step], away), low, high))

    return follow


def along_paths(paths: PathSolution, after: Policy | None = None) -> Policy:
    """Return the policy that follows solved paths by their feedback (`along`), the paths' own states in order."""
    path = paths.trajectory
    return along(paths.problem, path.states, path.actions, paths.feedback, after)


def apart(problem: ControlProblem, states: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return ``states - others``, ``(B, n)``, along periodic coordinates by the shorter way round."""
    away, space = states - others, problem.state_space
    for i, wraps in enumerate(problem.periodic):
        if wraps:
            period = float(space.high[i] - space.low[i])
            away[:, i] -= period * np.round(away[:, i] / period)
    return np.asarray(away)
