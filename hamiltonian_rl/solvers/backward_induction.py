"""Backward induction: Bellman's equation (Eq. 18-19) from the last step to the first.

This is the optimum under a time limit. Gymnasium's environments have one, and it changes the optimum: on the
8x8 FrozenLake, 100 steps allow a mean return of 0.6407, which no agent can pass.
"""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.principles.bellman import backup
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Progress, sweep_from_horizon


def backward_induction(mdp: MDP, *, tol: float = 1e-6, progress: Progress | None = None) -> Solution:
    """Solve an MDP with a horizon, discounted or not.

    Args:
        mdp: The process, with a horizon N. What would come after the limit counts nothing, unless its
            ``last_rewards`` say otherwise.
        tol: Largest distance of the bounds; here they are apart by rounding alone.
        progress: Called after each step with their number and the distance of the bounds.

    Returns:
        The solution; ``value`` is that of the first step, shape ``(S,)``, and ``policy[k, s]`` the action of
        state s in step k, shape ``(N, S)``.

    Raises:
        UsageError: If the MDP has no horizon.

    Example:
        >>> mdp = MDP.from_gymnasium("FrozenLake-v1", discount=1.0)  # 100 steps
        >>> round(float(mdp.initial @ backward_induction(mdp).value), 6)
        0.74419
    """

    def step_back(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        q = backup(mdp, value)
        return q.max(axis=1), q.argmax(axis=1)

    return sweep_from_horizon(mdp, step_back, method="backward induction", tol=tol, progress=progress)
