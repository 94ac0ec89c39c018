"""The optimum of an environment's control problem by both routes, from one state."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.registry import OWN, PROBLEMS

if TYPE_CHECKING:
    from hamiltonian_rl.problems import ControlProblem
    from hamiltonian_rl.solution import Status
    from hamiltonian_rl.solvers.costate.path_solution import PathStatus
    from hamiltonian_rl.solvers.grid_solution import GridSolution
    from hamiltonian_rl.solvers.solve_control import ControlSolution

LEAST_POINTS = 4  # along a coordinate: the grid's error is told by another of half the resolution, which needs 2
MOST_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class ControlOptimum:
    """What both routes say of one initial state of an environment.

    Attributes:
        env_id: The environment.
        route: Which routes were asked for.
        solution: What they found, for one initial state.
        seconds: Seconds that took.
        replayed: Return of the best policy in the real environment, Gymnasium's, under its own time limit; None where
            that is another problem, or the path has no policy.
        horizons: The numbers of steps that the best was chosen from; None where the horizon was not free.
    """

    env_id: str
    route: str
    solution: ControlSolution
    seconds: float
    replayed: float | None = None
    horizons: range | None = None

    @property
    def status(self) -> PathStatus | Status:
        """How the path ended, or else that of the relaxation, or else the grid where it alone was asked."""
        if self.solution.paths is not None:
            return self.solution.paths.status[0]
        if self.solution.relaxed is not None:
            return self.solution.relaxed.paths[0].status[0]
        return cast("GridSolution", self.solution.grid).status

    @property
    def converged(self) -> bool:
        """Whether the path is a local optimum, or the grid did what was asked where it was asked alone.

        Of a relaxation: whether its path, followed in the problem itself, also does what the relaxation is for.
        """
        if self.solution.relaxed is not None and not self.solution.relaxed.reached[0]:
            return False
        return self.status.name in ("LOCAL_OPTIMUM", "CONVERGED", "UNCERTIFIED")


def has_problem(env_id: str) -> bool:
    """Whether an environment has a control problem behind it."""
    return env_id in PROBLEMS


def solve_control_env(
    env_id: str,
    *,
    parameters: dict[str, Any] | None = None,
    state: str | None = None,
    route: str = "both",
    horizon: str | int | range | None = "auto",
    discount: float | None = None,
    points: int | None = None,
    tol: float = 1e-8,
    progress: Callable[[int, float], None] | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> ControlOptimum:
    """Solve the control problem behind an environment from one state.

    Args:
        env_id: An id of `hamiltonian_rl.registry`.
        parameters: Of the problem.
        state: The first state, numbers with commas between; the problem's nominal one, or the first that it draws.
        route: ``"both"``, ``"bellman"`` or ``"hamiltonian"``.
        horizon: Steps; "auto" is the problem's own, or else the environment's where nothing is discounted; None is for
            ever, as "auto" is where a problem without horizon discounts. Of a range the best number of steps is taken
            (`solve_free_horizon`).
        discount: ``γ``; the problem's own when None.
        points: Grid points along each coordinate.
        tol: Of the costates' stationarity.
        progress: Of the grid's sweeps.
        announce: Told in words what begins.

    Raises:
        UsageError: If an argument does not fit.
    """
    from hamiltonian_rl.envs.problems import problem as make_problem
    from hamiltonian_rl.solvers.solve_control import solve_control

    problem = make_problem(env_id, **(parameters or {}))
    if discount is not None:
        if not 0.0 <= discount <= 1.0:
            raise UsageError(f"discount = {discount!r}; expected a number from 0 to 1.")
        problem.discount = discount
    if not 0.0 < tol < math.inf:
        raise UsageError(f"tol = {tol!r}; expected a finite number above 0.")
    first = _first_state(problem, state)
    shape = _grid_shape(points, route, len(first))
    if horizon == "auto":
        horizon = problem.horizon or (None if problem.discount < 1.0 else PROBLEMS[env_id].steps)
    _check_steps(horizon)
    started = time.perf_counter()
    horizons, starts = None, cast(Sequence[Any], ())
    if isinstance(horizon, range):
        horizons = horizon
        horizon, starts = _best_horizon(problem, first, horizons, tol, announce)
    solution = solve_control(
        problem,
        first,
        horizon=math.inf if horizon is None else int(horizon),
        route=route,
        points=shape,
        starts=starts,
        tol=tol,
        progress=progress,
        announce=announce,
    )
    replayed = _replayed(env_id, solution, parameters or {})
    return ControlOptimum(env_id, route, solution, time.perf_counter() - started, replayed, horizons)


def _grid_shape(points: int | None, route: str, coordinates: int) -> tuple[int, ...] | None:
    if points is None:
        return None
    if points < LEAST_POINTS:
        raise UsageError(
            f"points = {points}; expected a whole number from {LEAST_POINTS} up: so many grid points along each "
            "coordinate."
        )
    if route == "hamiltonian":
        raise UsageError(f"points = {points} does not apply: route hamiltonian makes no grid. Leave one of them out.")
    return (points,) * coordinates


def _check_steps(horizon: str | int | range | None) -> None:
    most = horizon[-1] if isinstance(horizon, range) else horizon
    if isinstance(most, int) and most > MOST_STEPS:
        raise UsageError(f"horizon = {most}; expected at most {MOST_STEPS:,} steps of a control problem, or none.")


def _best_horizon(
    problem: ControlProblem, state: np.ndarray, horizons: range, tol: float, announce: Callable[[str], None] | None
) -> tuple[int, list[np.ndarray]]:
    """Return the horizon whose path returns most, and that path's actions."""
    from hamiltonian_rl.solvers.costate.free_horizon import solve_free_horizon

    if problem.relaxed() is not None:
        raise UsageError(
            f"horizon = {horizons[0]}-{horizons[-1]} does not apply: {type(problem).__name__} is solved by its "
            "relaxation, which finds the number of steps itself where time counts. Give one number."
        )
    if announce is not None:
        announce(f"Paths of {horizons[0]} to {horizons[-1]} steps")
    free = solve_free_horizon(problem, state, horizons, tol=tol)
    return int(free.horizon[0]), [free.trajectory(0).actions[0]]


