"""What a few runs say of an agent: their middle half, and an interval for it.

Notation: ``n`` runs that differ in their seed alone.

Reference:
    Agarwal, Schwarzer, Castro, Courville and Bellemare (2021), "Deep reinforcement learning at the edge of the
    statistical precipice", section 4: interquartile mean and bootstrap intervals over runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

RESAMPLES, CONFIDENCE = 10_000, 0.95
MOST_POINTS = 500  # of a curve
Curve = tuple[np.ndarray, np.ndarray]  # places, increasing, and values at them


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half: without the ``⌊n/4⌋`` lowest and highest; of fewer than four, the mean.

    Args:
        values: One a run, shape ``(..., n)``.

    Example:
        >>> float(interquartile_mean(np.array([0.0, 10.0, 20.0, 30.0, 1000.0])))
        20.0
    """
    return np.asarray(scipy.stats.trim_mean(values, 0.25, axis=-1))


def bootstrap_interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[np.ndarray, np.ndarray]:
    """Return a 95 % interval of the interquartile mean, by runs drawn again with replacement (percentiles).

    It says how much the answer hangs on which seeds were drawn. Of few runs it is too narrow; of one there is none:
    NaN. The draws are the same at each call.

    Args:
        values: One a run, shape ``(..., n)``.
        resamples: How many times ``n`` runs are drawn.

    Example:
        >>> [float(bound) for bound in bootstrap_interval(np.array([1.0, 2.0]))]
        [1.0, 2.0]
    """
    n = values.shape[-1]
    if n < 2:
        nothing = np.full(values.shape[:-1], np.nan)
        return nothing, nothing
    draws = np.random.default_rng(0).integers(n, size=(resamples, n))
    means = interquartile_mean(values[..., draws])
    outside = 0.5 * (1.0 - CONFIDENCE)
    lower, upper = np.quantile(means, (outside, 1.0 - outside), axis=-1)
    return lower, upper


@dataclass(frozen=True)
class Estimate:
    """An interquartile mean and its interval; NaN where there are too few runs.

    Attributes:
        mean: Of the middle half.
        lower: Bound of the interval.
        upper: The other bound.
    """

    mean: float
    lower: float
    upper: float


def estimate(values: Sequence[float]) -> Estimate:
    """Return the interquartile mean of one number a run, with its interval.

    Example:
        >>> estimate([1.0, 3.0])
        Estimate(mean=2.0, lower=1.0, upper=3.0)
    """
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    array = np.array(values, float)
    return Estimate(float(interquartile_mean(array)), *map(float, bootstrap_interval(array)))


def mean_curve(curves: Sequence[Curve]) -> tuple[np.ndarray, ...]:
    """Return interquartile mean and interval of several runs' curves, linear between their points.

    Args:
        curves: One a run, each at places of its own.

    Returns:
        Places, mean, lower and upper bound, each of shape ``(P,)``: at all places of all runs (500 at the most) in the
        range that every run has. For one run the bounds are NaN.
    """
    first, last = max(places[0] for places, _ in curves), min(places[-1] for places, _ in curves)
    points = np.unique(np.concatenate([places for places, _ in curves]))
    points = points[(points >= first) & (points <= last)]
    if len(points) > MOST_POINTS:
        points = np.linspace(first, last, MOST_POINTS)
    values = np.stack([np.interp(points, *curve) for curve in curves], axis=-1)
    return points, interquartile_mean(values), *bootstrap_interval(values, RESAMPLES // 10)
