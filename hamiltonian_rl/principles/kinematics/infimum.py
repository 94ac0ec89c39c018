"""Where a curve ends: the infimum of a loss, the supremum of a return, with an interval.

Notation: ``c`` the limit, ``t`` steps, ``g(t; b)`` what is left to go: a power ``(t + t_0)^(-b)`` or an
exponential ``e^(-bt)``.

The model is ``y(t) = c + a g(t; b)`` and noise, fitted by least squares to the last part of the curve. For each
``(b, t_0)`` it is linear in ``(c, a)``: the sum of squares, as a function of ``c`` alone, is a parabola in closed form,
``RSS_b(c) = RSS_b + (c - c_b)² / V_b``. The profile over all of these and both families is the lowest of them, and the
95 % interval is where it is below ``RSS (1 + F (1 + ρ)/(1 - ρ) / (m - 3))``: by the likelihood ratio of normal noise,
whose correlation ``ρ`` lets ``m`` points count for fewer. So the interval tells also what is not known of the family.

Where it reaches to infinity the curve does not bend enough to say where it ends.

Reference:
    Seber and Wild (1989), "Nonlinear regression", sections 5.2 (profiles) and 2.2 (separable models).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.stats

from hamiltonian_rl.principles.kinematics.motion import Motion
from hamiltonian_rl.principles.kinematics.noise import rounding

CONFIDENCE, FEWEST_POINTS = 0.95, 10
POWERS = np.geomspace(0.02, 6.0, 100)
SHIFTS = np.array([0.0, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0])  # t_0, times the last place
RATES = np.geomspace(0.1, 60.0, 100)  # times the length of the window
STARTS = (0.0, 0.25, 0.5)  # of the window, as a share of what follows the fastest point


@dataclass(frozen=True)
class Limit:
    """A fitted limit.

    Attributes:
        value: ``c``: infimum of what falls, supremum of what rises; infinite where the window does not show one.
        lower: Bound of the 95 % interval; may be infinite.
        upper: The other one; may be infinite.
        family: ``power`` or ``exponential``, which fits better; ``constant`` where it has arrived.
        exponent: Its ``b``; of the exponential, per unit of ``t``.
        shift: ``t_0``.
        window: First and last place that the fit used.
        points: How many it used.
        fits: Whether the residuals are no more correlated than the noise.
    """

    value: float
    lower: float
    upper: float
    family: str
    exponent: float
    shift: float
    window: tuple[float, float]
    points: int
    fits: bool


def limit_of(motion: Motion, rises: bool) -> Limit | None:
    """Fit the limit that a curve goes to; None where fewer than ten points, at places above 0, follow its fastest one.

    The window begins where the curve is fastest, for before that no such model holds: at the first point whose velocity
    is within two standard errors of the greatest. If the residuals there are more correlated than the noise, the model
    does not fit, and the first quarter, then the first half is left out.

    Args:
        motion: Of the curve.
        rises: Whether progress is up.

    Example:
        >>> from hamiltonian_rl.principles.kinematics.motion import motion_of
        >>> t = np.arange(1.0, 101.0)
        >>> limit = limit_of(motion_of(t, 2.0 + t**-0.5 + 0.001 * np.cos(7.0 * t)), rises=False)
        >>> limit.lower < 2.0 < limit.upper, limit.family
        (True, 'power')
    """
    if motion.places[-1] <= 0.0:  # no power of it
        return None
    sign = -1.0 if rises else 1.0
    speed = -sign * motion.velocity
    fastest = int(np.argmax(speed))
    near = speed >= speed[fastest] - 2.0 * motion.velocity_error[fastest]
    first = max(int(np.argmax(near)), int(np.argmax(motion.places > 0.0)))
    found = None
    for share in STARTS:
        start = first + math.floor(share * (len(speed) - first))
        if len(speed) - start < FEWEST_POINTS:
            break
        found = _fit(motion.places[start:], sign * motion.measured[start:], sign, motion.noise.rho)
        if found.fits:
            break
    return found


@dataclass(frozen=True)
class _Profile:
    """Parabolas in ``c``, one a shape; every array has the shape ``(K,)``.

    Attributes:
        limits: ``c_b``.
        squares: ``RSS_b``.
        variances: ``V_b``.
        slopes: ``a``, at ``c_b``.
        last: The ``c`` beyond which ``a`` would be negative.
    """

    limits: np.ndarray
    squares: np.ndarray
    variances: np.ndarray
    slopes: np.ndarray
    last: np.ndarray


def _profile(shapes: np.ndarray, values: np.ndarray) -> _Profile:
    mean_shape, mean_value = shapes.mean(axis=1), float(values.mean())
    bent, moved = shapes - mean_shape[:, None], values - mean_value
    spread = (bent**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # of a shape that is flat at these places: no slope, NaN
        slopes = bent @ moved / spread
        variances = 1.0 / len(values) + mean_shape**2 / spread
    squares = ((moved - slopes[:, None] * bent) ** 2).sum(axis=1)
    return _Profile(
        mean_value - slopes * mean_shape, squares, variances, slopes, (shapes @ values) / shapes.sum(axis=1)
    )


@dataclass(frozen=True)
class _Shapes:
    """What ``g`` may be; every array has the shape ``(K,)``.

    Attributes:
        exponents: ``b``; of an exponential times the length of the window.
        shifts: ``t_0``, times the last place; of an exponential infinite, which it is the limit for.
        straight: Whether it hardly bends, so that its ``c`` might be anywhere.
    """

    exponents: np.ndarray
    shifts: np.ndarray
    straight: np.ndarray

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return them at some places, 1 at the first, shape ``(K, m)``."""
        with np.errstate(invalid="ignore"):
            shifted = places + self.shifts[:, None] * places[-1]
            ratio = shifted / (places[0] + self.shifts[:, None] * places[-1])
        along = (places - places[0]) / (places[-1] - places[0])
        logs = np.where(np.isinf(self.shifts)[:, None], along, np.log(ratio))
        return np.asarray(np.exp(-self.exponents[:, None] * logs))


