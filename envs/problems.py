"""The control problem behind an environment, by the environment's id."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS


def problem(env_id: str, **parameters: Any) -> ControlProblem:
    """Return the control problem behind an environment.

    Args:
        env_id: Of Gymnasium's classic control, or one of our own, ``hrl/...``.
        parameters: Of the problem's class: a mass, a matrix, the horizon; what is left out has its default.

    Raises:
        UsageError: There is none for it, or it has no such parameter.

    Example:
        >>> problem("Pendulum-v1").horizon
        200
        >>> problem("hrl/Quadrotor-v0", mass=1.2).mass
        1.2
    """
    if env_id not in PROBLEMS:
        raise UsageError(f'There is no control problem of "{env_id}". {did_you_mean(env_id, PROBLEMS)}')
    entry = PROBLEMS[env_id]
    module = importlib.import_module(f"hamiltonian_rl.envs.{entry.module}")  # torch takes seconds to load
    kind = getattr(module, entry.name)
    # A class without a constructor of its own has no parameters; its signature would show object's.
    known = [] if kind.__init__ is object.__init__ else list(inspect.signature(kind).parameters)
    for name in parameters:
        if name not in known:
            raise UsageError(
                f'{env_id} has no parameter "{name}". {did_you_mean(name, known) if known else "It has none at all."}'
            )
    made: ControlProblem = kind(**{**entry.parameters, **parameters})
    return made
