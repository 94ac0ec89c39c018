"""One call for what is asked: the method that suits an MDP, and why; both routes for a control problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import MDP, ControlProblem
from hamiltonian_rl.solution import Solution
from hamiltonian_rl.solvers.average_reward import average_reward
from hamiltonian_rl.solvers.backward_induction import backward_induction
from hamiltonian_rl.solvers.costate_sweep import costate_sweep
from hamiltonian_rl.solvers.gauss_seidel import gauss_seidel
from hamiltonian_rl.solvers.linear_program import linear_program
from hamiltonian_rl.solvers.loops import Progress
from hamiltonian_rl.solvers.policy_iteration import (
    inexact_policy_iteration,
    modified_policy_iteration,
    policy_iteration,
)
from hamiltonian_rl.solvers.sweeper import SMALL, check_mdp
from hamiltonian_rl.solvers.undiscounted import undiscounted
from hamiltonian_rl.solvers.value_iteration import value_iteration
from hamiltonian_rl.solvers.work_list import without_chance, work_list

if TYPE_CHECKING:
    from hamiltonian_rl.solvers.solve_control import ControlSolution

METHODS: dict[str, Callable[..., Solution]] = {
    "average-reward": average_reward,
    "backward-induction": backward_induction,
    "costate-sweep": costate_sweep,
    "gauss-seidel": gauss_seidel,
    "inexact-policy-iteration": inexact_policy_iteration,
    "linear-program": linear_program,
    "modified-policy-iteration": modified_policy_iteration,
    "policy-iteration": policy_iteration,
    "undiscounted": undiscounted,
    "value-iteration": value_iteration,
    "work-list": work_list,
}


def choose_method(mdp: MDP) -> tuple[str, str]:
    """Return the name of the method that suits the MDP, and the reason.

    Example:
        >>> choose_method(MDP.from_gymnasium("FrozenLake-v1"))
        ('backward-induction', 'an episode is cut off after 100 steps, so the best action depends on the step')
    """
    check_mdp(mdp)
    if mdp.horizon is not None:
        why = f"an episode is cut off after {mdp.horizon} steps, so the best action depends on the step"
        return "backward-induction", why
    if mdp.discount == 1.0:
        return "undiscounted", "nothing is discounted or cut off: only end components tell whether the value is finite"
    if len(mdp.next_states) + mdp.rewards.size <= SMALL:
        return "policy-iteration", "the tables are small: a few policies, each evaluated exactly, whatever the discount"
    if without_chance(mdp):
        return "work-list", "nothing is left to chance: only states whose successors have risen need a backup"
    return "modified-policy-iteration", "few sweeps over all actions, each followed by cheap sweeps of one policy"


@overload
def solve(problem: MDP, *, method: str = "auto", tol: float = 1e-6, progress: Progress | None = None) -> Solution: ...


@overload
def solve(problem: ControlProblem, initial_states: np.ndarray | None = None, **options: Any) -> ControlSolution: ...


def solve(problem: Any, *initial_states: Any, **options: Any) -> Solution | ControlSolution:
    """Solve an MDP by the method that suits it, or a control problem by both routes.

    Args:
        problem: An MDP, or a control problem, which `solve_control` solves: ``initial_states`` and all options are its.
        initial_states: Of a control problem, ``(B, n)`` or ``(n,)``; its nominal one when left out.
        options: Of an MDP: ``method``, a name in `METHODS`, or "auto" for that of `choose_method` ("average-reward"
            answers another question, the mean reward a step, and is never chosen); ``tol``, largest distance of the
            bounds; ``progress``, called now and then with the number of sweeps and the distance of the bounds.

    Returns:
        The solution; an MDP's ``reason`` says why its method was taken.

    Raises:
        UsageError: If the method does not exist or does not suit the MDP, or an argument does not fit.

    Example:
        >>> solution = solve(MDP.from_gymnasium("FrozenLake-v1"))
        >>> solution.method, solution.reason[:36]
        ('backward induction', 'an episode is cut off after 100 step')
    """
    if isinstance(problem, ControlProblem):
        from hamiltonian_rl.solvers.solve_control import solve_control  # torch takes seconds to load

        return solve_control(problem, *initial_states, **options)
    return _solve_mdp(problem, *initial_states, **options)


def _solve_mdp(mdp: MDP, *, method: str = "auto", tol: float = 1e-6, progress: Progress | None = None) -> Solution:
    name, reason = choose_method(mdp) if method == "auto" else (method, "it was named")
    if name not in METHODS:
        raise UsageError(f'There is no method "{name}". {did_you_mean(str(name), METHODS)}')
    if name == "linear-program":
        solution = linear_program(mdp, tol=tol)  # HiGHS tells no progress
    else:
        solution = METHODS[name](mdp, tol=tol, progress=progress)
    return dataclasses.replace(solution, reason=reason)
