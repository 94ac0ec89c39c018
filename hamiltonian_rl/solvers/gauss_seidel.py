"""Gauss-Seidel value iteration: sweeps in place, in alternating direction, so that news travels far in one sweep.

It pays on graph-like problems (mazes, shortest paths). On processes that mix it is slower than plain sweeps
with the same bounds, for it destroys the convergence of the span ``max d - min d``.
"""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Progress, sweep_to_bounds
from hamiltonian_rl.solvers.sweeper import Sweeper, check_count


def gauss_seidel(
    mdp: MDP,
    *,
    tol: float = 1e-6,
    initial_value: np.ndarray | None = None,
    max_iterations: int = 1_000_000,
    sweeps: int = 4,
    progress: Progress | None = None,
) -> Solution:
    """Solve a discounted MDP by sweeps in place.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds.
        initial_value: First iterate, shape ``(S,)``; zeros unless given.
        max_iterations: Rounds of sweeps at the most.
        sweeps: Sweeps in place between two certifying ones.
        progress: Called after each round with their number and the distance of the bounds.

    Returns:
        The solution; ``iterations`` counts rounds of one certifying sweep and ``sweeps`` in place.

    Raises:
        UsageError: If the MDP has a horizon or no discount, or an argument is wrong.
    """
    check_count(sweeps, "sweeps", least=0)
    sweeper = Sweeper(mdp)
    from hamiltonian_rl.solvers.kernels import gauss_seidel_kernel  # numba takes a moment to import

    kernel = gauss_seidel_kernel(mdp.n_actions, mdp.branching)

    def improve(
        value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray, down: float
    ) -> tuple[np.ndarray, np.ndarray]:
        for sweep in range(sweeps):
            backwards = sweep % 2 == 0
            kernel(
                mdp.rewards, mdp.first, mdp.next_states, mdp.probabilities, float(mdp.discount), backed_up, backwards
            )
        return backed_up, value

    return sweep_to_bounds(
        sweeper,
        initial_value,
        improve,
        method="Gauss-Seidel value iteration",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )
