"""The largest mean reward a step, the *gain*, of a process that never ends.

In each maximal end component relative value iteration brings two bounds on its gain together. An episode may
choose where to stay: the gain of a state is the largest expected gain of the component that is reached, a total
reward of a process in which components are one state each. So chains of several classes need no case of their own.

Reference:
    Puterman (2005), "Markov decision processes", chapters 8 and 9.
"""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers.component_gains import Gains, component_gains
from hamiltonian_rl.solvers.end_components import collapse, end_components, expand, rows_towards
from hamiltonian_rl.solvers.loops import Progress, check_tol
from hamiltonian_rl.solvers.row_process import RowProcess
from hamiltonian_rl.solvers.sweeper import check_count, check_mdp
from hamiltonian_rl.solvers.total_reward import TotalReward, solve_total_reward


def average_reward(
    mdp: MDP, *, tol: float = 1e-6, max_iterations: int = 100_000, progress: Progress | None = None
) -> Solution:
    """Maximise ``lim inf (1/N) E Σ_{k<N} r(s_k, a_k)`` from every state.

    Args:
        mdp: The process, without ends and without a horizon; its discount plays no part. Rows whose probabilities
            sum to one within 1e-8 are taken to sum to one.
        tol: Largest distance of the bounds, in units of the reward.
        max_iterations: Sweeps at the most.
        progress: Called after each sweep with their number and the distance of the bounds.

    Returns:
        The solution; ``value``, ``lower`` and ``upper`` are gains: the mean reward from each state, shape
        ``(S,)``, the same for all where each can be reached from each. ``iterations`` counts sweeps.

    Raises:
        UsageError: If the MDP has a horizon, or an episode may end.

    Example:
        >>> mdp = MDP.from_arrays([[0, 1], [0, 1]], [[1.0, 0.0], [5.0, 2.0]], 1.0)  # to and fro: (0 + 5) / 2
        >>> average_reward(mdp).value.round(6).tolist(), average_reward(mdp).policy.tolist()
        ([2.5, 2.5], [1, 0])
    """
    check_tol(tol)
    check_count(max_iterations, "max_iterations", least=0)
    process = _endless(mdp)
    label, inside = end_components(process)
    target = 0.5 * tol
    gains = component_gains(
        process,
        label,
        inside,
        lambda lower, upper: bool((upper - lower).max() <= target),
        max_iterations=max_iterations,
        progress=progress,
    )
    middle = 0.5 * (gains.lower + gains.upper)
    smaller, group = collapse(
        RowProcess(process.owner, np.zeros(len(process.owner)), process.matrix, process.ends, process.source),
        label,
        inside,
        middle,
    )
    found = _best_places(smaller, len(middle), target)
    half = 0.5 * float((gains.upper - gains.lower).max())
    half += 4.0 * float(np.spacing(np.abs(middle).max() + half))  # rounding of the middle and of this sum
    row = expand(process, inside, smaller.source[found.row], gains.row)
    return Solution(
        found.value[group],
        found.lower[group] - half,
        found.upper[group] + half,
        (process.source[row] % mdp.n_actions).astype(np.int32),
        gains.iterations,
        _status(gains, found, half, tol),
        "average reward",
    )


def _endless(mdp: MDP) -> RowProcess:
    """Return the rows of a process that never ends."""
    check_mdp(mdp)
    if mdp.horizon is not None:
        raise UsageError(
            f"This MDP ends after {mdp.horizon} steps, so that it has no mean reward in the long run. Take "
            "backward_induction, or mdp.finite_horizon(None)."
        )
    process = RowProcess.from_mdp(mdp)
    if process.ends.any():
        state, action = divmod(int(process.source[int(process.ends.argmax())]), mdp.n_actions)
        raise UsageError(
            f"An episode may end in state {state} with action {action}; a mean reward in the long run needs a process "
            "that goes on. Let the next one begin there (hamiltonian_rl.problems.restarted), or take undiscounted."
        )
    return process


def _best_places(smaller: RowProcess, n_components: int, tol: float) -> TotalReward:
    """Choose the component to stay in: on the way nothing is paid, and every policy ends."""
    staying = np.flatnonzero(smaller.source == -1)
    targets = np.zeros(smaller.n_states, bool)
    targets[:n_components] = True
    nearer, _ = rows_towards(smaller, np.ones(len(smaller.owner), bool), targets)
    nearer[smaller.owner[staying]] = staying
    return solve_total_reward(smaller, nearer, tol=tol, max_iterations=10_000)


def _status(gains: Gains, found: TotalReward, half: float, tol: float) -> Status:
    """Return the reason why the bounds are not close, if they are not."""
    if float((found.upper - found.lower).max()) + 2.0 * half <= tol:
        return Status.CONVERGED
    if gains.status is not Status.CONVERGED:
        return gains.status
    return Status.STAGNATED if found.status is Status.CONVERGED else found.status
