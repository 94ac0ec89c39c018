"""Does a curve decelerate (Insight 1)? A test of its mean acceleration.

Notation: ``u`` progress, the value where it is to rise and minus it where it is to fall; ``s`` places from -1 to 1.

The quadratic term of the least-squares parabola through a curve is a mean of its acceleration: by parts twice,
``∫ P₂(s) u(s) ds = ∫ (1 - s²)²/8 u''(s) ds``, with weights that are nowhere negative. It is linear in the data,
``q = cᵀu``, so its standard error is ``σ (cᵀRc)^½`` with the noise of `noise_of`, and ``q / se`` is compared with
Student's distribution. No window enters but through the noise.

A curve decelerates where progress slows: ``u'' < 0``. That is so for a loss that flattens and for a return that
saturates. The test is about the mean over the whole curve: a return that takes off late accelerates first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

from hamiltonian_rl.principles.kinematics.motion import Motion
from hamiltonian_rl.principles.kinematics.noise import rounding

SURE = 0.95


@dataclass(frozen=True)
class Deceleration:
    """Whether progress slows.

    Attributes:
        acceleration: Mean acceleration of progress, per unit of ``t`` squared; below zero where it slows.
        error: Its standard error.
        confidence: That it is below zero: one minus the p-value of the one-sided test; 0.5 where nothing moves.
    """

    acceleration: float
    error: float
    confidence: float

    @property
    def verdict(self) -> str:
        """Say it in a word: at 95 % or not."""
        if self.confidence >= SURE:
            return "decelerates"
        return "accelerates" if self.confidence <= 1.0 - SURE else "undecided"


def deceleration_of(motion: Motion, rises: bool) -> Deceleration:
    """Return the mean acceleration of progress, and with what confidence it is negative.

    Args:
        motion: Of the curve.
        rises: Whether progress is up.

    Example:
        >>> from hamiltonian_rl.principles.kinematics.motion import motion_of
        >>> t = np.arange(30.0)
        >>> found = deceleration_of(motion_of(t, 100.0 / (1.0 + t)), rises=False)
        >>> found.verdict, found.acceleration < 0.0
        ('decelerates', True)
    """
    places = motion.places - motion.places.mean()
    basis, triangle = np.linalg.qr(np.vander(places / np.abs(places).max(), 3, increasing=True))
    row = 2.0 * basis[:, 2] / triangle[2, 2] / np.abs(places).max() ** 2  # twice the quadratic term
    progress = motion.measured if rises else -motion.measured
    mean = float(row @ progress)
    error = motion.noise.sigma * float(np.sqrt(row @ motion.noise.correlation(len(row)) @ row))
    if error > 0.0:
        return Deceleration(mean, error, float(scipy.stats.t.cdf(-mean / error, motion.noise.freedom)))
    moves = abs(mean) > 100.0 * rounding(progress) / float(np.ptp(motion.places)) ** 2
    return Deceleration(mean, error, float(mean < 0.0) if moves else 0.5)
