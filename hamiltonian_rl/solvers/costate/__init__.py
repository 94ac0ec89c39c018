"""The Hamiltonian route: optimal paths and their costates by Pontryagin's conditions."""

from hamiltonian_rl.solvers.costate.backend import prepare
from hamiltonian_rl.solvers.costate.best_paths import best_of
from hamiltonian_rl.solvers.costate.derivatives import DifferentiablePath, differentiable, value_gradient
from hamiltonian_rl.solvers.costate.free_horizon import FreeHorizon, solve_free_horizon
from hamiltonian_rl.solvers.costate.multiple_shooting import Guess
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.solvers.costate.solve_costate import solve_costate
from hamiltonian_rl.solvers.costate.steady_state import SteadyState, steady_state

__all__ = [
    "DifferentiablePath",
    "FreeHorizon",
    "Guess",
    "PathSolution",
    "PathStatus",
    "SteadyState",
    "best_of",
    "differentiable",
    "prepare",
    "solve_costate",
    "solve_free_horizon",
    "steady_state",
    "value_gradient",
]
