"""Search for better optima of paths that are solved: kicks, polished in batches, the best few of each state kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hamiltonian_rl.solvers.costate import PathSolution, best_of
from hamiltonian_rl.solvers.costate.following import along_paths
from hamiltonian_rl.solvers.costate.kicks import best_few, extremes, kicked
from hamiltonian_rl.trajectory import Policy

KEPT = 8  # different paths of a state
GREEDY_KICKS, PATH_KICKS = 6, 20  # first steps of kicks
MOST_ROWS = 4096  # paths polished at once


def searched(paths: PathSolution, greedy: Policy | None, polish: Callable[..., PathSolution]) -> PathSolution:
    """Return the best paths after kicks of a policy, then of the best paths so far, all polished.

    The lengths are those that serve Pendulum-v1's 200 steps, as shares of the horizon.

    Args:
        paths: So far.
        greedy: A policy that sees the whole state space, such as a grid's; None for none.
        polish: Solves from states and a policy.
    """
    horizon = paths.problem.horizon or 0
    few = best_few(paths, paths.from_all_starts, KEPT)
    if greedy is not None:
        few = _kicked(few, lambda which: greedy, GREEDY_KICKS, max(1, horizon // 40), polish)
    best = few[0]
    few = _kicked(few, lambda which: along_paths(best.rows(which)), PATH_KICKS, max(1, horizon // 200), polish)
    return replace(few[0], from_all_starts=few)


def _kicked(
    few: list[PathSolution],
    policy: Callable[[np.ndarray], Policy],
    count: int,
    length: int,
    polish: Callable[..., PathSolution],
) -> list[PathSolution]:
    """Return the best few paths, of those that there are and of those that kicks lead to.

    Args:
        few: Of `best_few`.
        policy: To kick: of the states whose numbers it is given.
        count: First steps of kicks, one a length apart.
        length: Of a kick.
        polish: Solves from states and a policy.
    """
    problem, states = few[0].problem, few[0].trajectory.states[:, 0]
    begins = range(0, min(problem.horizon or 0, count * length), length)
    options = [(first, action) for first in begins for action in extremes(problem)]
    together = max(1, MOST_ROWS // len(states))
    for start in range(0, len(options), together):
        part = options[start : start + together]
        which = np.tile(np.arange(len(states)), len(part))
        first, actions = (np.repeat([option[i] for option in part], len(states), 0) for i in range(2))
        rows = polish(states[which], initial_actions=kicked(policy(which), first, actions, length))
        runs = [rows.rows(np.arange(len(states)) + i * len(states)) for i in range(len(part))]
        few = best_few(best_of([few[0], *runs]), [*few, *runs], KEPT)
    return few
