"""Further starts, made of the paths that were found: mirrored, later, and with a high barrier.

Ascent ends in the optimum near its start. Where one pull is too weak to reach a target (a pole that must be swung
up, a car in a valley), the good optimum moves away from it first; ascent finds the one with fewer swings. The
mirrored actions, a part of the horizon later, leave the time for one more swing; a high barrier first brings all
actions towards the middle of their bounds, so that the guess is a hint of where to go, not a place to stay.

Every path is mirrored once. Where that ends in the same optimum there is probably one alone, and where in a better
one it has served; where it ends in another and worse one, two more are tried. This is a rule of thumb: it helps where
optima differ by their swings, and costs a second solve everywhere. It was chosen among sixteen on the cart-pole's
states of seeds 100 to 102.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.path_solution import PathSolution

HIGH_BARRIER = 100.0
LATER = 5  # the delay is the horizon divided by this
SAME = 1e-6  # relative difference of two values up to which they are taken for one optimum's


def bounded_on_both_sides(problem: ControlProblem) -> bool:
    """Return whether every action has a low and a high bound: only then is there a middle to mirror it in."""
    space: Any = problem.action_space
    return bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())


def mirrored_runs(
    problem: ControlProblem, first: PathSolution, solve: Callable[[np.ndarray, np.ndarray], PathSolution]
) -> tuple[PathSolution, list[tuple[np.ndarray, PathSolution]]]:
    """Return what is found from the mirrored paths; and, where that is another optimum and worse, from two more.

    Those are the mirror images of what was just found, and of the first path with half the delay; each comes with
    the indices of the states that needed it.

    Args:
        problem: The problem.
        first: What is mirrored.
        solve: Solves from the states of some indices, with first actions ``(indices, N, m)``.
    """
    found = solve(np.arange(len(first.value)), mirrored_later(problem, first.trajectory.actions))
    margin = SAME * (1.0 + np.abs(first.value))
    left = np.flatnonzero(found.value < first.value - margin)
    parts = []
    for path, part in ((found, LATER), (first, 2 * LATER)):
        if not len(left):
            break
        again = solve(left, mirrored_later(problem, path.trajectory.actions[left], part))
        parts.append((left, again))
        left = left[~(again.value > (first.value + margin)[left])]
    return found, parts


def mirrored_later(problem: ControlProblem, actions: np.ndarray, part: int = LATER) -> np.ndarray:
    """Return ``middle`` for the first N // part steps, then ``2 middle - a_(k - N // part)``; shape ``(B, N, m)``.

    Args:
        problem: Its bounds say where the middle is.
        actions: Of a path, ``(B, N, m)``; the middle takes the place of what is not finite.
        part: The delay is the horizon divided by this.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> pendulum = problem("Pendulum-v1")  # actions between -2 and 2
        >>> mirrored_later(pendulum, np.array([[[1.0], [2.0], [0.5], [0.0], [-1.0]]])).ravel().tolist()
        [0.0, -1.0, -2.0, -0.5, 0.0]
    """
    space: Any = problem.action_space
    middle = 0.5 * (space.low.astype(float) + space.high.astype(float))
    horizon = actions.shape[1]
    delay = horizon // part
    mirrored = np.where(np.isfinite(actions), 2.0 * middle - actions, middle)
    later = np.broadcast_to(middle, actions.shape).copy()
    later[:, delay:] = mirrored[:, : horizon - delay]
    return later
