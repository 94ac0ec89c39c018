"""The largest expected total reward without discount or horizon: end components first, then policy iteration.

A naive sweep from zero stops far from the optimum (by 1e-3 on a random walk of 101 states), and Bellman's equation
(Eq. 19) alone does not tell: where staying pays nothing it has many solutions. So end components that pay nothing
are made one state each, which may be left or not; on what remains the bounds are inductive, hence certain.
"""

from __future__ import annotations

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution, Status
from hamiltonian_rl.solvers.component_gains import component_gains
from hamiltonian_rl.solvers.end_components import collapse, end_components, expand, rows_towards
from hamiltonian_rl.solvers.loops import Progress, check_tol
from hamiltonian_rl.solvers.row_process import RowProcess
from hamiltonian_rl.solvers.sweeper import check_count, check_endless
from hamiltonian_rl.solvers.total_reward import solve_total_reward

MEAN_SWEEPS = 20_000  # to tell the sign of a component's mean reward


def undiscounted(
    mdp: MDP, *, tol: float = 1e-6, max_iterations: int = 10_000, progress: Progress | None = None
) -> Solution:
    """Maximise the expected total reward ``E Σ_k r(s_k, a_k)`` until the episode ends (Eq. 19 with γ = 1).

    Staying for ever where nothing is paid or lost is worth 0. Rows whose probabilities sum to one within 1e-8 are
    taken to sum to one. Each policy is evaluated by a sparse factorisation.

    Args:
        mdp: The process, discount 1, without a horizon.
        tol: Largest distance of the bounds.
        max_iterations: Policies evaluated at the most.
        progress: Called after each with their number and the largest gain that a change of action promises.

    Returns:
        The solution; ``iterations`` counts policies. If they do not suffice, ``upper`` may be infinite.

    Raises:
        UsageError: If the MDP has a horizon or a discount; if the value of a state is infinite, or minus
            infinity; or if rewards of both signs cancel in endless loops, which has no total.
        SolverError: If episodes last longer than double precision can count.

    Example:
        >>> mdp = MDP.from_gymnasium("FrozenLake-v1", discount=1.0, horizon=None)
        >>> round(float(undiscounted(mdp).value[0]), 9)  # 14/17
        0.823529412
    """
    check_tol(tol)
    check_count(max_iterations, "max_iterations", least=1)
    _check_undiscounted(mdp)
    process = RowProcess.from_mdp(mdp)
    label, inside = end_components(process, process.rewards == 0)
    smaller, group = collapse(process, label, inside, np.zeros(label.max() + 1))
    _check_finite_above(process, smaller, mdp.n_actions)
    first_rows = _rows_that_end(smaller, group)
    found = solve_total_reward(smaller, first_rows, tol=tol, max_iterations=max_iterations, progress=progress)
    staying = np.full(process.n_states, -1)
    staying[process.owner[inside]] = np.flatnonzero(inside)
    row = expand(process, inside, smaller.source[found.row], staying)
    policy = (process.source[row] % mdp.n_actions).astype(np.int32)
    bounds = (found.value[group], found.lower[group], found.upper[group])
    return Solution(*bounds, policy, found.iterations, found.status, "undiscounted")


def _check_undiscounted(mdp: MDP) -> None:
    """Check that there is neither a horizon nor a discount."""
    check_endless(mdp)
    if mdp.discount != 1.0:
        raise UsageError(
            f"discount = {mdp.discount:g}; expected 1. Take modified_policy_iteration, or mdp.with_discount(1.0)."
        )


def _rows_that_end(smaller: RowProcess, group: np.ndarray) -> np.ndarray:
    """Return a policy of the collapsed process that ends with probability one, or raise where there is none."""
    last = np.flatnonzero(smaller.ends)[::-1]  # backward, so that the first row of a state is what stays
    ending, rows = np.zeros(smaller.n_states, bool), np.full(smaller.n_states, -1)
    ending[smaller.owner[last]], rows[smaller.owner[last]] = True, last
    nearer, reached = rows_towards(smaller, np.ones(len(smaller.owner), bool), ending)
    if not reached.all():
        state = int(np.flatnonzero(~reached[group])[0])
        raise UsageError(
            f"From state {state} no policy ends, and every endless one loses without limit: its value is minus "
            "infinity. Make such states terminal, or give a discount below 1 (mdp.with_discount(0.999)) or a "
            "horizon (mdp.finite_horizon(n))."
        )
    return np.where(ending, rows, nearer)


def _check_finite_above(process: RowProcess, smaller: RowProcess, n_actions: int) -> None:
    """Check that no policy gains without limit, and that each that stays in an end component loses without limit.

    Args:
        process: The process.
        smaller: The same with the components that pay nothing collapsed.
        n_actions: Number of actions of the MDP, to name rows.
    """
    label, inside = end_components(smaller)
    paying = np.flatnonzero(inside & (smaller.rewards > 0))
    if not len(paying):
        return
    component = label[smaller.owner]
    losing = np.zeros(label.max() + 1, bool)
    losing[component[inside & (smaller.rewards < 0)]] = True
    sure = paying[~losing[component[paying]]]
    if len(sure):
        raise _infinite(process, smaller, int(sure[0]), n_actions)
    _check_means(process, smaller, label, inside, n_actions)


def _check_means(
    process: RowProcess, smaller: RowProcess, label: np.ndarray, inside: np.ndarray, n_actions: int
) -> None:
    """Check that in components with rewards of both signs the largest mean reward is below zero."""
    component = label[smaller.owner]
    paying = np.flatnonzero(inside & (smaller.rewards > 0))
    mixed, places = np.unique(component[paying], return_index=True)
    number = np.full(label.max() + 2, -1)  # the last entry is that of label -1
    number[mixed] = np.arange(len(mixed))
    gains = component_gains(
        smaller,
        number[label],
        inside & (number[component] >= 0),
        lambda lower, upper: bool((lower > 0).any() or (upper < 0).all()),
        max_iterations=MEAN_SWEEPS,
    )
    if gains.status is Status.INTERRUPTED:
        raise KeyboardInterrupt  # whether there is a value at all is not known yet
    if (gains.lower > 0).any():
        raise _infinite(process, smaller, int(paying[places[gains.lower.argmax()]]), n_actions)
    if not (gains.upper < 0).all():
        worst = int(gains.upper.argmax())
        state, _ = divmod(int(process.source[smaller.source[paying[places[worst]]]]), n_actions)
        raise UsageError(
            f"From state {state} an episode can go on for ever with rewards of both signs, whose mean lies between "
            f"{gains.lower[worst]:.3g} and {gains.upper[worst]:.3g}: whether it adds up to a total is not known. "
            "Give a discount below 1 (mdp.with_discount(0.999)) or a horizon (mdp.finite_horizon(n))."
        )


def _infinite(process: RowProcess, smaller: RowProcess, row: int, n_actions: int) -> UsageError:
    """Return the error of a value without limit, from a row of the collapsed process that is part of it."""
    state, action = divmod(int(process.source[smaller.source[row]]), n_actions)
    return UsageError(
        f"The value is infinite: state {state} pays {smaller.rewards[row]:g} for action {action} and can be visited "
        "again and again at a gain. Give a discount below 1 (mdp.with_discount(0.999)), a "
        "horizon (mdp.finite_horizon(n)), or an end."
    )
