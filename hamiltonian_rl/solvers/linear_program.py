"""The linear programme of an MDP: how often to be where, and V as the price of the flow constraints.

Eq. 9 for a finite MDP. Its state is a distribution over states, its control the *occupancy* ``y(s, a)``,
discounted visits a state and action:

    maximise Σ r(s, a) y(s, a)  over y >= 0,  Σ_a y(s', a) - γ Σ_{s,a} P(s' | s, a) y(s, a) = μ(s')

The multipliers λ of the flow constraints are V*: the costate of the state distribution. HiGHS solves it.

Reference:
    Puterman (2005), "Markov decision processes", section 6.9.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from hamiltonian_rl.errors import SolverError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers.loops import check_tol
from hamiltonian_rl.solvers.sweeper import Sweeper

HOPELESS = 1e-9  # 1 - γ below which a visit is worth less than HiGHS's feasibility tolerances see


def linear_program(mdp: MDP, *, tol: float = 1e-6) -> Solution:
    """Solve a discounted MDP as a linear programme; V comes from its dual multipliers.

    Args:
        mdp: The process, discount below one, without a horizon.
        tol: Largest distance of the bounds, which one Bellman sweep from V certifies.

    Returns:
        The solution; ``iterations`` counts those of HiGHS.

    Raises:
        UsageError: If the MDP has a horizon or no discount.
        SolverError: If HiGHS fails; the message says why, as far as it tells.
    """
    sweeper = Sweeper(mdp)
    check_tol(tol)
    usable = np.flatnonzero(mdp.rewards.ravel() > -np.inf)
    rows = mdp.n_states * mdp.n_actions
    leaving = sparse.csr_array(
        (np.ones(rows), (np.arange(rows) // mdp.n_actions, np.arange(rows))), shape=(mdp.n_states, rows)
    )
    flow = sparse.csc_array(leaving - mdp.discount * mdp.transition_matrix.T)[:, usable]
    rewards = mdp.rewards.ravel()[usable]
    scale = float(np.abs(rewards).max()) or 1.0
    start = np.full(mdp.n_states, 1.0 / mdp.n_states)  # every state is visited, hence every multiplier is V*
    with np.errstate(under="ignore"):
        costs = -rewards / scale
    value, iterations, status = np.zeros(mdp.n_states), 0, Status.INEXACT
    try:
        result = linprog(
            costs,
            A_eq=flow,
            b_eq=start,
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
        if result.status != 0:
            raise SolverError(_failure(mdp, result.message))
        value, iterations = -scale * np.asarray(result.eqlin.marginals, float), int(result.nit)
    except KeyboardInterrupt:  # HiGHS gives nothing away: what is certified is one sweep from zero
        status = Status.INTERRUPTED
    backed_up, policy = np.empty_like(value), np.zeros(mdp.n_states, np.int32)
    down, up, _ = sweeper.certify(value, backed_up, policy)
    lower, upper = backed_up + down, backed_up + up
    if up - down <= tol:
        status = Status.CONVERGED
    return Solution(value.clip(lower, upper), lower, upper, policy, iterations, status, "linear program")


def _failure(mdp: MDP, message: str) -> str:
    """Return why HiGHS has no solution; there always is one."""
    if 1.0 - mdp.discount <= HOPELESS:
        return (
            f"HiGHS did not solve the linear programme: discount = {mdp.discount!r} is so near to 1 that the programme "
            "has a solution, but none that double precision tells from none. Lower the discount, or take "
            "policy_iteration, which says how far it came."
        )
    return (
        f"HiGHS did not solve the linear programme, which has a solution: {message.rstrip('. ')}. Take "
        "policy_iteration, or scale the rewards to about 1."
    )
