"""Both routes to the optimum of a control problem: Bellman on a grid finds where, costates find exactly.

Where the problem has no slopes and states a `Relaxation`, that is what the costates solve (`solve_relaxed`).

A path improved by its costates ends in the optimum of its neighborhood; which one is decided by its start. A
grid sees the whole state space and is never exact. So the grid's greedy path is a start for the costates, beside
some that know nothing, and so are kicks of both (`kicks`): a grid misplaces the ridges between numbers of swings. The
best path's own return is a lower bound on V*, and the grid's value, with an estimate of its error, stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hamiltonian_rl.errors import SolverError, UsageError
from hamiltonian_rl.problems import ControlProblem, Grid
from hamiltonian_rl.problems.control_problem import nominal_state
from hamiltonian_rl.solution import Status
from hamiltonian_rl.solvers.costate import PathSolution, best_of, solve_costate
from hamiltonian_rl.solvers.costate.arguments import Start, checked_states, is_endless
from hamiltonian_rl.solvers.costate.following import along_paths
from hamiltonian_rl.solvers.costate.kicks import reach
from hamiltonian_rl.solvers.costate.search import searched
from hamiltonian_rl.solvers.grid_error import roughness
from hamiltonian_rl.solvers.grid_solution import GridSolution, Rollout
from hamiltonian_rl.solvers.loops import Progress
from hamiltonian_rl.solvers.relaxed_route import RelaxedRoute, solve_relaxed
from hamiltonian_rl.solvers.routes import DEFAULT_POINTS, routes_refused
from hamiltonian_rl.solvers.solve_grid import solve_grid
from hamiltonian_rl.trajectory import Policy

ENDLESS_STEPS = 100  # that the grid alone is followed where there is no horizon


@dataclass(frozen=True, eq=False)
class ControlSolution:
    """What the two routes found from B initial states.

    Attributes:
        problem: The problem, at the horizon that was solved, or None.
        initial_states: ``(B, n)``.
        paths: By costates, the best of all starts; None where that route was not taken. After a search
            ``from_all_starts`` holds up to eight different ones of each state, best first.
        relaxed: By costates of the problem's relaxation, followed in the problem itself; None where it states none.
        grid: By Bellman's equation on a grid; None where that route was not taken.
        grid_path: The grid's greedy paths; without horizon their first steps, the returns with the grid's value after.
        left_out: Why a route was not taken, a sentence, or empty.
    """

    problem: ControlProblem
    initial_states: np.ndarray
    paths: PathSolution | None
    relaxed: RelaxedRoute | None
    grid: GridSolution | None
    grid_path: Rollout | None
    left_out: str

    @property
    def value(self) -> np.ndarray:
        """The highest return of a path, a lower bound on V* where there is a horizon; shape ``(B,)``."""
        found = [np.full(len(self.initial_states), -np.inf)]
        found += [] if self.paths is None else [self.paths.value]
        found += [] if self.relaxed is None else [self.relaxed.followed.value]
        found += [] if self.grid_path is None else [self.grid_path.returns]
        return np.asarray(np.fmax.reduce(found))

    @property
    def grid_value(self) -> np.ndarray:
        """The grid's value at the initial states, shape ``(B,)``; NaN without a grid."""
        if self.grid is None:
            return np.full(len(self.initial_states), np.nan)
        return np.asarray(self.grid.value_at(self.initial_states))

    @property
    def grid_error(self) -> np.ndarray:
        """An estimate, no bound, of the grid's error there, shape ``(B,)``; NaN where there is none.

        Of two resolutions compared, and how rough V is around (`roughness`).
        """
        if self.grid is None or self.grid.error_estimate is None:
            return np.full(len(self.initial_states), np.nan)
        grid, value = self.grid.grid, self.grid.value
        error = self.grid.error_estimate + roughness(grid, value if value.ndim == 1 else value[0])
        return np.asarray(grid.interpolate(error, self.initial_states))

    @property
    def gap(self) -> np.ndarray:
        """By how much the grid's value is above the best path's return, shape ``(B,)``."""
        return np.asarray(self.grid_value - self.value)


