"""The Hamiltonian route: optimal paths and their costates by Pontryagin's conditions."""

from hamiltonian_rl.solvers.costate.derivatives import DifferentiablePath, differentiable, value_gradient
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.solvers.costate.solve_costate import best_of, solve_costate
from hamiltonian_rl.solvers.costate.steady_state import SteadyState, steady_state

__all__ = [
    "DifferentiablePath",
    "PathSolution",
    "PathStatus",
    "SteadyState",
    "best_of",
    "differentiable",
    "solve_costate",
    "steady_state",
    "value_gradient",
]
