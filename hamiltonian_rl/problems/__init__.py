"""What is asked: problems, each stated once, for every solver and agent."""

from hamiltonian_rl.problems.control_problem import ControlProblem
from hamiltonian_rl.problems.grid import Grid
from hamiltonian_rl.problems.mdp import MDP
from hamiltonian_rl.problems.relaxation import Relaxation
from hamiltonian_rl.problems.restarting import restarted

__all__ = ["MDP", "ControlProblem", "Grid", "Relaxation", "restarted"]