def _replayed(env_id: str, solution: ControlSolution, parameters: dict[str, Any]) -> float | None:
    """Return what the policy along the path earns in Gymnasium's own environment."""
    from hamiltonian_rl.envs.replay import replay
    from hamiltonian_rl.solvers.costate.following import along_paths

    same = solution.problem.horizon == PROBLEMS[env_id].steps and solution.problem.discount == 1.0
    if env_id.startswith(OWN) or not same or (solution.paths is None and solution.relaxed is None):
        return None
    if solution.relaxed is not None:
        policy = solution.relaxed.policies[0]
    else:
        policy = along_paths(cast(Any, solution.paths).one(0))
    return replay(env_id, policy, solution.initial_states[0], **parameters)[0]


def _first_state(problem: ControlProblem, text: str | None) -> np.ndarray:
    """Return the state that is named, or the problem's own.

    Raises:
        UsageError: It is none, lies outside the state space, or the episode is over there.
    """
    from hamiltonian_rl.problems.control_problem import nominal_state
    from hamiltonian_rl.problems.outcomes import over

    if text is None:
        return nominal_state(problem)
    n = problem.state_space.shape[0]
    names = tuple(problem.state_names) or tuple(f"coordinate {index}" for index in range(n))
    try:
        state = np.array([float(part) for part in text.split(",")])
    except ValueError:
        state = np.empty(0)
    if state.shape != (n,) or not np.isfinite(state).all():
        raise UsageError(f'state = "{text}"; expected {n} finite numbers with commas between ({", ".join(names)}).')
    low, high = problem.state_space.low, problem.state_space.high
    for index, name in enumerate(names):
        wraps = bool(problem.periodic) and problem.periodic[index]
        if not wraps and not low[index] <= state[index] <= high[index]:
            raise UsageError(
                f'state = "{text}"; expected {name} from {low[index]:g} to {high[index]:g}, got {state[index]:g}.'
            )
    if over(problem, state[None])[0]:
        raise UsageError(f'state = "{text}"; the episode is over there. Expected a state that can still be acted in.')
    return state