def solve_control(
    problem: ControlProblem,
    initial_states: np.ndarray | None = None,
    *,
    horizon: int | float | None = None,
    route: str = "both",
    points: Sequence[int] | None = None,
    n_actions: int = 9,
    grid: GridSolution | None = None,
    starts: Sequence[Start] = (),
    search: bool = True,
    tol: float = 1e-8,
    threads: int = 1,
    progress: Progress | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> ControlSolution:
    """Solve a control problem from initial states by a grid, by costates from several starts, or by both.

    Args:
        problem: The problem.
        initial_states: ``(B, n)``, or ``(n,)`` for one; the problem's nominal one, or one that it draws, when None.
        horizon: Number of steps; the problem's own when None; ``math.inf`` for ever (`solve_costate`).
        route: ``"both"``, ``"bellman"`` (grid only) or ``"hamiltonian"`` (costates only).
        points: Of the grid along each coordinate; 401, 101 or 31 for one, two or three coordinates when None.
        n_actions: Of the grid along each coordinate of the action, before refinement.
        grid: Solved before, of this problem at this horizon: ``ControlSolution.grid``, for other states.
        starts: First actions, or policies, beside the grid's greedy path and three that know nothing; without
            horizon policies alone.
        search: Whether to look for better optima: without a grid along the path of an infinite horizon; then by kicks
            (`kicked`) of the grid's greedy policy, and of the best path. Some eighty solutions more from each state;
            none without horizon.
        tol: Of the costates' stationarity.
        threads: For the costates.
        progress: Of the grid's sweeps.
        announce: Told in words what begins: the grid, the costates, each relaxed path.

    Raises:
        KeyboardInterrupt: Ctrl-C, while the grid was solved too: a value that is half known is no start.
        UsageError: If an argument does not fit, or the route that is asked for cannot be taken.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> pendulum = problem("Pendulum-v1")
        >>> solution = solve_control(pendulum, np.array([np.pi, 0.0]), points=(51, 51))  # 51 x 51: seconds
        >>> round(float(solution.value[0]), 3)  # from hanging; the naive start ends at -1134
        -295.301
    """
    endless = is_endless(problem, horizon)
    problem, states = checked_states(problem, _given_states(problem, initial_states), 1 if endless else horizon)
    problem.horizon = None if endless else problem.horizon
    no_grid, no_costates = routes_refused(problem, route, points)
    if grid is None and route != "hamiltonian" and not no_grid:
        shape = points if points is not None else (DEFAULT_POINTS[states.shape[1]],) * states.shape[1]
        announce(f"Grid of {' x '.join(map(str, shape))} points")
        grid = solve_grid(Grid(problem, shape, n_actions), estimate_error=True, progress=progress)
        if grid.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
    grid_path = None if endless or grid is None else grid.rollout(states)
    paths = relaxed = None
    if route != "bellman" and not no_costates:
        announce("Paths by costates")
        solve = partial(solve_costate, problem, tol=tol, threads=threads)
        if endless:
            greedy: list[Start] = [] if grid is None else [lambda state, step: grid.action_at(state)]
            paths = solve(states, starts=[*_blind_policies(problem), *greedy, *starts])
        elif problem.relaxed() is not None:
            relaxed = solve_relaxed(problem, states, starts, tol=tol, announce=announce)
        else:
            paths = _finite_paths(problem, states, starts, grid, grid_path, search, solve)
    if endless and grid is not None:
        grid_path = _greedy_path(grid, states, paths)
    left_out = "" if route != "both" else no_grid if grid is None else no_costates
    return ControlSolution(problem, states, paths, relaxed, grid, grid_path, left_out)


def _finite_paths(
    problem: ControlProblem,
    states: np.ndarray,
    starts: Sequence[Start],
    grid: GridSolution | None,
    grid_path: Rollout | None,
    search: bool,
    solve: Callable[..., PathSolution],
) -> PathSolution:
    """Return the best paths of a horizon by costates, from all the starts that there are."""
    paths = solve(states, starts=[*_blind_starts(problem), *starts])
    if grid_path is not None:
        paths = best_of([paths, solve(states, initial_actions=_along(grid_path), barrier=False)])
    elif search:
        paths = best_of([paths, *_cut_short(problem, states, solve)])
    if search:
        paths = searched(paths, None if grid is None else grid.action_at, partial(solve, barrier=False))
    return paths


def _given_states(problem: ControlProblem, states: Any) -> Any:
    """Return the states, or the nominal one where none is given."""
    return nominal_state(problem) if states is None and isinstance(problem, ControlProblem) else states


def _along(path: Rollout) -> Start:
    """Return the policy that repeats a rollout's actions: along with its states they are a start for the costates."""
    return lambda states, step: path.actions[:, step]


def _greedy_path(grid: GridSolution, states: np.ndarray, paths: PathSolution | None) -> Rollout:
    """Return the beginnings of the grid's greedy paths without end; what comes after them the grid's value says."""
    steps = ENDLESS_STEPS if paths is None else int(paths.problem.horizon or 0)
    path = grid.rollout(states, steps)
    return replace(path, returns=path.returns + grid.grid.problem.discount**steps * grid.value_at(path.states[:, -1]))


def _cut_short(problem: ControlProblem, states: np.ndarray, solve: Callable[..., PathSolution]) -> list[PathSolution]:
    """Return the paths of an infinite horizon, cut and polished; none where there is no such horizon.

    Its first paths are short, and paid at their ends what a place to rest is worth: that finds the way there (a pole's
    swing) where a long horizon with a steep end finds a detour.
    """
    try:
        rested = solve(states, horizon=np.inf, starts=_blind_policies(problem))
        return [solve(states, initial_actions=along_paths(rested), barrier=False)]
    except (SolverError, UsageError):
        return []


def _blind_policies(problem: ControlProblem) -> list[Start]:
    """Return the first actions that know nothing as policies of any number of steps."""
    steps = problem.horizon or ENDLESS_STEPS

    def policy(actions: np.ndarray) -> Policy:
        return lambda states, step: np.repeat(actions[None, min(step, steps - 1)], len(states), 0)

    return [policy(actions) for actions in _blind_starts(problem, steps)]


def _blind_starts(problem: ControlProblem, steps: int | None = None) -> list[np.ndarray]:
    """Return first actions that know nothing: none, and two waves; in the middle of the bounds where there are any."""
    steps = problem.horizon or 0 if steps is None else steps
    low, middle, high = reach(problem)
    turns = np.linspace(0.0, 2.0 * np.pi, steps)[:, None]
    return [
        middle + 0.25 * (high - low) * amplitude * np.sin(waves * turns + 0.3)
        for amplitude, waves in ((0, 1), (1, 1), (1, 3))
    ]
