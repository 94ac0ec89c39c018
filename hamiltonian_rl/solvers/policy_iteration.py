"""Policy iteration: evaluate a policy, take the greedy one, and again; three ways of evaluating.

* `policy_iteration` solves ``(I - γ P_π) V = r_π`` exactly, by a sparse factorisation: few rounds, each dear.
* `modified_policy_iteration` sweeps ``V <- r_π + γ P_π V`` up to m times: the fastest on large sparse processes.
* `inexact_policy_iteration` solves the system by BiCGSTAB, as far as the bounds are apart: where the discount
  is so near to one that sweeps crawl.

Reference:
    Puterman (2005), "Markov decision processes", sections 6.4 and 6.5; Gargiani et al. (2024), "Inexact policy
    iteration methods for large-scale Markov decision processes".
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from hamiltonian_rl.principles.bellman import backup
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Progress, sweep_to_bounds
from hamiltonian_rl.solvers.sweeper import UNIT, Sweeper, check_count

EVALUATED = 0.01  # share of the first change's span at which a policy has been swept enough


def policy_value(mdp: MDP, policy: np.ndarray) -> np.ndarray:
    """Return ``V_π``, the solution of ``(I - γ P_π) V = r_π``, shape ``(S,)``.

    Args:
        mdp: The process, discount below one.
        policy: An action a state, shape ``(S,)``.

    Example:
        >>> mdp = MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], discount=0.5)
        >>> policy_value(mdp, np.array([0, 1])).tolist()  # 1 / (1 - 0.5) for staying, 5 for leaving
        [2.0, 5.0]
    """
    rewards, matrix = mdp.under(policy)
    system = sparse.eye_array(mdp.n_states, format="csc") - mdp.discount * sparse.csc_array(matrix)
    value: np.ndarray = linalg.spsolve(system, rewards)
    return value


def modified_policy_iteration(
    mdp: MDP,
    *,
    tol: float = 1e-6,
    evaluation_sweeps: int = 40,
    initial_value: np.ndarray | None = None,
    max_iterations: int = 1_000_000,
    compiled: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve a discounted MDP; each greedy policy is evaluated by a few sweeps.

    Every iterate is the certified lower bound, swept on: from below, sweeps of the policy only rise. (From
    the middle of the bounds, certificates can diverge.) The sweeps of a policy end early when the span of
    their changes has fallen to a hundredth: on processes that mix fast, more would be spent on a policy that the
    next greedy sweep replaces.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds.
        evaluation_sweeps: Sweeps of the policy in each round at the most (m).
        initial_value: First iterate, shape ``(S,)``; zeros unless given.
        max_iterations: Rounds at the most.
        compiled: Whether to take compiled kernels; by the size of the tables unless given.
        threads: Threads that share a sweep; by the size of the tables unless given.
        progress: Called after each round with their number and the distance of the bounds.

    Returns:
        The solution; ``iterations`` counts rounds of one greedy sweep and up to m of the policy.

    Raises:
        UsageError: If the MDP has a horizon or no discount, or an argument is wrong.
    """
    check_count(evaluation_sweeps, "evaluation_sweeps", least=0)
    sweeper = Sweeper(mdp, compiled=compiled, threads=threads)

    def improve(
        value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray, down: float
    ) -> tuple[np.ndarray, np.ndarray]:
        backed_up += down
        span = np.inf
        sweep_policy = sweeper.policy_sweep(policy)
        for sweep in range(evaluation_sweeps):
            lowest, highest = sweep_policy(backed_up, value)
            value, backed_up = backed_up, value
            if sweep == 0:
                span = highest - lowest
            elif highest - lowest <= EVALUATED * span:
                break
        return backed_up, value

    return sweep_to_bounds(
        sweeper,
        initial_value,
        improve,
        method="modified policy iteration",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )


def policy_iteration(
    mdp: MDP,
    *,
    tol: float = 1e-6,
    initial_value: np.ndarray | None = None,
    max_iterations: int = 10_000,
    progress: Progress | None = None,
) -> Solution:
    """Solve a discounted MDP; each greedy policy is evaluated exactly.

    A state keeps its action unless another is better by more than rounding, so that ties cannot make the
    policies go round in circles.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds.
        initial_value: The first policy is greedy for it, shape ``(S,)``; zeros unless given.
        max_iterations: Policies evaluated at the most.
        progress: Called after each with their number and the distance of the bounds.

    Returns:
        The solution; ``iterations`` counts the policies that were evaluated.

    Raises:
        UsageError: If the MDP has a horizon or no discount, or an argument is wrong.

    Example:
        >>> policy_iteration(MDP.from_gymnasium("FrozenLake-v1", horizon=None), tol=1e-9).iterations
        6
    """
    sweeper = Sweeper(mdp)
    kept: np.ndarray | None = None

    def improve(
        value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray, down: float
    ) -> tuple[np.ndarray, np.ndarray]:
        nonlocal kept
        if kept is not None:
            q = backup(mdp, value)
            noise = 16.0 * UNIT * (1.0 + np.abs(value).max())
            keeps = np.take_along_axis(q, kept[:, None].astype(int), axis=1)[:, 0] >= q.max(axis=1) - noise
            policy = np.where(keeps, kept, policy)
        kept = policy.copy()
        return policy_value(mdp, kept), backed_up

    return sweep_to_bounds(
        sweeper,
        initial_value,
        improve,
        method="policy iteration",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )


def inexact_policy_iteration(
    mdp: MDP,
    *,
    tol: float = 1e-6,
    initial_value: np.ndarray | None = None,
    max_iterations: int = 10_000,
    progress: Progress | None = None,
) -> Solution:
    """Solve a discounted MDP; each greedy policy is evaluated by BiCGSTAB, a tenth of the residual at a time.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds.
        initial_value: First iterate, shape ``(S,)``; zeros unless given.
        max_iterations: Policies at the most.
        progress: Called after each with their number and the distance of the bounds.

    Returns:
        The solution; ``iterations`` counts policies.

    Raises:
        UsageError: If the MDP has a horizon or no discount, or an argument is wrong.
    """
    sweeper = Sweeper(mdp)

    def improve(
        value: np.ndarray, backed_up: np.ndarray, policy: np.ndarray, down: float
    ) -> tuple[np.ndarray, np.ndarray]:
        rewards, matrix = mdp.under(policy)
        system = linalg.LinearOperator(
            matrix.shape, matvec=lambda x: x - mdp.discount * (matrix @ x), dtype=np.dtype(float)
        )
        residual = rewards - system @ backed_up
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            correction, _ = linalg.bicgstab(system, residual, rtol=0.1, maxiter=100)
        solved = backed_up + correction
        # A breakdown of BiCGSTAB must not cost what a plain sweep would have gained.
        better = np.isfinite(solved).all() and np.abs(rewards - system @ solved).max() < np.abs(residual).max()
        return (solved, value) if better else (backed_up, value)

    return sweep_to_bounds(
        sweeper,
        initial_value,
        improve,
        method="inexact policy iteration",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )
