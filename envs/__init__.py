"""Gymnasium environments: making them, and stepping every kind of them in one way."""

from hamiltonian_rl.envs.making import env_spec, is_restorable, make_env, make_training_env, make_vector_env
from hamiltonian_rl.envs.stepping import Stepper, Transitions

__all__ = [
    "Stepper",
    "Transitions",
    "env_spec",
    "is_restorable",
    "make_env",
    "make_training_env",
    "make_vector_env",
]