def _grid() -> _Shapes:
    """Return powers and exponentials over all of their range."""
    exponents, shifts = (grid.ravel() for grid in np.meshgrid(POWERS, SHIFTS))
    exponents, shifts = np.append(exponents, RATES), np.append(shifts, np.full(len(RATES), np.inf))
    return _Shapes(exponents, shifts, np.isin(exponents, (POWERS[0], RATES[0])))


def _finer(shapes: _Shapes, best: int) -> _Shapes:
    """Return those and finer ones around one of them: the grid shows in what is known very well."""
    exponents, shift = shapes.exponents[best] * np.geomspace(0.9, 1.1, 61), shapes.shifts[best]
    place = int(np.searchsorted(SHIFTS, shift))
    ends = float(SHIFTS[max(place - 1, 0)]), float(SHIFTS[min(place + 1, len(SHIFTS) - 1)])
    shifts = np.array([np.inf]) if np.isinf(shift) else np.linspace(*ends, 31)
    more, at = (grid.ravel() for grid in np.meshgrid(exponents, shifts))
    return _Shapes(
        np.append(shapes.exponents, more),
        np.append(shapes.shifts, at),
        np.append(shapes.straight, np.full(len(more), shapes.straight[best])),
    )


def _fit(places: np.ndarray, values: np.ndarray, sign: float, noise_rho: float) -> Limit:
    """Fit the limit of values that fall."""
    m, mean = len(places), float(values.mean())
    flat = float(((values - mean) ** 2).sum())  # a = 0: it has arrived
    whole = float(places[0]), float(places[-1])
    if flat <= m * rounding(values) ** 2:  # it never moved
        level = sign * mean
        return Limit(level, level, level, "constant", 0.0, 0.0, whole, m, True)
    shapes = _grid()
    coarse = _profile(shapes.at(places), values)
    shapes = _finer(shapes, int(np.argmin(np.where(coarse.slopes > 0.0, coarse.squares, flat))))
    grid = shapes.at(places)
    profile = _profile(grid, values)
    squares = np.where(profile.slopes > 0.0, profile.squares, flat)
    best = int(np.argmin(squares))
    falls, power = bool(profile.slopes[best] > 0.0), bool(np.isfinite(shapes.shifts[best]))
    value = float(profile.limits[best]) if falls else mean
    residuals = values - value - (profile.slopes[best] * grid[best] if falls else 0.0)
    correlation, allowed = _allowance(residuals, rounding(values), noise_rho)
    lower, upper = _interval(profile, values, flat, float(squares[best]) + allowed, shapes.straight)
    if falls and shapes.straight[best]:  # it might go on for ever
        value, upper = -math.inf, min(upper, float(values.min()))
    low, high = sorted((sign * lower, sign * upper))
    exponent = shapes.exponents[best] / (1.0 if power else float(places[-1] - places[0]))
    return Limit(
        sign * value,
        low,
        high,
        ("power" if power else "exponential") if falls else "constant",
        float(exponent) if falls else 0.0,
        float(shapes.shifts[best] * places[-1]) if falls and power else 0.0,
        whole,
        m,
        correlation <= noise_rho + 2.0 * math.sqrt((1.0 - noise_rho**2) / m),
    )


def _allowance(residuals: np.ndarray, least: float, noise_rho: float) -> tuple[float, float]:
    """Return the residuals' own correlation, and how far above the least sum of squares the interval goes."""
    m, total = len(residuals), float(residuals @ residuals)
    if total <= m * least**2:
        return 0.0, 0.0
    correlation = float(residuals[:-1] @ residuals[1:]) / total
    rho = min(max(correlation, noise_rho, 0.0), 0.95)
    share = (1.0 - rho) / (1.0 + rho)
    factor = float(scipy.stats.f.ppf(CONFIDENCE, 1, max(m * share - 3.0, 3.0)))
    return correlation, total / (m - 3) / share * factor


def _interval(
    profile: _Profile, values: np.ndarray, flat: float, most: float, straight: np.ndarray
) -> tuple[float, float]:
    """Return the least and the greatest ``c`` whose sum of squares is at most ``most``."""
    room = most - profile.squares
    reach = np.sqrt(np.maximum(room, 0.0) * profile.variances)
    inside = (room >= 0.0) & (profile.limits - reach <= profile.last)
    lowers = (profile.limits - reach)[inside]
    uppers = np.minimum(profile.limits + reach, profile.last)[inside]
    if most >= flat:
        mean, level = float(values.mean()), math.sqrt((most - flat) / len(values))
        uppers = np.append(uppers, mean + level)
        lowers = np.append(lowers, mean if not len(lowers) else np.inf)
    return -math.inf if inside[straight].any() else float(lowers.min()), float(uppers.max())
