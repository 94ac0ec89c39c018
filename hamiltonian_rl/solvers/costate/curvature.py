"""Whether the curvature along a stationary path is that of a strict maximum, there and where the path tends to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hamiltonian_rl.problems import ControlProblem
from hamiltonian_rl.solvers.costate import lanes
from hamiltonian_rl.solvers.costate.kinks import JUMP, curvature_beside
from hamiltonian_rl.solvers.costate.pivots import diagonal, smallest_curvature, without
from hamiltonian_rl.solvers.costate.settings import Settings
from hamiltonian_rl.solvers.costate.step_rules import SMALLEST_PIVOT

LINEAR = 0.2  # least part of tol at which an ascent that is only linear (`_suspects`) stops: a quarter, and rounding
BENT = 100.0  # third derivatives up to this are suspected
ROUNDING = 1e-16  # below which a residual is not seen
MORE_PASSES = 4  # two or three steps after those that find the path again
SETTLED = 0.4  # what must be left of the curvature; of a degenerate maximum two steps leave a quarter at the most


def judged_curvature(result: Any, batch: Any, settings: Settings, solve_phase: Any) -> np.ndarray:
    """Return the smallest eigenvalue of ``-Q_aa`` along each path, zero where it fades, or a kink is near.

    At a stationary point that is no strict maximum (``a³``, ``-a⁴`` at 0) the curvature is zero; but the ascent
    stops short of it, where the residual is below tol and the curvature has the right sign. Newton's method tells
    them apart: to a strict maximum it converges quadratically, so that the curvature no longer changes; to a
    degenerate one linearly, with the curvature halved at least by each step. At a kink, and of actions at a bound
    that nothing presses there, the path itself does not tell: what is beside it does (`kinks`).

    Args:
        result: Of the last phase, a `lanes.Result`.
        batch: Its multipliers, a `lanes.Batch`.
        settings: Its tolerance.
        solve_phase: The back end.
    """
    done = result.code == lanes.DONE
    curvature, unpressed = _of_pressed_and_free(result, solve_phase.problem)
    curvature[(curvature > 0.0) & (curvature <= SMALLEST_PIVOT)] = 0.0  # no step is taken by so little
    suspects = np.flatnonzero(done & _suspects(curvature, result.residual, settings.tol))
    if len(suspects):
        part = lanes.Batch(*(x[suspects] for x in batch))
        part = part._replace(path=result.states[suspects], guess=result.actions[suspects])
        further = solve_phase("box", part, replace(settings, tol=1e-300, max_iterations=MORE_PASSES))
        left, _ = _of_pressed_and_free(further, solve_phase.problem)
        curvature[suspects[~(left >= SETTLED * curvature[suspects])]] = 0.0
    beside = np.flatnonzero(done & (curvature > 0.0) & (unpressed | solve_phase.near_kinks(result, batch)))
    if len(beside):
        found = curvature_beside(result, batch, settings, solve_phase, beside)
        other = found < (1.0 - JUMP) * curvature[beside]  # where it is nearly the same the path's own is exact
        curvature[beside[other]] = found[other]
    undecided = unpressed & ~done
    curvature[undecided] = np.minimum(curvature[undecided], 0.0)
    return curvature


def _of_pressed_and_free(result: Any, problem: ControlProblem) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest curvature but for actions at a bound that nothing presses there, and where there are any."""
    space: Any = problem.action_space
    m = result.actions.shape[-1]
    curvature, unpressed = smallest_curvature(result.curvature, m), np.zeros(len(result.actions), dtype=bool)
    which = np.flatnonzero(curvature <= 0.0)
    if len(which):
        blocks, actions = result.curvature[which], result.actions[which]
        out = ((actions <= space.low) | (actions >= space.high)) & (diagonal(blocks, m) == 0.0)
        curvature[which], unpressed[which] = smallest_curvature(without(blocks, out), m), out.any((1, 2))
    return curvature, unpressed


def _suspects(curvature: np.ndarray, residual: np.ndarray, tol: float) -> np.ndarray:
    """Return which paths may be on their way to a degenerate maximum.

    On the way to that of ``c aᵖ`` Newton's step leaves ``((p - 2) / (p - 1))^(p - 1)`` of the residual, a quarter
    to 0.37; the last one above tol is left above a quarter of it. And a start near enough to stop at once: of
    ``c a³`` curvature² is ``12 c`` times the residual.
    """
    positive = (curvature > 0.0) & np.isfinite(curvature)
    return np.asarray(positive & ((residual >= LINEAR * tol) | (curvature**2 < 12.0 * BENT * (residual + ROUNDING))))
