"""What is asked: problems, each stated once, for every solver and agent."""

from hamiltonian_rl.problems.mdp import MDP

__all__ = ["MDP"]
