"""Optimal paths by Pontryagin's conditions: many initial states at once, each with costates and a status.

A path is improved by differential dynamic programming (Mayne 1966; Jacobson and Mayne 1970): a backward pass
computes the costates (Eq. 14) and a quadratic model of the value along the path, a forward pass follows the
model's step with its feedback. The bounds of the actions are first kept away by a primal-dual barrier, which
finds better optima, then held exactly. Constraints enter by an augmented Lagrangian. All of this is ascent:
what it finds is stationary, and a strict local maximum where the curvature says so; which of several optima
it finds is decided by where it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.arguments import (
    Start,
    checked_settings,
    checked_states,
    first_path,
    given_starts,
    is_endless,
)
from hamiltonian_rl.solvers.costate.augmented_loop import solve_augmented
from hamiltonian_rl.solvers.costate.backend import Phase, choose_backend
from hamiltonian_rl.solvers.costate.best_paths import best_of, better_in_parts
from hamiltonian_rl.solvers.costate.curvature import judged_curvature
from hamiltonian_rl.solvers.costate.infinite_horizon import solve_endless
from hamiltonian_rl.solvers.costate.mirrored_starts import HIGH_BARRIER, bounded_on_both_sides, mirrored_runs
from hamiltonian_rl.solvers.costate.path_solution import PathSolution, PathStatus
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.threads import in_threads
from hamiltonian_rl.trajectory import Trajectory, follow

_STATUS = {
    lanes.DONE: PathStatus.LOCAL_OPTIMUM,
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
    second_order: bool = True,
    backend: str | Phase = "auto",
    threads: int = 1,
    device: str = "cpu",
) -> PathSolution:
    """Return a stationary path from each initial state: ``max Σ γ^k r + γ^N h`` (Eq. 8-15).

    Args:
        problem: With a Box of actions.
        initial_states: ``(B, n)``, or ``(n,)`` for one.
        horizon: Number of steps N; the problem's own when None. ``math.inf``, as of a problem without horizon: for
            ever, by a steady state (`infinite_horizon`); starts are then policies, and there is no terminal reward.
        initial_actions: ``(N, m)``, ``(B, N, m)``, a policy to follow, or a `Guess` of states that need not fit
            their actions (multiple shooting); zero (within the bounds) when None. Where every action is bounded on
            both sides, what is found is mirrored and solved again, up to three times (`mirrored_starts`).
        starts: Any number of such instead, and nothing else; every state is solved from each, and the best path is
            returned. ``starts=[actions]`` solves once.
        tol: Largest stationarity residual ``|clip(a + ∂H/∂a) - a|``, and violation of the constraints.
        max_iterations: Backward passes a path and phase.
        barrier: Whether to keep away from the bounds first. Turn it off to polish a path that is nearly optimal:
            it would be moved off its bounds.
        second_order: Whether to judge if a stationary path is a strict maximum. Who plans again in a moment may do
            without: it takes up to half of the time. Then no path is called an optimum, and the curvature is NaN.
        backend: ``"compiled"``, ``"torch"``, or ``"auto"``: compiled where the problem can be; or what `prepare` made
            of this problem.
        threads: Of the compiled back end; the initial states are shared among them.
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
    firsts = given_starts(initial_actions, starts)
    if is_endless(problem, horizon):
        if isinstance(backend, Phase):
            raise UsageError("backend was prepared for finite horizons, and this one is infinite; give horizon=N.")
        options: dict[str, Any] = {"tol": tol, "max_iterations": max_iterations, "second_order": second_order}
        options |= {"backend": backend, "threads": threads, "device": device}
        return _solve_endless(problem, initial_states, firsts, barrier, options)
    problem, states = checked_states(problem, initial_states, horizon)
    if not isinstance(problem.action_space, gym.spaces.Box):
        raise UsageError(
            f"The action space is {problem.action_space}; the Hamiltonian's derivative needs a Box. Solve the problem "
            "on a grid, or state a continuous relaxation of it."
        )
    settings = replace(checked_settings(tol, max_iterations, threads), second_order=second_order)
    solve_phase = backend if isinstance(backend, Phase) else choose_backend(problem, states, backend, device)
    barrier = barrier and bool(np.isfinite([problem.action_space.low, problem.action_space.high]).any())
    mirrored = starts is None and barrier and bounded_on_both_sides(problem)
    paths = [first_path(problem, states, x) for x in firsts]

    def solve(states: np.ndarray, firsts: list[Trajectory]) -> PathSolution:
        return _solve_from_all(problem, states, firsts, settings, solve_phase, barrier, mirrored)

    return in_threads(solve, states, paths, threads if solve_phase.name == "compiled" else 1)


def _solve_from_all(
    problem: ControlProblem,
    states: np.ndarray,
    firsts: list[Trajectory],
    settings: Settings,
    solve_phase: Phase,
    barrier: bool,
    mirrored: bool,
) -> PathSolution:
    """Return the best of the paths from several first paths, and from mirrored ones."""
    runs = [_solve(problem, states, first, settings, solve_phase, barrier) for first in firsts]
    parts: list[tuple[np.ndarray, PathSolution]] = []
    if mirrored:
        high = replace(settings, first_barrier=HIGH_BARRIER)

        def solve_again(where: np.ndarray, actions: np.ndarray) -> PathSolution:
            first = first_path(problem, states[where], actions)
            return _solve(problem, states[where], first, high, solve_phase, barrier)

        found, parts = mirrored_runs(problem, runs[0], solve_again)
        runs.append(found)
    return better_in_parts(best_of(runs, settings.tol), parts, settings.tol)


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
    result, batch, violation = solve_augmented(problem, states, first, settings, solve_phase, barrier)
    count, horizon, m = first.actions.shape
    curvature = (
        judged_curvature(result, batch, settings, solve_phase) if settings.second_order else np.full(count, np.nan)
    )
    rewards, value = result.rewards, result.value
    if batch.weights.size or batch.end_weights.size:  # those of the solver hold the constraints' part too
        rewards, value = follow(problem, result.states, result.actions)
        result.code[~np.isfinite(value)] = lanes.NOT_FINITE
    return PathSolution(
        problem=problem,
        trajectory=Trajectory(result.states, result.actions, rewards, value, result.costates),
        feedback=result.feedback.reshape(count, horizon, m, result.states.shape[-1]),
        status=_statuses(result.code, violation, curvature, settings.tol),
        residual=result.residual,
        violation=violation,
        curvature=curvature,
        multipliers=batch.weights,
        end_multipliers=batch.end_weights,
        iterations=result.iterations,
        backend=solve_phase.name,
        start=np.zeros(count, np.int64),
    )


def _statuses(code: np.ndarray, violation: np.ndarray, curvature: np.ndarray, tol: float) -> list[PathStatus]:
    """Return how each path ended."""
    status = np.empty(len(code), dtype=object)
    for number, ended in _STATUS.items():
        status[code == number] = ended
    status[(code == lanes.DONE) & ~(curvature > 0.0)] = PathStatus.STATIONARY
    infeasible = (violation > tol) & (code != lanes.OUT_OF_ITERATIONS) & (code != lanes.NOT_FINITE)
    status[infeasible] = PathStatus.INFEASIBLE
    return status.tolist()
