"""The registry of control problems behind Gymnasium's environments."""

from __future__ import annotations

import importlib

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem

PROBLEMS = {
    "CartPole-v1": "CartPole",
    "MountainCar-v0": "MountainCar",
    "MountainCarContinuous-v0": "ContinuousMountainCar",
    "Pendulum-v1": "Pendulum",
}


def problem(env_id: str) -> ControlProblem:
    """Return the control problem behind an environment.

    Raises:
        UsageError: There is none for it.

    Example:
        >>> problem("Pendulum-v1").horizon
        200
    """
    if env_id not in PROBLEMS:
        raise UsageError(f'There is no control problem of "{env_id}". {did_you_mean(env_id, PROBLEMS)}')
    module = importlib.import_module("hamiltonian_rl.envs.classic_control")  # torch takes seconds to load
    made: ControlProblem = getattr(module, PROBLEMS[env_id])()
    return made
