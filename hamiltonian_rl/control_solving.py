"""The optimum of an environment's control problem by both routes: solved, compared, drawn, kept in a run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.files import atomic_write
from hamiltonian_rl.registry import OWN, PROBLEMS
from hamiltonian_rl.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from hamiltonian_rl.solvers.relaxed_route import RelaxedRoute
    from hamiltonian_rl.solvers.solve_control import ControlSolution


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
    """

    env_id: str
    route: str
    solution: ControlSolution
    seconds: float
    replayed: float | None = None

    @property
    def converged(self) -> bool:
        """Whether the path is a local optimum, or the grid did what was asked where there is no path."""
        solution = self.solution
        if solution.paths is not None:
            return bool(solution.paths.converged[0])
        if solution.relaxed is not None:
            return bool(np.isfinite(solution.relaxed.followed.value[0]))
        return solution.grid is not None and solution.grid.converged


def has_problem(env_id: str) -> bool:
    """Whether an environment has a control problem behind it."""
    return env_id in PROBLEMS


def solve_control_env(
    env_id: str,
    *,
    parameters: dict[str, Any] | None = None,
    state: str | None = None,
    route: str = "both",
    horizon: str | int | None = "auto",
    discount: float | None = None,
    points: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> ControlOptimum:
    """Solve the control problem behind an environment from one state.

    Args:
        env_id: An id of `hamiltonian_rl.registry`.
        parameters: Of the problem.
        state: The first state, numbers with commas between; the problem's nominal one, or the first that it draws.
        route: ``"both"``, ``"bellman"`` or ``"hamiltonian"``.
        horizon: Steps; "auto" is the problem's own, or else the environment's where nothing is discounted; None is for
            ever, as "auto" is where a problem without horizon discounts.
        discount: ``γ``; the problem's own when None.
        points: Grid points along each coordinate.
        progress: Of the grid's sweeps.

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
    if horizon == "auto":
        horizon = problem.horizon or (None if problem.discount < 1.0 else PROBLEMS[env_id].steps)
    steps = math.inf if horizon is None else int(horizon)
    first = _first_state(problem, state)
    grid_points = None if points is None else (points,) * len(first)
    started = time.perf_counter()
    solution = solve_control(problem, first, horizon=steps, route=route, points=grid_points, progress=progress)
    replayed = _replayed(env_id, solution, parameters or {})
    return ControlOptimum(env_id, route, solution, time.perf_counter() - started, replayed)


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


def _first_state(problem: Any, text: str | None) -> np.ndarray:
    if text is None:
        if len(problem.start):
            return np.asarray(problem.start, dtype=float)
        return np.asarray(problem.initial_states(1, np.random.default_rng(0))[0], dtype=float)
    n = problem.state_space.shape[0]
    try:
        state = np.array([float(part) for part in text.split(",")])
    except ValueError:
        state = np.empty(0)
    if state.shape != (n,):
        names = f" ({', '.join(problem.state_names)})" if problem.state_names else ""
        raise UsageError(f'state = "{text}"; expected {n} numbers with commas between{names}.')
    return state


def control_rows(optimum: ControlOptimum) -> dict[str, str]:
    """Return what there is to say of a solution, as the rows of a table."""
    from hamiltonian_rl.solvers.costate.infinite_horizon import SteadyEnd

    solution, paths, grid = optimum.solution, optimum.solution.paths, optimum.solution.grid
    problem, state = solution.problem, solution.initial_states[0]
    rows = {
        "From the state": f"{_numbers(state)}, {problem.horizon or 'infinitely many'} steps, discount "
        f"{problem.discount:g}",
        "Best return found": f"{solution.value[0]:.6f}, of a real path: the optimum is at least that",
    }
    if problem.horizon is None:
        rows["Best return found"] = f"{solution.value[0]:.6f}, of a path and what its last state is worth (estimated)"
    if paths is not None and isinstance(paths.problem, SteadyEnd):
        rest = paths.problem.rest
        rows["Steady state"] = (
            f"{_numbers(rest.state)} with the action {_numbers(rest.action)} and the costate {_numbers(rest.costate)}, "
            f"the end of {paths.problem.horizon} steps"
        )
    if paths is not None:
        of = f", the best of {len(paths.from_all_starts)} paths" if paths.from_all_starts else ""
        rows["By costates"] = f"{paths.value[0]:.6f}{of}"
        rows["Path"] = f"{paths.status[0].name}: {paths.status[0].value}"
    if solution.relaxed is not None:
        rows |= _relaxed_rows(solution.relaxed)
    if optimum.replayed is not None:
        rows[f"In {optimum.env_id} itself"] = (
            f"{optimum.replayed:.6f}, by the path's feedback in Gymnasium's environment"
        )
    if grid is not None and solution.grid_path is not None:
        error = solution.grid_error[0]
        close = f", error up to about {abs(error):.3g} (estimated)" if np.isfinite(error) else ""
        rows["By the grid"] = (
            f"{solution.grid_value[0]:.6f}{close}; its greedy path returns {solution.grid_path.returns[0]:.6f}"
        )
    if grid is not None and (paths is not None or solution.relaxed is not None):
        side = "above" if solution.gap[0] >= 0.0 else "below"
        rows[f"Grid {side} the best path by"] = f"{abs(solution.gap[0]):.3g}"
    if grid is not None and paths is not None:
        rows["First action: costates | grid"] = (
            f"{_numbers(paths.trajectory.actions[0, 0])} | {_numbers(grid.action_at(solution.initial_states)[0])}"
        )
        rows["First costate | grid's gradient"] = (
            f"{_numbers(_costates(paths)[0])} | {_numbers(grid.gradient_at(solution.initial_states)[0])}"
        )
    if paths is not None:
        certificate = paths.certificate
        rows["Residuals of Eq. 13-15"] = (
            f"dynamics {certificate.dynamics[0]:.1e}, costates {certificate.costate[0]:.1e}, stationarity "
            f"{certificate.stationarity[0]:.1e}; smallest curvature {paths.curvature[0]:.2e}"
        )
        best = bool(certificate.maximises_hamiltonian[0])
        rows["H maximised at every step"] = (
            "yes" if best else f"no, by up to {certificate.hamiltonian_gap[0].max():.2g}"
        )
        rows["Work"] = f"{int(paths.iterations[0])} iterations ({paths.backend}), {optimum.seconds:.1f} seconds in all"
    return {**rows, **({"Left out": solution.left_out} if solution.left_out else {})}


def _relaxed_rows(relaxed: RelaxedRoute) -> dict[str, str]:
    path = relaxed.paths[0]
    steps, rounding = path.trajectory.actions.shape[1], relaxed.rounding[0]
    rounded = "" if rounding == "none" else f", rounded ({rounding})"
    return {
        "Relaxation": f"{type(path.problem).__name__}, {steps} steps: {path.value[0]:.6f}; it bounds nothing",
        "Its path": f"{path.status[0].name}: {path.status[0].value}",
        "Its feedback in the problem": f"{relaxed.followed.value[0]:.6f}{rounded}",
    }


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.5g}" for value in np.atleast_1d(values)) + ")"


def _costates(paths: Any) -> np.ndarray:
    return np.asarray(paths.trajectory.costates[0])


def keep_control_optimum(optimum: ControlOptimum, folder: RunFolder) -> list[str]:
    """Write a solution to its run folder, and return the names of its pictures.

    Raises:
        RunStorageError: The folder cannot be written.
    """
    solution, problem = optimum.solution, optimum.solution.problem
    folder.write_config(
        {
            "env": optimum.env_id,
            "route": optimum.route,
            "state": solution.initial_states[0].tolist(),
            "horizon": "none" if problem.horizon is None else problem.horizon,
            "discount": problem.discount,
        }
    )
    folder.write_provenance()
    arrays: dict[str, np.ndarray] = {"initial_state": solution.initial_states[0]}
    if solution.paths is not None:
        path = solution.paths.trajectory
        arrays |= {"states": path.states[0], "actions": path.actions[0], "costates": _costates(solution.paths)}
        arrays |= {"rewards": path.rewards[0], "feedback": solution.paths.feedback[0]}
    if solution.relaxed is not None:
        arrays |= {"states": solution.relaxed.followed.states[0], "actions": solution.relaxed.followed.actions[0]}
        relaxed = solution.relaxed.paths[0].trajectory
        arrays |= {"relaxed_states": relaxed.states[0], "relaxed_actions": relaxed.actions[0]}
        arrays |= {"relaxed_costates": _costates(solution.relaxed.paths[0])}
    if solution.grid is not None and solution.grid_path is not None:
        arrays |= {"grid_states": solution.grid_path.states[0], "grid_actions": solution.grid_path.actions[0]}
    with atomic_write(folder.path / "trajectory.npz") as file:
        np.savez(file, **cast(Any, arrays))
    pictures = _pictures(optimum)
    for name, picture in pictures.items():
        with atomic_write(folder.path / name) as file:
            picture.savefig(file, format="png", dpi=120)
    folder.write_result(
        {
            "return": float(solution.value[0]),
            **({} if solution.grid is None else {"grid_value": float(solution.grid_value[0])}),
            **({} if solution.paths is None else {"status": solution.paths.status[0].name.lower()}),
            **({} if optimum.replayed is None else {"replayed": optimum.replayed}),
            "seconds": optimum.seconds,
        }
    )
    return list(pictures)


def _pictures(optimum: ControlOptimum) -> dict[str, Any]:
    from hamiltonian_rl.tracking.pictures import phase_picture, trajectory_picture

    solution, problem = optimum.solution, optimum.solution.problem
    n = solution.initial_states.shape[1]
    names = tuple(problem.state_names) or tuple(f"state {i}" for i in range(n))
    found: dict[str, Any] = {}
    solved, relaxation = solution.paths, ""
    if solution.relaxed is not None:
        solved, relaxation = solution.relaxed.paths[0], "relaxation, "
    if solved is not None:
        path = solved.trajectory
        actions = path.actions[0]
        rows = {
            "state": (path.states[0], names),
            "action": (actions, tuple(f"action {i}" for i in range(actions.shape[1]))),
            "costate": (_costates(solved), tuple(f"dV/d({name})" for name in names)),
        }
        title = f"{optimum.env_id}: {relaxation}return {solved.value[0]:.4f}"
        found["path.png"] = trajectory_picture(rows, title)
    grid = solution.grid
    if grid is not None and n == 2 and solution.grid_path is not None:
        states, route = solution.grid_path.states[0], "greedy path of the grid"
        if solution.paths is not None:
            states, route = solution.paths.trajectory.states[0], "path by costates"
        value = (grid.value[0] if grid.value.ndim == 2 else grid.value).reshape(grid.grid.shape)
        axes = (grid.grid.axes[0], grid.grid.axes[1])
        wrapped = _wrapped(states, grid.grid)
        title = f"{optimum.env_id}: path over V"
        found["phase.png"] = phase_picture(value, axes, wrapped, names[:2], title, route)
    return found


def _wrapped(states: np.ndarray, grid: Any) -> np.ndarray:
    """Return a path with its angles inside the grid, broken where it wraps."""
    path = states.copy()
    breaks = np.zeros(len(path) - 1, dtype=bool)
    space = grid.problem.state_space
    for i, wraps in enumerate(grid.periodic):
        if wraps:
            low, period = float(space.low[i]), float(space.high[i] - space.low[i])
            path[:, i] = (path[:, i] - low) % period + low
            breaks |= np.abs(np.diff(path[:, i])) > 0.5 * period
    return np.insert(path, np.flatnonzero(breaks) + 1, np.nan, axis=0)
