"""The control problem behind an environment, by the environment's id; and telling which one that is."""

from __future__ import annotations

import importlib
import inspect
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from hamiltonian_rl.errors import UsageError, did_you_mean, first_line
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.registry import PROBLEMS, Registered


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
    kind = _class_of(env_id, entry.entry_point)
    # A class without a constructor of its own has no parameters; its signature would show object's.
    known = [] if kind.__init__ is object.__init__ else list(inspect.signature(kind).parameters)
    for name in parameters:
        if name not in known:
            raise UsageError(
                f'{env_id} has no parameter "{name}". {did_you_mean(name, known) if known else "It has none at all."}'
            )
    made: ControlProblem = kind(**{**entry.parameters, **parameters})
    return made


def register_problem(env_id: str, entry_point: str | type[ControlProblem], **parameters: Any) -> None:
    """Tell which control problem is behind an environment of your own, so that its optimum can be computed.

    The problem is the model of the environment: `check_model` holds them against each other. What the environment is
    made with is given to the problem's class too. An id that has a problem is given the new one.

    Args:
        env_id: Of the environment, registered with Gymnasium before.
        entry_point: The problem's class, or where it is: "my_package.my_module:MyProblem".
        parameters: What the class is given.

    Raises:
        UsageError: The environment is not registered, or there is no class of a problem.

    Example:
        >>> gym.register("MyPendulum-v0", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=50)
        >>> register_problem("MyPendulum-v0", "hamiltonian_rl.envs.classic_control:Pendulum")
        >>> from hamiltonian_rl.envs.behind import problem_behind
        >>> problem_behind(gym.make("MyPendulum-v0"))[0].horizon
        50
        >>> del PROBLEMS["MyPendulum-v0"], gym.registry["MyPendulum-v0"]
    """
    if env_id not in gym.registry:
        raise UsageError(
            f'There is no environment "{env_id}" whose problem to register. {did_you_mean(env_id, gym.registry)} '
            "Register the environment with gymnasium.register first."
        )
    _class_of(env_id, entry_point)
    steps = gym.registry[env_id].max_episode_steps
    PROBLEMS[env_id] = Registered(entry_point, steps, MappingProxyType(parameters))


def _class_of(env_id: str, entry_point: str | type) -> type[ControlProblem]:
    """Return the class of a problem, from where it is; torch, which takes seconds to load, comes with it."""
    kind: Any = entry_point
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        try:
            kind = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(
                f'The problem of "{env_id}" is not found at "{entry_point}": {first_line(error)} Expected '
                '"my_package.my_module:MyProblem".'
            ) from error
    if not (isinstance(kind, type) and issubclass(kind, ControlProblem)):
        raise UsageError(f'The problem of "{env_id}" is {kind!r}; expected a class derived from ControlProblem.')
    return kind
