"""Which routes a control problem allows, and why not the other."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError, did_you_mean
from hamiltonian_rl.problems import ControlProblem, Grid

ROUTES = ("both", "bellman", "hamiltonian")
DEFAULT_POINTS = {1: 401, 2: 101, 3: 31}  # of a grid along each coordinate, by the number of coordinates


def routes_refused(problem: ControlProblem, route: str, points: Sequence[int] | None) -> tuple[str, str]:
    """Return why there can be no grid, and why no costates; empty where there can be.

    Args:
        problem: At the horizon that is asked for.
        route: ``"both"``, which takes what there is, ``"bellman"`` or ``"hamiltonian"``.
        points: Of the grid; a grid of more than three coordinates is solved only where they are given.

    Raises:
        UsageError: There is no such route, or it cannot be taken.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> routes_refused(problem("hrl/Quadrotor-v0"), "both", None)[0]
        'The state has 6 coordinates, and a grid is solved unasked for up to 3: give points to have one.'
    """
    if route not in ROUTES:
        raise UsageError(f'There is no route "{route}". {did_you_mean(route, ROUTES)}')
    no_grid, no_costates = _no_grid(problem, points), _no_costates(problem)
    refused = {"bellman": no_grid, "hamiltonian": no_costates, "both": no_grid and f"{no_costates} {no_grid}".strip()}
    if refused[route] and not (route == "both" and not no_costates):
        raise UsageError(refused[route])
    return no_grid, no_costates


def _no_grid(problem: ControlProblem, points: Sequence[int] | None) -> str:
    """Return why there can be no grid, or nothing."""
    n = problem.state_space.shape[0]
    if problem.horizon is None and problem.discount == 1.0:
        return "There is neither a horizon nor a discount below 1, of which a grid needs one."
    if n > max(DEFAULT_POINTS) and points is None:
        return f"The state has {n} coordinates, and a grid is solved unasked for up to 3: give points to have one."
    space = problem.state_space
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        return f"The state space {space} has no bounds, which a grid needs."
    try:
        Grid(problem, (4,) * n, 2)
    except UsageError as error:
        return str(error)
    return ""


def _no_costates(problem: ControlProblem) -> str:
    """Return why costates cannot be used, or nothing."""
    if problem.horizon is None and problem.relaxed() is not None:
        return "Costates solve a relaxation of this problem, which needs a horizon: give horizon=N."
    if isinstance(problem.action_space, gym.spaces.Box) or problem.relaxed() is not None:
        return ""
    return (
        "The actions are discrete: the Hamiltonian has no derivative with respect to them, and where the reward is "
        "constant until the episode ends the costate is zero almost everywhere. A grid alone answers, or a Relaxation "
        "if the problem states one (`ControlProblem.relaxed`)."
    )
