"""Whether the curvature along a stationary path is that of a strict maximum, there and where the path tends to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.step_rules import SMALLEST_PIVOT

LINEAR = 0.2  # least part of tol at which an ascent that is only linear (`_suspects`) stops: a quarter, and rounding
BENT = 100.0  # third derivatives up to this are suspected
ROUNDING = 1e-16  # below which a residual is not seen
MORE_PASSES = 4  # two or three steps after those that find the path again
BESIDE, RISE = 1e-5, 1e-9  # how far beside a path; of its value, above what rounding and flat maxima do
SETTLED = 0.4  # what must be left of the curvature; of a degenerate maximum two steps leave a quarter at the most


def judged_curvature(result: Any, batch: Any, settings: Settings, solve_phase: Any) -> np.ndarray:
    """Return the smallest eigenvalue of ``-Q_aa`` along each path, zero where it vanishes as the ascent goes on.

    At a stationary point that is no strict maximum (``a³``, ``-a⁴`` at 0) the curvature is zero; but the ascent
    stops short of it, where the residual is below tol and the curvature has the right sign. Newton's method tells
    them apart: to a strict maximum it converges quadratically, so that the curvature no longer changes; to a
    degenerate one linearly, with the curvature halved at least by each step.

    Args:
        result: Of the last phase, a `lanes.Result`.
        batch: Its multipliers, a `lanes.Batch`.
        settings: Its tolerance.
        solve_phase: The back end.
    """
    curvature = smallest_curvature(result)
    curvature[(curvature > 0.0) & (curvature <= SMALLEST_PIVOT)] = 0.0  # no step is taken by so little
    suspects = np.flatnonzero((result.code == lanes.DONE) & _suspects(curvature, result.residual, settings.tol))
    if len(suspects):
        part = lanes.Batch(*(x[suspects] for x in batch))
        part = part._replace(path=result.states[suspects], guess=result.actions[suspects])
        further = solve_phase("box", part, replace(settings, tol=1e-300, max_iterations=MORE_PASSES))
        fading = ~(smallest_curvature(further) >= SETTLED * curvature[suspects])
        curvature[suspects[fading]] = 0.0
    unmoved = np.flatnonzero((result.code == lanes.DONE) & (result.residual == 0.0) & (curvature > 0.0))
    if len(unmoved):
        curvature[unmoved[_rises(result, batch, settings, solve_phase, unmoved)]] = 0.0
    return curvature


def _rises(result: Any, batch: Any, settings: Settings, solve_phase: Any, which: np.ndarray) -> np.ndarray:
    """Return whether the value is higher a little beside some paths, in a direction drawn once, or against it.

    At a kink from which the return rises to both sides (``|a|`` at 0) torch's slope is zero, and so is the residual:
    exactly, as hardly elsewhere.
    """
    space = solve_phase.problem.action_space
    away = BESIDE * np.random.default_rng(0).choice([-1.0, 1.0], result.actions.shape[1:])
    part = lanes.Batch(*(x[which] for x in batch))
    part = part._replace(path=np.full_like(result.states[which], np.nan))  # followed anew

    def value(step: Any) -> np.ndarray:
        there = part._replace(guess=np.clip(result.actions[which] + step, space.low, space.high))
        return np.asarray(solve_phase("box", there, replace(settings, max_iterations=1)).value)  # before any step

    here = value(0.0)
    return np.asarray(np.maximum(value(away), value(-away)) > here + RISE * (1.0 + np.abs(here)))


def _suspects(curvature: np.ndarray, residual: np.ndarray, tol: float) -> np.ndarray:
    """Return which paths may be on their way to a degenerate maximum.

    On the way to that of ``c aᵖ`` Newton's step leaves ``((p - 2) / (p - 1))^(p - 1)`` of the residual, a quarter
    to 0.37; the last one above tol is left above a quarter of it. And a start near enough to stop at once: of
    ``c a³`` curvature² is ``12 c`` times the residual.
    """
    positive = (curvature > 0.0) & np.isfinite(curvature)
    return np.asarray(positive & ((residual >= LINEAR * tol) | (curvature**2 < 12.0 * BENT * (residual + ROUNDING))))


def smallest_curvature(result: Any) -> np.ndarray:
    """Return the smallest eigenvalue of ``-Q_aa`` (`BoxRule.judged`) along each path; infinite where none is free."""
    count, horizon, m = result.actions.shape
    if m == 1:
        values = -result.curvature
    else:
        rows, columns = np.tril_indices(m)
        matrix = np.empty((count, horizon, m, m))
        matrix[..., rows, columns] = matrix[..., columns, rows] = -result.curvature
        held = np.isposinf(np.diagonal(matrix, axis1=-2, axis2=-1))
        finite = np.nan_to_num(matrix, posinf=0.0)
        # Held actions get an eigenvalue above all others, and so drop out.
        above = 1.0 + np.abs(finite).sum((-1, -2))
        values = _smallest_eigenvalue(finite + np.eye(m) * np.where(held, above[..., None], 0.0)[..., None])[..., None]
        values = np.where(held.all(-1, keepdims=True), np.inf, values)
    return np.asarray(values.min((-1, -2), initial=np.inf))


def _smallest_eigenvalue(matrix: np.ndarray) -> np.ndarray:
    """Return the smallest eigenvalue of symmetric matrices; of 2 x 2 without LAPACK's call for each."""
    if matrix.shape[-1] != 2:
        return np.asarray(np.linalg.eigvalsh(matrix)[..., 0])
    first, second = matrix[..., 0, 0], matrix[..., 1, 1]
    return np.asarray(0.5 * (first + second) - np.hypot(0.5 * (first - second), matrix[..., 0, 1]))
