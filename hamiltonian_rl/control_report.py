"""What a control problem's solution says, as the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hamiltonian_rl.control_solving import ControlOptimum

if TYPE_CHECKING:
    from hamiltonian_rl.solvers.costate import PathSolution
    from hamiltonian_rl.solvers.grid_solution import GridSolution
    from hamiltonian_rl.solvers.relaxed_route import RelaxedRoute

REST_DIGITS = 9  # of a steady state: what lies below is what Newton's method left


def control_rows(optimum: ControlOptimum) -> dict[str, str]:
    """Return what there is to say of a solution, as the rows of a table."""
    solution, paths, grid = optimum.solution, optimum.solution.paths, optimum.solution.grid
    problem = solution.problem
    steps = f"{problem.horizon or 'infinitely many'} steps"
    if optimum.horizons is not None:
        steps += f" (the best of {optimum.horizons[0]} to {optimum.horizons[-1]}, of a path each"
        at_the_end = problem.horizon == optimum.horizons[-1]
        steps += "; more than that may return more)" if at_the_end else ")"
    rows = {
        "From the state": named_numbers(solution.initial_states[0], problem.state_names),
        "For": f"{steps}, discount {problem.discount:g}",
        "Best return found": _best_return(optimum),
    }
    if paths is not None:
        rows |= _path_rows(paths)
    if solution.relaxed is not None:
        rows |= _relaxed_rows(solution.relaxed)
    if optimum.replayed is not None:
        rows[f"In {optimum.env_id} itself"] = (
            f"{optimum.replayed:z.6f}, by the path's feedback in Gymnasium's environment"
        )
    if grid is not None and solution.grid_path is not None:
        error = solution.grid_error[0]
        close = f", error up to about {abs(error):.3g} (estimated)" if np.isfinite(error) else ""
        rows["By the grid"] = (
            f"{solution.grid_value[0]:z.6f}{close}; its greedy path returns {solution.grid_path.returns[0]:z.6f}"
        )
        if not grid.converged or optimum.route == "bellman":
            rows["Grid"] = f"{grid.status.name}: {grid.status.value}"
    if grid is not None and (paths is not None or solution.relaxed is not None):
        side = "above" if solution.gap[0] >= 0.0 else "below"
        rows[f"Grid {side} the best path by"] = f"{abs(solution.gap[0]):.3g}"
    if grid is not None and paths is not None:
        rows |= _comparison_rows(paths, grid, solution.initial_states)
    rows["Work"] = f"{optimum.seconds:.1f} seconds"
    if paths is not None:
        rows["Work"] += f", {int(paths.iterations[0])} iterations of the path ({paths.backend})"
    left_out = solution.left_out
    if optimum.route == "hamiltonian":
        left_out = (
            "The grid, as asked. Where one can be made its greedy path is often a better start: leave --route out."
        )
    return {**rows, **({"Left out": left_out} if left_out else {})}


def _best_return(optimum: ControlOptimum) -> str:
    value, paths = optimum.solution.value[0], optimum.solution.paths
    if not np.isfinite(value):
        return "none: no path is finite"
    if optimum.solution.problem.horizon is None:
        return f"{value:z.6f}, of a path and what its last state is worth (estimated)"
    if paths is not None and paths.status[0].name == "INFEASIBLE":
        return f"{value:z.6f}, of a path that misses the constraints by {paths.violation[0]:.2g}: no bound"
    return f"{value:z.6f}, of a real path: the optimum is at least that"


def _path_rows(paths: PathSolution) -> dict[str, str]:
    from hamiltonian_rl.solvers.costate.infinite_horizon import SteadyEnd

    certificate, runs, optima = paths.certificate, paths.from_all_starts, paths.optima(0)
    rows = {"By costates": f"{paths.value[0]:z.6f}", "Path": f"{paths.status[0].name}: {paths.status[0].value}"}
    best = paths.start[0]  # may be no optimum, and is then not among them
    others = [
        f"{value:z.6f}" + ("" if runs[start].status[0].name == "LOCAL_OPTIMUM" else f" ({runs[start].status[0].name})")
        for value, start in optima
        if start != best
    ]
    if others:
        rows["Other optima found"] = ", ".join(others)
    if isinstance(paths.problem, SteadyEnd):
        rest = paths.problem.rest
        rows["Steady state"] = (
            f"{named_numbers(rest.state.round(REST_DIGITS), paths.problem.state_names)}, with the action "
            f"{numbers(rest.action.round(REST_DIGITS))} and the costate {numbers(rest.costate.round(REST_DIGITS))}; "
            f"the path was followed for {paths.problem.horizon} steps towards it"
        )
    if not np.isfinite(paths.value[0]):
        return rows
    rows["Residuals of Eq. 13-15"] = (
        f"dynamics {certificate.dynamics[0]:.1e}, costates {certificate.costate[0]:.1e}, stationarity "
        f"{certificate.stationarity[0]:.1e}; smallest curvature {paths.curvature[0]:.2e}"
    )
    lacking = f"no, by up to {certificate.hamiltonian_gap[0].max():.2g}"
    rows["H maximised at every step"] = "yes" if certificate.maximises_hamiltonian[0] else lacking
    return rows


def _relaxed_rows(relaxed: RelaxedRoute) -> dict[str, str]:
    path = relaxed.paths[0]
    steps, rounding = path.trajectory.actions.shape[1], relaxed.rounding[0]
    rounded = "" if rounding == "none" else f", rounded ({rounding})"
    if not relaxed.reached[0]:
        rounded += "; the goal of the relaxation is not reached: it is out of reach, or other starts are needed"
    return {
        "Relaxation": f"{type(path.problem).__name__}, {steps} steps: {path.value[0]:z.6f}; it bounds nothing",
        "Its path": f"{path.status[0].name}: {path.status[0].value} Residual of stationarity {path.residual[0]:.1e}.",
        "Its feedback in the problem": f"{relaxed.followed.value[0]:z.6f} in {relaxed.lengths[0]} steps{rounded}",
    }


def _comparison_rows(paths: PathSolution, grid: GridSolution, states: np.ndarray) -> dict[str, str]:
    path = paths.trajectory
    return {
        "First action: costates | grid": f"{numbers(path.actions[0, 0])} | {numbers(grid.action_at(states)[0])}",
        "First costate | grid's gradient": f"{numbers(costates_of(paths)[0])} | {numbers(grid.gradient_at(states)[0])}",
    }


def named_numbers(values: np.ndarray, names: Sequence[str]) -> str:
    """Return numbers with their names and units, where there are names.

    Example:
        >>> named_numbers(np.array([3.0, -0.5]), ("angle (rad)", "speed"))
        'angle 3 rad, speed -0.5'
        >>> named_numbers(np.array([3.0, -0.5]), ())
        '(3, -0.5)'
    """
    if not names:
        return numbers(values)
    parts = [name.rstrip(")").partition(" (") for name in names]
    return ", ".join(
        f"{what} {value:z.5g} {unit}".rstrip() for (what, _, unit), value in zip(parts, values, strict=True)
    )


def numbers(values: np.ndarray) -> str:
    """Return numbers in brackets, a zero without a sign.

    Example:
        >>> numbers(np.array([-0.0, 1.23456789]))
        '(0, 1.2346)'
    """
    return "(" + ", ".join(f"{value:z.5g}" for value in np.atleast_1d(values)) + ")"


def costates_of(paths: PathSolution) -> np.ndarray:
    """Return the costates of the first path, shape ``(N + 1, n)``."""
    costates: np.ndarray = np.asarray(paths.trajectory.costates)[0]
    return costates
