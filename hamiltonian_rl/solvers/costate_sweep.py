"""The costate sweep: a finite MDP as a control problem on the simplex, solved by Pontryagin's equations.

The state is a distribution ``μ`` over the S states, the control how it is shared among the actions: the flow
``y(s, a) = μ(s) π(a | s)``. The flow moves on by ``f(y)(s') = Σ P(s' | s, a) y(s, a)``, and earns
``Σ r(s, a) y(s, a)``. H (Eq. 10) is linear in the flow, so its maximum over π lies at a vertex, where the
argmax of Eq. 15 is a theorem; the costate equation (Eq. 14) then reads

    λ_k(s) = ∂H/∂μ(s) = max_a ∂H/∂y(s, a) = max_a [r(s, a) + γ Σ_s' P(s' | s, a) λ_{k+1}(s')]

The costate of the distribution is the value function (Eq. 17). Nothing here uses Bellman's operator: the
derivative is taken of the forward flow, by automatic differentiation. Only the certificate is Bellman's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hamiltonian_rl.problems import MDP
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.loops import Progress, sweep_from_horizon, sweep_to_bounds
from hamiltonian_rl.solvers.sweeper import Sweeper, check_mdp

if TYPE_CHECKING:
    import torch


def costate_sweep(
    mdp: MDP, *, tol: float = 1e-6, max_iterations: int = 1_000_000, progress: Progress | None = None
) -> Solution:
    """Solve an MDP by sweeping its costates backward.

    Args:
        mdp: The process. With a horizon N the sweep takes N steps from ``λ_N = 0`` (Eq. 13); without one it
            goes on until the bounds are close.
        tol: Largest distance of the bounds.
        max_iterations: Sweeps at the most.
        progress: Called after each sweep with their number and the distance of the bounds.

    Returns:
        The solution; its value is the costate. Without a horizon its bounds, and the policy that earns the lower one,
        are Bellman's certificate of it. Shapes as in `backward_induction` or `value_iteration`.

    Raises:
        UsageError: If the MDP has neither a horizon nor a discount, or an argument is wrong.

    Example:
        >>> mdp = MDP.from_arrays([[0, 1], [1, -1]], [[1.0, 0.0], [2.0, 5.0]], discount=0.9)
        >>> costate_sweep(mdp, tol=1e-10).value.round(9).tolist()
        [18.0, 20.0]
    """
    check_mdp(mdp)
    costate_before = _sweep(mdp)
    if mdp.horizon is not None:
        return sweep_from_horizon(mdp, costate_before, method="costate sweep", tol=tol, progress=progress)
    return sweep_to_bounds(
        Sweeper(mdp),
        None,
        lambda value, backed_up, policy, down: (costate_before(value)[0], backed_up),
        method="costate sweep",
        tol=tol,
        max_iterations=max_iterations,
        progress=progress,
    )


def _sweep(mdp: MDP) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the function from the next costate to this one and to the action that maximises H."""
    import torch  # takes seconds to load, so only where this method is asked for

    from hamiltonian_rl.principles.hamiltonian import costate_equation, hamiltonian

    usable = torch.from_numpy(np.flatnonzero(mdp.rewards.ravel() > -np.inf))
    rewards = torch.from_numpy(mdp.rewards).ravel()[usable]
    rows = np.repeat(np.arange(mdp.rewards.size), np.diff(mdp.first))
    source, target = torch.from_numpy(rows), torch.from_numpy(mdp.next_states.astype(np.int64))
    probabilities = torch.from_numpy(mdp.probabilities)

    def next_distribution(flow: torch.Tensor) -> torch.Tensor:
        return torch.zeros(mdp.n_states, dtype=torch.float64).index_add(0, target, probabilities * flow[source])

    def costate_before(costate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # H is linear in the flow: its derivative is the same everywhere, so take it where there is none.
        flow = torch.zeros(mdp.rewards.size, dtype=torch.float64, requires_grad=True)
        earned = (rewards * flow[usable]).sum()
        slopes = costate_equation(
            hamiltonian(earned, next_distribution(flow), torch.from_numpy(costate), mdp.discount), flow
        )
        candidates = torch.full_like(slopes, -torch.inf)
        candidates[usable] = slopes[usable]
        best, action = candidates.reshape(mdp.rewards.shape).max(dim=1)
        return best.numpy(), action.numpy()

    return costate_before
