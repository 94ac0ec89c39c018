"""A work list for processes without chance, such as mazes: only states whose successors have risen are backed up.

From a start below its own backup every value rises to V*, and a state can rise only after one of its successors
has. News travels from the ends backward, as in a breadth-first search: two or three backups a state, where sweeps
over all states take one for each step of the longest path. A row that leads back to its own state is solved
exactly, ``r / (1 - γ)``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.problems.checks import row_error
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Improve, Progress, check_tol, sweep_to_bounds
from hamiltonian_rl.solvers.sweeper import Sweeper

ROUND = 10  # backups a state between two certificates
SHORTEST_ROUND = 100_000  # backups, so that small processes are done in one


def work_list(
    mdp: MDP, *, tol: float = 1e-6, max_iterations: int = 1_000_000, progress: Progress | None = None
) -> Solution:
    """Solve a discounted MDP without chance by asynchronous value iteration.

    Args:
        mdp: The process, discount below one, without a horizon; each row has one successor, with probability one,
            or ends.
        tol: Largest distance of the bounds.
        max_iterations: Rounds of backups at the most.
        progress: Called after each round with their number and the distance of the bounds.

    Returns:
        The solution; ``iterations`` counts rounds, each of ten backups a state at the most and a certifying sweep.

    Raises:
        UsageError: If a row has several successors, if the MDP has a horizon or no discount, or if an argument is
            wrong.

    Example:
        >>> corridor = MDP.from_arrays([[0, 1], [0, 2], [1, -1]], -1.0 * np.ones((3, 2)), 0.5)
        >>> work_list(corridor, tol=1e-9).value.round(9).tolist()
        [-1.75, -1.5, -1.0]
    """
    check_tol(tol)
    sweeper = Sweeper(mdp)
    check_without_chance(mdp)
    # This much of a rise may stay unknown to a state, and counts 1 / (1 - γ) times.
    least = 0.25 * tol * (1.0 - mdp.discount)
    return sweep_to_bounds(
        sweeper,
        _start_below(mdp),
        _improve(mdp, least),
        method="work list",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )


def without_chance(mdp: MDP) -> bool:
    """Return whether each row has one successor, with probability one, or none."""
    return bool((np.diff(mdp.first) <= 1).all() and (mdp.probabilities == 1.0).all())


def check_without_chance(mdp: MDP) -> None:
    """Check that each row has one successor, with probability one, or none.

    Raises:
        UsageError: If one has not; the message names its state and action.
    """
    if without_chance(mdp):
        return
    counts = np.diff(mdp.first)
    chancy = counts > 1
    chancy[np.repeat(np.arange(len(counts)), counts)[mdp.probabilities != 1.0]] = True
    row = int(chancy.argmax())
    found = ", ".join(f"{p:.12g}" for p in mdp.probabilities[mdp.first[row] : mdp.first[row + 1]][:3])
    raise row_error(
        *divmod(row, mdp.n_actions),
        f"has the probabilities {found}",
        "expected one successor with probability 1, or none. Take modified_policy_iteration",
    )


def _start_below(mdp: MDP) -> np.ndarray:
    """Return a constant that no backup lowers: every state can earn the least best reward, for ever or once."""
    best = mdp.rewards[:, 0].copy()
    for action in range(1, mdp.n_actions):  # several times faster than a maximum along the rows
        np.maximum(best, mdp.rewards[:, action], out=best)
    least = float(best.min())
    if least > 0 and (np.diff(mdp.first) == 0).any():
        least = 0.0
    return np.full(mdp.n_states, least / (1.0 - mdp.discount))


def _improve(mdp: MDP, least: float) -> Improve:
    """Return the round of backups that starts from the states that the last sweep has raised."""
    n_states = mdp.n_states
    most = max(ROUND * n_states, SHORTEST_ROUND)
    prepared: list[tuple[Callable[..., int], np.ndarray, np.ndarray]] = []

    def improve(
        value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray, down: float
    ) -> tuple[np.ndarray, np.ndarray]:
        if not prepared:
            prepared.append(_kernel_and_predecessors(mdp))
        kernel, into, sources = prepared[0]
        risen = np.flatnonzero(backed_up - value > least)
        if not len(risen):
            return backed_up, value
        queue = np.zeros(n_states, np.int64)
        queue[: len(risen)] = risen
        waiting = np.zeros(n_states, np.bool_)
        waiting[risen] = True
        tables = (mdp.rewards, mdp.first, mdp.next_states, float(mdp.discount), into, sources)
        kernel(*tables, value, value.copy(), queue, waiting, len(risen), least, most)
        return value, backed_up

    return improve


def _kernel_and_predecessors(mdp: MDP) -> tuple[Callable[..., int], np.ndarray, np.ndarray]:
    """Return the compiled loop, and the predecessors of each state with where those of a state begin."""
    from hamiltonian_rl.solvers.kernels import predecessors, work_list_kernel  # numba takes a moment to import

    into, sources = np.zeros(mdp.n_states + 1, np.int32), np.empty(len(mdp.next_states), np.int32)
    predecessors(mdp.first, mdp.next_states, mdp.n_actions, into, sources)
    return work_list_kernel(mdp.n_actions), into, sources
