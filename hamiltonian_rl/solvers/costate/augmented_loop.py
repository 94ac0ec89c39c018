"""The phases of a solve: barrier, exact bounds, and multipliers until the constraints hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.trajectory import Trajectory

FIRST_PENALTY, LARGEST_PENALTY, ROUNDS = 10.0, 1e9, 40
ENOUGH = 0.25  # a violation that falls to less of itself needs no larger penalty


def solve_augmented(
    problem: ControlProblem, states: np.ndarray, first: Trajectory, settings: Settings, solve_phase: Any, barrier: bool
) -> tuple[Any, Any, np.ndarray]:
    """Return the paths, the batch with its last multipliers, and the violation of the constraints."""
    constraints, ends = solve_phase.constraints
    count, horizon, _ = first.actions.shape
    batch = lanes.Batch(
        initial=states,
        path=first.states,
        guess=first.actions,
        weights=np.zeros((count, horizon, constraints)),
        end_weights=np.zeros((count, ends)),
        penalty=np.full(count, FIRST_PENALTY),
    )
    result = _solve_phases(batch, settings, solve_phase, barrier)
    if not constraints and not ends:
        return result, batch, np.zeros(count)
    open_, violation, before = np.full(count, True), np.full(count, np.inf), np.full(count, np.inf)
    for _ in range(ROUNDS):
        excess, end = _excess(problem, result)
        violation = np.where(open_, _violation(batch, excess, end), violation)
        # With the multipliers of its own last path a path satisfies Eq. 14.
        pressed = np.maximum(0.0, batch.weights + batch.penalty[:, None, None] * excess)
        batch.weights[open_] = pressed[open_]
        batch.end_weights[open_] += (batch.penalty[:, None] * end)[open_]
        batch.penalty[open_ & (violation > ENOUGH * before)] *= 10.0
        open_ = open_ & (violation > settings.tol) & np.isfinite(violation) & (batch.penalty < LARGEST_PENALTY)
        if not open_.any():
            break
        before = violation
        batch.guess[open_], batch.path[open_] = result.actions[open_], result.states[open_]
        part = _solve_phases(lanes.Batch(*(x[open_] for x in batch)), settings, solve_phase, barrier=False)
        part.iterations[:] += result.iterations[open_]
        for old, new in zip(result, part, strict=True):
            old[open_] = new
    return result, batch, violation


def _solve_phases(batch: Any, settings: Settings, solve_phase: Any, barrier: bool) -> Any:
    """Run the barrier, if asked to, and hold the bounds exactly; no path ends below the value that it started with."""
    if not barrier:
        return solve_phase("box", batch, settings)
    first = solve_phase("barrier", batch, settings)
    lost = ~np.isfinite(first.actions).all((1, 2))
    if lost.any():
        first.actions[lost], first.states[lost] = batch.guess[lost], batch.path[lost]
    iterations = first.iterations.copy()
    result = solve_phase("box", batch._replace(guess=first.actions, path=first.states), settings, first)
    result.iterations[:] += iterations
    # The barrier moves actions off their bounds, which may lose a good start where the dynamics are unstable.
    start = solve_phase("box", batch, replace(settings, max_iterations=0)).value
    worse = ~(result.value >= start - 1e-9 * (1.0 + np.abs(start))) & np.isfinite(start)
    if worse.any():
        again = solve_phase("box", lanes.Batch(*(x[worse] for x in batch)), settings)
        again.iterations[:] += result.iterations[worse]
        for old, new in zip(result, again, strict=True):
            old[worse] = new
    return result


def _excess(problem: ControlProblem, result: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the constraints of every step ``(B, N, C)`` and of the end ``(B, C')``."""
    states, actions = torch.as_tensor(result.states), torch.as_tensor(result.actions)
    with torch.no_grad():
        steps = [problem.constraints(states[:, k], actions[:, k], k).numpy() for k in range(actions.shape[1])]
        end = problem.terminal_constraints(states[:, -1]).numpy()
    return (np.stack(steps, 1) if steps else np.zeros((len(states), 0, 0))), end


def _violation(batch: Any, excess: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the largest violation, of complementarity too: ``max(c, -ν/ρ)`` is zero where ``ν c = 0``."""
    slack = np.maximum(excess, -batch.weights / batch.penalty[:, None, None])
    return np.asarray(np.maximum(np.abs(slack).max((1, 2), initial=0.0), np.abs(end).max(1, initial=0.0)))
