"""Optimal paths by Pontryagin's conditions: many initial states at once, each with costates and a status.

A path is improved by differential dynamic programming (Mayne 1966; Jacobson and Mayne 1970): a backward pass
computes the costates (Eq. 14) and a quadratic model of the value along the path, a forward pass follows the
model's step with its feedback. The bounds of the actions are first kept away by a primal-dual barrier, which
finds better optima, then held exactly. Constraints enter by an augmented Lagrangian. All of this is ascent:
what it finds is stationary, and a strict local maximum where the curvature says so; which of several optima
it finds is decided by where it starts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.augmented_loop import solve_augmented
from hamiltonian_rl.solvers.costate.backend import Phase, choose_backend
from hamiltonian_rl.solvers.costate.curvature import judged_curvature
from hamiltonian_rl.solvers.costate.infinite_horizon import solve_endless
from hamiltonian_rl.solvers.costate.multiple_shooting import Guess, close_gaps
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus, picked
from hamiltonian_rl.solvers.costate.second_start import HIGH_BARRIER, bounded_on_both_sides, mirrored_later
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.trajectory import Policy, Trajectory, as_numbers, follow, rollout

Start = np.ndarray | Policy | Guess

TIE = 1e-12  # relative difference of two values that is rounding

_STATUS = {
    lanes.STUCK: PathStatus.STAGNATED,
    lanes.OUT_OF_ITERATIONS: PathStatus.MAX_ITERATIONS,
    lanes.NOT_FINITE: PathStatus.DIVERGED,
}


def solve_costate(
    problem: ControlProblem,
    initial_states: np.ndarray,
    *,
    horizon: int | float | None = None,
    initial_actions: Start | None = None,
    starts: Sequence[Start] | None = None,
    tol: float = 1e-8,
    max_iterations: int = 500,
    barrier: bool = True,
    backend: str | Phase = "auto",
    threads: int = 1,
    device: str = "cpu",
) -> PathSolution:
    """Return a stationary path from each initial state: ``max Σ γ^k r + γ^N h`` (Eq. 8-15).

    Args:
        problem: With a Box of actions.
        initial_states: ``(B, n)``, or ``(n,)`` for one.
        horizon: Number of steps N; the problem's own when None. ``math.inf``, which is also what a problem without
            horizon has of its own: the infinite horizon, by a steady state (`infinite_horizon`). Starts are then
            policies, and the terminal reward counts for nothing.
        initial_actions: ``(N, m)``, ``(B, N, m)``, a policy to follow, or a `Guess` of states that need not fit
            their actions (multiple shooting); zero (within the bounds) when None. Where every action is bounded on
            both sides, what is found is mirrored, delayed and solved once more (`second_start`), and the better path
            is returned.
        starts: Any number of such instead, and nothing else; every state is solved from each, and the best path is
            returned. ``starts=[actions]`` solves once.
        tol: Largest stationarity residual ``|clip(a + ∂H/∂a) - a|``, and violation of the constraints.
        max_iterations: Backward passes a path and phase.
        barrier: Whether to keep away from the bounds first. Turn it off to polish a path that is nearly optimal:
            it would be moved off its bounds.
        backend: ``"compiled"``, ``"torch"``, or ``"auto"``: compiled where the problem can be; or what `prepare` made
            of this problem.
        threads: Of the compiled back end.
        device: Of the torch back end.

    Raises:
        UsageError: If the problem or an argument does not fit.
        SolverError: Without horizon: no steady state was found.

    Example:
        >>> from hamiltonian_rl.envs.problems import problem
        >>> solution = solve_costate(problem("hrl/LinearQuadratic-v0"), np.array([1.0, 0.0]))
        >>> round(float(solution.value[0]), 6), solution.trajectory.costates[0, 0].round(5).tolist()
        (-9.077561, [-18.15512, -6.33246])
        >>> solution.status[0].name, bool(solution.certificate.costate[0] < 1e-9)
        ('LOCAL_OPTIMUM', True)
    """
    if isinstance(backend, Phase) and backend.problem is not problem:
        raise UsageError("backend was prepared for another problem; expected prepare(problem) of this one.")
    firsts = _given_starts(initial_actions, starts)
    if is_endless(problem, horizon):
        if isinstance(backend, Phase):
            raise UsageError("backend was prepared for finite horizons, and this one is infinite; give horizon=N.")
        options = {"tol": tol, "max_iterations": max_iterations, "backend": backend}
        options |= {"threads": threads, "device": device}
        return _solve_endless(problem, initial_states, firsts, barrier, options)
    problem, states = checked_states(problem, initial_states, horizon)
    if not isinstance(problem.action_space, gym.spaces.Box):
        raise UsageError(
            f"The action space is {problem.action_space}; the Hamiltonian's derivative needs a Box. Solve the problem "
            "on a grid, or state a continuous relaxation of it."
        )
    settings = _checked_settings(tol, max_iterations, threads)
    solve_phase = backend if isinstance(backend, Phase) else choose_backend(problem, states, backend, device)
    guesses = [_first_path(problem, states, start) for start in firsts]
    runs = [_solve(problem, states, first, settings, solve_phase, barrier) for first in guesses]
    if starts is None and barrier and bounded_on_both_sides(problem):
        again = _first_path(problem, states, mirrored_later(problem, runs[0].trajectory.actions))
        high = replace(settings, first_barrier=HIGH_BARRIER)
        runs.append(_solve(problem, states, again, high, solve_phase, barrier))
    return best_of(runs, settings.tol)


def _given_starts(initial_actions: Start | None, starts: Sequence[Start] | None) -> list[Start | None]:
    if starts is None:
        return [initial_actions]
    if initial_actions is not None:
        raise UsageError("initial_actions and starts are both given; expected one of them.")
    if not isinstance(starts, Sequence | np.ndarray):
        raise UsageError(f"starts is a {type(starts).__name__}; expected a list of first actions and policies.")
    if not len(starts):
        raise UsageError("starts is empty; expected at least one.")
    return list(starts)


def is_endless(problem: ControlProblem, horizon: int | float | None) -> bool:
    """Return whether an infinite horizon is asked for: by ``math.inf``, or by a problem that has none of its own."""
    if horizon is None:
        return isinstance(problem, ControlProblem) and problem.horizon is None
    return isinstance(horizon, float) and horizon == math.inf


def _solve_endless(
    problem: ControlProblem, initial_states: np.ndarray, firsts: list[Start | None], barrier: bool, options: Any
) -> PathSolution:
    """Solve the infinite horizon (`infinite_horizon`) by finite ones.

    Raises:
        UsageError: A start has as many actions as some horizon, and there is none.
    """
    checked_states(problem, initial_states, 1)
    policies = [first for first in firsts if first is None or callable(first)]
    if len(policies) < len(firsts):
        raise UsageError("First actions are given for an infinite horizon; expected a policy. Or give horizon=N.")

    def solve(finite: ControlProblem, steps: int, starts: list[Any], keep_away: bool) -> PathSolution:
        away = barrier and keep_away
        return solve_costate(finite, initial_states, horizon=steps, starts=starts, barrier=away, **options)

    return solve_endless(problem, policies, options["tol"], solve)


def _solve(
    problem: ControlProblem,
    states: np.ndarray,
    first: Trajectory,
    settings: Settings,
    solve_phase: Any,
    barrier: bool,
) -> PathSolution:
    space: Any = problem.action_space
    bounded = bool(np.isfinite(space.low).any() or np.isfinite(space.high).any())
    result, batch, violation = solve_augmented(problem, states, first, settings, solve_phase, barrier and bounded)
    count, horizon, m = first.actions.shape
    curvature = judged_curvature(result, batch, settings, solve_phase)
    rewards, value = result.rewards, result.value
    if batch.weights.size or batch.end_weights.size:  # those of the solver hold the constraints' part too
        rewards, value = follow(problem, result.states, result.actions)
    # Machine code may not notice: what is not finite and counts for nothing is simplified away (0 x = 0).
    finite = np.isfinite(value) & np.isfinite(result.states).all((1, 2))
    code = np.where(finite, result.code, lanes.NOT_FINITE)
    solution = PathSolution(
        problem=problem,
        trajectory=Trajectory(result.states, result.actions, rewards, value, result.costates),
        feedback=result.feedback.reshape(count, horizon, m, result.states.shape[-1]),
        status=[
            _status(code, off, bend, settings.tol) for code, off, bend in zip(code, violation, curvature, strict=True)
        ],
        residual=result.residual,
        violation=violation,
        curvature=curvature,
        multipliers=batch.weights,
        end_multipliers=batch.end_weights,
        iterations=result.iterations,
        backend=solve_phase.name,
        start=np.zeros(count, np.int64),
    )
    return solution


def _status(code: int, violation: float, curvature: float, tol: float) -> PathStatus:
    if code == lanes.NOT_FINITE:
        return PathStatus.DIVERGED
    if violation > tol and code != lanes.OUT_OF_ITERATIONS:
        return PathStatus.INFEASIBLE
    if code == lanes.DONE:
        return PathStatus.LOCAL_OPTIMUM if curvature > 0.0 else PathStatus.STATIONARY
    return _STATUS[int(code)]


def best_of(runs: list[PathSolution], tol: float = 1e-8) -> PathSolution:
    """Return for each state the feasible path with the highest value, of several solutions for the same states.

    Of paths whose values differ only by rounding, one that converged, and of these the first.
    """
    runs = [start for run in runs for start in (run.from_all_starts or [run])]
    if len(runs) == 1:
        return runs[0]
    rank = np.array([[_rank(*x) for x in zip(run.status, run.violation <= tol, strict=True)] for run in runs])
    values = np.array([np.where(np.isfinite(run.value), run.value, -np.inf) for run in runs])
    values = np.where(rank == rank.max(0), values, -np.inf)
    highest = values.max(0)
    equal = (values >= highest - TIE * (1.0 + np.abs(highest))) | (values == highest)
    converged = np.array([run.converged for run in runs])
    best = np.where(equal, 1 + converged, 0).argmax(0)
    return replace(picked(runs, best), start=best, from_all_starts=runs)


def _rank(status: PathStatus, feasible: bool) -> int:
    """A feasible path beats one that is not; among feasible ones the value decides."""
    return 0 if status is PathStatus.DIVERGED else 2 if feasible else 1


def checked_states(
    problem: ControlProblem, initial_states: np.ndarray, horizon: int | float | None
) -> tuple[ControlProblem, np.ndarray]:
    """Return the problem at its horizon and the initial states as ``(B, n)``.

    Raises:
        UsageError: If they do not fit.
    """
    if not isinstance(problem, ControlProblem):
        raise UsageError(
            f"The problem is a {type(problem).__name__}; expected a ControlProblem, as hamiltonian_rl.problem(id) is."
        )
    for name in ("state", "action"):
        if name == "action" and isinstance(problem.action_space, gym.spaces.Discrete):
            continue
        shape = getattr(problem, f"{name}_space").shape
        if len(shape) != 1 or shape[0] < 1:
            raise UsageError(f"The {name} space has the shape {shape}; expected one dimension: ({name} size,).")
    n = problem.state_space.shape[0]
    states = np.array(np.atleast_2d(as_numbers("initial_states", initial_states)))
    if states.ndim != 2 or states.shape[1] != n or not len(states):
        raise UsageError(f"initial_states have shape {np.shape(initial_states)}; expected (B, {n}), or ({n},) for one.")
    if not np.isfinite(states).all():
        bad = int(np.argwhere(~np.isfinite(states).all(1))[0, 0])
        raise UsageError(f"Initial state {bad} is {states[bad].tolist()}; expected finite numbers.")
    if horizon is not None:
        if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 0:
            raise UsageError(f"horizon = {horizon!r}; expected a whole number of steps, at least 0.")
        problem = copy.copy(problem)
        problem.horizon = int(horizon)
    if problem.horizon is None:
        raise UsageError("The problem has no horizon; say how many steps to optimize: horizon=N.")
    if not isinstance(problem.horizon, int | np.integer) or problem.horizon < 0:
        raise UsageError(f"The problem's horizon is {problem.horizon!r}; expected a whole number, at least 0.")
    return problem, states


def _checked_settings(tol: float, max_iterations: int, threads: int) -> Settings:
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not 0.0 < tol < np.inf:
        raise UsageError(f"tol = {tol!r}; expected a finite number above 0.")
    for name, number in (("max_iterations", max_iterations), ("threads", threads)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise UsageError(f"{name} = {number!r}; expected a whole number of at least 1.")
    return Settings(tol=float(tol), max_iterations=int(max_iterations), threads=int(threads))


def _first_path(problem: ControlProblem, states: np.ndarray, start: Start | None) -> Trajectory:
    """Return the first actions of every path, within the bounds, and its states where they are known, else NaN."""
    space: Any = problem.action_space
    count, horizon = len(states), problem.horizon
    shape = (count, horizon, *space.shape)
    if callable(start):

        def within(state: np.ndarray, step: int) -> np.ndarray:
            chosen = as_numbers("The policy's actions", start(state, step))
            return np.asarray(np.clip(chosen, space.low, space.high))

        return rollout(problem, states, within)
    if isinstance(start, Guess):
        return close_gaps(problem, states, start)
    actions = np.zeros(shape) if start is None else as_numbers("The first actions", start)
    if actions.shape not in (shape, shape[1:]):
        raise UsageError(f"The first actions have shape {actions.shape}; expected {shape[1:]} or {shape}.")
    if not np.isfinite(actions).all():
        raise UsageError("The first actions are not all finite.")
    actions = np.array(np.clip(np.broadcast_to(actions, shape), space.low, space.high))
    unknown = np.full((count, actions.shape[1] + 1, states.shape[1]), np.nan)
    return Trajectory(unknown, actions, np.empty((count, 0)), np.empty(count))
