"""What can be set on the costate solver."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Tolerances and limits of one run.

    Attributes:
        tol: Largest stationarity residual, in units of the action.
        max_iterations: Backward passes a problem and phase; none asks for the values of the first paths alone.
        first_barrier: Weight of the barrier at the start.
        last_barrier: Weight at its end, where exact bounds take over.
        second_order: Whether the curvature of the paths is judged.
    """

    tol: float = 1e-8
    max_iterations: int = 500
    first_barrier: float = 0.1
    last_barrier: float = 1e-5
    second_order: bool = True
