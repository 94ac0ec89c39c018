"""Value iteration: Bellman's equation (Eq. 19) as a fixed point, ``V <- TV``, with MacQueen's bounds.

The bounds, not the distance of two iterates, say when to stop: on processes that mix they meet after tens of
sweeps, where a rule on ``|TV - V|`` needs thousands.

Reference:
    Puterman (2005), "Markov decision processes", section 6.6.
"""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Progress, sweep_to_bounds
from hamiltonian_rl.solvers.sweeper import Sweeper


def value_iteration(
    mdp: MDP,
    *,
    tol: float = 1e-6,
    initial_value: np.ndarray | None = None,
    max_iterations: int = 1_000_000,
    compiled: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve a discounted MDP by sweeps of Bellman's operator.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds, in units of the value.
        initial_value: First iterate, shape ``(S,)``; zeros unless given.
        max_iterations: Sweeps at the most.
        compiled: Whether to take compiled kernels; by the size of the tables unless given.
        threads: Threads that share a sweep; by the size of the tables unless given.
        progress: Called after each sweep with their number and the distance of the bounds.

    Returns:
        The solution. Not reaching ``tol`` is a status, and the bounds hold nonetheless.

    Raises:
        UsageError: If the MDP has a horizon or no discount, or an argument is wrong.

    Example:
        >>> mdp = MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], discount=0.9)
        >>> solution = value_iteration(mdp, tol=1e-10)
        >>> solution.value.round(9).tolist(), solution.policy.tolist()  # 2 / (1 - 0.9), and 0.9 of that
        ([18.0, 20.0], [1, 0])
    """
    return sweep_to_bounds(
        Sweeper(mdp, compiled=compiled, threads=threads),
        initial_value,
        lambda value, backed_up, policy, down: (backed_up, value),
        method="value iteration",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )
