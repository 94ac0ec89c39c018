"""What is kept of a control problem's solution in a run folder: its paths as arrays, and pictures of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hamiltonian_rl.control_report import costates_of, numbers
from hamiltonian_rl.control_solving import ControlOptimum
from hamiltonian_rl.files import atomic_write
from hamiltonian_rl.tracking.pictures import Panel, phase_picture, save_picture, trajectory_picture
from hamiltonian_rl.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from hamiltonian_rl.problems import Grid


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
    with atomic_write(folder.path / "trajectory.npz") as file:
        np.savez(file, **cast(Any, _arrays(optimum)))
    pictures = control_pictures(optimum)
    for name, picture in pictures.items():
        save_picture(picture, folder.path / name)
    folder.write_result(
        {
            "return": float(solution.value[0]),
            **({} if solution.grid is None else {"grid_value": float(solution.grid_value[0])}),
            "status": optimum.status.name.lower(),
            **({} if solution.relaxed is None else {"reached": bool(solution.relaxed.reached[0])}),
            **({} if optimum.replayed is None else {"replayed": optimum.replayed}),
            "seconds": optimum.seconds,
        }
    )
    return list(pictures)


def _arrays(optimum: ControlOptimum) -> dict[str, np.ndarray]:
    """Return what trajectory.npz holds: paths to the ends of their episodes, one row a step."""
    solution = optimum.solution
    arrays = {"initial_state": solution.initial_states[0]}
    if solution.paths is not None:
        path, runs = solution.paths.trajectory, solution.paths.from_all_starts or [solution.paths]
        arrays |= {"states": path.states[0], "actions": path.actions[0], "costates": costates_of(solution.paths)}
        arrays |= {"rewards": path.rewards[0], "feedback": solution.paths.feedback[0]}
        optima = solution.paths.optima(0)
        arrays["optima_value"] = np.array([value for value, _ in optima])
        for name in ("states", "actions", "costates"):
            arrays[f"optima_{name}"] = np.array([getattr(runs[run].trajectory, name)[0] for _, run in optima])
    if solution.relaxed is not None:
        steps, followed = solution.relaxed.lengths[0], solution.relaxed.followed
        arrays |= {"states": followed.states[0, : steps + 1], "actions": followed.actions[0, :steps]}
        relaxed = solution.relaxed.paths[0].trajectory
        arrays |= {"relaxed_states": relaxed.states[0], "relaxed_actions": relaxed.actions[0]}
        arrays |= {"relaxed_costates": costates_of(solution.relaxed.paths[0])}
    if solution.grid_path is not None:
        steps = solution.grid_path.lengths[0]
        arrays |= {"grid_states": solution.grid_path.states[0, : steps + 1]}
        arrays |= {"grid_actions": solution.grid_path.actions[0, :steps]}
    return arrays


def control_pictures(optimum: ControlOptimum) -> dict[str, Any]:
    """Return the figures of a solution by file name: paths over the steps, and in the plane over V where there is one.

    States, actions and costates have a panel each, with its unit; paths differ by color and by dashes.
    """
    solution, problem = optimum.solution, optimum.solution.problem
    names = tuple(problem.state_names) or tuple(f"state {i}" for i in range(solution.initial_states.shape[1]))
    title = f"{optimum.env_id} from {numbers(solution.initial_states[0])}: return {solution.value[0]:z.7g}"
    found = {"path.png": trajectory_picture(*_panels(optimum, names), title)}
    grid, paths = solution.grid, {name: lines["states"] for name, lines in _routes(optimum).items()}
    if grid is not None and len(names) == 2:
        value = (grid.value[0] if grid.value.ndim == 2 else grid.value).reshape(grid.grid.shape)
        wrapped = {name: _wrapped(states, grid.grid) for name, states in paths.items()}
        found["phase.png"] = phase_picture(*_over_all(value, grid.grid), wrapped, names, title)
    return found


def _routes(optimum: ControlOptimum) -> dict[str, dict[str, np.ndarray]]:
    """Return states, actions and, where there are some, costates of each path, by what the path is called.

    Angles are drawn without jumps.
    """
    solution, space = optimum.solution, optimum.solution.problem.state_space
    kept = _arrays(optimum)
    found = {}
    if solution.paths is not None:
        found["path by costates"] = {name: kept[name] for name in ("states", "actions", "costates")}
    if solution.relaxed is not None:
        found["path of the relaxation"] = {name: kept[f"relaxed_{name}"] for name in ("states", "actions", "costates")}
        by = "followed" if solution.relaxed.rounding[0] == "none" else "rounded and followed"
        found[f"{by} in the problem"] = {"states": kept["states"], "actions": kept["actions"]}
    if solution.grid_path is not None:
        found["greedy path of the grid"] = {"states": kept["grid_states"], "actions": kept["grid_actions"]}
    for i in np.flatnonzero(solution.problem.periodic):
        for route in found.values():
            route["states"] = route["states"].copy()
            route["states"][:, i] = np.unwrap(route["states"][:, i], period=float(space.high[i] - space.low[i]))
    return found


def _panels(optimum: ControlOptimum, names: tuple[str, ...]) -> tuple[list[Panel], list[Panel]]:
    """Return the panels of a picture: states and actions to the left, each state's costate to the right of it."""
    routes, solution = _routes(optimum), optimum.solution
    slopes = {name: route["costates"] for name, route in routes.items() if "costates" in route}
    if solution.grid is not None and solution.relaxed is None:
        states = next(iter(routes.values()))["states"]  # of the path by costates, where there is one
        gradients = [solution.grid.gradient_at(state, step) for step, state in enumerate(states)]
        slopes["gradient of the grid's V along it"] = np.array(gradients)
    actions = {name: route["actions"].reshape(len(route["actions"]), -1) for name, route in routes.items()}
    count = next(iter(actions.values())).shape[1]
    action_names = tuple(solution.problem.action_names) or tuple(f"action {i}" for i in range(count))

    def lines(of: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
        return {name: values[:, index] for name, values in of.items()}

    along = {name: route["states"] for name, route in routes.items()}
    left = [Panel(_label(name), lines(along, i)) for i, name in enumerate(names)]
    left += [Panel(_label(name), lines(actions, i), held=True) for i, name in enumerate(action_names)]
    return left, [Panel(_label(name, "∂V/∂ ", "per "), lines(slopes, i)) for i, name in enumerate(names)]


def _label(name: str, before: str = "", per: str = "") -> str:
    r"""Return the label of an axis, the unit in a line of its own: of a state, an action, or ``∂V/∂s`` in units of V.

    Example:
        >>> _label("angle (rad)"), _label("angle (rad)", "∂V/∂ ", "per "), _label("capital", "∂V/∂ ", "per ")
        ('angle\n(rad)', '∂V/∂ angle\n(per rad)', '∂V/∂ capital')
    """
    return before + re.sub(r" \((.+)\)$", rf"\n({per}\1)", name)


def _wrapped(states: np.ndarray, grid: Grid) -> np.ndarray:
    """Return a path with its angles inside the grid, drawn up to the border on both sides where it wraps."""
    space = grid.problem.state_space
    period = space.high - space.low
    turns = np.where(grid.periodic, np.floor((states - space.low) / period), 0.0)
    inside, nowhere = states - turns * period, np.full((1, states.shape[1]), np.nan)
    pieces = [inside[:1]]
    for k in range(1, len(states)):
        shift = (turns[k] - turns[k - 1]) * period
        if shift.any():
            pieces += [inside[k : k + 1] + shift, nowhere, inside[k - 1 : k] - shift]
        pieces.append(inside[k : k + 1])
    return np.concatenate(pieces)


def _over_all(value: np.ndarray, grid: Grid) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return V and its two axes; along an angle with the last point, which is the first one again."""
    axes = []
    for i, axis in enumerate(grid.axes):
        if grid.periodic[i]:
            value, axis = np.append(value, value.take([0], i), i), np.append(axis, grid.problem.state_space.high[i])
        axes.append(axis)
    return value, (axes[0], axes[1])
