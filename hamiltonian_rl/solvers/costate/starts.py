"""Starts for the costate solver: which optimum a path ends in is decided by where it begins, and noise seldom helps.

Each returns a policy, or takes problems and gives one, for ``initial_actions=`` or ``starts=`` of `solve_costate`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate.arguments import checked_states
from hamiltonian_rl.solvers.costate.following import along, along_paths
from hamiltonian_rl.solvers.costate.solve_costate import solve_costate
from hamiltonian_rl.trajectory import Policy


def energy_pump(
    problem: ControlProblem,
    share: float = 1.0,
    direction: float = 1.0,
    lacking: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Policy:
    """Return the policy that pushes along the velocity that the action drives, and so adds energy while some lacks.

    ``a = middle + share · half width · clip(E* - E, -1, 1) · sign(v)``, v the coordinate `ControlProblem.driven`
    (Åström and Furuta 2000). Arrived, it does not stay: an unstable goal needs another policy near it.

    Args:
        problem: With a bounded Box of one action, and ``driven``.
        share: Of the largest push.
        direction: Of the first push, from rest: 1 or -1.
        lacking: ``E* - E`` of states ``(B, n)``, shape ``(B,)``, in a unit of which 1 is worth a full push; always
            more than that when None.

    Raises:
        UsageError: If the problem does not say what its action drives, or its actions have no bounds.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> from hamiltonian_rl.trajectory import rollout
        >>> car = problem("MountainCarContinuous-v0")  # too weak to drive up the hill
        >>> bool(rollout(car, car.start, energy_pump(car)).states[0, :, 0].max() >= 0.45)
        True
    """
    space, driven = problem.action_space, problem.driven
    low, high = (np.asarray(getattr(space, side, np.inf), dtype=float) for side in ("low", "high"))
    if driven is None or not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise UsageError(
            f"{type(problem).__name__} has driven = {driven} and the actions {space}; expected the coordinate of the "
            "velocity that the action pushes along, and a Box of actions with bounds."
        )
    middle, half = 0.5 * (low + high), 0.5 * (high - low)

    def pump(states: np.ndarray, step: int) -> np.ndarray:
        forward = np.where(states[:, driven] == 0.0, direction, np.sign(states[:, driven]))
        wanted = 1.0 if lacking is None else np.clip(lacking(states), -1.0, 1.0)
        return np.asarray(middle + share * half * (wanted * forward)[:, None])

    return pump


def homotopy(problems: Sequence[ControlProblem], initial_states: np.ndarray, start: Policy | None = None) -> Policy:
    """Solve problems that lead to a hard one, each from the path of the one before; return the policy along the last.

    Weights: the same problem with its terminal reward, its friction, its bound raised step by step. Horizons: with
    more steps each time; beyond the end of a path its last action is repeated.

    Args:
        problems: From the easiest on, with a Box of actions and states of one size; one at least.
        initial_states: ``(B, n)``.
        start: For the first; nothing is done when None.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> short, long = (problem("hrl/CartPoleSwingUp-v0", horizon=steps) for steps in (100, 200))
        >>> policy = homotopy([short, long], np.array([[0.0, 0.0, np.pi, 0.0]]))
        >>> policy(np.array([[0.0, 0.0, np.pi, 0.0]]), 0).shape
        (1, 1)
    """
    policy = start
    for problem in problems:
        policy = along_paths(solve_costate(problem, initial_states, initial_actions=policy))
    if policy is None:
        raise UsageError("problems is empty; expected at least one.")
    return policy


def receding_horizon(
    problem: ControlProblem, initial_states: np.ndarray, window: int, stride: int | None = None
) -> Policy:
    """Optimise ``window`` steps, go ``stride`` of them, and again, to the horizon; return the policy along all of it.

    Short paths of unstable dynamics are found where long ones overflow. The problem may not depend on the step.

    Args:
        problem: With a Box of actions and a horizon.
        initial_states: ``(B, n)``.
        window: Steps looked ahead.
        stride: Steps gone before looking again; half the window when None.
    """
    problem, now = checked_states(problem, initial_states, None)
    horizon = problem.horizon or 0
    stride = min(max(1, window // 2 if stride is None else stride), window)
    part = copy.copy(problem)
    part.horizon = min(window, horizon)
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(0, horizon, stride):
        found = solve_costate(part, now)
        path = found.trajectory
        pieces.append((path.states[:, :stride], path.actions[:, :stride], found.feedback[:, :stride]))
        now = path.states[:, min(stride, part.horizon)]
    states, actions, feedback = (np.concatenate(piece, axis=1)[:, :horizon] for piece in zip(*pieces, strict=True))
    return along(problem, states, actions, feedback)
