"""Velocity and acceleration of a noisy curve (section 2), by local polynomials with standard errors.

At each point a quartic is fitted to the ``k`` nearest ones, near ones counting most (the tricube weight): its value,
slope and curvature there are ``y``, ``v`` and ``a``. All three are linear in the data, ``v = Dy``, so that
``Var v = σ² D R Dᵀ`` with the noise of `noise_of`. A curve that is a quartic comes out exactly.

The window ``k`` is the one whose *cubics* predict best where neither a point nor its neighbours were seen:
cross-validation that leaves out ``2l + 1`` points at a time, ``l = n^(1/3) / 2``. Leaving out one alone takes
correlated noise for motion, since the neighbours share its error. The window that predicts best leaves a bias as large
as the noise; one degree more in the same window takes it out, and the intervals hold what they promise (Calonico,
Cattaneo and Farrell).

References:
    Fan and Gijbels (1996), "Local polynomial modelling and its applications", sections 2 and 3.
    Chu and Marron (1991), "Comparison of two bandwidth selectors with dependent errors".
    Calonico, Cattaneo and Farrell (2018), "On the effect of bias estimation on coverage accuracy in nonparametric
    inference".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hamiltonian_rl.errors import UsageError
from hamiltonian_rl.principles.kinematics.noise import Noise, grouped, noise_of

FEWEST_POINTS = 8
DEGREE = 3  # of what the window is chosen for; one more is fitted in it
EDGE = 1.001  # so that the farthest point of a window counts a little
SMALLEST_WINDOW, WINDOWS_TRIED = 7, 16


@dataclass(frozen=True)
class Motion:
    """Position, velocity and acceleration at some places; every array but the smoother has the shape ``(n,)``.

    Attributes:
        places: ``t``.
        measured: What was measured there, averaged over neighbours where there were many.
        value: Smooth ``y``.
        velocity: ``v``, per unit of ``t``.
        acceleration: ``a``, per unit of ``t`` squared.
        value_error: Standard error.
        velocity_error: Standard error.
        acceleration_error: Standard error.
        window: ``k``, in points.
        width: Of the window, in units of ``t``: the median over the places.
        noise: Around the smooth curve.
    """

    places: np.ndarray
    measured: np.ndarray
    value: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    value_error: np.ndarray
    velocity_error: np.ndarray
    acceleration_error: np.ndarray
    window: int
    width: float
    noise: Noise


def motion_of(places: np.ndarray, values: np.ndarray) -> Motion:
    """Return velocity and acceleration of a noisy curve; of more than 200 points, of 200 averages.

    Args:
        places: ``t``, increasing, shape ``(N,)``, eight at least.
        values: ``y``, finite, shape ``(N,)``.

    Raises:
        UsageError: There are too few points, or some are too close together, for what they span, to be told apart.

    Example:
        >>> t = np.arange(20.0)
        >>> motion = motion_of(t, 3.0 * t - 0.5 * t**2)
        >>> motion.velocity[[0, 10]].round(6).tolist(), motion.acceleration[5].round(6).item()
        ([3.0, -7.0], -1.0)
    """
    if len(places) < FEWEST_POINTS:
        raise UsageError(f"{len(places)} points are too few for a velocity; expected {FEWEST_POINTS} at least.")
    places, values = grouped(np.asarray(places, float), np.asarray(values, float))
    n, scale = len(places), float(places[-1] - places[0])
    unit = (places - places[0]) / scale
    if not (np.diff(unit) > 0.0).all() or not (_reaches(unit, 2) > 0.0).all():
        raise UsageError(
            f"Steps from {places[0]:.6g} to {places[-1]:.6g} hold some that are too close together to be told apart at "
            "that scale. Leave out those that are far from the others."
        )
    window = _best_window(unit, values)
    rows = _local_rows(unit, window, -1, DEGREE + 1)
    noise = noise_of(rows[:, 0], values)
    correlation = noise.correlation(n)
    fitted = rows @ (values - values[0])  # value, slope, half the curvature; of what stands still they are 0
    fitted[:, 0] += values[0]
    errors = noise.sigma * np.sqrt(np.maximum(np.einsum("itj,jk,itk->it", rows, correlation, rows, optimize=True), 0.0))
    units = 1.0 / np.array([1.0, scale, scale**2])
    fitted, errors = fitted * units * [1.0, 1.0, 2.0], errors * units * [1.0, 1.0, 2.0]
    width = scale * float(np.median(_widths(unit, window)))
    value, velocity, acceleration = fitted.T
    value_error, velocity_error, acceleration_error = errors.T
    return Motion(
        places=places,
        measured=values,
        value=value,
        velocity=velocity,
        acceleration=acceleration,
        value_error=value_error,
        velocity_error=velocity_error,
        acceleration_error=acceleration_error,
        window=window,
        width=width,
        noise=noise,
    )


def _best_window(unit: np.ndarray, values: np.ndarray) -> int:
    """Return the window whose cubics predict best what was left out."""
    n = len(unit)
    hidden = round(0.5 * n ** (1.0 / 3.0))
    smallest = min(SMALLEST_WINDOW + 2 * hidden, n)
    windows = np.unique(np.geomspace(smallest, n, WINDOWS_TRIED).round().astype(int))
    errors = []
    for window in windows:
        predicted = _local_rows(unit, int(window), hidden, DEGREE)[:, 0] @ values
        inner = slice(hidden, n - hidden)  # at the ends it would be prediction beyond the data
        errors.append(float(((values - predicted)[inner] ** 2).sum()))
    return int(windows[int(np.argmin(errors))])


def _widths(unit: np.ndarray, window: int) -> np.ndarray:
    """Return from where to where each window goes, shape ``(n,)``: at the ends it is one-sided."""
    reach = _reaches(unit, window)
    return np.asarray(np.minimum(unit + reach, 1.0) - np.maximum(unit - reach, 0.0))


def _reaches(unit: np.ndarray, window: int) -> np.ndarray:
    """Return how far the ``window`` nearest points reach from each point, shape ``(n,)``."""
    return np.sort(np.abs(unit[:, None] - unit), axis=1)[:, window - 1]


def _local_rows(unit: np.ndarray, window: int, hidden: int, degree: int) -> np.ndarray:
    """Return the rows that turn data into value, slope and half the curvature at each point, shape ``(n, 3, n)``.

    Args:
        unit: Places from 0 to 1, shape ``(n,)``.
        window: Points that a polynomial is fitted to.
        hidden: Points to each side that, as the point itself, are left out; -1 leaves none out.
        degree: Of the polynomials.
    """
    n = len(unit)
    reach = EDGE * _reaches(unit, window)
    away = np.clip((unit - unit[:, None]) / reach[:, None], -1.0, 1.0)
    weights = (1.0 - np.abs(away) ** 3) ** 3
    places = np.arange(n)
    weights[np.abs(places[:, None] - places) <= hidden] = 0.0
    powers = np.moveaxis(away ** np.arange(degree + 1)[:, None, None], 0, 1)  # (n, degree + 1, n)
    weighted = powers * weights[:, None]
    solved = np.linalg.pinv(weighted @ powers.transpose(0, 2, 1), hermitian=True)[:, :3] @ weighted
    return np.asarray(solved / reach[:, None, None] ** np.arange(3)[:, None])
