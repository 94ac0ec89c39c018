"""A second start, made of the path that the first has found: mirrored, later, and with a high barrier.

Ascent ends in the optimum near its start. Where one pull is too weak to reach a target (a pole that must be swung
up, a car in a valley), the good optimum moves away from it first; ascent finds the one with fewer swings. The
mirrored actions, a part of the horizon later, leave the time for one more swing; a high barrier first brings all
actions towards the middle of their bounds, so that the guess is a hint of where to go, not a place to stay. This is
a rule of thumb: it helps where optima differ by their swings, and costs a second solve everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem

HIGH_BARRIER = 100.0
LATER = 5  # the delay is the horizon divided by this


def bounded_on_both_sides(problem: ControlProblem) -> bool:
    """Return whether every action has a low and a high bound: only then is there a middle to mirror it in."""
    space: Any = problem.action_space
    return bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())


def mirrored_later(problem: ControlProblem, actions: np.ndarray) -> np.ndarray:
    """Return ``middle`` for the first N // 5 steps, then ``2 middle - a_(k - N // 5)``; shape ``(B, N, m)``.

    Args:
        problem: Its bounds say where the middle is.
        actions: Of a path, ``(B, N, m)``; the middle takes the place of what is not finite.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> pendulum = problem("Pendulum-v1")  # actions between -2 and 2
        >>> mirrored_later(pendulum, np.array([[[1.0], [2.0], [0.5], [0.0], [-1.0]]])).ravel().tolist()
        [0.0, -1.0, -2.0, -0.5, 0.0]
    """
    space: Any = problem.action_space
    middle = 0.5 * (space.low.astype(float) + space.high.astype(float))
    horizon = actions.shape[1]
    delay = horizon // LATER
    mirrored = np.where(np.isfinite(actions), 2.0 * middle - actions, middle)
    later = np.broadcast_to(middle, actions.shape).copy()
    later[:, delay:] = mirrored[:, : horizon - delay]
    return later
