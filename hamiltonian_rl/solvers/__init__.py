"""How to find it: solvers, one file a method, each a plain function from a problem to a `Solution`.

Every returned value stands between bounds that hold whether the solver converged or not; where nothing certifies a
bound (cubic grids, refined actions) it is infinite.

Example:
    >>> from hamiltonian_rl.problems import MDP
    >>> from hamiltonian_rl.solvers import solve
    >>> solution = solve(MDP.from_gymnasium("FrozenLake-v1", horizon=None), tol=1e-9)
    >>> round(float(solution.value[0]), 9), solution.method
    (0.542025932, 'policy iteration')
"""

from hamiltonian_rl.solvers.average_reward import average_reward
from hamiltonian_rl.solvers.backward_induction import backward_induction
from hamiltonian_rl.solvers.costate_sweep import costate_sweep
from hamiltonian_rl.solvers.gauss_seidel import gauss_seidel
from hamiltonian_rl.solvers.grid_solution import GridSolution, Rollout
from hamiltonian_rl.solvers.linear_program import linear_program
from hamiltonian_rl.solvers.policy_iteration import (
    inexact_policy_iteration,
    modified_policy_iteration,
    policy_iteration,
    policy_value,
)
from hamiltonian_rl.solvers.solve import METHODS, choose_method, solve
from hamiltonian_rl.solvers.solve_grid import solve_grid
from hamiltonian_rl.solvers.undiscounted import undiscounted
from hamiltonian_rl.solvers.value_iteration import value_iteration
from hamiltonian_rl.solvers.work_list import work_list

__all__ = [
    "METHODS",
    "GridSolution",
    "Rollout",
    "average_reward",
    "backward_induction",
    "choose_method",
    "costate_sweep",
    "gauss_seidel",
    "inexact_policy_iteration",
    "linear_program",
    "modified_policy_iteration",
    "policy_iteration",
    "policy_value",
    "solve",
    "solve_grid",
    "undiscounted",
    "value_iteration",
    "work_list",
]
